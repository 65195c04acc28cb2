//! Texts about secrets: what a request says of them. Their values are never shown, neither by `Debug` nor by serialization.

use std::{borrow::Cow, fmt, path::PathBuf, str::FromStr};

use pyro_secret::{SecretName, SecretValue};
use pyro_store::IdError;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{
    network_text::NetworkRule,
    text::{refuse, text_type},
};

const NAME_RULE: &str = "1 to 64 of A-Z a-z 0-9 and _, beginning with a letter or _";

/// Does not repeat what was said: whoever forgot the name said the value.
fn name(text: &str) -> Result<SecretName, IdError> {
    text.parse().map_err(|_| refuse("…", "name of a secret", NAME_RULE))
}

/// A secret that is said: `NAME=VALUE`, or `NAME` for the value of the variable of that name.
#[derive(Debug, Clone)]
pub struct LiteralSecret {
    /// Its name.
    pub name: SecretName,
    /// Its value; without one the edge looks it up in its environment.
    pub value: Option<SecretValue>,
}

impl LiteralSecret {
    fn new(name_text: &str, value: String) -> Result<Self, IdError> {
        let name = name(name_text)?;
        // The value is not repeated: the message may be logged.
        let value = SecretValue::new(value).map_err(|_| refuse(name_text, "secret", "a name with a value of 4 bytes to 64 KiB"))?;
        Ok(Self { name, value: Some(value) })
    }
}

impl FromStr for LiteralSecret {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        match text.split_once('=') {
            Some((name, value)) => Self::new(name, value.to_owned()),
            None => Ok(Self { name: name(text)?, value: None }),
        }
    }
}

/// Secrets that are said are an object in JSON: names with values, or with `null` for that of a variable.
pub(crate) mod literal_map {
    use std::collections::BTreeMap;

    use super::{Deserialize as _, Deserializer, LiteralSecret, Serializer};

    pub(crate) fn serialize<S: Serializer>(secrets: &[LiteralSecret], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(secrets.iter().map(|secret| (secret.name.as_str(), pyro_secret::REDACTED)))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<LiteralSecret>, D::Error> {
        use serde::de::Error as _;
        let map = BTreeMap::<String, Option<String>>::deserialize(deserializer)?;
        let secret = |(name, value): (String, Option<String>)| match value {
            Some(value) => LiteralSecret::new(&name, value),
            None => name.parse(),
        };
        map.into_iter().map(|entry| secret(entry).map_err(D::Error::custom)).collect()
    }
}

/// A secret that is the content of a file on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretFile {
    /// Its name.
    pub name: SecretName,
    /// Where its value is.
    pub path: PathBuf,
}

impl FromStr for SecretFile {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        match text.split_once('=') {
            Some((name_text, path)) if !path.is_empty() => Ok(Self { name: name(name_text)?, path: path.into() }),
            _ => Err(refuse(text, "secret file", "a name and a path: `NAME=PATH`")),
        }
    }
}

/// Secrets in files are an object in JSON: names with paths.
pub(crate) mod file_map {
    use std::collections::BTreeMap;

    use super::{Deserialize as _, Deserializer, SecretFile, Serializer, name};

    pub(crate) fn serialize<S: Serializer>(secrets: &[SecretFile], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(secrets.iter().map(|secret| (secret.name.as_str(), &secret.path)))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SecretFile>, D::Error> {
        use serde::de::Error as _;
        let map = BTreeMap::<String, std::path::PathBuf>::deserialize(deserializer)?;
        map.into_iter().map(|(text, path)| Ok(SecretFile { name: name(&text).map_err(D::Error::custom)?, path })).collect()
    }
}

/// `[NAME=]TEXT`: something about one secret, or about the only one there is.
fn about(text: &str) -> Result<(Option<SecretName>, &str), IdError> {
    match text.split_once('=') {
        Some((name_text, rest)) => Ok((Some(name(name_text)?), rest)),
        None => Ok((None, text)),
    }
}

fn told(name: Option<&SecretName>, rest: &dyn fmt::Display, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
    match name {
        Some(name) => write!(formatter, "{}={rest}", name.as_str()),
        None => write!(formatter, "{rest}"),
    }
}

/// A host that a secret is sent to, and that keeps it from entering the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretHost {
    /// Of which secret; without one, of the only one.
    pub name: Option<SecretName>,
    /// The host: a name or a wildcard, with a port if it is not 443.
    pub host: NetworkRule,
}

impl FromStr for SecretHost {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let (name, rest) = about(text)?;
        let host: NetworkRule = rest.parse()?;
        if host.is_name() {
            Ok(Self { name, host })
        } else {
            Err(refuse(text, "host of a secret", "a host name or `*.` and a suffix, which its TLS certificate proves"))
        }
    }
}

impl fmt::Display for SecretHost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        told(self.name.as_ref(), &self.host, formatter)
    }
}

text_type!(SecretHost);

/// The header in which a secret is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretHeader {
    /// Of which secret; without one, of the only one.
    pub name: Option<SecretName>,
    /// The header, in lower case.
    pub header: String,
}

impl FromStr for SecretHeader {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let (name, rest) = about(text)?;
        // RFC 9110, section 5.6.2.
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let fits = (1..=128).contains(&rest.len()) && rest.bytes().all(is_token);
        if fits {
            Ok(Self { name, header: rest.to_ascii_lowercase() })
        } else {
            Err(refuse(text, "header of a secret", "the name of an HTTP header"))
        }
    }
}

impl fmt::Display for SecretHeader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        told(self.name.as_ref(), &self.header, formatter)
    }
}

text_type!(SecretHeader);

/// A secret that a command gets as a variable: `NAME`, or `NAME=VARIABLE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretVariable {
    /// Which.
    pub name: SecretName,
    /// The variable's name.
    pub variable: String,
}

impl FromStr for SecretVariable {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let (name_text, variable) = text.split_once('=').unwrap_or((text, text));
        let name = name(name_text)?;
        // What a shell can name, as the names of secrets are.
        if variable.parse::<SecretName>().is_err() {
            return Err(refuse(text, "variable of a secret", "`NAME` or `NAME=VARIABLE`, with a variable of letters, digits and _"));
        }
        Ok(Self { name, variable: variable.to_owned() })
    }
}

impl fmt::Display for SecretVariable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.variable == self.name.as_str() {
            formatter.write_str(&self.variable)
        } else {
            write!(formatter, "{}={}", self.name.as_str(), self.variable)
        }
    }
}

impl Serialize for SecretVariable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SecretVariable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for SecretVariable {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "SecretVariable".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_neither_printed_nor_serialized() {
        let secret: LiteralSecret = "TOKEN=hunter2=x".parse().unwrap();
        assert_eq!(secret.value.as_ref().unwrap().expose(), "hunter2=x");
        assert!(!format!("{secret:?}").contains("hunter2"));
        let refused = "TO KEN=hunter2".parse::<LiteralSecret>().unwrap_err();
        assert!(!refused.to_string().contains("hunter2"), "{refused}");
        assert!("TOKEN=".parse::<LiteralSecret>().is_err());
        assert!("TOKEN".parse::<LiteralSecret>().unwrap().value.is_none());
    }

    #[test]
    fn hosts_and_headers_may_name_their_secret() {
        let host: SecretHost = "TOKEN=*.example.org:8443".parse().unwrap();
        assert_eq!((host.name.as_ref().map(SecretName::as_str), host.to_string().as_str()), (Some("TOKEN"), "TOKEN=*.example.org:8443"));
        assert_eq!("api.example.com".parse::<SecretHost>().unwrap().name, None);
        assert!("203.0.113.7".parse::<SecretHost>().is_err() && "10.0.0.0/8".parse::<SecretHost>().is_err());
        assert_eq!("X-Api-Key".parse::<SecretHeader>().unwrap().header, "x-api-key");
        assert!("a b".parse::<SecretHeader>().is_err());
    }

    #[test]
    fn a_variable_has_the_secrets_name_unless_another_is_said() {
        for (text, variable) in [("TOKEN", "TOKEN"), ("TOKEN=API_KEY", "API_KEY")] {
            let parsed: SecretVariable = text.parse().unwrap();
            assert_eq!((parsed.variable.as_str(), parsed.to_string().as_str()), (variable, text));
        }
        assert!("TOKEN=".parse::<SecretVariable>().is_err());
    }
}
