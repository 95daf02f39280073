//! One connection, several requests (RFC 9112 §9).

use super::{Case, Then, passes, refused, table};

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

#[test]
fn requests_on_one_connection_are_answered_in_turn_until_one_is_refused() {
    let mut cases: Vec<Case> = Vec::new();
    let three = format!("{}{}{}", get("/one"), get("/two"), get("/three"));
    let pipelined = passes("9112 §9.3.2", "three at once", &three, "GET /one").and("GET /two").and("GET /three");
    let pipelined = pipelined.back(&[200]).back(&[200]);
    for size in [1, 3, 16, 64] {
        cases.push(pipelined.clone().in_pieces_of(size));
    }
    cases.push(pipelined);
    let post = "POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    let chunks = "POST /post HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n";
    for (name, content) in [("length", post), ("chunks", chunks)] {
        let both = format!("{content}{}{content}", get("/after"));
        let case =
            passes("9112 §9.3.2", format!("content by {name}, a request, content"), both, "POST /post").content("abc");
        let case = case.and("GET /after").and("POST /post").content("abc").back(&[200]).back(&[200]);
        for size in [1, 7] {
            cases.push(case.clone().in_pieces_of(size));
        }
        cases.push(case);
        let empty = format!("{content}\r\n{}", get("/after"));
        let case = passes("9112 §2.2", format!("an empty line after content by {name}"), empty, "POST /post")
            .and("GET /after");
        cases.push(case.back(&[200]));
    }
    // Whatever is refused, and however: nothing behind it goes on.
    for (name, bad, statuses) in [
        ("a bad request line", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", &[400][..]),
        ("a bad field", "GET / HTTP/1.1\r\nHost: a\r\nX A: b\r\n\r\n", &[400]),
        ("a bad Host", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", &[400]),
        ("no Host", "GET / HTTP/1.1\r\n\r\n", &[400]),
        ("a bad target", "GET a HTTP/1.1\r\nHost: a\r\n\r\n", &[400]),
        (
            "both lengths",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            &[400],
        ),
        ("two lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 44\r\n\r\n", &[400]),
        ("a bad chunk", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n", &[400]),
        ("another version", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", &[505]),
        ("CONNECT", "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", &[400]),
        ("a bad Max-Forwards", "OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: x\r\n\r\n", &[400]),
        ("a lone LF", "\n", &[400]),
        ("a NUL", "\0\r\n\r\n", &[400]),
    ] {
        let alone = format!("{bad}{}", get("/smuggled"));
        cases.push(refused("9112 §9.3", format!("{name}, and a request"), alone, statuses));
        let between = format!("{}{bad}{}", get("/one"), get("/smuggled"));
        let case = passes("9112 §9.3", format!("a request, {name}, and a request"), between, "GET /one");
        cases.push(case.back(statuses).then(Then::Closed));
        let content = format!("{chunks}{bad}{}", get("/smuggled"));
        let case = passes("9112 §9.3", format!("content, {name}, and a request"), content, "POST /post").content("abc");
        cases.push(case.back(statuses).then(Then::Closed));
    }
    // The last request of a connection is the one that says so.
    for (version, line) in [("1.1", "Connection: close"), ("1.0", "X-A: b"), ("1.1", "Connection: x, Close")] {
        let last = format!("GET /last HTTP/{version}\r\nHost: a\r\n{line}\r\n\r\n{}", get("/smuggled"));
        cases.push(
            passes("9112 §9.6", format!("HTTP/{version} {line}, and a request"), last, "GET /last").then(Then::Closed),
        );
    }
    for behind in ["\0", "GET  / HTTP/1.1\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n"] {
        let last = format!("GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n{behind}");
        let case = passes("9112 §9.6", format!("{behind:?} after the last request"), last, "GET /last");
        cases.push(case.then(Then::Closed));
        let bad = format!("GET / HTTP/1.1\r\nHost: a b\r\n\r\n{behind}");
        cases.push(refused("9112 §9.6", format!("{behind:?} after a refused request"), bad, &[400]));
    }
    let kept = "GET /kept HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n";
    cases.push(passes("9112 §9.3", "HTTP/1.0 that may stay", kept, "GET /kept").then(Then::Whatever));
    // Content that looks like a request is content.
    let inner = get("/inner");
    let outer = format!("POST /outer HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{inner}", inner.len());
    cases.push(passes("9112 §6", "a request within content", outer, "POST /outer").content(&inner));
    let outer = format!(
        "GET /outer HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{inner}\r\n0\r\n\r\n{}",
        inner.len(),
        get("/after")
    );
    let case = passes("9112 §7.1", "a request within a chunk, and one after it", outer, "GET /outer").content(&inner);
    cases.push(case.and("GET /after").back(&[200]));
    table(cases);
}

#[test]
fn an_answer_that_comes_early_does_not_mix_up_what_follows() {
    let mut cases: Vec<Case> = Vec::new();
    for (name, content) in [
        ("length", "Content-Length: 3\r\n\r\nabc"),
        ("chunks", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
    ] {
        let bytes = format!("POST /early HTTP/1.1\r\nHost: a\r\n{content}{}", get("/after"));
        let mut case = passes("9112 §9.3", format!("early, content by {name}"), bytes, "POST /early").content("abc");
        case = case.and("GET /after").back(&[200]);
        cases.push(case);
        // All of the head, then, later, the content: the answer may come in between.
        let head =
            format!("POST /early HTTP/1.1\r\nHost: a\r\n{}\r\n\r\n", content.split("\r\n").next().unwrap_or_default());
        let mut case = refused("9112 §9.6", format!("early, content by {name} never comes"), &head, &[200]);
        case = case.then(Then::Whatever).or_broken_off();
        cases.push(case);
    }
    table(cases);
}
