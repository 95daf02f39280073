//! No user ever sees what another was answered alone: a random test.
//!
//! Users with sessions, API keys, cookies, or nothing, read and write a few pages in all ways the cache knows. The app
//! stamps each answer (content, ETag and a field) with who asked, and with all else that the answer may depend on. Each
//! client checks each answer against what it asked itself: [`judge`] says what may be shared with whom.
//!
//! The test fails the other way, too: what may be shared must have been shared.
//!
//! `ISOLATION_SEED=7 cargo test --test proxy -- isolation` repeats a run; with one client it is the same step for step.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use fastrand::Rng;

use crate::harness::origin::Request;
use crate::harness::{Answer, Client, Configuration, Origin, RedisServer, Reply, Sidegate};

const USERS: [&str; 3] = ["alice", "bob", "carol"];
const LANGUAGES: [&str; 2] = ["de", "fr"];
const NOBODY: &str = "nobody";

/// What an answer says of itself: a name, and its `Cache-Control`.
const KINDS: [(&str, &str); 12] = [
    ("silent", ""),
    ("max-age", "max-age=60"),
    ("short", "max-age=1"),
    ("no-cache", "no-cache"),
    ("private", "private, max-age=60"),
    ("private-short", "private, max-age=1"),
    ("private-field", "private=\"x-secret\", max-age=60"),
    ("public", "public, max-age=60"),
    ("public-short", "public, max-age=1"),
    ("s-maxage", "s-maxage=60"),
    ("no-store", "no-store"),
    ("set-cookie", "public, max-age=60"),
];

/// The routes, and whether they need sessions.
const ROUTES: [(&str, bool); 6] =
    [("plain", false), ("tenant", false), ("posts", false), ("mine", true), ("maybe", true), ("session", true)];

const CACHES: &str = r#"
[cache.pages]
ttl = "60s"
[cache.tenants]
ttl = "60s"
key = ["field:X-Tenant"]
[cache.posts]
ttl = "60s"
post_body = "1 KiB"
[[route]]
path = "/plain/{*rest}"
cache = "pages"
[[route]]
path = "/tenant/{*rest}"
cache = "tenants"
[[route]]
path = "/posts/{*rest}"
cache = "posts"
"#;

const SESSIONS: &str = r#"
[session.web]
format = "json"
from = ["bearer", "cookie:sid"]
user = "user"
forward = { X-User = "user" }
[cache.mine]
ttl = "60s"
key = ["principal"]
[[route]]
path = "/mine/{*rest}"
session = "web"
cache = "mine"
[[route]]
path = "/maybe/{*rest}"
session = { use = "web", mode = "optional" }
cache = "mine"
[[route]]
path = "/session/{*rest}"
session = "web"
cache = "pages"
"#;

/// A page: `/ROUTE/KIND/VARY/NUMBER`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Page {
    route: &'static str,
    kind: &'static str,
    vary: &'static str,
    number: usize,
}

impl Page {
    fn path(&self) -> String {
        format!("/{}/{}/{}/{}", self.route, self.kind, self.vary, self.number)
    }

    fn any(rng: &mut Rng, sessions: bool) -> Self {
        let (route, _) = pick(rng, &ROUTES.iter().filter(|(_, needs)| sessions || !needs).collect::<Vec<_>>());
        Self {
            route,
            kind: pick(rng, &KINDS).0,
            vary: pick(rng, &["none", "none", "language", "cookie"]),
            number: rng.usize(0..2),
        }
    }
}

/// How somebody presents himself.
#[derive(Clone, Debug)]
enum Asker {
    Nobody,
    /// Of a user, by one of his sessions.
    Session(&'static str, usize, Carrier),
    ApiKey(&'static str),
    Cookie(&'static str),
    /// A session that a cookie carries, and somebody else's API key beside it.
    Both(&'static str, &'static str),
}

#[derive(Clone, Copy, Debug)]
enum Carrier {
    Bearer,
    Cookie,
}

fn session(user: &str, number: usize) -> String {
    format!("{user}-{number}-0123456789abcdef")
}

impl Asker {
    fn any(rng: &mut Rng) -> Self {
        let user = pick(rng, &USERS);
        match rng.usize(0..8) {
            0 | 1 => Self::Nobody,
            2 | 3 => Self::Session(user, rng.usize(0..2), Carrier::Bearer),
            4 => Self::Session(user, rng.usize(0..2), Carrier::Cookie),
            5 => Self::ApiKey(user),
            6 => Self::Cookie(user),
            _ => Self::Both(user, pick(rng, &USERS)),
        }
    }

    fn authorization(&self) -> Option<String> {
        match self {
            Self::Session(user, number, Carrier::Bearer) => Some(format!("Bearer {}", session(user, *number))),
            Self::ApiKey(user) | Self::Both(_, user) => Some(format!("ApiKey {user}")),
            _ => None,
        }
    }

    fn cookie(&self) -> Option<String> {
        match self {
            Self::Session(user, number, Carrier::Cookie) => Some(format!("sid={}", session(user, *number))),
            Self::Both(user, _) => Some(format!("sid={}", session(user, 0))),
            Self::Cookie(user) => Some(format!("uid={user}")),
            _ => None,
        }
    }

    /// Who is logged in, on a route that asks.
    fn login(&self) -> Option<&'static str> {
        match self {
            Self::Session(user, ..) | Self::Both(user, _) => Some(user),
            _ => None,
        }
    }
}

/// Who asks, as the app sees it: who is logged in, and a key that is no session's; or all credentials there are.
fn who(login: Option<&str>, authorization: Option<&str>, cookie: Option<&str>) -> String {
    let key = authorization.filter(|value| login.is_none() || !value.starts_with("Bearer "));
    let cookie = cookie.filter(|_| login.is_none());
    let words: Vec<&str> = [login, key, cookie].into_iter().flatten().collect();
    if words.is_empty() { NOBODY.to_owned() } else { words.join("+").replace(' ', "-") }
}

/// What an answer depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    path: String,
    who: String,
    language: String,
    cookie: String,
    tenant: String,
    content: String,
    version: u64,
}

impl fmt::Display for Stamp {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, who, language, cookie, tenant, content, version } = self;
        write!(out, "{path}|{who}|{language}|{cookie}|{tenant}|{content}|{version}")
    }
}

impl Stamp {
    fn read(text: &str) -> Option<Self> {
        let [path, who, language, cookie, tenant, content, version] =
            text.split('|').collect::<Vec<_>>().try_into().ok()?;
        let [path, who, language, cookie, tenant, content] =
            [path, who, language, cookie, tenant, content].map(str::to_owned);
        Some(Self { path, who, language, cookie, tenant, content, version: version.parse().ok()? })
    }

    fn content(&self) -> String {
        format!("{self}\n").repeat(3)
    }
}

/// Content as it can stand in an ETag.
fn plain(content: &[u8]) -> String {
    content.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(|byte| char::from(*byte)).collect()
}

/// The app: answers with a stamp of whoever asks, counts writes, and validates what is still the same.
fn app(slow: bool) -> Origin {
    let versions = Mutex::new(HashMap::<String, u64>::new());
    Origin::answering(move |request| {
        if slow {
            thread::sleep(Duration::from_millis(1));
        }
        let is_read = matches!(&*request.method, "GET" | "HEAD") || reads(request);
        let mut versions = versions.lock().expect("versions");
        let version = versions.entry(request.path().to_owned()).or_default();
        *version += u64::from(!is_read);
        if is_read { page(request, *version) } else { Reply::text("written") }
    })
}

fn reads(request: &Request) -> bool {
    request.method == "POST"
        && request.path().starts_with("/posts/")
        && !String::from_utf8_lossy(&request.content).contains("mutation")
}

fn page(request: &Request, version: u64) -> Reply {
    let field = |name| request.field(name).unwrap_or("-").to_owned();
    let mut words = request.path().split('/').skip(2);
    let (kind, vary) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let stamp = Stamp {
        path: request.path().to_owned(),
        who: who(request.field("x-user"), request.field("authorization"), request.field("cookie")),
        language: field("x-language"),
        cookie: field("cookie"),
        tenant: field("x-tenant"),
        content: plain(&request.content),
        version,
    };
    let tag = format!("\"{stamp}\"");
    let serial = field("x-serial");
    let known = request.method != "POST" && request.field("if-none-match").is_some_and(|tags| tags.contains(&tag));
    let mut reply = Reply::text(stamp.content()).field("ETag", &tag).field("X-Stamp", &stamp.to_string());
    if known {
        reply = reply.status("304 Not Modified");
    }
    reply = reply.field("X-Serial", &serial).field("X-Secret", &serial);
    match vary {
        "language" => reply = reply.field("Vary", "X-Language"),
        "cookie" => reply = reply.field("Vary", "Cookie"),
        _ => {}
    }
    if kind == "set-cookie" {
        reply = reply.field("Set-Cookie", &format!("session={}", stamp.who));
    }
    match KINDS.iter().find(|(name, _)| *name == kind) {
        Some((_, control)) if !control.is_empty() => reply.field("Cache-Control", control),
        _ => reply,
    }
}

/// One request.
#[derive(Clone, Debug)]
struct Step {
    serial: u64,
    page: Page,
    asker: Asker,
    method: &'static str,
    content: &'static str,
    language: &'static str,
    tenant: Option<&'static str>,
    range: Option<(usize, usize)>,
    known: Option<String>,
}

impl Step {
    fn any(rng: &mut Rng, serial: u64, pages: &[Page]) -> Self {
        let page = pick(rng, pages);
        let posts = page.route == "posts";
        let (method, content) = match rng.usize(0..20) {
            0 => (pick(rng, &["PUT", "DELETE", "PATCH"]), "x"),
            1 if posts => ("POST", r#"{"query":"mutation{a}"}"#),
            1 => ("POST", "x"),
            2 | 3 => ("HEAD", ""),
            4..12 if posts => ("POST", pick(rng, &[r#"{"query":"{a}"}"#, r#"{"query":"{b}"}"#])),
            _ => ("GET", ""),
        };
        let is_get = method == "GET";
        let first = rng.usize(0..40);
        Self {
            serial,
            asker: Asker::any(rng),
            method,
            content,
            language: pick(rng, &LANGUAGES),
            tenant: pick(rng, &[None, Some("a"), Some("b")]),
            range: (is_get && rng.usize(0..8) == 0).then(|| (first, first + rng.usize(0..30))),
            known: None,
            page,
        }
    }

    fn send(&self, client: &mut Client) -> Answer {
        let serial = self.serial.to_string();
        let (authorization, cookie) = (self.asker.authorization(), self.asker.cookie());
        let range = self.range.map(|(first, last)| format!("bytes={first}-{last}"));
        let optional = [
            ("Authorization", authorization.as_deref()),
            ("Cookie", cookie.as_deref()),
            ("X-Tenant", self.tenant),
            ("Range", range.as_deref()),
            ("If-None-Match", self.known.as_deref()),
            ("Content-Type", (!self.content.is_empty()).then_some("application/json")),
        ];
        let mut fields = vec![("X-Serial", &*serial), ("X-Language", self.language)];
        fields.extend(optional.iter().filter_map(|(name, value)| Some((*name, (*value)?))));
        client.ask(self.method, &self.page.path(), &fields, self.content.as_bytes())
    }

    fn is_read(&self) -> bool {
        matches!(self.method, "GET" | "HEAD") || self.reads_by_post()
    }

    fn reads_by_post(&self) -> bool {
        self.method == "POST" && self.page.route == "posts" && !self.content.contains("mutation")
    }

    /// Its route has a session, and it one of that kind.
    fn login(&self) -> Option<&'static str> {
        self.asker.login().filter(|_| matches!(self.page.route, "mine" | "maybe" | "session"))
    }

    fn who(&self) -> String {
        who(self.login(), self.asker.authorization().as_deref(), self.asker.cookie().as_deref())
    }
}

/// How an answer came to be shared, if it was; or what is wrong with it.
fn judge(step: &Step, answer: &Answer) -> Result<Option<&'static str>, String> {
    let needs_login = matches!(step.page.route, "mine" | "session");
    match answer.status {
        401 if needs_login && step.login().is_none() => return Ok(None),
        _ if needs_login && step.login().is_none() => return Err("nobody has got in".into()),
        416 if step.range.is_some() => return Ok(None),
        200 | 206 | 304 => {}
        status => return Err(format!("status {status}")),
    }
    if !step.is_read() {
        return if answer.text() == "written" { Ok(None) } else { Err("a write was answered by somebody else".into()) };
    }
    let tag = answer.field("etag").ok_or("no ETag")?;
    let stamp = Stamp::read(tag.trim_start_matches("W/").trim_matches('"')).ok_or("a strange ETag")?;
    if answer.status != 304 {
        check_stamps(step, answer, &stamp)?;
    }
    let who = step.who();
    let language_differs = step.page.vary == "language" && stamp.language != step.language;
    let cookie = step.asker.cookie().unwrap_or_else(|| "-".into());
    let cookie_differs = step.page.vary == "cookie" && stamp.cookie != cookie;
    let tenant_differs = step.page.route == "tenant" && stamp.tenant != step.tenant.unwrap_or("-");
    if stamp.path != step.page.path() || stamp.content != plain(step.content.as_bytes()) {
        return Err("the answer to another question".into());
    }
    if language_differs || cookie_differs || tenant_differs {
        return Err("another variant".into());
    }
    let is_own = answer.field("x-serial") == Some(&*step.serial.to_string());
    let of_principal = matches!(step.page.route, "mine" | "maybe") && step.login().is_some();
    if of_principal && stamp.who != who {
        return Err(format!("what {} was answered", stamp.who));
    }
    if let Some(secret) = answer.field("x-secret").filter(|_| step.page.kind == "private-field")
        && secret != step.serial.to_string()
        && !of_principal
    {
        return Err(format!("a private field, of request {secret}"));
    }
    let is_for_all = matches!(step.page.kind, "public" | "public-short" | "s-maxage");
    let may_be_kept = match step.page.kind {
        "no-store" | "set-cookie" => false,
        "private" | "private-short" => of_principal,
        _ => is_for_all || of_principal || who == NOBODY,
    };
    if !is_for_all && stamp.who != who {
        return Err(format!("what {} was answered", stamp.who));
    }
    // A 304 may come without the number; that its ETag is the client's own has been seen.
    if !is_own && !may_be_kept && answer.status != 304 {
        return Err(format!("the answer to request {:?}", answer.field("x-serial")));
    }
    Ok(if is_own || answer.status == 304 { None } else { Some(sharing(step, answer, stamp.who == who)) })
}

/// Whether content, field and ETag were stamped at once.
fn check_stamps(step: &Step, answer: &Answer, stamp: &Stamp) -> Result<(), String> {
    if answer.field("x-stamp") != Some(&stamp.to_string()) {
        return Err("a field of one answer and the ETag of another".into());
    }
    let whole = stamp.content();
    let expected = match (answer.status, step.range, step.method) {
        (_, _, "HEAD") => "",
        (206, Some((first, last)), _) => whole.get(first..=last.min(whole.len() - 1)).ok_or("a part of nothing")?,
        (206, None, _) => return Err("a part that nobody asked for".into()),
        _ => &whole,
    };
    if answer.text() == expected { Ok(()) } else { Err("the content of another answer".into()) }
}

/// In which way an answer was shared.
fn sharing(step: &Step, answer: &Answer, same: bool) -> &'static str {
    let kind = step.page.kind;
    match step.page.route {
        "mine" | "maybe" if step.login().is_some() && kind == "private" => "private, to its principal",
        "mine" | "maybe" if step.login().is_some() => "to its principal",
        "posts" if step.reads_by_post() => "an answer to POST",
        _ if answer.status == 206 => "a part",
        _ if step.page.vary == "language" => "a variant",
        _ if !same => "public, to another",
        _ if step.who() == NOBODY => "nobody's, to nobody",
        _ => "public, to the same",
    }
}

fn pick<T: Clone>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.usize(0..from.len())].clone()
}

/// Runs `steps` by each of `clients` at once, over all `instances`; says in which ways answers were shared.
fn run(seed: u64, clients: u64, steps: u64, sessions: bool, instances: &[Sidegate]) -> BTreeSet<&'static str> {
    let mut rng = Rng::with_seed(seed);
    let pages: Vec<Page> = (0..60).map(|_| Page::any(&mut rng, sessions)).collect();
    let (shared, trace) = (Mutex::new(BTreeSet::new()), Mutex::new(Vec::<(Page, String)>::new()));
    let failed = Mutex::new(None::<(Page, String)>);
    thread::scope(|scope| {
        for number in 0..clients {
            let (pages, shared, trace, failed) = (&pages, &shared, &trace, &failed);
            scope.spawn(move || {
                let mut rng = Rng::with_seed(seed ^ (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
                let mut connections: Vec<Client> = instances.iter().map(Sidegate::client).collect();
                let mut tags: BTreeMap<Page, Vec<String>> = BTreeMap::new();
                for index in 0..steps {
                    if failed.lock().expect("no panic").is_some() {
                        return;
                    }
                    let mut step = Step::any(&mut rng, number * steps + index, pages);
                    // Anybody's, for this page: whoever guesses another's ETag must learn nothing.
                    let known = tags.entry(step.page.clone()).or_default();
                    if step.method == "GET" && !known.is_empty() && rng.usize(0..5) == 0 {
                        step.known = Some(pick(&mut rng, known));
                    }
                    let instance = rng.usize(0..connections.len());
                    let answer = step.send(&mut connections[instance]);
                    known.extend(answer.field("etag").map(str::to_owned));
                    let line = format!("{instance}: {step:?}\n     {} {:?}", answer.status, answer.fields.0);
                    trace.lock().expect("no panic").push((step.page.clone(), line));
                    match judge(&step, &answer) {
                        Ok(way) => shared.lock().expect("no panic").extend(way),
                        Err(wrong) => {
                            let wrong = format!("request {}: {wrong}\n{}", step.serial, answer.text());
                            failed.lock().expect("no panic").get_or_insert((step.page, wrong));
                            return;
                        }
                    }
                }
            });
        }
    });
    if let Some((page, wrong)) = failed.into_inner().expect("no panic") {
        let trace = trace.into_inner().expect("no panic");
        let lines: Vec<_> = trace.into_iter().filter(|(of, _)| *of == page).map(|(_, line)| line).collect();
        let last = lines[lines.len().saturating_sub(30)..].join("\n");
        panic!("ISOLATION_SEED={seed}, {clients} clients, {}: {wrong}\n{last}", page.path());
    }
    shared.into_inner().expect("no panic")
}

fn seed() -> u64 {
    std::env::var("ISOLATION_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..))
}

fn assert_shared(seed: u64, shared: &BTreeSet<&'static str>, ways: &[&str]) {
    for way in ways {
        assert!(shared.contains(way), "ISOLATION_SEED={seed}: nothing was shared so: {way} (but {shared:?})");
    }
}

/// What is shared in any case.
const ANYWHERE: [&str; 6] =
    ["a part", "a variant", "an answer to POST", "nobody's, to nobody", "public, to another", "public, to the same"];

#[test]
fn nobody_sees_anothers_answer_from_memory() {
    let seed = seed();
    let mut shared = BTreeSet::new();
    for (clients, steps) in [(1, 4000), (6, 500)] {
        let app = app(clients > 1);
        let instances = [Configuration::of(&app).with(CACHES).start()];
        shared.extend(run(seed, clients, steps, false, &instances));
    }
    assert_shared(seed, &shared, &ANYWHERE);
}

#[test]
fn nobody_sees_anothers_answer_from_redis_or_what_is_remembered_of_it() {
    let seed = seed();
    let redis = RedisServer::start();
    for (user, number) in USERS.iter().flat_map(|user| [(user, 0), (user, 1)]) {
        let (key, record) = (format!("session:{}", session(user, number)), format!(r#"{{"user":"{user}"}}"#));
        let () = redis.ask(&["SET", &key, &record, "EX", "600"]).expect("a session");
    }
    let mut shared = BTreeSet::new();
    for (clients, steps) in [(1, 4000), (6, 500)] {
        let app = app(clients > 1);
        let configuration = Configuration::of(&app).redis(&redis).with(CACHES).with(SESSIONS);
        let instances = [configuration.start(), configuration.start()];
        shared.extend(run(seed, clients, steps, true, &instances));
    }
    assert_shared(seed, &shared, &ANYWHERE);
    assert_shared(seed, &shared, &["private, to its principal", "to its principal"]);
}
