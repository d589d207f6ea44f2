//! The router: ingest, queue, delivery, configuration and command line.
//!
//! `cli` → `app` → {`ingest`, `delivery`, `admin`} → {`queue`, `routing`, `transport`} → `telemetry`, plus `config`.

pub mod queue;
pub mod routing;
