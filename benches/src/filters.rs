//! Owns the filter maps of the benchmarks, of any size, with topics that belong to one filter each, whatever the size.
//! It must not know how a map finds a filter.

use mqtt_machine::{TopicFilter, TopicName};
use mqtt_machine_client::FilterMap;

/// How many filters there are, in the cases that show what one of them costs among many.
pub const SIZES: [usize; 3] = [1, 1_000, 100_000];

/// Which filters a map has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filters {
    /// None has a wildcard.
    Plain,
    /// Half of them have `+`, and half have `#`.
    Wild,
    /// Half of them have no wildcard, a quarter has `+`, and a quarter has `#`.
    Mixed,
}

impl Filters {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Plain, Self::Wild, Self::Mixed];

    /// As it stands in the names of cases.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Wild => "wild",
            Self::Mixed => "mixed",
        }
    }

    /// How many there are at least, so that each form is there where filters without a wildcard stand beside others.
    pub const fn least(self) -> usize {
        if matches!(self, Self::Mixed) { 4 } else { 1 }
    }

    /// How far the next filter of the same form is.
    const fn period(self) -> usize {
        match self {
            Self::Plain => 1,
            Self::Wild => 2,
            Self::Mixed => 4,
        }
    }

    /// The filter of this number.
    fn filter(self, number: usize) -> TopicFilter {
        let levels = match (self, number % self.period()) {
            (Self::Wild | Self::Mixed, 0) => "+/temperature",
            (Self::Wild, 1) | (Self::Mixed, 2) => "kitchen/#",
            _ => "kitchen/temperature",
        };
        TopicFilter::new(&format!("site/{number:06}/{levels}")).expect("a filter")
    }

    /// Numbers of filters of one form among the first `size`: at most `most`, from everywhere.
    fn numbers(self, size: usize, most: usize) -> impl Iterator<Item = usize> {
        let period = self.period();
        (0..size).step_by(period * size.div_ceil(most * period).max(1))
    }

    /// At most `most` of the first `size` filters, all of one form: without a wildcard or with `+`.
    pub fn some(self, size: usize, most: usize) -> Vec<TopicFilter> {
        self.numbers(size, most).map(|number| self.filter(number)).collect()
    }

    /// A topic for each filter of [`some`](Self::some), which belongs to no other filter.
    ///
    /// # Panics
    /// Never: the topics are valid.
    pub fn topics(self, size: usize, most: usize) -> Vec<TopicName> {
        let topic = |number| TopicName::new(&format!("site/{number:06}/kitchen/temperature"));
        self.numbers(size, most).map(|number| topic(number).expect("a topic name")).collect()
    }

    /// A map of so many filters, each with its number.
    pub fn map(self, size: usize) -> FilterMap<usize> {
        let mut map = FilterMap::new();
        for number in 0..size {
            map.insert(self.filter(number), number);
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_belongs_to_one_filter_in_maps_of_every_size() {
        for filters in Filters::ALL {
            for size in [filters.least(), 1_000] {
                let map = filters.map(size);
                assert_eq!(map.len(), size);
                let (some, topics) = (filters.some(size, 100), filters.topics(size, 100));
                let least = (size / filters.period()).min(50);
                assert!((least..=100).contains(&topics.len()), "{} topics of {size}", topics.len());
                assert_eq!(topics.len(), some.len());
                for (filter, topic) in some.iter().zip(&topics) {
                    let mut found = Vec::new();
                    map.matches(topic, |number| found.push(*number));
                    assert_eq!(found, [*map.get(filter).expect("a filter of the map")], "{topic}");
                    assert_eq!(filter.has_wildcard(), filters != Filters::Plain);
                }
            }
        }
    }
}
