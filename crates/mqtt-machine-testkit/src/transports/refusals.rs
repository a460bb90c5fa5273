//! Owns the scenarios of what cannot work: each is told at once by an error of its own. It must not wait for deadlines.

use std::time::{Duration, Instant};

use mqtt_machine_client::{
    ClientEvent, ConnectError, HttpProxyError, LayerError, LayerKind, Options, Proxy, Socks5Error, TlsError,
    TlsOptions, TransportError, WebSocketError, WebSocketOptions,
};

use super::site::{http, socks5};
use super::{Site, Start, Way, quick, wait};
use crate::layers::Authority;

/// Far below the 30 s that a client waits for its first connection.
const SOON: Duration = Duration::from_secs(8);

/// Why there is no connection.
#[track_caller]
fn refused(start: Start<'_>, options: Options) -> LayerError {
    let begin = Instant::now();
    let client = start(quick(options, "refused")).unwrap();
    let error = wait("a refusal", client.connected()).unwrap_err();
    assert!(begin.elapsed() < SOON, "only after {:?}: {error}", begin.elapsed());
    match error {
        ConnectError::Transport(TransportError::Layer(error)) => error,
        error => panic!("{error:?}"),
    }
}

#[track_caller]
fn refused_by_tls(start: Start<'_>, options: Options) -> TlsError {
    match refused(start, options) {
        LayerError::Tls(error) => error,
        error => panic!("{error:?}"),
    }
}

pub(super) fn a_certificate_of_an_unknown_issuer_is_told_at_once(start: Start<'_>) {
    let Some(site) = Site::start() else { return };
    for port in [site.ports.unknown, site.ports.wss] {
        let way = if port == site.ports.wss { Way::SecureWebSocket } else { Way::Tls };
        let mut options = site.options(way, port);
        if way == Way::SecureWebSocket {
            let others = TlsOptions::new().ca_pem(Authority::new("others").pem().as_bytes());
            options = options.route(|route| route.tls(others));
        }
        assert_eq!(refused_by_tls(start, options), TlsError::UnknownIssuer);
    }
}

pub(super) fn an_expired_certificate_is_told_at_once(start: Start<'_>) {
    let Some(site) = Site::start() else { return };
    assert_eq!(refused_by_tls(start, site.options(Way::Tls, site.ports.expired)), TlsError::Expired);
}

pub(super) fn a_certificate_for_another_host_is_told_at_once(start: Start<'_>) {
    let Some(site) = Site::start() else { return };
    match refused_by_tls(start, site.options(Way::Tls, site.ports.other)) {
        TlsError::WrongName { expected, presented } => {
            assert_eq!(expected, "localhost");
            assert!(presented.iter().any(|name| name.contains("service.test")), "{presented:?}");
        }
        error => panic!("{error:?}"),
    }
}

pub(super) fn a_missing_client_certificate_is_told_at_once(start: Start<'_>) {
    let Some(site) = Site::start() else { return };
    let options = site.options(Way::Tls, site.ports.mutual);
    assert_eq!(refused_by_tls(start, options), TlsError::ClientCertificateRequired);
}

pub(super) fn a_client_certificate_of_an_unknown_issuer_is_told_at_once(start: Start<'_>) {
    let Some(site) = Site::start() else { return };
    let stranger = Authority::new("strangers").client("stranger");
    let options =
        site.options(Way::Tls, site.ports.mutual).route(|route| route.tls(site.tls(Some(&stranger))));
    let error = refused_by_tls(start, options);
    assert!(matches!(error, TlsError::ClientCertificateRejected { .. }), "{error:?}");
}

pub(super) fn a_server_without_tls_is_told_at_once(start: Start<'_>) {
    let Some(site) = Site::start() else { return };
    // mosquitto would wait for the rest of what it takes for a packet; its WebSocket listener answers in HTTP.
    let error = refused(start, site.options(Way::Tls, site.ports.ws));
    assert_eq!(error, LayerError::Tls(TlsError::NotTls));
}

pub(super) fn wrong_credentials_of_a_proxy_are_told_at_once(start: Start<'_>) {
    let (Some(site), Some(socks), Some(http)) = (Site::start(), socks5(), http()) else { return };
    let wrong = |scheme: &str, port: u16| {
        let proxy = Proxy::parse(&format!("{scheme}://proxy-user:wrong@127.0.0.1:{port}")).unwrap();
        refused(start, site.options(Way::Tcp, site.ports.tcp).route(|route| route.proxy(proxy)))
    };
    let error = wrong("socks5h", socks.port);
    assert_eq!(error, LayerError::Socks5(Socks5Error::BadCredentials));
    let error = wrong("http", http.port);
    let status = matches!(
        error,
        LayerError::HttpProxy(
            HttpProxyError::AuthenticationRequired | HttpProxyError::Refused { status: 401, .. }
        )
    );
    assert!(status, "{error:?}");
}

pub(super) fn a_sub_protocol_that_the_server_does_not_speak_is_told_at_once(start: Start<'_>) {
    let Some(site) = Site::start() else { return };
    let options = site.options(Way::WebSocket, site.ports.ws);
    let options = options.route(|route| route.websocket(WebSocketOptions::new().subprotocols(["nonsense"])));
    let client = start(quick(options, "refused")).unwrap();
    // mosquitto closes without an answer, which may pass: the client goes on trying, and the events tell why.
    let event = wait("an event", client.events().recv()).unwrap();
    let ClientEvent::ConnectFailed { cause: Some(TransportError::Layer(cause)), .. } = event else {
        panic!("{event:?}")
    };
    let refused = WebSocketError::NoSubprotocol;
    let known = [LayerError::Truncated(LayerKind::WebSocket), LayerError::WebSocket(refused)];
    assert!(known.contains(&cause), "{cause}");
}
