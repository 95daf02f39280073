//! One fetch under way: who drives, who waits, and how they are told.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;

use super::content::Content;
use super::pilot::Pilot;
use super::reader::Reader;
use super::{Asking, Crowd, FlightKey, Flights};
use crate::clock;

/// One fetch under way.
pub(super) struct Flight<H> {
    key: FlightKey,
    flights: Arc<Flights<H>>,
    stage: Mutex<Stage<H>>,
}

/// How far it is.
pub(super) enum Stage<H> {
    /// The app is asked.
    Asked {
        /// By the order in which they came.
        waiters: BTreeMap<u64, Waiting<H>>,
        next: u64,
    },
    /// The head of the answer is there, and some of its content.
    Open { head: H, content: Box<Content> },
    /// There is nothing to wait for.
    Over,
}

/// One who waits.
pub(super) struct Waiting<H> {
    tell: oneshot::Sender<Told<H>>,
    may_drive: bool,
}

/// What a waiter is told.
#[derive(Debug)]
pub enum Told<H> {
    /// It asks the app now, for all.
    Drive(Driver<H>),
    /// The answer, whole.
    Whole(H),
    /// The head of the answer; the content is read from the flight.
    Stream(H, Reader<H>),
    /// It asks the app for itself.
    Leave(Leave),
}

/// Why waiters go their own way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// The answer is for nobody else.
    Unshareable,
    /// The app gave no answer.
    Failed,
    /// The app was silent for too long.
    Silent {
        /// What was waited for, as an RFC 9209 §2.3 type.
        which: &'static str,
        /// How long.
        after: Duration,
    },
    /// The answer is in the store.
    Stored,
    /// The driver is gone, and none of those who wait may drive.
    Deserted,
}

/// What becomes of one who finds a flight.
pub(super) enum Boarding<H> {
    Waits(Waiter<H>),
    Streams(H, Reader<H>),
    Refused(Crowd),
    Over,
}

impl<H> Flight<H> {
    /// A flight that begins.
    pub(super) fn new(flights: Arc<Flights<H>>, key: FlightKey) -> (Arc<Self>, Driver<H>) {
        let stage = Mutex::new(Stage::Asked { waiters: BTreeMap::new(), next: 0 });
        let flight = Arc::new(Self { key, flights, stage });
        (flight.clone(), Driver { flight: Some(flight) })
    }

    /// What it is known by.
    pub(super) fn key(&self) -> &FlightKey {
        &self.key
    }

    /// The flights it is one of.
    pub(super) fn flights(&self) -> &Arc<Flights<H>> {
        &self.flights
    }

    /// Its content, if its head is there; under the lock.
    pub(super) fn with_content<T>(&self, act: impl FnOnce(&mut Content) -> T) -> Option<T> {
        match &mut *self.stage() {
            Stage::Open { content, .. } => Some(act(content)),
            Stage::Asked { .. } | Stage::Over => None,
        }
    }

    fn stage(&self) -> MutexGuard<'_, Stage<H>> {
        self.stage.lock()
    }

    /// Joins it, if it can be joined.
    pub(super) fn board(this: &Arc<Self>, asking: Asking) -> Boarding<H>
    where
        H: Clone,
    {
        match &mut *this.stage() {
            Stage::Asked { waiters, .. } if waiters.len() >= asking.max_waiters => Boarding::Refused(Crowd::Full),
            Stage::Asked { waiters, next } => {
                let (tell, told) = oneshot::channel();
                let number = *next;
                *next += 1;
                waiters.insert(number, Waiting { tell, may_drive: asking.may_drive });
                Boarding::Waits(Waiter { told: Some(told), number, flight: this.clone() })
            }
            Stage::Open { content, .. } if content.is_cut() => Boarding::Over,
            // The driver's own client reads, too.
            Stage::Open { head, content } => match content.join(asking.max_waiters.saturating_add(1)) {
                Ok(reader) => Boarding::Streams(head.clone(), Reader::new(this.clone(), reader)),
                Err(crowd) => Boarding::Refused(crowd),
            },
            Stage::Over => Boarding::Over,
        }
    }

    /// Ends the wait; says who waits.
    fn close(&self) -> BTreeMap<u64, Waiting<H>> {
        match std::mem::replace(&mut *self.stage(), Stage::Over) {
            Stage::Asked { waiters, .. } => waiters,
            Stage::Open { .. } | Stage::Over => BTreeMap::new(),
        }
    }

    /// Who has waited longest of those that may drive; `None`: there is nobody, and nobody can join from here on.
    fn successor(&self) -> Result<Waiting<H>, BTreeMap<u64, Waiting<H>>> {
        let mut stage = self.stage();
        let Stage::Asked { waiters, .. } = &mut *stage else { return Err(BTreeMap::new()) };
        match waiters.iter().find(|(_, waiting)| waiting.may_drive).map(|(number, _)| *number) {
            Some(number) => waiters.remove(&number).ok_or_else(BTreeMap::new),
            None => {
                let left = std::mem::take(waiters);
                *stage = Stage::Over;
                Err(left)
            }
        }
    }
}

/// The role of the one who asks the app. Dropped, it hands over.
pub struct Driver<H> {
    /// `None`: the role is played out.
    flight: Option<Arc<Flight<H>>>,
}

impl<H: Clone> Driver<H> {
    /// The answer may be shared: from here on everybody can read it. `said` is the length of its content as the app says
    /// it. Gives who reads the content from the app, and the driver's own client's way to it.
    pub fn open(mut self, head: H, said: Option<u64>) -> Option<(Pilot<H>, Reader<H>)> {
        let flight = self.flight.take()?;
        let mut content = Box::new(Content::new(said));
        let own = content.join(usize::MAX).ok()?;
        let mut streams = Vec::new();
        {
            let mut stage = flight.stage();
            if let Stage::Asked { waiters, .. } = &mut *stage {
                for waiting in std::mem::take(waiters).into_values() {
                    let Ok(reader) = content.join(usize::MAX) else { continue };
                    streams.push((waiting.tell, Reader::new(flight.clone(), reader)));
                }
            }
            *stage = Stage::Open { head: head.clone(), content };
        }
        for (tell, reader) in streams {
            // Who is gone drops its reader, which leaves.
            drop(tell.send(Told::Stream(head.clone(), reader)));
        }
        Some((Pilot::new(flight.clone()), Reader::new(flight, own)))
    }

    /// The answer may be read by the driver's own client alone; the others wait until it is in the store (or they are sent
    /// away), and can still join. Otherwise as [`Driver::open`].
    pub fn open_for_one(self, head: H, said: Option<u64>) -> Option<(Pilot<H>, Reader<H>)> {
        let flight = self.flight.as_ref()?;
        // Nobody can find it: it is not among the flights.
        let (_, own) = Flight::new(flight.flights.clone(), flight.key);
        let (pilot, reader) = own.open(head, said)?;
        Some((pilot.awaited_by(self), reader))
    }

    /// Whether anybody waits.
    pub fn has_waiters(&self) -> bool {
        self.flight
            .as_ref()
            .is_some_and(|flight| matches!(&*flight.stage(), Stage::Asked { waiters, .. } if !waiters.is_empty()))
    }

    /// The answer is in the store. All who wait are given it, if it is here, whole; else they look it up.
    pub fn settle(mut self, answer: Option<H>) {
        let Some(flight) = self.flight.take() else { return };
        let waiters = flight.close();
        flight.flights.remove(&flight, Some(clock::instant()));
        for waiting in waiters.into_values() {
            drop(waiting.tell.send(match &answer {
                Some(answer) => Told::Whole(answer.clone()),
                None => Told::Leave(Leave::Stored),
            }));
        }
    }

    /// The answer is for the driver alone: all who wait go their own way.
    pub fn part(mut self, why: Leave) {
        if let Some(flight) = self.flight.take() {
            let waiters = flight.close();
            flight.flights.remove(&flight, None);
            send_away(waiters, why);
        }
    }

    /// What it is known by.
    pub fn key(&self) -> Option<FlightKey> {
        self.flight.as_ref().map(|flight| flight.key)
    }
}

fn send_away<H>(waiters: BTreeMap<u64, Waiting<H>>, why: Leave) {
    for waiting in waiters.into_values() {
        drop(waiting.tell.send(Told::Leave(why)));
    }
}

impl<H> Drop for Driver<H> {
    fn drop(&mut self) {
        while let Some(flight) = self.flight.take() {
            match flight.successor() {
                Ok(waiting) => match waiting.tell.send(Told::Drive(Driver { flight: Some(flight) })) {
                    // It is gone: the role has come back.
                    Err(Told::Drive(mut back)) => self.flight = back.flight.take(),
                    _ => return,
                },
                Err(left) => {
                    flight.flights.remove(&flight, None);
                    send_away(left, Leave::Deserted);
                }
            }
        }
    }
}

impl<H> fmt::Debug for Driver<H> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Driver")
    }
}

/// One who waits for the answer to another's request. Dropped, it waits no more.
pub struct Waiter<H> {
    told: Option<oneshot::Receiver<Told<H>>>,
    number: u64,
    flight: Arc<Flight<H>>,
}

impl<H> Waiter<H> {
    /// Waits until it is told.
    pub async fn told(mut self) -> Told<H> {
        match &mut self.told {
            Some(told) => told.await.unwrap_or(Told::Leave(Leave::Deserted)),
            None => Told::Leave(Leave::Deserted),
        }
    }
}

impl<H> Drop for Waiter<H> {
    fn drop(&mut self) {
        // What may hold a driver, which takes the lock when it is dropped, is dropped after this.
        let _waiting = match &mut *self.flight.stage() {
            Stage::Asked { waiters, .. } => waiters.remove(&self.number),
            Stage::Open { .. } | Stage::Over => None,
        };
    }
}

impl<H> fmt::Debug for Waiter<H> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Waiter({})", self.number)
    }
}
