//! One request before the limits of one position: which of them count it, under what keys, and what each says.
//!
//! # Why
//! It goes with the request from the question to Redis to what its client is told, and is then used for another: what a request
//! is counted by is spelt once, and allocated almost never.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::counter::{Counter, Role, Spelt};
use crate::clock;
use crate::exchange::Exchange;
use crate::rate_limit::Precision;
use crate::rate_limit::algorithm::{Asked, Decision};
use crate::rate_limit::lease::{Held, Leases};
use crate::rate_limit::refusals::{Recalled, Refusals};
use crate::rate_limit::store::Charge;
use crate::rate_limit::terms::Terms;

/// A request, and the counters that count it.
pub(in crate::rate_limit) struct Docket {
    /// The keys, one after the other.
    text: String,
    /// The counters that count the request: first those of which the store is asked.
    pub(in crate::rate_limit) entries: Vec<Entry>,
    /// Of how many the store is asked.
    asked: usize,
    /// By what it is judged: of all counters.
    pub(in crate::rate_limit) terms: Rc<[Terms]>,
    /// The counter whose key the request lacks, and that refuses it therefore.
    pub(super) missing: Option<usize>,
    /// What the leases were asked, and when; until it is known how that ended.
    ahead: Option<Ahead>,
    /// Before the store was asked, where its refusals are remembered.
    asked_at: Option<Instant>,
    /// A counter that binds is known to refuse, without the store.
    refused: bool,
}

/// Units of hot keys that were taken ahead, and this request's share in them.
struct Ahead {
    leases: Arc<Leases>,
    /// Before the store was asked.
    at: Instant,
}

/// One counter of a request.
#[derive(Clone, Copy, Debug)]
pub(in crate::rate_limit) struct Entry {
    /// Which, by its place among all.
    pub(in crate::rate_limit) counter: usize,
    /// Where its key is.
    start: usize,
    end: usize,
    source: Source,
    /// What it says, once it has been asked.
    pub(in crate::rate_limit) said: Said,
}

/// Who says what becomes of a request under a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// The store, which is asked for so many units besides. What is leased is known to the leases.
    Store { leased: bool, lease: u64 },
    /// What was taken ahead, or a refusal that the leases know of; units that were spent of it.
    Lease { units: u64 },
    /// A refusal that is remembered.
    Refusal,
}

/// What a counter says to one request; units and µs as in [`Decision`].
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::rate_limit) struct Said {
    pub(in crate::rate_limit) allowed: bool,
    pub(in crate::rate_limit) remaining: u64,
    /// Units of these that nobody else can take: what the client is told.
    pub(in crate::rate_limit) certain: u64,
    pub(in crate::rate_limit) retry_after: u64,
    pub(in crate::rate_limit) reset_after: u64,
    pub(in crate::rate_limit) delay: u64,
    /// Since when what it was charged is given back, if at once ([`Policy::since`](crate::rate_limit::algorithm::Policy::since)).
    pub(in crate::rate_limit) since: u64,
}

impl Entry {
    /// Whether it says what it says without the store.
    pub(in crate::rate_limit) fn is_known(&self) -> bool {
        self.word().is_some()
    }

    /// The access log's word for where it is known from, if it is.
    pub(in crate::rate_limit) fn word(&self) -> Option<&'static str> {
        match self.source {
            Source::Store { .. } => None,
            Source::Lease { .. } => Some("leased"),
            Source::Refusal => Some("remembered"),
        }
    }
}

impl Docket {
    /// One without a request.
    pub(super) fn new(terms: Rc<[Terms]>) -> Self {
        let (text, entries) = (String::new(), Vec::new());
        Self { text, entries, asked: 0, terms, missing: None, ahead: None, asked_at: None, refused: false }
    }

    /// For a request that is judged by `terms`.
    pub(super) fn open(&mut self, exchange: &Exchange, counters: &[Counter], terms: Rc<[Terms]>) {
        self.text.clear();
        self.entries.clear();
        self.asked = 0;
        self.terms = terms;
        self.missing = None;
        self.asked_at = None;
        self.refused = false;
        for (index, counter) in counters.iter().enumerate() {
            let start = self.text.len();
            if !self.spell(exchange, counters, index) {
                self.text.truncate(start);
            }
            if self.missing.is_some() {
                return self.entries.clear();
            }
            let end = self.text.len();
            if end > start {
                debug_assert!(self.text[start..].starts_with(&counter.name));
                let source = Source::Store { leased: false, lease: 0 };
                self.entries.push(Entry { counter: index, start, end, source, said: Said::default() });
            }
        }
        self.asked = self.entries.len();
    }

    /// Spends what was taken ahead of `leases`, so that the store is not asked for it. Where that is a refusal, it is asked
    /// only for what is charged all the same. `alone`: no other instance takes of what the store has.
    pub(super) fn spend(&mut self, counters: &[Counter], leases: &Arc<Leases>, alone: bool) {
        let at = clock::instant();
        let mut refused = false;
        for index in 0..self.entries.len() {
            let entry = self.entries[index];
            let counter = &counters[entry.counter];
            if counter.limit.precision != Precision::Leased {
                continue;
            }
            let (policy, units) = (&self.terms[entry.counter].policy, counter.asked.take);
            let (source, said) = match leases.spend(self.key(&entry), policy, units, at) {
                Held::Ask { lease } => (Source::Store { leased: true, lease }, Said::default()),
                Held::Spent { held, remaining, reset_after } => {
                    let certain = if alone { remaining } else { held };
                    let said = Said { allowed: true, remaining, certain, reset_after, ..Said::default() };
                    (Source::Lease { units }, said)
                }
                Held::Refused { retry_after, reset_after } => {
                    refused |= counter.role == Role::Binding;
                    (Source::Lease { units: 0 }, Said { retry_after, reset_after, ..Said::default() })
                }
            };
            self.entries[index] = Entry { source, said, ..entry };
        }
        self.ahead = Some(Ahead { leases: leases.clone(), at });
        self.part(counters, refused);
    }

    /// Recalls what the store is known to refuse, so that it is not asked again. Where there is such a refusal, it is asked
    /// only for what is charged all the same.
    pub(super) fn recall(&mut self, counters: &[Counter], refusals: &Refusals) {
        let now = clock::instant();
        self.asked_at = Some(now);
        let mut refused = false;
        for index in 0..self.entries.len() {
            let entry = self.entries[index];
            if entry.is_known() || !counters[entry.counter].is_remembered() {
                continue;
            }
            let policy = &self.terms[entry.counter].policy;
            if let Some(recalled) = refusals.recall(self.key(&entry), policy, now) {
                refused = true;
                let Recalled { remaining, retry_after, reset_after } = recalled;
                let said = Said { remaining, certain: remaining, retry_after, reset_after, ..Said::default() };
                self.entries[index] = Entry { source: Source::Refusal, said, ..entry };
            }
        }
        if refused {
            self.part(counters, true);
        }
    }

    /// Remembers what the store refuses, in the order of [`Self::asked`].
    pub(super) fn remember(&self, decisions: &[Decision], counters: &[Counter], refusals: &Refusals) {
        let Some(asked) = self.asked_at else { return };
        for (entry, decision) in self.asked().iter().zip(decisions).filter(|(_, decision)| !decision.allowed) {
            if counters[entry.counter].is_remembered() {
                let policy = &self.terms[entry.counter].policy;
                refusals.keep(self.key(entry), policy, (asked, clock::instant()), decision);
            }
        }
    }

    /// Puts those of which the store is asked first; if the request is `refused` already, only what is charged all the same
    /// is left of them.
    fn part(&mut self, counters: &[Counter], refused: bool) {
        if refused {
            self.refused = true;
            self.ask_only(|entry| counters[entry.counter].limit.charge_refused);
        }
        self.entries.sort_by_key(Entry::is_known);
        self.asked = self.entries.iter().filter(|entry| !entry.is_known()).count();
    }

    /// Whether the request is refused, whatever the store says.
    pub(super) fn is_refused(&self) -> bool {
        self.refused || self.missing.is_some()
    }

    /// Lets go of the entries of which the store would be asked, but for these.
    fn ask_only(&mut self, these: impl Fn(&Entry) -> bool) {
        let mut entries = std::mem::take(&mut self.entries);
        entries.retain(|entry| {
            let keep = entry.is_known() || these(entry);
            if let (false, Source::Store { leased: true, .. }, Some(ahead)) = (keep, entry.source, &self.ahead) {
                ahead.leases.unasked(self.key(entry), ahead.at);
            }
            keep
        });
        self.entries = entries;
    }

    /// Whether the store is asked at all.
    pub(super) fn asks(&self) -> bool {
        self.asked > 0
    }

    /// The entries of which the store is asked.
    pub(in crate::rate_limit) fn asked(&self) -> &[Entry] {
        &self.entries[..self.asked]
    }

    /// Appends the key of a counter; says whether it counts the request.
    fn spell(&mut self, exchange: &Exchange, counters: &[Counter], index: usize) -> bool {
        let counter = &counters[index];
        if counter.role == Role::Trial {
            let Some(own) = self.entries.last().filter(|own| own.counter + 1 == index) else { return false };
            let key = own.start + counters[own.counter].name.len()..own.end;
            self.text.push_str(&counter.name);
            self.text.extend_from_within(key);
            return true;
        }
        let spelt = counter.push_key(exchange, &mut self.text);
        if spelt == Spelt::Nameless {
            self.missing = Some(index);
        }
        spelt == Spelt::Counted
    }

    /// `NAME:KEY` of an entry.
    pub(in crate::rate_limit) fn key(&self, entry: &Entry) -> &str {
        &self.text[entry.start..entry.end]
    }

    /// What the store is asked, in the order of [`Self::asked`].
    pub(super) fn charges<'a>(
        &'a self,
        counters: &'a [Counter],
    ) -> impl ExactSizeIterator<Item = Charge<'a>> + Clone + 'a {
        self.asked().iter().map(|entry| {
            let counter = &counters[entry.counter];
            let lease = if let Source::Store { lease, .. } = entry.source { lease } else { 0 };
            Charge {
                key: self.key(entry),
                policy: &self.terms[entry.counter].policy,
                asked: Asked { lease, ..counter.asked },
                binding: counter.role == Role::Binding,
                even_if_refused: counter.limit.charge_refused,
            }
        })
    }

    /// Does something with all of them; most requests have one, which needs no room of its own.
    pub(super) fn with_charges<T>(&self, counters: &[Counter], act: impl FnOnce(&[Charge<'_>]) -> T) -> T {
        let mut charges = self.charges(counters);
        match (charges.len(), charges.next()) {
            (1, Some(charge)) => act(std::slice::from_ref(&charge)),
            _ => act(&self.charges(counters).collect::<Vec<_>>()),
        }
    }

    /// Keeps what the store says, in the order of [`Self::asked`].
    pub(super) fn hear(&mut self, decisions: &[Decision], now: u64, counters: &[Counter]) {
        let delays = decisions.iter().any(|decision| decision.delay > 0);
        for (index, decision) in decisions.iter().enumerate().take(self.asked) {
            let &Decision { allowed, remaining, retry_after, reset_after, delay, .. } = decision;
            let counter = self.entries[index].counter;
            let since = match delays {
                true => self.terms[counter].policy.since(&decision.state, now, counters[counter].asked.take),
                false => now,
            };
            self.entries[index].said =
                Said { allowed, remaining, certain: remaining, retry_after, reset_after, delay, since };
        }
    }

    /// Has the leases hear it, too: the store that said it gives them.
    pub(super) fn lend(&self, decisions: &[Decision]) {
        let Some(Ahead { leases, at }) = &self.ahead else { return };
        for (entry, decision) in self.asked().iter().zip(decisions) {
            if let Source::Store { leased: true, .. } = entry.source {
                leases.answered(self.key(entry), &self.terms[entry.counter].policy, *at, decision);
            }
        }
    }

    /// Lets go of the entries of which the store would be asked.
    pub(in crate::rate_limit) fn ask_nothing(&mut self) {
        self.ask_only(|_| false);
        self.asked = 0;
    }

    /// Puts back what was spent of leases in vain.
    pub(in crate::rate_limit) fn put_back(&mut self) {
        let Some(Ahead { leases, at }) = self.ahead.take() else { return };
        for entry in &self.entries {
            if let Source::Lease { units: units @ 1.. } = entry.source {
                leases.put_back(self.key(entry), units, at);
            }
        }
    }

    /// What was spent of leases is spent.
    pub(in crate::rate_limit) fn settled(&mut self) {
        self.ahead = None;
    }

    /// The store could not be asked.
    pub(in crate::rate_limit) fn unanswered(&self) {
        let Some(Ahead { leases, .. }) = &self.ahead else { return };
        for entry in self.asked().iter().filter(|entry| matches!(entry.source, Source::Store { leased: true, .. })) {
            leases.unanswered(self.key(entry));
        }
    }
}

/// A request that is never judged: its client has left. A lease that it asked for counts as asked for until it would end:
/// clients that leave at once must not have one taken each time.
impl Drop for Docket {
    fn drop(&mut self) {
        self.put_back();
    }
}
