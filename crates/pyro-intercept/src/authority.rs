//! A certificate authority for one workspace, and the certificates of hosts that it makes when they are needed.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use pyro_egress::policy::Name;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use time::OffsetDateTime;

use crate::limits::{LEAVES_MAX, VALID_BEFORE, VALID_FOR};

/// The longest common name (X.520's `ub-common-name`); some clients refuse certificates with longer ones.
const COMMON_NAME_LENGTH_MAX: usize = 64;

/// A certificate authority that only one workspace trusts. Its key is made with it, is never written anywhere and ends with it.
///
/// The key's memory is freed without being wiped: neither `rcgen` nor `ring` can wipe theirs. Who reads it can pose as any host to the
/// one guest that trusts it, and such a reader has the secrets already.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    leaves: Mutex<Leaves>,
}

/// Why there is no authority, or no certificate of it.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the variants and their fields are")]
pub enum AuthorityError {
    #[error("cannot make the workspace's certificate authority")]
    Create(#[source] rcgen::Error),
    #[error("cannot make a certificate for `{name}`")]
    Mint { name: Name, source: rcgen::Error },
    #[error("cannot use the certificate made for `{name}`")]
    Use { name: Name, source: rustls::Error },
}

#[derive(Default)]
struct Leaves {
    by_name: HashMap<Name, Arc<CertifiedKey>>,
    /// Oldest first.
    order: VecDeque<Name>,
}

impl Authority {
    /// Makes an authority (ECDSA on P-256), valid from yesterday, since guests' clocks may be behind, for [`VALID_FOR`]. The name is what
    /// lists of trusted certificates show; it is cut to 64 characters.
    ///
    /// # Errors
    ///
    /// If the host has no random numbers.
    pub fn new(common_name: &str) -> Result<Self, AuthorityError> {
        let now = SystemTime::now();
        let (not_before, not_after) = (OffsetDateTime::from(now - VALID_BEFORE), OffsetDateTime::from(now + VALID_FOR));
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name.chars().take(COMMON_NAME_LENGTH_MAX).collect::<String>());
        (params.not_before, params.not_after) = (not_before, not_after);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(AuthorityError::Create)?;
        let issuer = CertifiedIssuer::self_signed(params, key).map_err(AuthorityError::Create)?;
        Ok(Self { issuer, not_before, not_after, leaves: Mutex::default() })
    }

    /// Returns the certificate for the guest's trust store.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        self.issuer.pem()
    }

    /// Returns the certificate of a host, made now or lately.
    pub(crate) fn leaf(&self, name: &Name) -> Result<Arc<CertifiedKey>, AuthorityError> {
        if let Some(leaf) = self.leaves.lock().unwrap_or_else(PoisonError::into_inner).by_name.get(name) {
            return Ok(Arc::clone(leaf));
        }
        let leaf = Arc::new(self.mint(name)?);
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        if leaves.by_name.insert(name.clone(), Arc::clone(&leaf)).is_none() {
            leaves.order.push_back(name.clone());
        }
        if leaves.order.len() > LEAVES_MAX
            && let Some(oldest) = leaves.order.pop_front()
        {
            leaves.by_name.remove(&oldest);
        }
        Ok(leaf)
    }

    fn mint(&self, name: &Name) -> Result<CertifiedKey, AuthorityError> {
        let failed = |source| AuthorityError::Mint { name: name.clone(), source };
        let mut params = CertificateParams::new([name.as_str().to_owned()]).map_err(failed)?;
        params.distinguished_name = DistinguishedName::new();
        if name.as_str().len() <= COMMON_NAME_LENGTH_MAX {
            params.distinguished_name.push(DnType::CommonName, name.as_str());
        }
        (params.not_before, params.not_after) = (self.not_before, self.not_after);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        // Python asks for it since 3.13.
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let key = rustls::crypto::ring::sign::any_ecdsa_type(&key).map_err(|source| AuthorityError::Use { name: name.clone(), source })?;
        Ok(CertifiedKey::new(vec![certificate.der().clone()], key))
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Authority").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_are_kept_and_their_number_is_bounded() {
        let authority = Authority::new("test").unwrap();
        let name = |index: usize| format!("host{index}.example.org").parse::<Name>().unwrap();
        let first = authority.leaf(&name(0)).unwrap();
        assert!(Arc::ptr_eq(&first, &authority.leaf(&name(0)).unwrap()));
        for index in 1..=LEAVES_MAX {
            authority.leaf(&name(index)).unwrap();
        }
        assert!(!Arc::ptr_eq(&first, &authority.leaf(&name(0)).unwrap()));
        let leaves = authority.leaves.lock().unwrap();
        assert_eq!((leaves.by_name.len(), leaves.order.len()), (LEAVES_MAX, LEAVES_MAX));
    }

    #[test]
    fn the_key_is_not_shown() {
        let authority = Authority::new("test").unwrap();
        assert!(authority.certificate_pem().starts_with("-----BEGIN CERTIFICATE-----"));
        assert!(!authority.certificate_pem().contains("PRIVATE"));
        assert!(!format!("{authority:?}").contains("key"));
    }
}
