//! Values with units and secrets: how they are written, read and shown. It does not know settings.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A number of bytes. Written with a unit: `B`, `KB`, `MB`, `GB`, `TB` (thousands) or `KiB`, `MiB`, `GiB`, `TiB` (1024).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// Units of sizes, largest first, those of 1024 before those of 1000.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("B", 1),
];

/// Units of time in milliseconds, largest first.
const TIME_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1)];

impl ByteSize {
    /// Reads a size such as `10 GiB`; `None` for anything else.
    pub fn parse(text: &str) -> Option<ByteSize> {
        parse_quantity(text, &SIZE_UNITS).map(ByteSize)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&show_quantity(self.0, &SIZE_UNITS))
    }
}

/// Reads a length of time such as `7 d`, `24 h`, `5 min`, `30 s` or `500 ms`; `None` for anything else.
pub fn parse_duration(text: &str) -> Option<Duration> {
    parse_quantity(text, &TIME_UNITS).map(Duration::from_millis)
}

/// Writes a length of time in its largest whole unit.
pub fn show_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 { "0 s".into() } else { show_quantity(millis, &TIME_UNITS) }
}

/// A whole number and a unit, with or without a space between. Units are told apart without regard to case.
fn parse_quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let unit = unit.trim_start();
    let (_, factor) = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    digits.parse::<u64>().ok()?.checked_mul(*factor)
}

fn show_quantity(number: u64, units: &[(&str, u64)]) -> String {
    let whole = units.iter().find(|(_, factor)| number >= *factor && number.is_multiple_of(*factor));
    let (unit, factor) = whole.or(units.last()).copied().unwrap_or(("", 1));
    format!("{} {unit}", number / factor)
}

/// Whether two listeners could not both be opened.
pub fn addresses_clash(a: SocketAddr, b: SocketAddr) -> bool {
    let same_host = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && same_host
}

/// Whether the host of an address is on this machine or a private network, as far as its text tells.
pub fn is_private_host(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase();
    match host.parse() {
        Ok(IpAddr::V4(ip)) => is_private_v4(ip),
        Ok(IpAddr::V6(ip)) => match ip.to_ipv4_mapped() {
            Some(ip) => is_private_v4(ip),
            None => {
                ip.is_loopback() || ip.is_unspecified() || ip.is_unique_local() || ip.is_unicast_link_local()
            }
        },
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

fn is_private_v4(ip: std::net::Ipv4Addr) -> bool {
    ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_unspecified()
}

/// A text that is never shown: not by `Debug`, not by `Display`, and there is no way to serialise it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself. Whoever calls this sees to it that it is not shown.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_read_and_shown() {
        for (text, bytes, shown) in [
            ("10 GiB", 10 << 30, "10 GiB"),
            ("500KiB", 500 << 10, "500 KiB"),
            ("8 MB", 8_000_000, "8 MB"),
            ("  7   kb ", 7_000, "7 KB"),
            ("0 B", 0, "0 B"),
            ("1025 B", 1025, "1025 B"),
            ("1024 B", 1024, "1 KiB"),
        ] {
            let size = ByteSize::parse(text).unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, shown), "{text}");
        }
        for wrong in ["", "10", "GiB", "10 GiBs", "1.5 GiB", "-1 B", "99999999 TiB", "10 days", "1 0 B"] {
            assert_eq!(ByteSize::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn times_are_read_and_shown() {
        for (text, millis, shown) in [
            ("7d", 604_800_000, "7 d"),
            ("500 ms", 500, "500 ms"),
            ("24 h", 86_400_000, "1 d"),
            ("90 s", 90_000, "90 s"),
            ("5 min", 300_000, "5 min"),
            ("0 s", 0, "0 s"),
        ] {
            let time = parse_duration(text).unwrap();
            assert_eq!((time.as_millis(), show_duration(time).as_str()), (millis, shown), "{text}");
        }
        for wrong in ["", "7", "d", "5 m", "7 days", "1h30min", "999999999999999999 d", "1 KiB"] {
            assert_eq!(parse_duration(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(number: u64) {
            prop_assert_eq!(ByteSize::parse(&ByteSize(number).to_string()), Some(ByteSize(number)));
            let time = Duration::from_millis(number);
            prop_assert_eq!(parse_duration(&show_duration(time)), Some(time));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = (ByteSize::parse(&text), parse_duration(&text), is_private_host(&text));
        }
    }

    #[test]
    fn listeners_clash_on_one_port() {
        for (a, b, clash) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "[::]:80", true),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
        ] {
            assert_eq!(addresses_clash(a.parse().unwrap(), b.parse().unwrap()), clash, "{a} {b}");
        }
    }

    #[test]
    fn private_hosts_are_told() {
        for (host, private) in [
            ("127.0.0.1", true),
            ("10.1.2.3", true),
            ("192.168.0.1", true),
            ("169.254.169.254", true),
            ("localhost", true),
            ("LOCALHOST.", true),
            ("a.localhost", true),
            ("[::1]", true),
            ("[fd00::1]", true),
            ("[fe80::1]", true),
            ("[::ffff:10.0.0.1]", true),
            ("0.0.0.0", true),
            ("8.8.8.8", false),
            ("[2606:4700::1111]", false),
            ("api.mixpanel.com", false),
        ] {
            assert_eq!(is_private_host(host), private, "{host}");
        }
    }

    #[test]
    fn secrets_are_never_shown() {
        let secret = Secret::new("k-12345");
        assert_eq!(format!("{secret} {secret:?} {:?}", Some(&secret)), "*** *** Some(***)");
        assert_eq!(secret.expose(), "k-12345");
    }
}
