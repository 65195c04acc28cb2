//! What an operation is, and the list of all.

use std::{future::Future, pin::Pin};

use schemars::{JsonSchema, Schema, schema_for};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    changes, command, disk, environment, event, files, host, network, port, run, service, shell, snapshot, summary, vm, workspace,
};
use crate::{
    Observer, Pyro,
    error::{Problem, Result},
};

/// Which tool lists an operation or a field is in; each contains the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Profile {
    /// `vm-run`, and all others.
    Run,
    /// `workspace-core` and `workspace-full`.
    Core,
    /// `workspace-full` only.
    Full,
    /// No tool list.
    None,
}

impl Profile {
    /// Returns the name used on every surface.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Run => "vm-run",
            Self::Core => "workspace-core",
            Self::Full => "workspace-full",
            Self::None => "none",
        }
    }
}

/// What an operation does to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing, and it does not count as activity.
    Reads,
    /// It changes something that was not lost.
    Changes,
    /// It may destroy what cannot be brought back.
    Destroys,
}

/// Whether a second call with the same request changes anything more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// It does not.
    Harmless,
    /// It does.
    Counts,
}

/// What is known of an operation beside its types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Definition {
    /// Name in the SDK, for example `workspace_create`.
    pub name: &'static str,
    /// Words after `pyro` on the command line; empty where the contract has none.
    pub cli: &'static [&'static str],
    /// Method of the Python package.
    pub python: Option<&'static str>,
    /// MCP tool.
    pub mcp: Option<&'static str>,
    /// Smallest tool list it is in.
    pub profile: Profile,
    /// What it does to the world.
    pub effect: Effect,
    /// What doing it twice does.
    pub repeat: Repeat,
}

/// A request that knows its answer and how to get it.
pub trait Operation: Serialize + DeserializeOwned + JsonSchema + Send + 'static {
    /// What comes back.
    type Answer: Serialize + JsonSchema + Send;

    /// Names, profile and effect.
    const DEFINITION: Definition;

    /// Does it.
    ///
    /// # Errors
    /// As the operation says. Dropping the future leaves at most what the next client command removes.
    fn call(self, pyro: &Pyro, observer: &Observer) -> impl Future<Output = Result<Self::Answer>> + Send;
}

macro_rules! operation {
    (
        $request:ty => $answer:ty, $name:literal, cli: $cli:expr, python: $python:expr, mcp: $mcp:expr, $profile:ident, $effect:ident, $repeat:ident,
        |$self:ident, $pyro:ident, $observer:ident| $call:expr
    ) => {
        impl $crate::contract::Operation for $request {
            type Answer = $answer;

            const DEFINITION: $crate::contract::Definition = $crate::contract::Definition {
                name: $name,
                cli: &$cli,
                python: $python,
                mcp: $mcp,
                profile: $crate::contract::Profile::$profile,
                effect: $crate::contract::Effect::$effect,
                repeat: $crate::contract::Repeat::$repeat,
            };

            async fn call(self, $pyro: &$crate::Pyro, $observer: &$crate::Observer) -> $crate::Result<$answer> {
                let $self = self;
                $call.await
            }
        }
    };
}
pub(super) use operation;

type Invocation<'a> = Pin<Box<dyn Future<Output = Result<Value>> + Send + 'a>>;

/// An operation without its types, for surfaces that are made from the list of all.
pub struct Entry {
    /// Names, profile and effect.
    pub definition: Definition,
    request: fn() -> Schema,
    answer: fn() -> Schema,
    invoke: for<'a> fn(&'a Pyro, Value, &'a Observer) -> Invocation<'a>,
}

impl Entry {
    const fn of<O: Operation>() -> Self {
        Self { definition: O::DEFINITION, request: || schema_for!(O), answer: || schema_for!(O::Answer), invoke: invoke::<O> }
    }

    /// Returns the schema of the request as `profile` sees it: fields that only a larger profile has are left out.
    #[must_use]
    pub fn request_schema(&self, profile: Profile) -> Schema {
        let mut schema = (self.request)();
        let hidden: Vec<String> = schema
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .filter(|(_, property)| property.get("x-pyro-profile").is_some_and(|full| full == "full") && profile < Profile::Full)
            .map(|(name, _)| name.clone())
            .collect();
        if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
            properties.retain(|name, _| !hidden.contains(name));
        }
        schema
    }

    /// Returns the schema of the answer.
    #[must_use]
    pub fn answer_schema(&self) -> Schema {
        (self.answer)()
    }

    /// Returns what the operation does, as the doc comment of its request says.
    #[must_use]
    pub fn description(&self) -> String {
        (self.request)().get("description").and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// Does the operation with a request in JSON.
    ///
    /// # Errors
    /// The request does not follow its schema, or as the operation says.
    pub fn invoke<'a>(&self, pyro: &'a Pyro, request: Value, observer: &'a Observer) -> Invocation<'a> {
        (self.invoke)(pyro, request, observer)
    }

    /// Finds an operation by its name in the SDK.
    ///
    /// # Errors
    /// There is none.
    pub fn find(name: &str) -> Result<&'static Self> {
        let found = operations().iter().find(|entry| entry.definition.name == name);
        found.ok_or_else(|| Problem::UnknownOperation { name: name.chars().take(80).collect() }.into())
    }
}

fn invoke<'a, O: Operation>(pyro: &'a Pyro, request: Value, observer: &'a Observer) -> Invocation<'a> {
    Box::pin(async move {
        let request: O = request_of(request)?;
        let answer = request.call(pyro, observer).await?;
        Ok(serde_json::to_value(answer).expect("answers have string keys only"))
    })
}

/// Reads a request in JSON.
///
/// # Errors
/// It does not follow its schema; the error names the field.
pub fn request_of<O: Operation>(request: Value) -> Result<O> {
    serde_path_to_error::deserialize(request).map_err(|error| {
        // A field that is missing, or that there is not, has no place of its own.
        let field = Some(error.path().to_string()).filter(|path| path != ".");
        Problem::Request { operation: O::DEFINITION.name, field, source: error.into_inner() }.into()
    })
}

static OPERATIONS: [Entry; 68] = [
    Entry::of::<run::VmRun>(),
    Entry::of::<vm::VmCreate>(),
    Entry::of::<vm::VmStart>(),
    Entry::of::<vm::VmExec>(),
    Entry::of::<vm::VmStop>(),
    Entry::of::<vm::VmDelete>(),
    Entry::of::<vm::VmStatus>(),
    Entry::of::<vm::VmNetworkInfo>(),
    Entry::of::<vm::VmReapExpired>(),
    Entry::of::<environment::EnvironmentList>(),
    Entry::of::<environment::EnvironmentPull>(),
    Entry::of::<environment::EnvironmentInspect>(),
    Entry::of::<environment::EnvironmentPrune>(),
    Entry::of::<host::Prepare>(),
    Entry::of::<host::Doctor>(),
    Entry::of::<workspace::WorkspaceCreate>(),
    Entry::of::<workspace::WorkspaceListRequest>(),
    Entry::of::<workspace::WorkspaceStatusRequest>(),
    Entry::of::<workspace::WorkspaceUpdate>(),
    Entry::of::<command::WorkspaceExec>(),
    Entry::of::<command::ExecWait>(),
    Entry::of::<command::ExecKill>(),
    Entry::of::<command::Logs>(),
    Entry::of::<summary::Summary>(),
    Entry::of::<changes::SyncPush>(),
    Entry::of::<files::FileList>(),
    Entry::of::<files::FileRead>(),
    Entry::of::<files::FileWrite>(),
    Entry::of::<files::FileReplace>(),
    Entry::of::<files::FileSearch>(),
    Entry::of::<changes::PatchApply>(),
    Entry::of::<changes::Diff>(),
    Entry::of::<changes::Export>(),
    Entry::of::<changes::Apply>(),
    Entry::of::<snapshot::WorkspaceReset>(),
    Entry::of::<workspace::WorkspaceStop>(),
    Entry::of::<workspace::WorkspaceStart>(),
    Entry::of::<snapshot::WorkspaceFork>(),
    Entry::of::<snapshot::SnapshotCreate>(),
    Entry::of::<snapshot::SnapshotList>(),
    Entry::of::<snapshot::SnapshotDelete>(),
    Entry::of::<disk::DiskList>(),
    Entry::of::<disk::DiskRead>(),
    Entry::of::<disk::DiskExport>(),
    Entry::of::<shell::ShellOpen>(),
    Entry::of::<shell::ShellList>(),
    Entry::of::<shell::ShellRead>(),
    Entry::of::<shell::ShellWrite>(),
    Entry::of::<shell::ShellSignalRequest>(),
    Entry::of::<shell::ShellResize>(),
    Entry::of::<shell::ShellClose>(),
    Entry::of::<service::ServiceStart>(),
    Entry::of::<service::ServiceList>(),
    Entry::of::<service::ServiceStatus>(),
    Entry::of::<service::ServiceLogs>(),
    Entry::of::<service::ServiceStop>(),
    Entry::of::<port::PortPublish>(),
    Entry::of::<port::PortUnpublish>(),
    Entry::of::<port::PortList>(),
    Entry::of::<network::NetworkAllow>(),
    Entry::of::<network::NetworkDeny>(),
    Entry::of::<network::NetworkList>(),
    Entry::of::<network::NetworkLearn>(),
    Entry::of::<network::AuditVerify>(),
    Entry::of::<event::WorkspaceEvents>(),
    Entry::of::<workspace::WorkspaceDelete>(),
    Entry::of::<host::SystemDf>(),
    Entry::of::<host::SystemPrune>(),
];

/// Returns every operation, in the order of the documentation.
#[must_use]
pub fn operations() -> &'static [Entry] {
    &OPERATIONS
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_on_every_surface_and_every_operation_is_described() {
        let mut seen = HashSet::new();
        for Entry { definition, .. } in operations() {
            assert!(seen.insert(("sdk", definition.name.to_owned())), "{}", definition.name);
            assert!(definition.cli.is_empty() || seen.insert(("cli", definition.cli.join(" "))), "{:?}", definition.cli);
            assert!(definition.python.is_none_or(|name| seen.insert(("python", name.to_owned()))), "{:?}", definition.python);
            assert!(definition.mcp.is_none_or(|name| seen.insert(("mcp", name.to_owned()))), "{:?}", definition.mcp);
            assert_eq!(definition.mcp.is_none(), definition.profile == Profile::None, "{}", definition.name);
        }
        for entry in operations() {
            let name = entry.definition.name;
            assert!(!entry.description().is_empty(), "{name} is not described");
            let schema = entry.request_schema(Profile::Full);
            for (field, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
                assert!(property.get("description").is_some(), "{name}.{field} is not described");
            }
        }
    }

    #[test]
    fn field_of_the_full_profile_is_left_out_of_core() {
        #[derive(JsonSchema)]
        #[expect(dead_code, reason = "only its schema is looked at")]
        struct Request {
            plain: String,
            #[schemars(extend("x-pyro-profile" = "full"))]
            special: Option<String>,
        }
        let entry = Entry { request: || schema_for!(Request), ..Entry::of::<workspace::WorkspaceStop>() };
        let fields = |profile| {
            entry.request_schema(profile).get("properties").and_then(Value::as_object).unwrap().keys().cloned().collect::<Vec<_>>()
        };
        assert_eq!(fields(Profile::Core), ["plain"]);
        assert_eq!(fields(Profile::Full), ["plain", "special"]);
    }
}
