//! What holds for every endpoint text.

use mqtt_machine_transport::{Endpoint, Password};
use proptest::prelude::*;

/// Texts that get past the scheme, so that the rest of the parser sees them too.
fn urls() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        any::<String>().prop_map(|rest| format!("mqtt://{rest}")),
        "mqtt://[a-z0-9.:@%\\[\\]/?#&=_-]{0,40}",
        "(mqtts?(\\+srv)?|wss?|unix)://[a-z0-9.:@%\\[\\]/?#&=_-]{0,40}",
        "unix://(a:b@)?(localhost)?/[ -~]{0,12}(\\?version=5)?",
        "wss://[a-z]{1,4}(/[a-z%20/]{0,9})?(\\?(ca_file|cert_file|server_name|alpn)=[a-z,.%]{0,6})?",
        "mqtt://([a-z%0-9]{1,8}(:[ -~]{0,8})?@)?[a-z.0-9]{1,12}(:[0-9]{1,5})?\
         (\\?(client_id|version|keep_alive|clean_start|connect_timeout)=[a-z0-9.%]{0,6}){0,1}",
    ]
}

proptest! {
    #[test]
    fn no_text_panics_and_what_parses_prints_as_an_equal_endpoint_without_credentials(text in urls()) {
        match Endpoint::parse(&text) {
            Err(error) => prop_assert!(error.to_string().chars().count() < 400),
            Ok(mut endpoint) => {
                let printed = Endpoint::parse(&endpoint.to_string());
                endpoint.username = None;
                endpoint.password = None;
                prop_assert_eq!(printed, Ok(endpoint));
            }
        }
    }

    #[test]
    fn encoded_credentials_come_back_and_are_never_printed(
        username in "[ -~äß€]{1,20}",
        password in proptest::collection::vec(any::<u8>(), 1..40),
        behind in "[a-z/?#:@]{0,12}",
    ) {
        let encode = |bytes: &[u8]| bytes.iter().map(|byte| format!("%{byte:02X}")).collect::<String>();
        let url = format!("mqtt://{}:{}@host", encode(username.as_bytes()), encode(&password));
        let endpoint = Endpoint::parse(&url).unwrap();
        prop_assert_eq!(endpoint.username.as_deref(), Some(username.as_str()));
        prop_assert_eq!(endpoint.password.as_ref().map(Password::as_bytes), Some(&password[..]));
        prop_assert_eq!(endpoint.to_string(), "mqtt://host:1883");

        let plain = format!("mqtt://XUSERX:XPASSX{behind}XPASSX@host");
        let printed = match Endpoint::parse(&plain) {
            Ok(endpoint) => format!("{endpoint} {endpoint:?}"),
            Err(error) => format!("{error} {error:?}"),
        };
        prop_assert!(!printed.contains("XUSERX") && !printed.contains("XPASSX"), "{}", printed);
    }
}
