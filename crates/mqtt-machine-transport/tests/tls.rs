//! What TLS tells when it fails, and what it keeps when it does not.
#![cfg(all(feature = "ring", feature = "encrypted-keys", feature = "websocket", feature = "proxy"))]

mod support;

use std::sync::Arc;

use bytes::Buf;
use mqtt_machine_testkit::layers::{Leaf, server_config};
use mqtt_machine_transport::rustls::version::{TLS12, TLS13};
use mqtt_machine_transport::rustls::{self, AlertDescription, ServerConfig, SupportedProtocolVersion};
use mqtt_machine_transport::{
    ConfigError, Endpoint, KeyError, Layer, LayerError, LayerKind, LayersState, Password, Route,
    RouteOptions, Tls, TlsAlert, TlsClient, TlsError, TlsOptions,
};
use support::{Ca, Client, Peer, carry, route, send};

const BOTH: [&[&SupportedProtocolVersion]; 2] = [&[&TLS12], &[&TLS13]];

fn meet(route: &Route, config: ServerConfig) -> (Client, Peer) {
    let mut client = Client::new(route.layers().unwrap());
    let mut peer = Peer::plain().tls(Arc::new(config));
    carry(&mut client, &mut peer, &mut || 1_000);
    (client, peer)
}

fn options_route(url: &str, options: TlsOptions) -> Route {
    Route::new(Endpoint::parse(url).unwrap(), &RouteOptions::new().tls(options)).unwrap()
}

/// Why a client that trusts `ca` does not take this server, and what the server hears.
fn refusal(
    url: &str,
    ca: &Ca,
    leaf: &Leaf,
    version: &'static SupportedProtocolVersion,
) -> (TlsError, TlsAlert) {
    let (client, peer) = meet(&route(url, ca, &[]), server_config(leaf, &[version], None));
    assert_eq!(client.layers.state(), LayersState::Closed);
    let Some(LayerError::Tls(error)) = client.error else { panic!("{client:?}") };
    let Some(rustls::Error::AlertReceived(alert)) = peer.tls_error else {
        panic!("the alert is sent also on an error: {:?}", peer.tls_error)
    };
    (error, TlsAlert(u8::from(alert)))
}

#[test]
fn each_bad_certificate_has_its_own_error_and_the_server_is_told() {
    let (ca, other) = (Ca::new("ours"), Ca::new("theirs"));
    let name = &["host"][..];
    for version in [&TLS12, &TLS13] {
        let refused = |leaf: &Leaf| refusal("mqtts://host", &ca, leaf, version);
        assert_eq!(refused(&other.server(name)), (TlsError::UnknownIssuer, TlsAlert(48)));
        assert_eq!(refused(&ca.server_between(name, 1975, 2000)), (TlsError::Expired, TlsAlert(45)));
        assert_eq!(refused(&ca.server_between(name, 2090, 2100)).0, TlsError::NotYetValid);
        assert_eq!(refused(&ca.client("host")).0, TlsError::WrongPurpose);
        let (wrong, _) = refused(&ca.server(&["a.example", "b.example"]));
        let TlsError::WrongName { expected, presented } = &wrong else { panic!("{wrong:?}") };
        assert_eq!(expected, "host");
        assert_eq!(presented.len(), 2);
        let text = wrong.to_string();
        assert!(text.contains("host") && text.contains("a.example"), "{text}");
        let (address, _) = refusal("mqtts://127.0.0.2", &ca, &ca.server(&["127.0.0.1"]), version);
        assert!(matches!(address, TlsError::WrongName { .. }), "{address:?}");
    }
}

#[test]
fn a_name_may_be_given_and_the_insecure_switch_takes_everything() {
    let (ca, other) = (Ca::new("ours"), Ca::new("theirs"));
    let named = TlsOptions::new().ca_pem(ca.pem().as_bytes()).server_name("host");
    let by_address = options_route("mqtts://10.0.0.1", named);
    let (client, peer) = meet(&by_address, server_config(&ca.server(&["host"]), &[&TLS13], None));
    assert!(client.is_open());
    assert_eq!(peer.tls.unwrap().server_name(), Some("host"));

    let expired = other.server_between(&["elsewhere"], 1975, 2000);
    let anything = options_route("mqtts://host", TlsOptions::new().dangerous_accept_any_certificate());
    for versions in BOTH {
        let (client, _) = meet(&anything, server_config(&expired, versions, None));
        assert!(client.is_open(), "{:?}", client.error);
    }
}

#[test]
fn a_missing_client_certificate_is_told_also_after_the_handshake_looked_done() {
    let ca = Ca::new("ours");
    let leaf = ca.server(&["host"]);
    let plain = route("mqtts://host", &ca, &[]);
    for versions in BOTH {
        let (client, _) = meet(&plain, server_config(&leaf, versions, Some(&ca)));
        assert_eq!(client.error, Some(LayerError::Tls(TlsError::ClientCertificateRequired)));
    }

    // In TLS 1.3 it looks open here before the server has seen the certificate.
    let mut client = Client::new(plain.layers().unwrap());
    let mut peer = Peer::plain().tls(Arc::new(server_config(&leaf, &[&TLS13], Some(&ca))));
    peer.receive(&client.output());
    client.receive(&peer.output());
    assert!(client.is_open() && client.error.is_none());
    carry(&mut client, &mut peer, &mut || 1);
    assert_eq!(client.layers.state(), LayersState::Closed);
    assert_eq!(client.error, Some(LayerError::Tls(TlsError::ClientCertificateRequired)));
}

#[test]
fn a_client_certificate_that_the_server_rejects_is_its_own_error() {
    let (ca, other) = (Ca::new("ours"), Ca::new("theirs"));
    let me = other.client("me");
    for versions in BOTH {
        let options = TlsOptions::new()
            .ca_pem(ca.pem().as_bytes())
            .client_certificate_pem(me.certificate.pem().as_bytes(), me.key.serialize_pem().as_bytes());
        let config = server_config(&ca.server(&["host"]), versions, Some(&ca));
        let (client, _) = meet(&options_route("mqtts://host", options), config);
        let Some(LayerError::Tls(TlsError::ClientCertificateRejected { alert })) = client.error else {
            panic!("{:?}", client.error);
        };
        assert_eq!(alert.name(), "unknown_ca");
    }
}

#[test]
fn a_session_is_resumed_by_the_next_connection() {
    let ca = Ca::new("ours");
    for versions in BOTH {
        let config = Arc::new(server_config(&ca.server(&["host"]), versions, None));
        let tls = TlsOptions::new().ca_pem(ca.pem().as_bytes()).build().unwrap();
        let route =
            Route::new(Endpoint::parse("mqtts://host").unwrap(), &RouteOptions::new().tls_client(tls))
                .unwrap();
        let kinds = [(); 3].map(|()| {
            let mut client = Client::new(route.layers().unwrap());
            let mut peer = Peer::plain().tls(Arc::clone(&config));
            carry(&mut client, &mut peer, &mut || 100);
            // The tickets of TLS 1.3 come with, or after, the first bytes.
            send(&mut client, &mut peer, b"x", &mut || 100);
            peer.tls.unwrap().handshake_kind().unwrap()
        });
        use rustls::HandshakeKind::{Full, Resumed};
        assert_eq!(kinds, [Full, Resumed, Resumed]);
    }
}

#[test]
fn an_end_without_close_notify_is_truncated_and_one_with_it_is_an_end() {
    let ca = Ca::new("ours");
    for versions in BOTH {
        let config = || server_config(&ca.server(&["host"]), versions, None);
        let (mut client, mut peer) = meet(&route("mqtts://host", &ca, &[]), config());
        peer.send(b"cut");
        carry(&mut client, &mut peer, &mut || 3);
        client.end();
        assert_eq!(client.error, Some(LayerError::Truncated(LayerKind::Tls)));
        assert_eq!(client.plaintext, &b"cut"[..]);

        let (mut client, mut peer) = meet(&route("mqtts://host", &ca, &[]), config());
        peer.send(b"bye");
        peer.close_tls();
        carry(&mut client, &mut peer, &mut || usize::MAX);
        assert_eq!((client.layers.state(), &client.plaintext[..]), (LayersState::PeerClosed, &b"bye"[..]));
        // Half-closed: this direction still works.
        send(&mut client, &mut peer, b"last words", &mut || 7);
        assert_eq!(peer.received, b"last words");
        client.end();
        assert_eq!(client.error, None);

        let mut early = Client::new(route("mqtts://host", &ca, &[]).layers().unwrap());
        early.end();
        assert_eq!(early.error, Some(LayerError::Truncated(LayerKind::Tls)));
    }
}

#[test]
fn a_port_of_something_else_is_told_as_such() {
    let ca = Ca::new("ours");
    for bytes in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"\x20\x02\x00\x01 and so on", b"SSH-2.0-OpenSSH"]
    {
        let mut client = Client::new(route("mqtts://host", &ca, &[]).layers().unwrap());
        client.receive(bytes);
        assert_eq!(client.error, Some(LayerError::Tls(TlsError::NotTls)), "{bytes:?}");
        let again = client.error.clone();
        client.error = None;
        client.receive(b"more");
        assert_eq!(client.error, again, "an error stays");
    }
}

#[test]
fn alpn_agrees_or_says_that_it_did_not() {
    let ca = Ca::new("ours");
    let connect = |theirs: &[u8]| {
        let mut config = server_config(&ca.server(&["host"]), &[&TLS13], None);
        config.alpn_protocols = vec![theirs.to_vec()];
        meet(
            &options_route("mqtts://host", TlsOptions::new().ca_pem(ca.pem().as_bytes()).alpn(["mqtt"])),
            config,
        )
    };
    let (client, peer) = connect(b"mqtt");
    assert!(client.is_open());
    assert_eq!(peer.tls.unwrap().alpn_protocol(), Some(&b"mqtt"[..]));
    let (client, _) = connect(b"h2");
    assert_eq!(client.error, Some(LayerError::Tls(TlsError::NoApplicationProtocol)));
}

#[test]
fn small_chunks_share_a_record_and_large_ones_are_not_gathered() {
    let ca = Ca::new("ours");
    let (mut client, mut peer) =
        meet(&route("mqtts://host", &ca, &[]), server_config(&ca.server(&["host"]), &[&TLS13], None));
    let mut many = (&b"ab"[..]).chain(&b"cd"[..]).chain(&b"ef"[..]);
    client.layers.handle_output(&mut many).unwrap();
    let out = client.output();
    assert_eq!(out.len(), 6 + 22, "one record");
    peer.receive(&out);
    assert_eq!(peer.received, b"abcdef");
}

#[test]
fn a_ready_configuration_is_used_as_it_is_and_may_know_revoked_certificates() {
    let ca = Ca::new("ours");
    let (good, bad) = (ca.server(&["host"]), ca.server(&["host"]));
    let config = ca.client_config_with_revoked(&[&bad]);
    let way = RouteOptions::new().tls_client(TlsClient::from_config(Arc::new(config)));
    let route = Route::new(Endpoint::parse("mqtts://host").unwrap(), &way).unwrap();
    for versions in BOTH {
        let (client, _) = meet(&route, server_config(&good, versions, None));
        assert!(client.is_open(), "{:?}", client.error);
        let (client, _) = meet(&route, server_config(&bad, versions, None));
        assert_eq!(client.error, Some(LayerError::Tls(TlsError::Revoked)));
    }
    let renamed =
        TlsClient::from_config(Arc::new(ca.client_config_with_revoked(&[&bad]))).server_name("host").unwrap();
    let route =
        Route::new(Endpoint::parse("mqtts://elsewhere").unwrap(), &RouteOptions::new().tls_client(renamed));
    let (client, _) = meet(&route.unwrap(), server_config(&good, &[&TLS13], None));
    assert!(client.is_open(), "{:?}", client.error);
}

#[test]
fn the_crypto_provider_is_the_one_that_was_asked_for() {
    let tls = TlsOptions::new().ca_pem(Ca::new("ours").pem().as_bytes()).build().unwrap();
    let groups = &tls.config().crypto_provider().kx_groups;
    // ring has no key exchange that withstands quantum computers.
    let hybrid = groups.iter().any(|group| group.name() == rustls::NamedGroup::X25519MLKEM768);
    assert_eq!(hybrid, cfg!(feature = "aws-lc-rs"));
}

#[test]
fn a_name_that_no_certificate_can_be_for_is_refused_at_once() {
    let options = TlsOptions::new().dangerous_accept_any_certificate();
    let way = RouteOptions::new().tls(options.clone());
    let error = Route::new(Endpoint::parse("mqtts://-bad-").unwrap(), &way).unwrap_err();
    assert_eq!(error, ConfigError::ServerName);
    assert_eq!(options.server_name("a b").build().unwrap_err(), ConfigError::ServerName);
}

#[test]
fn a_layer_works_by_itself() {
    let ca = Ca::new("ours");
    let client = TlsOptions::new().ca_pem(ca.pem().as_bytes()).alpn(["mqtt"]).build().unwrap();
    let mut tls = Tls::new(&client, "host".try_into().unwrap()).unwrap();
    assert_eq!((tls.kind(), tls.is_resumed(), tls.alpn_protocol()), (LayerKind::Tls, None, None));
    let (mut above, mut below) = (bytes::BytesMut::new(), bytes::BytesMut::new());
    tls.start(&mut below).unwrap();
    assert_eq!(below[0], 22, "a handshake record");
    tls.handle_input(&mut bytes::BytesMut::new(), &mut above, &mut below).unwrap();
    assert!(above.is_empty());
}

/// Made by `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`, as the tests' own keys, then by the command named.
mod keys {
    use super::*;
    use std::process::Command;

    fn openssl(arguments: &[&str], input: &str) -> Option<String> {
        use std::io::Write;
        let mut child = Command::new("openssl")
            .args(arguments)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .ok()?;
        child.stdin.take()?.write_all(input.as_bytes()).ok()?;
        let output = child.wait_with_output().ok()?;
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }

    fn build(ca: &Ca, leaf: &Leaf, key: &str, password: Option<&str>) -> Result<TlsClient, ConfigError> {
        let mut options = TlsOptions::new()
            .ca_pem(ca.pem().as_bytes())
            .client_certificate_pem(leaf.certificate.pem().as_bytes(), key.as_bytes());
        if let Some(password) = password {
            options = options.key_password(Password::new(password.as_bytes()));
        }
        options.build()
    }

    fn key_error(result: Result<TlsClient, ConfigError>) -> KeyError {
        match result {
            Err(ConfigError::Key { path: None, error }) => error,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn keys_in_every_form_are_read() {
        let ca = Ca::new("ours");
        let me = ca.client("me");
        let pkcs8 = me.key.serialize_pem();
        build(&ca, &me, &pkcs8, None).unwrap();
        let Some(sec1) = openssl(&["ec"], &pkcs8) else {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "openssl is needed");
            println!("skipped: there is no openssl");
            return;
        };
        assert!(sec1.contains("BEGIN EC PRIVATE KEY"));
        build(&ca, &me, &sec1, None).unwrap();

        let encrypted = openssl(&["pkcs8", "-topk8", "-passout", "pass:open sesame"], &pkcs8).unwrap();
        assert!(encrypted.contains("BEGIN ENCRYPTED PRIVATE KEY"));
        build(&ca, &me, &encrypted, Some("open sesame")).unwrap();
        let scrypt = openssl(&["pkcs8", "-topk8", "-scrypt", "-passout", "pass:x"], &pkcs8).unwrap();
        build(&ca, &me, &scrypt, Some("x")).unwrap();
        // The certificate may stand in the same text.
        let both = format!("{}{encrypted}", me.certificate.pem());
        build(&ca, &me, &both, Some("open sesame")).unwrap();
        assert_eq!(key_error(build(&ca, &me, &encrypted, None)), KeyError::PasswordNeeded);
        assert_eq!(key_error(build(&ca, &me, &encrypted, Some("open barley"))), KeyError::WrongPassword);

        let legacy = openssl(&["ec", "-aes128", "-passout", "pass:x"], &pkcs8).unwrap();
        let error = key_error(build(&ca, &me, &legacy, Some("x")));
        assert_eq!(error, KeyError::LegacyEncryption);
        assert!(error.to_string().contains("openssl pkcs8 -topk8"), "{error}");
    }

    #[test]
    fn an_rsa_key_in_pkcs1_is_read() {
        let Some(rsa) = openssl(&["genrsa", "-traditional", "2048"], "") else {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "openssl is needed");
            println!("skipped: there is no openssl");
            return;
        };
        assert!(rsa.contains("BEGIN RSA PRIVATE KEY"), "{}", rsa.lines().next().unwrap());
        let ca = Ca::new("ours");
        // It is read, and found not to fit the certificate.
        let error = build(&ca, &ca.client("me"), &rsa, None).unwrap_err();
        assert!(matches!(error, ConfigError::Tls(_)), "{error:?}");
    }

    #[test]
    fn what_is_no_key_or_no_certificate_is_told() {
        let ca = Ca::new("ours");
        let me = ca.client("me");
        assert_eq!(key_error(build(&ca, &me, "", None)), KeyError::NoKey);
        assert_eq!(key_error(build(&ca, &me, &me.certificate.pem(), None)), KeyError::NoKey);
        let cut = "-----BEGIN PRIVATE KEY-----\nAAAA";
        assert_eq!(key_error(build(&ca, &me, cut, None)), KeyError::BadPem);
        let cut = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA";
        assert_eq!(key_error(build(&ca, &me, cut, Some("x"))), KeyError::BadPem);
        let other = ca.client("other");
        let error = build(&ca, &me, &other.key.serialize_pem(), None).unwrap_err();
        assert!(matches!(error, ConfigError::Tls(_)), "a key that does not fit: {error:?}");

        let no_roots = TlsOptions::new().ca_pem(b"nothing").build();
        assert_eq!(key_error(no_roots), KeyError::NoCertificate);
        let error = TlsOptions::new().ca_file("no/such/file.pem").build().unwrap_err();
        assert!(matches!(&error, ConfigError::File { kind: std::io::ErrorKind::NotFound, .. }), "{error:?}");
        assert!(error.to_string().contains("file.pem"), "{error}");
    }
}

#[test]
fn the_files_of_a_url_are_read_and_the_secrets_of_a_configuration_are_not_shown() {
    let ca = Ca::new("ours");
    let me = ca.client("me");
    let folder = std::env::temp_dir().join(format!("mqtt-machine-transport-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (roots, both) = (folder.join("ca.pem"), folder.join("me.pem"));
    std::fs::write(&roots, ca.pem()).unwrap();
    std::fs::write(&both, me.certificate.pem() + &me.key.serialize_pem()).unwrap();
    let url =
        format!("mqtts://10.0.0.1?ca_file={}&cert_file={}&server_name=host", roots.display(), both.display());
    let by_url = Route::new(Endpoint::parse(&url).unwrap(), &RouteOptions::new());
    let (client, peer) = meet(&by_url.unwrap(), server_config(&ca.server(&["host"]), &[&TLS13], Some(&ca)));
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(client.is_open(), "{:?}", client.error);
    assert!(peer.tls.unwrap().peer_certificates().is_some());

    let key = me.key.serialize_pem();
    let options = TlsOptions::new()
        .client_certificate_pem(me.certificate.pem().as_bytes(), key.as_bytes())
        .key_password(Password::new(*b"hush"));
    let route = RouteOptions::new().tls(options.clone());
    let secret = key.lines().nth(1).unwrap();
    for text in [format!("{options:?}"), format!("{route:#?}"), format!("{:?}", secret.as_bytes())] {
        assert!(!text.contains(secret) && !text.contains("hush"), "{text}");
    }
    assert!(!format!("{options:?}").contains("104, 117, 115, 104"), "nor as numbers");
}

#[test]
fn every_alert_has_its_name() {
    for alert in
        [AlertDescription::UnknownCA, AlertDescription::CertificateRequired, AlertDescription::CloseNotify]
    {
        assert_ne!(TlsAlert(u8::from(alert)).name(), "unknown alert");
    }
    assert_eq!(TlsAlert(116).to_string(), "certificate_required (116)");
}
