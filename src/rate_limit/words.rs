//! What limits are called where people read of them: in `check`, in what a reload changed, in `sidegate limits`.
//!
//! 1. Each word is the one that the configuration takes.
//! 2. A limit is told by how it counts and what it does then; what is as it is by default is left out, and so is whom it
//!    exempts.
//!
//! # Why
//! Whoever looks at a list of limits must not take one that refuses nobody, or counts only failures, for a wall.

use std::fmt::{Display, Formatter, Result};

use humantime::format_duration;

use super::{Algorithm, Cost, Count, Limit, OnExceed};

impl Display for Algorithm {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Self::TokenBucket => "token-bucket",
            Self::FixedWindow => "fixed-window",
            Self::SlidingWindow => "sliding-window",
            Self::SlidingLog => "sliding-log",
        })
    }
}

impl Display for Cost {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Units(units) => write!(f, "{units}"),
            Self::Response(name) => write!(f, "response:{name}"),
        }
    }
}

impl Display for Count {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let ranges = match self {
            Self::All => return f.write_str("all"),
            Self::Forwarded => return f.write_str("forwarded"),
            Self::Statuses(ranges) => ranges,
        };
        for (index, (first, last)) in ranges.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { " or " })?;
            f.write_str(first.as_str())?;
            if first != last {
                write!(f, "-{}", last.as_str())?;
            }
        }
        Ok(())
    }
}

impl Display for OnExceed {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Refuse => f.write_str("refuse"),
            Self::Delay(most) => write!(f, "delay at most {}", format_duration(*most)),
        }
    }
}

/// `5 per 10m by address, count 401 or 403, shadow`.
impl Display for Limit {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{} by {}", self.rule, self.key)?;
        if let Some(plan) = &self.plan {
            write!(f, ", or by plan {}", plan.name)?;
        }
        if let Some(counting) = self.counting() {
            if counting.burst != counting.quota.amount {
                write!(f, ", burst {}", counting.burst)?;
            }
            if counting.algorithm != Algorithm::TokenBucket {
                write!(f, ", {}", counting.algorithm)?;
            }
            if let Some(zone) = &counting.calendar {
                write!(f, ", calendar {zone}")?;
            }
        }
        if self.count != Count::All {
            write!(f, ", count {}", self.count)?;
        }
        if self.cost != Cost::Units(1) {
            write!(f, ", cost {}", self.cost)?;
        }
        if self.on_exceed != OnExceed::Refuse {
            write!(f, ", {}", self.on_exceed)?;
        }
        if let Some(trial) = self.trial {
            write!(f, ", trial {trial}")?;
        }
        if self.shadow { f.write_str(", shadow") } else { Ok(()) }
    }
}
