//! Owns what a machine counts. It must not know what happens, nor how much there is of anything now.

use crate::interface::Metrics;

/// The counters of [`Metrics`], which says what each of them counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Counters {
    pub(super) accepted: u64,
    pub(super) sent: u64,
    pub(super) acknowledged: u64,
    pub(super) refused: u64,
    pub(super) expired: u64,
    pub(super) dropped: u64,
    pub(super) cut_off: u64,
    pub(super) resent: u64,
    pub(super) received: u64,
    pub(super) duplicates: u64,
    pub(super) overrun: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) attempts: u64,
    pub(super) connections: u64,
}

impl Counters {
    /// With zero for all that is not counted.
    pub(super) fn told(&self) -> Metrics {
        let Self {
            accepted,
            sent,
            acknowledged,
            refused,
            expired,
            dropped,
            cut_off,
            resent,
            received,
            duplicates,
            overrun,
            bytes_in,
            bytes_out,
            attempts,
            connections,
        } = *self;
        Metrics {
            accepted,
            sent,
            acknowledged,
            refused,
            expired,
            dropped,
            cut_off,
            resent,
            received,
            duplicates,
            overrun,
            bytes_in,
            bytes_out,
            attempts,
            connections,
            ..Metrics::default()
        }
    }
}
