//! What tells two requests apart, as clients meet it: queries, fields, who is logged in, the content of a POST.

use super::{hit, outcome};
use crate::harness::{Answer, Client, Configuration, Origin, RedisServer, Reply, Sidegate, until};

const ALICE: &str = "alice-0123456789abcdef";
const ALICE_ELSEWHERE: &str = "alice-elsewhere-0123456789";
const BOB: &str = "bob-0123456789abcdef";

/// A route for those who are logged in, one for everybody that tells who is, one for queries.
const TABLES: &str = r#"
[session.web]
format = "json"
from = ["bearer", "cookie:sid", "header:X-Session-Token"]
user = "user"
forward = { X-User = "user", X-Role = "role" }

[cache.mine]
ttl = "60s"
key = ["principal"]

[cache.reads]
post_body = "1 KiB"
ttl = "60s"
heuristic = "1d"

[cache.explicit]
post_body = "1 KiB"
heuristic = "1d"

[cache.fields]
ttl = "60s"
key = ["field:X-Tenant"]

[cache.campaigns]
ttl = "60s"
query = "sorted"
query_drop = ["utm_*"]

[[route]]
path = "/mine/{*rest}"
session = "web"
cache = "mine"

[[route]]
path = "/maybe/{*rest}"
session = { use = "web", mode = "optional" }
cache = "mine"

[[route]]
path = "/posts"
cache = "reads"

[[route]]
path = "/explicit"
cache = "explicit"

[[route]]
path = "/fields"
cache = "fields"

[[route]]
path = "/campaigns"
cache = "campaigns"
"#;

/// An app that says who asked, for what, and with what content; and does as the query says: `cc=private`.
fn app() -> Origin {
    Origin::answering(|request| {
        let who = request.field("x-user").unwrap_or("nobody");
        let role = request.field("x-role").unwrap_or("-");
        let content = String::from_utf8_lossy(&request.content);
        let text = format!("{who} {role} {} {} {content}", request.method, request.target);
        let reply = Reply::text(text).field("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT");
        match request.target.split_once("cc=") {
            Some((_, control)) => reply.field("Cache-Control", &control.replace('+', ", ")),
            None => reply,
        }
    })
}

struct Bench {
    app: Origin,
    redis: RedisServer,
    sidegate: Sidegate,
}

fn bench() -> Bench {
    let (app, redis) = (app(), RedisServer::start());
    for (id, record) in [
        (ALICE, r#"{"user":"alice","role":"admin"}"#),
        (ALICE_ELSEWHERE, r#"{"user":"alice","role":"admin"}"#),
        (BOB, r#"{"user":"bob","role":"admin"}"#),
    ] {
        let () = redis.ask(&["SET", &format!("session:{id}"), record, "EX", "600"]).expect("a session");
    }
    let sidegate = Configuration::of(&app).redis(&redis).with(TABLES).start();
    Bench { app, redis, sidegate }
}

fn bearer(id: &str) -> String {
    format!("Bearer {id}")
}

fn post(client: &mut Client, target: &str, content: &str) -> Answer {
    client.ask("POST", target, &[("Content-Type", "application/json")], content.as_bytes())
}

/// Posts until the answer comes from the store.
fn posted_hit(client: &mut Client, target: &str, content: &str) -> Answer {
    let mut answer = None;
    until("a POST answered from the store", || {
        let last = post(client, target, content);
        let is_hit = outcome(&last) == "HIT";
        answer = Some(last);
        is_hit
    });
    answer.expect("an answer")
}

#[test]
fn a_key_with_the_principal_costs_one_trip_more_whatever_limits_there_are() {
    let (app, redis) = (app(), RedisServer::start());
    let () = redis.ask(&["SET", &format!("session:{ALICE}"), r#"{"user":"alice"}"#, "EX", "600"]).expect("a session");
    let limits = "[near]\nenabled = false\n[limit.each]\nkey = \"session\"\nquota = \"1000000 per hour\"\n\
                  precision = \"exact\"\n[[route]]\npath = \"/limited/{*rest}\"\nsession = \"web\"\n\
                  limits = [\"each\"]\ncache = \"mine\"\n";
    let sidegate = Configuration::of(&app).redis(&redis).with(limits).with(TABLES).start();
    let (mut client, alice) = (sidegate.client(), bearer(ALICE));
    for target in ["/mine/page", "/limited/page"] {
        hit(&mut client, target, &[("Authorization", &alice)]);
        let trips = || sidegate.metric("sidegate_redis_round_trips_total");
        until("a hit of two trips", || {
            let before = trips();
            assert_eq!(outcome(&client.get_with(target, &[("Authorization", &alice)])), "HIT");
            trips() == before + 2.0
        });
    }
}

#[test]
fn what_is_private_is_kept_for_its_principal_and_for_nobody_else() {
    let Bench { app, redis, sidegate } = bench();
    let mut client = sidegate.client();
    let (alice, elsewhere, bob) = (bearer(ALICE), bearer(ALICE_ELSEWHERE), bearer(BOB));
    for target in ["/mine/page?cc=private+max-age=60", "/mine/page", "/maybe/page?cc=private+max-age=60", "/maybe/page"]
    {
        let stored = hit(&mut client, target, &[("Authorization", &alice)]);
        assert!(stored.text().starts_with("alice "), "{stored:?}");
        let asked = app.count();
        let other_session = client.get_with(target, &[("Authorization", &elsewhere)]);
        assert_eq!((outcome(&other_session), app.count()), ("HIT", asked), "the same user by another session");
        let by_cookie = client.get_with(target, &[("Cookie", &format!("sid={ALICE}"))]);
        assert!(by_cookie.text().starts_with("alice "), "{by_cookie:?}");
        let stored = hit(&mut client, target, &[("Authorization", &bob)]);
        assert!(stored.text().starts_with("bob "), "{stored:?}");
    }
    assert_eq!(client.get("/mine/page").status, 401);
    let mut connection = redis.client().get_connection().expect("a connection to Redis");
    let keys: Vec<String> = redis::cmd("KEYS").arg("sidegate:cache:*").query(&mut connection).expect("keys");
    assert!(keys.len() > 8 && keys.iter().all(|key| !key.contains("alice")), "no key tells who: {keys:?}");
}

#[test]
fn nobody_is_a_stranger_where_a_session_is_optional() {
    let Bench { app: _app, redis: _redis, sidegate } = bench();
    let mut client = sidegate.client();
    hit(&mut client, "/maybe/page?cc=public+max-age=60", &[("Authorization", &bearer(ALICE))]);
    for fields in [&[][..], &[("Authorization", "Bearer unknown-0123456789")], &[("Cookie", "cart=1")]] {
        for target in ["/maybe/page?cc=private+max-age=60", "/maybe/page?cc=max-age=60"] {
            for _ in 0..3 {
                let answer = client.get_with(target, fields);
                assert!(outcome(&answer) != "HIT" && answer.text().starts_with("nobody "), "{answer:?}");
            }
        }
    }
    let public = hit(&mut client, "/maybe/page?cc=public+max-age=60", &[]);
    assert!(public.text().starts_with("nobody "), "{public:?}");
}

#[test]
fn what_the_app_is_told_of_a_user_is_in_the_key() {
    let Bench { app: _app, redis, sidegate } = bench();
    let mut client = sidegate.client();
    let alice = [("Authorization", &*bearer(ALICE))];
    assert!(hit(&mut client, "/mine/page?cc=private+max-age=60", &alice).text().starts_with("alice admin"));
    let demoted = r#"{"user":"alice","role":"guest"}"#;
    let () = redis.ask(&["SET", &format!("session:{ALICE}"), demoted, "EX", "600"]).expect("a session");
    until("the role to be seen", || {
        client.get_with("/mine/page?cc=private+max-age=60", &alice).text().starts_with("alice guest")
    });
}

#[test]
fn a_write_takes_back_what_everybody_has_there() {
    let Bench { app: _app, redis: _redis, sidegate } = bench();
    let mut client = sidegate.client();
    let fields = [ALICE, BOB].map(|id| ("Authorization", bearer(id)));
    for (name, value) in &fields {
        hit(&mut client, "/mine/page", &[(name, value)]);
    }
    assert_eq!(client.ask("POST", "/mine/page", &[("Authorization", &bearer(ALICE))], b"x").status, 200);
    for (name, value) in &fields {
        assert_eq!(outcome(&client.get_with("/mine/page", &[(name, value)])), "MISS");
    }
}

#[test]
fn a_second_authorization_is_not_the_principals() {
    let Bench { app: _app, redis: _redis, sidegate } = bench();
    let mut client = sidegate.client();
    let cookie = format!("sid={ALICE}");
    let with = |authorization: &'static str| [("Cookie", &*cookie), ("Authorization", authorization)];
    hit(&mut client, "/mine/page", &with("Basic b25l"));
    assert_eq!(outcome(&client.get_with("/mine/page", &with("Basic dHdv"))), "MISS");
    assert_eq!(outcome(&client.get_with("/mine/page", &[("Cookie", &cookie)])), "MISS");
}

#[test]
fn fields_of_the_key_tell_requests_apart() {
    let Bench { app: _app, redis: _redis, sidegate } = bench();
    let mut client = sidegate.client();
    let tenants: [&[(&str, &str)]; 4] =
        [&[("X-Tenant", "a")], &[("X-Tenant", "")], &[], &[("X-Tenant", "a"), ("X-Tenant", "b")]];
    for fields in tenants {
        assert_eq!(outcome(&client.get_with("/fields", fields)), "MISS", "{fields:?}");
        hit(&mut client, "/fields", fields);
    }
}

#[test]
fn queries_are_one_as_far_as_the_policy_says() {
    let Bench { app, redis: _redis, sidegate } = bench();
    let mut client = sidegate.client();
    let stored = hit(&mut client, "/campaigns?b=2&a=1", &[]);
    let asked = app.count();
    for target in ["/campaigns?a=1&b=2", "/campaigns?utm_source=x&b=2&a=1"] {
        let answer = client.get(target);
        assert_eq!((outcome(&answer), &answer.content), ("HIT", &stored.content), "{target}");
    }
    assert_eq!(app.count(), asked);
    for target in ["/campaigns?a=2&b=1", "/campaigns?a=1&b=2&utm_x=1;a=9", "/campaigns?%61=1&b=2"] {
        let answer = client.get(target);
        assert!(outcome(&answer) == "MISS" && answer.text().contains(target), "{target}: {answer:?}");
    }
}

#[test]
fn a_post_that_reads_is_answered_from_the_store_by_its_content() {
    let Bench { app, redis: _redis, sidegate } = bench();
    let mut client = sidegate.client();
    let (one, two) = (r#"{"query":"{ one }"}"#, r#"{"query":"{ two }"}"#);
    for content in [one, two] {
        let answer = posted_hit(&mut client, "/posts", content);
        assert!(answer.text().ends_with(content) && answer.text().contains("POST"), "{answer:?}");
    }
    let asked = app.count();
    assert_eq!(outcome(&post(&mut client, "/posts", one)), "HIT", "reading the other took nothing back");
    assert_eq!(app.count(), asked);
    assert_eq!(outcome(&client.get("/posts")), "MISS", "GET is another request");
    let other_type = client.ask("POST", "/posts", &[("Content-Type", "application/graphql+json")], one.as_bytes());
    assert_eq!(outcome(&other_type), "MISS");
    let conditional = client.ask("POST", "/posts", &[("If-None-Match", "*")], one.as_bytes());
    assert_eq!(outcome(&conditional), "BYPASS", "to POST a condition means something else");
}

#[test]
fn a_mutation_is_a_write_and_takes_back_what_was_read() {
    let Bench { app, redis: _redis, sidegate } = bench();
    let mut client = sidegate.client();
    let read = r#"{"query":"{ one }"}"#;
    for (fields, content) in [
        (&[("Content-Type", "application/json")][..], r#"{"query":"mutation { one }"}"#.to_owned()),
        (&[("Content-Type", "application/json")], format!(r#"{{"query":"{{ {} }}"}}"#, "x".repeat(2000))),
        (&[("Content-Type", "application/json"), ("Content-Encoding", "gzip")], "not looked into".to_owned()),
        (&[("X-HTTP-Method-Override", "DELETE")], "{}".to_owned()),
    ] {
        posted_hit(&mut client, "/posts", read);
        let written = client.ask("POST", "/posts", fields, content.as_bytes());
        assert_eq!((written.status, outcome(&written)), (200, "BYPASS"), "{content}");
        assert_eq!(app.last().content, content.as_bytes(), "it went on whole");
        assert_eq!(outcome(&post(&mut client, "/posts", read)), "MISS", "after {content}");
    }
}

#[test]
fn a_large_post_goes_on_whole_also_without_a_length() {
    let Bench { app, redis: _redis, sidegate } = bench();
    let mut client = sidegate.client();
    for size in [0_usize, 10, 1023, 1024, 1025, 300_000] {
        client.send("POST /posts HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n");
        for piece in "y".repeat(size).as_bytes().chunks(700) {
            client.send(format!("{:x}\r\n", piece.len())).send(piece).send("\r\n");
        }
        let answer = client.send("0\r\n\r\n").answer();
        let expected = if size > 1024 { "BYPASS" } else { "MISS" };
        assert_eq!((answer.status, outcome(&answer)), (200, expected), "{size}");
        assert_eq!(app.last().content.len(), size);
    }
    client.send("POST /posts HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\nTrailer: X-End\r\n\r\n");
    let answer = client.send("1\r\ny\r\n0\r\nX-End: 1\r\n\r\n").answer();
    assert_eq!((answer.status, outcome(&answer), &*app.last().content), (200, "BYPASS", &b"y"[..]));
}

#[test]
fn who_waits_to_be_told_to_send_is_told_and_answered() {
    let Bench { app, redis: _redis, sidegate } = bench();
    for expected in ["MISS", "HIT"] {
        until(expected, || {
            let mut client = sidegate.client();
            client.send("POST /posts HTTP/1.1\r\nHost: app.test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
            assert_eq!(client.interim(), 100);
            outcome(&client.send("wait").answer()) == expected
        });
    }
    assert!(!app.last().fields.has("expect") && app.last().content == b"wait");
}

#[test]
fn an_upload_that_is_cut_short_is_neither_stored_nor_taken_for_whole() {
    let Bench { app, redis: _redis, sidegate } = bench();
    let mut client = sidegate.client();
    client.send("POST /posts HTTP/1.1\r\nHost: app.test\r\nContent-Length: 10\r\n\r\nhalf").end();
    let answer = client.try_answer_to("POST");
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status == 400), "no answer of the app");
    let mut client = sidegate.client();
    assert_eq!(outcome(&post(&mut client, "/posts", "{}")), "MISS");
    assert!(app.requests().iter().all(|request| !request.whole || request.content == b"{}"));
}

#[test]
fn the_answer_to_a_post_needs_a_lifetime_that_somebody_has_said() {
    let Bench { app: _app, redis: _redis, sidegate } = bench();
    let mut client = sidegate.client();
    posted_hit(&mut client, "/explicit?cc=max-age=60", "{}");
    for _ in 0..3 {
        let silent = post(&mut client, "/explicit", "{}");
        let told = silent.field("cache-status").expect("Cache-Status");
        assert!(outcome(&silent) == "MISS" && !told.contains("stored"), "a heuristic is for GET: {told}");
        posted_hit(&mut client, "/explicit?cc=max-age=60", "{}");
    }
    for control in ["no-store", "private", "max-age=0"] {
        let target = format!("/explicit?cc={control}");
        for _ in 0..3 {
            assert_ne!(outcome(&post(&mut client, &target, "{}")), "HIT", "{control}");
        }
    }
    assert_eq!(outcome(&client.get("/explicit?cc=max-age=60")), "MISS", "what POST was answered is no answer to GET");
}

#[test]
fn a_sessions_own_field_is_a_credential_on_every_route() {
    let Bench { app: _app, redis: _redis, sidegate } = bench();
    let mut client = sidegate.client();
    let fields = [("X-Session-Token", ALICE)];
    let answer = client.get_with("/fields", &fields);
    assert!(answer.field("cache-status").is_some_and(|told| told.contains("detail=\"credentials:")), "{answer:?}");
    hit(&mut client, "/fields", &[]);
    assert_eq!(outcome(&client.get_with("/fields", &fields)), "BYPASS", "what was answered to nobody is not for her");
}

#[test]
fn credentials_are_as_ever_where_the_key_knows_nobody() {
    let Bench { app: _app, redis: _redis, sidegate } = bench();
    let mut client = sidegate.client();
    hit(&mut client, "/fields?barrier", &[]);
    let answer = client.get_with("/fields", &[("Authorization", "Bearer x")]);
    assert_ne!(outcome(&answer), "HIT");
    assert_eq!(outcome(&client.get_with("/fields", &[("Authorization", "Bearer x")])), "MISS", "it was not stored");
}
