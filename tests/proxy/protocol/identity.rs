//! Who is calling: what only we, or a proxy that is trusted, may say (PROTOCOL.md, RFC 7239).

use super::recorder::Recorder;
use super::{Case, passes, run, table, table_with};
use crate::harness::{Configuration, RedisServer};

/// The names that tell an app who asks, or for what.
const TOLD: [&str; 17] = [
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "X-Forwarded-Host",
    "X-Forwarded-Port",
    "X-Forwarded-Prefix",
    "X-Forwarded-Server",
    "X-Forwarded-Scheme",
    "X-Forwarded-Ssl",
    "X-Forwarded-Uri",
    "X-Forwarded-User",
    "X-Forwarded",
    "Forwarded",
    "X-Real-IP",
    "X-Client-IP",
    "True-Client-IP",
    "X-Original-URL",
    "X-Rewrite-URL",
];

/// What we say ourselves under that name, or nothing.
fn own(name: &str) -> Option<&'static str> {
    match name {
        "x-forwarded-for" => Some("127.0.0.1"),
        "x-forwarded-proto" => Some("http"),
        "x-forwarded-host" => Some("a"),
        _ => None,
    }
}

/// The name as `x-forwarded_for` and so on: every `-` in turn, and all at once.
fn misspelt(name: &str) -> Vec<String> {
    let mut spellings = vec![name.replace('-', "_"), name.replace('-', ".")];
    for (at, _) in name.match_indices('-') {
        spellings.push(format!("{}_{}", &name[..at], &name[at + 1..]));
    }
    spellings.sort();
    spellings.dedup();
    spellings.retain(|spelling| spelling != name);
    spellings
}

fn get(lines: &str) -> String {
    format!("GET /identity HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n")
}

fn seen(name: &'static str, value: Option<&str>, lines: &str) -> Case {
    let case = passes("7239 §8", format!("{lines:?}"), get(lines), "GET /identity");
    match value {
        Some(value) => case.with(name, value),
        None => case.without(name),
    }
}

fn lower(name: &str) -> &'static str {
    Box::leak(name.to_ascii_lowercase().into_boxed_str())
}

#[test]
fn a_strangers_word_about_itself_is_replaced_in_every_spelling() {
    let mut cases = Vec::new();
    for name in TOLD {
        let (low, value) = (lower(name), own(&name.to_ascii_lowercase()));
        cases.push(seen(low, value, &format!("{name}: 192.0.2.66")));
        cases.push(seen(low, value, &format!("{}: 192.0.2.66\r\n{name}: 192.0.2.67", name.to_ascii_uppercase())));
        for spelling in misspelt(name) {
            cases.push(seen(lower(&spelling), None, &format!("{spelling}: 192.0.2.66")));
        }
    }
    for name in ["Content_Length", "Transfer_Encoding", "Content_Type", "X_Request_Id", "Proxy_Connection"] {
        cases.push(seen(lower(name), None, &format!("{name}: 1")));
    }
    cases.push(seen("proxy", None, "Proxy: http://192.0.2.66:8080"));
    let id = passes("CONTRACT", "a stranger's X-Request-Id", get("X-Request-Id: spoofed"), "GET /identity");
    cases.push(id);
    table(cases);
}

#[test]
fn a_trusted_proxys_word_is_passed_on_and_added_to() {
    let mut cases = Vec::new();
    for (sent, expected) in [
        ("192.0.2.1", "192.0.2.1, 127.0.0.1"),
        ("192.0.2.1, 192.0.2.2", "192.0.2.1, 192.0.2.2, 127.0.0.1"),
        ("unknown", "unknown, 127.0.0.1"),
    ] {
        cases.push(seen("x-forwarded-for", Some(expected), &format!("X-Forwarded-For: {sent}")));
    }
    let two = "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 192.0.2.2";
    cases.push(seen("x-forwarded-for", Some("192.0.2.1, 192.0.2.2, 127.0.0.1"), two));
    cases.push(seen("x-forwarded-proto", Some("https"), "X-Forwarded-Proto: https"));
    cases.push(seen("x-forwarded-proto", Some("http"), "X-A: b"));
    cases.push(seen("x-forwarded-host", Some("public.test"), "X-Forwarded-Host: public.test"));
    cases.push(seen("forwarded", Some("for=192.0.2.1"), "Forwarded: for=192.0.2.1"));
    cases.push(seen("x-request-id", Some("theirs"), "X-Request-Id: theirs"));
    for name in ["X_Forwarded_For", "X-Forwarded_For", "X_Request_Id"] {
        cases.push(seen(lower(name), None, &format!("{name}: 192.0.2.66")));
    }
    table_with("trusted_proxies = [\"127.0.0.1\"]", cases);
}

#[test]
fn nobody_but_us_says_who_is_logged_in() {
    let redis = RedisServer::start();
    let app = Recorder::start();
    let tables = "[session.web]\nformat = \"json\"\nforward = { X-User-Id = \"user_id\" }\n\
                  [[route]]\npath = \"/{*rest}\"\nsession = { use = \"web\", mode = \"optional\" }\n";
    let sidegate = Configuration::to(&app.url()).redis(&redis).with(tables).start();
    let mut cases = Vec::new();
    for name in ["X-User-Id", "x-user-id", "X_User_Id", "X-User_Id", "X_USER-ID", "X.User.Id", "X-User.Id", "X~User~Id"]
    {
        cases.push(seen(lower(name), None, &format!("{name}: 1")));
        cases.push(seen(lower(name), None, &format!("Connection: {name}\r\n{name}: 1\r\n{name}: 2")));
    }
    let trailer = "POST /identity HTTP/1.1\r\nHost: a\r\nTrailer: X-User-Id, X_User_Id, X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n\
                   0\r\nX-User-Id: 1\r\nX_User_Id: 1\r\nX-Sum: 1\r\n\r\n";
    let trailer = passes("9110 §6.5.1", "in a trailer", trailer, "POST /identity");
    cases.push(trailer.trailers(&[("x-sum", "1")]));
    run(&sidegate, &app, cases);
}
