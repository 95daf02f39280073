//! One request before the limits of one position: which of them count it, under what keys, and what each says.
//!
//! # Why
//! It goes with the request from the question to Redis to what its client is told, and is then used for another: what a request
//! is counted by is spelt once, and allocated almost never.

use std::rc::Rc;

use super::counter::{Counter, Role};
use crate::exchange::Exchange;
use crate::rate_limit::Missing;
use crate::rate_limit::algorithm::Decision;
use crate::rate_limit::store::Charge;
use crate::rate_limit::terms::Terms;

/// A request, and the counters that count it.
pub(in crate::rate_limit) struct Docket {
    /// The keys, one after the other.
    text: String,
    /// The counters that count the request, in their order.
    pub(in crate::rate_limit) entries: Vec<Entry>,
    /// By what it is judged: of all counters.
    pub(in crate::rate_limit) terms: Rc<[Terms]>,
    /// The counter whose key the request lacks, and that refuses it therefore.
    pub(super) missing: Option<usize>,
}

/// One counter of a request.
#[derive(Clone, Copy, Debug)]
pub(in crate::rate_limit) struct Entry {
    /// Which, by its place among all.
    pub(in crate::rate_limit) counter: usize,
    /// Where its key is.
    start: usize,
    end: usize,
    /// What it says, once it has been asked.
    pub(in crate::rate_limit) said: Said,
}

/// What a counter says to one request; units and µs as in [`Decision`].
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::rate_limit) struct Said {
    pub(in crate::rate_limit) allowed: bool,
    pub(in crate::rate_limit) remaining: u64,
    pub(in crate::rate_limit) retry_after: u64,
    pub(in crate::rate_limit) reset_after: u64,
    pub(in crate::rate_limit) delay: u64,
}

impl Docket {
    /// One without a request.
    pub(super) fn new(terms: Rc<[Terms]>) -> Self {
        Self { text: String::new(), entries: Vec::new(), terms, missing: None }
    }

    /// For a request that is judged by `terms`.
    pub(super) fn open(&mut self, exchange: &Exchange, counters: &[Counter], terms: Rc<[Terms]>) {
        self.text.clear();
        self.entries.clear();
        self.terms = terms;
        self.missing = None;
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
                self.entries.push(Entry { counter: index, start, end, said: Said::default() });
            }
        }
    }

    /// Appends the key of a counter; says whether it counts the request.
    fn spell(&mut self, exchange: &Exchange, counters: &[Counter], index: usize) -> bool {
        let counter = &counters[index];
        let (limit, start) = (&counter.limit, self.text.len() + counter.name.len());
        if counter.role == Role::Trial {
            let Some(own) = self.entries.last().filter(|own| own.counter + 1 == index) else { return false };
            let key = own.start + counters[own.counter].name.len()..own.end;
            self.text.push_str(&counter.name);
            self.text.extend_from_within(key);
            return true;
        }
        if !counter.counts(exchange) {
            return false;
        }
        self.text.push_str(&counter.name);
        let instead = if let Missing::By(part) = &limit.missing { Some(part) } else { None };
        if limit.key.push(exchange, limit.grouping, instead, &mut self.text).is_none() {
            if limit.missing == Missing::Refuse && counter.role == Role::Binding {
                self.missing = Some(index);
            }
            return false;
        }
        !counter.exempts(&self.text[start..])
    }

    /// `NAME:KEY` of an entry.
    pub(in crate::rate_limit) fn key(&self, entry: &Entry) -> &str {
        &self.text[entry.start..entry.end]
    }

    /// What the store is asked, in the order of the entries.
    pub(super) fn charges<'a>(
        &'a self,
        counters: &'a [Counter],
    ) -> impl ExactSizeIterator<Item = Charge<'a>> + Clone + 'a {
        self.entries.iter().map(|entry| {
            let counter = &counters[entry.counter];
            Charge {
                key: self.key(entry),
                policy: &self.terms[entry.counter].policy,
                asked: counter.asked,
                binding: counter.role == Role::Binding,
                even_if_refused: counter.limit.charge_refused,
            }
        })
    }

    /// Keeps what the store says, in the order of the entries.
    pub(super) fn hear(&mut self, decisions: &[Decision]) {
        for (entry, decision) in self.entries.iter_mut().zip(decisions) {
            let &Decision { allowed, remaining, retry_after, reset_after, delay, .. } = decision;
            entry.said = Said { allowed, remaining, retry_after, reset_after, delay };
        }
    }
}
