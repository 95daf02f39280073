//! A connection in use, and what is learnt from it.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use super::{Idle, Local, Pool, SHUNNED};
use crate::upstream::http1::Connection;
use crate::upstream::http2::Stream;
use crate::upstream::sender::Sender;
use crate::upstream::tries::Tries;

/// A connection in use. Dropped without being given back, it is closed.
pub struct Lease {
    pub(super) pool: Rc<Pool>,
    pub(super) local: Rc<Local>,
    pub(super) sender: Option<Sender>,
    /// It has carried a request before: the app may have closed it at any moment.
    pub reused: bool,
    /// Its connection ends with it, or goes back to the pool; one that others share counts itself.
    pub(super) counted: bool,
    /// A half-open breaker let it through, and waits to hear.
    pub(super) probing: bool,
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("endpoint", &self.local.label)
            .field("reused", &self.reused)
            .finish_non_exhaustive()
    }
}

impl Lease {
    /// The connection.
    pub fn sender(&mut self) -> Option<&mut Sender> {
        self.sender.as_mut()
    }

    /// The connection, if it speaks HTTP/1.
    pub fn http1(&mut self) -> Option<&mut Connection> {
        match self.sender() {
            Some(Sender::Http1(connection)) => Some(connection),
            _ => None,
        }
    }

    /// The place on a connection, if that speaks HTTP/2.
    pub fn http2(&mut self) -> Option<&mut Stream> {
        match self.sender() {
            Some(Sender::Http2(stream)) => Some(stream),
            _ => None,
        }
    }

    /// Takes the connection out of HTTP; the lease goes on counting it.
    pub fn switch(&mut self) -> Option<Connection> {
        match self.sender.take() {
            Some(Sender::Http1(connection)) => Some(connection),
            _ => None,
        }
    }

    /// Whether its upstream has other endpoints.
    pub fn has_others(&self) -> bool {
        self.pool.endpoints.borrow().len() > 1
    }

    /// The name of its endpoint, where there are others.
    pub fn endpoint(&self) -> Option<Arc<str>> {
        self.has_others().then(|| self.local.label.clone())
    }

    /// The app answered with this status.
    pub fn answered(&mut self, status: u16) {
        if self.pool.roster.is_failure(status) {
            return self.failed();
        }
        self.pool.roster.answered(&self.local.endpoint, self.probing);
        self.probing = false;
    }

    /// The app did not answer as an app should.
    pub fn failed(&mut self) {
        self.pool.roster.failed(&self.local.endpoint, self.probing);
        self.probing = false;
    }

    /// Its endpoint is to be asked last if the request is sent again.
    pub fn note_in(&self, tries: &mut Tries) {
        tries.tried.push(self.local.clone());
    }

    /// Gives a sound connection back, once its answer has been read to the end. Whether the app has closed it meanwhile
    /// is found out by whoever wants it next: the system is asked once for each request, not twice.
    pub fn give_back(mut self) {
        let kept = !self.local.gone.get() && !self.pool.tells_client();
        let usable =
            |sender: &mut Sender| kept && matches!(sender, Sender::Http1(connection) if !connection.has_unread());
        if let Some(sender) = self.sender.take_if(usable) {
            let since = self.pool.watchdog.now();
            self.local.idle.borrow_mut().push(Idle { sender, since });
            // It is idle now and still open, which the drop of the lease takes away.
            self.pool.grow(&self.local);
        }
    }

    /// It could not be opened.
    pub(super) fn refused(&mut self) {
        self.local.shunned.set(self.pool.watchdog.now() + SHUNNED);
        self.pool.roster.doubt();
        self.failed();
    }

    /// Is to be opened elsewhere.
    pub(super) fn move_to(&mut self, next: Rc<Local>) {
        self.pool.shrink(&self.local);
        self.pool.count_active(&self.local, 1_u32.wrapping_neg());
        self.local = next;
        self.pool.count_active(&self.local, 1);
        self.pool.grow(&self.local);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.probing {
            self.local.endpoint.offer_probe_again();
        }
        self.pool.count_active(&self.local, 1_u32.wrapping_neg());
        if self.counted {
            self.pool.shrink(&self.local);
        }
        self.pool.queue.wake_one();
    }
}
