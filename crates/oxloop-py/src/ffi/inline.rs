//! A value of one of many types, stored in place: a trait object without its own allocation.
//!
//! Facts: a native coroutine has a body of a few words that lives as long as the coroutine; a `Box`
//! for it would cost as much as the pooled coroutine itself.
//! Decision: room for [`SPACE_WORDS`] words and a function that gives the type back. A body that
//! does not fit does not compile.

use std::cell::{Cell, UnsafeCell};
use std::mem::MaybeUninit;

use crate::coroutine::Body;

/// Words of memory for one body.
const SPACE_WORDS: usize = 10;

type Space = [MaybeUninit<usize>; SPACE_WORDS];

/// A [`Body`] of any type.
pub struct Inline {
    space: Space,
    /// Sees the space as the body that was stored.
    view: fn(&Space) -> &dyn Body,
}

fn view<B: Body>(space: &Space) -> &dyn Body {
    // SAFETY: `Inline::new` stored a `B` together with this function, checked that it fits, and
    // nobody else sets either.
    unsafe { &*space.as_ptr().cast::<B>() }
}

impl Inline {
    #[inline]
    pub fn new<B: Body>(body: B) -> Self {
        const {
            assert!(size_of::<B>() <= size_of::<Space>(), "the body of a coroutine is too large");
            assert!(align_of::<B>() <= align_of::<Space>(), "the body needs too much alignment");
        }
        let mut space: Space = [MaybeUninit::uninit(); SPACE_WORDS];
        // SAFETY: it fits, as checked when this was compiled.
        unsafe { space.as_mut_ptr().cast::<B>().write(body) };
        Self { space, view: view::<B> }
    }

    #[inline]
    pub fn body(&self) -> &dyn Body {
        (self.view)(&self.space)
    }
}

impl Drop for Inline {
    fn drop(&mut self) {
        let body = std::ptr::from_ref(self.body()).cast_mut();
        // SAFETY: written by `new`, dropped once; `self` is not used again.
        unsafe { std::ptr::drop_in_place(body) }
    }
}

/// A cell for an [`Inline`] that is not taken out while somebody looks at it.
pub struct InlineCell {
    value: UnsafeCell<Option<Inline>>,
    /// How many calls of `with` are under way.
    users: Cell<u32>,
}

/// Ends one use of the cell, also when it ends by a panic.
struct Use<'a>(&'a Cell<u32>);

impl Drop for Use<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl InlineCell {
    pub fn holding(value: Inline) -> Self {
        Self { value: UnsafeCell::new(Some(value)), users: Cell::new(0) }
    }

    /// Calls `run` with the body, which stays where it is meanwhile; None if it was taken out.
    #[inline]
    pub fn with<R>(&self, run: impl FnOnce(&dyn Body) -> R) -> Option<R> {
        // SAFETY: attached threads only, one at a time (GIL). Only `take` changes the cell, and it
        // does not while `users` is not zero.
        let value = unsafe { &*self.value.get() }.as_ref()?;
        self.users.set(self.users.get() + 1);
        let _use = Use(&self.users);
        Some(run(value.body()))
    }

    /// Takes the body out, to be dropped by the caller; None if it is in use, or gone.
    #[inline]
    pub fn take(&self) -> Option<Inline> {
        if self.users.get() != 0 {
            return None;
        }
        // SAFETY: no reference into the cell is alive, as `users` says.
        unsafe { (*self.value.get()).take() }
    }
}
