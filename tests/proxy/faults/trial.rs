//! One fault: what stands in front of it, what is done to it, what is looked at.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::client::request;
use crate::harness::{
    Answer, Client, Configuration, Directory, Frozen, Load, Mode, Origin, RedisServer, Relay, Reply, Sidegate,
};
use crate::harness::{freeze, until};

/// `redis.timeout`: twice of it is a bound of the histogram's buckets.
const TIMEOUT: &str = "125ms";
/// Bounds of buckets (seconds): twice the time-out; less than a wait for it, and more than anything else takes here.
const TWICE: &str = "0.25";
const A_WAIT: &str = "0.1";
/// One command of a Redis that is slow.
pub const SLOW: Duration = Duration::from_millis(500);
/// How soon all is as before: two seconds, and three that a machine which is busy with other tests may need.
const RECOVERY: Duration = Duration::from_secs(2 + 3);
/// Lines of the log for one outage.
const LINES: usize = 40;

/// A fault, and what is expected of it.
pub struct Fault {
    pub how: How,
    pub hits: Hits,
    /// One of these is counted, as `kind` of `sidegate_redis_errors_total`.
    pub kinds: &'static [&'static str],
}

/// How it comes about.
pub enum How {
    Relay(Mode),
    /// Nobody listens, and what was connected is reset.
    Refused,
    /// What is connected is reset, every 50 ms.
    Reset,
    /// SIGSTOP.
    Stopped,
    /// SIGKILL; it comes back with what it had.
    Killed,
    /// SIGKILL and start, and then long replies that are cut, again and again for ten seconds.
    Restarts,
    /// Every key of sidegate's becomes a list.
    OtherType,
}

/// Whom it hits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Hits {
    /// Limits, sessions and stored responses, all the time.
    Everything,
    /// Limits all the time; sessions perhaps.
    Counting,
    /// Some requests now and then.
    Moments,
}

/// Where a trial stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Before,
    /// The first second.
    Struck,
    Lasting,
    After,
}

/// What a connection asks for, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Asks {
    Limited,
    Protected,
    Cached,
}

const ASKS: [Asks; 3] = [Asks::Limited, Asks::Protected, Asks::Cached];
const ALICE: &str = "alice-0123456789abcdef";

/// Runs it.
pub fn endure(fault: &Fault) {
    let app = app();
    let mut store = Store::start();
    let mut all = ["local", "open", "closed"].map(|policy| Under::start(policy, &app, &store.relay));
    all.iter_mut().for_each(|under| under.wait_until_well(Duration::from_secs(20)));
    all.iter().for_each(|under| under.load.wait_for_more(60));

    all.iter_mut().for_each(|under| under.enter(Phase::Struck));
    store.strike(fault);
    store.last(fault, Duration::from_secs(1));
    all.iter_mut().for_each(|under| under.enter(Phase::Lasting));
    let goals = all.each_ref().map(|under| under.load.answered() + 120);
    // Longer than anybody may wait for Redis: who does is seen.
    let long = if matches!(fault.how, How::Restarts) { Duration::from_secs(9) } else { Duration::from_millis(400) };
    store.last(fault, long);
    until("answers while the fault lasts", || {
        store.last(fault, Duration::from_millis(20));
        all.iter().zip(goals).all(|(under, goal)| under.load.answered() >= goal)
    });
    all.iter_mut().for_each(|under| under.enter(Phase::After));
    store.heal(fault);
    all.iter_mut().for_each(|under| under.wait_until_well(RECOVERY));
    all.into_iter().for_each(|under| under.judge(fault));
}

/// Names what was asked, who asks, and how often it was written.
fn app() -> Origin {
    let versions = Mutex::new(BTreeMap::<String, u64>::new());
    Origin::answering(move |request| {
        let mut versions = versions.lock().unwrap_or_else(PoisonError::into_inner);
        let version = versions.entry(request.target.clone()).or_default();
        *version += u64::from(request.method == "PUT");
        Reply::text(format!("{} {} {version}", request.target, request.field("x-user-id").unwrap_or("-")))
    })
}

/// The tables of a sidegate with this policy of limits: a route for each of [`Asks`].
fn tables(policy: &str) -> String {
    format!(
        r#"
[limits]
on_outage = "{policy}"
[limit.many]
key = "address"
quota = "1000000 per hour"
[cache.pages]
ttl = "60s"
[session.web]
format = "json"
user = "user.id"
forward = {{ X-User-Id = "user.id" }}
[[route]]
path = "/limited/{{*rest}}"
limits = ["many"]
[[route]]
path = "/protected/{{*rest}}"
session = "web"
[[route]]
path = "/cached/{{*rest}}"
cache = "pages"
"#
    )
}

/// A Redis behind a relay, that keeps what it was told.
struct Store {
    redis: RedisServer,
    relay: Relay,
    frozen: Option<Frozen>,
    _kept: Directory,
}

impl Store {
    fn start() -> Self {
        let kept = Directory::new();
        let place = kept.file("").display().to_string();
        // Written before it is answered: SIGKILL loses nothing.
        let redis = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "no", "--dir", &place]);
        let record = r#"{"user":{"id":42}}"#;
        redis.ask::<()>(&["SET", &format!("session:{ALICE}"), record, "EX", "600"]).expect("a session");
        let relay = Relay::to(redis.port());
        Self { redis, relay, frozen: None, _kept: kept }
    }

    fn strike(&mut self, fault: &Fault) {
        match &fault.how {
            How::Relay(mode) => self.relay.turn(mode.clone()),
            How::Refused => {
                self.relay.turn(Mode::Refuse);
                self.relay.reset_all();
            }
            How::Stopped => self.frozen = Some(freeze(&self.redis)),
            How::Killed => self.redis.kill(),
            How::Reset | How::Restarts | How::OtherType => {}
        }
    }

    /// Lets it last for so long.
    fn last(&mut self, fault: &Fault, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            match fault.how {
                How::Reset => self.relay.reset_all(),
                How::OtherType => self.each_key("redis.call('RPUSH', key, 'x')"),
                How::Restarts => self.restart(),
                _ => {}
            }
            thread::sleep(time.min(Duration::from_millis(50)));
        }
    }

    fn restart(&mut self) {
        self.redis.kill();
        self.redis.restart();
        thread::sleep(Duration::from_millis(200));
        self.relay.turn(Mode::Cut(12));
        thread::sleep(Duration::from_millis(100));
        self.relay.turn(Mode::Pass);
    }

    fn heal(&mut self, fault: &Fault) {
        match fault.how {
            How::Relay(_) | How::Refused => self.relay.turn(Mode::Pass),
            How::Stopped => self.frozen = None,
            How::Killed => self.redis.restart(),
            How::OtherType => self.each_key(""),
            How::Reset | How::Restarts => {}
        }
    }

    /// Deletes each key of sidegate's, and does this after.
    fn each_key(&self, then: &str) {
        let script =
            format!("for _, key in ipairs(redis.call('KEYS', 'sidegate:*')) do redis.call('DEL', key) {then} end");
        self.redis.ask::<()>(&["EVAL", &script, "0"]).expect("keys to change");
    }
}

/// A sidegate with one policy, under load.
struct Under {
    policy: &'static str,
    sidegate: Sidegate,
    load: Load,
    seen: Arc<Seen>,
    /// How things stood when each phase began.
    marks: Vec<Mark>,
}

/// What came back, by when and what was asked.
#[derive(Default)]
struct Seen {
    phase: AtomicUsize,
    /// In which phase each connection asked last.
    asked: [AtomicUsize; 3],
    /// How often the cached page was written, as the last answer to a write says.
    written: AtomicU64,
    answers: Mutex<BTreeMap<(usize, Asks, u16), u64>>,
}

/// How things stand.
struct Mark {
    overhead: Overhead,
    lines: usize,
}

impl Under {
    fn start(policy: &'static str, app: &Origin, relay: &Relay) -> Self {
        let sidegate = Configuration::of(app)
            .server("workers = 1")
            .redis_at(&relay.url())
            .redis_lines(&format!("timeout = {TIMEOUT:?}"))
            .with(&tables(policy))
            .start();
        let seen = Arc::new(Seen::default());
        let (asking, judging) = (seen.clone(), seen.clone());
        let ask = move |number: usize, turn: usize| {
            thread::sleep(Duration::from_millis(3));
            asking.asked[number].store(asking.phase.load(Ordering::SeqCst), Ordering::SeqCst);
            ask(ASKS[number], policy, turn)
        };
        let right = move |number: usize, turn: usize, answer: &Answer| judging.right(number, policy, turn, answer);
        let load = Load::judged(sidegate.address(), ASKS.len(), ask, right);
        let mut under = Self { policy, sidegate, load, seen, marks: Vec::new() };
        under.enter(Phase::Before);
        under
    }

    fn enter(&mut self, phase: Phase) {
        self.seen.phase.store(phase as usize, Ordering::SeqCst);
        let (overhead, lines) = (Overhead::of(&self.sidegate), self.sidegate.errors().lines().count());
        self.marks.push(Mark { overhead, lines });
    }

    fn wait_until_well(&mut self, limit: Duration) {
        let began = Instant::now();
        let mut client = self.sidegate.client();
        let mut missing = self.missing(&mut client);
        while let Some(what) = missing {
            assert!(began.elapsed() < limit, "{} still missing {limit:?} after Redis returned: {what}", self.policy);
            thread::sleep(Duration::from_millis(10));
            missing = self.missing(&mut client);
        }
    }

    /// What does not work as it should; nothing: all is well.
    fn missing(&self, client: &mut Client) -> Option<String> {
        let counted = || self.sidegate.metric("sidegate_limit_decisions_total{limit=\"many\",outcome=\"allowed\"}");
        let before = counted();
        let limited = client.get("/limited/probe").status;
        let protected = client.send(ask(Asks::Protected, "probe", 0)).answer().status;
        let page = format!("/cached/probe-{}", self.policy);
        let stored = [client.get(&page), client.get(&page)].map(|answer| answer.field("x-cache").map(str::to_owned));
        let well = (limited, protected) == (200, 200) && stored[1].as_deref() == Some("HIT") && counted() > before;
        (!well).then(|| format!("limited {limited}, counted {before}, protected {protected}, cached {stored:?}"))
    }

    fn judge(self, fault: &Fault) {
        let Self { policy, sidegate, load, seen, marks } = self;
        let tally = load.finish();
        assert!(tally.failures.is_empty() && tally.wrong == 0 && tally.refused == 0, "{policy}: {tally:?}");

        let answers = seen.answers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let came = |phase, asks| answers.keys().any(|(when, what, _)| (*when, *what) == (phase as usize, asks));
        assert!(
            ASKS.iter().all(|&asks| came(Phase::Before, asks) && came(Phase::Lasting, asks)),
            "{policy}: {answers:?}"
        );
        for (&(phase, asks, status), count) in &answers {
            let lasting = phase == Phase::Lasting as usize && fault.hits != Hits::Moments;
            let expected: &[u16] = match asks {
                Asks::Limited if policy != "closed" => &[200],
                Asks::Limited if lasting => &[503],
                Asks::Protected if lasting && fault.hits == Hits::Everything => &[503],
                Asks::Limited | Asks::Protected => &[200, 503],
                Asks::Cached => &[200],
            };
            assert!(
                expected.contains(&status),
                "{policy}: {count} × {status} for {asks:?} in phase {phase}: {answers:?}"
            );
        }

        let [_, struck, lasting, after] = &marks[..] else { panic!("a mark for each phase") };
        for (from, to, bound) in [(struck, lasting, TWICE), (lasting, after, A_WAIT)] {
            let (all, slow) = to.overhead.since(&from.overhead, bound);
            // Three connections: one stall of the machine is seen by no more than three requests.
            assert!(all > 0 && slow <= all / 100 + 3, "{policy}: {slow} of {all} requests cost more than {bound} s");
        }
        let lines = sidegate.errors().lines().count() - struck.lines;
        let outages = if matches!(fault.how, How::Restarts) { 10 } else { 1 };
        assert!(lines <= outages * LINES, "{policy}: {lines} log lines for {outages} outages");
        let metrics = sidegate.ask_admin("/metrics").text();
        let counted = |kind: &&str| metrics.contains(&format!("sidegate_redis_errors_total{{kind=\"{kind}\""));
        let errors = || metrics.lines().filter(|line| line.starts_with("sidegate_redis_errors")).collect::<Vec<_>>();
        assert!(fault.kinds.iter().any(counted), "{policy}: none of {:?} in {:#?}", fault.kinds, errors());
    }
}

fn ask(asks: Asks, policy: &str, turn: usize) -> Vec<u8> {
    let target = target(asks, policy, turn);
    match asks {
        Asks::Limited => request("GET", &target, &[], b""),
        Asks::Protected => request("GET", &target, &[("Authorization", &format!("Bearer {ALICE}"))], b""),
        Asks::Cached => request(if writes(turn) { "PUT" } else { "GET" }, &target, &[], b""),
    }
}

fn target(asks: Asks, policy: &str, turn: usize) -> String {
    match asks {
        Asks::Limited => format!("/limited/{turn}"),
        Asks::Protected => format!("/protected/{turn}"),
        Asks::Cached => format!("/cached/{policy}"),
    }
}

fn writes(turn: usize) -> bool {
    turn % 8 == 7
}

impl Seen {
    /// Whether it answers what was asked; writes down that it came.
    fn right(&self, number: usize, policy: &str, turn: usize, answer: &Answer) -> bool {
        let (asks, phase) = (ASKS[number], self.phase.load(Ordering::SeqCst));
        // Between two phases it is of neither.
        if self.asked[number].load(Ordering::SeqCst) == phase {
            let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            *answers.entry((phase, asks, answer.status)).or_default() += 1;
        }
        match answer.status {
            503 => asks != Asks::Cached && is_problem(answer),
            200 => self.is_answer(asks, &target(asks, policy, turn), writes(turn), &answer.text()),
            _ => false,
        }
    }

    fn is_answer(&self, asks: Asks, target: &str, write: bool, text: &str) -> bool {
        let user = if asks == Asks::Protected { "42" } else { "-" };
        let said = text.strip_prefix(&format!("{target} {user} ")).and_then(|version| version.parse::<u64>().ok());
        let Some(version) = said else { return false };
        let known = self.written.load(Ordering::SeqCst);
        match asks {
            Asks::Cached if write => self.written.swap(version, Ordering::SeqCst) < version,
            Asks::Cached => version == known,
            Asks::Limited | Asks::Protected => version == 0,
        }
    }
}

/// A refusal that says when to come again, and takes nothing away.
fn is_problem(answer: &Answer) -> bool {
    answer.field("content-type") == Some("application/problem+json")
        && answer.field("retry-after").is_some_and(|seconds| seconds.parse::<u64>().is_ok_and(|seconds| seconds >= 1))
        && !answer.fields.has("set-cookie")
}

/// `sidegate_overhead_seconds`, over all routes.
struct Overhead(BTreeMap<String, u64>);

impl Overhead {
    fn of(sidegate: &Sidegate) -> Self {
        let mut buckets = BTreeMap::new();
        for line in sidegate.ask_admin("/metrics").text().lines() {
            let Some(rest) = line.strip_prefix("sidegate_overhead_seconds_bucket{") else { continue };
            let bound = rest.split("le=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a bound");
            let count = rest.rsplit(' ').next().and_then(|count| count.parse::<u64>().ok()).expect("a count");
            *buckets.entry(bound.to_owned()).or_default() += count;
        }
        Self(buckets)
    }

    /// How many requests since `earlier`, and how many of them cost more than `bound`.
    fn since(&self, earlier: &Self, bound: &str) -> (u64, u64) {
        let up_to = |bound: &str| {
            let count = |overhead: &Self| overhead.0.get(bound).copied().unwrap_or_default();
            count(self) - count(earlier)
        };
        let all = up_to("+Inf");
        (all, all - up_to(bound))
    }
}
