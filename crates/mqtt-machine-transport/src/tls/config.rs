//! Owns what TLS trusts and shows: options in, one shared rustls configuration out. It must not know connections.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::keys::{certificates, private_key};
use crate::endpoint::{EndpointOptions, Password};
use crate::error::ConfigError;

/// How many servers' sessions are kept for resumption.
const SESSIONS: usize = 32;

/// The TLS side of a client, ready for any number of connections. Clones share one configuration, and with it the sessions
/// that later connections resume: keep it across reconnects.
#[derive(Clone)]
pub struct TlsClient(Arc<Shown>);

#[derive(Clone)]
struct Shown {
    config: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
}

impl TlsClient {
    /// With a ready configuration: its provider, verifier, keys and ALPN count, nothing here is added.
    pub fn from_config(config: Arc<ClientConfig>) -> Self {
        Self(Arc::new(Shown { config, server_name: None }))
    }

    /// The configuration that its connections share.
    pub fn config(&self) -> &Arc<ClientConfig> {
        &self.0.config
    }

    /// With another name than the URL's host for the server to prove, and to be asked for by (SNI).
    ///
    /// # Errors
    /// [`ConfigError::ServerName`] when it is neither a domain name nor an address.
    pub fn server_name(mut self, name: &str) -> Result<Self, ConfigError> {
        Arc::make_mut(&mut self.0).server_name = Some(server_name(name)?);
        Ok(self)
    }

    /// The name to prove for a server of this host.
    pub(crate) fn name_for(&self, host: &str) -> Result<ServerName<'static>, ConfigError> {
        self.0.server_name.clone().map_or_else(|| server_name(host), Ok)
    }
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsClient").field("server_name", &self.0.server_name).finish_non_exhaustive()
    }
}

fn server_name(name: &str) -> Result<ServerName<'static>, ConfigError> {
    ServerName::try_from(name.to_owned()).map_err(|_| ConfigError::ServerName)
}

/// What TLS trusts, shows and offers.
///
/// By default: the roots of the operating system (feature `native-roots`), no client certificate, no ALPN, TLS 1.2 and 1.3.
/// Files are read when the configuration is made, not before.
#[derive(Clone, Debug)]
pub struct TlsOptions {
    trust: Trust,
    identity: Option<Identity>,
    key_password: Option<Password>,
    alpn: Vec<Vec<u8>>,
    server_name: Option<String>,
}

#[derive(Clone, Debug)]
enum Trust {
    /// The roots of the operating system.
    System,
    /// These, and only these.
    Roots(Vec<Pem>),
    /// Everything.
    Anything,
}

#[derive(Clone, Debug)]
struct Identity {
    chain: Pem,
    key: Pem,
}

/// A text in PEM, or where it stands.
#[derive(Clone)]
enum Pem {
    Bytes(zeroize::Zeroizing<Vec<u8>>),
    File(PathBuf),
}

impl Pem {
    fn bytes(bytes: &[u8]) -> Self {
        Self::Bytes(zeroize::Zeroizing::new(bytes.to_vec()))
    }

    fn read(&self) -> Result<zeroize::Zeroizing<Vec<u8>>, ConfigError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.clone()),
            Self::File(path) => std::fs::read(path)
                .map(zeroize::Zeroizing::new)
                .map_err(|error| ConfigError::File { path: path.clone(), kind: error.kind() }),
        }
    }

    fn path(&self) -> Option<PathBuf> {
        match self {
            Self::Bytes(_) => None,
            Self::File(path) => Some(path.clone()),
        }
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(_) => f.write_str("Bytes(..)"),
            Self::File(path) => path.fmt(f),
        }
    }
}

impl TlsOptions {
    /// The defaults.
    pub const fn new() -> Self {
        Self { trust: Trust::System, identity: None, key_password: None, alpn: Vec::new(), server_name: None }
    }

    /// Trusting the certificates in this PEM text, and those added by further calls, instead of the system's.
    #[must_use]
    pub fn ca_pem(self, pem: &[u8]) -> Self {
        self.trusting(Pem::bytes(pem))
    }

    /// Trusting the certificates in this PEM file, and those added by further calls, instead of the system's.
    #[must_use]
    pub fn ca_file(self, path: impl Into<PathBuf>) -> Self {
        self.trusting(Pem::File(path.into()))
    }

    fn trusting(mut self, pem: Pem) -> Self {
        match &mut self.trust {
            Trust::Roots(roots) => roots.push(pem),
            Trust::System | Trust::Anything => self.trust = Trust::Roots(vec![pem]),
        }
        self
    }

    /// Accepting every certificate of every server: whoever is on the way can read and change everything. Signatures of the
    /// handshake are still checked. For tests only.
    #[must_use]
    pub fn dangerous_accept_any_certificate(mut self) -> Self {
        self.trust = Trust::Anything;
        self
    }

    /// With a client certificate (its chain, the leaf first) and its private key (PKCS#8, PKCS#1 or SEC1), both in PEM.
    #[must_use]
    pub fn client_certificate_pem(mut self, chain: &[u8], key: &[u8]) -> Self {
        self.identity = Some(Identity { chain: Pem::bytes(chain), key: Pem::bytes(key) });
        self
    }

    /// As [`client_certificate_pem`](Self::client_certificate_pem), from files.
    #[must_use]
    pub fn client_certificate_files(mut self, chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.identity = Some(Identity { chain: Pem::File(chain.into()), key: Pem::File(key.into()) });
        self
    }

    /// With the password of the client certificate's key, which is encrypted PKCS#8 (feature `encrypted-keys`).
    #[must_use]
    pub fn key_password(mut self, password: Password) -> Self {
        self.key_password = Some(password);
        self
    }

    /// Offering these protocols by ALPN, the preferred one first.
    #[must_use]
    pub fn alpn<T: Into<Vec<u8>>>(mut self, protocols: impl IntoIterator<Item = T>) -> Self {
        self.alpn = protocols.into_iter().map(Into::into).collect();
        self
    }

    /// With another name than the URL's host for the server to prove, and to be asked for by (SNI).
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// What a URL's query adds; it wins.
    #[must_use]
    pub(crate) fn with_url(mut self, url: &EndpointOptions) -> Self {
        if let Some(path) = &url.ca_file {
            self.trust = Trust::Roots(vec![Pem::File(path.clone())]);
        }
        if let Some(chain) = &url.cert_file {
            // One file may hold both.
            let key = url.key_file.as_ref().unwrap_or(chain);
            self = self.client_certificate_files(chain, key);
        }
        if let Some(protocols) = &url.alpn {
            self = self.alpn(protocols.iter().map(String::as_str));
        }
        if let Some(name) = &url.server_name {
            self = self.server_name(name);
        }
        self
    }

    /// Reads the files and makes the configuration, with the crypto provider of this crate's features: ring, or aws-lc-rs.
    ///
    /// # Errors
    /// A [`ConfigError`] that says which file, key or root.
    pub fn build(&self) -> Result<TlsClient, ConfigError> {
        self.build_with(provider().ok_or(ConfigError::NoCryptoProvider)?)
    }

    /// As [`build`](Self::build) with a crypto provider of the caller's.
    ///
    /// # Errors
    /// A [`ConfigError`] that says which file, key or root.
    pub fn build_with(&self, provider: Arc<CryptoProvider>) -> Result<TlsClient, ConfigError> {
        let verifier = AcceptAny(Arc::clone(&provider));
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(tls_error)?;
        let builder = match &self.trust {
            Trust::System => builder.with_root_certificates(system_roots()?),
            Trust::Roots(roots) => builder.with_root_certificates(read_roots(roots)?),
            Trust::Anything => builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)),
        };
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let (chain, key) = identity.read(self.key_password.as_ref())?;
                builder.with_client_auth_cert(chain, key).map_err(tls_error)?
            }
        };
        config.alpn_protocols.clone_from(&self.alpn);
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        let server_name = self.server_name.as_deref().map(server_name).transpose()?;
        Ok(TlsClient(Arc::new(Shown { config: Arc::new(config), server_name })))
    }
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl Identity {
    fn read(
        &self,
        password: Option<&Password>,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), ConfigError> {
        let in_file = |pem: &Pem| {
            let path = pem.path();
            move |error| ConfigError::Key { path, error }
        };
        let chain = certificates(&self.chain.read()?).map_err(in_file(&self.chain))?;
        let key = private_key(&self.key.read()?, password).map_err(in_file(&self.key))?;
        Ok((chain, key))
    }
}

fn tls_error(error: Error) -> ConfigError {
    ConfigError::Tls(super::map::error(error, super::ClientCertificate::None))
}

fn read_roots(texts: &[Pem]) -> Result<RootCertStore, ConfigError> {
    let mut store = RootCertStore::empty();
    for pem in texts {
        let failed = |error| ConfigError::Key { path: pem.path(), error };
        for certificate in certificates(&pem.read()?).map_err(failed)? {
            store.add(certificate).map_err(tls_error)?;
        }
    }
    Ok(store)
}

#[cfg(feature = "native-roots")]
fn system_roots() -> Result<RootCertStore, ConfigError> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    // Systems carry a few certificates that rustls does not take; the others count.
    store.add_parsable_certificates(found.certs);
    if store.is_empty() { Err(ConfigError::NoSystemRoots) } else { Ok(store) }
}

#[cfg(not(feature = "native-roots"))]
const fn system_roots() -> Result<RootCertStore, ConfigError> {
    Err(ConfigError::NoSystemRoots)
}

#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
fn provider() -> Option<Arc<CryptoProvider>> {
    Some(Arc::new(rustls::crypto::ring::default_provider()))
}

/// Who asks for it has ring as well, unless the default features are off.
#[cfg(feature = "aws-lc-rs")]
fn provider() -> Option<Arc<CryptoProvider>> {
    Some(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
}

/// Without one of ours, the process may have one installed.
#[cfg(not(any(feature = "ring", feature = "aws-lc-rs")))]
fn provider() -> Option<Arc<CryptoProvider>> {
    CryptoProvider::get_default().cloned()
}

/// Accepts every certificate, and checks that the server holds the key of the one that it shows.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
