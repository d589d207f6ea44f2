//! Walks over everything in a manifest that holds expressions.

use super::expression::{Source as Written, Template};
use super::schema::{Fetch, Policies, Request, Rule, Schema, templates_of};
use super::source::Data;
use crate::names::Root;

pub(super) fn policies_of(policies: &Policies) -> impl Iterator<Item = &Data> {
    let Policies { null, dates, guess_dates, nested, separator, arrays, joiner } = policies;
    [null, dates, guess_dates, nested, separator, arrays, joiner].into_iter().flatten()
}

pub(super) fn request_parts(request: &Request) -> Vec<&Data> {
    let parts = [
        &request.method,
        &request.url,
        &request.query,
        &request.headers,
        &request.encoding,
        &request.body,
        &request.item,
        &request.keep,
    ];
    let items = request.batch.iter().filter_map(|batch| batch.items.as_ref());
    request.when.iter().chain(&request.unless).chain(parts.into_iter().flatten()).chain(items).collect()
}

/// Everything in a rule but `item`.
pub(super) fn rule_parts(rule: &Rule) -> impl Iterator<Item = &Data> {
    let parts = [&rule.each, &rule.index, &rule.id, &rule.after, &rule.reason, &rule.keep];
    rule.when.iter().chain(&rule.unless).chain(parts.into_iter().flatten())
}

pub(super) fn fetch_parts(fetch: &Fetch) -> impl Iterator<Item = &Data> {
    let parts = [&fetch.keep, &fetch.each, &fetch.key, &fetch.lasts];
    let rules = fetch.request.outcomes.iter().flat_map(rule_parts);
    request_parts(&fetch.request).into_iter().chain(parts.into_iter().flatten()).chain(rules)
}

/// Every piece of data of a manifest.
pub(super) fn all_data(schema: &Schema) -> Vec<&Data> {
    let mut data: Vec<&Data> = schema.identity.iter().collect();
    data.extend(schema.values.iter().map(|(_, data)| data));
    data.extend(policies_of(&schema.rest.policies));
    for field in &schema.rest.fields {
        data.extend(
            [&field.of, &field.only, &field.names, &field.drop, &field.key, &field.value]
                .into_iter()
                .flatten(),
        );
        data.extend(policies_of(&field.policies));
    }
    for request in schema.requests.iter().chain(&schema.deletes) {
        data.extend(request_parts(request));
        data.extend(request.outcomes.iter().flat_map(|rule| rule_parts(rule).chain(&rule.item)));
    }
    data.extend(schema.fetches.iter().flat_map(fetch_parts));
    data.extend(schema.upsert.iter().flat_map(|upsert| &upsert.when));
    data
}

/// The custom and context paths that a manifest mentions.
pub(crate) fn paths(schema: &Schema) -> Vec<(Root, Vec<String>)> {
    let mut found = Vec::new();
    for pipe in templates_of(all_data(schema)).into_iter().flat_map(Template::pipes) {
        let args = pipe.steps.iter().flat_map(|step| &step.args);
        for source in std::iter::once(&pipe.source).chain(args) {
            let Written::Path(path) = source else { continue };
            let root = match path.root.as_str() {
                "custom" => Root::Custom,
                "context" => Root::Context,
                _ => continue,
            };
            found.extend(path.names().filter(|names| !names.is_empty()).map(|names| (root, names)));
        }
    }
    found
}
