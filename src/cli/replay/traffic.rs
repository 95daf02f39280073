//! From what a line tells to what limits count: the route of the request, and its keys.
//!
//! 1. A line becomes a request of the listener's own making: what [`target::settle`] refuses never came to a limit. Then
//!    the configuration's own table says which route it meets, and its limits' own keys say by what it counts.
//! 2. A limit whose key the line does not tell is left out for this line, and that is counted: to count everybody by
//!    address instead would say something about another limit.
//! 3. A request without the part, of which the line tells that it was without, counts as the limit says (`missing`).
//! 4. Who is logged in is told by sidegate's own log alone, and only by the attribute that the session takes for the user.
//!    Where that says that nobody was, and the route requires it, the request was refused before its limits by session.

use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use http::header::{COOKIE, HOST};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Version};

use super::keys::Keys;
use super::line::{Asked, Field, Line};
use crate::body::Body;
use crate::clock;
use crate::config::settings::{RouteSettings, Settings};
use crate::exchange::{Answers, Client, Connection, Exchange, Principal, Scheme};
use crate::listener::target;
use crate::rate_limit::partition::{Part, parameters};
use crate::rate_limit::{Cost, Count, Limit, Missing};
use crate::route::strictness::{Strict, Strictness};
use crate::route::table::{Found, Table};
use crate::session::{Mode, OnRoute};
use crate::telemetry::Record;

/// What a log of ours writes in the place of a secret.
const HIDDEN: &[u8] = b"***";

/// Where a limit stands in the way of a request: each position settles its limits in one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Position {
    /// It depends on the request alone.
    ByRequest,
    /// It depends on who is logged in.
    ByPrincipal,
    /// It counts what is forwarded.
    Forwarded,
}

/// One limit of a route.
#[derive(Clone, Debug)]
pub struct Applied {
    /// Its place among all limits.
    pub limit: usize,
    /// Where it stands.
    pub position: Position,
    /// What a request costs here.
    pub cost: u64,
}

/// By what one limit counts a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    /// By the key with this place.
    By(u32),
    /// By a key that there was no room for.
    Beyond,
    /// The line does not tell.
    Untold,
    /// It lacks a part of the key, and is not counted.
    Skipped,
    /// It lacks a part of the key, and is refused for it.
    Lacking,
    /// It is exempt.
    Exempt,
    /// It never came so far.
    Stopped,
}

/// A request, as limits see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asking {
    /// Its route, by its place in the configuration.
    pub route: usize,
    /// The status of its answer.
    pub status: Option<StatusCode>,
    /// It was answered from a cache.
    pub from_cache: bool,
    /// By what the route's limits count it, in their order.
    pub counts: Box<[Counts]>,
}

/// Why a line never came to a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elsewhere {
    /// It was no request, or a malformed one.
    NoRequest,
    /// No route takes it.
    NoRoute,
    /// Its route has no limit, or it was answered ahead of them.
    Unlimited,
}

/// Makes requests of lines.
pub struct Traffic {
    table: Table<Bound>,
    routes: Vec<Bounds>,
    limits: Vec<Counted>,
    /// Names of [`Line::fields`].
    fields: Vec<HeaderName>,
    /// For lines that tell none.
    host: Option<String>,
    exchange: Exchange,
    text: String,
}

/// A limit, and the keys that it counts by.
pub struct Counted {
    /// The limit.
    pub limit: Arc<Limit>,
    /// Its keys.
    pub keys: Keys,
    /// Texts of the key that are exempt.
    exempt: Vec<String>,
}

struct Bound {
    index: usize,
    strictness: Strictness,
}

struct Bounds {
    label: Arc<str>,
    applied: Vec<Applied>,
    /// The session's name, the attribute that names the user, and whether a login is required.
    session: Option<(Arc<str>, String, bool)>,
}

impl Strict for Bound {
    fn is_as_strict_as(&self, other: &Self) -> bool {
        self.strictness.is_as_strict_as(&other.strictness)
    }
}

impl Traffic {
    /// Of a configuration. `room`: keys of each limit; `host`: where requests went of which a line does not say it.
    pub fn new(settings: &Settings, room: usize, host: Option<String>) -> Self {
        let mut limits: Vec<Counted> = Vec::new();
        let mut routes = Vec::new();
        for route in &settings.routes {
            let applied = route.limits.iter().filter(|limit| limit.counting().is_some()).map(|limit| {
                let known = limits.iter().position(|other| other.limit.name == limit.name);
                let place = known.unwrap_or_else(|| {
                    let exempt = limit.exempt.keys.iter().filter_map(|value| limit.key.spelt(value, limit.grouping));
                    limits.push(Counted { limit: limit.clone(), keys: Keys::new(room), exempt: exempt.collect() });
                    limits.len() - 1
                });
                Applied { limit: place, position: position(limit), cost: cost(route, limit) }
            });
            let mut applied: Vec<Applied> = applied.collect();
            applied.sort_by_key(|applied| applied.position);
            let session = route.session.as_ref();
            let session = session.map(|OnRoute { definition: of, mode, .. }| {
                (of.name.clone(), of.user.first().cloned().unwrap_or_default(), *mode == Mode::Required)
            });
            routes.push(Bounds { label: route.label.clone(), applied, session });
        }
        let bound = |(index, route): (usize, &RouteSettings)| {
            let mut pattern = route.pattern.clone();
            // Nobody asks for them here.
            pattern.captures = false;
            (pattern, Bound { index, strictness: route.strictness(&settings.routes) })
        };
        let table = Table::new(settings.paths, settings.routes.iter().enumerate().map(bound).collect());
        let fields = fields(&limits);
        Self { table, routes, limits, fields, host, exchange: exchange(), text: String::new() }
    }

    /// All limits that count units.
    pub fn limits(&self) -> &[Counted] {
        &self.limits
    }

    /// The limits of a route, by where they stand.
    pub fn applied(&self, route: usize) -> &[Applied] {
        &self.routes[route].applied
    }

    /// The request fields that limits count by.
    pub fn fields(&self) -> &[HeaderName] {
        &self.fields
    }

    /// The request that a line tells of.
    ///
    /// # Errors
    /// Why it never came to a limit.
    pub fn request(&mut self, line: &Line<'_>) -> Result<Asking, Elsewhere> {
        let asked = line.asked.as_ref().ok_or(Elsewhere::NoRequest)?;
        self.fill(asked, line).ok_or(Elsewhere::NoRequest)?;
        if line.preflight {
            return Err(Elsewhere::Unlimited);
        }
        let request = &self.exchange.request;
        let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
        let Found::Route { target, .. } = self.table.find(host, request.method(), request.uri().path()) else {
            return Err(Elsewhere::NoRoute);
        };
        let route = &self.routes[target.index];
        if route.applied.is_empty() {
            return Err(Elsewhere::Unlimited);
        }
        self.exchange.trail.borrow_mut().route = Some(route.label.clone());
        let (logged_in, told) = match (&route.session, line.user.as_deref()) {
            (Some((session, path, _)), Some(user)) if !user.is_empty() => {
                (Some(Arc::new(principal(session, path, user))), true)
            }
            (_, user) => (None, user.is_some()),
        };
        self.exchange.principal = logged_in;
        let mut counts = Vec::with_capacity(route.applied.len());
        for applied in &route.applied {
            let counted = &mut self.limits[applied.limit];
            let required = route.session.as_ref().is_some_and(|(_, _, required)| *required);
            if applied.position > Position::ByRequest && required && told && self.exchange.principal.is_none() {
                counts.push(Counts::Stopped);
                continue;
            }
            let user = route.session.as_ref().map(|(_, path, _)| path.as_str()).filter(|_| told);
            let tells = |part: &Part| tells(part, line, &self.fields, &self.exchange, user);
            counts.push(match spell(counted, &self.exchange, &tells, &mut self.text) {
                Ok(()) => counted.keys.place(&self.text).map_or(Counts::Beyond, Counts::By),
                Err(otherwise) => otherwise,
            });
        }
        let status = line.status.and_then(|status| StatusCode::from_u16(status).ok());
        Ok(Asking { route: target.index, status, from_cache: line.from_cache, counts: counts.into() })
    }

    /// Makes the request anew in the one exchange that there is.
    fn fill(&mut self, asked: &Asked<'_>, line: &Line<'_>) -> Option<()> {
        let Exchange { request, client, .. } = &mut self.exchange;
        *request.method_mut() = Method::from_bytes(asked.method.as_bytes()).ok()?;
        *request.uri_mut() = asked.target.parse().ok()?;
        client.address = line.client;
        let fields = request.headers_mut();
        fields.clear();
        let host = line.host.as_deref().or(self.host.as_deref());
        if let Some(host) = host {
            fields.insert(HOST, HeaderValue::from_str(host).ok()?);
        }
        for (place, field) in &line.fields {
            if let Field::Value(value) = field
                && let Ok(value) = HeaderValue::from_bytes(value)
            {
                fields.insert(self.fields[*place].clone(), value);
            }
        }
        target::settle(request).is_ok().then_some(())
    }
}

fn position(limit: &Limit) -> Position {
    match limit.count {
        Count::Forwarded => Position::Forwarded,
        _ if limit.needs_session() => Position::ByPrincipal,
        _ => Position::ByRequest,
    }
}

fn cost(route: &RouteSettings, limit: &Limit) -> u64 {
    match limit.cost {
        Cost::Units(units) => route.cost.unwrap_or(units),
        Cost::Response(_) => 1,
    }
}

/// The fields that limits ask for.
fn fields(limits: &[Counted]) -> Vec<HeaderName> {
    let mut fields = Vec::new();
    for Counted { limit, .. } in limits {
        let instead = if let Missing::By(part) = &limit.missing { Some(part) } else { None };
        for part in limit.key.0.iter().chain(instead) {
            let field = match part {
                Part::Header(name) => name.clone(),
                Part::Cookie(_) => COOKIE,
                _ => continue,
            };
            if !fields.contains(&field) {
                fields.push(field);
            }
        }
    }
    fields
}

/// Whether a line tells what a part of a key is; `user`: the attribute of the session that it tells.
fn tells(part: &Part, line: &Line<'_>, fields: &[HeaderName], exchange: &Exchange, user: Option<&str>) -> bool {
    let field = |name: &HeaderName| line.fields.iter().any(|(place, _)| fields[*place] == *name);
    match part {
        Part::Address | Part::Method | Part::Route => true,
        Part::Host => exchange.request.headers().contains_key(HOST),
        Part::Header(name) => field(name),
        Part::Cookie(_) => field(&COOKIE),
        Part::Query(name) => {
            let query = exchange.request.uri().query().unwrap_or_default();
            query.is_empty() || parameters(query, name).all(|value| value != Cow::Borrowed(HIDDEN))
        }
        Part::SessionField(path) => user == Some(path),
        Part::Session | Part::Certificate(_) => false,
    }
}

/// Spells the key of a request, or says what becomes of it without.
fn spell(
    Counted { limit, exempt, .. }: &Counted,
    exchange: &Exchange,
    tells: &dyn Fn(&Part) -> bool,
    out: &mut String,
) -> Result<(), Counts> {
    let address = exchange.client.address;
    if limit.exempt.addresses.iter().any(|network| network.contains(&address))
        || exchange.principal.as_ref().is_some_and(|principal| limit.exempt.session(principal))
    {
        return Err(Counts::Exempt);
    }
    if !limit.key.0.iter().all(tells) {
        return Err(Counts::Untold);
    }
    out.clear();
    if limit.key.push(exchange, limit.grouping, None, out).is_none() {
        out.clear();
        match &limit.missing {
            Missing::By(part) if !tells(part) => return Err(Counts::Untold),
            Missing::By(part) => limit.key.push(exchange, limit.grouping, Some(part), out).ok_or(Counts::Untold)?,
            Missing::Refuse if !limit.shadow => return Err(Counts::Lacking),
            Missing::Refuse | Missing::Skip => return Err(Counts::Skipped),
        }
    }
    if exempt.contains(out) { Err(Counts::Exempt) } else { Ok(()) }
}

fn principal(session: &Arc<str>, path: &str, user: &str) -> Principal {
    Principal {
        session: session.clone(),
        user: user.to_owned(),
        session_digest: "".into(),
        session_key: String::new(),
        attributes: vec![(path.to_owned(), user.to_owned())],
    }
}

/// A request of nobody, for nothing.
fn exchange() -> Exchange {
    let mut request = Request::new(Body::empty());
    // Of later ones a Host is asked for, which many logs do not tell.
    *request.version_mut() = Version::HTTP_10;
    let record = Record::new(clock::instant(), Method::GET, None, Version::HTTP_10);
    let nobody = std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
    Exchange {
        request,
        connection: Rc::new(Connection { peer: None, tls: false, certificate: None, tunnel: RefCell::default() }),
        interim: None,
        client: Client { address: nobody, trusted: false, scheme: Scheme::Http },
        parameters: Vec::new(),
        answers: Answers::default(),
        presented: None,
        principal: None,
        posted: None,
        plan: None,
        trail: Rc::new(RefCell::new(record)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::replay::line::{Format, Reader};
    use crate::config;

    const TABLES: &str = r#"
        [upstream.app]
        servers = ["http://127.0.0.1:3000"]
        [session.web]
        format = "json"
        user = "user.id"
        [redis]
        url = "redis://127.0.0.1:1"
        [limit.address]
        key = "address"
        quota = "10 per minute"
        exempt = { addresses = ["10.0.0.0/8"] }
        [limit.agent]
        key = ["header:User-Agent", "query:k"]
        quota = "10 per minute"
        [limit.user]
        key = "session:user.id"
        quota = "10 per minute"
        [limit.key]
        key = "header:X-Key"
        quota = "10 per minute"
        missing = "skip"
        [[route]]
        path = "/me"
        session = "web"
        limits = ["user", "address"]
        [[route]]
        path = "/free/{*rest}"
        limits = []
        [[route]]
        path = "/agent"
        limits = ["agent"]
        [[route]]
        path = "/key"
        limits = ["key"]
        [[route]]
        path = "/a/{id}"
        methods = ["GET"]
        hosts = ["a.example"]
        limits = ["address"]
    "#;

    fn traffic(host: Option<&str>, room: usize) -> (Traffic, Reader) {
        let settings = config::parse("sidegate.toml", TABLES, &|_| None).map_err(|report| report.render(false));
        let traffic = Traffic::new(&settings.unwrap().settings, room, host.map(str::to_owned));
        let fields = traffic.fields().to_vec();
        (traffic, Reader { format: Format::Auto, fields })
    }

    /// What became of a line, and the keys that the limits of its route count by.
    fn keys(traffic: &mut Traffic, reader: &Reader, line: &str) -> Result<Vec<String>, Elsewhere> {
        let asking = traffic.request(&reader.read(line.as_bytes()).unwrap())?;
        let applied = traffic.applied(asking.route).iter().zip(&asking.counts);
        let shown = applied.map(|(applied, counts)| match counts {
            Counts::By(place) => traffic.limits()[applied.limit].keys.texts()[*place as usize].to_string(),
            otherwise => format!("{otherwise:?}"),
        });
        Ok(shown.collect())
    }

    fn combined(address: &str, request: &str, agent: &str) -> String {
        format!(r#"{address} - - [10/Oct/2000:13:55:36 -0700] "{request}" 200 1 "-" "{agent}""#)
    }

    #[test]
    fn requests_meet_the_routes_of_the_configuration() {
        let (mut traffic, reader) = traffic(None, 10);
        let mut of = |request: &str| keys(&mut traffic, &reader, &combined("192.0.2.1", request, "curl"));
        assert_eq!(of("GET /free/x HTTP/1.1"), Err(Elsewhere::Unlimited));
        for nowhere in ["GET /nowhere HTTP/1.1", "GET /a/7 HTTP/1.1", "POST http://a.example/a/7 HTTP/1.1"] {
            assert_eq!(of(nowhere), Err(Elsewhere::NoRoute), "{nowhere}");
        }
        assert_eq!(of("GET http://A.example:80/a/7?x HTTP/1.1").unwrap(), ["192.0.2.1"]);
        for none in ["-", "CONNECT a:1 HTTP/1.1", "GET a HTTP/1.1", "G\x01T / HTTP/1.1", "GET /a b HTTP/1.1"] {
            assert_eq!(of(none), Err(Elsewhere::NoRequest), "{none}");
        }
    }

    #[test]
    fn a_host_may_be_said_for_lines_that_tell_none() {
        let (mut traffic, reader) = traffic(Some("a.example"), 10);
        let line = combined("192.0.2.1", "GET /a/7 HTTP/1.1", "curl");
        assert_eq!(keys(&mut traffic, &reader, &line).unwrap(), ["192.0.2.1"]);
        assert_eq!(keys(&mut traffic, &reader, &format!("b.example {line}")), Err(Elsewhere::NoRoute));
    }

    #[test]
    fn who_is_exempt_or_has_no_room_is_said_to_be() {
        let (mut traffic, reader) = traffic(Some("a.example"), 2);
        let mut of = |address: &str| {
            keys(&mut traffic, &reader, &combined(address, "GET /a/7 HTTP/1.1", "curl")).unwrap().remove(0)
        };
        let told = ["10.1.2.3", "192.0.2.1", "2001:db8:1:2:3::1", "192.0.2.3", "192.0.2.1"].map(&mut of);
        assert_eq!(told, ["Exempt", "192.0.2.1", "2001:db8:1:2::/64", "Beyond", "192.0.2.1"]);
    }

    #[test]
    fn a_limit_counts_only_where_the_line_tells_its_key() {
        let (mut traffic, reader) = traffic(None, 10);
        let mut of = |line: &str| keys(&mut traffic, &reader, line).unwrap();
        let [with, without, other] =
            ["curl", "-", "wget"].map(|agent| of(&combined("192.0.2.1", "GET /agent?k=1 HTTP/1.1", agent)).remove(0));
        assert!(with.starts_with('#') && with != other && without.starts_with("@192.0.2.1,#"), "{with} {without}");
        let common = r#"192.0.2.1 - - [10/Oct/2000:13:55:36 -0700] "GET /agent?k=1 HTTP/1.1" 200 1"#;
        assert_eq!(of(common), ["Untold"]);
        let hidden = combined("192.0.2.1", "GET /agent?k=*** HTTP/1.1", "curl");
        assert_eq!(of(&hidden), ["Untold"], "a log of ours that keeps a secret");
        // A limit by the session stands behind the others, whatever the order in the file.
        assert_eq!(of(&combined("192.0.2.1", "GET /me HTTP/1.1", "curl")), ["192.0.2.1", "Untold"]);
        assert_eq!(of(&combined("192.0.2.1", "GET /key HTTP/1.1", "curl")), ["Untold"]);
        let json = |rest: &str| {
            format!(
                r#"{{"time":1,"client":"192.0.2.1","method":"GET","host":"x","session":"absent","status":200,{rest}}}"#
            )
        };
        assert_eq!(of(&json(r#""target":"/me","user":"7""#)), ["192.0.2.1", "7"]);
        assert_eq!(of(&json(r#""target":"/me""#)), ["192.0.2.1", "Stopped"]);
        assert_eq!(of(&json(r#""target":"/key""#)), ["Untold"]);
        assert_eq!(of(&json(r#""target":"/key","http_x_key":"-""#)), ["Skipped"]);
        let preflight = json(r#""target":"/key","local_reply":"cors-preflight""#);
        assert_eq!(keys(&mut traffic, &reader, &preflight), Err(Elsewhere::Unlimited));
        let mut of = |line: &str| keys(&mut traffic, &reader, line).unwrap();
        assert!(of(&json(r#""target":"/key","headers":{"X-Key":["a"]}"#))[0].starts_with('#'));
    }
}
