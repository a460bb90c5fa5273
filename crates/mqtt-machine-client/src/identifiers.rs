//! Owns Subscription Identifiers: which are given, and what each leads to. It must not know filters, streams or messages.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::BuildHasher;

use foldhash::fast::RandomState;

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

/// Routes of one identifier that are looked at one by one.
const FEW: usize = 4;

/// The routes that an identifier leads to: a single SUBSCRIBE may have any number of filters.
#[derive(Debug)]
pub(crate) enum Routes {
    /// At most [`FEW`].
    Few(Vec<usize>),
    /// There were more once.
    Many(HashSet<usize, RandomState>),
}

impl Default for Routes {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Routes {
    fn len(&self) -> usize {
        match self {
            Self::Few(few) => few.len(),
            Self::Many(many) => many.len(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn contains(&self, route: usize) -> bool {
        match self {
            Self::Few(few) => few.contains(&route),
            Self::Many(many) => many.contains(&route),
        }
    }

    fn insert(&mut self, route: usize) {
        match self {
            Self::Few(few) if few.contains(&route) => {}
            Self::Few(few) if few.len() < FEW => few.push(route),
            Self::Few(few) => *self = Self::Many(few.drain(..).chain([route]).collect()),
            Self::Many(many) => _ = many.insert(route),
        }
    }

    fn remove(&mut self, route: usize) {
        match self {
            Self::Few(few) => few.retain(|known| *known != route),
            Self::Many(many) => _ = many.remove(&route),
        }
    }
}

/// What stands behind an identifier.
#[derive(Debug, Default)]
struct Entry {
    /// None: it is retired.
    routes: Routes,
    /// The user gave it, and sees it.
    is_users: bool,
}

/// The identifiers of one client.
#[derive(Debug)]
pub(crate) struct Identifiers {
    entries: HashMap<u32, Entry, RandomState>,
    retired: VecDeque<u32>,
    next: u32,
}

impl Default for Identifiers {
    /// The first one is anywhere: another process gives others, so that what a server has kept for an earlier one is not taken
    /// for this one's.
    fn default() -> Self {
        // 28 bits, as many as an identifier has.
        let first = std::hash::RandomState::new().hash_one(0) >> 36;
        Self::from(u32::try_from(first).unwrap_or(MOST).max(1))
    }
}

impl Identifiers {
    /// The first one that is given.
    fn from(first: u32) -> Self {
        Self { entries: HashMap::default(), retired: VecDeque::new(), next: first }
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
    pub(crate) fn routes(&self, identifier: u32) -> Option<&Routes> {
        self.entries.get(&identifier).map(|entry| &entry.routes)
    }

    /// Whether it is the client's own and leads to these, each of which is told once, and to nothing else.
    pub(crate) fn is_of(&self, identifier: u32, routes: &[usize]) -> bool {
        self.entries.get(&identifier).is_some_and(|entry| {
            !entry.is_users
                && entry.routes.len() == routes.len()
                && routes.iter().all(|route| entry.routes.contains(*route))
        })
    }

    /// It leads to `route`, too.
    pub(crate) fn attach(&mut self, identifier: u32, route: usize) {
        self.entries.entry(identifier).or_default().routes.insert(route);
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
        entry.routes.remove(route);
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
        assert!(identifiers.routes(10).is_none());
        assert!(identifiers.routes(11).is_some_and(Routes::is_empty));
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
        assert!(identifiers.routes(7).is_some_and(|routes| routes.len() == 1 && routes.contains(1)));
    }

    #[test]
    fn few_routes_and_many_are_the_same_to_who_asks() {
        let mut identifiers = Identifiers::from(1);
        for most in [FEW, FEW + 1, 100] {
            let routes: Vec<usize> = (0..most).collect();
            for route in &routes {
                // Twice is once.
                identifiers.attach(7, *route);
                identifiers.attach(7, *route);
            }
            assert!(identifiers.is_of(7, &routes));
            assert!(!identifiers.is_of(7, &routes[1..]));
            for route in &routes {
                assert!(identifiers.routes(7).is_some_and(|known| known.contains(*route)));
                identifiers.retire(7, *route);
                assert!(identifiers.routes(7).is_some_and(|known| !known.contains(*route)));
            }
            assert!(identifiers.routes(7).is_some_and(Routes::is_empty));
            identifiers.forget(7);
        }
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
