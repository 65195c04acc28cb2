//! What the operator allows at most. A model may ask for less, and never gets more.

use std::path::{Path, PathBuf};

use clap::Args;
use pyro_sdk::{
    contract::{Entry, NetworkPolicy},
    text::NetworkRule,
};
use serde_json::{Value, json};

use super::{answer::Refusal, reach::Reach, schema::Object};

/// What a model gets at most.
#[derive(Debug, Args)]
#[command(next_help_heading = "Ceiling")]
pub(crate) struct CeilingArguments {
    /// Workspaces on this host beyond which none is made
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_workspaces: Option<u32>,
    /// Guest memory of a workspace
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(128..))]
    max_mem_mib: Option<u64>,
    /// Virtual CPUs of a workspace
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_vcpu_count: Option<u64>,
    /// What a guest may reach, and what may reach it. Without it tools can publish ports, and nothing leads out
    #[arg(long, value_enum, value_name = "POLICY")]
    max_network_policy: Option<NetworkPolicy>,
    /// Host beyond which no workspace reaches, as `--allow-host` of `workspace create`; several may be given
    #[arg(long = "allow-host", value_name = "RULE")]
    allow_hosts: Vec<NetworkRule>,
    /// Folder of this host that tools may read from and write to; several may be given. Without it they may wherever you may
    #[arg(long = "host-folder", value_name = "PATH")]
    host_folders: Vec<PathBuf>,
    /// Offer `workspace_apply`, which brings changes home into the folder a workspace was seeded from
    #[arg(long)]
    allow_apply: bool,
}

impl CeilingArguments {
    /// Makes the ceiling; `existing` resolves a folder, or says what is wrong with it.
    pub(crate) fn resolve<E>(&self, existing: impl Fn(&Path) -> Result<PathBuf, E>) -> Result<Ceiling, E> {
        Ok(Ceiling {
            max_workspaces: self.max_workspaces,
            max_mem_mib: self.max_mem_mib,
            max_vcpu_count: self.max_vcpu_count,
            reach: Reach { policy: self.max_network_policy.unwrap_or(Reach::default().policy), hosts: self.allow_hosts.clone() },
            allow_apply: self.allow_apply,
            host_folders: self.host_folders.iter().map(|folder| existing(folder)).collect::<Result<_, _>>()?,
        })
    }

    /// Returns the flags that have a value of one word, and the words.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = (&'static str, String)> {
        let policy = self.max_network_policy.map(|policy| policy.as_str().to_owned());
        let flags = [
            ("max-workspaces", self.max_workspaces.map(|count| count.to_string())),
            ("max-mem-mib", self.max_mem_mib.map(|mebibytes| mebibytes.to_string())),
            ("max-vcpu-count", self.max_vcpu_count.map(|count| count.to_string())),
            ("max-network-policy", policy),
        ];
        flags.into_iter().filter_map(|(name, value)| Some((name, value?)))
    }

    pub(crate) fn allow_hosts(&self) -> &[NetworkRule] {
        &self.allow_hosts
    }

    pub(crate) fn host_folders(&self) -> &[PathBuf] {
        &self.host_folders
    }

    pub(crate) const fn allows_apply(&self) -> bool {
        self.allow_apply
    }
}

/// Limits given when the server was started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ceiling {
    /// Workspaces that may exist on this host while a tool makes another.
    pub(crate) max_workspaces: Option<u32>,
    /// Guest memory of one workspace.
    pub(crate) max_mem_mib: Option<u64>,
    /// Virtual CPUs of one workspace.
    pub(crate) max_vcpu_count: Option<u64>,
    /// What a guest may reach, and what may reach it, at most.
    pub(crate) reach: Reach,
    /// Whether changes may be brought home.
    pub(crate) allow_apply: bool,
    /// Folders of the host that tools may read from and write to, resolved when the server started; all when none is given.
    pub(crate) host_folders: Vec<PathBuf>,
}

/// Arguments that are paths of the host.
const HOST_PATHS: [&str; 4] = ["seed_path", "source", "output", "to"];

impl Ceiling {
    /// Tells whether a tool is offered at all.
    pub(super) fn offers(&self, entry: &Entry) -> bool {
        let tool = entry.definition.mcp.unwrap_or_default();
        (self.allow_apply || tool != "workspace_apply") && self.reach.offers(tool)
    }

    /// Tells a model of limits that are narrower than the contract's.
    pub(super) fn narrow(&self, schema: &mut Object) {
        let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else { return };
        for (field, maximum) in [("mem_mib", self.max_mem_mib), ("vcpu_count", self.max_vcpu_count)] {
            if let (Some(property), Some(maximum)) = (properties.get_mut(field), maximum) {
                property["maximum"] = maximum.into();
                if property["default"].as_u64().is_some_and(|default| default > maximum) {
                    property["default"] = maximum.into();
                }
            }
        }
        self.reach.narrow(properties);
    }

    /// Tells whether a call names a path of the host that is held to folders.
    pub(super) fn confines(&self, arguments: &Object) -> bool {
        !self.host_folders.is_empty() && HOST_PATHS.iter().any(|field| arguments.contains_key(*field))
    }

    /// Holds a call's arguments to the limits; what is not given becomes the contract's default or the limit, whichever is less.
    pub(super) fn apply(&self, tool: &str, schema: &Object, arguments: &mut Object) -> Result<(), Refusal> {
        let takes = |field: &str| schema.get("properties").is_some_and(|properties| properties.get(field).is_some());
        let flags = [("mem_mib", self.max_mem_mib, "--max-mem-mib"), ("vcpu_count", self.max_vcpu_count, "--max-vcpu-count")];
        for (field, maximum, flag) in flags {
            let Some(maximum) = maximum else { continue };
            // What is no number is the contract's to refuse.
            match arguments.get(field) {
                Some(wanted) if wanted.as_u64().is_some_and(|wanted| wanted > maximum) => {
                    return Err(Refusal::limit(
                        format!("{field} {wanted} is more than the {maximum} that this server allows"),
                        format!("ask for at most {maximum}; the operator set {flag} {maximum}"),
                    ));
                }
                Some(_) => {}
                None if takes(field) => drop(arguments.insert(field.into(), json!(default_of(schema, field).min(maximum)))),
                None => {}
            }
        }
        self.reach.apply(tool, takes, arguments)?;
        let paths: Vec<&str> = HOST_PATHS.into_iter().filter(|field| takes(field)).collect();
        for field in paths {
            let Some(path) = arguments.get(field).and_then(Value::as_str) else { continue };
            // A model sees in the answer where a relative path has led.
            let path = std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path));
            self.allows_path(field, &path)?;
            arguments.insert(field.into(), json!(path));
        }
        Ok(())
    }

    pub(super) fn allows_path(&self, field: &str, path: &Path) -> Result<(), Refusal> {
        if self.host_folders.is_empty() {
            return Ok(());
        }
        let resolved = resolve(path);
        // The folder itself is never replaced, so that no link can stand in its place.
        let own = |folder: &PathBuf| field == "output" && resolved.as_ref() == Some(folder);
        let inside = |folder: &PathBuf| resolved.as_ref().is_some_and(|path| path.starts_with(folder));
        if self.host_folders.iter().any(|folder| inside(folder) && !own(folder)) {
            return Ok(());
        }
        let folders: Vec<String> = self.host_folders.iter().map(|folder| format!("`{}`", folder.display())).collect();
        Err(Refusal::denied(
            format!("{field} `{}` is outside the folders of the host that this server may use", path.display()),
            format!("use a path below {}; the operator set --host-folder", folders.join(" or ")),
        ))
    }
}

fn default_of(schema: &Object, field: &str) -> u64 {
    schema.get("properties").and_then(|properties| properties[field]["default"].as_u64()).unwrap_or(1)
}

/// Resolves the links of a path as far as it exists. What does not exist yet may hold no `..`, which could lead anywhere.
fn resolve(path: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(path).ok()?;
    let existing = absolute.ancestors().find(|ancestor| ancestor.symlink_metadata().is_ok())?;
    let rest = absolute.strip_prefix(existing).ok()?;
    let plain = rest.components().all(|component| matches!(component, std::path::Component::Normal(_)));
    plain.then(|| existing.canonicalize().ok().map(|existing| existing.join(rest))).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Object {
        let schema = json!({ "properties": { "mem_mib": { "default": 1024 }, "output": {}, "network_policy": {} } });
        schema.as_object().cloned().expect("an object")
    }

    fn arguments(value: Value) -> Object {
        value.as_object().cloned().expect("an object")
    }

    #[test]
    fn less_is_kept_more_is_refused_and_nothing_becomes_the_limit() {
        let ceiling =
            Ceiling { max_mem_mib: Some(512), reach: Reach { policy: NetworkPolicy::Off, hosts: Vec::new() }, ..Ceiling::default() };
        let mut asked = arguments(json!({}));
        ceiling.apply("workspace_create", &schema(), &mut asked).expect("allowed");
        assert_eq!(asked["mem_mib"], 512);
        let mut asked = arguments(json!({ "mem_mib": 256, "network_policy": "off" }));
        ceiling.apply("workspace_create", &schema(), &mut asked).expect("allowed");
        assert_eq!(asked["mem_mib"], 256);
        let mut odd = arguments(json!({ "mem_mib": "4096" }));
        ceiling.apply("workspace_create", &schema(), &mut odd).expect("the contract refuses it");
        assert_eq!(odd["mem_mib"], "4096");
        for more in [json!({ "mem_mib": 513 }), json!({ "network_policy": "published-ports" })] {
            assert_eq!(ceiling.apply("workspace_create", &schema(), &mut arguments(more)).expect_err("refused").kind, "limit_exceeded");
        }
    }

    #[test]
    fn paths_that_lead_out_of_the_folders_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        std::os::unix::fs::symlink("/etc", folder.path().join("link")).expect("writable");
        let ceiling = Ceiling { host_folders: vec![folder.path().canonicalize().expect("it exists")], ..Ceiling::default() };
        let inside = folder.path().join("a/b");
        let allows = |path: &Path| ceiling.allows_path("output", path).is_ok();
        assert!(allows(&inside), "below");
        assert!(!allows(folder.path()), "itself as an output");
        assert!(ceiling.allows_path("source", folder.path()).is_ok(), "itself as a source");
        // A link in the folder's place leads nowhere.
        std::fs::rename(folder.path(), folder.path().with_extension("moved")).expect("writable");
        std::os::unix::fs::symlink("/etc", folder.path()).expect("writable");
        assert!(!allows(&folder.path().join("passwd")));
        std::fs::remove_file(folder.path()).expect("writable");
        std::fs::rename(folder.path().with_extension("moved"), folder.path()).expect("writable");
        for outside in ["/etc/passwd", "link/x", "../x", "a/../../x"] {
            assert!(!allows(&folder.path().join(outside)), "{outside}");
        }
    }
}
