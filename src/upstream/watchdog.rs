//! Deadlines that cost a few stores.
//!
//! 1. A deadline is a slot in a slab: setting and clearing one touches no timer and reads no clock.
//! 2. One tick per worker, [`TICK`] long, wakes those whose time is over; a deadline is kept to within a tick, never early.
//!
//! # Why
//! tokio's timer takes a lock and walks a wheel for each deadline set and cleared: at every request, for deadlines that
//! are hardly ever reached.

use std::cell::{Cell, RefCell};
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

/// How coarse deadlines are.
pub const TICK: Duration = Duration::from_millis(20);

/// The deadlines of a worker.
pub struct Watchdog {
    now: Cell<u64>,
    slots: RefCell<Slots>,
}

#[derive(Default)]
struct Slots {
    all: Vec<Slot>,
    free: Vec<usize>,
}

struct Slot {
    /// The tick at which it is over; `u64::MAX` where nobody waits.
    due: u64,
    waker: Option<Waker>,
}

/// A deadline that was missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Late;

/// A place in the slab, kept until dropped.
pub struct Deadline {
    watchdog: Rc<Watchdog>,
    slot: usize,
}

impl Watchdog {
    /// Starts the tick on this worker; it ends with the last user of the watchdog.
    pub fn start() -> Rc<Self> {
        let watchdog = Rc::new(Self { now: Cell::new(0), slots: RefCell::default() });
        tokio::task::spawn_local(tick(Rc::downgrade(&watchdog)));
        watchdog
    }

    /// Ticks so far: a clock that costs nothing.
    pub fn now(&self) -> u64 {
        self.now.get()
    }

    /// A deadline that is `after` from now.
    pub fn deadline(self: &Rc<Self>, after: Duration) -> Deadline {
        let mut slots = self.slots.borrow_mut();
        let due = self.due(after);
        let slot = match slots.free.pop() {
            Some(slot) => slot,
            None => {
                slots.all.push(Slot { due: u64::MAX, waker: None });
                slots.all.len() - 1
            }
        };
        slots.all[slot].due = due;
        Deadline { watchdog: self.clone(), slot }
    }

    /// Waits for `future`, at most about `limit`.
    ///
    /// # Errors
    /// [`Late`] if it took longer.
    pub async fn within<F: Future>(self: &Rc<Self>, limit: Duration, future: F) -> Result<F::Output, Late> {
        let mut future = pin!(future);
        let mut deadline = None;
        std::future::poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            match deadline.get_or_insert_with(|| self.deadline(limit)).poll_late(cx) {
                true => Poll::Ready(Err(Late)),
                false => Poll::Pending,
            }
        })
        .await
    }

    fn due(&self, after: Duration) -> u64 {
        let ticks = after.as_nanos().div_ceil(TICK.as_nanos());
        // The tick under way has begun already: one more, so as never to be early.
        self.now.get().saturating_add(u64::try_from(ticks).unwrap_or(u64::MAX)).saturating_add(1)
    }
}

impl Deadline {
    /// Whether it is over; if not, `cx` is woken when it is.
    pub fn poll_late(&self, cx: &mut Context<'_>) -> bool {
        let mut slots = self.watchdog.slots.borrow_mut();
        let slot = &mut slots.all[self.slot];
        if slot.due <= self.watchdog.now.get() {
            return true;
        }
        if !slot.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            slot.waker = Some(cx.waker().clone());
        }
        false
    }

    /// Waits for `future`, at most until it is over.
    ///
    /// # Errors
    /// [`Late`] if it took longer.
    pub async fn before<F: Future + Unpin>(&self, mut future: F) -> Result<F::Output, Late> {
        std::future::poll_fn(|cx| match Pin::new(&mut future).poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending if self.poll_late(cx) => Poll::Ready(Err(Late)),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// Begins anew: `after` from now.
    pub fn extend(&self, after: Duration) {
        let due = self.watchdog.due(after);
        self.watchdog.slots.borrow_mut().all[self.slot].due = due;
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        let mut slots = self.watchdog.slots.borrow_mut();
        slots.all[self.slot] = Slot { due: u64::MAX, waker: None };
        slots.free.push(self.slot);
    }
}

async fn tick(watchdog: Weak<Watchdog>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut late = Vec::new();
    loop {
        ticks.tick().await;
        let Some(watchdog) = watchdog.upgrade() else { return };
        let now = watchdog.now.get() + 1;
        watchdog.now.set(now);
        for slot in &mut watchdog.slots.borrow_mut().all {
            if slot.due <= now {
                late.extend(slot.waker.take());
            }
        }
        late.drain(..).for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_a_worker(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime.expect("a test runtime"), test);
    }

    #[test]
    fn what_is_ready_is_never_late_and_what_never_comes_is_late_after_its_time() {
        on_a_worker(async {
            let watchdog = Watchdog::start();
            assert_eq!(watchdog.within(Duration::ZERO, async { 1 }).await, Ok(1));
            let before = tokio::time::Instant::now();
            let limit = Duration::from_millis(100);
            assert_eq!(watchdog.within(limit, std::future::pending::<()>()).await, Err(Late));
            let took = before.elapsed();
            assert!(took >= limit && took <= limit + 3 * TICK, "{took:?}");
        });
    }

    #[test]
    fn slots_are_used_again() {
        on_a_worker(async {
            let watchdog = Watchdog::start();
            for _ in 0..100 {
                drop(watchdog.deadline(Duration::from_secs(1)));
            }
            assert_eq!(watchdog.slots.borrow().all.len(), 1);
        });
    }

    #[test]
    fn an_extended_deadline_begins_anew() {
        on_a_worker(async {
            let watchdog = Watchdog::start();
            let deadline = watchdog.deadline(Duration::from_millis(60));
            tokio::time::sleep(Duration::from_millis(50)).await;
            deadline.extend(Duration::from_millis(60));
            tokio::time::sleep(Duration::from_millis(40)).await;
            let late = std::future::poll_fn(|cx| Poll::Ready(deadline.poll_late(cx))).await;
            assert!(!late);
            std::future::poll_fn(|cx| if deadline.poll_late(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
        });
    }
}
