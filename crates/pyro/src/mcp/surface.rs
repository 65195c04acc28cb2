//! Which tools a server offers, and with which of their fields.

use std::sync::Arc;

use clap::ValueEnum;
use pyro_sdk::contract::{Effect, Entry, Profile, Repeat, operations};
use rmcp::model::{Tool, ToolAnnotations};
use serde::Serialize;
use serde_json::json;

use super::{
    schema::{self, Object},
    server::ServerOptions,
    tokens, words,
};

/// A profile by the name it has on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProfileName {
    /// One tool: run a command in a fresh VM
    VmRun,
    /// Workspaces: files, commands, patches, diffs
    WorkspaceCore,
    /// Everything, with shells, services, snapshots, ports and forks
    WorkspaceFull,
}

impl From<ProfileName> for Profile {
    fn from(name: ProfileName) -> Self {
        match name {
            ProfileName::VmRun => Self::Run,
            ProfileName::WorkspaceCore => Self::Core,
            ProfileName::WorkspaceFull => Self::Full,
        }
    }
}

/// A selection of tools for one kind of work, told in its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Reproduce a failure and fix it
    ReproFix,
    /// Look at what nobody trusts, offline
    Inspect,
    /// Find out whether a fresh checkout works by its README
    ColdStart,
    /// Review a change in a terminal, and start over from a snapshot
    ReviewEval,
}

impl Mode {
    const fn as_str(self) -> &'static str {
        match self {
            Self::ReproFix => "repro-fix",
            Self::Inspect => "inspect",
            Self::ColdStart => "cold-start",
            Self::ReviewEval => "review-eval",
        }
    }

    /// Tells whether a tool that is not core belongs to it.
    fn adds(self, tool: &str) -> bool {
        match self {
            Self::ReproFix | Self::Inspect => false,
            Self::ColdStart => tool.starts_with("service_"),
            Self::ReviewEval => tool.starts_with("shell_") || tool.starts_with("snapshot_"),
        }
    }

    /// Tells whether a core tool does not belong to it.
    fn lacks(self, tool: &str) -> bool {
        const WRITERS: [&str; 4] = ["workspace_file_write", "workspace_file_replace", "workspace_patch_apply", "workspace_sync_push"];
        self == Self::Inspect && WRITERS.contains(&tool)
    }

    /// Returns the fields beyond core that its core tools have.
    const fn fields(self) -> &'static [&'static str] {
        match self {
            Self::ReproFix | Self::Inspect => &[],
            Self::ColdStart => &["network_policy", "allow_hosts"],
            Self::ReviewEval => &["snapshot", "against"],
        }
    }
}

/// What a server offers: a profile or a mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Surface {
    Profile(Profile),
    Mode(Mode),
}

/// What one tool costs in every conversation.
#[derive(Debug, Serialize)]
pub(crate) struct ToolCost {
    /// Its name
    pub(crate) name: String,
    /// What a model is told of it
    pub(crate) description: String,
    /// Tokens of name, description and schemas, estimated
    pub(crate) tokens: usize,
}

impl Surface {
    #[cfg(test)]
    pub(crate) fn all() -> Vec<Self> {
        let profiles = [Profile::Run, Profile::Core, Profile::Full].map(Self::Profile);
        let modes = Mode::value_variants().iter().copied().map(Self::Mode);
        profiles.into_iter().chain(modes).collect()
    }

    /// Returns its name on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Profile(profile) => profile.as_str(),
            Self::Mode(mode) => mode.as_str(),
        }
    }

    /// Returns how many tokens its list may cost, from the contract; modes are held to the profile they are cut from.
    pub(crate) const fn budget(self) -> usize {
        match self {
            Self::Profile(Profile::Run) => 600,
            Self::Profile(Profile::Core) | Self::Mode(Mode::ReproFix | Mode::Inspect) => 6_000,
            Self::Profile(Profile::Full | Profile::None) | Self::Mode(Mode::ColdStart | Mode::ReviewEval) => 15_000,
        }
    }

    fn mode(self) -> Option<Mode> {
        match self {
            Self::Mode(mode) => Some(mode),
            Self::Profile(_) => None,
        }
    }

    /// Returns its operations, in the order of the documentation.
    pub(crate) fn entries(self) -> impl Iterator<Item = &'static Entry> {
        operations().iter().filter(move |entry| {
            let Some(tool) = entry.definition.mcp else { return false };
            match self {
                Self::Profile(profile) => entry.definition.profile <= profile,
                Self::Mode(mode) => {
                    let core = entry.definition.profile <= Profile::Core;
                    core && !mode.lacks(tool) || mode.adds(tool)
                }
            }
        })
    }

    /// Finds the operation of a tool it offers.
    pub(crate) fn find(self, tool: &str) -> Option<&'static Entry> {
        self.entries().find(|entry| entry.definition.mcp == Some(tool))
    }

    /// Returns the profile by which a tool's own fields are chosen.
    pub(super) fn profile_of(self, entry: &Entry) -> Profile {
        match self {
            Self::Profile(profile) => profile,
            Self::Mode(_) if entry.definition.profile > Profile::Core => Profile::Full,
            Self::Mode(_) => Profile::Core,
        }
    }

    /// Returns the schema of a tool's arguments, without what the operator has fixed.
    pub(super) fn arguments(self, entry: &Entry, options: &ServerOptions) -> Object {
        let full = self.mode().map_or(&[][..], Mode::fields);
        let hidden: &[&str] = if options.environment.is_some() { &["environment"] } else { &[] };
        let mut schema = schema::arguments(entry, self.profile_of(entry), full, hidden);
        options.ceiling.narrow(&mut schema);
        schema
    }

    /// Returns its tools as a client lists them.
    pub(crate) fn tools(self, options: &ServerOptions) -> Vec<Tool> {
        self.entries().filter(|entry| options.ceiling.offers(entry)).map(|entry| self.tool(entry, options)).collect()
    }

    fn tool(self, entry: &'static Entry, options: &ServerOptions) -> Tool {
        let name = entry.definition.mcp.unwrap_or_default();
        let listed = |tool: &str| self.find(tool).is_some_and(|entry| options.ceiling.offers(entry));
        let mut description = words::description(name, self.mode(), listed).unwrap_or_else(|| entry.description());
        if name == "workspace_create"
            && let Some(what) = options.source.description()
        {
            description.push_str(&format!(" /workspace begins with {what} unless seed_path says otherwise."));
        }
        let reads = entry.definition.effect == Effect::Reads;
        let annotations = ToolAnnotations::new()
            .read_only(reads)
            .destructive(entry.definition.effect == Effect::Destroys)
            .idempotent(reads || entry.definition.repeat == Repeat::Harmless)
            .open_world(false);
        Tool::new(name, description, Arc::new(self.arguments(entry, options)))
            .with_raw_output_schema(Arc::new(schema::answer(entry, self.profile_of(entry))))
            .with_annotations(annotations)
    }

    /// Returns what each of its tools costs.
    pub(crate) fn costs(self, options: &ServerOptions) -> Vec<ToolCost> {
        self.tools(options)
            .iter()
            .map(|tool| ToolCost {
                name: tool.name.to_string(),
                description: tool.description.as_deref().unwrap_or_default().to_owned(),
                tokens: tokens::estimate(&told(tool)),
            })
            .collect()
    }

    #[cfg(test)]
    pub(crate) fn listing_text(self) -> String {
        self.tools(&ServerOptions::default()).iter().map(told).collect()
    }
}

/// Returns what of a tool a model may be told.
fn told(tool: &Tool) -> String {
    json!({ "name": tool.name, "description": tool.description, "inputSchema": tool.input_schema, "outputSchema": tool.output_schema })
        .to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    fn names(surface: Surface) -> BTreeSet<String> {
        surface.tools(&ServerOptions::default()).into_iter().map(|tool| tool.name.to_string()).collect()
    }

    #[test]
    fn every_surface_stays_within_its_budget() {
        let tokenizer = tiktoken_rs::o200k_base().expect("its vocabulary is built in");
        for surface in Surface::all() {
            let real = tokenizer.encode_ordinary(&surface.listing_text()).len();
            let told: usize = surface.costs(&ServerOptions::default()).iter().map(|cost| cost.tokens).sum();
            assert!(real <= surface.budget(), "{} costs {real} of {} tokens", surface.name(), surface.budget());
            assert!(told <= surface.budget(), "{} tells {told} of {} tokens", surface.name(), surface.budget());
        }
    }

    #[test]
    fn each_profile_contains_the_one_before() {
        let [run, core, full] = [Profile::Run, Profile::Core, Profile::Full].map(|profile| names(Surface::Profile(profile)));
        assert_eq!(run.iter().collect::<Vec<_>>(), ["vm_run"]);
        assert!(run.is_subset(&core) && core.is_subset(&full) && core.len() < full.len());
    }

    #[test]
    fn core_has_no_field_of_the_full_profile() {
        for surface in [Surface::Profile(Profile::Run), Surface::Profile(Profile::Core), Surface::Mode(Mode::ReproFix)] {
            for tool in surface.tools(&ServerOptions::default()) {
                for schema in [Some(&tool.input_schema), tool.output_schema.as_ref()].into_iter().flatten() {
                    let properties = schema.get("properties").and_then(Value::as_object);
                    for name in properties.into_iter().flatten().map(|(name, _)| name) {
                        assert!(!schema::is_full_field(name), "{}.{name}", tool.name);
                    }
                }
            }
        }
    }

    #[test]
    fn modes_are_what_the_contract_says() {
        let core = names(Surface::Profile(Profile::Core));
        assert_eq!(names(Surface::Mode(Mode::ReproFix)), core);
        let inspect = names(Surface::Mode(Mode::Inspect));
        assert!(
            inspect.is_subset(&core)
                && !inspect.iter().any(|name| name.contains("write") || name.contains("patch") || name.contains("push"))
        );
        let cold = names(Surface::Mode(Mode::ColdStart));
        assert!(core.is_subset(&cold) && cold.contains("service_start") && !cold.contains("shell_open"));
        let review = names(Surface::Mode(Mode::ReviewEval));
        assert!(review.contains("shell_read") && review.contains("snapshot_create") && !review.contains("service_start"));
        let reset = Surface::Mode(Mode::ReviewEval).find("workspace_reset").expect("core");
        let has = |surface: Surface, field| surface.arguments(reset, &ServerOptions::default())["properties"].get(field).is_some();
        assert!(has(Surface::Mode(Mode::ReviewEval), "snapshot") && !has(Surface::Mode(Mode::ReproFix), "snapshot"));
    }
}
