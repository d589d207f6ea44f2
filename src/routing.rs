//! Who gets an event: the call's `integrations` flags and a destination's own rules, and why one does not get it.
//! Pure; it knows neither lanes nor configuration.
//!
//! Names are compared in three tiers: the destination's name or its adapter's exact name, an exact alias, and any of
//! them folded (case and punctuation aside, with Segment's "(Actions)" forms). Inside a tier `false` wins, but a
//! destination's own exact name stands above its adapter's.
//!
//! Storage sinks (rows 40 and 41 of the truth table) are not distinguished: no adapter is one, so `Warehouses` is a
//! word that is known and has no effect.

use fanout_sdk::event::{Event, Warning};
use fanout_sdk::json::{Json, Kind};

/// The kinds of [`Warning`] that routing gives: the closed list.
pub mod warning {
    /// A flag is a text or a number that spells a boolean, or `All` is an object; it was read as a boolean.
    pub const FLAG_COERCED: &str = "flag_coerced";
    /// A flag is neither boolean nor options; it was ignored, but an invalid `All` was read as `false`.
    pub const FLAG_INVALID: &str = "flag_invalid";
    /// A flag's name differs from the destination's in case or punctuation; it was honoured.
    pub const FLAG_FOLDED: &str = "flag_folded";
}

/// A destination as `integrations` may name it. Made once, when it is configured.
#[derive(Clone, Debug)]
pub struct Target {
    /// The table's name in the configuration.
    destination: String,
    /// The adapter's name as its manifest spells it.
    adapter: String,
    aliases: Vec<String>,
    folded: Vec<String>,
    opt_in: bool,
    sources: Option<Vec<String>>,
}

impl Target {
    /// `destination` is the configuration's name for it, `adapter` and `aliases` are the manifest's; an `opt_in` one
    /// needs a flag of its own. `sources`: those it takes, `None` for all.
    pub fn new(
        destination: &str,
        adapter: &str,
        aliases: &[String],
        opt_in: bool,
        sources: Option<Vec<String>>,
    ) -> Target {
        let names = [destination, adapter].into_iter().chain(aliases.iter().map(String::as_str));
        let mut folded: Vec<String> = names.map(fold).filter(|name| !name.is_empty()).collect();
        folded.sort_unstable();
        folded.dedup();
        let (destination, adapter) = (destination.to_owned(), adapter.to_owned());
        Target { destination, adapter, aliases: aliases.to_vec(), folded, opt_in, sources }
    }

    /// How near a flag's name is to this destination's: the lowest is nearest.
    fn tier(&self, name: &str) -> Option<Tier> {
        if name == self.destination {
            return Some(Tier::Destination);
        }
        if name == self.adapter {
            return Some(Tier::Adapter);
        }
        if self.aliases.iter().any(|alias| alias == name) {
            return Some(Tier::Alias);
        }
        self.folded.iter().any(|own| folded(name).eq(own.chars())).then_some(Tier::Folded)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tier {
    Destination,
    Adapter,
    Alias,
    Folded,
}

/// Whether a destination gets an event.
#[derive(Debug)]
pub enum Decision<'a> {
    /// It does.
    On {
        /// The options that the call gave for it; an empty list where PHP wrote `[]` for none.
        options: Option<Json<'a>>,
        /// What is odd about the flags.
        warnings: Vec<Warning>,
    },
    /// It does not.
    Off {
        /// The code under which it is counted: `source`, `integrations`, `integrations_invalid` or `opt_in`.
        reason: &'static str,
        /// For people: the flag or rule, and what to do about it.
        detail: String,
        /// What is odd about the flags.
        warnings: Vec<Warning>,
    },
}

impl Decision<'_> {
    /// Whether it gets the event.
    pub fn is_on(&self) -> bool {
        matches!(self, Decision::On { .. })
    }
}

/// Decides by the destination's sources, then by the call's flags.
pub fn decide<'a>(event: &'a Event, source: &str, target: &Target) -> Decision<'a> {
    by_source(source, target).unwrap_or_else(|| by_flags(event.integrations(), target))
}

/// Off, if the destination does not take what this source sends.
pub fn by_source(source: &str, target: &Target) -> Option<Decision<'static>> {
    let sources = target.sources.as_ref()?;
    if sources.iter().any(|name| name == source) {
        return None;
    }
    let name = &target.destination;
    Some(Decision::Off {
        reason: "source",
        detail: format!(
            "destinations.{name}.sources does not list source {source:?}; add it there to send its calls"
        ),
        warnings: Vec::new(),
    })
}

/// Decides by the call's `integrations`, see the truth table in this file's tests.
pub fn by_flags<'a>(integrations: Option<Json<'a>>, target: &Target) -> Decision<'a> {
    let flags = match integrations {
        Some(flags) if flags.kind() == Kind::Object => Flags::read(flags, target),
        Some(flags) if !flags.is_null() && !is_empty_list(flags) => {
            return Decision::Off {
                reason: "integrations_invalid",
                detail:
                    "integrations is no object, so nothing is sent; send an object such as {\"All\":true}"
                        .to_owned(),
                warnings: Vec::new(),
            };
        }
        _ => Flags::default(),
    };
    flags.decide(target)
}

fn is_empty_list(json: Json<'_>) -> bool {
    json.kind() == Kind::List && json.elements().next().is_none()
}

/// The names under `integrations` that no destination answers to, so that a misspelt one can be found.
pub fn unknown_names(event: &Event, targets: &[Target]) -> Vec<String> {
    let Some(flags) = event.integrations() else { return Vec::new() };
    let is_known = |name: &str| {
        matches!(&*fold(name), "all" | "segmentio" | "warehouses")
            || targets.iter().any(|t| t.tier(name).is_some())
    };
    flags.members().filter(|(name, _)| !is_known(name)).map(|(name, _)| name.into_owned()).collect()
}

/// A value under `integrations`.
#[derive(Clone, Copy)]
enum Flag<'a> {
    Off,
    On,
    Options(Json<'a>),
    /// `null`, or something that is no flag.
    Unsaid,
}

#[derive(Default)]
struct Flags<'a> {
    /// The flag of the nearest tier, and the name under which it stands.
    own: Option<(Tier, Flag<'a>, String)>,
    /// Whether everything is on, and whether it was said under the exact name.
    all: Option<(bool, bool)>,
    warnings: Vec<Warning>,
}

impl<'a> Flags<'a> {
    fn read(flags: Json<'a>, target: &Target) -> Flags<'a> {
        let mut found = Flags::default();
        for (name, value) in flags.members() {
            if name.eq_ignore_ascii_case("all") {
                found.all(&name, value);
            } else if let Some(tier) = target.tier(&name) {
                found.own(tier, &name, value);
            }
        }
        found
    }

    fn all(&mut self, name: &str, value: Json<'a>) {
        let is_exact = name == "All";
        if matches!(self.all, Some((_, true))) && !is_exact {
            return;
        }
        let on = match self.flag(name, value) {
            Flag::On => true,
            Flag::Off => false,
            Flag::Options(_) => {
                self.warn(warning::FLAG_COERCED, name);
                true
            }
            Flag::Unsaid if value.is_null() => return,
            // What cannot be read may have meant "nobody".
            Flag::Unsaid => false,
        };
        // Of several other spellings `false` wins; the exact one beats them.
        let on = match self.all {
            Some((before, false)) if !is_exact => before && on,
            _ => on,
        };
        self.all = Some((on, is_exact));
    }

    fn own(&mut self, tier: Tier, name: &str, value: Json<'a>) {
        let flag = self.flag(name, value);
        if matches!(flag, Flag::Unsaid) {
            return;
        }
        let wins = match &self.own {
            None => true,
            Some((nearest, _, _)) if tier != *nearest => tier < *nearest,
            // The same name twice: the last one counts. Two names in one tier: `false` does.
            Some((_, before, named)) => named == name || !matches!(before, Flag::Off),
        };
        if wins {
            self.own = Some((tier, flag, name.to_owned()));
        }
    }

    fn flag(&mut self, name: &str, value: Json<'a>) -> Flag<'a> {
        let spelled = match value.kind() {
            Kind::True => return Flag::On,
            Kind::False => return Flag::Off,
            Kind::Null => return Flag::Unsaid,
            Kind::Object => return Flag::Options(value),
            Kind::List if is_empty_list(value) => return Flag::Options(value),
            Kind::Text => value.text().and_then(|text| match text.trim() {
                text if text.eq_ignore_ascii_case("true") => Some(true),
                text if text.eq_ignore_ascii_case("false") => Some(false),
                _ => None,
            }),
            Kind::Number => match value.raw() {
                "1" => Some(true),
                "0" => Some(false),
                _ => None,
            },
            Kind::List => None,
        };
        let (kind, flag) = match spelled {
            Some(true) => (warning::FLAG_COERCED, Flag::On),
            Some(false) => (warning::FLAG_COERCED, Flag::Off),
            None => (warning::FLAG_INVALID, Flag::Unsaid),
        };
        self.warn(kind, name);
        flag
    }

    fn warn(&mut self, kind: &'static str, name: &str) {
        let about = format!("integrations.{}", name.chars().take(100).collect::<String>());
        self.warnings.push(Warning { kind, about });
    }

    fn decide(mut self, target: &Target) -> Decision<'a> {
        if let Some((Tier::Folded, _, name)) = &self.own {
            let name = name.clone();
            self.warn(warning::FLAG_FOLDED, &name);
        }
        let Flags { own, all, warnings } = self;
        let destination = &target.destination;
        let off = |reason, detail| Decision::Off { reason, detail, warnings: warnings.clone() };
        match (own, all) {
            (Some((_, Flag::On, _)), _) => Decision::On { options: None, warnings },
            (Some((_, Flag::Options(options), _)), _) => Decision::On { options: Some(options), warnings },
            (Some((_, _, name)), _) => off(
                "integrations",
                format!(
                    "the call says integrations.{name} = false; drop the flag or set it to true to send to {destination}"
                ),
            ),
            (None, Some((false, _))) => off(
                "integrations",
                format!(
                    "the call says integrations.All = false; add \"{}\": true to send to {destination}",
                    target.adapter
                ),
            ),
            (None, _) if target.opt_in => off(
                "opt_in",
                format!(
                    "{destination} takes only calls that ask for it; add \"{}\": true to integrations, or set opt_in = false \
                     in its table of the configuration",
                    target.adapter
                ),
            ),
            (None, _) => Decision::On { options: None, warnings },
        }
    }
}

/// A name without case and punctuation, and without the "Actions" that Segment puts around some names.
fn folded(name: &str) -> impl Iterator<Item = char> {
    let name = strip_suffix(name.trim(), "(Actions)");
    let name = strip_prefix(name, "Actions ");
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase)
}

fn fold(name: &str) -> String {
    folded(name).collect()
}

fn strip_suffix<'a>(name: &'a str, suffix: &str) -> &'a str {
    match name.len().checked_sub(suffix.len()).and_then(|at| name.split_at_checked(at)) {
        Some((head, tail)) if tail.eq_ignore_ascii_case(suffix) => head,
        _ => name,
    }
}

fn strip_prefix<'a>(name: &'a str, prefix: &str) -> &'a str {
    match name.split_at_checked(prefix.len()) {
        Some((head, tail)) if head.eq_ignore_ascii_case(prefix) => tail,
        _ => name,
    }
}

#[cfg(test)]
mod tests;
