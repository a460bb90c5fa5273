//! Programs that embed `mqtt-machine`, each complete, each run by a test; `docs/embedding.md` says what each of them shows.

/// The code on the pages of `docs/` compiles, and runs where it says so.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../../docs/embedding.md")]
    mod embedding {}
}
