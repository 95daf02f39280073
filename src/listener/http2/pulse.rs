//! One coarse clock for all that the streams of a connection wait for.
//!
//! 1. The connection's tick moves it, and wakes whoever waits; nobody sets a timer.
//! 2. A wait is late after its limit and at most two ticks more, never before.
//!
//! # Why
//! A stream waits often (for a window, for content) and is hardly ever late. To note the number of a tick costs two stores.

use std::cell::{Cell, RefCell};
use std::task::{Context, Waker};
use std::time::Duration;

/// The clock of one connection.
pub struct Pulse {
    tick: Duration,
    now: Cell<u32>,
    waiting: RefCell<Vec<Waker>>,
}

/// A wait that is, or is not, under way.
#[derive(Default)]
pub struct Wait(Option<Since>);

#[derive(Clone, Copy)]
struct Since {
    began: u32,
    /// The last tick at which the waker was left.
    left: Option<u32>,
}

impl Pulse {
    /// A clock that will be moved every `tick`.
    pub fn new(tick: Duration) -> Self {
        Self { tick, now: Cell::new(0), waiting: RefCell::default() }
    }

    /// A tick has passed.
    pub fn beat(&self) {
        self.now.set(self.now.get().wrapping_add(1));
        // Whoever still waits leaves a waker again.
        let waiting = self.waiting.take();
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Whether `wait`, which begins now if it has not begun, has lasted longer than `limit`. If not, `cx` is woken to ask again.
    pub fn is_late(&self, wait: &mut Wait, limit: Duration, cx: &Context<'_>) -> bool {
        let now = self.now.get();
        let since = wait.0.get_or_insert(Since { began: now, left: None });
        // The tick under way had begun before: one more.
        let ticks = limit.as_nanos().div_ceil(self.tick.as_nanos().max(1)) + 1;
        if u128::from(now.wrapping_sub(since.began)) >= ticks {
            return true;
        }
        if since.left != Some(now) {
            since.left = Some(now);
            self.waiting.borrow_mut().push(cx.waker().clone());
        }
        false
    }
}

impl Wait {
    /// What was waited for has come.
    pub fn end(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_late_after_its_limit_and_begins_anew_when_it_has_ended() {
        let pulse = Pulse::new(Duration::from_millis(100));
        let (mut wait, limit) = (Wait::default(), Duration::from_millis(250));
        let cx = Context::from_waker(Waker::noop());
        for _ in 0..4 {
            assert!(!pulse.is_late(&mut wait, limit, &cx));
            pulse.beat();
        }
        assert!(pulse.is_late(&mut wait, limit, &cx));
        wait.end();
        assert!(!pulse.is_late(&mut wait, limit, &cx));
    }

    #[test]
    fn a_waker_is_left_once_for_each_tick() {
        let pulse = Pulse::new(Duration::from_millis(100));
        let (mut wait, limit) = (Wait::default(), Duration::from_secs(9));
        let cx = Context::from_waker(Waker::noop());
        for _ in 0..3 {
            assert!(!pulse.is_late(&mut wait, limit, &cx));
        }
        assert_eq!(pulse.waiting.borrow().len(), 1);
        pulse.beat();
        assert_eq!(pulse.waiting.borrow().len(), 0);
    }
}
