//! Bounds that the configuration sets take effect in the running process.

use redis::Commands as _;

use crate::harness::relay::{Mode, Relay};
use crate::harness::sidegate::command;
use crate::harness::{Configuration, Directory, Origin, RedisServer, Sidegate, until};

/// A record under two definitions: what is asked for of it, and how many values it may have, follows from `max_record`.
const TABLES: &str = r#"
[session.usual]
format = "json"
from = ["bearer"]

[session.large]
format = "json"
from = ["bearer"]
max_record = "1 MiB"

[[route]]
path = "/usual"
session = "usual"

[[route]]
path = "/large"
session = "large"
"#;

#[test]
fn a_record_that_is_larger_than_usual_is_read_where_the_configuration_says_so() {
    let (app, redis) = (Origin::saying("app"), RedisServer::start());
    let sidegate = Configuration::of(&app).redis(&redis).with(TABLES).start();
    let mut connection = redis.client().get_connection().expect("a connection to Redis");
    let mut status = |record: String, path: &str| {
        connection.set::<_, _, ()>("session:alice-0123456789abcdef", record).expect("SET");
        let fields = [("Authorization", "Bearer alice-0123456789abcdef")];
        sidegate.client().get_with(path, &fields).status
    };
    // More bytes than 256 KiB, and more values than a record of those may have.
    let seen =
        |values: usize| format!("{{\"user_id\":5,\"seen\":[{}1234567890123456]}}", "1234567890123456,".repeat(values));
    assert_eq!([status(seen(1000), "/usual"), status(seen(1000), "/large")], [200, 200]);
    assert_eq!([status(seen(20_000), "/usual"), status(seen(20_000), "/large")], [401, 200]);
    assert_eq!([status(seen(70_000), "/usual"), status(seen(70_000), "/large")], [401, 401]);
}

#[test]
fn a_start_waits_for_redis_as_long_as_it_is_told_to() {
    let (app, redis) = (Origin::saying("app"), RedisServer::start());
    let relay = Relay::to(redis.port());
    relay.turn(Mode::Freeze);
    let lines = "timeout = \"100ms\"\nconnect_timeout = \"100ms\"\nstart_wait = \"1m\"";
    let configuration = Configuration::of(&app).server("workers = 1").redis_at(&relay.url()).redis_lines(lines);
    let directory = Directory::new();
    let file = directory.file("sidegate.toml");
    std::fs::write(&file, configuration.with("[near]\nenabled = false").text()).expect("the configuration");
    let arguments = ["run".as_ref(), "--config".as_ref(), file.as_os_str()];
    let mut sidegate = Sidegate::spawn(directory, command().args(arguments));
    // Together they take longer than a start waits that is told nothing.
    until("some trials to connect", || relay.connections() >= 8);
    assert!(sidegate.logged("ready").is_empty(), "{}", sidegate.errors());
    relay.turn(Mode::Pass);
    sidegate.wait_for_log("ready");
}
