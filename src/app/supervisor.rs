//! Tells whoever started the process how far it is: systemd's notifications (`NOTIFY_SOCKET`).
//!
//! Nobody who listens: nothing is sent. That a message cannot be sent is logged and changes nothing.

use sd_notify::NotifyState;

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

fn tell(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what) {
        tracing::warn!(%error, "the supervisor cannot be told");
    }
}
