//! What goes through: methods, fields, content, trailers and interim answers, both ways.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;
use http::{HeaderMap, Request};

use crate::harness::origin::Gate;
use crate::harness::{Client, Configuration, Directory, Origin, Reply, client::request, http2, until};

/// An app that answers with the method, the target and the content it was sent.
fn echo() -> Origin {
    Origin::answering(|request| {
        let content = String::from_utf8_lossy(&request.content).into_owned();
        Reply::text(format!("{} {} {content}", request.method, request.target)).field("X-App", "here")
    })
}

#[test]
fn every_method_reaches_the_app_and_its_answer_the_client() {
    let app = echo();
    let sidegate = Configuration::of(&app).start();
    let mut client = sidegate.client();
    for (method, content) in
        [("GET", ""), ("POST", "new"), ("PUT", "all"), ("PATCH", "some"), ("DELETE", ""), ("BREW", "")]
    {
        let answer = client.ask(method, "/a%20b//c/../d?x=%2F&y", &[], content.as_bytes());
        assert_eq!((answer.version.as_str(), answer.status), ("HTTP/1.1", 200), "{method}");
        assert_eq!(answer.field("x-app"), Some("here"), "{method}");
        assert_eq!(answer.text(), format!("{method} /a%20b//c/../d?x=%2F&y {content}"));
    }
    assert_eq!(app.count(), 6);
}

#[test]
fn head_is_answered_with_the_length_and_no_content() {
    let app = echo();
    let sidegate = Configuration::of(&app).start();
    let mut client = sidegate.client();
    let answer = client.ask("HEAD", "/page", &[], b"");
    assert_eq!((answer.status, answer.number("content-length")), (200, "HEAD /page ".len() as u64));
    assert_eq!(client.get("/next").text(), "GET /next ", "nothing of the first answer is left on the connection");
}

#[test]
fn every_status_comes_through_as_it_is() {
    let app = Origin::answering(|request| Reply::text("").status(&format!("{} Said So", &request.target[1..])));
    let sidegate = Configuration::of(&app).start();
    let mut client = sidegate.client();
    for status in [200, 201, 204, 301, 304, 400, 401, 404, 418, 429, 500, 503, 599] {
        assert_eq!(client.get(&format!("/{status}")).status, status);
    }
}

#[test]
fn repeated_fields_stay_apart_and_in_order() {
    let app = Origin::answering(|_| Reply::text("").field("Set-Cookie", "a=1").field("Set-Cookie", "b=2"));
    let sidegate = Configuration::of(&app).start();
    let answer = sidegate.client().get_with("/", &[("X-Many", "1"), ("X-Many", "2")]);
    assert_eq!(answer.fields.all("set-cookie").collect::<Vec<_>>(), ["a=1", "b=2"]);
    assert_eq!(app.last().fields.all("x-many").collect::<Vec<_>>(), ["1", "2"]);
}

#[test]
fn chunked_content_and_trailers_pass_both_ways() {
    let app = Origin::scripted(|wire| {
        while let Some(request) = wire.request()? {
            wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n")?;
            for piece in request.content.chunks(2) {
                wire.send(format!("{:x}\r\n{}\r\n", piece.len(), String::from_utf8_lossy(piece)).as_bytes())?;
            }
            wire.send(b"0\r\nX-Sum: 42\r\n\r\n")?;
        }
        Ok(())
    });
    let sidegate = Configuration::of(&app).start();
    let mut client = sidegate.client();
    for _ in 0..2 {
        client
            .send("POST /sum HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\nTransfer-Encoding: chunked\r\n");
        client.send("Trailer: X-Check\r\n\r\n5\r\nhello\r\n4\r\n you\r\n0\r\nX-Check: abc\r\n\r\n");
        let answer = client.answer();
        assert_eq!((answer.text().as_str(), answer.trailers.one("x-sum")), ("hello you", Some("42")));
        assert_eq!(app.last().content, b"hello you");
        assert_eq!(app.last().trailers.one("x-check"), Some("abc"));
    }
}

#[test]
fn early_hints_reach_the_client_ahead_of_the_answer() {
    let gate = Gate::default();
    let held = gate.clone();
    let app = Origin::scripted(move |wire| {
        wire.request()?;
        wire.send(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")?;
        held.wait();
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")
    });
    let sidegate = Configuration::of(&app).start();
    let mut client = sidegate.client();
    client.send(request("GET", "/", &[], b""));
    assert_eq!(client.interim(), 103, "the hint comes while the app still holds its answer");
    gate.open();
    let answer = client.answer();
    assert_eq!((answer.status, answer.text().as_str()), (200, "late"));
}

#[test]
fn a_client_of_http_1_0_is_told_no_interim_answer() {
    let app = Origin::scripted(|wire| {
        wire.request()?;
        wire.send(
            b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        )
    });
    let sidegate = Configuration::of(&app).start();
    let mut client = sidegate.client();
    client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.status, answer.interim.len()), (200, 0), "{answer:?}");
}

#[test]
fn a_client_that_expects_100_is_told_to_go_on_by_the_app() {
    let app = Origin::scripted(|wire| {
        let Some(head) = wire.head()? else { return Ok(()) };
        assert!(wire.stays_silent()?, "content was sent before the app asked for it");
        wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        let length = wire.drain(&head)?;
        wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{length}").as_bytes())
    });
    // The proxy's own patience must not run out while the app proves that nothing comes.
    let sidegate = Configuration::of(&app).upstream("expect_timeout = \"10s\"").start();
    let mut client = sidegate.client();
    client.send("POST /big HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(client.interim(), 100);
    client.send("12345");
    let answer = client.answer();
    assert_eq!((answer.status, answer.text().as_str(), answer.interim.len()), (200, "5", 0));
    assert_eq!(app.last().field("expect"), Some("100-continue"));
}

#[test]
fn a_refusal_of_the_app_reaches_a_client_that_expects_100_before_it_sends_anything() {
    let app = Origin::scripted(|wire| {
        wire.head()?;
        wire.send(b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")?;
        wire.wait_for_end()
    });
    let sidegate = Configuration::of(&app).upstream("expect_timeout = \"10s\"").start();
    let mut client = sidegate.client();
    client.send("PUT /big HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.status, answer.text().as_str(), answer.interim.len()), (417, "no", 0));
    assert_eq!(app.received(), 0);
}

#[test]
fn the_app_learns_who_asked_for_what() {
    let app = echo();
    let sidegate = Configuration::of(&app).start();
    sidegate.client().get_with("/", &[("Host", "shop.example:8080")]);
    let seen = app.last();
    assert_eq!(seen.field("host"), Some("shop.example:8080"), "Host as the client sent it");
    assert_eq!(seen.field("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.field("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.field("x-forwarded-host"), Some("shop.example:8080"));
    let via = seen.field("via").expect("Via to the app");
    assert!(via.starts_with("1.1 "), "{via}");
    let context = seen.field("traceparent").expect("traceparent to the app");
    assert!(context.starts_with("00-") && context.len() == 55, "{context}");
}

#[test]
fn a_request_has_one_id_for_app_client_and_log() {
    let app = echo();
    let sidegate = Configuration::of(&app).start();
    let mut client = sidegate.client();
    let answer = client.get_with("/one", &[("X-Request-Id", "mine")]);
    let id = answer.field("x-request-id").expect("X-Request-Id to the client").to_owned();
    assert_ne!(id, "mine", "nobody trusts this client");
    assert_eq!(app.last().fields.all("x-request-id").collect::<Vec<_>>(), [id.as_str()]);
    assert_eq!(sidegate.access_log(|line| line["request_id"] == id.as_str())["status"], 200);
    assert_ne!(client.get("/two").field("x-request-id"), Some(id.as_str()));
}

#[test]
fn answers_say_through_whom_they_came() {
    let app = echo();
    let sidegate = Configuration::of(&app).start();
    let answer = sidegate.get("/");
    assert!(answer.field("via").is_some_and(|via| via.contains("sidegate")), "{answer:?}");
    assert!(answer.fields.has("date"), "Date is added where the app left it out");
}

#[test]
fn what_a_client_claims_about_itself_is_replaced() {
    let app = echo();
    let sidegate = Configuration::of(&app).start();
    let lies = [
        ("X-Forwarded-For", "10.9.9.9"),
        ("X_Forwarded_For", "10.9.9.9"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "bank.example"),
        ("Forwarded", "for=10.9.9.9;proto=https"),
    ];
    sidegate.client().get_with("/", &lies);
    let seen = app.last();
    assert_eq!(seen.fields.all("x-forwarded-for").collect::<Vec<_>>(), ["127.0.0.1"]);
    assert_eq!(seen.fields.all("x-forwarded-proto").collect::<Vec<_>>(), ["http"]);
    assert_eq!(seen.fields.all("x-forwarded-host").collect::<Vec<_>>(), ["app.test"]);
    assert!(!seen.fields.has("x_forwarded_for"), "{seen:?}");
    assert!(!format!("{seen:?}").contains("10.9.9.9"), "{seen:?}");
}

#[test]
fn a_trusted_proxy_is_believed_from_right_to_left() {
    let app = echo();
    let sidegate = Configuration::of(&app).server("trusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]").start();
    let said = [
        ("X-Forwarded-For", "1.1.1.1, 203.0.113.7, 10.0.0.2"),
        ("X-Forwarded-Proto", "https"),
        ("X-Request-Id", "theirs"),
    ];
    let answer = sidegate.client().get_with("/", &said);
    assert_eq!(answer.field("x-request-id"), Some("theirs"));
    let line = sidegate.access_log(|line| line["request_id"] == "theirs");
    assert_eq!(
        line["client"], "203.0.113.7",
        "the first from the right that nobody trusts; what stands left of it is hearsay"
    );
    let seen = app.last();
    let chain = seen.fields.all("x-forwarded-for").collect::<Vec<_>>().join(", ");
    assert!(chain.ends_with("203.0.113.7, 10.0.0.2, 127.0.0.1") || chain == "203.0.113.7", "{chain}");
    assert_eq!(seen.field("x-forwarded-proto"), Some("https"));
}

#[test]
fn connection_fields_stop_here_in_both_directions() {
    let app = Origin::answering(|_| {
        let reply = Reply::text("ok").field("Connection", "X-Inner, close").field("X-Inner", "1");
        reply.field("Keep-Alive", "timeout=5").field("Proxy-Authenticate", "Basic").field("X-Outer", "2")
    });
    let sidegate = Configuration::of(&app).start();
    let fields = [
        ("Connection", "X-Hop, keep-alive, Upgrade"),
        ("X-Hop", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("Proxy-Authorization", "Basic YTpi"),
        ("TE", "gzip"),
        ("Upgrade", "h2c"),
        ("X-End", "2"),
    ];
    let mut client = sidegate.client();
    let answer = client.get_with("/", &fields);
    let seen = app.last();
    for gone in ["x-hop", "keep-alive", "proxy-connection", "proxy-authorization", "te", "upgrade"] {
        assert!(!seen.fields.has(gone), "{gone} reached the app: {seen:?}");
    }
    assert_eq!((seen.field("x-end"), seen.field("connection").unwrap_or("keep-alive")), (Some("2"), "keep-alive"));
    for gone in ["x-inner", "keep-alive"] {
        assert!(!answer.fields.has(gone), "{gone} reached the client: {answer:?}");
    }
    assert_eq!(answer.field("x-outer"), Some("2"));
    assert_eq!(client.get("/").status, 200, "that the app closes its connection is no concern of the client's");
}

#[test]
fn connection_cannot_remove_what_the_app_relies_on() {
    let app = echo();
    let sidegate = Configuration::of(&app).start();
    let names = "Host, Content-Length, Cookie, Authorization, X-Forwarded-For, X-Request-Id";
    let fields = [("Connection", names), ("Cookie", "a=1"), ("Authorization", "Bearer abc")];
    let answer = sidegate.client().ask("POST", "/", &fields, b"12345");
    let seen = app.last();
    assert_eq!((answer.status, seen.content.as_slice()), (200, b"12345".as_slice()));
    for kept in ["host", "cookie", "authorization", "x-forwarded-for", "x-request-id"] {
        assert!(seen.fields.has(kept), "{kept} was removed: {seen:?}");
    }
}

#[test]
fn a_client_of_http_1_0_is_answered_and_hung_up_on() {
    let app = Origin::scripted(|wire| {
        while wire.request()?.is_some() {
            wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")?;
        }
        Ok(())
    });
    let sidegate = Configuration::of(&app).start();
    let mut client = sidegate.client();
    client.send("GET /old HTTP/1.0\r\nHost: a\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.status, answer.text().as_str()), (200, "abc"));
    assert!(!answer.fields.has("transfer-encoding"), "1.0 knows no chunks: {answer:?}");
    assert!(client.is_closed());
    assert_eq!(app.last().version, "HTTP/1.1");
}

#[test]
fn connections_to_the_app_are_used_again() {
    let app = echo();
    let sidegate = Configuration::of(&app).start();
    let mut client = sidegate.client();
    for turn in 0..50 {
        assert_eq!(client.ask("POST", "/", &[], b"x").status, 200, "turn {turn}");
    }
    assert_eq!(app.connections(), 1);
}

#[test]
fn an_idle_connection_that_the_app_closed_costs_a_get_nothing() {
    let app = echo();
    let sidegate = Configuration::of(&app).start();
    let mut client = sidegate.client();
    for turn in 0..20 {
        assert_eq!(client.get("/").status, 200, "turn {turn}");
        app.hang_up();
    }
}

/// An app that takes a second request on a connection and hangs up without a word, as one that was just closing it.
fn hangs_up_on_the_second() -> Origin {
    Origin::scripted(|wire| {
        wire.request()?;
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        wire.request().map(drop)
    })
}

#[test]
fn a_get_is_sent_again_when_the_app_hangs_up_on_it() {
    let app = hangs_up_on_the_second();
    let sidegate = Configuration::of(&app).start();
    let mut client = sidegate.client();
    assert_eq!(client.get("/1").status, 200);
    assert_eq!(client.get("/2").status, 200);
    assert_eq!(app.requests().iter().filter(|request| request.target == "/2").count(), 2);
}

#[test]
fn a_post_is_never_sent_twice() {
    let app = hangs_up_on_the_second();
    let sidegate = Configuration::of(&app).start();
    let mut client = sidegate.client();
    assert_eq!(client.get("/1").status, 200);
    let answer = client.ask("POST", "/pay", &[], b"100");
    assert_eq!(answer.status, 502, "{answer:?}");
    assert_eq!(app.requests().iter().filter(|request| request.method == "POST").count(), 1);
}

#[test]
fn an_app_that_is_not_there_is_a_502() {
    let app = echo();
    let url = app.url();
    drop(app);
    let sidegate = Configuration::to(&url).start();
    let answer = sidegate.get("/");
    assert_eq!((answer.status, answer.field("content-type")), (502, Some("application/problem+json")));
    assert_eq!(answer.json()["status"], 502);
    let said = answer.field("proxy-status").expect("Proxy-Status");
    assert!(said.contains("error=connection_refused"), "{said}");
}

#[test]
fn an_app_that_comes_back_is_found_again() {
    let app = echo();
    let address = app.address();
    let sidegate = Configuration::of(&app).start();
    assert_eq!(sidegate.get("/").status, 200);
    drop(app);
    until("502 while the app is away", || sidegate.get("/").status == 502);
    let _back = Origin::at(address, |wire| {
        wire.request()?;
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    });
    until("200 when it is back", || sidegate.get("/").status == 200);
}

#[test]
fn an_app_that_never_answers_is_a_504() {
    let app = Origin::scripted(|wire| {
        wire.request()?;
        wire.wait_for_end()
    });
    let sidegate = Configuration::of(&app).upstream("timeouts = { first_byte = \"100ms\" }").start();
    let answer = sidegate.get("/");
    assert_eq!(answer.status, 504);
    let said = answer.field("proxy-status").expect("Proxy-Status");
    assert!(said.contains("error=http_response_timeout"), "{said}");
}

#[test]
fn an_answer_that_is_no_http_is_a_502() {
    for rubbish in [
        "HTTP/1.1 abc\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        "",
    ] {
        let app = Origin::scripted(move |wire| {
            wire.request()?;
            wire.send(rubbish.as_bytes())
        });
        let sidegate = Configuration::of(&app).start();
        let answer = sidegate.client().ask("POST", "/", &[], b"x");
        assert_eq!(answer.status, 502, "{rubbish:?}");
        assert!(answer.fields.has("proxy-status"), "{answer:?}");
    }
}

#[test]
fn an_answer_that_is_cut_short_is_broken_off_and_not_completed() {
    for head in ["Content-Length: 100\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"] {
        let app = Origin::scripted(move |wire| {
            wire.request()?;
            wire.send(format!("HTTP/1.1 200 OK\r\n{head}").as_bytes())
        });
        let sidegate = Configuration::of(&app).start();
        let mut client = sidegate.client();
        client.send(request("GET", "/", &[], b""));
        match client.try_answer_to("GET") {
            Ok(answer) => assert!(answer.cut_short || answer.status == 502, "{head:?}: {answer:?}"),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "{head:?}"),
        }
    }
}

#[test]
fn a_request_that_is_cut_short_is_not_completed_toward_the_app() {
    let ended = Arc::new(AtomicU8::new(0));
    let told = ended.clone();
    let app = Origin::scripted(move |wire| {
        let Some(head) = wire.head()? else { return Ok(()) };
        let whole = wire.drain(&head).is_ok();
        told.store(1 + u8::from(whole), Ordering::SeqCst);
        Ok(())
    });
    let sidegate = Configuration::of(&app).start();
    let mut client = sidegate.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n");
    until("what was sent at the app", || app.received() == 4);
    drop(client);
    until("the end of the request at the app", || ended.load(Ordering::SeqCst) > 0);
    assert_eq!(ended.load(Ordering::SeqCst), 1, "the app saw a whole request");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let app = echo();
    let sidegate = Configuration::of(&app).start();
    let mut client = sidegate.client();
    let burst: Vec<u8> = (0..20).flat_map(|turn| request("GET", &format!("/{turn}"), &[], b"")).collect();
    client.send(burst);
    for turn in 0..20 {
        assert_eq!(client.answer().text(), format!("GET /{turn} "));
    }
}

#[test]
fn answers_never_go_to_another_request() {
    let app = echo();
    let sidegate = Configuration::of(&app).start();
    let ask = |number, turn| request("POST", &format!("/{number}/{turn}"), &[("X-Me", "a")], b"abc");
    let load = crate::harness::Load::start(sidegate.address(), 8, ask, |answer| {
        answer.text().starts_with("POST /") && answer.text().ends_with(" abc")
    });
    load.wait_for_more(1000);
    let tally = load.finish();
    assert!(tally.failures.is_empty() && tally.wrong == 0, "{tally:?}");
}

#[test]
fn http_2_with_prior_knowledge_is_spoken_on_the_same_port() {
    let app = Origin::scripted(|wire| {
        while let Some(request) = wire.request()? {
            let text = format!("{} {}", request.target, String::from_utf8_lossy(&request.content));
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n";
            wire.send(format!("{head}{:x}\r\n{text}\r\n0\r\nX-Sum: 42\r\n\r\n", text.len()).as_bytes())?;
        }
        Ok(())
    });
    let sidegate = Configuration::of(&app).start();
    let uri = |path: &str| format!("http://shop.example{path}");
    let mut trailers = HeaderMap::new();
    trailers.insert("x-check", "abc".parse().expect("a value"));
    let mut requests = vec![(
        Request::post(uri("/sum"))
            .header("te", "trailers")
            .header("trailer", "x-check")
            .body(Bytes::from("hello"))
            .expect("a request"),
        Some(trailers),
    )];
    for turn in 0..20 {
        requests.push((Request::get(uri(&format!("/{turn}"))).body(Bytes::new()).expect("a request"), None));
    }
    let answers = http2::ask(sidegate.address(), requests);
    assert_eq!((answers[0].status.as_u16(), answers[0].content.as_ref()), (200, b"/sum hello".as_slice()));
    assert_eq!(answers[0].trailers.as_ref().and_then(|all| all.get("x-sum")).expect("a trailer"), "42");
    for (turn, answer) in answers[1..].iter().enumerate() {
        assert_eq!(answer.content, format!("/{turn} "), "{answer:?}");
        assert!(answer.fields.contains_key("x-request-id"));
    }
    let seen = app.requests().into_iter().find(|request| request.target == "/sum").expect("the request at the app");
    assert_eq!((seen.field("host"), seen.trailers.one("x-check")), (Some("shop.example"), Some("abc")));
    assert!(seen.field("via").is_some_and(|via| via.starts_with("2.0 ")), "{seen:?}");
    assert_eq!(sidegate.client().get("/one").text(), "/one ");
}

#[test]
fn a_unix_socket_and_an_ipv6_address_are_listened_on() {
    let app = echo();
    let directory = Directory::new();
    let path = format!("unix:{}", directory.file("sidegate.sock").display());
    let sidegate = Configuration::of(&app).listen("[::1]:0").listen(&path).start();
    let addresses = sidegate.addresses();
    assert_eq!(addresses.len(), 3, "{addresses:?}");
    for address in addresses {
        assert_eq!(Client::to(address).get("/").text(), "GET / ", "{address}");
    }
    assert!(app.requests().iter().any(|request| request.field("x-forwarded-for") == Some("::1")));
}

#[test]
fn routes_are_chosen_by_host_method_and_path_and_nothing_else_passes() {
    let app = echo();
    let routes = "[[route]]\npath = \"/users/{id}\"\nmethods = [\"GET\"]\n[[route]]\npath = \"/host\"\nhosts = [\"a.example\"]\n";
    let sidegate = Configuration::of(&app).with(routes).start();
    let mut client = sidegate.client();
    assert_eq!(client.get("/users/1").status, 200);
    assert_eq!(client.ask("HEAD", "/users/1", &[], b"").status, 200, "HEAD is a GET without content");
    let refused = client.ask("DELETE", "/users/1", &[], b"");
    assert_eq!(refused.status, 405);
    assert!(refused.field("allow").is_some_and(|allow| allow.contains("GET")), "{refused:?}");
    assert_eq!(client.get("/users/1/more").status, 404);
    assert_eq!(client.get_with("/host", &[("Host", "a.example:80")]).status, 200);
    assert_eq!(client.get_with("/host", &[("Host", "b.example")]).status, 404);
    assert_eq!(app.count(), 3);
}

#[test]
fn several_servers_take_turns() {
    let (one, two) = (Origin::saying("one"), Origin::saying("two"));
    let text = Configuration::of(&one).text();
    let both = text.replace(&format!("{:?}", one.url()), &format!("{:?}, {:?}", one.url(), two.url()));
    let sidegate = crate::harness::Sidegate::start(&both);
    let mut client = sidegate.client();
    for _ in 0..20 {
        assert_eq!(client.get("/").status, 200);
    }
    assert!(one.count() >= 5 && two.count() >= 5, "{} and {}", one.count(), two.count());
}

#[test]
fn an_answer_whose_end_could_be_found_in_two_ways_is_a_502() {
    let app = Origin::scripted(|wire| {
        while let Some(request) = wire.request()? {
            let framing: &[u8] = match request.path() {
                "/both" => b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
                "/coded" => b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
                "/list" => b"Content-Length: 2, 2\r\n\r\nab",
                "/negative" => b"Content-Length: -2\r\n\r\n",
                _ => b"Content-Length: 2\r\n\r\nok",
            };
            wire.send(&[b"HTTP/1.1 200 OK\r\n", framing].concat())?;
        }
        Ok(())
    });
    let sidegate = Configuration::of(&app).start();
    for target in ["/both", "/coded", "/list", "/negative"] {
        for method in ["GET", "HEAD"] {
            let mut client = sidegate.client();
            client.send(format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert_eq!(client.answer_to(method).status, 502, "{method} {target}");
        }
        assert_eq!(sidegate.get("/sound").text(), "ok", "after {target}");
    }
}
