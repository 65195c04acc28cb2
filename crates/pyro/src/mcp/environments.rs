//! Environments that a call needs and that are not built yet. Building one takes longer than a chat host waits for a call.

use std::time::Duration;

use pyro_sdk::{EnvironmentName, ErrorKind, Observer, Pyro, contract::EnvironmentPull};

use super::answer::Refusal;

/// How long a call waits for a build; chat hosts give a call up at 60 s.
const BUILD_WAIT: Duration = Duration::from_secs(40);

/// Returns when an environment can be used. A build that takes longer than a call may goes on without it.
pub(super) async fn ready(pyro: &Pyro, environment: EnvironmentName, observer: &Observer) -> Result<(), Refusal> {
    if pyro.inspect_environment(environment).await.is_ok() {
        return Ok(());
    }
    match tokio::time::timeout(BUILD_WAIT, pyro.pull_environment(EnvironmentPull { environment, force: false }, observer)).await {
        Ok(built) => built.map(drop).map_err(Refusal::from),
        Err(_) => Err(Refusal::of_kind(
            ErrorKind::EnvironmentUnavailable,
            format!("environment {environment} is being built for the first time"),
            "the build goes on; call again in half a minute".to_owned(),
        )),
    }
}
