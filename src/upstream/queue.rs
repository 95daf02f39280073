//! Requests that wait for a connection, in the order they came.
//!
//! One that was woken has its turn until it has looked: nobody who comes meanwhile is let past it. One that is gone when
//! its turn comes passes it on.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use tokio::sync::oneshot;

use super::watchdog::Deadline;

/// The queue of a worker's pool.
pub struct Queue {
    waiting: RefCell<VecDeque<oneshot::Sender<()>>>,
    /// Woken, and not yet looked.
    woken: Cell<usize>,
    most: usize,
}

impl Queue {
    /// A queue for at most so many.
    pub fn new(most: usize) -> Rc<Self> {
        Rc::new(Self { waiting: RefCell::default(), woken: Cell::new(0), most })
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.woken.get() == 0 && self.waiting.borrow().is_empty()
    }

    /// Waits for a turn; false: the queue is full, or it took too long.
    pub async fn wait(self: &Rc<Self>, until: &Deadline) -> bool {
        let mut turn = {
            let mut waiting = self.waiting.borrow_mut();
            // Those that gave up are still in the queue; forget them before it counts as full.
            if waiting.len() >= self.most {
                waiting.retain(|waiter| !waiter.is_closed());
            }
            if waiting.len() >= self.most {
                return false;
            }
            let (wake, woken) = oneshot::channel();
            waiting.push_back(wake);
            Turn { queue: self.clone(), woken, taken: false }
        };
        std::future::poll_fn(|cx| match Pin::new(&mut turn.woken).poll(cx) {
            Poll::Ready(_) => {
                turn.taken = true;
                turn.queue.woken.set(turn.queue.woken.get() - 1);
                Poll::Ready(true)
            }
            Poll::Pending if until.poll_late(cx) => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// Gives so many of those that still wait their turn.
    pub fn wake_some(&self, most: usize) {
        let waiting = self.waiting.borrow().len();
        (0..most.min(waiting)).for_each(|_| self.wake_one());
    }

    /// Sees to it that so many have their turn, with those that have not looked yet.
    pub fn wake_up_to(&self, most: usize) {
        self.wake_some(most.saturating_sub(self.woken.get()));
    }

    /// Gives the first that still waits its turn.
    pub fn wake_one(&self) {
        let mut waiting = self.waiting.borrow_mut();
        while let Some(waiter) = waiting.pop_front() {
            if waiter.send(()).is_ok() {
                self.woken.set(self.woken.get() + 1);
                return;
            }
        }
    }
}

/// A place in the queue.
struct Turn {
    queue: Rc<Queue>,
    woken: oneshot::Receiver<()>,
    taken: bool,
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Woken, but gone before it looked: the next one may.
        if !self.taken && self.woken.try_recv().is_ok() {
            self.queue.woken.set(self.queue.woken.get() - 1);
            self.queue.wake_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::task::{LocalSet, spawn_local, yield_now};

    use super::*;
    use crate::upstream::watchdog::Watchdog;

    fn on_a_worker(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        LocalSet::new().block_on(&runtime.expect("a test runtime"), test);
    }

    fn waiter(queue: &Rc<Queue>, until: &Rc<Deadline>) -> tokio::task::JoinHandle<bool> {
        let (queue, until) = (queue.clone(), until.clone());
        spawn_local(async move { queue.wait(&until).await })
    }

    #[test]
    fn turns_are_had_in_order_and_nobody_comes_between() {
        on_a_worker(async {
            let (queue, watchdog) = (Queue::new(2), Watchdog::start());
            let until = Rc::new(watchdog.deadline(Duration::from_secs(9)));
            let (first, second) = (waiter(&queue, &until), waiter(&queue, &until));
            yield_now().await;
            assert!(!queue.wait(&until).await, "the queue is full");
            queue.wake_one();
            assert!(!queue.is_empty(), "the first has its turn");
            assert!(first.await.is_ok_and(|had| had) && !second.is_finished());
            queue.wake_one();
            assert!(second.await.is_ok_and(|had| had) && queue.is_empty());
        });
    }

    #[test]
    fn one_that_went_away_passes_its_turn_on_and_takes_no_place() {
        on_a_worker(async {
            let (queue, watchdog) = (Queue::new(2), Watchdog::start());
            let until = Rc::new(watchdog.deadline(Duration::from_secs(9)));
            let (gone, woken) = (waiter(&queue, &until), waiter(&queue, &until));
            yield_now().await;
            gone.abort();
            yield_now().await;
            let last = waiter(&queue, &until);
            yield_now().await;
            assert!(!last.is_finished(), "there is a place again");
            queue.wake_one();
            woken.abort();
            assert!(last.await.is_ok_and(|had| had));
            assert!(queue.is_empty());
        });
    }

    #[test]
    fn nobody_waits_longer_than_allowed() {
        on_a_worker(async {
            let (queue, watchdog) = (Queue::new(2), Watchdog::start());
            assert!(!queue.wait(&watchdog.deadline(Duration::from_millis(100))).await);
        });
    }
}
