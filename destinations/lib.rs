//! The built-in adapters, one folder a vendor.
