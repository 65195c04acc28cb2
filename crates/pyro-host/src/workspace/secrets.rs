//! Secrets of a workspace: held in this process alone, put into the guest's memory, handed to the workspace's next supervisor, and taken
//! out of everything the guest says.
//!
//! A client gives them before it asks to adopt; whoever has them as files reads them anew for each machine. Nothing here writes one down.

use std::{borrow::Cow, collections::BTreeMap};

use bytes::Bytes;
use pyro_proto::{
    error::Failure,
    v1::{EnvironmentVariable, ExecExit, SecretValue as Message, SecretVariable},
};
use pyro_secret::{RedactedStream, Redactor, RedactorError, SecretName, SecretValue};
use pyro_store::WorkspaceRecord;
use serde_json::Value;
use tokio::sync::mpsc;
use tonic::Status;

use super::{Supervisor, network::Outside};
use crate::{
    error::{HostError, HostResult},
    lock,
};

/// Most secrets of a workspace.
const SECRETS_MAX: usize = 64;
/// The shortest value that is looked for in what a caller has written: a shorter one stands in ordinary text by chance.
const TELLING_BYTES_MIN: usize = 6;

/// What the guest has instead of a value that stays outside.
pub(super) type Placeholders = BTreeMap<SecretName, String>;

/// What a workspace has.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    values: BTreeMap<SecretName, SecretValue>,
    placeholders: Placeholders,
    /// Takes out every value.
    redactor: Redactor,
    /// Takes out those that the guest has.
    inside: Redactor,
}

impl Secrets {
    fn new(values: BTreeMap<SecretName, SecretValue>, placeholders: Placeholders) -> HostResult<Self> {
        let failed = |error: RedactorError| HostError::Invalid { problem: error.to_string() };
        let redactor = Redactor::new(values.values()).map_err(failed)?;
        let inside = if placeholders.is_empty() {
            redactor.clone()
        } else {
            let handed_in = values.iter().filter(|(name, _)| !placeholders.contains_key(*name)).map(|(_, value)| value);
            Redactor::new(handed_in).map_err(failed)?
        };
        Ok(Self { values, placeholders, redactor, inside })
    }

    /// Returns what the guest has for a secret: its value, or what stands for it.
    fn inside(&self, name: &str) -> Option<Bytes> {
        let (name, value) = self.values.iter().find(|(known, _)| known.as_str() == name)?;
        let text = self.placeholders.get(name).map_or_else(|| value.expose(), String::as_str);
        Some(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl Supervisor {
    /// Takes a secret for the workspace that will adopt this machine.
    pub(super) fn give_secret(&self, secret: Message) -> HostResult<()> {
        let invalid = |error: &dyn std::error::Error| HostError::Invalid { problem: error.to_string() };
        if self.workspace.get().is_some() {
            return Err(HostError::WrongState { problem: "this machine has its workspace already".into() });
        }
        let name: SecretName = secret.name.parse().map_err(|error| invalid(&error))?;
        let value = SecretValue::from_bytes(secret.value.to_vec()).map_err(|error| invalid(&error))?;
        let mut given = lock(&self.given_secrets);
        if given.len() >= SECRETS_MAX && !given.contains_key(&name) {
            return Err(HostError::TooMany { what: "secrets", maximum: SECRETS_MAX });
        }
        given.insert(name, value);
        Ok(())
    }

    /// Hands every secret over, for the workspace's next supervisor or that of a copy.
    pub(super) fn hand_secrets_over(&self) -> HostResult<mpsc::Receiver<Result<Message, Status>>> {
        self.adopted()?;
        let values = &self.secrets().values;
        let (sender, receiver) = mpsc::channel(values.len().max(1));
        for (name, value) in values {
            let secret = Message { name: name.to_string(), value: Bytes::copy_from_slice(value.expose().as_bytes()) };
            // There is room for all.
            drop(sender.try_send(Ok(secret)));
        }
        Ok(receiver)
    }

    /// Makes the secrets that were given the workspace's. Returns what stands between it and the hosts they are sent to.
    pub(super) fn take_secrets(&self, record: &WorkspaceRecord) -> HostResult<Option<Outside>> {
        let values = std::mem::take(&mut *lock(&self.given_secrets));
        if values.is_empty() && record.secrets.is_empty() {
            return Ok(None);
        }
        if let Some(missing) = record.secrets.iter().find(|secret| !values.keys().any(|name| name.as_str() == secret.name)) {
            return Err(HostError::WrongState { problem: format!("the secret `{}` was not given", missing.name) });
        }
        // Neither this process nor a child of it leaves a core file from now on.
        let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
        let outside = Outside::new(record, &values, self.settings().certificates.as_deref())?;
        let placeholders = outside.as_ref().map(|outside| outside.placeholders.clone()).unwrap_or_default();
        let set_once = self.secrets.set(Secrets::new(values, placeholders)?).is_ok();
        debug_assert!(set_once, "a machine is adopted once");
        Ok(outside)
    }

    /// Puts the secrets into the guest.
    pub(super) async fn place_secrets(&self) -> HostResult<()> {
        let secrets = self.secrets();
        for name in secrets.values.keys() {
            let Some(value) = secrets.inside(name.as_str()) else { continue };
            self.agent()?.put_secret(Message { name: name.to_string(), value }).await?;
        }
        Ok(())
    }

    pub(super) fn secrets(&self) -> &Secrets {
        static NONE: std::sync::OnceLock<Secrets> = std::sync::OnceLock::new();
        self.secrets.get().unwrap_or_else(|| NONE.get_or_init(Secrets::default))
    }

    /// Returns the variables by which a command gets secrets.
    pub(super) fn secret_variables(&self, wanted: &[SecretVariable]) -> HostResult<Vec<EnvironmentVariable>> {
        let secrets = self.secrets();
        let variable = |wanted: &SecretVariable| {
            let value = secrets.inside(&wanted.secret);
            let value = value.ok_or_else(|| HostError::NoSecret { name: wanted.secret.chars().take(64).collect() })?;
            Ok(EnvironmentVariable { name: wanted.variable.clone(), value })
        };
        wanted.iter().map(variable).collect()
    }

    /// Returns what takes secrets out of a stream.
    pub(super) fn redacted(&self) -> RedactedOutput {
        let secrets = self.secrets();
        RedactedOutput { stream: secrets.inside.stream(), whole: (!secrets.placeholders.is_empty()).then(|| secrets.redactor.clone()) }
    }

    /// Takes secrets out of a text.
    pub(super) fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.secrets().redactor.redact_text(text)
    }

    pub(super) fn redact_exit(&self, mut exit: ExecExit) -> ExecExit {
        exit.spawn_message = self.redact(&exit.spawn_message).into_owned();
        exit
    }

    pub(super) fn redact_failure(&self, mut failure: Failure) -> Failure {
        failure.message = self.redact(&failure.message).into_owned();
        failure.causes = failure.causes.iter().map(|cause| self.redact(cause).into_owned()).collect();
        failure
    }

    /// Finds a secret whose value is written out in a text of a value.
    pub(super) fn secret_in(&self, value: &Value) -> Option<&SecretName> {
        match value {
            Value::String(text) => {
                let mut secrets = self.secrets().values.iter();
                let is_in = |value: &SecretValue| value.expose().len() >= TELLING_BYTES_MIN && text.contains(value.expose());
                secrets.find(|(_, value)| is_in(value)).map(|(name, _)| name)
            }
            Value::Array(values) => values.iter().find_map(|value| self.secret_in(value)),
            Value::Object(fields) => fields.values().find_map(|value| self.secret_in(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => None,
        }
    }

    /// Takes secrets out of every text of a value.
    pub(super) fn redact_value(&self, value: &mut Value) {
        if self.secrets().redactor.is_empty() {
            return;
        }
        match value {
            Value::String(text) => {
                if let Cow::Owned(redacted) = self.redact(text) {
                    *text = redacted;
                }
            }
            Value::Array(values) => values.iter_mut().for_each(|value| self.redact_value(value)),
            Value::Object(fields) => fields.values_mut().for_each(|value| self.redact_value(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// What a guest says, without secrets.
///
/// Of a value that is in the guest, what may be its beginning is held back until more comes. Of one that stays outside it is not: whoever
/// can make the guest say something would see by what is held back whether it begins the value, and find it letter by letter. Such a
/// value can only come from elsewhere, and is taken out where it stands in one piece.
#[derive(Debug)]
pub(super) struct RedactedOutput {
    stream: RedactedStream,
    whole: Option<Redactor>,
}

impl RedactedOutput {
    /// Takes the next bytes and returns what may be shown now; a chunk that has no secret is passed on as it is.
    pub(super) fn push(&mut self, chunk: Bytes) -> Bytes {
        let shown = match self.stream.push(&chunk) {
            Cow::Borrowed(shown) => chunk.slice_ref(shown),
            Cow::Owned(shown) => shown.into(),
        };
        self.without_whole(shown)
    }

    /// Returns what was held back.
    pub(super) fn finish(&mut self) -> Bytes {
        let rest = self.stream.finish().into();
        self.without_whole(rest)
    }

    fn without_whole(&self, shown: Bytes) -> Bytes {
        let Some(redactor) = &self.whole else { return shown };
        match redactor.redact_bytes(&shown) {
            Cow::Borrowed(_) => shown,
            Cow::Owned(redacted) => redacted.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_a_value_outside_is_shown_like_anything_else() {
        let value = |text: &str| SecretValue::new(text.to_owned()).unwrap();
        let name = |text: &str| text.parse::<SecretName>().unwrap();
        let values = BTreeMap::from([(name("IN"), value("inside-value")), (name("OUT"), value("outside~value"))]);
        let secrets = Secrets::new(values, BTreeMap::from([(name("OUT"), "pyro-secret-OUT-0".to_owned())])).unwrap();
        let mut output = RedactedOutput { stream: secrets.inside.stream(), whole: Some(secrets.redactor.clone()) };
        // The base64 of the other one may begin with a letter.
        assert_eq!(output.push("a outside~".into()), "a outside~");
        assert_eq!(output.push("x inside-val".into()), "x ");
        assert_eq!(output.push("ue outside~value".into()), "[REDACTED] [REDACTED]");
        assert!(output.finish().is_empty());
    }
}
