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

fn mix(value: u64) -> u64 {
    let product = u128::from(value ^ MIX) * u128::from(SEED);
    (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

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
