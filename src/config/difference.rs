//! What a configuration says, line by line; and what has changed from one to another.

use std::fmt::Display;

use secrecy::{ExposeSecret, SecretString};

use super::quantity::{shown_duration as time, shown_size as size};
use super::settings::{RouteSettings, Settings};
use crate::listener::Bind;
use crate::rate_limit::Limit;
use crate::session::{Carrier, Definition, Format, Mode};
use crate::{cache, redis_pool, upstream};

/// A part of a configuration, in readable words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// `server`, `limit.NAME`, `route LABEL` …
    pub name: String,
    /// Each key with what it says.
    pub lines: Vec<(&'static str, Said)>,
}

/// What a key says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Readable words.
    Plainly(String),
    /// Compared, never shown.
    Secretly(Secret),
}

/// A secret that can be compared, and does not show itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

impl Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Plainly(words) => f.write_str(words),
            Self::Secretly(_) => f.write_str("(secret)"),
        }
    }
}

/// What changed, a line each: `limit.per-address: quota 100 per minute → 50 per minute`, `route /x added`.
pub fn difference(old: &Settings, new: &Settings) -> Vec<String> {
    let (old, new) = (sections(old), sections(new));
    let named = |sections: &[Section], name: &str| sections.iter().position(|section| section.name == name);
    let mut changes = Vec::new();
    for before in &old {
        match named(&new, &before.name) {
            None => changes.push(format!("{} removed", before.name)),
            Some(index) => changes.extend(changed(before, &new[index])),
        }
    }
    changes.extend(
        new.iter().filter(|after| named(&old, &after.name).is_none()).map(|after| format!("{} added", after.name)),
    );
    // The first route that matches equally wins, so their order is part of what they say.
    let order = |these: &[Section], those: &[Section]| -> Vec<String> {
        let both =
            these.iter().filter(|section| section.name.starts_with("route ") && named(those, &section.name).is_some());
        both.map(|section| section.name.clone()).collect()
    };
    if order(&old, &new) != order(&new, &old) {
        changes.push("routes: order changed".into());
    }
    changes
}

fn changed(before: &Section, after: &Section) -> Vec<String> {
    let pairs = before.lines.iter().zip(&after.lines).filter(|((_, old), (_, new))| old != new);
    let line = |((key, old), (_, new)): (&(&str, Said), &(&str, Said))| match (old, new) {
        (Said::Plainly(old), Said::Plainly(new)) => format!("{}: {key} {old} → {new}", before.name),
        _ => format!("{}: {key} changed", before.name),
    };
    pairs.map(line).collect()
}

/// Everything a configuration says. A section of the same name always has the same keys in the same order.
pub fn sections(settings: &Settings) -> Vec<Section> {
    let mut sections = vec![server(settings), admin(settings), log(settings)];
    sections.extend(settings.redis.as_ref().map(redis));
    let memory = &settings.memory;
    let memory =
        vec![("limit_keys", plain(memory.limits.max_keys)), ("responses", plain(size(memory.cache.max_bytes)))];
    sections.push(Section { name: "memory".into(), lines: memory });
    let limits = &settings.limits;
    let limits = vec![
        ("on_outage", plain(format!("{:?}", limits.on_outage).to_lowercase())),
        ("reset", plain(if limits.reset_in_seconds_left { "seconds-left" } else { "unix" })),
        ("draft_fields", plain(limits.draft_fields)),
    ];
    sections.push(Section { name: "limits".into(), lines: limits });
    sections.extend(settings.upstreams.iter().map(upstream));
    for route in &settings.routes {
        let limits = route.limits.iter().map(|of| limit(of));
        let session = route.session.iter().map(|(definition, _)| session(definition));
        let cache = route.cache.iter().map(|policy| cache(policy));
        for section in limits.chain(session).chain(cache) {
            if !sections.contains(&section) {
                sections.push(section);
            }
        }
    }
    sections.extend(settings.routes.iter().map(|of| route(of, settings)));
    sections
}

fn server(settings: &Settings) -> Section {
    let server = &settings.server;
    let trusted = settings.client_addr.trusted.iter().map(ToString::to_string);
    let trusted = trusted.chain(settings.client_addr.trust_unix.then(|| "unix".to_owned()));
    let tls = server.tls.iter().map(|tls| format!("{} with {}", tls.certificate.display(), tls.key.display()));
    let lines = vec![
        ("listen", list(server.listen.iter().map(Bind::to_string))),
        ("trusted_proxies", list(trusted)),
        ("tls", list(tls)),
        ("timeouts.header", plain(time(server.timeouts.header))),
        ("timeouts.body", plain(time(server.timeouts.body))),
        ("timeouts.idle", plain(time(server.timeouts.idle))),
        ("timeouts.write", plain(time(server.timeouts.write))),
        ("timeouts.half_closed", plain(time(server.timeouts.half_closed))),
        ("workers", plain(server.workers)),
        ("max_connections", plain(server.max_connections)),
        ("max_connections_per_address", plain(server.max_connections_per_address)),
        ("max_header_size", plain(size(server.max_header_size as u64))),
        ("max_target", plain(size(server.max_target as u64))),
        ("max_field_size", plain(size(server.max_field_size as u64))),
        ("max_headers", plain(server.max_headers)),
        ("max_trailer_size", plain(size(server.max_trailer_size as u64))),
        ("max_chunk_line", plain(size(server.max_chunk_line as u64))),
        ("linger", plain(time(server.linger.time))),
        ("max_linger", plain(size(server.linger.size as u64))),
        ("max_streams", plain(server.max_streams)),
        ("grace_period", plain(time(server.grace_period))),
        ("park_after", plain(time(server.park_after))),
    ];
    Section { name: "server".into(), lines }
}

fn admin(settings: &Settings) -> Section {
    let listen = settings.admin.listen.map_or("off".to_owned(), |listen| listen.to_string());
    let token = settings.admin.token.as_ref().map_or(plain("none"), secret);
    Section { name: "admin".into(), lines: vec![("listen", plain(listen)), ("token", token)] }
}

fn log(settings: &Settings) -> Section {
    let log = &settings.log;
    let lines = vec![
        ("level", plain(&log.level)),
        ("access", plain(log.access)),
        ("format", plain(format!("{:?}", log.format).to_lowercase())),
        ("buffer", plain(size(log.buffer as u64))),
    ];
    Section { name: "log".into(), lines }
}

fn redis(redis: &redis_pool::Settings) -> Section {
    let lines = vec![
        ("url", secret(&redis.url)),
        ("prefix", plain(&redis.prefix)),
        ("timeout", plain(time(redis.timeout))),
        ("connections", plain(redis.connections)),
    ];
    Section { name: "redis".into(), lines }
}

fn upstream(upstream: &upstream::Settings) -> Section {
    let lines = vec![
        ("servers", list(upstream.servers.iter().map(ToString::to_string))),
        ("timeouts.connect", plain(time(upstream.timeouts.connect))),
        ("timeouts.first_byte", plain(time(upstream.timeouts.first_byte))),
        ("timeouts.idle", plain(time(upstream.timeouts.idle))),
        ("timeouts.keep_alive", plain(time(upstream.timeouts.keep_alive))),
        ("timeouts.total", plain(upstream.timeouts.total.map_or("none".to_owned(), time))),
        ("max_connections", plain(upstream.max_connections)),
        ("max_pending", plain(upstream.max_pending)),
        ("queue_timeout", plain(time(upstream.queue_timeout))),
        ("retries", plain(upstream.retries)),
        ("expect_timeout", plain(time(upstream.expect_timeout))),
    ];
    Section { name: format!("upstream.{}", upstream.name), lines }
}

fn limit(limit: &Limit) -> Section {
    let lines = vec![("key", plain(&limit.key)), ("quota", plain(limit.quota)), ("burst", plain(limit.burst))];
    Section { name: format!("limit.{}", limit.name), lines }
}

fn cache(policy: &cache::Policy) -> Section {
    let lines = vec![
        ("ttl", plain(policy.ttl.map_or("none".to_owned(), time))),
        ("max_body", plain(size(policy.max_body))),
        ("cookies", plain(format!("{:?}", policy.cookies).to_lowercase())),
    ];
    Section { name: format!("cache.{}", policy.name), lines }
}

fn session(session: &Definition) -> Section {
    let format = match session.format {
        Format::Json => "json",
        Format::Hash => "hash",
    };
    let forward = session.forward.iter().map(|(field, path)| format!("{field} = {path}"));
    let lines = vec![
        ("format", plain(format)),
        ("from", list(session.carriers.iter().map(carrier))),
        ("prefix", plain(&session.prefix)),
        ("user", plain(&session.user)),
        ("forward", list(forward)),
        ("attributes", list(session.attributes.iter().cloned())),
        ("retry_after", plain(time(session.retry_after))),
    ];
    Section { name: format!("session.{}", session.name), lines }
}

fn carrier(carrier: &Carrier) -> String {
    match carrier {
        Carrier::Cookie(name) => format!("cookie:{name}"),
        Carrier::Bearer => "bearer".into(),
        Carrier::Header(name) => format!("header:{name}"),
        Carrier::Query(name) => format!("query:{name}"),
    }
}

fn route(route: &RouteSettings, settings: &Settings) -> Section {
    let session = route.session.iter().map(|(definition, mode)| match mode {
        Mode::Required => definition.name.to_string(),
        Mode::Optional => format!("{} (optional)", definition.name),
    });
    let upstream = settings.upstreams.get(route.upstream).map(|upstream| upstream.name.to_string());
    let lines = vec![
        ("upstream", list(upstream)),
        ("limits", list(route.limits.iter().map(|limit| limit.name.to_string()))),
        ("session", list(session)),
        ("cache", list(route.cache.iter().map(|policy| policy.name.to_string()))),
        ("on_write", list(route.on_write.iter().cloned())),
        ("websocket", plain(route.websocket)),
        ("max_body", plain(route.max_body.map_or("unbounded".to_owned(), size))),
    ];
    Section { name: format!("route {}", route.label), lines }
}

fn plain(words: impl Display) -> Said {
    Said::Plainly(words.to_string())
}

fn secret(secret: &SecretString) -> Said {
    Said::Secretly(Secret(secret.expose_secret().to_owned()))
}

fn list(items: impl IntoIterator<Item = String>) -> Said {
    let items: Vec<String> = items.into_iter().collect();
    Said::Plainly(if items.is_empty() { "none".into() } else { items.join(", ") })
}
