//! Tells whoever started the process how far it is: systemd's notifications (`NOTIFY_SOCKET`).
//!
//! 1. Nobody who listens: nothing is sent. That a message cannot be sent is logged and changes nothing.
//! 2. Where signs of life are wanted (`WatchdogSec=`), one is given twice in that time, if every worker has answered:
//!    otherwise the supervisor ends the process and starts another one.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

use super::worker::Worker;

/// It serves.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// It reads its configuration again; [`ready`] follows, whatever comes of that.
pub fn reloading() {
    // The manager wants to know when, by the machine's own clock.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "no time to tell the supervisor"),
    }
}

/// It stops.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// When signs of life are due.
pub struct Vigil(Option<Interval>);

impl Vigil {
    /// As often as the environment says; never, if it says nothing.
    pub fn new() -> Self {
        let wanted = sd_notify::watchdog_enabled().map(|time| time / 2).filter(|time| !time.is_zero());
        Self(wanted.map(|half| {
            let mut ticks = interval(half);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        }))
    }

    /// Waits for the next one.
    pub async fn due(&mut self) {
        match &mut self.0 {
            Some(ticks) => drop(ticks.tick().await),
            None => std::future::pending().await,
        }
    }

    /// Gives one, if the workers do.
    pub async fn keep(&self, workers: &[Worker]) {
        let within = self.0.as_ref().map_or(Duration::ZERO, Interval::period);
        let answered = timeout(within, async {
            for worker in workers {
                if !worker.answers().await {
                    return false;
                }
            }
            true
        });
        match answered.await {
            Ok(true) => tell(&[NotifyState::Watchdog]),
            _ => tracing::error!("a worker does not answer: the supervisor gets no sign of life"),
        }
    }
}

fn tell(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what) {
        tracing::warn!(%error, "the supervisor cannot be told");
    }
}
