//! Which `Host` a listener answers to. A web page can make its own name resolve to the address of a private listener
//! (DNS rebinding) and then talk to it as if it were its own server; the name in `Host` gives it away.
//!
//! A number is answered always: nobody can make one resolve to something else. So is `localhost`. With no names
//! configured, that is all on a loopback address, and on any other address every name is answered.

use std::net::IpAddr;

use hyper::Request;
use hyper::header::HOST;

/// The names a listener answers to.
#[derive(Clone, Debug, Default)]
pub struct HostRule {
    allowed: Vec<String>,
    any: bool,
}

impl HostRule {
    /// The rule of a listener bound to `address` with the configured names, which are host names without a port; `*` is
    /// any.
    pub fn new(address: IpAddr, allowed: &[String]) -> HostRule {
        HostRule {
            allowed: allowed.iter().map(|name| name.to_ascii_lowercase()).collect(),
            any: allowed.iter().any(|name| name == "*") || allowed.is_empty() && !address.is_loopback(),
        }
    }

    /// Whether a request may be answered. One without any name may: no browser sends such.
    pub fn permits<B>(&self, request: &Request<B>) -> bool {
        if self.any {
            return true;
        }
        let header = match request.headers().get(HOST) {
            None => None,
            Some(value) => match value.to_str() {
                Ok(text) => Some(text),
                Err(_) => return false,
            },
        };
        let authority = request.uri().authority().map(|authority| authority.as_str());
        header.into_iter().chain(authority).all(|host| self.permits_name(without_port(host)))
    }

    fn permits_name(&self, name: &str) -> bool {
        is_number_or_local(name) || self.allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(name))
    }
}

/// A `Host` value without its port and without the brackets of an IPv6 address.
fn without_port(host: &str) -> &str {
    if let Some((address, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address;
    }
    match host.rsplit_once(':') {
        Some((name, _)) => name,
        None => host,
    }
}

fn is_number_or_local(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let localhost = name.eq_ignore_ascii_case("localhost")
        || name.len() > 10
            && name.get(name.len() - 10..).is_some_and(|end| end.eq_ignore_ascii_case(".localhost"));
    localhost || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const ANY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);

    fn request(host: &str) -> Request<()> {
        Request::builder().uri("/").header(HOST, host).body(()).unwrap()
    }

    #[test]
    fn a_loopback_listener_answers_to_numbers_and_localhost() {
        let rule = HostRule::new(LOOPBACK, &[]);
        for (host, permitted) in [
            ("localhost", true),
            ("LocalHost:8080", true),
            ("localhost.", true),
            ("a.localhost:1", true),
            ("127.0.0.1:8080", true),
            ("127.9.9.9", true),
            ("[::1]:8080", true),
            ("evil.example", false),
            ("evil.example:8080", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("192.168.0.1:80", true),
            ("", false),
            ("notlocalhost", false),
        ] {
            assert_eq!(rule.permits(&request(host)), permitted, "{host}");
        }
    }

    #[test]
    fn configured_names_widen_loopback_and_narrow_the_rest() {
        let names = ["Track.example.com".to_owned()];
        for address in [LOOPBACK, ANY] {
            let rule = HostRule::new(address, &names);
            assert!(rule.permits(&request("track.EXAMPLE.com:443")));
            assert!(rule.permits(&request("localhost")));
            assert!(!rule.permits(&request("evil.example")));
        }
        assert!(HostRule::new(ANY, &[]).permits(&request("anything.example")));
        assert!(HostRule::new(LOOPBACK, &["*".to_owned()]).permits(&request("anything.example")));
    }

    #[test]
    fn no_name_is_no_browser_and_an_absolute_address_counts() {
        let rule = HostRule::new(LOOPBACK, &[]);
        assert!(rule.permits(&Request::builder().uri("/").body(()).unwrap()));
        let absolute =
            Request::builder().uri("http://evil.example/").header(HOST, "localhost").body(()).unwrap();
        assert!(!rule.permits(&absolute));
    }
}
