//! The reserved traits: the closed list of user properties with a standard meaning, under their canonical names.
//! It is the merger of the two specifications' tables. It does not parse values; `normalise` does.

use std::sync::LazyLock;

/// Declares the reserved traits in one place: variant, canonical name.
macro_rules! reserved {
    ($($variant:ident $name:literal,)*) => {
        /// A reserved trait; one member of an object each, so that every one has a slot of its own.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Reserved {
            $(#[doc = concat!("`", $name, "`")] $variant,)*
        }

        impl Reserved {
            /// Every reserved trait, in the order of its slots.
            pub const ALL: &'static [Reserved] = &[$(Reserved::$variant,)*];

            /// The canonical name, dotted where it is a member of an object.
            pub fn name(self) -> &'static str {
                match self {
                    $(Reserved::$variant => $name,)*
                }
            }
        }
    };
}

reserved! {
    AddressStreet "address.street",
    AddressCity "address.city",
    AddressState "address.state",
    AddressRegion "address.region",
    AddressPostalCode "address.postal_code",
    AddressCountry "address.country",
    Age "age",
    Avatar "avatar",
    Birthday "birthday",
    CompanyId "company.id",
    CompanyName "company.name",
    CompanyIndustry "company.industry",
    CompanyEmployeeCount "company.employee_count",
    CompanyPlan "company.plan",
    CompanyCreatedAt "company.created_at",
    CreatedAt "created_at",
    Description "description",
    Email "email",
    FirstName "first_name",
    Gender "gender",
    Id "id",
    LastName "last_name",
    Name "name",
    Phone "phone",
    SubscriptionPlanName "subscription.plan_name",
    SubscriptionPlanId "subscription.plan_id",
    SubscriptionStatus "subscription.status",
    SubscriptionPaymentStatus "subscription.payment_status",
    SubscriptionPlanIntervalCount "subscription.plan_interval_count",
    SubscriptionPlanIntervalUnit "subscription.plan_interval_unit",
    SubscriptionServiceTrialPeriodStartAt "subscription.service_trial_period_start_at",
    SubscriptionServiceTrialPeriodEndAt "subscription.service_trial_period_end_at",
    SubscriptionServicePeriodStartAt "subscription.service_period_start_at",
    SubscriptionServicePeriodEndAt "subscription.service_period_end_at",
    SubscriptionServicePeriodCancelledAt "subscription.service_period_cancelled_at",
    SubscriptionDueDate "subscription.due_date",
    SubscriptionAmountInCents "subscription.amount_in_cents",
    SubscriptionCurrency "subscription.currency",
    SubscriptionDiscountCode "subscription.discount_code",
    SubscriptionDiscountAmountInCents "subscription.discount_amount_in_cents",
    SubscriptionTaxAmountInCents "subscription.tax_amount_in_cents",
    Title "title",
    Username "username",
    Website "website",
}

/// A reserved trait that is an object of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    /// `address`
    Address,
    /// `company`
    Company,
    /// `subscription`
    Subscription,
}

impl Group {
    /// Every group.
    pub const ALL: &'static [Group] = &[Group::Address, Group::Company, Group::Subscription];

    /// The canonical name.
    pub fn name(self) -> &'static str {
        match self {
            Group::Address => "address",
            Group::Company => "company",
            Group::Subscription => "subscription",
        }
    }

    /// The member that a text in the object's place stands for, if it may be one.
    pub(crate) fn of_text(self) -> Option<Reserved> {
        match self {
            Group::Address => Some(Reserved::AddressStreet),
            Group::Company => Some(Reserved::CompanyName),
            Group::Subscription => None,
        }
    }

    /// The reserved traits that are its members, each with its name there.
    pub fn members(self) -> &'static [(Reserved, &'static str)] {
        static MEMBERS: LazyLock<[Vec<(Reserved, &'static str)>; 3]> = LazyLock::new(|| {
            [Group::Address, Group::Company, Group::Subscription].map(|group| {
                let placed = Reserved::ALL.iter().map(|one| (*one, one.place()));
                let of_group = placed.filter(|(_, (of, _))| *of == Some(group));
                of_group.map(|(one, (_, member))| (one, member)).collect()
            })
        });
        MEMBERS.get(self as usize).map(Vec::as_slice).unwrap_or_default()
    }
}

impl Reserved {
    /// The object it is a member of, if any, and its name there.
    pub fn place(self) -> (Option<Group>, &'static str) {
        match self.name().split_once('.') {
            Some(("address", member)) => (Some(Group::Address), member),
            Some(("company", member)) => (Some(Group::Company), member),
            Some(("subscription", member)) => (Some(Group::Subscription), member),
            _ => (None, self.name()),
        }
    }

    /// The reserved trait of that exact canonical name.
    pub fn named(name: &str) -> Option<Reserved> {
        Reserved::ALL.iter().copied().find(|reserved| reserved.name() == name)
    }
}

impl Reserved {
    /// How many there are.
    pub const COUNT: usize = Reserved::ALL.len();

    /// What a value must be.
    pub(crate) fn rule(self) -> Rule {
        use Reserved::*;
        match self {
            Age => Rule::Age,
            Avatar => Rule::Url,
            Birthday | CompanyCreatedAt | CreatedAt => Rule::Date,
            SubscriptionServiceTrialPeriodStartAt
            | SubscriptionServiceTrialPeriodEndAt
            | SubscriptionServicePeriodStartAt
            | SubscriptionServicePeriodEndAt
            | SubscriptionServicePeriodCancelledAt
            | SubscriptionDueDate => Rule::Date,
            CompanyId => Rule::TextOrNumber,
            CompanyEmployeeCount => Rule::Count { least: 0 },
            SubscriptionPlanIntervalCount => Rule::Count { least: 1 },
            Email => Rule::Email,
            Id | AddressPostalCode | SubscriptionPlanName | SubscriptionPlanId | SubscriptionDiscountCode => {
                Rule::Code
            }
            Phone => Rule::FirstCode,
            Website => Rule::FirstText,
            SubscriptionStatus => Rule::OneOf(STATUSES),
            SubscriptionPaymentStatus => Rule::OneOf(PAYMENT_STATUSES),
            SubscriptionPlanIntervalUnit => Rule::Unit,
            SubscriptionAmountInCents | SubscriptionDiscountAmountInCents | SubscriptionTaxAmountInCents => {
                Rule::Cents
            }
            SubscriptionCurrency => Rule::Currency,
            _ => Rule::Text,
        }
    }
}

/// What a reserved trait's value must be, and how it is brought into its one form. Blank texts are absent everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// A text, trimmed.
    Text,
    /// A text, or the first of a list of them.
    FirstText,
    /// A text; a whole number becomes one.
    Code,
    /// As `Code`, or the first of a list of them.
    FirstCode,
    /// A text or a number, kept as what it is.
    TextOrNumber,
    /// An address of the web.
    Url,
    /// An e-mail address.
    Email,
    /// A number from 0 to 150; digits become one.
    Age,
    /// A whole number; digits become one.
    Count {
        /// The least that is allowed.
        least: u8,
    },
    /// A day or a moment.
    Date,
    /// One of a closed list, whatever its case, with `_` or `-` for spaces.
    OneOf(&'static [&'static str]),
    /// `day`, `week`, `month` or `year`, or their plurals.
    Unit,
    /// A whole number not below zero, as a text of digits.
    Cents,
    /// Three letters, in lower case.
    Currency,
}

const STATUSES: &[&str] = &[
    "never subscribed",
    "trial active",
    "trial canceled",
    "trial expired",
    "active",
    "blocked",
    "canceled",
    "expired",
    "unknown",
];
const PAYMENT_STATUSES: &[&str] =
    &["pending", "paid", "dunning", "past due", "unpaid", "canceled", "disputed", "refunded", "unknown"];

/// Other names of reserved traits, in the order in which they are preferred where a call has several. Camel case and
/// other spellings of these and of the canonical names need no entry: [`find`] folds them.
const ALIASES: &[(Reserved, &[&str])] = &[
    (Reserved::AddressPostalCode, &["address.zip", "address.zip_code"]),
    (Reserved::Avatar, &["photo_url", "avatar_url"]),
    (Reserved::Birthday, &["date_of_birth", "dob"]),
    (Reserved::CompanyEmployeeCount, &["company.employees"]),
    (Reserved::CompanyCreatedAt, &["company.created"]),
    (Reserved::CreatedAt, &["created"]),
    (Reserved::Description, &["background"]),
    (Reserved::Phone, &["phones"]),
    (
        Reserved::SubscriptionServicePeriodCancelledAt,
        &["subscription.service_period_canceled_at", "subscription.cancelled_at", "subscription.canceled_at"],
    ),
    (Reserved::Title, &["position", "job_title"]),
    (Reserved::Website, &["websites"]),
];

/// Parts of the address that may stand beside it instead of inside it.
const FLAT: &[(Reserved, &[&str])] = &[
    (Reserved::AddressStreet, &["street"]),
    (Reserved::AddressCity, &["city"]),
    (Reserved::AddressState, &["state"]),
    (Reserved::AddressRegion, &["region"]),
    (Reserved::AddressPostalCode, &["postal_code", "zip", "zip_code"]),
    (Reserved::AddressCountry, &["country"]),
];

/// What a trait's name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// A reserved trait, or a member of a group at its place or by its dotted name.
    Trait(Reserved),
    /// A part of the address outside of it.
    Flat(Reserved),
    /// An object of reserved traits.
    Group(Group),
}

/// A name that was recognised.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) meaning: Meaning,
    /// Which spelling is preferred where a call has several: the lowest. The canonical name first, then the aliases in
    /// their order; of each first snake case, then camel case, then any other.
    pub(crate) rank: u8,
    /// The name says which object it belongs in, such as `address.city`.
    pub(crate) is_dotted: bool,
}

struct Entry {
    /// Lower case, letters, digits and dots only.
    folded: Box<[u8]>,
    snake: &'static str,
    camel: String,
    meaning: Meaning,
    alias: u8,
    is_dotted: bool,
}

/// Recognised names by length and last letter of their folded form, see [`bucket`]: seldom more than two in one.
static TABLE: LazyLock<Box<[Vec<Entry>]>> = LazyLock::new(|| {
    let canonical = Reserved::ALL.iter().map(|r| (Meaning::Trait(*r), 0, r.name()));
    let groups = Group::ALL.iter().map(|group| (Meaning::Group(*group), 0, group.name()));
    let aliases = ALIASES
        .iter()
        .flat_map(|(r, names)| names.iter().zip(1..).map(|(name, at)| (Meaning::Trait(*r), at, *name)));
    let flat = FLAT
        .iter()
        .flat_map(|(r, names)| names.iter().zip(0..).map(|(name, at)| (Meaning::Flat(*r), at, *name)));
    let mut table: Vec<Vec<Entry>> = (0..(LONGEST + 1) << LETTER_BITS).map(|_| Vec::new()).collect();
    for (meaning, alias, snake) in canonical.chain(groups).chain(aliases).chain(flat) {
        let folded: Box<[u8]> = snake.bytes().filter(|byte| *byte != b'_').collect();
        if let Some(bucket) = table.get_mut(bucket(&folded)) {
            let is_dotted = snake.contains('.');
            bucket.push(Entry { folded, snake, camel: camel(snake), meaning, alias, is_dotted });
        }
    }
    table.into()
});

/// Enough to tell the letters from each other.
const LETTER_BITS: usize = 5;

/// Where a folded name stands in the table.
fn bucket(folded: &[u8]) -> usize {
    let last = folded.last().copied().unwrap_or(0);
    folded.len() << LETTER_BITS | usize::from(last) & ((1 << LETTER_BITS) - 1)
}

/// Length of the longest folded name, `subscription.serviceperiodcancelledat` and its like; a test keeps it true.
const LONGEST: usize = 40;

fn camel(snake: &str) -> String {
    let mut out = String::with_capacity(snake.len());
    let mut upper = false;
    for letter in snake.chars() {
        match letter {
            '_' => upper = true,
            letter if upper => {
                out.push(letter.to_ascii_uppercase());
                upper = false;
            }
            letter => out.push(letter),
        }
    }
    out
}

/// A letter beyond ASCII; see [`FOLDED`].
const FOREIGN: u8 = 0x80;

/// By byte: what it is in a folded name; zero where it does not count.
const FOLDED: [u8; 256] = {
    let mut table = [0; 256];
    let (mut rest, mut byte): (&mut [u8], u8) = (&mut table, 0);
    while let [first, others @ ..] = rest {
        *first = match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'.' => byte,
            b'A'..=b'Z' => byte | 0x20,
            0x80.. => FOREIGN,
            _ => 0,
        };
        rest = others;
        byte = byte.wrapping_add(1);
    }
    table
};

/// What a trait's name stands for, in whatever spelling: case and everything but letters, digits and dots do not
/// count. `group` is the object that it was found in. A name with letters beyond ASCII is never reserved.
pub(crate) fn find(group: Option<Group>, key: &str) -> Option<Found> {
    let mut buffer = [0u8; LONGEST];
    let mut length = 0;
    if let Some(group) = group {
        for (to, from) in buffer.iter_mut().zip(group.name().bytes().chain([b'.'])) {
            *to = from;
            length += 1;
        }
    }
    for byte in key.bytes() {
        let folded = FOLDED.get(usize::from(byte)).copied().unwrap_or(FOREIGN);
        if folded == FOREIGN {
            return None;
        }
        // What does not count is written too, and then over.
        if let Some(place) = buffer.get_mut(length) {
            *place = folded;
        } else if folded != 0 {
            return None;
        }
        length += usize::from(folded != 0);
    }
    let folded = buffer.get(..length)?;
    let entry = TABLE.get(bucket(folded))?.iter().find(|entry| &*entry.folded == folded)?;
    let skip = group.map_or(0, |group| group.name().len() + 1);
    let spelling = if entry.snake.get(skip..) == Some(key) {
        0
    } else if entry.camel.get(skip..) == Some(key) {
        1
    } else {
        2
    };
    Some(Found { meaning: entry.meaning, rank: entry.alias * 3 + spelling, is_dotted: entry.is_dotted })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_and_alias_is_found_in_every_spelling() {
        let named = Reserved::ALL.iter().map(|r| (*r, r.name()));
        let aliased = ALIASES.iter().flat_map(|(r, names)| names.iter().map(|name| (*r, *name)));
        for (reserved, name) in named.chain(aliased) {
            for spelling in [
                name.to_owned(),
                camel(name),
                name.to_uppercase(),
                name.replace('_', " "),
                name.replace('_', ""),
            ] {
                let found = find(None, &spelling).map(|found| found.meaning);
                assert_eq!(found, Some(Meaning::Trait(reserved)), "{spelling}");
                if let Some((group, member)) = spelling.split_once('.') {
                    let group =
                        Group::ALL.iter().copied().find(|known| known.name().eq_ignore_ascii_case(group));
                    let found = find(group, member).map(|found| found.meaning);
                    assert_eq!(found, Some(Meaning::Trait(reserved)), "{spelling}");
                }
            }
        }
        for (reserved, names) in FLAT {
            for name in *names {
                assert_eq!(find(None, &camel(name)).unwrap().meaning, Meaning::Flat(*reserved), "{name}");
            }
        }
    }

    #[test]
    fn no_two_entries_share_a_name() {
        let entries: Vec<&Entry> = TABLE.iter().flatten().collect();
        let names: std::collections::HashSet<_> = entries.iter().map(|entry| &entry.folded).collect();
        assert_eq!(names.len(), entries.len());
        let declared = Reserved::COUNT
            + Group::ALL.len()
            + [ALIASES, FLAT].concat().iter().map(|(_, names)| names.len()).sum::<usize>();
        assert_eq!(entries.len(), declared, "a name is longer than LONGEST");
    }

    #[test]
    fn ranks_put_the_canonical_spelling_first() {
        let order = ["created_at", "createdAt", "CreatedAt", "created", "CREATED"];
        let ranks: Vec<u8> = order.iter().map(|name| find(None, name).unwrap().rank).collect();
        assert_eq!(ranks, [0, 1, 2, 3, 5]);
    }

    #[test]
    fn other_names_are_not_reserved() {
        for name in
            ["", "plan", "emails", "é-mail", "名name", "first.name", "address.planet", "zip.code", "a"]
        {
            assert!(find(None, name).is_none(), "{name}");
        }
        assert!(find(Some(Group::Company), "email").is_none());
        assert!(find(Some(Group::Company), &"x".repeat(1000)).is_none());
    }
}
