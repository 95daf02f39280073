//! Whom the sentinels name together.
//!
//! 1. Whom more of them name comes first; among those that as many name, who was appointed later (`config-epoch`).
//! 2. The one in office is left only for one that comes before it.
//!
//! # Why
//! An epoch grows with each fail-over, for which most sentinels were needed: between a sentinel that knows of it and one
//! that was cut off, the first is right. It is not asked first, for an operator who has the sentinels watch another server
//! (`SENTINEL REMOVE`, `SENTINEL MONITOR`) begins at zero again.

use std::cmp::Reverse;

use super::Endpoint;

/// What one sentinel says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Vote {
    /// Whom it names.
    pub(super) master: Endpoint,
    /// Since which epoch, by its count; zero, if it does not say.
    pub(super) epoch: u64,
}

/// Somebody who is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate<'v> {
    /// Where it is.
    pub(super) master: &'v Endpoint,
    /// By how many sentinels.
    pub(super) votes: usize,
    /// Since the last of the epochs that they say.
    epoch: u64,
}

/// All that are named, the likeliest first.
pub(super) fn ranked(votes: &[Vote]) -> Vec<Candidate<'_>> {
    let mut ranked: Vec<Candidate<'_>> = Vec::new();
    for Vote { master, epoch } in votes {
        match ranked.iter_mut().find(|candidate| candidate.master == master) {
            Some(candidate) => {
                candidate.votes += 1;
                candidate.epoch = candidate.epoch.max(*epoch);
            }
            None => ranked.push(Candidate { master, votes: 1, epoch: *epoch }),
        }
    }
    ranked.sort_by_key(|candidate| Reverse(candidate.rank()));
    ranked
}

/// Who comes before `current`, and before all others.
pub(super) fn successor<'v>(votes: &'v [Vote], current: &Endpoint) -> Option<&'v Endpoint> {
    let ranked = ranked(votes);
    let in_office = ranked.iter().find(|candidate| candidate.master == current);
    let first = ranked.first()?;
    in_office.is_none_or(|current| first.rank() > current.rank()).then_some(first.master)
}

impl Candidate<'_> {
    fn rank(&self) -> (usize, u64) {
        (self.votes, self.epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(port: u16) -> Endpoint {
        Endpoint::Tcp { host: "10.0.0.7".into(), port }
    }

    fn votes(votes: &[(u16, u64)]) -> Vec<Vote> {
        votes.iter().map(|&(port, epoch)| Vote { master: server(port), epoch }).collect()
    }

    #[test]
    fn most_votes_count_then_the_later_epoch_and_a_tie_leaves_the_one_in_office() {
        // Server 1 is the master by what was known before.
        for (said, successor) in [
            (&[][..], None),
            (&[(1, 0)], None),
            (&[(2, 0)], Some(2)),
            (&[(1, 9), (2, 1), (2, 1)], Some(2)),
            (&[(2, 9), (1, 1), (1, 1)], None),
            (&[(1, 1), (2, 2)], Some(2)),
            (&[(1, 2), (2, 1)], None),
            (&[(2, 1), (1, 1)], None),
            (&[(3, 1), (2, 1), (2, 0), (3, 2), (1, 7)], Some(3)),
        ] {
            let votes = votes(said);
            assert_eq!(super::successor(&votes, &server(1)), successor.map(server).as_ref(), "{said:?}");
        }
    }
}
