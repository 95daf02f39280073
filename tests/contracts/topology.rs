//! What a link promises over a cluster and over sentinels: that nobody who uses it can tell, save by what is away.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use redis::{Pipeline, Value};
use sidegate::redis_pool::address::{Endpoint, Topology};
use sidegate::redis_pool::{Link, Settings, slots, topology, why_unanswered};
use sidegate::telemetry::registry::Registry;

use crate::faults::Log;
use crate::on_a_worker;
use crate::redis_server::sentinel::MASTER;
use crate::redis_server::{RedisCluster, Sentinels};
use crate::relay::Relay;

const SCRIPT: &str = "return redis.call('INCRBY', KEYS[1], ARGV[1])";

/// How long anything may take that has to come about by itself on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn settings(url: &str) -> Settings {
    Settings { timeout: Duration::from_secs(2), ..Settings::of_url(url).expect("a URL") }
}

fn pipeline(commands: &[&[&str]]) -> Pipeline {
    let mut pipeline = Pipeline::new();
    for words in commands {
        let command = pipeline.cmd(words[0]);
        words[1..].iter().fold(command, |command, word| command.arg(word));
    }
    pipeline
}

fn text(text: impl ToString) -> Value {
    Value::BulkString(text.to_string().into_bytes())
}

/// Waits until `fact` holds.
async fn comes(what: &str, mut fact: impl AsyncFnMut() -> bool) {
    let held = tokio::time::timeout(PATIENCE, async {
        while !fact().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(held.await.is_ok(), "{what}: not within {PATIENCE:?}");
}

/// Keys in every third of the slots.
fn keys() -> Vec<String> {
    (0..60).map(|number| format!("key-{number}")).collect()
}

/// A link over which every node of the cluster can be reached.
async fn link_over(cluster: &RedisCluster) -> Link {
    link_with(settings(&cluster.url())).await
}

async fn link_with(settings: Settings) -> Link {
    let link = Link::new(&settings, &[SCRIPT], &Registry::new(1), 0);
    every_node_answers(&link).await;
    link
}

async fn every_node_answers(link: &Link) {
    let mut question = Pipeline::new();
    for key in keys() {
        question.cmd("EXISTS").arg(key);
    }
    comes("every node answers", async || {
        let said = link.query(&question).await;
        said.is_ok_and(|values| values.iter().all(|value| matches!(value, Value::Int(_))))
    })
    .await;
}

/// Somebody who counts without end, over several keys at once.
struct Traffic {
    counts: RefCell<HashMap<String, i64>>,
    answered: Cell<usize>,
    unanswered: Cell<usize>,
    /// Writes that were acknowledged may be lost: a master is killed.
    lossy: bool,
    task: RefCell<Option<tokio::task::AbortHandle>>,
}

impl Traffic {
    fn start(link: &Link, keys: Vec<String>, lossy: bool) -> Rc<Self> {
        let traffic = Rc::new(Self {
            counts: RefCell::default(),
            answered: Cell::new(0),
            unanswered: Cell::new(0),
            lossy,
            task: RefCell::default(),
        });
        let (going, link) = (traffic.clone(), link.clone());
        let task = tokio::task::spawn_local(async move {
            loop {
                going.step(&link, &keys).await;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        traffic.task.replace(Some(task.abort_handle()));
        traffic
    }

    async fn step(&self, link: &Link, keys: &[String]) {
        let mut pipeline = Pipeline::new();
        let script = redis::Script::new(SCRIPT);
        for key in keys {
            pipeline.cmd("EVALSHA").arg(script.get_hash()).arg(1).arg(key).arg(1);
        }
        let said = link.query(&pipeline).await;
        let Ok(said) = said else { return self.unanswered.set(self.unanswered.get() + keys.len()) };
        assert_eq!(said.len(), keys.len());
        for (key, value) in keys.iter().zip(said) {
            let mut counts = self.counts.borrow_mut();
            let count = counts.entry(key.clone()).or_default();
            match value {
                Value::Int(now) => {
                    // What was not answered may have been done.
                    let certain = self.unanswered.get() == 0 && !self.lossy;
                    assert!(
                        now > 0 && if certain { now == *count + 1 } else { true },
                        "{key} was {count} and is {now}"
                    );
                    *count = now;
                    self.answered.set(self.answered.get() + 1);
                }
                value => {
                    assert!(why_unanswered(&value).is_some(), "{key}: {value:?}");
                    self.unanswered.set(self.unanswered.get() + 1);
                }
            }
        }
    }

    /// Waits until as many more commands have been answered.
    async fn goes_on(&self, more: usize) {
        let from = self.answered.get();
        comes("traffic goes on", async || self.answered.get() >= from + more).await;
    }

    /// Ends it, and says how many commands were not answered.
    fn end(&self) -> usize {
        self.task.take().inspect(tokio::task::AbortHandle::abort);
        self.unanswered.get()
    }
}

/// Lets a blocking look at servers happen beside the worker.
async fn aside<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(act).await.expect("it does not panic")
}

#[test]
fn a_cluster_answers_as_one_redis_does() {
    let cluster = RedisCluster::start();
    on_a_worker(async {
        let link = link_over(&cluster).await;
        assert!(link.is_cluster() && link.is_up());

        let mut pipeline = Pipeline::new();
        let mut expected = Vec::new();
        for key in keys() {
            pipeline.cmd("SET").arg(&key).arg(format!("of {key}"));
            pipeline.cmd("ECHO").arg(&key);
            pipeline.cmd("GET").arg(&key);
            pipeline.cmd("LPOP").arg(&key);
            expected.extend([Value::Okay, text(&key), text(format!("of {key}"))]);
        }
        let mut said = link.query(&pipeline).await.expect("an answer");
        let failures: Vec<_> = (0..keys().len()).rev().map(|number| said.remove(4 * number + 3)).collect();
        assert_eq!(said, expected);
        assert!(failures.iter().all(|value| matches!(value, Value::ServerError(error) if error.code() == "WRONGTYPE")));

        // Everything, whichever node has it.
        let mut found = 0;
        for master in link.shards() {
            let said = master.query(&self::pipeline(&[&["DBSIZE"]])).await.expect("an answer");
            found += if let [Value::Int(keys)] = said[..] { keys } else { panic!("{said:?}") };
        }
        assert_eq!(found, keys().len() as i64);

        let masters = topology::masters(&settings(&cluster.url()).server, PATIENCE).await.expect("masters");
        let mut ports: Vec<_> = masters.iter().map(port).collect();
        let mut expected: Vec<_> = cluster.nodes()[..3].iter().map(|node| node.port()).collect();
        ports.sort_unstable();
        expected.sort_unstable();
        assert_eq!(ports, expected);

        // Keys of every kind, with and without braces.
        let mut random = fastrand::Rng::with_seed(4);
        let keys: Vec<Vec<u8>> = (0..500)
            .map(|_| (0..random.usize(0..24)).map(|_| *random.choice(b"{}ab\0\xff:").unwrap()).collect())
            .collect();
        let mut question = Pipeline::new();
        for key in &keys {
            question.cmd("CLUSTER").arg("KEYSLOT").arg(key);
        }
        let expected: Vec<_> = keys.iter().map(|key| Value::Int(slots::slot(key).into())).collect();
        assert_eq!(link.query(&question).await.expect("an answer"), expected);
    });
}

fn port(endpoint: &Endpoint) -> u16 {
    match endpoint {
        Endpoint::Tcp { port, .. } => *port,
        Endpoint::Unix(path) => panic!("{path:?}"),
    }
}

#[test]
fn nobody_notices_that_a_slot_moves_to_another_master() {
    let cluster = Arc::new(RedisCluster::start());
    on_a_worker(async {
        let settings = settings(&cluster.url());
        let link = Link::new(&settings, &[SCRIPT], &Registry::new(1), 0);
        every_node_answers(&link).await;
        let (slot, from) = (cluster.slot("{moving}"), cluster.master_of("{moving}"));
        let to = (from + 1) % 3;
        let keys = |name: &str| (0..4).map(|number| format!("{{moving}}-{name}-{number}")).collect::<Vec<_>>();
        let moving = |act: fn(&RedisCluster, u16, usize, usize)| {
            let cluster = cluster.clone();
            aside(move || act(&cluster, slot, from, to))
        };

        let before = Traffic::start(&link, [keys("old"), self::keys()].concat(), false);
        before.goes_on(200).await;
        let (changes, slots) = (settings.server.changes.count(), link.changes());
        moving(RedisCluster::begin_move).await;
        let during = Traffic::start(&link, keys("new"), false);
        during.goes_on(100).await;
        moving(RedisCluster::move_keys).await;
        during.goes_on(100).await;
        moving(RedisCluster::finish_move).await;
        during.goes_on(100).await;
        before.goes_on(200).await;
        assert_eq!((before.end(), during.end()), (0, 0), "commands without an answer");
        comes("whoever asks for slots is told of it", async || link.changes() > slots).await;
        assert_eq!(settings.server.changes.count(), changes, "the masters are the same");
    });
}

#[test]
fn a_node_that_takes_over_a_slot_and_has_forgotten_the_script_is_asked_again_as_before() {
    let cluster = RedisCluster::start();
    on_a_worker(async {
        let link = link_over(&cluster).await;
        let (slot, from) = (cluster.slot("{moving}"), cluster.master_of("{moving}"));
        let to = (from + 1) % 3;
        cluster.begin_move(slot, from, to);
        cluster.nodes()[to].ask::<()>(&["SCRIPT", "FLUSH"]).expect("flushed");
        let mut count = Pipeline::new();
        count.cmd("EVALSHA").arg(redis::Script::new(SCRIPT).get_hash()).arg(1).arg("{moving}").arg(7);
        assert_eq!(link.query(&count).await, Ok(vec![Value::Int(7)]));
        cluster.finish_move(slot, from, to);
        cluster.wait_until_well();
    });
}

#[test]
fn a_command_that_is_sent_on_has_what_is_left_of_the_time() {
    let mut relays = Vec::new();
    let cluster = RedisCluster::announcing(&[], |port| {
        relays.push(Relay::to(port));
        relays.last().expect("a relay").port()
    });
    on_a_worker(async {
        let settings = Settings { timeout: Duration::from_secs(1), ..settings(&cluster.url()) };
        let registry = Registry::new(1);
        let link = Link::new(&settings, &[SCRIPT], &registry, 0);
        every_node_answers(&link).await;
        let (slot, from) = (cluster.slot("{moving}"), cluster.master_of("{moving}"));
        let to = (from + 1) % 3;
        cluster.begin_move(slot, from, to);
        // Each node answers in time, both together do not.
        let late = |delay| [from, to].iter().for_each(|&node| relays[node].delay(Duration::ZERO, delay));
        late(Duration::from_millis(700));
        let question = pipeline(&[&["GET", "{moving}"]]);
        assert_eq!(link.query(&question).await, Err("timeout"));
        let endpoint = format!("127.0.0.1:{}", relays[to].port());
        assert_eq!(registry.value("sidegate_redis_breaker_state", &[("endpoint", &endpoint)]), 0, "it is not to blame");
        late(Duration::ZERO);
        comes("an answer", async || link.query(&question).await == Ok(vec![Value::Nil])).await;
    });
}

#[test]
fn a_master_that_is_away_while_others_answer_is_named_in_the_log_and_so_is_its_return() {
    let (log, _here) = Log::here();
    let mut cluster = RedisCluster::start_with(&["--cluster-require-full-coverage", "no"]);
    // Nobody is to take over.
    for replica in 3..6 {
        cluster.node(replica).kill();
    }
    on_a_worker(async {
        let link = link_over(&cluster).await;
        let port = cluster.nodes()[0].port().to_string();
        let named = |words: &str| log.lines(words).into_iter().filter(|line| line.contains(&port)).collect::<Vec<_>>();
        cluster.node(0).kill();
        let refused = |line: &String| line.contains("reason=\"unreachable\"");
        comes("its absence is named", async || named("a Redis node is away").iter().any(refused)).await;
        assert!(link.is_up() && log.lines("Redis is away").is_empty());
        cluster.node(0).restart();
        comes("its return is named", async || !named("the Redis node answers again").is_empty()).await;
        let said = named("a Redis node is away");
        assert_eq!(said.iter().filter(|line| refused(line)).count(), 1, "{said:?}");
    });
}

#[test]
fn nobody_notices_that_a_replica_takes_over_by_hand() {
    let cluster = Arc::new(RedisCluster::start());
    on_a_worker(async {
        // The master holds its clients for up to 5 s while it hands over.
        let link = link_with(Settings { timeout: Duration::from_secs(20), ..settings(&cluster.url()) }).await;
        let traffic = Traffic::start(&link, keys(), false);
        traffic.goes_on(500).await;
        for replica in [3, 0] {
            let cluster = cluster.clone();
            aside(move || cluster.promote(replica)).await;
            traffic.goes_on(500).await;
        }
        assert_eq!(traffic.end(), 0, "commands without an answer");
    });
}

#[test]
fn a_master_that_is_killed_takes_only_its_own_slots_with_it_until_its_replica_has_them() {
    let mut cluster = Arc::new(RedisCluster::start_with(&["--cluster-require-full-coverage", "no"]));
    on_a_worker(async {
        let link = link_over(&cluster).await;
        let (mut lost, mut kept): (Vec<_>, Vec<_>) = keys().into_iter().partition(|key| cluster.master_of(key) == 0);
        let mixed = Traffic::start(&link, [&mut lost, &mut kept].map(|keys| keys.pop().expect("a key")).into(), true);
        let watched = lost[0].clone();
        let lost_traffic = Traffic::start(&link, lost, true);
        let kept_traffic = Traffic::start(&link, kept, false);
        lost_traffic.goes_on(100).await;
        Arc::get_mut(&mut cluster).expect("nobody else has it").node(0).kill();
        comes("the loss is noticed", async || lost_traffic.unanswered.get() > 0).await;
        kept_traffic.goes_on(100).await;
        mixed.goes_on(100).await;

        let all = cluster.clone();
        aside(move || all.wait_for_other_master(&watched, 0)).await;
        lost_traffic.goes_on(100).await;
        let unanswered = lost_traffic.unanswered.get();
        lost_traffic.goes_on(500).await;
        assert_eq!(lost_traffic.end(), unanswered, "an error outlasts the fail-over");
        assert_eq!(kept_traffic.end(), 0, "others than the killed one's slots are not answered");
    });
}

/// A link over sentinels; servers and sentinels have passwords of their own.
async fn link_over_sentinels(sentinels: &Sentinels) -> (Settings, Link) {
    let settings = sentinel_settings(sentinels, "of-the-sentinels");
    let link = Link::new(&settings, &[SCRIPT], &Registry::new(1), 0);
    comes("the master answers", async || link.query(&pipeline(&[&["PING"]])).await.is_ok()).await;
    (settings, link)
}

fn sentinel_settings(sentinels: &Sentinels, password: &str) -> Settings {
    let url = sentinels.url().replacen("://", "://:of-the-servers@", 1);
    let mut settings = settings(&url);
    let Topology::Sentinel { login, .. } = &mut settings.server.topology else { panic!("{url}") };
    login.password = Some(password.into());
    settings
}

/// The port of the server that the link speaks to.
async fn port_of(link: &Link) -> Option<u16> {
    let said = link.query(&pipeline(&[&["CONFIG", "GET", "port"]])).await.ok()?;
    let [Value::Array(pair)] = &said[..] else { return None };
    let [_, Value::BulkString(port)] = &pair[..] else { return None };
    std::str::from_utf8(port).ok()?.parse().ok()
}

#[test]
fn a_link_follows_the_master_that_the_sentinels_name() {
    let mut sentinels = Arc::new(Sentinels::start_with(Some("of-the-servers"), Some("of-the-sentinels")));
    on_a_worker(async {
        let (settings, link) = link_over_sentinels(&sentinels).await;
        assert!(!link.is_cluster());
        assert_eq!(port_of(&link).await, Some(sentinels.servers()[0].port()));
        let traffic = Traffic::start(&link, vec!["count".into()], true);
        traffic.goes_on(50).await;

        let changes = settings.server.changes.count();
        let watched = sentinels.clone();
        let second = aside(move || watched.fail_over()).await;
        let port = sentinels.servers()[second].port();
        comes("the link is with the new master", async || port_of(&link).await == Some(port)).await;
        assert!(settings.server.changes.count() > changes);
        let masters = topology::masters(&settings.server, PATIENCE).await.expect("a master");
        assert_eq!(masters.iter().map(self::port).collect::<Vec<_>>(), [port]);
        traffic.goes_on(50).await;

        // The first has to follow before it can take over.
        let watched = sentinels.clone();
        let follows = move || watched.servers()[1 - second].ask::<String>(&["INFO", "replication"]);
        let follows = Arc::new(follows);
        comes("the first follows", async || {
            let follows = follows.clone();
            aside(move || follows()).await.is_ok_and(|said| said.contains("master_link_status:up"))
        })
        .await;
        drop(follows);
        // One of the sentinels goes with it.
        let all = Arc::get_mut(&mut sentinels).expect("nobody else has them");
        all.sentinel(0).kill();
        all.server(second).kill();
        let watched = sentinels.clone();
        let first = aside(move || watched.wait_for_other_master(second)).await;
        let port = sentinels.servers()[first].port();
        comes("the link is with the first again", async || port_of(&link).await == Some(port)).await;
        let unanswered = traffic.unanswered.get();
        traffic.goes_on(50).await;
        assert_eq!(traffic.end(), unanswered, "an error outlasts the fail-over");
    });
}

#[test]
fn a_master_that_works_well_is_left_when_the_sentinels_name_another() {
    let sentinels = Arc::new(Sentinels::start_with(Some("of-the-servers"), Some("of-the-sentinels")));
    on_a_worker(async {
        let (_, link) = link_over_sentinels(&sentinels).await;
        let port = sentinels.servers()[1].port();
        let watched = sentinels.clone();
        aside(move || {
            watched.servers()[1].ask::<()>(&["REPLICAOF", "NO", "ONE"]).expect("a second master");
            for sentinel in watched.sentinels() {
                sentinel.ask::<()>(&["SENTINEL", "REMOVE", MASTER]).expect("forgotten");
                let monitor = ["SENTINEL", "MONITOR", MASTER, "127.0.0.1", &port.to_string(), "2"];
                sentinel.ask::<()>(&monitor).expect("another master");
            }
        })
        .await;
        comes("the link is with the other", async || port_of(&link).await == Some(port)).await;
    });
}

#[test]
fn a_sentinel_that_was_left_behind_with_the_old_master_is_outvoted() {
    let sentinels = Arc::new(Sentinels::start_with(Some("of-the-servers"), Some("of-the-sentinels")));
    on_a_worker(async {
        let (settings, link) = link_over_sentinels(&sentinels).await;
        let ports = [0, 1].map(|number| sentinels.servers()[number].port());
        assert_eq!(port_of(&link).await, Some(ports[0]));
        let watched = sentinels.clone();
        aside(move || {
            watched.servers()[1].ask::<()>(&["REPLICAOF", "NO", "ONE"]).expect("a second master");
            // The first that is asked names the old one, which says that it is a master.
            for (sentinel, port) in watched.sentinels().iter().zip([ports[0], ports[1], ports[1]]) {
                sentinel.ask::<()>(&["SENTINEL", "REMOVE", MASTER]).expect("forgotten");
                let monitor = ["SENTINEL", "MONITOR", MASTER, "127.0.0.1", &port.to_string(), "2"];
                sentinel.ask::<()>(&monitor).expect("a master");
            }
        })
        .await;
        comes("the link is with the other", async || port_of(&link).await == Some(ports[1])).await;
        let masters = topology::masters(&settings.server, PATIENCE).await.expect("a master");
        assert_eq!(masters.iter().map(port).collect::<Vec<_>>(), [ports[1]]);
    });
}

#[test]
fn sentinels_that_say_nothing_are_not_waited_for() {
    let sentinels = Sentinels::start_with(Some("of-the-servers"), Some("of-the-sentinels"));
    on_a_worker(async {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let silent = silent.local_addr().map(|address| (address, silent)).expect("an address");
        let mut settings = sentinel_settings(&sentinels, "of-the-sentinels");
        let Topology::Sentinel { sentinels: places, .. } = &mut settings.server.topology else { unreachable!() };
        let dead = Endpoint::Tcp { host: "127.0.0.1".into(), port: silent.0.port() };
        *places = [&[dead.clone(), dead.clone(), dead][..], &places[..1]].concat();
        // Far longer than this test waits.
        let asked = tokio::time::timeout(PATIENCE, topology::masters(&settings.server, 100 * PATIENCE));
        let masters = asked.await.expect("no wait for those that say nothing").expect("a master");
        assert_eq!(masters.iter().map(port).collect::<Vec<_>>(), [sentinels.servers()[0].port()]);
    });
}

#[test]
fn sentinels_that_do_not_let_us_in_keep_the_link_down_and_say_why() {
    let sentinels = Sentinels::start_with(Some("of-the-servers"), Some("of-the-sentinels"));
    on_a_worker(async {
        let registry = Registry::new(1);
        let link = Link::new(&sentinel_settings(&sentinels, "wrong"), &[SCRIPT], &registry, 0);
        comes("it is told", async || registry.value("sidegate_redis_errors_total", &[("kind", "auth")]) > 1).await;
        assert!(!link.is_up());
    });
}
