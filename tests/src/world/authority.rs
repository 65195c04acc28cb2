//! The authority that signs for the world's servers: a certificate for whatever name a client asks for.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio_rustls::rustls::{
    ServerConfig,
    crypto::ring::sign::any_supported_type,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

/// The name that a server goes by when its client names none.
const NAMELESS: &str = "nameless.test";
/// Servers below this name sign for themselves.
const UNTRUSTED: &str = ".untrusted.test";

#[derive(Debug, Clone)]
pub(super) struct Authority {
    issuer: Arc<CertifiedIssuer<'static, KeyPair>>,
    certificate: String,
}

impl Authority {
    pub(super) fn new() -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).expect("no names are no problem");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(rcgen::DnType::CommonName, "the world of a test");
        let key = KeyPair::generate().expect("ring makes keys");
        let issuer = CertifiedIssuer::self_signed(parameters, key).expect("ring signs");
        let certificate = issuer.pem();
        Self { issuer: Arc::new(issuer), certificate }
    }

    pub(super) fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Returns a configuration that speaks HTTP/2 and HTTP/1.1.
    pub(super) fn server(&self) -> Arc<ServerConfig> {
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let versions = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("ring knows both");
        let mut configuration = versions.with_no_client_auth().with_cert_resolver(Arc::new(self.clone()));
        configuration.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(configuration)
    }
}

impl ResolvesServerCert for Authority {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().unwrap_or(NAMELESS).to_owned();
        let key = KeyPair::generate().ok()?;
        let untrusted = name.ends_with(UNTRUSTED);
        let parameters = CertificateParams::new(vec![name]).ok()?;
        let certificate = if untrusted { parameters.self_signed(&key) } else { parameters.signed_by(&key, &self.issuer) }.ok()?;
        let key = any_supported_type(&PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()))).ok()?;
        Some(Arc::new(CertifiedKey::new(vec![certificate.der().clone()], key)))
    }
}
