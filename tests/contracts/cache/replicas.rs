//! Stored responses that are read from replicas: never other ones than the master has, and never a wait for a lost one.

use redis::FromRedisValue;
use sidegate::redis_pool::ReplicaReads;

use super::near::tracked;
use super::*;
use crate::redis_server::Sentinels;

/// How long anything may take that has to come about by itself on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn settings(url: &str) -> Settings {
    let settings = Settings::of_url(url).expect("a URL");
    Settings { timeout: Duration::from_secs(1), replicas: ReplicaReads::Cache, ..settings }
}

/// Waits until `fact` holds.
async fn comes(what: &str, mut fact: impl AsyncFnMut() -> bool) {
    let held = tokio::time::timeout(PATIENCE, async {
        while !fact().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(held.await.is_ok(), "{what}: not within {PATIENCE:?}");
}

/// A process whose link has a replica for each of `keys`.
async fn process(url: &str, keys: &[Key]) -> (Process, Link, Arc<Registry>) {
    let registry = Registry::new(1);
    let link = Link::new(&settings(url), &[SCRIPT], &registry, 0);
    comes("a replica for each place", async || keys.iter().all(|key| link.replica(name(key).as_bytes()).is_some()))
        .await;
    (Process::on_redis(link.clone(), |store| store), link, registry)
}

/// Of the generation.
fn name(key: &Key) -> String {
    format!("sidegate:cache:{{{}}}:g", key.place())
}

async fn look_up(Process(store, _): &Process, key: &Key, purpose: Purpose) -> Found {
    store.look_up(question(key, purpose), Answer::NotAsked, None, None).await
}

/// The version that is found; asked again while a busy machine leaves Redis unheard.
async fn version(process: &Process, key: &Key) -> Option<u64> {
    let began = instant();
    loop {
        match look_up(process, key, Purpose::Reuse).await {
            Found::Stored(stored) => {
                return Some(u64::from_le_bytes(whole(&stored).as_ref().try_into().expect("a version")));
            }
            Found::Nothing { .. } => return None,
            Found::Unavailable(reason) => assert!(began.elapsed() < PATIENCE, "{reason}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn open(process: &Process, key: &Key) -> Generation {
    match look_up(process, key, Purpose::ReuseOrFill).await {
        Found::Nothing { generation: Some(generation), .. } => generation,
        found => panic!("{found:?}"),
    }
}

async fn keep(process: &Process, key: &Key, generation: Generation, kept: u64) {
    process.0.keep(key, stored(generation, kept), keeping());
    comes("it is stored", async || version(process, key).await == Some(kept)).await;
}

/// How often a server was asked.
fn asked(server: &RedisServer, command: &str) -> u64 {
    let said: String = server.ask(&["INFO", "commandstats"]).expect("INFO");
    let calls = said.split_once(&format!("cmdstat_{command}:calls=")).map(|(_, rest)| rest.split(',').next());
    calls.flatten().map_or(0, |calls| calls.parse().expect("a number"))
}

fn ask<T: FromRedisValue>(server: &RedisServer, words: &[&str]) -> T {
    server.ask(words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
}

#[test]
fn what_a_replica_that_is_behind_says_counts_only_where_the_master_has_the_same() {
    as_worker(async || {
        let sentinels = Sentinels::start();
        let [master, replica] = sentinels.servers();
        let key = key("/page");
        let (process, _link, registry) = process(&sentinels.url(), std::slice::from_ref(&key)).await;
        let trips = || registry.value("sidegate_redis_round_trips_total", &[]);
        let found = async || {
            let before = trips();
            let version = version(&process, &key).await;
            (version, trips() - before)
        };
        let generation = open(&process, &key).await;
        keep(&process, &key, generation, 1).await;
        let names: Vec<String> = ask(master, &["KEYS", "*"]);
        let entry = names.iter().find(|name| !name.ends_with(":g")).expect("an entry");
        let follows = async || {
            let same = async || {
                let [one, other]: [Option<Vec<u8>>; 2] = [master, replica].map(|server| ask(server, &["GET", entry]));
                one == other
            };
            comes("the replica has the same", same).await;
        };
        follows().await;
        let (of_master, of_replica) = (asked(master, "getrange"), asked(replica, "mget"));
        assert_eq!(found().await, (Some(1), 2), "one question to each, at the same time");
        assert_eq!((asked(master, "getrange") - of_master, asked(replica, "mget") - of_replica), (1, 1));

        // It does not have the newer one; that is what one that lags comes to.
        ask::<()>(replica, &["CONFIG", "SET", "replica-read-only", "no"]);
        ask::<()>(replica, &["COPY", entry, "older"]);
        keep(&process, &key, generation, 2).await;
        follows().await;
        ask::<()>(replica, &["COPY", "older", entry, "REPLACE"]);
        assert_eq!(found().await, (Some(2), 3));
        ask::<()>(replica, &["DEL", entry]);
        assert_eq!(found().await, (Some(2), 3));

        // It still has what was deleted by hand at the master.
        ask::<()>(master, &["DEL", entry]);
        follows().await;
        ask::<()>(replica, &["COPY", "older", entry]);
        assert_eq!(found().await, (None, 2));

        // And what was invalidated.
        keep(&process, &key, generation, 3).await;
        follows().await;
        process.0.invalidate(&[key.place().to_owned()]).await.expect("a master that answers");
        assert_eq!(found().await.0, None);
        assert_ne!(open(&process, &key).await, generation);
        assert_eq!(found().await.0, None, "of another generation");
    });
}

/// Places in every third of the slots.
fn places() -> Vec<Key> {
    (0..30).map(|number| key(&format!("/page-{number}"))).collect()
}

fn signal(server: &RedisServer, signal: i32) {
    // SAFETY: a signal to a child of ours that has not been waited for.
    assert_eq!(unsafe { libc::kill(server.pid(), signal) }, 0);
}

#[test]
fn a_cluster_s_replicas_are_read_and_one_that_is_lost_is_done_without() {
    as_worker(async || {
        let mut cluster = RedisCluster::start();
        let keys = places();
        let (process, link, registry) = process(&cluster.url(), &keys).await;
        for key in &keys {
            let generation = open(&process, key).await;
            keep(&process, key, generation, 7).await;
        }
        for node in &cluster.nodes()[..3] {
            assert!(asked(node, "getrange") > 0);
        }
        for node in &cluster.nodes()[3..] {
            assert!(asked(node, "mget") > 0 && asked(node, "readonly") > 0, "this replica was never asked");
        }

        // One stands still.
        let of =
            |master: usize| keys.iter().find(|key| cluster.master_of(&name(key)) == master).expect("a place there");
        let (still, killed) = (of(0).clone(), of(1).clone());
        let endpoint = format!("127.0.0.1:{}", cluster.nodes()[3].port());
        let breaker = || registry.value("sidegate_redis_breaker_state", &[("endpoint", &endpoint)]);
        assert_eq!(breaker(), 0);
        signal(&cluster.nodes()[3], libc::SIGSTOP);
        comes("the breaker opens", async || {
            assert!(matches!(version(&process, &still).await, Some(7) | None));
            link.replica(name(&still).as_bytes()).is_none()
        })
        .await;
        assert!(breaker() > 0 && link.is_up());
        assert_eq!(version(&process, &still).await, Some(7), "the master has it");
        signal(&cluster.nodes()[3], libc::SIGCONT);
        comes("it is back", async || link.replica(name(&still).as_bytes()).is_some()).await;
        assert_eq!(version(&process, &still).await, Some(7));

        // One is killed.
        cluster.node(4).kill();
        comes("it is known to be away", async || {
            assert!(matches!(version(&process, &killed).await, Some(7) | None));
            link.replica(name(&killed).as_bytes()).is_none()
        })
        .await;
        assert_eq!(version(&process, &killed).await, Some(7), "the master has it");
        assert!(link.is_up());
    });
}

#[test]
fn no_invalidation_is_lost_where_replicas_are_read() {
    as_worker(async || {
        let cluster = RedisCluster::start();
        let process = async || {
            let registry = Registry::new(1);
            let (_, link, _) = process(&cluster.url(), &places()).await;
            let (near, tracking) = tracked(settings(&cluster.url()), Coherence::new()).await;
            (Process::on_redis(link, |store| store.behind(Some(near), &registry, 0)), tracking)
        };
        let ((one, _one), (two, _two)) = (process().await, process().await);
        let processes = [one, two];
        for seed in 0..10 {
            no_invalidation_is_lost(&processes, seed, 1000, None).await;
        }
        assert!(cluster.nodes()[3..].iter().any(|node| asked(node, "mget") > 0), "no replica was ever asked");
    });
}
