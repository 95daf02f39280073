//! Connections that carry several requests at once (HTTP/2).
//!
//! 1. The first that has a place is used, so that those opened last become idle first; another one is opened when all are
//!    full. They count against the bounds from when they are opened until they have ended, GOAWAY included.
//! 2. One is opened at a time, to an endpoint that is expected to speak HTTP/2: requests that come meanwhile wait for it,
//!    as they would at a bound. An endpoint that has just failed is not waited for like that.

use std::cell::Cell;
use std::rc::{Rc, Weak};

use super::{Lease, Local, Pool};
use crate::listener::transport::Transport;
use crate::upstream::connect::Failure;
use crate::upstream::http2::{self, Stream};
use crate::upstream::sender::Sender;
use crate::upstream::tls;

/// A connection's place in the pool's counts; let go of by its driver.
struct Room {
    pool: Weak<Pool>,
    local: Rc<Local>,
    /// It was taken over from the lease that the connection was opened for.
    taken: Cell<bool>,
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade().filter(|_| self.taken.get()) {
            pool.shrink(&self.local);
            pool.queue.wake_one();
        }
    }
}

/// Says that a connection is being opened, as long as it is there.
pub struct Opening(Rc<Local>);

impl Opening {
    /// To an endpoint.
    pub fn to(local: &Rc<Local>) -> Self {
        local.opening.set(local.opening.get() + 1);
        Self(local.clone())
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.0.opening.set(self.0.opening.get() - 1);
    }
}

impl Pool {
    /// A place on a connection to an endpoint.
    pub(super) fn share(self: &Rc<Self>, local: &Rc<Local>) -> Option<Lease> {
        let mut shared = local.shared.borrow_mut();
        if shared.is_empty() {
            return None;
        }
        shared.retain(|connection| !connection.is_closed());
        let stream = shared.iter().find(|connection| connection.has_room())?.stream();
        drop(shared);
        let mut lease = self.lease_of(local.clone(), Some(Sender::Http2(stream)));
        lease.counted = false;
        Some(lease)
    }

    /// Speaks HTTP/2 over a connection that was opened for a lease, whose count it takes over.
    pub(super) async fn multiplex(self: &Rc<Self>, transport: Transport, local: &Rc<Local>) -> Result<Stream, Failure> {
        let room = Rc::new(Room { pool: Rc::downgrade(self), local: local.clone(), taken: Cell::new(false) });
        let bounds = (self.http2, self.answers, self.connect_timeout);
        let opened = http2::open(transport, bounds, self.watchdog.clone(), room.clone()).await;
        let connection = opened.map_err(|error| {
            tracing::debug!(%error, endpoint = %local.label, "the app does not speak HTTP/2");
            // Over TLS 1.3 the app judges our certificate when we believe to be through.
            error.get_io().and_then(|io| tls::Fault::within(io)).map_or(Failure::Protocol, Failure::Tls)
        })?;
        let stream = connection.stream();
        // From here on the driver lets go of what the lease has counted.
        room.taken.set(true);
        // And one who opens the next, if there may be one.
        let another = self.open.get() < self.most && local.may_open(self.most_each);
        self.queue.wake_some(connection.room().saturating_add(usize::from(another)));
        local.shared.borrow_mut().push(connection);
        Ok(stream)
    }
}

impl Local {
    /// A connection has a place for a request.
    pub(super) fn has_place(&self) -> bool {
        self.shared.borrow().iter().any(|connection| connection.has_room())
    }

    /// How many requests its connections have a place for.
    pub(super) fn places(&self) -> usize {
        let shared = self.shared.borrow();
        let rooms = shared.iter().filter(|connection| connection.has_room()).map(|connection| connection.room());
        rooms.fold(0, usize::saturating_add)
    }

    /// Rule 2.
    pub(super) fn is_awaited(&self, now: u64) -> bool {
        self.opening.get() > 0 && self.multiplexes.get() && self.shunned.get() <= now
    }
}
