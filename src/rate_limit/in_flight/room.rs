//! Whether there is room for one request more. Pure: `store/scripts/flight.lua` decides the same.
//!
//! 1. Under a limit there is room while fewer than its most are in flight.
//! 2. A request passes if every limit that refuses has room, and takes a place under all that have: a limit that only watches
//!    (`shadow`) refuses nobody, and counts as if it did.

use std::sync::Arc;
use std::time::Duration;

/// A place that is wanted under one limit.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// `NAME:KEY`, as `partition` spells it.
    pub key: &'a Arc<str>,
    /// Requests that may be in flight at once; at least 1.
    pub most: u64,
    /// How long a place lasts of which nobody says that it is still taken.
    pub life: Duration,
    /// Its refusal counts; otherwise it only watches.
    pub refuses: bool,
}

impl Wanted<'_> {
    /// Whether there is room when so many were there `before`.
    pub fn has_room(&self, before: u64) -> bool {
        before < self.most
    }
}

/// Whether a request passes that finds so many in flight under each limit.
pub fn passes<'a>(found: impl Iterator<Item = (Wanted<'a>, u64)>) -> bool {
    let mut found = found;
    found.all(|(wanted, before)| !wanted.refuses || wanted.has_room(before))
}

/// What one of so many instances may let in by itself; at least 1.
pub fn share(most: u64, instances: u32) -> u64 {
    (most / u64::from(instances.max(1))).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_limit_refuses_unless_it_only_watches() {
        let key: Arc<str> = "a:b".into();
        let wanted = |refuses| Wanted { key: &key, most: 2, life: Duration::from_secs(1), refuses };
        let pass = |refuses, before| passes([(wanted(true), 0), (wanted(refuses), before)].into_iter());
        assert_eq!([pass(true, 1), pass(true, 2), pass(false, 2)], [true, false, true]);
        assert!(passes(std::iter::empty()));
    }

    #[test]
    fn the_shares_of_all_instances_are_never_more_than_the_whole_unless_there_are_more_of_them() {
        for (most, instances, expected) in [(10, 1, 10), (10, 3, 3), (10, 0, 10), (2, 5, 1)] {
            assert_eq!(share(most, instances), expected);
        }
    }
}
