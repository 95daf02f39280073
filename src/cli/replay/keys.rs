//! The keys that a limit counts by, in bounded room. Pure.
//!
//! 1. Each key has a place, in the order in which they came.
//! 2. Once there is no room, a new key gets none; how many there were is estimated: a HyperLogLog of 4096 registers, which
//!    is right within 2 %, two times of three.
//!
//! # Why
//! To forget a key for another, as the store in process memory does, would make what is told of both wrong.

use std::collections::HashMap;
use std::sync::Arc;

use ahash::RandomState;

const REGISTERS: usize = 4096;

/// Keys by their text.
#[derive(Debug)]
pub struct Keys {
    places: HashMap<Arc<str>, u32, RandomState>,
    texts: Vec<Arc<str>>,
    room: usize,
    beyond: Option<Box<[u8; REGISTERS]>>,
}

impl Keys {
    /// With room for `room` of them.
    pub fn new(room: usize) -> Self {
        let room = room.min(u32::MAX as usize);
        Self { places: HashMap::default(), texts: Vec::new(), room, beyond: None }
    }

    /// The place of a key; `None` if there is no room for it.
    pub fn place(&mut self, text: &str) -> Option<u32> {
        if let Some(place) = self.places.get(text) {
            return Some(*place);
        }
        if self.texts.len() >= self.room {
            self.note(text);
            return None;
        }
        let (text, place): (Arc<str>, _) = (text.into(), self.texts.len() as u32);
        self.texts.push(text.clone());
        self.places.insert(text, place);
        Some(place)
    }

    /// All that have a place, in the order of these.
    pub fn texts(&self) -> &[Arc<str>] {
        &self.texts
    }

    /// About how many there were no room for.
    pub fn beyond(&self) -> u64 {
        let Some(registers) = &self.beyond else { return 0 };
        let (many, empty) = (REGISTERS as f64, registers.iter().filter(|rank| **rank == 0).count() as f64);
        let sum: f64 = registers.iter().map(|rank| f64::powi(2.0, -i32::from(*rank))).sum();
        // Flajolet and others, HyperLogLog (2007), figure 3.
        let estimate = 0.7213 / (1.0 + 1.079 / many) * many * many / sum;
        let estimate = if estimate <= 2.5 * many && empty > 0.0 { many * (many / empty).ln() } else { estimate };
        estimate.round() as u64
    }

    fn note(&mut self, text: &str) {
        let hash = self.places.hasher().hash_one(text);
        let registers = self.beyond.get_or_insert_with(|| Box::new([0; REGISTERS]));
        let (register, rest) = (hash as usize % REGISTERS, hash >> 12 | 1 << 52);
        let rank = rest.trailing_zeros() as u8 + 1;
        registers[register] = registers[register].max(rank);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_beyond_the_room_are_counted_and_get_no_place() {
        let mut keys = Keys::new(100);
        for _ in 0..2 {
            for key in 0..100 {
                assert_eq!(keys.place(&key.to_string()), Some(key));
            }
        }
        assert_eq!(keys.beyond(), 0);
        for (count, key) in (100..50_100_u64).enumerate() {
            assert_eq!(keys.place(&key.to_string()), None);
            keys.place(&key.to_string());
            if [1, 10, 1_000, 10_000, 50_000].contains(&(count + 1)) {
                let (about, exactly) = (keys.beyond() as f64, count as f64 + 1.0);
                // Five times what the estimate is usually wrong by.
                assert!((about - exactly).abs() <= exactly * 0.08 + 0.5, "{about} of {exactly}");
            }
        }
        assert_eq!((keys.texts().len(), &*keys.texts()[99]), (100, "99"));
    }
}
