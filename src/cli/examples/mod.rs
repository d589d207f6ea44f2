//! The example calls of the two specifications, for `demo` and `preview`. E-mail addresses, which one specification lost,
//! are made up.

/// An example call and what to say about it.
pub struct Example {
    /// What it shows, for people.
    pub about: &'static str,
    /// The call as JSON.
    pub call: &'static str,
}

/// All of them; the first is the most telling one.
pub const EXAMPLES: &[Example] = &[
    Example {
        about: "the first specification's complete example; its integrations name Mixpanel and Salesforce only",
        call: include_str!("specification-a.json"),
    },
    Example {
        about: "the first specification's typical call",
        call: include_str!("typical-a.json"),
    },
    Example {
        about: "the first specification's anonymous user",
        call: include_str!("anonymous-a.json"),
    },
    Example {
        about: "the second specification's complete example, in snake_case",
        call: include_str!("specification-b.json"),
    },
];
