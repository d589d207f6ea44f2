//! A fast hash that is the same on every machine and in every version, because digests are kept on disk.
//! It is no protection against chosen collisions.

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const MIX: u64 = 0xd6e8_feb8_6659_fd93;

/// Hashes bytes into what was hashed before.
pub(crate) fn hash(before: u64, bytes: &[u8]) -> u64 {
    let mut state = before ^ SEED ^ (bytes.len() as u64);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        state = mix(state ^ u64::from_le_bytes(*word));
    }
    let mut last = [0_u8; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    mix(state ^ u64::from_le_bytes(last))
}

/// Hashes a long text into what was hashed before, in two lanes that do not wait for each other.
pub(crate) fn digest(before: u64, bytes: &[u8]) -> u64 {
    let (blocks, rest) = bytes.as_chunks::<32>();
    let (mut left, mut right) = (before ^ SEED, before.rotate_left(32) ^ MIX);
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        if let [a, b, c, d] = words {
            left = mix_two(left, *a, *b);
            right = mix_two(right, *c, *d);
        }
    }
    hash(mix(left) ^ right.rotate_left(17) ^ (bytes.len() as u64), rest)
}

fn mix_two(state: u64, low: [u8; 8], high: [u8; 8]) -> u64 {
    let (low, high) = (u64::from_le_bytes(low), u64::from_le_bytes(high));
    let product = u128::from(low ^ state) * u128::from(high ^ SEED ^ state.rotate_left(32));
    // The state goes on beside the product, so that a factor of nought forgets nothing.
    state.rotate_left(23) ^ (product as u64) ^ ((product >> 64) as u64)
}

/// Makes the tables of identities cheap that live as long as a batch is put together.
#[derive(Default)]
pub(crate) struct NameHasher(u64);

impl std::hash::Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = hash(self.0, bytes);
    }

    /// The mark behind a text, which says nothing new.
    fn write_u8(&mut self, _mark: u8) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Hashes a short text, for look-ups in memory alone.
#[inline]
pub(crate) fn hash_name(name: &str) -> u64 {
    let bytes = name.as_bytes();
    let length = bytes.len() as u64;
    let (low, high) = match (bytes.len(), bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        (8..=16, Some(start), Some(end)) => (u64::from_le_bytes(*start), u64::from_le_bytes(*end)),
        (17.., ..) => return hash(0, bytes),
        _ => match (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
            (Some(start), Some(end)) => (u32::from_le_bytes(*start).into(), u32::from_le_bytes(*end).into()),
            _ => (bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)), 0),
        },
    };
    mix(low ^ mix(high ^ length))
}

fn mix(value: u64) -> u64 {
    let product = u128::from(value ^ MIX) * u128::from(SEED);
    (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_of_a_digest_counts() {
        let text = [b'x'; 100];
        let mut all = vec![digest(0, &text), digest(1, &text), digest(0, &text[..99]), digest(0, b"")];
        for at in 0..text.len() {
            let mut changed = text;
            changed[at] = b'y';
            all.push(digest(0, &changed));
        }
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn names_of_every_length_differ() {
        let long = "abcdefghijklmnopqrstuvwxyz";
        let mut all: Vec<u64> =
            (0..=20).flat_map(|end| (0..5).map(move |start| hash_name(&long[start..start + end]))).collect();
        all.sort_unstable();
        all.dedup();
        // The empty one is the same from every start.
        assert_eq!(all.len(), 20 * 5 + 1);
    }

    #[test]
    fn differs_by_content_length_and_what_came_before() {
        let all = [
            hash(0, b""),
            hash(0, b"\0"),
            hash(0, b"a"),
            hash(1, b"a"),
            hash(0, b"aaaaaaaa"),
            hash(0, b"aaaaaaaab"),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(!all.iter().skip(at + 1).any(|other| other == one), "{at}");
        }
    }
}
