//! What a process knows of one key of a limit that is leased. Pure.
//!
//! 1. What is held is spent. With nothing held the store is asked, unless it is known to refuse.
//! 2. A key that was asked for less than [`FEW`] units in the last lease's life is exact: the store is asked for each.
//!    Otherwise for a lease besides: 64 units, or an eighth of what was asked for in that time if that is more, but not more
//!    than half of it, and not more than a third of what is likely to be left.
//! 3. One request at a time asks for a lease; the others ask for their own units. When a quarter of what was held is left,
//!    one request asks for the next lease while the others still spend.
//! 4. A refusal is remembered until more units are there than it found left, and for a second at most.
//! 5. After a refusal of a hot key there are waits between the questions ([`Pace`]), and one question at a time.
//!
//! # Why
//! Of rule 2: fewer units would ask the store more often than once in 50 requests, and more would be lost where requests move
//! on to another instance. Half of what is asked for in a lease's life is spent before it ends. A third is less than the
//! store would give (it wants room for twice as much), since others take as well. Each lease is smaller then than the one
//! before, and the last units go one by one: none is kept by one who does not need it.
//!
//! Of rule 4: a request that costs more does not speak for one that costs less. And what an operator resets is felt
//! everywhere within that second.

use std::time::{Duration, Instant};

use super::Held;
use super::demand::Demand;
use super::lots::{Lot, Lots};
use super::pace::{GOOD, Pace};
use crate::rate_limit::algorithm::{Asked, Decision, Policy, State};

/// A key that is asked for less in a lease's life is not hot.
const FEW: u64 = 4;
/// What is likely to be left is divided by this.
const SHARE: u64 = 3;
/// A refusal is remembered no longer.
const LONGEST_REFUSAL: Duration = Duration::from_secs(1);

/// What a process knows of one key.
#[derive(Debug)]
pub(super) struct Account {
    policy: Policy,
    life: Duration,
    lots: Lots,
    /// Units held when the last lease came.
    full: u64,
    demand: Demand,
    said: Option<Said>,
    refusal: Option<Refusal>,
    pace: Option<Pace>,
    /// Since when the store is being asked for a lease, and whether for all that the demand is.
    asking: Option<(Instant, bool)>,
    spent_at: Instant,
    tally: Tally,
}

/// What the store said last.
#[derive(Clone, Copy, Debug)]
struct Said {
    /// Before it was asked.
    asked: Instant,
    remaining: u64,
    /// Units that others took between the last two answers.
    others: u64,
    reset_after: Duration,
    /// When the last lease that it has given ends, whoever has it; in the past: none is active.
    leased_until: Instant,
}

/// The store has refused.
#[derive(Clone, Copy, Debug)]
struct Refusal {
    /// As many were left.
    left: u64,
    /// No longer than this it is believed without asking.
    until: Instant,
    /// What it was judged by: the state, when by the store's clock (µs since the Unix epoch), and before the store was asked.
    state: State,
    then: u64,
    asked: Instant,
}

/// Units, since they were told last.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    taken: u64,
    spent: u64,
    /// Spent in vain, and held again.
    put_back: u64,
}

impl Account {
    /// Of a key that is judged by `policy`.
    pub(super) fn new(policy: &Policy, now: Instant) -> Self {
        Self {
            policy: policy.clone(),
            life: Duration::from_micros(policy.lease_life()),
            lots: Lots::new(now),
            full: 0,
            demand: Demand::new(now),
            said: None,
            refusal: None,
            pace: None,
            asking: None,
            spent_at: now,
            tally: Tally::default(),
        }
    }

    /// By what it is judged.
    pub(super) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Spends `units` of what is held, or says what to do instead.
    pub(super) fn spend(&mut self, units: u64, now: Instant) -> Held {
        self.demand.note(units, now, self.life);
        self.lots.end(now);
        let held = self.lots.held();
        if held >= units {
            if (held - units) * 4 <= self.full
                && let Some(lease) = self.refill(units, now)
            {
                return Held::Ask { lease };
            }
            self.lots.spend(units);
            self.spent_at = now;
            self.tally.spent += units;
            let (held, remaining) = (self.lots.held(), self.remaining());
            return Held::Spent { held, remaining, reset_after: self.reset_after(now) };
        }
        if self.pace.is_some() && self.is_full_again(now) {
            self.pace = None;
        }
        if let Some(retry_after) = self.refused(units, now) {
            return Held::Refused { retry_after, reset_after: self.reset_after(now) };
        }
        if self.is_asking(now) {
            return Held::Ask { lease: 0 };
        }
        let demand = self.demand.in_a_life(now, self.life);
        let lease = self.lease(demand, units, now);
        if demand < FEW {
            self.pace = None;
        }
        if lease > 0 || self.pace.is_some() {
            self.asking = Some((now, lease == wanted(demand)));
        }
        Held::Ask { lease }
    }

    /// The lease that is asked for while there are units left, if one is.
    fn refill(&mut self, units: u64, now: Instant) -> Option<u64> {
        if self.pace.is_some() || self.is_asking(now) {
            return None;
        }
        let demand = self.demand.in_a_life(now, self.life);
        let lease = self.lease(demand, units, now);
        if lease == 0 {
            return None;
        }
        self.asking = Some((now, lease == wanted(demand)));
        Some(lease)
    }

    /// µs until a request of `units` would be let in, if it is refused without asking.
    fn refused(&self, units: u64, now: Instant) -> Option<u64> {
        let wait = |refusal: Refusal| {
            let then = refusal.then.saturating_add(micros(now.saturating_duration_since(refusal.asked)));
            self.policy.decide(Some(&refusal.state), then, Asked::units(units)).retry_after
        };
        let known = self.refusal.filter(|refusal| units > refusal.left && refusal.until > now);
        if let Some(refusal) = known {
            return Some(wait(refusal));
        }
        let pace = self.pace?;
        let paced = match self.is_asking(now) {
            true => pace.next.saturating_duration_since(now).max(self.life / 16),
            false if pace.next > now => pace.next - now,
            false => return None,
        };
        Some(micros(paced).max(self.refusal.map_or(0, wait)))
    }

    /// How many units to ask for besides `units`.
    fn lease(&self, demand: u64, units: u64, now: Instant) -> u64 {
        let Some(said) = self.said.filter(|_| demand >= FEW) else { return 0 };
        let elapsed = now.saturating_duration_since(said.asked);
        // Others take of what is earned.
        let earned = if self.is_full_again(now) { u64::MAX } else { self.earned(elapsed) / 2 };
        let likely = said.remaining.saturating_add(earned).min(self.policy.burst());
        let first = if said.leased_until > now { 0 } else { self.earned(self.life) };
        wanted(demand).min(likely.saturating_sub(units + first) / SHARE)
    }

    /// Whether all units are there again, for all that is known.
    fn is_full_again(&self, now: Instant) -> bool {
        self.said.is_some_and(|said| said.asked + said.reset_after <= now)
    }

    /// Units that are left where nothing is scarce.
    fn ample(&self, now: Instant) -> u64 {
        let reachable = self.policy.burst().saturating_sub(self.earned(self.life)) / 2;
        self.demand.in_a_life(now, self.life).max(GOOD * SHARE * 2).min(reachable)
    }

    /// Units that a token bucket earns in `time`.
    fn earned(&self, time: Duration) -> u64 {
        let Policy::Bucket(policy) = &self.policy else { return 0 };
        // Of many units, so that parts of a µs count.
        let span = policy.span(1024).micros.max(1);
        u64::try_from(time.as_micros() * 1024 / u128::from(span)).unwrap_or(u64::MAX)
    }

    fn is_asking(&self, now: Instant) -> bool {
        // An answer that does not come is not waited for for ever.
        self.asking.is_some_and(|(since, _)| now < since + self.life)
    }

    /// What may be spent still, as far as is known.
    fn remaining(&self) -> u64 {
        self.lots.held() + self.said.map_or(0, |said| said.remaining.saturating_sub(said.others))
    }

    fn reset_after(&self, now: Instant) -> u64 {
        self.said.map_or(0, |said| micros((said.asked + said.reset_after).saturating_duration_since(now)))
    }

    /// The store was asked at `asked` and has answered.
    pub(super) fn answered(&mut self, asked: Instant, decision: &Decision) {
        let answer = self.asking.take_if(|(since, _)| *since <= asked);
        let (now, leased_until) = moments(decision);
        let said = Said {
            asked,
            remaining: decision.remaining,
            others: self.taken_by_others(asked, decision),
            reset_after: Duration::from_micros(decision.reset_after),
            leased_until: asked + Duration::from_micros(leased_until.saturating_sub(now)),
        };
        self.said = Some(said);
        if !decision.allowed {
            return self.remember(asked, now, decision);
        }
        self.refusal.take_if(|refusal| decision.remaining > refusal.left);
        if decision.leased > 0 {
            self.keep(asked, now, decision);
        }
        if let Some((_, whole)) = answer {
            if whole && decision.leased > 0 && decision.remaining >= self.ample(asked) {
                self.pace = None;
            } else if let Some(pace) = &mut self.pace {
                pace.brought(decision.leased + 1, asked, self.life);
            }
        }
    }

    fn keep(&mut self, asked: Instant, now: u64, decision: &Decision) {
        let life = match decision.state {
            // Of a window, they are spent in it.
            State::Fixed(_) => self.life.min(Duration::from_micros(decision.reset_after)),
            _ => self.life,
        };
        self.lots.keep(Lot { units: decision.leased, taken: asked, until: asked + life, since: now });
        self.full = self.lots.held();
        self.spent_at = self.spent_at.max(asked);
        self.tally.taken += decision.leased;
    }

    fn remember(&mut self, asked: Instant, now: u64, decision: &Decision) {
        let next = Asked::units(decision.remaining + 1);
        let wait = Duration::from_micros(self.policy.decide(Some(&decision.state), now, next).retry_after);
        let until = asked + wait.min(LONGEST_REFUSAL);
        self.refusal = Some(Refusal { left: decision.remaining, until, state: decision.state, then: now, asked });
        match &mut self.pace {
            Some(pace) => pace.refused(asked, until),
            None if self.demand.in_a_life(asked, self.life) < FEW => {}
            pace => *pace = Some(Pace::new(self.life, asked, until)),
        }
    }

    /// How many units are gone that neither this answer nor the one before has given.
    fn taken_by_others(&self, asked: Instant, decision: &Decision) -> u64 {
        let Some(before) = self.said else { return 0 };
        let earned = self.earned(asked.saturating_duration_since(before.asked));
        let expected = (before.remaining + earned).min(self.policy.burst());
        expected.saturating_sub(decision.remaining + decision.leased + u64::from(decision.allowed))
    }

    /// Who was to ask at `asked` does not: the next may.
    pub(super) fn unasked(&mut self, asked: Instant) {
        self.asking.take_if(|(since, _)| *since == asked);
    }

    /// The store could not be asked: nothing is known of it any more but what is held.
    pub(super) fn unanswered(&mut self) {
        (self.asking, self.refusal, self.pace) = (None, None, None);
    }

    /// Takes back `units` that were spent in vain at `spent`.
    pub(super) fn put_back(&mut self, units: u64, spent: Instant) {
        if self.lots.put_back(units, spent) {
            self.tally.put_back += units;
        }
    }

    /// Lets go of what may be spent no longer, and of what nobody has asked for of late; says what was left of it.
    pub(super) fn sweep(&mut self, now: Instant) -> Option<Lot> {
        if now.saturating_duration_since(self.spent_at) >= self.life / 8 {
            self.lots.end_all();
        }
        self.lots.end(now);
        self.lots.left()
    }

    /// Lets go of everything; says what was left of it.
    pub(super) fn close(&mut self) -> Option<Lot> {
        self.lots.end_all();
        self.lots.left()
    }

    /// Units that were taken and spent since this was asked last. What is put back counts as if it had not been spent: if that
    /// was told before, of what is spent next.
    pub(super) fn used(&mut self) -> (u64, u64) {
        let told = self.tally;
        let spent = told.spent.saturating_sub(told.put_back);
        self.tally = Tally { taken: 0, spent: 0, put_back: told.put_back.saturating_sub(told.spent) };
        (told.taken, spent)
    }

    /// Whether it says nothing any more.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.lots.held() == 0
            && self.demand.in_a_life(now, self.life) == 0
            && self.refusal.is_none_or(|refusal| refusal.until <= now)
            && !self.is_asking(now)
    }

    /// Whether giving `lot` back at `now` gives anything.
    pub(super) fn is_worth_returning(&self, lot: &Lot, now: Instant) -> bool {
        let age = now.saturating_duration_since(lot.taken);
        match &self.policy {
            Policy::Bucket(policy) => u128::from(policy.span(lot.units).micros) > age.as_micros(),
            // Unless the end of its window was its end too.
            _ => lot.until > now || lot.until >= lot.taken + self.life,
        }
    }
}

/// The lease for a key that is asked for so many units in a lease's life.
fn wanted(demand: u64) -> u64 {
    (demand / 8).max(GOOD).min(demand / 2)
}

/// When the store answered, by its clock, and when the last lease that it knows of ends (µs since the Unix epoch).
fn moments(decision: &Decision) -> (u64, u64) {
    match decision.state {
        State::Bucket(state) => (state.arrival.after(0) - decision.reset_after, state.until),
        State::Fixed(state) => (state.end - decision.reset_after, 0),
        // Of these nothing is leased.
        State::Sliding(_) | State::Log(_) => (0, 0),
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
