//! Owns what holds for endpoint URLs and any text.

use mqtt_machine_transport::{Endpoint, Password};

/// Any text is an endpoint or an error that prints, and neither shows the password.
pub(crate) fn parse(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Endpoint::parse(text) {
        Ok(endpoint) => {
            // What it prints is an endpoint too.
            assert!(Endpoint::parse(&endpoint.to_string()).is_ok(), "{endpoint}");
            // Nothing that prints depends on the password.
            let mut other = endpoint.clone();
            other.password = other.password.map(|_| Password::new(*b"another"));
            assert_eq!(format!("{endpoint:?}"), format!("{other:?}"));
        }
        Err(error) => drop(error.to_string()),
    }
}
