//! How long a silent, slow or idle HTTP/2 client is borne, seen once a tick.

use std::task::{Context, Waker};
use std::time::Duration;

use h2::{Ping, PingPong};

use super::Shared;

/// What the tick remembers from the last one.
pub struct Patience {
    pings: Option<PingPong>,
    pinged: bool,
    /// How long a client that is sent away is listened to, so that it learns why.
    linger: Duration,
    reads: u32,
    writes: u32,
    /// For how long nothing has come.
    silent: Duration,
    /// For how long there has been no request.
    idle: Duration,
    /// For how long the socket has been full.
    stalled: Duration,
    /// For how long a head has been coming.
    head: Duration,
    /// For how long all has been said.
    lingering: Duration,
}

/// What to do with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Stay,
    /// It has been idle: tell the client to send no more.
    Leave,
    /// End it; the time-out that the client has overrun, if it has.
    End(Option<&'static str>),
}

impl Patience {
    /// With a connection that begins, and a way to ping its client; `linger`: with a client that is sent away.
    pub fn new(pings: Option<PingPong>, linger: Duration) -> Self {
        let none = Duration::ZERO;
        Self {
            pings,
            pinged: false,
            linger,
            reads: 0,
            writes: 0,
            silent: none,
            idle: none,
            stalled: none,
            head: none,
            lingering: none,
        }
    }

    /// One tick later. `leaving`: the client has been told to send no more.
    pub fn judge(&mut self, shared: &Shared, leaving: bool, tick: Duration) -> Verdict {
        let (line, timeouts) = (&shared.line, &shared.timeouts);
        let (read, wrote) = (line.reads.get() != self.reads, line.writes.get() != self.writes);
        (self.reads, self.writes) = (line.reads.get(), line.writes.get());
        let grow =
            |counter: &mut Duration, holds: bool| *counter = if holds { *counter + tick } else { Duration::ZERO };
        grow(&mut self.lingering, line.lingers.get());
        grow(&mut self.stalled, line.write_blocked.get() && !wrote);
        grow(&mut self.head, line.awaits_head.get());
        grow(&mut self.idle, shared.streams.get() == 0);
        grow(&mut self.silent, !read);
        if read {
            self.pinged = false;
        }
        let ping_after = timeouts.idle / 3;
        if line.lingers.get() {
            if self.lingering > self.linger { Verdict::End(None) } else { Verdict::Stay }
        } else if self.stalled > timeouts.write {
            Verdict::End(Some("write"))
        } else if self.head > timeouts.header {
            Verdict::End(Some("header"))
        } else if self.silent > ping_after + timeouts.write {
            Verdict::End(Some("ping"))
        } else if leaving && self.idle > timeouts.write {
            Verdict::End(None)
        } else if !leaving && self.idle > timeouts.idle {
            Verdict::Leave
        } else {
            // Also of one that leaves: its last answers may be long, and nothing but pongs come meanwhile.
            if self.silent > ping_after && !self.pinged {
                self.ping();
            }
            Verdict::Stay
        }
    }

    fn ping(&mut self) {
        self.pinged = true;
        let Some(pings) = &mut self.pings else { return };
        // Whatever comes is an answer; its pong is only taken so that h2 sends the next ping.
        let _ = pings.poll_pong(&mut Context::from_waker(Waker::noop()));
        let _ = pings.send_ping(Ping::opaque());
    }
}
