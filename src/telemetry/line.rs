//! One request as one line: JSON for machines, words for people. Pure.
//!
//! 1. What is not known is not written. Every client's text passes through [`redact`].
//! 2. Times are milliseconds with three decimals in JSON, one for people.
//! 3. A line that needs attention says `"level":"warn"`: status 5xx, an upstream's failure, or content that broke off.
//!
//! # Why
//! A line is written for every request. A serialiser, a map of fields or a format string costs microseconds; this
//! costs some hundred nanoseconds and no allocation.

use std::time::Duration;

use http::{Method, StatusCode, Version};

use super::redact::{self, Redaction};
use super::trail::{LimitTrail, Record};
use crate::body::End;

/// When a line is written.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// `2026-01-31T12:03:04`, UTC.
    pub second: &'a str,
    /// Milliseconds of that second.
    pub millis: u64,
}

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    /// How the content of its answer ended, or `Abandoned` if the client left before there was one.
    pub end: End,
    /// From its head to that end.
    pub took: Duration,
}

/// What stands between a member's value and the one before it: put together by the compiler, copied at once.
macro_rules! member {
    ($name:literal) => {
        concat!(",\"", $name, "\":")
    };
}

/// Writes a line of JSON.
pub fn json(out: &mut Vec<u8>, at: Moment<'_>, record: &Record, ending: Ending, redaction: &Redaction) {
    let status = record.status.map(|status| status.as_u16());
    let warns = record.status.is_some_and(|status| status.is_server_error())
        || record.upstream_error.is_some()
        || ending.end == End::Failed;
    out.extend_from_slice(b"{\"time\":\"");
    out.extend_from_slice(at.second.as_bytes());
    let millis = at.millis % 1000;
    out.extend([b'.', digit(millis / 100), digit(millis / 10), digit(millis)]);
    out.extend_from_slice(if warns { b"Z\",\"level\":\"warn\"" } else { b"Z\",\"level\":\"info\"" });
    out.extend_from_slice(b",\"event\":\"request\"");
    quoted(out, member!("request_id"), record.request_id.as_ref(), |out, id| redact::bytes(out, id.as_bytes()));
    quoted(out, member!("client"), record.client, address);
    quoted(out, member!("method"), Some(&record.method), |out, method: &Method| redact::text(out, method.as_str()));
    quoted(out, member!("host"), record.host.as_ref(), |out, host| redact::bytes(out, host.as_bytes()));
    quoted(out, member!("target"), record.target.as_ref(), |out, target| redaction.target(out, target.as_str()));
    quoted(out, member!("protocol"), Some(protocol(record.version)), redact::text);
    number(out, member!("status"), status.map(u64::from));
    number(out, member!("sent"), Some(record.sent));
    quoted(out, member!("route"), record.route.as_deref(), redact::text);
    quoted(out, member!("plan"), record.plan, redact::text);
    if let Some(limit) = &record.limit {
        quoted(out, member!("limit"), Some(&*limit.name), redact::text);
        number(out, member!("limit_remaining"), Some(limit.remaining));
        let refused = if limit.refused { "true" } else { "false" };
        out.extend_from_slice(member!("limit_refused").as_bytes());
        out.extend_from_slice(refused.as_bytes());
        quoted(out, member!("counted"), Some(limit.counted), redact::text);
    }
    quoted(out, member!("session"), record.session, redact::text);
    quoted(out, member!("session_reason"), record.session_reason, redact::text);
    quoted(out, member!("session_device"), record.session_device, redact::text);
    quoted(out, member!("session_digest"), record.session_digest.as_deref(), redact::text);
    number(out, member!("session_would"), record.session_would.map(|status| status.as_u16().into()));
    quoted(out, member!("user"), record.user.as_deref(), redact::text);
    quoted(out, member!("cache"), record.cache, redact::text);
    quoted(out, member!("cache_reason"), record.cache_reason, redact::text);
    quoted(out, member!("upstream"), record.upstream.as_deref(), redact::text);
    quoted(out, member!("endpoint"), record.endpoint.as_deref(), redact::text);
    milliseconds(out, member!("upstream_ms"), record.upstream_time);
    quoted(out, member!("upstream_error"), record.upstream_error, redact::text);
    number(out, member!("retries"), (record.retries > 0).then_some(record.retries.into()));
    quoted(out, member!("local_reply"), record.local_reply, redact::text);
    quoted(out, member!("local_reply_reason"), record.local_reply_reason, redact::text);
    milliseconds(out, member!("duration_ms"), Some(ending.took));
    milliseconds(out, member!("ours_ms"), ours(record));
    quoted(out, member!("end"), Some(word(ending.end)), redact::text);
    out.extend_from_slice(b"}\n");
}

/// Writes a line for people; `colour`: with a coloured status.
pub fn human(out: &mut Vec<u8>, at: Moment<'_>, record: &Record, ending: Ending, redaction: &Redaction, colour: bool) {
    out.extend_from_slice(at.second.get(11..).unwrap_or_default().as_bytes());
    out.push(b' ');
    redact::text(out, record.method.as_str());
    out.push(b' ');
    match &record.target {
        Some(target) => redaction.target(out, target.as_str()),
        None => out.push(b'*'),
    }
    out.push(b' ');
    status(out, record.status, colour);
    out.push(b' ');
    short_milliseconds(out, ending.took);
    out.extend_from_slice(b"ms");
    if let (Some(ours), Some(app)) = (ours(record), record.upstream_time) {
        out.extend_from_slice(b" (ours ");
        short_milliseconds(out, ours);
        out.extend_from_slice(b" app ");
        short_milliseconds(out, app);
        out.push(b')');
    }
    let mut parts = Parts { out, first: true };
    parts.words("plan", &[record.plan]);
    if let Some(limit) = &record.limit {
        parts.limit(limit);
    }
    parts.words("session", &[record.session, record.user.as_deref(), record.session_reason]);
    parts.words("observed: would be", &[record.session_would.as_ref().map(StatusCode::as_str)]);
    parts.words("device", &[record.session_device]);
    parts.words("cache", &[record.cache, record.cache_reason]);
    parts.words("endpoint", &[record.endpoint.as_deref()]);
    parts.words("upstream", &[record.upstream_error]);
    if record.retries > 0 {
        parts.words("retries", &[Some(itoa::Buffer::new().format(record.retries))]);
    }
    parts.words("answered here:", &[record.local_reply, record.local_reply_reason]);
    if ending.end != End::Complete {
        parts.words("content", &[Some(word(ending.end))]);
    }
    out.push(b'\n');
}

/// The groups of words after the times, with a point between them.
struct Parts<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl Parts<'_> {
    fn start(&mut self, what: &str) {
        self.out.extend_from_slice(if self.first { b" " } else { " · ".as_bytes() });
        self.out.extend_from_slice(what.as_bytes());
        self.first = false;
    }

    /// Writes `what` and the words that are there, if the first is.
    fn words(&mut self, what: &str, words: &[Option<&str>]) {
        if let Some(None) | None = words.first() {
            return;
        }
        self.start(what);
        for word in words.iter().flatten() {
            self.out.push(b' ');
            one_word(self.out, word);
        }
    }

    fn limit(&mut self, limit: &LimitTrail) {
        self.start("limit ");
        one_word(self.out, &limit.name);
        if limit.refused {
            self.out.extend_from_slice(b" refused");
        } else {
            self.out.push(b' ');
            self.out.extend_from_slice(itoa::Buffer::new().format(limit.remaining).as_bytes());
            self.out.extend_from_slice(b" left");
        }
        if !matches!(limit.counted, "redis" | "leased" | "remembered" | "memory") {
            self.out.extend_from_slice(b" (");
            self.out.extend_from_slice(limit.counted.as_bytes());
            self.out.push(b')');
        }
    }
}

/// Writes `word` as it is if nobody can take it for more than one, else in quotes.
fn one_word(out: &mut Vec<u8>, word: &str) {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+@/:|#".contains(&byte);
    if word.bytes().all(plain) && word.len() <= redact::LONGEST {
        return out.extend_from_slice(word.as_bytes());
    }
    out.push(b'"');
    redact::text(out, word);
    out.push(b'"');
}

fn status(out: &mut Vec<u8>, status: Option<StatusCode>, colour: bool) {
    let paint: &[u8] = match status.map(|status| status.as_u16() / 100) {
        Some(2) => b"\x1b[32m",
        Some(3) => b"\x1b[36m",
        Some(4) => b"\x1b[33m",
        Some(5) | None => b"\x1b[31m",
        Some(_) => b"",
    };
    if colour {
        out.extend_from_slice(paint);
    }
    out.extend_from_slice(status.as_ref().map_or("---", |status| status.as_str()).as_bytes());
    if colour {
        out.extend_from_slice(b"\x1b[0m");
    }
}

/// What the head of the answer took beyond the app's own time.
pub fn ours(record: &Record) -> Option<Duration> {
    record.head_time.map(|head| head.saturating_sub(record.upstream_time.unwrap_or_default()))
}

fn word(end: End) -> &'static str {
    match end {
        End::Complete => "complete",
        End::Failed => "failed",
        End::Abandoned => "abandoned",
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_11 => "HTTP/1.1",
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_3 => "HTTP/3",
        _ => "HTTP",
    }
}

fn address(out: &mut Vec<u8>, address: std::net::IpAddr) {
    match address {
        std::net::IpAddr::V4(address) => {
            let mut digits = itoa::Buffer::new();
            for (place, octet) in address.octets().into_iter().enumerate() {
                if place > 0 {
                    out.push(b'.');
                }
                out.extend_from_slice(digits.format(octet).as_bytes());
            }
        }
        std::net::IpAddr::V6(address) => {
            use std::io::Write as _;
            // Writing to a Vec never fails.
            let _ = write!(out, "{address}");
        }
    }
}

fn quoted<T>(out: &mut Vec<u8>, member: &str, value: Option<T>, write: impl FnOnce(&mut Vec<u8>, T)) {
    if let Some(value) = value {
        out.extend_from_slice(member.as_bytes());
        out.push(b'"');
        write(out, value);
        out.push(b'"');
    }
}

fn number(out: &mut Vec<u8>, member: &str, value: Option<u64>) {
    if let Some(value) = value {
        out.extend_from_slice(member.as_bytes());
        out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }
}

fn milliseconds(out: &mut Vec<u8>, member: &str, value: Option<Duration>) {
    if let Some(value) = value {
        out.extend_from_slice(member.as_bytes());
        let micros = value.as_micros() as u64;
        out.extend_from_slice(itoa::Buffer::new().format(micros / 1000).as_bytes());
        out.extend([b'.', digit(micros / 100), digit(micros / 10), digit(micros)]);
    }
}

fn short_milliseconds(out: &mut Vec<u8>, value: Duration) {
    let tenths = (value.as_micros() as u64 + 50) / 100;
    out.extend_from_slice(itoa::Buffer::new().format(tenths / 10).as_bytes());
    out.extend([b'.', digit(tenths)]);
}

/// The last decimal digit of `number`.
fn digit(number: u64) -> u8 {
    b'0' + (number % 10) as u8
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::clock;

    const AT: Moment<'_> = Moment { second: "2026-01-31T12:03:04", millis: 7 };

    fn record(target: &str) -> Record {
        let target = http::uri::PathAndQuery::try_from(target).unwrap();
        Record::new(clock::instant(), Method::GET, Some(target), Version::HTTP_11)
    }

    fn rich() -> Record {
        Record {
            request_id: Some(HeaderValue::from_static("4f")),
            host: Some(HeaderValue::from_static("api.test")),
            client: Some([192, 0, 2, 7].into()),
            route: Some("/users/{id}".into()),
            plan: Some("hit"),
            limit: Some(LimitTrail { name: "per-address".into(), refused: false, remaining: 57, counted: "redis" }),
            session: Some("valid"),
            user: Some("alice".into()),
            cache: Some("miss"),
            cache_reason: Some("stored"),
            upstream: Some("app".into()),
            endpoint: Some("http://10.0.0.3:80".into()),
            upstream_time: Some(Duration::from_micros(1702)),
            status: Some(StatusCode::OK),
            sent: 1024,
            head_time: Some(Duration::from_micros(1902)),
            ..record("/users/3?token=abc")
        }
    }

    const WELL: Ending = Ending { end: End::Complete, took: Duration::from_micros(1940) };

    fn json_line(record: &Record, ending: Ending) -> String {
        let mut out = Vec::new();
        json(&mut out, AT, record, ending, &Redaction::default());
        String::from_utf8(out).unwrap()
    }

    fn human_line(record: &Record, ending: Ending) -> String {
        let mut out = Vec::new();
        human(&mut out, AT, record, ending, &Redaction::default(), false);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_decision_is_in_the_json_line() {
        assert_eq!(
            json_line(&rich(), WELL),
            concat!(
                r#"{"time":"2026-01-31T12:03:04.007Z","level":"info","event":"request","request_id":"4f","#,
                r#""client":"192.0.2.7","method":"GET","host":"api.test","target":"/users/3?token=***","#,
                r#""protocol":"HTTP/1.1","status":200,"sent":1024,"route":"/users/{id}","plan":"hit","#,
                r#""limit":"per-address","#,
                r#""limit_remaining":57,"limit_refused":false,"counted":"redis","session":"valid","user":"alice","#,
                r#""cache":"miss","cache_reason":"stored","upstream":"app","endpoint":"http://10.0.0.3:80","upstream_ms":1.702,"duration_ms":1.940,"#,
                r#""ours_ms":0.200,"end":"complete"}"#,
                "\n"
            )
        );
    }

    #[test]
    fn the_line_for_people_reads_as_a_sentence() {
        let line = human_line(&rich(), WELL);
        let expected = "12:03:04 GET /users/3?token=*** 200 1.9ms (ours 0.2 app 1.7) plan hit · limit per-address 57 left \
                        · session valid alice · cache miss stored · endpoint http://10.0.0.3:80\n";
        assert_eq!(line, expected);
    }

    #[test]
    fn a_failure_is_a_warning_with_its_reason() {
        let limit = LimitTrail { name: "login".into(), refused: true, remaining: 0, counted: "local" };
        let failed = Record {
            limit: Some(limit),
            session: Some("absent"),
            session_reason: Some("no_credential"),
            session_device: None,
            upstream_error: Some("connection_timeout"),
            retries: 2,
            local_reply: Some("upstream-unavailable"),
            local_reply_reason: Some("in a word"),
            status: Some(StatusCode::GATEWAY_TIMEOUT),
            ..record("/a")
        };
        let ending = Ending { end: End::Abandoned, took: Duration::from_secs(2) };
        assert_eq!(
            human_line(&failed, ending),
            "12:03:04 GET /a 504 2000.0ms limit login refused (local) · session absent no_credential · upstream \
             connection_timeout · retries 2 · answered here: upstream-unavailable \"in a word\" · content abandoned\n"
        );
        let line = json_line(&failed, ending);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["level"], "warn");
        assert_eq!(value["limit_refused"], true);
        assert_eq!(value["retries"], 2);
        assert_eq!(value["end"], "abandoned");
    }

    #[test]
    fn a_client_that_left_before_the_answer_has_no_status() {
        let ending = Ending { end: End::Abandoned, took: Duration::from_micros(40) };
        assert_eq!(human_line(&record("/a"), ending), "12:03:04 GET /a --- 0.0ms content abandoned\n");
        assert!(!json_line(&record("/a"), ending).contains("status"));
    }

    #[test]
    fn no_client_can_forge_a_line_or_a_field() {
        let forged = "\",\"status\":200}\n{\"event\":\"request\",\"user\":\"root\u{1b}[2K";
        let hostile = Record {
            user: Some(forged.into()),
            host: HeaderValue::from_bytes(b"a\"\t\xff\\").ok(),
            request_id: HeaderValue::from_bytes("\"},\u{202e}".as_bytes()).ok(),
            method: Method::from_bytes(b"GET'|`~").unwrap(),
            ..record("/a\"b")
        };
        let line = json_line(&hostile, WELL);
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["user"], forged);
        assert_eq!(value["host"], "a\"\t\u{fffd}\\");
        assert!(value.get("status").is_none());

        let session = Some("valid");
        let user = Some("root · cache hit 200\n12:03:05 GET /admin 200 \u{1b}[31m".to_owned());
        let line = human_line(&Record { session, user, ..record("/a") }, WELL);
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        assert!(!line.contains('\u{1b}'), "{line:?}");
        assert!(line.contains("session valid \"root · cache hit 200\\u000A12"), "{line}");
    }

    #[test]
    fn addresses_are_written_as_the_standard_library_would() {
        for text in ["0.0.0.0", "255.1.20.3", "::1", "2001:db8::7"] {
            let mut out = Vec::new();
            address(&mut out, text.parse().unwrap());
            assert_eq!(out, text.as_bytes());
        }
    }
}
