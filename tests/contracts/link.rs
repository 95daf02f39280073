//! What a link to Redis promises, whatever happens to Redis.

use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::{Pipeline, Value};
use sidegate::clock::instant;
use sidegate::redis_pool::{CONNECTING, DOWN, Link, Settings, UP};
use sidegate::telemetry::registry::Registry;

use crate::redis_server::RedisServer;
use crate::relay::{Mode, Relay};
use crate::{becomes, link, on_a_worker, settings};

const SCRIPT: &str = "return redis.call('INCR', KEYS[1])";

fn ping() -> Pipeline {
    let mut pipeline = Pipeline::new();
    pipeline.cmd("PING");
    pipeline
}

fn increment(pipeline: &mut Pipeline, key: &str) {
    pipeline.cmd("EVALSHA").arg(redis::Script::new(SCRIPT).get_hash()).arg(1).arg(key);
}

#[test]
fn each_command_has_its_own_value_and_one_that_fails_spoils_no_other() {
    on_a_worker(async {
        let server = RedisServer::start();
        let link = link(&server, &[]).await;
        let mut pipeline = Pipeline::new();
        pipeline.set("text", "x").cmd("LPOP").arg("text").get("text").ignore();
        let values = link.query(&pipeline).await.unwrap();
        assert!(
            matches!(&values[..], [Value::Okay, Value::ServerError(_), Value::BulkString(text)] if text == b"x"),
            "{values:?}"
        );
        assert!(link.is_up());
    });
}

#[test]
fn a_transaction_is_refused_unsent() {
    on_a_worker(async {
        let server = RedisServer::start();
        let link = link(&server, &[]).await;
        let mut pipeline = Pipeline::new();
        pipeline.atomic().set("text", "x");
        assert_eq!(link.query(&pipeline).await, Err("refused"));
        assert_eq!(link.shards()[0].query(&pipeline).await, Err("refused"));
        assert!(link.is_up());
        assert!(!server.ask::<bool>(&["EXISTS", "text"]).unwrap());
    });
}

#[test]
fn a_trip_has_one_time_out_whatever_is_asked_again() {
    on_a_worker(async {
        let server = RedisServer::start();
        let relay = Relay::to(server.port());
        let settings = Settings { timeout: Duration::from_secs(1), ..Settings::of_url(&relay.url()).unwrap() };
        let registry = Registry::new(1);
        let link = Link::new(&settings, &[SCRIPT], &registry, 0);
        becomes(&link, true).await;
        let mut pipeline = Pipeline::new();
        increment(&mut pipeline, "scripted");
        server.ask::<()>(&["SCRIPT", "FLUSH"]).unwrap();
        // Each answer comes in time; the second, that the script is loaded, is too late for the whole.
        relay.delay(Duration::ZERO, Duration::from_millis(600));
        assert_eq!(link.query(&pipeline).await, Err("timeout"));
        assert_eq!(registry.value("sidegate_redis_errors_total", &[("kind", "timeout")]), 1);
        assert!(link.is_up(), "Redis is slow, not away");
        relay.delay(Duration::ZERO, Duration::ZERO);
        assert_eq!(link.query(&pipeline).await.unwrap(), [Value::Int(1)]);
    });
}

#[test]
fn a_script_that_redis_forgot_is_loaded_again_and_nothing_is_done_twice() {
    on_a_worker(async {
        let server = RedisServer::start();
        let link = link(&server, &[SCRIPT]).await;
        for turn in 1..=3 {
            let mut pipeline = Pipeline::new();
            pipeline.cmd("SCRIPT").arg("FLUSH").incr("plain", 1);
            increment(&mut pipeline, "scripted");
            pipeline.cmd("ECHO").arg("last");
            let values = link.query(&pipeline).await.unwrap();
            assert_eq!(values[1..3], [Value::Int(turn), Value::Int(turn)]);
            assert_eq!(values[3], Value::BulkString(b"last".into()));
        }
    });
}

#[test]
fn redis_killed_and_back_is_noticed_and_recovered_from_by_itself() {
    on_a_worker(async {
        let mut server = RedisServer::start();
        let registry = Registry::new(1);
        let link = Link::new(&settings(&server), &[SCRIPT], &registry, 0);
        assert_eq!(link.shared_state().load(Ordering::Relaxed), CONNECTING);
        assert_eq!(link.query(&ping()).await, Err("down"));
        becomes(&link, true).await;
        for _ in 0..3 {
            assert!(link.query(&ping()).await.is_ok());
            assert_eq!(
                (link.shared_state().load(Ordering::Relaxed), registry.value("sidegate_redis_up", &[])),
                (UP, 1)
            );
            server.kill();
            // Nobody asks: the task notices.
            becomes(&link, false).await;
            assert_eq!(link.query(&ping()).await, Err("down"));
            assert_eq!(
                (link.shared_state().load(Ordering::Relaxed), registry.value("sidegate_redis_up", &[])),
                (DOWN, 0)
            );
            server.restart();
            becomes(&link, true).await;
            let mut pipeline = Pipeline::new();
            increment(&mut pipeline, "k");
            assert_eq!(link.query(&pipeline).await.unwrap(), [Value::Int(1)]);
        }
    });
}

#[test]
fn a_request_on_a_connection_that_broke_fails_at_once() {
    on_a_worker(async {
        let mut server = RedisServer::start();
        let link = link(&server, &[]).await;
        server.kill();
        let asked = instant();
        let word = link.query(&ping()).await.unwrap_err();
        assert!(asked.elapsed() < Duration::from_millis(500), "{:?}", asked.elapsed());
        assert!(["disconnected", "down"].contains(&word), "{word}");
        assert!(!link.is_up());
    });
}

#[test]
fn one_time_out_is_waited_for_once_by_all_who_wait_and_never_after() {
    on_a_worker(async {
        let server = RedisServer::start();
        let mut settings = settings(&server);
        settings.timeout = Duration::from_millis(200);
        let registry = Registry::new(1);
        let link = Link::new(&settings, &[], &registry, 0);
        becomes(&link, true).await;
        // Stands still, and keeps its connections.
        let pause = redis::cmd("CLIENT").arg("PAUSE").arg(1500).to_owned();
        pause.exec(&mut server.client().get_connection().unwrap()).unwrap();

        let asked = instant();
        let (first, second) = (link.clone(), link.clone());
        let first = tokio::task::spawn_local(async move { first.query(&ping()).await });
        tokio::time::sleep(Duration::from_millis(120)).await;
        let second = tokio::task::spawn_local(async move { second.query(&ping()).await });
        assert_eq!((first.await.unwrap(), second.await.unwrap()), (Err("timeout"), Err("down")));
        assert!(asked.elapsed() < Duration::from_millis(300), "{:?}", asked.elapsed());

        for _ in 0..1_000 {
            assert_eq!(link.query(&ping()).await, Err("down"));
        }
        assert!(asked.elapsed() < Duration::from_millis(500), "{:?}", asked.elapsed());
        assert_eq!(registry.value("sidegate_redis_errors_total", &[("kind", "down")]), 1_001);
        becomes(&link, true).await;
        assert!(link.query(&ping()).await.is_ok());
    });
}

#[test]
fn what_is_sent_without_waiting_arrives_and_is_bounded() {
    on_a_worker(async {
        let server = RedisServer::start();
        let registry = Registry::new(1);
        let link = Link::new(&settings(&server), &[], &registry, 0);
        becomes(&link, true).await;
        for _ in 0..1_500 {
            let mut pipeline = Pipeline::new();
            pipeline.incr("sent", 1);
            link.send(pipeline);
        }
        assert_eq!(registry.value("sidegate_redis_sends_dropped_total", &[]), 1_500 - 1_024);
        let mut pipeline = Pipeline::new();
        pipeline.get("sent");
        let arrived = async {
            while link.query(&pipeline).await.unwrap() != [Value::BulkString(b"1024".into())] {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), arrived).await.expect("all of them arrive");
    });
}

#[test]
fn the_last_clone_closes_the_connections() {
    on_a_worker(async {
        let server = RedisServer::start();
        let registry = Registry::new(1);
        let mut settings = settings(&server);
        settings.connections = 3;
        let link = Link::new(&settings, &[], &registry, 0);
        let mut control = server.client().get_connection().unwrap();
        let mut clients = || redis::cmd("CLIENT").arg("LIST").query::<String>(&mut control).unwrap().lines().count();
        for _ in 0..500 {
            if registry.value("sidegate_redis_up", &[]) == 3 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(clients(), 1 + 3);
        drop(link);
        assert_eq!(registry.value("sidegate_redis_up", &[]), 0);
        for _ in 0..500 {
            if clients() == 1 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(clients(), 1);
    });
}

#[test]
fn a_password_is_used_and_a_wrong_one_keeps_the_link_down() {
    on_a_worker(async {
        let server = RedisServer::start();
        let mut control = server.client().get_connection().unwrap();
        redis::cmd("CONFIG").arg("SET").arg("requirepass").arg("hunter2").exec(&mut control).unwrap();
        for (password, state) in [("hunter2", UP), ("wrong", DOWN)] {
            let mut settings = settings(&server);
            settings.server.login.password = Some(password.into());
            let registry = Registry::new(1);
            let link = Link::new(&settings, &[], &registry, 0);
            for _ in 0..500 {
                if link.shared_state().load(Ordering::Relaxed) != CONNECTING {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert_eq!(link.shared_state().load(Ordering::Relaxed), state, "{password}");
            let refused = registry.value("sidegate_redis_errors_total", &[("kind", "auth")]);
            assert_eq!(refused > 0, state == DOWN);
        }
    });
}

#[test]
fn a_connection_has_as_long_to_come_about_as_the_configuration_says() {
    on_a_worker(async {
        let server = RedisServer::start();
        let registry = Registry::new(1);
        let silent = |connect_timeout| {
            let relay = Relay::to(server.port());
            relay.turn(Mode::Freeze);
            // Which database is meant is said before a connection is tried with what a request may wait for.
            let url = format!("redis://127.0.0.1:{}/1", relay.port());
            let settings = Settings { connect_timeout, ..Settings::of_url(&url).unwrap() };
            let link = Link::new(&settings, &[], &registry, 0);
            (relay, link)
        };
        let tried = async |relay: &Relay, times: usize| {
            while relay.connections() < times {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let (patient, _patient) = silent(Duration::from_secs(3600));
        tried(&patient, 1).await;
        let (hasty, _hasty) = silent(Duration::from_millis(50));
        tried(&hasty, 5).await;
        assert_eq!(patient.connections(), 1, "still waits for the first");
    });
}
