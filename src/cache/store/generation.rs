//! The tokens that a place has, and that what is stored there carries. Pure.

use std::sync::atomic::{AtomicU64, Ordering};

/// Names a stretch of a place's history between two writes, and within it one between two soft purges. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Generation {
    /// Between two invalidations. Never 0.
    hard: u128,
    /// Between two soft purges: the second (since the Unix epoch) of the one before, and a token; 0: there was none.
    soft: u128,
}

/// What a stored response is worth at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Worth {
    /// What its own freshness says.
    Whole,
    /// It is stale since a soft purge at this second (since the Unix epoch), by the clock of who purged.
    Softened(u64),
    /// Nothing.
    Nothing,
}

impl Generation {
    /// Bytes of a generation.
    pub const LENGTH: usize = 32;
    /// Where the bytes of the soft token begin.
    pub(super) const SOFT_AT: usize = 16;

    /// The generation of these tokens.
    pub const fn new(hard: u128, soft: u128) -> Self {
        Self { hard, soft }
    }

    /// Its bytes.
    pub fn bytes(self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[..Self::SOFT_AT].copy_from_slice(&self.hard.to_be_bytes());
        bytes[Self::SOFT_AT..].copy_from_slice(&self.soft.to_be_bytes());
        bytes
    }

    /// What [`Generation::bytes`] made; `None`: it has no hard token.
    pub fn of_bytes(bytes: [u8; Self::LENGTH]) -> Option<Self> {
        Self::of_value(&bytes)
    }

    /// Of what stands under the key of a place: the hard token, and the soft one behind it if there was a soft purge.
    pub(super) fn of_value(value: &[u8]) -> Option<Self> {
        let (hard, soft) = value.split_at_checked(Self::SOFT_AT)?;
        let hard = u128::from_be_bytes(hard.try_into().ok()?);
        let soft = if soft.is_empty() { 0 } else { u128::from_be_bytes(soft.try_into().ok()?) };
        (hard != 0).then_some(Self { hard, soft })
    }

    /// The bytes of the hard token: what a place begins with.
    pub(super) fn proposal(self) -> [u8; Self::SOFT_AT] {
        self.hard.to_be_bytes()
    }

    /// The same after a soft purge.
    pub(super) fn softened(self, soft: u128) -> Self {
        Self { soft, ..self }
    }

    /// Whether both are of one stretch between two invalidations.
    pub fn is_beside(self, other: Self) -> bool {
        self.hard == other.hard
    }

    /// What a response that carries `self` is worth where `standing` stands.
    pub(super) fn worth(self, standing: Self) -> Worth {
        match standing {
            standing if standing == self => Worth::Whole,
            Self { hard, soft } if hard == self.hard => Worth::Softened((soft >> 64) as u64),
            _ => Worth::Nothing,
        }
    }
}

/// Makes tokens: 64 random bits of its own, and a count.
#[derive(Debug)]
pub struct Mint {
    random: u64,
    count: AtomicU64,
}

impl Mint {
    /// One that shares no token with any other, here or elsewhere.
    pub fn new() -> Self {
        Self { random: getrandom::u64().unwrap_or_else(|_| fastrand::u64(..)), count: AtomicU64::new(1) }
    }

    /// A generation that was never seen before.
    pub fn generation(&self) -> Generation {
        Generation { hard: u128::from(self.random) << 64 | u128::from(self.count()), soft: 0 }
    }

    /// The token of a soft purge at `now`, in seconds since the Unix epoch.
    pub(super) fn soft(&self, now: u64) -> u128 {
        // The random bits differ from mint to mint, and the sum from count to count.
        u128::from(now) << 64 | u128::from(self.random.wrapping_add(self.count()))
    }

    /// The token of a mark.
    pub(super) fn mark(&self) -> u128 {
        u128::from(self.random) << 64 | u128::from(self.count())
    }

    fn count(&self) -> u64 {
        self.count.fetch_add(1, Ordering::Relaxed)
    }
}

impl Default for Mint {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_worth_what_stands_at_its_place() {
        let mint = Mint::new();
        let (one, other) = (mint.generation(), mint.generation());
        let (soft, softer) = (one.softened(mint.soft(7)), one.softened(mint.soft(7)));
        for (carried, standing, worth) in [
            (one, one, Worth::Whole),
            (one, other, Worth::Nothing),
            (one, soft, Worth::Softened(7)),
            (soft, soft, Worth::Whole),
            (soft, softer, Worth::Softened(7)),
            (soft, other, Worth::Nothing),
        ] {
            assert_eq!(carried.worth(standing), worth, "{carried:?} {standing:?}");
        }
    }

    #[test]
    fn only_what_has_a_hard_token_is_a_generation() {
        let one = Mint::new().generation();
        let soft = one.softened(9 << 64 | 1);
        assert_eq!(Generation::of_value(&one.proposal()), Some(one));
        assert_eq!(Generation::of_value(&soft.bytes()), Some(soft));
        assert_eq!((Generation::of_bytes(one.bytes()), Generation::of_bytes(soft.bytes())), (Some(one), Some(soft)));
        for strange in [&[0; 32][..], &[], &[1; 15], &[1; 17], &[1; 33]] {
            assert_eq!(Generation::of_value(strange), None, "{strange:?}");
        }
    }
}
