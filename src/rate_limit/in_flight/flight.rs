//! One request, and the places that it has.
//!
//! 1. A [`Claim`] stands for them: dropped, they are given back, whichever way the request has gone: answered, refused further
//!    in, abandoned in the middle of a layer, or lost in a panic.
//! 2. It goes with the answer's content, or with the tunnel that the request has become (RFC 9110 §7.8). Who goes on with the request
//!    when its client has left has a share in it.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{Response, StatusCode};
use tokio::time::Instant;

use super::Counted;
use super::register::Register;
use super::room::Wanted;
use crate::body::{Body, End, Watch};
use crate::exchange::{Connection, Exchange};
use crate::rate_limit::judge::Role;

/// A request that wants places, or has them.
pub(super) struct Flight {
    /// No other request of this process has it.
    pub(super) number: u64,
    pub(super) places: Vec<Place>,
    /// When Redis is to be told that it is still there.
    pub(super) due: Cell<Instant>,
    /// Redis may know of it.
    pub(super) is_told: Cell<bool>,
    /// Redis is being told just now.
    pub(super) is_renewed: Cell<bool>,
    pub(super) has_ended: Cell<bool>,
    /// Redis was asked and has not answered: it may still do what it was asked.
    pub(super) is_doubtful: Cell<bool>,
}

/// A place under one limit.
pub(super) struct Place {
    /// `NAME:KEY`.
    pub(super) key: Arc<str>,
    pub(super) limit: Rc<Counted>,
    /// It is taken; otherwise it is only wanted.
    pub(super) is_held: Cell<bool>,
}

/// Gives back, when dropped, what a request has.
pub(super) struct Claim {
    pub(super) flight: Rc<Flight>,
    register: Rc<Register>,
    stage: Cell<Stage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It has nothing.
    Nothing,
    /// It has asked Redis, and does not know what it has.
    Asking,
    /// It has places.
    Holding,
}

impl Flight {
    /// How long its places last of which nobody says that they are still taken: the shortest.
    pub(super) fn renewal(&self) -> Duration {
        self.places.iter().map(|place| place.limit.life).min().unwrap_or_default() / 3
    }

    /// How long any of them lasts.
    pub(super) fn longest(&self) -> Duration {
        self.places.iter().map(|place| place.limit.life).max().unwrap_or_default()
    }

    /// The keys of places that are taken, and how long they last.
    pub(super) fn held(&self) -> impl Iterator<Item = (&str, Duration)> {
        let held = self.places.iter().filter(|place| place.is_held.get());
        held.map(|place| (&*place.key, place.limit.life))
    }

    /// The keys of all places that it may have in Redis.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.places.iter().map(|place| &*place.key)
    }

    /// What it wants where each limit gives `share` of its most.
    pub(super) fn wanted(&self, share: impl Fn(u64) -> u64) -> Vec<Wanted<'_>> {
        let wanted = self.places.iter().map(|place| {
            let Counted { most, life, counter, .. } = &*place.limit;
            Wanted { key: &place.key, most: share(*most), life: *life, refuses: counter.role == Role::Binding }
        });
        wanted.collect()
    }
}

impl Claim {
    /// Of a request that wants `places`, and has none yet.
    pub(super) fn new(register: &Rc<Register>, places: Vec<Place>) -> Self {
        let flight = Rc::new(Flight {
            number: register.counts().number(),
            places,
            due: Cell::new(Instant::now()),
            is_told: Cell::new(false),
            is_renewed: Cell::new(false),
            has_ended: Cell::new(false),
            is_doubtful: Cell::new(false),
        });
        Self { flight, register: register.clone(), stage: Cell::new(Stage::Nothing) }
    }

    /// It is about to ask Redis.
    pub(super) fn asks(&self) {
        self.stage.set(Stage::Asking);
    }

    /// Redis has not answered; whether it was asked, and may still do it.
    pub(super) fn is_unanswered(&self) -> bool {
        let asked = self.stage.get() == Stage::Asking;
        self.flight.is_doubtful.set(asked);
        asked
    }

    /// Redis has said that it has nothing.
    fn has_nothing(&self) {
        self.stage.set(Stage::Nothing);
    }

    /// Redis has refused it. Where limits are settled `apart`, some may have let it in.
    pub(super) fn is_refused(&self, apart: bool) {
        if apart {
            self.register.let_go(&self.flight);
        }
        self.has_nothing();
    }

    /// Takes its places in this process, if there is room, or has them given. `is_told`: Redis may know of it. How many were there
    /// before under each limit.
    pub(super) fn settle(&self, wanted: &[Wanted<'_>], is_told: bool) -> Vec<u64> {
        let before = self.register.counts().settle(wanted);
        let found = || wanted.iter().copied().zip(before.iter().copied());
        if super::room::passes(found()) {
            for (place, (wanted, before)) in self.flight.places.iter().zip(found()) {
                if wanted.has_room(before) {
                    place.is_held.set(true);
                    place.limit.in_flight.inc();
                }
            }
            self.stage.set(Stage::Holding);
            self.register.begin(&self.flight, is_told);
        }
        before
    }

    /// The same, for others to have a share in it.
    pub(super) fn shown_to(self, exchange: &mut Exchange) -> Rc<Self> {
        let claim = Rc::new(self);
        let shown = Rc::downgrade(&claim);
        exchange.answers.show_claim(shown);
        claim
    }

    /// Lets it last as long as the answer does.
    pub(super) fn until_the_end_of(self: Rc<Self>, response: &mut Response<Body>, connection: &Connection) {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS
            && let Some(tunnel) = &mut *connection.tunnel.borrow_mut()
        {
            let ended = std::mem::replace(&mut tunnel.ended, Box::new(|_, _| {}));
            tunnel.ended = Box::new(move |to_app, to_client| {
                ended(to_app, to_client);
                drop(self);
            });
            return;
        }
        let body = std::mem::take(response.body_mut());
        *response.body_mut() = body.watched(Until(self));
    }
}

/// Has a claim until an answer ends.
struct Until(#[expect(dead_code, reason = "dropped, it ends")] Rc<Claim>);

impl Watch for Until {
    /// It is dropped then, which is all.
    fn end(&mut self, _: End) {}
}

impl Drop for Claim {
    fn drop(&mut self) {
        match self.stage.get() {
            Stage::Nothing => {}
            Stage::Asking => self.register.give_up(&self.flight),
            Stage::Holding => {
                for place in self.flight.places.iter().filter(|place| place.is_held.get()) {
                    self.register.counts().give_back(&place.key);
                    place.limit.in_flight.dec();
                }
                self.register.end(&self.flight);
            }
        }
    }
}
