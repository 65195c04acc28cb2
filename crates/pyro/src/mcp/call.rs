//! One call of a tool: what the caller left out is filled in, the operator's ceiling holds, nothing takes longer than a chat host waits, and
//! a call that is cancelled leaves nothing behind.

use std::time::Duration;

use pyro_sdk::{
    Collected, ErrorKind, ExecEvent, Observer, Pyro, Stdin,
    contract::{
        Apply, CommandAnswer, Entry, NetworkList, Operation as _, ServiceStart, ServiceStatus, VmCreate, VmExec, VmRun, WorkspaceCreate,
        WorkspaceExec, WorkspaceFork, request_of,
    },
    limits::MaxOutputBytes,
    text::{Signal, WorkspaceReference},
};
use serde::Serialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{answer::Refusal, arguments, environments, schema::Object, server::Server, words};

/// When a call that waits answers at the latest, unless it says otherwise. Chat hosts give up at 60 s.
const YIELD_AFTER_MS: u64 = 45_000;
/// How long a killed command's end is waited for: its guest may be busy, and translated.
const KILL_GRACE: Duration = Duration::from_secs(10);

/// A call on its way.
pub(super) struct Call<'a> {
    pub(super) server: &'a Server,
    pub(super) entry: &'static Entry,
    pub(super) cancelled: CancellationToken,
    pub(super) observer: Observer,
}

impl Call<'_> {
    fn tool(&self) -> &'static str {
        self.entry.definition.mcp.unwrap_or_default()
    }

    /// Does it. Returns after everything a cancelled call had begun is gone.
    pub(super) async fn run(self, mut arguments: Object) -> Result<Value, Refusal> {
        let options = self.server.options();
        let schema = self.server.surface().arguments(self.entry, options);
        arguments::tidy(self.server.surface(), self.entry, &schema, &mut arguments)?;
        // A path that was looked at must not become another one by a second call.
        let _one_at_a_time = match options.ceiling.confines(&arguments) {
            true => Some(self.server.touching_the_host().await),
            false => None,
        };
        options.ceiling.apply(self.tool(), &schema, &mut arguments)?;
        let pyro = self.server.pyro().await?;
        self.fill_in(&mut arguments).await?;
        let request = Value::Object(arguments);
        match self.tool() {
            "vm_run" => self.run_once(&pyro, request_of(request)?).await,
            "vm_exec" => {
                let request: VmExec = request_of(request)?;
                let request = WorkspaceExec { yield_after_ms: Some(yield_after()), ..request.into() };
                self.exec(&pyro, request).await
            }
            "workspace_exec" => self.exec(&pyro, request_of(request)?).await,
            "workspace_create" => self.create(&pyro, request_of(request)?).await,
            "vm_create" => {
                let request: VmCreate = request_of(request)?;
                self.create(&pyro, request.into()).await
            }
            "workspace_fork" => self.fork(&pyro, request_of(request)?).await,
            "workspace_apply" => self.apply(&pyro, request_of(request)?).await,
            "service_start" => self.start_service(&pyro, request_of(request)?).await,
            _ => tokio::select! {
                answer = self.entry.invoke(&pyro, request, &self.observer) => Ok(answer?),
                () = self.cancelled.cancelled() => Err(Refusal::cancelled()),
            },
        }
    }

    /// Fills in what a model need not say.
    async fn fill_in(&self, arguments: &mut Object) -> Result<(), Refusal> {
        let mut default = |field: &str, value: Value| {
            let _ = arguments.entry(field).or_insert(value);
        };
        let options = self.server.options();
        let environment = options.environment.map_or_else(|| "debian:12".to_owned(), |environment| environment.to_string());
        words::defaults(self.tool()).for_each(|(field, value)| default(field, json!(value)));
        match self.tool() {
            "vm_run" | "vm_create" => default("environment", json!(environment)),
            "workspace_create" => {
                default("environment", json!(environment));
                if !arguments.contains_key("seed_path")
                    && let Some(path) = options.source.path(self.server).await?
                {
                    arguments.insert("seed_path".into(), json!(path));
                }
            }
            "workspace_exec" => default("yield_after_ms", json!(YIELD_AFTER_MS)),
            // A model writes `!` in strings and commit messages, and recalls nothing by it.
            "shell_open" => default("no_history_expansion", json!(true)),
            "workspace_exec_wait" => {
                let longest = YIELD_AFTER_MS / 1000;
                let wanted = arguments.get("timeout_seconds").and_then(Value::as_u64).unwrap_or(longest);
                // Zero and what is no number are for the contract to refuse.
                if !arguments.contains_key("timeout_seconds") || wanted > longest {
                    arguments.insert("timeout_seconds".into(), json!(wanted.min(longest)));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Holds the directory that changes are applied to to the operator's folders: whoever seeded the workspace, pushed into it or applied
    /// its changes before has named it.
    async fn apply(&self, pyro: &Pyro, request: Apply) -> Result<Value, Refusal> {
        let ceiling = self.server.options().ceiling.clone();
        let allows = move |target: &std::path::Path| ceiling.allows_path("to", target).is_ok();
        match pyro.apply_where(request, allows, &self.observer).await {
            Ok(answer) => to_value(&answer),
            Err(error) => {
                if let Some(target) = error.refused_target() {
                    self.server.options().ceiling.allows_path("to", target)?;
                }
                Err(error.into())
            }
        }
    }

    /// Holds whatever makes a workspace to the ceiling.
    async fn has_room(&self, pyro: &Pyro, wanted: u64) -> Result<(), Refusal> {
        let Some(maximum) = self.server.options().ceiling.max_workspaces else { return Ok(()) };
        let listed = pyro.list_workspaces(pyro_sdk::contract::WorkspaceListRequest::default()).await?.workspaces.len() as u64;
        if listed + wanted <= u64::from(maximum) {
            return Ok(());
        }
        Err(Refusal::limit(
            format!("there are {listed} workspaces, and this server makes no more than {maximum}"),
            "delete one with `pyro workspace delete`, or use one that `pyro workspace list` shows; the operator set --max-workspaces"
                .to_owned(),
        ))
    }

    async fn create(&self, pyro: &Pyro, request: WorkspaceCreate) -> Result<Value, Refusal> {
        let _one_at_a_time = self.server.making().await;
        self.has_room(pyro, 1).await?;
        if let Some(path) = &request.seed_path
            && let Err(error) = tokio::fs::metadata(path).await
        {
            // Before minutes go into an environment.
            let message = format!("the seed {} cannot be used: {error}", path.display());
            return Err(Refusal::of_kind(ErrorKind::NotFound, message, "seed_path is a folder or an archive of the host".to_owned()));
        }
        environments::ready(pyro, request.environment, &self.observer).await?;
        // Carried to its end even when cancelled: only a whole workspace can be deleted at once.
        let created = pyro.create_and_describe(request, &self.observer).await?;
        if self.cancelled.is_cancelled() {
            discard(pyro, &created.status.workspace_id).await;
            return Err(Refusal::cancelled());
        }
        to_value(&created)
    }

    async fn fork(&self, pyro: &Pyro, request: WorkspaceFork) -> Result<Value, Refusal> {
        let _one_at_a_time = self.server.making().await;
        self.has_room(pyro, request.count.get()).await?;
        self.may_fork(pyro, &request).await?;
        let answer = request.call(pyro, &self.observer).await?;
        if self.cancelled.is_cancelled() {
            for fork in &answer.forks {
                discard(pyro, &fork.workspace_id).await;
            }
            return Err(Refusal::cancelled());
        }
        to_value(&answer)
    }

    /// Holds copies to the ceiling: they are as large as what they are copied from, whoever made that.
    async fn may_fork(&self, pyro: &Pyro, request: &WorkspaceFork) -> Result<(), Refusal> {
        let ceiling = &self.server.options().ceiling;
        if ceiling.max_mem_mib.is_none() && ceiling.max_vcpu_count.is_none() && ceiling.reach.is_unlimited() {
            return Ok(());
        }
        let origin = pyro.workspace(&request.workspace).await?.status().await?;
        let over = |maximum: Option<u64>, has: u64| maximum.is_some_and(|maximum| has > maximum);
        if !ceiling.reach.allows(&pyro.list_network(&NetworkList { workspace: request.workspace.clone() }).await?) {
            return Err(Refusal::limit(
                format!(
                    "copies of this workspace would have its network_policy {}, and this server allows less",
                    origin.network_policy.as_str()
                ),
                "create a workspace within this server's limits; the operator set --max-network-policy or --allow-host".to_owned(),
            ));
        }
        if over(ceiling.max_mem_mib, origin.mem_mib) || over(ceiling.max_vcpu_count, origin.vcpu_count.into()) {
            return Err(Refusal::limit(
                "copies of this workspace would be larger than this server allows".to_owned(),
                "create a smaller one; the operator set --max-mem-mib or --max-vcpu-count".to_owned(),
            ));
        }
        Ok(())
    }

    async fn run_once(&self, pyro: &Pyro, request: VmRun) -> Result<Value, Refusal> {
        {
            let _one_at_a_time = self.server.making().await;
            self.has_room(pyro, 1).await?;
        }
        environments::ready(pyro, request.environment, &self.observer).await?;
        let limit = request.max_output_bytes;
        let mut run = pyro.start_run(request, Stdin::Empty, &self.observer).await?;
        let answer = self.follow(run.execution(), limit, None).await;
        run.finish().await?;
        to_value(&answer?)
    }

    async fn exec(&self, pyro: &Pyro, request: WorkspaceExec) -> Result<Value, Refusal> {
        let (limit, yield_after) = (request.max_output_bytes, request.yield_after_ms.map(|ms| Duration::from_millis(ms.get())));
        let (_, mut execution) = pyro.start_exec(request, Stdin::Empty).await?;
        to_value(&self.follow(&mut execution, limit, yield_after).await?)
    }

    /// Follows a command until it ends, the call yields, or it is cancelled: the command dies with it then.
    async fn follow(
        &self,
        execution: &mut pyro_sdk::Execution,
        limit: MaxOutputBytes,
        yield_after: Option<Duration>,
    ) -> Result<CommandAnswer, Refusal> {
        let mut output = Collected::new(limit);
        let yielded = async {
            match yield_after {
                Some(duration) => tokio::time::sleep(duration).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(yielded);
        loop {
            let event = tokio::select! {
                event = execution.next() => event?,
                () = &mut yielded => return Ok(execution.answer(output, None)),
                () = self.cancelled.cancelled() => {
                    kill(execution).await;
                    return Err(Refusal::cancelled());
                }
            };
            match event {
                Some(ExecEvent::Exited(exit)) => return Ok(execution.answer(output, Some(exit))),
                Some(event) => output.push(&event),
                None => {
                    return Err(Refusal::of_kind(
                        ErrorKind::MachineFailed,
                        "the call ended before the command did".to_owned(),
                        "see how it ended with `pyro workspace logs`".to_owned(),
                    ));
                }
            }
        }
    }

    /// Starts a service and waits for it, but no longer than a call may: it goes on starting then.
    async fn start_service(&self, pyro: &Pyro, request: ServiceStart) -> Result<Value, Refusal> {
        let (workspace, name) = (request.workspace.clone(), request.name.clone());
        let started = tokio::select! {
            started = pyro.start_service(request, &self.observer) => return to_value(&started?),
            () = self.cancelled.cancelled() => None,
            () = tokio::time::sleep(Duration::from_millis(YIELD_AFTER_MS)) => Some(()),
        };
        if started.is_none() {
            let stop = json!({ "workspace": workspace, "name": name });
            drop(Entry::find("service_stop")?.invoke(pyro, stop, &Observer::none()).await);
            return Err(Refusal::cancelled());
        }
        let mut status = to_value(&ServiceStatus { workspace, name }.call(pyro, &self.observer).await?)?;
        status["outcome"] = json!("starting");
        Ok(status)
    }
}

fn yield_after() -> pyro_sdk::limits::YieldAfterMs {
    pyro_sdk::limits::YieldAfterMs::new(YIELD_AFTER_MS).expect("it is within the contract's limits")
}

fn to_value<T: Serialize>(answer: &T) -> Result<Value, Refusal> {
    Ok(serde_json::to_value(answer).expect("answers have string keys only"))
}

/// Kills a command and waits for its end, so that nothing of a cancelled call runs on.
async fn kill(execution: &mut pyro_sdk::Execution) {
    execution.input().signal(Signal::KILL).await;
    let ended = async {
        while let Ok(Some(event)) = execution.next().await {
            if matches!(event, ExecEvent::Exited(_)) {
                return;
            }
        }
    };
    drop(tokio::time::timeout(KILL_GRACE, ended).await);
}

/// Deletes a workspace that nobody waits for any more. One that cannot be deleted now expires.
async fn discard(pyro: &Pyro, id: &str) {
    if let Ok(reference) = id.parse::<WorkspaceReference>()
        && let Ok(workspace) = pyro.workspace(&reference).await
    {
        drop(workspace.delete().await);
    }
}
