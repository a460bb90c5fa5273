//! What URLs give, and what each mistake in one is called.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;

use super::*;

fn server(host: Host, port: u16) -> Destination {
    Destination::Server(Authority::new(host, port))
}

fn error(text: &str) -> EndpointError {
    Endpoint::parse(text).unwrap_err()
}

#[test]
fn a_full_url_gives_every_part() {
    let endpoint = Endpoint::parse(
        "MQTT://us%C3%A9r:p%00%FF%3A@Broker.Example:11883/?client_id=a%26b+c%20d&version=5&keep_alive=0\
         &clean_start=first&connect_timeout=7",
    )
    .unwrap();
    assert_eq!(endpoint.scheme, Scheme::Mqtt);
    assert_eq!(endpoint.destination, server(Host::Domain("broker.example".to_owned()), 11883));
    assert_eq!(endpoint.username.as_deref(), Some("usér"));
    assert_eq!(endpoint.password, Some(Password::new(*b"p\0\xFF:")));
    assert_eq!(endpoint.options.client_id.as_deref(), Some("a&b+c d"));
    assert_eq!(endpoint.options.version, Some(Version::V5));
    assert_eq!(endpoint.options.keep_alive_seconds, Some(0));
    assert_eq!(endpoint.options.clean_start, Some(CleanStart::First));
    assert_eq!(endpoint.options.connect_timeout_seconds, NonZeroU16::new(7));
}

#[test]
fn hosts_are_names_or_addresses_and_the_port_is_1883_unless_said() {
    for (text, host, authority, name) in [
        ("mqtt://localhost", Host::Domain("localhost".into()), "localhost:1883", "localhost"),
        ("tcp://127.0.0.1:1", Host::Ipv4(Ipv4Addr::LOCALHOST), "127.0.0.1:1", "127.0.0.1"),
        ("mqtt://[::1]", Host::Ipv6(Ipv6Addr::LOCALHOST), "[::1]:1883", "::1"),
        ("mqtt://[::1]:65535", Host::Ipv6(Ipv6Addr::LOCALHOST), "[::1]:65535", "::1"),
        ("mqtt://my_broker:1883", Host::Domain("my_broker".into()), "my_broker:1883", "my_broker"),
        (
            "mqtt://bücher.example",
            Host::Domain("xn--bcher-kva.example".into()),
            "xn--bcher-kva.example:1883",
            "xn--bcher-kva.example",
        ),
    ] {
        let endpoint = Endpoint::parse(text).unwrap();
        let Destination::Server(place) = endpoint.destination else { panic!("{text}") };
        assert_eq!(place.host, host, "{text}");
        assert_eq!(place.to_string(), authority, "{text}");
        assert_eq!(place.host.name(), name, "{text}");
        assert_eq!(endpoint.options, EndpointOptions::default(), "{text}");
    }
}

#[test]
fn a_password_may_come_without_a_user_name_and_empty_ones_are_none() {
    let alone = Endpoint::parse("mqtt://:secret@host").unwrap();
    assert_eq!((alone.username, alone.password), (None, Some(Password::new(*b"secret"))));
    for text in ["mqtt://@host", "mqtt://:@host"] {
        let neither = Endpoint::parse(text).unwrap();
        assert_eq!((neither.username, neither.password), (None, None), "{text}");
    }
    let user = Endpoint::parse("mqtt://user:@host").unwrap();
    assert_eq!((user.username.as_deref(), user.password), (Some("user"), None));
    let at = Endpoint::parse("mqtt://a@b:c@d@host").unwrap();
    assert_eq!((at.username.as_deref(), at.password), (Some("a@b"), Some(Password::new(*b"c@d"))));
}

#[test]
fn each_mistake_has_its_own_error() {
    use EndpointError as E;
    for (text, expected) in [
        ("", E::NotAUrl),
        ("host:1883", E::NotAUrl),
        ("mqtt:host", E::NotAUrl),
        ("://host", E::NotAUrl),
        ("http://host", E::UnknownScheme { scheme: "http".into() }),
        ("MQTT+SRV://host:1", E::PortNotAllowed),
        ("mqtt+srv://127.0.0.1", E::ServiceNeedsDomain),
        ("mqtts+srv://[::1]", E::ServiceNeedsDomain),
        ("unix://", E::SocketPath),
        ("unix:///", E::SocketPath),
        ("unix://broker/run/x", E::SocketHost),
        ("unix://localhost:1/run/x", E::PortNotAllowed),
        ("unix:///run/%00", E::SocketPath),
        ("unix:///run/%FF", E::SocketPath),
        ("ws://host/a@b", E::UnencodedCredentials),
        ("wss://host/#x", E::FragmentNotAllowed),
        ("mqtt://host?ca_file=x", E::OptionNotForScheme { name: "ca_file", scheme: "mqtt" }),
        ("ws://host?alpn=mqtt", E::OptionNotForScheme { name: "alpn", scheme: "ws" }),
        ("mqtts://host?nameserver=::1", E::OptionNotForScheme { name: "nameserver", scheme: "mqtts" }),
        ("mqtt://", E::MissingHost),
        ("mqtt:///", E::MissingHost),
        ("mqtt://?version=5", E::MissingHost),
        ("mqtt://:1883", E::MissingHost),
        ("mqtt://user:pass@", E::MissingHost),
        ("mqtt://user@:1883", E::MissingHost),
        ("mqtt://::1", E::MissingHost),
        ("mqtt://[::1", E::BadHost),
        ("mqtt://[nonsense]", E::BadHost),
        ("mqtt://[fe80::1%25eth0]", E::BadHost),
        ("mqtt://ho^st", E::BadHost),
        ("mqtt://999.1.1.1", E::BadHost),
        ("mqtt://host%00", E::BadHost),
        ("mqtt://host:0", E::BadPort),
        ("mqtt://host:65536", E::BadPort),
        ("mqtt://host:mqtt", E::BadPort),
        ("mqtt://host:-1", E::BadPort),
        ("mqtt://host/path", E::PathNotAllowed),
        ("mqtt://host#", E::FragmentNotAllowed),
        ("mqtt://host?version=5#x", E::FragmentNotAllowed),
        ("mqtt://ho st", E::Character { at: 9 }),
        ("mqtt://host\n", E::Character { at: 11 }),
        ("mqtt://50%off@host", E::PercentEncoding { at: 9 }),
        ("mqtt://host?client_id=%f", E::PercentEncoding { at: 22 }),
        ("mqtt://%FF@host", E::UsernameNotUtf8),
        ("mqtt://host?qos=1", E::UnknownOption { name: "qos".into() }),
        ("mqtt://host?Version=5", E::UnknownOption { name: "Version".into() }),
        ("mqtt://host?version=5&version=5", E::RepeatedOption { name: "version" }),
    ] {
        assert_eq!(error(text), expected, "{text}");
    }
}

#[test]
fn a_bad_value_is_told_with_its_option_and_what_it_could_be() {
    for (query, name, value) in [
        ("version=4", "version", "4"),
        ("version", "version", ""),
        ("keep_alive=65536", "keep_alive", "65536"),
        ("keep_alive=%2B5", "keep_alive", "+5"),
        ("keep_alive=", "keep_alive", ""),
        ("clean_start=true", "clean_start", "true"),
        ("connect_timeout=0", "connect_timeout", "0"),
        ("client_id=%FF", "client_id", "\u{FFFD}"),
    ] {
        let error = error(&format!("mqtt://host?{query}"));
        let EndpointError::BadOptionValue { name: told, value: quoted, expected } = &error else {
            panic!("{query}: {error:?}");
        };
        assert_eq!((*told, quoted.as_str()), (name, value), "{query}");
        let text = error.to_string();
        assert!(text.contains(name) && text.contains(expected), "{text}");
    }
    let long = error(&format!("mqtt://host?version={}", "9".repeat(10_000)));
    assert!(long.to_string().len() < 200, "an error quotes only the start of a long value");
}

#[test]
fn nothing_that_is_printed_holds_credentials() {
    let endpoint = Endpoint::parse("mqtt://hush:hush@host?client_id=me").unwrap();
    for text in [format!("{endpoint}"), format!("{endpoint:?}"), format!("{endpoint:#?}")] {
        assert!(!text.contains("hush"), "{text}");
    }
    for text in [
        "hush:hush@host",
        "hush@host",
        "mqtts://hush:hush@",
        "unix://hush:hush@host/run/x",
        "unix://me:hush/hush@localhost/x",
        "ws://me:1/hush@host",
        "ws://me:hush/hush@host",
        "nothing://hush:hush@host",
        "mqtt://hush:hush@",
        "mqtt://hush:hush@[x]",
        "mqtt://hush:hush@host:port",
        "mqtt://hush:hush@host/path",
        "mqtt://hush:hush@host#x",
        "mqtt://hush:hush@host?x",
        "mqtt://hush:hush@host?version=2",
        "mqtt://hush:hu sh@host",
        "mqtt://hush:hush%@host",
        // Passwords with characters that end the authority of a URL.
        "mqtt://me:hush/hush@host",
        "mqtt://me:1?hush@host",
        "mqtt://me:1?version=hush@host",
        "mqtt://me:1#hush@host",
        "mqtt://me:1/hush@host",
        "mqtt://me:x@y?hush@host",
    ] {
        let error = error(text);
        assert!(!format!("{error} {error:?}").contains("hush"), "{text}: {error}");
    }
    assert_eq!(error("mqtt://me:1?2@host"), EndpointError::UnencodedCredentials);
}

#[test]
fn an_at_sign_in_an_option_is_no_mistake() {
    let endpoint = Endpoint::parse("mqtt://host?client_id=me@home").unwrap();
    assert_eq!(endpoint.options.client_id.as_deref(), Some("me@home"));
}

#[test]
fn every_scheme_has_its_port_its_path_and_its_place() {
    let domain = || Host::Domain("host".to_owned());
    for (text, scheme, destination, path, printed) in [
        ("mqtts://host", Scheme::Mqtts, server(domain(), 8883), "", "mqtts://host:8883"),
        ("ssl://host", Scheme::Mqtts, server(domain(), 8883), "", "mqtts://host:8883"),
        ("ws://host", Scheme::Ws, server(domain(), 80), "/mqtt", "ws://host:80/mqtt"),
        ("ws://host/", Scheme::Ws, server(domain(), 80), "/", "ws://host:80/"),
        (
            "WSS://host/a%20b/c?version=5",
            Scheme::Wss,
            server(domain(), 443),
            "/a%20b/c",
            "wss://host:443/a%20b/c?version=5",
        ),
        (
            "wss://[::1]:8443",
            Scheme::Wss,
            server(Host::Ipv6(Ipv6Addr::LOCALHOST), 8443),
            "/mqtt",
            "wss://[::1]:8443/mqtt",
        ),
        (
            "mqtt+srv://host",
            Scheme::MqttSrv,
            Destination::Service(Authority::new(domain(), 1883)),
            "",
            "mqtt+srv://host",
        ),
        (
            "mqtts+srv://host/",
            Scheme::MqttsSrv,
            Destination::Service(Authority::new(domain(), 8883)),
            "",
            "mqtts+srv://host",
        ),
        (
            "unix:///run/a%20b.sock",
            Scheme::Unix,
            Destination::Unix("/run/a b.sock".into()),
            "",
            "unix:///run/a%20b.sock",
        ),
        ("unix://me:pw@/run/x", Scheme::Unix, Destination::Unix("/run/x".into()), "", "unix:///run/x"),
        (
            "unix://me:pw@localhost/run/x",
            Scheme::Unix,
            Destination::Unix("/run/x".into()),
            "",
            "unix:///run/x",
        ),
    ] {
        let endpoint = Endpoint::parse(text).unwrap();
        assert_eq!((endpoint.scheme, &endpoint.destination), (scheme, &destination), "{text}");
        assert_eq!((endpoint.path.as_str(), endpoint.to_string().as_str()), (path, printed), "{text}");
    }
    let unix = Endpoint::parse("unix://me:p%40w@/run/x?client_id=y").unwrap();
    assert_eq!((unix.username.as_deref(), unix.password), (Some("me"), Some(Password::new(*b"p@w"))));
    assert_eq!(unix.options.client_id.as_deref(), Some("y"));
}

#[test]
fn options_of_tls_and_srv_are_read_where_they_belong() {
    let url = "mqtts+srv://host?ca_file=ca%20x.pem&cert_file=c.pem&key_file=k.pem&server_name=other&alpn=mqtt,x\
               &nameserver=127.0.0.1:5353";
    let options = Endpoint::parse(url).unwrap().options;
    assert_eq!(options.ca_file.as_deref(), Some("ca x.pem".as_ref()));
    assert_eq!(options.cert_file.as_deref(), Some("c.pem".as_ref()));
    assert_eq!(options.key_file.as_deref(), Some("k.pem".as_ref()));
    assert_eq!(options.server_name.as_deref(), Some("other"));
    assert_eq!(options.alpn, Some(vec!["mqtt".to_owned(), "x".to_owned()]));
    assert_eq!(options.nameserver, Some("127.0.0.1:5353".parse().unwrap()));
    let bare = Endpoint::parse("mqtt+srv://host?nameserver=::1").unwrap().options.nameserver;
    assert_eq!(bare, Some("[::1]:53".parse().unwrap()));
    for (query, name) in [
        ("alpn=", "alpn"),
        ("alpn=a,,b", "alpn"),
        ("nameserver=ns.example", "nameserver"),
        ("nameserver=127.0.0.1:0", "nameserver"),
        ("ca_file=", "ca_file"),
        ("key_file=k.pem", "key_file"),
    ] {
        let told = error(&format!("mqtts+srv://host?{query}"));
        assert!(matches!(told, EndpointError::BadOptionValue { name: told, .. } if told == name), "{told:?}");
    }
}

#[test]
fn another_server_is_reached_in_the_same_way_and_has_no_credentials() {
    let like = |url: &str| Endpoint::parse(url).unwrap();
    let at = |url: &str, server: &str| like(url).at(server).map(|endpoint| endpoint.to_string());
    assert_eq!(at("wss://u:p@one/path?version=5", "two:444").unwrap(), "wss://two:444/path?version=5");
    assert_eq!(at("mqtts+srv://one?nameserver=127.0.0.1", "two").unwrap(), "mqtts://two:8883");
    assert_eq!(at("mqtt+srv://one", "[::1]:5").unwrap(), "mqtt://[::1]:5");
    assert_eq!(at("unix:///socket", "two").unwrap(), "mqtt://two:1883");
    assert!(like("mqtt://u:p@one").at("two").unwrap().username.is_none());
    for wrong in ["u:p@two", "two/path", "two?version=5", "two#x", ""] {
        at("mqtt://one", wrong).unwrap_err();
    }
}
