//! What the tests share.

pub mod http;
pub mod queue;
pub mod server;
