//! The tables about the process: `[server]`, `[admin]`, `[log]`, `[memory]`, `[purge]`, `[limits]`.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::treatment;
use crate::config::raw::{Fault, Placed, Table, Value, choice, text};
use crate::config::secret::secret;
use crate::config::settings::MemorySettings;
use crate::config::{address, quantity};
use crate::exchange::Scheme;
use crate::listener::proxy_protocol::Mode;
use crate::listener::{self, Bind};
use crate::rate_limit::store::OnOutage;
use crate::route::Paths;
use crate::telemetry::logs;
use crate::{admin, cache, client_addr, rate_limit, session};

/// The most that any count may be.
const MANY: u64 = 1 << 32;

/// `[server]`.
pub fn server(table: &mut Table<'_>) -> (listener::Settings, client_addr::Settings, Paths) {
    let mut server = listener::Settings::default();
    let reading = table.reading;
    let tls = table.value("tls");
    if let Some(listen) = table.filled("listen", |value| Ok(address::listen(value.text()?, reading.folder)?)) {
        server.listen.clear();
        for Placed { value: (bind, scheme), at } in listen.value {
            if server.listen.contains(&bind) {
                reading.error(&at, format!("`{bind}` stands twice"));
            }
            match scheme {
                Some(Scheme::Https) if tls.is_none() => {
                    let help = "[server.tls] with certificate = \"cert.pem\" and key = \"key.pem\"";
                    reading.error(&at, Fault::with_help("https needs a certificate", help));
                }
                Some(Scheme::Http) if tls.is_some() => server.cleartext.push(bind.clone()),
                _ => {}
            }
            server.listen.push(bind);
        }
    }
    let in_use = |bind: &Bind| matches!(bind, Bind::Tcp(_)) && !server.cleartext.contains(bind);
    if let Some(tls) = tls.filter(|_| !server.listen.iter().any(in_use)) {
        reading.warning(&tls.at, "no listener speaks TLS");
    }
    let mut client_addr = client_addr::Settings::default();
    let trusted = |value: &Value<'_>| match value.text()? {
        "unix" => Ok(None),
        network => Ok(Some(address::network(network)?)),
    };
    for Placed { value, .. } in table.list("trusted_proxies", trusted).map(|list| list.value).unwrap_or_default() {
        match value {
            Some(network) => client_addr.trusted.push(network),
            None => client_addr.trust_unix = true,
        }
    }
    reading.trusts_proxies.set(!client_addr.trusted.is_empty() || client_addr.trust_unix);
    server.tls = table.section("tls", super::tls::server).flatten();
    table.section("timeouts", |timeouts| {
        timeouts.set("header", &mut server.timeouts.header, text(quantity::duration));
        timeouts.set("body", &mut server.timeouts.body, text(quantity::duration));
        timeouts.set("idle", &mut server.timeouts.idle, text(quantity::duration));
        timeouts.set("write", &mut server.timeouts.write, text(quantity::duration));
        timeouts.set("half_closed", &mut server.timeouts.half_closed, text(quantity::duration));
    });
    let cores = server.workers;
    table.set("workers", &mut server.workers, |value| match value.text() {
        Ok("cores") => Ok(cores),
        Ok(other) => Err(Fault::with_help(format!("`{other}` is not a number of workers"), "\"cores\", or a number")),
        Err(_) => count(1..1025)(value),
    });
    table.set("max_connections", &mut server.max_connections, count(1..MANY));
    table.set("max_connections_per_address", &mut server.max_connections_per_address, count(1..MANY));
    table.set("ipv6_prefix", &mut server.ipv6_prefix, count(1..129));
    table.set("max_requests_per_connection", &mut server.max_requests_per_connection, |value| {
        let most: u32 = count(0..u64::from(u32::MAX))(value)?;
        Ok(Some(most).filter(|most| *most > 0))
    });
    // hyper reads a head into a buffer of at least 8 KiB.
    table.set("max_header_size", &mut server.max_header_size, sized(8 << 10, 1 << 20));
    // hyper reads targets of less than 64 KiB, and trailers of 16 KiB.
    table.set("max_target", &mut server.max_target, sized(1 << 10, 32 << 10));
    table.set("max_field_size", &mut server.max_field_size, sized(1 << 10, 1 << 20));
    table.set("max_headers", &mut server.max_headers, count(8..10_001));
    table.set("max_trailer_size", &mut server.max_trailer_size, sized(0, 16 << 10));
    table.set("max_chunk_line", &mut server.max_chunk_line, sized(16, 16 << 10));
    table.set("linger", &mut server.linger.time, text(quantity::duration_or_zero));
    table.set("max_linger", &mut server.linger.size, sized(0, 1 << 30));
    table.set("max_streams", &mut server.max_streams, count(1..10_001));
    table.section("http2", |table| http2(table, &mut server.http2));
    table.set("drain_delay", &mut server.drain_delay, text(quantity::duration_or_zero));
    table.set("drain_linger", &mut server.drain_linger, text(quantity::duration_or_zero));
    table.set("share_port", &mut server.share_port, Value::flag);
    let modes = [("off", Mode::Off), ("optional", Mode::Optional), ("required", Mode::Required)];
    let mode = table.read("proxy_protocol", choice(&modes));
    if let Some(Placed { value, at }) = mode {
        server.proxy_protocol.mode = value;
        if value != Mode::Off && client_addr.trusted.is_empty() && !client_addr.trust_unix {
            let help = "trusted_proxies = [\"10.0.0.0/8\"]: the networks of the proxies that send it";
            reading.error(&at, Fault::with_help("nobody's PROXY protocol header is believed here", help));
        }
    }
    server.proxy_protocol.trusted.clone_from(&client_addr.trusted);
    server.proxy_protocol.trust_unix = client_addr.trust_unix;
    table.set("grace_period", &mut server.grace_period, text(quantity::duration_or_zero));
    table.set("max_unsent", &mut server.max_unsent, sized(16 << 10, 1 << 30));
    table.set("park_after", &mut server.park_after, text(quantity::duration));
    (server, client_addr, treatment::paths(table))
}

fn http2(table: &mut Table<'_>, bounds: &mut listener::http2::Bounds) {
    table.set("max_resets", &mut bounds.max_resets, count(1..1_000_001));
    table.set("max_stream_errors", &mut bounds.max_stream_errors, count(1..1_000_001));
    table.set("max_control_frames", &mut bounds.max_control_frames, count(10..1_000_001));
    // A window has 31 bits (RFC 9113 §6.9.1); less than the protocol's own would have to be taken back first.
    table.set("stream_window", &mut bounds.stream_window, sized(64 << 10, 1 << 30));
    table.set("connection_window", &mut bounds.connection_window, sized(64 << 10, 1 << 30));
    table.set("send_buffer", &mut bounds.send_buffer, sized(16 << 10, 1 << 30));
}

/// `[admin]`.
pub fn admin(table: &mut Table<'_>) -> admin::Settings {
    let mut admin = admin::Settings::default();
    let listen = table.read("listen", |value| match value.text()? {
        "off" => Ok(None),
        place => Ok(Some(address::socket(place)?)),
    });
    if let Some(listen) = &listen {
        admin.listen = listen.value;
    }
    let has_token = table.value("token");
    admin.token = has_token.as_ref().and_then(|value| value.read(secret)).map(|token| token.value);
    table.set("max_connections", &mut admin.max_connections, count(1..10_001));
    table.section("timeouts", |timeouts| {
        timeouts.set("header", &mut admin.timeouts.header, text(quantity::duration));
        timeouts.set("total", &mut admin.timeouts.total, text(quantity::duration));
    });
    table.set("max_body", &mut admin.max_body, sized(1 << 10, 16 << 20));
    if let Some(Placed { value: Some(listen), at }) = listen
        && !listen.ip().to_canonical().is_loopback()
        && has_token.is_none()
    {
        let help = "token = { env = \"SIDEGATE_ADMIN_TOKEN\" }, or listen on 127.0.0.1";
        table.reading.error(&at, Fault::with_help("the admin listener needs a token: others can reach it here", help));
    }
    admin
}

/// `[log]`.
pub fn log(table: &mut Table<'_>) -> logs::Settings {
    let mut log = logs::Settings::default();
    table.set("level", &mut log.level, |value| {
        let level = value.text()?;
        match level.parse::<tracing_subscriber::EnvFilter>() {
            Ok(_) if !level.is_empty() => Ok(level.to_owned()),
            _ => {
                let help = "error, warn, info, debug or trace; or by room: \"info,sidegate::cache=debug\"";
                Err(Fault::with_help(format!("`{level}` is not a log level"), help))
            }
        }
    });
    table.set("access", &mut log.access, Value::flag);
    let formats = [("auto", logs::Format::Auto), ("human", logs::Format::Human), ("json", logs::Format::Json)];
    table.set("format", &mut log.format, choice(&formats));
    table.set("buffer", &mut log.buffer, sized(4 << 10, 1 << 30));
    log
}

/// `[memory]`.
pub fn memory(table: &mut Table<'_>) -> MemorySettings {
    let MemorySettings { limits: rate_limit::store::MemorySettings { mut max_keys }, .. } = MemorySettings::default();
    let cache::MemorySettings { mut max_bytes, mut max_filling } = cache::MemorySettings::default();
    table.set("limit_keys", &mut max_keys, count(1..1_000_000_001));
    table.set("responses", &mut max_bytes, sized(0, 1 << 40));
    table.set("filling", &mut max_filling, sized(0, 1 << 40));
    let mut coders = cache::encode::MemorySettings::default();
    table.set("encoding", &mut coders.max_bytes, sized(0, 1 << 40));
    let mut sessions = session::MemorySettings::default();
    table.set("grace_sessions", &mut sessions.max_bytes, sized(64 << 10, 1 << 40));
    let mut issued = session::IssuedSettings::default();
    table.set("issued_sessions", &mut issued.max_bytes, sized(64 << 10, 1 << 40));
    let mut recent = session::RecentSettings::default();
    table.set("recent_sessions", &mut recent.max_keys, count(1000..1_000_000_001));
    let mut owed = cache::OwedSettings::default();
    table.set("owed_invalidations", &mut owed.max_places, count(0..1_000_001));
    MemorySettings {
        limits: rate_limit::store::MemorySettings { max_keys },
        cache: cache::MemorySettings { max_bytes, max_filling },
        coders,
        sessions,
        issued,
        recent,
        owed,
    }
}

/// `[purge]`.
pub fn purge(table: &mut Table<'_>) -> cache::purge::Settings {
    let from = table.list("from", |value| {
        let text = value.text()?;
        let network = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        if network.is_some_and(|network: IpNet| network.prefix_len() == 0) {
            let message = format!("`{text}` is everybody: who may send requests may take back what is stored");
            let help = "the networks of those who may: the app's own, or 127.0.0.1";
            value.reading.warning(&value.at, Fault::with_help(message, help));
        }
        network.ok_or_else(|| format!("`{text}` is neither a network like `10.0.0.0/8`, nor an address").into())
    });
    let from = from.map(|list| list.value.into_iter().map(|network| network.value).collect());
    cache::purge::Settings { from: from.unwrap_or_default() }
}

/// `[limits]`, and the names of those of routes that name none.
pub fn limits(table: &mut Table<'_>) -> (rate_limit::Settings, Vec<Placed<String>>) {
    let mut limits = rate_limit::Settings::default();
    table.tables_go_to("limit");
    let outages = [("local", OnOutage::Local), ("open", OnOutage::Open), ("closed", OnOutage::Closed)];
    table.set("on_outage", &mut limits.on_outage, choice(&outages));
    table.set("reset", &mut limits.reset_in_seconds_left, choice(&[("unix", false), ("seconds-left", true)]));
    table.set("draft_fields", &mut limits.draft_fields, Value::flag);
    table.set("partition_keys", &mut limits.partition_keys, Value::flag);
    table.set("lease", &mut limits.lease, text(lease));
    table.set("max_delayed", &mut limits.max_delayed, count(0..1_000_001));
    table.set("top", &mut limits.top, count(0..10_001));
    let by_default = table.list("default", |value| Ok(value.text()?.to_owned()));
    (limits, by_default.map(|names| names.value).unwrap_or_default())
}

fn lease(time: &str) -> Result<Duration, String> {
    let life = quantity::duration(time)?;
    let bounds = Duration::from_millis(10)..=Duration::from_secs(10);
    if bounds.contains(&life) { Ok(life) } else { Err(format!("`{time}` is not between 10ms and 10s")) }
}

/// A reader of whole numbers.
pub fn count<'d, N: TryFrom<u64>>(range: std::ops::Range<u64>) -> impl FnOnce(&Value<'d>) -> Result<N, Fault> {
    move |value| N::try_from(value.number(range)?).map_err(|_| "this number is too large".into())
}

/// A reader of sizes in bytes.
pub fn sized<'d, N: TryFrom<u64>>(least: u64, most: u64) -> impl FnOnce(&Value<'d>) -> Result<N, Fault> {
    move |value| {
        let size = quantity::size(value.text()?)?;
        let shown = quantity::shown_size;
        match N::try_from(size) {
            Ok(fitting) if (least..=most).contains(&size) => Ok(fitting),
            _ => Err(format!("{} is not between {} and {}", shown(size), shown(least), shown(most)).into()),
        }
    }
}

/// Reads what stands before Redis keys.
///
/// # Errors
/// It is empty, or holds blanks, control characters or braces.
pub fn prefix(text: &str) -> Result<String, Fault> {
    if text.is_empty() {
        return Err("a prefix keeps keys apart from the app's: it cannot be empty".into());
    }
    // Braces would make every key hash to one slot of a cluster.
    if text.contains(|each: char| each.is_whitespace() || each.is_control() || matches!(each, '{' | '}')) {
        return Err("a prefix has no blanks and no braces".into());
    }
    Ok(text.to_owned())
}
