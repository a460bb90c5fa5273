//! Owns what an adapter does over every transport, against real servers: mosquitto's listeners, microsocks and tinyproxy, a
//! name server of its own. It must not know any runtime.
//!
//! [`transport_matrix!`](crate::transport_matrix) makes one `#[test]` of each scenario. It is given what starts a client in
//! the background and gives the shared handle, as [`Start`] has it; the driver must run whatever the calling thread does then.
//! Where a program is not installed a scenario is skipped, and fails with `CI` set.
//!
//! ```no_run
//! use mqtt_machine_client::{Client, ConnectError, Options};
//!
//! fn start(options: Options) -> Result<Client, ConnectError> {
//!     let (client, driver) = Client::new(options)?;
//!     std::thread::spawn(move || drive(driver));
//!     Ok(client)
//! }
//! # fn drive(_: mqtt_machine_client::Driver) {}
//!
//! mqtt_machine_testkit::transport_matrix!(start);
//! ```

mod delivery;
mod examples;
mod names;
mod refusals;
mod relay;
mod site;

use std::future::Future;
use std::time::{Duration, Instant};

use mqtt_machine::Connected;
use mqtt_machine_client::{Backoff, Client, ConnectError, Options, block_until};

pub use examples::examples_do_what_they_say;
pub use relay::Relay;
pub use site::{Site, Way};

/// What starts a client.
pub type Start<'a> = &'a dyn Fn(Options) -> Result<Client, ConnectError>;

/// How long a step may take before a scenario fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// One thing that every adapter does over its transports.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// What it does, as a sentence that is the name of a test.
    pub name: &'static str,
    run: fn(Start<'_>),
}

impl std::fmt::Debug for Scenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Scenario {
    /// The scenario of this name.
    pub fn named(name: &str) -> Option<Self> {
        SCENARIOS.iter().find(|scenario| scenario.name == name).copied()
    }

    /// Runs it.
    ///
    /// # Panics
    /// When the adapter does something else.
    pub fn run(self, start: Start<'_>) {
        (self.run)(start);
    }
}

/// The one list of scenarios, handed to another macro.
#[doc(hidden)]
#[macro_export]
macro_rules! __transport_scenarios {
    ([$($then:tt)*] $($with:tt)*) => {
        $($then)* ! { [$($with)*]
            delivery {
                tcp_carries_every_qos_across_a_cut
                tls_carries_every_qos_across_a_cut
                tls_with_a_client_certificate_carries_every_qos_across_a_cut
                websocket_carries_every_qos_across_a_cut
                websocket_over_tls_carries_every_qos_across_a_cut
                a_unix_socket_carries_every_qos_across_a_cut
                tcp_through_socks5_carries_every_qos_across_a_cut
                tls_through_socks5_with_remote_dns_carries_every_qos_across_a_cut
                tls_with_a_client_certificate_through_socks5_carries_every_qos_across_a_cut
                websocket_through_socks5_carries_every_qos_across_a_cut
                websocket_over_tls_through_socks5_carries_every_qos_across_a_cut
                tcp_through_an_http_proxy_carries_every_qos_across_a_cut
                tls_through_an_http_proxy_carries_every_qos_across_a_cut
                tls_with_a_client_certificate_through_an_http_proxy_carries_every_qos_across_a_cut
                websocket_through_an_http_proxy_carries_every_qos_across_a_cut
                websocket_over_tls_through_an_http_proxy_carries_every_qos_across_a_cut
                both_proxies_in_a_row_carry_every_qos_across_a_cut
                websocket_speaks_the_sub_protocol_of_every_version
                a_reconnect_resumes_the_session_of_tls
            }
            refusals {
                a_certificate_of_an_unknown_issuer_is_told_at_once
                an_expired_certificate_is_told_at_once
                a_certificate_for_another_host_is_told_at_once
                a_missing_client_certificate_is_told_at_once
                a_client_certificate_of_an_unknown_issuer_is_told_at_once
                a_server_without_tls_is_told_at_once
                wrong_credentials_of_a_proxy_are_told_at_once
                a_sub_protocol_that_the_server_does_not_speak_is_told_at_once
            }
            names {
                srv_records_lead_to_the_server
                srv_records_that_are_cut_short_are_asked_for_over_tcp
                srv_records_do_not_change_the_name_that_tls_checks
            }
        }
    };
}

/// Makes a `#[test]` of every scenario of the [transports](crate::transports): its expression starts a client.
#[macro_export]
macro_rules! transport_matrix {
    ($start:expr) => {
        $crate::__transport_scenarios! { [$crate::__transport_tests] $start }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __transport_tests {
    ([$start:expr] $($module:ident { $($name:ident)* })*) => {
        $($(
            #[test]
            fn $name() {
                $crate::transports::Scenario::named(stringify!($name)).expect("the list has it").run(&$start);
            }
        )*)*
    };
}

macro_rules! table {
    ([] $($module:ident { $($name:ident)* })*) => {
        /// Every scenario.
        pub const SCENARIOS: &[Scenario] = &[$($(
            Scenario { name: stringify!($name), run: $module::$name },
        )*)*];
    };
}

__transport_scenarios! { [table] }

/// Waits, with an end.
#[track_caller]
fn wait<F: Future>(what: &str, future: F) -> F::Output {
    match block_until(future, Instant::now().checked_add(PATIENCE)) {
        Some(output) => output,
        None => panic!("{what} has not come after {PATIENCE:?}"),
    }
}

/// Waits for a connection, and says what is in its way.
#[track_caller]
fn connected(client: &Client) -> Connected {
    match block_until(client.connected(), Instant::now().checked_add(PATIENCE)) {
        Some(Ok(connected)) => connected,
        Some(Err(error)) => panic!("{error:?}"),
        None => panic!("there is no connection after {PATIENCE:?}: {:?}", client.connect_timeout()),
    }
}

/// With quick reconnects.
fn quick(options: Options, client_id: &str) -> Options {
    let (first, cap) = (Duration::from_millis(20), Duration::from_millis(200));
    let backoff = Backoff { first, cap, ..Backoff::DEFAULT };
    options.configure(|config| config.client_id(client_id).backoff(backoff))
}
