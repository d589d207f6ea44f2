//! Texts with expressions in braces, parsed: `"{a | f(1) or 'x'} and {b}"`.
//! It knows the grammar only, not which roots and functions exist (`check`) nor what they do (`render`).

/// A text of a manifest: plain text and expressions, in order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Template {
    /// Where its first character stands in the file.
    pub at: usize,
    pub parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Part {
    Text(String),
    Expression(Vec<Pipe>),
}

/// One alternative of an expression: a source and the functions it runs through.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pipe {
    pub source: Source,
    pub steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Step {
    pub at: usize,
    pub name: String,
    pub args: Vec<Source>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source {
    Path(Path),
    Text(String),
    Number(String),
    Bool(bool),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Path {
    pub at: usize,
    pub root: String,
    pub members: Vec<Member>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Member {
    Name(String),
    Index(usize),
}

impl Path {
    /// The member names; `None` where a position is among them.
    pub fn names(&self) -> Option<Vec<String>> {
        let name = |member: &Member| match member {
            Member::Name(name) => Some(name.clone()),
            Member::Index(_) => None,
        };
        self.members.iter().map(name).collect()
    }

    /// The first member's name.
    pub fn first(&self) -> Option<&str> {
        match self.members.first() {
            Some(Member::Name(name)) => Some(name),
            _ => None,
        }
    }
}

impl Template {
    /// The text where there is no expression in it.
    pub fn plain(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The pipes where the text is one expression and nothing else.
    pub fn single(&self) -> Option<&[Pipe]> {
        match self.parts.as_slice() {
            [Part::Expression(pipes)] => Some(pipes),
            _ => None,
        }
    }

    /// Every pipe in it.
    pub fn pipes(&self) -> impl Iterator<Item = &Pipe> {
        self.parts.iter().flat_map(|part| match part {
            Part::Expression(pipes) => pipes.as_slice(),
            Part::Text(_) => &[],
        })
    }
}

/// A mistake in a text: byte offset inside it, and what is wrong.
#[derive(Debug, PartialEq)]
pub(crate) struct Mistake {
    pub at: usize,
    pub message: String,
}

/// Parses a text whose first character stands at `base` in its file.
pub(crate) fn parse(text: &str, base: usize) -> Result<Template, Mistake> {
    Parser { text, at: 0, base }.template()
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    base: usize,
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn wrong<T>(&self, message: impl Into<String>) -> Result<T, Mistake> {
        Err(Mistake { at: self.at, message: message.into() })
    }

    fn template(mut self) -> Result<Template, Mistake> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        while let Some(next) = self.rest().chars().next() {
            if self.rest().starts_with("{{") || self.rest().starts_with("}}") {
                plain.push(next);
                self.at += 2;
            } else if next == '{' {
                if !plain.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                }
                self.at += 1;
                parts.push(Part::Expression(self.expression()?));
            } else if next == '}' {
                return self.wrong("a } without its {; a brace itself is written }}");
            } else {
                plain.push(next);
                self.at += next.len_utf8();
            }
        }
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Template { at: self.base, parts })
    }

    /// Everything up to and with the closing brace.
    fn expression(&mut self) -> Result<Vec<Pipe>, Mistake> {
        let mut pipes = vec![self.pipe()?];
        loop {
            self.white();
            if self.eat("}") {
                return Ok(pipes);
            }
            if self.rest().starts_with("or ") {
                self.at += 3;
                pipes.push(self.pipe()?);
                continue;
            }
            return match self.rest().is_empty() {
                true => self.wrong("the expression does not end; } is missing"),
                false => self.wrong("expected |, or, or }"),
            };
        }
    }

    fn pipe(&mut self) -> Result<Pipe, Mistake> {
        let source = self.source()?;
        let mut steps = Vec::new();
        loop {
            self.white();
            if !self.eat("|") {
                return Ok(Pipe { source, steps });
            }
            self.white();
            let at = self.base + self.at;
            let name = self.name();
            if name.is_empty() {
                return self.wrong("expected the name of a function behind |");
            }
            steps.push(Step { at, name, args: self.arguments()? });
        }
    }

    fn arguments(&mut self) -> Result<Vec<Source>, Mistake> {
        let mut args = Vec::new();
        if !self.eat("(") {
            return Ok(args);
        }
        loop {
            args.push(self.source()?);
            self.white();
            if self.eat(")") {
                return Ok(args);
            }
            if !self.eat(",") {
                return self.wrong("expected , or ) in the arguments");
            }
        }
    }

    fn source(&mut self) -> Result<Source, Mistake> {
        self.white();
        if self.eat("'") {
            let Some(end) = self.rest().find('\'') else { return self.wrong("a text in ' does not end") };
            let text = self.rest().get(..end).unwrap_or_default().to_owned();
            self.at += end + 1;
            return Ok(Source::Text(text));
        }
        let number = self.number();
        if !number.is_empty() {
            return Ok(Source::Number(number));
        }
        let at = self.base + self.at;
        let root = self.name();
        match root.as_str() {
            "" => self.wrong("expected a value such as traits.email or 'text'"),
            "true" => Ok(Source::Bool(true)),
            "false" => Ok(Source::Bool(false)),
            _ => Ok(Source::Path(Path { at, root, members: self.members()? })),
        }
    }

    fn members(&mut self) -> Result<Vec<Member>, Mistake> {
        let mut members = Vec::new();
        loop {
            if self.eat(".") {
                if self.eat("\"") {
                    let Some(end) = self.rest().find('"') else {
                        return self.wrong("a name in \" does not end");
                    };
                    members.push(Member::Name(self.rest().get(..end).unwrap_or_default().to_owned()));
                    self.at += end + 1;
                    continue;
                }
                let name = self.name();
                if name.is_empty() {
                    return self.wrong("expected a name behind .");
                }
                members.push(Member::Name(name));
            } else if self.eat("[") {
                let digits = self.number();
                let Ok(position) = digits.parse() else {
                    return self.wrong("expected a position such as [0]");
                };
                if !self.eat("]") {
                    return self.wrong("expected ]");
                }
                members.push(Member::Index(position));
            } else {
                return Ok(members);
            }
        }
    }

    fn number(&mut self) -> String {
        let rest = self.rest();
        let unsigned = rest.strip_prefix('-').unwrap_or(rest);
        if !unsigned.starts_with(|c: char| c.is_ascii_digit()) {
            return String::new();
        }
        let length = rest.len() - unsigned.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        let number = rest.get(..length).unwrap_or_default().to_owned();
        self.at += length;
        number
    }

    fn name(&mut self) -> String {
        let rest = self.rest();
        let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '$');
        let name: String = rest.chars().take_while(|c| is_name(*c)).collect();
        self.at += name.len();
        name
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn white(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(at: usize, root: &str, names: &[&str]) -> Source {
        let members = names.iter().map(|name| Member::Name((*name).into())).collect();
        Source::Path(Path { at, root: root.into(), members })
    }

    #[test]
    fn parses_what_the_grammar_allows() {
        let step = |at, name: &str, args| Step { at, name: name.into(), args };
        for (text, parts) in [
            ("plain {{x}}", vec![Part::Text("plain {x}".into())]),
            (
                "a{user_id}",
                vec![
                    Part::Text("a".into()),
                    Part::Expression(vec![Pipe { source: path(2, "user_id", &[]), steps: vec![] }]),
                ],
            ),
            (
                "{traits.email | lower | cut(3) or 'x'}",
                vec![Part::Expression(vec![
                    Pipe {
                        source: path(1, "traits", &["email"]),
                        steps: vec![
                            step(16, "lower", vec![]),
                            step(24, "cut", vec![Source::Number("3".into())]),
                        ],
                    },
                    Pipe { source: Source::Text("x".into()), steps: vec![] },
                ])],
            ),
            (
                "{body.errors[0].\"a b\" | is('x', true)}",
                vec![Part::Expression(vec![Pipe {
                    source: Source::Path(Path {
                        at: 1,
                        root: "body".into(),
                        members: vec![
                            Member::Name("errors".into()),
                            Member::Index(0),
                            Member::Name("a b".into()),
                        ],
                    }),
                    steps: vec![step(24, "is", vec![Source::Text("x".into()), Source::Bool(true)])],
                }])],
            ),
        ] {
            assert_eq!(parse(text, 0).unwrap().parts, parts, "{text}");
        }
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        for (text, at, message) in [
            ("{user_id", 8, "the expression does not end; } is missing"),
            ("x}", 1, "a } without its {; a brace itself is written }}"),
            ("{a | }", 5, "expected the name of a function behind |"),
            ("{a b}", 3, "expected |, or, or }"),
            ("{}", 1, "expected a value such as traits.email or 'text'"),
            ("{'a}", 2, "a text in ' does not end"),
            ("{a.}", 3, "expected a name behind ."),
            ("{a | f(1}", 8, "expected , or ) in the arguments"),
            ("{a[x]}", 3, "expected a position such as [0]"),
        ] {
            assert_eq!(parse(text, 0), Err(Mistake { at, message: message.into() }), "{text}");
        }
    }
}
