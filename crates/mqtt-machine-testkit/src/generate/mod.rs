//! Owns the generators: packets, topics and scripts from one source of choices.
//! It must not know what is tested with them.
//!
//! Everything here is [`Generate`]: one function from [`Choices`] to a value. So a fuzzer's bytes, proptest and a seed give
//! values of one distribution, and each has its own way in:
//!
//! - **A seed**: [`Generate::from_seed`].
//! - **A fuzzer**: the feature `arbitrary` implements `arbitrary::Arbitrary` for [`Any`], so a target takes
//!   `Any<Script>`, `Any<Sent>`, `Any<TopicFilter>` ... .
//! - **Property tests**: the feature `proptest` has `strategy`; choices are drawn as a list of bytes, and proptest makes
//!   the value simpler by making the bytes fewer and smaller.
//!
//! ```
//! use mqtt_machine_testkit::generate::{Generate, NearValid, Sent};
//!
//! let sent = Sent::from_seed(7);
//! println!("{:?} sends {:?} in {}", sent.sender, sent.packet, sent.version);
//! let broken = NearValid::from_seed(7);
//! println!("{}: {} [{}]", broken.rule.name, broken.rule.what, broken.rule.id(broken.version));
//! ```

mod choices;
mod near_valid;
mod owned;
mod packets;
mod properties;
mod text;

pub use choices::Choices;
pub use near_valid::{BrokenRule, Duty, NearValid};
pub use owned::{OwnedCodes, OwnedConnect, OwnedPacket, OwnedPublish, OwnedWill};
pub use packets::{
    Sent, Stream, WildPacket, connect, encoded, packet, packet_id, packet_of, packet_types, publish, qos,
    speaker, subscription_options,
};
pub use properties::{Spot, any_properties, properties, property};
pub use text::{blob, is_tame, payload, text, topic_filter, topic_name};

/// What can be made of choices.
pub trait Generate: Sized {
    /// The value that these choices make. Every sequence of choices makes one.
    fn generate(choices: &mut Choices<'_>) -> Self;

    /// The value of a seed, the same on every machine.
    fn from_seed(seed: u64) -> Self {
        Self::generate(&mut Choices::from_seed(seed))
    }
}

/// A generated value of any type, also one of the core's: what `arbitrary::Arbitrary` and `proptest` are implemented for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Any<T>(pub T);

#[cfg(feature = "arbitrary")]
impl<'a, T: Generate> arbitrary::Arbitrary<'a> for Any<T> {
    fn arbitrary(unstructured: &mut arbitrary::Unstructured<'a>) -> arbitrary::Result<Self> {
        // Data that has ended gives zeros, which are the simplest choices.
        let mut draw = || unstructured.arbitrary::<u8>().unwrap_or(0);
        Ok(Self(T::generate(&mut Choices::drawn(&mut draw))))
    }
}

/// How many choices a value of `strategy` draws before all others are the simplest.
#[cfg(feature = "proptest")]
const DRAWN: usize = 600;

/// A strategy for values that shrink by their choices.
#[cfg(feature = "proptest")]
pub fn strategy<T: Generate + core::fmt::Debug>() -> impl proptest::strategy::Strategy<Value = T> {
    strategy_of(DRAWN, T::generate)
}

/// A strategy for what `generate` makes of at most so many bytes of choices; behind them all are the simplest.
#[cfg(feature = "proptest")]
pub fn strategy_of<T: core::fmt::Debug>(
    most: usize,
    generate: impl Fn(&mut Choices<'_>) -> T,
) -> impl proptest::strategy::Strategy<Value = T> {
    use proptest::prelude::{Strategy, any};
    proptest::collection::vec(any::<u8>(), 0..=most)
        .prop_map(move |bytes| generate(&mut Choices::from_bytes(&bytes)))
}

#[cfg(feature = "proptest")]
impl<T: Generate + core::fmt::Debug + 'static> proptest::arbitrary::Arbitrary for Any<T> {
    type Parameters = ();
    type Strategy = proptest::strategy::BoxedStrategy<Self>;

    fn arbitrary_with((): ()) -> Self::Strategy {
        use proptest::strategy::Strategy;
        strategy().prop_map(Any).boxed()
    }
}
