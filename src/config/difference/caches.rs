//! What is said of caches.

use std::time::Duration;

use super::{Said, Section, list, plain, size, time};
use crate::cache::{Coding, KeyPart, Mode, Policy, Scope};

/// `[cache.NAME]`.
pub fn section(policy: &Policy) -> Section {
    let (freshness, staleness, coalescing) = (&policy.freshness, &policy.staleness, &policy.coalescing);
    let word = |word: &dyn std::fmt::Debug| plain(format!("{word:?}").to_lowercase());
    let query = &policy.keying.query;
    let lines = vec![
        ("mode", plain(if policy.mode == Mode::On { "on" } else { "observe" })),
        ("ttl", lifetime(freshness.ttl)),
        ("override_ttl", lifetime(freshness.override_ttl)),
        ("heuristic", lifetime(freshness.heuristic)),
        ("client_directives", word(&freshness.client_directives)),
        ("keep_stale", plain(time(staleness.keep))),
        ("stale_while_revalidate", plain(time(staleness.while_revalidate))),
        ("stale_if_error", plain(time(staleness.if_error))),
        ("stale_if_unreachable", plain(staleness.if_unreachable)),
        ("retry_refresh", plain(time(staleness.retry))),
        ("cookies", word(&policy.cookies)),
        ("set_cookie", word(&policy.set_cookie)),
        ("key", list(policy.keying.by.iter().map(part))),
        ("query", plain(if query.sorted { "sorted" } else { "as-sent" })),
        ("query_keep", list(query.keep.iter().cloned())),
        ("query_drop", list(query.drop.iter().cloned())),
        ("post_body", plain(policy.post_body.map_or("none".to_owned(), size))),
        ("max_body", plain(size(policy.max_body))),
        ("compress", plain(policy.compress)),
        ("piece", plain(size(policy.piece))),
        ("encode", list(policy.encode.iter().map(|coding| coding_name(*coding).to_owned()))),
        ("max_variants", plain(policy.max_variants)),
        ("max_varying", plain(policy.max_varying)),
        (
            "coalesce",
            plain(match coalescing.scope {
                Scope::Off => "off",
                Scope::Process => "process",
                Scope::Fleet => "fleet",
            }),
        ),
        ("max_waiters", plain(coalescing.max_waiters)),
        ("hit_for_miss", plain(time(coalescing.hit_for_miss))),
        ("fleet_wait", plain(time(coalescing.fleet_wait))),
        ("tags", list(policy.tags.iter().map(ToString::to_string))),
        ("max_tags", plain(policy.max_tags)),
        ("status_key", plain(policy.status_key)),
    ];
    Section { name: format!("cache.{}", policy.name), lines }
}

fn lifetime(lifetime: Option<Duration>) -> Said {
    plain(lifetime.map_or("none".to_owned(), time))
}

fn part(part: &KeyPart) -> String {
    match part {
        KeyPart::Principal => "principal".into(),
        KeyPart::Field(name) => format!("field:{name}"),
    }
}

fn coding_name(coding: Coding) -> &'static str {
    match coding {
        Coding::Brotli => "br",
        Coding::Zstd => "zstd",
        Coding::Gzip => "gzip",
    }
}
