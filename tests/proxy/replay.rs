//! `sidegate replay`: what it says of a log is what an independent count says, and what the proxy itself did.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;

use crate::harness::sidegate::{command, run};
use crate::harness::{Configuration, Directory, Origin, RedisServer, signal, until};

const LOGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/logs/");

/// Limits whose intervals are whole seconds, so that a count in whole numbers is exact.
const TABLES: &str = r#"
[limit.each]
key = "address"
quota = "6 per minute"

[limit.guesses]
key = "address"
quota = "2 per hour"
count = ["401"]

[[route]]
path = "/login"
methods = ["POST"]
limits = ["each", "guesses"]

[[route]]
path = "/{*rest}"
limits = ["each"]
"#;

struct Bench {
    directory: Directory,
}

impl Bench {
    fn of(tables: &str) -> Self {
        let directory = Directory::new();
        let configuration = Configuration::to("http://127.0.0.1:1").with(tables);
        std::fs::write(directory.file("sidegate.toml"), configuration.text())
            .expect("the configuration can be written");
        Self { directory }
    }

    fn log(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.directory.file(name);
        std::fs::write(&path, content).expect("the log can be written");
        path.display().to_string()
    }

    /// Exit code, standard output, standard error.
    fn replay(&self, arguments: &[&str]) -> (i32, String, String) {
        let file = self.directory.file("sidegate.toml").display().to_string();
        run(&[&["replay", "--config", &file], arguments].concat(), &self.directory.file(""))
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let (code, said, errors) = self.replay(&[&["--json"], arguments].concat());
        assert_eq!(code, 0, "{said}{errors}");
        serde_json::from_str(&said).expect("JSON")
    }
}

fn limit<'r>(report: &'r Value, name: &str) -> &'r Value {
    let limits = report["limits"].as_array().expect("limits");
    limits.iter().find(|limit| limit["name"] == name).unwrap_or_else(|| panic!("no limit {name} in {report}"))
}

fn fixture(name: &str) -> String {
    format!("{LOGS}{name}")
}

/// A request in a fixture, read without the proxy's help.
#[derive(Clone, Debug)]
struct Seen {
    second: i64,
    key: String,
    login: bool,
    status: u16,
}

/// The requests in the lines of a combined log, by their times.
fn seen(log: &str) -> Vec<Seen> {
    let one = |line: &str| {
        let (head, rest) = line.split_once("] \"")?;
        let (before, time) = head.rsplit_once(" [")?;
        let client = before.split(' ').find(|word| word.parse::<std::net::IpAddr>().is_ok())?;
        let (request, rest) = rest.split_once("\" ")?;
        let mut words = request.split(' ');
        let (method, target, version) = (words.next()?, words.next()?, words.next()?);
        if words.next().is_some() || !version.starts_with("HTTP/") {
            return None;
        }
        let digits = |from: usize, to: usize| time[from..to].parse::<i64>().ok();
        let month = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let month = month.iter().position(|name| *name == &time[3..6])? as i64;
        // Days in order, all that a count by differences needs.
        let day = digits(7, 11)? * 372 + month * 31 + digits(0, 2)?;
        Some(Seen {
            second: day * 86_400 + digits(12, 14)? * 3600 + digits(15, 17)? * 60 + digits(18, 20)?,
            key: subscriber(client),
            login: method == "POST" && target == "/login",
            status: rest[..3].parse().ok()?,
        })
    };
    let mut seen: Vec<Seen> = log.lines().filter_map(one).collect();
    seen.sort_by_key(|request| request.second);
    seen
}

/// IPv6 counts by its /64.
fn subscriber(client: &str) -> String {
    match client.parse::<std::net::Ipv6Addr>().map(|address| address.segments()) {
        Ok([a, b, c, d, ..]) => format!("{a:x}:{b:x}:{c:x}:{d:x}::/64"),
        Err(_) => client.to_owned(),
    }
}

/// A token bucket, in millionths of a second: `amount` in `window` seconds, all of them at once.
#[derive(Clone, Copy)]
struct Bucket {
    interval: i64,
    tolerance: i64,
    full_at: i64,
}

impl Bucket {
    fn new(amount: i64, window: i64) -> Self {
        Self { interval: window * 1_000_000 / amount, tolerance: window * 1_000_000, full_at: 0 }
    }

    fn has_room(&self, second: i64) -> bool {
        self.full_at.max(second * 1_000_000) + self.interval <= second * 1_000_000 + self.tolerance
    }

    fn take(&mut self, second: i64) {
        self.full_at = self.full_at.max(second * 1_000_000) + self.interval;
    }
}

/// Requests and refusals by key, under `each` alone.
fn counted(requests: &[Seen], amount: i64, window: i64) -> BTreeMap<String, (u64, u64)> {
    let mut keys: BTreeMap<String, (Bucket, u64, u64)> = BTreeMap::new();
    for request in requests {
        let (bucket, asked, refused) = keys.entry(request.key.clone()).or_insert((Bucket::new(amount, window), 0, 0));
        *asked += 1;
        if bucket.has_room(request.second) { bucket.take(request.second) } else { *refused += 1 }
    }
    keys.into_iter().map(|(key, (_, asked, refused))| (key, (asked, refused))).collect()
}

const ONE: &str = r#"
[limit.each]
key = "address"
quota = "6 per minute"
[[route]]
path = "/{*rest}"
limits = ["each"]
"#;

#[test]
fn what_is_told_of_a_log_is_what_is_in_it() {
    let bench = Bench::of(ONE);
    for (name, keys_at_least) in [("apache-vhost-combined.log", 60), ("nginx-combined.log", 6)] {
        let requests = seen(&std::fs::read_to_string(fixture(name)).expect("a fixture"));
        let keys = counted(&requests, 6, 60);
        let refused: u64 = keys.values().map(|(_, refused)| refused).sum();
        assert!(keys.len() >= keys_at_least && refused > 0, "{name}: {} keys, {refused} refused", keys.len());

        let report = bench.json(&["--reveal", "--top", "1000", &fixture(name)]);
        let each = limit(&report, "each");
        assert_eq!(report["judged"], requests.len(), "{name}");
        assert_eq!((&each["judged"], &each["refused"]), (&requests.len().into(), &refused.into()), "{name}");
        assert_eq!(report["refused"], refused);
        assert_eq!(each["keys"], keys.len());
        let told: BTreeMap<String, (u64, u64)> = each["refused_most"]
            .as_array()
            .expect("keys")
            .iter()
            .map(|of| {
                let number = |what: &str| of[what].as_u64().expect("a number");
                (of["key"].as_str().expect("a key").to_owned(), (number("judged"), number("refused")))
            })
            .collect();
        let expected: BTreeMap<_, _> =
            keys.iter().filter(|(_, of)| of.1 > 0).map(|(key, of)| (key.clone(), *of)).collect();
        assert_eq!(told, expected, "{name}");
        assert_eq!(each["keys_refused"], expected.len());

        // The busiest minute, and the most that a key asks for in one.
        let mut minutes: BTreeMap<i64, u64> = BTreeMap::new();
        let mut of_keys: BTreeMap<(&str, i64), u64> = BTreeMap::new();
        for request in &requests {
            *minutes.entry(request.second / 60).or_default() += 1;
            *of_keys.entry((&request.key, request.second / 60)).or_default() += 1;
        }
        assert_eq!(each["busiest_minute"]["requests"].as_u64(), minutes.values().max().copied(), "{name}");
        assert_eq!(each["peak"]["max"].as_u64(), of_keys.values().max().copied(), "{name}");

        // Fewer than a thousand keys: the quota that is suggested refuses none, and the one before it some.
        let steps = [1, 2, 5, 10, 20, 50, 100, 200, 500];
        let spares = |amount: &&i64| counted(&requests, **amount, 60).values().all(|(_, refused)| *refused == 0);
        let smallest = steps.iter().find(spares).expect("a quota that is large enough");
        assert_eq!(each["suggestion"]["amount"].as_i64(), Some(*smallest), "{name}");
        assert_eq!(each["suggestion"]["quota"], format!("{smallest} per minute"));
    }
}

#[test]
fn limits_of_one_request_are_settled_together_and_statuses_are_charged_after() {
    let name = fixture("apache-vhost-combined.log");
    let requests = seen(&std::fs::read_to_string(&name).expect("a fixture"));
    let (mut each, mut guesses) = (BTreeMap::new(), BTreeMap::new());
    let (mut all, mut by_each, mut by_guesses) = (0, 0, 0);
    for request in &requests {
        let each = each.entry(request.key.clone()).or_insert(Bucket::new(6, 60));
        let guesses = guesses.entry(request.key.clone()).or_insert(Bucket::new(2, 3600));
        let (first, second) = (each.has_room(request.second), !request.login || guesses.has_room(request.second));
        by_each += u64::from(!first);
        by_guesses += u64::from(!second);
        all += u64::from(!(first && second));
        if first && second {
            each.take(request.second);
            if request.login && request.status == 401 {
                guesses.take(request.second);
            }
        }
    }
    assert!(by_guesses > 0 && all < by_each + by_guesses, "the fixture shows both, and both at once");
    let report = Bench::of(TABLES).json(&[&name]);
    assert_eq!(report["refused"], all);
    assert_eq!(limit(&report, "each")["refused"], by_each);
    let told = limit(&report, "guesses");
    assert_eq!(
        (&told["refused"], &told["judged"]),
        (&by_guesses.into(), &requests.iter().filter(|of| of.login).count().into())
    );
}

#[test]
fn windows_and_logs_are_counted_as_what_they_are() {
    let name = fixture("apache-vhost-combined.log");
    let requests = seen(&std::fs::read_to_string(&name).expect("a fixture"));
    let refused = |fits: &dyn Fn(&[i64], i64) -> bool| {
        let mut spent: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        let refuses = |request: &&Seen| {
            let spent = spent.entry(request.key.clone()).or_default();
            let fits = fits(spent, request.second);
            spent.extend(fits.then_some(request.second));
            !fits
        };
        requests.iter().filter(refuses).count()
    };
    let fixed = refused(&|spent, now| spent.iter().filter(|at| **at / 60 == now / 60).count() < 6);
    let log = refused(&|spent, now| spent.iter().filter(|at| **at + 60 > now).count() < 6);
    assert!(0 < fixed && fixed < log, "the fixture tells them apart: {fixed}, {log}");
    for (algorithm, expected) in [("fixed-window", fixed), ("sliding-log", log)] {
        let quota = format!("quota = \"6 per minute\"\nalgorithm = {algorithm:?}");
        let report = Bench::of(&ONE.replace("quota = \"6 per minute\"", &quota)).json(&[&name]);
        let each = limit(&report, "each");
        assert_eq!(each["refused"], expected, "{algorithm}");
        // The busiest window of fixed ones is what they need.
        let (peak, amount) = (each["peak"]["max"].as_u64(), each["suggestion"]["amount"].as_u64());
        assert!(amount >= peak && amount <= peak.map(|peak| peak * 3), "{algorithm}: {amount:?} for {peak:?}");
    }
}

#[test]
fn shadow_trial_and_exemptions_count_as_they_would_live() {
    let name = fixture("apache-vhost-combined.log");
    let requests = seen(&std::fs::read_to_string(&name).expect("a fixture"));
    let tables = ONE.replace(
        "quota = \"6 per minute\"",
        "quota = \"6 per minute\"\nshadow = true\ntrial = \"10 per minute\"\nexempt = { addresses = [\"2001:db8::/32\"] }",
    );
    let report = Bench::of(&tables).json(&[&name]);
    let (exempt, counts): (Vec<Seen>, Vec<Seen>) = requests.into_iter().partition(|request| request.key.contains(':'));
    let all = |amount| {
        counted(&counts, amount, 60).values().fold((0, 0), |sum, of| (sum.0 + of.1, sum.1 + usize::from(of.1 > 0)))
    };
    let (shadow, trial) = (all(6), all(10));
    assert!(!exempt.is_empty() && trial.0 > 0 && trial.0 < shadow.0, "the fixture shows each");
    let each = limit(&report, "each");
    assert_eq!(report["refused"], 0, "nobody is refused by one in shadow");
    assert_eq!((&each["judged"], &each["exempt"]), (&counts.len().into(), &exempt.len().into()));
    assert_eq!((&each["refused"], &each["keys_refused"]), (&shadow.0.into(), &shadow.1.into()));
    assert_eq!((&each["trial"]["refused"], &each["trial"]["keys_refused"]), (&trial.0.into(), &trial.1.into()));
}

#[test]
fn what_is_told_of_our_own_log_is_what_the_proxy_did() {
    let app = Origin::saying("app");
    let tables = ONE.replace("6 per minute", "5 per hour");
    let configuration = Configuration::of(&app).server("trusted_proxies = [\"127.0.0.1\"]").with(&tables);
    let sidegate = configuration.start();
    let mut client = sidegate.client();
    let mut refused = 0;
    for (address, requests) in [("192.0.2.1", 9), ("192.0.2.2", 5), ("192.0.2.3", 7), ("192.0.2.1", 1)] {
        for _ in 0..requests {
            let answer = client.get_with("/a?token=secret", &[("X-Forwarded-For", address)]);
            refused += u64::from(answer.status == 429);
        }
    }
    assert_eq!(refused, 7);
    until("22 lines in the access log", || sidegate.output().matches("\"event\":\"request\"").count() == 22);
    let bench = Bench::of(&tables);
    let report = bench.json(&["--reveal", &bench.log("access.log", sidegate.output())]);
    let each = limit(&report, "each");
    assert_eq!((&each["judged"], &each["refused"]), (&22.into(), &refused.into()), "{report}");
    let most = &each["refused_most"];
    assert_eq!((&most[0]["key"], &most[0]["refused"]), (&"192.0.2.1".into(), &5.into()));
    assert_eq!((&most[1]["key"], &most[1]["refused"]), (&"192.0.2.3".into(), &2.into()));
    assert_eq!(each["suggestion"]["amount"], 10);
}

#[test]
fn a_browser_that_was_sent_to_the_login_is_the_401_that_it_was_counted_as() {
    let (redis, app) = (RedisServer::start(), Origin::saying("app"));
    let tables = "[limit.guesses]\nkey = \"address\"\nquota = \"3 per hour\"\ncount = [401]\n\
                  [session.web]\nformat = \"json\"\nlogin_url = \"/login\"\n\
                  [[route]]\npath = \"/{*rest}\"\nsession = \"web\"\nlimits = [\"guesses\"]\n";
    let sidegate = Configuration::of(&app).redis(&redis).with(tables).start();
    let mut client = sidegate.client();
    let mut statuses = Vec::new();
    // What an answer costs is charged behind it.
    until("a refusal", || {
        statuses.push(client.get_with("/a", &[("Accept", "text/html")]).status);
        statuses.last() == Some(&429)
    });
    let sent = statuses.len() - 1;
    assert!(sent >= 3 && statuses[..sent].iter().all(|status| *status == 302), "{statuses:?}");
    let requests = || sidegate.output().matches("\"event\":\"request\"").count();
    until("all lines of the access log", || requests() == statuses.len());
    let directory = Directory::new();
    let file = directory.file("sidegate.toml").display().to_string();
    std::fs::write(&file, Configuration::of(&app).redis(&redis).with(tables).text()).expect("a configuration");
    let log = directory.file("access.log").display().to_string();
    std::fs::write(&log, sidegate.output()).expect("a log");
    let (_, said, errors) = run(&["replay", "--config", &file, "--json", &log], &directory.file(""));
    let report: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {errors}"));
    let guesses = limit(&report, "guesses");
    // In a log each is charged before the next one comes.
    let refused = statuses.len() - 3;
    assert_eq!((&guesses["judged"], &guesses["refused"]), (&statuses.len().into(), &refused.into()), "{report}");
}

#[test]
fn a_json_log_tells_the_fields_that_limits_count_by_and_a_combined_one_does_not() {
    let bench = Bench::of(&ONE.replace("\"address\"", "\"header:X-Api-Key\""));
    let json = fixture("nginx-json.log");
    let text = String::from_utf8_lossy(&std::fs::read(&json).expect("a fixture")).into_owned();
    let lines = text.lines().filter(|line| line.contains(" HTTP/1.1\",\"http_host\":\"app.example\""));
    // Who sends none counts by address.
    let mut keys: Vec<String> = lines
        .map(|line| {
            let of = |name: &str| line.split_once(name).and_then(|(_, rest)| rest.split('"').next()).expect("a member");
            let key = of("\"http_x_api_key\":\"");
            if key.is_empty() { subscriber(of("\"remote_addr\":\"")) } else { key.to_owned() }
        })
        .collect();
    let judged = keys.len();
    keys.sort_unstable();
    keys.dedup();
    let report = bench.json(&["--reveal", "--top", "100", &json]);
    let each = limit(&report, "each");
    assert_eq!((&each["keys"], &each["judged"]), (&keys.len().into(), &judged.into()), "{report}");
    assert!(
        keys.contains(&"alpha".to_owned()) && !report.to_string().contains("alpha"),
        "not even --reveal shows an API key"
    );

    let report = bench.json(&[&fixture("nginx-combined.log")]);
    assert_eq!(limit(&report, "each")["judged"], 0);
    let warned = report["warnings"].to_string();
    assert!(warned.contains("160 requests left out: their lines do not tell header:x-api-key"), "{warned}");
}

#[test]
fn several_logs_are_read_as_one_whatever_their_order() {
    let bench = Bench::of(ONE);
    let whole = std::fs::read_to_string(fixture("apache-vhost-combined.log")).expect("a fixture");
    let lines: Vec<&str> = whole.lines().collect();
    let (rotated, current) = lines.split_at(lines.len() / 2);
    let part = |name: &str, lines: &[&str]| bench.log(name, lines.join("\n"));
    let (rotated, current) = (part("access.log.1", rotated), part("access.log", current));
    let servers = [0, 1].map(|turn| {
        let lines: Vec<&str> = lines.iter().skip(turn).step_by(2).copied().collect();
        part(&format!("server-{turn}.log"), &lines)
    });
    let mut expected = bench.json(&[&fixture("apache-vhost-combined.log")]);
    expected["limits"][0]["refused_most"] = Value::Null;
    for logs in [[&*current, &*rotated], [&*rotated, &*current], [&*servers[1], &*servers[0]]] {
        let mut report = bench.json(&logs);
        // Of keys with as many refusals, the order is that of the lines.
        report["limits"][0]["refused_most"] = Value::Null;
        assert_eq!(report, expected, "{logs:?}");
    }
}

#[test]
fn lines_that_come_too_late_are_left_out_and_said() {
    let bench = Bench::of(ONE);
    let line = |second: u64| format!("192.0.2.1 - - [10/Oct/2000:13:00:{second:02} +0000] \"GET / HTTP/1.1\" 200 1\n");
    let log = bench.log("a.log", [0, 40, 41, 59, 20, 58].map(line).concat());
    assert_eq!(bench.json(&[&log])["judged"], 6, "everything was still waiting, or in time");
    // Lines are judged by the hundred: between these, and the late ones, are enough.
    let many = line(59).repeat(1000);
    let log = bench.log("b.log", format!("{}{}{many}{}{}", line(0), line(40), line(20), line(55)));
    let report = bench.json(&["--reorder", "10s", &log]);
    assert_eq!((&report["lines"]["late"], &report["judged"]), (&1.into(), &1003.into()));
    let warned = report["warnings"].to_string();
    assert!(warned.contains("1 request left out: later by up to 20s than --reorder allows"), "{warned}");
}

#[test]
fn one_wrong_date_makes_nothing_else_late() {
    let bench = Bench::of(ONE);
    let line = |year: usize, second: usize| {
        format!("192.0.2.1 - - [10/Oct/{year}:13:00:{second:02} +0000] \"GET / HTTP/1.1\" 200 1\n")
    };
    let right: Vec<_> = (0..1000).map(|number| line(2000, number / 20)).collect();
    for place in [0, 500, 999] {
        let mut lines = right.clone();
        lines.insert(place, line(2100, 0));
        let report = bench.json(&[&bench.log("a.log", lines.concat())]);
        let (said, judged) = (&report["lines"], &report["judged"]);
        assert_eq!((&said["ahead"], &said["late"], judged), (&1.into(), &0.into(), &1000.into()), "{place}");
        assert_eq!(report["to"], "2000-10-10T13:00:49Z", "{place}");
        let warned = report["warnings"].to_string();
        assert!(warned.contains("1 line left out: ahead of the next one by more than --reorder"), "{warned}");
    }
    // Quiet hours are no wrong dates, and neither is a line after which nothing follows.
    let quiet: String = [2000, 2001, 2001, 2002, 2003].map(|year| line(year, 0)).concat();
    let report = bench.json(&[&bench.log("quiet.log", quiet)]);
    assert_eq!((&report["lines"]["ahead"], &report["judged"]), (&0.into(), &5.into()));
}

#[test]
fn hostile_lines_are_counted_and_harm_nothing_else() {
    let bench = Bench::of(ONE);
    let good = "192.0.2.1 - - [10/Oct/2000:13:00:00 +0000] \"GET / HTTP/1.1\" 200 1 \"-\" \"-\"\n".repeat(10);
    let bad: [&[u8]; 8] = [
        b"192.0.2.1 - - [10/Oct/2000:13:00:00 +0000] \"GET / HTTP/1.1\\\" 200 1\n",
        b"\0\0\0\0\n",
        b"\xff\xfe\x80 - - [\n",
        b"{\"time\":\n",
        b"{\"time\":1e999,\"client\":\"192.0.2.1\"}\n",
        b"] \"[ \" [\n",
        &[b"x".repeat(1_000_000).as_slice(), b"\n"].concat(),
        &[b"{\"a\":".repeat(10_000).as_slice(), b"\n"].concat(),
    ];
    let no_request = b"192.0.2.1 - - [10/Oct/2000:13:00:00 +0000] \"\\x00\\xff \\\"\" 400 1 \"-\" \"-\"\n";
    let log = [good.as_bytes(), &bad.concat(), no_request].concat();
    let (code, said, errors) = bench.replay(&["--json", &bench.log("hostile.log", &log)]);
    let report: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(code, 0, "{errors}");
    let lines = &report["lines"];
    assert_eq!((&lines["read"], &lines["unreadable"], &lines["no_request"]), (&19.into(), &8.into(), &1.into()));
    assert_eq!((&report["judged"], &report["refused"]), (&10.into(), &4.into()));
    assert!(errors.contains("hostile.log:11: the request's quotes do not end"), "{errors}");
    assert!(errors.is_ascii() && !errors.contains('\0'), "nothing of a line is shown");

    let (code, said, errors) = bench.replay(&[&bench.log("none.log", bad.concat())]);
    assert_eq!((code, said.as_str()), (1, ""));
    assert!(errors.starts_with("error: 8 of 8 lines cannot be read: is that an access log?"), "{errors}");
    assert!(errors.contains("none.log:2: "), "{errors}");
}

#[test]
fn more_keys_than_there_is_room_for_are_said() {
    let bench = Bench::of(ONE);
    let line = |client: usize| format!("192.0.2.{client} - - [10/Oct/2000:13:00:00 +0000] \"GET / HTTP/1.1\" 200 1\n");
    let log = bench.log("a.log", (0..200).map(line).collect::<String>());
    let report = bench.json(&["--max-keys", "150", &log]);
    let each = limit(&report, "each");
    assert_eq!((&each["keys"], &each["judged"]), (&150.into(), &150.into()));
    let beyond = each["keys_beyond"].as_u64().expect("a number");
    assert!((45..=55).contains(&beyond), "{beyond}");
}

#[test]
fn people_get_a_table_without_whole_addresses() {
    let bench = Bench::of(ONE);
    let (code, said, errors) = bench.replay(&["--top", "2", &fixture("apache-vhost-combined.log")]);
    assert_eq!(code, 0, "{errors}");
    for row in ["1,400 lines, ", "limit each: 6 per minute by address", "\n  refused     ", "\n  suggestion  "] {
        assert!(said.contains(row), "{row:?} in {said}");
    }
    assert_eq!(said.matches(" in its busiest minute").count(), 2, "{said}");
    assert!(!said.contains("198.51.100.") || said.contains("198.51.100.0/24"), "{said}");
    assert!(errors.contains("times are whole seconds"), "{errors}");
}

#[test]
fn what_cannot_be_used_is_said_with_the_code_for_it() {
    let bench = Bench::of(ONE);
    let log = fixture("nginx-combined.log");
    let missing = bench.replay(&["nowhere.log"]);
    assert_eq!(missing.0, 1);
    assert!(missing.2.starts_with("error: cannot read nowhere.log: "), "{}", missing.2);
    let zipped = bench.replay(&[&bench.log("a.log.gz", b"\x1f\x8b\x08\0")]);
    assert_eq!((zipped.0, zipped.2.contains("zcat")), (1, true), "{}", zipped.2);
    assert_eq!(bench.replay(&[]).0, 2, "no log");
    assert_eq!(bench.replay(&["--config", "nowhere.toml", &log]).0, 2);
    let unlimited = Bench::of("[[route]]\npath = \"/{*rest}\"\n").replay(&[&log]);
    assert_eq!((unlimited.0, unlimited.2.contains("has a limit")), (2, true), "{}", unlimited.2);
}

#[test]
fn an_interrupt_ends_it_with_a_report_of_what_was_read() {
    let bench = Bench::of(ONE);
    let file = bench.directory.file("sidegate.toml");
    let mut arguments = vec![PathBuf::from("replay"), "--json".into(), "-".into(), "--config".into()];
    arguments.push(file);
    let mut child = command()
        .args(&arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the sidegate binary starts");
    let mut input = child.stdin.take().expect("standard input");
    let lines = "192.0.2.1 - - [10/Oct/2000:13:00:00 +0000] \"GET / HTTP/1.1\" 200 1\n".repeat(100);
    // Far more than a pipe holds: it is reading, and has listened for the signal before.
    for _ in 0..100 {
        input.write_all(lines.as_bytes()).expect("it reads");
    }
    signal(i32::try_from(child.id()).expect("a process id"), libc::SIGINT);
    // It reads no further once it has noticed.
    while input.write_all(lines.as_bytes()).is_ok() {}
    let done = child.wait_with_output().expect("its end");
    let report: Value = serde_json::from_slice(&done.stdout).expect("a report");
    assert_eq!((done.status.code(), &report["complete"]), (Some(1), &false.into()));
    assert!(report["judged"].as_u64() >= Some(1000), "{report}");
}
