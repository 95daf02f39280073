//! A sidegate with one policy, under load, and the judgement on it.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::harness::{Answer, Client, Configuration, Load, Origin, Reply, Sidegate};

use super::policy::{ASKS, Asks, Hits, Policy};
use super::seen::{Overhead, Phase, Seen};

/// `redis.timeout`: twice of it is a bound of the histogram's buckets.
const TIMEOUT: &str = "125ms";
/// Bounds of buckets (seconds): twice the time-out; less than a wait for it, and more than what takes no wait takes here.
const TWICE: &str = "0.25";
const A_WAIT: &str = "0.1";
/// How soon all is as before: looks, [`PAUSE`] apart. That is two seconds, and as much more as a machine that is busy with
/// other things takes for the looks themselves, and for everything else.
pub const RECOVERY: usize = 200;
const PAUSE: Duration = Duration::from_millis(10);
/// Lines of the log for one outage.
const LINES: usize = 40;

/// Names what was asked, who asks, and how often it was written.
pub fn app() -> Origin {
    let versions = Mutex::new(BTreeMap::<String, u64>::new());
    Origin::answering(move |request| {
        let mut versions = versions.lock().unwrap_or_else(PoisonError::into_inner);
        let version = versions.entry(request.target.clone()).or_default();
        *version += u64::from(request.method == "PUT");
        Reply::text(format!("{} {} {version}", request.target, request.field("x-user-id").unwrap_or("-")))
    })
}

/// A sidegate with one policy, under load.
pub struct Under {
    policy: Policy,
    sidegate: Sidegate,
    pub load: Load,
    seen: Arc<Seen>,
    /// How things stood when each phase began.
    marks: Vec<Mark>,
}

/// How things stand.
struct Mark {
    overhead: Overhead,
    lines: usize,
}

impl Under {
    /// Starts it, and its load: a connection for each of [`Asks`].
    pub fn start(policy: Policy, app: &Origin, redis: &str) -> Self {
        let sidegate = Configuration::of(app)
            .server("workers = 1")
            .redis_at(redis)
            .redis_lines(&format!("timeout = {TIMEOUT:?}"))
            .with(&policy.tables())
            .start();
        let seen = Arc::new(Seen::default());
        let (asking, judging) = (seen.clone(), seen.clone());
        let ask = move |number: usize, turn: usize| {
            thread::sleep(Duration::from_millis(3));
            asking.asked[number].store(asking.phase.load(Ordering::SeqCst), Ordering::SeqCst);
            policy.ask(ASKS[number], turn)
        };
        let right = move |number: usize, turn: usize, answer: &Answer| judging.right(number, policy, turn, answer);
        let load = Load::judged(sidegate.address(), ASKS.len(), ask, right);
        let mut under = Self { policy, sidegate, load, seen, marks: Vec::new() };
        under.enter(Phase::Before);
        under
    }

    /// From now on it is in this phase.
    pub fn enter(&mut self, phase: Phase) {
        self.seen.phase.store(phase as usize, Ordering::SeqCst);
        let (overhead, lines) = (Overhead::of(&self.sidegate), self.sidegate.errors().lines().count());
        self.marks.push(Mark { overhead, lines });
    }

    /// Waits until all works as it should, at most for so many looks.
    pub fn wait_until_well(&self, looks: usize) {
        let mut client = self.sidegate.client();
        let mut missing = self.missing(&mut client);
        for _ in 0..looks {
            if missing.is_none() {
                return;
            }
            thread::sleep(PAUSE);
            missing = self.missing(&mut client);
        }
        assert_eq!(missing, None, "{} is not well, {looks} looks after Redis returned", self.policy.limits);
    }

    /// What does not work as it should; nothing: all is well.
    fn missing(&self, client: &mut Client) -> Option<String> {
        let counted = || self.sidegate.metric("sidegate_limit_decisions_total{limit=\"many\",outcome=\"allowed\"}");
        let before = counted();
        let limited = client.get("/limited/probe").status;
        let protected = client.send(self.policy.ask(Asks::Protected, 0)).answer().status;
        let page = format!("/cached/probe-{}", self.policy.limits);
        let stored = [client.get(&page), client.get(&page)].map(|answer| answer.field("x-cache").map(str::to_owned));
        let well = (limited, protected) == (200, 200) && stored[1].as_deref() == Some("HIT") && counted() > before;
        (!well).then(|| format!("limited {limited}, counted {before}, protected {protected}, cached {stored:?}"))
    }

    /// Judges it: `outages` were of these kinds, at least one of them, and hit what `hits` says.
    pub fn judge(self, hits: Hits, kinds: &[&str], outages: usize) {
        let Self { policy, sidegate, load, seen, marks } = self;
        let (tally, name) = (load.finish(), policy.limits);
        assert!(tally.failures.is_empty() && tally.wrong == 0 && tally.refused == 0, "{name}: {tally:?}");

        let answers = seen.answers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let came = |phase, asks| answers.keys().any(|(when, what, _)| (*when, *what) == (phase, asks));
        assert!(
            ASKS.iter().all(|&asks| came(Phase::Before, asks) && came(Phase::Lasting, asks)),
            "{name}: {answers:?}"
        );
        for (&(phase, asks, status), count) in &answers {
            let expected = policy.decided(asks, phase, hits);
            assert!(expected.contains(&status), "{name}: {count} × {status} for {asks:?} {phase:?}: {answers:?}");
        }

        let [_, struck, lasting, after] = &marks[..] else { panic!("a mark for each phase") };
        // Where Redis still answers some, it is still asked, and takes its time.
        let later = if hits == Hits::Everything { A_WAIT } else { TWICE };
        for (from, to, bound) in [(struck, lasting, TWICE), (lasting, after, later)] {
            let (all, slow) = to.overhead.since(&from.overhead, bound);
            // Three connections: one stall of the machine is seen by no more than three requests.
            assert!(all > 0 && slow <= all / 100 + 3, "{name}: {slow} of {all} requests cost more than {bound} s");
        }
        let lines = sidegate.errors().lines().count() - struck.lines;
        assert!(lines <= outages * LINES, "{name}: {lines} log lines for {outages} outages");
        let metrics = sidegate.ask_admin("/metrics").text();
        let counted = |kind: &&str| metrics.contains(&format!("sidegate_redis_errors_total{{kind=\"{kind}\""));
        let errors = || metrics.lines().filter(|line| line.starts_with("sidegate_redis_errors")).collect::<Vec<_>>();
        assert!(kinds.iter().any(counted), "{name}: none of {:?} in {:#?}", kinds, errors());
    }
}
