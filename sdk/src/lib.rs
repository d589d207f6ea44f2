//! What a fanout adapter is written against: the event model, the reserved traits, settings, the [`Destination`] Rust
//! trait, and the engine that turns a `manifest.toml` into one.
//!
//! Nothing here opens a file or a socket, reads a clock or draws a random number: those come in through
//! [`destination::Context`].
//!
//! [`Destination`]: destination::Destination

pub mod adapter;
mod canonical;
pub mod dates;
pub mod destination;
pub mod event;
pub mod json;
pub mod manifest;
pub mod memory;
pub mod names;
pub mod normalise;
pub mod preview;
pub mod problem;
pub mod reserved;
#[cfg(feature = "testkit")]
pub mod testkit;
