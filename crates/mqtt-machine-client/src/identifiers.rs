//! Owns Subscription Identifiers: which are given, and what each leads to. It must not know filters, streams or messages.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

/// The greatest identifier (5.0, section 3.8.2.1.2).
const MOST: u32 = 268_435_455;

/// Identifiers that are remembered when nothing uses them any more: messages with them may be on their way.
const RETIRED: usize = 1_024;

/// An identifier of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identifier {
    /// Given by the client by itself.
    Own(u32),
    /// Given by the user.
    Users(u32),
}

/// What stands behind an identifier.
#[derive(Debug, Default)]
struct Entry {
    /// None: it is retired.
    routes: Vec<usize>,
    /// The user gave it, and sees it.
    is_users: bool,
}

/// The identifiers of one client.
#[derive(Debug)]
pub(crate) struct Identifiers {
    entries: HashMap<u32, Entry>,
    retired: VecDeque<u32>,
    next: u32,
}

impl Default for Identifiers {
    /// The first one is anywhere: another process gives others, so that what a server has kept for an earlier one is not taken
    /// for this one's.
    fn default() -> Self {
        // 28 bits, as many as an identifier has.
        let first = RandomState::new().hash_one(0) >> 36;
        Self::from(u32::try_from(first).unwrap_or(MOST).max(1))
    }
}

impl Identifiers {
    /// The first one that is given.
    fn from(first: u32) -> Self {
        Self { entries: HashMap::new(), retired: VecDeque::new(), next: first }
    }

    /// One that nothing uses or is known to have used.
    pub(crate) fn next(&mut self) -> u32 {
        loop {
            let identifier = self.next;
            self.next = if identifier >= MOST { 1 } else { identifier.saturating_add(1) };
            // There are never as many entries as identifiers.
            if !self.entries.contains_key(&identifier) {
                return identifier;
            }
        }
    }

    /// A request with it was accepted. What the user has given once is the user's.
    pub(crate) fn take(&mut self, identifier: Identifier) -> u32 {
        match identifier {
            Identifier::Own(identifier) => identifier,
            Identifier::Users(identifier) => {
                self.entries.entry(identifier).or_default().is_users = true;
                identifier
            }
        }
    }

    /// Whether the client gave it by itself.
    pub(crate) fn is_own(&self, identifier: u32) -> bool {
        self.entries.get(&identifier).is_some_and(|entry| !entry.is_users)
    }

    /// What it leads to: nothing, when all of that is gone. `None` when it was never given, or is forgotten.
    pub(crate) fn routes(&self, identifier: u32) -> Option<&[usize]> {
        self.entries.get(&identifier).map(|entry| entry.routes.as_slice())
    }

    /// Whether it is the client's own and leads to these and to nothing else.
    pub(crate) fn is_of(&self, identifier: u32, routes: &[usize]) -> bool {
        self.entries.get(&identifier).is_some_and(|entry| {
            !entry.is_users
                && entry.routes.len() == routes.len()
                && routes.iter().all(|route| entry.routes.contains(route))
        })
    }

    /// It leads to `route`, too.
    pub(crate) fn attach(&mut self, identifier: u32, route: usize) {
        let routes = &mut self.entries.entry(identifier).or_default().routes;
        if !routes.contains(&route) {
            routes.push(route);
        }
    }

    /// It is as if it had never been given.
    pub(crate) fn forget(&mut self, identifier: u32) {
        self.entries.remove(&identifier);
    }

    /// It was never in force for `route`.
    pub(crate) fn detach(&mut self, identifier: u32, route: usize) {
        if self.leaves(identifier, route) {
            self.forget(identifier);
        }
    }

    /// It leads to `route` no more, for that is gone.
    pub(crate) fn retire(&mut self, identifier: u32, route: usize) {
        if !self.leaves(identifier, route) {
            return;
        }
        self.retired.push_back(identifier);
        if self.retired.len() > RETIRED
            && let Some(oldest) = self.retired.pop_front()
            && self.entries.get(&oldest).is_some_and(|entry| entry.routes.is_empty())
        {
            self.entries.remove(&oldest);
        }
    }

    /// True when nothing is left that it leads to.
    fn leaves(&mut self, identifier: u32, route: usize) -> bool {
        let Some(entry) = self.entries.get_mut(&identifier) else { return false };
        entry.routes.retain(|known| *known != route);
        entry.routes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_go_round_from_the_greatest_to_1_and_pass_by_what_is_in_use() {
        let mut identifiers = Identifiers::from(MOST - 1);
        identifiers.take(Identifier::Users(MOST));
        identifiers.attach(MOST, 0);
        identifiers.attach(1, 0);
        assert_eq!([identifiers.next(), identifiers.next()], [MOST - 1, 2]);
        for _ in 0..1_000 {
            let first = Identifiers::default().next();
            assert!((1..=MOST).contains(&first), "{first}");
        }
    }

    #[test]
    fn an_identifier_of_what_is_gone_is_remembered_for_a_time_and_not_given_again() {
        let mut identifiers = Identifiers::from(1);
        for route in 0..RETIRED + 10 {
            let identifier = identifiers.next();
            identifiers.attach(identifier, route);
            identifiers.retire(identifier, route);
        }
        assert_eq!(identifiers.entries.len(), RETIRED, "not for ever");
        assert_eq!(identifiers.routes(10), None);
        assert_eq!(identifiers.routes(11), Some(&[][..]));
        identifiers.next = 11;
        assert_eq!(identifiers.next(), u32::try_from(RETIRED).unwrap() + 11);
    }

    #[test]
    fn what_comes_back_before_it_is_forgotten_stays() {
        let mut identifiers = Identifiers::from(1);
        identifiers.attach(7, 0);
        identifiers.retire(7, 0);
        identifiers.attach(7, 1);
        for identifier in 100..100 + u32::try_from(RETIRED).unwrap() {
            identifiers.attach(identifier, 2);
            identifiers.retire(identifier, 2);
        }
        assert_eq!(identifiers.routes(7), Some(&[1][..]));
    }

    #[test]
    fn what_the_user_has_given_is_the_users() {
        let mut identifiers = Identifiers::from(1);
        let own = identifiers.next();
        identifiers.attach(own, 0);
        assert!(identifiers.is_own(own) && identifiers.is_of(own, &[0]));
        identifiers.take(Identifier::Users(own));
        assert!(!identifiers.is_own(own) && !identifiers.is_of(own, &[0]));
        assert!(!identifiers.is_own(99), "never given");
    }
}
