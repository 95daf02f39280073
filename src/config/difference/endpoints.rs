//! What an upstream says about its endpoints, line by line.

use super::{Said, list, plain, time};
use crate::upstream::Settings;
use crate::upstream::balance::Balance;

/// Each key that chooses endpoints, leaves them out, or sends a request again.
pub fn lines(upstream: &Settings) -> Vec<(&'static str, Said)> {
    let balance = match &upstream.balance {
        Balance::RoundRobin => "round-robin".to_owned(),
        Balance::LeastRequests => "least-requests".to_owned(),
        Balance::Hash(key) => format!("hash by {key}"),
    };
    let check = upstream.health_check.as_ref().map(|check| {
        let (every, timeout) = (time(check.every), time(check.timeout));
        let (ill, well) = (check.unhealthy_after, check.healthy_after);
        let (first, last) = (check.expect.start(), check.expect.end());
        let path = &check.path;
        format!("{path} every {every} within {timeout}, {first}-{last}, unhealthy after {ill}, healthy after {well}")
    });
    let (breaker, retries) = (&upstream.breaker, &upstream.retries);
    let reasons = [("connect", retries.connect), ("reset", retries.reset)];
    let reasons = reasons.into_iter().filter(|(_, is_one)| *is_one).map(|(reason, _)| reason.to_owned());
    vec![
        ("balance", plain(balance)),
        ("dns_refresh", plain(time(upstream.dns_refresh))),
        ("max_addresses", plain(upstream.max_addresses)),
        ("health_check", list(check)),
        ("breaker.failures", plain(breaker.failures)),
        ("breaker.statuses", list(breaker.statuses.iter().map(u16::to_string))),
        ("breaker.open", plain(time(breaker.open))),
        ("breaker.longest", plain(time(breaker.longest))),
        ("breaker.most_out", plain(format!("{}%", breaker.most_percent))),
        ("slow_start", plain(upstream.slow_start.map_or("none".to_owned(), time))),
        ("max_connections_per_endpoint", plain(upstream.max_connections_per_endpoint)),
        ("warm_connections", plain(upstream.warm_connections)),
        ("retries.most", plain(retries.most)),
        ("retries.on", list(reasons.chain(retries.statuses.iter().map(u16::to_string)))),
        ("retries.budget", plain(format!("{}%", retries.budget))),
        ("retries.minimum", plain(retries.minimum)),
    ]
}
