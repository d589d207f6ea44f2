//! The manifest engine: one TOML file that describes a vendor becomes a [`Destination`](crate::destination::Destination).

pub mod functions;
pub mod value;
