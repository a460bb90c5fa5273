//! Owns values that most clients never need, so that they take no room in those. It must not know what they are.

/// A value that takes the room of a pointer until it is first made.
#[derive(Debug)]
pub(crate) struct Rarely<T>(Option<Box<T>>);

impl<T> Rarely<T> {
    /// As it is, if it was made.
    #[inline]
    pub(crate) fn get(&self) -> Option<&T> {
        self.0.as_deref()
    }

    /// To change what was made.
    #[inline]
    pub(crate) fn get_mut(&mut self) -> Option<&mut T> {
        self.0.as_deref_mut()
    }

    /// As it would be if it had never been made; what was there.
    pub(crate) fn take(&mut self) -> Option<T> {
        self.0.take().map(|value| *value)
    }
}

impl<T: Default> Rarely<T> {
    /// Makes it, unless it was.
    #[inline]
    pub(crate) fn make(&mut self) -> &mut T {
        self.0.get_or_insert_with(new)
    }
}

#[cold]
#[inline(never)]
fn new<T: Default>() -> Box<T> {
    Box::default()
}

impl<T> Default for Rarely<T> {
    fn default() -> Self {
        Self(None)
    }
}
