//! Owns the proof that a client of this adapter authenticates by SCRAM and by methods of users' own, against the model broker
//! on a loopback port. It must not know the messages of any method.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mqtt_machine_testkit::broker::BrokerConfig;
use mqtt_machine_testkit::tcp::Broker;
use mqtt_machine_tokio::{
    AuthenticationError, Authenticator, Client, ClientEvent, CommandError, ConnectError, EndReason, Exchange,
    Message, Options, Outcome, ProtocolVersion, QoS, ReasonCode, ReauthenticationError, Scram, Secret,
};
use support::{options, within};

fn broker() -> Broker {
    Broker::start(BrokerConfig::new().scram_user("user", "pencil")).unwrap()
}

fn scram(broker: &Broker, method: impl Authenticator + 'static) -> Options {
    options(&broker.url(), "prover", ProtocolVersion::V5).authenticator(method)
}

async fn publish(client: &Client) {
    let message = Message::to("a", "!").unwrap().qos(QoS::AtLeastOnce);
    let outcome = client.publish(message).await.unwrap().await;
    assert!(matches!(outcome, Outcome::Acknowledged(_)), "{outcome:?}");
}

#[tokio::test]
async fn a_client_connects_reconnects_and_authenticates_again() {
    for method in [Scram::sha256("user", "pencil"), Scram::sha512("user", "pencil")] {
        within(20, async {
            let broker = broker();
            let client = Client::connect(scram(&broker, method)).await.unwrap();
            let mut events = client.events();
            publish(&client).await;
            let exchange = client.reauthenticate().unwrap();
            let again = client.reauthenticate();
            assert!(matches!(again, Err(CommandError::Refused(_))), "{again:?}");
            assert_eq!(exchange.await, Ok(()));
            publish(&client).await;
            assert_eq!(events.recv().await, Some(ClientEvent::Reauthenticated));
            // A new connection is a new exchange.
            broker.cut_all();
            assert!(matches!(events.recv().await, Some(ClientEvent::Disconnected { retry_at: Some(_), .. })));
            assert!(matches!(events.recv().await, Some(ClientEvent::Connected(_))));
            publish(&client).await;
            client.disconnect().await.unwrap();
            assert_eq!(broker.broker(|broker| broker.log().violations().count()), 0);
        })
        .await;
    }
}

#[tokio::test]
async fn what_an_auth_of_the_server_explains_is_an_event() {
    within(10, async {
        let broker = broker();
        let client = Client::connect(scram(&broker, Scram::sha256("user", "pencil"))).await.unwrap();
        let mut events = client.events();
        let text =
            |id: u8, text: &str| [&[id, 0, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
        let properties = [text(0x15, "SCRAM-SHA-256"), text(0x1F, "once more")].concat();
        let length = u8::try_from(properties.len()).unwrap();
        // "Continue authentication", though nobody has begun.
        let auth = [&[0xF0, length + 2, 0x18, length], &properties[..]].concat();
        assert!(broker.broker(|broker| broker.inject("prover", &auth)));
        let Some(ClientEvent::Auth { reason, properties }) = events.recv().await else { panic!("no word") };
        assert_eq!(reason, ReasonCode::ContinueAuthentication);
        let said: Vec<String> = properties.as_properties().iter().map(|it| format!("{it:?}")).collect();
        assert_eq!(said, ["ReasonString(\"once more\")"]);
    })
    .await;
}

#[tokio::test]
async fn a_wrong_password_and_an_unspoken_method_are_refused_for_good() {
    let broker = broker();
    let speaks_none = Broker::start(BrokerConfig::new()).unwrap();
    for (broker, method, expected) in [
        (&broker, Scram::sha256("user", "wrong"), ReasonCode::NotAuthorized),
        (&broker, Scram::sha512("nobody", "pencil"), ReasonCode::NotAuthorized),
        (&speaks_none, Scram::sha256("user", "pencil"), ReasonCode::BadAuthenticationMethod),
    ] {
        let error = within(10, Client::connect(scram(broker, method))).await.unwrap_err();
        let ConnectError::GaveUp(EndReason::Refused { reason, .. }) = error else { panic!("{error:?}") };
        assert_eq!(reason, expected);
    }
}

#[tokio::test]
async fn an_impostor_is_left_before_it_gets_anything() {
    within(10, async {
        let config = BrokerConfig::new().scram_user("user", "pencil").scram_impostor();
        let broker = Broker::start(config).unwrap();
        let (client, driver) = Client::with_driver(scram(&broker, Scram::sha256("user", "pencil"))).unwrap();
        let mut events = client.events();
        let waiting = client.publish(Message::to("secret", "plans").unwrap().qos(QoS::AtLeastOnce)).await;
        tokio::spawn(driver);
        let failed = loop {
            match events.recv().await.unwrap() {
                ClientEvent::Connected(_) => {}
                ClientEvent::AuthenticationFailed { why } => assert!(!why.contains("pencil"), "{why}"),
                ClientEvent::Disconnected { reason, retry_at, .. } => break (reason, retry_at),
                event => panic!("{event:?}"),
            }
        };
        assert_eq!(failed, (EndReason::AuthenticationFailed, None));
        let arrived = broker.broker(|broker| broker.log().count("secret", b"plans"));
        assert_eq!(arrived, 0);
        drop(waiting);
    })
    .await;
}

#[tokio::test]
async fn a_server_that_asks_for_too_little_work_is_left() {
    let config = BrokerConfig::new().scram_user("user", "pencil").scram_iterations(1_000);
    let broker = Broker::start(config).unwrap();
    let error =
        within(10, Client::connect(scram(&broker, Scram::sha256("user", "pencil")))).await.unwrap_err();
    assert_eq!(error, ConnectError::GaveUp(EndReason::AuthenticationFailed));
    // Who knows what he does may take it.
    let tolerant = Scram::sha256("user", "pencil").iterations(1_000..=10_000);
    within(10, Client::connect(scram(&broker, tolerant))).await.unwrap().disconnect().await.unwrap();
}

/// A method of a user's own that cannot begin at first: its token comes late.
struct Late {
    asked: Arc<AtomicUsize>,
    then: Scram,
}

impl Authenticator for Late {
    fn method(&self) -> &str {
        self.then.method()
    }

    fn begin(&self) -> Result<(Box<dyn Exchange>, Option<Secret>), AuthenticationError> {
        if self.asked.fetch_add(1, Ordering::Relaxed) < 2 {
            return Err(AuthenticationError("no token yet".to_owned()));
        }
        self.then.begin()
    }
}

#[tokio::test]
async fn a_method_that_cannot_begin_is_asked_again_after_the_back_off() {
    within(10, async {
        let broker = broker();
        let asked = Arc::new(AtomicUsize::new(0));
        let late = Late { asked: Arc::clone(&asked), then: Scram::sha256("user", "pencil") };
        let client = Client::connect(scram(&broker, late)).await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), 3);
        client.disconnect().await.unwrap();
        assert!(matches!(client.reauthenticate(), Err(CommandError::Closed)));
    })
    .await;
}

/// A method that gives up in the middle, from its second exchange on.
struct Wavering(AtomicUsize, Scram);

impl Authenticator for Wavering {
    fn method(&self) -> &str {
        self.1.method()
    }

    fn begin(&self) -> Result<(Box<dyn Exchange>, Option<Secret>), AuthenticationError> {
        match self.0.fetch_add(1, Ordering::Relaxed) {
            0 => self.1.begin(),
            _ => Ok((Box::new(GivesUp), self.1.begin()?.1)),
        }
    }
}

struct GivesUp;

impl Exchange for GivesUp {
    fn step(&mut self, _: &[u8]) -> Result<Secret, AuthenticationError> {
        Err(AuthenticationError("not today".to_owned()))
    }

    fn finish(&mut self, _: &[u8]) -> Result<(), AuthenticationError> {
        Ok(())
    }
}

#[tokio::test]
async fn authenticating_again_tells_its_caller_how_it_ended() {
    within(10, async {
        let broker = broker();
        let connect = || Client::connect(scram(&broker, Scram::sha256("user", "pencil")));
        // The server does not accept any more.
        let client = connect().await.unwrap();
        broker.broker(|broker| broker.config_mut().scram_users.insert("user".into(), "other".into()));
        let error = client.reauthenticate().unwrap().await.unwrap_err();
        assert!(matches!(error, ReauthenticationError::Ended(EndReason::Disconnect { .. })), "{error}");
        broker.broker(|broker| broker.config_mut().scram_users.insert("user".into(), "pencil".into()));
        // One that goes on trying would take over from the next, whose name is the same.
        client.disconnect().await.unwrap();
        // The connection is lost before the server answers.
        let client = connect().await.unwrap();
        let exchange = client.reauthenticate().unwrap();
        broker.cut("prover");
        let lost = exchange.await;
        assert!(matches!(
            lost,
            Ok(()) | Err(ReauthenticationError::Ended(_) | ReauthenticationError::NotConnected)
        ));
        client.disconnect().await.unwrap();
        // The method gives up.
        let wavering = Wavering(AtomicUsize::new(0), Scram::sha256("user", "pencil"));
        let client = Client::connect(scram(&broker, wavering)).await.unwrap();
        let error = client.reauthenticate().unwrap().await.unwrap_err();
        assert_eq!(error, ReauthenticationError::Failed("not today".to_owned()));
        client.disconnect().await.unwrap();
        // The client is gone.
        let (client, driver) = Client::with_driver(scram(&broker, Scram::sha256("user", "pencil"))).unwrap();
        let driver = tokio::spawn(driver);
        client.connected().await.unwrap();
        let exchange = client.reauthenticate().unwrap();
        driver.abort();
        assert_eq!(exchange.await, Err(ReauthenticationError::Closed));
    })
    .await;
}

#[tokio::test]
async fn without_an_authenticator_there_is_nothing_to_begin_again() {
    let broker = Broker::start(BrokerConfig::new()).unwrap();
    let client = Client::connect(options(&broker.url(), "plain", ProtocolVersion::V5)).await.unwrap();
    assert!(matches!(client.reauthenticate(), Err(CommandError::Refused(_))));
    client.disconnect().await.unwrap();
}
