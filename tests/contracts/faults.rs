//! What each thing that Redis says does to a link, with real servers that say it.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis::{Pipeline, Value};
use sidegate::redis_pool::{Link, Settings};
use sidegate::telemetry::registry::Registry;

use crate::redis_server::{RedisServer, free_port};
use crate::relay::{Mode, Relay};
use crate::{becomes, on_a_worker, settings};

const SCRIPT: &str = "return redis.call('SET', KEYS[1], ARGV[1])";

fn errors(registry: &Registry, kind: &str) -> u64 {
    registry.value("sidegate_redis_errors_total", &[("kind", kind)])
}

/// Sends commands; says the code of each error among the answers, and `-` for each other answer.
async fn codes(link: &Link, commands: &[&str]) -> Vec<String> {
    let mut pipeline = Pipeline::new();
    for command in commands {
        let command = command.split(' ').fold(redis::Cmd::new(), |mut command, word| command.arg(word).to_owned());
        pipeline.add_command(command);
    }
    let code = |value: Value| match value {
        Value::ServerError(error) => error.code().to_owned(),
        _ => "-".to_owned(),
    };
    link.query(&pipeline).await.unwrap().into_iter().map(code).collect()
}

/// What is logged on this thread.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// From now on, for as long as the guard lives.
    pub fn here() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let written = log.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || written.clone()).with_ansi(false).finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    /// The lines that contain `words`.
    pub fn lines(&self, words: &str) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| line.contains(words)).map(str::to_owned).collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn until(what: &str, mut met: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if met() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("not within ten seconds: {what}");
}

#[test]
fn a_command_that_fails_alone_leaves_the_link_up_and_is_counted() {
    on_a_worker(async {
        let server = RedisServer::start();
        let registry = Registry::new(1);
        let link = Link::new(&settings(&server), &[SCRIPT], &registry, 0);
        becomes(&link, true).await;
        assert_eq!(
            codes(&link, &["SET text x", "LPOP text", "NOSUCH", "GET text"]).await,
            ["-", "WRONGTYPE", "ERR", "-"]
        );

        server.ask::<()>(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
        assert_eq!(codes(&link, &["SET text y", "GET text"]).await, ["OOM", "-"]);
        let sha = redis::Script::new(SCRIPT).get_hash().to_owned();
        assert_eq!(codes(&link, &[&format!("EVALSHA {sha} 1 text z")]).await, ["OOM"]);
        server.ask::<()>(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();

        server.ask::<()>(&["CONFIG", "SET", "min-replicas-to-write", "1"]).unwrap();
        assert_eq!(codes(&link, &["SET text y", "GET text"]).await, ["NOREPLICAS", "-"]);
        server.ask::<()>(&["CONFIG", "SET", "min-replicas-to-write", "0"]).unwrap();

        server.ask::<()>(&["ACL", "SETUSER", "default", "-lpush"]).unwrap();
        assert_eq!(codes(&link, &["LPUSH list x", "GET text"]).await, ["NOPERM", "-"]);
        let counted = ["wrongtype", "refused", "oom", "noreplicas", "noperm"].map(|kind| errors(&registry, kind));
        assert_eq!((counted, link.is_up()), ([1, 1, 2, 1, 1], true));
        // One connection, all the time.
        let list = server.ask::<String>(&["CLIENT", "LIST"]).unwrap();
        assert_eq!(
            list.lines().filter(|line| line.contains(" id=4 ") || line.starts_with("id=4 ")).count(),
            1,
            "{list}"
        );
    });
}

#[test]
fn a_master_that_becomes_a_replica_is_unusable_until_it_is_one_again() {
    on_a_worker(async {
        // What it is sent is not to stay behind in a file.
        let server = RedisServer::start_with(&["--repl-diskless-load", "swapdb"]);
        let other = RedisServer::start();
        let registry = Registry::new(1);
        let link = Link::new(&settings(&server), &[SCRIPT], &registry, 0);
        becomes(&link, true).await;
        server.ask::<()>(&["REPLICAOF", "127.0.0.1", &other.port().to_string()]).unwrap();
        // What can be answered is: the breaker opens behind it.
        assert_eq!(codes(&link, &["SET k v", "GET k"]).await, ["READONLY", "-"]);
        assert!(!link.is_up());
        // It answers every PING, and is tried in vain all the same.
        until("two trials", || errors(&registry, "readonly") >= 3).await;
        assert!(!link.is_up());
        server.ask::<()>(&["REPLICAOF", "NO", "ONE"]).unwrap();
        becomes(&link, true).await;
        assert_eq!(codes(&link, &["SET k v"]).await, ["-"]);
    });
}

#[test]
fn a_replica_that_lost_its_master_is_unusable() {
    on_a_worker(async {
        let server = RedisServer::start_with(&["--replica-serve-stale-data", "no"]);
        let registry = Registry::new(1);
        let link = Link::new(&settings(&server), &[], &registry, 0);
        becomes(&link, true).await;
        server.ask::<()>(&["REPLICAOF", "127.0.0.1", &free_port().to_string()]).unwrap();
        assert_eq!(codes(&link, &["GET k"]).await, ["MASTERDOWN"]);
        assert!(!link.is_up());
        server.ask::<()>(&["REPLICAOF", "NO", "ONE"]).unwrap();
        becomes(&link, true).await;
    });
}

#[test]
fn a_redis_that_runs_a_slow_script_is_unusable_until_it_is_done() {
    on_a_worker(async {
        let server = RedisServer::start_with(&["--busy-reply-threshold", "50"]);
        let registry = Registry::new(1);
        let link = Link::new(&settings(&server), &[SCRIPT], &registry, 0);
        becomes(&link, true).await;
        let mut slow = server.client().get_connection().unwrap();
        let slow = std::thread::spawn(move || redis::cmd("EVAL").arg("while true do end").arg(0).exec(&mut slow));
        let mut heard = Vec::new();
        while link.is_up() {
            heard = codes(&link, &["GET k"]).await;
        }
        assert_eq!(heard, ["BUSY"]);
        assert!(errors(&registry, "busy") > 0);
        redis::cmd("SCRIPT").arg("KILL").exec(&mut server.client().get_connection().unwrap()).unwrap();
        assert!(slow.join().unwrap().is_err());
        becomes(&link, true).await;
    });
}

#[test]
fn a_redis_that_loads_its_data_is_unusable_until_it_has() {
    on_a_worker(async {
        let file = format!("sidegate-{}.rdb", free_port());
        let server = RedisServer::start_with(&[
            "--enable-debug-command",
            "yes",
            "--dbfilename",
            &file,
            "--key-load-delay",
            "2000",
            "--loading-process-events-interval-bytes",
            "1024",
        ]);
        server.ask::<()>(&["DEBUG", "POPULATE", "500", "k", "100"]).unwrap();
        let registry = Registry::new(1);
        let link = Link::new(&settings(&server), &[SCRIPT], &registry, 0);
        becomes(&link, true).await;
        let mut loads = server.client().get_connection().unwrap();
        let loads = std::thread::spawn(move || redis::cmd("DEBUG").arg("RELOAD").exec(&mut loads));
        let mut heard = Vec::new();
        while link.is_up() {
            heard = codes(&link, &["GET k:1"]).await;
        }
        assert_eq!(heard, ["LOADING"]);
        assert!(errors(&registry, "loading") > 0);
        loads.join().unwrap().unwrap();
        becomes(&link, true).await;
        drop(server);
        let _ = std::fs::remove_file(std::path::Path::new("/tmp").join(file));
    });
}

#[test]
fn a_redis_that_takes_no_more_clients_is_away_until_it_does() {
    on_a_worker(async {
        let server = RedisServer::start();
        let mut control = server.client().get_connection().unwrap();
        let mut limit = |clients: u32| {
            redis::cmd("CONFIG").arg("SET").arg("maxclients").arg(clients).exec(&mut control).unwrap();
        };
        limit(1);
        let registry = Registry::new(1);
        let link = Link::new(&settings(&server), &[SCRIPT], &registry, 0);
        // A connection that is closed before we spoke may be found closed before the reason is read: that is tried again.
        until("a refusal", || errors(&registry, "maxclients") > 0).await;
        assert!(!link.is_up());
        limit(100);
        becomes(&link, true).await;
    });
}

#[test]
fn a_reply_that_is_cut_or_is_none_costs_the_connection_and_no_more() {
    on_a_worker(async {
        let server = RedisServer::start();
        let relay = Relay::to(server.port());
        let settings = Settings { timeout: Duration::from_secs(2), ..Settings::of_url(&relay.url()).unwrap() };
        server.ask::<()>(&["SET", "k", "a longer value"]).unwrap();
        let mut pipeline = Pipeline::new();
        pipeline.get("k");
        for mode in [Mode::Cut(10), Mode::Garbage] {
            let registry = Registry::new(1);
            let link = Link::new(&settings, &[], &registry, 0);
            becomes(&link, true).await;
            relay.turn(mode.clone());
            let word = link.query(&pipeline).await.unwrap_err();
            assert!(["disconnected", "protocol"].contains(&word), "{mode:?}: {word}");
            assert!(!link.is_up());
            relay.turn(Mode::Pass);
            becomes(&link, true).await;
            assert_eq!(link.query(&pipeline).await.unwrap(), [Value::BulkString(b"a longer value".into())]);
        }
    });
}

#[test]
fn a_connection_that_is_missing_beside_others_is_said_once() {
    let (log, _here) = Log::here();
    on_a_worker(async {
        let server = RedisServer::start();
        let mut settings = settings(&server);
        settings.connections = 2;
        let mut control = server.client().get_connection().unwrap();
        // One of the two is this.
        redis::cmd("CONFIG").arg("SET").arg("maxclients").arg(2).exec(&mut control).unwrap();
        let registry = Registry::new(1);
        let link = Link::new(&settings, &[], &registry, 0);
        becomes(&link, true).await;
        // It is also found closed, at times, before the reason is read.
        let refused = || errors(&registry, "maxclients") + errors(&registry, "disconnected");
        until("it is tried again and again", || refused() >= 6).await;
        assert!(link.is_up() && registry.value("sidegate_redis_up", &[]) == 1);
        let said = log.lines("a connection to Redis is missing");
        let of_reason = |word: &str| said.iter().filter(|line| line.contains(word)).count();
        assert!((1..=2).contains(&said.len()), "{said:?}");
        assert!(of_reason("maxclients") <= 1 && of_reason("disconnected") <= 1, "{said:?}");
    });
}

#[test]
fn scripts_that_never_stay_are_asked_for_once_more_and_fail_alone() {
    on_a_worker(async {
        let server = RedisServer::start();
        let relay = Relay::to(server.port());
        let settings = Settings { timeout: Duration::from_secs(2), ..Settings::of_url(&relay.url()).unwrap() };
        let registry = Registry::new(1);
        let link = Link::new(&settings, &[SCRIPT], &registry, 0);
        becomes(&link, true).await;
        relay.turn(Mode::fail_only("-NOSCRIPT No matching script.", &["EVALSHA"]));
        relay.forget();
        let script = format!("EVALSHA {} 1 k v", redis::Script::new(SCRIPT).get_hash());
        assert_eq!(codes(&link, &[&script, "GET k"]).await, ["NOSCRIPT", "-"]);
        assert_eq!((errors(&registry, "noscript"), link.is_up()), (1, true));
        assert_eq!(relay.commands().iter().filter(|command| command.name() == "EVALSHA").count(), 2);
    });
}

#[test]
fn what_nobody_waits_for_is_bounded_by_its_bytes_too() {
    on_a_worker(async {
        let server = RedisServer::start();
        let mut settings = settings(&server);
        settings.max_send_bytes = 64 << 10;
        let registry = Registry::new(1);
        let link = Link::new(&settings, &[], &registry, 0);
        becomes(&link, true).await;
        let (key, value) = ("sent", "x".repeat(10 << 10));
        for turn in 1..=3 {
            for _ in 0..10 {
                let mut pipeline = Pipeline::new();
                pipeline.cmd("APPEND").arg(key).arg(&value);
                link.send(pipeline);
            }
            assert_eq!(registry.value("sidegate_redis_sends_dropped_total", &[]), 4 * turn);
            // Room again, once they are answered.
            let all = 6 * turn * value.len() as u64;
            let arrived = async {
                while server.ask::<u64>(&["STRLEN", key]).unwrap() != all {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(60), arrived).await.expect("six of ten arrive");
            assert_eq!(codes(&link, &["PING"]).await, ["-"]);
        }
    });
}

#[test]
fn a_fault_that_hits_every_request_is_one_line_in_the_log_and_names_no_secret() {
    let (log, _here) = Log::here();
    on_a_worker(async {
        let mut server = RedisServer::start();
        server.ask::<()>(&["ACL", "SETUSER", "app", "on", ">hunter2", "~*", "&*", "+@all"]).unwrap();
        let mut settings = settings(&server);
        let login = &mut settings.server.login;
        (login.user, login.password) = (Some("app".into()), Some("hunter2".into()));
        let registry = Registry::new(1);
        let link = Link::new(&settings, &[], &registry, 0);
        becomes(&link, true).await;
        server.ask::<()>(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
        for _ in 0..1_000 {
            assert_eq!(codes(&link, &["SET k v", "LPOP k"]).await, ["OOM", "-"]);
        }
        assert_eq!(errors(&registry, "oom"), 1_000);
        let said = log.lines("Redis fails commands");
        assert!(said.len() == 1 && said[0].contains("kind=\"oom\"") && said[0].contains("times=1"), "{said:?}");

        server.kill();
        becomes(&link, false).await;
        let ping = redis::pipe().cmd("PING").to_owned();
        for _ in 0..1_000 {
            assert_eq!(link.query(&ping).await, Err("down"));
        }
        until("two trials", || errors(&registry, "unreachable") >= 2).await;
        assert_eq!(log.lines("Redis is away").len(), 1, "{:?}", log.lines(""));
        // Without its user: refused for another reason, and still no line of its own.
        server.restart();
        until("a refusal", || errors(&registry, "auth") > 0).await;
        assert_eq!(log.lines("Redis").len(), 3, "{:?}", log.lines(""));
        assert!(log.lines("hunter2").is_empty());
    });
}
