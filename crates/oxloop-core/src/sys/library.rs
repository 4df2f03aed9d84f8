//! Shared libraries that the process has loaded already.

use std::ffi::{CStr, c_void};
use std::ptr::NonNull;

/// A shared library that stays loaded for as long as the process lives.
#[derive(Debug)]
pub struct Library(NonNull<c_void>);

// SAFETY: a handle of the dynamic linker, which locks by itself.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

impl Library {
    /// The library at `path`, if this process has loaded it; nothing is ever loaded here.
    pub fn loaded(path: &CStr) -> Option<Library> {
        // SAFETY: a C string, and flags that load nothing.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD) };
        // The count that this has added is never given back, so the library cannot be unloaded.
        NonNull::new(handle).map(Library)
    }

    /// The address of `name`, in the library or in those that it was linked with.
    pub fn symbol(&self, name: &CStr) -> Option<NonNull<c_void>> {
        // SAFETY: a handle that is never closed, and a C string.
        NonNull::new(unsafe { libc::dlsym(self.0.as_ptr(), name.as_ptr()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_is_loaded_only() {
        assert!(Library::loaded(c"libnothing-of-this-name.so.9").is_none());
        let libc = Library::loaded(c"libc.so.6").unwrap();
        assert!(libc.symbol(c"getpid").is_some());
        assert!(libc.symbol(c"no_function_of_this_name").is_none());
    }
}
