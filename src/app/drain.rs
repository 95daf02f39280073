//! The end of the process.
//!
//! 1. It says that it is not ready, and goes on as before for `drain_delay`: so long a load balancer may take to notice.
//! 2. The listeners let nobody in any more and close. Where `share_port` is set, the admin listener closes as well, so that
//!    a successor alone answers there.
//! 3. What is asked on open connections is answered and ends them; idle ones are closed after `drain_linger`.
//! 4. What has not ended when the grace period does is broken off. Told to stop twice, the process ends at once.

use std::sync::Arc;

use tokio::time::sleep;

use super::boot::Listeners;
use super::shared::Shared;
use super::signals::{Signal, Signals};
use super::supervisor;
use super::worker::{Command, Worker};
use crate::config::settings::Settings;
use crate::{admin, clock};

/// Ends well.
pub async fn drain(
    shared: &Arc<Shared>,
    settings: &Settings,
    workers: Vec<Worker>,
    listeners: Listeners,
    admin: Option<admin::Handle>,
    signals: &mut Signals,
) {
    let server = &settings.server;
    tracing::info!(delay = ?server.drain_delay, grace = ?server.grace_period, connections = shared.admission.open(), "stopping");
    supervisor::stopping();
    shared.health.set_draining();
    let ending = async {
        sleep(server.drain_delay).await;
        drop(listeners);
        let admin = admin.filter(|_| !server.share_port);
        shared.draining.send_replace(true);
        let deadline = clock::instant() + server.grace_period;
        for worker in &workers {
            // A worker that is gone has nothing to drain.
            let _ = worker.commands.send(Command::Drain(deadline)).await;
        }
        // Of no interest whether that thread panicked: there is nothing left to do.
        let _ = tokio::task::spawn_blocking(move || workers.into_iter().for_each(Worker::join)).await;
        drop(admin);
    };
    tokio::select! {
        () = ending => {}
        () = stopped(signals) => {
            tracing::warn!("told to stop twice: stopping at once");
            std::process::exit(0);
        }
    }
    match shared.admission.open() {
        0 => tracing::info!("stopped"),
        open => tracing::warn!(connections = open, "stopped; the grace period ended before these connections did"),
    }
}

/// Waits until told to stop.
async fn stopped(signals: &mut Signals) {
    while !matches!(signals.next().await, Signal::Stop) {}
}
