//! Starts a lane's loop again when it ends by a fault of the program, after a pause that grows. It does not know what the
//! loop does.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::{Command, Services};

/// A loop that has run for so long begins again with the shortest pause.
const CALM: Duration = Duration::from_secs(600);

/// Runs what `work` makes until it ends by itself or the lane is to stop. What a broken one had claimed goes back to the
/// queue, in order.
pub(super) async fn run<F>(
    name: Arc<str>,
    services: Services,
    mut commands: watch::Receiver<Command>,
    mut work: impl FnMut() -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut faults = 0;
    loop {
        let began = Instant::now();
        // A task of its own, so that the fault ends nothing else.
        if tokio::spawn(work()).await.is_ok() {
            return;
        }
        services.queue.give_back(&name);
        faults = if began.elapsed() >= CALM { 1 } else { faults + 1 };
        let pause = Backoff::RESTART.half_jitter(faults, (services.random)());
        tracing::error!(
            destination = &*name,
            pause_seconds = pause.as_secs(),
            "a lane ended by a fault of the program and is started again: nothing is lost, some deliveries may be made \
             again; please report this with the lines above"
        );
        tokio::select! {
            stopped = commands.wait_for(|command| matches!(command, Command::Stop { .. })) => {
                drop(stopped);
                return;
            }
            () = tokio::time::sleep(pause) => {}
        }
    }
}
