//! Holds `src/` to the import rule of `src/lib.rs` and to the habits that a compiler does not check.
//!
//! 1. A leaf imports only leaves; a room imports leaves and rooms that the request passed earlier.
//! 2. No room imports `config`, `app` or `cli`; only `app` and `cli` build a process out of a configuration.
//! 3. Only `redis_pool` opens Redis. (The sample app of the demo is an app: it opens its own.)
//! 4. Only `clock.rs` reads the machine's clocks. (tokio's `Instant` is another thing: it follows the time of the runtime,
//!    which tests can pause.)
//! 5. Pure files import no tokio, redis, hyper or tracing: those that ARCHITECTURE.md marks, and those that say so
//!    themselves (`Pure` in the page at their head).
//! 6. No file is longer than 500 lines, its tests aside, and none is called after nothing in particular.
//!
//! # Why
//! It reads text and knows no Rust: comments and test modules are blanked out, and what is left is searched for paths. That is
//! enough for code that `rustfmt` has been over, and it needs no parser that lags behind the language.

use std::fs;
use std::path::{Path, PathBuf};

/// Seen by everybody; see only each other.
const LEAVES: [&str; 5] = ["body", "clock", "exchange", "local_reply", "telemetry"];

/// In the order of `src/lib.rs`, which is the order in which a request passes them.
const ROOMS: [&str; 10] =
    ["redis_pool", "listener", "client_addr", "route", "gather", "rate_limit", "session", "cache", "upstream", "stack"];

/// What stands around the rooms, and what each sees of the others around.
const AROUND: [(&str, &[&str]); 4] =
    [("admin", &[]), ("config", &["admin"]), ("app", &["admin", "config"]), ("cli", &["admin", "app", "config"])];

/// The files that ARCHITECTURE.md marks as pure; `/` at the end: all below.
const PURE: [&str; 21] = [
    "cache/rules/",
    "cache/tags.rs",
    "client_addr/forwarded.rs",
    "client_addr/trusted.rs",
    "rate_limit/algorithm/",
    "rate_limit/fields.rs",
    "rate_limit/partition.rs",
    "rate_limit/quota.rs",
    "route/matcher.rs",
    "route/pattern.rs",
    "route/table.rs",
    "session/binding.rs",
    "session/credential.rs",
    "session/verdict.rs",
    "telemetry/redact.rs",
    "telemetry/trace_context.rs",
    "upstream/balance.rs",
    "upstream/breaker.rs",
    "upstream/health.rs",
    "upstream/hop.rs",
    "upstream/retry.rs",
];

/// Names that say nothing.
const NAMELESS: [&str; 7] = ["utils", "util", "common", "helpers", "manager", "handler", "misc"];

#[test]
fn every_room_imports_only_what_the_request_passed_earlier() {
    let found: Vec<_> = sources().iter().flat_map(|file| forbidden_imports(&file.path, &file.code)).collect();
    assert!(found.is_empty(), "against the import rule of src/lib.rs:\n{}", found.join("\n"));
}

#[test]
fn the_rooms_are_those_of_the_map() {
    let known =
        |name: &str| LEAVES.contains(&name) || ROOMS.contains(&name) || AROUND.iter().any(|(room, _)| *room == name);
    let map = fs::read_to_string(root().join("lib.rs")).expect("src/lib.rs");
    let rooms: Vec<_> = map.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let strange: Vec<_> = rooms.iter().filter(|name| !known(name)).collect();
    assert!(strange.is_empty(), "not in the order of rooms that this test knows: {strange:?}");
    let order: Vec<_> = rooms.iter().filter(|name| ROOMS.contains(*name)).copied().collect();
    assert_eq!(order, ROOMS, "src/lib.rs lists the rooms in another order");
}

#[test]
fn only_redis_pool_opens_redis() {
    let opening = ["redis::Client", "redis::aio", "get_multiplexed", "RedisConnectionManager", "bb8_redis"];
    refuse(&opening, |path| path.starts_with("redis_pool/") || path.starts_with("cli/demo/"));
}

#[test]
fn only_the_clock_reads_the_time() {
    for file in sources().iter().filter(|file| file.path != "clock.rs") {
        assert!(!reads_a_clock(&file.code), "src/{} must not read the time: clock.rs does", file.path);
    }
}

#[test]
fn pure_files_do_nothing() {
    for file in sources().iter().filter(|file| is_pure(file)) {
        for outside in ["tokio", "redis", "bb8_redis", "hyper", "hyper_util", "tracing"] {
            assert!(!uses_crate(&file.code, outside), "src/{} is pure, and imports {outside}", file.path);
        }
    }
}

#[test]
fn no_file_is_too_long_or_nameless() {
    for file in sources() {
        let length = file.code.trim_end().lines().count();
        assert!(length <= 500 || file.is_test(), "src/{}: {length} lines without its tests", file.path);
        let names: Vec<_> = file.path.trim_end_matches(".rs").split('/').collect();
        assert!(!names.iter().any(|name| NAMELESS.contains(name)), "src/{}: a name that says nothing", file.path);
    }
}

/// A file of `src/`, its code without comments and tests.
struct Source {
    path: String,
    text: String,
    code: String,
}

impl Source {
    fn is_test(&self) -> bool {
        self.path.ends_with("tests.rs") || self.path.contains("/tests/")
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn sources() -> Vec<Source> {
    let (mut found, mut folders) = (Vec::new(), vec![root()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of src").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&entry).expect("a source file");
                let path = entry.strip_prefix(root()).expect("below src").to_string_lossy().replace('\\', "/");
                let mut file = Source { code: code(&text), path, text };
                if file.is_test() {
                    file.code = String::new();
                }
                found.push(file);
            }
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    assert!(found.len() > 20, "src/ was not found");
    found
}

/// The text without comments, and without the test module that ends a file.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let lines = text.lines().map(|line| {
        let comment = line.find("//").filter(|at| !line[..*at].ends_with(':'));
        comment.map_or(line, |at| &line[..at])
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The first words of all paths that begin with `crate::`, in `use` lists too.
fn imports(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            None => found.push(word(rest)),
            Some(list) => {
                let mut depth = 0;
                let mut start = true;
                for (at, letter) in list.char_indices() {
                    match letter {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => start = true,
                        _ if start && !letter.is_whitespace() => {
                            found.push(word(&list[at..]));
                            start = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    found.retain(|name| !name.is_empty());
    found
}

fn word(text: &str) -> String {
    text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
}

/// What the file at `path` imports and must not.
fn forbidden_imports(path: &str, code: &str) -> Vec<String> {
    let room = path.split('/').next().unwrap_or_default().trim_end_matches(".rs");
    let known = |name: &str| {
        LEAVES.contains(&name) || ROOMS.contains(&name) || AROUND.iter().any(|(around, _)| *around == name)
    };
    let imports = imports(code);
    let wrong = imports.iter().filter(|name| known(name) && *name != room && !allowed(room, name));
    wrong.map(|name| format!("src/{path} imports `{name}`")).collect()
}

fn allowed(room: &str, import: &str) -> bool {
    let place = |name: &str| ROOMS.iter().position(|room| *room == name);
    if LEAVES.contains(&import) {
        return true;
    }
    match (place(room), place(import)) {
        (Some(here), Some(there)) => there < here,
        (Some(_), None) => false,
        // Around the rooms: these see them all, and each other as the list says. `lib` and `main` see what they like.
        (None, there) => match AROUND.iter().find(|(around, _)| *around == room) {
            Some((_, seen)) => there.is_some() || seen.contains(&import),
            None => !LEAVES.contains(&room),
        },
    }
}

/// Fails for each of `words` that stands in code outside the files that may.
fn refuse(words: &[&str], may: impl Fn(&str) -> bool) {
    for file in sources().iter().filter(|file| !may(&file.path)) {
        for word in words {
            assert!(!file.code.contains(word), "src/{} must not say `{word}`", file.path);
        }
    }
}

fn reads_a_clock(code: &str) -> bool {
    let runtime = code.split("use tokio::time::").skip(1);
    let runtimes_own = runtime.filter_map(|rest| rest.split(';').next()).any(|list| list.contains("Instant"));
    let code = code.replace("tokio::time::Instant::now", "");
    code.contains("SystemTime::now") || (code.contains("Instant::now") && !runtimes_own)
}

fn is_pure(file: &Source) -> bool {
    let marked = |pure: &str| file.path == pure || (pure.ends_with('/') && file.path.starts_with(pure));
    let mut page = file.text.lines().take_while(|line| line.starts_with("//!"));
    PURE.iter().any(|pure| marked(pure)) || page.any(|line| line.contains("Pure"))
}

/// Whether code has a path that begins with the crate.
fn uses_crate(code: &str, name: &str) -> bool {
    let start = format!("{name}::");
    code.match_indices(&start).any(|(at, _)| {
        // `::redis` is the crate as well, `store::redis` is not.
        let before = code[..at].trim_end_matches("::").chars().next_back();
        !before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_')
    })
}

mod of_the_scanner {
    use super::*;

    #[test]
    fn an_import_of_a_later_room_is_found_in_every_way_to_write_it() {
        let wrong = ["src/session/layer.rs imports `cache`"];
        assert_eq!(forbidden_imports("session/layer.rs", "use crate::cache::Policy;"), wrong);
        assert_eq!(forbidden_imports("session/layer.rs", "fn f(p: &crate::cache::Policy) {}"), wrong);
        let list = "use crate::{\n    body::{Body, End},\n    route, cache::{self, Policy},\n};";
        assert_eq!(forbidden_imports("session/layer.rs", list), wrong);
    }

    #[test]
    fn imports_of_earlier_rooms_and_of_leaves_pass() {
        let text = "use crate::{body::Body, gather::Ask, rate_limit};\nuse crate::session::verdict;";
        assert!(forbidden_imports("session/layer.rs", text).is_empty());
        assert!(forbidden_imports("config/settings.rs", "use crate::{admin, cache, upstream};").is_empty());
        assert!(forbidden_imports("stack.rs", "use crate::{cache, upstream};").is_empty());
        assert!(forbidden_imports("lib.rs", "use crate::cli;").is_empty());
    }

    #[test]
    fn leaves_and_rooms_are_kept_from_what_stands_above_them() {
        assert_eq!(forbidden_imports("telemetry/layer.rs", "use crate::route;").len(), 1);
        assert_eq!(forbidden_imports("local_reply.rs", "use crate::config;").len(), 1);
        assert_eq!(forbidden_imports("upstream/pool.rs", "use crate::{app, cli, config, stack};").len(), 4);
        assert_eq!(forbidden_imports("config/raw.rs", "use crate::app;").len(), 1);
        assert_eq!(forbidden_imports("admin/mod.rs", "use crate::config;").len(), 1);
    }

    #[test]
    fn comments_and_test_modules_do_not_count() {
        let text = "//! as crate::cache does\nfn f() {} // crate::upstream\n#[cfg(test)]\nmod tests {\n    use crate::app;\n}\n";
        assert!(forbidden_imports("body.rs", &code(text)).is_empty());
        assert!(code("let url = \"http://a\"; // b").contains("http://a"));
    }

    #[test]
    fn a_clock_is_found_and_the_runtimes_own_is_none() {
        assert!(reads_a_clock("use std::time::Instant;\nfn f() { Instant::now(); }"));
        assert!(reads_a_clock("fn f() { std::time::SystemTime::now(); }"));
        assert!(!reads_a_clock("use tokio::time::{Instant, sleep};\nfn f() { Instant::now(); }"));
        assert!(!reads_a_clock("fn f() { tokio::time::Instant::now(); }"));
    }

    #[test]
    fn a_crate_is_found_by_its_path_and_not_by_its_letters() {
        assert!(uses_crate("use redis::Value;", "redis"));
        assert!(uses_crate("use ::redis::Value;", "redis"));
        assert!(uses_crate("fn f(v: &redis::Value) {}", "redis"));
        assert!(!uses_crate("use bb8_redis::bb8;", "redis"));
        assert!(!uses_crate("use crate::store::redis::Store;", "redis"));
    }
}
