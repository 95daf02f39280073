//! `[[route]]`: what it says, whether the names in it exist, and whether any request can reach it.

mod cases;
mod doors;

use std::ops::Range;
use std::sync::Arc;

use http::Method;

use super::cached;
use super::definitions::Definitions;
use super::limits::too_dear;
use super::process::{count, sized};
use super::{caches, everything, sessions, treatment};
use crate::cache::rules::on_write::OnWrite;
use crate::config::raw::{Fault, Placed, Reading, Table, Value, choice, did_you_mean, text};
use crate::config::settings::RouteSettings;
use crate::rate_limit::partition::Part;
use crate::rate_limit::{Cost, Limit};
use crate::route::case::differ_only_in_case;
use crate::route::fields::Edits;
use crate::route::pattern::{self, Pattern};
use crate::route::table;
use crate::route::{PathCase, Paths};
use crate::session::settings::Requirement;
use crate::session::{Mode, OnRoute};
use crate::upstream::balance::Balance;
use crate::upstream::rewrite::{self, Rewrite};

/// A route as the file has it: names instead of what they name.
#[derive(Clone)]
struct Route {
    at: Range<usize>,
    label: Arc<str>,
    pattern: Option<Pattern>,
    upstream: Option<usize>,
    limits: Vec<Placed<usize>>,
    cost: Option<u64>,
    session: Option<Session>,
    cache: Option<usize>,
    on_write: Vec<String>,
    rewrite: Rewrite,
    response_fields: Edits,
    cors: Option<usize>,
    websocket: bool,
    max_body: Option<u64>,
}

/// A route's `session`, its definition by index.
#[derive(Clone)]
struct Session {
    index: usize,
    mode: Mode,
    require: Vec<Requirement>,
}

/// Reads all routes. `None` only if something was noted.
pub fn read(
    root: &mut Table<'_>,
    definitions: &Definitions,
    paths: Paths,
    by_default: &[Placed<String>],
) -> Option<Vec<RouteSettings>> {
    let reading = root.reading;
    let mut routes = root.repeated("route", |table| route(table, definitions, by_default));
    if routes.is_empty() {
        if definitions.upstream.len() > 1 {
            let help = "[[route]] with path and upstream";
            reading.error(&(0..0), Fault::with_help("several upstreams and no route that tells them apart", help));
        } else if definitions.upstream.only().is_some() {
            definitions.warn_of_unused(reading);
        }
        return Some(vec![everything()]);
    }
    refuse_unreachable(reading, &routes, paths);
    warn_of_twins(reading, &routes, paths);
    doors::open(reading, definitions, &mut routes, paths);
    cases::warn(reading, definitions, &routes, paths);
    definitions.warn_of_unused(reading);
    definitions.warn_of_unissued(reading, |index| {
        let sessions = routes.iter().flat_map(|route| &route.session);
        sessions.filter(|session| session.index == index).map(|session| session.mode).collect()
    });
    let sessions = sessions_of(definitions, &routes);
    let settle = |route: Route| {
        let limits = route.limits.iter().map(|limit| definitions.limit.at(limit.value).cloned());
        Some(RouteSettings {
            label: route.label,
            pattern: route.pattern?,
            upstream: route.upstream?,
            limits: limits.collect::<Option<_>>()?,
            cost: route.cost,
            session: match route.session {
                Some(Session { index, mode, require }) => {
                    Some(OnRoute { definition: sessions.get(index)?.clone()?, mode, require })
                }
                None => None,
            },
            cache: match route.cache {
                Some(index) => Some(definitions.cache.at(index)?.clone()),
                None => None,
            },
            on_write: route.on_write,
            rewrite: route.rewrite,
            response_fields: route.response_fields,
            cors: match route.cors {
                Some(index) => Some(definitions.cors.at(index)?.clone()),
                None => None,
            },
            websocket: route.websocket,
            max_body: route.max_body,
        })
    };
    routes.into_iter().map(settle).collect()
}

fn route(table: &mut Table<'_>, definitions: &Definitions, by_default: &[Placed<String>]) -> Route {
    let reading = table.reading;
    let path = table.require("path", "path = \"/{*rest}\" is everything", |value| Ok(value.text()?.to_owned()));
    let hosts = values(table.filled("hosts", |value| Ok(pattern::host(value.text()?)?)), reading);
    let methods = values(table.filled("methods", |value| Ok(pattern::method(value.text()?)?)), reading);
    let label = label(&methods, &hosts, path.as_ref().map_or("", |path| &path.value));
    let mut pattern = path.as_ref().and_then(|path| match Pattern::parse(&path.value, hosts, methods.clone()) {
        Ok(pattern) => Some(pattern),
        Err(message) => {
            reading.error(&path.at, message);
            None
        }
    });
    let upstream = match table.value("upstream") {
        Some(value) => named(&value, |name| definitions.upstream.refer(reading, name, &value.at)),
        None => {
            let only = definitions.upstream.only();
            if definitions.upstream.len() > 1 {
                let help = "upstream = \"NAME\": there are several";
                reading.error(&table.at, Fault::with_help("`[[route]]` lacks `upstream`", help));
            }
            only
        }
    };
    let limits = table.list("limits", |value| Ok(value.text()?.to_owned())).map(|list| list.value);
    let limits = limits.unwrap_or_else(|| by_default.to_vec());
    let cost = table.read("cost", count(1..1_000_001));
    let session = table.value("session").and_then(|value| session(&value, definitions));
    let limits = limits_of(reading, definitions, limits, table.value("session").is_some());
    if let Some(cost) = &cost {
        warn_of_cost(reading, definitions, &limits, cost);
    }
    let cost = cost.map(|cost| cost.value);
    let cache_at = table.value("cache");
    let cache =
        cache_at.as_ref().and_then(|value| named(value, |name| definitions.cache.refer(reading, name, &value.at)));
    if let (Some(value), Some(policy)) = (&cache_at, cache.and_then(|index| definitions.cache.at(index))) {
        caches::on_route(reading, &value.at, policy, table.value("session").is_some(), &methods);
    }
    if let (Some(value), Some(policy)) = (&cache_at, cache.and_then(|index| definitions.cache.at(index))) {
        cached::warn_on_route(policy, session.is_some(), value);
    }
    let on_write = on_write(table, pattern.as_ref(), &methods);
    if definitions.cache.len() == 0 {
        cached::warn_of_on_write(table);
    }
    let cors = table.value("cors");
    let response_fields = treatment::response_fields(table, cors.is_some());
    let cors = cors.and_then(|value| named(&value, |name| definitions.cors.refer(reading, name, &value.at)));
    let app = upstream.and_then(|index| definitions.upstream.at(index));
    let rewrite = treatment::rewrite(table, pattern.as_ref(), app, definitions);
    let slash_is_text = treatment::slash_is_text(table);
    if let Some(pattern) = &mut pattern {
        pattern.captures = !on_write.is_empty() || matches!(rewrite.path, Some(rewrite::Path::Template(_)));
        pattern.slash_is_text = slash_is_text;
    }
    let mut websocket = true;
    table.set("websocket", &mut websocket, Value::flag);
    let max_body = table.read("max_body", sized(0, 1 << 50)).map(|size| size.value);
    Route {
        at: table.at.clone(),
        label,
        pattern,
        upstream,
        limits,
        cost,
        session,
        cache,
        on_write,
        rewrite,
        response_fields,
        cors,
        websocket,
        max_body,
    }
}

/// `"web"` or `{ use = "web", mode = "optional" }`.
fn session(value: &Value<'_>, definitions: &Definitions) -> Option<Session> {
    let reading = value.reading;
    let refer = |value: &Value<'_>| named(value, |name| definitions.session.refer(reading, name, &value.at));
    if !value.is_table() {
        return Some(Session { index: refer(value)?, mode: Mode::Required, require: Vec::new() });
    }
    let read = |table: &mut Table<'_>| {
        table.needs("use", "use = \"NAME\" of a [session.NAME]");
        let mut mode = Mode::Required;
        let modes = [("required", Mode::Required), ("optional", Mode::Optional), ("observe", Mode::Observe)];
        table.set("mode", &mut mode, choice(&modes));
        let index = table.value("use").and_then(|value| refer(&value));
        let require = table.value("require").map_or_else(Vec::new, |value| requirements(&value));
        Some(Session { index: index?, mode, require })
    };
    value.read(|value| value.table("`session`", read))?.value
}

/// `require = { role = ["admin", "staff"] }`.
fn requirements(value: &Value<'_>) -> Vec<Requirement> {
    let read = |(path, values): (Placed<&str>, Value<'_>)| {
        let attribute = match sessions::attribute(path.value) {
            Ok(attribute) => attribute,
            Err(fault) => {
                value.reading.error(&path.at, fault);
                return None;
            }
        };
        let items = values.items();
        if items.is_empty() {
            value.reading.error(&values.at, format!("no value of `{attribute}` would do: nobody passes"));
        }
        let texts = items.iter().filter_map(|item| Some(item.read(|item| Ok(item.text()?.to_owned()))?.value));
        Some(Requirement { attribute, values: texts.collect() })
    };
    value.pairs("`require`").into_iter().filter_map(read).collect()
}

/// One question finds out what a client has been promised.
fn refuse_other_plans(
    reading: &Reading<'_>,
    definitions: &Definitions,
    limits: &[Placed<usize>],
    index: usize,
    at: &Range<usize>,
) {
    let plan = |index: usize| definitions.limit.at(index)?.plan.as_ref();
    let Some(own) = plan(index) else { return };
    if let Some(other) = limits.iter().find_map(|limit| plan(limit.value)).filter(|other| other.name != own.name) {
        let message = format!("this limit goes by plan `{}`, another one here by `{}`", own.name, other.name);
        reading.error(at, Fault::with_help(message, "limits of a route share one plan"));
    }
}

fn limits_of(
    reading: &Reading<'_>,
    definitions: &Definitions,
    names: Vec<Placed<String>>,
    has_session: bool,
) -> Vec<Placed<usize>> {
    let mut limits: Vec<Placed<usize>> = Vec::new();
    for Placed { value: name, at } in names {
        let Some(index) = definitions.limit.refer(reading, &name, &at) else { continue };
        if limits.iter().any(|other| other.value == index) {
            reading.error(&at, format!("limit `{name}` stands twice"));
        }
        if !has_session && definitions.limit.at(index).is_some_and(|limit| limit.needs_session()) {
            let message = format!("limit `{name}` looks at the session, and this route has none");
            reading.error(&at, Fault::with_help(message, "session = \"NAME\", or a limit that does not"));
        }
        refuse_other_plans(reading, definitions, &limits, index, &at);
        limits.push(Placed { value: index, at });
    }
    limits
}

/// A route's cost that nothing comes of, or that refuses everybody.
fn warn_of_cost(reading: &Reading<'_>, definitions: &Definitions, limits: &[Placed<usize>], cost: &Placed<u64>) {
    let limits: Option<Vec<_>> = limits.iter().map(|limit| definitions.limit.at(limit.value)).collect();
    // What is wrong with a limit is told where it stands.
    let Some(limits) = limits else { return };
    let heeds = |limit: &Limit| limit.counting().is_some() && matches!(limit.cost, Cost::Units(_));
    let heeding: Vec<_> = limits.into_iter().filter(|limit| heeds(limit)).collect();
    if heeding.is_empty() {
        reading.warning(&cost.at, "`cost` does nothing: no limit of this route has a cost in units");
    }
    for fault in heeding.iter().filter_map(|limit| too_dear(limit, cost.value)) {
        reading.warning(&cost.at, fault);
    }
}

/// What a write invalidates besides its own path: templates of the route's parameters.
fn on_write(table: &mut Table<'_>, pattern: Option<&Pattern>, methods: &[Method]) -> Vec<String> {
    let known: Option<Vec<&str>> = pattern.map(|pattern| pattern.parameters().map(|name| &**name).collect());
    let template = |value: &Value<'_>| {
        let text = value.text()?;
        let (what, template) = match text.strip_prefix("tag:") {
            Some(tag) => ("tag", tag),
            None => ("path", text.strip_suffix("/{*}").unwrap_or(text)),
        };
        let is_one = match what {
            "tag" => !template.is_empty() && template.bytes().all(|byte| matches!(byte, b' '..=b'~')),
            _ => text.starts_with('/') && !template.contains(char::is_whitespace),
        };
        if !is_one {
            return Err(Fault::from(format!("`{text}` is not a {what}")));
        }
        if let Some((before, _)) =
            template.split_once('*').filter(|(before, _)| what == "path" && !before.ends_with('{'))
        {
            let below = before.trim_end_matches('/');
            let help = Some(format!("`{below}/{{*}}` is `{below}` and all below it"));
            return Err(Fault { message: format!("`{text}`: a bare `*` stands for nothing but itself"), help });
        }
        for name in placeholders(template)? {
            if name == "*" {
                return Err(format!("`{text}`: `{{*}}` stands for all below a path, at its end: `/users/{{*}}`").into());
            }
            if let Some(known) = &known
                && !known.contains(&name)
            {
                let help = did_you_mean(name, known.iter().copied());
                return Err(Fault { message: format!("this route's path has no parameter `{name}`"), help });
            }
        }
        let names: Vec<_> = placeholders(text)?;
        OnWrite::parse(text, &names).map_err(|error| Fault::from(format!("`{text}` {error}")))?;
        Ok(text.to_owned())
    };
    let Some(templates) = table.list("on_write", template) else { return Vec::new() };
    let safe = |method: &Method| matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE);
    if !methods.is_empty() && methods.iter().all(safe) {
        table.reading.warning(&templates.at, "nothing is written here: the route takes only methods that read");
    }
    templates.value.into_iter().map(|template| template.value).collect()
}

fn placeholders(template: &str) -> Result<Vec<&str>, Fault> {
    let mut names = Vec::new();
    let mut rest = template;
    while let Some(open) = rest.find(['{', '}']) {
        let close = rest[open..].find('}').filter(|close| *close > 0);
        let close = close.ok_or_else(|| Fault::from(format!("`{template}` has a brace without its pair")))?;
        names.push(&rest[open + 1..open + close]);
        rest = &rest[open + close + 1..];
    }
    Ok(names)
}

fn refuse_unreachable(reading: &Reading<'_>, routes: &[Route], paths: Paths) {
    let known: Vec<&Route> = routes.iter().filter(|route| route.pattern.is_some()).collect();
    let patterns = known.iter().filter_map(|route| Some((route.pattern.clone()?, ())));
    for (later, earlier) in table::Table::new(paths, patterns.collect()).unreachable() {
        let message = format!("no request reaches this route: `{}` takes all of it", known[earlier].label);
        let line = reading.line(known[earlier].at.start);
        reading.error(&known[later].at, Fault::with_help(message, format!("the earlier route begins on line {line}")));
    }
}

/// Routes that an app which does not tell upper from lower case takes for one.
fn warn_of_twins(reading: &Reading<'_>, routes: &[Route], paths: Paths) {
    if paths.case == PathCase::Insensitive {
        return;
    }
    for (index, later) in routes.iter().enumerate() {
        let Some(pattern) = &later.pattern else { continue };
        let is_twin =
            |earlier: &&Route| earlier.pattern.as_ref().is_some_and(|earlier| differ_only_in_case(earlier, pattern));
        if let Some(earlier) = routes[..index].iter().find(is_twin) {
            let message = format!("this path differs from that of `{}` only in case", earlier.label);
            let help = "if the app tells no case, say so: path_case = \"insensitive\" in [server]";
            reading.warning(&later.at, Fault::with_help(message, help));
        }
    }
}

/// The sessions by index, with the attributes that the limits and upstreams of their routes are keyed by.
fn sessions_of(definitions: &Definitions, routes: &[Route]) -> Vec<Option<Arc<crate::session::Definition>>> {
    let complete = |index: usize| {
        let mut definition = definitions.session.at(index)?.clone();
        let its_routes =
            || routes.iter().filter(|route| route.session.as_ref().is_some_and(|session| session.index == index));
        let limits = its_routes().flat_map(|route| &route.limits);
        let limits = limits.filter_map(|limit| definitions.limit.at(limit.value)).flat_map(|limit| limit.attributes());
        let upstreams = its_routes().filter_map(|route| definitions.upstream.at(route.upstream?));
        let balanced = upstreams.filter_map(|upstream| match &upstream.balance {
            Balance::Hash(key) => Some(key),
            _ => None,
        });
        let balanced = balanced.flat_map(|key| &key.0);
        let balanced =
            balanced.filter_map(|part| if let Part::SessionField(field) = part { Some(field) } else { None });
        let demanded = its_routes().flat_map(|route| &route.session).flat_map(|session| &session.require);
        let demanded = demanded.map(|requirement| &requirement.attribute);
        for field in limits.chain(balanced).chain(demanded) {
            if !definition.attributes.contains(field) {
                definition.attributes.push(field.clone());
            }
        }
        Some(Arc::new(definition))
    };
    (0..definitions.session.len()).map(complete).collect()
}

/// Methods, hosts and path, as far as given: `GET,POST api.example.com/users`.
fn label(methods: &[Method], hosts: &[String], path: &str) -> Arc<str> {
    let methods: Vec<&str> = methods.iter().map(Method::as_str).collect();
    let blank = if methods.is_empty() { "" } else { " " };
    format!("{}{blank}{}{path}", methods.join(","), hosts.join(",")).into()
}

/// A list that says nothing twice.
fn values<T: PartialEq>(list: Option<Placed<Vec<Placed<T>>>>, reading: &Reading<'_>) -> Vec<T> {
    let Some(list) = list else { return Vec::new() };
    let mut values = Vec::new();
    for Placed { value, at } in list.value {
        if values.contains(&value) {
            reading.error(&at, "this stands twice");
        }
        values.push(value);
    }
    values
}

fn named<T>(value: &Value<'_>, refer: impl FnOnce(&str) -> Option<T>) -> Option<T> {
    let name = value.read(text(|name| Ok::<_, Fault>(name.to_owned())))?;
    refer(&name.value)
}
