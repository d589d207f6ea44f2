//! Keeps one small value of a lane through restarts, written beside the lane's work: a slow disk must not hold it up.

use std::sync::Arc;

use fanout_sdk::event::Event;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::queue::Queue;

type Events = dyn Queue<Arc<Event>>;

/// See the module. Only the latest value is written; dropping it writes what was saved, in its own time.
pub struct Kept {
    queue: Arc<Events>,
    key: Arc<str>,
    latest: watch::Sender<String>,
    writer: Option<JoinHandle<()>>,
}

impl Kept {
    /// Under this key of the queue's small values.
    pub fn new(queue: Arc<Events>, key: String) -> Kept {
        Kept { queue, key: key.into(), latest: watch::channel(String::new()).0, writer: None }
    }

    /// What was kept. Blocks on the disk for a moment.
    pub fn load(&self) -> Option<Vec<u8>> {
        self.queue.get(&self.key)
    }

    /// Has a value written soon.
    pub fn save(&mut self, value: String) {
        if self.writer.is_none() {
            let latest = self.latest.subscribe();
            self.writer = Some(tokio::spawn(write(self.queue.clone(), self.key.clone(), latest)));
        }
        self.latest.send_replace(value);
    }

    /// Waits until what was saved is written.
    pub async fn end(self) {
        drop(self.latest);
        if let Some(writer) = self.writer {
            // One that panicked has written nothing more to wait for.
            let _ = writer.await;
        }
    }
}

async fn write(queue: Arc<Events>, key: Arc<str>, mut latest: watch::Receiver<String>) {
    while latest.changed().await.is_ok() {
        let value = latest.borrow_and_update().clone();
        let (queue, at) = (queue.clone(), key.clone());
        let written = tokio::task::spawn_blocking(move || queue.put(&at, value.as_bytes())).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(%error, key = &*key, "a value could not be written down; a crash would forget it");
        }
    }
}
