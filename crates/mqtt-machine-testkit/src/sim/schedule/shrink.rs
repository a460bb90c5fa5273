//! Owns the shrinking of a schedule that fails: the smallest one that fails by the same rule.
//! It must not know why it fails.

use std::time::Duration;

use super::policies::Policies;
use super::{Failure, Schedule, Step, ms};
use crate::invariants::Invariant;
use crate::sim::Settle;

/// Runs that shrinking may take.
const RUNS: usize = 800;

/// A schedule being shrunk.
struct Shrinker<F> {
    best: Schedule,
    invariant: Invariant,
    /// By which rule a schedule fails first.
    fails: F,
    runs: usize,
}

impl Schedule {
    /// The smallest schedule found that fails by the same rule as `failure`, by taking away steps and faults, shortening
    /// waits and calming links, in at most 800 runs; itself when none is smaller.
    #[must_use]
    pub fn shrink(&self, failure: &Failure) -> Self {
        match failure.invariant() {
            Some(invariant) => self.shrink_by(invariant, |candidate| candidate.run().err()?.invariant()),
            None => self.clone(),
        }
    }

    fn shrink_by(&self, invariant: Invariant, fails: impl Fn(&Self) -> Option<Invariant>) -> Self {
        let mut shrinker = Shrinker { best: self.clone(), invariant, fails, runs: 0 };
        loop {
            let before = shrinker.best.to_string();
            shrinker.drop_steps();
            shrinker.calm();
            if shrinker.runs >= RUNS || before == shrinker.best.to_string() {
                return shrinker.best;
            }
        }
    }
}

impl<F: Fn(&Schedule) -> Option<Invariant>> Shrinker<F> {
    /// Keeps a candidate that fails by the same rule.
    fn offer(&mut self, candidate: Schedule) -> bool {
        if self.runs >= RUNS {
            return false;
        }
        self.runs += 1;
        let fails = (self.fails)(&candidate) == Some(self.invariant);
        if fails {
            self.best = candidate;
        }
        fails
    }

    /// Takes away halves of the steps, then quarters, down to single ones.
    fn drop_steps(&mut self) {
        let mut size = self.best.steps.len().div_ceil(2);
        while size > 0 {
            let mut at = 0;
            while at < self.best.steps.len() {
                let mut candidate = self.best.clone();
                let end = (at + size).min(candidate.steps.len());
                // What came after them still comes at its time.
                let gap: Duration = candidate.steps.drain(at..end).map(|step| step.after).sum();
                if !self.offer(candidate.clone()) {
                    if let Some(next) = candidate.steps.get_mut(at) {
                        next.after += gap;
                    }
                    if gap.is_zero() || !self.offer(candidate) {
                        at += size;
                    }
                }
            }
            size /= 2;
        }
    }

    /// Makes everything as simple as it can be, one thing at a time.
    fn calm(&mut self) {
        let simpler: [fn(&mut Schedule); 26] = [
            Schedule::peel,
            |it| it.options.breaks = 0,
            |it| it.options.breaks = it.options.breaks.saturating_sub(1),
            |it| it.options.refuse_one_in = 0,
            |it| it.options.straggle = ms(0)..=ms(0),
            |it| it.options.late_input = false,
            |it| it.options.latency = ms(5)..=ms(5),
            |it| it.options.chunk = 65_536..=65_536,
            |it| it.options.mark = 65_536..=65_536,
            |it| it.options.notice = ms(0)..=ms(0),
            |it| it.options.settle = Settle::AtOnce,
            |it| it.options.store = ms(0)..=ms(0),
            |it| it.options.broker.receive_maximum = u16::MAX,
            |it| it.options.broker.delay = ms(0),
            |it| it.receive_maximum = u16::MAX,
            |it| it.in_flight = u16::MAX,
            |it| it.incoming_bytes = 32 << 20,
            |it| it.prepare = false,
            |it| it.terms.follows = false,
            |it| it.terms.authenticates = false,
            |it| it.interests.filters = 1,
            |it| it.interests.identified = false,
            |it| it.policies = Policies::default(),
            |it| it.policies.priorities = false,
            |it| it.policies.keyed = false,
            |it| it.policies.watchdog = 0,
        ];
        for simplify in simpler {
            self.offer_unless_same(simplify);
        }
        self.offer_unless_same(|it| it.subscribers = it.subscribers.min(1));
        self.offer_unless_same(|it| {
            let used = it.steps.iter().filter_map(Step::server).max().map_or(1, |most| most + 1);
            it.options.servers = used;
        });
        for at in 0..self.best.steps.len() {
            self.offer_unless_same(|it| {
                if let Some(step) = it.steps.get_mut(at) {
                    step.after = ms(0);
                }
            });
        }
    }

    fn offer_unless_same(&mut self, simplify: impl FnOnce(&mut Schedule)) {
        let mut candidate = self.best.clone();
        simplify(&mut candidate);
        if format!("{candidate}") != format!("{}", self.best) {
            self.offer(candidate);
        }
    }
}

#[cfg(test)]
mod tests {
    use mqtt_machine::ProtocolVersion;

    use super::super::What;
    use super::*;

    #[test]
    fn what_does_not_matter_is_taken_away() {
        let is_crash = |step: &Step| matches!(step.what, What::Crash(..));
        let is_third = |step: &Step| matches!(step.what, What::Publish { number: 3, .. });
        let fails = |it: &Schedule| {
            let both = it.steps.iter().any(is_crash) && it.steps.iter().any(is_third);
            (both && it.in_flight == 1).then_some(Invariant::Durable)
        };
        let seeds = (0..10_000).map(|seed| Schedule::from_seed(ProtocolVersion::V5, seed));
        let mut tried = 0;
        for schedule in seeds.filter(|schedule| fails(schedule).is_some()).take(20) {
            let small = schedule.shrink_by(Invariant::Durable, fails);
            assert_eq!(fails(&small), Some(Invariant::Durable), "it still fails");
            assert_eq!((small.len(), small.options.breaks, small.subscribers), (2, 0, 1), "{small}");
            assert!(small.steps.iter().all(|step| step.after.is_zero()), "{small}");
            tried += 1;
        }
        assert_eq!(tried, 20);
    }
}
