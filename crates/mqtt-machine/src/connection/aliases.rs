//! Owns the topic aliases of one connection, those of the server's and our own. It must not know packets: what a table
//! says is true for the peer as soon as the packet that says so is in the output.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;

use crate::interface::ProtocolViolation;
use crate::packet::{PacketType, PropertyId};
use crate::reason::ReasonCode;
use crate::types::TopicName;

/// Topics behind the aliases that the server uses towards this client.
#[derive(Clone, Debug, Default)]
pub(super) struct IncomingAliases {
    /// A map, so that a server that begins at 65,535 costs one entry.
    topics: BTreeMap<u16, TopicName>,
}

impl IncomingAliases {
    /// Finds the topic of a PUBLISH whose topic alias is `alias`, and learns it when the topic is given.
    ///
    /// # Errors
    /// 0x94 for an alias above the maximum that the client offered `[MQTT-3.1.2-26] [MQTT-3.3.2-11]`, 0x82 for one that
    /// was never mapped.
    pub(super) fn resolve(
        &mut self,
        alias: u16,
        topic: Option<TopicName>,
        maximum: u16,
    ) -> Result<TopicName, ProtocolViolation> {
        if alias == 0 || alias > maximum {
            let what = "a topic alias above the maximum that the client offered";
            return Err(violation(alias, what, "MQTT-3.1.2-26").told_as(ReasonCode::TopicAliasInvalid));
        }
        if let Some(topic) = topic {
            // The table outlives the frame: it owns its topics.
            self.topics.insert(alias, topic.detached());
            return Ok(topic);
        }
        let what = "a topic alias that was never given a topic";
        self.topics.get(&alias).cloned().ok_or_else(|| violation(alias, what, "5.0 section 3.3.2.3.4"))
    }

    pub(super) fn memory_used(&self) -> usize {
        let bytes =
            self.topics.values().fold(0_usize, |sum, topic| sum.saturating_add(topic.as_bytes().len()));
        bytes.saturating_add(self.topics.len().saturating_mul(size_of::<(u16, TopicName)>()))
    }
}

fn violation(alias: u16, what: &'static str, rule: &'static str) -> ProtocolViolation {
    ProtocolViolation::new(PacketType::Publish, PropertyId::TopicAlias.name(), what, rule).with(alias)
}

/// How a PUBLISH names its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    /// By its topic name.
    Topic,
    /// By its topic name, which this alias stands for from now on.
    Introduces(u16),
    /// By this alias alone.
    Alias(u16),
}

impl Naming {
    pub(super) const fn alias(self) -> Option<u16> {
        match self {
            Self::Topic => None,
            Self::Introduces(alias) | Self::Alias(alias) => Some(alias),
        }
    }
}

/// Topics shorter than this cost less than an alias with its property.
const SHORTEST: usize = 4;

/// The aliases that this client uses towards the server: at most as many as both allow, and when all are in use the one
/// that was used longest ago is given to the next topic.
#[derive(Clone, Debug, Default)]
pub(super) struct OutgoingAliases {
    maximum: u16,
    automatic: bool,
    /// None as long as no topic has one.
    known: Option<Box<KnownAliases>>,
}

#[derive(Clone, Debug, Default)]
struct KnownAliases {
    by_topic: BTreeMap<TopicName, u16>,
    /// By alias: the topic, and when it was used last.
    by_alias: BTreeMap<u16, (TopicName, u64)>,
    /// Oldest use first.
    by_use: BTreeMap<u64, u16>,
    uses: u64,
}

impl OutgoingAliases {
    /// Aliases from 1 to `maximum`, given to topics by themselves or only where the caller asks for one.
    pub(super) fn new(maximum: u16, automatic: bool) -> Self {
        Self { maximum, automatic, known: None }
    }

    /// Whether no topic has an alias, nor gets one.
    pub(super) const fn is_unused(&self) -> bool {
        self.maximum == 0
    }

    /// How a PUBLISH to `topic` would name it, when the caller asks for the alias `wanted`. Nothing changes until
    /// [`used`](Self::used).
    pub(super) fn naming(&self, topic: &TopicName, wanted: Option<u16>) -> Naming {
        if self.maximum == 0 {
            return Naming::Topic;
        }
        let known = self.known.as_ref().and_then(|known| known.by_topic.get(topic).copied());
        match (wanted, known) {
            (Some(wanted), Some(known)) if wanted == known => Naming::Alias(known),
            (Some(wanted), _) if wanted != 0 && wanted <= self.maximum => Naming::Introduces(wanted),
            (_, Some(known)) => Naming::Alias(known),
            (_, None) if self.automatic && topic.as_bytes().len() >= SHORTEST => {
                Naming::Introduces(self.next_free())
            }
            _ => Naming::Topic,
        }
    }

    /// An alias that stands for nothing, or else the one that was used longest ago.
    fn next_free(&self) -> u16 {
        let Some(KnownAliases { by_alias, by_use, .. }) = self.known.as_deref() else { return 1 };
        // Aliases that a caller chose leave gaps, so the count alone does not tell.
        let count = u16::try_from(by_alias.len()).unwrap_or(u16::MAX);
        if count < self.maximum {
            let next = count.saturating_add(1);
            if !by_alias.contains_key(&next) {
                return next;
            }
            let gap = (1..=self.maximum).find(|alias| !by_alias.contains_key(alias));
            return gap.unwrap_or(next);
        }
        by_use.first_key_value().map_or(1, |(_, alias)| *alias)
    }

    /// A PUBLISH that names `topic` so is in the output.
    pub(super) fn used(&mut self, topic: &TopicName, naming: Naming) {
        let Some(alias) = naming.alias() else { return };
        let known = &mut **self.known.get_or_insert_default();
        if let Some((before, at)) = known.by_alias.remove(&alias) {
            known.by_use.remove(&at);
            if before != *topic {
                known.by_topic.remove(&before);
            }
        }
        // Another alias of the same topic stands for it no longer in our table; the server may well keep both.
        if let Some(other) = known.by_topic.insert(topic.detached(), alias)
            && other != alias
            && let Some((_, at)) = known.by_alias.remove(&other)
        {
            known.by_use.remove(&at);
        }
        known.uses = known.uses.saturating_add(1);
        known.by_use.insert(known.uses, alias);
        known.by_alias.insert(alias, (topic.detached(), known.uses));
    }

    pub(super) fn memory_used(&self) -> usize {
        let Some(known) = &self.known else { return 0 };
        let entry = size_of::<(TopicName, u16)>()
            .saturating_add(size_of::<(u16, (TopicName, u64))>())
            .saturating_add(size_of::<(u64, u16)>());
        let bytes = known.by_topic.keys().fold(size_of::<KnownAliases>(), |sum, topic| {
            sum.saturating_add(topic.as_bytes().len().saturating_mul(2))
        });
        bytes.saturating_add(known.by_topic.len().saturating_mul(entry))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn topic(name: &str) -> TopicName {
        TopicName::new(name).unwrap()
    }

    /// Names the topic and takes the naming as used.
    fn publish(aliases: &mut OutgoingAliases, name: &str, wanted: Option<u16>) -> Naming {
        let naming = aliases.naming(&topic(name), wanted);
        aliases.used(&topic(name), naming);
        naming
    }

    #[test]
    fn the_highest_alias_costs_one_entry() {
        let mut aliases = IncomingAliases::default();
        aliases.resolve(u16::MAX, Some(topic("t")), u16::MAX).unwrap();
        assert!(aliases.memory_used() < 100);
        assert_eq!(aliases.resolve(u16::MAX, None, u16::MAX), Ok(topic("t")));
    }

    #[test]
    fn a_topic_gets_an_alias_once_and_the_least_recently_used_one_is_given_on() {
        let mut aliases = OutgoingAliases::new(2, true);
        assert_eq!(publish(&mut aliases, "topic/a", None), Naming::Introduces(1));
        assert_eq!(publish(&mut aliases, "topic/a", None), Naming::Alias(1));
        assert_eq!(publish(&mut aliases, "topic/b", None), Naming::Introduces(2));
        assert_eq!(publish(&mut aliases, "topic/a", None), Naming::Alias(1));
        assert_eq!(publish(&mut aliases, "topic/c", None), Naming::Introduces(2));
        assert_eq!(publish(&mut aliases, "topic/b", None), Naming::Introduces(1));
        assert_eq!(publish(&mut aliases, "tiny"[..3].as_ref(), None), Naming::Topic);
    }

    #[test]
    fn an_automatic_alias_fills_the_gap_that_a_callers_own_left() {
        let mut aliases = OutgoingAliases::new(3, true);
        assert_eq!(publish(&mut aliases, "topic/a", Some(2)), Naming::Introduces(2));
        assert_eq!(publish(&mut aliases, "topic/b", None), Naming::Introduces(1));
        assert_eq!(publish(&mut aliases, "topic/c", None), Naming::Introduces(3));
        assert_eq!(publish(&mut aliases, "topic/c", Some(1)), Naming::Introduces(1), "as the caller asks");
        assert_eq!(publish(&mut aliases, "topic/c", None), Naming::Alias(1));
    }

    #[test]
    fn an_alias_of_the_callers_is_used_within_the_maximum_and_ignored_above_it() {
        let mut aliases = OutgoingAliases::new(5, false);
        assert_eq!(publish(&mut aliases, "topic/a", None), Naming::Topic);
        assert_eq!(publish(&mut aliases, "topic/a", Some(5)), Naming::Introduces(5));
        assert_eq!(publish(&mut aliases, "topic/a", Some(5)), Naming::Alias(5));
        assert_eq!(publish(&mut aliases, "topic/b", Some(6)), Naming::Topic);
        assert_eq!(publish(&mut aliases, "topic/b", Some(5)), Naming::Introduces(5));
        assert_eq!(publish(&mut aliases, "topic/a", Some(5)), Naming::Introduces(5));
        assert_eq!(publish(&mut OutgoingAliases::new(0, true), "topic/a", Some(1)), Naming::Topic);
    }

    proptest! {
        #[test]
        fn the_peer_always_knows_what_an_alias_stands_for(
            maximum in 0_u16..5,
            automatic in any::<bool>(),
            steps in proptest::collection::vec((0_u8..6, proptest::option::of(0_u16..8)), 0..200),
        ) {
            let mut aliases = OutgoingAliases::new(maximum, automatic);
            let mut peer: BTreeMap<u16, TopicName> = BTreeMap::new();
            for (number, wanted) in steps {
                let topic = topic(&alloc::format!("topic/{number}"));
                let naming = aliases.naming(&topic, wanted);
                aliases.used(&topic, naming);
                match naming {
                    Naming::Topic => {}
                    Naming::Introduces(alias) => drop(peer.insert(alias, topic)),
                    Naming::Alias(alias) => prop_assert_eq!(peer.get(&alias), Some(&topic)),
                }
                prop_assert!(naming.alias().is_none_or(|alias| alias != 0 && alias <= maximum));
                let known = aliases.known.clone().unwrap_or_default();
                prop_assert!(known.by_alias.len() <= usize::from(maximum));
                prop_assert_eq!(known.by_alias.len(), known.by_use.len());
                prop_assert_eq!(known.by_alias.len(), known.by_topic.len());
            }
        }
    }
}
