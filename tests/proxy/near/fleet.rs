//! Two instances, one Redis, and everybody who may change something in it, in a random order: no instance ever answers by
//! what was over before it was asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};

use super::{TABLES, is_told, log_in, private, tracking_connections};
use crate::harness::{Client, Configuration, Origin, RedisServer, Reply, Sidegate};

const STEPS: usize = 2_000;
/// Of each kind.
const THINGS: usize = 6;
/// Reading all the time, of each instance.
const READERS: usize = 1;

/// A count that only grows, for each session and each page: what is read must be no older than what was acknowledged
/// before the reading.
#[derive(Default)]
struct Truth {
    sessions: [AtomicUsize; THINGS],
    pages: [AtomicUsize; THINGS],
}

impl Truth {
    fn read_session(&self, client: &mut Client, number: usize) {
        let least = self.sessions[number].load(Ordering::SeqCst);
        let answer = private(client, &session(number));
        match answer.status {
            200 => {
                let read: usize = answer.text().parse().expect("a number");
                assert!(read >= least, "session {number}: read {read} after {least} was acknowledged");
            }
            // Logged out, now or in between.
            401 => {}
            other => panic!("{other}"),
        }
    }

    fn read_page(&self, client: &mut Client, number: usize) {
        let least = self.pages[number].load(Ordering::SeqCst);
        let answer = client.get(&format!("/pages/{number}"));
        let read: usize = answer.text().parse().expect("a number");
        let found = answer.field("x-cache");
        assert!(read >= least, "page {number}: {found:?} {read} after {least} was acknowledged");
    }
}

fn session(number: usize) -> String {
    format!("session-0123456789-{number}")
}

/// An app with pages that are written to; each answer says how often its page has been. Answers to others say who is
/// logged in.
fn app(written: Arc<[AtomicUsize; THINGS]>) -> Origin {
    Origin::answering(move |request| {
        let Some(page) = request.path().strip_prefix("/pages/") else {
            return Reply::text(request.field("x-user-id").unwrap_or("nobody").to_owned());
        };
        let page = &written[page.parse::<usize>().expect("a page")];
        let writes = usize::from(request.method == "POST");
        Reply::text((page.fetch_add(writes, Ordering::SeqCst) + writes).to_string())
    })
}

#[test]
fn no_instance_answers_by_what_was_over_before_it_was_asked() {
    let redis = RedisServer::start();
    let written = Arc::<[AtomicUsize; THINGS]>::default();
    let app = app(written.clone());
    let configuration = Configuration::of(&app).redis(&redis).with(TABLES);
    let instances = [configuration.start(), configuration.start()];
    instances.iter().for_each(is_told);
    let (truth, done) = (Truth::default(), AtomicBool::new(false));
    thread::scope(|scope| {
        let reading: Vec<_> = (0..2 * READERS)
            .map(|reader| {
                let (truth, done, instance) = (&truth, &done, &instances[reader % 2]);
                scope.spawn(move || {
                    let mut client = instance.client();
                    let mut turn = reader;
                    while !done.load(Ordering::SeqCst) {
                        truth.read_session(&mut client, turn % THINGS);
                        truth.read_page(&mut client, turn % THINGS);
                        turn += 1;
                    }
                })
            })
            .collect();
        let schedule = scope.spawn(|| disturb(&redis, &written, &instances, &truth));
        let disturbed = schedule.join();
        done.store(true, Ordering::SeqCst);
        let read: Vec<_> = reading.into_iter().map(thread::ScopedJoinHandle::join).collect();
        assert!(disturbed.is_ok() && read.iter().all(Result::is_ok), "see above");
    });
    for instance in &instances {
        for kind in ["session", "response"] {
            let hits = instance.metric(&format!("sidegate_near_hits_total{{kind=\"{kind}\"}}"));
            assert!(hits > 200.0, "{kind}: only {hits} answers were remembered ones");
        }
        assert!(instance.metric("sidegate_near_losses_total{reason=\"disconnected\"}") > 5.0);
    }
}

/// Changes things, says so, and looks at once at both instances.
fn disturb(redis: &RedisServer, written: &[AtomicUsize; THINGS], instances: &[Sidegate; 2], truth: &Truth) {
    let mut random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut clients = [instances[0].client(), instances[1].client()];
    let delete = |keys: &[String]| {
        let keys = keys.iter().map(String::as_str);
        let _: i64 = redis.ask(&["DEL"].into_iter().chain(keys).collect::<Vec<_>>()).expect("DEL");
    };
    for step in 1..=STEPS {
        let number = random.next_u32() as usize % THINGS;
        let instance = random.next_u32() as usize % 2;
        let key = format!("session:{}", session(number));
        match random.next_u32() % 100 {
            // The app changes who is logged in.
            0..30 => {
                log_in(redis, &session(number), &step.to_string());
                truth.sessions[number].store(step, Ordering::SeqCst);
            }
            // Somebody logs out.
            30..45 => {
                delete(&[key]);
                truth.sessions[number].store(step, Ordering::SeqCst);
                let [one, other] = &mut clients;
                assert_eq!(private(one, &session(number)).status, 401, "step {step}");
                assert_eq!(private(other, &session(number)).status, 401, "step {step}");
            }
            // A login ends by its time.
            45..47 => {
                let _: i64 = redis.ask(&["PEXPIRE", &key, "1"]).expect("PEXPIRE");
                thread::sleep(Duration::from_millis(50));
                truth.sessions[number].store(step, Ordering::SeqCst);
            }
            // A write through one of the instances.
            47..85 => {
                let answer = clients[instance].ask("POST", &format!("/pages/{number}"), &[], b"new");
                let now = answer.text().parse().expect("a number");
                truth.pages[number].store(now, Ordering::SeqCst);
            }
            // A write that passes neither, and an operator who takes back what is stored.
            85..95 => {
                let now = written[number].fetch_add(1, Ordering::SeqCst) + 1;
                let keys: Vec<String> = redis.ask(&["KEYS", "sidegate:cache:{*}:g"]).expect("KEYS");
                if !keys.is_empty() {
                    delete(&keys);
                }
                truth.pages[number].store(now, Ordering::SeqCst);
            }
            // The connection is lost over which one of them is told, or both.
            95..99 => {
                for id in tracking_connections(redis).iter().skip(instance) {
                    let _ = redis.ask::<i64>(&["CLIENT", "KILL", "ID", id]);
                }
            }
            _ => {
                let () = redis.ask(&["FLUSHALL"]).expect("FLUSHALL");
                thread::sleep(Duration::from_millis(50));
                truth.sessions.iter().for_each(|session| session.store(step, Ordering::SeqCst));
            }
        }
        for client in &mut clients {
            truth.read_session(client, number);
            truth.read_page(client, number);
        }
    }
}
