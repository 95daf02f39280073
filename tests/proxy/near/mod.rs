//! What an instance remembers of Redis, and that it forgets it in time.

mod fleet;

use std::sync::Mutex;

use crate::harness::sidegate::run;
use crate::harness::{Answer, Client, Configuration, Directory, Origin, RedisServer, Reply, Sidegate, until};

/// A route for those who are logged in, one whose answers are stored.
const TABLES: &str = r#"
[session.web]
format = "json"
from = "bearer"
user = "user"
forward = { X-User-Id = "user" }

[cache.pages]
ttl = "600s"

[[route]]
path = "/private"
session = "web"

[[route]]
path = "/pages/{id}"
cache = "pages"
"#;

const SESSION: &str = "abcdef0123456789";

fn log_in(redis: &RedisServer, id: &str, user: &str) {
    let record = format!(r#"{{"user":"{user}"}}"#);
    let () = redis.ask(&["SET", &format!("session:{id}"), &record, "EX", "600"]).expect("SET");
}

fn private(client: &mut Client, id: &str) -> Answer {
    client.get_with("/private", &[("Authorization", &format!("Bearer {id}"))])
}

/// An app that says who is logged in.
fn app() -> Origin {
    Origin::answering(|request| crate::harness::Reply::text(request.field("x-user-id").unwrap_or("nobody").to_owned()))
}

/// Waits until changes are told.
fn is_told(sidegate: &Sidegate) {
    until("changes are told", || sidegate.metric("sidegate_near_in_use{mode=\"tracking\"}") == 1.0);
}

/// Asks until so many answers in a row needed no Redis.
fn becomes_hot(sidegate: &Sidegate, mut ask: impl FnMut()) {
    let trips = || sidegate.metric("sidegate_redis_round_trips_total");
    until("hot requests ask Redis nothing", || {
        let before = trips();
        (0..10).for_each(|_| ask());
        trips() == before
    });
}

/// The connections over which Redis tells, by their numbers.
fn tracking_connections(redis: &RedisServer) -> Vec<String> {
    let list: String = redis.ask(&["CLIENT", "LIST"]).expect("CLIENT LIST");
    let ours = list.lines().filter(|line| line.contains("name=sidegate-near"));
    ours.filter_map(|line| Some(line.split_once("id=")?.1.split(' ').next()?.to_owned())).collect()
}

#[test]
fn a_hot_request_asks_redis_nothing_and_a_logout_is_seen_at_once() {
    let (redis, app) = (RedisServer::start(), app());
    log_in(&redis, SESSION, "5");
    let sidegate = Configuration::of(&app).redis(&redis).with(TABLES).start();
    is_told(&sidegate);
    let mut client = sidegate.client();
    becomes_hot(&sidegate, || assert_eq!(private(&mut client, SESSION).text(), "5"));
    becomes_hot(&sidegate, || assert_eq!(client.get("/pages/1").status, 200));
    assert!(sidegate.metric("sidegate_near_hits_total{kind=\"session\"}") >= 10.0);
    assert!(sidegate.metric("sidegate_near_hits_total{kind=\"response\"}") >= 10.0);
    until("the sizes are shown", || sidegate.metric("sidegate_near_bytes{kind=\"session\"}") > 0.0);
    log_in(&redis, SESSION, "6");
    assert_eq!(private(&mut client, SESSION).text(), "6");
    let _: i64 = redis.ask(&["DEL", &format!("session:{SESSION}")]).expect("DEL");
    assert_eq!(private(&mut client, SESSION).status, 401);
}

#[test]
fn a_reload_keeps_what_is_remembered_unless_it_is_about_that() {
    let (redis, app) = (RedisServer::start(), app());
    log_in(&redis, SESSION, "5");
    let configuration = Configuration::of(&app).redis(&redis).with(TABLES);
    let mut sidegate = configuration.start();
    is_told(&sidegate);
    let connections = tracking_connections(&redis);
    assert_eq!(connections.len(), 1);
    let mut client = sidegate.client();
    becomes_hot(&sidegate, || assert_eq!(private(&mut client, SESSION).text(), "5"));
    let trips = |sidegate: &Sidegate| sidegate.metric("sidegate_redis_round_trips_total");

    sidegate.reload(&configuration.clone().with("[limits]\nreset = \"seconds-left\"\n").text());
    assert_eq!(tracking_connections(&redis), connections);
    let before = trips(&sidegate);
    assert_eq!(private(&mut sidegate.client(), SESSION).text(), "5");
    assert_eq!(trips(&sidegate), before, "it is still remembered");

    sidegate.reload(&configuration.clone().with("[near]\nmax_session_bytes = \"1 MiB\"\n").text());
    until("others are told", || {
        let now = tracking_connections(&redis);
        now.len() == 1 && now != connections
    });
    is_told(&sidegate);
    assert_eq!(sidegate.metric("sidegate_near_entries{kind=\"session\"}"), 0.0);
    let mut client = sidegate.client();
    becomes_hot(&sidegate, || assert_eq!(private(&mut client, SESSION).text(), "5"));
    log_in(&redis, SESSION, "6");
    assert_eq!(private(&mut client, SESSION).text(), "6");

    sidegate.reload(&configuration.clone().with("[near]\nenabled = false\n").text());
    until("nobody is told", || tracking_connections(&redis).is_empty());
    assert_eq!(sidegate.metric("sidegate_near_in_use{mode=\"tracking\"}"), 0.0);
    let before = trips(&sidegate);
    assert_eq!(private(&mut sidegate.client(), SESSION).text(), "6");
    assert_eq!(trips(&sidegate), before + 1.0);
}

#[test]
fn what_cannot_be_told_of_is_not_remembered() {
    let (redis, app) = (RedisServer::start(), app());
    let () = redis.ask(&["SET", &format!("s{SESSION}"), r#"{"user":"5"}"#]).expect("SET");
    let tables = TABLES.replace("user = \"user\"\n", "user = \"user\"\nprefix = \"s\"\n");
    let configuration = Configuration::of(&app).redis(&redis).with(&tables);
    let mut sidegate = configuration.start();
    let warning = sidegate.wait_for_log("sessions under this prefix are not remembered near");
    assert_eq!(warning["prefix"], "s");
    is_told(&sidegate);
    let mut client = sidegate.client();
    for _ in 0..5 {
        let before = sidegate.metric("sidegate_redis_round_trips_total");
        assert_eq!(private(&mut client, SESSION).text(), "5");
        assert_eq!(sidegate.metric("sidegate_redis_round_trips_total"), before + 1.0);
    }
    becomes_hot(&sidegate, || assert_eq!(client.get("/pages/1").status, 200));
}

#[test]
fn where_tracking_is_refused_a_write_is_published_to_all_instances() {
    let (redis, app) = (RedisServer::start(), app());
    let rules = ["ACL", "SETUSER", "gate", "on", ">secret", "~*", "&*", "+@all", "-client|tracking"];
    let () = redis.ask(&rules).expect("a user");
    let url = format!("redis://gate:secret@127.0.0.1:{}/0", redis.port());
    let configuration = Configuration::of(&app).redis_at(&url).with(TABLES);
    let instances = [configuration.start(), configuration.start()];
    for instance in &instances {
        until("what is published is told", || instance.metric("sidegate_near_in_use{mode=\"pub/sub\"}") == 1.0);
        assert_eq!(instance.logged("the near tier is in use without client tracking").len(), 1);
    }
    let mut clients = [instances[0].client(), instances[1].client()];
    for turn in 0..20 {
        let (writer, reader) = (turn % 2, (turn + 1) % 2);
        let client = &mut clients[reader];
        becomes_hot(&instances[reader], || assert_eq!(client.get("/pages/1").status, 200));
        assert_eq!(clients[writer].ask("POST", "/pages/1", &[], b"new").status, 200);
        assert_ne!(clients[reader].get("/pages/1").field("x-cache"), Some("HIT"), "turn {turn}");
    }
}

#[test]
fn check_asks_redis_how_it_would_tell() {
    let (mut redis, app) = (RedisServer::start(), app());
    let directory = Directory::new();
    let file = directory.file("sidegate.toml");
    std::fs::write(&file, Configuration::of(&app).redis(&redis).with(TABLES).text()).expect("a file");
    let check = || {
        let (code, said, errors) = run(&["check", "--config", file.to_str().expect("a path")], &directory.file(""));
        assert_eq!(code, 0, "{errors}");
        said.lines().find_map(|line| line.strip_prefix("near ")).expect("a line about it").trim().to_owned()
    };
    assert_eq!(check(), "Redis tells of every change (client tracking)");
    redis.kill();
    assert_eq!(check(), "unknown: Redis cannot be asked now (unreachable)");
}

#[test]
fn what_varies_by_who_is_logged_in_is_never_given_to_somebody_else() {
    let redis = RedisServer::start();
    let app = Origin::answering(|request| {
        let plan = request.field("x-plan").unwrap_or("none").to_owned();
        Reply::text(plan).field("Cache-Control", "public, max-age=600").field("Vary", "X-Plan")
    });
    let plans =
        [("basic-0123456789", r#"{"user":"1"}"#, "none"), ("pro-0123456789", r#"{"user":"2","plan":"pro"}"#, "pro")];
    for (id, record, _) in plans {
        let () = redis.ask(&["SET", &format!("session:{id}"), record, "EX", "600"]).expect("SET");
    }
    let tables = r#"
        [session.web]
        format = "json"
        from = "bearer"
        user = "user"
        forward = { X-Plan = "plan" }

        [cache.pages]

        [[route]]
        path = "/{*rest}"
        session = { use = "web", mode = "optional" }
        cache = "pages"
    "#;
    let sidegate = Configuration::of(&app).redis(&redis).with(tables).start();
    is_told(&sidegate);
    let mut client = sidegate.client();
    let mut hits = [0; 3];
    for turn in 0..120 {
        let (answer, expected) = match plans.get(turn % 3) {
            Some((id, _, plan)) => (client.get_with("/page", &[("Authorization", &format!("Bearer {id}"))]), *plan),
            None => (client.get("/page"), "none"),
        };
        assert_eq!(answer.text(), expected, "turn {turn}");
        hits[turn % 3] += usize::from(answer.field("x-cache") == Some("HIT"));
    }
    assert!(hits.iter().all(|hits| *hits > 20), "{hits:?}");
}

#[test]
fn an_invalidation_that_met_a_broken_connection_is_told_though_nobody_reads_here_any_more() {
    let redis = RedisServer::start();
    let written = Mutex::new(Vec::new());
    let app = Origin::answering(move |request| {
        let mut written = written.lock().expect("no panic before");
        if request.method == "PUT" {
            written.clone_from(&request.content);
        }
        Reply::text(String::from_utf8_lossy(&written).into_owned())
    });
    let start = || Configuration::of(&app).redis(&redis).with(TABLES).start();
    let (writer, reader) = (start(), start());
    is_told(&reader);
    for turn in 0..5 {
        let (path, version) = (format!("/pages/{turn}"), format!("version {turn}"));
        until("it is stored", || reader.get(&path).field("x-cache") == Some("HIT"));
        let _: i64 = redis.ask(&["CLIENT", "KILL", "TYPE", "normal"]).expect("CLIENT KILL");
        assert_eq!(writer.client().ask("PUT", &path, &[], version.as_bytes()).status, 200);
        until("the other instance hears of it", || reader.get(&path).text() == version);
    }
}
