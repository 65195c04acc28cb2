//! Certificate authorities a guest trusts beside its environment's: those that the host's administrator added. Many networks look into TLS
//! with an authority of their own; without it no package manager works behind them.

use std::path::Path;

use pyro_proto::{pem::certificates, v1::EnvironmentVariable};

/// Where administrators put certificates: Debian's, Fedora's and Arch's places.
const FOLDERS: [&str; 3] =
    ["/usr/local/share/ca-certificates", "/etc/pki/ca-trust/source/anchors", "/etc/ca-certificates/trust-source/anchors"];
/// Where the host keeps all it trusts: Debian's and Fedora's places.
const BUNDLES: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];
/// What a request to the agent has room for beside everything else.
const BYTES_MAX: u64 = 1 << 20;
/// How deep Debian's tools look for certificates.
const DEPTH_MAX: usize = 4;

/// Where the guest's bundle is.
const GUEST_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Variables by which programs that bring a bundle of their own are told of another: OpenSSL's and Python's, then those of curl, Requests,
/// pip, Node.js, Cargo, the AWS SDKs and Deno.
const VARIABLES: [&str; 8] = [
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "NODE_EXTRA_CA_CERTS",
    "CARGO_HTTP_CAINFO",
    "AWS_CA_BUNDLE",
    "DENO_CERT",
];

/// What a guest is to trust.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::workspace) struct Certificates {
    /// PEM.
    pub(in crate::workspace) authorities: String,
    /// What an environment without a bundle begins with.
    pub(in crate::workspace) bundle: String,
}

impl Certificates {
    /// Reads the authorities that the host's administrator added, PEM. What cannot be read is left out: a guest without it says so when it
    /// matters. `own` is a file that the configuration names.
    pub(in crate::workspace) fn of_host(own: Option<&Path>) -> String {
        let mut authorities = String::new();
        for folder in FOLDERS {
            collect(Path::new(folder), DEPTH_MAX, &mut authorities);
        }
        if let Some(text) = own.and_then(read) {
            add(&text, &mut authorities);
        }
        authorities
    }

    /// Trusts these authorities, PEM, and has the host's bundle beside them if there are any.
    pub(in crate::workspace) fn trusting(authorities: String) -> Self {
        let bundle = if authorities.is_empty() { None } else { BUNDLES.iter().find_map(|path| read(Path::new(path))) };
        Self { authorities, bundle: bundle.unwrap_or_default() }
    }

    /// Returns what a command needs in its environment to trust them.
    pub(in crate::workspace) fn variables(&self) -> Vec<EnvironmentVariable> {
        if self.authorities.is_empty() {
            return Vec::new();
        }
        VARIABLES.map(|name| EnvironmentVariable { name: name.to_owned(), value: GUEST_BUNDLE.into() }).into()
    }
}

fn collect(folder: &Path, depth: usize, found: &mut String) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            if depth > 1 {
                collect(&path, depth - 1, found);
            }
        } else if let Some(text) = read(&path) {
            add(&text, found);
        }
    }
}

/// Adds the certificates of a text.
fn add(text: &str, found: &mut String) {
    for certificate in certificates(text) {
        if (found.len() + certificate.len()) as u64 <= BYTES_MAX {
            found.push_str(certificate);
            found.push('\n');
        }
    }
}

pub(super) fn read(path: &Path) -> Option<String> {
    let status = std::fs::metadata(path).ok()?;
    if !status.is_file() || status.len() > BYTES_MAX {
        return None;
    }
    std::fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    use pyro_proto::pem::{CERTIFICATE_BEGIN, CERTIFICATE_END};

    use super::*;

    #[test]
    fn certificates_of_a_folder_are_collected_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let certificate = |body: &str| format!("{CERTIFICATE_BEGIN}\n{body}\n{CERTIFICATE_END}\n");
        std::fs::create_dir(folder.path().join("deeper")).unwrap();
        std::fs::write(folder.path().join("a.crt"), format!("subject=x\n{}{}", certificate("A"), certificate("B"))).unwrap();
        std::fs::write(folder.path().join("deeper/c.pem"), certificate("C")).unwrap();
        std::fs::write(folder.path().join("key.pem"), "-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n").unwrap();
        std::fs::write(folder.path().join("torn.crt"), CERTIFICATE_BEGIN).unwrap();
        std::fs::write(folder.path().join("binary.crt"), [0xff, 0xfe]).unwrap();
        let mut found = String::new();
        collect(folder.path(), DEPTH_MAX, &mut found);
        assert_eq!(found, certificate("A") + &certificate("B") + &certificate("C"));
    }

    #[test]
    fn commands_are_told_of_the_bundle_only_if_there_is_something_to_trust() {
        assert!(Certificates::default().variables().is_empty());
        let some = Certificates { authorities: "x".into(), ..Certificates::default() };
        assert!(some.variables().iter().any(|variable| variable.name == "SSL_CERT_FILE"));
    }
}
