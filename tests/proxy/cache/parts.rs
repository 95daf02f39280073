//! Parts of content, stored (RFC 9111 §3.3, §3.4).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::harness::origin::Request;
use crate::harness::{Answer, Client, Origin, Reply, client::request, until};

use super::{hit, outcome, over_both, over_both_with};

/// Bytes of the content of every page.
pub const LENGTH: u64 = 100;

/// The bytes from `first` to `last` of this version: no two versions have the same at any place.
pub fn content(version: u64, first: u64, last: u64) -> String {
    let letter = |at| char::from(b'!' + ((at * 7 + version * 31) % 90) as u8);
    (first..=last).map(letter).collect()
}

/// First and last byte of the range that is asked for; `None`: there is none that is satisfiable.
fn asked(request: &Request) -> Option<(u64, u64)> {
    let (first, last) = request.field("range")?.strip_prefix("bytes=")?.split_once('-')?;
    let (first, last) = match (first.parse::<u64>().ok(), last.parse::<u64>().ok()) {
        (None, suffix) => (LENGTH.saturating_sub(suffix?), LENGTH - 1),
        (Some(first), last) => (first, last.unwrap_or(LENGTH - 1).min(LENGTH - 1)),
    };
    (first <= last && first < LENGTH).then_some((first, last))
}

/// What an app that knows ranges answers in this version, with this `Cache-Control`.
pub fn served(request: &Request, version: u64, control: &str) -> Reply {
    let tag = format!("\"v{version}\"");
    let by_name = |reply: Reply| reply.field("ETag", &tag).field("Cache-Control", control);
    if request.field("if-none-match") == Some(&tag) {
        return by_name(Reply::text("").status("304 Not Modified"));
    }
    match asked(request).filter(|_| request.field("if-range").is_none_or(|named| named == tag)) {
        None => by_name(Reply::text(content(version, 0, LENGTH - 1))),
        Some((first, last)) => by_name(Reply::text(content(version, first, last)))
            .status("206 Partial Content")
            .field("Content-Range", &format!("bytes {first}-{last}/{LENGTH}")),
    }
}

/// An app with a version, which a POST makes another.
fn app(control: &'static str) -> (Origin, Arc<AtomicU64>) {
    let version = Arc::new(AtomicU64::new(1));
    let current = version.clone();
    let app = Origin::answering(move |request| {
        if request.method == "POST" {
            current.fetch_add(1, Ordering::SeqCst);
            return Reply::text("done");
        }
        served(request, current.load(Ordering::SeqCst), control)
    });
    (app, version)
}

fn range(client: &mut Client, target: &str, range: &str) -> Answer {
    client.get_with(target, &[("Range", range)])
}

fn told(answer: &Answer) -> &str {
    answer.field("cache-status").unwrap_or_else(|| panic!("no Cache-Status in {answer:?}"))
}

#[test]
fn a_stored_part_serves_what_lies_within_it_and_nothing_else() {
    over_both(|config| {
        let (app, _) = app("max-age=60");
        let sidegate = config(&app).start();
        let mut client = sidegate.client();
        let first = range(&mut client, "/page", "bytes=60-");
        assert_eq!((first.status, outcome(&first)), (206, "MISS"));
        assert!(told(&first).ends_with("fwd=uri-miss; fwd-status=206; stored"), "{first:?}");
        hit(&mut client, "/page", &[("Range", "bytes=60-")]);
        let count = app.count();
        for (asked, (from, to)) in [
            ("bytes=60-", (60, 99)),
            ("bytes=60-60", (60, 60)),
            ("bytes=70-79", (70, 79)),
            ("bytes=70-1000", (70, 99)),
            ("bytes=-40", (60, 99)),
            ("bytes=-1", (99, 99)),
        ] {
            let part = range(&mut client, "/page", asked);
            assert_eq!((part.status, outcome(&part)), (206, "HIT"), "{asked}");
            assert_eq!(part.text(), content(1, from, to), "{asked}");
            assert_eq!(part.field("content-range"), Some(&*format!("bytes {from}-{to}/100")));
            assert_eq!(part.number("content-length"), to + 1 - from);
            assert!(part.fields.has("age") && told(&part).starts_with("sidegate; hit; ttl="), "{part:?}");
        }
        let named = [("Range", "bytes=60-61"), ("If-Range", "\"v1\"")];
        assert_eq!(client.get_with("/page", &named).text(), content(1, 60, 61));
        let known = [("Range", "bytes=60-61"), ("If-None-Match", "\"v1\"")];
        assert_eq!(client.get_with("/page", &known).status, 304);
        assert_eq!(app.count(), count, "all of these came from the store");
        // Each of these is asked for as it was sent, on a page of its own: its answer would replace the part.
        for (number, fields, status, from) in [
            (1, &[("Range", "bytes=59-60")][..], 206, 59),
            (2, &[("Range", "bytes=-41")], 206, 59),
            (3, &[("Range", "bytes=60-61"), ("If-Range", "\"v0\"")], 200, 0),
            (4, &[], 200, 0),
            (5, &[("If-None-Match", "\"v0\"")], 200, 0),
        ] {
            let target = format!("/page/{number}");
            hit(&mut client, &target, &[("Range", "bytes=60-")]);
            let answer = client.get_with(&target, fields);
            assert_eq!((answer.status, outcome(&answer)), (status, "MISS"), "{fields:?}");
            assert!(told(&answer).contains("fwd=partial"), "{answer:?}");
            assert!(answer.text().starts_with(&content(1, from, from + 1)), "{fields:?}");
            assert_eq!(
                app.last().field("range"),
                fields.iter().find(|(name, _)| *name == "Range").map(|(_, range)| *range)
            );
        }
        hit(&mut client, "/head", &[("Range", "bytes=60-")]);
        let head = client.ask("HEAD", "/head", &[], b"");
        assert_eq!((head.status, head.number("content-length")), (200, LENGTH));
        assert_eq!(app.last().method, "HEAD");
    });
}

#[test]
fn where_the_beginning_is_stored_the_app_is_asked_for_the_rest_alone() {
    over_both(|config| {
        let (app, _) = app("max-age=60");
        let sidegate = config(&app).start();
        let mut client = sidegate.client();
        hit(&mut client, "/page", &[("Range", "bytes=0-39")]);
        let whole = client.get("/page");
        assert_eq!((whole.status, whole.text()), (200, content(1, 0, 99)));
        assert_eq!((whole.field("content-range"), whole.number("content-length")), (None, LENGTH));
        assert!(told(&whole).ends_with("fwd=partial; fwd-status=206; stored"), "{whole:?}");
        let asked = app.last();
        assert_eq!((asked.field("range"), asked.field("if-range")), (Some("bytes=40-"), Some("\"v1\"")));
        assert_eq!(hit(&mut client, "/page", &[]).text(), content(1, 0, 99));
        assert_eq!(range(&mut client, "/page", "bytes=30-49").text(), content(1, 30, 49));
    });
}

#[test]
fn a_beginning_of_another_version_is_let_go_of() {
    over_both(|config| {
        let (app, version) = app("max-age=60");
        let sidegate = config(&app).start();
        let mut client = sidegate.client();
        hit(&mut client, "/page", &[("Range", "bytes=0-39")]);
        version.store(2, Ordering::SeqCst);
        let whole = client.get("/page");
        assert_eq!((whole.status, whole.text()), (200, content(2, 0, 99)));
        assert_eq!(app.last().field("if-range"), Some("\"v1\""));
        assert_eq!(hit(&mut client, "/page", &[]).text(), content(2, 0, 99));
    });
}

/// What an app sends to who asks for the rest, byte for byte.
fn rest(path: &str) -> String {
    let (head, fields) = match path {
        "/another-version" => ("206 Partial Content", "ETag: \"v2\"\r\nContent-Range: bytes 40-99/100\r\n"),
        "/weak" => ("206 Partial Content", "ETag: W/\"v1\"\r\nContent-Range: bytes 40-99/100\r\n"),
        "/nothing-vouches" => ("206 Partial Content", "Content-Range: bytes 40-99/100\r\n"),
        "/overlap" => ("206 Partial Content", "ETag: \"v1\"\r\nContent-Range: bytes 39-99/100\r\n"),
        "/hole" => ("206 Partial Content", "ETag: \"v1\"\r\nContent-Range: bytes 41-99/100\r\n"),
        "/early" => ("206 Partial Content", "ETag: \"v1\"\r\nContent-Range: bytes 40-98/100\r\n"),
        "/longer" => ("206 Partial Content", "ETag: \"v1\"\r\nContent-Range: bytes 40-100/101\r\n"),
        "/backwards" => ("206 Partial Content", "ETag: \"v1\"\r\nContent-Range: bytes 99-40/100\r\n"),
        "/no-range" => ("206 Partial Content", "ETag: \"v1\"\r\n"),
        "/length" => ("206 Partial Content", "ETag: \"v1\"\r\nContent-Range: bytes 40-99/100\r\n"),
        "/beyond" => ("416 Range Not Satisfiable", "Content-Range: bytes */40\r\n"),
        "/condition" => ("412 Precondition Failed", ""),
        _ => ("206 Partial Content", "ETag: \"v1\"\r\nContent-Range: bytes 40-99/100\r\n"),
    };
    let content = if path == "/length" { content(1, 40, 98) } else { content(1, 40, 99) };
    let framing = match path {
        "/short-chunks" => format!("Transfer-Encoding: chunked\r\n\r\n3b\r\n{}\r\n0\r\n\r\n", &content[..59]),
        "/long-chunks" => format!("Transfer-Encoding: chunked\r\n\r\n3d\r\n{content}x\r\n0\r\n\r\n"),
        _ => format!("Content-Length: {}\r\n\r\n{content}", content.len()),
    };
    format!("HTTP/1.1 {head}\r\n{fields}Cache-Control: max-age=60\r\n{framing}")
}

fn lying() -> Origin {
    Origin::scripted(|wire| {
        while let Some(request) = wire.request()? {
            let tag = "ETag: \"v1\"\r\nCache-Control: max-age=60";
            let answer = match request.field("range") {
                Some("bytes=40-") => rest(request.path()),
                Some(_) => format!(
                    "HTTP/1.1 206 Partial Content\r\n{tag}\r\nContent-Range: bytes 0-39/100\r\nContent-Length: 40\r\n\r\n{}",
                    content(1, 0, 39)
                ),
                None => format!("HTTP/1.1 200 OK\r\n{tag}\r\nContent-Length: 100\r\n\r\n{}", content(1, 0, 99)),
            };
            if request.path() == "/broken" && request.field("range") == Some("bytes=40-") {
                return wire.send(&answer.as_bytes()[..answer.len() - 30]);
            }
            wire.send(answer.as_bytes())?;
        }
        Ok(())
    })
}

#[test]
fn a_rest_that_does_not_fit_is_thrown_away_and_the_whole_is_fetched() {
    over_both(|config| {
        let app = lying();
        let sidegate = config(&app).start();
        let mut client = sidegate.client();
        for target in [
            "/another-version",
            "/weak",
            "/nothing-vouches",
            "/overlap",
            "/hole",
            "/early",
            "/longer",
            "/backwards",
            "/no-range",
            "/length",
            "/short-chunks",
            "/long-chunks",
            "/beyond",
            "/condition",
        ] {
            hit(&mut client, target, &[("Range", "bytes=0-39")]);
            let whole = client.get(target);
            assert_eq!((whole.status, whole.text()), (200, content(1, 0, 99)), "{target}");
            assert_eq!(app.last().field("range"), None, "{target}: asked again as the client asked");
            assert_eq!(hit(&mut client, target, &[]).text(), content(1, 0, 99), "{target}");
        }
    });
}

#[test]
fn a_rest_that_breaks_off_is_never_taken_for_whole() {
    over_both(|config| {
        let app = lying();
        let sidegate = config(&app).start();
        hit(&mut sidegate.client(), "/broken", &[("Range", "bytes=0-39")]);
        for _ in 0..3 {
            let mut client = sidegate.client();
            client.send(request("GET", "/broken", &[], b""));
            // Cut short, or no answer at all where it broke off at once.
            if let Ok(whole) = client.try_answer_to("GET") {
                assert!(whole.cut_short && content(1, 0, 99).starts_with(&whole.text()), "{whole:?}");
                assert_eq!((whole.status, outcome(&whole)), (200, "MISS"));
            }
        }
        let part = range(&mut sidegate.client(), "/broken", "bytes=0-39");
        assert_eq!(part.text(), content(1, 0, 39), "what was stored before is as it was");
    });
}

#[test]
fn a_part_that_lies_or_that_nothing_vouches_for_is_not_stored() {
    over_both(|config| {
        let app = Origin::answering(|request| {
            let whole = Reply::text(content(1, 0, 99)).field("ETag", "\"v1\"");
            if request.field("range").is_none() && request.path() != "/unasked" {
                return whole.field("Cache-Control", "max-age=60");
            }
            let (tag, said, control) = match request.path() {
                "/weak" => ("W/\"v1\"", "bytes 10-19/100", "max-age=60"),
                "/short" => ("\"v1\"", "bytes 10-20/100", "max-age=60"),
                "/long" => ("\"v1\"", "bytes 10-18/100", "max-age=60"),
                "/backwards" => ("\"v1\"", "bytes 19-10/100", "max-age=60"),
                "/beyond" => ("\"v1\"", "bytes 10-19/15", "max-age=60"),
                "/elsewhere" => ("\"v1\"", "bytes 30-39/100", "max-age=60"),
                "/unknown-length" => ("\"v1\"", "bytes 10-19/*", "max-age=60"),
                "/no-store" => ("\"v1\"", "bytes 10-19/100", "no-store"),
                "/private" => ("\"v1\"", "bytes 10-19/100", "private, max-age=60"),
                _ => ("\"v1\"", "bytes 10-19/100", "max-age=60"),
            };
            let reply = Reply::text(content(1, 10, 19)).status("206 Partial Content").field("Cache-Control", control);
            let reply = match request.path() {
                "/cookie" => reply.field("Set-Cookie", "a=b"),
                "/multipart" => reply.field("Content-Type", "multipart/byteranges; boundary=x"),
                _ => reply,
            };
            let reply = if request.path() == "/nothing-vouches" { reply } else { reply.field("ETag", tag) };
            if request.path() == "/multipart" { reply } else { reply.field("Content-Range", said) }
        });
        let sidegate = config(&app).start();
        let mut client = sidegate.client();
        for (target, word) in [
            ("/weak", "part-validator"),
            ("/nothing-vouches", "part-validator"),
            ("/short", "part-range"),
            ("/long", "part-range"),
            ("/backwards", "part-range"),
            ("/beyond", "part-range"),
            ("/elsewhere", "part-range"),
            ("/unknown-length", "part-range"),
            ("/multipart", "part-range"),
            ("/no-store", "no-store"),
            ("/private", "private"),
            ("/cookie", "set-cookie"),
            ("/bearer", "credentials"),
            ("/unasked", "status"),
        ] {
            let fields: &[_] = match target {
                "/bearer" => &[("Range", "bytes=10-19"), ("Authorization", "Bearer abc")],
                "/unasked" => &[],
                _ => &[("Range", "bytes=10-19")],
            };
            for turn in 0..3 {
                let part = client.get_with(target, fields);
                assert_eq!((part.status, outcome(&part)), (206, "MISS"), "{target}");
                assert!(told(&part).contains(&format!("detail=\"{word}: ")), "{target}: {part:?}");
                assert_eq!(part.text(), content(1, 10, 19), "what the app says reaches who asked");
                // What was to be stored before this page, has been by now.
                hit(&mut client, &format!("/barrier{target}/{turn}"), &[]);
            }
            if target != "/unasked" {
                let whole = client.get(target);
                assert_eq!((whole.status, outcome(&whole), whole.text()), (200, "MISS", content(1, 0, 99)), "{target}");
            }
        }
    });
}

#[test]
fn a_part_is_validated_as_a_part() {
    over_both(|config| {
        let (app, version) = app("no-cache");
        let sidegate = config(&app).start();
        let mut client = sidegate.client();
        until("the part is validated", || outcome(&range(&mut client, "/page", "bytes=20-39")) == "REVALIDATED");
        let part = range(&mut client, "/page", "bytes=30-34");
        assert_eq!((part.status, outcome(&part), part.text()), (206, "REVALIDATED", content(1, 30, 34)));
        assert_eq!(
            (app.last().field("if-none-match"), app.last().field("range")),
            (Some("\"v1\""), Some("bytes=30-34"))
        );
        version.store(2, Ordering::SeqCst);
        // The app is asked for the part, so it is that which is sent: not all of the new version.
        let newer = range(&mut client, "/page", "bytes=30-34");
        assert_eq!((newer.status, outcome(&newer), newer.text()), (206, "EXPIRED", content(2, 30, 34)));
        version.store(3, Ordering::SeqCst);
        let named = client.get_with("/page", &[("Range", "bytes=30-34"), ("If-Range", "\"v2\"")]);
        assert_eq!((named.status, named.text()), (200, content(3, 0, 99)), "If-Range is the client's own condition");
    });
}

#[test]
fn a_part_stands_in_for_an_app_that_fails_where_it_is_all_of_the_answer() {
    over_both(|config| {
        let ill = Arc::new(AtomicBool::new(false));
        let is_ill = ill.clone();
        let app = Origin::answering(move |request| match is_ill.load(Ordering::SeqCst) {
            true => Reply::text("ill").status("503 Service Unavailable"),
            false => served(request, 1, "max-age=0, stale-if-error=600"),
        });
        let sidegate = config(&app).start();
        let mut client = sidegate.client();
        until("the part is stored", || outcome(&range(&mut client, "/page", "bytes=0-39")) == "REVALIDATED");
        ill.store(true, Ordering::SeqCst);
        let within = range(&mut client, "/page", "bytes=10-19");
        assert_eq!((within.status, outcome(&within), within.text()), (206, "STALE", content(1, 10, 19)));
        for fields in [&[("Range", "bytes=30-49")][..], &[]] {
            let beyond = client.get_with("/page", fields);
            assert_eq!((beyond.status, beyond.text().as_str()), (503, "ill"), "{fields:?}");
        }
    });
}

#[test]
fn a_write_takes_a_part_back() {
    over_both(|config| {
        let (app, _) = app("max-age=60");
        let sidegate = config(&app).start();
        let mut client = sidegate.client();
        for (version, fields) in [(2, &[("Range", "bytes=10-19")][..]), (3, &[])] {
            hit(&mut client, "/page", &[("Range", "bytes=0-39")]);
            assert_eq!(client.ask("POST", "/page", &[], b"").status, 200);
            let answer = client.get_with("/page", fields);
            let expected = if fields.is_empty() { content(version, 0, 99) } else { content(version, 10, 19) };
            assert_eq!((outcome(&answer), answer.text()), ("MISS", expected));
            assert_eq!(app.last().field("if-range"), None, "nothing is there to go on from");
        }
    });
}

#[test]
fn parts_of_what_sidegate_compresses_are_not_stored() {
    let tables =
        "[cache.pages]\nttl = \"60s\"\nencode = [\"gzip\"]\n[[route]]\npath = \"/{*rest}\"\ncache = \"pages\"\n";
    over_both_with(tables, |config| {
        let app = Origin::answering(|request| {
            let kind = if request.path().starts_with("/text") { "text/plain" } else { "image/png" };
            served(request, 1, "max-age=60").field("Content-Type", kind)
        });
        let sidegate = config(&app).start();
        let mut client = sidegate.client();
        let text = range(&mut client, "/text", "bytes=0-39");
        assert!(told(&text).contains("detail=\"part-coding: "), "{text:?}");
        assert_eq!(hit(&mut client, "/image", &[("Range", "bytes=0-39")]).text(), content(1, 0, 39));
    });
}
