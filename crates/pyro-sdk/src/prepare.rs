//! `pyro prepare`: everything a first workspace needs, built and proven once.

use std::time::Instant;

use crate::{
    CommandSpec, Observer, Progress, Pyro,
    contract::{EnvironmentPull, GuestCommand, Prepare, PrepareAnswer, Step, WorkspaceCreate},
    error::{Cause, Error, Result},
    exec::milliseconds,
};
use pyro_proto::error::ErrorKind;

/// Measures steps and tells each as it ends.
struct Steps<'a> {
    observer: &'a Observer,
    done: Vec<Step>,
}

impl Steps<'_> {
    async fn measure<T>(&mut self, name: &'static str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let started = Instant::now();
        let value = work.await?;
        let duration_ms = milliseconds(started.elapsed());
        self.observer.notify(Progress::Step { name, duration_ms });
        self.done.push(Step { name: name.to_owned(), duration_ms });
        Ok(value)
    }
}

impl Pyro {
    /// Builds the environment and its template, and proves them with a workspace that is deleted again.
    ///
    /// # Errors
    /// Any step fails; what was built stays.
    pub async fn prepare(&self, request: Prepare, observer: &Observer) -> Result<PrepareAnswer> {
        let mut steps = Steps { observer, done: Vec::new() };
        let pull = EnvironmentPull { environment: request.environment, force: request.force };
        let environment = steps.measure("environment", self.pull_environment(pull, observer)).await?;
        // The first one of its shape boots a machine and freezes it as the template of all later ones.
        let workspace = steps.measure("create", self.create_workspace(WorkspaceCreate::new(request.environment), observer)).await?;
        let proven = async {
            let answer = steps.measure("exec", workspace.exec(CommandSpec::new(GuestCommand::new(["true"])?))).await?;
            steps.measure("reset", workspace.reset(None, observer)).await?;
            let accelerator = workspace.record().await?.shape.accelerator.to_string();
            match answer.exit_code {
                Some(0) => Ok(accelerator),
                code => {
                    let cause = Cause::new(format!("`true` ended with {code:?}")).because(answer.failure.into_iter().collect());
                    Err(Error::workspace("prove", workspace.label(), ErrorKind::MachineFailed, cause))
                }
            }
        }
        .await;
        let deleted = steps.measure("delete", workspace.delete()).await;
        let accelerator = match proven {
            Ok(accelerator) => deleted.map(|()| accelerator)?,
            Err(error) => return Err(error.with_cleanup("prove", workspace.label(), deleted)),
        };
        Ok(PrepareAnswer {
            environment: environment.environment,
            digest: environment.digest.unwrap_or_default(),
            accelerator,
            steps: steps.done,
        })
    }
}
