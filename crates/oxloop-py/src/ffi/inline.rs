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

const fn fits<B>() -> bool {
    size_of::<B>() <= size_of::<Space>() && align_of::<B>() <= align_of::<Space>()
}

type View = fn(&Space) -> &dyn Body;

fn view<B: Body>(space: &Space) -> &dyn Body {
    // SAFETY: `InlineCell::holding` stored a `B` together with this function, checked that it fits, and
    // nobody else sets either.
    unsafe { &*space.as_ptr().cast::<B>() }
}

/// Ends one use of the cell, also when it ends by a panic.
struct Use<'a>(&'a Cell<u32>);

impl Drop for Use<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// A cell for one [`Body`] of any type, which is not dropped while somebody looks at it.
pub struct InlineCell {
    space: UnsafeCell<Space>,
    /// Sees the space as the body that was stored; None when that is gone.
    view: Cell<Option<View>>,
    /// How many calls of `with` are under way.
    users: Cell<u32>,
}

impl InlineCell {
    #[inline]
    pub fn holding<B: Body>(body: B) -> Self {
        const { assert!(fits::<B>(), "the body of a coroutine is too large or too much aligned") };
        let mut space: Space = [MaybeUninit::uninit(); SPACE_WORDS];
        // SAFETY: it fits, as checked when this was compiled.
        unsafe { space.as_mut_ptr().cast::<B>().write(body) };
        Self {
            space: UnsafeCell::new(space),
            view: Cell::new(Some(view::<B>)),
            users: Cell::new(0),
        }
    }

    /// Stores another body in a cell whose own is gone.
    ///
    /// # Panics
    /// If it is not gone.
    #[inline]
    pub fn refill<B: Body>(&self, body: B) {
        const { assert!(fits::<B>(), "the body of a coroutine is too large or too much aligned") };
        assert!(self.view.get().is_none() && self.users.get() == 0, "the cell is in use");
        // SAFETY: it fits, and nobody looks at the space, as just checked.
        unsafe { (*self.space.get()).as_mut_ptr().cast::<B>().write(body) };
        self.view.set(Some(view::<B>));
    }

    /// Calls `run` with the body, which stays where it is meanwhile; with None if it is gone.
    #[inline]
    pub fn with<R>(&self, run: impl FnOnce(Option<&dyn Body>) -> R) -> R {
        let Some(view) = self.view.get() else { return run(None) };
        self.users.set(self.users.get() + 1);
        let _use = Use(&self.users);
        // SAFETY: attached threads only, one at a time (GIL). The space is written by `holding` and
        // given up by `drop_body`, which does not while `users` is not zero.
        run(Some(view(unsafe { &*self.space.get() })))
    }

    /// Drops the body where it lies, unless it is in use, or gone. Nobody finds it meanwhile.
    #[inline]
    pub fn drop_body(&self) {
        if self.users.get() != 0 {
            return;
        }
        let Some(view) = self.view.take() else { return };
        // SAFETY: no reference into the space is alive, as `users` says, and none can be made any
        // more, as `view` is gone.
        let body = std::ptr::from_ref(view(unsafe { &*self.space.get() })).cast_mut();
        // SAFETY: written by `holding`, dropped once; mutable memory, inside an `UnsafeCell`.
        unsafe { std::ptr::drop_in_place(body) };
    }
}

impl Drop for InlineCell {
    fn drop(&mut self) {
        self.drop_body();
    }
}
