//! Final states as small numbers, so that a lane's window holds one byte per event.
//!
//! The numbers are written to disk and never change their meaning. This module neither reads nor writes the disk.

use std::collections::HashMap;

use super::Code;

/// The lane has not come to this sequence yet, or it is open: on disk both are the same.
pub const UNREAD: u8 = 0;
/// No call has this sequence, or the lane began after it.
pub const GAP: u8 = 1;
/// [`Code::Delivered`].
pub const DELIVERED: u8 = 2;
/// [`Code::Submitted`].
pub const SUBMITTED: u8 = 3;
/// [`Code::Suppressed`].
pub const SUPPRESSED: u8 = 4;
/// Skipped, for one of more reasons than there are numbers.
pub const SKIPPED_OTHER: u8 = 5;
/// Dead, for one of more reasons than there are numbers.
pub const DEAD_OTHER: u8 = 6;
/// Dead: what was read back from the journal could not be decoded.
pub const UNDECODABLE: u8 = 7;
/// Dead: the journal no longer has the call.
pub const LOST: u8 = 8;
/// Skipped: its lane was removed.
pub const REMOVED: u8 = 9;
/// The numbers from here to [`LAST_FREE`] are given out as codes turn up.
pub const FIRST_FREE: u8 = 16;
/// See [`FIRST_FREE`].
pub const LAST_FREE: u8 = 239;
/// Open: not claimed. This and the numbers above are never written to disk.
pub const WAITING: u8 = 240;
/// Open: claimed.
pub const IN_FLIGHT: u8 = 241;
/// Open: waits for another attempt.
pub const RETRY: u8 = 242;

/// How many bytes of a reason are kept in a code.
const MAX_TEXT: usize = 64;

/// Which number stands for which code.
#[derive(Clone, Debug)]
pub struct Codes {
    numbers: HashMap<Code, u8>,
    codes: HashMap<u8, Code>,
    next: u8,
}

impl Default for Codes {
    fn default() -> Self {
        let mut codes = Self { numbers: HashMap::new(), codes: HashMap::new(), next: FIRST_FREE };
        codes.insert(DELIVERED, Code::Delivered);
        codes.insert(SUBMITTED, Code::Submitted);
        codes.insert(SUPPRESSED, Code::Suppressed);
        codes.insert(SKIPPED_OTHER, Code::Skipped("other".into()));
        codes.insert(DEAD_OTHER, Code::Dead("other".into()));
        codes.insert(UNDECODABLE, Code::Dead("undecodable".into()));
        codes.insert(LOST, Code::Dead("lost".into()));
        codes.insert(REMOVED, Code::Skipped("removed".into()));
        codes
    }
}

impl Codes {
    fn insert(&mut self, number: u8, code: Code) {
        self.numbers.insert(code.clone(), number);
        self.codes.insert(number, code);
    }

    /// Puts back a number that was given out in an earlier run.
    pub fn restore(&mut self, number: u8, code: Code) {
        self.insert(number, code);
        self.next = self.next.max(number.saturating_add(1));
    }

    /// The number of a code that has one.
    pub fn number(&self, code: &Code) -> Option<u8> {
        fixed(code).or_else(|| self.numbers.get(code).copied())
    }

    /// The number of a code, a new one if it has none; when all are given out, that of `other`.
    pub fn number_or_new(&mut self, code: &Code) -> u8 {
        let code = shortened(code);
        if let Some(number) = self.number(&code) {
            return number;
        }
        if self.next > LAST_FREE {
            return if matches!(code, Code::Dead(_)) { DEAD_OTHER } else { SKIPPED_OTHER };
        }
        let number = self.next;
        self.next += 1;
        self.insert(number, code);
        number
    }

    /// What a number stands for.
    pub fn code(&self, number: u8) -> Option<&Code> {
        self.codes.get(&number)
    }

    /// The number that will be given out next.
    pub fn next(&self) -> u8 {
        self.next
    }

    /// The numbers that were given out since `next` had this value.
    pub fn since(&self, next: u8) -> Vec<(u8, Code)> {
        (next..self.next).filter_map(|n| self.codes.get(&n).map(|code| (n, code.clone()))).collect()
    }
}

/// The number of a code that has no reason.
pub fn fixed(code: &Code) -> Option<u8> {
    match code {
        Code::Delivered => Some(DELIVERED),
        Code::Submitted => Some(SUBMITTED),
        Code::Suppressed => Some(SUPPRESSED),
        Code::Skipped(_) | Code::Dead(_) => None,
    }
}

fn shortened(code: &Code) -> Code {
    match code {
        Code::Skipped(text) => Code::Skipped(cut(text, MAX_TEXT).to_owned()),
        Code::Dead(text) => Code::Dead(cut(text, MAX_TEXT).to_owned()),
        other => other.clone(),
    }
}

/// The beginning of a text that fits into so many bytes, cut between characters.
pub fn cut(text: &str, max_bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(max_bytes)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_keeps_its_number_and_numbers_run_out_gently() {
        let mut codes = Codes::default();
        assert_eq!(codes.number_or_new(&Code::Delivered), DELIVERED);
        assert_eq!(codes.number_or_new(&Code::Dead("lost".into())), LOST);
        assert_eq!(codes.number(&Code::Skipped("flag".into())), None);
        let flag = codes.number_or_new(&Code::Skipped("flag".into()));
        assert_eq!(flag, FIRST_FREE);
        assert_ne!(codes.number_or_new(&Code::Dead("flag".into())), flag, "the same word, another state");
        for n in 0..300 {
            codes.number_or_new(&Code::Skipped(format!("reason {n}")));
        }
        assert_eq!(codes.number_or_new(&Code::Skipped("late".into())), SKIPPED_OTHER);
        assert_eq!(codes.number_or_new(&Code::Dead("late".into())), DEAD_OTHER);
        assert_eq!(codes.number_or_new(&Code::Skipped("flag".into())), flag);
        assert_eq!(codes.since(FIRST_FREE).len(), usize::from(LAST_FREE - FIRST_FREE) + 1);
    }

    #[test]
    fn restored_numbers_are_not_given_out_again() {
        let mut codes = Codes::default();
        codes.restore(FIRST_FREE + 3, Code::Dead("expired".into()));
        assert_eq!(codes.number_or_new(&Code::Dead("expired".into())), FIRST_FREE + 3);
        assert_eq!(codes.number_or_new(&Code::Dead("rejected".into())), FIRST_FREE + 4);
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(cut("añb", 2), "a");
        assert_eq!(cut("añb", 9), "añb");
        let long = Code::Skipped("é".repeat(100));
        let mut codes = Codes::default();
        let number = codes.number_or_new(&long);
        assert_eq!(codes.code(number), Some(&Code::Skipped("é".repeat(32))));
    }
}
