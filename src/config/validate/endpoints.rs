//! What `[upstream.NAME]` says about its endpoints: which they are, how one is chosen, when one is left out, when a request
//! is sent again.

use super::process::count;
use crate::config::raw::{Fault, Placed, Table, Value, choice, text};
use crate::config::{address, quantity};
use crate::rate_limit::partition::{Key, Part};
use crate::upstream::balance::Balance;
use crate::upstream::health::Check;
use crate::upstream::{Server, Settings, breaker, retry};

/// Reads all of it. `None` only if something was noted.
pub fn read(table: &mut Table<'_>, upstream: &mut Settings) -> Option<()> {
    table.set("balance", &mut upstream.balance, balance);
    table.set("dns_refresh", &mut upstream.dns_refresh, text(quantity::duration));
    table.set("max_addresses", &mut upstream.max_addresses, count(1..1025));
    upstream.health_check = table.section("health_check", health_check).flatten();
    table.section("breaker", |table| breaker(table, &mut upstream.breaker));
    table.set("slow_start", &mut upstream.slow_start, text(quantity::duration_or_none));
    let each = table.read("max_connections_per_endpoint", count(1..1_000_001));
    upstream.max_connections_per_endpoint = each.map_or(upstream.max_connections, |each| each.value);
    table.set("warm_connections", &mut upstream.warm_connections, count(0..100_001));
    if upstream.warm_connections > 0
        && upstream.proxy_protocol
        && let Some(value) = table.value("warm_connections")
    {
        let message =
            "with `proxy_protocol = \"v2\"` each connection is opened for a client: no `warm_connections` can be";
        table.reading.error(&value.at, message);
    }
    if let Some(value) = table.value("retries") {
        retries(&value, &mut upstream.retries);
    }
    upstream.servers = servers(table)?;
    Some(())
}

fn servers(table: &mut Table<'_>) -> Option<Vec<Server>> {
    table.needs("servers", "servers = [\"http://127.0.0.1:3000\"]");
    let listed = table.filled("servers", server)?;
    let mut servers: Vec<Server> = Vec::new();
    for Placed { value, at } in listed.value {
        // What is wrong with it has been noted.
        let Some(value) = value else { continue };
        if servers.iter().any(|other| other.tls == value.tls && other.place == value.place) {
            table.reading.error(&at, format!("`{value}` stands twice"));
        }
        servers.push(value);
    }
    Some(servers)
}

/// `"http://a:3000"` or `{ url = "http://a:3000", weight = 3 }`.
fn server(value: &Value<'_>) -> Result<Option<Server>, Fault> {
    let folder = value.reading.folder;
    if !value.is_table() {
        return Ok(Some(address::server(value.text()?, folder)?));
    }
    value.table("the server", |table| {
        let url =
            table.require("url", "url = \"http://127.0.0.1:3000\"", text(|url: &str| address::server(url, folder)));
        let weight = table.read("weight", count(1..101));
        let mut server = url?.value;
        server.weight = weight.map_or(1, |weight| weight.value);
        Some(server)
    })
}

/// `"round-robin"`, `"least-requests"` or `{ hash = KEY }`.
fn balance(value: &Value<'_>) -> Result<Balance, Fault> {
    if value.is_table() {
        // What is wrong in the table has been noted, and the settings are never used.
        return value.table("`balance`", |table| hash_key(table).map_or(Balance::RoundRobin, Balance::Hash));
    }
    match value.text()? {
        "hash" => Err(Fault::with_help("`hash` needs a key", "balance = { hash = \"address\" }")),
        _ => choice(&[("round-robin", Balance::RoundRobin), ("least-requests", Balance::LeastRequests)])(value),
    }
}

fn hash_key(table: &mut Table<'_>) -> Option<Key> {
    let help = "\"address\", \"header:NAME\", \"cookie:NAME\", \"query:NAME\", \"session\", \"session:FIELD\", or a list of them";
    table.needs("hash", help);
    let parts = table.filled("hash", |value| {
        let text = value.text()?;
        Part::parse(text).map(|_| text.to_owned()).map_err(|message| Fault::with_help(message, help))
    });
    let parts = parts.filter(|parts| !parts.value.is_empty())?;
    let key = Key::parse(parts.value.iter().map(|part| part.value.as_str()));
    key.map_err(|message| table.reading.error(&parts.at, message)).ok()
}

fn health_check(table: &mut Table<'_>) -> Option<Check> {
    let path = table.require("path", "path = \"/healthz\"", |value| {
        let path = value.text()?;
        let sound = path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        if sound { Ok(path.to_owned()) } else { Err(Fault::from(format!("`{path}` is not a path"))) }
    });
    let mut check = Check::of("");
    table.set("every", &mut check.every, text(quantity::duration));
    table.set("timeout", &mut check.timeout, text(quantity::duration));
    table.set("unhealthy_after", &mut check.unhealthy_after, count(1..101));
    table.set("healthy_after", &mut check.healthy_after, count(1..101));
    table.set("expect", &mut check.expect, text(Check::statuses));
    check.path = path?.value;
    Some(check)
}

fn breaker(table: &mut Table<'_>, policy: &mut breaker::Policy) {
    table.set("failures", &mut policy.failures, count(0..10_001));
    if let Some(statuses) = table.list("statuses", |value| Ok(u16::try_from(value.number(400..600)?).unwrap_or(599))) {
        policy.statuses = statuses.value.into_iter().map(|status| status.value).collect();
    }
    table.set("open", &mut policy.open, text(quantity::duration));
    table.set("longest", &mut policy.longest, text(quantity::duration));
    table.set("most_out", &mut policy.most_percent, text(quantity::percent));
    if policy.longest < policy.open {
        let message = "`longest` is shorter than `open`";
        table.reading.error(&table.at, message);
    }
}

/// `2` or `{ most = 2, on = ["connect"], budget = "20%", minimum = 10 }`.
fn retries(value: &Value<'_>, policy: &mut retry::Policy) {
    if !value.is_table() {
        if let Some(most) = value.read(count(0..11)) {
            policy.most = most.value;
        }
        return;
    }
    let read = |table: &mut Table<'_>| {
        table.set("most", &mut policy.most, count(0..11));
        if let Some(reasons) = table.list("on", |value| reason(value.text()?)) {
            let reasons: Vec<_> = reasons.value.into_iter().map(|reason| reason.value).collect();
            policy.connect = reasons.contains(&retry::Reason::Connect);
            policy.reset = reasons.contains(&retry::Reason::Reset);
            let status = |reason: &retry::Reason| match reason {
                retry::Reason::Status(status) => Some(*status),
                _ => None,
            };
            policy.statuses = reasons.iter().filter_map(status).collect();
        }
        table.set("budget", &mut policy.budget, text(quantity::percent));
        table.set("minimum", &mut policy.minimum, count(0..100_001));
    };
    value.read(|value| value.table("`retries`", read));
}

fn reason(text: &str) -> Result<retry::Reason, Fault> {
    match (text, text.parse()) {
        ("connect", _) => Ok(retry::Reason::Connect),
        ("reset", _) => Ok(retry::Reason::Reset),
        (_, Ok(status @ (429 | 500..=599))) => Ok(retry::Reason::Status(status)),
        _ => {
            let help = "\"connect\", \"reset\", or a status: \"429\", \"500\" to \"599\"";
            Err(Fault::with_help(format!("`{text}` is no reason to send a request again"), help))
        }
    }
}
