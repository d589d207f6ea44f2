//! An adapter that is a manifest and some Rust: `manifest.toml` says what is sent and what the answers mean, and the
//! code here does what it cannot say, which is to ask for page after page until a person's card is found.
//!
//! `fanout-sdk`'s documentation has the author's guide; this is its example.

use std::sync::Arc;

use async_trait::async_trait;
use fanout_sdk::adapter::Adapter;
use fanout_sdk::destination::{Context, Destination, Item, Limits, Outcome, Skip, Verdict};
use fanout_sdk::event::Event;
use fanout_sdk::json::Json;
use fanout_sdk::manifest::Plan;

/// What a binary takes in to know Cardfile.
pub const ADAPTER: Adapter = Adapter {
    name: "cardfile",
    manifest: include_str!("../manifest.toml"),
    sandbox: Some(include_str!("../sandbox.json")),
    code: Some(adapter),
};

/// A look-up gives up after so many pages: a reply that always names another one must not keep the lane for ever.
const MOST_PAGES: usize = 20;

/// Makes the destination of the manifest with one destination's settings.
pub fn adapter(plan: Plan) -> Box<dyn Destination> {
    Box::new(Cardfile { plan })
}

struct Cardfile {
    plan: Plan,
}

#[async_trait]
impl Destination for Cardfile {
    fn render(&self, event: &Arc<Event>, options: Option<Json<'_>>) -> Result<Item, Skip> {
        self.plan.render(event, options)
    }

    fn pack(&self, waiting: &[Item]) -> Vec<usize> {
        self.plan.pack(waiting)
    }

    async fn send(&self, context: &Context<'_>, items: &[Item]) -> Vec<Verdict> {
        let mut run = self.plan.run(context, items);
        for at in 0..items.len() {
            let mut pages = 1;
            // The manifest's one word is `next_page`: the card was not on this page, and there is another.
            while let Some(next_page) = run.upsert(at).await {
                if pages == MOST_PAGES {
                    run.end(at, Outcome::Rejected, "the card is not on the first 20 pages of its domain");
                } else {
                    pages += 1;
                    run.give(at, "page", &next_page.kept);
                }
            }
        }
        run.finish().await
    }

    fn limits(&self) -> &Limits {
        self.plan.limits()
    }

    fn mask(&self, text: &str) -> String {
        self.plan.mask(text)
    }
}
