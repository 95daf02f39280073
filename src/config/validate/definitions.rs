//! What routes refer to by name: `[upstream.NAME]`, `[limit.NAME]`, `[cache.NAME]`, `[session.NAME]`.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use http::HeaderName;
use http::header;

use super::process::{count, sized};
use super::{caches, limits, plans, sessions, treatment};
use crate::cache::Policy;
use crate::config::quantity;
use crate::config::raw::{Fault, Placed, Reading, Table, Value, choice, did_you_mean, text};
use crate::rate_limit::{Limit, Plan};
use crate::session::Definition;
use crate::upstream;

/// Definitions of one kind.
pub struct Named<T> {
    kind: &'static str,
    entries: Vec<(Placed<String>, Option<T>)>,
    used: RefCell<BTreeSet<usize>>,
}

/// All definitions of a file.
pub struct Definitions {
    /// `[upstream.NAME]`.
    pub upstream: Named<upstream::Settings>,
    /// `[plan.NAME]`.
    pub plan: Named<Arc<Plan>>,
    /// `[limit.NAME]`.
    pub limit: Named<Arc<Limit>>,
    /// `[cache.NAME]`.
    pub cache: Named<Arc<Policy>>,
    /// `[session.NAME]`; attributes that limits need are not yet among them.
    pub session: Named<Definition>,
    /// What each of these says of paths, by its name.
    pub doors: Vec<(String, sessions::Doors)>,
    /// `[cors.NAME]`.
    pub cors: Named<Arc<crate::route::cors::Policy>>,
}

impl<T> Named<T> {
    fn read(
        root: &mut Table<'_>,
        kind: &'static str,
        mut read: impl FnMut(&Placed<String>, &mut Table<'_>) -> Option<T>,
    ) -> Self {
        let entries = root.named(kind, |name, table| read(name, table));
        Self { kind, entries, used: RefCell::default() }
    }

    /// The index of the definition that a route refers to; an unknown name is noted.
    pub fn refer(&self, reading: &Reading<'_>, name: &str, at: &Range<usize>) -> Option<usize> {
        let index = self.entries.iter().position(|(known, _)| known.value == name);
        match index {
            Some(index) => drop(self.used.borrow_mut().insert(index)),
            None => {
                let kind = self.kind;
                let help = did_you_mean(name, self.entries.iter().map(|(known, _)| known.value.as_str()))
                    .unwrap_or_else(|| format!("define it: [{kind}.{name}]"));
                reading.error(at, Fault::with_help(format!("no {kind} is called `{name}`"), help));
            }
        }
        index
    }

    /// The definition at an index; `None` if something is wrong with it.
    pub fn at(&self, index: usize) -> Option<&T> {
        self.entries.get(index)?.1.as_ref()
    }

    /// The only one; `None` if there are none or several.
    pub fn only(&self) -> Option<usize> {
        (self.entries.len() == 1).then(|| {
            self.used.borrow_mut().insert(0);
            0
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    fn warn_of_unused(&self, reading: &Reading<'_>) {
        for (index, (name, _)) in self.entries.iter().enumerate() {
            if !self.used.borrow().contains(&index) {
                reading.warning(&name.at, format!("no route uses {} `{}`", self.kind, name.value));
            }
        }
    }
}

impl Definitions {
    /// Reads all definitions.
    pub fn read(root: &mut Table<'_>, has_redis: bool) -> Self {
        let upstreams = Named::read(root, "upstream", upstream);
        if upstreams.entries.is_empty() && root.value("upstream").is_none() {
            let help = "[upstream.app] with servers = [\"http://127.0.0.1:3000\"]";
            root.reading.error(&(0..0), Fault::with_help("no upstream: nowhere to forward requests to", help));
        }
        let plan = Named::read(root, "plan", plans::plan);
        if let Some((name, _)) = plan.entries.first()
            && !has_redis
        {
            let help = "add [redis] with its url, or set the environment variable REDIS_URL";
            root.reading
                .error(&name.at, Fault::with_help("plans are read from Redis, and no Redis is configured", help));
        }
        let limit = Named::read(root, "limit", |name, table| limits::limit(name, table, &plan, has_redis));
        let cache = Named::read(root, "cache", caches::cache);
        let mut doors = Vec::new();
        let session = Named::read(root, "session", |name, table| {
            doors.push((name.value.clone(), sessions::Doors::read(table)));
            sessions::session(name, table)
        });
        if let Some((name, _)) = session.entries.first()
            && !has_redis
            && !root.reading.keeps_sessions
        {
            let help = "add [redis] with its url, or set the environment variable REDIS_URL";
            root.reading
                .error(&name.at, Fault::with_help("sessions are read from Redis, and no Redis is configured", help));
        }
        let cors = Named::read(root, "cors", treatment::cors);
        Self { upstream: upstreams, plan, limit, cache, session, doors, cors }
    }

    /// What each session says of paths, with its index.
    pub fn doors(&self) -> impl Iterator<Item = (usize, &sessions::Doors)> {
        let index = |name: &str| self.session.entries.iter().position(|(known, _)| known.value == name);
        self.doors.iter().filter_map(move |(name, doors)| Some((index(name)?, doors)))
    }

    /// Warns of definitions that no route refers to.
    pub fn warn_of_unused(&self, reading: &Reading<'_>) {
        self.upstream.warn_of_unused(reading);
        self.plan.warn_of_unused(reading);
        self.limit.warn_of_unused(reading);
        self.cache.warn_of_unused(reading);
        self.session.warn_of_unused(reading);
        self.cors.warn_of_unused(reading);
    }

    /// All upstreams, if none is wrong and there is one.
    pub fn upstreams(&self) -> Option<Vec<upstream::Settings>> {
        let upstreams: Option<Vec<_>> = self.upstream.entries.iter().map(|(_, upstream)| upstream.clone()).collect();
        upstreams.filter(|upstreams| !upstreams.is_empty())
    }
}

fn upstream(name: &Placed<String>, table: &mut Table<'_>) -> Option<upstream::Settings> {
    let mut upstream = upstream::Settings::new(&name.value, Vec::new());
    table.section("timeouts", |timeouts| {
        timeouts.set("connect", &mut upstream.timeouts.connect, text(quantity::duration));
        timeouts.set("first_byte", &mut upstream.timeouts.first_byte, text(quantity::duration));
        timeouts.set("idle", &mut upstream.timeouts.idle, text(quantity::duration_or_zero));
        timeouts.set("keep_alive", &mut upstream.timeouts.keep_alive, text(quantity::duration));
        timeouts.set("total", &mut upstream.timeouts.total, text(quantity::duration_or_none));
    });
    table.set("max_connections", &mut upstream.max_connections, count(1..1_000_001));
    table.set("max_pending", &mut upstream.max_pending, count(0..1_000_001));
    table.set("queue_timeout", &mut upstream.queue_timeout, text(quantity::duration));
    table.set("expect_timeout", &mut upstream.expect_timeout, text(quantity::duration));
    table.set("max_response_header_size", &mut upstream.answers.head.largest_head, sized(1024, 16 << 20));
    table.set("max_response_headers", &mut upstream.answers.head.most_fields, count(1..32_001));
    table.set("max_interim", &mut upstream.answers.most_interim, count(0..1001));
    table.set("proxy_protocol", &mut upstream.proxy_protocol, choice(&[("off", false), ("v2", true)]));
    super::endpoints::read(table, &mut upstream)?;
    super::http2::upstream(table, &mut upstream);
    upstream.tls = super::tls::upstream(table, &upstream.servers, upstream.http2.offer)?;
    Some(upstream)
}

/// `forward = { X-User-Id = "user_id" }`; `read` reads what a field tells.
pub(super) fn identity_fields<'d, T>(
    value: &Value<'d>,
    read: impl Fn(&Value<'d>) -> Result<T, Fault>,
) -> Vec<(HeaderName, T)> {
    let mut fields: Vec<(HeaderName, T)> = Vec::new();
    for (name, path) in value.pairs("`forward`") {
        let field = match field_name(name.value).and_then(identity_field) {
            Ok(field) => field,
            Err(fault) => {
                value.reading.error(&name.at, fault);
                continue;
            }
        };
        // Apps behind CGI-like interfaces read `_` and `-` alike.
        let folded = |field: &HeaderName| field.as_str().replace('_', "-");
        if let Some((other, _)) = fields.iter().find(|(other, _)| folded(other) == folded(&field)) {
            value.reading.error(&name.at, format!("`{}` is the same field as `{other}` to many apps", name.value));
        }
        if value.reading.certificate_fields.borrow().iter().flatten().any(|other| folded(other) == folded(&field)) {
            let message = format!("`{}` tells of clients' certificates already", name.value);
            value.reading.error(&name.at, Fault::with_help(message, "it stands in [server.tls] client.forward"));
        }
        if let Some(path) = path.read(&read) {
            fields.push((field, path.value));
        }
    }
    fields
}

pub(super) fn field_name(name: &str) -> Result<HeaderName, Fault> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is not a field name").into())
}

/// Fields with a meaning of their own, to the connection, the message or the proxy, tell no identity.
pub(super) fn identity_field(name: HeaderName) -> Result<HeaderName, Fault> {
    let taken = [
        header::CONNECTION,
        header::TRANSFER_ENCODING,
        header::CONTENT_LENGTH,
        header::TE,
        header::TRAILER,
        header::UPGRADE,
        header::HOST,
        header::EXPECT,
        header::VIA,
        header::FORWARDED,
        header::COOKIE,
        header::AUTHORIZATION,
        header::PROXY_AUTHORIZATION,
        header::CONTENT_TYPE,
        header::CACHE_CONTROL,
        header::RANGE,
    ];
    let ours = ["keep-alive", "proxy-connection", "x-request-id", "traceparent", "max-forwards"];
    let folded = name.as_str().replace('_', "-");
    if taken.iter().any(|taken| taken.as_str() == folded)
        || ours.contains(&folded.as_str())
        || folded.starts_with("x-forwarded-")
    {
        let help = "a field of its own, like X-User-Id";
        return Err(Fault::with_help(
            format!("`{name}` has a meaning of its own: it cannot tell who is logged in"),
            help,
        ));
    }
    Ok(name)
}
