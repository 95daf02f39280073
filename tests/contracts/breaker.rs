//! When the breaker of an endpoint opens, what that does to those who wait, and how it closes again.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use redis::{Pipeline, Value};
use sidegate::redis_pool::{Link, Settings};
use sidegate::telemetry::registry::Registry;

use crate::redis_server::RedisServer;
use crate::relay::{Mode, Relay};
use crate::{becomes, on_a_worker, settings};

const CLOSED: u64 = 0;
const HALF_OPEN: u64 = 1;
const OPEN: u64 = 2;

fn ping() -> Pipeline {
    let mut pipeline = Pipeline::new();
    pipeline.cmd("PING");
    pipeline
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

fn signal(server: &RedisServer, signal: i32) {
    assert_eq!(unsafe { libc::kill(server.pid(), signal) }, 0);
}

fn errors(registry: &Registry, kind: &str) -> u64 {
    registry.value("sidegate_redis_errors_total", &[("kind", kind)])
}

#[test]
fn time_outs_in_a_row_open_it_and_an_answer_between_them_starts_the_count_anew() {
    on_a_worker(async {
        let server = RedisServer::start();
        let mut settings = settings(&server);
        settings.timeout = Duration::from_millis(100);
        settings.breaker.failures = 3;
        let registry = Registry::new(1);
        let link = Link::new(&settings, &[], &registry, 0);
        becomes(&link, true).await;
        // Stands still, and keeps its connections.
        let stop = || signal(&server, libc::SIGSTOP);
        let go_on = || signal(&server, libc::SIGCONT);

        stop();
        for _ in 0..2 {
            assert_eq!(link.query(&ping()).await, Err("timeout"));
            assert!(link.is_up());
        }
        go_on();
        assert!(link.query(&ping()).await.is_ok());
        stop();
        for _ in 0..2 {
            assert_eq!(link.query(&ping()).await, Err("timeout"));
            assert!(link.is_up());
        }
        assert_eq!(link.query(&ping()).await, Err("timeout"));
        assert!(!link.is_up());
        assert_eq!((errors(&registry, "timeout"), errors(&registry, "down")), (5, 0));
        assert_eq!(link.query(&ping()).await, Err("down"));
        go_on();
        becomes(&link, true).await;
    });
}

#[test]
fn a_lost_connection_goes_alone_and_the_last_of_them_opens_it_whatever_the_threshold() {
    on_a_worker(async {
        let mut server = RedisServer::start();
        let mut settings = settings(&server);
        (settings.connections, settings.breaker.failures) = (3, 1_000);
        let registry = Registry::new(1);
        let link = Link::new(&settings, &[], &registry, 0);
        let up = || registry.value("sidegate_redis_up", &[]);
        until("three connections", || up() == 3).await;

        let list = server.ask::<String>(&["CLIENT", "LIST"]).unwrap();
        let field =
            |line: &str, name: &str| line.split(' ').find_map(|field| field.strip_prefix(name).map(str::to_owned));
        let first = list.lines().find(|line| field(line, "cmd=").as_deref() == Some("ping")).unwrap();
        server.ask::<()>(&["CLIENT", "KILL", "ID", &field(first, "id=").unwrap()]).unwrap();
        let mut lost = false;
        until("the lost one is replaced", || {
            assert!(link.is_up());
            lost |= up() == 2;
            lost && up() == 3
        })
        .await;
        assert!(link.query(&ping()).await.is_ok());
        server.kill();
        becomes(&link, false).await;
        assert_eq!(up(), 0);
    });
}

#[test]
fn a_connection_that_is_dead_beside_one_that_lives_goes_alone() {
    on_a_worker(async {
        let server = RedisServer::start();
        let relay = Relay::to(server.port());
        let mut settings = Settings { timeout: Duration::from_millis(200), ..Settings::of_url(&relay.url()).unwrap() };
        (settings.connections, settings.breaker.failures) = (2, 3);
        let registry = Registry::new(1);
        let link = Link::new(&settings, &[], &registry, 0);
        let up = || registry.value("sidegate_redis_up", &[]);
        until("two connections", || up() == 2).await;
        relay.turn(Mode::Freeze);
        assert_eq!(link.query(&ping()).await, Err("timeout"));
        relay.turn(Mode::Pass);
        // The other is asked every other time, and answers.
        let (mut late, mut row) = (1, 0);
        while row < 20 {
            match link.query(&ping()).await {
                Ok(_) => row += 1,
                Err(word) => {
                    assert_eq!((word, link.is_up()), ("timeout", true));
                    (late, row) = (late + 1, 0);
                }
            }
            assert!(late <= 3, "it goes on costing a time-out");
        }
        until("the dead one is replaced", || up() == 2).await;
    });
}

/// A port that leads to `server`, and from it no faster than 4 KiB in 4 ms.
fn narrow(server: &RedisServer) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (own, port) = (listener.local_addr().expect("an address").port(), server.port());
    std::thread::spawn(move || {
        while let Ok((mut near, _)) = listener.accept() {
            let Ok(mut far) = TcpStream::connect(("127.0.0.1", port)) else { return };
            let (mut from, mut to) = (near.try_clone().expect("a clone"), far.try_clone().expect("a clone"));
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            std::thread::spawn(move || {
                let mut some = [0; 4096];
                while let Ok(length @ 1..) = far.read(&mut some) {
                    if near.write_all(&some[..length]).is_err() {
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(4));
                }
            });
        }
    });
    own
}

#[test]
fn who_is_late_while_bytes_come_goes_on_alone() {
    on_a_worker(async {
        let server = RedisServer::start();
        let () = server.ask(&["SET", "large", &"x".repeat(2 << 20)]).expect("SET");
        let mut settings = Settings::of_url(&format!("redis://127.0.0.1:{}", narrow(&server))).expect("a URL");
        settings.timeout = Duration::from_millis(200);
        let registry = Registry::new(1);
        let link = Link::new(&settings, &[], &registry, 0);
        becomes(&link, true).await;
        let mut large = Pipeline::new();
        large.cmd("GET").arg("large");
        // Two seconds' worth.
        assert_eq!(link.query(&large).await, Err("timeout"));
        assert!(link.is_up(), "its connection works");
        assert_eq!(link.query(&ping()).await, Err("timeout"), "it is behind the large one still");
        assert!(link.is_up());
        let mut answered = false;
        for _ in 0..100 {
            answered = link.query(&ping()).await.is_ok();
            if answered {
                break;
            }
        }
        assert!(answered && errors(&registry, "disconnected") == 0, "over the same connection");
        assert_eq!(registry.value("sidegate_redis_up", &[]), 1);
    });
}

#[test]
fn an_endpoint_that_is_late_loses_all_its_connections_at_once_and_frees_who_waits_on_them() {
    on_a_worker(async {
        let server = RedisServer::start();
        let mut settings = settings(&server);
        (settings.connections, settings.timeout) = (2, Duration::from_millis(300));
        let registry = Registry::new(1);
        let link = Link::new(&settings, &[], &registry, 0);
        until("two connections", || registry.value("sidegate_redis_up", &[]) == 2).await;
        server.ask::<()>(&["CLIENT", "PAUSE", "60000"]).unwrap();
        // One after the other, on either connection.
        let (first, second) = (link.clone(), link.clone());
        let first = tokio::task::spawn_local(async move { first.query(&ping()).await });
        tokio::time::sleep(Duration::from_millis(150)).await;
        let second = tokio::task::spawn_local(async move { second.query(&ping()).await });
        assert_eq!((first.await.unwrap(), second.await.unwrap()), (Err("timeout"), Err("down")));
        assert_eq!(registry.value("sidegate_redis_up", &[]), 0);
    });
}

#[test]
fn its_state_is_shown_for_each_endpoint_for_as_long_as_there_is_one() {
    on_a_worker(async {
        let server = RedisServer::start();
        let relay = Relay::to(server.port());
        let settings = Settings { timeout: Duration::from_secs(2), ..Settings::of_url(&relay.url()).unwrap() };
        // The worker that is worst off is shown.
        let registry = Registry::new(2);
        let link = Link::new(&settings, &[], &registry, 0);
        let endpoint = format!("127.0.0.1:{}", relay.port());
        let state = || registry.value("sidegate_redis_breaker_state", &[("endpoint", &endpoint)]);
        becomes(&link, true).await;
        assert_eq!(state(), CLOSED);
        relay.turn(Mode::Refuse);
        relay.reset_all();
        becomes(&link, false).await;
        until("open", || state() == OPEN).await;
        // A trial that hangs.
        relay.turn(Mode::Freeze);
        until("half-open", || state() == HALF_OPEN).await;
        let other = Link::new(&settings, &[], &registry, 1);
        relay.turn(Mode::Pass);
        becomes(&link, true).await;
        becomes(&other, true).await;
        assert_eq!(state(), CLOSED);
        drop(link);
        assert!(registry.render().contains(&format!("sidegate_redis_breaker_state{{endpoint=\"{endpoint}\"}} 0")));
        drop(other);
        until("not shown", || !registry.render().contains("sidegate_redis_breaker_state{")).await;
    });
}

#[test]
fn a_peer_that_went_without_a_word_is_found_out_though_nobody_asks_and_found_again() {
    on_a_worker(async {
        let server = RedisServer::start();
        let relay = Relay::to(server.port());
        let settings = Settings { timeout: Duration::from_millis(200), ..Settings::of_url(&relay.url()).unwrap() };
        let registry = Registry::new(1);
        let link = Link::new(&settings, &[], &registry, 0);
        becomes(&link, true).await;
        relay.turn(Mode::Freeze);
        becomes(&link, false).await;
        assert_eq!(errors(&registry, "down"), 0);
        // Trials hang one after the other: none of them is a request's.
        until("two trials", || errors(&registry, "timeout") >= 3).await;
        assert!(!link.is_up());
        relay.turn(Mode::Pass);
        becomes(&link, true).await;
        assert_eq!(link.query(&ping()).await.unwrap(), [Value::SimpleString("PONG".into())]);
    });
}

#[test]
fn a_trial_is_one_connection_however_many_there_will_be() {
    on_a_worker(async {
        let server = RedisServer::start();
        let relay = Relay::to(server.port());
        relay.turn(Mode::Freeze);
        let mut settings = Settings { timeout: Duration::from_secs(2), ..Settings::of_url(&relay.url()).unwrap() };
        settings.connections = 8;
        let registry = Registry::new(1);
        let _link = Link::new(&settings, &[], &registry, 0);
        until("a trial", || relay.connections() > 0).await;
        until("its end", || errors(&registry, "timeout") > 0).await;
        assert_eq!(relay.connections(), 1);
        relay.turn(Mode::Pass);
        until("eight connections", || registry.value("sidegate_redis_up", &[]) == 8).await;
    });
}
