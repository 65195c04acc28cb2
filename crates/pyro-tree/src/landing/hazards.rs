//! Changes that deserve a look before they come home, because something on the host later runs them without asking.
//!
//! The list is about what tools run on their own or on the next ordinary command. It is a help for whoever reviews, not a filter: nothing
//! is refused for being on it.

use super::Hazard;
use crate::{
    diff::{Content, Difference, Side},
    entry::EntryKind,
    path::TreePath,
};

/// Largest manifest of a package that is compared by its meaning.
const PACKAGE_MAX_BYTES: usize = 4 << 20;

/// Returns what of these differences deserves a look before it is used.
#[must_use]
pub fn hazards(differences: &[Difference]) -> Vec<Hazard> {
    let mut hazards = Vec::new();
    for difference in differences {
        let Some(after) = &difference.after else { continue };
        let mut add = |why| hazards.push(Hazard { path: difference.path.clone(), why });
        if let Content::Link(target) = &after.content
            && let Some(why) = points_out(&difference.path, target)
        {
            add(why);
        }
        if after.kind == EntryKind::Directory {
            continue;
        }
        if let Some(why) = by_name(&difference.path, difference) {
            add(why);
        }
        let executable = |side: &Side| side.kind == EntryKind::File && side.mode & 0o111 != 0;
        if executable(after) && !difference.before.as_ref().is_some_and(executable) {
            add("is newly executable");
        }
        if after.mode & 0o6000 != 0 {
            add("has a set-user-id or set-group-id bit, which is dropped");
        }
    }
    hazards
}

/// Returns how a link leads out of the tree it lies in, or may, judged by its text alone.
fn points_out(path: &TreePath, target: &[u8]) -> Option<&'static str> {
    const OUT: &str = "is a link that points out of the folder";
    if target.starts_with(b"/") {
        return Some(OUT);
    }
    let mut depth = path.components().count().saturating_sub(1);
    let mut named = false;
    for part in target.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            // What is named before may be a link itself, and then this is the parent of wherever it leads.
            b".." if named => return Some("is a link that may point out of the folder"),
            b".." if depth == 0 => return Some(OUT),
            b".." => depth -= 1,
            _ => named = true,
        }
    }
    None
}

fn by_name(path: &TreePath, difference: &Difference) -> Option<&'static str> {
    let lower = path.as_bytes().to_ascii_lowercase();
    let parts: Vec<&[u8]> = lower.split(|byte| *byte == b'/').collect();
    let name = *parts.last()?;
    let below = |folder: &[u8]| parts[..parts.len() - 1].contains(&folder);
    if below(b".husky")
        || below(b".githooks")
        || below(b"hooks") && below(b".git")
        || matches!(name, b".pre-commit-config.yaml" | b"lefthook.yml")
    {
        return Some("runs as a Git hook");
    }
    if matches!(name, b".gitattributes" | b".gitmodules" | b".gitconfig") {
        return Some("changes what Git does or runs");
    }
    if matches!(name, b".envrc" | b".env" | b".mise.toml" | b"mise.toml" | b".tool-versions" | b".autoenv") {
        return Some("is read by the shell on entering the folder");
    }
    let ci = parts.windows(2).any(|pair| pair == [&b".github"[..], b"workflows"] || pair == [&b".github"[..], b"actions"]);
    if ci
        || below(b".circleci")
        || below(b".buildkite")
        || below(b".gitlab")
        || name.starts_with(b"jenkinsfile")
        || matches!(
            name,
            b".gitlab-ci.yml" | b".travis.yml" | b"azure-pipelines.yml" | b"bitbucket-pipelines.yml" | b".drone.yml" | b"appveyor.yml"
        )
    {
        return Some("runs in continuous integration");
    }
    if below(b".claude")
        || below(b".cursor")
        || below(b".codex")
        || below(b".gemini")
        || below(b".opencode")
        || matches!(name, b".mcp.json" | b"mcp.json" | b"claude.md" | b"agents.md" | b"gemini.md" | b".cursorrules" | b"opencode.json")
    {
        return Some("configures a coding agent");
    }
    if below(b".vscode") || below(b".idea") || below(b".devcontainer") || name == b".devcontainer.json" {
        return Some("is run or read by an editor");
    }
    if name == b"package.json" {
        return scripts_differ(difference).then_some("changes the scripts of a package");
    }
    if below(b".cargo")
        || matches!(name, b".npmrc" | b".yarnrc" | b".yarnrc.yml" | b".pnpmfile.cjs" | b"pip.conf" | b"conftest.py" | b"sitecustomize.py")
    {
        return Some("configures a build or package tool");
    }
    let build: [&[u8]; 20] = [
        b"makefile",
        b"gnumakefile",
        b"build.rs",
        b"build.gradle",
        b"build.gradle.kts",
        b"settings.gradle",
        b"gradlew",
        b"setup.py",
        b"setup.cfg",
        b"pyproject.toml",
        b"cmakelists.txt",
        b"configure",
        b"rakefile",
        b"gemfile",
        b"justfile",
        b"taskfile.yml",
        b"pom.xml",
        b"dockerfile",
        b"meson.build",
        b"binding.gyp",
    ];
    if build.contains(&name) || name.ends_with(b".mk") || name.ends_with(b".gemspec") {
        return Some("is run by a build");
    }
    None
}

/// Returns whether the scripts of a `package.json` are other ones; what cannot be read counts as other.
fn scripts_differ(difference: &Difference) -> bool {
    let scripts = |side: Option<&Side>| -> Option<serde_json::Value> {
        match side {
            None => Some(serde_json::Value::Null),
            Some(Side { content: Content::Bytes(bytes), .. }) if bytes.len() <= PACKAGE_MAX_BYTES => {
                let package: serde_json::Value = serde_json::from_slice(bytes).ok()?;
                Some(package.get("scripts").cloned().unwrap_or_default())
            }
            Some(_) => None,
        }
    };
    match (scripts(difference.before.as_ref()), scripts(difference.after.as_ref())) {
        (Some(before), Some(after)) => before != after,
        _ => true,
    }
}
