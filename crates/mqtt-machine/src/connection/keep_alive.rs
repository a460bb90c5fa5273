//! Owns the question whether the peer is alive: when to ask, and how long to wait for the answer.
//! It must not know packets.
//!
//! A PINGREQ is due when nothing was sent, or nothing was received, for the interval: a QoS 0 publisher that always
//! sends still notices a dead link. Any inbound byte is life. While we ourselves do not read, the timers stand still.

use core::time::Duration;

use crate::time::Instant;

#[derive(Clone, Copy, Debug)]
pub(crate) struct KeepAlive {
    /// In microseconds; zero: off.
    interval: u64,
    /// In microseconds.
    timeout: u64,
    last_sent: Instant,
    last_received: Instant,
    asked_at: Option<Instant>,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    Ping,
    Dead,
}

impl KeepAlive {
    pub(crate) const fn new(now: Instant) -> Self {
        Self { interval: 0, timeout: 0, last_sent: now, last_received: now, asked_at: None }
    }

    pub(crate) fn start(&mut self, now: Instant, interval: Duration, timeout: Duration) {
        *self = Self { interval: micros(interval), timeout: micros(timeout), ..Self::new(now) };
    }

    pub(crate) const fn sent(&mut self, now: Instant) {
        self.last_sent = now;
    }

    pub(crate) const fn received(&mut self, now: Instant) {
        self.last_received = now;
        self.asked_at = None;
    }

    /// Reading goes on after a pause: the time that we did not listen is not the peer's silence.
    pub(crate) fn resumed(&mut self, now: Instant) {
        self.last_received = now;
        if self.asked_at.is_some() {
            self.asked_at = Some(now);
        }
    }

    fn ping_at(&self, paused: bool) -> Instant {
        let quiet_since = if paused { self.last_sent } else { self.last_sent.min(self.last_received) };
        after(quiet_since, self.interval)
    }

    pub(crate) fn deadline(&self, paused: bool) -> Option<Instant> {
        if self.interval == 0 {
            return None;
        }
        match self.asked_at {
            Some(_) if paused => Some(after(self.last_sent, self.interval)),
            Some(asked_at) => Some(after(asked_at, self.timeout).min(after(self.last_sent, self.interval))),
            None => Some(self.ping_at(paused)),
        }
    }

    /// What is due at `now`; a due ping is noted as asked.
    pub(crate) fn poll(&mut self, now: Instant, paused: bool) -> Due {
        if self.interval == 0 {
            return Due::Nothing;
        }
        if let Some(asked_at) = self.asked_at {
            if !paused && now >= after(asked_at, self.timeout) {
                return Due::Dead;
            }
            // The answer may take longer than the interval: the server must still hear from us.
            if now >= after(self.last_sent, self.interval) {
                self.last_sent = now;
                return Due::Ping;
            }
            return Due::Nothing;
        }
        if now < self.ping_at(paused) {
            return Due::Nothing;
        }
        self.asked_at = Some(now);
        self.last_sent = now;
        Due::Ping
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

const fn after(instant: Instant, micros: u64) -> Instant {
    Instant::from_micros(instant.as_micros().saturating_add(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    fn started() -> KeepAlive {
        let mut keep_alive = KeepAlive::new(at(0));
        keep_alive.start(at(0), Duration::from_secs(60), Duration::from_secs(10));
        keep_alive
    }

    // 5.0: MQTT-3.1.2-20
    // 3.1.1: MQTT-3.1.2-23
    #[test]
    fn silence_in_either_direction_asks_and_any_byte_is_the_answer() {
        let mut keep_alive = started();
        assert_eq!(keep_alive.poll(at(59), false), Due::Nothing);
        keep_alive.sent(at(59));
        assert_eq!(keep_alive.poll(at(60), false), Due::Ping);
        keep_alive.received(at(65));
        assert_eq!(keep_alive.poll(at(75), false), Due::Nothing);
        assert_eq!(keep_alive.deadline(false), Some(at(120)));
    }

    #[test]
    fn neither_side_is_asked_while_both_are_heard() {
        let mut keep_alive = started();
        for second in (30..600).step_by(30) {
            keep_alive.received(at(second));
            keep_alive.sent(at(second + 10));
            assert_eq!(keep_alive.deadline(false), Some(at(second + 60)));
            assert_eq!(keep_alive.poll(at(second + 29), false), Due::Nothing);
        }
    }

    // 5.0: MQTT-3.12.4-1
    // 3.1.1: MQTT-3.12.4-1
    #[test]
    fn no_answer_within_the_timeout_is_death() {
        let mut keep_alive = started();
        assert_eq!(keep_alive.poll(at(60), false), Due::Ping);
        assert_eq!(keep_alive.poll(at(69), false), Due::Nothing);
        assert_eq!(keep_alive.poll(at(70), false), Due::Dead);
    }

    #[test]
    fn while_we_do_not_read_nobody_is_declared_dead() {
        let mut keep_alive = started();
        assert_eq!(keep_alive.poll(at(60), false), Due::Ping);
        assert_eq!(keep_alive.deadline(false), Some(at(70)), "the answer is late by then");
        assert_eq!(keep_alive.deadline(true), Some(at(120)), "the answer may lie where we do not look");
        assert_eq!(keep_alive.poll(at(500), true), Due::Ping, "the server still hears from us");
        keep_alive.resumed(at(500));
        assert_eq!(keep_alive.poll(at(509), false), Due::Nothing);
        assert_eq!(keep_alive.poll(at(510), false), Due::Dead);
    }

    #[test]
    fn an_interval_of_zero_never_asks() {
        let mut keep_alive = KeepAlive::new(at(0));
        assert_eq!(keep_alive.poll(at(1_000_000), false), Due::Nothing);
        assert_eq!(keep_alive.deadline(false), None);
    }
}
