//! Owns fuzzing of brokers: cases, how each is carried on, and the verdict. Bytes and time in, bytes out.
//! It must not know sockets, clocks or files; the command `mqtt-machine fuzz-broker` has those.
//!
//! A [`Campaign`] makes [`Case`]s: legal sequences, packets and sequences that break one rule, mutations. A [`Conversation`]
//! carries one case on over a connection and ends with a [`Verdict`]. A case is a text file, and a file is a case again.
//!
//! ```
//! use core::time::Duration;
//! use mqtt_machine::{Instant, ProtocolVersion};
//! use mqtt_machine_testkit::fuzz_broker::{Campaign, Conversation};
//!
//! let mut campaign = Campaign::new(7, &[ProtocolVersion::V5]);
//! let case = campaign.next_case();
//! assert_eq!(case.to_string().parse(), Ok(case.clone()));
//! let mut conversation = Conversation::new(&case, Duration::from_secs(2), Instant::ZERO);
//! let first = conversation.poll_output(Instant::ZERO).expect("it begins by sending");
//! assert!(!first.is_empty());
//! conversation.handle_closed();
//! let verdict = conversation.verdict().expect("it has ended");
//! campaign.record(&case, &verdict);
//! ```

mod campaign;
mod case;
mod conversation;
mod finding;
mod judge;
mod plan;
mod state_rules;

pub use campaign::{Campaign, Finding};
pub use case::{Case, Expect, Kind, Step};
pub use conversation::Conversation;
pub use finding::{Class, Complaint, Ending, Verdict};
