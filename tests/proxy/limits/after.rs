//! What requests cost: by route, by the app's word, by the outcome.

use super::over_both;
use crate::harness::origin::Gate;
use crate::harness::{Configuration, Origin, Reply, Sidegate, until};

/// Waits until `limit` has been charged so that `left` are left to us: no answer waits for that.
fn charged(sidegate: &Sidegate, limit: &str, left: u64) {
    let target = format!("/limits/{limit}/key?key=127.0.0.1");
    until("it is charged", || sidegate.ask_admin(&target).json()["remaining"] == left);
}

#[test]
fn a_route_says_what_its_requests_cost() {
    over_both(|config| {
        let app = Origin::saying("app");
        let tables = "[limit.ten]\nkey = \"address\"\nquota = \"10 per hour\"\n\
                      [[route]]\npath = \"/export\"\nlimits = [\"ten\"]\ncost = 4\n\
                      [[route]]\npath = \"/{*rest}\"\nlimits = [\"ten\"]\n";
        let sidegate = config(&app).with(tables).start();
        let mut client = sidegate.client();
        let mut left = |target: &str| client.get(target).number("x-ratelimit-remaining");
        assert_eq!(["/export", "/", "/export", "/"].map(&mut left), [6, 5, 1, 0]);
        assert_eq!(client.get("/export").status, 429);
        assert_eq!(
            sidegate.metric("sidegate_limit_charged_units_total{limit=\"ten\"}"),
            10.0,
            "a refusal costs nothing"
        );
    });
}

#[test]
fn the_app_says_what_a_request_has_cost_and_debt_is_waited_for() {
    over_both(|config| {
        let app = Origin::answering(|request| match request.path() {
            "/free" => Reply::text("").field("X-Cost", "0"),
            "/silent" => Reply::text(""),
            _ => Reply::text("").field("X-Cost", "4"),
        });
        let tables = "[limit.ten]\nkey = \"address\"\nquota = \"10 per hour\"\ncost = \"response:X-Cost\"\n\
                      [[route]]\npath = \"/{*rest}\"\nlimits = [\"ten\"]\n";
        let sidegate = config(&app).with(tables).start();
        let mut client = sidegate.client();
        // Each sees what it has cost itself, too.
        for (target, left) in [("/free", 10), ("/", 6), ("/silent", 5), ("/", 1), ("/", 0)] {
            let answer = client.get(target);
            assert_eq!((answer.status, answer.number("x-ratelimit-remaining")), (200, left), "{target}");
            charged(&sidegate, "ten", left);
            assert_eq!(answer.field("x-cost").is_some(), target != "/silent", "the client sees what the app says");
        }
        let refused = client.get("/free");
        assert_eq!(refused.status, 429, "three over");
        // A unit is earned in six minutes: three of debt, and one that must be free.
        assert!((1_200..=1_440).contains(&refused.number("retry-after")), "{refused:?}");
    });
}

#[test]
fn only_failed_logins_count_and_then_nobody_gets_in() {
    over_both(|config| {
        let app = Origin::answering(|request| match request.field("authorization") {
            Some("right") => Reply::text("welcome"),
            _ => Reply::text("no").status("401 Unauthorized"),
        });
        let tables = "[limit.login]\nkey = \"address\"\nquota = \"3 per hour\"\ncount = [\"401\", \"403\"]\n\
                      [[route]]\npath = \"/login\"\nlimits = [\"login\"]\n";
        let sidegate = config(&app).with(tables).start();
        let mut client = sidegate.client();
        let mut login = |password: &str| client.ask("POST", "/login", &[("Authorization", password)], b"").status;
        assert_eq!([(); 5].map(|()| login("right")), [200; 5]);
        assert_eq!([(); 3].map(|()| login("wrong")), [401; 3]);
        assert_eq!(["right", "wrong"].map(&mut login), [429; 2]);
    });
}

#[test]
fn an_answer_tells_where_its_own_cost_leaves_the_client_and_warns_of_it() {
    over_both(|config| {
        let app = Origin::answering(|request| match request.path() {
            "/login" => Reply::text("no").status("401 Unauthorized"),
            _ => Reply::text("").field("X-Cost", "790"),
        });
        let tables = "[limit.login]\nkey = \"address\"\nquota = \"5 per hour\"\ncount = [\"401\"]\n\
                      [limit.paid]\nkey = \"address\"\nquota = \"1000 per hour\"\ncost = \"response:X-Cost\"\n\
                      warn_at = \"75%\"\n\
                      [[route]]\npath = \"/login\"\nlimits = [\"login\"]\n\
                      [[route]]\npath = \"/{*rest}\"\nlimits = [\"paid\"]\n";
        let sidegate = config(&app).with(tables).start();
        let mut client = sidegate.client();
        for left in [4, 3, 2, 1, 0] {
            let answer = client.get("/login");
            assert_eq!((answer.status, answer.number("x-ratelimit-remaining")), (401, left));
            assert!(answer.field("ratelimit").expect("RateLimit").starts_with(&format!("\"login\";r={left};t=")));
            // A unit is earned in 720 s.
            let spent = (5 - left) * 720;
            let draft = answer.field("ratelimit").expect("RateLimit").rsplit('=').next().map(str::to_owned);
            let reset: u64 = draft.and_then(|seconds| seconds.parse().ok()).expect("seconds");
            assert!((spent - 30..=spent).contains(&reset), "{reset} of {spent}");
            charged(&sidegate, "login", left);
        }
        assert_eq!(client.get("/login").status, 429);
        let answer = client.get("/");
        assert_eq!((answer.status, answer.number("x-ratelimit-remaining")), (200, 210));
        assert_eq!(answer.field("x-ratelimit-warning"), Some("paid; used=79"));
        let units = |limit: &str| sidegate.metric(&format!("sidegate_limit_charged_units_total{{limit={limit:?}}}"));
        assert_eq!((units("login"), units("paid")), (5.0, 790.0));
    });
}

#[test]
fn who_leaves_before_the_answer_has_paid_for_one_unit() {
    over_both(|config| {
        let (asked, answer) = (Gate::default(), Gate::default());
        let gates = (asked.clone(), answer.clone());
        let app = Origin::answering(move |request| {
            if request.path() == "/slow" {
                gates.0.open();
                gates.1.wait();
            }
            Reply::text("").field("X-Cost", "0")
        });
        let tables = "[limit.ten]\nkey = \"address\"\nquota = \"10 per hour\"\ncost = \"response:X-Cost\"\n\
                      [[route]]\npath = \"/{*rest}\"\nlimits = [\"ten\"]\n";
        let sidegate = config(&app).with(tables).start();
        let mut leaves = sidegate.client();
        leaves.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(asked.wait());
        drop(leaves);
        let mut stays = sidegate.client();
        until("the unit is charged", || stays.get("/").number("x-ratelimit-remaining") == 9);
        answer.open();
    });
}

#[test]
fn what_is_charged_while_redis_is_away_goes_along_with_the_next_question() {
    let mut redis = crate::harness::RedisServer::start();
    let app = Origin::answering(|_| Reply::text("").status("401 Unauthorized"));
    let tables = "[limit.login]\nkey = \"address\"\nquota = \"4 per hour\"\ncount = [\"401\"]\n\
                  [[route]]\npath = \"/login\"\nlimits = [\"login\"]\n";
    let sidegate = Configuration::of(&app).redis(&redis).with(tables).start();
    let mut client = sidegate.client();
    let mut login = || client.get("/login").status;
    assert_eq!([(); 3].map(|()| login()), [401; 3]);
    redis.kill();
    let undecided = "sidegate_limit_store_errors_total{limit=\"login\"}";
    assert_eq!(sidegate.metric(undecided), 0.0);
    // Two were kept in mind; the third too, if Redis went before it had confirmed it.
    let [first, _, last] = [(); 3].map(|()| login());
    assert_eq!((first, last), (401, 429));
    assert_eq!(sidegate.metric(undecided), 3.0);
    redis.restart();
    until("Redis counts again, and knows", || {
        assert_eq!(login(), 429);
        !super::keys(&redis, "sidegate:limit:*").is_empty()
    });
}
