//! Owns a map from packet identifiers to small values whose memory follows its use, not the 65,535 possible keys.
//! It must not know what the values mean.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::types::PacketId;

const PAGE: usize = 64;
/// Pages that are kept for the next identifiers: enough for windows of a thousand that empty and fill again and again.
const SPARES: usize = 16;

#[derive(Clone, Debug)]
struct Page<T> {
    used: usize,
    values: Box<[Option<T>; PAGE]>,
}

#[derive(Clone, Debug)]
struct Spares<T>(Vec<Page<T>>);

/// Pages of 64 values, made when first used and dropped when empty, but for the one that was emptied last and a few that are kept for the
/// next until it is [quiet](Self::shrink).
#[derive(Clone, Debug)]
pub(crate) struct PacketIdMap<T> {
    pages: Vec<Option<Page<T>>>,
    /// None until the first page is spared.
    spares: Option<Box<Spares<T>>>,
    /// The page that was emptied last: it stays, so that one value that comes and goes costs no more than others.
    emptied: u16,
    /// There are no more identifiers than this can count.
    len: u16,
}

impl<T: Copy> PacketIdMap<T> {
    pub(crate) const fn new() -> Self {
        Self { pages: Vec::new(), spares: None, emptied: 0, len: 0 }
    }

    const fn place(id: PacketId) -> (usize, usize) {
        let id = id.to_u16() as usize;
        (id / PAGE, id % PAGE)
    }

    pub(crate) const fn len(&self) -> usize {
        self.len as usize
    }

    #[inline]
    pub(crate) fn get(&self, id: PacketId) -> Option<T> {
        let (page, place) = Self::place(id);
        *self.pages.get(page)?.as_ref()?.values.get(place)?
    }

    pub(crate) fn contains(&self, id: PacketId) -> bool {
        self.get(id).is_some()
    }

    /// Returns whether there was none under this identifier.
    #[inline]
    pub(crate) fn insert(&mut self, id: PacketId, value: T) -> bool {
        let (page, place) = Self::place(id);
        if !matches!(self.pages.get(page), Some(Some(_))) {
            self.open_page(page);
        }
        if let Some(Some(page)) = self.pages.get_mut(page)
            && let Some(entry) = page.values.get_mut(place)
            && entry.replace(value).is_none()
        {
            page.used = page.used.saturating_add(1);
            self.len = self.len.saturating_add(1);
            return true;
        }
        false
    }

    #[cold]
    #[inline(never)]
    fn open_page(&mut self, page: usize) {
        if self.pages.len() <= page {
            self.pages.resize_with(page.saturating_add(1), || None);
        }
        let new = || Page { used: 0, values: Box::new([None; PAGE]) };
        if let Some(slot) = self.pages.get_mut(page) {
            let spare = self.spares.as_mut().and_then(|spares| spares.0.pop());
            *slot = Some(spare.unwrap_or_else(new));
        }
    }

    #[inline]
    pub(crate) fn remove(&mut self, id: PacketId) -> Option<T> {
        self.remove_if(id, Some)
    }

    /// Takes a value out if `end` makes something of it, and returns that.
    #[inline]
    pub(crate) fn remove_if<R>(&mut self, id: PacketId, end: impl FnOnce(T) -> Option<R>) -> Option<R> {
        let (number, place) = Self::place(id);
        let page = self.pages.get_mut(number)?.as_mut()?;
        let entry = page.values.get_mut(place)?;
        let ended = end((*entry)?)?;
        *entry = None;
        page.used = page.used.saturating_sub(1);
        self.len = self.len.saturating_sub(1);
        if page.used == 0 {
            self.page_emptied(number);
        }
        Some(ended)
    }

    #[inline]
    fn page_emptied(&mut self, number: usize) {
        if usize::from(self.emptied) != number {
            let number = u16::try_from(number).unwrap_or_default();
            let before = core::mem::replace(&mut self.emptied, number);
            self.close_page(before.into());
        }
    }

    /// Takes a page out if nothing is in it.
    #[cold]
    #[inline(never)]
    fn close_page(&mut self, number: usize) {
        if let Some(slot) = self.pages.get_mut(number)
            && let Some(page) = slot.take_if(|page| page.used == 0)
        {
            let Spares(spares) = &mut **self.spares.get_or_insert_with(|| Box::new(Spares(Vec::new())));
            if spares.len() < SPARES {
                spares.push(page);
            }
        }
    }

    /// Gives the pages back that nothing has needed for a while.
    pub(crate) fn shrink(&mut self) {
        if self.len == 0 {
            *self = Self::new();
        } else if let Some(spares) = &mut self.spares {
            spares.0.truncate(1);
            spares.0.shrink_to_fit();
        }
    }

    /// Every identifier with its value, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (PacketId, T)> {
        self.pages.iter().enumerate().flat_map(|(number, page)| {
            let values = page.iter().flat_map(|page| page.values.iter());
            values.enumerate().filter_map(move |(place, value)| {
                let id = number.saturating_mul(PAGE).saturating_add(place);
                Some((PacketId::new(u16::try_from(id).ok()?)?, (*value)?))
            })
        })
    }

    /// The first free identifier from `next` on, going round; `None` when all 65,535 are in use.
    #[inline]
    pub(crate) fn free_from(&self, next: PacketId) -> Option<PacketId> {
        if self.len == u16::MAX {
            return None;
        }
        let mut id = next;
        while self.contains(id) {
            id = id.next();
        }
        Some(id)
    }

    pub(crate) fn memory_used(&self) -> usize {
        let (spare, room) =
            self.spares.as_ref().map_or((0, 0), |spares| (spares.0.len(), spares.0.capacity()));
        let pages = self.pages.iter().flatten().count().saturating_add(spare);
        let page = PAGE.saturating_mul(size_of::<Option<T>>());
        self.pages
            .capacity()
            .saturating_add(room)
            .saturating_mul(size_of::<Option<Page<T>>>())
            .saturating_add(pages.saturating_mul(page))
    }
}

/// As [`PacketIdMap`], for what most clients never need: it takes the room of a pointer until something is put in.
#[derive(Clone, Debug)]
pub(crate) struct RareIdMap<T>(Option<Box<PacketIdMap<T>>>);

impl<T: Copy> RareIdMap<T> {
    pub(crate) const fn new() -> Self {
        Self(None)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|map| map.len() == 0)
    }

    pub(crate) fn get(&self, id: PacketId) -> Option<T> {
        self.0.as_ref()?.get(id)
    }

    pub(crate) fn insert(&mut self, id: PacketId, value: T) {
        self.0.get_or_insert_with(|| Box::new(PacketIdMap::new())).insert(id, value);
    }

    pub(crate) fn remove(&mut self, id: PacketId) {
        if let Some(map) = &mut self.0 {
            map.remove(id);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (PacketId, T)> {
        self.0.iter().flat_map(|map| map.iter())
    }

    pub(crate) fn clear(&mut self) {
        self.0 = None;
    }

    /// As that of [`PacketIdMap`].
    pub(crate) fn shrink(&mut self) {
        match &mut self.0 {
            Some(map) if map.len() > 0 => map.shrink(),
            _ => self.0 = None,
        }
    }

    pub(crate) fn memory_used(&self) -> usize {
        self.0.as_ref().map_or(0, |map| map.memory_used().saturating_add(size_of::<PacketIdMap<T>>()))
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
            prop_assert!(map.pages.iter().flatten().count() <= 1, "the one that was emptied last");
            map.shrink();
            prop_assert_eq!(map.memory_used(), 0);
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
