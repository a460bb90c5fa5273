//! Owns the proof that every request ends once and with its own answer: random histories beside a model of what is owed. It must
//! not open a socket, nor know how a request says where its answer goes.

mod support;

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use mqtt_machine::packet::{PropertiesBuf, Property};
use mqtt_machine::{Message, ProtocolVersion, QoS};
use mqtt_machine_client::{
    Client, Dropped, Request, RequestError, RequestOptions, Requester, Subscription, response_to,
};
use proptest::collection::vec;
use proptest::prelude::*;
use support::Way;
use support::bench::Bench;

/// What happens to requests.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// One more, which waits long or, if not, ends before anybody answers.
    Ask { patient: bool },
    /// The other side answers a request that it has seen: the one at this place, counted round.
    Answer(usize),
    /// It answers one that was never asked, to where this one's answer goes.
    Invent(usize),
    /// The one at this place is given up.
    Drop(usize),
    /// The connection breaks and comes back; the server has forgotten the session.
    Cut { forgets: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::bool::weighted(0.9).prop_map(|patient| Step::Ask { patient }),
        4 => (0_usize..40).prop_map(Step::Answer),
        1 => (0_usize..40).prop_map(Step::Invent),
        1 => (0_usize..40).prop_map(Step::Drop),
        1 => prop::bool::ANY.prop_map(|forgets| Step::Cut { forgets }),
    ]
}

/// What the model says of a request.
#[derive(Clone, Debug, PartialEq)]
enum Owed {
    Nothing,
    Answer(Vec<u8>),
    Timeout,
    GivenUp,
}

/// A request with its model.
struct Asked {
    request: Option<Pin<Box<Request>>>,
    owed: Owed,
    /// As the other side got it.
    seen: Option<Message>,
    result: Option<Result<Vec<u8>, RequestError>>,
}

struct World {
    bench: Bench,
    client: Client,
    service: Subscription,
    patient: Requester,
    hasty: Requester,
    asked: Vec<Asked>,
    dropped: Dropped,
    answers: usize,
}

impl World {
    fn new(version: ProtocolVersion) -> Self {
        let way = Way::direct("mqtt://host");
        let options = way.options().configure(|config| config.version(version));
        let (client, mut bench) = Bench::new(way, options);
        bench.done(client.connected()).unwrap();
        let service = bench.done(client.subscribe("ask/#", QoS::ExactlyOnce)).unwrap();
        let patient = client.requester_with(RequestOptions::new().timeout(Duration::from_secs(3_600)));
        let hasty = client.requester_with(RequestOptions::new().timeout(Duration::from_millis(1)));
        let (asked, dropped) = (Vec::new(), Dropped::default());
        let mut world = Self { bench, client, service, patient, hasty, asked, dropped, answers: 0 };
        world.settle();
        world
    }

    /// Everybody does what there is to do.
    fn settle(&mut self) {
        for _ in 0..6 {
            self.bench.run();
            let mut context = Context::from_waker(Waker::noop());
            for asked in &mut self.asked {
                let Some(request) = &mut asked.request else { continue };
                if let Poll::Ready(result) = request.as_mut().poll(&mut context) {
                    asked.result = Some(result.map(|answer| answer.payload.to_vec()));
                    asked.request = None;
                }
            }
            while let Ok(request) = self.service.try_recv() {
                let number: usize = request.payload_lossy().parse().unwrap();
                self.asked[number].seen = Some(request.into_message());
            }
        }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Ask { patient } => {
                let message = Message::to("ask/it", self.asked.len().to_string()).unwrap();
                let requester = if patient { &self.patient } else { &self.hasty };
                let request = Some(Box::pin(requester.request(message.qos(QoS::AtLeastOnce))));
                let owed = if patient { Owed::Nothing } else { Owed::Timeout };
                self.asked.push(Asked { request, owed, seen: None, result: None });
                self.settle();
                if !patient {
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
            Step::Answer(place) => {
                let Some((place, request)) = self.seen(place) else { return };
                self.answers += 1;
                let payload = format!("answer {} to {place}", self.answers).into_bytes();
                self.reply(response_to(&request, payload.clone()).unwrap());
                match &mut self.asked[place].owed {
                    owed @ Owed::Nothing => *owed = Owed::Answer(payload),
                    _ => self.dropped.late += 1,
                }
            }
            Step::Invent(place) => {
                let Some((_, request)) = self.seen(place) else { return };
                let mut reply = response_to(&request, "invented").unwrap();
                let is_correlation =
                    |property: &Property<'_>| matches!(property, Property::CorrelationData(_));
                if reply.properties.as_properties().iter().any(|property| is_correlation(&property)) {
                    reply.properties =
                        PropertiesBuf::new().with(Property::CorrelationData(&[0xFF; 16])).unwrap();
                } else {
                    let (place, _) = reply.topic.as_str().rsplit_once('/').unwrap();
                    reply.topic = format!("{place}/{}", "f".repeat(32)).as_str().try_into().unwrap();
                }
                self.reply(reply);
                self.dropped.unknown += 1;
            }
            Step::Drop(place) => {
                if self.asked.is_empty() {
                    return;
                }
                let place = place % self.asked.len();
                let asked = &mut self.asked[place];
                if asked.request.take().is_some() {
                    asked.owed = Owed::GivenUp;
                }
            }
            Step::Cut { forgets } => {
                if forgets {
                    self.bench.broker.forget_session("stack");
                }
                self.bench.cut();
                self.bench.run();
                // Now, and not after the back-off.
                let _ = self.client.reconnect();
                self.settle();
                self.bench.done(self.client.connected()).unwrap();
            }
        }
        self.settle();
    }

    fn seen(&self, place: usize) -> Option<(usize, Message)> {
        let seen = self.asked.iter().enumerate();
        let seen: Vec<(usize, &Message)> =
            seen.filter_map(|(number, asked)| Some((number, asked.seen.as_ref()?))).collect();
        let (number, request) = seen.get(place % seen.len().max(1))?;
        Some((*number, (*request).clone()))
    }

    fn reply(&mut self, reply: Message) {
        let publish = self.client.publish(reply);
        drop(self.bench.done(publish).unwrap());
    }

    fn judge(&mut self) -> Result<(), TestCaseError> {
        for (number, asked) in self.asked.iter().enumerate() {
            let told = asked.result.as_ref();
            match &asked.owed {
                Owed::Nothing => prop_assert!(told.is_none(), "request {number}: {told:?}"),
                Owed::Answer(payload) => {
                    prop_assert_eq!(told, Some(&Ok(payload.clone())), "request {}", number);
                }
                Owed::Timeout => {
                    let timeout = matches!(told, Some(Err(RequestError::Timeout { .. })));
                    prop_assert!(timeout, "request {number}: {told:?}");
                }
                Owed::GivenUp => prop_assert!(told.is_none(), "request {number}: {told:?}"),
            }
        }
        let waiting = self.asked.iter().filter(|asked| asked.owed == Owed::Nothing).count();
        prop_assert_eq!((self.patient.open(), self.hasty.open()), (waiting, 0));
        let (patient, hasty) = (self.patient.dropped(), self.hasty.dropped());
        let all = (patient.late + hasty.late, patient.unknown + hasty.unknown);
        prop_assert_eq!(all, (self.dropped.late, self.dropped.unknown));
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn every_request_ends_once_with_its_own_answer(
        steps in vec(step(), 1..40),
        version in prop::sample::select(vec![ProtocolVersion::V5, ProtocolVersion::V3_1_1, ProtocolVersion::V3_1]),
    ) {
        let mut world = World::new(version);
        for step in steps {
            world.apply(step);
            world.judge()?;
        }
        // Whatever still waits is answered in the end.
        for place in 0..world.asked.len() {
            if world.asked[place].owed == Owed::Nothing {
                let request = world.asked[place].seen.clone();
                let request = request.ok_or_else(|| TestCaseError::fail(format!("request {place} never came")))?;
                let payload = format!("in the end {place}").into_bytes();
                world.reply(response_to(&request, payload.clone()).unwrap());
                world.asked[place].owed = Owed::Answer(payload);
                world.settle();
            }
        }
        world.judge()?;
    }
}
