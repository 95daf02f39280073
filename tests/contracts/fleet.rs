//! Instances count each other through Redis.

use std::sync::Arc;
use std::time::Duration;

use sidegate::clock::Clock;
use sidegate::redis_pool::fleet::{Fleet, Member, Pace, SCRIPT};
use sidegate::redis_pool::{Link, Settings};
use sidegate::telemetry::registry::Registry;

use crate::redis_server::RedisServer;
use crate::relay::{Mode, Relay};
use crate::{becomes, link, on_a_worker, settings};

/// Fast enough for a test, with a life that a busy machine does not outlast between two words.
const PACE: Pace = Pace { every: Duration::from_millis(50), life: Duration::from_millis(1_500) };

fn join(fleet: &Arc<Fleet>, link: &Link, registry: &Arc<Registry>) -> Member {
    fleet.join(link, "sidegate:", PACE, Clock::System, registry, 0)
}

/// Waits until each of them has counted so many.
async fn count(fleets: &[&Arc<Fleet>], instances: u32) {
    for _ in 0..1_000 {
        if fleets.iter().all(|fleet| fleet.instances() == instances) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{:?} instead of {instances}", fleets.iter().map(|fleet| fleet.instances()).collect::<Vec<_>>());
}

#[test]
fn three_instances_count_three_one_falls_silent_and_one_leaves() {
    on_a_worker(async {
        let server = RedisServer::start();
        let link = link(&server, &[SCRIPT]).await;
        let (registry, fleets) = (Registry::new(1), [Fleet::new(), Fleet::new(), Fleet::new()]);
        let [one, two, three] = fleets.each_ref().map(|fleet| join(fleet, &link, &registry));
        count(&fleets.each_ref(), 3).await;
        assert_eq!(registry.value("sidegate_instances", &[]), 3);
        assert!(registry.value("sidegate_instances_counted_seconds", &[]) > 0);
        let life: i64 = server.ask(&["PTTL", "sidegate:instances"]).unwrap();
        assert!((1..=1_500).contains(&life), "{life}");

        // As a process that was killed.
        drop(three);
        count(&[&fleets[0], &fleets[1]], 2).await;
        two.leave().await;
        let left: Vec<String> = server.ask(&["ZRANGE", "sidegate:instances", "0", "-1"]).unwrap();
        assert_eq!(left.len(), 1, "it is gone at once");
        count(&[&fleets[0]], 1).await;
        drop(one);
    });
}

#[test]
fn the_number_outlasts_an_outage_and_a_redis_that_comes_back_empty() {
    on_a_worker(async {
        let mut server = RedisServer::start();
        let registry = Registry::new(1);
        let links = [(); 2].map(|()| Link::new(&settings(&server), &[SCRIPT], &registry, 0));
        let fleets = [Fleet::new(), Fleet::new()];
        let members = [0, 1].map(|index| join(&fleets[index], &links[index], &registry));
        count(&fleets.each_ref(), 2).await;

        server.kill();
        becomes(&links[0], false).await;
        becomes(&links[1], false).await;
        assert_eq!(fleets.each_ref().map(|fleet| fleet.instances()), [2, 2]);
        server.restart();
        let mut seen = Vec::new();
        for _ in 0..100 {
            seen.push(fleets[0].instances());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(seen.iter().all(|instances| *instances == 2), "{seen:?}");
        let told: Vec<String> = server.ask(&["ZRANGE", "sidegate:instances", "0", "-1"]).unwrap();
        assert_eq!(told.len(), 2, "both told of themselves as soon as it was back");
        drop(members);
    });
}

#[test]
fn who_is_back_alone_at_a_redis_that_forgot_counts_the_others_for_as_long_as_a_word_holds() {
    on_a_worker(async {
        let server = RedisServer::start();
        // Redis forgets while this one is away too, or under a connection that lasts; and how long a word holds.
        for (goes, life) in [(true, 3_600_000), (false, 3_600_000), (true, 1_500), (false, 1_500)] {
            let relays = [(); 2].map(|()| Relay::to(server.port()));
            let registry = Registry::new(1);
            let pace = Pace { life: Duration::from_millis(life), ..PACE };
            let links = relays.each_ref().map(|relay| {
                let settings = Settings { timeout: Duration::from_secs(2), ..Settings::of_url(&relay.url()).unwrap() };
                Link::new(&settings, &[SCRIPT], &registry, 0)
            });
            let fleets = [Fleet::new(), Fleet::new()];
            let join = |index: usize| fleets[index].join(&links[index], "sidegate:", pace, Clock::System, &registry, 0);
            let members = [0, 1].map(join);
            count(&fleets.each_ref(), 2).await;

            for index in if goes { 0..2 } else { 1..2 } {
                relays[index].turn(Mode::Refuse);
                relays[index].reset_all();
                becomes(&links[index], false).await;
            }
            server.ask::<()>(&["FLUSHALL"]).unwrap();
            relays[0].turn(Mode::Pass);
            becomes(&links[0], true).await;
            relays[0].forget();
            let words = || relays[0].commands().iter().filter(|command| command.mentions("instances")).count();
            while words() < 6 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let told: Vec<String> = server.ask(&["ZRANGE", "sidegate:instances", "0", "-1"]).unwrap();
            assert_eq!(told.len(), 1, "nobody else has told");
            if life == 3_600_000 {
                assert_eq!(fleets[0].instances(), 2, "it has been told five times that it is alone");
            } else {
                count(&[&fleets[0]], 1).await;
            }
            drop(members);
            server.ask::<()>(&["FLUSHALL"]).unwrap();
        }
    });
}
