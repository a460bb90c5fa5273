//! Owns the order in which the addresses of one name are tried. It must not know how an attempt is made, nor wait.

use std::net::SocketAddr;
use std::time::Duration;

/// The addresses of one name, in the order in which to try them (RFC 8305, section 4).
///
/// The families alternate, beginning with the family of the first address, so that one broken family costs one
/// attempt and not all of them. Within a family the resolver's order stays. An address that stands in the list
/// twice is tried once, and no more than [`MAX_ADDRESSES`](Self::MAX_ADDRESSES) are tried at all.
///
/// ```
/// use mqtt_machine_transport::AddressSequence;
///
/// let resolved = ["[::1]:1883".parse()?, "[::2]:1883".parse()?, "127.0.0.1:1883".parse()?];
/// let order: Vec<String> = AddressSequence::new(resolved).map(|address| address.to_string()).collect();
/// assert_eq!(order, ["[::1]:1883", "127.0.0.1:1883", "[::2]:1883"]);
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, Debug)]
pub struct AddressSequence {
    addresses: std::vec::IntoIter<SocketAddr>,
}

impl AddressSequence {
    /// How long to wait for an attempt before the next one begins beside it (RFC 8305, section 8).
    /// An attempt that failed is followed by the next one at once.
    pub const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

    /// How many addresses of one name are tried at most.
    pub const MAX_ADDRESSES: usize = 16;

    /// Orders `resolved`, which stands as the resolver gave it.
    pub fn new(resolved: impl IntoIterator<Item = SocketAddr>) -> Self {
        let mut first = Vec::new();
        let mut second = Vec::new();
        for address in resolved {
            let starts = first.first().is_none_or(|known: &SocketAddr| known.is_ipv4() == address.is_ipv4());
            let family = if starts { &mut first } else { &mut second };
            if family.len() < Self::MAX_ADDRESSES && !family.contains(&address) {
                family.push(address);
            }
        }

        let mut addresses = Vec::with_capacity(Self::MAX_ADDRESSES);
        let (mut first, mut second) = (first.into_iter(), second.into_iter());
        loop {
            let pair = [first.next(), second.next()];
            if pair == [None, None] {
                break;
            }
            addresses.extend(pair.into_iter().flatten());
        }
        addresses.truncate(Self::MAX_ADDRESSES);
        Self { addresses: addresses.into_iter() }
    }
}

impl Iterator for AddressSequence {
    type Item = SocketAddr;

    fn next(&mut self) -> Option<SocketAddr> {
        self.addresses.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.addresses.size_hint()
    }
}

impl ExactSizeIterator for AddressSequence {}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(resolved: &[&str]) -> Vec<String> {
        let resolved = resolved.iter().map(|text| text.parse().unwrap());
        AddressSequence::new(resolved).map(|address: SocketAddr| address.to_string()).collect()
    }

    #[test]
    fn families_alternate_from_the_first_and_leftovers_follow() {
        assert_eq!(order(&[]), [""; 0]);
        assert_eq!(order(&["[::1]:1", "127.0.0.1:1"]), ["[::1]:1", "127.0.0.1:1"]);
        assert_eq!(
            order(&["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1", "[::1]:1"]),
            ["10.0.0.1:1", "[::1]:1", "10.0.0.2:1", "10.0.0.3:1"]
        );
    }

    #[test]
    fn a_repeated_address_is_tried_once_and_sixteen_at_most() {
        assert_eq!(order(&["10.0.0.1:1", "10.0.0.1:1", "10.0.0.1:2"]), ["10.0.0.1:1", "10.0.0.1:2"]);

        let many = (0..40u16).map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let late = std::iter::once(SocketAddr::from(([0u16; 8], 1)));
        let sequence = AddressSequence::new(many.chain(late));
        assert_eq!(sequence.len(), AddressSequence::MAX_ADDRESSES);
        // The other family keeps its place however long the first one is.
        assert!(sequence.clone().nth(1).unwrap().is_ipv6());
    }
}
