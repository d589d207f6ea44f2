//! How fast the journal takes records of 1 KB, and how fast it opens again. A plain program: run it with
//! `cargo bench --bench journal [DIRECTORY]`; the directory decides which disk is measured.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fanout::queue::Entry;
use fanout::queue::files::RealFiles;
use fanout::queue::journal::{Journal, Options};

const BODY: usize = 1024;

type Fallible<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> Fallible<()> {
    let parent = std::env::args().nth(1).filter(|argument| !argument.starts_with('-'));
    let parent = parent.map_or_else(std::env::temp_dir, Into::into);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    for (producers, each, events) in [(64, 1, 100_000), (8, 100, 1_000_000), (1024, 1, 500_000)] {
        let dir = tempfile::tempdir_in(&parent)?;
        runtime.block_on(append(dir.path(), producers, each, events))?;
        reopen(dir.path(), events)?;
    }
    Ok(())
}

async fn append(dir: &Path, producers: u64, each: u64, events: u64) -> Fallible<()> {
    let (journal, _) = open(dir)?;
    let (started, cpu) = (Instant::now(), cpu_time());
    let rounds = events / producers / each;
    let tasks: Vec<_> = (0..producers)
        .map(|producer| tokio::spawn(produce(Arc::clone(&journal), producer * rounds * each, rounds, each)))
        .collect();
    let mut waits = Vec::new();
    for task in tasks {
        waits.extend(task.await??);
    }
    let (elapsed, cpu) = (started.elapsed(), cpu_time() - cpu);
    waits.sort_unstable();
    let done = rounds * producers * each;
    let p99 = waits.get(waits.len() * 99 / 100).copied().unwrap_or_default();
    say(&format!(
        "{producers:>5} × {each:<3}  {:>9.0} events/s  {:>5.2} CPU-s per million  p99 {:>6.2} ms  {:.3} × written",
        done as f64 / elapsed.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / done as f64,
        p99.as_secs_f64() * 1e3,
        journal.disk_bytes() as f64 / (done as usize * BODY) as f64,
    ));
    journal.close();
    Ok(())
}

async fn produce(journal: Arc<Journal<()>>, first: u64, rounds: u64, each: u64) -> Fallible<Vec<Duration>> {
    let body: Arc<[u8]> = Arc::from([b'x'; BODY]);
    let received_at_ms = now_ms();
    let mut waits = Vec::new();
    for round in 0..rounds {
        let keys = first + round * each..first + (round + 1) * each;
        let entries = keys.map(|key| Entry {
            source: 0,
            received_at_ms,
            kind: 0,
            order_key: key,
            // Spread like the hashes it stands for.
            message_key: key.wrapping_mul(0x9E37_79B9_7F4A_7C15),
            body: Arc::clone(&body),
            payload: (),
        });
        let entries = entries.collect();
        let asked = Instant::now();
        journal.append(entries).await?;
        waits.push(asked.elapsed());
    }
    Ok(waits)
}

fn reopen(dir: &Path, events: u64) -> Fallible<()> {
    let (started, cpu) = (Instant::now(), cpu_time());
    let (_, seconds) = (open(dir)?, started.elapsed().as_secs_f64());
    say(&format!(
        "       reopened {events} in {seconds:.3} s, {:.3} CPU-s",
        (cpu_time() - cpu).as_secs_f64()
    ));
    Ok(())
}

fn open(dir: &Path) -> Fallible<(Arc<Journal<()>>, u64)> {
    let (journal, recovered) =
        Journal::open(Arc::new(RealFiles), Options::new(dir), now_ms(), Box::new(|_| ()))?;
    Ok((Arc::new(journal), recovered.records))
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// User and system time of this process so far; zero where the system does not tell.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let behind_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = behind_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok());
    // The kernel counts in hundredths of a second towards programs, whatever its own clock.
    Duration::from_millis(ticks.sum::<u64>() * 10)
}

#[expect(clippy::print_stdout, reason = "the result of a bench")]
fn say(line: &str) {
    println!("{line}");
}
