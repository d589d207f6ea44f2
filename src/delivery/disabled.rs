//! The lane of a disabled destination: every event is skipped, and that is recorded, so that nobody wonders later.

use std::sync::Arc;

use tokio::sync::watch;

use super::outcome::Label;
use super::{Command, Services};
use crate::queue::{Code, Settled};

/// The most events skipped at one time.
const BLOCK: usize = 1024;
const REASON: &str = "disabled";

/// Skips events until told to stop.
pub(super) async fn run(name: Arc<str>, services: Services, mut commands: watch::Receiver<Command>) {
    loop {
        let claimed = tokio::select! {
            stopped = commands.wait_for(|command| matches!(command, Command::Stop { .. })) => {
                drop(stopped);
                return;
            }
            claimed = services.queue.claim(&name, BLOCK) => claimed,
        };
        if claimed.is_empty() {
            return; // The queue is closing.
        }
        let skipped = Label { outcome: "skipped", reason: REASON };
        services.observer.ended(&name, skipped, claimed.len() as u64);
        let done = || Settled::Done(Code::Skipped(REASON.to_owned()));
        services.queue.settle(&name, claimed.iter().map(|delivery| (delivery.id, done())).collect());
        tokio::task::yield_now().await;
    }
}
