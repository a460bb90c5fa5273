//! Owns the translation of rustls' errors into ours. It must not decide what an error leads to.

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

use super::ClientCertificate;
use crate::layer::{TlsAlert, TlsError, quoted};

/// How many of a certificate's names an error quotes.
const NAMES: usize = 8;

pub(super) fn error(error: Error, certificate: ClientCertificate) -> TlsError {
    match error {
        Error::InvalidCertificate(error) => certificate_error(error),
        Error::NoCertificatesPresented => TlsError::BadCertificate("the server has none".to_owned()),
        Error::AlertReceived(alert) => alert_error(alert, certificate),
        Error::PeerIncompatible(why) => TlsError::Incompatible(format!("{why:?}")),
        Error::NoApplicationProtocol => TlsError::NoApplicationProtocol,
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) => TlsError::NotTls,
        Error::DecryptError => TlsError::Misbehaved("a record cannot be decrypted".to_owned()),
        Error::InvalidMessage(_)
        | Error::PeerMisbehaved(_)
        | Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. }
        | Error::PeerSentOversizedRecord => TlsError::Misbehaved(quoted(&error.to_string())),
        error => TlsError::Other(quoted(&error.to_string())),
    }
}

fn certificate_error(error: CertificateError) -> TlsError {
    use CertificateError as E;
    match error {
        E::UnknownIssuer => TlsError::UnknownIssuer,
        E::Expired | E::ExpiredContext { .. } => TlsError::Expired,
        E::NotValidYet | E::NotValidYetContext { .. } => TlsError::NotYetValid,
        E::Revoked => TlsError::Revoked,
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => TlsError::WrongPurpose,
        E::BadSignature
        | E::UnsupportedSignatureAlgorithmContext { .. }
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => TlsError::BadSignature,
        E::NotValidForName => {
            TlsError::WrongName { expected: "the name of the server".to_owned(), presented: Vec::new() }
        }
        E::NotValidForNameContext { expected, presented } => TlsError::WrongName {
            expected: quoted(&expected.to_str()),
            presented: presented.iter().take(NAMES).map(|name| quoted(name)).collect(),
        },
        error => TlsError::BadCertificate(quoted(&error.to_string())),
    }
}

fn alert_error(alert: AlertDescription, certificate: ClientCertificate) -> TlsError {
    use AlertDescription as A;
    let number = TlsAlert(u8::from(alert));
    match (alert, certificate) {
        (A::CertificateRequired, _) => TlsError::ClientCertificateRequired,
        (A::NoApplicationProtocol, _) => TlsError::NoApplicationProtocol,
        (A::ProtocolVersion | A::InsufficientSecurity, _) => TlsError::Incompatible(number.to_string()),
        (
            A::BadCertificate
            | A::UnsupportedCertificate
            | A::CertificateRevoked
            | A::CertificateExpired
            | A::CertificateUnknown
            | A::UnknownCA
            | A::AccessDenied,
            ClientCertificate::Present,
        ) => TlsError::ClientCertificateRejected { alert: number },
        _ => TlsError::Alert(number),
    }
}
