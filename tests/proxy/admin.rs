//! What operators see, and nobody else.

use crate::harness::{Client, Configuration, Origin, RedisServer, until};

#[test]
fn metrics_health_and_readiness_are_served_apart_from_the_proxy() {
    let app = Origin::saying("app");
    let sidegate = Configuration::of(&app).start();
    let mut client = sidegate.client();
    (0..3).for_each(|_| drop(client.get("/page")));
    client.ask("POST", "/page", &[], b"");
    until("the requests in the metrics", || {
        sidegate.ask_admin("/metrics").text().contains("status_class=\"2xx\"} 3\n")
    });
    let metrics = sidegate.ask_admin("/metrics");
    assert!(metrics.field("content-type").is_some_and(|kind| kind.starts_with("text/plain")), "{metrics:?}");
    let text = metrics.text();
    for family in
        ["requests_total", "request_duration_seconds_bucket", "overhead_seconds_bucket", "upstream_", "build_info"]
    {
        assert!(text.contains(&format!("\nsidegate_{family}")), "no sidegate_{family} in\n{text}");
    }
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let value = line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
        assert!(value.is_some(), "no Prometheus sample: {line}");
    }
    assert_eq!(sidegate.ask_admin("/livez").status, 200);
    assert_eq!(sidegate.ask_admin("/readyz").status, 200);
    assert_eq!(sidegate.ask_admin("/nothing").status, 404);
    assert_eq!(client.get("/metrics").text(), "app", "the proxy's own listener shows nothing of it");
}

#[test]
fn every_metric_stands_in_the_table_of_readme() {
    let readme = include_str!("../../README.md");
    let app = Origin::saying("app");
    let mut redis = RedisServer::start();
    let tables = "[cache.pages]\nttl = \"60s\"\n[limit.many]\nkey = \"address\"\nquota = \"1000000 per hour\"\n\
        [session.web]\nformat = \"json\"\n[[route]]\npath = \"/me\"\nsession = \"web\"\n\
        [[route]]\npath = \"/{*rest}\"\nlimits = [\"many\"]\ncache = \"pages\"\n";
    let sidegate = Configuration::of(&app).redis(&redis).with(tables).start();
    assert_eq!(sidegate.client().get("/page").status, 200);
    redis.kill();
    // Families of what goes wrong are there from the first time on.
    until("an outage in the metrics", || {
        let metrics = sidegate.ask_admin("/metrics").text();
        ["redis_errors", "near_losses"].iter().all(|family| metrics.contains(&format!("\nsidegate_{family}_total{{")))
    });
    let metrics = sidegate.ask_admin("/metrics").text();
    let families: Vec<_> =
        metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_whitespace().next()).collect();
    assert!(families.len() > 40, "{families:?}");
    let rows: Vec<_> = readme.lines().filter(|line| line.starts_with("| `")).collect();
    for family in families {
        let names = [format!("`{family}`"), format!("`{family}{{")];
        assert!(rows.iter().any(|row| names.iter().any(|name| row.contains(name))), "README has no {family}");
    }
}

#[test]
fn no_label_takes_a_clients_value() {
    let app = Origin::saying("app");
    let sidegate = Configuration::of(&app).start();
    let mut client = sidegate.client();
    for turn in 0..50 {
        client.ask(&format!("BREW{turn}"), &format!("/page-{turn}"), &[("Host", &format!("h{turn}.example"))], b"");
    }
    let text = sidegate.ask_admin("/metrics").text();
    for value in ["BREW7", "page-7", "h7.example"] {
        assert!(!text.contains(value), "{value} is in the metrics");
    }
}

#[test]
fn readiness_tells_what_redis_is_doing() {
    let mut redis = RedisServer::start();
    let app = Origin::saying("app");
    let sidegate = Configuration::of(&app).redis(&redis).start();
    until("Redis to be up in /readyz", || sidegate.ask_admin("/readyz").text().contains("up"));
    redis.kill();
    until("Redis to be down in /readyz", || sidegate.ask_admin("/readyz").text().contains("down"));
    assert_eq!(sidegate.ask_admin("/readyz").status, 200, "still serving, so still ready");
}

#[test]
fn foreign_pages_and_rebound_names_are_refused() {
    let app = Origin::saying("app");
    let sidegate = Configuration::of(&app).start();
    let ask = |method: &str, fields: &[(&str, &str)]| {
        Client::to(sidegate.admin()).ask(method, "/metrics", fields, b"").status
    };
    assert!(matches!(ask("GET", &[("Host", "evil.example")]), 400..=499));
    assert!(matches!(ask("GET", &[("Host", sidegate.admin()), ("Origin", "http://evil.example")]), 400..=499));
    assert_eq!(ask("GET", &[("Host", sidegate.admin())]), 200);
}

#[test]
fn a_token_is_asked_for_where_one_is_set() {
    let app = Origin::saying("app");
    let text = Configuration::of(&app).text().replace("[admin]\n", "[admin]\ntoken = \"open-sesame-0123\"\n");
    let sidegate = crate::harness::Sidegate::start(&text);
    let ask = |value: &str| {
        Client::to(sidegate.admin())
            .get_with("/metrics", &[("Host", sidegate.admin()), ("Authorization", value)])
            .status
    };
    assert_eq!([ask("Bearer open-sesame-0123"), ask("Bearer open-sesame-0124"), ask("x")], [200, 401, 401]);
    assert_eq!(sidegate.ask_admin("/metrics").status, 401);
}

#[test]
fn the_access_log_has_a_line_for_each_request_and_no_credential() {
    let app = Origin::saying("app");
    let sidegate = Configuration::of(&app).start();
    let secrets = ["hidden-in-query", "hidden-in-bearer", "hidden-in-cookie", "hidden-in-key", "hidden-in-content"];
    let fields = [
        ("Authorization", "Bearer hidden-in-bearer"),
        ("Cookie", "sid=hidden-in-cookie"),
        ("X-Api-Key", "hidden-in-key"),
        ("User-Agent", "\"},\n"),
    ];
    let mut client = sidegate.client();
    client.ask("POST", "/page?a=1&token=hidden-in-query&b=2", &fields[..3], b"hidden-in-content");
    // A quotation mark or a line end cannot be in a target; a backslash can, and must not escape the line's own.
    client.get("/forged%22%7D%0A?}{status:999\\");
    let line = sidegate.access_log(|line| line["method"] == "POST");
    assert_eq!(
        (&line["status"], &line["event"], &line["client"]),
        (&200.into(), &"request".into(), &"127.0.0.1".into())
    );
    assert!(line["duration_ms"].is_number() && line["route"].is_string() && line["upstream"] == "app", "{line}");
    assert!(line["target"].as_str().is_some_and(|target| target.starts_with("/page?a=1&")), "{line}");
    sidegate.access_log(|line| line["target"].as_str().is_some_and(|target| target.contains("forged")));
    let said = sidegate.output() + &sidegate.errors();
    for secret in secrets {
        assert!(!said.contains(secret), "{secret} is in the log");
    }
    for line in sidegate.output().lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("each line is JSON");
        assert_ne!(line["status"], 999);
    }
}
