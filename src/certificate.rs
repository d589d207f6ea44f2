//! Keeps an encrypted listener's certificate as its files have it: looks at them every few seconds, and at once when it
//! is told to, so that a renewed one is used without a restart. Files that cannot be used change nothing but the log.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior};

use crate::config;
use crate::http::Tls;

/// How often the files are looked at. Two small reads; whoever renews waits no longer than this.
pub const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What both files hold, or why they cannot be read.
type Found = Result<(Vec<u8>, Vec<u8>), String>;

/// A certificate in use and the files it comes from. Not printable: it holds the key.
pub struct Certificate {
    files: config::Tls,
    tls: Tls,
    /// What was last made of the files: in use, or not usable.
    judged: Found,
    /// What was last seen, where that is something else.
    seen: Option<Found>,
}

impl Certificate {
    /// A certificate that is in use, with the files' contents it was made from.
    pub fn new(files: config::Tls, tls: Tls, contents: (Vec<u8>, Vec<u8>)) -> Certificate {
        Certificate { files, tls, judged: Ok(contents), seen: None }
    }

    /// Looks every so often, and whenever it is told, until the listener is gone and this is dropped.
    pub async fn keep(mut self, every: Duration, told: Arc<Notify>) {
        let mut ticks = tokio::time::interval_at(Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let certainly_whole = tokio::select! {
                _ = ticks.tick() => false,
                () = told.notified() => true,
            };
            let files = self.files.clone();
            // Files may lie on a disk that does not answer, which is no reason to hold up calls.
            let read = tokio::task::spawn_blocking(move || config::read_certificate(&files));
            if let Ok(found) = read.await {
                self.judge(found.map_err(|problem| problem.to_string()), certainly_whole);
            }
        }
    }

    /// Takes over what can be used. About what cannot be used it complains once, and not before it has stayed the same
    /// for two looks, unless it is certainly whole: both files may be being written at the moment.
    fn judge(&mut self, found: Found, certainly_whole: bool) {
        if found == self.judged {
            self.seen = None;
            return;
        }
        let problem = match &found {
            Ok((certificate, key)) => match self.tls.replace(certificate, key) {
                Ok(()) => {
                    tracing::info!(
                        file = %self.files.certificate.display(),
                        "the certificate has changed; new connections get the new one"
                    );
                    (self.judged, self.seen) = (found, None);
                    return;
                }
                Err(error) => format!("[server.tls]: {error}"),
            },
            Err(problem) => problem.clone(),
        };
        if !certainly_whole && self.seen.as_ref() != Some(&found) {
            self.seen = Some(found);
            return;
        }
        tracing::error!("the files of the certificate have changed and the old one stays in use: {problem}");
        (self.judged, self.seen) = (found, None);
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn pem(name: &str) -> Vec<u8> {
        std::fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/ingest/support/tls").join(name))
            .unwrap()
    }

    fn certificate() -> Certificate {
        let contents = (pem("certificate.pem"), pem("key.pem"));
        let tls = Tls::new(&contents.0, &contents.1).unwrap();
        let files = config::Tls {
            listen: "127.0.0.1:0".parse().unwrap(),
            certificate: "/none/certificate.pem".into(),
            key: "/none/key.pem".into(),
        };
        Certificate::new(files, tls, contents)
    }

    fn half() -> Found {
        Ok((pem("other-certificate.pem"), pem("key.pem")))
    }

    fn whole() -> Found {
        Ok((pem("other-certificate.pem"), pem("other-key.pem")))
    }

    #[test]
    fn what_is_half_written_is_given_time() {
        let mut certificate = certificate();
        let old = certificate.judged.clone();
        certificate.judge(half(), false);
        assert!(certificate.judged == old, "nothing was said of it yet");
        certificate.judge(whole(), false);
        assert!(certificate.judged == whole() && certificate.seen.is_none());
    }

    #[test]
    fn what_stays_broken_is_complained_of_once() {
        let mut certificate = certificate();
        for round in 0..3 {
            certificate.judge(half(), false);
            assert_eq!(certificate.judged == half(), round > 0, "look {round}");
        }
        certificate.judge(Err("no such file".to_owned()), true);
        assert!(certificate.judged.is_err(), "whoever asks is told at once");
        certificate.judge(whole(), false);
        assert!(certificate.judged == whole());
    }
}
