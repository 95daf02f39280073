//! Whole messages for bad files, defaults against the reference, and what changes are called.
//!
//! `tests/fixtures/config/NAME.toml` is a file, `NAME.txt` everything that is said about it. `BLESS=1` writes the latter.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::*;

fn environment(name: &str) -> Option<String> {
    match name {
        "SET" => Some("value".into()),
        _ => None,
    }
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|ending| ending == "toml")).collect();
    files.sort();
    files
}

fn good(text: &str) -> Settings {
    match parse("sidegate.toml", text, &environment) {
        Ok(loaded) => loaded.settings,
        Err(report) => panic!("{report}"),
    }
}

fn bad(text: &str) -> Vec<String> {
    let report = parse("sidegate.toml", text, &environment).unwrap_err();
    report.diagnostics.into_iter().map(|diagnostic| diagnostic.message).collect()
}

const UPSTREAM: &str = "[upstream.app]\nservers = \"http://127.0.0.1:3000\"\n";

#[test]
fn every_bad_file_is_answered_with_its_whole_message() {
    let folder = folder("tests/fixtures/config");
    let mut wrong = String::new();
    let files = files(&folder);
    assert!(files.len() >= 25, "only {} files", files.len());
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        let said = match parse(name, &text, &environment) {
            Err(report) => format!("{report}\n"),
            Ok(loaded) => loaded.warnings.iter().map(|warning| format!("{warning}\n")).collect(),
        };
        assert!(!said.is_empty(), "{name} is a good file");
        let expected = file.with_extension("txt");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&expected, &said).unwrap();
        } else if std::fs::read_to_string(&expected).unwrap_or_default() != said {
            writeln!(wrong, "--- {name}\n{said}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "these files are answered otherwise (BLESS=1 accepts it):\n{wrong}");
}

#[test]
fn the_files_that_ship_are_good_and_say_nothing_in_vain() {
    let mut files = files(&folder("config/examples"));
    files.extend([folder("config/sidegate.toml"), folder("config/starter.toml")]);
    for file in files {
        // What Laravel's `key:generate` makes is a secret of a form of its own.
        let secret = |name: &str| match name {
            "APP_KEY" => Some("base64:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=".to_owned()),
            name => (!name.ends_with("_URL")).then(|| "secret".to_owned()),
        };
        match load(&file, &secret) {
            Ok(loaded) => assert!(loaded.warnings.is_empty(), "{}: {}", file.display(), loaded.warnings[0]),
            Err(report) => panic!("{report}"),
        }
    }
}

#[test]
fn the_starter_is_good_with_all_it_offers_switched_on() {
    let all = uncommented(STARTER);
    assert_ne!(all, STARTER);
    let loaded = parse("starter.toml", &all, &environment).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(loaded.warnings, []);
}

const REFERENCE: &str = include_str!("../../config/reference.toml");

#[test]
fn the_reference_states_the_defaults_of_the_code() {
    let stated = sections(&good(REFERENCE));
    let minimal = r#"
        [redis]
        url = "redis://127.0.0.1:6379"
        [upstream.app]
        servers = ["http://127.0.0.1:3000"]
        [limit.per-address]
        key = "address"
        quota = "100 per minute"
        [cache.pages]
        [session.web]
        format = "json"
        [cors.spa]
        origins = "https://app.example.com"
        [[route]]
        path = "/{*rest}"
        limits = ["per-address"]
        cache = "pages"
        session = "web"
        cors = "spa"
    "#;
    assert_eq!(stated, sections(&good(minimal)));
}

#[test]
fn what_the_reference_shows_without_default_is_good_too() {
    let all = uncommented(REFERENCE);
    let messages = match parse("config/reference.toml", &all, &|_| Some("secret".into())) {
        Ok(loaded) => loaded.warnings.into_iter().map(|warning| warning.message).collect(),
        Err(report) => report.diagnostics.into_iter().map(|diagnostic| diagnostic.message).collect::<Vec<_>>(),
    };
    // The certificates are an example's names; the example's server speaks http, its Redis stands alone, its session
    // believes nobody, and its only route needs a login.
    let example = [
        "cannot read config/",
        "`tls` is for https",
        "`tls` is for rediss",
        "this login is for sentinels",
        "`max_delay` goes with",
        "nobody can log in",
    ];
    // A limit has a quota or counts requests in flight, and the reference shows both; and its cache stands under a session.
    let either = [
        "`grace` does nothing",
        "says nothing about requests in flight",
        "not beside a plan's",
        "has a cost in units",
        "a request for it is answered 401",
        "only what says that it is for all is stored",
        "is of format `php`",
        "is of format `laravel`",
        "is of format `spring`",
        "is of format `custom`",
        "`secrets` does nothing",
    ];
    let known = |message: &String| {
        example.iter().any(|start| message.starts_with(start)) || either.iter().any(|end| message.ends_with(end))
    };
    assert!(messages.iter().all(known), "{messages:#?}");
}

/// The keys that the code knows are those its own message about an unknown one lists.
#[test]
fn the_reference_has_every_key() {
    let mut asking = "zzz = 0\n".to_owned();
    for line in uncommented(REFERENCE).lines() {
        let line = line.split(" #").next().unwrap().trim_end();
        let inline = line.find("= {").filter(|_| !line.contains("forward") && !line.contains("env ="));
        match inline {
            Some(open) => writeln!(asking, "{}zzz = 0, {}", &line[..open + 3], &line[open + 3..]).unwrap(),
            None => writeln!(asking, "{line}").unwrap(),
        }
        if line.starts_with('[') {
            asking.push_str("zzz = 0\n");
        }
    }
    let report = parse("reference.toml", &asking, &|_| Some("secret".into())).unwrap_err();
    let mut tables = 0;
    for diagnostic in report.diagnostics.iter().filter(|diagnostic| diagnostic.message.starts_with("unknown key `zzz`"))
    {
        tables += 1;
        let known = diagnostic.help.as_deref().unwrap().strip_prefix("known here: ").unwrap();
        let start = diagnostic.at.as_ref().unwrap().start;
        let line = asking[..start].rfind('\n').map_or(0, |end| end + 1);
        let rest = &asking[line..];
        let inline = !rest.starts_with("zzz");
        let table = match (inline, line) {
            (true, _) => rest.split('\n').next().unwrap(),
            (false, 0) => rest,
            (false, _) => rest.split("\n[").next().unwrap(),
        };
        for key in known.split(", ") {
            let stands = [format!("\n{key} = "), format!(" {key} = "), format!("[{key}]"), format!("[{key}.")];
            let apart = asking.contains(&format!(".{key}]"));
            assert!(
                apart || stands.iter().any(|form| table.contains(form)),
                "{} has no `{key}`:\n{table}",
                diagnostic.message
            );
        }
    }
    assert_eq!(tables, 38, "{report}");
}

/// The text with lines like `# key = value` and `# [table]` made part of it.
fn uncommented(text: &str) -> String {
    let uncomment = |line: &str| {
        let inner = line.strip_prefix("# ").unwrap_or(line);
        let key = inner.split(" =").next().unwrap_or_default();
        let is_key = inner.contains(" = ") && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        if is_key || inner.starts_with('[') { format!("{inner}\n") } else { format!("{line}\n") }
    };
    text.lines().map(uncomment).collect()
}

#[test]
fn a_file_with_an_upstream_alone_forwards_everything_to_it() {
    let settings = good(UPSTREAM);
    assert_eq!(settings.routes.len(), 1);
    assert_eq!(&*settings.routes[0].label, "/{*rest}");
    assert!(settings.routes[0].websocket);
    assert!(settings.redis.is_none());
}

#[test]
fn an_upstream_is_all_that_a_start_without_file_needs() {
    let settings = from_upstream("http://127.0.0.1:3000", &environment).unwrap();
    assert_eq!(sections(&settings), sections(&good(UPSTREAM)));
    let report = from_upstream("127.0.0.1:3000", &environment).unwrap_err();
    assert_eq!(report.to_string(), "error: `127.0.0.1:3000` lacks the scheme: `http://127.0.0.1:3000`");
}

#[test]
fn redis_url_counts_only_where_the_file_names_no_redis() {
    let with_url = |name: &str| (name == "REDIS_URL").then(|| "redis://from-environment".to_owned());
    let shown = |text: &str| parse("f", text, &with_url).unwrap().settings.redis.unwrap().shown();
    assert_eq!(shown(UPSTREAM), "redis://from-environment:6379");
    assert_eq!(shown(&format!("{UPSTREAM}[redis]\nprefix = \"p:\"")), "redis://from-environment:6379");
    assert_eq!(shown(&format!("{UPSTREAM}[redis]\nurl = \"redis://from-file\"")), "redis://from-file:6379");
    assert_eq!(from_upstream("http://a", &with_url).unwrap().redis.unwrap().shown(), "redis://from-environment:6379");
    let wrong = |name: &str| (name == "REDIS_URL").then(|| "http://u:hunter2@x".to_owned());
    let report = parse("f", UPSTREAM, &wrong).unwrap_err().to_string();
    assert!(report.contains("REDIS_URL: a Redis URL begins with"), "{report}");
    assert!(!report.contains("hunter2"), "{report}");
}

#[test]
fn secrets_come_from_the_text_the_environment_or_a_file() {
    use secrecy::ExposeSecret;
    let folder = std::env::temp_dir().join(format!("sidegate-secret-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("token"), "from a file\n").unwrap();
    let name = folder.join("sidegate.toml").display().to_string();
    for (token, expected) in
        [("\"plain\"", "plain"), ("{ env = \"SET\" }", "value"), ("{ file = \"token\" }", "from a file")]
    {
        let text = format!("{UPSTREAM}[admin]\ntoken = {token}");
        let loaded = parse(&name, &text, &environment).unwrap_or_else(|report| panic!("{report}"));
        assert_eq!(loaded.settings.admin.token.unwrap().expose_secret(), expected);
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn certificates_come_from_the_environment_and_one_that_ends_soon_or_has_ended_is_warned_of() {
    let made = |days: i64| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["a.test".into()]).unwrap();
        let end = crate::clock::Clock::System.unix_seconds().saturating_add_signed(days * 24 * 3600);
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(end);
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    };
    for (days, warned) in [(100, None), (5, Some("CERTIFICATE expires on 20")), (-1, Some("CERTIFICATE expired on 20"))]
    {
        let (certificate, key) = made(days);
        let environment = |name: &str| match name {
            "CERTIFICATE" => Some(certificate.clone()),
            "KEY" => Some(key.clone()),
            _ => None,
        };
        let tls = "[server.tls]\ncertificate = { env = \"CERTIFICATE\" }\nkey = { env = \"KEY\" }\n";
        let loaded = parse("f", &format!("{UPSTREAM}{tls}"), &environment).unwrap_or_else(|report| panic!("{report}"));
        assert!(loaded.settings.files().is_empty());
        let warnings: Vec<_> = loaded.warnings.iter().map(|warning| warning.message.as_str()).collect();
        assert_eq!(warnings.len(), usize::from(warned.is_some()), "{warnings:?}");
        let right = |warning: &&str| warned.is_some_and(|warned| warning.starts_with(warned));
        assert!(warnings.iter().all(right), "{warnings:?}");
        let shown = format!("{:?}{:?}", sections(&loaded.settings), loaded.settings);
        assert!(shown.contains("a.test") && !shown.contains("PRIVATE") && !shown.contains(&key[60..100]), "{shown}");
    }
}

#[test]
fn the_demo_is_a_good_configuration_with_redis_and_without() {
    let place = std::net::SocketAddr::from(([127, 0, 0, 1], 3000));
    for redis in [None, Some("redis://127.0.0.1:6379")] {
        let text = crate::cli::demo::configuration(place, "127.0.0.1:0", redis);
        let loaded =
            parse_keeping_sessions("demo.toml", &text, &environment).unwrap_or_else(|report| panic!("{report}"));
        assert_eq!(loaded.warnings, []);
    }
}

#[test]
fn a_session_reads_the_attributes_that_the_limits_of_its_routes_need() {
    let settings = good(&format!(
        "{UPSTREAM}
        [redis]
        url = \"redis://127.0.0.1\"
        [session.web]
        format = \"hash\"
        [limit.plan]
        key = [\"session:plan\", \"session:org.id\"]
        quota = \"1 per second\"
        [[route]]
        path = \"/\"
        session = {{ use = \"web\", mode = \"optional\" }}
        limits = \"plan\""
    ));
    let session = settings.routes[0].session.as_ref().unwrap();
    assert_eq!(session.definition.attributes, ["plan", "org.id"]);
    assert_eq!(session.mode, crate::session::Mode::Optional);
    assert_eq!(settings.routes[0].limits[0].counting().map(|counting| counting.burst), Some(1));
}

#[test]
fn a_public_path_is_a_route_of_its_own_wherever_its_requests_would_have_gone() {
    let settings = good(&format!(
        "{UPSTREAM}
        [redis]
        url = \"redis://127.0.0.1\"
        [session.web]
        format = \"json\"
        public = [\"/login\", \"/assets/{{*rest}}\"]
        [session.staff]
        format = \"json\"
        public = \"/login\"
        [[route]]
        path = \"/{{*rest}}\"
        session = {{ use = \"web\", require = {{ role = \"admin\" }} }}
        on_write = \"tag:{{rest}}\"
        [[route]]
        path = \"/{{*rest}}\"
        methods = \"POST\"
        session = {{ use = \"web\", mode = \"observe\" }}
        [[route]]
        hosts = \"staff.test\"
        path = \"/{{*rest}}\"
        session = \"staff\"
        [[route]]
        path = \"/assets/{{*all}}\"
        methods = \"PUT\"
        [[route]]
        hosts = \"open.test\"
        path = \"/{{*rest}}\""
    ));
    let told = |route: &crate::config::settings::RouteSettings| {
        let session = route.session.as_ref().map(|of| {
            let require = of.require.len();
            format!("{} {:?} {require}", of.definition.name, of.mode)
        });
        format!("{}: {}", route.label, session.unwrap_or_default())
    };
    let copies: Vec<_> = settings.routes[5..].iter().map(told).collect();
    let expected = [
        "POST /login: web Observe 0",
        "/login (public): web Optional 0",
        "staff.test/login (public): staff Optional 0",
        "open.test/login: ",
        "POST /assets/{*rest}: web Observe 0",
        "/assets/{*rest} (public): web Optional 0",
        "staff.test/assets/{*rest}: staff Required 0",
        "open.test/assets/{*rest}: ",
    ];
    assert_eq!(copies, expected);
    let names: Vec<&str> = settings.routes[6].pattern.parameters().map(|name| &**name).collect();
    assert_eq!((names, &settings.routes[6].on_write[..]), (vec!["rest"], &["tag:{rest}".to_owned()][..]));
}

#[test]
fn a_changed_configuration_is_told_in_readable_lines() {
    let file = |quota: &str, token: &str, routes: &str| {
        let limit = format!("[limit.each]\nkey = \"address\"\nquota = \"{quota}\"\n");
        let admin = format!("[admin]\ntoken = \"{token}\"\n");
        let route = "[[route]]\npath = \"/\"\nlimits = \"each\"\n";
        good(&format!("{UPSTREAM}{limit}{admin}{route}{routes}"))
    };
    let old = file("100 per minute", "a", "[[route]]\npath = \"/gone\"\n[[route]]\npath = \"/kept\"\n");
    assert_eq!(difference(&old, &old), Vec::<String>::new());
    let new =
        file("50 per minute", "b", "[[route]]\npath = \"/kept\"\nmax_body = \"1 MiB\"\n[[route]]\npath = \"/new\"");
    let expected = [
        "admin: token changed",
        "limit.each: quota 100 per minute → 50 per minute",
        "limit.each: burst 100 → 50",
        "route /gone removed",
        "route /kept: max_body unbounded → 1 MiB",
        "route /new added",
    ];
    assert_eq!(difference(&old, &new), expected);
}

#[test]
fn a_file_that_is_not_there_is_answered_with_how_to_get_one() {
    let report = load(Path::new("/nowhere/sidegate.toml"), &environment).unwrap_err().to_string();
    assert!(report.contains("cannot read /nowhere/sidegate.toml"), "{report}");
    assert!(report.contains("sidegate init > sidegate.toml"), "{report}");
}

#[test]
fn no_text_makes_the_reader_panic_and_no_error_is_without_a_message() {
    let fragments =
        ["", "[", "]", "a", "=", "\"", "[[route]]", "\n", "{", "}", "[server]\n", "listen=1", "'é", "\u{0}", "."];
    let mut state = 1_u32;
    for _ in 0..2_000 {
        let mut text = String::new();
        for _ in 0..6 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            text.push_str(fragments[state as usize / 65_536 % fragments.len()]);
        }
        if let Err(report) = parse("f", &text, &environment) {
            assert!(
                report.to_string().starts_with("error") || report.to_string().contains("\nerror"),
                "{text:?}: {report}"
            );
        }
    }
}

#[test]
fn the_text_rules_that_fixtures_do_not_show() {
    assert_eq!(bad("[upstream.app]\nservers = []"), ["`servers` is an empty list"]);
    let none = format!("{UPSTREAM}[server.tls]\ncertificates = []");
    assert_eq!(bad(&none)[0], "`certificates` is an empty list");
    assert_eq!(bad("upstream = 1"), ["`upstream` is a number, not a table"]);
    assert_eq!(bad(&format!("route = 1\n{UPSTREAM}")), ["`route` is not a list of tables"]);
    assert_eq!(
        bad(&format!("{UPSTREAM}[server]\nmax_header_size = \"1 KiB\"")),
        ["1 KiB is not between 8 KiB and 1 MiB"]
    );
}
