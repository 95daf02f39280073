//! `[upstream.NAME] http2`.

use super::process::{count, sized};
use crate::config::quantity;
use crate::config::raw::{Table, Value, text};
use crate::upstream::Settings;

/// Reads what is said of HTTP/2 to the app.
pub fn upstream(table: &mut Table<'_>, upstream: &mut Settings) {
    let settings = &mut upstream.http2;
    table.section("http2", |table| {
        table.set("offer", &mut settings.offer, Value::flag);
        table.set("max_streams", &mut settings.max_streams, count(1..100_001));
        table.set("stream_window", &mut settings.stream_window, sized(16 << 10, 16 << 20));
        table.set("ping", &mut settings.ping, text(quantity::duration_or_none));
    });
    let shares = settings.offer || upstream.servers.iter().any(|server| server.http2);
    if shares
        && upstream.proxy_protocol
        && let Some(value) = table.value("proxy_protocol")
    {
        let message = "a connection that says whose it is carries one request; over HTTP/2 it carries those of many";
        table.reading.error(&value.at, message);
    }
}
