//! The process's own account, from outside of it: its metrics, its memory, and what its data directory says.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use fanout::queue::local::{LocalQueue, Options};
use fanout::queue::{LaneCounts, Queue, journal};

use super::request;

/// The metrics of a running process.
pub struct Metrics(String);

impl Metrics {
    pub fn of(admin: &str) -> Metrics {
        Metrics(request(admin, "GET", "/metrics", &[], b"").unwrap().body)
    }

    /// `fanout_pending` of a destination.
    pub fn pending(&self, destination: &str) -> Option<u64> {
        self.sum(&format!("fanout_pending{{destination=\"{destination}\"}} "))
    }

    /// `fanout_deliveries_total` of a destination and an outcome, all reasons together.
    pub fn deliveries(&self, destination: &str, outcome: &str) -> u64 {
        let start = format!("fanout_deliveries_total{{destination=\"{destination}\",outcome=\"{outcome}\",");
        self.sum(&start).unwrap_or_default()
    }

    fn sum(&self, start: &str) -> Option<u64> {
        let lines = self.0.lines().filter(|line| line.starts_with(start));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).reduce(|one, two| one + two)
    }
}

/// The most memory that a process has had resident, in bytes.
pub fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// What a data directory says of its lanes, read from a copy: also beside a running process, and without doing for the
/// next one what it has to do itself after a crash. `None` when what was copied while it was written fits together badly.
pub fn lanes(data: &Path, names: &[&str]) -> Option<BTreeMap<String, LaneCounts>> {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(data).unwrap().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            std::fs::copy(entry.path(), copy.path().join(entry.file_name())).ok()?;
        }
    }
    let lanes = names.iter().map(|name| (*name).to_owned()).collect();
    let options = Options::new(journal::Options::new(copy.path()), lanes);
    let (queue, _) = LocalQueue::<()>::open(options, Arc::new(|_, _| Some(())), Arc::new(|| 0)).ok()?;
    names.iter().map(|name| Some(((*name).to_owned(), queue.counts(name)?))).collect()
}

/// Everything that a lane was given, whatever became of it.
pub fn total(counts: &LaneCounts) -> u64 {
    counts.unfinished + counts.finished.iter().map(|(_, count)| *count).sum::<u64>()
}
