//! Wall time and nonces of the running process, as adapters see them. Nothing else reads them.

use std::time::{SystemTime, UNIX_EPOCH};

use fanout_sdk::destination::Clock;

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    fn nonce(&self) -> String {
        uuid::Uuid::new_v4().simple().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_32_hexadecimal_digits_and_never_the_same() {
        let (first, second) = (SystemClock.nonce(), SystemClock.nonce());
        assert!(first.len() == 32 && first.bytes().all(|digit| digit.is_ascii_hexdigit()), "{first}");
        assert_ne!(first, second);
    }

    #[test]
    fn it_counts_milliseconds_since_1970() {
        assert!((1_700_000_000_000..10_000_000_000_000).contains(&SystemClock.now_ms()));
    }
}
