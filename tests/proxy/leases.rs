//! Several sidegates on one Redis under load, that take units of a hot key ahead.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sidegate::clock::instant;

use crate::harness::{Answer, Configuration, Load, Origin, RedisServer, Reply, Sidegate, until};

/// Units a second, and units that may be spent at once.
const QUOTA: u64 = 1000;
const LEASED: &str = "[limits]\nlease = \"400ms\"\n[limit.hot]\nkey = \"address\"\nquota = \"1000 per second\"\nprecision = \"leased\"\n[[route]]\npath = \"/{*rest}\"\nlimits = [\"hot\"]\n";

/// An app that notes when it was asked.
fn app() -> (Origin, Arc<Mutex<Vec<Instant>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = asked.clone();
    let app = Origin::answering(move |_| {
        noted.lock().expect("a list").push(instant());
        Reply::text("app")
    });
    (app, asked)
}

/// Scripts that Redis has run.
fn scripts(redis: &RedisServer) -> u64 {
    let told: String = redis.ask(&["INFO", "commandstats"]).expect("statistics");
    let line = told.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    line.and_then(|rest| rest.split(',').next()?.parse().ok()).unwrap_or(0)
}

fn units(sidegates: &[Sidegate], outcome: &str) -> f64 {
    let name = format!("sidegate_limit_lease_units_total{{limit=\"hot\",outcome=\"{outcome}\"}}");
    sidegates.iter().map(|sidegate| sidegate.metric(&name)).sum()
}

#[test]
fn a_fleet_at_full_load_never_admits_more_than_the_quota_and_takes_units_ahead() {
    let (redis, (app, asked)) = (RedisServer::start(), app());
    let fleet = [(); 3].map(|()| Configuration::of(&app).redis(&redis).with(LEASED).start());
    assert!(fleet[0].ask_admin("/metrics").text().contains("sidegate_limit_lease_units_total{limit=\"hot\""));
    until("all count three", || fleet.iter().all(|one| one.metric("sidegate_instances") == 3.0));
    let count = || asked.lock().expect("a list").len() as u64;

    let began = instant();
    let request = |_, _| b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
    let right = |answer: &Answer| matches!(answer.status, 200 | 429);
    let loads = fleet.each_ref().map(|sidegate| Load::start(sidegate.address(), 8, request, right));
    // The burst is gone, and all ask for more than there is.
    until("all have spent what may be spent at once", || count() > 2 * QUOTA);
    let (from, admitted, calls) = (instant(), count(), scripts(&redis));
    until("some seconds' worth", || count() > admitted + 3 * QUOTA);
    let (took, admitted, calls) = (from.elapsed(), count() - admitted, scripts(&redis) - calls);
    let tallies = loads.map(Load::finish);

    let refused: u64 = tallies.iter().filter_map(|tally| tally.answers.get(&429)).sum();
    let earned = took.as_secs_f64() * QUOTA as f64;
    let (share, operations) = (admitted as f64 / earned, calls as f64 / admitted as f64);
    println!(
        "{share:.3} of the quota, {operations:.4} operations for each request that was admitted, {refused} refused"
    );
    for tally in &tallies {
        assert_eq!((&tally.failures[..], tally.wrong), (&[][..], 0));
    }
    let asked = asked.lock().expect("a list");
    for (before, at) in asked.iter().enumerate() {
        let most = QUOTA as f64 * (1.0 + at.duration_since(began).as_secs_f64());
        assert!(before as f64 + 1.0 <= most, "{} instead of {most} after {:?}", before + 1, at.duration_since(began));
    }
    // How near to the quota it comes is the model's to say (`lease`), where no machine is slow. Here: most units were taken
    // ahead. On a machine that has nothing else to do 0.016 operations; who is kept waiting asks more often.
    assert!(refused > 0 && operations < 1.0, "{operations:.4} operations, {refused} refused");
    assert!(units(&fleet, "spent") > 0.0, "nothing was taken ahead");
}

#[test]
fn a_key_that_is_not_hot_is_exact_and_what_is_left_of_one_that_was_goes_back_at_the_end() {
    let (redis, (app, _)) = (RedisServer::start(), app());
    let slow = LEASED.replace("1000 per second", "1000 per hour").replace("400ms", "4s");
    let mut fleet = [Configuration::of(&app).redis(&redis).with(&slow).start()];
    let left = || fleet[0].get("/").number("x-ratelimit-remaining");
    assert_eq!([left(), left(), left()], [999, 998, 997]);
    until("units are taken ahead", || {
        fleet[0].get("/");
        units(&fleet, "taken") - units(&fleet, "spent") >= 10.0
    });
    let state = || redis.ask::<String>(&["GET", "sidegate:limit:{hot:127.0.0.1}"]).expect("a state");
    let arrival = |state: String| state.split(':').next().and_then(|micros| micros.parse::<u64>().ok()).expect("µs");
    let before = arrival(state());
    assert!(fleet[0].terminate().success());
    let given_back = before.saturating_sub(arrival(state()));
    // An hour's thousandth.
    assert!(Duration::from_micros(given_back) > Duration::from_millis(3600), "{given_back} µs: less than a unit");
}
