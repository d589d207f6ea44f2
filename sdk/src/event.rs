//! The event: one call of the tracking API in normalised form, made once and served to every destination.
//!
//! It keeps the call's own text and points into it; only what normalising changed is stored beside it. It does not
//! decide what is valid (`normalise` does), nor who gets it (the router does).

use crate::json::{Doc, Json};
use crate::names::NameId;
use crate::reserved::{Group, Reserved};

/// A point in time, or a day without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Date {
    /// A calendar day: days since 1970-01-01.
    Day(i32),
    /// A moment: milliseconds since 1970-01-01T00:00:00Z.
    Moment(i64),
}

/// The value of a reserved trait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field<'a> {
    /// The call does not have it.
    Absent,
    /// The call gave `null`: a wish to unset it.
    Null,
    /// A text, decoded and trimmed.
    Text(&'a str),
    /// A number, as it was written.
    Number(&'a str),
    /// A day or a point in time.
    Date(Date),
}

/// What is odd about a call that was accepted all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The kind, from a closed list, such as `trait_invalid`; the label under which it is counted.
    pub kind: &'static str,
    /// What it is about, such as the trait's name; never its value.
    pub about: String,
}

/// The kinds of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallType {
    /// `identify`
    Identify,
    /// `track`
    Track,
    /// `page`
    Page,
    /// `screen`
    Screen,
    /// `group`
    Group,
    /// `alias`
    Alias,
}

impl CallType {
    /// Every type.
    pub const ALL: &'static [CallType] = &[
        CallType::Identify,
        CallType::Track,
        CallType::Page,
        CallType::Screen,
        CallType::Group,
        CallType::Alias,
    ];

    /// Its name in the tracking API, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            CallType::Identify => "identify",
            CallType::Track => "track",
            CallType::Page => "page",
            CallType::Screen => "screen",
            CallType::Group => "group",
            CallType::Alias => "alias",
        }
    }
}

/// A text of the event: a span of the call's text, or of `made` where it starts behind that text's end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) end: u32,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Slot {
    #[default]
    Absent,
    Null,
    Text(Span),
    Number(Span),
    Date(Date),
}

/// Which reserved traits a call gives, a bit each: most calls give few of them, and most questions are about the others.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Given {
    values: u64,
    nulls: u64,
}

impl Given {
    pub(crate) fn of(reserved: &[Slot]) -> Given {
        let bits = |is_one: fn(&Slot) -> bool| {
            reserved.iter().enumerate().fold(0, |bits, (at, slot)| bits | u64::from(is_one(slot)) << at)
        };
        Given {
            values: bits(|slot| !matches!(slot, Slot::Absent | Slot::Null)),
            nulls: bits(|slot| matches!(slot, Slot::Null)),
        }
    }
}

const _: () = assert!(Reserved::COUNT <= 64);

/// A trait that is not reserved, or a member of a reserved object that is not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Custom {
    pub(crate) group: Option<Group>,
    pub(crate) key: Span,
    pub(crate) value: u32,
}

/// One call in normalised form. Made by `normalise`; never changed.
#[derive(Debug)]
pub struct Event {
    pub(crate) doc: Doc,
    /// Texts that differ from the call's own: decoded, trimmed or canonical ones, one behind the other.
    pub(crate) made: String,
    pub(crate) call_type: CallType,
    pub(crate) user_id: Option<Span>,
    pub(crate) anonymous_id: Option<Span>,
    pub(crate) message_id: Span,
    pub(crate) timestamp_ms: i64,
    pub(crate) received_at_ms: i64,
    pub(crate) reserved: Box<[Slot]>,
    pub(crate) given: Given,
    pub(crate) name_is_derived: bool,
    pub(crate) customs: Vec<Custom>,
    pub(crate) context: Option<u32>,
    pub(crate) integrations: Option<u32>,
    /// By [`NameId`]: position + 1 of the value in `doc`, 0 where the call has none.
    pub(crate) named: Box<[u32]>,
    pub(crate) warnings: Vec<Warning>,
}

impl Event {
    #[inline]
    fn span(&self, span: Span) -> &str {
        let text = self.doc.text();
        let (from, base) =
            if (span.start as usize) < text.len() { (&**text, 0) } else { (&*self.made, text.len()) };
        from.get((span.start as usize).saturating_sub(base)..(span.end as usize).saturating_sub(base))
            .unwrap_or_default()
    }

    /// How many bytes it holds in memory, about: its own, those of its parts, and what allocating each of them costs.
    pub fn held_bytes(&self) -> usize {
        const ALLOCATION: usize = 16;
        let about: usize = self.warnings.iter().map(|warning| warning.about.capacity() + ALLOCATION).sum();
        size_of::<Event>()
            + self.doc.held_bytes()
            + self.made.capacity()
            + size_of_val(&*self.reserved)
            + self.customs.capacity() * size_of::<Custom>()
            + size_of_val(&*self.named)
            + self.warnings.capacity() * size_of::<Warning>()
            + about
            + 8 * ALLOCATION
    }

    /// What kind of call it is.
    pub fn call_type(&self) -> CallType {
        self.call_type
    }

    /// The userId, decoded; numbers as digits.
    pub fn user_id(&self) -> Option<&str> {
        self.user_id.map(|span| self.span(span))
    }

    /// The anonymousId, decoded; numbers as digits.
    pub fn anonymous_id(&self) -> Option<&str> {
        self.anonymous_id.map(|span| self.span(span))
    }

    /// The messageId; made up where the call had none.
    pub fn message_id(&self) -> &str {
        self.span(self.message_id)
    }

    /// When it happened, corrected for the client's clock: milliseconds since 1970.
    pub fn timestamp_ms(&self) -> i64 {
        self.timestamp_ms
    }

    /// When it was received: milliseconds since 1970.
    pub fn received_at_ms(&self) -> i64 {
        self.received_at_ms
    }

    /// A reserved trait.
    #[inline]
    pub fn reserved(&self, reserved: Reserved) -> Field<'_> {
        match self.reserved.get(reserved as usize).copied().unwrap_or_default() {
            Slot::Absent => Field::Absent,
            Slot::Null => Field::Null,
            Slot::Text(span) => Field::Text(self.span(span)),
            Slot::Number(span) => Field::Number(self.span(span)),
            Slot::Date(date) => Field::Date(date),
        }
    }

    /// Whether the call gave a reserved trait a value.
    #[inline]
    pub fn has(&self, reserved: Reserved) -> bool {
        self.given.values >> (reserved as u8) & 1 == 1
    }

    /// Whether the call wishes to unset a reserved trait.
    #[inline]
    pub(crate) fn unsets(&self, reserved: Reserved) -> bool {
        self.given.nulls >> (reserved as u8) & 1 == 1
    }

    /// Whether the call gives a reserved trait a value, or wishes to unset it.
    #[inline]
    pub(crate) fn gives(&self, reserved: Reserved) -> bool {
        (self.given.values | self.given.nulls) >> (reserved as u8) & 1 == 1
    }

    /// Whether `name` was put together from first and last name; then it is none of the traits that the caller sent.
    pub fn name_is_derived(&self) -> bool {
        self.name_is_derived
    }

    /// The traits that are not reserved, in the order in which they were sent, under the caller's own keys; nulls
    /// included, and reserved ones whose value was invalid.
    pub fn customs(&self) -> impl Iterator<Item = (&str, Json<'_>)> {
        self.members_of(None)
    }

    /// The members of `address`, `company` or `subscription` that are not reserved.
    pub fn group_customs(&self, group: Group) -> impl Iterator<Item = (&str, Json<'_>)> {
        self.members_of(Some(group))
    }

    /// Whether a reserved object has members that are not reserved.
    pub(crate) fn has_group_customs(&self, group: Group) -> bool {
        self.customs.iter().any(|custom| custom.group == Some(group))
    }

    pub(crate) fn members_of(&self, group: Option<Group>) -> impl Iterator<Item = (&str, Json<'_>)> {
        self.customs
            .iter()
            .filter(move |custom| custom.group == group)
            .filter_map(|custom| Some((self.span(custom.key), self.doc.at(custom.value)?)))
    }

    /// The value at a custom or context path that a manifest mentions; `None` too for a path that was interned only
    /// after this event was made.
    pub fn named(&self, id: NameId) -> Option<Json<'_>> {
        let position = self.named.get(id.0 as usize)?.checked_sub(1)?;
        self.doc.at(position)
    }

    /// The whole call as it was journalled.
    pub fn raw(&self) -> Json<'_> {
        self.doc.root()
    }

    /// A value of the call by its position, see [`Json::position`].
    pub fn at(&self, position: u32) -> Option<Json<'_>> {
        self.doc.at(position)
    }

    /// The context, where the call has one.
    pub fn context(&self) -> Option<Json<'_>> {
        self.context.and_then(|position| self.doc.at(position))
    }

    /// The `integrations` value from wherever the call has it; of any type.
    pub fn integrations(&self) -> Option<Json<'_>> {
        self.integrations.and_then(|position| self.doc.at(position))
    }

    /// What is odd about it.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}
