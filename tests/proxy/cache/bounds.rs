//! Bounds of what is under way.

use crate::harness::origin::Gate;
use crate::harness::{Configuration, Origin, until};

use super::{ALL, hit, outcome};

#[test]
fn content_beyond_what_may_be_under_way_is_sent_and_not_stored() {
    let gate = Gate::default();
    let open = gate.clone();
    let app = Origin::scripted(move |wire| {
        while let Some(request) = wire.request()? {
            let length = if request.path() == "/large" { 60_000 } else { 20_000 };
            wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").as_bytes())?;
            wire.send(&vec![b'x'; length - 1])?;
            if request.path() == "/large" {
                open.wait();
            }
            wire.send(b"x")?;
        }
        Ok(())
    });
    // Each read by its own client, at that client's pace.
    let tables = ALL.replace("[[route]]", "coalesce = \"off\"\n[[route]]");
    let sidegate = Configuration::of(&app).with("[memory]\nfilling = \"64 KiB\"\n").with(&tables).start();
    let (mut first, mut other) = (sidegate.client(), sidegate.client());
    hit(&mut other, "/small", &[]);
    first.send("GET /large HTTP/1.1\r\nHost: app.test\r\n\r\n").head();
    first.exactly(59_999);
    for _ in 0..3 {
        let answer = other.get("/crowded-out");
        assert_eq!((outcome(&answer), answer.content.len()), ("MISS", 20_000));
    }
    gate.open();
    first.exactly(1);
    until("the large one is stored", || outcome(&other.get("/large")) == "HIT");
    hit(&mut other, "/crowded-out", &[]);
}
