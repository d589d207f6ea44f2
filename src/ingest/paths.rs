//! The paths of the tracking API, as the SDKs call them. It looks at nothing else of a request.

use fanout_sdk::event::CallType;

/// What a path asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint<'a> {
    /// One call; the path says its type.
    Call(CallType),
    /// Many calls.
    Batch,
    /// Measurements that analytics.js takes of itself: answered and thrown away.
    ClientMetrics,
    /// One call in a query, answered with an image.
    Pixel(CallType),
    /// What analytics.js, Kotlin and Swift ask for before anything else; the write key is part of the path.
    ProjectSettings(&'a str),
    /// What RudderStack's JavaScript SDK asks for before anything else.
    SourceConfig,
    /// What RudderStack's Go SDK asks for when it starts.
    ClusterInfo,
}

impl Endpoint<'_> {
    /// The method it is called with; `OPTIONS` goes everywhere, `HEAD` wherever `GET` does but to pixels.
    pub fn method(self) -> &'static str {
        match self {
            Endpoint::Call(_) | Endpoint::Batch | Endpoint::ClientMetrics => "POST",
            Endpoint::Pixel(_)
            | Endpoint::ProjectSettings(_)
            | Endpoint::SourceConfig
            | Endpoint::ClusterInfo => "GET",
        }
    }
}

/// What a path asks for; `None` for one that is not part of the API. Slashes at both ends do not count: Java sends one
/// at the end, and a base address configured with one gives two at the front.
pub fn find(path: &str) -> Option<Endpoint<'_>> {
    let path = path.trim_matches('/');
    if let Some(key) = path.strip_prefix("v1/projects/").and_then(|rest| rest.strip_suffix("/settings")) {
        return (!key.is_empty() && !key.contains('/')).then_some(Endpoint::ProjectSettings(key));
    }
    if let Some(name) = path.strip_prefix("v1/pixel/").or_else(|| path.strip_prefix("pixel/v1/")) {
        return long_name(name).map(Endpoint::Pixel);
    }
    match path {
        "v1/batch" | "v1/b" | "v1/import" | "beacon/v1/batch" => Some(Endpoint::Batch),
        "v1/m" => Some(Endpoint::ClientMetrics),
        "sourceConfig" => Some(Endpoint::SourceConfig),
        "cluster-info" => Some(Endpoint::ClusterInfo),
        _ => {
            let name = path.strip_prefix("v1/")?;
            long_name(name).or_else(|| short_name(name)).map(Endpoint::Call)
        }
    }
}

fn long_name(name: &str) -> Option<CallType> {
    Some(match name {
        "identify" => CallType::Identify,
        "track" => CallType::Track,
        "page" => CallType::Page,
        "screen" => CallType::Screen,
        "group" => CallType::Group,
        "alias" => CallType::Alias,
        _ => return None,
    })
}

fn short_name(name: &str) -> Option<CallType> {
    Some(match name {
        "i" => CallType::Identify,
        "t" => CallType::Track,
        "p" => CallType::Page,
        "s" => CallType::Screen,
        "g" => CallType::Group,
        "a" => CallType::Alias,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_that_an_sdk_calls_is_known() {
        use CallType::*;
        use Endpoint::*;
        for (path, endpoint) in [
            ("/v1/identify", Some(Call(Identify))),
            ("/v1/i", Some(Call(Identify))),
            ("/v1/t", Some(Call(Track))),
            ("/v1/p", Some(Call(Page))),
            ("/v1/g", Some(Call(Group))),
            ("/v1/a", Some(Call(Alias))),
            ("/v1/s", Some(Call(Screen))),
            ("/v1/track", Some(Call(Track))),
            ("/v1/page", Some(Call(Page))),
            ("/v1/screen", Some(Call(Screen))),
            ("/v1/group", Some(Call(Group))),
            ("/v1/alias", Some(Call(Alias))),
            ("/v1/batch", Some(Batch)),
            ("/v1/b", Some(Batch)),
            ("/v1/import", Some(Batch)),
            ("/v1/import/", Some(Batch)),
            ("//v1/batch", Some(Batch)),
            ("/beacon/v1/batch", Some(Batch)),
            ("/v1/m", Some(ClientMetrics)),
            ("/v1/pixel/identify", Some(Pixel(Identify))),
            ("/v1/pixel/alias/", Some(Pixel(Alias))),
            ("/pixel/v1/track", Some(Pixel(Track))),
            ("/pixel/v1/page", Some(Pixel(Page))),
            ("/v1/projects/k1/settings", Some(ProjectSettings("k1"))),
            ("/sourceConfig/", Some(SourceConfig)),
            ("/cluster-info", Some(ClusterInfo)),
            ("/v1/projects//settings", None),
            ("/v1/projects/a/b/settings", None),
            ("/v1/pixel/i", None),
            ("/v1/merge", None),
            ("/v1/", None),
            ("/v1/Identify", None),
            ("/", None),
            ("", None),
        ] {
            assert_eq!(find(path), endpoint, "{path}");
        }
    }
}
