//! How much, in how long: `100 per minute`.

use std::time::Duration;

/// `amount` units in every `per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Units; at least 1.
    pub amount: u64,
    /// The window; at least a second.
    pub per: Duration,
}

impl Quota {
    /// One an hour.
    pub const ONE: Self = Self { amount: 1, per: Duration::from_secs(60 * 60) };
    /// What a text must look like, in words.
    pub const FORM: &str = "a quota reads like `100 per minute` or `10 per 30s`";
    /// Windows that have a name, and their seconds.
    pub const UNITS: [(&str, u64); 7] = [
        ("second", 1),
        ("minute", 60),
        ("hour", 60 * 60),
        ("day", Self::DAY),
        ("week", Self::WEEK),
        ("month", Self::MONTH),
        ("year", Self::YEAR),
    ];
    /// Seconds of a day.
    pub const DAY: u64 = 24 * 60 * 60;
    /// Seconds of a week.
    pub const WEEK: u64 = 7 * Self::DAY;
    /// Seconds of a month that is no calendar's.
    pub const MONTH: u64 = 30 * Self::DAY;
    /// Seconds of a year that is no calendar's.
    pub const YEAR: u64 = 365 * Self::DAY;

    /// What each of `instances` may promise of it: whole units, and never more than an equal share gives.
    pub fn share(self, instances: u32) -> Self {
        let instances = u64::from(instances.max(1));
        match self.amount / instances {
            0 => {
                let micros = (self.per.as_micros() * u128::from(instances)).div_ceil(u128::from(self.amount.max(1)));
                Self { amount: 1, per: Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)) }
            }
            amount => Self { amount, per: self.per },
        }
    }
}

impl std::str::FromStr for Quota {
    type Err = String;

    /// Reads `100 per minute`, `100 per minutes`, `10 per 30s`, `5_000 per 2 hours`.
    fn from_str(text: &str) -> Result<Self, String> {
        let example = || Self::FORM.to_owned();
        let (amount, per) = text.split_once(" per ").ok_or_else(example)?;
        let digits = amount.trim().replace('_', "");
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(example());
        }
        let amount = digits.parse().ok().filter(|amount| *amount <= 1_000_000_000);
        let amount: u64 = amount.ok_or("a quota is at most 1,000,000,000 requests")?;
        if amount == 0 {
            return Err("a quota of 0 would refuse every request".into());
        }
        let per = per.trim();
        let one = Self::UNITS.iter().find(|(name, _)| per.strip_suffix('s').unwrap_or(per) == *name);
        let per = match one {
            Some((_, seconds)) => Duration::from_secs(*seconds),
            None => humantime::parse_duration(per).map_err(|_| example())?,
        };
        if per < Duration::from_secs(1) || per > Duration::from_secs(366 * 24 * 60 * 60) {
            return Err("the window of a quota is between a second and a year".into());
        }
        if u128::from(amount) > per.as_micros() {
            return Err("a quota is at most 1,000,000 requests a second".into());
        }
        Ok(Self { amount, per })
    }
}

impl std::fmt::Display for Quota {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { amount, per } = self;
        match (per.as_secs(), per.subsec_nanos()) {
            (1, 0) => write!(f, "{amount} per second"),
            (60, 0) => write!(f, "{amount} per minute"),
            (3600, 0) => write!(f, "{amount} per hour"),
            (Self::DAY, 0) => write!(f, "{amount} per day"),
            (Self::WEEK, 0) => write!(f, "{amount} per week"),
            (Self::MONTH, 0) => write!(f, "{amount} per month"),
            (Self::YEAR, 0) => write!(f, "{amount} per year"),
            _ => write!(f, "{amount} per {}", humantime::format_duration(*per)),
        }
    }
}

#[cfg(test)]
mod reading {
    use super::Quota;

    #[test]
    fn a_quota_reads_back_as_it_was_written() {
        for text in
            ["100 per minute", "1 per second", "5 per hour", "7 per day", "3 per month", "10 per 30s", "2 per 1m 30s"]
        {
            assert_eq!(text.parse::<Quota>().unwrap().to_string(), text);
        }
        assert_eq!("100 per minutes".parse::<Quota>().unwrap().to_string(), "100 per minute");
        assert_eq!("5_000 per 2 hours".parse::<Quota>().unwrap().to_string(), "5000 per 2h");
    }

    #[test]
    fn a_share_is_whole_units_and_never_more_than_it_gives() {
        let share = |text: &str, instances| text.parse::<Quota>().unwrap().share(instances).to_string();
        assert_eq!(share("100 per minute", 1), "100 per minute");
        assert_eq!(share("100 per minute", 3), "33 per minute");
        assert_eq!(share("2 per minute", 3), "1 per 1m 30s");
        assert_eq!(share("3 per second", 7), "1 per 2s 333ms 334us");
        assert_eq!(share("1 per hour", 0), "1 per hour");
    }

    #[test]
    fn a_bad_quota_says_what_is_wrong() {
        for (text, error) in [
            ("100/min", "a quota reads like `100 per minute` or `10 per 30s`"),
            ("-1 per minute", "a quota reads like `100 per minute` or `10 per 30s`"),
            ("1 per fortnight", "a quota reads like `100 per minute` or `10 per 30s`"),
            ("0 per minute", "a quota of 0 would refuse every request"),
            ("99999999999999999999999 per day", "a quota is at most 1,000,000,000 requests"),
            ("5 per 10ms", "the window of a quota is between a second and a year"),
            ("2000000 per second", "a quota is at most 1,000,000 requests a second"),
        ] {
            assert_eq!(text.parse::<Quota>().unwrap_err(), error, "{text}");
        }
    }
}
