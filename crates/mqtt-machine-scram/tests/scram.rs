//! Owns the proof of both sides of SCRAM: published vectors, and what each side refuses.

use mqtt_machine_scram::{Client, Error, Mechanism, Server, Verifier};
use proptest::prelude::*;

/// RFC 7677, section 3: user "user", password "pencil".
const CLIENT_NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const SALT: [u8; 16] =
    [0x5b, 0x6d, 0x99, 0x68, 0x9d, 0x12, 0x35, 0x8e, 0xec, 0xa0, 0x4b, 0x14, 0x12, 0x36, 0xfa, 0x81];
const CHALLENGE: &str =
    "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

/// Proof and signature. Those of SHA-256 are the RFC's. No RFC has any for SHA-512: these were computed with the same input by
/// Python 3 (`hashlib.pbkdf2_hmac`, `hmac`), in a program that gives the RFC's own for SHA-256.
const VECTORS: [(Mechanism, &str, &str); 2] = [
    (
        Mechanism::Sha256,
        "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    ),
    (
        Mechanism::Sha512,
        "gMGXRcevScNtxZ6/8lQYpGtnsNAc3mGcmNomv+xnoOMw+3R2xNJdMNnzMlTN8PPC6wdp6dybEmDYXYTxwnYPJQ==",
        "ZQnYEgWQMFmmsM8aQMF0nDDCy/AgCzkwk8CmMZYcMg0vSVlKDanekLtifDSeVGT4+5ZxXnJq199RVG2rR7N7Zw==",
    ),
];

fn client(mechanism: Mechanism) -> Client {
    Client::new(mechanism, "user", "pencil", CLIENT_NONCE).unwrap()
}

fn server(mechanism: Mechanism, first: &[u8]) -> (Server, Vec<u8>) {
    let verifier = Verifier::new(mechanism, "pencil", &SALT, 4_096).unwrap();
    Server::begin(first, SERVER_NONCE, |name| (name == "user").then_some(verifier)).unwrap()
}

#[test]
fn both_sides_say_what_the_vectors_say() {
    for (mechanism, proof, signature) in VECTORS {
        let mut client = client(mechanism);
        assert_eq!(client.first(), b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let (server, challenge) = server(mechanism, &client.first());
        assert_eq!(challenge, CHALLENGE.as_bytes());
        let response = client.respond(&challenge).unwrap();
        let expected = format!("c=biws,r={CLIENT_NONCE}{SERVER_NONCE},p={proof}");
        assert_eq!(String::from_utf8(response.clone()).unwrap(), expected);
        let last = server.finish(&response).unwrap();
        assert_eq!(String::from_utf8(last.clone()).unwrap(), format!("v={signature}"));
        assert!(!client.is_verified());
        client.verify(&last).unwrap();
        assert!(client.is_verified());
        assert_eq!(client.verify(&last), Err(Error::OutOfTurn));
    }
}

#[test]
fn a_server_that_does_not_know_the_password_is_found_out() {
    for last in
        [&b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5="[..], b"v=", b"v=AAAA", b"", b"e=other-error"]
    {
        let mut client = client(Mechanism::Sha256);
        client.respond(CHALLENGE.as_bytes()).unwrap();
        client.verify(last).unwrap_err();
        assert!(!client.is_verified());
        // It stays so.
        assert_eq!(client.verify(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), Err(Error::OutOfTurn));
    }
    let mut client = client(Mechanism::Sha256);
    client.respond(CHALLENGE.as_bytes()).unwrap();
    let error = client.verify(b"v=AAAATRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").unwrap_err();
    assert_eq!(error, Error::ServerSignature);
}

#[test]
fn a_client_that_does_not_know_the_password_is_refused() {
    let mut wrong = Client::new(Mechanism::Sha512, "user", "pencil ", CLIENT_NONCE).unwrap();
    let (server, challenge) = server(Mechanism::Sha512, &wrong.first());
    let response = wrong.respond(&challenge).unwrap();
    assert_eq!(server.finish(&response).unwrap_err(), Error::Proof);
    let unknown = Client::new(Mechanism::Sha256, "somebody", "pencil", CLIENT_NONCE).unwrap();
    assert_eq!(Server::begin(&unknown.first(), SERVER_NONCE, |_| None).unwrap_err(), Error::Proof);
}

#[test]
fn challenges_that_break_a_rule_are_refused() {
    let nonce = format!("{CLIENT_NONCE}{SERVER_NONCE}");
    let iterations = |asked| Error::Iterations { asked, minimum: 4_096, maximum: 1_000_000 };
    for (challenge, error) in [
        (format!("r={CLIENT_NONCE},s=AAAA,i=4096"), Error::Nonce),
        (format!("r=other{nonce},s=AAAA,i=4096"), Error::Nonce),
        (format!("r={nonce},s=AAAA,i=4095"), iterations(4_095)),
        (format!("r={nonce},s=AAAA,i=1"), iterations(1)),
        (format!("r={nonce},s=AAAA,i=1000001"), iterations(1_000_001)),
        (format!("r={nonce},s=AAAA,i=4294967295"), iterations(u32::MAX)),
        (format!("r={nonce},s=AAAA,i=4294967296"), Error::Malformed("iterations")),
        (format!("r={nonce},s=AAAA,i=+5000"), Error::Malformed("iterations")),
        (format!("r={nonce},s=AAAA,i=05000"), Error::Malformed("iterations")),
        (format!("r={nonce},s=,i=4096"), Error::Malformed("an empty salt")),
        (format!("r={nonce},s=?,i=4096"), Error::Malformed("salt")),
        (format!("r={nonce},i=4096"), Error::Malformed("salt")),
        (format!("m=x,r={nonce},s=AAAA,i=4096"), Error::NotSupported("a mandatory extension")),
        ("e=unknown-user".into(), Error::Server("unknown-user".into())),
        ("e=Your password is pencil".into(), Error::Server("other-error".into())),
        (String::new(), Error::Malformed("nonce")),
    ] {
        let mut client = client(Mechanism::Sha256);
        assert_eq!(client.respond(challenge.as_bytes()).unwrap_err(), error, "{challenge}");
        assert_eq!(client.respond(CHALLENGE.as_bytes()), Err(Error::OutOfTurn));
    }
    assert_eq!(client(Mechanism::Sha256).verify(b"v=AAAA"), Err(Error::OutOfTurn));
}

#[test]
fn user_names_and_passwords_are_prepared_and_escaped() {
    // RFC 4013, section 3: a soft hyphen goes, compatibility forms are replaced, control characters are forbidden.
    let prepared = Client::new(Mechanism::Sha256, "I\u{ad}X", "\u{2168}", "n").unwrap();
    assert_eq!(prepared.first(), b"n,,n=IX,r=n");
    for (name, password) in [("\u{7}", "p"), ("u", "\u{7}"), ("", "p"), ("u", ""), ("\u{627}1", "p")] {
        assert!(matches!(Client::new(Mechanism::Sha256, name, password, "n"), Err(Error::Input(_))));
    }
    for nonce in ["", "a,b", "a b", "ü"] {
        assert!(matches!(Client::new(Mechanism::Sha256, "u", "p", nonce), Err(Error::Input(_))));
    }
    let odd = Client::new(Mechanism::Sha256, "a,b=c", "p", "n").unwrap();
    assert_eq!(odd.first(), b"n,,n=a=2Cb=3Dc,r=n");
    let mut seen = String::new();
    let _ = Server::begin(&odd.first(), "m", |name| {
        seen = name.to_owned();
        None
    });
    assert_eq!(seen, "a,b=c");
}

#[test]
fn nothing_secret_is_printed() {
    let mut client = client(Mechanism::Sha256);
    let (server, challenge) = server(Mechanism::Sha256, &client.first());
    client.respond(&challenge).unwrap();
    let verifier = Verifier::new(Mechanism::Sha256, "pencil", &SALT, 4_096).unwrap();
    let printed = format!("{client:?} {server:?} {verifier:?}");
    for secret in ["pencil", "user", CLIENT_NONCE, SERVER_NONCE] {
        assert!(!printed.contains(secret), "{printed}");
    }
}

proptest! {
    #[test]
    fn any_password_that_may_be_used_proves_itself(password in "[ -~]{1,40}", name in "[ -~]{1,40}") {
        let verifier = Verifier::new(Mechanism::Sha256, &password, b"salt", 1).unwrap();
        let mut client = Client::new(Mechanism::Sha256, &name, &password, "abc").unwrap().iterations(1..=1);
        let (server, challenge) = Server::begin(&client.first(), "def", |_| Some(verifier)).unwrap();
        prop_assert_eq!(server.username(), &name);
        let last = server.finish(&client.respond(&challenge).unwrap()).unwrap();
        client.verify(&last).unwrap();
    }

    #[test]
    fn any_bytes_are_taken_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "[a-z]=[ -~]{0,60}") {
        for message in [&bytes[..], text.as_bytes()] {
            let mut fresh = client(Mechanism::Sha256).iterations(1..=1);
            let _ = fresh.respond(message);
            let verifier = || Verifier::new(Mechanism::Sha256, "pencil", b"salt", 1).unwrap();
            let _ = Server::begin(message, "x", |_| Some(verifier()));
            let mut client = client(Mechanism::Sha256).iterations(1..=1);
            let (server, challenge) = Server::begin(&client.first(), "x", |_| Some(verifier())).unwrap();
            client.respond(&challenge).unwrap();
            let _ = server.finish(message);
            prop_assert!(client.verify(message).is_err());
        }
    }
}
