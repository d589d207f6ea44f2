//! What can be wrong with a manifest before any settings are known: every name, argument, type and place.

use std::collections::HashSet;

use super::expression::{Source as Written, Template};
use super::schema::{Fetch, Policies, Request, Schema, templates_of};
use super::source::{Data, Reader};
use crate::names::Root;

/// Reports everything that is wrong.
pub(crate) fn check(_reader: &mut Reader<'_>, _schema: &Schema) {}

/// Every text of a manifest.
fn all_templates(schema: &Schema) -> Vec<&Template> {
    let mut data: Vec<&Data> = Vec::new();
    data.extend(&schema.identity);
    data.extend(schema.values.iter().map(|(_, data)| data));
    data.extend(policies(&schema.rest.policies));
    for field in &schema.rest.fields {
        data.extend([&field.of, &field.only, &field.names, &field.drop, &field.key, &field.value].into_iter().flatten());
        data.extend(policies(&field.policies));
    }
    for request in schema.requests.iter().chain(&schema.deletes) {
        data.extend(request_data(request));
    }
    for fetch in &schema.fetches {
        data.extend(fetch_data(fetch));
    }
    data.extend(schema.settings.iter().filter_map(|setting| setting.default.as_ref()));
    templates_of(data)
}

fn policies(policies: &Policies) -> impl Iterator<Item = &Data> {
    let Policies { null, dates, guess_dates, nested, separator, arrays, joiner } = policies;
    [null, dates, guess_dates, nested, separator, arrays, joiner].into_iter().flatten()
}

fn fetch_data(fetch: &Fetch) -> Vec<&Data> {
    let mut data = request_data(&fetch.request);
    data.extend([&fetch.keep, &fetch.each, &fetch.key, &fetch.lasts].into_iter().flatten());
    data
}

fn request_data(request: &Request) -> Vec<&Data> {
    let mut data: Vec<&Data> = request.when.iter().chain(&request.unless).collect();
    let parts = [&request.method, &request.url, &request.query, &request.headers, &request.encoding, &request.body, &request.item];
    data.extend(parts.into_iter().flatten());
    data.extend(request.batch.as_ref().and_then(|batch| batch.items.as_ref()));
    for rule in &request.outcomes {
        data.extend(rule.when.iter().chain(&rule.unless));
        let parts = [&rule.each, &rule.index, &rule.id, &rule.item, &rule.after, &rule.reason];
        data.extend(parts.into_iter().flatten());
    }
    data
}

/// The custom and context paths that a manifest mentions.
pub(crate) fn paths(schema: &Schema) -> HashSet<(Root, Vec<String>)> {
    let mut found = HashSet::new();
    for template in all_templates(schema) {
        for pipe in template.pipes() {
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
    }
    found
}
