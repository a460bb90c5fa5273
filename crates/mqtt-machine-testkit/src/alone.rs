//! Owns tests that run on the thread of `main`, with no other thread beside them: what they measure of the whole process, such as
//! its heap, is theirs. The harness of the standard library allocates on a thread of its own meanwhile.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// Runs tests one after another, with the arguments of the standard library's harness: names to select them, `--list`, `--exact`.
/// How many threads are asked for does not matter.
///
/// [`alone!`](crate::alone!) writes the `main` around it.
pub fn run(tests: Vec<(&'static str, fn())>) -> ExitCode {
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    let trials = tests.into_iter().map(|(name, test)| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

/// The `main` of a test target with `harness = false`, whose tests are these functions.
///
/// ```no_run
/// fn one_and_one_are_two() {
///     assert_eq!(1 + 1, 2);
/// }
///
/// mqtt_machine_testkit::alone!(one_and_one_are_two);
/// ```
#[macro_export]
macro_rules! alone {
    ($($test:ident),+ $(,)?) => {
        fn main() -> ::std::process::ExitCode {
            $crate::alone::run(::std::vec![$((::core::stringify!($test), $test as fn())),+])
        }
    };
}
