//! The built-in adapters, one folder a vendor, embedded in the binary. Nothing here knows a vendor: what there is to
//! know stands in the folders, and `build.rs` lists them.

/// A built-in adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adapter {
    /// Its folder's name, by which configurations name it: `mixpanel`.
    pub name: &'static str,
    /// The text of its `manifest.toml`.
    pub manifest: &'static str,
    /// The text of its `sandbox.json`, where its vendor does not simply answer 200 with `{}`.
    pub sandbox: Option<&'static str>,
}

include!(concat!(env!("OUT_DIR"), "/builtin.rs"));

/// Every built-in adapter, in the order of their names.
pub fn builtin() -> &'static [Adapter] {
    BUILTIN
}

#[cfg(test)]
mod conformance;
