//! What other tests stand on: that the servers they are given are what they are called.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use redis::{Connection, ErrorKind, RedisResult};
use sidegate::clock::instant;

use crate::redis_server::{RedisCluster, RedisServer, Sentinels};
use crate::relay::{Mode, Relay};

#[test]
fn a_cluster_moves_a_slot_and_survives_the_loss_of_a_master() {
    let mut cluster = RedisCluster::start();
    let key = "{tag}:key";
    let (slot, from) = (cluster.slot(key), cluster.master_of(key));
    assert!(from < 3 && cluster.url().matches(',').count() == 5);
    cluster.nodes()[from].ask::<()>(&["SET", key, "value"]).unwrap();

    let to = (from + 1) % 3;
    cluster.begin_move(slot, from, to);
    let absent = cluster.nodes()[from].ask::<()>(&["GET", "{tag}:absent"]).unwrap_err();
    assert_eq!(absent.code(), Some("ASK"));
    cluster.finish_move(slot, from, to);
    assert_eq!(cluster.nodes()[from].ask::<()>(&["GET", key]).unwrap_err().code(), Some("MOVED"));
    assert_eq!(cluster.nodes()[to].ask::<String>(&["GET", key]).unwrap(), "value");
    cluster.wait_until_well();
    assert_eq!(cluster.master_of(key), to);

    cluster.node(to).kill();
    let master = cluster.wait_for_other_master(key, to);
    assert_eq!(master, to + 3, "its replica");
    cluster.nodes()[master].ask::<()>(&["SET", key, "other"]).unwrap();
    cluster.node(to).restart();
    cluster.wait_until_well();
    cluster.promote(to);
    assert_eq!(
        (cluster.master_of(key), cluster.nodes()[to].ask::<String>(&["GET", key]).unwrap()),
        (to, "other".into())
    );
}

#[test]
fn sentinels_follow_the_loss_of_a_master_and_an_operators_wish() {
    let all = Sentinels::start_with(Some("of-servers"), Some("of-sentinels"));
    assert_eq!(all.master(), 0);
    assert_eq!(all.fail_over(), 1);
    // Nobody gets in without the password.
    let place = format!("redis://127.0.0.1:{}", all.sentinels()[0].port());
    let mut stranger = redis::Client::open(place).unwrap().get_connection().unwrap();
    assert!(redis::cmd("SENTINEL").arg("MASTERS").exec(&mut stranger).is_err());

    let mut all = Sentinels::start();
    all.server(0).kill();
    assert_eq!(all.wait_for_other_master(0), 1);
    all.servers()[1].ask::<()>(&["SET", "key", "value"]).unwrap();
}

/// A connection through a relay, that waits for half a second.
fn through(relay: &Relay) -> RedisResult<Connection> {
    let limit = Duration::from_millis(500);
    let connection = redis::Client::open(relay.url())?.get_connection_with_timeout(limit)?;
    connection.set_read_timeout(Some(limit))?;
    Ok(connection)
}

fn increment(connection: &mut Connection) -> RedisResult<u64> {
    redis::cmd("INCR").arg("n").query(connection)
}

#[test]
fn a_relay_counts_a_pipeline_as_one_trip_and_each_wait_as_another() {
    let server = RedisServer::start();
    let relay = Relay::to(server.port());
    let (mut one, mut two) = (through(&relay).unwrap(), through(&relay).unwrap());
    relay.forget();
    let mut pipeline = redis::Pipeline::new();
    pipeline.set("k", "v".repeat(100_000)).get("k").cmd("EVAL").arg("return {1,{2,'x'}}").arg(0);
    let (_, value, _): (String, String, (u64, (u64, String))) = pipeline.query(&mut one).unwrap();
    assert_eq!(value.len(), 100_000);
    assert_eq!([increment(&mut two).unwrap(), increment(&mut one).unwrap()], [1, 2]);
    let trips: Vec<_> = relay.trips().iter().map(|trip| (trip.connection, trip.names().join(" "))).collect();
    assert_eq!(trips, [(0, "SET GET EVAL".to_owned()), (1, "INCR".to_owned()), (0, "INCR".to_owned())]);
    assert!(relay.commands()[1].begins("get k") && !relay.commands()[1].begins("get kk"));
    assert_eq!((relay.connections(), relay.open()), (2, 2));

    relay.delay(Duration::from_millis(20), Duration::from_millis(20));
    let began = instant();
    increment(&mut one).unwrap();
    assert!(began.elapsed() >= Duration::from_millis(40));
    drop((one, two));
}

#[test]
fn a_relay_answers_with_errors_in_the_order_of_asking() {
    let server = RedisServer::start();
    let relay = Relay::to(server.port());
    let mut connection = through(&relay).unwrap();
    relay.turn(Mode::Fail { line: "-NOSCRIPT No matching script.", only: &["EVALSHA", "CLIENT TRACKING"], times: 2 });
    let mut pipeline = redis::Pipeline::new();
    pipeline.incr("n", 1).cmd("CLIENT").arg("TRACKING").arg("ON").incr("n", 1).cmd("EVALSHA").arg("x").arg(0);
    let packed = pipeline.get_packed_pipeline();
    let mut raw = TcpStream::connect(("127.0.0.1", relay.port())).unwrap();
    raw.write_all(&packed).unwrap();
    let expected = b":1\r\n-NOSCRIPT No matching script.\r\n:2\r\n-NOSCRIPT No matching script.\r\n";
    let mut said = vec![0; expected.len()];
    raw.read_exact(&mut said).unwrap();
    assert_eq!(said, expected);
    // It was twice: from now on the server itself is asked.
    let tracking = redis::cmd("CLIENT").arg("TRACKING").arg("OFF").query::<String>(&mut connection);
    assert_eq!(tracking.unwrap(), "OK");
    relay.turn(Mode::fail("-READONLY You can't write against a read only replica."));
    assert_eq!(increment(&mut connection).unwrap_err().code(), Some("READONLY"));
    relay.turn(Mode::Pass);
    assert_eq!(increment(&mut connection).unwrap(), 3);
}

#[test]
fn a_relay_cuts_garbles_swallows_resets_and_refuses() {
    let server = RedisServer::start();
    let relay = Relay::to(server.port());
    let mut connection = through(&relay).unwrap();
    increment(&mut connection).unwrap();

    relay.turn(Mode::Cut(100));
    redis::cmd("SET").arg("long").arg("x".repeat(1000)).exec(&mut connection).unwrap();
    let cut = redis::cmd("GET").arg("long").query::<String>(&mut connection).unwrap_err();
    assert!(cut.is_io_error() && !cut.is_timeout(), "{cut:?}");

    relay.turn(Mode::Pass);
    let mut connection = through(&relay).unwrap();
    relay.turn(Mode::Garbage);
    assert_eq!(increment(&mut connection).unwrap_err().kind(), ErrorKind::Parse);

    relay.turn(Mode::Pass);
    let mut connection = through(&relay).unwrap();
    relay.turn(Mode::Freeze);
    assert!(increment(&mut connection).unwrap_err().is_timeout());
    assert!(TcpStream::connect(("127.0.0.1", relay.port())).is_ok());
    relay.turn(Mode::Pass);
    assert!(increment(&mut connection).is_err(), "it stays dead");

    let mut connection = through(&relay).unwrap();
    relay.turn(Mode::Refuse);
    let refused = TcpStream::connect(("127.0.0.1", relay.port())).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    assert_eq!(increment(&mut connection).unwrap(), 2, "who is in stays in, and nothing was done that was not passed");
    let mut raw = {
        relay.turn(Mode::Pass);
        TcpStream::connect(("127.0.0.1", relay.port())).unwrap()
    };
    raw.write_all(b"PING\r\n").unwrap();
    raw.read_exact(&mut [0; 7]).unwrap();
    relay.reset_all();
    assert_eq!(raw.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    assert!(increment(&mut connection).is_err());
    assert_eq!(increment(&mut through(&relay).unwrap()).unwrap(), 3);
}

#[test]
fn a_cluster_may_stand_behind_relays() {
    let mut relays = Vec::new();
    let cluster = RedisCluster::announcing(&[], |port| {
        relays.push(Relay::to(port));
        relays.last().unwrap().port()
    });
    let master = cluster.master_of("k");
    let moved = cluster.nodes()[(master + 1) % 3].ask::<()>(&["GET", "k"]).unwrap_err();
    assert!(moved.to_string().contains(&relays[master].port().to_string()), "{moved}");
    let sent = relays[master].open();
    assert!(sent > 0, "its replica comes through the relay");
}
