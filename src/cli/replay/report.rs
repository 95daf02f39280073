//! What is told in the end: the facts, put together from the counts. Pure.
//!
//! 1. A quota is suggested that refuses no more than one key of a thousand, and none of fewer: the smallest round one. What
//!    of the configured quota is more generous is no reason to suggest less; both are told, and people decide.
//! 2. What the log did not tell, and what was left out for that, is a warning.

use super::figures::{percent, some};
use super::judge::{Judge, Tally};
use super::keys::Keys;
use super::order::Late;
use super::shown;
use super::tally::{Minute, per_mille};
use super::traffic::Traffic;
use crate::config::settings::Settings;
use crate::rate_limit::quota::Quota;
use crate::rate_limit::{Cost, OnExceed};

/// What became of the lines.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    /// All.
    pub read: u64,
    /// Those that nobody can read.
    pub unreadable: u64,
    /// The first of these: where, and why.
    pub examples: Vec<String>,
    /// Those whose request was none, or was malformed.
    pub no_request: u64,
    /// Those that no route takes.
    pub no_route: u64,
    /// Those whose route has no limit, or that were answered ahead of them.
    pub unlimited: u64,
    /// Those whose time came too late.
    pub late: Late,
    /// Those whose time the next line of their log refuted.
    pub ahead: u64,
    /// Those from an address that the configuration says is a trusted proxy's.
    pub from_proxies: u64,
    /// Those that tell no host.
    pub hostless: u64,
    /// Those whose time has parts of a second.
    pub exact: u64,
    /// It was interrupted.
    pub interrupted: bool,
}

/// Everything that is told.
#[derive(Debug)]
pub struct Report {
    /// What became of the lines.
    pub lines: Lines,
    /// Requests that came to a limit.
    pub judged: u64,
    /// Those that one refuses.
    pub refused: u64,
    /// The first and the last of them, in µs since the Unix epoch.
    pub span: Option<(u64, u64)>,
    /// What each limit makes of it.
    pub limits: Vec<OfLimit>,
    /// What has to be known to believe the rest.
    pub warnings: Vec<String>,
}

/// What one limit makes of it.
#[derive(Debug)]
pub struct OfLimit {
    /// Its name.
    pub name: String,
    /// By what it counts.
    pub key: String,
    /// Its quota.
    pub quota: Quota,
    /// It refuses nobody.
    pub shadow: bool,
    /// Requests that it judged.
    pub judged: u64,
    /// Those that it refuses; in shadow: would.
    pub refused: u64,
    /// Those that wait for their turn.
    pub delayed: u64,
    /// Exempt ones.
    pub exempt: u64,
    /// Keys that it told apart.
    pub keys: usize,
    /// Those of which it refuses a request.
    pub keys_refused: usize,
    /// Keys that there was no room for, about.
    pub keys_beyond: u64,
    /// The minute with the most requests.
    pub busiest: Option<Minute>,
    /// Units in the busiest window of 50 %, 99 % and 99.9 % of the keys, at most; and of all.
    pub peaks: [u64; 4],
    /// The trial quota, the requests that it refuses, and of how many keys.
    pub trial: Option<(Quota, u64, usize)>,
    /// The smallest round quota that spares all but one key of a thousand, and how many it refuses; `None`: there is none,
    /// or nothing was judged.
    pub suggestion: Option<(Quota, usize)>,
    /// The keys with the most refusals, first the most.
    pub top: Vec<Refused>,
}

/// A key that is refused.
#[derive(Debug)]
pub struct Refused {
    /// As it is shown.
    pub key: String,
    /// Its requests.
    pub judged: u64,
    /// Those that are refused.
    pub refused: u64,
    /// Units in its busiest window.
    pub peak: u64,
}

/// How it is told.
#[derive(Clone, Copy, Debug)]
pub struct Detail {
    /// Keys that are listed for each limit.
    pub top: usize,
    /// Keys are shown as they are.
    pub reveal: bool,
}

impl Report {
    /// Puts it together.
    pub fn new(lines: Lines, settings: &Settings, traffic: &Traffic, judge: &Judge, detail: Detail) -> Self {
        let tallies = || judge.limits().iter().zip(traffic.limits().iter().map(|counted| &counted.keys));
        let limits = tallies().map(|(tally, keys)| OfLimit::new(tally, keys, detail)).collect();
        let mut warnings = of_lines(&lines, settings);
        for (tally, keys) in tallies() {
            of_tally(&mut warnings, tally, keys);
        }
        let uncounted = settings.routes.iter().flat_map(|route| &route.limits);
        let mut uncounted: Vec<_> = uncounted.filter(|limit| limit.counting().is_none()).map(|of| &of.name).collect();
        uncounted.sort_unstable();
        uncounted.dedup();
        warnings.extend(uncounted.into_iter().map(|name| {
            format!("limit {name} counts requests in flight, of which a log tells nothing: it is not judged")
        }));
        Self { lines, judged: judge.requests, refused: judge.refused, span: judge.span, limits, warnings }
    }
}

impl OfLimit {
    fn new(tally: &Tally, keys: &Keys, detail: Detail) -> Self {
        let mut peaks: Vec<u64> = tally.counters.iter().map(|counter| counter.usage.peak()).collect();
        peaks.sort_unstable();
        let mut refused: Vec<usize> = (0..tally.counters.len()).filter(|at| tally.counters[*at].refused > 0).collect();
        let keys_refused = refused.len();
        // Of equals, the one that came first.
        refused.sort_by_key(|at| std::cmp::Reverse(tally.counters[*at].refused));
        let top = refused.into_iter().take(detail.top).map(|at| {
            let (counter, text) = (&tally.counters[at], &keys.texts()[at]);
            let key = if detail.reveal { text.to_string() } else { shown::redacted(&tally.limit.key, text) };
            Refused { key, judged: counter.judged, refused: counter.refused, peak: counter.usage.peak() }
        });
        let trial = tally.limit.trial.map(|quota| {
            let keys = tally.counters.iter().filter(|counter| counter.trial_refused > 0).count();
            (quota, tally.trial_refused, keys)
        });
        Self {
            name: tally.limit.name.to_string(),
            key: tally.limit.key.to_string(),
            quota: tally.counting.quota,
            shadow: tally.limit.shadow,
            judged: tally.judged,
            refused: tally.refused,
            delayed: tally.delayed,
            exempt: tally.exempt,
            keys: tally.counters.len(),
            keys_refused,
            keys_beyond: keys.beyond(),
            busiest: tally.busiest.most(),
            peaks: [500, 990, 999, 1000].map(|part| per_mille(&peaks, part)),
            trial,
            suggestion: suggestion(tally),
            top: top.collect(),
        }
    }

    /// What of its requests is refused, in percent.
    pub fn refused_percent(&self) -> f64 {
        percent(self.refused, self.judged)
    }
}

/// Rule 1.
fn suggestion(tally: &Tally) -> Option<(Quota, usize)> {
    let amounts = tally.steps.amounts();
    let mut needing = vec![0; amounts.len() + 1];
    for counter in &tally.counters {
        needing[tally.steps.needed(&counter.demand)] += 1;
    }
    let keys = tally.counters.len();
    let mut spared = 0;
    for (amount, needing) in amounts.iter().zip(needing) {
        spared += needing;
        if keys > 0 && keys - spared <= keys / 1000 {
            return Some((Quota { amount: *amount, per: tally.counting.quota.per }, keys - spared));
        }
    }
    None
}

fn of_lines(lines: &Lines, settings: &Settings) -> Vec<String> {
    let mut said = Vec::new();
    if lines.interrupted {
        said.push("it was interrupted: this is about the lines that were read until then".to_owned());
    }
    said.extend(lines.examples.iter().map(|example| format!("cannot read {example}")));
    if lines.unreadable > lines.examples.len() as u64 {
        said.push(format!("{} cannot be read; these were the first", some(lines.unreadable, "line")));
    }
    if lines.late.requests > 0 {
        let most = humantime::format_duration(std::time::Duration::from_micros(lines.late.most));
        let requests = some(lines.late.requests, "request");
        said.push(format!("{requests} left out: later by up to {most} than --reorder allows"));
    }
    if lines.ahead > 0 {
        let alone = some(lines.ahead, "line");
        said.push(format!("{alone} left out: ahead of the next one by more than --reorder"));
    }
    if lines.from_proxies > 0 {
        let lines = some(lines.from_proxies, "line");
        said.push(format!("{lines} from a trusted proxy: the log does not show the clients behind it"));
    }
    let by_host = settings.routes.iter().any(|route| !route.pattern.hosts.is_empty());
    if lines.hostless > 0 && by_host {
        let lines = some(lines.hostless, "line");
        said.push(format!("{lines} without a host, and some routes have one: --host says which it was"));
    }
    if lines.exact == 0 && lines.read > lines.unreadable {
        said.push("times are whole seconds: requests of one second count as simultaneous".to_owned());
    }
    said
}

fn of_tally(said: &mut Vec<String>, tally: &Tally, keys: &Keys) {
    let limit = &*tally.limit;
    let mut say = |what: String| said.push(format!("limit {}: {what}", limit.name));
    let requests = |count: u64| some(count, "request");
    if tally.untold > 0 {
        say(format!("{} left out: their lines do not tell {}", requests(tally.untold), limit.key));
    }
    if tally.skipped > 0 {
        say(format!("{} without {} not counted", requests(tally.skipped), limit.key));
    }
    if tally.lacking > 0 {
        say(format!("{} without {} refused with 400", requests(tally.lacking), limit.key));
    }
    if tally.beyond > 0 {
        let (requests, beyond) = (requests(tally.beyond), some(keys.beyond(), "key"));
        say(format!("{requests} of about {beyond} left out: there was no room for more than --max-keys"));
    }
    if tally.delayed > 0 || matches!(limit.on_exceed, OnExceed::Delay(_)) {
        say("it delays: who waits would have sent the next request later".to_owned());
    }
    if matches!(limit.cost, Cost::Response(_)) {
        say("what the app says of a cost is in no log: each request costs 1".to_owned());
    }
    if !limit.exempt.session.is_empty() {
        say("who is exempt by session is in no log, and counted".to_owned());
    }
    if limit.plan.is_some() {
        say("plans are in Redis: everybody is judged by the quota of the configuration".to_owned());
    }
}
