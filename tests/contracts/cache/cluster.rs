//! Stored responses over a cluster: the places lie with several masters, each place with one.

use super::near::tracked;
use super::*;
use crate::redis_server::RedisCluster;

/// A process that uses the cluster, and remembers what it says.
async fn process(cluster: &RedisCluster, registry: &Registry) -> (Process, Tracking) {
    let settings = Settings { timeout: Duration::from_secs(2), ..Settings::of_url(&cluster.url()).expect("a URL") };
    let link = Link::new(&settings, &[SCRIPT], &Registry::new(1), 0);
    up(&link, true).await;
    let (near, tracking) = tracked(settings, Coherence::new()).await;
    (Process::on_redis(link, |store| store.behind(Some(near), registry, 0)), tracking)
}

/// Places in every third of the slots.
fn places() -> Vec<Key> {
    (0..60).map(|number| key(&format!("/page-{number}"))).collect()
}

/// What is stored there, once all masters can be asked.
async fn found(Process(store, _): &Process, purpose: Purpose) -> Vec<Found> {
    let mut found = Vec::new();
    for key in places() {
        let asked = tokio::time::timeout(Duration::from_secs(60), async {
            loop {
                match store.look_up(question(&key, purpose), Answer::NotAsked, None, None).await {
                    Found::Unavailable(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                    found => break found,
                }
            }
        });
        found.push(asked.await.expect("an answer of its master"));
    }
    found
}

/// Stores something at every place, and has both processes find it twice.
async fn fill(processes: &[Process]) {
    let opened = found(&processes[0], Purpose::ReuseOrFill).await;
    for (key, found) in places().iter().zip(opened) {
        let Found::Nothing { generation: Some(generation), .. } = found else { panic!("not opened: {found:?}") };
        processes[0].0.keep(key, stored(generation, 1), keeping());
    }
    for _ in 0..2 {
        for process in processes {
            let all = async {
                while !found(process, Purpose::Reuse).await.iter().all(|found| matches!(found, Found::Stored(_))) {}
            };
            tokio::time::timeout(Duration::from_secs(60), all).await.expect("all of it in the cluster");
        }
    }
}

async fn nothing_is_left(processes: &[Process]) {
    for process in processes {
        for found in found(process, Purpose::Reuse).await {
            assert!(matches!(found, Found::Nothing { generation: None, .. }), "{found:?}");
        }
    }
}

#[test]
fn what_lies_with_several_masters_is_stored_remembered_and_taken_back_at_once() {
    as_worker(async || {
        let cluster = RedisCluster::start();
        let registry = Registry::new(1);
        let (one, _one) = process(&cluster, &registry).await;
        let (two, _two) = process(&cluster, &registry).await;
        let processes = [one, two];
        fill(&processes).await;
        let written: Vec<_> = places().iter().map(|key| key.place().to_owned()).collect();
        processes[1].0.invalidate(&written).await.expect("masters that answer");
        nothing_is_left(&processes).await;

        fill(&processes).await;
        let Process(Store::Redis(store), _) = &processes[0] else { unreachable!("it is on Redis") };
        let owed = Owed::new();
        owed.add(&(0..=20_000).map(|number| format!("example.com/{number}")).collect::<Vec<_>>());
        store.settle(&owed).await;
        assert!(!owed.is_any(), "every master was asked");
        nothing_is_left(&processes).await;

        for seed in 0..6 {
            no_invalidation_is_lost(&processes, seed, 1000, None).await;
        }
        assert!(registry.value("sidegate_near_hits_total", &[("kind", "response")]) > 200);
    });
}
