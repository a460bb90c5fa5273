//! Owns cancellation: every future of the handle is polled so many times and dropped, at each await point in turn. It must not
//! know a runtime's `select!`.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};
use std::thread;
use std::time::{Duration, Instant};

use mqtt_machine_client::{
    ClientEvent, ConnectError, Disconnect, Drained, Limits, Outcome, QoS, Scram, response_to,
};

use super::LONGEST;
use super::bench::{
    Bench, SECOND, V5, VERSIONS, accepted, broker, broker_with, limited, message, numbers, options,
    poll_times,
};
use crate::broker::BrokerConfig;

const EVERY_QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
const QOS_1: QoS = QoS::AtLeastOnce;
const QOS_2: QoS = QoS::ExactlyOnce;
/// Polls before a future is dropped: none of them needs as many.
const POLLS: usize = 5;

pub(super) fn a_cancelled_publish_is_not_accepted_and_loses_nothing_that_was(bench: &Bench) {
    let broker = broker();
    let limits = Limits { outgoing_messages: 2, ..Limits::DEFAULT };
    let client = bench.connect(limited(&broker.url(), "cancel", limits));
    // So that there is something to wait for.
    broker.broker(|broker| broker.delay_client("cancel", Duration::from_millis(5)));
    let (mut taken, mut cancelled, mut outcomes) = (Vec::new(), 0, [0; 2]);
    let start = Instant::now();
    for number in 0.. {
        // A busy machine needs more of them, until each end has been met.
        let met = cancelled > 20 && taken.len() > 20 && outcomes.iter().all(|&count| count > 5);
        if number >= 120 && (met || start.elapsed() > bench.patience) {
            assert!(met, "{cancelled} cancelled, {} taken, {outcomes:?}", taken.len());
            break;
        }
        let text = number.to_string();
        let publish = client.publish(message("t", text.clone(), EVERY_QOS[number % 3]));
        match poll_times(publish, number % POLLS) {
            None => cancelled += 1,
            Some(Err(error)) => panic!("{error}"),
            Some(Ok(delivery)) => {
                taken.push(text);
                match poll_times(delivery, number / POLLS % POLLS) {
                    Some(Outcome::Sent | Outcome::Acknowledged(_)) => outcomes[0] += 1,
                    Some(outcome) => panic!("{outcome:?}"),
                    None => outcomes[1] += 1,
                }
            }
        }
    }
    assert_eq!(client.pending(), 0, "nobody waits for an outcome");
    // Places and permits are all there.
    bench.deliver(&client, message("t", "first", QOS_2));
    bench.until("all has ended", || broker.broker(|broker| broker.log().count("t", b"first")) == 1);
    broker.broker(|broker| broker.delay_client("cancel", SECOND / 4));
    let fill = || client.try_publish(message("t", "room", QOS_1)).map(drop);
    assert!(fill().is_ok() && fill().is_ok() && fill().is_err_and(|error| error.is_full()));
    bench.disconnect(&client);
    let mut got = accepted(&broker);
    got.retain(|text| text != "first" && text != "room");
    let by_number = |text: &String| text.parse::<usize>().unwrap_or(usize::MAX);
    // QoS 2 may be accepted after what followed it.
    got.sort_by_key(by_number);
    assert_eq!(got, taken);
}

pub(super) fn a_cancelled_place_in_line_is_given_back(bench: &Bench) {
    let broker = broker();
    let limits = Limits { outgoing_messages: 1, ..Limits::DEFAULT };
    let client = bench.connect(limited(&broker.url(), "place", limits));
    broker.broker(|broker| broker.delay_client("place", Duration::from_millis(30)));
    for round in 0..10 {
        bench
            .wait("room", client.publish(message("t", "holds", QOS_1)))
            .map_or_else(|error| panic!("{error}"), drop);
        let mut context = Context::from_waker(Waker::noop());
        let publish = |text: &str| Box::pin(client.publish(message("t", text, QOS_1)));
        let mut line = ["a", "b", "c"].map(publish);
        for waiting in &mut line {
            assert!(waiting.as_mut().poll(&mut context).is_pending(), "there is no room");
        }
        let [first, second, third] = line;
        if round % 2 == 0 {
            // One in the middle of the line goes, then the first, before there is room.
            drop(second);
            drop(first);
        } else {
            // The first goes at some moment before or after it got room, then the next.
            thread::sleep(Duration::from_millis(round * 10));
            drop(first);
            drop(second);
        }
        let delivery = bench.wait("room", third);
        let outcome = delivery.map(|delivery| bench.wait("an outcome", delivery));
        assert!(matches!(outcome, Ok(Outcome::Acknowledged(_))), "{outcome:?}");
    }
    bench.disconnect(&client);
    let expected: Vec<&str> = (0..10).flat_map(|_| ["holds", "c"]).collect();
    assert_eq!(accepted(&broker), expected);
}

pub(super) fn a_cancelled_subscribe_or_unsubscribe_leaves_nothing_behind(bench: &Bench) {
    let broker = broker();
    let client = bench.connect(options(&broker.url(), "leaves", V5));
    let other = bench.connect(options(&broker.url(), "other", V5));
    broker.broker(|broker| broker.delay_client("leaves", Duration::from_millis(3)));
    let mut given_up = 0;
    for polls in 0..2 * POLLS {
        let topic = format!("cancelled/{polls}");
        match poll_times(client.subscribe(&topic, QOS_1), polls) {
            None => given_up += 1,
            Some(Ok(stream)) => {
                given_up += usize::from(poll_times(stream.unsubscribe(), polls % POLLS).is_none());
            }
            Some(Err(error)) => panic!("{error}"),
        }
        // The server has answered everything before when it answers this.
        let mut barrier = bench.subscribe(&client, "barrier", QOS_1);
        bench.deliver(&other, message(&topic, "nobody", QOS_1));
        bench.deliver(&other, message("barrier", topic.clone(), QOS_1));
        assert_eq!(bench.next(&mut barrier), topic);
        assert_eq!((client.unrouted(), client.pending()), (0, 0), "{polls} polls");
    }
    assert!(given_up >= POLLS, "{given_up}");
    bench.disconnect(&client);
    bench.disconnect(&other);
}

pub(super) fn futures_that_a_select_cancels_lose_no_acknowledgement(bench: &Bench) {
    const COUNT: usize = 200;
    let broker = broker();
    let client = bench.connect(options(&broker.url(), "select", V5));
    let mut stream = bench.subscribe(&client, "select", QOS_2);
    let (mut sent, mut got, mut cancelled) = (0, Vec::new(), 0);
    for polls in (0..3).cycle() {
        if got.len() == COUNT {
            break;
        }
        // Whatever is not ready soon is dropped half-way and begun again.
        match poll_times(stream.recv(), polls) {
            Some(Some(message)) => got.push(message.payload_lossy()),
            Some(None) => panic!("the stream has ended"),
            None => cancelled += 1,
        }
        if sent < COUNT
            && let Some(delivery) =
                poll_times(client.publish(message("select", sent.to_string(), QOS_2)), polls)
        {
            sent += 1;
            let outcome = delivery.map(|delivery| poll_times(delivery, (polls + 1) % 3));
            assert!(matches!(outcome, Ok(None | Some(Outcome::Acknowledged(_)))), "{outcome:?}");
        }
    }
    assert_eq!(got, numbers(COUNT));
    assert!(cancelled > 0);
    // A PUBREC or PUBCOMP that was lost would never come.
    bench.until("all is acknowledged", || broker.broker(|broker| broker.owed_to("select")) == 0);
    bench.disconnect(&client);
    broker.broker(|broker| assert_eq!(broker.log().violations().count(), 0));
}

pub(super) fn a_reader_of_events_that_is_cancelled_loses_none(bench: &Bench) {
    let broker = broker();
    let client = bench.connect(options(&broker.url(), "events", V5));
    let mut events = client.events();
    let mut told = Vec::new();
    for cut in 0..6 {
        assert!(broker.cut("events"));
        // What a connection that has begun again is told by is read in pieces.
        for polls in (0..POLLS).cycle() {
            match poll_times(events.recv(), polls) {
                None => {}
                Some(Some(ClientEvent::Disconnected { .. })) => told.push('d'),
                Some(Some(ClientEvent::Connected(_))) => {
                    told.push('c');
                    break;
                }
                Some(Some(ClientEvent::ConnectFailed { .. })) => {}
                Some(other) => panic!("{other:?}"),
            }
            assert!(told.len() <= 2 * cut + 1, "{told:?}");
        }
        bench.until("the broker knows", || broker.broker(|broker| broker.conn_of("events").is_some()));
    }
    assert_eq!(told.iter().collect::<String>(), "dc".repeat(6));
    bench.disconnect(&client);
}

pub(super) fn a_cancelled_wait_for_a_connection_changes_nothing(bench: &Bench) {
    let broker = broker();
    for polls in 0..POLLS {
        let client = bench.start(options(&broker.url(), "connected", V5));
        // Some of them are the last to wait.
        let mut kept = pin!(client.connected());
        let _ = kept.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        let _ = poll_times(client.connected(), polls);
        let result = bench.wait("a connection", kept);
        assert!(result.is_ok(), "{result:?}");
        bench.disconnect(&client);
        assert_eq!(bench.wait("an answer", client.connected()), Err(ConnectError::Closed));
    }
}

pub(super) fn a_cancelled_disconnect_goes_on(bench: &Bench) {
    let broker = broker();
    for polls in 0..POLLS {
        let client = bench.connect(options(&broker.url(), "cancelled", V5));
        broker.broker(|broker| broker.delay_client("cancelled", Duration::from_millis(20)));
        let delivery = bench.wait("room", client.publish(message("t", polls.to_string(), QOS_2)));
        let end = poll_times(client.disconnect_with(Disconnect::new(5 * SECOND)), polls);
        if polls == 0 {
            // It was never asked for.
            bench.deliver(&client, message("t", "more", QOS_2));
            assert!(client.is_connected());
            bench.disconnect(&client);
        } else {
            assert!(end.as_ref().is_none_or(|end| end.as_ref().is_ok_and(Drained::is_complete)), "{end:?}");
            assert_eq!(bench.wait("the end", closed(&client)), ConnectError::Closed);
        }
        let outcome = delivery.map(|delivery| bench.wait("an outcome", delivery));
        assert!(matches!(outcome, Ok(Outcome::Acknowledged(_))), "{outcome:?}");
        bench.until("the client is gone", || broker.broker(|broker| broker.connected().count()) == 0);
    }
    assert_eq!(accepted(&broker), ["0", "more", "1", "2", "3", "4"]);
}

pub(super) fn a_request_is_cancelled_at_every_await_point_and_the_next_is_answered(bench: &Bench) {
    for version in VERSIONS {
        let broker = broker();
        let answers = bench.connect(options(&broker.url(), "answers", version));
        let mut asked = bench.subscribe(&answers, "ask/#", QOS_1);
        let asker = bench.connect(options(&broker.url(), "asks", version));
        let requester = asker.requester();
        thread::scope(|scope| {
            scope.spawn(|| {
                while let Some(request) = bench.wait_for(LONGEST, asked.recv()).flatten() {
                    let response = response_to(&request, request.payload.clone());
                    let response = response.map(|response| answers.try_publish(response).map(drop));
                    assert_eq!(response, Ok(Ok(())));
                }
            });
            // One poll more each time, until the answer is there: then it was dropped at every place where it waits.
            let (mut polls, mut answered) = (0, 0);
            while answered < 3 {
                let text = polls.to_string();
                match poll_times(requester.request(message("ask/it", text.clone(), QOS_1)), polls) {
                    None => polls += 1 + polls / 8,
                    Some(Ok(answer)) => {
                        assert_eq!(answer.payload_lossy(), text);
                        answered += 1;
                    }
                    Some(Err(error)) => panic!("{error}"),
                }
                assert_eq!(requester.open(), 0, "after {polls} polls");
            }
            let last = bench.wait("an answer", requester.request(message("ask/it", "last", QOS_1)));
            assert_eq!(last.map(|answer| answer.payload_lossy()), Ok("last".to_owned()));
            // Each of the others that had left has its answer, for which nobody waits.
            let left = || {
                broker.broker(|broker| {
                    broker.log().accepted().filter(|one| &*one.client_id == "asks").count() as u64
                })
            };
            bench.until("late answers", || requester.dropped().late + answered + 1 == left());
            assert_eq!((requester.dropped().unknown, asker.unrouted(), asker.pending()), (0, 0, 0));
            bench.disconnect(&asker);
            bench.disconnect(&answers);
        });
        broker.broker(|broker| assert_eq!(broker.log().violations().count(), 0));
    }
}

pub(super) fn an_authentication_that_nobody_waits_for_goes_on(bench: &Bench) {
    let broker = broker_with(BrokerConfig::new().scram_user("user", "pencil"));
    let method = Scram::sha256("user", "pencil");
    let client = bench.connect(options(&broker.url(), "again", V5).authenticator(method));
    let mut events = client.events();
    for polls in 0..POLLS {
        let Ok(again) = client.reauthenticate() else { panic!("{polls}: it is not begun") };
        let _ = poll_times(again, polls);
        assert_eq!(bench.event(&mut events), ClientEvent::Reauthenticated, "{polls} polls");
    }
    bench.disconnect(&client);
    broker.broker(|broker| assert_eq!(broker.log().violations().count(), 0));
}

/// The error of a client that has ended, which is when its events end.
async fn closed(client: &mqtt_machine_client::Client) -> ConnectError {
    let mut events = client.events();
    while events.recv().await.is_some() {}
    match client.connected().await {
        Ok(_) => panic!("it is connected"),
        Err(error) => error,
    }
}
