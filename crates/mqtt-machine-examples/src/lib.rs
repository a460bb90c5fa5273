//! Programs that embed `mqtt-machine`, and programs of everyday use, each complete, each run by a test; `docs/embedding.md` and
//! `README.md` say what each of them shows.

/// The code on the pages of `docs/` compiles, and runs where it says so. Those without code in Rust are not listed; a test of the links
/// sees that no page with some is missing here.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../../docs/embedding.md")]
    mod embedding {}
    #[doc = include_str!("../../../docs/migration.md")]
    mod migration {}
    #[doc = include_str!("../../../docs/scaling.md")]
    mod scaling {}
    #[doc = include_str!("../../../docs/requests.md")]
    mod requests {}
    #[doc = include_str!("../../../docs/overload.md")]
    mod overload {}
    #[doc = include_str!("../../../docs/reliability.md")]
    mod reliability {}
    #[doc = include_str!("../../../docs/testing.md")]
    mod testing {}
    #[doc = include_str!("../../../docs/transcripts.md")]
    mod transcripts {}
    #[doc = include_str!("../../../CONTRIBUTING.md")]
    mod contributing {}
}
