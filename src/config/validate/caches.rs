//! `[cache.NAME]`.

use std::ops::Range;
use std::sync::Arc;

use http::{HeaderName, Method};

use super::cached;
use super::process::{count, sized};
use crate::cache::{ClientDirectives, Coding, Cookies, KeyPart, Mode, Policy, Scope, SetCookie};
use crate::config::quantity;
use crate::config::raw::{Fault, Placed, Reading, Table, Value, choice, text};

/// `[cache.NAME]`.
pub fn cache(name: &Placed<String>, table: &mut Table<'_>) -> Option<Arc<Policy>> {
    let mut policy = Policy::new(&name.value);
    table.set("mode", &mut policy.mode, choice(&[("on", Mode::On), ("observe", Mode::Observe)]));
    freshness(table, &mut policy);
    staleness(table, &mut policy);
    table.set("cookies", &mut policy.cookies, choice(&[("private", Cookies::Private), ("ignore", Cookies::Ignore)]));
    let set_cookie = [("refuse", SetCookie::Refuse), ("strip", SetCookie::Strip), ("store", SetCookie::Store)];
    table.set("set_cookie", &mut policy.set_cookie, choice(&set_cookie));
    keying(table, &mut policy);
    table.set("post_body", &mut policy.post_body, |value| sized(1, 16 << 20)(value).map(Some));
    table.set("max_body", &mut policy.max_body, sized(1, 1 << 30));
    table.set("compress", &mut policy.compress, Value::flag);
    table.set("piece", &mut policy.piece, sized(16 << 10, 64 << 20));
    if let Some(encode) = table.list("encode", |value| choice(&CODINGS)(value)) {
        policy.encode = encode.value.into_iter().map(|coding| coding.value).collect();
    }
    table.set("max_variants", &mut policy.max_variants, count(1..1025));
    table.set("max_varying", &mut policy.max_varying, count(1..1_000_001));
    coalescing(table, &mut policy);
    if let Some(tags) = table.list("tags", |value| field_name(value.text()?)) {
        policy.tags = tags.value.into_iter().map(|tag| tag.value).collect();
    }
    table.set("max_tags", &mut policy.max_tags, count(1..1025));
    table.set("status_key", &mut policy.status_key, Value::flag);
    cached::warn_of(&policy, table);
    Some(Arc::new(policy))
}

/// What a route makes of its cache: whom it knows, and what it takes.
pub fn on_route(reading: &Reading<'_>, at: &Range<usize>, policy: &Policy, has_session: bool, methods: &[Method]) {
    if policy.is_by_principal() && !has_session {
        let message = format!("cache `{}` is keyed by the principal, and this route has no session", policy.name);
        reading.error(at, Fault::with_help(message, "session = \"NAME\", or a cache that is not"));
    }
    let takes = |method| methods.is_empty() || methods.contains(&method);
    let reads_posts = policy.post_body.is_some() && takes(Method::POST);
    if !reads_posts && !takes(Method::GET) {
        reading.warning(at, "nothing is cached here: the route takes no GET");
    }
}

/// Content codings by name.
const CODINGS: [(&str, Coding); 3] = [("br", Coding::Brotli), ("zstd", Coding::Zstd), ("gzip", Coding::Gzip)];

fn freshness(table: &mut Table<'_>, policy: &mut Policy) {
    let freshness = &mut policy.freshness;
    let lifetime = |value: &str| quantity::duration(value).map(Some);
    table.set("ttl", &mut freshness.ttl, text(lifetime));
    table.set("override_ttl", &mut freshness.override_ttl, text(lifetime));
    table.set("heuristic", &mut freshness.heuristic, text(lifetime));
    let words = [("ignore", ClientDirectives::Ignore), ("honour", ClientDirectives::Honour)];
    table.set("client_directives", &mut freshness.client_directives, choice(&words));
}

fn staleness(table: &mut Table<'_>, policy: &mut Policy) {
    let staleness = &mut policy.staleness;
    table.set("keep_stale", &mut staleness.keep, text(quantity::duration_or_zero));
    table.set("stale_while_revalidate", &mut staleness.while_revalidate, text(quantity::duration_or_zero));
    table.set("stale_if_error", &mut staleness.if_error, text(quantity::duration_or_zero));
    table.set("stale_if_unreachable", &mut staleness.if_unreachable, Value::flag);
    table.set("retry_refresh", &mut staleness.retry, text(quantity::duration));
}

fn keying(table: &mut Table<'_>, policy: &mut Policy) {
    if let Some(parts) = table.list("key", |value| key_part(value.text()?)) {
        policy.keying.by = parts.value.into_iter().map(|part| part.value).collect();
    }
    let query = &mut policy.keying.query;
    table.set("query", &mut query.sorted, choice(&[("as-sent", false), ("sorted", true)]));
    for (key, names) in [("query_keep", &mut query.keep), ("query_drop", &mut query.drop)] {
        if let Some(list) = table.list(key, |value| parameter(value.text()?)) {
            *names = list.value.into_iter().map(|name| name.value).collect();
        }
    }
}

fn coalescing(table: &mut Table<'_>, policy: &mut Policy) {
    let coalescing = &mut policy.coalescing;
    let scopes = [("off", Scope::Off), ("process", Scope::Process), ("fleet", Scope::Fleet)];
    table.set("coalesce", &mut coalescing.scope, choice(&scopes));
    table.set("max_waiters", &mut coalescing.max_waiters, count(1..1_000_001));
    table.set("hit_for_miss", &mut coalescing.hit_for_miss, text(quantity::duration_or_zero));
    table.set("fleet_wait", &mut coalescing.fleet_wait, text(quantity::duration));
}

fn key_part(text: &str) -> Result<KeyPart, Fault> {
    match text.split_once(':') {
        None if text == "principal" => Ok(KeyPart::Principal),
        Some(("field", name)) => Ok(KeyPart::Field(field_name(name)?)),
        _ => Err(Fault::with_help(format!("`{text}` is no part of a key"), "\"principal\" or \"field:NAME\"")),
    }
}

fn field_name(name: &str) -> Result<HeaderName, Fault> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is not a field name").into())
}

/// A query parameter, or the start of several (`utm_*`).
fn parameter(name: &str) -> Result<String, Fault> {
    let bare = name.strip_suffix('*').unwrap_or(name);
    if bare.is_empty() || bare.contains(['*', '&', '=', '#', '?', ' ']) {
        let help = "a name as it is sent, or the start of several: \"utm_*\"";
        return Err(Fault::with_help(format!("`{name}` names no query parameter"), help));
    }
    Ok(name.to_owned())
}
