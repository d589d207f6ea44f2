//! The router: ingest, queue, delivery, configuration and command line.
//!
//! `cli` → `app` → {`ingest`, `delivery`, `admin`} → {`queue`, `routing`, `transport`} → `telemetry`, plus `config`.

pub mod admin;
pub mod http;
pub mod ingest;
pub mod queue;
pub mod routing;
pub mod telemetry;
