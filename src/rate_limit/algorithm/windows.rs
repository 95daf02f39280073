//! Windows that follow each other without a gap: of an even length since the Unix epoch, or a calendar's.
//!
//! 1. Of the time, three moments are told: the start of the window that holds it, the start of the next, and that one's end.
//!    Another clock finds its own window from them, however far it is off ([`within`]).
//! 2. A calendar's hours, days, weeks (from Monday), months and years are those of a time zone, longer and shorter ones
//!    included.
//!
//! # Why
//! Redis decides by its own clock and knows no time zones; whoever asks knows them and may have a clock that is off. From two
//! windows Redis picks the right one, at midnight too.

use std::sync::Arc;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use parking_lot::Mutex;

use crate::rate_limit::quota::Quota;

/// µs of an hour.
const HOUR: u64 = 3_600_000_000;

/// Windows of one kind.
#[derive(Clone, Debug)]
pub enum Windows {
    /// Each so long (µs, at least 1).
    Even(u64),
    /// A calendar's.
    Calendar(Arc<Calendar>),
}

/// The windows of a calendar.
#[derive(Debug)]
pub struct Calendar {
    unit: Unit,
    zone: TimeZone,
    /// The moments told last: they stay the same until the next window begins.
    told: Mutex<[u64; 3]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Hour,
    Day,
    Week,
    Month,
    Year,
}

impl Windows {
    /// Windows as long as those of `quota`: of the calendar in the time zone called `zone`, if it is known and there are such.
    pub fn new(quota: Quota, zone: Option<&str>) -> Self {
        let even = Self::Even(u64::try_from(quota.per.as_micros()).unwrap_or(u64::MAX).clamp(1, super::gcra::LONGEST));
        let unit = match quota.per.as_secs() {
            3600 => Unit::Hour,
            Quota::DAY => Unit::Day,
            Quota::WEEK => Unit::Week,
            Quota::MONTH => Unit::Month,
            Quota::YEAR => Unit::Year,
            _ => return even,
        };
        let zone = zone.and_then(|zone| TimeZone::get(zone).ok());
        zone.map_or(even, |zone| Self::Calendar(Arc::new(Calendar { unit, zone, told: Mutex::default() })))
    }

    /// The start of the window at `now`, that of the next, and its end. All in µs since the Unix epoch.
    pub fn around(&self, now: u64) -> [u64; 3] {
        match self {
            Self::Even(length) => {
                let start = now - now % length;
                [start, start + length, start + 2 * length]
            }
            Self::Calendar(calendar) => calendar.around(now),
        }
    }

    /// Start and end of the window at `now`.
    pub fn at(&self, now: u64) -> (u64, u64) {
        within(self.around(now), now)
    }
}

impl PartialEq for Windows {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Even(left), Self::Even(right)) => left == right,
            (Self::Calendar(left), Self::Calendar(right)) => left.unit == right.unit && left.zone == right.zone,
            _ => false,
        }
    }
}

impl Eq for Windows {}

/// Start and end of the window at `now`, where these are the moments around some other time: those windows themselves, or
/// as many more of the length of the nearer one as it takes.
pub fn within([start, middle, end]: [u64; 3], now: u64) -> (u64, u64) {
    if now < middle {
        let length = middle - start;
        let start = middle.saturating_sub((middle - now).div_ceil(length) * length);
        (start, start + length)
    } else {
        let length = end - middle;
        let start = middle + (now - middle) / length * length;
        (start, start + length)
    }
}

impl Calendar {
    fn around(&self, now: u64) -> [u64; 3] {
        let mut told = self.told.lock();
        if !(told[0]..told[1]).contains(&now) {
            *told = self.moments(now).unwrap_or_else(|| Windows::Even(24 * HOUR).around(now));
        }
        *told
    }

    /// None beyond the year 9999.
    fn moments(&self, now: u64) -> Option<[u64; 3]> {
        let timestamp = Timestamp::from_microsecond(i64::try_from(now).ok()?).ok()?;
        if self.unit == Unit::Hour {
            let offset = i64::from(self.zone.to_offset(timestamp).seconds()) * 1_000_000;
            let into = (i64::try_from(now).ok()? + offset).rem_euclid(HOUR as i64) as u64;
            let start = now.checked_sub(into)?;
            return Some([start, start + HOUR, start + 2 * HOUR]);
        }
        let today = timestamp.to_zoned(self.zone.clone()).date();
        let first = match self.unit {
            Unit::Week => today.checked_sub(i64::from(today.weekday().to_monday_zero_offset()).days()).ok()?,
            Unit::Month => today.first_of_month(),
            Unit::Year => today.first_of_year(),
            Unit::Hour | Unit::Day => today,
        };
        let step = match self.unit {
            Unit::Week => 1.week(),
            Unit::Month => 1.month(),
            Unit::Year => 1.year(),
            Unit::Hour | Unit::Day => 1.day(),
        };
        let next = first.checked_add(step).ok()?;
        let moments = [self.start(first)?, self.start(next)?, self.start(next.checked_add(step).ok()?)?];
        moments.is_sorted_by(|left, right| left < right).then_some(moments)
    }

    /// When the day begins (µs since the Unix epoch).
    fn start(&self, day: Date) -> Option<u64> {
        u64::try_from(day.to_zoned(self.zone.clone()).ok()?.timestamp().as_microsecond()).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn windows(seconds: u64, zone: &str) -> Windows {
        Windows::new(Quota { amount: 1, per: Duration::from_secs(seconds) }, Some(zone))
    }

    fn micros(text: &str) -> u64 {
        text.parse::<Timestamp>().unwrap().as_microsecond() as u64
    }

    #[test]
    fn a_day_is_as_long_as_it_is_there_and_months_and_years_begin_there() {
        for (seconds, now, moments) in [
            (
                Quota::DAY,
                "2026-03-28T22:59:59Z",
                ["2026-03-27T23:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"],
            ),
            (
                Quota::DAY,
                "2026-10-25T12:00:00Z",
                ["2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z", "2026-10-26T23:00:00Z"],
            ),
            (
                Quota::WEEK,
                "2026-11-21T12:00:00Z",
                ["2026-11-15T23:00:00Z", "2026-11-22T23:00:00Z", "2026-11-29T23:00:00Z"],
            ),
            (
                Quota::MONTH,
                "2026-01-31T23:00:00Z",
                ["2026-01-31T23:00:00Z", "2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z"],
            ),
            (
                Quota::YEAR,
                "2026-06-01T00:00:00Z",
                ["2025-12-31T23:00:00Z", "2026-12-31T23:00:00Z", "2027-12-31T23:00:00Z"],
            ),
            (3600, "2026-06-01T00:59:00Z", ["2026-06-01T00:00:00Z", "2026-06-01T01:00:00Z", "2026-06-01T02:00:00Z"]),
        ] {
            assert_eq!(windows(seconds, "Europe/Berlin").around(micros(now)), moments.map(micros), "{seconds} {now}");
        }
        let half_past = ["2026-06-01T00:30:00Z", "2026-06-01T01:30:00Z", "2026-06-01T02:30:00Z"];
        assert_eq!(windows(3600, "Asia/Kolkata").around(micros("2026-06-01T01:29:59Z")), half_past.map(micros));
    }

    #[test]
    fn every_moment_of_three_years_is_in_its_window_in_zones_with_odd_days() {
        for zone in ["Europe/Berlin", "Australia/Lord_Howe", "America/Sao_Paulo", "Africa/Cairo", "Pacific/Apia"] {
            for seconds in [3600, Quota::DAY, Quota::WEEK, Quota::MONTH] {
                let windows = windows(seconds, zone);
                let mut now = micros("2011-11-01T00:00:00Z");
                while now < micros("2014-11-01T00:00:00Z") {
                    let (start, end) = windows.at(now);
                    assert!(start <= now && now < end && end - start <= 32 * 24 * HOUR, "{zone} {seconds} {now}");
                    now += 7 * HOUR + 1;
                }
            }
        }
    }

    #[test]
    fn a_clock_that_is_off_finds_the_same_windows() {
        let even = Windows::Even(7_000_000);
        let day = windows(Quota::DAY, "Europe/Berlin");
        let now = micros("2026-03-28T23:30:00Z");
        for off in (0..200).map(|step| now - 100_000_000 + step * 1_000_003) {
            assert_eq!(within(even.around(now), off), even.at(off));
            if off < now + HOUR {
                assert_eq!(within(day.around(off), now), day.at(now), "the next window is known too");
            }
        }
    }
}
