//! Owns what is counted: the report of a disconnect, and the numbers that an operator watches. It must not know what counts them.

use core::fmt;
use core::time::Duration;

/// What became of the publications that were open when a disconnect began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Drained {
    /// They were sent (QoS 0) or acknowledged (QoS 1 and 2).
    pub delivered: usize,
    /// All others: cut off by the deadline, refused, expired, dropped.
    pub undelivered: usize,
    /// Those of the undelivered that the store keeps and the next client of this store delivers.
    pub kept: usize,
}

impl Drained {
    /// Whether everything that was open was delivered.
    pub const fn is_complete(&self) -> bool {
        self.undelivered == 0
    }
}

impl fmt::Display for Drained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { delivered, undelivered, kept } = self;
        write!(f, "{delivered} delivered, {undelivered} not, of which the store keeps {kept}")
    }
}

/// How long acknowledgements of publications take: from the PUBLISH in the output to PUBACK (QoS 1) or PUBCOMP (QoS 2), on one
/// connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RoundTrip {
    /// How many were measured.
    pub count: u64,
    /// The last one.
    pub last: Duration,
    /// The shortest.
    pub shortest: Duration,
    /// The longest.
    pub longest: Duration,
    /// A mean that forgets: each new one counts an eighth.
    pub smoothed: Duration,
}

/// The numbers of a machine, as [`Machine::metrics`](crate::Machine::metrics) gives them: counters since it was made, which only grow,
/// and how much there is now. A restored machine begins at zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Metrics {
    /// Publications that were accepted, or restored from records.
    pub accepted: u64,
    /// Of QoS 0, handed to the transport.
    pub sent: u64,
    /// Of QoS 1 and 2, acknowledged.
    pub acknowledged: u64,
    /// Refused by the server.
    pub refused: u64,
    /// Expired while they waited.
    pub expired: u64,
    /// Dropped by a policy.
    pub dropped: u64,
    /// Ended as not sent, unknown, kept or for want of a store.
    pub cut_off: u64,
    /// PUBLISH packets that were written again, with DUP.
    pub resent: u64,
    /// Messages that were delivered to the caller.
    pub received: u64,
    /// QoS 2 messages that came again and were not delivered again.
    pub duplicates: u64,
    /// QoS 0 messages that were dropped because their consumer was behind.
    pub overrun: u64,
    /// Bytes of packets from servers.
    pub bytes_in: u64,
    /// Bytes of packets for servers.
    pub bytes_out: u64,
    /// Attempts to connect.
    pub attempts: u64,
    /// Attempts that a server accepted; all but the first are reconnects.
    pub connections: u64,
    /// How long acknowledgements take.
    pub round_trip: RoundTrip,
    /// Publications that wait without a packet identifier, now.
    pub waiting: usize,
    /// Publications of QoS 1 and 2 with a packet identifier, now.
    pub in_flight: usize,
    /// The bytes of both, as [`Limits::outgoing_bytes`](crate::Limits::outgoing_bytes) counts them.
    pub outgoing_bytes: usize,
    /// The bytes of delivered messages whose receipts are out, as [`Limits::incoming_bytes`](crate::Limits::incoming_bytes) counts them.
    pub incoming_bytes: usize,
    /// Heap bytes, as [`Machine::memory_used`](crate::Machine::memory_used) tells.
    pub memory_used: usize,
}
