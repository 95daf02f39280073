//! A line of JSON: sidegate's own access log, and the objects that others write. Pure.
//!
//! 1. Names are tried in order, the exact ones first: [`TIME`], [`CLIENT`], [`METHOD`], [`TARGET`], [`HOST`], [`STATUS`].
//!    What is `null`, `""` or `-` is not there.
//! 2. `request` is a request line (nginx's `$request`) or an object with the members of the request (Caddy).
//! 3. A time is text (RFC 3339, the common log format's, seconds) or a number.
//! 4. A request field stands under `http_NAME` (nginx) or in an object `headers` or `request_headers`, whose values are
//!    texts or lists of one. An object tells also what is not in it.
//! 5. A list is told by its first member; of a name that stands twice, the last counts.
//! 6. An answer that sent a browser to the login (`local_reply`) is the 401 that it stands for, as limits count it live.

use std::borrow::Cow;
use std::fmt;

use http::{HeaderName, StatusCode};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::line::{Asked, Field, Line, Unreadable, address, request_line};
use super::value::{Anything, Name, Value};
use crate::local_reply::LOGIN_NEEDED;

const TIME: [&str; 7] = ["time", "ts", "@timestamp", "timestamp", "msec", "time_iso8601", "time_local"];
const CLIENT: [&str; 6] = ["client", "client_ip", "remote_addr", "remote_ip", "clientip", "ip"];
const METHOD: [&str; 2] = ["method", "request_method"];
/// The later ones may lack the query, which then is in [`QUERY`].
const TARGET: [&str; 5] = ["target", "request_uri", "uri", "path", "url"];
const QUERY: [&str; 3] = ["query_string", "query", "args"];
const HOST: [&str; 3] = ["host", "http_host", "server_name"];
const STATUS: [&str; 2] = ["status", "status_code"];
const FIELDS: [&str; 2] = ["headers", "request_headers"];

/// Reads a line.
///
/// # Errors
/// What is wrong with it.
pub fn read<'l>(line: &'l [u8], fields: &[HeaderName]) -> Result<Line<'l>, Unreadable> {
    let mut found = Found { fields, ..Found::default() };
    let mut json = serde_json::Deserializer::from_slice(line);
    Members { found: &mut found }
        .deserialize(&mut json)
        .and_then(|()| json.end())
        .map_err(|_| "not an object of JSON")?;
    let at = found.time.take().ok_or("no time")?.1.ok_or("the time is none")?;
    let client = found.client.take().ok_or("no client address")?;
    let client = client.1.text().and_then(|text| address(text.as_bytes())).ok_or("no client address")?;
    let mut read = Line::new(at, client);
    read.status = found.status.take().and_then(|(_, status)| status.number()).and_then(|status| status.try_into().ok());
    if found.sent_to_login {
        read.status = Some(StatusCode::UNAUTHORIZED.as_u16());
    }
    read.host = found.host.take().and_then(|(_, host)| host.text());
    read.user = match (found.user.take().and_then(Value::text), found.tells_session) {
        (None, true) => Some(Cow::Borrowed("")),
        (user, _) => user,
    };
    (read.from_cache, read.preflight) = (found.from_cache, found.preflight);
    read.fields = std::mem::take(&mut found.told);
    read.asked = found.asked();
    Ok(read)
}

/// What the members of an object say; with the rank of the name, where there are several.
#[derive(Default)]
struct Found<'l, 'f> {
    fields: &'f [HeaderName],
    time: Option<(usize, Option<u64>)>,
    client: Option<(usize, Value<'l>)>,
    method: Option<(usize, Value<'l>)>,
    target: Option<(usize, Value<'l>)>,
    query: Option<(usize, Value<'l>)>,
    host: Option<(usize, Value<'l>)>,
    status: Option<(usize, Value<'l>)>,
    line: Option<Value<'l>>,
    user: Option<Value<'l>>,
    tells_session: bool,
    from_cache: bool,
    preflight: bool,
    sent_to_login: bool,
    told: Vec<(usize, Field<'l>)>,
}

impl<'l> Found<'l, '_> {
    fn asked(self) -> Option<Asked<'l>> {
        let text = |value: Option<(usize, Value<'l>)>| value.and_then(|(_, value)| value.text());
        let Some(method) = text(self.method) else {
            return request_line(self.line?.text()?);
        };
        let target = match text(self.target) {
            Some(target) => target,
            None => return request_line(self.line?.text()?),
        };
        match text(self.query).filter(|query| !target.contains('?') && !query.is_empty()) {
            Some(query) => Some(Asked { method, target: format!("{target}?{}", query.trim_start_matches('?')).into() }),
            None => Some(Asked { method, target }),
        }
    }

    /// Takes what a member says, if anybody asks for it.
    fn take<A: MapAccess<'l>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        let rank = |names: &[&str]| names.iter().position(|known| *known == name);
        if let Some(rank) = rank(&TIME) {
            let value: Value<'_> = map.next_value_seed(Anything)?;
            keep(&mut self.time, rank, value.moment());
        } else if let Some(rank) = rank(&CLIENT) {
            keep_told(&mut self.client, rank, map.next_value_seed(Anything)?);
        } else if let Some(rank) = rank(&METHOD) {
            keep_told(&mut self.method, rank, map.next_value_seed(Anything)?);
        } else if let Some(rank) = rank(&TARGET) {
            keep_told(&mut self.target, rank, map.next_value_seed(Anything)?);
        } else if let Some(rank) = rank(&QUERY) {
            keep_told(&mut self.query, rank, map.next_value_seed(Anything)?);
        } else if let Some(rank) = rank(&HOST) {
            keep_told(&mut self.host, rank, map.next_value_seed(Anything)?);
        } else if let Some(rank) = rank(&STATUS) {
            keep_told(&mut self.status, rank, map.next_value_seed(Anything)?);
        } else if FIELDS.contains(&name) && !self.fields.is_empty() {
            let before = self.told.len();
            map.next_value_seed(RequestFields { names: self.fields, told: &mut self.told })?;
            let told: Vec<usize> = self.told[before..].iter().map(|(place, _)| *place).collect();
            let missing = (0..self.fields.len()).filter(|place| !told.contains(place));
            self.told.extend(missing.map(|place| (place, Field::Missing)));
        } else if let Some(place) = self.place(name) {
            let value = map.next_value_seed(Anything)?.field();
            self.told.retain(|(other, _)| *other != place);
            self.told.push((place, value));
        } else {
            match name {
                "request" => return map.next_value_seed(Request { found: self }),
                "user" => self.user = Some(map.next_value_seed(Anything)?),
                "session" => {
                    map.next_value::<IgnoredAny>()?;
                    self.tells_session = true;
                }
                "cache" => {
                    let outcome: Value<'_> = map.next_value_seed(Anything)?;
                    self.from_cache = matches!(outcome.text().as_deref(), Some("hit" | "stale"));
                }
                "local_reply" => {
                    let reply: Value<'_> = map.next_value_seed(Anything)?;
                    let reply = reply.text();
                    self.preflight = reply.as_deref() == Some("cors-preflight");
                    self.sent_to_login = reply.as_deref() == Some(LOGIN_NEEDED);
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }

    /// The field that `http_NAME` stands for, if it is asked for.
    fn place(&self, name: &str) -> Option<usize> {
        let name = name.strip_prefix("http_")?;
        let same = |field: &HeaderName| {
            let field = field.as_str().bytes().map(|byte| if byte == b'-' { b'_' } else { byte });
            field.eq(name.bytes().map(|byte| byte.to_ascii_lowercase()))
        };
        self.fields.iter().position(same)
    }
}

fn keep<T>(kept: &mut Option<(usize, T)>, rank: usize, value: T) {
    if kept.as_ref().is_none_or(|(other, _)| rank <= *other) {
        *kept = Some((rank, value));
    }
}

fn keep_told<'l>(kept: &mut Option<(usize, Value<'l>)>, rank: usize, value: Value<'l>) {
    if value != Value::Nothing {
        keep(kept, rank, value);
    }
}

/// An object whose members are kept where somebody asks for them.
struct Members<'a, 'l, 'f> {
    found: &'a mut Found<'l, 'f>,
}

/// The value of `request`.
struct Request<'a, 'l, 'f> {
    found: &'a mut Found<'l, 'f>,
}

/// An object of request fields.
struct RequestFields<'a, 'l> {
    names: &'a [HeaderName],
    told: &'a mut Vec<(usize, Field<'l>)>,
}

impl<'l> DeserializeSeed<'l> for Members<'_, 'l, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'l>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'l> Visitor<'l> for Members<'_, 'l, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'l>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key_seed(Name)? {
            self.found.take(&name, &mut map)?;
        }
        Ok(())
    }
}

impl<'l> DeserializeSeed<'l> for Request<'_, 'l, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'l>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'l> Visitor<'l> for Request<'_, 'l, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a request line or an object")
    }

    fn visit_borrowed_str<E>(self, text: &'l str) -> Result<(), E> {
        self.found.line = Some(Value::Text(text.into()));
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.found.line = Some(Value::Text(text.to_owned().into()));
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'l>>(self, map: A) -> Result<(), A::Error> {
        Members { found: self.found }.visit_map(map)
    }
}

impl<'l> DeserializeSeed<'l> for RequestFields<'_, 'l> {
    type Value = ();

    fn deserialize<D: Deserializer<'l>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'l> Visitor<'l> for RequestFields<'_, 'l> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of request fields")
    }

    fn visit_map<A: MapAccess<'l>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key_seed(Name)? {
            match self.names.iter().position(|field| field.as_str().eq_ignore_ascii_case(&name)) {
                None => drop(map.next_value::<IgnoredAny>()?),
                Some(place) => {
                    self.told.push((place, map.next_value_seed(Anything)?.field()));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: u64 = 971_211_336_000_000;

    fn line<'l>(text: &'l str, fields: &[HeaderName]) -> Result<Line<'l>, Unreadable> {
        read(text.as_bytes(), fields)
    }

    fn asked<'l>(line: &'l Line<'_>) -> Option<(&'l str, &'l str)> {
        line.asked.as_ref().map(|asked| (&*asked.method, &*asked.target))
    }

    #[test]
    fn one_request_is_read_from_the_objects_of_several_servers() {
        let ours = r#"{"time":"2000-10-10T20:55:36.000Z","level":"info","event":"request","request_id":"x","client":"192.0.2.1","method":"GET","host":"a.example","target":"/a?b=c","protocol":"HTTP/1.1","status":200,"sent":5,"duration_ms":0.4}"#;
        let nginx = r#"{"msec":"971211336.000","remote_addr":"192.0.2.1","request":"GET /a?b=c HTTP/1.1","http_host":"a.example","status":"200","uri":"/a"}"#;
        let caddy = r#"{"level":"info","ts":971211336.0,"request":{"remote_ip":"192.0.2.1","method":"GET","host":"a.example","uri":"/a?b=c","headers":{}},"status":200}"#;
        let parts = r#"{"@timestamp":971211336000,"ip":"192.0.2.1:4711","request_method":"GET","path":"/a","query":"b=c","server_name":"a.example","status_code":200}"#;
        let iis = r#"{"time_local":"10/Oct/2000:13:55:36 -0700","clientip":"::ffff:192.0.2.1","method":"GET","url":"/a","args":"?b=c","host":"a.example","status":200}"#;
        for text in [ours, nginx, caddy, parts, iis] {
            let read = line(text, &[]).unwrap();
            assert_eq!(
                (read.at, read.client.to_string().as_str(), read.status),
                (AT, "192.0.2.1", Some(200)),
                "{text}"
            );
            assert_eq!((asked(&read), read.host.as_deref()), (Some(("GET", "/a?b=c")), Some("a.example")), "{text}");
        }
    }

    #[test]
    fn the_exact_name_wins_and_escapes_are_read() {
        let text = r#"{"path":"/b","target":"\/a\u0041","uri":"/c","method":"G\u0045T","time":1,"client":"192.0.2.1","ip":"192.0.2.2"}"#;
        let read = line(text, &[]).unwrap();
        assert_eq!((asked(&read), read.client.to_string().as_str()), (Some(("GET", "/aA")), "192.0.2.1"));
    }

    #[test]
    fn request_fields_are_taken_where_they_are_asked_for() {
        let fields = ["x-key", "cookie"].map(HeaderName::from_static);
        let told = |rest: &str| {
            let text = format!(r#"{{"time":1,"client":"192.0.2.1",{rest}}}"#);
            let mut fields: Vec<_> = line(&text, &fields)
                .unwrap()
                .fields
                .into_iter()
                .map(|(place, field)| {
                    (
                        place,
                        match field {
                            Field::Missing => None,
                            Field::Value(value) => Some(String::from_utf8(value.into_owned()).unwrap()),
                        },
                    )
                })
                .collect();
            fields.sort();
            fields
        };
        let value = |text: &str| Some(text.to_owned());
        assert_eq!(told(r#""http_x_key":"a""#), [(0, value("a"))]);
        assert_eq!(told(r#""http_x_key":"""#), [(0, None)]);
        assert_eq!(told(r#""headers":{"X-KEY":["a","b"],"Other":{"x":1}}"#), [(0, value("a")), (1, None)]);
        assert_eq!(told(r#""request":{"headers":{"Cookie":"a=b"}}"#), [(0, None), (1, value("a=b"))]);
        assert_eq!(told(r#""status":200"#), []);
    }

    #[test]
    fn an_answer_that_sent_a_browser_to_the_login_is_the_401_that_it_stands_for() {
        let status = |rest: &str| line(&format!(r#"{{"time":1,"client":"192.0.2.1"{rest}}}"#), &[]).unwrap().status;
        assert_eq!(status(r#","status":302"#), Some(302));
        assert_eq!(status(r#","status":302,"local_reply":"login-needed""#), Some(401));
        assert_eq!(status(r#","local_reply":"login-needed","status":302"#), Some(401));
        assert_eq!(status(r#","status":302,"local_reply":"rate-limited""#), Some(302));
    }

    #[test]
    fn who_was_logged_in_is_told_by_our_own_log() {
        let user = |rest: &str| {
            let text = format!(r#"{{"time":1,"client":"192.0.2.1"{rest}}}"#);
            line(&text, &[]).unwrap().user.map(Cow::into_owned)
        };
        assert_eq!(user(r#","session":"valid","user":"7""#).as_deref(), Some("7"));
        assert_eq!(user(r#","session":"absent""#).as_deref(), Some(""));
        assert_eq!(user(""), None);
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        for (text, why) in [
            ("", "not an object of JSON"),
            ("[1]", "not an object of JSON"),
            (r#"{"time":1"#, "not an object of JSON"),
            (r#"{"time":1,"client":"192.0.2.1"} x"#, "not an object of JSON"),
            (r#"{"client":"192.0.2.1"}"#, "no time"),
            (r#"{"time":"noon","client":"192.0.2.1"}"#, "the time is none"),
            (r#"{"time":-1,"client":"192.0.2.1"}"#, "the time is none"),
            (r#"{"time":1}"#, "no client address"),
            (r#"{"time":1,"client":"nobody"}"#, "no client address"),
        ] {
            assert_eq!(line(text, &[]).err(), Some(why), "{text}");
        }
        assert_eq!(read(b"{\"time\":1,\"client\":\"\xff\"}", &[]).err(), Some("not an object of JSON"));
        let deep = format!(r#"{{"time":1,"x":{}}}"#, "[".repeat(60_000));
        assert_eq!(line(&deep, &[]).err(), Some("not an object of JSON"));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..40), at in 0..90usize) {
            let fields = [HeaderName::from_static("x-key")];
            let mut text = br#"{"time":1.5,"client":"192.0.2.1","request":{"headers":{"x-key":["a"]}},"status":"20"}"#.to_vec();
            let _ = read(&bytes, &fields);
            text.splice(at.min(text.len())..at.min(text.len()), bytes);
            let _ = read(&text, &fields);
        }
    }
}
