//! Which endpoint a request goes to, and whether there is room (rules 1 and 3 of the pool).

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Lease, Local, Pool};
use crate::upstream::balance::{self, Balance};
use crate::upstream::endpoint::Endpoint;
use crate::upstream::tries::Tries;

/// Where a request goes.
pub enum Place {
    /// This connection is ready.
    Ready(Lease),
    /// There is room for this connection, which is to be opened.
    Room(Lease),
    /// Every endpoint that may be used has all its connections in use.
    Full,
    /// Every endpoint is left out.
    Out,
    /// No address is known.
    Nowhere,
}

impl Pool {
    /// Where a request goes that has been where `tries` says.
    pub(super) fn place(self: &Rc<Self>, tries: &Tries) -> Place {
        if self.generation.get() != self.roster.generation() {
            self.refresh();
        }
        let endpoints = self.endpoints.borrow();
        let left_out = |local: &&Rc<Local>| local.endpoint.share() == 0;
        let wants_probe =
            endpoints.iter().filter(left_out).find(|local| self.has_room(local) && local.endpoint.take_probe());
        if let Some(local) = wants_probe {
            let mut place = self.place_at(local.clone());
            if let Place::Ready(lease) | Place::Room(lease) = &mut place {
                lease.probing = true;
            }
            return place;
        }
        let chosen = self.choose(&endpoints, tries, false);
        match chosen.or_else(|| self.make_room(&endpoints).then(|| self.choose(&endpoints, tries, false))?) {
            Some(local) => self.place_at(local),
            None if endpoints.is_empty() => Place::Nowhere,
            None if endpoints.iter().all(|local| left_out(&local)) => Place::Out,
            None => Place::Full,
        }
    }

    fn place_at(self: &Rc<Self>, local: Rc<Local>) -> Place {
        match self.share(&local).or_else(|| self.idle(&local)) {
            Some(lease) => Place::Ready(lease),
            None => {
                self.grow(&local);
                Place::Room(self.lease_of(local, None))
            }
        }
    }

    /// An endpoint that is in use and has room; of those the best that rule 1 knows. `new`: none that was tried.
    pub(super) fn choose(&self, endpoints: &[Rc<Local>], tries: &Tries, new: bool) -> Option<Rc<Local>> {
        // What was tried elsewhere takes its room in the pool along.
        let room = |local: &Local| if new { local.may_open(self.most_each) } else { self.has_room(local) };
        let share = |at: usize| if room(&endpoints[at]) { endpoints[at].endpoint.share() } else { 0 };
        let untried = |at: usize| !tries.tried.iter().any(|tried| Rc::ptr_eq(tried, &endpoints[at]));
        if let [only] = endpoints {
            return Some(only.clone()).filter(|_| share(0) > 0 && (untried(0) || !new));
        }
        let now = self.watchdog.now();
        let best = |at: usize| if endpoints[at].shunned.get() <= now && untried(at) { share(at) } else { 0 };
        let at = self
            .balanced(endpoints, tries.key, best)
            .or_else(|| self.balanced(endpoints, tries.key, |at| if untried(at) { share(at) } else { 0 }))
            .or_else(|| if new { None } else { self.balanced(endpoints, tries.key, share) });
        at.map(|at| endpoints[at].clone())
    }

    fn balanced(&self, endpoints: &[Rc<Local>], key: Option<u64>, share: impl Fn(usize) -> u32) -> Option<usize> {
        let count = endpoints.len();
        match (&self.balance, key) {
            (Balance::Hash(_), Some(key)) => balance::rendezvous(key, count, share, |at| endpoints[at].endpoint.seed),
            (Balance::LeastRequests, _) => {
                let active = |at: usize| endpoints[at].endpoint.active.load(Ordering::Relaxed);
                balance::least_requests(count, share, active, |most| fastrand::u64(..most))
            }
            _ => balance::round_robin(count, share, |at| &endpoints[at].credit),
        }
    }

    fn has_room(&self, local: &Local) -> bool {
        let room = self.open.get() < self.most && local.may_open(self.most_each);
        (room && !local.is_awaited(self.watchdog.now())) || !local.idle.borrow().is_empty() || local.has_place()
    }

    /// How many requests would find a connection, or that there is none to wait for.
    pub(super) fn room(&self) -> usize {
        let endpoints = self.endpoints.borrow();
        let used = || endpoints.iter().filter(|local| local.endpoint.share() > 0);
        if used().next().is_none() {
            return 1;
        }
        let new: usize = used().map(|local| self.new_at(local)).sum();
        let spare = |local: &&Rc<Local>| local.endpoint.share() == 0;
        let spare: usize = endpoints.iter().filter(spare).map(|local| local.idle.borrow().len()).sum();
        let ready: usize = used().map(|local| local.idle.borrow().len() + local.places()).sum();
        ready.saturating_add(new.min(self.most.saturating_sub(self.open.get()) + spare))
    }

    /// How many connections to it may be opened at once.
    fn new_at(&self, local: &Local) -> usize {
        if local.is_awaited(self.watchdog.now()) {
            return 0;
        }
        let room = self.most_each.saturating_sub(local.open.get());
        if local.multiplexes.get() { room.min(1) } else { room }
    }

    /// At the upstream's bound: closes an idle connection to an endpoint that is left out. Whether there was one.
    fn make_room(&self, endpoints: &[Rc<Local>]) -> bool {
        let spare = |local: &&Rc<Local>| local.endpoint.share() == 0 && !local.idle.borrow().is_empty();
        let Some(local) = endpoints.iter().find(spare).filter(|_| self.open.get() >= self.most) else { return false };
        drop(local.idle.borrow_mut().remove(0));
        self.shrink(local);
        true
    }

    fn local_of(&self, endpoint: Arc<Endpoint>) -> Local {
        let multiplexes = endpoint.server.http2 || (endpoint.server.tls && self.http2.offer);
        Local::of(endpoint, multiplexes)
    }

    /// Takes over the roster's list; what is known here of endpoints that stay, stays.
    pub(super) fn refresh(&self) {
        self.generation.set(self.roster.generation());
        let mut before = std::mem::take(&mut *self.endpoints.borrow_mut());
        let after = self.roster.endpoints().into_iter().map(|shared| {
            let known = before.iter().position(|local| Arc::ptr_eq(&local.endpoint, &shared));
            known.map_or_else(|| Rc::new(self.local_of(shared)), |at| before.swap_remove(at))
        });
        *self.endpoints.borrow_mut() = after.collect();
        for gone in before {
            gone.gone.set(true);
            gone.shared.take();
            for _ in gone.idle.take() {
                self.shrink(&gone);
                self.queue.wake_one();
            }
        }
    }
}
