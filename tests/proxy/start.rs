//! The first minutes of a newcomer: commands, messages, exit codes.

use std::net::TcpListener;
use std::process::Stdio;

use crate::harness::sidegate::{command, run};
use crate::harness::{Client, Configuration, Directory, Origin, RedisServer, Sidegate, until};

fn file(directory: &Directory, text: &str) -> String {
    let path = directory.file("sidegate.toml");
    std::fs::write(&path, text).expect("the configuration can be written");
    path.display().to_string()
}

#[test]
fn check_accepts_a_good_file() {
    let (app, directory) = (Origin::saying("app"), Directory::new());
    let path = file(&directory, &Configuration::of(&app).text());
    let (code, said, errors) = run(&["check", "--config", &path], &directory.file(""));
    assert_eq!(code, 0, "{said}{errors}");
}

#[test]
fn check_and_run_refuse_a_bad_file_and_show_every_mistake_in_its_place() {
    let (app, directory) = (Origin::saying("app"), Directory::new());
    let bad =
        Configuration::of(&app).server("lisden = 1").with("[limit.a]\nkey = \"adress\"\nquota = \"many\"\n").text();
    let path = file(&directory, &bad);
    for command in ["check", "run"] {
        let (code, said, errors) = run(&[command, "--config", &path], &directory.file(""));
        let said = said + &errors;
        assert_eq!(code, 2, "{command}: {said}");
        for part in ["sidegate.toml:3:1", "lisden", "did you mean", "adress", "many"] {
            assert!(said.contains(part), "{command} does not say {part:?}:\n{said}");
        }
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let directory = Directory::new();
    let (code, said, errors) = run(&["run", "--config", "nowhere.toml"], &directory.file(""));
    assert!(code == 2 && (said + &errors).contains("nowhere.toml"), "{code}: {errors}");
}

#[test]
fn unknown_flags_and_commands_are_usage_errors() {
    let directory = Directory::new();
    for arguments in [["run", "--no-such-flag"], ["dance", "--now"], ["check", "--upstream=x=y"]] {
        assert_eq!(run(&arguments, &directory.file("")).0, 2, "{arguments:?}");
    }
    assert_eq!(run(&["--help"], &directory.file("")).0, 0);
    assert_eq!(run(&["--version"], &directory.file("")).0, 0);
}

#[test]
fn what_init_writes_passes_check() {
    let directory = Directory::new();
    let (code, starter, errors) = run(&["init"], &directory.file(""));
    assert_eq!(code, 0, "{errors}");
    assert!(starter.contains("[server]") && starter.contains('#'), "{starter}");
    let path = file(&directory, &starter);
    let (code, said, errors) = run(&["check", "--config", &path], &directory.file(""));
    assert_eq!(code, 0, "{said}{errors}");
}

#[test]
fn an_upstream_on_the_command_line_needs_no_file() {
    let app = Origin::saying("app");
    let arguments = ["--upstream", &app.url(), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let mut sidegate = Sidegate::spawn(Directory::new(), command().args(arguments));
    sidegate.wait_for_log("ready");
    let address = sidegate.logged("listening")[0]["address"].as_str().expect("an address").to_owned();
    let mut client = Client::to(&address);
    assert_eq!(client.get("/any/path").text(), "app");
    assert_eq!(client.ask("POST", "/", &[], b"x").status, 200);
    assert_eq!(sidegate.terminate().code(), Some(0));
}

#[test]
fn redis_url_from_the_environment_is_honoured() {
    let (redis, app, directory) = (RedisServer::start(), Origin::saying("app"), Directory::new());
    let tables =
        "[limit.few]\nkey = \"address\"\nquota = \"5 per hour\"\n[[route]]\npath = \"/{*rest}\"\nlimits = [\"few\"]\n";
    let path = file(&directory, &Configuration::of(&app).with(tables).text());
    let mut sidegate =
        Sidegate::spawn(directory, command().env("REDIS_URL", redis.url()).args(["run", "--config", &path]));
    sidegate.wait_for_log("ready");
    let address = sidegate.logged("listening")[0]["address"].as_str().expect("an address").to_owned();
    let mut connection = redis.client().get_connection().expect("a connection to Redis");
    until("a count in that Redis", || {
        assert_eq!(Client::to(&address).get("/").status, 200);
        let keys: Vec<String> = redis::cmd("KEYS").arg("sidegate:limit:*").query(&mut connection).expect("keys");
        !keys.is_empty()
    });
}

#[test]
fn a_database_that_redis_refuses_is_an_error_of_check_and_in_the_log_and_stops_no_request() {
    let (app, redis, directory) = (Origin::saying("app"), RedisServer::start(), Directory::new());
    let limit = "[limit.each]\nkey = \"address\"\nquota = \"5 per hour\"\n[[route]]\npath = \"/{*rest}\"\nlimits = [\"each\"]\n";
    let configuration = |database: &str| {
        Configuration::of(&app).redis_at(&format!("redis://127.0.0.1:{}/{database}", redis.port())).with(limit)
    };
    let check = |database: &str| {
        let path = file(&directory, &configuration(database).text());
        let (code, said, errors) = run(&["check", "--config", &path], &directory.file(""));
        (code, said + &errors)
    };
    let (code, said) = check("15");
    assert_eq!(code, 0, "{said}");
    let (code, said) = check("99");
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("refuses database 99") && !said.contains("well"), "{said}");
    // Not as the others: they wait until Redis is there.
    let mut sidegate = Sidegate::start(&configuration("99").text());
    assert_eq!(sidegate.get("/").status, 200, "counted in the process");
    let line = sidegate.wait_for_log("Redis is away: it refuses the database of redis.url");
    assert_eq!((&line["level"], &line["reason"]), (&"ERROR".into(), &"database".into()), "{line}");
    until("it is counted by its word", || sidegate.metric("sidegate_redis_errors_total{kind=\"database\"}") > 0.0);
    assert_eq!(sidegate.ask_admin("/readyz").json()["redis"]["reason"], "database");
}

#[test]
fn a_port_in_use_is_said_plainly() {
    let (app, directory) = (Origin::saying("app"), Directory::new());
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let path =
        file(&directory, &Configuration::of(&app).text().replace("[\"127.0.0.1:0\"]", &format!("[{address:?}]")));
    let (code, said, errors) = run(&["run", "--config", &path], &directory.file(""));
    let said = said + &errors;
    assert!(code == 1 && said.contains(&address) && said.contains("in use"), "{code}: {said}");
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn health_tells_whether_it_is_ready() {
    let (app, directory) = (Origin::saying("app"), Directory::new());
    let sidegate = Configuration::of(&app).start();
    let admin = sidegate.admin().to_owned();
    let health = || run(&["health", "--admin", &admin], &directory.file(""));
    let (code, said, errors) = health();
    assert_eq!(code, 0, "{said}{errors}");
    drop(sidegate);
    assert_eq!(health().0, 1);
}

/// The addresses that the demo prints: all that looks like `http://127.0.0.1:PORT`.
fn printed(said: &str) -> Vec<String> {
    let ports = said.split("http://127.0.0.1:").skip(1);
    let mut found: Vec<_> = ports
        .map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>())
        .filter(|port| !port.is_empty())
        .map(|port| format!("127.0.0.1:{port}"))
        .collect();
    found.sort();
    found.dedup();
    found
}

fn demo(arguments: &[&str]) -> (Sidegate, String) {
    let mut process = command();
    process.args(["demo", "--listen", "127.0.0.1:0"]).args(arguments).stdin(Stdio::null());
    let demo = Sidegate::spawn(Directory::new(), &mut process);
    until("the demo's introduction", || demo.output().matches("curl").count() >= 5);
    let said = demo.output();
    (demo, said)
}

#[test]
fn the_demo_starts_and_its_printed_addresses_answer() {
    let (demo, said) = demo(&[]);
    let addresses = printed(&said);
    assert!(addresses.len() >= 2, "{said}");
    for address in &addresses {
        assert!((200..500).contains(&Client::to(address).get_with("/", &[("Host", address)]).status), "{address}");
    }
    // The first address is the proxy's: the story of the demo, told over it.
    let first = said.split("http://127.0.0.1:").nth(1).expect("an address");
    let port: String = first.chars().take_while(char::is_ascii_digit).collect();
    tell(&format!("127.0.0.1:{port}"));
    drop(demo);
}

#[test]
fn the_demo_tells_the_same_story_on_redis() {
    let redis = RedisServer::start();
    let (_demo, said) = demo(&["--redis", &redis.url()]);
    let first = said.split("http://127.0.0.1:").nth(1).expect("an address");
    let port: String = first.chars().take_while(char::is_ascii_digit).collect();
    tell(&format!("127.0.0.1:{port}"));
}

/// Miss, hit, invalidation, login, logout.
fn tell(proxy: &str) {
    let mut client = Client::to(proxy);
    let json = ("Content-Type", "application/json");
    let first = client.get("/users");
    assert_eq!((first.status, first.field("x-cache")), (200, Some("MISS")));
    assert!(first.fields.has("x-ratelimit-remaining"));
    until("the list from the store", || client.get("/users").field("x-cache") == Some("HIT"));
    assert!(client.ask("POST", "/users", &[json], br#"{"name":"Zoe"}"#).status < 300);
    assert_ne!(client.get("/users").field("x-cache"), Some("HIT"));
    assert_eq!(client.get("/me").status, 401);
    let login = client.ask("POST", "/login", &[json], br#"{"user":"alice","password":"wonderland"}"#);
    let token = login.json()["token"].as_str().expect("a token").to_owned();
    let bearer = format!("Bearer {token}");
    until("the login", || client.get_with("/me", &[("Authorization", &bearer)]).status == 200);
    assert!(client.ask("POST", "/logout", &[("Authorization", &bearer)], b"").status < 300);
    until("the logout", || client.get_with("/me", &[("Authorization", &bearer)]).status == 401);
}
