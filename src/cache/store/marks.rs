//! The marks of purged tags that a process has seen, and when.
//!
//! 1. The purge of a tag leaves a mark in Redis, a token that is never used twice, for longer than any fill may take.
//! 2. A fill is in order if there is no mark, or the one that was seen here before the fill began: then nobody has purged the
//!    tag since. Any other mark is remembered as seen now, and the fill is refused.
//! 3. Who purges sees his own mark when Redis has acknowledged it. A mark is written once: one whose writing failed is never
//!    written again.
//!
//! # Why
//! The alternative is to read the marks before each request that goes to the app: a trip more for each miss, and nobody
//! knows yet which tags the answer will carry. This way a purge costs each other process one fill of each tag. What is
//! before and what after is told by a counter of this process, not by a clock.

use parking_lot::Mutex;
use quick_cache::unsync::Cache as Bounded;

use super::{Since, order};

/// Marks that a process remembers; of one that was forgotten one more fill is refused.
const REMEMBERED: usize = 16 * 1024;

/// What the workers of a process have seen.
pub struct Marks(Mutex<Bounded<Box<str>, Seen>>);

#[derive(Clone, Copy)]
struct Seen {
    mark: u128,
    /// When.
    order: u64,
}

impl Marks {
    /// None yet.
    pub fn new() -> Self {
        Self(Mutex::new(Bounded::new(REMEMBERED)))
    }

    /// `mark` stands at `tag`.
    pub(super) fn seen(&self, tag: &str, mark: u128) {
        let mut marks = self.0.lock();
        if marks.get(tag).is_none_or(|seen| seen.mark != mark) {
            marks.insert(tag.into(), Seen { mark, order: order() });
        }
    }

    /// Whether a fill that began at `since` is in order where `mark` stands at `tag`.
    pub(super) fn allow(&self, tag: &str, mark: Option<u128>, since: Since) -> bool {
        let Some(mark) = mark else { return true };
        let known = self.0.lock().get(tag).copied();
        let before = known.is_some_and(|seen| seen.mark == mark && seen.order <= since.order);
        if !before {
            self.seen(tag, mark);
        }
        before
    }
}

impl Default for Marks {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_mark_that_was_seen_before_the_fill_began_allows_it() {
        let marks = Marks::new();
        let first = Since::now(0);
        assert!(marks.allow("a", None, first));
        assert!(!marks.allow("a", Some(1), first), "seen only now");
        assert!(!marks.allow("a", Some(1), first), "still after it began");
        let second = Since::now(0);
        assert!(marks.allow("a", Some(1), second) && marks.allow("a", None, second));
        assert!(!marks.allow("b", Some(1), second), "of another tag");
        marks.seen("a", 2);
        assert!(!marks.allow("a", Some(2), second) && !marks.allow("a", Some(1), second));
        marks.seen("a", 3);
        let third = Since::now(0);
        marks.seen("a", 3);
        assert!(marks.allow("a", Some(3), third), "seeing it again does not make it younger");
    }
}
