//! `sidegate explain`: what a running sidegate would make of a request, room by room, and why.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::admin::tell;
use crate::admin::explain::Wanted;

/// `sidegate explain …`.
#[derive(Debug, Args)]
#[command(
    after_help = "Nothing is charged, stored or asked of the app, unless --ask is given. Where the admin listener has a \
                        token, it is taken from the environment: SIDEGATE_ADMIN_TOKEN. `sidegate demo` prints where its own listens, for \
                        --admin."
)]
pub struct Arguments {
    /// GET, POST, …
    method: String,
    /// As in the address bar, or a path
    url: String,
    /// A field of the request; more than once for more
    #[arg(short = 'H', long = "field", value_name = "NAME: VALUE")]
    fields: Vec<String>,
    /// The content of the request: what POST is to a cache may depend on it
    #[arg(long, value_name = "TEXT")]
    data: Option<String>,
    /// The address of the client
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    from: IpAddr,
    /// Then send the request on its way, as any other: it is charged, and the app may be asked
    #[arg(long)]
    ask: bool,
    /// The admin listener of a running sidegate
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9901")]
    admin: String,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

/// Asks, prints the answer, and exits with 0; with 1 if there is none.
pub fn explain(arguments: Arguments) -> ExitCode {
    let Arguments { method, url, fields, data, from, ask, admin, json } = arguments;
    let split = |line: &String| {
        let (name, value) =
            line.split_once(':').ok_or_else(|| format!("`{line}` is no field: \"Name: value\" is one"))?;
        Ok((name.to_owned(), value.trim().to_owned()))
    };
    let content = fields.iter().map(split).collect::<Result<_, String>>().and_then(|fields| {
        let wanted = Wanted { method, url, fields, from: Some(from), content: data, ask };
        wanted.read()?;
        serde_json::to_string(&wanted).map_err(|error| error.to_string())
    });
    match content {
        Ok(content) => tell(&admin, "POST /explain", Some(&content), json, told),
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

/// The explanation for people.
fn told(answer: &Value) -> String {
    let mut said = Said::default();
    let request = &answer["request"];
    let [method, scheme, host, target] = ["method", "scheme", "host", "target"].map(|name| text(&request[name]));
    said.line("request", &format!("{method} {scheme}://{host}{target} from {}", text(&request["from"])));
    if request["host_assumed"] == true {
        said.line("", &format!("host {host} assumed: give a URL, or -H 'Host: …'"));
    }
    if let Some(route) = answer.get("route") {
        said.line("route", &format!("{} → {}", text(&route["label"]), text(&route["upstream"])));
    }
    for limit in answer["limits"].as_array().into_iter().flatten() {
        said.line("limit", &of_limit(limit));
    }
    if let Some(session) = answer.get("session") {
        said.line("session", &of_session(session));
    }
    if let Some(cache) = answer.get("cache") {
        of_cache(cache, &mut said);
    }
    if let Some(refused) = answer.get("refused") {
        let [by, status, reason] = ["by", "status", "reason"].map(|name| text(&refused[name]));
        said.line("refused", &format!("with {status}, by the {by}: {reason}"));
    }
    if let Some(asked) = answer.get("asked") {
        of_asked(asked, &mut said);
    }
    said.0
}

fn of_limit(limit: &Value) -> String {
    let mut words = format!("{} ({} by {})", text(&limit["name"]), text(&limit["rule"]), text(&limit["key"]));
    if limit["shadow"] == true {
        words.push_str(", in shadow");
    }
    if let Some(key) = limit["key_of_request"].as_str() {
        let _ = write!(words, ": {key}");
    }
    if let Some(counts) = limit["counts"].as_str() {
        let _ = write!(words, ": {counts}");
    } else if let Some(why) = limit["unknown"].as_str() {
        let _ = write!(words, ": {why}");
    } else if limit["refused"] == true {
        let _ = write!(words, " is refused for {} s", limit["retry_after"]);
    } else {
        let (remaining, quota, reset) = (&limit["remaining"], text(&limit["quota"]), &limit["reset_after"]);
        let _ = write!(words, " has {remaining} left of {quota}; all of it in {reset} s");
    }
    words
}

fn of_session(session: &Value) -> String {
    let mut words = format!("{}: {}", text(&session["session"]), text(&session["verdict"]));
    if let Some(reason) = session["reason"].as_str() {
        let _ = write!(words, " ({reason})");
    }
    if let Some(carrier) = session["carrier"].as_str() {
        let _ = write!(words, ", found in {carrier}");
    }
    if let Some(user) = session["user"].as_str() {
        let _ = write!(words, ", user {user}");
    }
    words.push_str(&why_nobody(session));
    words.push_str(&forwarded(&session["forward"]));
    if let Some(missed) = session["missed"]["attribute"].as_str() {
        let values: Vec<String> = session["missed"]["values"].as_array().into_iter().flatten().map(text).collect();
        let _ = write!(words, ", {missed} is not {}", values.join(" or "));
    }
    if let Some(location) = session["location"].as_str() {
        let _ = write!(words, ", sent to {location}");
    }
    if let Some(status) = session["would"]["status"].as_u64() {
        let _ = write!(words, ", only observed: would be {status}");
    }
    if let Some(cookie) = session["issues"]["cookie"].as_str() {
        let _ = write!(words, ", issued in cookie {cookie}");
    }
    words
}

/// Where a login was looked for that was not found: `, looked in cookie:sid`.
fn why_nobody(session: &Value) -> String {
    let looked_in = texts(&session["looked_in"]);
    if !looked_in.is_empty() {
        return format!(", looked in {}", looked_in.join(", "));
    }
    if let Some(prefix) = session["looked_for"]["prefix"].as_str() {
        let looked_for = &session["looked_for"];
        let place = match looked_for["database"].as_i64() {
            Some(database) => format!("Redis database {database}"),
            None => "this process".to_owned(),
        };
        let key = format!("{prefix}… (and {} characters more)", looked_for["hidden"]);
        return if looked_for["missing"] == true {
            format!(", no key {key} in {place}")
        } else {
            format!(", what is under {key} in {place} is no session, or is over")
        };
    }
    let under = texts(&session["nobody"]["under"]);
    if under.is_empty() {
        return String::new();
    }
    let names = texts(&session["nobody"]["record_has"]);
    let more = if session["nobody"]["more"] == true { ", …" } else { "" };
    let has = if names.is_empty() { String::new() } else { format!("; the record has: {}{more}", names.join(", ")) };
    format!(", names nobody under {}{has}", under.join(", "))
}

/// `, told x-user-id; x-role: no role in the record`.
fn forwarded(forward: &Value) -> String {
    let told = texts(&forward["told"]);
    let lacking = forward["lacking"].as_array().into_iter().flatten();
    let lacking = lacking.map(|one| format!("; {}: no {} in the record", text(&one["field"]), text(&one["attribute"])));
    let lacking: String = lacking.collect();
    match (told.is_empty(), lacking.is_empty()) {
        (true, true) => String::new(),
        (true, false) => format!(", told nothing{lacking}"),
        (false, _) => format!(", told {}{lacking}", told.join(", ")),
    }
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().map(text).collect()
}

fn of_cache(cache: &Value, said: &mut Said) {
    let does = text(&cache["does"]);
    let Some(name) = cache["cache"].as_str() else { return said.line("cache", &format!("none: {does}")) };
    said.line("cache", &format!("{name}: {does}{}", because(&cache["because"])));
    if let Some(would) = cache.get("would") {
        said.line("", &format!("it would: {}{}", text(&would["does"]), because(&would["because"])));
    }
    if let Some(key) = cache["key"].as_str() {
        said.line("key", key);
    }
    if let Some(stored) = cache.get("stored") {
        let [status, bytes, age] = ["status", "bytes", "age"].map(|name| stored[name].as_u64().unwrap_or_default());
        let left = stored["fresh_for"].as_i64().unwrap_or_default();
        let fresh = if left > 0 { format!("fresh for {left} s") } else { format!("stale for {} s", -left) };
        let part = stored["part"].as_str().map(|part| format!(" (the part {part})")).unwrap_or_default();
        let mut words = format!("{status}, {bytes} bytes{part}, {age} s old, {fresh}");
        for (name, what) in [
            ("for_all", "for all"),
            ("validated_at_each_use", "validated at each use"),
            ("never_stale", "never sent stale"),
        ] {
            if stored[name] == true {
                let _ = write!(words, ", {what}");
            }
        }
        for (name, what) in [("selected_by", "selected by"), ("tags", "tagged")] {
            let list: Vec<String> = stored[name].as_array().into_iter().flatten().map(text).collect();
            if !list.is_empty() {
                let _ = write!(words, ", {what} {}", list.join(", "));
            }
        }
        said.line("stored", &words);
    }
}

fn of_asked(asked: &Value, said: &mut Said) {
    if let Some(why) = asked["failed"].as_str() {
        return said.line("asked", why);
    }
    said.line("asked", &format!("{}, {} bytes; the app {}", asked["status"], asked["bytes"], text(&asked["app"])));
    if let Some(outcome) = asked["cache"].as_str() {
        said.line("", &format!("cache: {outcome}{}", because(&asked["because"])));
    }
    for (name, field) in [("cache_status", "Cache-Status"), ("cache_control", "Cache-Control"), ("vary", "Vary")] {
        if let Some(value) = asked[name].as_str().filter(|value| !value.is_empty()) {
            said.line("", &format!("{field}: {value}"));
        }
    }
}

/// `, because nothing is stored for this URI (RFC 9111 §4)`.
fn because(reason: &Value) -> String {
    match (reason["says"].as_str(), reason["rule"].as_str(), reason["word"].as_str()) {
        (Some(says), Some(rule), _) => format!(", because {says} ({rule})"),
        (_, _, Some(word)) => format!(", because of {word}"),
        _ => String::new(),
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[derive(Default)]
struct Said(String);

impl Said {
    fn line(&mut self, what: &str, words: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{what:<8} {words}");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_explanation_is_told_room_by_room() {
        let limit = json!({"name": "each", "rule": "5 per minute", "key": "address", "shadow": false, "key_of_request":
            "192.0.2.0/24", "quota": "5 per minute", "refused": false, "remaining": 4, "reset_after": 12});
        let stored = json!({"status": 206, "bytes": 5, "age": 7, "fresh_for": -3, "for_all": true,
            "validated_at_each_use": false, "never_stale": true, "selected_by": ["accept"], "tags": [], "part": "0-4/9"});
        let answer = json!({
            "request": {"method": "GET", "scheme": "http", "host": "a.test", "target": "/x", "from": "192.0.2.1"},
            "route": {"label": "/{*rest}", "upstream": "app"},
            "limits": [limit],
            "session": {"session": "web", "verdict": "valid", "user": "7", "passes": true},
            "cache": {"cache": "pages", "does": "asks the app", "key": "a.test/x http", "stored": stored,
                "because": {"word": "stale", "says": "it is not fresh", "rule": "RFC 9111 §4.2"}},
        });
        let expected = "\
request  GET http://a.test/x from 192.0.2.1
route    /{*rest} → app
limit    each (5 per minute by address): 192.0.2.0/24 has 4 left of 5 per minute; all of it in 12 s
session  web: valid, user 7
cache    pages: asks the app, because it is not fresh (RFC 9111 §4.2)
key      a.test/x http
stored   206, 5 bytes (the part 0-4/9), 7 s old, stale for 3 s, for all, never sent stale, selected by accept
";
        assert_eq!(told(&answer), expected);
    }

    #[test]
    fn a_refusal_and_an_answer_are_told() {
        let request = json!({"method": "GET", "scheme": "http", "host": "a", "target": "/", "from": "::1"});
        let refused =
            json!({"request": request.clone(), "refused": {"by": "route", "status": 404, "reason": "no-route"}});
        assert!(told(&refused).ends_with("refused  with 404, by the route: no-route\n"));
        let asked = json!({"request": request, "asked": {"status": 200, "bytes": 3, "app": "was asked", "cache": "miss",
            "because": {"word": "odd"}, "cache_control": "no-store", "cache_status": "", "vary": ""}});
        let expected = "asked    200, 3 bytes; the app was asked\n         cache: miss, because of odd\n         \
                        Cache-Control: no-store\n";
        assert!(told(&asked).ends_with(expected), "{}", told(&asked));
    }
}
