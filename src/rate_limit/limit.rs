//! What a limit says: `[limit.NAME]`, and whose quotas it takes from a plan.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, StatusCode};
use ipnet::IpNet;

use super::partition::{Grouping, Key, Part};
use super::quota::Quota;
use crate::exchange::{Grant, Principal};
pub use crate::local_reply::Refusal;

/// `[limit.NAME]`: a quota, or a number of requests in flight, for each value of a partition key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// NAME.
    pub name: Arc<str>,
    /// What is counted apart.
    pub key: Key,
    /// How much of an address counts.
    pub grouping: Grouping,
    /// What a request counts by that lacks a part of the key.
    pub missing: Missing,
    /// Who is not counted.
    pub exempt: Exempt,
    /// How much.
    pub rule: Rule,
    /// What a request costs.
    pub cost: Cost,
    /// Which requests are charged.
    pub count: Count,
    /// A request that a limit refuses is charged all the same.
    pub charge_refused: bool,
    /// What happens to a request beyond the quota.
    pub on_exceed: OnExceed,
    /// The client is warned, and it is counted, when so many percent of the quota are used; 1 to 99.
    pub warn_at: Option<u8>,
    /// It decides, counts and reports, and refuses nobody.
    pub shadow: bool,
    /// Another quota that is counted beside, and refuses nobody.
    pub trial: Option<Quota>,
    /// Whether units may be taken ahead.
    pub precision: Precision,
    /// Where clients' own quotas stand.
    pub plan: Option<Arc<Plan>>,
    /// What a refusal looks like.
    pub refusal: Refusal,
}

/// What is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Units in a time.
    Quota(Counting),
    /// Requests that are not answered to their end.
    InFlight {
        /// At once; at least 1.
        most: u64,
        /// How long one counts whose instance is gone.
        life: Duration,
    },
}

/// How units are counted in a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counting {
    /// By which algorithm.
    pub algorithm: Algorithm,
    /// How much; of a client without a plan, where there are plans.
    pub quota: Quota,
    /// Units that may be spent at once (token bucket); at least 1. Unless set: the quota's amount.
    pub burst: u64,
    /// The time zone (IANA's name) whose days, weeks, months or years are the windows; otherwise they follow the Unix epoch.
    pub calendar: Option<Arc<str>>,
}

/// How a limit counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// `token-bucket`: GCRA.
    #[default]
    TokenBucket,
    /// `fixed-window`.
    FixedWindow,
    /// `sliding-window`: two counters.
    SlidingWindow,
    /// `sliding-log`: every request; exact.
    SlidingLog,
}

/// `missing`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// It counts by something else in the place of the part; `address` unless said.
    By(Part),
    /// It is not counted.
    Skip,
    /// It is refused with 400.
    Refuse,
}

/// `exempt`: whoever is one of these is not counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exempt {
    /// Client addresses.
    pub addresses: Vec<IpNet>,
    /// Texts of the partition key, as `partition` spells them.
    pub keys: Vec<String>,
    /// Attributes of the session by dotted path, and the values that exempt.
    pub session: Vec<(String, Vec<String>)>,
}

/// `cost`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cost {
    /// Units; a route may say otherwise.
    Units(u64),
    /// As many as this field of the app's answer says, charged after it; 1 if it says nothing. A unit must be left before.
    Response(HeaderName),
}

/// `count`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Count {
    /// Every request.
    #[default]
    All,
    /// Those that are forwarded to the app.
    Forwarded,
    /// Those whose answer has one of these statuses, charged after it; a unit must be left before. First and last of each
    /// range.
    Statuses(Vec<(StatusCode, StatusCode)>),
}

/// `on_exceed`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnExceed {
    /// It is refused.
    #[default]
    Refuse,
    /// It waits for its turn, at most so long; beyond: it is refused.
    Delay(Duration),
}

/// `precision`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Every request is counted where counters live.
    #[default]
    Exact,
    /// A process takes units of a hot key ahead, and spends them by itself.
    Leased,
}

/// `[plan.NAME]`: where the quotas of a client stand who presents an API key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// NAME.
    pub name: Arc<str>,
    /// Where the API key is.
    pub key: Part,
    /// The Redis key of a client's record: `{key}` is the API key, `{sha256}` its digest (hexadecimal).
    pub record: String,
    /// What becomes of an API key without a record.
    pub unknown: Unknown,
}

/// `unknown`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unknown {
    /// The limits' own quotas count.
    #[default]
    Default,
    /// 401. So does a request without an API key.
    Refuse,
}

impl Limit {
    /// A limit that says nothing but this: a token bucket, counted exactly.
    pub fn new(name: &str, key: Key, quota: Quota) -> Self {
        let counting = Counting { algorithm: Algorithm::TokenBucket, quota, burst: quota.amount, calendar: None };
        Self {
            name: name.into(),
            key,
            grouping: Grouping::default(),
            missing: Missing::By(Part::Address),
            exempt: Exempt::default(),
            rule: Rule::Quota(counting),
            cost: Cost::Units(1),
            count: Count::All,
            charge_refused: false,
            on_exceed: OnExceed::Refuse,
            warn_at: None,
            shadow: false,
            trial: None,
            precision: Precision::Exact,
            plan: None,
            refusal: Refusal::default(),
        }
    }

    /// How units are counted; `None` if requests in flight are.
    pub fn counting(&self) -> Option<&Counting> {
        match &self.rule {
            Rule::Quota(counting) => Some(counting),
            Rule::InFlight { .. } => None,
        }
    }

    /// Whether what a request costs is known only from its answer.
    pub fn is_charged_after(&self) -> bool {
        matches!(self.cost, Cost::Response(_)) || matches!(self.count, Count::Statuses(_))
    }

    /// Whether it can be decided only once the session is verified.
    pub fn needs_session(&self) -> bool {
        let by_missing = matches!(&self.missing, Missing::By(Part::Session | Part::SessionField(_)));
        self.key.needs_session() || by_missing || !self.exempt.session.is_empty()
    }

    /// The attributes of the session that it asks for, by dotted path.
    pub fn attributes(&self) -> impl Iterator<Item = &String> {
        let instead = if let Missing::By(part) = &self.missing { Some(part) } else { None };
        let parts = self.key.0.iter().chain(instead);
        let of_parts = parts.filter_map(|part| if let Part::SessionField(field) = part { Some(field) } else { None });
        of_parts.chain(self.exempt.session.iter().map(|(path, _)| path))
    }
}

impl Counting {
    /// Requests of which a sliding log keeps track, for each key, at most.
    pub const LONGEST_LOG: u64 = 10_000;

    /// Units that may be spent at once at most.
    pub fn at_once(&self) -> u64 {
        if self.algorithm == Algorithm::TokenBucket { self.burst } else { self.quota.amount }
    }

    /// Whether a calendar has windows of this length.
    pub fn is_of_calendar(per: Duration) -> bool {
        let whole = [60 * 60, Quota::DAY, Quota::WEEK, Quota::MONTH, Quota::YEAR];
        per.subsec_nanos() == 0 && whole.contains(&per.as_secs())
    }

    /// The same, with what a plan grants in the place of quota and burst.
    ///
    /// # Errors
    /// A sentence that says why the algorithm cannot give it.
    pub fn granted(&self, grant: Grant) -> Result<Self, &'static str> {
        let quota = grant.quota.map_or(self.quota, |(amount, per)| Quota { amount, per });
        if self.algorithm == Algorithm::SlidingLog && quota.amount > Self::LONGEST_LOG {
            return Err("a sliding log is of 10,000 requests at most");
        }
        if self.calendar.is_some() && !Self::is_of_calendar(quota.per) {
            return Err("this is no window of a calendar");
        }
        let burst = match (self.algorithm, grant) {
            (Algorithm::TokenBucket, Grant { burst: Some(burst), .. }) => burst,
            (_, Grant { quota: Some(_), .. }) => quota.amount,
            (_, Grant { quota: None, .. }) => self.burst,
        };
        Ok(Self { quota, burst, ..self.clone() })
    }
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Quota(counting) => counting.quota.fmt(f),
            Self::InFlight { most, .. } => write!(f, "{most} in flight"),
        }
    }
}

impl Exempt {
    /// Whether nobody is.
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.keys.is_empty() && self.session.is_empty()
    }

    /// Whether this session is.
    pub fn session(&self, principal: &Principal) -> bool {
        let has = |(path, values): &(String, Vec<String>)| {
            principal.attribute(path).is_some_and(|value| values.iter().any(|known| known == value))
        };
        self.session.iter().any(has)
    }
}

impl Count {
    /// Whether an answer with `status` is charged.
    pub fn counts(&self, status: StatusCode) -> bool {
        match self {
            Self::All | Self::Forwarded => true,
            Self::Statuses(ranges) => ranges.iter().any(|(first, last)| (*first..=*last).contains(&status)),
        }
    }
}
