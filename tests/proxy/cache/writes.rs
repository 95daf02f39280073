//! What a write takes back (RFC 9111 §4.4).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::{Configuration, Origin, Reply, until};

use super::{ALL, hit, outcome, over_both};

/// An app that numbers its pages, and says that it has seen the head of a write.
fn app() -> (Origin, Arc<AtomicUsize>) {
    let (number, writes) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let seen = writes.clone();
    let app = Origin::scripted(move |wire| {
        while let Some(request) = wire.head()? {
            if request.method != "GET" {
                wire.some()?;
                seen.fetch_add(1, Ordering::SeqCst);
                return wire.wait_for_end();
            }
            let text = format!("{:04}", number.fetch_add(1, Ordering::SeqCst));
            let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 4\r\n\r\n";
            wire.send([head, &text].concat().as_bytes())?;
        }
        Ok(())
    });
    (app, writes)
}

#[test]
fn a_write_whose_content_breaks_off_may_have_happened() {
    for leaves in [true, false] {
        over_both(|config| {
            let (app, writes) = app();
            let sidegate = config(&app).start();
            let mut reader = sidegate.client();
            let host = [("Host", "page.test")];
            let before = hit(&mut reader, "/page", &host).text();
            let mut writer = sidegate.client();
            writer.send("POST /page HTTP/1.1\r\nHost: page.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
            until("the app has some of it", || writes.load(Ordering::SeqCst) == 1);
            if leaves {
                drop(writer);
            } else {
                assert_eq!(writer.send("zz\r\n").answer_to("POST").status, 400);
            }
            until("another page", || reader.get_with("/page", &host).text() != before);
        });
    }
}

#[test]
fn a_relative_location_is_taken_back() {
    over_both(|config| {
        let number = AtomicUsize::new(0);
        let app = Origin::answering(move |request| match request.method.as_str() {
            "GET" => {
                Reply::text(number.fetch_add(1, Ordering::SeqCst).to_string()).field("Cache-Control", "max-age=60")
            }
            _ => Reply::text("").status("201 Created").field("Location", "7?new").field("Content-Location", "../list"),
        });
        let sidegate = config(&app).start();
        let mut client = sidegate.client();
        for target in ["/users/7", "/list", "/users/8"] {
            hit(&mut client, target, &[]);
        }
        assert_eq!(client.ask("POST", "/users/new", &[], b"").status, 201);
        for (target, expected) in [("/users/7", "MISS"), ("/list", "MISS"), ("/users/8", "HIT")] {
            assert_eq!(outcome(&client.get(target)), expected, "{target}");
        }
    });
}

#[test]
fn what_was_refused_here_takes_nothing_back() {
    let (app, _) = app();
    let sidegate = Configuration::of(&app).with(&[ALL, "max_body = \"4 B\"\n"].concat()).start();
    let mut client = sidegate.client();
    hit(&mut client, "/page", &[]);
    assert_eq!(client.ask("POST", "/page", &[], b"too large").status, 413);
    assert_eq!(outcome(&sidegate.client().get("/page")), "HIT");
}
