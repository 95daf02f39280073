//! What a configuration says, line by line; and what has changed from one to another.

mod caches;
mod endpoints;
mod limits;
mod near;
mod redis;
mod sessions;

use std::fmt::Display;

use secrecy::{ExposeSecret, SecretString};

use super::quantity::{shown_duration as time, shown_size as size};
use super::settings::{RouteSettings, Settings};
use crate::route::fields::Edits;
use crate::upstream;
use crate::upstream::rewrite::{Path, Rewrite};

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
    sections.extend(settings.redis.as_ref().map(redis::section));
    sections.push(near::section(&settings.near));
    let memory = &settings.memory;
    let memory = vec![
        ("limit_keys", plain(memory.limits.max_keys)),
        ("responses", plain(size(memory.cache.max_bytes))),
        ("filling", plain(size(memory.cache.max_filling))),
        ("encoding", plain(size(memory.coders.max_bytes))),
        ("grace_sessions", plain(size(memory.sessions.max_bytes))),
        ("issued_sessions", plain(size(memory.issued.max_bytes))),
        ("recent_sessions", plain(memory.recent.max_keys)),
        ("owed_invalidations", plain(memory.owed.max_places)),
    ];
    sections.push(Section { name: "memory".into(), lines: memory });
    let from = list(settings.purge.from.iter().map(ToString::to_string));
    sections.push(Section { name: "purge".into(), lines: vec![("from", from)] });
    let limits = &settings.limits;
    let limits = vec![
        ("on_outage", plain(format!("{:?}", limits.on_outage).to_lowercase())),
        ("reset", plain(if limits.reset_in_seconds_left { "seconds-left" } else { "unix" })),
        ("draft_fields", plain(limits.draft_fields)),
        ("partition_keys", plain(limits.partition_keys)),
        ("lease", plain(time(limits.lease))),
        ("max_delayed", plain(limits.max_delayed)),
        ("top", plain(limits.top)),
    ];
    sections.push(Section { name: "limits".into(), lines: limits });
    sections.extend(settings.upstreams.iter().map(upstream));
    for route in &settings.routes {
        let plans = route.limits.iter().flat_map(|limit| &limit.plan).map(|plan| limits::plan(plan));
        let limits = route.limits.iter().map(|limit| limits::limit(limit));
        let session = route.session.iter().map(|session| sessions::lines(&session.definition));
        let cache = route.cache.iter().map(|policy| caches::section(policy));
        let cors = route.cors.iter().map(|policy| cors(policy));
        for section in plans.chain(limits).chain(session).chain(cache).chain(cors) {
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
    let listen = server.listen.iter().map(|bind| match (server.cleartext.contains(bind), server.secured(bind)) {
        (true, _) => format!("http://{bind}"),
        (_, Some(_)) => format!("https://{bind}"),
        _ => bind.to_string(),
    });
    let tls = server.tls.as_ref().map(|tls| &tls.settings);
    let client = tls.and_then(|tls| tls.client.as_ref());
    let told = client.iter().flat_map(|client| &client.forward);
    let lines = vec![
        ("listen", list(listen)),
        ("trusted_proxies", list(trusted)),
        ("tls.certificates", list(tls.iter().flat_map(|tls| &tls.certificates).map(ToString::to_string))),
        ("tls.unknown_name", plain(if tls.is_some_and(|tls| tls.refuse_unknown_names) { "refuse" } else { "default" })),
        ("tls.min_version", plain(tls.map(|tls| tls.oldest).unwrap_or_default())),
        ("tls.http2", plain(tls.is_none_or(|tls| tls.http2))),
        ("tls.client.ca", list(client.map(|client| client.authorities.to_string()))),
        ("tls.client.mode", list(client.map(|client| format!("{:?}", client.mode).to_lowercase()))),
        ("tls.client.forward", list(told.map(|(field, fact)| format!("{field} = {}", fact.word())))),
        ("timeouts.header", plain(time(server.timeouts.header))),
        ("timeouts.body", plain(time(server.timeouts.body))),
        ("timeouts.idle", plain(time(server.timeouts.idle))),
        ("timeouts.write", plain(time(server.timeouts.write))),
        ("timeouts.half_closed", plain(time(server.timeouts.half_closed))),
        ("workers", plain(server.workers)),
        ("max_connections", plain(server.max_connections)),
        ("max_connections_per_address", plain(server.max_connections_per_address)),
        ("ipv6_prefix", plain(server.ipv6_prefix)),
        ("max_requests_per_connection", plain(server.max_requests_per_connection.unwrap_or_default())),
        ("max_header_size", plain(size(server.max_header_size as u64))),
        ("max_target", plain(size(server.max_target as u64))),
        ("max_field_size", plain(size(server.max_field_size as u64))),
        ("max_headers", plain(server.max_headers)),
        ("max_trailer_size", plain(size(server.max_trailer_size as u64))),
        ("max_chunk_line", plain(size(server.max_chunk_line as u64))),
        ("linger", plain(time(server.linger.time))),
        ("max_linger", plain(size(server.linger.size as u64))),
        ("max_streams", plain(server.max_streams)),
        ("http2.max_resets", plain(server.http2.max_resets)),
        ("http2.max_stream_errors", plain(server.http2.max_stream_errors)),
        ("http2.max_control_frames", plain(server.http2.max_control_frames)),
        ("http2.stream_window", plain(size(server.http2.stream_window.into()))),
        ("http2.connection_window", plain(size(server.http2.connection_window.into()))),
        ("http2.send_buffer", plain(size(server.http2.send_buffer as u64))),
        ("drain_delay", plain(time(server.drain_delay))),
        ("drain_linger", plain(time(server.drain_linger))),
        ("share_port", plain(server.share_port)),
        ("proxy_protocol", plain(format!("{:?}", server.proxy_protocol.mode).to_lowercase())),
        ("grace_period", plain(time(server.grace_period))),
        ("max_unsent", plain(size(u64::from(server.max_unsent)))),
        ("park_after", plain(time(server.park_after))),
        ("path_ambiguity", plain(format!("{:?}", settings.paths.ambiguity).to_lowercase())),
        ("path_case", plain(format!("{:?}", settings.paths.case).to_lowercase())),
    ];
    Section { name: "server".into(), lines }
}

fn admin(settings: &Settings) -> Section {
    let listen = settings.admin.listen.map_or("off".to_owned(), |listen| listen.to_string());
    let token = settings.admin.token.as_ref().map_or(plain("none"), secret);
    let lines = vec![
        ("listen", plain(listen)),
        ("token", token),
        ("max_connections", plain(settings.admin.max_connections)),
        ("timeouts.header", plain(time(settings.admin.timeouts.header))),
        ("timeouts.total", plain(time(settings.admin.timeouts.total))),
        ("max_body", plain(size(settings.admin.max_body as u64))),
    ];
    Section { name: "admin".into(), lines }
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

fn upstream(upstream: &upstream::Settings) -> Section {
    let tls = upstream.tls.as_ref().map(|tls| &tls.settings);
    let believed = match tls.map(|tls| &tls.authorities) {
        None => "none".to_owned(),
        Some(None) => "danger_accept_any_certificate".to_owned(),
        Some(Some(authorities)) => authorities.to_string(),
    };
    let weighted = |server: &upstream::Server| match server.weight {
        1 => server.to_string(),
        weight => format!("{server} (weight {weight})"),
    };
    let mut lines = vec![
        ("servers", list(upstream.servers.iter().map(weighted))),
        ("timeouts.connect", plain(time(upstream.timeouts.connect))),
        ("timeouts.first_byte", plain(time(upstream.timeouts.first_byte))),
        ("timeouts.idle", plain(time(upstream.timeouts.idle))),
        ("timeouts.keep_alive", plain(time(upstream.timeouts.keep_alive))),
        ("timeouts.total", plain(upstream.timeouts.total.map_or("none".to_owned(), time))),
        ("max_connections", plain(upstream.max_connections)),
        ("max_pending", plain(upstream.max_pending)),
        ("queue_timeout", plain(time(upstream.queue_timeout))),
        ("expect_timeout", plain(time(upstream.expect_timeout))),
        ("tls.ca", plain(believed)),
        ("tls.certificate", list(tls.and_then(|tls| tls.certificate.as_ref()).map(ToString::to_string))),
        ("tls.server_name", list(tls.and_then(|tls| tls.server_name.as_ref()).map(|name| name.to_str().into_owned()))),
        ("tls.min_version", plain(tls.map(|tls| tls.oldest).unwrap_or_default())),
        ("http2.offer", plain(upstream.http2.offer)),
        ("http2.max_streams", plain(upstream.http2.max_streams)),
        ("http2.stream_window", plain(size(upstream.http2.stream_window.into()))),
        ("http2.ping", plain(upstream.http2.ping.map_or("none".to_owned(), time))),
        ("proxy_protocol", plain(if upstream.proxy_protocol { "v2" } else { "off" })),
        ("max_response_header_size", plain(size(upstream.answers.head.largest_head as u64))),
        ("max_response_headers", plain(upstream.answers.head.most_fields)),
        ("max_interim", plain(upstream.answers.most_interim)),
    ];
    lines.extend(endpoints::lines(upstream));
    Section { name: format!("upstream.{}", upstream.name), lines }
}

fn route(route: &RouteSettings, settings: &Settings) -> Section {
    let session = route.session.iter().map(sessions::on_route);
    let upstream = settings.upstreams.get(route.upstream).map(|upstream| upstream.name.to_string());
    let lines = vec![
        ("upstream", list(upstream)),
        ("limits", list(route.limits.iter().map(|limit| limit.name.to_string()))),
        ("cost", list(route.cost.map(|cost| cost.to_string()))),
        ("session", list(session)),
        ("cache", list(route.cache.iter().map(|policy| policy.name.to_string()))),
        ("on_write", list(route.on_write.iter().cloned())),
        ("encoded_slash", plain(if route.pattern.slash_is_text { "text" } else { "ambiguous" })),
        ("rewriting", plain(rewriting(&route.rewrite))),
        ("request_fields", Said::Secretly(Secret(edits(&route.rewrite.fields)))),
        ("response_fields", plain(edits(&route.response_fields))),
        ("cors", list(route.cors.iter().map(|policy| policy.name.to_string()))),
        ("websocket", plain(route.websocket)),
        ("max_body", plain(route.max_body.map_or("unbounded".to_owned(), size))),
    ];
    Section { name: format!("route {}", route.label), lines }
}

fn cors(policy: &crate::route::cors::Policy) -> Section {
    let methods = policy.methods.iter().map(ToString::to_string);
    let lines = vec![
        ("origins", list(policy.origins.iter().map(ToString::to_string))),
        ("methods", if policy.methods.is_empty() { plain("*") } else { list(methods) }),
        ("fields", list(policy.fields.iter().map(ToString::to_string))),
        ("expose", list(policy.expose.iter().map(ToString::to_string))),
        ("credentials", plain(policy.credentials)),
        ("max_age", plain(time(policy.max_age))),
    ];
    Section { name: format!("cors.{}", policy.name), lines }
}

fn rewriting(rewrite: &Rewrite) -> String {
    let path = rewrite.path.as_ref().map(|path| match path {
        Path::Prefix { strip, add } => format!("prefix {strip}/ → {add}/"),
        Path::Template(template) => format!("path → {template}"),
    });
    let host = rewrite.host.as_ref().map(|host| format!("host → {}", String::from_utf8_lossy(host.as_bytes())));
    let parts: Vec<String> = path.into_iter().chain(rewrite.location.then(|| "and back".into())).chain(host).collect();
    if parts.is_empty() { "none".into() } else { parts.join(", ") }
}

fn edits(edits: &Edits) -> String {
    let pair = |verb: &'static str| {
        move |(name, value): &(http::HeaderName, http::HeaderValue)| {
            format!("{verb} {name}: {}", String::from_utf8_lossy(value.as_bytes()))
        }
    };
    let mut parts: Vec<String> = edits.set.iter().map(pair("set")).collect();
    parts.extend(edits.add.iter().map(pair("add")));
    parts.extend(edits.remove.iter().map(|name| format!("remove {name}")));
    if parts.is_empty() { "none".into() } else { parts.join(", ") }
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
