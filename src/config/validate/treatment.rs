//! What a route does to requests and answers besides its policies: rewriting, fields, CORS; and how paths are read.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, header};
use secrecy::ExposeSecret;

use super::definitions::Definitions;
use crate::cache::rules::invalidation::{Template, TemplateError};
use crate::clock::Clock;
use crate::config::quantity;
use crate::config::raw::{Fault, Placed, Table, Value, choice, text};
use crate::config::secret::secret;
use crate::route::cors::{self, Field, Origin};
use crate::route::fields::{Edits, Message, only_added, reserved};
use crate::route::pattern::{self, Pattern, Segment};
use crate::route::{OnAmbiguity, PathCase, Paths};
use crate::session::IdentityFields;
use crate::upstream::rewrite::{Path, Rewrite};
use crate::upstream::{self, Place};

/// Of `[server]`: how paths are read.
pub fn paths(table: &mut Table<'_>) -> Paths {
    let mut paths = Paths::default();
    let ambiguity = [("refuse", OnAmbiguity::Refuse), ("strictest", OnAmbiguity::Strictest)];
    table.set("path_ambiguity", &mut paths.ambiguity, choice(&ambiguity));
    let case = [("sensitive", PathCase::Sensitive), ("insensitive", PathCase::Insensitive)];
    table.set("path_case", &mut paths.case, choice(&case));
    paths
}

/// `[cors.NAME]`.
pub fn cors(name: &Placed<String>, table: &mut Table<'_>) -> Option<Arc<cors::Policy>> {
    table.needs("origins", "origins = [\"https://app.example.com\"], or [\"*\"] for everybody's pages");
    let origins = table.filled("origins", |value| Ok(Origin::parse(value.text()?)?));
    let methods = table.filled("methods", |value| match value.text()? {
        "*" => Ok(None),
        method => Ok(Some(pattern::method(method)?)),
    });
    let methods =
        methods.map_or(vec![Some(http::Method::GET), Some(http::Method::HEAD), Some(http::Method::POST)], values);
    let fields = table.list("fields", field).map(values).unwrap_or_default();
    let expose = table.list("expose", field).map(values).unwrap_or_default();
    let credentials = table.read("credentials", Value::flag);
    let mut max_age = Duration::from_secs(600);
    table.set("max_age", &mut max_age, text(quantity::duration_or_zero));
    let origins = values(origins?);
    if let Some(Placed { value: true, at }) = &credentials {
        let every = [
            ("origins", origins.contains(&Origin::Any)),
            ("methods", methods.contains(&None)),
            ("fields", fields.contains(&Field::Any)),
            ("expose", expose.contains(&Field::Any)),
        ];
        for (key, _) in every.into_iter().filter(|(_, any)| *any) {
            let message = format!("credentials, and `*` in `{key}`: no browser accepts that, and nobody should");
            table.reading.error(at, Fault::with_help(message, "name each"));
        }
    }
    let name = name.value.as_str().into();
    // `*` makes the others needless.
    let methods = methods.into_iter().collect::<Option<_>>().unwrap_or_default();
    let credentials = credentials.is_some_and(|flag| flag.value);
    Some(Arc::new(cors::Policy { name, origins, methods, fields, expose, credentials, max_age }))
}

fn field(value: &Value<'_>) -> Result<Field, Fault> {
    match value.text()? {
        "*" => Ok(Field::Any),
        name => Ok(Field::Named(field_name(name)?)),
    }
}

fn values<T>(list: Placed<Vec<Placed<T>>>) -> Vec<T> {
    list.value.into_iter().map(|item| item.value).collect()
}

fn field_name(name: &str) -> Result<HeaderName, Fault> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is not a field name").into())
}

/// Of `[[route]]`: what is done to the fields of its answers. `cors`: the route has a CORS policy.
pub fn response_fields(table: &mut Table<'_>, cors: bool) -> Edits {
    let allowed = |name: &HeaderName, sets: bool| {
        if cors && name.as_str().starts_with("access-control-") {
            return Err(Fault::from(format!("`{name}` is what the route's `cors` says")));
        }
        match only_added(name).filter(|_| sets) {
            Some(why) => Err(Fault::with_help(format!("`{name}` can only be added: {why}"), "add = { … }")),
            None => allowed(name, Message::Response),
        }
    };
    table.section("response_fields", |table| edits(table, Message::Response, &allowed)).unwrap_or_default()
}

fn request_fields(table: &mut Table<'_>, identity: &IdentityFields) -> Edits {
    let allowed = |name: &HeaderName, sets: bool| {
        if identity.names(name) {
            return Err(Fault::from(format!(
                "`{name}` tells the app who is logged in: `forward` of a session gives it"
            )));
        }
        if sets && *name == header::COOKIE {
            return Err(Fault::from(format!("`{name}` can only be removed: it would replace the client's")));
        }
        allowed(name, Message::Request)
    };
    table.section("request_fields", |table| edits(table, Message::Request, &allowed)).unwrap_or_default()
}

fn allowed(name: &HeaderName, message: Message) -> Result<(), Fault> {
    match reserved(name, message) {
        Some(why) => Err(format!("`{name}` is not a route's to change: {why}").into()),
        None => Ok(()),
    }
}

fn field_value(text: &str) -> Result<HeaderValue, Fault> {
    let visible = text.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte));
    let value = HeaderValue::from_str(text).ok().filter(|_| visible && text.trim() == text);
    value.ok_or_else(|| "a field's value is visible ASCII, without spaces at its ends".into())
}

/// `set`, `add` (to answers) and `remove`.
fn edits(table: &mut Table<'_>, message: Message, allowed: &dyn Fn(&HeaderName, bool) -> Result<(), Fault>) -> Edits {
    let reading = table.reading;
    let pairs = |value: Option<Value<'_>>, key: &str, sets: bool| -> Vec<(HeaderName, HeaderValue)> {
        let mut pairs: Vec<(HeaderName, HeaderValue)> = Vec::new();
        for (name, value) in value.map(|value| value.pairs(key)).unwrap_or_default() {
            let known = field_name(name.value).and_then(|field| allowed(&field, sets).map(|()| field));
            let field = known.map_err(|fault| reading.error(&name.at, fault)).ok();
            let value = value.read(|value| match message {
                // What only the app and we know is a secret, and may come from where secrets come from.
                Message::Request => {
                    let mut read = field_value(secret(value)?.expose_secret())?;
                    read.set_sensitive(true);
                    Ok(read)
                }
                Message::Response => field_value(value.text()?),
            });
            if let (Some(field), Some(value)) = (field, value) {
                if pairs.iter().any(|(other, _)| *other == field) {
                    reading.error(&name.at, format!("`{field}` stands twice"));
                }
                pairs.push((field, value.value));
            }
        }
        pairs
    };
    let set = pairs(table.value("set"), "`set`", true);
    let add = match message {
        Message::Request => Vec::new(),
        Message::Response => pairs(table.value("add"), "`add`", false),
    };
    let remove = table.list("remove", |value| {
        let field = field_name(value.text()?)?;
        allowed(&field, only_added(&field).is_some() && field == header::VARY)?;
        if set.iter().any(|(other, _)| *other == field) {
            return Err(Fault::from(format!("`{field}` is set, which replaces what is there")));
        }
        Ok(field)
    });
    Edits { set, add, remove: remove.map(values).unwrap_or_default() }
}

/// Of `[[route]]`: what the app gets to see instead.
pub fn rewrite(
    table: &mut Table<'_>,
    pattern: Option<&Pattern>,
    upstream: Option<&upstream::Settings>,
    definitions: &Definitions,
) -> Rewrite {
    let reading = table.reading;
    let sessions = (0..definitions.session.len()).filter_map(|index| definitions.session.at(index));
    let identity = IdentityFields::of(sessions, Clock::System);
    let fields = request_fields(table, &identity);
    let strip = table.read("strip_prefix", |value| prefix(value.text()?)).filter(|prefix| !prefix.value.is_empty());
    if let (Some(strip), Some(pattern)) = (&strip, pattern)
        && !begins_with(pattern, &strip.value)
    {
        let help = "the route's path begins with what is stripped: path = \"/api/{*rest}\", strip_prefix = \"/api\"";
        reading.error(&strip.at, Fault::with_help("not every path of this route begins so", help));
    }
    let add = table.read("add_prefix", |value| prefix(value.text()?)).filter(|prefix| !prefix.value.is_empty());
    let template = table.read("rewrite", |value| {
        let names: Vec<&str> =
            pattern.map(|pattern| pattern.parameters().map(|name| &**name).collect()).unwrap_or_default();
        match (value.text()?, pattern) {
            (text, Some(_)) => template(text, &names).map(Some),
            (_, None) => Ok(None),
        }
    });
    if let Some(template) = &template
        && (strip.is_some() || add.is_some())
    {
        reading.error(
            &template.at,
            "`rewrite` makes the whole path: it goes with neither `strip_prefix` nor `add_prefix`",
        );
    }
    let has_prefix = strip.is_some() || add.is_some();
    let mut location = false;
    if let Some(flag) = table.read("rewrite_location", Value::flag) {
        location = flag.value;
        if location && !has_prefix {
            let help = "a redirect is turned back where strip_prefix or add_prefix turned the request";
            reading.error(&flag.at, Fault::with_help("there is no prefix to turn back", help));
        }
    }
    let path = match template.and_then(|template| template.value) {
        Some(template) => Some(Path::Template(template)),
        None => has_prefix.then(|| Path::Prefix {
            strip: strip.map(|strip| strip.value).unwrap_or_default(),
            add: add.map(|add| add.value).unwrap_or_default(),
        }),
    };
    let host = table.read("set_host", |value| host(value.text()?, upstream)).and_then(|host| host.value);
    Rewrite { path, host, fields, location }
}

/// Of `[[route]]`: whether the app takes `%2F` in its paths for text.
pub fn slash_is_text(table: &mut Table<'_>) -> bool {
    let mut text = false;
    table.set("encoded_slash", &mut text, choice(&[("ambiguous", false), ("text", true)]));
    text
}

/// A path with parameters of the route's in braces.
fn template(text: &str, names: &[&str]) -> Result<Template, Fault> {
    let made = Template::parse(text, names).map_err(|error| match error {
        TemplateError::Query => Fault::from(format!("`{text}` has a query; the client's own stays")),
        error => format!("`{text}` {error}").into(),
    })?;
    let inner = text.trim_matches('/').split('/');
    if text.contains(['\\', ';', '%']) || inner.clone().any(|segment| matches!(segment, "" | "." | "..")) && text != "/"
    {
        return Err(format!("`{text}` can be read in more than one way").into());
    }
    Ok(made)
}

/// A prefix in canonical form, without a slash at its end; an empty text is none.
fn prefix(text: &str) -> Result<String, Fault> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let pattern = Pattern::parse(text, Vec::new(), Vec::new())?;
    let mut prefix = String::new();
    for segment in &pattern.segments {
        let Segment::Literal(literal) = segment else {
            return Err(Fault::from(format!("`{text}`: a prefix has no parameters")));
        };
        prefix.push('/');
        prefix.push_str(literal);
    }
    if prefix.is_empty() {
        return Err("`/` is no prefix: every path begins so".into());
    }
    Ok(prefix)
}

fn begins_with(pattern: &Pattern, prefix: &str) -> bool {
    let mut segments = pattern.segments.iter();
    prefix.split('/').skip(1).all(|text| matches!(segments.next(), Some(Segment::Literal(own)) if own == text))
}

/// `"upstream"`: the authority of its only server; or an authority. `None` if the upstream is wrong already.
fn host(text: &str, upstream: Option<&upstream::Settings>) -> Result<Option<HeaderValue>, Fault> {
    if text != "upstream" {
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
            _ => (text, None),
        };
        pattern::host(name)?;
        if name.contains('*') || port.is_some_and(|port| port.parse::<u16>().is_err()) {
            return Err(Fault::from(format!("`{text}` is not a host, with or without a port")));
        }
        return HeaderValue::from_str(text).map(Some).map_err(|_| format!("`{text}` is not a host").into());
    }
    let Some(upstream) = upstream else { return Ok(None) };
    let help = "set_host = \"app.example.com\"";
    let [server] = &upstream.servers[..] else {
        return Err(Fault::with_help("the upstream has several servers: which one's host?", help));
    };
    match &server.place {
        Place::Unix(_) => Err(Fault::with_help("the upstream is a Unix socket: it has no host", help)),
        Place::Tcp(host, port) => {
            let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
            let default = if server.tls { 443 } else { 80 };
            let authority = if *port == default { host } else { format!("{host}:{port}") };
            HeaderValue::try_from(authority).map(Some).map_err(|_| "the upstream's host cannot stand in a field".into())
        }
    }
}
