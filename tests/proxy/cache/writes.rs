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
fn what_was_refused_here_takes_nothing_back() {
    let (app, _) = app();
    let sidegate = Configuration::of(&app).with(&[ALL, "max_body = \"4 B\"\n"].concat()).start();
    let mut client = sidegate.client();
    hit(&mut client, "/page", &[]);
    assert_eq!(client.ask("POST", "/page", &[], b"too large").status, 413);
    assert_eq!(outcome(&sidegate.client().get("/page")), "HIT");
}
