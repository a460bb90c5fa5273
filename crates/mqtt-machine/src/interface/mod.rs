//! Owns the vocabulary of the machine's surface: what goes in, what comes out.
//! It must not know how one follows from the other.

mod input;
mod metrics;
mod output;
mod refused;

pub use input::{
    Answer, Command, Disconnect, Input, KeyedPublication, Receipt, Reply, StoreError, Subscribe,
    TransportEvent, Unsubscribe,
};
pub use metrics::{Drained, Metrics, RoundTrip};
pub use output::{
    Acknowledgement, Action, Capabilities, Codes, Completions, Connected, DropReason, EndReason, Ended,
    Event, Feature, Outcome, ProtocolViolation,
};
pub use refused::{Misuse, NotSupported, Refused, SizeBound};
