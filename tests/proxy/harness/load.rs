//! Bounded load: a few keep-alive connections that ask again and again, and a tally of what came back.
//!
//! A connection that is refused, or closed between two requests *before* the next was sent, is opened anew: nothing was
//! asked on it. A request that was sent and not answered is a failure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::client::{Answer, Client};

/// Requests one connection sends at most: a test that forgets to stop its load ends all the same.
const BOUND: usize = 20_000;

/// What came back.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Whole answers, by status.
    pub answers: BTreeMap<u16, u64>,
    /// Requests that were sent and not answered, or not to the end; with the first few reasons.
    pub failures: Vec<String>,
    /// Answers that the check refused.
    pub wrong: u64,
    /// Connections that were refused: nobody listens any more.
    pub refused: u64,
    /// The longest that a request took.
    pub slowest: Duration,
}

impl Tally {
    /// All answers.
    pub fn total(&self) -> u64 {
        self.answers.values().sum()
    }

    fn add(&mut self, other: Self) {
        for (status, count) in other.answers {
            *self.answers.entry(status).or_default() += count;
        }
        self.failures.extend(other.failures);
        self.wrong += other.wrong;
        self.refused += other.refused;
        self.slowest = self.slowest.max(other.slowest);
    }
}

/// Load that is going on.
pub struct Load {
    threads: Vec<JoinHandle<Tally>>,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
}

impl Load {
    /// Starts so many connections; each sends what `ask` says for its number and turn, and judges answers by `right`.
    pub fn start(
        address: &str,
        connections: usize,
        ask: impl Fn(usize, usize) -> Vec<u8> + Send + Sync + 'static,
        right: impl Fn(&Answer) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self::judged(address, connections, ask, move |_, _, answer| right(answer))
    }

    /// The same; `right` also knows the number and turn that were asked.
    pub fn judged(
        address: &str,
        connections: usize,
        ask: impl Fn(usize, usize) -> Vec<u8> + Send + Sync + 'static,
        right: impl Fn(usize, usize, &Answer) -> bool + Send + Sync + 'static,
    ) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ask, right) = (Arc::new(ask), Arc::new(right));
        let threads = (0..connections).map(|number| {
            let (stop, answered, ask, right) = (stop.clone(), answered.clone(), ask.clone(), right.clone());
            let address = address.to_owned();
            thread::spawn(move || {
                one(&address, &stop, &answered, |turn| ask(number, turn), |turn, answer| right(number, turn, answer))
            })
        });
        Self { threads: threads.collect(), stop, answered }
    }

    /// Answers so far.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::SeqCst)
    }

    /// Waits for so many answers more, however slowly they come: what may not happen is that none does.
    pub fn wait_for_more(&self, answers: u64) {
        let mut so_far = self.answered();
        let goal = so_far + answers;
        while so_far < goal {
            super::until(&format!("an answer more under load, after {so_far}"), || self.answered() > so_far);
            so_far = self.answered();
        }
    }

    /// Lets each connection finish its request, and adds up.
    pub fn finish(self) -> Tally {
        self.stop.store(true, Ordering::SeqCst);
        let mut tally = Tally::default();
        for thread in self.threads {
            tally.add(thread.join().expect("a load connection"));
        }
        tally
    }
}

fn one(
    address: &str,
    stop: &AtomicBool,
    answered: &AtomicU64,
    ask: impl Fn(usize) -> Vec<u8>,
    right: impl Fn(usize, &Answer) -> bool,
) -> Tally {
    let (mut tally, mut open) = (Tally::default(), None);
    for turn in 0..BOUND {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        // About 400 requests a second and connection: enough to be in the middle of something whatever happens.
        thread::sleep(Duration::from_millis(2));
        let mut client = match open.take() {
            Some(client) => client,
            None => match Client::try_to(address) {
                Ok(client) => client,
                Err(_) => {
                    tally.refused += 1;
                    continue;
                }
            },
        };
        let began = Instant::now();
        let outcome = client.try_send(&ask(turn)).and_then(|()| client.try_answer_to("GET"));
        tally.slowest = tally.slowest.max(began.elapsed());
        match outcome {
            Ok(answer) if answer.cut_short => tally.failures.push(format!("{} cut short", answer.status)),
            Ok(answer) => {
                *tally.answers.entry(answer.status).or_default() += 1;
                tally.wrong += u64::from(!right(turn, &answer));
                answered.fetch_add(1, Ordering::SeqCst);
                let closing = answer.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
                open = (!closing).then_some(client);
            }
            Err(error) => tally.failures.push(error.to_string()),
        }
    }
    tally
}
