//! Whom a limit counts: exempt, missing, networks.

use super::over_both;
use crate::harness::{Configuration, Origin, RedisServer};

/// A limit of two an hour by what `key` says, with more lines.
fn two(key: &str, lines: &str) -> String {
    format!(
        "[limit.two]\nkey = {key:?}\nquota = \"2 per hour\"\n{lines}\n[[route]]\npath = \"/{{*rest}}\"\nlimits = [\"two\"]\n"
    )
}

#[test]
fn exempt_networks_are_not_counted_and_see_no_limit() {
    over_both(|config| {
        let app = Origin::saying("app");
        let tables = two("address", "exempt = { addresses = [\"203.0.113.0/24\", \"2001:db8::/32\"] }");
        let sidegate = config(&app).server("trusted_proxies = [\"127.0.0.1\"]").with(&tables).start();
        let mut client = sidegate.client();
        let mut ask = |address: &str| client.get_with("/", &[("X-Forwarded-For", address)]);
        for address in ["203.0.113.7", "2001:db8::7", "203.0.113.7", "203.0.113.7"] {
            let answer = ask(address);
            assert_eq!((answer.status, answer.field("ratelimit")), (200, None), "{address}");
        }
        assert_eq!([(); 3].map(|()| ask("198.51.100.7").status), [200, 200, 429]);
    });
}

#[test]
fn exempt_keys_are_known_by_their_value_or_by_its_digest() {
    over_both(|config| {
        let app = Origin::saying("app");
        // SHA-256 of `abc`.
        let digest = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let exempt = format!("exempt = {{ keys = [\"friend\", {digest:?}] }}");
        let sidegate = config(&app).with(&two("header:X-Api-Key", &exempt)).start();
        let mut client = sidegate.client();
        let mut ask = |key: &str| client.get_with("/", &[("X-Api-Key", key)]).status;
        for key in ["friend", "abc"] {
            assert_eq!([(); 4].map(|()| ask(key)), [200; 4], "{key}");
        }
        assert_eq!([(); 3].map(|()| ask("stranger")), [200, 200, 429]);
        assert_eq!([(); 3].map(|()| ask(digest)), [200, 200, 429], "a digest is no key");
    });
}

#[test]
fn exempt_sessions_are_not_counted() {
    let redis = RedisServer::start();
    let mut connection = redis.client().get_connection().expect("a connection to Redis");
    for (id, role) in [("of-an-admin-0000", "admin"), ("of-a-user-000000", "user")] {
        let record = format!("{{\"user_id\":7,\"role\":{role:?}}}");
        redis::cmd("SET").arg(format!("session:{id}")).arg(record).exec(&mut connection).expect("a record");
    }
    let app = Origin::saying("app");
    let tables = two("address", "exempt = { session = { role = [\"admin\", \"root\"] } }")
        .replace("limits =", "session = \"web\"\nlimits =");
    let tables = format!("[session.web]\nformat = \"json\"\n{tables}");
    let sidegate = Configuration::of(&app).redis(&redis).with(&tables).start();
    let mut client = sidegate.client();
    let mut ask = |id: &str| client.get_with("/", &[("Authorization", &format!("Bearer {id}"))]).status;
    assert_eq!([(); 4].map(|()| ask("of-an-admin-0000")), [200; 4]);
    assert_eq!([(); 3].map(|()| ask("of-a-user-000000")), [200, 200, 429]);
    assert_eq!(ask("of-an-admin-0000"), 200);
}

#[test]
fn a_request_that_lacks_the_key_is_let_be_or_refused_or_counts_by_something_else() {
    over_both(|config| {
        let app = Origin::saying("app");
        let start =
            |missing: &str| config(&app).with(&two("header:X-Api-Key", &format!("missing = {missing:?}"))).start();

        let skips = start("skip");
        let mut client = skips.client();
        let without = [(); 4].map(|()| client.get("/"));
        assert!(without.iter().all(|answer| answer.status == 200 && answer.field("ratelimit").is_none()));
        assert_eq!([(); 3].map(|()| client.get_with("/", &[("X-Api-Key", "skip")]).status), [200, 200, 429]);

        let refuses = start("refuse");
        let mut client = refuses.client();
        let answer = client.get("/");
        assert_eq!((answer.status, &answer.json()["limit"]), (400, &"two".into()), "{answer:?}");
        assert_eq!([(); 3].map(|()| client.get_with("/", &[("X-Api-Key", "refuse")]).status), [200, 200, 429]);

        let by_another = start("header:X-Other");
        let mut client = by_another.client();
        let mut ask = |other: &str| client.get_with("/", &[("X-Other", other)]).status;
        assert_eq!([(); 3].map(|()| ask("one")), [200, 200, 429]);
        assert_eq!([(); 3].map(|()| ask("two")), [200, 200, 429]);
        assert_eq!([(); 3].map(|()| client.get("/").status), [200, 200, 429], "lacking both, by address");
    });
}

#[test]
fn a_refusal_for_a_missing_key_charges_no_other_limit() {
    over_both(|config| {
        let app = Origin::saying("app");
        let tables = two("header:X-Api-Key", "missing = \"refuse\"").replace("[\"two\"]", "[\"all\", \"two\"]");
        let tables = format!("[limit.all]\nkey = \"address\"\nquota = \"2 per hour\"\n{tables}");
        let sidegate = config(&app).with(&tables).start();
        let mut client = sidegate.client();
        assert_eq!([(); 5].map(|()| client.get("/").status), [400; 5]);
        assert_eq!([(); 3].map(|()| client.get_with("/", &[("X-Api-Key", "a")]).status), [200, 200, 429]);
    });
}

#[test]
fn addresses_count_by_the_networks_that_the_limit_says() {
    over_both(|config| {
        let app = Origin::saying("app");
        let tables = two("address", "ipv4_prefix = 24\nipv6_prefix = 56");
        let sidegate = config(&app).server("trusted_proxies = [\"127.0.0.1\"]").with(&tables).start();
        let mut client = sidegate.client();
        let mut ask = |address: &str| client.get_with("/", &[("X-Forwarded-For", address)]).status;
        assert_eq!(["203.0.113.1", "203.0.113.77", "203.0.113.200", "203.0.114.1"].map(&mut ask), [200, 200, 429, 200]);
        let addresses = ["2001:db8:0:aa00::1", "2001:db8:0:aaff::1", "2001:db8:0:aa01::2", "2001:db8:0:ab00::1"];
        assert_eq!(addresses.map(&mut ask), [200, 200, 429, 200]);
    });
}

#[test]
fn a_limit_by_host_counts_hosts_whatever_their_spelling() {
    over_both(|config| {
        let app = Origin::saying("app");
        let sidegate = config(&app).with(&two("host", "")).start();
        let mut client = sidegate.client();
        let mut ask = |host: &str| {
            let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
            client.send(request).answer().status
        };
        assert_eq!(["a.example", "A.Example:80", "a.example.", "b.example"].map(&mut ask), [200, 200, 429, 200]);
    });
}

#[test]
fn what_clients_are_told_apart_by_in_the_query_is_in_no_log() {
    let app = Origin::saying("app");
    let tables = two("query:customer", "missing = \"query:guest\"");
    let sidegate = Configuration::of(&app).with(&tables).start();
    let answer = sidegate.get("/?a=1&customer=hidden-customer&guest=hidden-guest&b=2");
    assert_eq!((answer.status, answer.number("x-ratelimit-remaining")), (200, 1));
    let line = sidegate.access_log(|line| line["status"] == 200);
    assert_eq!(line["target"], "/?a=1&customer=***&guest=***&b=2");
    let said = sidegate.output() + &sidegate.errors();
    assert!(!said.contains("hidden-"), "{said}");
}
