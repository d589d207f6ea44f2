//! The tracking API and the listeners' loop, through real sockets.

// Clippy's leave to unwrap in tests covers the test functions only, not their helpers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod calls;
mod listener;
mod support;
