//! Owns what holds for a dialling, whatever name servers, resolvers and sockets answer, in any order and at any time.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use mqtt_machine_transport::{Attempt, Dial, DialStep, Endpoint, Proxy, Route, RouteOptions};

/// The ways that a choice of the fuzzer's stands for.
static WAYS: LazyLock<Vec<Arc<Route>>> = LazyLock::new(|| {
    let ways = [
        ("mqtt://broker.example", None),
        ("mqtt://127.0.0.1", None),
        ("unix:///run/broker.sock", None),
        ("mqtt+srv://example.org", None),
        ("mqtt://broker.example", Some("socks5://proxy.example")),
        ("mqtt+srv://example.org", Some("socks5://127.0.0.1")),
        ("mqtt+srv://example.org", Some("http://proxy.example")),
    ];
    let route = |(url, proxy): (&str, Option<&str>)| {
        let mut options = RouteOptions::new();
        if let Some(proxy) = proxy {
            options = options.proxy(Proxy::parse(proxy).expect("a proxy"));
        }
        Arc::new(Route::new(Endpoint::parse(url).expect("an endpoint"), &options).expect("a route"))
    };
    ways.into_iter().map(route).collect()
});

/// What is under way.
#[derive(Default)]
struct UnderWay {
    question: Option<Vec<u8>>,
    lookup: bool,
    attempts: Vec<Attempt>,
}

/// A dialling never panics, never asks to be called again at once, never forgets to go on, and a failure stays. The first byte
/// chooses the way, the others what happens.
pub(crate) fn any_order(data: &[u8]) {
    let [way, steps @ ..] = data else { return };
    let route = Arc::clone(&WAYS[usize::from(*way) % WAYS.len()]);
    let begin = Instant::now();
    let (mut dial, mut elapsed) = (Dial::new(route, &nameservers(), 7), Duration::ZERO);
    let mut under_way = UnderWay::default();
    go_on(&mut dial, begin, &mut under_way);
    for pair in steps.chunks(2) {
        let [what, how @ ..] = pair else { return };
        let how = how.first().copied().unwrap_or_default();
        let failed = dial.failure();
        match what % 9 {
            0 => elapsed += Duration::from_millis(how.into()),
            1 => elapsed += Duration::from_secs(how.into()),
            2 if under_way.lookup => {
                under_way.lookup = false;
                dial.handle_resolved(Ok((0..how % 9).map(address).collect()));
            }
            3 if under_way.lookup => {
                under_way.lookup = false;
                dial.handle_resolved(Err(ErrorKind::NotFound.into()));
            }
            4 | 5 if !under_way.attempts.is_empty() => {
                let attempt = under_way.attempts.remove(usize::from(how) % under_way.attempts.len());
                if what % 9 == 5 {
                    let _ = dial.handle_connected(attempt);
                    // The others are worth nothing, whatever becomes of them.
                    for attempt in under_way.attempts.drain(..) {
                        dial.handle_failed(attempt, &ErrorKind::TimedOut.into());
                    }
                    return;
                }
                dial.handle_failed(attempt, &ErrorKind::ConnectionRefused.into());
            }
            6 if under_way.question.is_some() => dial.handle_answer(&spoilt(&mut under_way, how, steps)),
            7 if under_way.question.take().is_some() => dial.handle_unasked(),
            // Answers that nobody asked for.
            _ => {
                dial.handle_answer(steps);
                if !under_way.lookup {
                    dial.handle_resolved(Ok(vec![address(how)]));
                }
            }
        }
        if failed.is_some() {
            assert_eq!(dial.failure(), failed, "a failure stays");
        }
        go_on(&mut dial, begin + elapsed, &mut under_way);
    }
}

fn nameservers() -> [SocketAddr; 2] {
    [SocketAddr::from((Ipv4Addr::LOCALHOST, 53)), SocketAddr::from((Ipv6Addr::LOCALHOST, 53))]
}

fn address(number: u8) -> SocketAddr {
    let ip = if number.is_multiple_of(2) {
        IpAddr::V4(Ipv4Addr::new(127, 0, 0, number))
    } else {
        IpAddr::V6(Ipv6Addr::from(u128::from(number)))
    };
    SocketAddr::new(ip, 1883)
}

/// An answer that begins as the question did: with a header of the fuzzer's, and its bytes behind the question.
fn spoilt(under_way: &mut UnderWay, how: u8, bytes: &[u8]) -> Vec<u8> {
    let mut answer = under_way.question.clone().unwrap_or_default();
    if let Some(flags) = answer.get_mut(2..8) {
        flags.copy_from_slice(&[0x80 | (how & 2), how & 15, 0, 1, 0, how >> 6]);
    }
    answer.extend_from_slice(bytes);
    answer
}

fn go_on(dial: &mut Dial, now: Instant, under_way: &mut UnderWay) {
    let mut steps = 0;
    while let Some(step) = dial.poll_step(now) {
        steps += 1;
        assert!(steps < 64, "it has no end of steps");
        match step {
            DialStep::Ask(question) => under_way.question = Some(question.message.to_vec()),
            DialStep::Resolve(_) => under_way.lookup = true,
            DialStep::Connect(attempt, _) => under_way.attempts.push(attempt),
            _ => {}
        }
    }
    assert!(dial.deadline().is_none_or(|deadline| deadline > now), "it asks to be called again at once");
    let idle = under_way.question.is_none() && !under_way.lookup && under_way.attempts.is_empty();
    assert!(!idle || dial.deadline().is_some() || dial.failure().is_some(), "it waits for nothing");
}
