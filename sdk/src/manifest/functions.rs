//! The closed list of functions that an expression of a manifest may call, with what each takes and gives.
//! It does not parse expressions; the engine does, and it has the control flow: `if`, `unless`, `required` and `or`.
//!
//! A function gets a value and gives one; what it refuses is absent, and a blank text that comes out is absent too.

mod check;
mod code;
mod number;
mod structure;
mod table;
pub(crate) mod text;
pub(crate) mod time;

pub use check::check_literal;
pub use table::Table;
pub use time::duration;

use crate::manifest::value::Value;

/// What a function takes or gives, for checks when a manifest is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A text; a number or a date is accepted where one is asked for.
    Text,
    /// A number.
    Number,
    /// `true` or `false`.
    Bool,
    /// A day or a point in time.
    Date,
    /// A list.
    List,
    /// An object.
    Object,
    /// Bytes, which must pass `hex` or `base64` before they are written.
    Bytes,
    /// Any of these; known only when an event is there.
    Any,
}

/// What stands between a function's parentheses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameter {
    /// A text.
    Text,
    /// A number.
    Number,
    /// A key: a text or bytes.
    Key,
    /// Any value.
    Any,
    /// One of `[tables]`, or a setting of type list or map.
    Table,
    /// A condition: only its presence counts.
    Condition,
}

/// How a function is carried out.
#[derive(Clone, Copy, Debug)]
pub enum Run {
    /// By [`apply`].
    Pure(for<'a> fn(Value<'a>, &[Arg<'a>], i64) -> Option<Value<'a>>),
    /// By the engine, because it decides what is evaluated or left out.
    Control,
}

/// A function that manifests may call.
#[derive(Debug)]
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// What may come in; [`Type::Bytes`] means bytes or a text.
    pub takes: Type,
    /// What comes out; `None`: the type that came in.
    pub gives: Option<Type>,
    /// Its arguments, all of them required.
    pub args: &'static [Parameter],
    /// Whether the last argument may be given several times.
    pub repeats: bool,
    /// How it is carried out.
    pub run: Run,
}

/// An argument when a function is applied.
#[derive(Clone, Debug)]
pub enum Arg<'a> {
    /// A value, or that it is absent.
    Value(Option<Value<'a>>),
    /// A constant list or map.
    Table(&'a Table),
}

/// Every function by its name.
pub static FUNCTIONS: &[Function] = &[
    // pass or absent
    repeating("is", Type::Any, Some(Type::Bool), &[Parameter::Any], structure::is),
    repeating("not", Type::Any, None, &[Parameter::Any], structure::not),
    pure("in", Type::Text, None, &[Parameter::Table], structure::in_table),
    pure("not_in", Type::Text, None, &[Parameter::Table], structure::not_in_table),
    pure("starting", Type::Text, Some(Type::Text), &[Parameter::Text], text::starting),
    pure("not_starting", Type::Text, Some(Type::Text), &[Parameter::Text], text::not_starting),
    pure("ending", Type::Text, Some(Type::Text), &[Parameter::Text], text::ending),
    pure("contains", Type::Text, Some(Type::Text), &[Parameter::Text], text::contains),
    pure("fits", Type::Text, Some(Type::Text), &[Parameter::Number], text::fits),
    pure("email", Type::Text, Some(Type::Text), &[], text::email),
    pure("uuid", Type::Text, Some(Type::Text), &[], text::uuid),
    pure("day", Type::Date, Some(Type::Date), &[], time::day),
    control("if", &[Parameter::Condition]),
    control("unless", &[Parameter::Condition]),
    control("required", &[]),
    // text
    pure("lower", Type::Text, Some(Type::Text), &[], text::lower),
    pure("upper", Type::Text, Some(Type::Text), &[], text::upper),
    pure("snake", Type::Text, Some(Type::Text), &[], text::snake),
    pure("camel", Type::Text, Some(Type::Text), &[], text::camel),
    pure("kebab", Type::Text, Some(Type::Text), &[], text::kebab),
    pure("cut", Type::Any, None, &[Parameter::Number], text::cut),
    pure("cut_bytes", Type::Any, None, &[Parameter::Number], text::cut_bytes),
    pure("keep", Type::Text, Some(Type::Text), &[Parameter::Text], text::keep),
    pure("replace", Type::Text, Some(Type::Text), &[Parameter::Text, Parameter::Text], text::replace),
    pure("after", Type::Text, Some(Type::Text), &[Parameter::Text], text::after),
    pure("before", Type::Text, Some(Type::Text), &[Parameter::Text], text::before),
    pure("first_word", Type::Text, Some(Type::Text), &[], text::first_word),
    pure("other_words", Type::Text, Some(Type::Text), &[], text::other_words),
    pure("e164", Type::Text, Some(Type::Text), &[], text::e164),
    pure("escape", Type::Text, Some(Type::Text), &[Parameter::Text], text::escape),
    pure("split", Type::Text, Some(Type::List), &[Parameter::Text], text::split),
    pure("join", Type::List, Some(Type::Text), &[Parameter::Text], text::join),
    // hash, code
    pure("md5", Type::Text, Some(Type::Text), &[], code::md5),
    pure("sha1", Type::Text, Some(Type::Text), &[], code::sha1),
    pure("sha256", Type::Text, Some(Type::Text), &[], code::sha256),
    pure("hmac_sha1", Type::Bytes, Some(Type::Bytes), &[Parameter::Key], code::hmac_sha1),
    pure("hmac_sha256", Type::Bytes, Some(Type::Bytes), &[Parameter::Key], code::hmac_sha256),
    pure("ed25519", Type::Bytes, Some(Type::Bytes), &[Parameter::Key], code::ed25519),
    pure("rs256", Type::Bytes, Some(Type::Bytes), &[Parameter::Key], code::rs256),
    pure("hex", Type::Bytes, Some(Type::Text), &[], code::hex),
    pure("base64", Type::Bytes, Some(Type::Text), &[], code::base64),
    pure("base64url", Type::Bytes, Some(Type::Text), &[], code::base64url),
    pure("unbase64", Type::Text, Some(Type::Bytes), &[], code::unbase64),
    pure("uuid5", Type::Text, Some(Type::Text), &[], code::uuid5),
    // number, yes or no
    pure("int", Type::Any, Some(Type::Number), &[], number::int),
    pure("num", Type::Any, Some(Type::Number), &[], number::num),
    pure("times", Type::Any, Some(Type::Number), &[Parameter::Number], number::times),
    pure("add", Type::Any, Some(Type::Number), &[Parameter::Number], number::add),
    pure("bool", Type::Any, Some(Type::Bool), &[], number::bool),
    pure("text", Type::Any, Some(Type::Text), &[], text::text),
    // time
    pure("iso", Type::Date, Some(Type::Text), &[], time::iso),
    pure("date", Type::Date, Some(Type::Text), &[], time::date),
    pure("unix", Type::Date, Some(Type::Number), &[], time::unix),
    pure("unix_ms", Type::Date, Some(Type::Number), &[], time::unix_ms),
    pure("format", Type::Date, Some(Type::Text), &[Parameter::Text], time::format),
    pure("time", Type::Any, Some(Type::Date), &[], time::time),
    pure("wait", Type::Any, Some(Type::Number), &[], time::wait),
    // structure
    pure("map", Type::Any, Some(Type::Any), &[Parameter::Table], structure::map),
    pure("list", Type::Any, Some(Type::List), &[], structure::list),
    pure("last", Type::List, Some(Type::Any), &[], structure::last),
    pure("flat", Type::List, Some(Type::List), &[], structure::flat),
    pure("keys", Type::Object, Some(Type::List), &[], structure::keys),
    pure("values", Type::Object, Some(Type::List), &[], structure::values),
    pure("json", Type::Any, Some(Type::Text), &[], structure::json),
];

type PureRun = for<'a> fn(Value<'a>, &[Arg<'a>], i64) -> Option<Value<'a>>;

const fn pure(
    name: &'static str,
    takes: Type,
    gives: Option<Type>,
    args: &'static [Parameter],
    run: PureRun,
) -> Function {
    Function { name, takes, gives, args, repeats: false, run: Run::Pure(run) }
}

const fn repeating(
    name: &'static str,
    takes: Type,
    gives: Option<Type>,
    args: &'static [Parameter],
    run: PureRun,
) -> Function {
    Function { name, takes, gives, args, repeats: true, run: Run::Pure(run) }
}

const fn control(name: &'static str, args: &'static [Parameter]) -> Function {
    Function { name, takes: Type::Any, gives: None, args, repeats: false, run: Run::Control }
}

/// The function of that name.
pub fn function(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|function| function.name == name)
}

/// Applies a function to a value that is present. `now_ms` is the clock's time in milliseconds since 1970, which only
/// `wait` reads: it gives the milliseconds to wait from then. A control function passes its input.
pub fn apply<'a>(function: &Function, input: Value<'a>, args: &[Arg<'a>], now_ms: i64) -> Option<Value<'a>> {
    match function.run {
        Run::Pure(run) => run(input, args, now_ms).filter(|value| !value.is_blank()),
        Run::Control => Some(input),
    }
}

/// The argument at a position, where it is a value and present.
fn value_at<'r, 'a>(args: &'r [Arg<'a>], position: usize) -> Option<&'r Value<'a>> {
    match args.get(position) {
        Some(Arg::Value(value)) => value.as_ref(),
        _ => None,
    }
}

/// The argument at a position as text.
fn text_at<'r>(args: &'r [Arg<'_>], position: usize) -> Option<std::borrow::Cow<'r, str>> {
    value_at(args, position)?.as_text()
}

/// The argument at a position as a count.
fn count_at(args: &[Arg<'_>], position: usize) -> Option<usize> {
    text_at(args, position)?.parse().ok()
}

#[cfg(test)]
mod tests;
