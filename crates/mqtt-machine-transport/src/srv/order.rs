//! Owns the order of SRV records (RFC 2782). It must not know where they come from.

use crate::endpoint::Authority;

/// One SRV record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SrvRecord {
    /// Lower ones are tried first.
    pub priority: u16,
    /// Among equal priorities, how often one is tried first, relative to the others.
    pub weight: u16,
    /// Where the server is.
    pub target: Authority,
}

/// The order in which to try `records`: by priority, then by a draw in which weights count. The same seed draws the same.
pub fn order_records(mut records: Vec<SrvRecord>, seed: u64) -> Vec<Authority> {
    let mut state = seed;
    // RFC 2782 wants weights of zero first, so that they are drawn only by zero.
    records.sort_by_key(|record| (record.priority, record.weight));
    let mut ordered = Vec::with_capacity(records.len());
    while let Some(priority) = records.first().map(|record| record.priority) {
        let group = records.iter().take_while(|record| record.priority == priority);
        let sum: u64 = group.clone().map(|record| u64::from(record.weight)).sum();
        let mut drawn = draw(&mut state).checked_rem(sum.saturating_add(1)).unwrap_or_default();
        let chosen = group.clone().position(|record| {
            let weight = u64::from(record.weight);
            let hit = drawn <= weight;
            drawn = drawn.saturating_sub(weight);
            hit
        });
        ordered.push(records.remove(chosen.unwrap_or_default()).target);
    }
    ordered
}

/// SplitMix64.
fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Host;

    fn record(priority: u16, weight: u16, port: u16) -> SrvRecord {
        let target = Authority::new(Host::Domain("host".into()), port);
        SrvRecord { priority, weight, target }
    }

    fn ports(records: &[SrvRecord], seed: u64) -> Vec<u16> {
        order_records(records.to_vec(), seed).iter().map(|target| target.port).collect()
    }

    #[test]
    fn priorities_come_in_order_and_nobody_is_left_out() {
        let records = [record(20, 0, 3), record(10, 5, 1), record(10, 5, 2), record(30, 9, 4)];
        for seed in 0..100 {
            let mut order = ports(&records, seed);
            assert_eq!(order[2..], [3, 4]);
            order.sort_unstable();
            assert_eq!(order, [1, 2, 3, 4]);
        }
        assert_eq!(order_records(Vec::new(), 1), []);
    }

    #[test]
    fn weights_count_in_the_draw_and_a_seed_repeats_it() {
        let records = [record(0, 10, 1), record(0, 30, 3), record(0, 0, 9)];
        let first = |seed| ports(&records, seed)[0];
        let count = |port| (0..10_000).filter(|seed| first(*seed) == port).count();
        let (one, three, zero) = (count(1), count(3), count(9));
        assert!((2_100..2_900).contains(&one), "{one}");
        assert!((6_800..7_800).contains(&three), "{three}");
        assert!((100..500).contains(&zero), "{zero}");
        assert_eq!(ports(&records, 7), ports(&records, 7));
    }
}
