//! `render` and `pack`: the same call gives the same bytes, and what is packed together may go together.

use std::collections::HashSet;

use super::Suite;
use super::calls::of_user;
use super::scene::Scene;
use crate::destination::Item;

/// How many users wait, each with two calls.
const USERS: usize = 6;

/// Renders every call of every case twice, the second time with a destination made anew.
pub(super) fn render(suite: &Suite<'_>) -> Vec<String> {
    let mut problems = Vec::new();
    for scene in &suite.scenes {
        let twin = match scene.with_settings(suite.adapter.factory, &scene.settings) {
            Ok(twin) => twin,
            Err(problem) => {
                problems.push(format!("{}: made twice with the same settings: {problem}", scene.file));
                continue;
            }
        };
        for (at, call) in scene.calls.iter().enumerate() {
            let first = scene.render(call).map(|item| summary(&item));
            for second in [scene.render(call), twin.render(call)] {
                let second = second.map(|item| summary(&item));
                if first != second {
                    problems
                        .push(format!("{}, events[{at}]: rendered {first:?}, then {second:?}", scene.file));
                }
            }
        }
    }
    problems
}

fn summary(item: &Item) -> String {
    let Item { identity, group, digest, parts, warnings, options, .. } = item;
    format!("{identity} {group} {digest} {parts:?} {warnings:?} {options:?}")
}

/// Packs the calls of several users, each there twice, until none waits.
pub(super) fn pack(suite: &Suite<'_>) -> Vec<String> {
    suite.settings().into_iter().filter_map(pack_of).collect()
}

fn pack_of(scene: &Scene) -> Option<String> {
    let calls = (0..2 * USERS).map(|n| of_user(scene.call(), n / 2));
    let mut waiting: Vec<Item> = calls.filter_map(|call| scene.render(&call).ok()).collect();
    let limits = scene.subject.destination.limits();
    while !waiting.is_empty() {
        let chosen = scene.subject.destination.pack(&waiting);
        if chosen != scene.subject.destination.pack(&waiting) {
            return Some(format!("{}: pack gives something else the second time", scene.file));
        }
        let set: HashSet<usize> = chosen.iter().copied().collect();
        let items: Vec<&Item> = chosen.iter().filter_map(|at| waiting.get(*at)).collect();
        let identities: HashSet<&str> = items.iter().map(|item| &*item.identity).collect();
        let size = |item: &&Item| item.parts.iter().map(|part| part.bytes.len()).sum::<usize>();
        let bytes: usize = items.iter().map(size).sum();
        let overtakes = |at: &usize| {
            let item = waiting.get(*at);
            let before = waiting.iter().take(*at).enumerate().filter(|(other, _)| !set.contains(other));
            before.into_iter().any(|(_, other)| item.is_some_and(|item| item.identity == other.identity))
        };
        let wrong = [
            (chosen.iter().any(overtakes), "lets a call overtake an earlier one of the same identity"),
            (chosen.first() != Some(&0), "leaves out the first item, which has waited longest"),
            (
                set.len() != chosen.len() || items.len() != chosen.len(),
                "gives a position twice, or one that is not there",
            ),
            (!chosen.is_sorted(), "changes the order"),
            (identities.len() != items.len(), "puts two items of one identity into one send"),
            (items.len() > limits.items.max(1), "takes more items than its limits say"),
            (items.len() > 1 && bytes > limits.bytes, "takes more bytes than its limits say"),
        ];
        if let Some((_, what)) = wrong.into_iter().find(|(wrong, _)| *wrong) {
            return Some(format!("{}: pack {what}: {chosen:?} of {}", scene.file, waiting.len()));
        }
        let mut at = 0;
        waiting.retain(|_| {
            at += 1;
            !set.contains(&(at - 1))
        });
    }
    None
}
