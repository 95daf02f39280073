//! Operators ask who is limited, and let them go: over the admin listener and by `sidegate limits`.

use std::path::Path;

use crate::harness::sidegate::run;
use crate::harness::{Answer, Configuration, Origin, RedisServer, Sidegate};

const LIMITS: &str = "[limit.five]\nkey = \"address\"\nquota = \"5 per hour\"\n\
    [limit.window]\nkey = [\"header:x-key\", \"method\"]\nquota = \"3 per hour\"\nalgorithm = \"fixed-window\"\n\
    [[route]]\npath = \"/window\"\nlimits = [\"window\"]\n[[route]]\npath = \"/{*rest}\"\nlimits = [\"five\"]\n";

/// What `sidegate limits` of these arguments prints, and its exit code.
fn limits(sidegate: &Sidegate, arguments: &[&str]) -> (i32, String) {
    let all = [&["limits", "--admin", sidegate.admin()], arguments].concat();
    let (code, out, error) = run(&all, Path::new("."));
    (code, out + &error)
}

fn statuses(sidegate: &Sidegate, target: &str, fields: &[(&str, &str)], times: usize) -> Vec<u16> {
    let mut client = sidegate.client();
    (0..times).map(|_| client.get_with(target, fields).status).collect()
}

#[test]
fn who_is_refused_is_listed_shown_and_let_go_in_process_memory() {
    let app = Origin::saying("app");
    let sidegate = Configuration::of(&app).with(LIMITS).start();
    meets_the_operator(&sidegate, &sidegate);
}

#[test]
fn what_one_instance_does_over_redis_holds_for_all() {
    let (app, redis) = (Origin::saying("app"), RedisServer::start());
    let [one, other] = [(); 2].map(|()| Configuration::of(&app).redis(&redis).with(LIMITS).start());
    meets_the_operator(&one, &other);
}

/// Clients come to `one`, the operator to `other` where counters are shared.
fn meets_the_operator(one: &Sidegate, other: &Sidegate) {
    let (code, listed) = limits(one, &[]);
    assert!(code == 0 && listed.contains("five") && listed.contains("5 per hour by address"), "{listed}");
    assert_eq!(limits(one, &["top", "five"]), (0, "limit five has refused nobody lately\n".into()));
    assert_eq!(statuses(one, "/", &[], 8), [200, 200, 200, 200, 200, 429, 429, 429]);

    let (_, top) = limits(one, &["top", "five"]);
    assert!(top.starts_with("127.0.0.0/24 ") && top.ends_with("refused 3 times\n"), "{top}");
    let (_, revealed) = limits(one, &["top", "five", "--reveal"]);
    assert!(revealed.starts_with("127.0.0.1 "), "{revealed}");

    let (_, shown) = limits(other, &["show", "five", "127.0.0.1"]);
    assert!(shown.starts_with("five 127.0.0.0/24: refused for ") && shown.contains("of 5 per hour"), "{shown}");
    let asked = || -> Answer { other.ask_admin("/limits/five/key?key=127.0.0.1") };
    assert_eq!(asked().json()["refused"], true);
    assert_eq!(
        limits(other, &["show", "five", "127.0.0.9"]).1,
        "five 127.0.0.0/24: 5 left of 5 per hour; all of it in 0 s\n"
    );

    let (code, granted) = limits(other, &["grant", "five", "127.0.0.1", "--units", "2"]);
    assert!(code == 0 && granted.contains(": 2 left of 5 per hour"), "{granted}");
    // What remembers a refusal asks again within a second.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert_eq!(statuses(one, "/", &[], 3), [200, 200, 429]);
    let (_, reset) = limits(other, &["reset", "five", "127.0.0.1"]);
    assert!(reset.contains(": 5 left of 5 per hour"), "{reset}");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert_eq!(statuses(one, "/", &[], 6), [200, 200, 200, 200, 200, 429]);
    // All was there: nobody gets more than that.
    limits(other, &["grant", "five", "127.0.0.2", "--units", "100"]);
    assert_eq!(asked().json()["refused"], true);

    let key = [("x-key", "top secret")];
    assert_eq!(statuses(one, "/window", &key, 4), [200, 200, 200, 429]);
    let (_, top) = limits(one, &["top", "window"]);
    assert!(top.starts_with('#') && top.contains("…,GET") && !top.contains("secret"), "{top}");
    let (_, shown) = limits(other, &["show", "window", "top secret", "GET"]);
    assert!(shown.contains("…,GET: refused for ") && !shown.contains("secret"), "{shown}");
    let (_, granted) = limits(other, &["grant", "window", "top secret", "GET", "-u", "1"]);
    assert!(granted.contains(": 1 left of 3 per hour"), "{granted}");
    let (_, reset) = limits(other, &["reset", "window", "top secret", "GET"]);
    assert!(reset.contains(": 3 left of 3 per hour"), "{reset}");
}

#[test]
fn what_is_granted_may_be_spent_whatever_the_algorithm_and_wherever_it_is_counted() {
    let (app, redis) = (Origin::saying("app"), RedisServer::start());
    let all = ["token-bucket", "fixed-window", "sliding-window", "sliding-log"];
    let limit = |algorithm: &&str| {
        format!("[limit.{algorithm}]\nkey = \"address\"\nquota = \"5 per day\"\nalgorithm = \"{algorithm}\"\n")
    };
    let route = |name: &&str| format!("[[route]]\npath = \"/{name}\"\nlimits = [\"{name}\"]\n");
    let tables = all.iter().map(limit).chain(all.iter().map(route)).collect::<String>();
    let in_memory = Configuration::of(&app).with(&tables).start();
    let over_redis = Configuration::of(&app).redis(&redis).with(&tables).start();
    for (sidegate, algorithm) in all.iter().flat_map(|name| [(&in_memory, name), (&over_redis, name)]) {
        let target = format!("/{algorithm}");
        assert_eq!(statuses(sidegate, &target, &[], 6), [200, 200, 200, 200, 200, 429], "{algorithm}");
        let (code, granted) = limits(sidegate, &["grant", algorithm, "127.0.0.1", "--units", "2"]);
        assert!(code == 0 && granted.contains(": 2 left of 5 per day"), "{algorithm}: {granted}");
        assert_eq!(statuses(sidegate, &target, &[], 3), [200, 200, 429], "{algorithm}");
        let (_, granted) = limits(sidegate, &["grant", algorithm, "127.0.0.1", "--units", "1000"]);
        assert!(granted.contains(": 5 left of 5 per day"), "{algorithm}: {granted}");
    }
}

#[test]
fn a_key_of_a_plan_is_shown_and_granted_units_by_the_quotas_of_its_client() {
    let (app, redis) = (Origin::saying("app"), RedisServer::start());
    let tables = "[plan.api]\nkey = \"header:x-key\"\nrecord = \"sidegate:plan:{key}\"\n\
        [limit.calls]\nkey = \"header:x-key\"\nquota = \"10 per hour\"\nprecision = \"exact\"\nplan = \"api\"\n\
        [limit.each]\nkey = [\"header:x-key\", \"method\"]\nquota = \"10 per hour\"\nprecision = \"exact\"\nplan = \"api\"\n\
        [[route]]\npath = \"/{*rest}\"\nlimits = [\"calls\", \"each\"]\n";
    let sidegate = Configuration::of(&app).redis(&redis).with(tables).start();
    let _: redis::Value = redis.ask(&["HSET", "sidegate:plan:alice", "quota", "100 per hour"]).expect("a record");
    assert_eq!(statuses(&sidegate, "/", &[("x-key", "alice")], 50), [200; 50]);

    let (_, shown) = limits(&sidegate, &["show", "calls", "alice"]);
    assert!(shown.contains(": 50 left of 100 per hour; all of it in "), "{shown}");
    let (code, granted) = limits(&sidegate, &["grant", "calls", "alice", "--units", "20"]);
    assert!(code == 0 && granted.contains(": 70 left of 100 per hour; "), "{granted}");
    let by_plan = sidegate.ask_admin("/limits/calls/key?key=alice").json();
    assert_eq!(by_plan["quotas_of"], "the client's plan");
    let (_, shown) = limits(&sidegate, &["show", "calls", "nobody"]);
    assert!(shown.contains(": 10 left of 10 per hour (by the limit's own quota); "), "{shown}");

    let digest = "#2bd806c97f0e00af1a1fc3328fa763a9";
    for arguments in [&["calls", digest][..], &["each", "alice", "GET"]] {
        for deed in [&["show"][..], &["grant", "--units", "5"]] {
            let (code, said) = limits(&sidegate, &[deed, arguments].concat());
            assert!(code == 1 && said.starts_with("error: this limit goes by a plan: "), "{said}");
        }
    }
    assert!(limits(&sidegate, &["show", "calls", "alice"]).1.contains(": 70 left of 100 per hour"), "as it was");
    assert_eq!(limits(&sidegate, &["reset", "calls", digest]).0, 0);
    assert!(limits(&sidegate, &["show", "calls", "alice"]).1.contains(": 100 left of 100 per hour"), "as it was");
}

#[test]
fn what_cannot_be_done_is_said() {
    let app = Origin::saying("app");
    let mut redis = RedisServer::start();
    let sidegate = Configuration::of(&app).redis(&redis).with(LIMITS).start();
    for (arguments, said) in [
        (&["top", "nobody"][..], "error: no route has a limit called `nobody`\n"),
        (&["show", "five", "localhost"], "error: `localhost` is no address\n"),
        (&["show", "window", "k"], "error: the key of this limit is header:x-key, method: a value for each\n"),
        (
            &["grant", "five", "127.0.0.1", "--units", "0"],
            "error: `units` says how many are given back: 1 to 1,000,000,000\n",
        ),
    ] {
        assert_eq!(limits(&sidegate, arguments), (1, said.into()));
    }
    assert_eq!(sidegate.ask_admin("/limits/five/reset?key=127.0.0.1").status, 405);
    redis.kill();
    let (code, said) = limits(&sidegate, &["show", "five", "127.0.0.1"]);
    assert!(code == 1 && said.starts_with("error: Redis does not answer ("), "{said}");
    let (code, said) = limits(&sidegate, &["top", "five"]);
    assert_eq!((code, &*said), (0, "limit five has refused nobody lately\n"), "this needs no Redis");
}
