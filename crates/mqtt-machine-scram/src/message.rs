//! Owns the form of SCRAM's messages (RFC 5802, section 7). It must not know keys, nor whose turn it is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::Error;

/// The header of a client without channel binding and authorization identity.
pub(crate) const HEADER: &str = "n,,";
/// The same in base64, as the last message of the client repeats it.
pub(crate) const HEADER_BASE64: &str = "biws";
/// Longer messages are not read: all that MQTT carries in one field.
const LONGEST: usize = 65_535;

pub(crate) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub(crate) fn decode(text: &str, what: &'static str) -> Result<Vec<u8>, Error> {
    STANDARD.decode(text).map_err(|_| Error::Malformed(what))
}

/// A message as text.
pub(crate) fn text(message: &[u8]) -> Result<&str, Error> {
    if message.len() > LONGEST {
        return Err(Error::Malformed("longer than 65,535 bytes"));
    }
    std::str::from_utf8(message).map_err(|_| Error::Malformed("no UTF-8"))
}

/// The value of an attribute at the front, and what stands behind it.
pub(crate) fn attribute<'a>(
    message: &'a str,
    name: char,
    what: &'static str,
) -> Result<(&'a str, &'a str), Error> {
    let value = message.strip_prefix(name).and_then(|rest| rest.strip_prefix('='));
    let value = value.ok_or(Error::Malformed(what))?;
    Ok(value.split_once(',').unwrap_or((value, "")))
}

/// A nonce is printable ASCII without a comma.
pub(crate) fn is_nonce(nonce: &str) -> bool {
    !nonce.is_empty() && nonce.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
}

/// A user name in a message: `,` and `=` are written in another way.
pub(crate) fn escape(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}

pub(crate) fn unescape(name: &str) -> Result<String, Error> {
    let mut parts = name.split('=');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (letter, rest) = match (part.strip_prefix("2C"), part.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            _ => return Err(Error::Malformed("user name")),
        };
        plain.push(letter);
        plain.push_str(rest);
    }
    Ok(plain)
}
