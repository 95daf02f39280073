//! Counts over windows and over keys. Pure.

/// A minute, in µs.
const MINUTE: u64 = 60_000_000;

/// What a key asks for in each window, windows being multiples of their length since the Unix epoch.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    window: u64,
    units: u64,
    peak: u64,
}

/// The minute with the most requests, of all the first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Busiest {
    current: Minute,
    most: Minute,
}

/// A minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Minute {
    /// Its beginning, in µs since the Unix epoch.
    pub at: u64,
    /// Requests in it.
    pub requests: u64,
    /// Those that were refused.
    pub refused: u64,
}

impl Usage {
    /// Takes account of `units` at `now`, which is never before the last time; `length`: of a window, in µs.
    pub fn note(&mut self, now: u64, length: u64, units: u64) {
        let window = now / length;
        if self.window != window {
            (self.window, self.units) = (window, 0);
        }
        self.units += units;
        self.peak = self.peak.max(self.units);
    }

    /// The most units in a window.
    pub fn peak(&self) -> u64 {
        self.peak
    }
}

impl Busiest {
    /// Takes account of a request at `now`, which is never before the last one.
    pub fn note(&mut self, now: u64, refused: bool) {
        let at = now - now % MINUTE;
        if self.current.at != at {
            self.current = Minute { at, ..Minute::default() };
        }
        self.current.requests += 1;
        self.current.refused += u64::from(refused);
        if self.current.requests > self.most.requests || self.current.at == self.most.at {
            self.most = self.current;
        }
    }

    /// That minute; `None` if there was no request.
    pub fn most(&self) -> Option<Minute> {
        Some(self.most).filter(|minute| minute.requests > 0)
    }
}

/// The value that so many of a thousand of `sorted` values are not greater than (nearest rank); 0 if there is none.
pub fn per_mille(sorted: &[u64], part: usize) -> u64 {
    let rank = (sorted.len() * part).div_ceil(1000);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_minute_is_the_first_of_the_busiest() {
        let mut busiest = Busiest::default();
        assert_eq!(busiest.most(), None);
        for (at, refused) in [(59, false), (60, true), (61, false), (119, true), (120, true), (180, false)] {
            busiest.note(at * 1_000_000, refused);
        }
        assert_eq!(busiest.most(), Some(Minute { at: MINUTE, requests: 3, refused: 2 }));
    }

    #[test]
    fn the_peak_is_that_of_one_window() {
        let mut usage = Usage::default();
        for (at, units) in [(0, 1), (9, 2), (10, 1), (19, 1), (35, 2)] {
            usage.note(at, 10, units);
        }
        assert_eq!(usage.peak(), 3);
    }

    #[test]
    fn ranks_are_the_nearest() {
        let sorted: Vec<u64> = (1..=1000).collect();
        assert_eq!([500, 990, 999, 1000].map(|part| per_mille(&sorted, part)), [500, 990, 999, 1000]);
        assert_eq!([1, 500, 999].map(|part| per_mille(&[7, 8, 9], part)), [7, 8, 9]);
        assert_eq!(per_mille(&[], 500), 0);
    }
}
