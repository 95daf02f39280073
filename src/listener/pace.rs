//! How slow a client is, seen once a tick.

use std::time::Duration;

use super::Settings;
use super::judge::Phase;
use super::wire::Wire;

/// The shortest time-out decides how coarse the tick may be.
pub fn tick_length(settings: &Settings) -> Duration {
    let timeouts = settings.timeouts;
    let both = timeouts.header.min(timeouts.body).min(timeouts.write).min(timeouts.idle);
    let shortest = both.min(timeouts.half_closed).min(settings.park_after);
    (shortest / 4).clamp(Duration::from_millis(10), Duration::from_millis(500))
}

/// What the tick remembers from the last one.
#[derive(Default)]
pub struct Slowness {
    reads: u32,
    writes: u32,
    /// For how long the head has been coming, the content has not been coming, the reader has not been reading.
    head: Duration,
    content: Duration,
    write: Duration,
    idle: Duration,
    /// For how long the client's side has been ended while an answer is owed and nothing of it could be sent.
    ended: Duration,
}

/// What to do with a connection.
pub enum Pace {
    /// Nothing.
    Fine,
    /// It is idle: park it.
    Park,
    /// The client took too long: over what.
    Expired(&'static str),
}

impl Slowness {
    /// At the start of a connection that has been waited for so long already.
    pub fn after(waited: Duration) -> Self {
        Self { head: waited, ..Self::default() }
    }

    /// One tick later.
    pub fn judge(&mut self, wire: &Wire, settings: &Settings, tick: Duration) -> Pace {
        let (reads, writes) = (wire.reads.get(), wire.writes.get());
        let (read, wrote) = (reads != self.reads, writes != self.writes);
        (self.reads, self.writes) = (reads, writes);
        let grow =
            |counter: &mut Duration, holds: bool| *counter = if holds { *counter + tick } else { Duration::ZERO };
        let phase = wire.phase.get();
        // A head that waits behind an answer under way waits for us, not for the client.
        grow(&mut self.head, matches!(phase, Phase::Head | Phase::Blank) && wire.awaits_client.get());
        grow(&mut self.content, phase == Phase::Content && wire.awaits_client.get() && !read);
        grow(&mut self.write, wire.write_blocked.get() && !wrote);
        grow(&mut self.idle, wire.is_idle() && !read && !wrote);
        // What is being read has a reader.
        grow(&mut self.ended, wire.client_ended.get() && !wrote);
        wire.look_for_end.set(!wire.is_idle());
        let timeouts = &settings.timeouts;
        if self.head > timeouts.header {
            Pace::Expired("header")
        } else if self.content > timeouts.body {
            Pace::Expired("body")
        } else if self.write > timeouts.write {
            Pace::Expired("write")
        } else if self.ended > timeouts.half_closed {
            Pace::Expired("half_closed")
        } else if self.idle >= settings.park_after {
            Pace::Park
        } else {
            Pace::Fine
        }
    }
}
