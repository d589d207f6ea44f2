//! The outcomes of a run of sequences as bytes on disk: pairs of a state and how often it follows itself.
//!
//! A chunk whose events all ended alike takes three bytes. What is open is written as unread, and an unread end is left out.

use super::codes::{UNREAD, WAITING};

/// What stands on disk for a state of the window.
pub fn on_disk(state: u8) -> u8 {
    if state >= WAITING { UNREAD } else { state }
}

/// Encodes the states of a chunk.
pub fn encode(states: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut runs = states.chunk_by(|a, b| on_disk(*a) == on_disk(*b)).peekable();
    while let Some(run) = runs.next() {
        let state = run.first().map_or(UNREAD, |state| on_disk(*state));
        if state == UNREAD && runs.peek().is_none() {
            break;
        }
        out.push(state);
        let mut length = run.len();
        while length >= 0x80 {
            out.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
    }
    out
}

/// Decodes a chunk of so many sequences; `None` if that is not what the bytes are.
pub fn decode(bytes: &[u8], len: usize) -> Option<Vec<u8>> {
    let mut states = Vec::with_capacity(len);
    let mut bytes = bytes.iter().copied();
    while let Some(state) = bytes.next() {
        let mut run = 0usize;
        let mut shift = 0u32;
        loop {
            let byte = bytes.next()?;
            run |= usize::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                break;
            }
            shift += 7;
            if shift > 21 {
                return None;
            }
        }
        if state >= WAITING || run == 0 || run > len - states.len() {
            return None;
        }
        states.resize(states.len() + run, state);
    }
    states.resize(len, UNREAD);
    Some(states)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::queue::codes::{DELIVERED, IN_FLIGHT, SUBMITTED};

    #[test]
    fn uniform_chunks_are_tiny_and_open_ends_cost_nothing() {
        assert_eq!(encode(&[DELIVERED; 4096]), [DELIVERED, 0x80, 0x20]);
        assert!(encode(&[IN_FLIGHT; 4096]).is_empty());
        let mut half = [DELIVERED; 4096];
        half[100..].fill(WAITING);
        assert_eq!(encode(&half), [DELIVERED, 100]);
    }

    #[test]
    fn damaged_bytes_are_refused() {
        for bytes in [
            &[DELIVERED][..],
            &[DELIVERED, 0],
            &[DELIVERED, 0x80],
            &[DELIVERED, 0x81, 0x20],
            &[WAITING, 1],
            &[DELIVERED, 0xff, 0xff, 0xff, 0xff, 1],
        ] {
            assert_eq!(decode(bytes, 4096), None, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn what_was_encoded_comes_back(runs in prop::collection::vec((0u8..6, 1usize..300), 0..20)) {
            let mut states = Vec::new();
            for (state, count) in runs {
                let state = [UNREAD, DELIVERED, SUBMITTED, WAITING, 1, 200][usize::from(state)];
                states.resize(states.len() + count, state);
            }
            let disk: Vec<u8> = states.iter().map(|state| on_disk(*state)).collect();
            prop_assert_eq!(decode(&encode(&states), states.len()), Some(disk));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(states) = decode(&bytes, 256) {
                prop_assert_eq!(states.len(), 256);
            }
        }
    }
}
