//! What limits tell their clients: fields, refusals of their own, and the page in a browser.

use std::process::{Command, Stdio};

use sfv::{List, ListEntry, Parser};

use crate::harness::{Answer, Configuration, Origin, RedisServer, Sidegate};

const BROWSER: (&str, &str) = ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8");
const PERSON: (&str, &str) = ("Sec-Fetch-User", "?1");

/// One request in `quota` for each address at `/limited`, and whatever else the limit says.
fn one(quota: &str, more: &str) -> String {
    format!(
        "[limit.one]\nkey = \"address\"\nquota = \"{quota}\"\nburst = 1\n{more}\n\
         [[route]]\npath = \"/limited\"\nlimits = [\"one\"]\n[[route]]\npath = \"/{{*rest}}\"\nlimits = []\n"
    )
}

/// A sidegate whose limit is used up at `/limited`.
fn spent(app: &Origin, quota: &str, more: &str) -> Sidegate {
    let sidegate = Configuration::of(app).with(&one(quota, more)).start();
    assert_eq!(sidegate.get("/limited").status, 200);
    sidegate
}

/// The names of a list's members, and their parameters as written.
fn members(answer: &Answer, name: &str) -> Vec<(String, Vec<(String, String)>)> {
    let list: List = Parser::new(answer.field(name).expect(name)).parse().expect("a structured field");
    let member = |entry: &ListEntry| {
        let ListEntry::Item(item) = entry else { panic!("an inner list: {answer:?}") };
        let parameter = |(key, value): (&sfv::Key, &sfv::BareItem)| {
            let text = value.as_string().map(|text| text.as_str().to_owned());
            let number = value.as_integer().map(|number| i64::from(number).to_string());
            (key.as_str().to_owned(), text.or(number).expect("a text or a number"))
        };
        let name = item.bare_item.as_string().expect("a name").as_str().to_owned();
        (name, item.params.iter().map(parameter).collect())
    };
    list.iter().map(member).collect()
}

#[test]
fn every_limit_of_a_request_is_told_and_every_one_that_refused_it() {
    let app = Origin::saying("app");
    let limit = |name: &str, quota: &str| format!("[limit.{name}]\nkey = \"address\"\nquota = \"{quota}\"\n");
    let tables = [limit("hourly", "2 per hour"), limit("daily", "2 per day"), limit("wide", "100 per day")].concat();
    let route = "[[route]]\npath = \"/{*rest}\"\nlimits = [\"hourly\", \"daily\", \"wide\"]\n";
    let sidegate = Configuration::of(&app).with(&(tables + route)).start();
    let first = sidegate.get("/");
    let policies = members(&first, "ratelimit-policy");
    let expected = [("hourly", "2", "3600"), ("daily", "2", "86400"), ("wide", "100", "86400")];
    let expected = expected.map(|(name, q, w)| (name.to_owned(), [("q", q), ("w", w)].map(owned).to_vec()));
    assert_eq!(policies, expected);
    let left: Vec<_> =
        members(&first, "ratelimit").into_iter().map(|(_, parameters)| parameters[0].1.clone()).collect();
    assert_eq!(left, ["1", "1", "99"]);

    assert_eq!(sidegate.get("/").status, 200);
    let refusal = sidegate.get("/");
    let problem = refusal.json();
    assert_eq!(problem["type"], "https://iana.org/assignments/http-problem-types#quota-exceeded");
    assert_eq!(problem["violated-policies"], serde_json::json!(["hourly", "daily"]));
    assert_eq!((&problem["limit"], &problem["quota"]), (&"daily".into(), &"2 per day".into()), "the longest wait");
    let windows = members(&refusal, "ratelimit");
    assert_eq!(windows[1].1, [("r", "0"), ("t", refusal.field("retry-after").unwrap())].map(owned));
}

fn owned((key, value): (&str, &str)) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

#[test]
fn a_limit_refuses_with_its_own_status_content_and_type_and_with_the_fields_of_any_other() {
    let app = Origin::saying("app");
    let refusal = "refusal = { status = 503, content = '{\"limit\": \"{limit}\", \"of\": \"{quota}\", \"wait\": {retry_after}}', content_type = \"application/json\" }";
    let sidegate = spent(&app, "1 per hour", refusal);
    for fields in [&[][..], &[BROWSER]] {
        let answer = sidegate.client().get_with("/limited", fields);
        assert_eq!((answer.status, answer.field("content-type")), (503, Some("application/json")));
        let wait = answer.number("retry-after");
        assert!((1..=3600).contains(&wait), "{answer:?}");
        assert_eq!(answer.json(), serde_json::json!({"limit": "one", "of": "1 per hour", "wait": wait}));
        assert_eq!((answer.number("x-ratelimit-remaining"), answer.field("cache-control")), (0, Some("no-store")));
    }
    let head = sidegate.client().ask("HEAD", "/limited", &[], b"");
    assert_eq!((head.status, head.content.len()), (503, 0));
    assert!(head.number("content-length") > 40, "{head:?}");
}

#[test]
fn a_status_alone_keeps_the_problem_document() {
    let app = Origin::saying("app");
    let sidegate = spent(&app, "1 per hour", "refusal = { status = 403 }");
    let answer = sidegate.get("/limited");
    assert_eq!((answer.status, answer.field("content-type")), (403, Some("application/problem+json")));
    assert_eq!((&answer.json()["status"], &answer.json()["limit"]), (&403.into(), &"one".into()));
    assert!(answer.number("retry-after") >= 1);
}

#[test]
fn a_quota_that_is_smaller_for_an_outage_says_so() {
    let mut redis = RedisServer::start();
    let app = Origin::saying("app");
    let sidegate = Configuration::of(&app).redis(&redis).with(&one("1 per hour", "")).start();
    assert_eq!(sidegate.get("/limited").status, 200);
    redis.kill();
    let answer = sidegate.get("/limited");
    assert_eq!((answer.status, &answer.json()["violated-policies"]), (429, &serde_json::json!(["one"])));
    assert_eq!(
        answer.json()["type"],
        "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity",
        "{answer:?}"
    );
}

#[test]
fn a_client_is_warned_before_it_is_refused_and_that_is_counted() {
    let app = Origin::saying("app");
    let tables = "[limit.ten]\nkey = \"address\"\nquota = \"10 per hour\"\nwarn_at = \"80%\"\n\
                  [[route]]\npath = \"/{*rest}\"\nlimits = [\"ten\"]\n";
    let sidegate = Configuration::of(&app).with(tables).start();
    let mut client = sidegate.client();
    let warnings: Vec<_> = (0..11).map(|_| client.get("/").field("x-ratelimit-warning").map(str::to_owned)).collect();
    assert_eq!(warnings[..7], [const { None }; 7]);
    let shares = ["80", "90", "100"].map(|used| Some(format!("ten; used={used}")));
    assert_eq!(warnings[7..10], shares);
    assert_eq!(warnings[10], None, "a refusal says it all");
    assert_eq!(sidegate.metric("sidegate_limit_warnings_total{limit=\"ten\"}"), 3.0);
}

#[test]
fn partitions_are_told_apart_on_demand_alike_on_every_instance_and_without_the_key() {
    let redis = RedisServer::start();
    let app = Origin::saying("app");
    let tables = "[limits]\npartition_keys = true\n[limit.keyed]\nkey = \"header:X-Api-Key\"\nquota = \"9 per hour\"\n\
                  [[route]]\npath = \"/{*rest}\"\nlimits = [\"keyed\"]\n";
    let config = Configuration::of(&app).redis(&redis).with(tables);
    let (one, two) = (config.start(), config.start());
    let partition = |sidegate: &Sidegate, key: &str| {
        let answer = sidegate.client().get_with("/", &[("X-Api-Key", key)]);
        let list: List = Parser::new(answer.field("ratelimit").expect("RateLimit")).parse().expect("a list");
        let ListEntry::Item(member) = &list[0] else { panic!("an inner list") };
        member.params["pk"].as_byte_sequence().expect("bytes").to_vec()
    };
    let alice = partition(&one, "alice");
    assert_eq!((alice.len(), &partition(&two, "alice")), (6, &alice));
    assert_ne!(partition(&one, "bob"), alice);
}

/// Whether every element that is opened is closed, and in order.
fn is_balanced(page: &str) -> bool {
    let mut open = Vec::new();
    for tag in page.split('<').skip(1).filter_map(|piece| piece.split('>').next()) {
        match tag.strip_prefix('/') {
            Some(name) if open.pop() != Some(name) => return false,
            Some(_) => {}
            None if tag.starts_with("!doctype") || tag.starts_with("meta") => {}
            None => open.push(tag.split(' ').next().unwrap_or_default()),
        }
    }
    open.is_empty()
}

#[test]
fn a_browser_gets_a_page_that_stands_alone_and_says_when_to_come_back() {
    let app = Origin::saying("app");
    let sidegate = spent(&app, "1 per hour", "");
    let answer = sidegate.client().get_with("/limited", &[BROWSER, PERSON]);
    let page = answer.text();
    assert_eq!((answer.status, answer.field("content-type")), (429, Some("text/html; charset=utf-8")));
    assert!(is_balanced(&page), "{page}");
    for part in [
        "<html lang=\"en\">",
        "<title>Too many requests</title>",
        "<main>",
        "<h1>Too many requests</h1>",
        "role=\"alert\"",
    ] {
        assert_eq!(page.matches(part).count(), 1, "{part} in {page}");
    }
    assert!(page.contains("Please <a href=\"\">try again</a> in 60 minutes."), "{page}");
    assert!(page.contains("prefers-color-scheme:dark") && page.contains("The limit &quot;one&quot; is 1 per hour."));
    for foreign in ["<script", "src=", "url(", "http:", "https:", "http-equiv"] {
        assert!(!page.contains(foreign), "{foreign} in {page}");
    }
}

#[test]
fn a_page_comes_back_by_itself_only_for_a_person_that_was_going_somewhere_and_only_soon() {
    let app = Origin::saying("app");
    let sidegate = spent(&app, "1 per 50s", "");
    let refreshes = |method: &str, fields: &[(&str, &str)]| {
        let answer = sidegate.client().ask(method, "/limited", fields, b"");
        let seconds = answer.number("retry-after");
        answer.text().contains(&format!("<meta http-equiv=\"refresh\" content=\"{seconds}\">"))
    };
    assert!(refreshes("GET", &[BROWSER, PERSON]));
    assert!(!refreshes("GET", &[BROWSER]), "as the page's own reload");
    assert!(!refreshes("POST", &[BROWSER, PERSON]), "a form is not sent again as something else");
}

/// Runs where Chromium is; elsewhere, the tests above say as much as can be said without one.
#[test]
fn chromium_shows_the_page_and_comes_back_once() {
    if Command::new("chromium").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        return;
    }
    let app = Origin::saying("app");
    let sidegate = spent(&app, "1 per 60s", "");
    let profile = crate::harness::Directory::new();
    // Ten minutes of the browser's own time, which passes as fast as nothing happens.
    let output = Command::new("timeout")
        .args(["55", "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        .args(["--virtual-time-budget=600000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.file("profile").display()))
        .arg(format!("http://{}/limited", sidegate.address()))
        .output()
        .expect("timeout");
    let page = String::from_utf8_lossy(&output.stdout);
    assert!(page.contains("<h1>Too many requests</h1>") && page.contains(">try again</a> in "), "{output:?}");
    let refused = sidegate.metric("sidegate_limit_decisions_total{limit=\"one\",outcome=\"refused\"}");
    assert_eq!(refused, 2.0, "the navigation, and the page's own reload");
}
