//! Puts requests back into the order of their times. Pure.
//!
//! 1. A request waits until all logs have come further than it by the window: then nothing earlier is to be expected.
//! 2. Of requests with the same time, the one that was read first goes first.
//! 3. No more than [`ROOM`] wait; beyond it the earliest goes at once.
//! 4. What is earlier than what has already gone is late: it is counted, with how late, and goes no further.
//!
//! # Why
//! Most servers write a line when its request ends, some with the time when it began; and several of them are read at
//! once. To judge a late request as if it were made now would blame it on the wrong window, or on the wrong second.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Requests that wait.
const ROOM: usize = 1 << 20;

/// Requests that wait for their turn.
#[derive(Debug)]
pub struct Order<T> {
    heap: BinaryHeap<Reverse<Waiting<T>>>,
    window: u64,
    number: u64,
    gone: u64,
    late: Late,
}

/// What came too late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Late {
    /// Requests.
    pub requests: u64,
    /// By how much the latest of them was too late, in µs.
    pub most: u64,
}

#[derive(Debug)]
struct Waiting<T> {
    at: u64,
    number: u64,
    request: T,
}

impl<T> Order<T> {
    /// With a window of `window` µs.
    pub fn new(window: u64) -> Self {
        Self { heap: BinaryHeap::new(), window, number: 0, gone: 0, late: Late::default() }
    }

    /// Takes a request that was made `at` (µs since the Unix epoch); whether it is in time.
    pub fn push(&mut self, at: u64, request: T) -> bool {
        if at < self.gone {
            self.late.requests += 1;
            self.late.most = self.late.most.max(self.gone - at);
            return false;
        }
        self.number += 1;
        self.heap.push(Reverse(Waiting { at, number: self.number, request }));
        true
    }

    /// The next request whose turn has come, with its time. `reached`: how far all logs have come.
    pub fn pop(&mut self, reached: u64) -> Option<(u64, T)> {
        let Reverse(first) = self.heap.peek()?;
        if first.at.saturating_add(self.window) > reached && self.heap.len() <= ROOM {
            return None;
        }
        let Reverse(Waiting { at, request, .. }) = self.heap.pop()?;
        self.gone = at;
        Some((at, request))
    }

    /// What came too late so far.
    pub fn late(&self) -> Late {
        self.late
    }
}

impl<T> PartialEq for Waiting<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl<T> Eq for Waiting<T> {}

impl<T> PartialOrd for Waiting<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Waiting<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gone(order: &mut Order<&'static str>, reached: u64) -> Vec<(u64, &'static str)> {
        std::iter::from_fn(|| order.pop(reached)).collect()
    }

    #[test]
    fn requests_go_by_their_times_and_wait_for_earlier_ones() {
        let mut order = Order::new(10);
        for (at, name) in [(20, "c"), (15, "a"), (20, "d"), (16, "b")] {
            assert!(order.push(at, name));
        }
        assert_eq!(gone(&mut order, 24), []);
        assert_eq!(gone(&mut order, 26), [(15, "a"), (16, "b")]);
        assert!(order.push(16, "as late as may be") && !order.push(12, "late") && !order.push(15, "late"));
        assert_eq!(gone(&mut order, u64::MAX), [(16, "as late as may be"), (20, "c"), (20, "d")]);
        assert_eq!(order.late(), Late { requests: 2, most: 4 });
    }

    #[test]
    fn no_more_wait_than_there_is_room_for() {
        let mut order = Order::new(1_000_000_000);
        for at in 0..ROOM as u64 + 3 {
            order.push(at, "");
        }
        assert_eq!(gone(&mut order, 0).len(), 3);
    }
}
