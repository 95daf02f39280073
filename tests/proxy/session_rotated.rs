//! Sessions that are put in the place of others, and an operator who ends them meanwhile.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::harness::origin::Request;
use crate::harness::sidegate::run;
use crate::harness::{Answer, Configuration, Origin, RedisServer, Reply, Sidegate, until};
use crate::session_story::given;

const TABLES: &str = r#"
[session.web]
format = "json"
from = ["cookie:session"]
user = "id"
index = { most = 1000 }
issue = { ttl = "30m", secure = false }
public = ["/login"]

[[route]]
path = "/{*rest}"
session = "web"
"#;

fn start(redis: &RedisServer) -> (Origin, Sidegate) {
    let app = Origin::answering(|request: &Request| match request.path() {
        "/login" | "/sudo" => Reply::text("welcome").field("X-Session-Create", r#"{"id":7}"#),
        _ => Reply::text("app"),
    });
    let sidegate = Configuration::of(&app).redis(redis).with(TABLES).start();
    (app, sidegate)
}

fn ask(sidegate: &Sidegate, path: &str, identifier: &str) -> Answer {
    sidegate.client().get_with(path, &[("Cookie", &format!("session={identifier}"))])
}

fn revoke(sidegate: &Sidegate, arguments: &[&str]) -> (i32, String) {
    let all = [&["sessions", "--admin", sidegate.admin(), "revoke"], arguments].concat();
    let (code, said, errors) = run(&all, Path::new("."));
    (code, said + &errors)
}

fn handles(sidegate: &Sidegate) -> Vec<String> {
    let told = sidegate.ask_admin("/sessions?user=7").json();
    let all = told["sessions"].as_array().cloned().unwrap_or_default();
    all.iter().filter_map(|session| session["handle"].as_str().map(str::to_owned)).collect()
}

#[test]
fn a_handle_whose_session_was_replaced_is_not_said_to_be_revoked() {
    let redis = RedisServer::start();
    let (_app, sidegate) = start(&redis);
    let (first, _) = given(&sidegate.get("/login"));
    until("the session is known", || handles(&sidegate).len() == 1);
    let old = handles(&sidegate).remove(0);
    let known = format!("sidegate:session:{{{old}}}");
    let copy: Vec<String> = redis.ask(&["HGETALL", &known]).expect("HGETALL");
    let (second, _) = given(&ask(&sidegate, "/sudo", &first));

    // What was known of it goes with it; and is there again if a request was under way that had it noted.
    until("it is forgotten", || redis.ask::<i64>(&["EXISTS", &known]).expect("EXISTS") == 0);
    for is_noted_late in [false, true] {
        if is_noted_late {
            let mut fields = vec!["HSET", &*known];
            fields.extend(copy.iter().map(String::as_str));
            redis.ask::<()>(&fields).expect("HSET");
        }
        let (code, said) = revoke(&sidegate, &[&old]);
        assert!(code == 1 && said.contains("it is over") && !said.contains("revoked "), "{is_noted_late}: {said}");
        assert_eq!(ask(&sidegate, "/account", &second).status, 200);
    }
    let new = handles(&sidegate);
    assert_eq!(new.len(), 1, "{new:?}");
    assert_eq!(revoke(&sidegate, &[&new[0]]), (0, format!("revoked {}\n", new[0])));
    assert_eq!(ask(&sidegate, "/account", &second).status, 401);
}

/// A hundred sessions that were seen later are ended first: meanwhile that of the client has been replaced.
#[test]
fn who_rotates_all_the_while_is_revoked_with_all_of_the_users() {
    let redis = RedisServer::start();
    let (_app, sidegate) = start(&redis);
    let (first, _) = given(&sidegate.get("/login"));
    until("the session is known", || handles(&sidegate).len() == 1);
    let handle = handles(&sidegate).remove(0);
    let user = redis.ask::<Vec<String>>(&["KEYS", "sidegate:user:*"]).expect("KEYS").remove(0);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        // Another client's sessions, as if they had been seen.
        for _ in 0..100 {
            given(&sidegate.get("/login"));
        }
        until("all are known", || handles(&sidegate).len() == 101);
        for other in handles(&sidegate).iter().filter(|other| **other != handle) {
            let known = format!("sidegate:session:{{{other}}}");
            redis.ask::<()>(&["HSET", &known, "last", "99999999999999"]).expect("HSET");
            redis.ask::<()>(&["ZADD", &user, "99999999999999", other]).expect("ZADD");
        }
        let rotating = scope.spawn(|| {
            let (mut identifier, mut rotations) = (first.clone(), 0);
            while !stop.load(Ordering::Relaxed) {
                let answer = ask(&sidegate, "/sudo", &identifier);
                if answer.status != 200 {
                    assert_eq!(answer.status, 401, "{answer:?}");
                    break;
                }
                (identifier, rotations) = (given(&answer).0, rotations + 1);
            }
            (identifier, rotations)
        });
        until("it rotates", || !handles(&sidegate).contains(&handle));
        until("an answer that says that all are revoked", || {
            let (code, said) = revoke(&sidegate, &["--user", "7"]);
            assert!(code == 0 || said.contains("some may be left"), "{said}");
            code == 0
        });
        stop.store(true, Ordering::Relaxed);
        let (identifier, rotations) = rotating.join().expect("a client");
        assert!(rotations > 0);
        assert_eq!(ask(&sidegate, "/account", &identifier).status, 401, "after {rotations} rotations");
    });
    assert_eq!(handles(&sidegate), Vec::<String>::new());
}
