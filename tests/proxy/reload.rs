//! A new configuration under load.

use crate::harness::tls::replace;
use crate::harness::{Configuration, Directory, Load, Origin, RedisServer, Sidegate, client::request, until};

const TABLES: &str = "[limit.few]\nkey = \"address\"\nquota = \"5 per hour\"\n[cache.pages]\nttl = \"600s\"\n\
                      [[route]]\npath = \"/limited\"\nlimits = [\"few\"]\n[[route]]\npath = \"/stored\"\ncache = \"pages\"\n\
                      [[route]]\npath = \"/{*rest}\"\n";

#[test]
fn a_reload_under_load_fails_no_request_and_the_new_limits_are_in_force() {
    let app = Origin::saying("app");
    let before = Configuration::of(&app).with(TABLES);
    let mut sidegate = before.start();
    let load =
        Load::start(sidegate.address(), 8, |_, _| request("GET", "/", &[], b""), |answer| answer.text() == "app");
    for turn in 0..5 {
        load.wait_for_more(100);
        sidegate.reload(&before.text().replace("5 per hour", &format!("{} per hour", 100 + turn)));
    }
    load.wait_for_more(100);
    let tally = load.finish();
    assert!(tally.failures.is_empty() && tally.wrong == 0 && tally.refused == 0, "{tally:?}");
    assert_eq!(tally.answers.keys().collect::<Vec<_>>(), [&200], "{tally:?}");
    until("the new quota", || sidegate.get("/limited").number("x-ratelimit-limit") == 104);
    let metrics = sidegate.ask_admin("/metrics").text();
    assert!(metrics.contains("sidegate_config_reloads_total{outcome="), "{metrics}");
}

#[test]
fn a_bad_file_keeps_the_old_configuration_serving_and_says_why() {
    let app = Origin::saying("app");
    let good = Configuration::of(&app).with(TABLES);
    let mut sidegate = good.start();
    let bad = good.text().replace("limits = [\"few\"]", "limits = [\"fewer\"]");
    let said = sidegate.reload_in_vain(&bad);
    assert!(said.contains("fewer"), "the log names the mistake: {said}");
    assert_eq!(sidegate.get("/limited").number("x-ratelimit-limit"), 5);
    assert!(sidegate.metric("sidegate_config_reloads_total{outcome=\"failed\"}") >= 1.0);
    let said = sidegate.reload_in_vain("listen = [");
    assert!(!said.is_empty());
    assert_eq!(sidegate.get("/").status, 200);
    sidegate.reload(&good.text().replace("5 per hour", "7 per hour"));
    until("the mended file in force", || sidegate.get("/limited").number("x-ratelimit-limit") == 7);
}

#[test]
fn a_change_of_the_file_is_noticed_without_a_signal() {
    let app = Origin::saying("app");
    let config = Configuration::of(&app).with(TABLES);
    let sidegate = config.start();
    assert_eq!(sidegate.get("/limited").number("x-ratelimit-limit"), 5);
    // Replaced, as an editor does it; then written in place.
    sidegate.write(&config.text().replace("5 per hour", "50 per hour"));
    until("the new file in force", || sidegate.get("/limited").number("x-ratelimit-limit") == 50);
    std::fs::write(sidegate.file(), config.text().replace("5 per hour", "500 per hour")).expect("the file");
    until("the file in force again", || sidegate.get("/limited").number("x-ratelimit-limit") == 500);
}

/// Signatures by express-session of one identifier, with the secrets `first` and `second`.
const SIGNED: [&str; 2] = [
    "connect.sid=s%3Aalice-0123456789abcdef.mzZZk5jZRJ6E5G5LhYPKrKfwXfOWk01U%2B1%2FS3Sd%2FuAg",
    "connect.sid=s%3Aalice-0123456789abcdef.clrHWChQlq4XtmvH5231D5AdokCtjq905Y85C%2FQubn8",
];

#[test]
fn a_changed_file_of_a_secret_is_taken_up_and_one_that_is_gone_keeps_the_old_secret() {
    let (redis, app, directory) = (RedisServer::start(), Origin::saying("app"), Directory::new());
    redis
        .ask::<()>(&["SET", "sess:alice-0123456789abcdef", r#"{"cookie":{},"user":{"id":1}}"#, "EX", "600"])
        .expect("a record");
    let (secret, key) = (directory.file("secret"), directory.file("key"));
    replace(secret.clone(), "first\n");
    replace(key.clone(), "one");
    let tables = format!(
        "[session.web]\nformat = \"express\"\nsecrets = [{{ file = \"{}\" }}]\nuser = \"user.id\"\n\
         [[route]]\npath = \"/{{*rest}}\"\nsession = \"web\"\n\
         [[route]]\npath = \"/key\"\nrequest_fields = {{ set = {{ X-Key = {{ file = \"{}\" }} }} }}\n",
        secret.display(),
        key.display()
    );
    let mut sidegate = Configuration::of(&app).redis(&redis).with(&tables).start();
    let status = |sidegate: &Sidegate, cookie: &str| sidegate.client().get_with("/x", &[("Cookie", cookie)]).status;
    assert_eq!(SIGNED.map(|cookie| status(&sidegate, cookie)), [200, 401]);
    replace(secret.clone(), "second\n");
    until("the new secret", || status(&sidegate, SIGNED[1]) == 200);
    assert_eq!(status(&sidegate, SIGNED[0]), 401);
    sidegate.wait_for_log("changed: session.web: secrets changed");
    std::fs::remove_file(&secret).expect("a file to remove");
    let said = sidegate.wait_for_log("reload failed");
    assert!(said["message"].to_string().contains("cannot read"), "{said}");
    assert_eq!(SIGNED.map(|cookie| status(&sidegate, cookie)), [401, 200], "the old one stays");
    replace(secret, "first\nand more than a secret may be".repeat(4_096).as_str());
    until("a file that is no secret", || {
        sidegate.logged("reload failed").iter().any(|line| line.to_string().contains("larger than 64 KiB"))
    });
    assert_eq!(status(&sidegate, SIGNED[1]), 200);
    replace(directory.file("secret"), "first");
    until("the first secret again", || status(&sidegate, SIGNED[0]) == 200);
    replace(key, "two");
    until("the new key", || {
        sidegate.get("/key");
        app.last().field("x-key") == Some("two")
    });
}

#[test]
fn the_admin_listener_reloads_on_demand() {
    let app = Origin::saying("app");
    let config = Configuration::of(&app).with(TABLES);
    let sidegate = config.start();
    let ask = || {
        let mut admin = crate::harness::Client::to(sidegate.admin());
        admin.ask("POST", "/reload", &[("Host", sidegate.admin())], b"")
    };
    sidegate.write(&config.text().replace("5 per hour", "6 per hour"));
    assert_eq!(ask().status, 200);
    until("the new file in force", || sidegate.get("/limited").number("x-ratelimit-limit") == 6);
    sidegate.write("[server");
    let refused = ask();
    assert!((400..600).contains(&refused.status), "{refused:?}");
    assert_eq!(sidegate.get("/").status, 200);
}

#[test]
fn counters_and_stored_responses_survive_a_reload() {
    let redis = RedisServer::start();
    let app = Origin::saying("app");
    for config in [Configuration::of(&app), Configuration::of(&app).redis(&redis)] {
        let config = config.with(TABLES);
        let mut sidegate = config.start();
        let mut client = sidegate.client();
        until("a stored response", || client.get("/stored").field("x-cache") == Some("HIT"));
        assert_eq!(client.get("/limited").number("x-ratelimit-remaining"), 4);
        assert_eq!(client.get("/limited").number("x-ratelimit-remaining"), 3);
        let asked = app.count();
        sidegate.reload(
            &config.text().replace(
                "[[route]]\npath = \"/{*rest}\"",
                "[[route]]\npath = \"/new\"\n[[route]]\npath = \"/{*rest}\"",
            ),
        );
        let mut later = sidegate.client();
        assert_eq!(later.get("/limited").number("x-ratelimit-remaining"), 2);
        assert_eq!(later.get("/stored").field("x-cache"), Some("HIT"));
        assert_eq!(client.get("/stored").field("x-cache"), Some("HIT"), "a connection from before the reload goes on");
        assert_eq!(app.count(), asked + 1);
    }
}

#[test]
fn a_request_in_flight_finishes_under_the_configuration_it_began_with() {
    let gate = crate::harness::origin::Gate::default();
    let held = gate.clone();
    let old = Origin::scripted(move |wire| {
        wire.request()?;
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nold")?;
        held.wait();
        wire.send(b"app")
    });
    let new = Origin::saying("new");
    let config = Configuration::of(&old);
    let mut sidegate = config.start();
    let mut client = sidegate.client();
    client.send(request("GET", "/", &[], b""));
    let head = client.head();
    assert_eq!((head.status, client.exactly(3)), (200, b"old".to_vec()));
    sidegate.reload(&config.text().replace(&old.url(), &new.url()));
    until("requests at the new app", || sidegate.get("/").text() == "new");
    gate.open();
    assert_eq!(client.exactly(3), b"app");
}

#[test]
fn the_level_of_the_log_is_reloaded() {
    let app = Origin::saying("app");
    let config = Configuration::of(&app);
    let mut sidegate = config.start();
    sidegate.reload(&config.text().replace("format = \"json\"", "format = \"json\"\nlevel = \"debug\""));
    let reload = |sidegate: &mut crate::harness::Sidegate| {
        let mut client = sidegate.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n\0");
        client.answer();
    };
    until("a line of the debug level", || {
        reload(&mut sidegate);
        sidegate.errors().contains("\"level\":\"DEBUG\"")
    });
}

#[test]
fn what_a_failed_or_replaced_configuration_held_is_let_go_of() {
    let redis = RedisServer::start();
    let app = Origin::saying("app");
    let good = Configuration::of(&app).redis(&redis).with("[[route]]\npath = \"/{*rest}\"\n");
    let mut sidegate = good.start();
    assert_eq!(sidegate.get("/").status, 200);
    let connections = sidegate.metric("sidegate_redis_up");
    let taken = app.address().to_string();
    let bad = good.text().replace("[\"127.0.0.1:0\"]", &format!("[{taken:?}]")).replace("\"1s\"", "\"2s\"");
    sidegate.reload_in_vain(&bad);
    until("the prepared connections to Redis gone", || sidegate.metric("sidegate_redis_up") == connections);
    sidegate.reload(&good.text().replace("[upstream.app]\n", "[upstream.app]\nmax_connections = 77\n"));
    let idle = || sidegate.metric("sidegate_upstream_connections{upstream=\"app\"}") == 0.0;
    until("the replaced connections to the app gone", idle);
}
