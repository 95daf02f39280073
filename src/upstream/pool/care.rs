//! What is done for the connections when no request asks (rule 4 of the pool).

use std::rc::{Rc, Weak};
use std::time::Duration;

use super::{Local, Pool};
use crate::upstream::watchdog::TICK;

/// How often connections that are idle for too long are looked for.
const SWEEP: Duration = Duration::from_millis(500);

impl Pool {
    /// Closes connections that have been idle for too long.
    fn expire(&self) {
        let longest = (self.keep_alive.as_millis() / TICK.as_millis()) as u64;
        let now = self.watchdog.now();
        for local in &*self.endpoints.borrow() {
            local.shared.borrow_mut().retain(|shared| !shared.is_closed() && !shared.is_idle_for(longest));
            let mut idle = local.idle.borrow_mut();
            let before = idle.len();
            idle.retain_mut(|idle| !idle.sender.is_closed() && now.saturating_sub(idle.since) < longest);
            for _ in idle.len()..before {
                self.shrink(local);
                self.queue.wake_one();
            }
        }
    }

    /// Wakes those that wait for what has become free without being given back: an endpoint is new or used again.
    pub(super) fn wake_waiting(&self) {
        if self.queue.is_empty() {
            return;
        }
        if self.generation.get() != self.roster.generation() {
            self.refresh();
        }
        self.queue.wake_up_to(self.room());
    }

    /// Opens the connections that are to be there ahead, each to the endpoint that has fewest for its share.
    pub(super) async fn warm_up(self: &Rc<Self>) {
        if self.generation.get() != self.roster.generation() {
            self.refresh();
        }
        // Counted beforehand: an app that ends each connection at once is asked again next time, and not for ever.
        for _ in self.open.get()..self.warm.min(self.most) {
            let coldest = {
                let endpoints = self.endpoints.borrow();
                let roomy =
                    endpoints.iter().filter(|local| local.endpoint.share() > 0 && local.may_open(self.most_each));
                let warmth = |local: &&Rc<Local>| local.open.get() * 1_000_000 / local.endpoint.share().max(1) as usize;
                roomy.min_by_key(warmth).cloned()
            };
            let Some(local) = coldest else { return };
            self.grow(&local);
            let mut lease = self.lease_of(local, None);
            if self.open(&mut lease, None).await.is_err() {
                return lease.refused();
            }
            lease.give_back();
        }
    }
}

/// Closes what has been idle for too long, and wakes who waits in vain, as long as the pool is there.
pub async fn sweep(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(pool) = pool.upgrade() else { return };
        pool.expire();
        pool.wake_waiting();
    }
}

/// Opens ahead what is to be there ahead, as long as the pool is there.
pub async fn keep_warm(pool: Weak<Pool>) {
    loop {
        let Some(upgraded) = pool.upgrade() else { return };
        upgraded.warm_up().await;
        drop(upgraded);
        tokio::time::sleep(SWEEP).await;
    }
}
