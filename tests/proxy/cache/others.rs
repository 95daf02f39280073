//! For whom a stored response is no answer (RFC 9111 §3.5, §4.1).

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::{Origin, Reply};

use super::{hit, outcome, over_both};

/// An app that numbers its answers, all with these fields.
fn numbering(fields: &'static [(&'static str, &'static str)]) -> Origin {
    let number = AtomicUsize::new(0);
    Origin::answering(move |_| {
        let reply = Reply::text(number.fetch_add(1, Ordering::SeqCst).to_string());
        fields.iter().fold(reply, |reply, (name, value)| reply.field(name, value))
    })
}

#[test]
fn must_revalidate_shares_among_those_with_authorization_and_no_others() {
    over_both(|config| {
        let app = numbering(&[("Cache-Control", "max-age=60, must-revalidate")]);
        let sidegate = config(&app).start();
        let mut client = sidegate.client();
        let (bearer, cookie) = (("Authorization", "Bearer a"), ("Cookie", "a=1"));
        for _ in 0..3 {
            assert_ne!(outcome(&client.get_with("/page", &[cookie])), "HIT", "a cookie's answer is not kept");
        }
        let stored = hit(&mut client, "/page", &[]);
        for fields in [&[cookie][..], &[cookie, bearer]] {
            let own = client.get_with("/page", fields);
            assert_eq!(outcome(&own), "BYPASS", "{fields:?}");
            assert_ne!(own.text(), stored.text(), "{fields:?}");
        }
        assert_eq!(client.get_with("/page", &[bearer]).text(), stored.text());
        hit(&mut client, "/of-a-bearer", &[bearer]);
        hit(&mut client, "/of-a-bearer", &[("Authorization", "Bearer b")]);
    });
}

#[test]
fn what_the_app_chose_by_our_own_fields_is_sent_to_nobody_else() {
    over_both(|config| {
        let app = numbering(&[("Cache-Control", "max-age=60"), ("Vary", "Accept, X-Forwarded-For")]);
        let sidegate = config(&app).start();
        let mut client = sidegate.client();
        for number in 0..3 {
            let own = client.get("/page");
            assert_eq!((outcome(&own), own.text()), ("MISS", number.to_string()));
            assert!(own.field("cache-status").is_some_and(|told| told.contains("detail=\"vary")), "{own:?}");
        }
    });
}
