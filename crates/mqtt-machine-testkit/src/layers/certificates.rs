//! Owns certificates of every kind, good and bad, made on the spot. It must not know who shows them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mqtt_machine_transport::rustls::client::WebPkiServerVerifier;
use mqtt_machine_transport::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use mqtt_machine_transport::rustls::server::WebPkiClientVerifier;
use mqtt_machine_transport::rustls::{
    ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion, crypto,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PKCS_ED25519, RevokedCertParams, SerialNumber, SignatureAlgorithm, date_time_ymd,
};

/// One that issues certificates.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    algorithm: &'static SignatureAlgorithm,
}

/// A certificate with its key.
#[derive(Debug)]
pub struct Leaf {
    /// What is shown.
    pub certificate: rcgen::Certificate,
    /// What proves it.
    pub key: KeyPair,
    serial: Vec<u8>,
}

impl Authority {
    /// An authority of this name, with a key of its own.
    pub fn new(name: &str) -> Self {
        Self::signing(name, &PKCS_ECDSA_P256_SHA256)
    }

    /// The same whose signatures, and those of its leaves, all have one length, so that every handshake has.
    pub fn of_one_length(name: &str) -> Self {
        Self::signing(name, &PKCS_ED25519)
    }

    fn signing(name: &str, algorithm: &'static SignatureAlgorithm) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate_for(algorithm).unwrap();
        Self { issuer: CertifiedIssuer::self_signed(params, key).unwrap(), algorithm }
    }

    /// Its own certificate in PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    fn der(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    /// For a server of these names, valid from the first day of `first` to that of `last`.
    pub fn server_between(&self, names: &[&str], first: i32, last: i32) -> Leaf {
        let mut params =
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        params.not_before = date_time_ymd(first, 1, 1);
        params.not_after = date_time_ymd(last, 1, 1);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(&params)
    }

    /// For a server of these names, valid now.
    pub fn server(&self, names: &[&str]) -> Leaf {
        self.server_between(names, 1975, 4096)
    }

    /// For a client of this name.
    pub fn client(&self, name: &str) -> Leaf {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&params)
    }

    /// A configuration of somebody's own, who knows that these are revoked.
    pub fn client_config_with_revoked(&self, revoked: &[&Leaf]) -> ClientConfig {
        let of = |leaf: &&Leaf| RevokedCertParams {
            serial_number: SerialNumber::from_slice(leaf.serial.as_slice()),
            revocation_time: date_time_ymd(2000, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2000, 1, 1),
            next_update: date_time_ymd(4000, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(of).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(self.der()).unwrap();
        let provider = Arc::new(crypto::ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .with_crls([list.der().clone()])
            .build()
            .unwrap();
        ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_webpki_verifier(verifier)
            .with_no_client_auth()
    }

    fn sign(&self, params: &CertificateParams) -> Leaf {
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed).to_be_bytes().to_vec();
        let mut params = params.clone();
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let key = KeyPair::generate_for(self.algorithm).unwrap();
        Leaf { certificate: params.signed_by(&key, &self.issuer).unwrap(), key, serial }
    }
}

/// What a server with this certificate does about TLS: the versions that it speaks, and whose clients it wants to see a
/// certificate of.
pub fn server_config(
    leaf: &Leaf,
    versions: &[&'static SupportedProtocolVersion],
    client_ca: Option<&Authority>,
) -> ServerConfig {
    let provider = Arc::new(crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions).unwrap();
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            roots.add(ca.der()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(leaf.key.serialize_der()));
    builder.with_single_cert(vec![leaf.certificate.der().clone()], key).unwrap()
}
