//! What is known of a feature's keys. Pure.
//!
//! 1. Every key is counted, with its time to live; a number of them is weighed, and the others are taken to be like those.
//! 2. A key that went between being seen and being asked about is not counted: it is not there.

/// Keys of a feature that are weighed, at most.
pub const WEIGHED: u64 = 1_000;

/// What is known of a feature's keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many there are.
    pub keys: u64,
    /// How many have no TTL.
    pub lasting: u64,
    /// How many were weighed.
    pub weighed: u64,
    /// What those take, in bytes.
    weight: u64,
    /// The shortest and the longest time to live, in milliseconds.
    lives: Option<(u64, u64)>,
    /// All of them together.
    living: u128,
}

/// Times to live, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lives {
    /// Of the key that goes first.
    pub shortest: u64,
    /// Of all keys that have one.
    pub mean: u64,
    /// Of the key that goes last.
    pub longest: u64,
}

impl Tally {
    /// Counts a key by what PTTL says of it: milliseconds, -1 without a TTL, -2 where there is no key.
    pub fn count(&mut self, life: i64) {
        match u64::try_from(life) {
            Ok(life) => {
                let (shortest, longest) = self.lives.unwrap_or((life, life));
                self.lives = Some((shortest.min(life), longest.max(life)));
                self.living += u128::from(life);
                self.keys += 1;
            }
            Err(_) if life == -1 => {
                self.lasting += 1;
                self.keys += 1;
            }
            Err(_) => {}
        }
    }

    /// Adds what a key takes, in bytes.
    pub fn weigh(&mut self, bytes: u64) {
        self.weighed += 1;
        self.weight += bytes;
    }

    /// Bytes of all of them: as weighed, or as many as they would be if the others are like those.
    pub fn bytes(&self) -> Option<u64> {
        let whole = u128::from(self.weight) * u128::from(self.keys.max(self.weighed));
        whole.checked_div(self.weighed.into()).map(|bytes| u64::try_from(bytes).unwrap_or(u64::MAX))
    }

    /// Bytes of one of them, on average.
    pub fn bytes_each(&self) -> Option<u64> {
        self.weight.checked_div(self.weighed)
    }

    /// How long they live, if any has a TTL.
    pub fn lives(&self) -> Option<Lives> {
        let (shortest, longest) = self.lives?;
        let mean = self.living / u128::from(self.keys - self.lasting);
        Some(Lives { shortest, mean: u64::try_from(mean).unwrap_or(u64::MAX), longest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_weighed_is_taken_to_be_like_what_was() {
        let mut tally = Tally::default();
        assert_eq!((tally.bytes(), tally.bytes_each(), tally.lives()), (None, None, None));
        (0..10).for_each(|_| tally.count(1_000));
        tally.weigh(100);
        tally.weigh(51);
        assert_eq!((tally.bytes(), tally.bytes_each()), (Some(755), Some(75)));
    }

    #[test]
    fn keys_without_ttl_and_keys_that_are_gone_have_no_part_in_times_to_live() {
        let mut tally = Tally::default();
        for life in [5, -1, 10, -2, 0, -1] {
            tally.count(life);
        }
        assert_eq!((tally.keys, tally.lasting), (5, 2));
        assert_eq!(tally.lives(), Some(Lives { shortest: 0, mean: 5, longest: 10 }));
    }
}
