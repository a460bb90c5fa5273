//! Owns the reading of certificates and keys from PEM. It must not know what they are for, and no error of it may hold any
//! of a key.

use std::fmt;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::endpoint::Password;

/// Why a text in PEM is no certificate or no key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// No certificate stands in it.
    NoCertificate,
    /// No private key stands in it.
    NoKey,
    /// It is no well-formed PEM.
    BadPem,
    /// The key is encrypted, and there is no password.
    PasswordNeeded,
    /// The password does not open the key.
    WrongPassword,
    /// The key is encrypted by something else than PBES2, or the feature `encrypted-keys` is off.
    UnsupportedEncryption,
    /// The key is encrypted in the old form of OpenSSL (`Proc-Type: 4,ENCRYPTED`), whose key derivation is too weak to be
    /// kept alive. `openssl pkcs8 -topk8 -in old.pem -out new.pem` makes one that is read here.
    LegacyEncryption,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoCertificate => "no certificate in PEM",
            Self::NoKey => "no private key in PEM (PKCS#8, PKCS#1 or SEC1)",
            Self::BadPem => "not well-formed PEM",
            Self::PasswordNeeded => "the private key is encrypted and there is no password",
            Self::WrongPassword => "the password does not open the private key",
            Self::UnsupportedEncryption => {
                "the private key is encrypted in a way that is not supported; PKCS#8 with PBES2 is"
            }
            Self::LegacyEncryption => {
                "the private key is encrypted in the old PEM form; convert it by \
                 `openssl pkcs8 -topk8 -in old.pem -out new.pem`"
            }
        })
    }
}

impl std::error::Error for KeyError {}

/// Every certificate in a text.
pub(super) fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, KeyError> {
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(text).collect::<Result<_, _>>().map_err(|_| KeyError::BadPem)?;
    if certificates.is_empty() { Err(KeyError::NoCertificate) } else { Ok(certificates) }
}

/// The first private key in a text.
pub(super) fn private_key(
    text: &[u8],
    password: Option<&Password>,
) -> Result<PrivateKeyDer<'static>, KeyError> {
    let has = |what: &[u8]| text.windows(what.len()).any(|window| window == what);
    if has(b"Proc-Type: 4,ENCRYPTED") {
        return Err(KeyError::LegacyEncryption);
    }
    if has(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") {
        return decrypt(text, password.ok_or(KeyError::PasswordNeeded)?);
    }
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        pem::Error::NoItemsFound => KeyError::NoKey,
        _ => KeyError::BadPem,
    })
}

#[cfg(feature = "encrypted-keys")]
fn decrypt(text: &[u8], password: &Password) -> Result<PrivateKeyDer<'static>, KeyError> {
    use pkcs8::der::Decode;
    use pkcs8::{EncryptedPrivateKeyInfoRef, SecretDocument};
    use rustls::pki_types::PrivatePkcs8KeyDer;

    let text = std::str::from_utf8(text).map_err(|_| KeyError::BadPem)?;
    // Other sections, as the certificate, may stand around it.
    let start = text.find("-----BEGIN ENCRYPTED PRIVATE KEY-----").unwrap_or_default();
    let text = text.get(start..).unwrap_or_default();
    const END: &str = "-----END ENCRYPTED PRIVATE KEY-----";
    let end = text.find(END).ok_or(KeyError::BadPem)?.saturating_add(END.len());
    let text = text.get(..end).unwrap_or_default();
    let (_, document) = SecretDocument::from_pem(text).map_err(|_| KeyError::BadPem)?;
    let info = EncryptedPrivateKeyInfoRef::from_der(document.as_bytes())
        .map_err(|_| KeyError::UnsupportedEncryption)?;
    let key = info.decrypt(password.as_bytes()).map_err(|_| KeyError::WrongPassword)?;
    Ok(PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.as_bytes().to_vec())))
}

#[cfg(not(feature = "encrypted-keys"))]
fn decrypt(_text: &[u8], _password: &Password) -> Result<PrivateKeyDer<'static>, KeyError> {
    Err(KeyError::UnsupportedEncryption)
}
