//! The router alone, before a server that is a few lines: which stream gets which copy of a message.

use std::collections::BTreeSet;

use mqtt_machine::packet::PropertiesBuf;
use mqtt_machine::{Codes, QoS, Subscription};
use proptest::prelude::*;

use super::*;

fn filter(text: &str) -> TopicFilter {
    TopicFilter::new(text).unwrap()
}

fn request(filters: &[&str]) -> Subscribe {
    let one = |text: &&str| Subscription::new(filter(text), QoS::AtLeastOnce);
    Subscribe::new(filters.iter().map(one).collect())
}

/// A message with these identifiers.
fn message(topic: &str, identifiers: &[u32]) -> Message {
    let mut message = Message::to(topic, "").unwrap();
    for identifier in identifiers {
        message.properties.push(Property::SubscriptionIdentifier(*identifier)).unwrap();
    }
    message
}

fn outcome(codes: &[ReasonCode]) -> Outcome {
    Outcome::Subscribed(Codes::new(codes.to_vec(), PropertiesBuf::new()))
}

const YES: ReasonCode = ReasonCode::GrantedQoS1;
const NO: ReasonCode = ReasonCode::NotAuthorized;

/// A router with a count of commands.
#[derive(Default)]
struct Bench {
    router: Router,
    ops: u64,
}

impl Bench {
    /// A stream, its request, and the identifier of that.
    fn ask(&mut self, request: &Subscribe) -> (usize, OpId, u32) {
        self.ops += 1;
        let op = OpId::new(self.ops);
        let identifier = self.router.identify(request);
        let filters = request.subscriptions.iter().map(|one| one.filter.clone()).collect();
        let stream = self.router.add(op, filters, identifier);
        let (Identifier::Own(identifier) | Identifier::Users(identifier)) = identifier;
        (stream, op, identifier)
    }

    /// A stream whose request the server grants, and the identifier.
    fn open(&mut self, filters: &[&str]) -> (usize, u32) {
        let (stream, op, identifier) = self.ask(&request(filters));
        self.router.answered(op, &outcome(&vec![YES; filters.len()]));
        (stream, identifier)
    }

    /// Which streams a message goes to.
    fn found(&mut self, topic: &str, identifiers: &[u32]) -> Vec<usize> {
        self.router.find(&message(topic, identifiers));
        let mut found = self.router.targets.clone();
        found.sort_unstable();
        found
    }
}

#[test]
fn each_copy_goes_to_its_own_stream_and_one_copy_for_all_goes_once_to_each() {
    let mut bench = Bench::default();
    let (all, for_all) = bench.open(&["a/#"]);
    let (one, for_one) = bench.open(&["a/b"]);
    let (both, for_both) = bench.open(&["a/+", "b"]);
    assert_eq!(BTreeSet::from([for_all, for_one, for_both]).len(), 3);
    assert_eq!(bench.found("a/b", &[for_all]), [all]);
    assert_eq!(bench.found("a/b", &[for_one]), [one]);
    assert_eq!(bench.found("a/b", &[for_both]), [both]);
    assert_eq!(bench.found("a/b", &[for_one, for_both, for_all]), [all, one, both]);
    assert_eq!(bench.found("a/b", &[for_one, for_one]), [one]);
    assert_eq!(bench.found("a/b", &[]), [all, one, both], "the topic decides where nothing else does");
}

#[test]
fn an_identifier_of_another_life_leaves_it_to_the_topic() {
    let mut bench = Bench::default();
    let (all, for_all) = bench.open(&["a/#"]);
    let (one, _) = bench.open(&["a/b"]);
    let foreign = for_all ^ 0x0123_4567;
    assert_eq!(bench.found("a/b", &[foreign]), [all, one]);
    assert_eq!(bench.found("a/b", &[for_all, foreign]), [all, one]);
    assert_eq!(bench.found("x", &[foreign]), [0; 0]);
    // Another life may have given the same one, for other topics.
    let (other, for_other) = bench.open(&["x"]);
    assert_eq!(bench.found("a/b", &[for_other]), [all, one]);
    assert_eq!(bench.found("x", &[for_other]), [other]);
}

#[test]
fn a_request_of_many_filters_is_told_from_others_as_one_of_few_is() {
    let mut bench = Bench::default();
    let texts: Vec<String> = (0..100).map(|number| format!("many/{number}")).collect();
    let mut filters: Vec<&str> = texts.iter().map(String::as_str).collect();
    filters.extend(["many/+", "many/7"]);
    let (many, for_many) = bench.open(&filters);
    let (one, for_one) = bench.open(&["many/#"]);
    assert_eq!(bench.found("many/7", &[for_many]), [many]);
    assert_eq!(bench.found("many/7", &[for_one]), [one]);
    assert_eq!(bench.found("many/7", &[for_one, for_many]), [many, one]);
    assert_eq!(bench.found("many/7", &[]), [many, one]);
    assert_eq!(bench.found("many/7/x", &[for_many]), [one], "another life's: the topic decides");
    let (again, for_again) = bench.open(&filters);
    assert_eq!(for_again, for_many);
    assert_eq!(bench.found("many/7", &[for_many]), [many, again]);
    bench.router.remove(again);
    assert_eq!(bench.router.remove(many).1.len(), 101, "each filter once");
    assert_eq!(bench.found("many/7", &[for_many]), [0; 0], "its own copy is on its way, too");
    // The server refuses every second one.
    let (half, op, for_half) = bench.ask(&request(&filters[..100]));
    let codes: Vec<ReasonCode> = (0..100).map(|number| if number % 2 == 0 { YES } else { NO }).collect();
    bench.router.answered(op, &outcome(&codes));
    assert_eq!(bench.found("many/8", &[for_half]), [half]);
    assert_eq!(bench.found("many/7", &[for_half]), [one]);
    assert_eq!(bench.router.remove(half).1.len(), 50);
}

#[test]
fn streams_with_the_same_filter_share_its_identifier() {
    let mut bench = Bench::default();
    let (first, one) = bench.open(&["a/#"]);
    let (second, two) = bench.open(&["a/#"]);
    assert_eq!(one, two, "the server replaces the subscription by an equal one");
    assert_eq!(bench.found("a/b", &[one]), [first, second]);
    bench.router.remove(first);
    assert_eq!(bench.found("a/b", &[one]), [second]);
    let (pair, pairs) = bench.open(&["x", "y"]);
    let (again, agains) = bench.open(&["y", "x", "y"]);
    assert_eq!(pairs, agains);
    assert_eq!(bench.found("y", &[pairs]), [pair, again]);
}

#[test]
fn a_filter_that_moves_to_another_identifier_gets_what_was_on_its_way_under_the_old_one() {
    let mut bench = Bench::default();
    let (pair, old) = bench.open(&["a/#", "+/b"]);
    let (one, op, new) = bench.ask(&request(&["a/#"]));
    assert_ne!(old, new, "the other filter keeps the old one");
    // The server has taken the request, or not yet.
    assert_eq!(bench.found("a/x", &[old]), [pair, one]);
    assert_eq!(bench.found("a/x", &[new]), [pair, one]);
    bench.router.answered(op, &outcome(&[YES]));
    assert_eq!(bench.found("a/x", &[old]), [pair, one]);
    assert_eq!(bench.found("a/x", &[new]), [pair, one]);
    assert_eq!(bench.found("x/b", &[old]), [pair]);
}

#[test]
fn a_refused_request_leaves_the_subscription_that_it_would_have_replaced() {
    let mut bench = Bench::default();
    let (pair, old) = bench.open(&["a/#", "+/b"]);
    let (refused, op, new) = bench.ask(&request(&["a/#", "c"]));
    bench.router.answered(op, &outcome(&[NO, YES]));
    assert_eq!(bench.found("a/b", &[old]), [pair]);
    assert_eq!(bench.found("c", &[new]), [refused]);
    assert_eq!(bench.found("a/b", &[new]), [pair], "not given for it: the topic decides");
    let (gone, op, new) = bench.ask(&request(&["d"]));
    bench.router.answered(op, &outcome(&[NO]));
    assert_eq!(bench.found("d", &[new]), [0; 0]);
    assert!(!bench.router.uses(&filter("d")));
    assert!(bench.router.remove(gone).1.is_empty(), "there is nothing to unsubscribe from");
}

#[test]
fn of_two_requests_for_a_filter_one_may_be_refused() {
    for (first, second) in [(YES, NO), (NO, YES)] {
        let mut bench = Bench::default();
        let (one, op, identifier) = bench.ask(&request(&["a"]));
        let (two, other, same) = bench.ask(&request(&["a"]));
        assert_eq!(identifier, same);
        bench.router.answered(op, &outcome(&[first]));
        bench.router.answered(other, &outcome(&[second]));
        let granted = if first == YES { one } else { two };
        assert_eq!(bench.found("a", &[identifier]), [granted]);
    }
}

#[test]
fn messages_on_their_way_to_a_stream_that_is_gone_go_to_no_other() {
    let mut bench = Bench::default();
    let (gone, for_gone) = bench.open(&["a/#"]);
    let (stays, for_stays) = bench.open(&["a/b"]);
    assert_eq!(bench.router.remove(gone).1, [filter("a/#")]);
    assert_eq!(bench.found("a/b", &[for_gone]), [0; 0], "its own copy is on its way, too");
    assert_eq!(bench.found("a/b", &[for_stays]), [stays]);
    assert_eq!(bench.found("a/b", &[for_gone, for_stays]), [stays]);
    let rest = bench.router.add_catch_all();
    assert_eq!(bench.found("a/b", &[for_gone]), [rest], "that is what such a stream is for");
    let (again, for_again) = bench.open(&["a/#"]);
    assert_ne!(for_gone, for_again);
    assert_eq!(bench.found("a/b", &[for_again]), [again]);
}

#[test]
fn an_answer_that_comes_late_is_not_taken_for_that_of_another_stream() {
    let mut bench = Bench::default();
    let (gone, op, old) = bench.ask(&request(&["a"]));
    bench.router.remove(gone);
    let (stream, new) = bench.open(&["a"]);
    assert_eq!(gone, stream, "the place is used again");
    bench.router.answered(op, &outcome(&[NO]));
    assert_eq!(bench.found("a", &[new]), [stream]);
    assert_eq!(bench.found("a", &[old]), [0; 0]);
    assert!(bench.router.asked.is_empty());
}

#[test]
fn an_identifier_of_the_users_is_taken_as_it_is() {
    let mut bench = Bench::default();
    let (all, for_all) = bench.open(&["a/#"]);
    let mut users = request(&["a/b"]);
    users.properties.push(Property::SubscriptionIdentifier(7)).unwrap();
    let (one, op, identifier) = bench.ask(&users);
    bench.router.answered(op, &outcome(&[YES]));
    assert_eq!(identifier, 7);
    assert_eq!(bench.found("a/b", &[7]), [one]);
    assert_eq!(bench.found("a/b", &[for_all]), [all]);
    assert!(bench.router.identifiers.is_own(for_all) && !bench.router.identifiers.is_own(7));
    // A stream without one of its own makes the client give one.
    let (_, own) = bench.open(&["a/b"]);
    assert_ne!(own, 7);
}

#[test]
fn a_filter_that_is_subscribed_again_for_ever_costs_a_bounded_memory() {
    let mut bench = Bench::default();
    let (kept, first) = bench.open(&["a"]);
    for _ in 0..10_000 {
        let (other, _) = bench.open(&["a", "b"]);
        bench.router.remove(other);
    }
    let route = bench.router.filters.get(&filter("a")).copied().unwrap();
    assert!(bench.router.routes.get(route).unwrap().identifiers.len() <= REMEMBERED);
    // What is forgotten is as if never given: nothing is lost.
    assert_eq!(bench.found("a", &[first]), [kept]);
}

/// What happens, each with a choice.
#[derive(Clone, Debug)]
enum Act {
    /// A stream asks for these filters; the server grants it or not, and says so later.
    Open(Vec<&'static str>, bool),
    Close(prop::sample::Index),
    /// The oldest answer arrives.
    Answer,
    Publish(&'static str),
    /// The oldest packet arrives.
    Arrive,
}

fn act(most: usize) -> impl Strategy<Value = Act> {
    let filters = prop::sample::select(vec!["a/#", "a/+", "a/b", "#", "$share/g/a/b"]);
    prop_oneof![
        3 => (prop::collection::vec(filters, 1..=most), prop::bool::weighted(0.8))
            .prop_map(|(filters, granted)| Act::Open(filters, granted)),
        1 => any::<prop::sample::Index>().prop_map(Act::Close),
        2 => Just(Act::Answer),
        4 => prop::sample::select(vec!["a/b", "a/c", "x"]).prop_map(Act::Publish),
        4 => Just(Act::Arrive),
    ]
}

/// A copy on its way: its topic, identifiers, and the name of its message.
type Copy = (&'static str, Vec<u32>, usize);

/// A router, a server and what is between them.
#[derive(Default)]
struct World {
    bench: Bench,
    /// What the server has granted.
    subscriptions: BTreeMap<TopicFilter, u32>,
    answers: VecDeque<(OpId, Outcome)>,
    copies: VecDeque<Copy>,
    /// Open streams with what was granted to them.
    streams: BTreeMap<usize, Vec<TopicFilter>>,
    /// For each message: who must get it, and who has how often.
    messages: Vec<(BTreeSet<usize>, BTreeMap<usize, usize>)>,
    copies_each: bool,
}

impl World {
    fn act(&mut self, act: Act) {
        match act {
            Act::Open(filters, granted) => {
                let (stream, op, identifier) = self.bench.ask(&request(&filters));
                let code = if granted { YES } else { NO };
                self.answers.push_back((op, outcome(&vec![code; filters.len()])));
                let filters: Vec<TopicFilter> = filters.into_iter().map(filter).collect();
                if granted {
                    self.subscriptions.extend(filters.iter().map(|filter| (filter.clone(), identifier)));
                }
                self.streams.insert(stream, if granted { filters } else { Vec::new() });
            }
            Act::Close(index) => {
                let open: Vec<usize> = self.streams.keys().copied().collect();
                if open.is_empty() {
                    return;
                }
                let stream = *index.get(&open);
                self.streams.remove(&stream);
                for unused in self.bench.router.remove(stream).1 {
                    self.subscriptions.remove(&unused);
                }
                // Its number may come again, for a stream that is owed nothing.
                for (owed, got) in &mut self.messages {
                    owed.remove(&stream);
                    got.remove(&stream);
                }
            }
            Act::Answer => {
                if let Some((op, outcome)) = self.answers.pop_front() {
                    self.bench.router.answered(op, &outcome);
                }
            }
            Act::Publish(topic) => self.publish(topic),
            Act::Arrive => self.arrive(),
        }
    }

    fn publish(&mut self, topic: &'static str) {
        let name = TopicName::new(topic).unwrap();
        let matching = self.subscriptions.iter().filter(|(filter, _)| filter.matches(&name));
        let identifiers: Vec<u32> = matching.map(|(_, identifier)| *identifier).collect();
        let owed = self.streams.iter().filter(|(_, filters)| filters.iter().any(|it| it.matches(&name)));
        self.messages.push((owed.map(|(stream, _)| *stream).collect(), BTreeMap::new()));
        let number = self.messages.len() - 1;
        if self.copies_each {
            self.copies.extend(identifiers.into_iter().map(|it| (topic, vec![it], number)));
        } else if !identifiers.is_empty() {
            self.copies.push_back((topic, identifiers, number));
        }
    }

    fn arrive(&mut self) {
        let Some((topic, identifiers, number)) = self.copies.pop_front() else { return };
        for stream in self.bench.found(topic, &identifiers) {
            *self.messages[number].1.entry(stream).or_default() += 1;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_stream_gets_what_it_is_owed_and_nothing_twice(
        acts in prop::collection::vec(act(1), 1..60),
        copies_each in any::<bool>(),
    ) {
        let mut world = World { copies_each, ..World::default() };
        acts.into_iter().for_each(|act| world.act(act));
        while !world.copies.is_empty() {
            world.arrive();
        }
        for (owed, got) in world.messages {
            prop_assert!(owed.iter().all(|stream| got.contains_key(stream)), "{owed:?} {got:?}");
            prop_assert!(got.values().all(|times| *times == 1), "{got:?}");
        }
    }

    #[test]
    fn streams_of_several_filters_lose_nothing_and_one_copy_for_all_arrives_once(
        acts in prop::collection::vec(act(3), 1..60),
        copies_each in any::<bool>(),
    ) {
        let mut world = World { copies_each, ..World::default() };
        acts.into_iter().for_each(|act| world.act(act));
        while !world.copies.is_empty() {
            world.arrive();
        }
        for (owed, got) in world.messages {
            prop_assert!(owed.iter().all(|stream| got.contains_key(stream)), "{owed:?} {got:?}");
            prop_assert!(copies_each || got.values().all(|times| *times == 1), "{got:?}");
        }
    }
}
