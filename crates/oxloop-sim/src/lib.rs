//! Searches oxloop-core for bugs.
//!
//! | module | subject |
//! |---|---|
//! | [`program`] | what a run does, from its seed |
//! | [`app`], [`host`], [`transport`], [`watch`] | the application that does it, and checks the core's promises |
//! | [`payload`] | bytes that say where they belong |
//! | [`run`] | one run and its report |
//! | [`shrink`] | makes a failing run smaller |
//! | [`torture`] | every call of a scenario fails once, with each error |
//!
//! The program `oxloop-sim` runs seeds; see its `--help`.

pub mod app;
pub mod host;
pub mod payload;
pub mod program;
pub mod run;
pub mod shrink;
pub mod torture;
pub mod transport;
pub mod watch;
