//! Limits that are counted and refuse nobody.

use super::{decisions, keys, over_both};
use crate::harness::{Configuration, Origin, RedisServer};

#[test]
fn a_limit_in_shadow_counts_and_says_nothing_to_anybody() {
    over_both(|config| {
        let app = Origin::saying("app");
        let tables = "[limit.strict]\nkey = \"address\"\nquota = \"2 per hour\"\nshadow = true\n\
                      [limit.loose]\nkey = \"address\"\nquota = \"6 per hour\"\n\
                      [[route]]\npath = \"/{*rest}\"\nlimits = [\"strict\", \"loose\"]\n\
                      [[route]]\npath = \"/alone\"\nlimits = [\"strict\"]\n";
        let sidegate = config(&app).with(tables).start();
        let mut client = sidegate.client();
        let answer = client.get("/alone");
        assert!(answer.status == 200 && !answer.fields.has("x-ratelimit-limit") && !answer.fields.has("ratelimit"));
        for left in (0..6).rev() {
            let answer = client.get("/");
            assert_eq!((answer.status, answer.number("x-ratelimit-remaining")), (200, left));
            assert!(!answer.field("ratelimit").is_some_and(|lists| lists.contains("strict")), "{answer:?}");
        }
        assert_eq!(client.get("/").status, 429);
        let counts = ["shadow_allowed", "shadow_refused", "allowed", "refused"]
            .map(|outcome| decisions(&sidegate, "strict", outcome));
        // The last request, which the other limit refused, would have been refused here as well.
        assert_eq!(counts, [2.0, 6.0, 0.0, 0.0]);
        assert_eq!((decisions(&sidegate, "loose", "allowed"), decisions(&sidegate, "loose", "refused")), (6.0, 1.0));
    });
}

#[test]
fn a_quota_on_trial_is_counted_beside_the_one_in_force() {
    let redis = RedisServer::start();
    let app = Origin::saying("app");
    let tables = "[limit.five]\nkey = \"address\"\nquota = \"5 per hour\"\ntrial = \"2 per hour\"\n\
                  [[route]]\npath = \"/{*rest}\"\nlimits = [\"five\"]\n";
    for config in [Configuration::of(&app), Configuration::of(&app).redis(&redis)] {
        let sidegate = config.with(tables).start();
        let mut client = sidegate.client();
        for status in [200, 200, 200, 200, 200, 429] {
            let answer = client.get("/");
            assert_eq!((answer.status, answer.number("x-ratelimit-limit")), (status, 5));
        }
        let counts = ["allowed", "refused", "trial_allowed", "trial_refused"]
            .map(|outcome| decisions(&sidegate, "five", outcome));
        assert_eq!(counts, [5.0, 1.0, 2.0, 4.0]);
    }
    let mut kept = keys(&redis, "sidegate:limit:*");
    kept.sort();
    assert_eq!(kept, ["sidegate:limit:{five:127.0.0.1}", "sidegate:limit:{five~trial:127.0.0.1}"]);
}

#[test]
fn a_limit_in_shadow_refuses_nobody_for_a_redis_that_is_away() {
    let mut redis = RedisServer::start();
    let app = Origin::saying("app");
    let tables = "[limits]\non_outage = \"closed\"\n\
                  [limit.strict]\nkey = \"address\"\nquota = \"1 per hour\"\nshadow = true\n\
                  [[route]]\npath = \"/{*rest}\"\nlimits = [\"strict\"]\n";
    let sidegate = Configuration::of(&app).redis(&redis).with(tables).start();
    redis.kill();
    let mut client = sidegate.client();
    assert_eq!([(); 5].map(|()| client.get("/").status), [200; 5]);
}
