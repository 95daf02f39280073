//! Parts of what is stored (RFC 9110 §14).

use crate::harness::{Configuration, Origin, Reply};

use super::{ALL, hit, outcome, over_both};

fn app() -> Origin {
    Origin::answering(|request| match request.field("range") {
        Some(_) if request.path() == "/parts" => Reply::text("12")
            .status("206 Partial Content")
            .field("Content-Range", "bytes 1-2/10")
            .field("Cache-Control", "max-age=60"),
        _ => Reply::text("0123456789")
            .field("ETag", "\"v1\"")
            .field("Content-Type", "text/digits")
            .field("Cache-Control", "max-age=60"),
    })
}

#[test]
fn a_part_comes_from_the_stored_whole() {
    over_both(|config| {
        let app = app();
        let sidegate = config(&app).start();
        let mut client = sidegate.client();
        hit(&mut client, "/page", &[]);
        let asked = app.count();
        for (range, content, told) in [
            ("bytes=0-1", "01", "bytes 0-1/10"),
            ("bytes=7-", "789", "bytes 7-9/10"),
            ("bytes=-3", "789", "bytes 7-9/10"),
            ("bytes=8-99", "89", "bytes 8-9/10"),
        ] {
            let part = client.get_with("/page", &[("Range", range)]);
            assert_eq!((part.status, part.text().as_str()), (206, content), "{range}");
            assert_eq!(part.field("content-range"), Some(told));
            assert_eq!(part.number("content-length"), content.len() as u64);
            assert_eq!((outcome(&part), part.field("etag")), ("HIT", Some("\"v1\"")));
        }
        for range in ["bytes=0-1,3-4", "lines=0-1", "bytes=2-1", "bytes"] {
            let whole = client.get_with("/page", &[("Range", range)]);
            assert_eq!((whole.status, whole.text().as_str()), (200, "0123456789"), "{range}");
        }
        let none = client.get_with("/page", &[("Range", "bytes=10-")]);
        assert_eq!((none.status, none.field("content-range"), none.content.len()), (416, Some("bytes */10"), 0));
        assert!(!none.fields.has("content-type"));
        assert_eq!(client.get("/page").text(), "0123456789", "the connection goes on");
        let head = client.ask("HEAD", "/page", &[("Range", "bytes=0-1")], b"");
        assert_eq!((head.status, head.field("content-length")), (200, Some("10")), "only GET has parts");
        assert_eq!(app.count(), asked);
    });
}

#[test]
fn conditions_come_before_parts() {
    let app = app();
    let sidegate = Configuration::of(&app).with(ALL).start();
    let mut client = sidegate.client();
    hit(&mut client, "/page", &[]);
    let range = ("Range", "bytes=0-1");
    assert_eq!(client.get_with("/page", &[range, ("If-None-Match", "\"v1\"")]).status, 304);
    assert_eq!(client.get_with("/page", &[range, ("If-Range", "\"v1\"")]).status, 206);
    let whole = client.get_with("/page", &[range, ("If-Range", "\"v0\"")]);
    assert_eq!((whole.status, whole.text().as_str()), (200, "0123456789"));
}

#[test]
fn a_part_that_is_not_stored_is_the_apps_to_send_and_is_not_taken_for_the_whole() {
    over_both(|config| {
        let app = app();
        let sidegate = config(&app).start();
        let mut client = sidegate.client();
        for _ in 0..3 {
            let part = client.get_with("/parts", &[("Range", "bytes=1-2")]);
            assert_eq!((part.status, part.text().as_str(), outcome(&part)), (206, "12", "MISS"));
            assert_eq!(app.last().field("range"), Some("bytes=1-2"));
            hit(&mut client, "/barrier", &[]);
        }
        let whole = client.get("/parts");
        assert_eq!((outcome(&whole), whole.text().as_str()), ("MISS", "0123456789"));
        // An app that ignores ranges has its whole answer stored.
        let ignored = client.get_with("/page", &[("Range", "bytes=0-1")]);
        assert_eq!((ignored.status, ignored.text().as_str()), (200, "0123456789"));
        assert_eq!(hit(&mut client, "/page", &[("Range", "bytes=0-1")]).status, 206);
    });
}

#[test]
fn that_a_part_does_not_exist_is_nobody_else_s_answer() {
    over_both(|config| {
        let app = Origin::answering(|request| {
            let reply = match (request.field("range"), request.path()) {
                (None, _) => Reply::text("0123456789"),
                (Some(_), "/odd") => Reply::text("no").status("404 Not Found"),
                (Some(_), _) => Reply::text("").status("416 Range Not Satisfiable"),
            };
            reply.field("Cache-Control", "max-age=60")
        });
        let sidegate = config(&app).start();
        let mut client = sidegate.client();
        for (target, status) in [("/page", 416), ("/odd", 404)] {
            let beyond = client.get_with(target, &[("Range", "bytes=99-")]);
            assert_eq!(beyond.status, status);
            assert!(beyond.field("cache-status").is_some_and(|told| told.contains("detail=\"status")), "{beyond:?}");
            assert_eq!((client.get(target).status, client.get(target).text().as_str()), (200, "0123456789"));
        }
    });
}
