//! Which places carry a tag, for the store in process memory.
//!
//! 1. A fill enters its place under each of its tags before its response is stored, unless one of them was purged since it
//!    began.
//! 2. A purge is noted first, and the places that are entered are taken back then. Entering and noting exclude each other:
//!    a fill that was not refused is met by the purge.
//! 3. At most so many places are entered, counted once for each tag. Where there is no more room those of dead places are
//!    let go of, and if that does not help the response is not stored.
//! 4. At most [`NOTED`] purges are noted; beyond it every fill that is under way is refused.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::cache::store::purge::Softness;
use crate::cache::store::{Since, order};

/// Purges that are noted.
const NOTED: usize = 4096;
/// Places entered below which nobody looks for dead ones.
const FEW: usize = 1024;

/// Places by tags.
pub(super) struct Tags {
    entered: Mutex<Entered>,
    most: usize,
}

#[derive(Default)]
struct Entered {
    places: HashMap<Box<str>, HashSet<Arc<str>>>,
    /// Places, once for each tag.
    count: usize,
    /// So many make it worth while to look for dead ones.
    sweep_at: usize,
    purged: HashMap<Box<str>, u64>,
    /// Every tag counts as purged then.
    all_purged: u64,
}

impl Tags {
    /// None yet, and at most so many.
    pub(super) fn new(most: usize) -> Self {
        Self { entered: Mutex::new(Entered { sweep_at: FEW.min(most), ..Entered::default() }), most }
    }

    /// Enters a place under the tags of a response that was asked for at `since`; whether it may be stored. `is_alive`: the
    /// place has a generation.
    pub(super) fn enter(&self, tags: &[String], place: &str, since: Since, is_alive: impl Fn(&str) -> bool) -> bool {
        let mut entered = self.entered.lock();
        let was_purged = |tag: &String| {
            let last = entered.purged.get(tag.as_str()).copied().unwrap_or(0);
            last.max(entered.all_purged) > since.order
        };
        if tags.iter().any(was_purged) {
            return false;
        }
        if entered.count + tags.len() > entered.sweep_at {
            entered.sweep(is_alive);
            entered.sweep_at = (2 * entered.count).clamp(FEW, self.most.max(FEW)).min(self.most);
        }
        if entered.count + tags.len() > self.most {
            return false;
        }
        let place: Arc<str> = place.into();
        for tag in tags {
            let is_new = match entered.places.get_mut(tag.as_str()) {
                Some(places) => places.insert(place.clone()),
                None => entered.places.insert(tag.as_str().into(), HashSet::from([place.clone()])).is_none(),
            };
            entered.count += usize::from(is_new);
        }
        true
    }

    /// Notes that a tag is purged, and gives the places to take back.
    pub(super) fn purge(&self, tag: &str, softness: Softness) -> Vec<Arc<str>> {
        let mut entered = self.entered.lock();
        let now = order();
        if entered.purged.len() >= NOTED {
            entered.purged = HashMap::new();
            entered.all_purged = now;
        }
        entered.purged.insert(tag.into(), now);
        match softness {
            // What is stale is there still, to be taken back for good later.
            Softness::Soft => entered.places.get(tag).into_iter().flatten().cloned().collect(),
            Softness::Hard => {
                let places = entered.places.remove(tag).unwrap_or_default();
                entered.count -= places.len();
                places.into_iter().collect()
            }
        }
    }
}

impl Entered {
    fn sweep(&mut self, is_alive: impl Fn(&str) -> bool) {
        self.places.retain(|_, places| {
            places.retain(|place| is_alive(place));
            !places.is_empty()
        });
        self.count = self.places.values().map(HashSet::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn purge(index: &Tags, tag: &str, softness: Softness) -> Vec<String> {
        index.purge(tag, softness).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_purge_meets_what_was_entered_and_refuses_what_had_begun() {
        let index = Tags::new(100);
        let early = Since::now(0);
        assert!(index.enter(&tags(&["t", "u"]), "a", early, |_| true));
        assert_eq!(purge(&index, "t", Softness::Soft), ["a"]);
        assert_eq!(purge(&index, "t", Softness::Hard), ["a"]);
        assert!(!index.enter(&tags(&["t"]), "b", early, |_| true));
        assert!(index.enter(&tags(&["u"]), "b", early, |_| true));
        assert!(index.enter(&tags(&["t"]), "b", Since::now(0), |_| true));
        assert_eq!(purge(&index, "t", Softness::Hard), ["b"]);
        assert!(index.purge("t", Softness::Hard).is_empty());
        assert_eq!(index.purge("u", Softness::Hard).len(), 2);
        assert_eq!(index.entered.lock().count, 0);
    }

    #[test]
    fn dead_places_make_room_and_where_there_is_none_nothing_is_stored() {
        let index = Tags::new(4);
        let since = Since::now(0);
        assert!(index.enter(&tags(&["t", "u"]), "dead", since, |_| true));
        assert!(index.enter(&tags(&["t", "u"]), "a", since, |_| true));
        assert!(!index.enter(&tags(&["t"]), "b", since, |_| true));
        assert!(index.enter(&tags(&["t"]), "b", since, |place| place != "dead"));
        assert_eq!(index.purge("t", Softness::Hard).len(), 2);
    }

    #[test]
    fn of_too_many_purges_all_count() {
        let index = Tags::new(4);
        let early = Since::now(0);
        for number in 0..=NOTED {
            index.purge(&number.to_string(), Softness::Hard);
        }
        assert!(!index.enter(&tags(&["other"]), "a", early, |_| true));
        assert!(index.enter(&tags(&["other"]), "a", Since::now(0), |_| true));
        assert!(index.entered.lock().purged.len() <= NOTED);
    }
}
