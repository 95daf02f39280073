//! Units that were taken ahead and are not spent. Pure.
//!
//! 1. What was taken together is a lot: it may be spent before an instant that was reckoned from before the store was asked.
//! 2. The lot that ends first is spent first. It is kept, empty or not, until it ends.
//! 3. What was spent in vain is put back to the lot that ends first: to the one it came from, or to one that ends earlier.
//!    If the one it came from may be gone, so is it.
//! 4. There are few lots. What does not have one of its own joins the one before it, and ends with that.
//!
//! # Why
//! That what is spent within a lease's life of its taking stays within the quota is shown for the taking
//! (`algorithm::gcra`, rule 7). So no unit may ever outlive the lot it was taken in.

use std::collections::VecDeque;
use std::time::Instant;

/// Lots of one key, at most.
const MOST: usize = 4;

/// Units that were taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lot {
    /// How many are left.
    pub(super) units: u64,
    /// Before the store was asked for them.
    pub(super) taken: Instant,
    /// They may be spent before this.
    pub(super) until: Instant,
    /// When they were taken by the clock of the store (µs since the Unix epoch).
    pub(super) since: u64,
}

/// The lots of one key, in the order in which they end.
#[derive(Debug, Default)]
pub(super) struct Lots {
    lots: VecDeque<Lot>,
    held: u64,
    /// The end of the last lot that is gone.
    gone: Option<Instant>,
    /// What was left of those that are gone.
    left: Option<Lot>,
}

impl Lot {
    /// It, and with it `other`, as if they had been taken together when the first of them was.
    fn with(self, other: Self) -> Self {
        Self {
            units: self.units + other.units,
            taken: self.taken.min(other.taken),
            until: self.until.min(other.until),
            since: self.since.min(other.since),
        }
    }
}

impl Lots {
    /// None. What was spent before `now` was spent of lots that this knows nothing of.
    pub(super) fn new(now: Instant) -> Self {
        Self { gone: Some(now), ..Self::default() }
    }

    /// Units in all of them.
    pub(super) fn held(&self) -> u64 {
        self.held
    }

    /// Keeps `lot`.
    pub(super) fn keep(&mut self, lot: Lot) {
        self.held += lot.units;
        let at = self.lots.partition_point(|other| other.until <= lot.until);
        if self.lots.len() < MOST {
            return self.lots.insert(at, lot);
        }
        let before = &mut self.lots[at.saturating_sub(1)];
        *before = before.with(lot);
    }

    /// Spends `units`, of which there are as many.
    pub(super) fn spend(&mut self, units: u64) {
        self.held -= units;
        let mut owed = units;
        for lot in &mut self.lots {
            let spent = lot.units.min(owed);
            lot.units -= spent;
            owed -= spent;
            if owed == 0 {
                return;
            }
        }
    }

    /// Takes `units` back that were spent at `spent`; false if the lot that they came from may be gone.
    pub(super) fn put_back(&mut self, units: u64, spent: Instant) -> bool {
        if self.gone.is_some_and(|gone| gone > spent) {
            return false;
        }
        let Some(first) = self.lots.front_mut() else { return false };
        first.units += units;
        self.held += units;
        true
    }

    /// Lets go of those that have ended at `now`.
    pub(super) fn end(&mut self, now: Instant) {
        while self.lots.front().is_some_and(|first| first.until <= now) {
            self.let_go();
        }
    }

    /// Lets go of all of them.
    pub(super) fn end_all(&mut self) {
        while !self.lots.is_empty() {
            self.let_go();
        }
    }

    /// What was left of those that are gone; once.
    pub(super) fn left(&mut self) -> Option<Lot> {
        self.left.take()
    }

    fn let_go(&mut self) {
        let Some(lot) = self.lots.pop_front() else { return };
        self.held -= lot.units;
        self.gone = self.gone.max(Some(lot.until));
        if lot.units > 0 {
            self.left = Some(self.left.map_or(lot, |left| left.with(lot)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock;

    fn lot(start: Instant, units: u64, millis: u64) -> Lot {
        let until = start + Duration::from_millis(millis);
        Lot { units, taken: start, until, since: millis }
    }

    #[test]
    fn the_lot_that_ends_first_is_spent_first_and_gets_back_what_was_spent_in_vain() {
        let start = clock::instant();
        let at = |millis| start + Duration::from_millis(millis);
        let mut lots = Lots::default();
        lots.keep(lot(start, 5, 20));
        lots.keep(lot(start, 3, 10));
        lots.spend(4);
        assert!(lots.put_back(2, start));
        lots.end(at(10));
        assert_eq!((lots.left(), lots.left(), lots.held()), (Some(lot(start, 2, 10)), None, 4));
        assert!(!lots.put_back(1, at(9)), "it may have come from the one that is gone");
        assert!(lots.put_back(1, at(10)));
        lots.end(at(19));
        assert_eq!(lots.held(), 5);
        lots.end_all();
        assert_eq!(lots.left(), Some(lot(start, 5, 20)));
        assert!(!lots.put_back(1, at(20)) && lots.held() == 0);
    }

    #[test]
    fn no_unit_outlives_its_lot_however_many_there_are() {
        let start = clock::instant();
        for order in [[1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1], [3, 6, 1, 5, 2, 4]] {
            let mut lots = Lots::default();
            order.iter().for_each(|&millis| lots.keep(lot(start, 1, millis)));
            assert_eq!((lots.held(), lots.lots.len()), (6, MOST));
            for millis in 1..=6 {
                lots.end(start + Duration::from_millis(millis));
                assert!(lots.held() <= 6 - millis, "{} at {millis} of {order:?}", lots.held());
            }
            assert_eq!(lots.left().map(|left| (left.units, left.since)), Some((6, 1)));
        }
    }
}
