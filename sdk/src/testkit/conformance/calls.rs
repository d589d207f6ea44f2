//! Calls made from those of golden cases: the same call with another value at one place. And the texts that make trouble.

use crate::json::{Doc, Json, push_text};

/// Texts that people really send, or could.
pub(super) const TRICKY: &[&str] = &[
    r#""🗼👩‍👩‍👧 \ud83d\ude00""#,
    r#""\u202etxt.exe \u05d0\u05d1 \u0627\u0644""#,
    r#""Z\u0351\u036b\u0343a\u0300\u0301\u0302lgo e\u0301""#,
    r#""\ud800""#,
    r#""a\udc00b\ud800""#,
    r#""nul\u0000 bell\u0007 del\u007f c1\u0085""#,
    r#""line\u2028 para\u2029 crlf\r\n tab\t""#,
    r#""\"quoted\" \\back\\ /slash/ 'single' `tick`""#,
    r#""{\"a\":[1,2}""#,
    r#""\ufeffbom \ufffe\uffff""#,
    r#""<b>&amp;</b> %41 + &x=1 ;""#,
];

/// Texts that want to be something else than a value.
pub(super) const HOSTILE: &[&str] = &[
    r#""a/b/c""#,
    r#""../../admin""#,
    r#"".""#,
    r#""..""#,
    r#""%2e%2e/%2e%2e""#,
    r#""%2e%2e""#,
    r#""x?admin=1&y=2""#,
    r##""x#fragment""##,
    r#""a&b=c;d=e""#,
    r#""@evil.test/""#,
    r#""\\\\evil.test\\x""#,
    r#""x\r\nX-Injected: 1\r\n\r\n""#,
    r#""x\nX-Injected: 1""#,
    r#""nul\u0000x""#,
    r#""x' OR Name LIKE '%""#,
    r#""x\\' OR '1'='1""#,
    r#""x\"}}, \"admin\": true, {{\"""#,
    r#""x\\\" } mutation { deleteAll } #""#,
    r#""*) (uid=*""#,
    r#""{user_id} {} {{}} {0} ${HOME} #{1+1}""#,
    r#""%s %n %00 %0d%0a""#,
    r#""\u2028\u202e/..\uff0f""#,
    r#"" ""#,
];

/// A very long text, as JSON.
pub(super) fn long_text(bytes: usize) -> String {
    format!("\"{}\"", "long text ".repeat(bytes / 10))
}

/// JSON with the value at a path replaced, or with the path put in; without a value it is taken out.
pub(super) fn with(json: &str, path: &[&str], value: Option<&str>) -> String {
    match Doc::parse(json.into()) {
        Ok(doc) => edited(Some(doc.root()), path, value).unwrap_or_default(),
        Err(_) => json.to_owned(),
    }
}

fn edited(json: Option<Json<'_>>, path: &[&str], value: Option<&str>) -> Option<String> {
    let Some((name, rest)) = path.split_first() else { return value.map(str::to_owned) };
    let mut members: Vec<(String, String)> = Vec::new();
    let mut found = false;
    for (key, member) in json.into_iter().flat_map(Json::members) {
        let is_it = key == *name;
        found |= is_it;
        let text = if is_it { edited(Some(member), rest, value) } else { Some(member.raw().to_owned()) };
        members.extend(text.map(|text| (key.into_owned(), text)));
    }
    if !found {
        members.extend(edited(None, rest, value).map(|text| ((*name).to_owned(), text)));
    }
    Some(object(&members))
}

/// An object of members whose values are JSON.
pub(super) fn object(members: &[(String, String)]) -> String {
    let mut out = String::from("{");
    for (key, value) in members {
        super::super::case::push_member(&mut out, key, value);
    }
    out.push('}');
    out
}

/// A text as JSON.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::new();
    push_text(&mut out, text);
    out
}

/// A text that stands for one of several users, and in no other text.
pub(super) fn mark(number: usize) -> String {
    format!("cnf{}qz", "abcdefghijklmnopqrstuvwxy".get(number..=number).unwrap_or("z"))
}

/// A call about one of several users: ids, address and name are that user's own.
pub(super) fn of_user(call: &str, number: usize) -> String {
    let mark = mark(number);
    let has = |name: &str| Doc::parse(call.into()).is_ok_and(|doc| doc.root().get(name).is_some());
    let mut call = with(call, &["messageId"], Some(&quoted(&mark)));
    for name in ["userId", "user_id"].into_iter().filter(|name| has(name)) {
        call = with(&call, &[name], Some(&quoted(&mark)));
    }
    if has("anonymousId") {
        let id = format!("8f1d4c1e-0b1f-4c39-9a5e-1f5f7e0d{number:04x}");
        call = with(&call, &["anonymousId"], Some(&quoted(&id)));
    }
    call = with(&call, &["traits", "email"], Some(&quoted(&format!("{mark}@example.com"))));
    for name in ["firstName", "lastName", "username", "cnf_mark"] {
        call = with(&call, &["traits", name], Some(&quoted(&mark)));
    }
    call
}
