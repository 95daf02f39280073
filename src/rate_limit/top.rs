//! Who is refused most, lately: a bounded list for each limit.
//!
//! 1. Refusals are counted, nothing else: a request that passes costs nothing here.
//! 2. There is room for `limits.top` keys. A new one takes, once there is no room, the place of the least, and its count with
//!    it: whoever is refused more than one in `limits.top` of all refusals is in the list, and its count is too high by at
//!    most what it took over ("space saving", Metwally, Agrawal, El Abbadi 2005).
//! 3. Counts are halved every minute, and go when nothing is left of them: the list is about now.
//!
//! # Why
//! A count for every key would be bounded by what clients invent. A list that keeps only the largest must know small ones too,
//! to see them grow: taking over the least is what needs no more room than the list itself.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ahash::RandomState;
use parking_lot::Mutex;

/// After this, a refusal counts half (µs).
const HALF_LIFE: u64 = 60_000_000;

/// The lists of all limits of this process.
#[derive(Debug)]
pub struct Tops {
    room: usize,
    lists: Mutex<BTreeMap<Arc<str>, Arc<Top>>>,
}

/// The list of one limit.
#[derive(Debug)]
pub struct Top {
    room: usize,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    places: HashMap<Arc<str>, usize, RandomState>,
    refused: Vec<Refused>,
    halved: u64,
}

/// How often a key was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// As `partition` spells it, without the limit's name.
    pub key: Arc<str>,
    /// How often, lately.
    pub count: u64,
    /// By how much that may be too high.
    pub excess: u64,
    /// When last (µs since the Unix epoch).
    pub last: u64,
}

impl Tops {
    /// Lists of at most `room` keys; 0: none are kept.
    pub fn new(room: usize) -> Arc<Self> {
        Arc::new(Self { room, lists: Mutex::default() })
    }

    /// That of the limit called `name`.
    pub fn of(&self, name: &Arc<str>) -> Arc<Top> {
        let new = || Arc::new(Top { room: self.room, entries: Mutex::default() });
        self.lists.lock().entry(name.clone()).or_insert_with(new).clone()
    }

    /// Keys in each list, at most.
    pub fn room(&self) -> usize {
        self.room
    }
}

impl Top {
    /// `key` was refused at `now` (µs since the Unix epoch).
    pub fn refused(&self, key: &str, now: u64) {
        if self.room == 0 {
            return;
        }
        let mut entries = self.entries.lock();
        entries.halve(now);
        let at = match entries.places.get(key) {
            Some(&at) => at,
            None => entries.admit(key.into(), self.room),
        };
        entries.refused[at].count += 1;
        entries.refused[at].last = now;
    }

    /// The `most` that were refused most, at `now`, the first foremost.
    pub fn list(&self, most: usize, now: u64) -> Vec<Refused> {
        let mut entries = self.entries.lock();
        entries.halve(now);
        let mut list = entries.refused.clone();
        drop(entries);
        list.sort_by_key(|one| std::cmp::Reverse((one.count, one.last)));
        list.truncate(most);
        list
    }
}

impl Entries {
    /// A place for a key that has none, with the count that it takes over.
    fn admit(&mut self, key: Arc<str>, room: usize) -> usize {
        let least = (0..self.refused.len()).min_by_key(|&at| self.refused[at].count);
        let at = match least {
            Some(at) if self.refused.len() >= room => {
                let least = &mut self.refused[at];
                self.places.remove(&least.key);
                (least.key, least.excess) = (key.clone(), least.count);
                at
            }
            _ => {
                self.refused.push(Refused { key: key.clone(), count: 0, excess: 0, last: 0 });
                self.refused.len() - 1
            }
        };
        self.places.insert(key, at);
        at
    }

    fn halve(&mut self, now: u64) {
        let times = now.saturating_sub(self.halved) / HALF_LIFE;
        if times == 0 {
            return;
        }
        self.halved = if self.halved == 0 { now } else { self.halved + times * HALF_LIFE };
        let half = |count: u64| count.checked_shr(u32::try_from(times).unwrap_or(u32::MAX)).unwrap_or(0);
        self.refused.retain_mut(|refused| {
            (refused.count, refused.excess) = (half(refused.count), half(refused.excess));
            refused.count > 0
        });
        self.places = self.refused.iter().enumerate().map(|(at, refused)| (refused.key.clone(), at)).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_795_236_000_000_000;

    fn top(room: usize) -> Arc<Top> {
        Tops::new(room).of(&"a".into())
    }

    fn listed(top: &Top, most: usize, now: u64) -> Vec<(String, u64, u64)> {
        top.list(most, now).into_iter().map(|one| (one.key.to_string(), one.count, one.excess)).collect()
    }

    #[test]
    fn who_is_refused_most_stands_first() {
        let top = top(10);
        for (key, times) in [("a", 2), ("b", 5), ("c", 1)] {
            (0..times).for_each(|_| top.refused(key, NOW));
        }
        assert_eq!(listed(&top, 2, NOW), [("b".into(), 5, 0), ("a".into(), 2, 0)]);
    }

    #[test]
    fn a_heavy_hitter_is_found_among_any_number_of_others_and_its_count_is_honest() {
        let top = top(20);
        let mut truth = 0;
        for other in 0..20_000_u64 {
            top.refused(&other.to_string(), NOW);
            if other % 10 == 0 {
                top.refused("heavy", NOW);
                truth += 1;
            }
        }
        let found = top.list(1, NOW).remove(0);
        assert_eq!(&*found.key, "heavy");
        assert!(found.count >= truth && found.count - found.excess <= truth, "{found:?}, {truth}");
        assert_eq!(top.list(1_000, NOW).len(), 20);
    }

    #[test]
    fn it_is_about_now() {
        let top = top(10);
        (0..8).for_each(|_| top.refused("a", NOW));
        top.refused("b", NOW);
        assert_eq!(listed(&top, 9, NOW + HALF_LIFE), [("a".into(), 4, 0)]);
        assert_eq!(listed(&top, 9, NOW + 3 * HALF_LIFE), [("a".into(), 1, 0)]);
        assert_eq!(listed(&top, 9, NOW + 400 * HALF_LIFE), []);
        top.refused("c", NOW + 401 * HALF_LIFE);
        assert_eq!(listed(&top, 9, NOW + 401 * HALF_LIFE), [("c".into(), 1, 0)]);
    }

    #[test]
    fn without_room_nothing_is_kept() {
        let top = top(0);
        top.refused("a", NOW);
        assert_eq!(listed(&top, 9, NOW), []);
    }
}
