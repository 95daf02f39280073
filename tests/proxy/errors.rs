//! What is answered in place of an app that failed: which failure, to a person and to a machine.

use std::net::TcpListener;

use crate::harness::{Answer, Configuration, Origin, Sidegate};

/// Status, `Proxy-Status`, problem document, page, log and metric agree on one failure.
fn agree(sidegate: &Sidegate, status: u16, error: &str) {
    let mut client = sidegate.client();
    let machine = client.get_with("/machine", &[("Accept", "application/json")]);
    assert_eq!((machine.status, machine.field("Proxy-Status")), (status, Some(&*format!("sidegate; error={error}"))));
    let document = machine.json();
    assert_eq!((&document["status"], &document["error"]), (&status.into(), &error.into()));
    assert_eq!(document["request_id"], machine.field("X-Request-Id").expect("a request identifier"));
    let person = sidegate.client().get_with("/person", &[("Accept", "text/html,*/*;q=0.8")]);
    assert_eq!((person.status, person.field("Content-Type")), (status, Some("text/html; charset=utf-8")));
    let named = format!("request {}", person.field("X-Request-Id").expect("a request identifier"));
    assert!(person.text().contains(&named), "{}", person.text());
    whole(&machine);
    whole(&person);
    let line = sidegate.access_log(|line| line["target"] == "/machine");
    assert_eq!((&line["upstream_error"], &line["status"]), (&error.into(), &status.into()));
    let counted = sidegate.metric(&format!("sidegate_upstream_errors_total{{upstream=\"app\",error=\"{error}\"}}"));
    assert!(counted >= 2.0, "{error} was counted {counted} times");
}

fn whole(answer: &Answer) {
    assert!(!answer.cut_short && answer.number("Content-Length") == answer.content.len() as u64);
}

#[test]
fn an_app_that_refuses_connections_is_a_502() {
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
    agree(&Configuration::to(&format!("http://{closed}")).start(), 502, "connection_refused");
}

#[test]
fn an_app_that_has_no_address_is_a_502() {
    agree(&Configuration::to("http://nowhere.invalid:80").start(), 502, "dns_error");
}

#[test]
fn an_app_that_speaks_no_tls_is_a_502() {
    let app = Origin::scripted(|wire| {
        wire.some()?;
        wire.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    });
    let url = app.url().replace("http:", "https:");
    agree(&Configuration::to(&url).start(), 502, "tls_protocol_error");
}

#[test]
fn an_app_that_hangs_up_is_a_502() {
    let app = Origin::scripted(|wire| wire.head().map(drop));
    agree(&Configuration::of(&app).start(), 502, "connection_terminated");
}

#[test]
fn an_app_that_does_not_speak_http_is_a_502() {
    let app = Origin::scripted(|wire| {
        wire.head()?;
        wire.send(b"220 mail.example ESMTP\r\n\r\n")
    });
    agree(&Configuration::of(&app).start(), 502, "http_protocol_error");
}

#[test]
fn an_app_that_switches_protocols_unasked_is_a_502() {
    let app = Origin::scripted(|wire| {
        wire.head()?;
        wire.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")?;
        wire.wait_for_end()
    });
    agree(&Configuration::of(&app).start(), 502, "http_upgrade_failed");
}

#[test]
fn an_app_that_does_not_answer_is_a_504() {
    let app = Origin::scripted(|wire| {
        wire.head()?;
        wire.wait_for_end()
    });
    let sidegate = Configuration::of(&app).upstream("timeouts = { first_byte = \"50ms\" }").start();
    agree(&sidegate, 504, "http_response_timeout");
}

#[test]
fn an_app_with_all_its_connections_busy_is_a_503() {
    let app = Origin::scripted(|wire| {
        wire.head()?;
        wire.wait_for_end()
    });
    let bounds = "max_connections = 1\nmax_pending = 0\n";
    let sidegate = Configuration::of(&app).server("workers = 1").upstream(bounds).start();
    let mut first = sidegate.client();
    first.send("GET /first HTTP/1.1\r\nHost: a\r\n\r\n");
    crate::harness::until("the first request reached the app", || app.count() == 1);
    agree(&sidegate, 503, "connection_limit_reached");
}

#[test]
fn refusals_that_are_not_the_apps_fault_name_the_request_and_no_proxy_error() {
    let app = Origin::saying("app");
    let sidegate = Configuration::of(&app).with("[[route]]\npath = \"/only\"\nmethods = [\"GET\"]\n").start();
    for (method, target, status) in [("GET", "/nothing", 404), ("PUT", "/only", 405), ("HEAD", "/nothing", 404)] {
        let answer = sidegate.client().ask(method, target, &[], b"");
        assert_eq!((answer.status, answer.field("Proxy-Status")), (status, None));
        if method == "HEAD" {
            assert_eq!(answer.number("Content-Length"), sidegate.get(target).content.len() as u64);
        } else {
            assert_eq!(answer.json()["request_id"], answer.field("X-Request-Id").expect("a request identifier"));
            whole(&answer);
        }
    }
}
