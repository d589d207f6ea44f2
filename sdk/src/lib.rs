//! What a fanout adapter is written against: the event model, the reserved traits, settings, the [`Destination`] Rust
//! trait, and the engine that turns a `manifest.toml` into one.
//!
//! Nothing here opens a file or a socket, reads a clock or draws a random number: those come in through [`Context`].
//!
//! # The author's guide
//!
//! This is for those who add a vendor with Rust. Its example is a crate of its own, `examples/rust-adapter` in fanout's
//! repository: copy it, and change it piece by piece.
//!
//! ## When a manifest is enough
//!
//! Nearly always. A manifest (`docs/manifest.md`) says what is sent, in how many requests and batches, how a person is
//! looked up and then updated or created, which token is asked for first, and what each answer means. It needs no Rust
//! and no build: it goes into a folder that a configuration names as `adapters_dir`, and `fanout test-adapter DIR` runs
//! its golden cases.
//!
//! ## When it takes code
//!
//! Where *how many* requests are made, or *which*, depends on answers in a way that no rule says: page after page until
//! somebody is found; a field that must be created because the vendor has just said that it does not know it; a job that
//! is handed in and asked about later. Not for another form of date, another place for a key or one more header: if a
//! manifest cannot say such a thing, that is a mistake of the grammar and worth an issue.
//!
//! Code never replaces the manifest. It stands beside it, and what it does is small: settings, mapping, requests, limits
//! and the meaning of answers stay in the manifest, where they can be held against the vendor's page.
//!
//! ## The shape
//!
//! The manifest says in `[code]` what it and the code call each other's things:
//!
//! ```
//! # use fanout_sdk::{manifest::Manifest, names::Names};
//! const MANIFEST: &str = r#"
//! adapter = { name = "Acme", docs = "https://acme.example/api", checked = "2026-11" }
//! [settings]
//! key = { type = "secret", doc = "API key" }
//! [identity]
//! key = ["{user_id}"]
//!
//! [code]
//! words = ["unknown_field"]       # what a rule may tell the code: then = "tell:unknown_field"
//! gives = ["field"]               # what the code gives: {given.field}
//! asks  = ["add_field"]           # the requests that the code asks for
//!
//! [rest]
//! fields = [{ name = "set" }]
//! [defaults]
//! headers = { Authorization = "Bearer {settings.key}" }
//! [[request]]
//! name = "add_field"
//! on_demand = true
//! url  = "https://api.acme.example/fields"
//! body = { name = "{given.field}" }
//! [[request]]
//! name = "person"
//! url  = "https://api.acme.example/people"
//! body = { id = "{identity}", set = "{fields.set}" }
//! outcomes = [
//!   { when = "{body.unknown}", then = "tell:unknown_field", keep = "{body.unknown}", reason = "{body.message}" },
//! ]
//! "#;
//! let manifest = Manifest::load("acme/manifest.toml", MANIFEST, &mut Names::default());
//! assert!(manifest.is_ok_and(|manifest| manifest.needs_code()));
//! ```
//!
//! The code gets that manifest with one destination's settings in it, a [`Plan`], and wraps it. All but
//! [`send`](destination::Destination::send) hands over to the plan; `send` drives a [`Run`], which stops wherever a rule
//! tells the code something:
//!
//! ```
//! use std::sync::Arc;
//!
//! use async_trait::async_trait;
//! use fanout_sdk::adapter::Adapter;
//! use fanout_sdk::destination::{Context, Destination, Item, Limits, Outcome, Skip, Verdict};
//! use fanout_sdk::event::Event;
//! use fanout_sdk::json::Json;
//! use fanout_sdk::manifest::{Plan, Said};
//!
//! struct Acme {
//!     plan: Plan,
//! }
//!
//! #[async_trait]
//! impl Destination for Acme {
//!     async fn send(&self, context: &Context<'_>, items: &[Item]) -> Vec<Verdict> {
//!         let mut run = self.plan.run(context, items);
//!         let mut added = 0;
//!         while let Some((at, told)) = run.requests().await {
//!             added += 1;
//!             run.give(at, "field", &told.kept);
//!             // `person` is sent again when the loop comes round. A vendor that goes on naming fields ends here.
//!             if added > 50 || run.ask(at, "add_field").await != Said::Delivered {
//!                 run.end(at, Outcome::Rejected, &told.reason);
//!             }
//!         }
//!         run.finish().await
//!     }
//!
//!     fn render(&self, event: &Arc<Event>, options: Option<Json<'_>>) -> Result<Item, Skip> {
//!         self.plan.render(event, options)
//!     }
//!
//!     fn pack(&self, waiting: &[Item]) -> Vec<usize> {
//!         self.plan.pack(waiting)
//!     }
//!
//!     fn limits(&self) -> &Limits {
//!         self.plan.limits()
//!     }
//!
//!     fn mask(&self, text: &str) -> String {
//!         self.plan.mask(text)
//!     }
//! }
//!
//! pub const ADAPTER: Adapter = Adapter {
//!     name: "acme",
//!     manifest: "…",      // include_str!("../manifest.toml")
//!     sandbox: None,
//!     code: Some(|plan| Box::new(Acme { plan })),
//! };
//! ```
//!
//! - [`Run::upsert`] goes through the steps of `[upsert]` for one item, [`Run::requests`] through the plain requests,
//!   and [`Run::finish`] does whatever is left. Called again after a word, each goes on where it was.
//! - [`Run::give`] is how a value gets into a request, [`Run::ask`] makes a request on demand, [`Run::end`] ends an
//!   item.
//! - What is told and not acted on ends as rejected. Whatever else an answer means — wait, try again, refuse — the
//!   manifest's rules and the standard table have said already, and the run has acted on it.
//! - Every loop needs an end of its own: a vendor may always have one more page.
//!
//! ## How a delivery goes
//!
//! 1. **`render`** makes an [`Item`] of an event, or a [`Skip`] with its reason. It is called once for each attempt, and
//!    for a preview.
//! 2. **`pack`** says which of the items that wait share the next `send`.
//! 3. **`send`** makes the requests (a run does, through [`Context::transport`]; code never by itself) and gives a
//!    [`Verdict`] for each item, in their order. Every request waits for the limits that the manifest publishes.
//! 4. The lane acts on the verdict:
//!
//! | [`Outcome`] | what follows |
//! |---|---|
//! | `Delivered`, `Submitted` | done |
//! | `Retry { after }` | another attempt after that wait, else a growing one; a dead letter when `retry_for` is over |
//! | `Throttled { after, .. }` | the whole destination waits; no attempt is used up |
//! | `Rejected` | a dead letter at once, with the reason |
//! | `Unauthorised` | the lane tries one item; if that is refused too, the destination pauses with an alarm |
//!
//! A `send` can be cut off at any `await`, by a crash or a shutdown, and is then made again **from its beginning**. So
//! every step must bear being repeated: look before you create, and let what is written first be what is found later.
//! One person's events never overtake each other at a destination, and of all sends of a destination only one at a time
//! is in the upsert of one identity.
//!
//! ## Purity
//!
//! `render`, `pack`, `limits` and `mask` are pure: what comes out depends on what goes in. No clock, no chance, no
//! environment, no file, no global. `send` has all of the world through its context, so that the same code serves
//! delivery, preview and tests. There is nothing to sleep with: instead of waiting, end the item with
//! `Outcome::Retry { after: … }` and look again when the lane comes back. Nothing may panic; an event comes from the
//! network, and whatever it carries is hostile.
//!
//! ## What may be remembered, and for how long
//!
//! [`Context::memory`] is all there is: at most 10,000 texts for a destination, shared by all its sends, gone at a
//! restart. The engine keeps the ids of `[upsert]` there for as long as `remember` says, and what `[fetch]` keeps for as
//! long as the vendor says. Code may add keys of its own (begin them with `code/`), each with an end: as long as it does
//! no harm when it is wrong, and no longer. [`Memory::forget`](memory::Memory::forget) what the vendor denies. It is there
//! to save requests; an adapter must be right without it. A destination holds nothing else between sends: no fields that
//! change.
//!
//! ## Secrets
//!
//! Settings of `type = "secret"` reach requests through the manifest, never through code: a plan shows them to nobody.
//! What is shown (a preview, the reason and the answer of a verdict) has them as `***`, which is why `mask` must hand over
//! to the plan, and why reasons go through [`Run::end`]. Put no vendor's answer, no trait and no id into a log line or a
//! panic message.
//!
//! ## Testing
//!
//! The test kit, feature `testkit`, runs golden cases: calls, the requests that must go out in their order, the
//! vendor's scripted answers, and how each call must end (the format is in `destinations/README.md`). Write calls and
//! answers, have the rest filled in, and read it against the vendor's page: `cargo run -- test-adapter .` runs them, with
//! `--update` it fills them in; the example has them as tests too. A loop needs a case for each way out of it: found at
//! once, found later, not found, given up, failed in the middle.
//!
//! The conformance suite, `testkit::conformance`, plays the cases again with every fault that a vendor or a network has,
//! and with hostile calls; the example's tests run it. `preview --responses FILE` shows what one call leads to for answers
//! of your own, and `sandbox` stands in for the vendor on a real socket.
//!
//! ## Into a binary
//!
//! In fanout's own tree a folder `destinations/NAME/` with a manifest and a `mod.rs` that has `pub fn adapter(plan: Plan)
//! -> Box<dyn Destination>` is all. Outside of it, a crate of your own gives the [`Adapter`], and its binary is fanout
//! with one adapter more:
//!
//! ```toml
//! [dependencies]
//! async-trait = "0.1"
//! fanout = { path = "../fanout" }             # or git = "…"
//! fanout-sdk = { path = "../fanout/sdk" }
//!
//! [dev-dependencies]
//! fanout-sdk = { path = "../fanout/sdk", features = ["testkit"] }
//! ```
//!
//! ```text
//! fn main() -> std::process::ExitCode {
//!     fanout::cli::run_with(&[acme::ADAPTER])
//! }
//! ```
//!
//! `serve`, `check`, `preview`, `adapters`, `sandbox` and `test-adapter` of that binary know it like a built-in one.
//!
//! [`Adapter`]: adapter::Adapter
//! [`Context`]: destination::Context
//! [`Context::memory`]: destination::Context::memory
//! [`Context::transport`]: destination::Context::transport
//! [`Destination`]: destination::Destination
//! [`Item`]: destination::Item
//! [`Outcome`]: destination::Outcome
//! [`Plan`]: manifest::Plan
//! [`Run`]: manifest::Run
//! [`Run::ask`]: manifest::Run::ask
//! [`Run::end`]: manifest::Run::end
//! [`Run::finish`]: manifest::Run::finish
//! [`Run::give`]: manifest::Run::give
//! [`Run::requests`]: manifest::Run::requests
//! [`Run::upsert`]: manifest::Run::upsert
//! [`Skip`]: destination::Skip
//! [`Verdict`]: destination::Verdict

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
pub mod superseded;
#[cfg(feature = "testkit")]
pub mod testkit;
