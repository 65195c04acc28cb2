//! Configuration: defaults, then `config.toml`, then `PYRO_…` variables, then flags; the later wins and every value knows its origin.
//!
//! Nothing here reads a file or a variable by itself: the text and a way to look variables up are handed in from the edge.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use pyro_store::{Accelerator, Retention, Settings};
use pyro_tree::GitEnvironment;
use serde::{Deserialize, Serialize};

use crate::text::{NetworkGroup, NetworkRule};

/// Which accelerator is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AcceleratorChoice {
    /// Hardware virtualization when a probe finds it usable, else QEMU's translator.
    #[default]
    Auto,
    /// Hardware virtualization or nothing.
    Kvm,
    /// QEMU's translator.
    Tcg,
}

impl AcceleratorChoice {
    /// Every choice.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Kvm, Self::Tcg];

    /// Returns the name used on every surface.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Kvm => Accelerator::Kvm.as_str(),
            Self::Tcg => Accelerator::Tcg.as_str(),
        }
    }
}

impl FromStr for AcceleratorChoice {
    type Err = pyro_store::IdError;

    fn from_str(text: &str) -> Result<Self, pyro_store::IdError> {
        Self::ALL.into_iter().find(|choice| choice.as_str() == text).ok_or_else(|| pyro_store::IdError {
            value: text.chars().take(80).collect(),
            what: "known accelerator",
            rule: "`auto`, `kvm` or `tcg`",
        })
    }
}

impl fmt::Display for AcceleratorChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Why a configuration is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not TOML, has an unknown key or a value of the wrong type; the source says where.
    #[error("cannot read the configuration `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// TOML's complaint, with key and line.
        source: Box<toml::de::Error>,
    },
    /// The file is there and cannot be read.
    #[error("cannot read the configuration `{}`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A value is outside what its key accepts.
    #[error("`{value}` is not accepted for `{key}` in {origin}: {rule}")]
    Value {
        /// What was given.
        value: String,
        /// For which key.
        key: &'static str,
        /// Where.
        origin: String,
        /// What is accepted.
        rule: &'static str,
    },
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// `config.toml`.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
    /// A flag of this command.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("default"),
            Self::File(path) => path.display().fmt(formatter),
            Self::Variable(name) => formatter.write_str(name),
            Self::Flag(flag) => formatter.write_str(flag),
        }
    }
}

/// One configured value and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configured {
    /// Key in `config.toml`.
    pub key: &'static str,
    /// Its value as text.
    pub value: String,
    /// Who set it last.
    pub origin: Origin,
}

/// What flags say; the last word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--accelerator`.
    pub accelerator: Option<AcceleratorChoice>,
}

/// The resolved configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    /// Which accelerator is wanted.
    pub accelerator: AcceleratorChoice,
    /// What supervisors are told.
    pub settings: Settings,
    /// Every value with its origin, in the order of the documentation.
    pub values: Vec<Configured>,
    /// Groups of network rules, by name.
    pub network_groups: BTreeMap<NetworkGroup, Vec<NetworkRule>>,
    /// Where the user's Git finds its configuration. It is Git's to configure, not Pyro's.
    pub git: GitEnvironment,
}

impl Default for Configuration {
    fn default() -> Self {
        let mut configuration = Self {
            accelerator: AcceleratorChoice::default(),
            settings: Settings { retention: Retention::default(), ..Settings::default() },
            values: Vec::new(),
            network_groups: BTreeMap::new(),
            git: GitEnvironment::default(),
        };
        configuration.values =
            KEYS.iter().map(|key| Configured { key: key.name, value: (key.show)(&configuration), origin: Origin::Default }).collect();
        configuration
    }
}

/// A key of `config.toml`.
struct Key {
    name: &'static str,
    rule: &'static str,
    doc: &'static str,
    show: fn(&Configuration) -> String,
    /// Takes a value's text; `None` when it is not accepted.
    set: fn(&mut Configuration, &str) -> Option<()>,
}

fn bounded(text: &str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
    text.parse().ok().filter(|value| range.contains(value))
}

const KEYS: &[Key] = &[
    Key {
        name: "accelerator",
        rule: "`auto`, `kvm` or `tcg` are",
        doc: "How guests run: `auto` tries hardware virtualization and falls back to translation.",
        show: |configuration| configuration.accelerator.to_string(),
        set: |configuration, text| text.parse().ok().map(|choice| configuration.accelerator = choice),
    },
    Key {
        name: "standby",
        rule: "0 to 64 are",
        doc: "Standby machines kept per recently used template; 0 turns them off.",
        show: |configuration| configuration.settings.standby.to_string(),
        set: |configuration, text| {
            bounded(text, 0..=64).and_then(|count| u32::try_from(count).ok()).map(|count| configuration.settings.standby = count)
        },
    },
    Key {
        name: "standby_ttl_seconds",
        rule: "10 to 86400 are",
        doc: "How long an unclaimed standby machine lives.",
        show: |configuration| configuration.settings.standby_ttl_seconds.to_string(),
        set: |configuration, text| bounded(text, 10..=86_400).map(|seconds| configuration.settings.standby_ttl_seconds = seconds),
    },
    Key {
        name: "qemu",
        rule: "an absolute path is",
        doc: "The QEMU binary.",
        show: |configuration| configuration.settings.qemu.display().to_string(),
        set: |configuration, text| text.starts_with('/').then(|| configuration.settings.qemu = text.into()),
    },
    Key {
        name: "stopped_ttl_seconds",
        rule: "60 to 31536000 are",
        doc: "How long the disks of a stopped workspace are kept.",
        show: |configuration| configuration.settings.stopped_ttl_seconds.to_string(),
        set: |configuration, text| bounded(text, 60..=31_536_000).map(|seconds| configuration.settings.stopped_ttl_seconds = seconds),
    },
    Key {
        name: "command_output_max_bytes",
        rule: "0 to 1099511627776 are",
        doc: "How much output of one command is kept on disk.",
        show: |configuration| configuration.settings.retention.command_max_bytes.to_string(),
        set: |configuration, text| bounded(text, 0..=1 << 40).map(|bytes| configuration.settings.retention.command_max_bytes = bytes),
    },
    Key {
        name: "workspace_output_max_bytes",
        rule: "0 to 1099511627776 are",
        doc: "How much output of all commands of one workspace is kept on disk.",
        show: |configuration| configuration.settings.retention.workspace_max_bytes.to_string(),
        set: |configuration, text| bounded(text, 0..=1 << 40).map(|bytes| configuration.settings.retention.workspace_max_bytes = bytes),
    },
    Key {
        name: "resolvers",
        rule: "up to 3 addresses, each with a port if it is not 53, separated by commas, are",
        doc: "DNS servers that guests' questions are forwarded to; empty means the host's own.",
        show: |configuration| configuration.settings.resolvers.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        set: |configuration, text| resolvers(text).map(|resolvers| configuration.settings.resolvers = resolvers),
    },
    Key {
        name: "certificates",
        rule: "an absolute path is",
        doc: "PEM file of certificate authorities to trust beside the host's: by guests with egress, and where secrets are sent to.",
        show: |configuration| configuration.settings.certificates.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
        set: |configuration, text| text.starts_with('/').then(|| configuration.settings.certificates = Some(text.into())),
    },
];

/// A name server by its address alone, or with a port.
fn resolvers(text: &str) -> Option<Vec<SocketAddr>> {
    const RESOLVERS_MAX: usize = 3;
    const DNS_PORT: u16 = 53;
    let resolver = |word: &str| word.parse().ok().or_else(|| Some(SocketAddr::new(word.parse::<IpAddr>().ok()?, DNS_PORT)));
    let words: Vec<&str> = text.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
    if words.len() > RESOLVERS_MAX { None } else { words.into_iter().map(resolver).collect() }
}

/// The keys `config.toml` accepts. A derived type makes unknown ones an error that names key and line.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    accelerator: Option<toml::Value>,
    standby: Option<toml::Value>,
    standby_ttl_seconds: Option<toml::Value>,
    qemu: Option<toml::Value>,
    stopped_ttl_seconds: Option<toml::Value>,
    command_output_max_bytes: Option<toml::Value>,
    workspace_output_max_bytes: Option<toml::Value>,
    resolvers: Option<toml::Value>,
    certificates: Option<toml::Value>,
    #[serde(default)]
    network_groups: BTreeMap<NetworkGroup, Vec<NetworkRule>>,
}

impl File {
    fn value(&self, key: &str) -> Option<String> {
        let value = match key {
            "accelerator" => &self.accelerator,
            "standby" => &self.standby,
            "standby_ttl_seconds" => &self.standby_ttl_seconds,
            "qemu" => &self.qemu,
            "stopped_ttl_seconds" => &self.stopped_ttl_seconds,
            "command_output_max_bytes" => &self.command_output_max_bytes,
            "workspace_output_max_bytes" => &self.workspace_output_max_bytes,
            "resolvers" => &self.resolvers,
            "certificates" => &self.certificates,
            _ => &None,
        };
        value.as_ref().map(|value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned))
    }
}

impl Configuration {
    /// Resolves the configuration: `file` is the path and text of `config.toml` if there is one, `variable` looks a variable up.
    ///
    /// # Errors
    /// The file or a variable holds something that is not accepted; the error names it.
    pub fn resolve(file: Option<(PathBuf, &str)>, variable: &dyn Fn(&str) -> Option<OsString>, flags: Flags) -> Result<Self, ConfigError> {
        let mut configuration = Self::default();
        if let Some((path, text)) = file {
            let file: File = toml::from_str(text).map_err(|source| ConfigError::File { path: path.clone(), source: Box::new(source) })?;
            for key in KEYS {
                if let Some(value) = file.value(key.name) {
                    configuration.set(key, &value, Origin::File(path.clone()))?;
                }
            }
            configuration.network_groups = file.network_groups;
        }
        for key in KEYS {
            let name = variable_name(key.name);
            if let Some(value) = variable(&name).filter(|value| !value.is_empty()) {
                configuration.set(key, &value.to_string_lossy(), Origin::Variable(name))?;
            }
        }
        if let Some(accelerator) = flags.accelerator {
            configuration.set(&KEYS[0], accelerator.as_str(), Origin::Flag("--accelerator"))?;
        }
        configuration.git = GitEnvironment::from_variables(variable);
        Ok(configuration)
    }

    fn set(&mut self, key: &Key, value: &str, origin: Origin) -> Result<(), ConfigError> {
        let refused =
            || ConfigError::Value { value: value.chars().take(80).collect(), key: key.name, origin: origin.to_string(), rule: key.rule };
        (key.set)(self, value).ok_or_else(refused)?;
        let entry = Configured { key: key.name, value: (key.show)(self), origin };
        match self.values.iter_mut().find(|known| known.key == key.name) {
            Some(known) => *known = entry,
            None => self.values.push(entry),
        }
        Ok(())
    }

    /// Returns every key with its variable, accepted values and meaning, for the documentation.
    #[must_use]
    pub fn documentation() -> Vec<(&'static str, String, &'static str, &'static str)> {
        KEYS.iter()
            .map(|key| (key.name, variable_name(key.name), key.rule.trim_end_matches(" are").trim_end_matches(" is"), key.doc))
            .collect()
    }
}

fn variable_name(key: &str) -> String {
    format!("PYRO_{}", key.to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    fn resolve(file: &str, variables: &[(&str, &str)], flags: Flags) -> Result<Configuration, ConfigError> {
        Configuration::resolve(
            Some(("/c/config.toml".into(), file)),
            &|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()),
            flags,
        )
    }

    fn check(file: &str, variables: &[(&str, &str)], flags: Flags, accelerator: AcceleratorChoice, origin: &str) {
        let configuration = resolve(file, variables, flags).unwrap();
        assert_eq!(configuration.accelerator, accelerator);
        assert_eq!(configuration.values[0].origin.to_string(), origin);
    }

    #[test]
    fn later_origin_wins_and_is_named() {
        let flag = Flags { accelerator: Some(AcceleratorChoice::Tcg) };
        check("", &[], Flags::default(), AcceleratorChoice::Auto, "default");
        check("accelerator = 'kvm'", &[], Flags::default(), AcceleratorChoice::Kvm, "/c/config.toml");
        check("accelerator = 'kvm'", &[("PYRO_ACCELERATOR", "auto")], Flags::default(), AcceleratorChoice::Auto, "PYRO_ACCELERATOR");
        check("accelerator = 'kvm'", &[("PYRO_ACCELERATOR", "auto")], flag, AcceleratorChoice::Tcg, "--accelerator");
    }

    #[test]
    fn every_key_can_be_set_in_the_file_and_by_variable() {
        let values = ["'tcg'", "3", "20", "'/opt/qemu'", "61", "62", "63", "'192.0.2.1:53,[2001:db8::1]:5353'", "'/etc/own.pem'"];
        let text: String = KEYS.iter().zip(values).map(|(key, value)| format!("{} = {value}\n", key.name)).collect();
        let configuration = resolve(&text, &[], Flags::default()).unwrap();
        for (configured, value) in configuration.values.iter().zip(values) {
            assert_eq!(configured.value, value.trim_matches('\''));
            assert_eq!(configured.origin, Origin::File("/c/config.toml".into()), "{}", configured.key);
        }
        assert_eq!(configuration.settings.standby, 3);
    }

    #[test]
    fn groups_of_network_rules_are_read_and_checked() {
        let configuration = resolve("[network_groups]\nweb = ['example.com:443', '*.example.org']\n", &[], Flags::default()).unwrap();
        let group = &configuration.network_groups[&"web".parse().unwrap()];
        assert_eq!(group.iter().map(ToString::to_string).collect::<Vec<_>>(), ["example.com:443", "*.example.org"]);
        let error = resolve("[network_groups]\nweb = ['https://example.com']\n", &[], Flags::default()).unwrap_err();
        assert!(error.source().unwrap().to_string().contains("https://example.com"), "{error:?}");
    }

    #[test]
    fn resolvers_are_addresses_with_or_without_a_port() {
        let configuration = resolve("resolvers = '192.0.2.1, 192.0.2.2:5353'", &[], Flags::default()).unwrap();
        let resolvers = configuration.values.iter().find(|value| value.key == "resolvers").unwrap();
        assert_eq!(resolvers.value, "192.0.2.1:53,192.0.2.2:5353");
        assert!(resolve("resolvers = 'dns.example'", &[], Flags::default()).is_err());
        assert!(resolve("resolvers = '1.1.1.1,1.1.1.2,1.1.1.3,1.1.1.4'", &[], Flags::default()).is_err());
    }

    #[test]
    fn unknown_key_is_named_with_its_line() {
        let error = resolve("standby = 1\nstandbye = 2\n", &[], Flags::default()).unwrap_err();
        let cause = error.source().unwrap().to_string();
        assert!(cause.contains("standbye") && cause.contains("line 2"), "{cause}");
    }

    #[test]
    fn unacceptable_value_names_key_origin_and_rule() {
        let error = resolve("standby = 100", &[], Flags::default()).unwrap_err();
        assert_eq!(error.to_string(), "`100` is not accepted for `standby` in /c/config.toml: 0 to 64 are");
        let error = resolve("", &[("PYRO_STANDBY", "many")], Flags::default()).unwrap_err();
        assert_eq!(error.to_string(), "`many` is not accepted for `standby` in PYRO_STANDBY: 0 to 64 are");
    }
}
