//! What `[session.NAME]` may ask for besides reading a session.

use std::time::Duration;

use http::HeaderName;

use super::{attribute, secrets};
use crate::config::quantity;
use crate::config::raw::{Fault, Table, Value, choice, text};
use crate::config::validate::definitions::{field_name, identity_field};
use crate::config::validate::process::count;
use crate::session::settings::{
    Binding, Encoding, Identity, Index, Issue, Lifetime, Login, Mismatch, SameSite, Signature, SignatureKind, Touch,
};
use crate::session::{Carrier, Definition, Format, IdentityFields, Secrets};

const MINUTE: Duration = Duration::from_secs(60);
/// The longest time between two sightings of a session: what is kept of it lives a day longer than it had left at the first.
const LONGEST_INTERVAL: Duration = Duration::from_secs(60 * 60);
/// How long a session that was revoked stays so: few requests take an app as long.
const REVOKED: Duration = Duration::from_secs(60 * 60);

/// Reads them.
pub fn read(table: &mut Table<'_>, definition: &mut Definition) {
    table.section("identity", |table| definition.identity = identity(table, &definition.forward));
    definition.login = login(table);
    table.set("forward_query", &mut definition.keep_query, Value::flag);
    let in_query = definition.carriers.iter().any(|carrier| matches!(carrier, Carrier::Query(_)));
    if let Some(value) = table.value("forward_query").filter(|_| !definition.keep_query && !in_query) {
        let help = "from = [\"query:NAME\", …]";
        let message = "`forward_query` does nothing: no credential is looked for in the query";
        table.reading.warning(&value.at, Fault::with_help(message, help));
    }
    definition.touch = touch(table);
    if let Some(value) = table.value("touch").filter(|_| matches!(definition.format, Format::Spring { .. })) {
        let message = "`touch` keeps a key, not a session: Spring's is over by `lastAccessedTime` in its record";
        table.reading.warning(&value.at, message);
    }
    definition.lifetime = lifetime(table, &definition.format);
    definition.binding = table.section("bind", binding).flatten();
    definition.index = index(table);
    let (format, carriers) = (&definition.format, &definition.carriers);
    definition.issue = table.section("issue", |table| issue(table, format, carriers)).flatten();
}

/// `identity = { … }`.
fn identity(table: &mut Table<'_>, forward: &[(HeaderName, String)]) -> Identity {
    let mut identity = Identity::default();
    let encodings = [("percent", Encoding::Percent), ("rfc8187", Encoding::Rfc8187), ("base64", Encoding::Base64)];
    table.set("encoding", &mut identity.encoding, choice(&encodings));
    let kind = table.read("sign", choice(&[("hmac", SignatureKind::Hmac), ("jwt", SignatureKind::Jwt)]));
    let secrets = secrets(table, "secrets");
    let mut field = HeaderName::from_static("x-identity-signature");
    table.set("field", &mut field, |value| field_name(value.text()?).and_then(identity_field));
    if let Some(kind) = &kind
        && let Some((other, _)) = forward.iter().find(|(name, _)| IdentityFields::new([field.clone()]).names(name))
    {
        table.reading.error(&kind.at, format!("the signature would replace `{other}`: `field` is another"));
    }
    let mut ttl = MINUTE;
    table.set("ttl", &mut ttl, text(quantity::duration));
    if let Some(value) =
        table.value("ttl").filter(|_| kind.as_ref().is_none_or(|kind| kind.value == SignatureKind::Hmac))
    {
        let message =
            "`ttl` does nothing here: it is of `sign = \"jwt\"`; whoever verifies an hmac says how old it may be";
        table.reading.warning(&value.at, message);
    }
    let Some(kind) = kind else { return identity };
    if secrets.is_none() {
        let help = "secrets = [{ env = \"IDENTITY_SECRET\" }]: sidegate and the app share it";
        table.reading.error(&kind.at, Fault::with_help("nothing to sign with: `secrets` is missing", help));
    }
    let secrets = secrets.unwrap_or_else(|| Secrets::new([]));
    identity.signature = Some(Signature { field, kind: kind.value, secrets, ttl });
    identity
}

/// `login_url` and `login_back`.
fn login(table: &mut Table<'_>) -> Option<Login> {
    let url = table.read("login_url", |value| {
        let url = value.text()?;
        let of_site = url.starts_with('/') && !url.starts_with("//") && !url.starts_with("/\\");
        let elsewhere = url.starts_with("https://") || url.starts_with("http://");
        let plain = url.bytes().all(|byte| byte.is_ascii_graphic()) && !url.contains('#');
        if !(plain && (of_site || elsewhere) && url.parse::<http::Uri>().is_ok()) {
            return Err(Fault::with_help(format!("`{url}` leads to no login"), "\"/login\" or \"https://…\""));
        }
        Ok(url.to_owned())
    });
    let mut back = "next".to_owned();
    table.set("login_back", &mut back, |value| {
        let name = value.text()?;
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
            return Err(format!("`{name}` is not a parameter's name").into());
        }
        Ok(name.to_owned())
    });
    if let Some(value) = table.value("login_back").filter(|_| table.value("login_url").is_none()) {
        let help = "login_url = \"/login\"";
        table
            .reading
            .warning(&value.at, Fault::with_help("`login_back` does nothing: nobody is sent to a login", help));
    }
    Some(Login { url: url?.value, back })
}

/// `touch` and `touch_interval`.
fn touch(table: &mut Table<'_>) -> Option<Touch> {
    let ttl = table.read("touch", text(quantity::duration));
    let given = table.read("touch_interval", text(quantity::duration));
    let Some(ttl) = ttl else {
        if let Some(given) = given {
            table.reading.error(&given.at, "nothing is prolonged: `touch` is missing");
        }
        return None;
    };
    let interval = given.map_or(MINUTE.min(ttl.value / 2), |given| given.value);
    if interval >= ttl.value {
        let help = "touch_interval is a part of it, like a minute of half an hour";
        table.reading.error(&ttl.at, Fault::with_help("a session would end before it is prolonged", help));
    }
    Some(Touch { ttl: ttl.value, interval })
}

/// `max_age` and `born`.
fn lifetime(table: &mut Table<'_>, format: &Format) -> Option<Lifetime> {
    let most = table.read("max_age", text(quantity::duration));
    let born = table.read("born", |value| attribute(value.text()?));
    let Some(most) = most else {
        if let Some(born) = born {
            table.reading.error(&born.at, "no session is too old: `max_age` is missing");
        }
        return None;
    };
    if born.is_none() && !matches!(format, Format::Spring { .. }) {
        let help = "born = \"created_at\": seconds or milliseconds since 1970, or a timestamp";
        let message = "a record of this format does not tell its birth: `born` is missing";
        table.reading.error(&most.at, Fault::with_help(message, help));
    }
    Some(Lifetime { most: most.value, born: born.map(|born| born.value) })
}

/// `bind = { … }`.
fn binding(table: &mut Table<'_>) -> Option<Binding> {
    let mut agent = false;
    table.set("agent", &mut agent, Value::flag);
    let v4 = table.read("ipv4", count::<u8>(1..33)).map(|bits| bits.value);
    let v6 = table.read("ipv6", count::<u8>(1..129)).map(|bits| bits.value);
    let mut mismatch = Mismatch::default();
    let mismatches = [("report", Mismatch::Report), ("refuse", Mismatch::Refuse), ("login", Mismatch::Login)];
    table.set("mismatch", &mut mismatch, choice(&mismatches));
    let address = (v4.is_some() || v6.is_some()).then(|| (v4.unwrap_or(24), v6.unwrap_or(56)));
    if !agent && address.is_none() {
        let help = "agent = true, ipv4 = 24, ipv6 = 56: any of them";
        table.reading.error(&table.at, Fault::with_help("sessions are bound to nothing", help));
        return None;
    }
    Some(Binding { agent, address, mismatch })
}

/// `index = true`, or with its bounds.
fn index(table: &mut Table<'_>) -> Option<Index> {
    let value = table.value("index")?;
    let mut index = Index { interval: MINUTE, most: 100, ttl: 31 * 24 * 60 * MINUTE, revoked_for: REVOKED };
    if !value.is_table() {
        return value.read(Value::flag).filter(|wanted| wanted.value).map(|_| index);
    }
    let read = |table: &mut Table<'_>| {
        table.set("interval", &mut index.interval, |value| {
            let interval = quantity::duration(value.text()?)?;
            if interval > LONGEST_INTERVAL {
                let shown = quantity::shown_duration(interval);
                let help =
                    "at most an hour: what is kept of a session lives a day longer than the session when it was noted";
                return Err(Fault::with_help(
                    format!("a session that is noted once in {shown} may be forgotten"),
                    help,
                ));
            }
            Ok(interval)
        });
        table.set("most", &mut index.most, count(1..10_001));
        table.set("ttl", &mut index.ttl, text(quantity::duration));
        table.set("revoked_for", &mut index.revoked_for, |value| {
            let time = quantity::duration(value.text()?)?;
            if time < MINUTE {
                let help = "at least a minute; longer than any request takes the app: what one that was under way writes brings the session back";
                return Err(Fault::with_help("a session that is revoked for so short may come back", help));
            }
            Ok(time)
        });
    };
    value.read(|value| value.table("`index`", read))?;
    Some(index)
}

/// `issue = { … }`.
fn issue(table: &mut Table<'_>, format: &Format, carriers: &[Carrier]) -> Option<Issue> {
    if !matches!(format, Format::Json | Format::Hash) {
        let message = format!("sessions of format `{}` are made by the app", format.name());
        table.reading.error(&table.at, Fault::with_help(message, "format = \"json\" or \"hash\""));
    }
    let cookies = || carriers.iter().filter_map(|one| if let Carrier::Cookie(name) = one { Some(name) } else { None });
    let cookie = cookies().next().cloned();
    if cookie.is_none() {
        let help = "from = [\"cookie:__Host-session\"]";
        table.reading.error(&table.at, Fault::with_help("`from` names no cookie to give to clients", help));
    }
    let is_token = |name: &str| !name.is_empty() && name.parse::<HeaderName>().is_ok();
    if let Some(name) = cookie.as_ref().filter(|name| !is_token(name)) {
        table.reading.error(&table.at, format!("`{name}` is no name for a cookie"));
    }
    let ttl = table.require("ttl", "ttl = \"30m\": how long a session lasts", text(quantity::duration));
    let mut issue = Issue {
        ttl: ttl?.value,
        cookie: cookie?,
        path: "/".into(),
        domain: None,
        secure: true,
        same_site: SameSite::Lax,
        persistent: true,
    };
    table.set("path", &mut issue.path, |value| {
        let path = value.text()?;
        let plain = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';');
        if path.starts_with('/') && plain { Ok(path.to_owned()) } else { Err(format!("`{path}` is not a path").into()) }
    });
    let domain = table.read("domain", |value| Ok(crate::route::pattern::host(value.text()?)?));
    issue.domain = domain.map(|domain| domain.value);
    table.set("secure", &mut issue.secure, Value::flag);
    let same_site = [("strict", SameSite::Strict), ("lax", SameSite::Lax), ("none", SameSite::None)];
    table.set("same_site", &mut issue.same_site, choice(&same_site));
    table.set("persistent", &mut issue.persistent, Value::flag);
    let (host, secured) = (issue.cookie.starts_with("__Host-"), issue.cookie.starts_with("__Secure-"));
    if host && (issue.path != "/" || issue.domain.is_some()) || (host || secured) && !issue.secure {
        let message = format!("browsers refuse `{}` so: its name promises more", issue.cookie);
        table.reading.error(&table.at, Fault::with_help(message, "__Host-: secure, path \"/\", no domain"));
    }
    if issue.same_site == SameSite::None && !issue.secure {
        table.reading.error(&table.at, "browsers refuse a cookie with SameSite=None that is not secure");
    }
    Some(issue)
}
