//! Whom upstreams' certificates must lead back to.
//!
//! The host's own bundle is read by its usual places and not by `SSL_CERT_FILE`: only the command line's edge reads the environment, and
//! hands in what it finds there.

use std::io;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Where distributions keep the bundle that their administrator's certificates are part of: Debian, Fedora, openSUSE, Alpine.
const BUNDLES: [&str; 4] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"];

/// The certificates that an upstream's must lead back to.
#[derive(Debug, Clone)]
pub struct Roots(pub(crate) RootCertStore);

/// Why there are no [`Roots`].
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the variants and their fields are")]
pub enum RootsError {
    #[error("cannot find the host's certificates in any of {}", BUNDLES.join(", "))]
    NoBundle,
    #[error("cannot read the certificates in `{path}`")]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot read certificates as PEM")]
    Pem(#[source] rustls::pki_types::pem::Error),
    #[error("none of the certificates handed in can be used as a root")]
    Unusable,
}

impl Roots {
    /// Returns no roots: every upstream fails verification until some are added.
    #[must_use]
    pub fn none() -> Self {
        Self(RootCertStore::empty())
    }

    /// Reads the host's own.
    ///
    /// # Errors
    ///
    /// If there is no bundle in the usual places, or it cannot be read.
    pub fn of_host() -> Result<Self, RootsError> {
        let path = BUNDLES.iter().map(Path::new).find(|path| path.exists()).ok_or(RootsError::NoBundle)?;
        let pem = std::fs::read(path).map_err(|source| RootsError::Read { path: path.to_owned(), source })?;
        let mut roots = Self::none();
        roots.add_pem(&pem)?;
        Ok(roots)
    }

    /// Adds the certificates in a PEM text, and skips those of kinds that nothing can be verified with.
    ///
    /// # Errors
    ///
    /// If it is no PEM, or none of its certificates can be used.
    pub fn add_pem(&mut self, pem: &[u8]) -> Result<(), RootsError> {
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(RootsError::Pem)?;
        let (added, _) = self.0.add_parsable_certificates(certificates);
        if added == 0 { Err(RootsError::Unusable) } else { Ok(()) }
    }

    /// Returns how many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_refused() {
        assert!(matches!(Roots::none().add_pem(b"nothing"), Err(RootsError::Unusable)));
        assert!(matches!(Roots::none().add_pem(b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----"), Err(RootsError::Pem(_))));
    }
}
