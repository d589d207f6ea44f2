//! The router: ingest, queue, delivery, configuration and command line.
//!
//! `cli` → `app` → {`ingest`, `delivery`, `admin`} → {`queue`, `routing`, `transport`} → `telemetry`, plus `config`.

pub mod admin;
pub mod app;
pub mod certificate;
pub mod cli;
pub mod clock;
pub mod config;
pub mod delivery;
pub mod http;
pub mod ingest;
pub mod queue;
pub mod replay;
pub mod routing;
pub mod sandbox;
pub mod telemetry;
pub mod transport;
