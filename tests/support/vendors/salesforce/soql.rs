//! The small part of SOQL that a look-up needs: `SELECT … FROM … WHERE A = 'x' AND B = false … ORDER BY C, D DESC
//! LIMIT n`.

use std::cmp::Ordering;

use serde_json::{Value, json};

pub struct Query {
    pub fields: Vec<String>,
    pub object: String,
    pub limit: usize,
    conditions: Vec<(String, Value)>,
    /// Field, and whether from the last to the first.
    order: Vec<(String, bool)>,
}

impl Query {
    /// Texts are compared without regard to case, as Salesforce does.
    pub fn holds(&self, row: &Value) -> bool {
        self.conditions.iter().all(|(field, wanted)| match (row[field].as_str(), wanted.as_str()) {
            (Some(value), Some(wanted)) => value.to_lowercase() == wanted.to_lowercase(),
            _ => row[field] == *wanted,
        })
    }

    /// Which of two rows comes first.
    pub fn order(&self, a: &Value, b: &Value) -> Ordering {
        let by_field = self.order.iter().map(|(field, descending)| {
            let order = a[field].to_string().cmp(&b[field].to_string());
            if *descending { order.reverse() } else { order }
        });
        by_field.fold(Ordering::Equal, Ordering::then)
    }
}

/// `None`: malformed.
pub fn parse(text: &str) -> Option<Query> {
    let tokens = tokens(text)?;
    let mut tokens = tokens.iter().peekable();
    let is =
        |token: &Token, word: &str| matches!(token, Token::Word(text) if text.eq_ignore_ascii_case(word));
    is(tokens.next()?, "SELECT").then_some(())?;
    let mut fields = Vec::new();
    loop {
        fields.push(tokens.next()?.word()?);
        match tokens.next()? {
            Token::Sign(',') => {}
            token if is(token, "FROM") => break,
            _ => return None,
        }
    }
    let object = tokens.next()?.word()?;
    let mut query = Query { fields, object, limit: usize::MAX, conditions: Vec::new(), order: Vec::new() };
    while let Some(token) = tokens.next() {
        if is(token, "WHERE") || is(token, "AND") {
            let field = tokens.next()?.word()?;
            matches!(tokens.next()?, Token::Sign('=')).then_some(())?;
            query.conditions.push((field, tokens.next()?.value()?));
        } else if is(token, "ORDER") {
            is(tokens.next()?, "BY").then_some(())?;
            loop {
                let field = tokens.next()?.word()?;
                let direction = tokens.next_if(|token| is(token, "ASC") || is(token, "DESC"));
                query.order.push((field, direction.is_some_and(|token| is(token, "DESC"))));
                if tokens.next_if(|token| matches!(token, Token::Sign(','))).is_none() {
                    break;
                }
            }
        } else if is(token, "LIMIT") {
            query.limit = tokens.next()?.word()?.parse().ok()?;
        } else {
            return None;
        }
    }
    Some(query)
}

enum Token {
    Word(String),
    Text(String),
    Sign(char),
}

impl Token {
    fn word(&self) -> Option<String> {
        if let Token::Word(word) = self { Some(word.clone()) } else { None }
    }

    fn value(&self) -> Option<Value> {
        match self {
            Token::Text(text) => Some(json!(text)),
            Token::Word(word) => serde_json::from_str(&word.to_lowercase()).ok(),
            Token::Sign(_) => None,
        }
    }
}

fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            ' ' | '\n' | '\t' => {}
            ',' | '=' => tokens.push(Token::Sign(letter)),
            '\'' => {
                let mut text = String::new();
                loop {
                    match letters.next()? {
                        '\'' => break,
                        '\\' => text.push(letters.next()?),
                        letter => text.push(letter),
                    }
                }
                tokens.push(Token::Text(text));
            }
            letter if letter.is_alphanumeric() || letter == '_' => {
                let mut word = String::from(letter);
                while let Some(letter) =
                    letters.next_if(|letter| letter.is_alphanumeric() || "_.".contains(*letter))
                {
                    word.push(letter);
                }
                tokens.push(Token::Word(word));
            }
            _ => return None,
        }
    }
    Some(tokens)
}
