//! How long a login may last, however much it is used. Pure.
//!
//! 1. A login ends `max_age` after the birth that its record tells.
//! 2. A record that tells no birth is no login: who asks for a bound would not get one.
//! 3. A birth that is to come counts as now, for clocks differ; one that is more than a day ahead is none.
//!
//! # Why
//! Rule 2 is hard on records from before the app wrote their birth, and on a wrong `born`. The log says which it is, in
//! `session_reason`, and the other way round the bound would be off, and nobody would know.

use std::time::Duration;

use super::settings::Lifetime;

/// Milliseconds by which the clock of whoever wrote a birth may be ahead.
const AHEAD: u64 = 24 * 60 * 60 * 1000;

/// What is left at `now` of a login that was `born` then (both in Unix milliseconds).
///
/// # Errors
/// Nothing: why, in a few words for logs.
pub fn left(lifetime: &Lifetime, born: Option<u64>, now: u64) -> Result<Duration, &'static str> {
    let Some(born) = born.filter(|born| *born <= now.saturating_add(AHEAD)) else { return Err("no birth") };
    let age = Duration::from_millis(now.saturating_sub(born));
    match lifetime.most.checked_sub(age) {
        Some(left) if !left.is_zero() => Ok(left),
        _ => Err("too old"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_ends_so_long_after_its_birth_and_without_one_at_once() {
        let hour = Lifetime { most: Duration::from_secs(3600), born: None };
        let now = 1_700_000_000_000;
        let at = |born: u64| left(&hour, Some(born), now);
        assert_eq!(at(now - 3_599_000), Ok(Duration::from_secs(1)));
        assert_eq!((at(now - 3_600_000), at(0)), (Err("too old"), Err("too old")));
        assert_eq!(at(now + 5_000), Ok(Duration::from_secs(3600)), "a clock that is ahead");
        assert_eq!((at(now * 1000), left(&hour, None, now)), (Err("no birth"), Err("no birth")));
    }
}
