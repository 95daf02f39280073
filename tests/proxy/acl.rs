//! The rights that README asks for are enough for everything, and no more than that.
//!
//! The rule is read out of README: what is tested is what an operator copies. The binary runs, and not the stores alone,
//! since what else it says to Redis (pings, scripts, tracking, instances) needs rights too.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::redis::RedisCluster;
use crate::harness::sidegate::run;
use crate::harness::{Configuration, Directory, Load, Origin, RedisServer, Reply, client::request, until};

const PASSWORD: &str = "hunter2-0123456789";

const TABLES: &str = r#"
[limit.by-address]
key = "address"
quota = "1000000 per hour"

[limit.by-session]
key = "session"
quota = "1000000 per hour"

[plan.api]
key = "header:X-API-Key"

[limit.by-plan]
key = "header:X-API-Key"
quota = "1000000 per hour"
plan = "api"

[cache.pages]
ttl = "60s"
coalesce = "fleet"

[session.web]
format = "json"
from = ["bearer"]
forward = { X-User-Id = "user_id" }

[session.hashed]
format = "hash"
from = ["bearer"]
forward = { X-User-Id = "user_id" }

[[route]]
path = "/me/{*rest}"
session = "web"
limits = ["by-address", "by-session"]

[[route]]
path = "/hashed"
session = "hashed"

[[route]]
path = "/promised"
limits = ["by-plan"]

[[route]]
path = "/{*rest}"
limits = ["by-address"]
cache = "pages"
on_write = ["tag:page", "/{*}"]
"#;

/// The words of the rule in README, after `ACL SETUSER sidegate`.
fn rule() -> Vec<String> {
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md");
    let (_, rule) = readme.split_once("ACL SETUSER sidegate ").expect("the rule in README.md");
    let (rule, _) = rule.split_once("```").expect("its end");
    let rule = rule.lines().flat_map(|line| line.split('#').next().unwrap_or("").split_whitespace());
    let rule: Vec<_> = rule.map(|word| word.replace("PASSWORD", PASSWORD)).collect();
    assert!(rule.len() > 20, "{rule:?}");
    rule
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// What gives a server that user, also after a restart.
fn options() -> Vec<String> {
    // A user in the configuration begins with nothing: `reset` is for SETUSER alone.
    let rule = rule().into_iter().filter(|word| word != "reset");
    ["--user", "sidegate"].map(str::to_owned).into_iter().chain(rule).collect()
}

fn redis() -> RedisServer {
    RedisServer::start_with(&options().iter().map(String::as_str).collect::<Vec<_>>())
}

fn url(redis: &RedisServer) -> String {
    format!("redis://sidegate:{PASSWORD}@127.0.0.1:{}/1", redis.port())
}

/// What was refused, in the words of Redis.
fn refused(redis: &RedisServer) -> String {
    let log: redis::Value = redis.ask(&["ACL", "LOG"]).expect("ACL LOG");
    match log {
        redis::Value::Array(entries) if entries.is_empty() => String::new(),
        entries => format!("{entries:?}"),
    }
}

fn log_in(redis: &RedisServer) {
    let mut connection = redis.client().get_connection().expect("a connection to Redis");
    let tell = |words: &[&str], connection: &mut redis::Connection| {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]).exec(connection).unwrap_or_else(|error| panic!("{words:?}: {error}"));
    };
    tell(&["SELECT", "1"], &mut connection);
    tell(&["SET", "session:alice-0123456789", r#"{"user_id":7}"#, "EX", "600"], &mut connection);
    tell(&["HSET", "session:carol-0123456789", "user_id", "9"], &mut connection);
    tell(&["HSET", "sidegate:plan:key-of-dave", "quota", "77 per hour"], &mut connection);
}

#[test]
fn everything_works_with_the_rights_that_readme_asks_for_and_nothing_is_refused() {
    let mut redis = redis();
    let app = Origin::answering(|_| Reply::text("app").field("Vary", "Accept-Language").field("Cache-Tag", "page"));
    let configuration = Configuration::of(&app).redis_at(&url(&redis)).with(TABLES);
    let sidegate = configuration.start();
    let work = |redis: &RedisServer| {
        log_in(redis);
        until("each worker connected to Redis", || sidegate.ask_admin("/readyz").json()["redis"]["state"] == "up");
        let mut client = sidegate.client();
        until("a hit", || client.get("/page").field("x-cache") == Some("HIT"));
        assert_eq!(client.ask("PUT", "/page", &[], b"x").status, 200);
        until("another hit", || client.get("/page").field("x-cache") == Some("HIT"));
        let alice = [("Authorization", "Bearer alice-0123456789")];
        assert_eq!(client.get_with("/me/x", &alice).status, 200);
        assert_eq!(client.get_with("/me/x", &alice).status, 200);
        assert_eq!(client.get_with("/hashed", &[("Authorization", "Bearer carol-0123456789")]).status, 200);
        assert_eq!(client.get_with("/me/x", &[("Authorization", "Bearer nobody-0123456789")]).status, 401);
        assert_eq!(client.get_with("/promised", &[("X-API-Key", "key-of-dave")]).number("x-ratelimit-limit"), 77);
    };
    work(&redis);
    redis.ask::<()>(&["SCRIPT", "FLUSH"]).expect("SCRIPT FLUSH");
    work(&redis);

    // As many writes while it is away as cannot be remembered one by one: then everything is taken back, by SCAN.
    assert_eq!(refused(&redis), "");
    redis.kill();
    let write = |number: usize, turn: usize| request("PUT", &format!("/{number}/{turn}"), &[], b"");
    let load = Load::start(sidegate.address(), 8, write, |answer| answer.text() == "app");
    load.wait_for_more(11_000);
    load.finish();
    redis.restart();
    work(&redis);
    let statistics: String = redis.ask(&["INFO", "commandstats"]).expect("INFO");
    assert!(statistics.contains("cmdstat_scan:"), "nothing was taken back: {statistics}");

    let directory = Directory::new();
    let file = directory.file("sidegate.toml");
    fs::write(&file, configuration.text()).expect("the configuration can be written");
    let arguments = ["redis-report", "--config", &file.display().to_string(), "--json"];
    let (code, said, errors) = run(&arguments, &directory.file(""));
    assert!(code == 0 && said.contains("memory-usage"), "{said}{errors}");
    assert_eq!(refused(&redis), "");
}

#[test]
fn they_are_enough_for_a_cluster_too() {
    let cluster = RedisCluster::start_with(&options().iter().map(String::as_str).collect::<Vec<_>>());
    let key = "session:alice-0123456789";
    let set = ["SET", key, r#"{"user_id":7}"#, "EX", "600"];
    cluster.nodes()[cluster.master_of(key)].ask::<()>(&set).expect("SET");
    let app = Origin::answering(|_| Reply::text("app").field("Vary", "Accept-Language"));
    let url = cluster.url().replacen("://", &format!("://sidegate:{PASSWORD}@"), 1);
    let configuration = Configuration::of(&app).redis_at(&url).redis_lines("timeout = \"1s\"\nreplicas = \"cache\"");
    let sidegate = configuration.with(TABLES).start();
    until("Redis is up", || sidegate.ask_admin("/readyz").json()["redis"]["state"] == "up");
    let mut client = sidegate.client();
    for page in ["/one", "/two", "/three", "/four", "/five", "/six"] {
        until("a hit", || client.get(page).field("x-cache") == Some("HIT"));
        assert_eq!(client.ask("PUT", page, &[], b"x").status, 200);
    }
    until("a login", || client.get_with("/me/x", &[("Authorization", "Bearer alice-0123456789")]).status == 200);
    until("replicas are read", || {
        let page = client.get(&format!("/page-{}", fastrand::u32(..)));
        assert_eq!(page.status, 200);
        let statistics = cluster.nodes()[3..].iter().map(|node| node.ask::<String>(&["INFO", "commandstats"]));
        statistics.map(|said| said.expect("INFO")).any(|said| said.contains("cmdstat_mget:"))
    });
    for node in cluster.nodes() {
        assert_eq!(refused(node), "");
    }
}

/// README: what is written of the app's sessions needs the right to write them.
#[test]
fn they_are_enough_to_prolong_bind_list_and_revoke_sessions_that_it_may_write() {
    let rule: Vec<_> = options().into_iter().map(|word| word.replace("%R~session:*", "~session:*")).collect();
    let redis = RedisServer::start_with(&rule.iter().map(String::as_str).collect::<Vec<_>>());
    log_in(&redis);
    let app = Origin::saying("app");
    let more = "touch = \"1h\"\nindex = true\nbind = { agent = true }\n";
    let tables = TABLES.replace("[session.web]\n", &format!("[session.web]\n{more}"));
    let sidegate = Configuration::of(&app).redis_at(&url(&redis)).with(&tables).start();
    until("each worker connected to Redis", || sidegate.ask_admin("/readyz").json()["redis"]["state"] == "up");
    let alice = [("Authorization", "Bearer alice-0123456789")];
    assert_eq!(sidegate.client().get_with("/me/x", &alice).status, 200);
    let touched = "sidegate_session_touches_total{session=\"web\",result=\"prolonged\"}";
    until("a prolonged session", || sidegate.metric(touched) == 1.0);
    let listed = || sidegate.ask_admin("/sessions?user=7").json()["sessions"].as_array().map_or(0, Vec::len);
    until("it is known", || listed() == 1);
    let arguments = ["sessions", "--admin", sidegate.admin(), "revoke", "--user", "7"];
    let (code, said, errors) = run(&arguments, Path::new("."));
    assert!(code == 0 && said.starts_with("revoked "), "{said}{errors}");
    until("its end", || sidegate.client().get_with("/me/x", &alice).status == 401);
    assert_eq!(refused(&redis), "");
}

/// As README says: `~session:*` in the place of `%R~session:*`.
#[test]
fn sessions_are_issued_with_those_rights_once_their_keys_may_be_written() {
    let options: Vec<_> = options().into_iter().map(|word| word.replace("%R~session", "~session")).collect();
    let redis = RedisServer::start_with(&options.iter().map(String::as_str).collect::<Vec<_>>());
    let app = Origin::answering(|request| match request.path() {
        "/json" | "/hash" => Reply::text("in").field("X-Session-Create", r#"{"user_id":7}"#),
        "/json/longer" | "/hash/longer" => Reply::text("longer").field("X-Session-Extend", "2h"),
        _ => Reply::text("out").field("X-Session-Destroy", "true"),
    });
    let session = |format: &str| {
        format!(
            "[session.{format}]\nformat = \"{format}\"\nfrom = [\"cookie:{format}\"]\nmax_age = \"1h\"\nborn = \"created_at\"\n\
             issue = {{ ttl = \"30m\" }}\n[[route]]\npath = \"/{format}/{{*rest}}\"\n\
             session = \"{format}\"\n[[route]]\npath = \"/{format}\"\nsession = {{ use = \"{format}\", mode = \"optional\" }}\n"
        )
    };
    let tables = session("json") + &session("hash");
    let sidegate = Configuration::of(&app).redis_at(&url(&redis)).with(&tables).start();
    let mut client = sidegate.client();
    for format in ["json", "hash"] {
        let path = format!("/{format}");
        let mut cookie = String::new();
        for (path, status) in [(path.clone(), 200), (path.clone(), 200), (format!("{path}/longer"), 200)] {
            let answer = client.get_with(&path, &[("Cookie", &cookie)]);
            assert_eq!(answer.status, status, "{answer:?}");
            cookie = answer.field("set-cookie").and_then(|line| line.split(';').next()).expect("a cookie").to_owned();
        }
        assert_eq!(client.get_with(&format!("{path}/out"), &[("Cookie", &cookie)]).status, 200);
        assert_eq!(client.get_with(&format!("{path}/out"), &[("Cookie", &cookie)]).status, 401);
    }
    assert_eq!(refused(&redis), "");
}

#[test]
fn those_rights_do_not_let_it_touch_what_is_not_its_own() {
    let redis = redis();
    let may = |words: &[&str]| {
        let said: String = redis.ask(&[&["ACL", "DRYRUN", "sidegate"], words].concat()).expect("ACL DRYRUN");
        said == "OK"
    };
    assert!(may(&["SET", "sidegate:limit:{a:b}", "1"]) && may(&["GETRANGE", "session:alice", "0", "9"]));
    for words in [
        &["SET", "session:alice", "{}"][..],
        &["DEL", "session:alice"],
        &["GET", "another:key"],
        &["EVAL", "return 1", "0"],
        &["KEYS", "*"],
        &["FLUSHALL"],
        &["CONFIG", "GET", "*"],
        &["MONITOR"],
        &["SUBSCRIBE", "another"],
    ] {
        assert!(!may(words), "{words:?}");
    }
}

/// So that a new command is not forgotten, and no right outlives the last command that needed it.
#[test]
fn the_rights_are_those_of_the_commands_that_the_sources_name() {
    let rights = rule();
    let may = |command: &str, subcommand: Option<&str>| {
        let command = command.to_lowercase();
        let sub = subcommand.map(|subcommand| format!("+{command}|{}", subcommand.to_lowercase()));
        // Everybody may log in; sentinels have users of their own.
        ["auth", "hello", "sentinel"].contains(&command.as_str())
            || rights.contains(&format!("+{command}"))
            || sub.is_some_and(|sub| rights.contains(&sub))
    };
    let word = |text: &str| text.chars().take_while(char::is_ascii_alphabetic).collect::<String>();
    let mut named = Vec::new();
    for source in sources(&root().join("src")) {
        let text = fs::read_to_string(&source).expect("a source");
        let text = text.split("#[cfg(test)]").next().unwrap_or("");
        for (at, call) in ["cmd(\"", "redis.call('"].iter().flat_map(|call| text.match_indices(call)) {
            let rest = &text[at + call.len()..];
            let command = word(rest);
            let after = rest[command.len()..].trim_start_matches(['"', '\'', ')']);
            let argument = after.strip_prefix(".arg(\"").map(word);
            assert!(may(&command, argument.as_deref()), "{}: {command} {argument:?}", source.display());
            named.extend([Some(command), argument].into_iter().flatten());
        }
        // As tracking spells them.
        named.extend(text.match_indices("b\"").map(|(at, quote)| word(&text[at + quote.len()..])));
    }
    for right in rights.iter().filter_map(|word| word.strip_prefix('+')) {
        let used = |part: &str| named.contains(&part.to_uppercase());
        assert!(right.split('|').all(used), "nothing needs +{right}");
    }
}

/// The sources that run in sidegate: Rust and Lua. The demo's app is an app.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder of sources").map(|entry| entry.expect("an entry").path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|entry| entry.is_dir());
    let folders = folders.into_iter().filter(|folder| !folder.ends_with("cli/demo"));
    let source = |file: &PathBuf| file.extension().is_some_and(|kind| kind == "rs" || kind == "lua");
    files.into_iter().filter(source).chain(folders.flat_map(|folder| sources(&folder))).collect()
}
