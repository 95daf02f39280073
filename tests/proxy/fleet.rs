//! Several sidegates on one Redis, and what they do without it.

use crate::harness::{Configuration, Origin, RedisServer, Sidegate, until};

/// Twenty requests an hour for each address: no unit comes back while a test runs.
const TWENTY: &str = "[limit.twenty]\nkey = \"address\"\nquota = \"20 per hour\"\n[[route]]\npath = \"/{*rest}\"\nlimits = [\"twenty\"]\n";

/// So many requests to each: how many were answered by the app.
fn spend(instances: &[Sidegate; 2], requests: usize) -> usize {
    let mut clients = instances.each_ref().map(Sidegate::client);
    let mut answered = 0;
    for turn in 0..2 * requests {
        let answer = clients[turn % 2].get("/");
        assert!(matches!(answer.status, 200 | 429), "{answer:?}");
        answered += usize::from(answer.status == 200);
    }
    answered
}

#[test]
fn two_instances_know_of_each_other_and_share_a_quota_through_an_outage() {
    let mut redis = RedisServer::start();
    let app = Origin::saying("app");
    let mut instances = [(); 2].map(|()| Configuration::of(&app).redis(&redis).with(TWENTY).start());
    until("both count two", || instances.iter().all(|one| one.metric("sidegate_instances") == 2.0));

    redis.kill();
    until("both do without Redis", || instances.iter().all(|one| one.metric("sidegate_redis_up") == 0.0));
    let first = instances[0].get("/");
    assert_eq!((first.number("x-ratelimit-limit"), first.number("x-ratelimit-remaining")), (10, 9), "its share");
    assert_eq!(first.status, 200);
    assert_eq!(1 + spend(&instances, 30), 20, "the quota, and no more");

    redis.restart();
    let counted = || !redis.ask::<Vec<String>>(&["KEYS", "sidegate:limit:*"]).expect("keys").is_empty();
    until("a count in Redis again", || {
        assert_eq!(spend(&instances, 1), 0, "what was given is not given again");
        counted()
    });
    until("both are back", || instances.iter().all(|one| one.metric("sidegate_redis_up") > 0.0));
    assert_eq!(spend(&instances, 30), 0, "Redis came back empty, and knows");

    until("both told of themselves", || redis.ask::<u32>(&["ZCARD", "sidegate:instances"]).is_ok_and(|told| told == 2));
    assert!(instances[0].terminate().success());
    assert_eq!(redis.ask::<u32>(&["ZCARD", "sidegate:instances"]).expect("a number"), 1, "who has drained is out");
    let life: i64 = redis.ask(&["PTTL", "sidegate:instances"]).expect("a TTL");
    assert!((1..=15_000).contains(&life), "{life}");
}
