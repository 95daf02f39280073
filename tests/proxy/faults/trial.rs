//! One fault: how it comes about, how long it lasts, how it ends.

use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Directory, Frozen, Mode, RedisServer, Relay, freeze, until};

use super::policy::{Hits, POLICIES, RECORD, SESSION};
use super::seen::Phase;
use super::under::{self, RECOVERY, Under};

/// One command of a Redis that is slow.
pub const SLOW: Duration = Duration::from_millis(500);
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

/// Runs it.
pub fn endure(fault: &Fault) {
    let app = under::app();
    let mut store = Store::start();
    let mut all = POLICIES.map(|policy| Under::start(policy, &app, &store.relay.url()));
    all.iter().for_each(|under| under.wait_until_well(10 * RECOVERY));
    all.iter().for_each(|under| under.load.wait_for_more(60));

    all.iter_mut().for_each(|under| under.enter(Phase::Struck));
    store.strike(fault);
    store.last(fault, Duration::from_secs(1));
    store.last_for_answers(fault, &all, 30);
    all.iter_mut().for_each(|under| under.enter(Phase::Lasting));
    // Longer than anybody may wait for Redis: who does is seen.
    let again = matches!(fault.how, How::Restarts);
    let (long, outages) = if again { (Duration::from_secs(9), 10) } else { (Duration::from_millis(400), 1) };
    store.last(fault, long);
    store.last_for_answers(fault, &all, 120);
    all.iter_mut().for_each(|under| under.enter(Phase::After));
    store.heal(fault);
    all.iter().for_each(|under| under.wait_until_well(RECOVERY));
    all.into_iter().for_each(|under| under.judge(fault.hits, fault.kinds, outages));
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
        redis.ask::<()>(&["SET", SESSION, RECORD, "EX", "600"]).expect("a session");
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

    /// Lets it last until each has answered so often again.
    fn last_for_answers(&mut self, fault: &Fault, all: &[Under], answers: u64) {
        let goals: Vec<_> = all.iter().map(|under| under.load.answered() + answers).collect();
        until("answers while the fault lasts", || {
            self.last(fault, Duration::from_millis(20));
            all.iter().zip(&goals).all(|(under, goal)| under.load.answered() >= *goal)
        });
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
