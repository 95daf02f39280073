//! Answers that sidegate compresses itself, as clients meet them.

use std::io::{self, Read};

use crate::harness::origin::{Gate, Request, Wire};
use crate::harness::{Answer, Client, Configuration, Origin, RedisServer, Reply, until};

const ALL: &str = "[cache.pages]\nttl = \"60s\"\nencode = [\"br\", \"zstd\", \"gzip\"]\n[[route]]\npath = \"/{*rest}\"\n\
                   cache = \"pages\"\n";
const CODINGS: [&str; 3] = ["br", "zstd", "gzip"];

/// Runs a test over each store.
fn over_both(test: impl Fn(&dyn Fn(&Origin) -> Configuration)) {
    test(&|app| Configuration::of(app).with(ALL));
    let redis = RedisServer::start();
    test(&|app| {
        let mut connection = redis.client().get_connection().expect("a connection to Redis");
        redis::cmd("FLUSHALL").exec(&mut connection).expect("an empty Redis");
        Configuration::of(app).redis(&redis).with(ALL)
    });
}

fn page() -> String {
    (0..500).map(|line| format!("<li class=\"item\">number {line}</li>\n")).collect()
}

/// An app that has one page, and does with it what the path says. It knows no coding.
fn app() -> Origin {
    Origin::answering(|request| {
        let html = Reply::text(page()).field("Content-Type", "text/html; charset=utf-8").field("ETag", "\"v1\"");
        let html = if request.path() == "/brief" { html.field("Cache-Control", "max-age=1") } else { html };
        if request.field("if-none-match") == Some("\"v1\"") {
            return html.status("304 Not Modified").field("Vary", "Origin");
        }
        match request.path() {
            "/small" => Reply::text("<p>small</p>").field("Content-Type", "text/html"),
            "/image" => Reply::text(page()).field("Content-Type", "image/png"),
            "/untouched" => html.field("Cache-Control", "max-age=60, no-transform"),
            "/digest" => html.field("Repr-Digest", "sha-256=:AA==:"),
            "/coded" => html.field("Content-Encoding", "br"),
            "/failing" => html.status("500 Internal Server Error"),
            "/part" if request.field("range").is_some() => {
                html.status("206 Partial Content").field("Content-Range", "bytes 0-9/10")
            }
            _ => html,
        }
    })
}

fn decoded(answer: &Answer) -> io::Result<String> {
    decode(answer.field("content-encoding").expect("a coding"), &answer.content)
}

fn decode(coding: &str, coded: &[u8]) -> io::Result<String> {
    let mut text = String::new();
    match coding {
        "br" => brotli::Decompressor::new(coded, 4096).read_to_string(&mut text)?,
        "zstd" => zstd::stream::read::Decoder::new(coded)?.read_to_string(&mut text)?,
        "gzip" => flate2::read::GzDecoder::new(coded).read_to_string(&mut text)?,
        other => panic!("{other} is not one of ours"),
    };
    Ok(text)
}

fn accepting(client: &mut Client, target: &str, accepted: &str) -> Answer {
    client.get_with(target, &[("Accept-Encoding", accepted)])
}

fn hit(client: &mut Client, target: &str, accepted: &str) -> Answer {
    let mut found = None;
    until(&format!("{target} from the store"), || {
        let answer = accepting(client, target, accepted);
        let is_hit = answer.field("x-cache") == Some("HIT");
        found = Some(answer);
        is_hit
    });
    found.expect("an answer")
}

#[test]
fn an_answer_is_compressed_and_stored_once_for_each_coding() {
    over_both(|config| {
        let app = app();
        let sidegate = config(&app).start();
        let mut client = sidegate.client();
        for coding in CODINGS {
            let first = accepting(&mut client, "/page", coding);
            assert_eq!((first.status, first.field("x-cache")), (200, Some("MISS")));
            assert_eq!(first.field("content-encoding"), Some(coding));
            assert_eq!(first.field("vary"), Some("Accept-Encoding"));
            assert_eq!(first.field("etag"), Some(&*format!("W/\"v1;sg={coding}\"")));
            // A fetch that others may join knows the length if it has ended before the head goes out.
            let length = first.content.len().to_string();
            assert!(first.field("content-length").is_none_or(|said| said == length));
            assert_eq!(decoded(&first).expect("whole content"), page());
            assert_eq!(app.last().field("accept-encoding"), Some(coding));
            let stored = hit(&mut client, "/page", coding);
            assert_eq!(
                (&stored.content, stored.number("content-length")),
                (&first.content, first.content.len() as u64)
            );
            assert!(first.content.len() < page().len() / 4);
        }
        let asked = app.count();
        for (accepted, coding) in [
            ("gzip, deflate, br, zstd", "br"),
            ("gzip;q=1.0, BR;q=1.0", "br"),
            ("*", "br"),
            ("gzip, zstd", "zstd"),
            ("x-gzip, deflate", "gzip"),
            ("br;q=0.5, gzip", "gzip"),
        ] {
            let answer = accepting(&mut client, "/page", accepted);
            assert_eq!((answer.field("x-cache"), answer.field("content-encoding")), (Some("HIT"), Some(coding)));
        }
        assert_eq!(app.count(), asked, "each coding was asked for once");
        let plain = hit(&mut client, "/page", "identity;q=1, br;q=0");
        assert_eq!((plain.field("etag"), plain.text()), (Some("\"v1\""), page()));
        assert_eq!(client.get("/page").field("x-cache"), Some("HIT"), "no field is no coding");
        let metrics = sidegate.ask_admin("/metrics").text();
        assert!(metrics.contains("sidegate_cache_encoded_total{cache=\"pages\",coding=\"br\"}"), "{metrics}");
    });
}

#[test]
fn what_gains_nothing_or_must_not_change_goes_out_as_it_is() {
    let app = app();
    let sidegate = Configuration::of(&app).with(ALL).start();
    let mut client = sidegate.client();
    for (target, varies) in
        [("/small", false), ("/image", false), ("/untouched", false), ("/digest", false), ("/coded", true)]
    {
        let answer = accepting(&mut client, target, "br, gzip");
        assert_eq!(answer.field("content-encoding"), (target == "/coded").then_some("br"), "{target}");
        assert_eq!(answer.fields.has("vary"), varies, "{target}");
        assert_eq!(answer.number("content-length"), answer.content.len() as u64);
        assert_eq!(answer.text(), if target == "/small" { "<p>small</p>".into() } else { page() });
    }
    let failing = accepting(&mut client, "/failing", "gzip");
    assert_eq!((failing.status, decoded(&failing).expect("whole content")), (500, page()));
}

#[test]
fn head_is_told_what_get_would_be() {
    let app = app();
    let sidegate = Configuration::of(&app).with(ALL).start();
    let mut client = sidegate.client();
    let head = client.ask("HEAD", "/page", &[("Accept-Encoding", "br")], b"");
    assert_eq!((head.field("content-encoding"), head.field("etag")), (Some("br"), Some("W/\"v1;sg=br\"")));
    assert!(!head.fields.has("content-length"));
    assert_eq!(accepting(&mut client, "/page", "br").status, 200, "the connection goes on");
}

#[test]
fn a_client_validates_what_was_compressed_and_the_app_is_asked_by_its_own_tag() {
    let app = app();
    let sidegate = Configuration::of(&app).with(ALL).start();
    let mut client = sidegate.client();
    let copy = [("Accept-Encoding", "br"), ("If-None-Match", "W/\"v1;sg=br\"")];
    let cold = client.get_with("/page", &copy);
    assert_eq!((cold.status, cold.field("etag")), (304, Some("W/\"v1;sg=br\"")));
    assert_eq!(app.last().field("if-none-match"), Some("\"v1\""));
    hit(&mut client, "/page", "br");
    let asked = app.count();
    let warm = client.get_with("/page", &copy);
    assert_eq!((warm.status, warm.field("etag")), (304, Some("W/\"v1;sg=br\"")));
    assert_eq!(app.count(), asked);
    let other = client.get_with("/page", &[("Accept-Encoding", "br"), ("If-None-Match", "W/\"v1;sg=gzip\"")]);
    assert_eq!(other.status, 200, "another coding is another answer");
    client.ask("PUT", "/page", &[("If-Match", "W/\"v1;sg=br\"")], b"new");
    assert_eq!(app.last().field("if-match"), Some("\"v1\""));
}

#[test]
fn what_was_compressed_is_validated_and_sent_again_and_no_other_coding_in_its_place() {
    over_both(|config| {
        let app = app();
        let sidegate = config(&app).start();
        let mut client = sidegate.client();
        let brief = |client: &mut Client, coding: &str| accepting(client, "/brief", coding);
        assert_eq!(brief(&mut client, "gzip").field("content-encoding"), Some("gzip"));
        hit(&mut client, "/brief", "gzip");
        // The app's tag is the same for all codings: none of them is taken for another.
        for coding in ["br", "identity"] {
            let other = brief(&mut client, coding);
            assert_eq!((other.status, other.field("x-cache")), (200, Some("MISS")));
            assert_eq!(other.field("content-encoding"), Some(coding).filter(|coding| *coding == "br"));
            assert!(!app.last().fields.has("if-none-match"));
        }
        until("a validation", || {
            let answer = brief(&mut client, "gzip");
            assert_eq!(answer.field("content-encoding"), Some("gzip"));
            assert_eq!(decoded(&answer).expect("whole content"), page());
            assert!(answer.fields.all("vary").any(|vary| vary.contains("Accept-Encoding")));
            answer.field("x-cache") == Some("REVALIDATED")
        });
        assert_eq!(app.last().field("if-none-match"), Some("\"v1\""));
        hit(&mut client, "/brief", "gzip");
        let plain = brief(&mut client, "identity");
        assert_eq!((plain.field("content-encoding"), plain.text()), (None, page()));
    });
}

#[test]
fn a_part_is_never_one_of_what_was_compressed() {
    let app = app();
    let sidegate = Configuration::of(&app).with(ALL).start();
    let mut client = sidegate.client();
    let part = client.get_with("/part", &[("Accept-Encoding", "br"), ("Range", "bytes=0-9")]);
    assert_eq!((part.status, part.field("content-encoding"), part.field("etag")), (206, None, Some("\"v1\"")));
    assert_eq!(app.last().field("accept-encoding"), Some("identity"));
    let continued = [("Accept-Encoding", "br"), ("Range", "bytes=0-9"), ("If-Range", "W/\"v1;sg=br\"")];
    let whole = client.get_with("/part", &continued);
    assert_eq!((whole.status, decoded(&whole).expect("whole content")), (200, page()));
    assert!(!app.last().fields.has("range") && !app.last().fields.has("if-range"));
}

/// An app that sends half a page in a chunk, waits for the gate, and goes on as `then` says.
fn halting(
    gate: Gate,
    kind: &'static str,
    then: impl Fn(&mut Wire) -> io::Result<()> + Send + Sync + 'static,
) -> Origin {
    Origin::scripted(move |wire| {
        while let Some(Request { .. }) = wire.request()? {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n");
            let page = page();
            wire.send(format!("{head}{:x}\r\n{page}\r\n", page.len()).as_bytes())?;
            gate.wait();
            then(wire)?;
        }
        Ok(())
    })
}

/// The content of the next chunk.
fn chunk(client: &mut Client) -> Vec<u8> {
    let line = client.read_line();
    let content = client.exactly(usize::from_str_radix(line.trim(), 16).expect("a chunk's length"));
    client.exactly(2);
    content
}

#[test]
fn what_the_app_has_sent_is_not_held_back() {
    let gate = Gate::default();
    let app = halting(gate.clone(), "text/html", |wire| wire.send(b"5\r\n<end>\r\n0\r\n\r\n"));
    let sidegate = Configuration::of(&app).with(ALL).start();
    let mut client = sidegate.client();
    client.send("GET /slow HTTP/1.1\r\nHost: app.test\r\nAccept-Encoding: gzip\r\n\r\n");
    assert_eq!(client.head().field("content-encoding"), Some("gzip"));
    // All of the first half can be read of what has come, while the app still waits.
    let (mut coded, mut text) = (Vec::new(), String::new());
    until("the first half", || {
        coded.extend(chunk(&mut client));
        text.clear();
        // What has no end yet is an error at the end of what was read.
        let _ = flate2::read::GzDecoder::new(coded.as_slice()).read_to_string(&mut text);
        text.ends_with(&page())
    });
    gate.open();
    let rest = client.read_until("0\r\n\r\n");
    assert!(!rest.is_empty());
    let stored = hit(&mut client, "/slow", "gzip");
    assert_eq!(decoded(&stored).expect("whole content"), page() + "<end>");
}

#[test]
fn an_event_stream_is_left_alone() {
    let gate = Gate::default();
    let app = halting(gate.clone(), "text/event-stream", |wire| wire.send(b"0\r\n\r\n"));
    let sidegate = Configuration::of(&app).with(ALL).start();
    let mut client = sidegate.client();
    client.send("GET /events HTTP/1.1\r\nHost: app.test\r\nAccept-Encoding: gzip\r\n\r\n");
    assert!(!client.head().fields.has("content-encoding"));
    client.read_until("number 499");
    gate.open();
}

#[test]
fn content_that_is_cut_short_is_not_whole_in_any_coding_and_not_stored() {
    for coding in CODINGS {
        let gate = Gate::default();
        let app = halting(gate.clone(), "text/html", |_| Err(io::ErrorKind::Other.into()));
        let sidegate = Configuration::of(&app).with(ALL).start();
        let mut client = sidegate.client();
        client.send(format!("GET /cut HTTP/1.1\r\nHost: app.test\r\nAccept-Encoding: {coding}\r\n\r\n"));
        assert_eq!(client.head().field("content-encoding"), Some(coding));
        let coded = chunk(&mut client);
        gate.open();
        assert!(client.is_closed(), "{coding}: nothing comes after it, and no last chunk");
        assert!(decode(coding, &coded).is_err(), "{coding} has its end");
        let mut client = sidegate.client();
        client.send(format!("GET /cut HTTP/1.1\r\nHost: app.test\r\nAccept-Encoding: {coding}\r\n\r\n"));
        assert!(client.try_answer_to("GET").map_or(true, |answer| answer.cut_short), "{coding} was stored");
        assert_eq!(app.count(), 2);
    }
}

#[test]
fn who_finds_no_place_is_sent_what_the_app_has_sent() {
    let app = app();
    let sidegate = Configuration::of(&app).with("[memory]\nencoding = \"1 MiB\"").with(ALL).start();
    let answer = accepting(&mut sidegate.client(), "/page", "br");
    assert_eq!((answer.field("content-encoding"), answer.field("etag")), (None, Some("\"v1\"")));
    assert_eq!((answer.field("vary"), answer.text()), (Some("Accept-Encoding"), page()));
}

#[test]
fn a_client_that_leaves_gives_its_place_back() {
    let gate = Gate::default();
    let app = halting(gate.clone(), "text/html", |wire| wire.send(b"0\r\n\r\n"));
    // A fetch that others may join is read to its end for the store, whoever leaves.
    let alone = ALL.replace("ttl", "coalesce = \"off\"\nttl");
    let sidegate = Configuration::of(&app).with("[memory]\nencoding = \"2 MiB\"").with(&alone).start();
    let mut leaving = sidegate.client();
    leaving.send("GET /left HTTP/1.1\r\nHost: app.test\r\nAccept-Encoding: br\r\n\r\n");
    assert_eq!(leaving.head().field("content-encoding"), Some("br"));
    let mut second = sidegate.client();
    second.send("GET /second HTTP/1.1\r\nHost: app.test\r\nAccept-Encoding: br\r\n\r\n");
    assert!(!second.head().fields.has("content-encoding"), "there is one place only");
    drop((leaving, second));
    until("a place", || {
        let mut client = sidegate.client();
        client.send("GET /third HTTP/1.1\r\nHost: app.test\r\nAccept-Encoding: br\r\n\r\n");
        client.head().field("content-encoding") == Some("br")
    });
    gate.open();
}
