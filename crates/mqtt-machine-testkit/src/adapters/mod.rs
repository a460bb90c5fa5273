//! Owns the conformance suite for adapters: what every runtime must do the same with sockets, names, timers and handles. It
//! must not know any runtime.
//!
//! An adapter drives [`mqtt_machine_client::Driver`] on some runtime. The suite starts clients through the small trait
//! [`Adapter`], uses their shared handle from plain threads, and puts them before the model broker of [`tcp`](crate::tcp), a
//! relay that cuts, resets, stalls and goes byte by byte, and servers that say what is written down. So it needs no runtime
//! itself, and anybody can run it, by the feature `adapters` of this crate:
//!
//! ```no_run
//! use mqtt_machine_client::{Client, ConnectError, Options};
//! use mqtt_machine_testkit::adapters::{Adapter, Drip};
//!
//! struct Mine;
//!
//! impl Adapter for Mine {
//!     fn start(&self, options: Options) -> Result<Client, ConnectError> {
//!         let (client, driver) = Client::new(options)?;
//!         std::thread::spawn(move || drive(driver, None));
//!         Ok(client)
//!     }
//!
//!     fn start_dripping(&self, options: Options, drip: Drip) -> Result<Client, ConnectError> {
//!         let (client, driver) = Client::new(options)?;
//!         std::thread::spawn(move || drive(driver, Some(drip)));
//!         Ok(client)
//!     }
//! }
//! # fn drive(_: mqtt_machine_client::Driver, _: Option<Drip>) {}
//!
//! mqtt_machine_testkit::adapter_conformance!(Mine);
//! ```
//!
//! The macro makes one `#[test]` of each scenario, so that a failure is told by name; the expression is evaluated for each of
//! them. Without a test harness there is [`run_all`]. Everything goes over loopback, but for one name under `.invalid` that is
//! looked up. Each scenario ends within [`LONGEST`].

mod bench;
mod cancel;
mod connection;
mod crowd;
mod delivery;
mod drain;
mod drip;
mod peers;
mod pressure;
mod program;
mod statements;

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use mqtt_machine_client::{Client, ConnectError, Options};

use bench::Bench;
pub use drip::Drip;

/// The most that a scenario may take; nearly all take a fraction of a second.
pub const LONGEST: Duration = Duration::from_secs(120);

/// How an adapter is run by the suite.
pub trait Adapter: Send + Sync + 'static {
    /// Starts a client that connects in the background, without waiting for the connection, and gives the shared handle. Its
    /// driver must run whatever the calling thread does then, until the client has ended.
    ///
    /// # Errors
    /// What can be known at once: a way to the server that cannot be made ready, or that nothing can run.
    fn start(&self, options: Options) -> Result<Client, ConnectError>;

    /// As [`start`](Self::start), for a client whose driver reads and writes as `drip` lets it: by a transport of the user's own that
    /// asks it, which connects to the `host:port` behind the scheme of its server, or wherever the adapter reads and writes.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    fn start_dripping(&self, options: Options, drip: Drip) -> Result<Client, ConnectError>;

    /// How long a step may take before the scenario fails. Default 20 s, which leaves room for busy machines.
    fn patience(&self) -> Duration {
        Duration::from_secs(20)
    }

    /// The threads that each connected client may have. Default 0: all of them share a few.
    fn threads_per_client(&self) -> usize {
        0
    }

    /// The resident memory that each connected client may have, in KiB, thread stacks and the test's own server included. Default
    /// 64.
    fn memory_per_client(&self) -> usize {
        64
    }
}

/// One thing that every adapter does.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// What it does, as a sentence that is the name of a test.
    pub name: &'static str,
    run: fn(&Bench),
    /// It measures the process, so that no other runs meanwhile.
    alone: bool,
}

impl fmt::Debug for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Held by every scenario that runs.
static RUNNING: RwLock<()> = RwLock::new(());

impl Scenario {
    /// The scenario of this name.
    pub fn named(name: &str) -> Option<Self> {
        SCENARIOS.iter().find(|scenario| scenario.name == name).copied()
    }

    /// Runs it.
    ///
    /// # Panics
    /// When the adapter does something else, with what it did, or when it takes longer than [`LONGEST`].
    pub fn run(self, adapter: impl Adapter) {
        let (_shared, _alone);
        if self.alone {
            _alone = RUNNING.write().unwrap_or_else(PoisonError::into_inner);
        } else {
            _shared = RUNNING.read().unwrap_or_else(PoisonError::into_inner);
        }
        let (done, ended) = channel();
        let adapter: Arc<dyn Adapter> = Arc::new(adapter);
        // A thread of its own, so that an adapter that never returns fails too.
        let thread = thread::Builder::new().name(self.name.to_owned()).spawn(move || {
            let bench = Bench::new(adapter);
            let result = catch_unwind(AssertUnwindSafe(|| (self.run)(&bench)));
            let _ = done.send(result);
        });
        assert!(thread.is_ok(), "a thread can be started");
        match ended.recv_timeout(LONGEST) {
            Ok(Ok(())) => {}
            Ok(Err(panic)) => resume_unwind(panic),
            Err(RecvTimeoutError::Timeout) => panic!("{} has not ended after {LONGEST:?}", self.name),
            Err(RecvTimeoutError::Disconnected) => panic!("{} has lost its thread", self.name),
        }
    }
}

/// Runs every scenario, one after the other, each with an adapter from `make`; gives the names of those that failed, each with
/// what it said.
///
/// # Errors
/// The scenarios that failed.
pub fn run_all<A: Adapter>(mut make: impl FnMut() -> A) -> Result<(), Vec<(&'static str, String)>> {
    let mut failed = Vec::new();
    for scenario in SCENARIOS {
        let adapter = make();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| scenario.run(adapter))) {
            failed.push((scenario.name, said(&*panic)));
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(failed) }
}

/// The broker of [`same_program!`](crate::same_program).
#[doc(hidden)]
#[track_caller]
pub fn own_broker() -> crate::tcp::Broker {
    bench::broker()
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word").to_owned()
}

/// The one list of scenarios, handed to another macro.
#[doc(hidden)]
#[macro_export]
macro_rules! __adapter_scenarios {
    ([$($then:tt)*] $($with:tt)*) => {
        $($then)* ! { [$($with)*]
            delivery {
                messages_of_every_qos_and_version_come_back
                payloads_of_ten_megabytes_pass_in_both_directions
                one_byte_at_a_time_is_the_same_stream
                reads_and_writes_of_one_byte_are_the_same_stream
                overlapping_streams_get_each_message_once_and_unused_filters_are_unsubscribed
                a_refused_filter_is_an_error_with_its_code
                unrouted_messages_go_to_the_stream_for_the_rest_or_are_counted
                dropped_deliveries_and_streams_leak_nothing
                messages_that_are_sent_arrive_in_order_among_those_that_are_published
                a_plain_thread_publishes_and_waits
            }
            connection {
                the_event_stream_tells_of_a_cut_and_what_came_after
                a_delivery_that_is_awaited_across_a_cut_ends
                links_that_are_cut_anywhere_lose_and_double_nothing
                a_reset_in_the_middle_of_a_large_message_is_a_reconnect
                a_permanent_refusal_ends_the_attempts
                a_client_that_is_told_of_a_take_over_does_not_come_back
                a_port_that_refuses_is_tried_until_somebody_listens
                a_name_that_nobody_has_is_told_and_holds_nothing_up
                a_name_whose_first_address_refuses_is_reached_at_the_next
                a_peer_that_accepts_and_says_nothing_is_given_up_in_time
                a_peer_that_falls_silent_is_declared_dead_in_time
                a_half_close_of_the_server_ends_the_connection_after_its_last_words
                a_half_close_is_noticed_while_the_client_cannot_write
            }
            drain {
                a_disconnect_drains_what_was_accepted
                a_disconnect_tells_in_time_what_was_not_delivered
                dropping_the_last_handle_delivers_and_disconnects
                a_disconnect_does_not_wait_for_a_connection
            }
            cancel {
                a_cancelled_publish_is_not_accepted_and_loses_nothing_that_was
                a_cancelled_place_in_line_is_given_back
                a_cancelled_subscribe_or_unsubscribe_leaves_nothing_behind
                futures_that_a_select_cancels_lose_no_acknowledgement
                a_reader_of_events_that_is_cancelled_loses_none
                a_cancelled_wait_for_a_connection_changes_nothing
                a_cancelled_disconnect_goes_on
                a_request_is_cancelled_at_every_await_point_and_the_next_is_answered
                an_authentication_that_nobody_waits_for_goes_on
            }
            pressure {
                publishing_from_the_receive_loop_with_full_queues_never_hangs
                a_slow_consumer_stops_reading_and_nothing_is_declared_dead
                a_server_that_stops_reading_holds_publishers_back
                waiting_publishers_are_served_in_order
            }
            statements {
                messages_that_the_application_ignores_are_acknowledged
                after_disconnect_the_socket_is_closed_and_nothing_more_was_written
                after_a_refusal_the_socket_is_closed
                after_a_violation_or_a_disconnect_of_the_server_the_socket_is_closed
            }
            crowd {
                a_thousand_clients_live_in_one_process
            }
        }
    };
}

/// Makes a `#[test]` of every scenario of the [suite](crate::adapters): its expression gives the
/// [`Adapter`](crate::adapters::Adapter), and is evaluated for each test.
#[macro_export]
macro_rules! adapter_conformance {
    ($adapter:expr) => {
        $crate::__adapter_scenarios! { [$crate::__adapter_tests] $adapter }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __adapter_tests {
    ([$adapter:expr] $($module:ident { $($name:ident)* })*) => {
        $($(
            #[test]
            fn $name() {
                $crate::adapters::Scenario::named(stringify!($name)).expect("the list has it").run($adapter);
            }
        )*)*
    };
}

macro_rules! table {
    ([] $($module:ident { $($name:ident)* })*) => {
        /// Every scenario.
        pub const SCENARIOS: &[Scenario] = &[$($(
            Scenario {
                name: stringify!($name),
                run: $module::$name,
                alone: matches!(stringify!($module).as_bytes(), b"crowd"),
            },
        )*)*];
    };
}

__adapter_scenarios! { [table] }
