//! A connection to the app that speaks HTTP/2, and the task that drives it.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{self, ResponseFuture, SendRequest};
use h2::{Ping, PingPong, Reason, RecvStream, SendStream};
use http::Request;
use tokio::sync::oneshot;

use super::Settings;
use super::upload::Upload;
use crate::listener::transport::Transport;
use crate::upstream::http1::Bounds;
use crate::upstream::watchdog::{Deadline, Watchdog};

/// The largest window there is (RFC 9113 §6.9.1).
const LARGEST_WINDOW: u32 = (1 << 31) - 1;

/// A connection to the app.
pub struct Connection {
    requests: RefCell<SendRequest<Bytes>>,
    secured: bool,
    most: usize,
    /// Requests under way.
    streams: Cell<usize>,
    /// When the last of them ended, in ticks of the watchdog.
    since: Cell<u64>,
    watchdog: Rc<Watchdog>,
    health: Rc<Health>,
}

/// What connection and driver tell each other.
#[derive(Default)]
struct Health {
    doubted: Cell<bool>,
    streams: Cell<usize>,
    driver: RefCell<Option<Waker>>,
}

/// What counts a connection as long as its driver lives. Let go of when it ends.
pub type Room = Rc<dyn std::any::Any>;

/// A request's place on a connection.
pub struct Stream {
    connection: Rc<Connection>,
    /// The rest of the request and the content of the answer, once that has begun.
    pub answer: Option<(Upload, RecvStream)>,
}

/// Speaks HTTP/2 over `transport`; `room` is kept until that ends. Bounded in time by the caller.
///
/// # Errors
/// The app does not speak it, or TLS failed after all.
pub async fn open(
    transport: Transport,
    (settings, head, patience): (Settings, Bounds, Duration),
    watchdog: Rc<Watchdog>,
    room: Room,
) -> Result<Rc<Connection>, h2::Error> {
    let secured = matches!(transport, Transport::Tls(_));
    let all_windows = settings.stream_window.saturating_mul(settings.max_streams).min(LARGEST_WINDOW);
    let (requests, mut http2) = client::Builder::new()
        .enable_push(false)
        // None, until the app's SETTINGS say how many.
        .initial_max_send_streams(0)
        .initial_window_size(settings.stream_window)
        .initial_connection_window_size(all_windows)
        .max_send_buffer_size(settings.stream_window as usize)
        .max_header_list_size(u32::try_from(head.largest_head).unwrap_or(u32::MAX))
        .handshake(transport)
        .await?;
    let (settle, settled) = oneshot::channel();
    let health = Rc::new(Health::default());
    let pings = http2.ping_pong();
    tokio::task::spawn_local(Driver {
        http2,
        pings,
        settle: Some(settle),
        health: health.clone(),
        watchdog: watchdog.clone(),
        every: settings.ping,
        patience,
        next: None,
        awaited: None,
        _room: room,
    });
    // A driver that ends without a word has found the end of the connection.
    settled.await.unwrap_or(Err(Reason::PROTOCOL_ERROR.into()))?;
    let (requests, since) = (RefCell::new(requests), Cell::new(watchdog.now()));
    let (most, streams) = (settings.max_streams as usize, Cell::new(0));
    Ok(Rc::new(Connection { requests, secured, most, streams, since, watchdog, health }))
}

impl Connection {
    /// Whether no request may be begun any more.
    pub fn is_closed(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        matches!(self.requests.borrow_mut().poll_ready(&mut cx), Poll::Ready(Err(_)))
    }

    /// How many requests more may be begun.
    pub fn room(&self) -> usize {
        let most = self.most.min(self.requests.borrow().current_max_send_streams());
        most.saturating_sub(self.streams.get())
    }

    /// Whether a request may be begun.
    pub fn has_room(&self) -> bool {
        self.room() > 0 && !self.is_closed()
    }

    /// Whether it has been without requests for so many ticks.
    pub fn is_idle_for(&self, ticks: u64) -> bool {
        self.streams.get() == 0 && self.watchdog.now().saturating_sub(self.since.get()) >= ticks
    }

    /// A place for a request.
    pub fn stream(self: &Rc<Self>) -> Stream {
        self.count(self.streams.get() + 1);
        Stream { connection: self.clone(), answer: None }
    }

    fn count(&self, streams: usize) {
        self.streams.set(streams);
        self.health.streams.set(streams);
    }
}

impl Stream {
    /// Sends the head of a request.
    ///
    /// # Errors
    /// The connection takes no more.
    pub fn begin(&mut self, head: Request<()>, whole: bool) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        let begun = self.connection.requests.borrow_mut().send_request(head, whole);
        // The first of several is when pings may begin.
        self.connection.health.wake();
        begun
    }

    /// Whether it goes over TLS.
    pub fn is_secured(&self) -> bool {
        self.connection.secured
    }

    /// Whether its connection takes no more requests.
    pub fn is_closed(&self) -> bool {
        self.connection.is_closed()
    }

    /// An answer was waited for in vain: the connection is pinged.
    pub fn doubt(&self) {
        self.connection.health.doubted.set(true);
        self.connection.health.wake();
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.connection.since.set(self.connection.watchdog.now());
        self.connection.count(self.connection.streams.get() - 1);
    }
}

impl Health {
    fn wake(&self) {
        if let Some(driver) = &*self.driver.borrow() {
            driver.wake_by_ref();
        }
    }
}

/// Drives a connection until it ends.
struct Driver {
    http2: client::Connection<Transport, Bytes>,
    pings: Option<PingPong>,
    /// Waits for the app's first SETTINGS.
    settle: Option<oneshot::Sender<Result<(), h2::Error>>>,
    health: Rc<Health>,
    watchdog: Rc<Watchdog>,
    every: Option<Duration>,
    patience: Duration,
    /// When to ping next.
    next: Option<Deadline>,
    /// When a ping is given up, if one is under way.
    awaited: Option<Deadline>,
    _room: Room,
}

impl Driver {
    /// Pings where that is due; whether the app has kept one waiting for too long.
    fn is_dead(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(pings) = &mut self.pings else { return false };
        if let Some(awaited) = &self.awaited {
            if pings.poll_pong(cx).is_pending() {
                return awaited.poll_late(cx);
            }
            (self.awaited, self.next) = (None, None);
        }
        let mut due = self.health.doubted.take();
        match self.every.filter(|_| self.health.streams.get() > 0) {
            Some(every) => {
                due |= self.next.get_or_insert_with(|| self.watchdog.deadline(every)).poll_late(cx);
            }
            None => self.next = None,
        }
        if due && pings.send_ping(Ping::opaque()).is_ok() {
            let awaited = self.watchdog.deadline(self.patience);
            let _ = pings.poll_pong(cx);
            let dead = awaited.poll_late(cx);
            self.awaited = Some(awaited);
            return dead;
        }
        false
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if let Poll::Ready(ended) = Pin::new(&mut this.http2).poll(cx) {
            tracing::debug!(?ended, "HTTP/2 connection to the app ended");
            if let (Some(settle), Err(error)) = (this.settle.take(), ended) {
                // Nobody to hear it: then nobody waits.
                let _ = settle.send(Err(error));
            }
            return Poll::Ready(());
        }
        if this.settle.is_some() && this.http2.max_concurrent_send_streams() > 0 {
            // Nobody to hear it: then nobody holds the connection, and it ends by itself.
            let _ = this.settle.take().map(|settle| settle.send(Ok(())));
        }
        if this.is_dead(cx) {
            tracing::debug!("the app does not answer a ping");
            return Poll::Ready(());
        }
        let mut driver = this.health.driver.borrow_mut();
        if !driver.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *driver = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}
