//! The built-in adapters, one folder a vendor, embedded in the binary. Nothing here knows a vendor: what there is to
//! know stands in the folders, and `build.rs` lists them.

pub use fanout_sdk::adapter::Adapter;

include!(concat!(env!("OUT_DIR"), "/builtin.rs"));

/// Every built-in adapter, in the order of their names.
pub fn builtin() -> &'static [Adapter] {
    BUILTIN
}

#[cfg(test)]
mod conformance;
