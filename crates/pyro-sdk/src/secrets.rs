//! Secrets on their way: from a request or a file of the host to the supervisor that will hold them, and from one supervisor to the next.

use std::{collections::BTreeMap, io::Read as _, os::unix::fs::OpenOptionsExt as _, path::Path};

use bytes::Bytes;
use pyro_proto::{
    error::ErrorKind,
    v1::{SecretValue as Message, TakeSecretsRequest},
};
use pyro_secret::{SecretName, SecretValue, VALUE_BYTES_MAX};
use pyro_store::{MachineId, NetworkRules, OutsideRecord, SecretRecord, SecretSource, WorkspaceRecord, WorkspaceState};

use crate::{
    Workspace,
    contract::{Secret, WorkspaceCreate},
    error::{Cause, Error, Problem, Result},
    exec::ANSWER_DEADLINE,
    secret_text::{LiteralSecret, SecretVariable},
    supervisor::Client,
    text::NetworkRule,
};

/// Most secrets of a workspace.
const SECRETS_MAX: usize = 64;
/// Digits of randomness in what stands for a secret: nobody meets one by chance, or guesses another workspace's.
const PLACEHOLDER_DIGITS: usize = 32;
/// Where a secret that stays outside is put unless something else is said.
const DEFAULT_HEADER: &str = "authorization";

/// Values by name, on their way.
pub(crate) type Values = BTreeMap<String, SecretValue>;

/// Returns what a new workspace's secrets are, and the values that were said.
pub(crate) fn planned(request: &WorkspaceCreate) -> Result<(Vec<SecretRecord>, Values)> {
    let mut records: Vec<SecretRecord> = Vec::new();
    let mut add = |name: &SecretName, source: SecretSource| {
        if records.iter().any(|record| record.name == name.as_str()) {
            return Err(Error::from(Problem::SecretTwice { name: name.to_string() }));
        }
        records.push(SecretRecord { name: name.to_string(), source, outside: None });
        Ok(())
    };
    for secret in &request.secrets {
        add(&secret.name, SecretSource::Literal)?;
    }
    for file in &request.secret_files {
        let path = std::path::absolute(&file.path).unwrap_or_else(|_| file.path.clone());
        add(&file.name, SecretSource::File(path))?;
    }
    if records.len() > SECRETS_MAX {
        return Err(Problem::TooManySecrets { count: records.len(), maximum: SECRETS_MAX }.into());
    }
    for host in &request.secret_hosts {
        let rule = host.host.to_string();
        let rule = if rule.contains(':') { rule } else { format!("{rule}:443") };
        let record = meant(&mut records, host.name.as_ref(), "--secret-host")?;
        let outside = record.outside.get_or_insert_with(|| OutsideRecord {
            hosts: Vec::new(),
            header: DEFAULT_HEADER.to_owned(),
            placeholder: format!("pyro-secret-{}-{}", record.name, pyro_store::random_hex(PLACEHOLDER_DIGITS)),
        });
        outside.hosts.push(rule);
    }
    for header in &request.secret_headers {
        let record = meant(&mut records, header.name.as_ref(), "--secret-header")?;
        match &mut record.outside {
            Some(outside) => header.header.clone_into(&mut outside.header),
            None => return Err(Problem::HeaderWithoutHost { name: record.name.clone() }.into()),
        }
    }
    if !request.network_policy.has_egress() && records.iter().any(|record| record.outside.is_some()) {
        return Err(Problem::RulesWithoutEgress { with_egress: "egress" }.into());
    }
    let values = said(&request.secrets)?;
    values.iter().try_for_each(|(name, value)| long_enough(name, value))?;
    Ok((records, values))
}

/// Refuses a value that would make all output unreadable.
fn long_enough(name: &str, value: &SecretValue) -> Result<()> {
    if value.is_too_short() { Err(Problem::SecretTooShort { name: name.to_owned() }.into()) } else { Ok(()) }
}

/// Checks that the hosts secrets are sent to may be reached. An allow-list that names addresses may cover any host.
pub(crate) fn check_reach(secrets: &[SecretRecord], rules: &NetworkRules) -> Result<()> {
    let parse = |rules: &[String]| -> Vec<NetworkRule> { rules.iter().filter_map(|rule| rule.parse().ok()).collect() };
    let (allow, deny) = (parse(&rules.allow), parse(&rules.deny));
    let by_name = rules.only_allowed && allow.iter().all(NetworkRule::is_name);
    for secret in secrets {
        for text in secret.outside.iter().flat_map(|outside| &outside.hosts) {
            let Ok(host) = text.parse::<NetworkRule>() else { continue };
            let (name, host_text) = (secret.name.clone(), text.clone());
            if let Some(deny) = deny.iter().find(|rule| host.is_within(rule)) {
                return Err(Problem::SecretHostDenied { name, host: host_text, deny: deny.to_string() }.into());
            }
            if by_name && !allow.iter().any(|rule| host.is_within(rule)) {
                return Err(Problem::SecretHostNotAllowed { name, host: host_text }.into());
            }
        }
    }
    Ok(())
}

/// Finds the secret that a host or a header belongs to.
fn meant<'a>(records: &'a mut [SecretRecord], name: Option<&SecretName>, flag: &'static str) -> Result<&'a mut SecretRecord> {
    let at = match name {
        Some(name) => records.iter().position(|record| record.name == name.as_str()),
        None if records.len() == 1 => Some(0),
        None => return Err(Problem::SecretUnclear { flag }.into()),
    };
    match at {
        Some(at) => Ok(&mut records[at]),
        None => Err(Problem::NoSuchSecret { name: name.map(ToString::to_string).unwrap_or_default() }.into()),
    }
}

/// Returns the values that a request says.
pub(crate) fn said(secrets: &[LiteralSecret]) -> Result<Values> {
    let value = |secret: &LiteralSecret| match &secret.value {
        Some(value) => Ok((secret.name.to_string(), value.clone())),
        None => Err(Error::from(Problem::SecretNotSaid { name: secret.name.to_string() })),
    };
    secrets.iter().map(value).collect()
}

/// Tells what is known of a workspace's secrets.
pub(crate) fn describe(record: &WorkspaceRecord) -> Vec<Secret> {
    let secret = |secret: &SecretRecord| Secret {
        name: secret.name.clone(),
        source_kind: source_kind(&secret.source).to_owned(),
        hosts: secret.outside.as_ref().map(|outside| outside.hosts.clone()).unwrap_or_default(),
        header: secret.outside.as_ref().map(|outside| outside.header.clone()),
    };
    record.secrets.iter().map(secret).collect()
}

/// Checks that a workspace has the secrets that are asked for.
pub(crate) fn has_all(record: &WorkspaceRecord, label: &str, wanted: &[SecretVariable]) -> Result<()> {
    match wanted.iter().find(|wanted| !record.secrets.iter().any(|secret| secret.name == wanted.name.as_str())) {
        None => Ok(()),
        Some(wanted) => {
            let known = record.secrets.iter().map(|secret| secret.name.clone()).collect();
            Err(Error::from(Problem::SecretUnknown { workspace: label.to_owned(), name: wanted.name.to_string(), known }).about(label))
        }
    }
}

/// Names the secrets whose values a start must be given: nobody keeps a literal of a workspace that does not run.
pub(crate) fn unavailable(record: &WorkspaceRecord) -> Vec<String> {
    let stopped = record.state == WorkspaceState::Stopped;
    let lost = |secret: &&SecretRecord| stopped && secret.source == SecretSource::Literal;
    record.secrets.iter().filter(lost).map(|secret| secret.name.clone()).collect()
}

const fn source_kind(source: &SecretSource) -> &'static str {
    match source {
        SecretSource::Literal => "literal",
        SecretSource::File(_) => "file",
    }
}

/// Reads a secret's file. A line end at its end is not part of the secret: editors and `echo` leave one.
fn read(name: &str, path: &Path) -> Result<SecretValue> {
    let failed = |source| Error::from(Problem::Io { operation: "read the secret's file", path: path.to_owned(), source });
    // Opening a pipe would wait for its other end, and a device could be read for ever.
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = std::fs::File::options().read(true).custom_flags(nonblocking).open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(Problem::SecretUnusable { name: name.to_owned(), reason: "its path is no file".to_owned() }.into());
    }
    let mut bytes = Vec::with_capacity(VALUE_BYTES_MAX + 2);
    file.take(VALUE_BYTES_MAX as u64 + 2).read_to_end(&mut bytes).map_err(failed)?;
    let end = bytes.strip_suffix(b"\n").map_or(bytes.len(), |rest| rest.strip_suffix(b"\r").unwrap_or(rest).len());
    bytes.truncate(end);
    SecretValue::from_bytes(bytes).map_err(|error| Problem::SecretUnusable { name: name.to_owned(), reason: error.to_string() }.into())
}

impl Workspace {
    /// Gathers every secret's value: what is given now, files, then what the supervisor the workspace has now holds.
    pub(crate) async fn gather_secrets(&self, record: &WorkspaceRecord, mut given: Values) -> Result<Values> {
        if let Some(name) = given.keys().find(|name| !record.secrets.iter().any(|secret| secret.name == **name)) {
            return Err(Error::from(Problem::NoSuchSecret { name: name.clone() }).about(self.label()));
        }
        given.iter().try_for_each(|(name, value)| long_enough(name, value)).map_err(|error| error.about(self.label()))?;
        for secret in &record.secrets {
            if let SecretSource::File(path) = &secret.source
                && !given.contains_key(&secret.name)
            {
                let value = read(&secret.name, path).map_err(|error| error.about(self.label()))?;
                // A workspace that was made with a shorter one goes on as it is.
                if record.state == WorkspaceState::Creating {
                    long_enough(&secret.name, &value).map_err(|error| error.about(self.label()))?;
                }
                given.insert(secret.name.clone(), value);
            }
        }
        let is_missing = |given: &Values, secret: &&SecretRecord| !given.contains_key(&secret.name);
        if record.secrets.iter().any(|secret| is_missing(&given, &secret)) && record.state == WorkspaceState::Running {
            for (name, value) in self.take_secrets(record).await? {
                given.entry(name).or_insert(value);
            }
        }
        let missing: Vec<String> =
            record.secrets.iter().filter(|secret| is_missing(&given, secret)).map(|secret| secret.name.clone()).collect();
        if missing.is_empty() {
            return Ok(given);
        }
        // What was said with this request is not kept, either.
        let is_literal = |secret: &&SecretRecord| secret.source == SecretSource::Literal;
        let literals = record.secrets.iter().filter(is_literal).map(|secret| secret.name.clone()).collect();
        Err(Error::from(Problem::SecretsUnavailable { workspace: self.label().to_owned(), names: missing, literals }).about(self.label()))
    }

    async fn take_secrets(&self, record: &WorkspaceRecord) -> Result<Values> {
        const OPERATION: &str = "take over the secrets of";
        let call = |mut client: Client| async move { client.take_secrets(TakeSecretsRequest {}).await };
        let mut secrets = self.ask(record, OPERATION, ANSWER_DEADLINE, call).await?;
        let failed = |text: String| Error::workspace(OPERATION, self.label(), ErrorKind::MachineFailed, Cause::new(text));
        let mut values = Values::new();
        while let Some(secret) = secrets.message().await.map_err(|status| failed(status.message().to_owned()))? {
            let value = SecretValue::from_bytes(secret.value.to_vec()).map_err(|error| failed(error.to_string()))?;
            values.insert(secret.name, value);
        }
        Ok(values)
    }

    /// Gives secrets to a machine that will be asked to adopt the workspace.
    pub(crate) async fn give_secrets(
        &self,
        operation: &'static str,
        machine: &MachineId,
        client: &mut Client,
        secrets: &Values,
    ) -> Result<()> {
        for (name, value) in secrets {
            let message = Message { name: name.clone(), value: Bytes::copy_from_slice(value.expose().as_bytes()) };
            if let Err(status) = client.give_secret(message).await {
                return Err(self.pyro().call_failed(machine, operation, self.label(), &status).await);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::NetworkPolicy;

    #[test]
    fn value_that_is_too_short_is_refused_and_not_repeated() {
        for secret in ["A=x1y", "A=q", "A=  zz  "] {
            let error = planned(&request(&[secret], &[], &[])).unwrap_err();
            let text = format!("{error} {:?} {}", error.causes(), error.hint());
            assert!(text.contains("`A`") && text.contains("4 bytes") && !text.contains(secret.trim_start_matches("A=").trim()), "{text}");
        }
        assert!(planned(&request(&["A=1234"], &[], &[])).is_ok());
    }

    fn request(secrets: &[&str], hosts: &[&str], headers: &[&str]) -> WorkspaceCreate {
        WorkspaceCreate {
            secrets: secrets.iter().map(|text| text.parse().unwrap()).collect(),
            secret_hosts: hosts.iter().map(|text| text.parse().unwrap()).collect(),
            secret_headers: headers.iter().map(|text| text.parse().unwrap()).collect(),
            network_policy: NetworkPolicy::Egress,
            ..WorkspaceCreate::new("debian:12".parse().unwrap())
        }
    }

    #[test]
    fn hosts_and_headers_find_their_secret() {
        let (records, values) = planned(&request(&["A=1111", "B=2222"], &["B=api.example.com"], &["B=X-Key"])).unwrap();
        assert_eq!(values.len(), 2);
        assert_eq!(records[0].outside, None);
        let outside = records[1].outside.as_ref().unwrap();
        assert_eq!((outside.hosts.as_slice(), outside.header.as_str()), (&["api.example.com:443".to_owned()][..], "x-key"));
        let (again, _) = planned(&request(&["A=1111"], &["api.example.com:8443"], &[])).unwrap();
        let other = again[0].outside.as_ref().unwrap();
        assert_eq!((other.hosts.as_slice(), other.header.as_str()), (&["api.example.com:8443".to_owned()][..], "authorization"));
        assert_ne!(outside.placeholder, other.placeholder);
    }

    #[test]
    fn a_host_that_cannot_be_reached_is_told_of() {
        let (records, _) = planned(&request(&["A=1111"], &["api.example.com"], &[])).unwrap();
        let rules = |only_allowed, allow: &[&str]| NetworkRules {
            only_allowed,
            allow: allow.iter().map(ToString::to_string).collect(),
            ..NetworkRules::default()
        };
        for allow in [&["api.example.com"][..], &["*.example.com:443"], &["other.example"][..0], &["203.0.113.0/24"]] {
            assert!(check_reach(&records, &rules(!allow.is_empty(), allow)).is_ok(), "{allow:?}");
        }
        let denied = NetworkRules { deny: vec!["*.example.com".into()], ..rules(false, &[]) };
        assert!(check_reach(&records, &denied).unwrap_err().to_string().contains("deny rule"));
        for allow in [&["other.example.com"][..], &["api.example.com:80"], &[]] {
            let error = check_reach(&records, &rules(true, allow)).unwrap_err();
            assert!(error.to_string().contains("api.example.com:443"), "{error}");
        }
    }

    #[test]
    fn what_is_unclear_is_refused() {
        for (secrets, hosts, headers) in [
            (&["A=1", "A=2"][..], &[][..], &[][..]),
            (&["A=1", "B=2"], &["api.example.com"], &[]),
            (&["A=1"], &["C=api.example.com"], &[]),
            (&["A=1"], &[], &["X-Key"]),
            (&["A"], &[], &[]),
        ] {
            assert!(planned(&request(secrets, hosts, headers)).is_err(), "{secrets:?} {hosts:?} {headers:?}");
        }
        let offline = WorkspaceCreate { network_policy: NetworkPolicy::Off, ..request(&["A=1"], &["api.example.com"], &[]) };
        assert!(planned(&offline).is_err());
    }

    #[test]
    fn a_files_last_line_end_is_not_part_of_the_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        for (content, value) in [("abc\n", "abc"), ("abc\r\n", "abc"), ("abc", "abc"), ("a\nb\n\n", "a\nb\n")] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(read("TOKEN", &path).unwrap().expose(), value);
        }
        for content in [vec![], b"\n".to_vec(), vec![0xff], vec![b'x'; VALUE_BYTES_MAX + 1]] {
            std::fs::write(&path, content).unwrap();
            assert!(read("TOKEN", &path).is_err());
        }
        assert!(read("TOKEN", folder.path()).is_err());
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(read("TOKEN", &pipe).is_err());
    }
}
