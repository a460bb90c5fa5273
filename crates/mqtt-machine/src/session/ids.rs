//! Owns a map from packet identifiers to small values whose memory follows its use, not the 65,535 possible keys.
//! It must not know what the values mean.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::types::PacketId;

const PAGE: usize = 64;

#[derive(Clone, Debug)]
struct Page<T> {
    used: usize,
    values: Box<[Option<T>]>,
}

/// Pages of 64 values, made when first used and dropped when empty, but for one that is kept for the next.
#[derive(Clone, Debug)]
pub(crate) struct PacketIdMap<T> {
    pages: Vec<Option<Page<T>>>,
    spare: Option<Page<T>>,
    len: usize,
}

impl<T: Copy> PacketIdMap<T> {
    pub(crate) const fn new() -> Self {
        Self { pages: Vec::new(), spare: None, len: 0 }
    }

    const fn place(id: PacketId) -> (usize, usize) {
        let id = id.to_u16() as usize;
        (id / PAGE, id % PAGE)
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, id: PacketId) -> Option<T> {
        let (page, place) = Self::place(id);
        *self.pages.get(page)?.as_ref()?.values.get(place)?
    }

    pub(crate) fn contains(&self, id: PacketId) -> bool {
        self.get(id).is_some()
    }

    pub(crate) fn insert(&mut self, id: PacketId, value: T) {
        let (page, place) = Self::place(id);
        if self.pages.len() <= page {
            self.pages.resize_with(page.saturating_add(1), || None);
        }
        let Some(slot) = self.pages.get_mut(page) else { return };
        let spare = &mut self.spare;
        let page = slot.get_or_insert_with(|| {
            spare
                .take()
                .unwrap_or_else(|| Page { used: 0, values: alloc::vec![None; PAGE].into_boxed_slice() })
        });
        if let Some(entry) = page.values.get_mut(place)
            && entry.replace(value).is_none()
        {
            page.used = page.used.saturating_add(1);
            self.len = self.len.saturating_add(1);
        }
    }

    pub(crate) fn remove(&mut self, id: PacketId) -> Option<T> {
        let (page, place) = Self::place(id);
        let slot = self.pages.get_mut(page)?;
        let page = slot.as_mut()?;
        let value = page.values.get_mut(place)?.take()?;
        page.used = page.used.saturating_sub(1);
        self.len = self.len.saturating_sub(1);
        if page.used == 0 {
            self.spare = slot.take();
        }
        Some(value)
    }

    pub(crate) fn clear(&mut self) {
        self.pages.clear();
        self.len = 0;
    }

    /// Every identifier with its value, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (PacketId, T)> {
        self.pages.iter().enumerate().flat_map(|(number, page)| {
            let values = page.as_ref().map_or(&[][..], |page| page.values.as_ref());
            values.iter().enumerate().filter_map(move |(place, value)| {
                let id = number.saturating_mul(PAGE).saturating_add(place);
                Some((PacketId::new(u16::try_from(id).ok()?)?, (*value)?))
            })
        })
    }

    /// The first free identifier from `next` on, going round; `None` when all 65,535 are in use.
    pub(crate) fn free_from(&self, next: PacketId) -> Option<PacketId> {
        if self.len >= usize::from(u16::MAX) {
            return None;
        }
        let mut id = next;
        while self.contains(id) {
            id = id.next();
        }
        Some(id)
    }

    pub(crate) fn memory_used(&self) -> usize {
        let pages = self.pages.iter().flatten().count().saturating_add(usize::from(self.spare.is_some()));
        let page = PAGE.saturating_mul(size_of::<Option<T>>());
        self.pages
            .capacity()
            .saturating_mul(size_of::<Option<Page<T>>>())
            .saturating_add(pages.saturating_mul(page))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn behaves_like_a_map_and_frees_its_pages(ops in proptest::collection::vec((any::<bool>(), 1_u16..400), 0..400)) {
            let mut map = PacketIdMap::new();
            let mut model = BTreeMap::new();
            for (insert, id) in ops {
                let id = PacketId::new(id).unwrap();
                if insert {
                    map.insert(id, id.to_u16());
                    model.insert(id, id.to_u16());
                } else {
                    prop_assert_eq!(map.remove(id), model.remove(&id));
                }
                prop_assert_eq!(map.len(), model.len());
            }
            prop_assert!(map.iter().eq(model.iter().map(|(id, value)| (*id, *value))));
            for id in model.keys() {
                map.remove(*id);
            }
            prop_assert_eq!(map.pages.iter().flatten().count(), 0);
        }
    }

    #[test]
    fn a_full_map_has_no_free_identifier_and_a_hole_is_found_going_round() {
        let mut map = PacketIdMap::new();
        for id in 1..=u16::MAX {
            map.insert(PacketId::new(id).unwrap(), ());
        }
        assert_eq!(map.free_from(PacketId::MIN), None);
        let hole = PacketId::new(77).unwrap();
        map.remove(hole);
        assert_eq!(map.free_from(PacketId::MAX), Some(hole));
    }
}
