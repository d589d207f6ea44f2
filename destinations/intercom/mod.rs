//! Intercom, beside its manifest: custom attributes that the workspace lacks are created, and a phone number that the
//! vendor refuses is left out, before a write is made again. Everything else is the manifest's.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use fanout_sdk::destination::{Context, Destination, Item, Limits, Outcome, Skip, Verdict};
use fanout_sdk::event::Event;
use fanout_sdk::json::{Doc, Json, Kind};
use fanout_sdk::manifest::{Plan, Run, Said, Told};

/// The adapter, for a destination that is configured.
pub fn adapter(plan: Plan) -> Box<dyn Destination> {
    Box::new(Intercom { plan })
}

struct Intercom {
    plan: Plan,
}

#[async_trait]
impl Destination for Intercom {
    fn render(&self, event: &Arc<Event>, options: Option<Json<'_>>) -> Result<Item, Skip> {
        self.plan.render(event, options)
    }

    fn digest(&self, item: &Item) -> u64 {
        self.plan.digest(item)
    }

    fn pack(&self, waiting: &[Item]) -> Vec<usize> {
        self.plan.pack(waiting)
    }

    async fn send(&self, context: &Context<'_>, items: &[Item]) -> Vec<Verdict> {
        let mut run = self.plan.run(context, items);
        let mut created = HashSet::new();
        for (at, item) in items.iter().enumerate() {
            while let Some(told) = run.upsert(at).await {
                repair(&mut run, at, item, &told, Model::Contact, &mut created).await;
            }
        }
        while let Some((at, told)) = run.requests().await {
            if let Some(item) = items.get(at) {
                repair(&mut run, at, item, &told, Model::Company, &mut created).await;
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

/// What a custom attribute belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Model {
    Contact,
    Company,
}

impl Model {
    /// As the vendor calls it.
    fn name(self) -> &'static str {
        match self {
            Model::Contact => "contact",
            Model::Company => "company",
        }
    }
}

/// Does what a rule asks for, so that the refused write can be made again, or ends the item.
async fn repair(
    run: &mut Run<'_>,
    at: usize,
    item: &Item,
    told: &Told,
    model: Model,
    created: &mut HashSet<(usize, Model, String)>,
) {
    match told.word.as_str() {
        "bad_phone" => {
            run.give(at, "no_phone", "true");
            run.leave_out(at, &format!("without the phone number: {}", told.reason));
        }
        "unknown_attribute" => {
            if let Err(reason) = create_attribute(run, at, item, &told.kept, model, created).await {
                run.end(at, Outcome::Rejected, &reason);
            }
        }
        _ => run.end(at, Outcome::Rejected, &told.reason),
    }
}

/// Creates the attribute that the vendor's message names, once for each item; why that cannot be.
async fn create_attribute(
    run: &mut Run<'_>,
    at: usize,
    item: &Item,
    message: &str,
    model: Model,
    created: &mut HashSet<(usize, Model, String)>,
) -> Result<(), String> {
    let message = match model {
        Model::Contact => message.to_owned(),
        Model::Company => format!("company: {message}"),
    };
    let name = quoted(&message).ok_or_else(|| message.clone())?;
    if !created.insert((at, model, name.to_owned())) {
        return Err(format!(
            "{message}, although it was created for this call: see Settings > Data in Intercom"
        ));
    }
    let data_type = data_type(item, model, name).ok_or_else(|| {
        format!(
            "{message}, and the call gives no value to tell its type: create it in Intercom (Settings > Data), or \
             leave the trait out"
        )
    })?;
    run.give(at, "attribute", name);
    run.give(at, "model", model.name());
    run.give(at, "data_type", data_type);
    match run.ask(at, "create_attribute").await {
        Said::Told(told) => Err(told.reason),
        Said::Delivered | Said::Ended => Ok(()),
    }
}

/// What stands between the first and the last `'`: names may hold one themselves.
fn quoted(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once('\'')?;
    let (name, _) = rest.rsplit_once('\'')?;
    (!name.is_empty()).then_some(name)
}

/// The vendor's type for the value that an item has for an attribute; `None` where it is null or not there.
fn data_type(item: &Item, model: Model, name: &str) -> Option<&'static str> {
    item.parts.iter().find_map(|part| {
        let doc = Doc::parse(std::str::from_utf8(&part.bytes).ok()?.into()).ok()?;
        let is_company = doc.root().get("company_id").is_some();
        let value = doc.root().get("custom_attributes")?.get(name)?;
        if is_company == (model == Model::Company) { type_of(name, value) } else { None }
    })
}

/// The manifest writes dates as whole numbers where the attribute's name says that it is one.
fn type_of(name: &str, value: Json<'_>) -> Option<&'static str> {
    match value.kind() {
        Kind::True | Kind::False => Some("boolean"),
        Kind::Text => Some("string"),
        Kind::Number if value.raw().contains(['.', 'e', 'E']) => Some("float"),
        Kind::Number if name.ends_with("_at") => Some("date"),
        Kind::Number => Some("integer"),
        Kind::Null | Kind::List | Kind::Object => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_an_attribute_is_read_from_the_message() {
        for (message, name) in [
            ("Custom attribute 'plan_tier' does not exist", Some("plan_tier")),
            ("Custom attribute 'it's new' does not exist", Some("it's new")),
            ("Custom attribute '' does not exist", None),
            ("Custom attribute 'x does not exist", None),
            ("does not exist", None),
        ] {
            assert_eq!(quoted(message), name, "{message}");
        }
    }

    #[test]
    fn the_type_of_an_attribute_follows_from_its_value() {
        for (name, value, expected) in [
            ("plan", r#""gold""#, Some("string")),
            ("logins", "7", Some("integer")),
            ("logins", "-7", Some("integer")),
            ("ratio", "0.5", Some("float")),
            ("ratio", "1e9", Some("float")),
            ("active", "false", Some("boolean")),
            ("trial_ends_at", "1788220800", Some("date")),
            ("trial_ends_at", r#""soon""#, Some("string")),
            ("plan", "null", None),
        ] {
            let doc = Doc::parse(value.into()).unwrap();
            assert_eq!(type_of(name, doc.root()), expected, "{name} {value}");
        }
    }
}
