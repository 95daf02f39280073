//! Requests whose clients leave: what the app orders in its answer is carried out all the same.
//!
//! 1. While its client is there a request runs where every other does. If the client leaves, what is left of it becomes a task
//!    of its own, which goes on until the app's head has come and its order is carried out. Content goes nowhere.
//! 2. A request by a method that is not safe (RFC 9110 §9.2.1) goes on for as long as the upstream's time-outs let it; one by a
//!    safe method for [`SAFE`] at most: nearly all of these are pages that nobody will read.
//! 3. At most [`MOST`] on a worker go on so. Beyond, a request ends with its client, and is counted.
//! 4. A worker that stops waits for them, within the grace period.
//! 5. It stays in flight: it keeps the places that it has under limits (`in_flight`), and is counted among all requests.
//!
//! # Why
//! A page that asks for `/logout` and goes elsewhere at once resets its request. The app has ended the login then, or is about to;
//! only the record would be left, and the cookie would log in for hours.
//!
//! Rule 5: who asks and leaves, again and again, would have as many requests at the app as he likes, whatever `in_flight` says.
//!
//! A task from the beginning would cost every request of who is logged in; so does nothing but leaving.

use std::any::Any;
use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Response;
use tokio::time::timeout;

use crate::body::Body;
use crate::telemetry::registry::{Counter, Gauge, Registry};
use crate::telemetry::requests_in_flight;

/// Requests without a client that go on at a time, on one worker.
pub const MOST: usize = 512;

/// How long a safe request goes on without its client: as long as an HTTP/1 client that has ended its side is waited for by default
/// (`timeouts.half_closed`).
pub const SAFE: Duration = Duration::from_secs(5);

/// Requests of one worker that may carry an order about a session, whatever definition that is of.
#[derive(Debug, Default)]
pub struct UnderWay {
    all: Cell<usize>,
    alone: Cell<usize>,
}

impl UnderWay {
    /// Whether there are any; the worker should not end before them.
    pub fn is_any(&self) -> bool {
        self.all.get() > 0
    }
}

/// Whether the client has left.
#[derive(Clone, Debug, Default)]
pub struct Presence(Rc<Cell<bool>>);

impl Presence {
    /// Nobody is there any more to be told.
    pub fn is_over(&self) -> bool {
        self.0.get()
    }
}

/// An answer on its way.
type Answering = Pin<Box<dyn Future<Output = Response<Body>>>>;

/// Sees to it that requests outlive their clients.
pub struct Unattended {
    under_way: Rc<UnderWay>,
    finished: Counter,
    late: Counter,
    dropped: Counter,
    in_flight: Gauge,
}

impl Unattended {
    /// For the session of this name, among those `under_way` on `worker`.
    pub fn new(under_way: Rc<UnderWay>, session: &str, registry: &Registry, worker: usize) -> Rc<Self> {
        let counter = |outcome| {
            let help = "Requests with an issued session that went on without their client, by what became of them.";
            let labels = [("session", session), ("outcome", outcome)];
            registry.counter(worker, "sidegate_session_unattended_total", help, &labels)
        };
        let [finished, late, dropped] = ["finished", "late", "dropped"].map(counter);
        Rc::new(Self { under_way, finished, late, dropped, in_flight: requests_in_flight(registry, worker) })
    }

    /// The same answer, which goes on without its client, for whom `presence` stands, as rule 2 says, and has its `claim` for so long.
    pub fn attend(
        self: &Rc<Self>,
        answer: Answering,
        presence: Presence,
        is_safe: bool,
        claim: Option<Rc<dyn Any>>,
    ) -> Attended {
        let place = Place::take(self.under_way.clone(), claim);
        Attended { answer: Some(answer), beyond: Some(Beyond { unattended: self.clone(), presence, is_safe, place }) }
    }

    async fn finish(self: Rc<Self>, answer: Answering, is_safe: bool, place: Place) {
        let longest = if is_safe { SAFE } else { Duration::MAX };
        match timeout(longest, answer).await {
            Ok(_) => self.finished.inc(),
            Err(_) => self.late.inc(),
        }
        drop(place);
    }
}

/// An answer whose client may leave.
pub struct Attended {
    answer: Option<Answering>,
    /// How it goes on then; `None`: it ends with its client.
    beyond: Option<Beyond>,
}

struct Beyond {
    unattended: Rc<Unattended>,
    presence: Presence,
    is_safe: bool,
    place: Place,
}

impl Attended {
    /// One that ends with its client: it can order nothing that would be missed.
    pub fn no_longer_than_its_client(answer: Answering) -> Self {
        Self { answer: Some(answer), beyond: None }
    }
}

impl Future for Attended {
    type Output = Response<Body>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response<Body>> {
        // Taken out while it is polled: if it panics there is nothing left to go on with.
        let Some(mut answer) = self.answer.take() else { return Poll::Pending };
        let polled = answer.as_mut().poll(cx);
        if polled.is_pending() {
            self.answer = Some(answer);
        } else {
            self.beyond = None;
        }
        polled
    }
}

impl Drop for Attended {
    fn drop(&mut self) {
        let (Some(answer), Some(beyond)) = (self.answer.take(), self.beyond.take()) else { return };
        let Beyond { unattended, presence, is_safe, mut place } = beyond;
        presence.0.set(true);
        if place.go_alone(&unattended.in_flight) {
            tokio::task::spawn_local(unattended.finish(answer, is_safe, place));
        } else {
            unattended.dropped.inc();
        }
    }
}

/// A request that is counted for as long as it is there.
struct Place {
    under_way: Rc<UnderWay>,
    /// It is without its client, and counted here.
    alone: Option<Gauge>,
    /// Rule 5.
    _claim: Option<Rc<dyn Any>>,
}

impl Place {
    fn take(under_way: Rc<UnderWay>, claim: Option<Rc<dyn Any>>) -> Self {
        under_way.all.set(under_way.all.get() + 1);
        Self { under_way, alone: None, _claim: claim }
    }

    /// Rule 3: whether there is room for it without a client.
    fn go_alone(&mut self, in_flight: &Gauge) -> bool {
        let alone = &self.under_way.alone;
        if alone.get() >= MOST {
            return false;
        }
        alone.set(alone.get() + 1);
        in_flight.inc();
        self.alone = Some(in_flight.clone());
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let UnderWay { all, alone } = &*self.under_way;
        all.set(all.get() - 1);
        if let Some(in_flight) = &self.alone {
            alone.set(alone.get() - 1);
            in_flight.dec();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::oneshot;
    use tokio::task::{LocalSet, yield_now};
    use tokio::time::sleep;

    use super::*;

    fn unattended() -> (Rc<UnderWay>, Rc<Unattended>, Arc<Registry>) {
        let (under_way, registry) = (Rc::<UnderWay>::default(), Registry::new(1));
        (under_way.clone(), Unattended::new(under_way, "web", &registry, 0), registry)
    }

    fn count(registry: &Registry, outcome: &str) -> u64 {
        registry.value("sidegate_session_unattended_total", &[("session", "web"), ("outcome", outcome)])
    }

    /// An answer that comes when the test says so, and then has been seen to by setting a flag.
    fn answer() -> (oneshot::Sender<()>, Rc<Cell<bool>>, Answering) {
        let (say, said) = oneshot::channel();
        let done = Rc::<Cell<bool>>::default();
        let seen = done.clone();
        let answer = async move {
            let _ = said.await;
            seen.set(true);
            Response::new(Body::empty())
        };
        (say, done, Box::pin(answer))
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_client_has_left_goes_on_and_is_waited_for() {
        let work = async {
            let (under_way, unattended, registry) = unattended();
            let (say, done, answer) = answer();
            let presence = Presence::default();
            let claim: Rc<dyn Any> = Rc::new(());
            drop(unattended.attend(answer, presence.clone(), false, Some(claim.clone())));
            sleep(SAFE * 100).await;
            assert!(presence.is_over() && under_way.is_any() && !done.get());
            let in_flight = || (Rc::strong_count(&claim) - 1, registry.value("sidegate_requests_in_flight", &[]));
            assert_eq!(in_flight(), (1, 1));
            say.send(()).unwrap();
            while under_way.is_any() {
                yield_now().await;
            }
            assert!(done.get());
            assert_eq!(in_flight(), (0, 0));
            assert_eq!((count(&registry, "finished"), under_way.alone.get()), (1, 0));
        };
        LocalSet::new().run_until(work).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_safe_request_goes_on_for_a_while_only() {
        let work = async {
            let (under_way, unattended, registry) = unattended();
            let (_say, done, answer) = answer();
            drop(unattended.attend(answer, Presence::default(), true, None));
            sleep(SAFE / 2).await;
            assert!(under_way.is_any());
            sleep(SAFE).await;
            assert!(!under_way.is_any() && !done.get());
            assert_eq!(count(&registry, "late"), 1);
        };
        LocalSet::new().run_until(work).await;
    }

    #[tokio::test]
    async fn who_stays_is_answered_and_leaves_nothing_behind() {
        let work = async {
            let (under_way, unattended, registry) = unattended();
            let presence = Presence::default();
            let answer = Box::pin(async { Response::new(Body::empty()) });
            assert_eq!(unattended.attend(answer, presence.clone(), false, None).await.status(), 200);
            assert!(!presence.is_over() && !under_way.is_any());
            drop(Attended::no_longer_than_its_client(Box::pin(std::future::pending())));
            assert!(!under_way.is_any());
            assert_eq!(["finished", "late", "dropped"].map(|outcome| count(&registry, outcome)), [0; 3]);
        };
        LocalSet::new().run_until(work).await;
    }

    #[tokio::test]
    async fn no_more_go_on_than_there_is_room_for() {
        let work = async {
            let (under_way, unattended, registry) = unattended();
            for _ in 0..MOST + 3 {
                drop(unattended.attend(Box::pin(std::future::pending()), Presence::default(), false, None));
            }
            assert_eq!((under_way.all.get(), under_way.alone.get(), count(&registry, "dropped")), (MOST, MOST, 3));
        };
        LocalSet::new().run_until(work).await;
    }
}
