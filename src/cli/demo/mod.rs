//! `sidegate demo`: a sample app with sidegate in front, in one process, with nothing to install.
//!
//! 1. [`app`] is the app; [`configuration`] is what a user would write to put sidegate in front of it.
//! 2. [`introduction`] is printed once both listen: where they are, and what to try, in an order that tells the story.
//!
//! # Why
//! The configuration is text, in the language of the file: the demo shows nothing that a file could not say.

pub mod app;
mod events;
pub mod sessions;
mod users;
mod websocket;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use crate::config::settings::Settings;
use crate::config::{self, Report};
use crate::telemetry::logs::Format;

/// What [`configuration`] means. Without Redis the sample app keeps its sessions in this process, where the demo, and
/// nobody else, may read them: a file that says so is refused.
///
/// # Errors
/// The URL of Redis is wrong.
pub fn settings(app: SocketAddr, listen: SocketAddr, redis: Option<&str>) -> Result<Settings, Report> {
    let text = configuration(app, &listen.to_string(), redis);
    let mut settings = config::parse_keeping_sessions("demo.toml", &text, &|_| None)?.settings;
    settings.log.format = Format::Human;
    settings.log.level = "warn".into();
    Ok(settings)
}

/// The demo's configuration: sidegate on `listen`, in front of `app`; on Redis, if a URL is given.
pub fn configuration(app: SocketAddr, listen: &str, redis: Option<&str>) -> String {
    let listen = quoted(listen);
    let redis = redis.map_or_else(String::new, |url| format!("[redis]\nurl = {}\n\n", quoted(url)));
    let prefix = quoted(sessions::PREFIX);
    format!(
        r#"# What `sidegate demo` runs.

[server]
listen = [{listen}]

[admin]
listen = "127.0.0.1:0"

{redis}[upstream.app]
servers = ["http://{app}"]

[limit.login]                          # nobody guesses passwords
key = "address"
quota = "5 per minute"

[limit.per-address]
key = "address"
quota = "60 per minute"

[cache.users]                          # the app is slow to read users, and says nothing of how long they hold
ttl = "30s"

[session.demo]                         # the app's own record: {{ "user_id": 1, "name": "Alice" }}
format = "json"
from = ["bearer", "cookie:session"]
prefix = {prefix}
user = "user_id"
forward = {{ X-User-Id = "user_id", X-User-Name = "name" }}

[[route]]
path = "/login"
methods = ["POST"]
limits = ["login"]

[[route]]
path = "/users"
methods = ["GET"]
limits = ["per-address"]
cache = "users"

[[route]]
path = "/users"
methods = ["POST"]
limits = ["per-address"]
on_write = ["/users"]

[[route]]
path = "/users/{{id}}"
methods = ["GET"]
limits = ["per-address"]
cache = "users"

[[route]]
path = "/users/{{id}}"
methods = ["PUT", "PATCH", "DELETE"]
limits = ["per-address"]
on_write = ["/users", "/users/{{id}}"]

[[route]]
path = "/me"
session = "demo"

[[route]]
path = "/events"

[[route]]
path = "/ws"
websocket = true

[[route]]
path = "/{{*rest}}"
"#
    )
}

/// What the demo prints once it runs: the addresses, and what to try.
pub fn introduction(proxy: SocketAddr, app: SocketAddr, admin: Option<SocketAddr>, redis: Option<&str>) -> String {
    let stores = redis.map_or_else(|| "process memory".to_owned(), |url| format!("Redis at {}", without_password(url)));
    let explain = admin.map_or_else(String::new, |admin| {
        let request = format!("GET http://{proxy}/users");
        format!("  # Why was that? Room by room, and what is stored.\n  sidegate explain --admin {admin} {request}\n\n")
    });
    let admin = admin.map_or_else(|| "off".to_owned(), |admin| format!("http://{admin}/metrics"));
    format!(
        r#"
  sidegate     http://{proxy}
  sample app   http://{app}
  metrics      {admin}
  stores       {stores}

Try, in another terminal:

  # The app is slow; the second answer is stored (X-Cache: MISS, then HIT). X-RateLimit-Remaining counts down.
  curl -i http://{proxy}/users
  curl -i http://{proxy}/users

{explain}  # A write makes the stored answer go: MISS again.
  curl -X PATCH -d '{{"name":"Alicia"}}' http://{proxy}/users/1
  curl -i http://{proxy}/users

  # Nobody passes without a login, whatever they claim to be: 401. Then log in; the app is told who calls.
  curl -i -H 'X-User-Id: 1' http://{proxy}/me
  curl -c /tmp/sidegate-demo.cookies -d '{{"user":"alice","password":"wonderland"}}' http://{proxy}/login
  curl -b /tmp/sidegate-demo.cookies http://{proxy}/me

  # Guessing passwords ends soon: 401 a few times, then 429.
  for i in 1 2 3 4 5 6; do curl -so /dev/null -w '%{{http_code}}\n' -d '{{"user":"bob","password":"?"}}' http://{proxy}/login; done

  # Streams pass as they come: an event a second. A WebSocket opens with 101 (the last two fields are its handshake).
  curl -N http://{proxy}/events
  curl -i -m 2 --http1.1 -H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' http://{proxy}/ws

Ctrl-C stops it. Each request is one line below.
"#
    )
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// A URL without what stands before the `@`.
fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, place))) => format!("{scheme}://{place}"),
        _ => url.to_owned(),
    }
}
