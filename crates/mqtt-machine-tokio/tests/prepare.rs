//! Owns the proof that a closure decides server and credentials of every attempt, at once or slowly, against the model broker on
//! a loopback port. It must not know what a token is.

mod support;

use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mqtt_machine_testkit::broker::BrokerConfig;
use mqtt_machine_testkit::tcp::Broker;
use mqtt_machine_tokio::{
    Attempt, Client, ClientEvent, ConnectError, EndReason, Message, NotNow, Options, Outcome, Prepared,
    ProtocolVersion, QoS, ReasonCode, Scram, Server,
};
use support::{VERSIONS, free_port, options, within};
use tokio::sync::{Notify, oneshot};

const V5: ProtocolVersion = ProtocolVersion::V5;

fn broker(password: &str) -> Broker {
    Broker::start(BrokerConfig::new().user("me", password)).unwrap()
}

fn server(broker: &Broker) -> Server {
    Server::new(format!("127.0.0.1:{}", broker.port()))
}

async fn publish(client: &Client) {
    let message = Message::to("a", "!").unwrap().qos(QoS::AtLeastOnce);
    let outcome = client.publish(message).await.unwrap().await;
    assert!(matches!(outcome, Outcome::Acknowledged(_)), "{outcome:?}");
}

/// Counts attempts and keeps what each was told.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<Attempt>>>);

impl Asked {
    fn note(&self, attempt: Attempt) -> usize {
        let mut asked = self.0.lock().unwrap();
        asked.push(attempt);
        asked.len()
    }

    fn take(&self) -> Vec<Attempt> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

#[tokio::test]
async fn every_attempt_brings_the_token_of_its_time() {
    for version in VERSIONS {
        within(20, async {
            let broker = broker("token-1");
            let (asked, token) = (Asked::default(), Arc::new(AtomicUsize::new(1)));
            let options = options(&broker.url(), "fresh", version).prepare({
                let (asked, token) = (asked.clone(), Arc::clone(&token));
                move |attempt| {
                    asked.note(attempt);
                    let token = token.load(Ordering::Relaxed);
                    Ok(Prepared::as_configured().username_password("me", format!("token-{token}")))
                }
            });
            assert!(!format!("{options:?}").contains("token-"));
            let client = Client::connect(options).await.unwrap();
            publish(&client).await;
            let first = asked.take();
            assert_eq!(first.len(), 1);
            assert_eq!((first[0].failed, &first[0].last), (0, &None));
            assert_eq!(first[0].server, Some(server(&broker)));

            // The server takes another token now; the client learns of it later.
            broker.broker(|broker| broker.config_mut().users.insert("me".into(), b"token-2".to_vec()));
            let mut events = client.events();
            broker.cut_all();
            let refused = loop {
                if let Some(ClientEvent::ConnectFailed { reason, retry_at, .. }) = events.recv().await {
                    break (reason, retry_at);
                }
            };
            assert!(matches!(refused, (EndReason::Refused { .. }, Some(_))), "{refused:?}");
            token.store(2, Ordering::Relaxed);
            publish(&client).await;
            let asked = asked.take();
            assert!(matches!(asked[0].last, Some(EndReason::Closed(_))), "{:?}", asked[0]);
            let last = asked.last().unwrap();
            assert!(last.failed >= 1 && matches!(last.last, Some(EndReason::Refused { .. })), "{last:?}");
            client.disconnect().await.unwrap();
        })
        .await;
    }
}

#[tokio::test]
async fn a_slow_answer_holds_nothing_up_but_its_attempt() {
    within(20, async {
        let broker = broker("fetched");
        let fetched = Arc::new(Notify::new());
        let options = options(&broker.url(), "slow", V5).prepare_with({
            let fetched = Arc::clone(&fetched);
            move |_| {
                let fetched = Arc::clone(&fetched);
                async move {
                    fetched.notified().await;
                    // What the runtime has can be used.
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    Ok(Prepared::as_configured().username_password("me", "fetched"))
                }
            }
        });
        let client = Client::start(options).unwrap();
        tokio::time::sleep(Duration::from_millis(30)).await;
        // Nothing waits for the answer but the connection: commands are accepted.
        let delivery = client.publish(Message::to("a", "!").unwrap().qos(QoS::AtLeastOnce)).await.unwrap();
        assert!(!client.is_connected());
        fetched.notify_one();
        assert!(matches!(delivery.await, Outcome::Acknowledged(_)));
        client.disconnect().await.unwrap();
    })
    .await;
}

/// Tells when it is dropped.
struct Dropped(Option<oneshot::Sender<()>>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.take().map(|sender| sender.send(()));
    }
}

/// Options whose first answer never comes, and a future that is ready when it is given up.
fn hangs_once(broker: &Broker, asked: &Asked) -> (Options, oneshot::Receiver<()>) {
    let (sender, dropped) = oneshot::channel();
    let (first, asked) = (Mutex::new(Some(Dropped(Some(sender)))), asked.clone());
    let options = options(&broker.url(), "hangs", V5).prepare_with(move |attempt| {
        asked.note(attempt);
        let held = first.lock().unwrap().take();
        async move {
            if held.is_some() {
                pending::<()>().await;
            }
            drop(held);
            Ok(Prepared::as_configured().username_password("me", "x"))
        }
    });
    (options, dropped)
}

#[tokio::test]
async fn an_answer_that_nobody_waits_for_any_more_is_given_up() {
    within(20, async {
        let broker = broker("x");
        let asked = Asked::default();
        // By the connect timeout.
        let (options, dropped) = hangs_once(&broker, &asked);
        let options = options.configure(|config| config.connect_timeout(Duration::from_millis(60)));
        let client = Client::connect(options).await.unwrap();
        dropped.await.unwrap();
        let attempts = asked.take();
        assert_eq!(attempts.len(), 2);
        assert_eq!((attempts[1].failed, &attempts[1].last), (1, &Some(EndReason::ConnectTimeout)));
        client.disconnect().await.unwrap();
        // By a wish to connect anew.
        let (options, dropped) = hangs_once(&broker, &asked);
        let client = Client::start(options).unwrap();
        while asked.0.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        client.reconnect().unwrap();
        client.connected().await.unwrap();
        dropped.await.unwrap();
        assert_eq!(asked.take()[1].last, Some(EndReason::Reconnect));
        client.disconnect().await.unwrap();
        // By the end of the client.
        let (options, dropped) = hangs_once(&broker, &asked);
        let client = Client::start(options).unwrap();
        while asked.0.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        client.disconnect().await.unwrap();
        dropped.await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn not_now_is_an_attempt_that_failed_and_follows_the_back_off() {
    within(20, async {
        let broker = broker("x");
        let asked = Asked::default();
        let options = options(&broker.url(), "later", V5).prepare({
            let asked = asked.clone();
            move |attempt| {
                let count = asked.note(attempt);
                if count < 3 {
                    return Err(NotNow(format!("no token yet, {count}")));
                }
                Ok(Prepared::as_configured().username_password("me", "x"))
            }
        });
        let client = Client::connect(options.clone()).await.unwrap();
        let attempts = asked.take();
        let told: Vec<_> = attempts.iter().map(|attempt| (attempt.failed, attempt.last.clone())).collect();
        let why = |count| Some(EndReason::NotPrepared(format!("no token yet, {count}")));
        assert_eq!(told, [(0, None), (1, why(1)), (2, why(2))]);
        client.disconnect().await.unwrap();
        // It counts against the attempts that are allowed.
        let options = options.configure(|mut config| {
            config.backoff.attempts = Some(1);
            config
        });
        let error = Client::connect(options).await.unwrap_err();
        assert_eq!(error, ConnectError::GaveUp(why(2).unwrap()));
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_is_found_at_run_time() {
    within(20, async {
        let (first, second) = (broker("x"), broker("x"));
        let servers = [server(&first), server(&second)];
        let asked = Arc::new(AtomicUsize::new(0));
        // None is configured at all.
        let options = options("mqtt://127.0.0.1:1", "found", V5)
            .configure(|mut config| {
                config.servers.clear();
                config.username_password("me", "x")
            })
            .prepare(move |attempt| {
                assert_eq!(attempt.server, None);
                match asked.fetch_add(1, Ordering::Relaxed) {
                    0 => Ok(Prepared::as_configured()),
                    count => Ok(Prepared::as_configured().server(servers[(count - 1) % 2].clone())),
                }
            });
        let (client, driver) = Client::with_driver(options).unwrap();
        let mut events = client.events();
        tokio::spawn(driver);
        let Some(ClientEvent::ConnectFailed { reason: EndReason::NotPrepared(why), .. }) =
            events.recv().await
        else {
            panic!()
        };
        assert!(why.contains("no server"), "{why}");
        assert_eq!(client.connected().await.unwrap().server, server(&first));
        first.cut_all();
        assert!(matches!(events.recv().await, Some(ClientEvent::Connected(_))));
        assert!(matches!(events.recv().await, Some(ClientEvent::Disconnected { .. })));
        assert_eq!(client.connected().await.unwrap().server, server(&second));
        client.disconnect().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn an_authenticator_follows_what_the_closure_chose() {
    within(20, async {
        let broker = Broker::start(BrokerConfig::new().scram_user("user", "pencil")).unwrap();
        let place = server(&broker);
        let options = options(&format!("mqtt://127.0.0.1:{}", free_port()), "both", V5)
            .prepare_with(move |_| {
                let place = place.clone();
                async move {
                    tokio::task::yield_now().await;
                    Ok(Prepared::as_configured().server(place))
                }
            })
            .authenticator(Scram::sha256("user", "pencil"));
        let client = Client::connect(options.clone()).await.unwrap();
        publish(&client).await;
        client.reauthenticate().unwrap().await.unwrap();
        publish(&client).await;
        client.disconnect().await.unwrap();
        // What the method says is refused as ever.
        let error = Client::connect(options.authenticator(Scram::sha256("user", "wrong"))).await.unwrap_err();
        let ConnectError::GaveUp(EndReason::Refused { reason, .. }) = error else { panic!("{error:?}") };
        assert_eq!(reason, ReasonCode::NotAuthorized);
    })
    .await;
}

#[tokio::test]
async fn the_closure_may_use_the_client() {
    within(20, async {
        let broker = broker("x");
        let handle: Arc<Mutex<Option<Client>>> = Arc::default();
        let options = options(&broker.url(), "inside", V5).prepare({
            let handle = Arc::clone(&handle);
            move |attempt| {
                // No lock is held, so any call on the handle returns.
                let Some(client) = handle.lock().unwrap().clone() else { return Err(NotNow("soon".into())) };
                client.try_publish(Message::to("a", format!("{}", attempt.failed)).unwrap()).unwrap();
                assert!(!client.is_connected());
                Ok(Prepared::as_configured().username_password("me", "x"))
            }
        });
        let client = Client::start(options).unwrap();
        *handle.lock().unwrap() = Some(client.clone());
        client.connected().await.unwrap();
        publish(&client).await;
        client.disconnect().await.unwrap();
        handle.lock().unwrap().take();
    })
    .await;
}
