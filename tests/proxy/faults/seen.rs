//! What comes back while a trial goes on, and what it cost.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::harness::{Answer, Sidegate};

use super::policy::{ASKS, Asks, Policy, writes};

/// Where a trial stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Before,
    /// The first second.
    Struck,
    Lasting,
    After,
}

const PHASES: [Phase; 4] = [Phase::Before, Phase::Struck, Phase::Lasting, Phase::After];

/// What came back, by when and what was asked.
#[derive(Default)]
pub struct Seen {
    pub phase: AtomicUsize,
    /// In which phase each connection asked last.
    pub asked: [AtomicUsize; 3],
    /// How often the cached page was written, as the last answer to a write says.
    written: AtomicU64,
    pub answers: Mutex<BTreeMap<(Phase, Asks, u16), u64>>,
}

impl Seen {
    /// Whether it answers what was asked; writes down that it came.
    pub fn right(&self, number: usize, policy: Policy, turn: usize, answer: &Answer) -> bool {
        let (asks, phase) = (ASKS[number], self.phase.load(Ordering::SeqCst));
        // Between two phases it is of neither.
        if self.asked[number].load(Ordering::SeqCst) == phase {
            let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            *answers.entry((PHASES[phase], asks, answer.status)).or_default() += 1;
        }
        match answer.status {
            503 => asks != Asks::Cached && is_problem(answer),
            200 => self.is_answer(asks, &policy.target(asks, turn), writes(turn), &answer.text()),
            _ => false,
        }
    }

    fn is_answer(&self, asks: Asks, target: &str, write: bool, text: &str) -> bool {
        let user = if asks == Asks::Protected { "42" } else { "-" };
        let said = text.strip_prefix(&format!("{target} {user} ")).and_then(|version| version.parse::<u64>().ok());
        let Some(version) = said else { return false };
        let known = self.written.load(Ordering::SeqCst);
        match asks {
            Asks::Cached if write => self.written.swap(version, Ordering::SeqCst) < version,
            Asks::Cached => version == known,
            Asks::Limited | Asks::Protected => version == 0,
        }
    }
}

/// A refusal that says when to come again, and takes nothing away.
fn is_problem(answer: &Answer) -> bool {
    answer.field("content-type") == Some("application/problem+json")
        && answer.field("retry-after").is_some_and(|seconds| seconds.parse::<u64>().is_ok_and(|seconds| seconds >= 1))
        && !answer.fields.has("set-cookie")
}

/// `sidegate_overhead_seconds`, over all routes.
pub struct Overhead(BTreeMap<String, u64>);

impl Overhead {
    pub fn of(sidegate: &Sidegate) -> Self {
        let mut buckets = BTreeMap::new();
        for line in sidegate.ask_admin("/metrics").text().lines() {
            let Some(rest) = line.strip_prefix("sidegate_overhead_seconds_bucket{") else { continue };
            let bound = rest.split("le=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a bound");
            let count = rest.rsplit(' ').next().and_then(|count| count.parse::<u64>().ok()).expect("a count");
            *buckets.entry(bound.to_owned()).or_default() += count;
        }
        Self(buckets)
    }

    /// How many requests since `earlier`, and how many of them cost more than `bound`.
    pub fn since(&self, earlier: &Self, bound: &str) -> (u64, u64) {
        let up_to = |bound: &str| {
            let count = |overhead: &Self| overhead.0.get(bound).copied().unwrap_or_default();
            count(self) - count(earlier)
        };
        let all = up_to("+Inf");
        (all, all - up_to(bound))
    }
}
