//! How sessions end in a real Redis: by a script that does as Redis 7 would, and told of when it is done.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use redis::{Pipeline, Value};
use sidegate::redis_pool::coherence::Coherence;
use sidegate::redis_pool::near::{self, channel};
use sidegate::redis_pool::{Link, Settings};
use sidegate::session::MemorySettings;
use sidegate::session::store::ending::{self, end_after, prolong};
use sidegate::session::store::remembered::{Bounds, Remembered};
use sidegate::telemetry::registry::Registry;

use crate::redis_server::{RedisCluster, RedisServer};
use crate::relay::Relay;
use crate::{becomes, link, on_a_worker};

const MINUTE: i64 = 60_000;

fn numbers(answers: &[Value]) -> Vec<i64> {
    let number = |answer: &Value| match answer {
        Value::Int(number) => *number,
        other => panic!("no number: {other:?}"),
    };
    answers.iter().map(number).collect()
}

#[test]
fn the_script_ends_a_record_as_redis_7_does() {
    on_a_worker(async {
        let server = RedisServer::start();
        let link = link(&server, &[ending::SCRIPT]).await;
        let mut seen = Vec::new();
        for _ in 0..300 {
            // Minutes that are left (0: no end; none: no record), and those that are wanted: never the same.
            let left = [None, Some(0), Some(20), Some(40), Some(60)][fastrand::usize(..5)];
            let wanted = [10, 30, 50, 70][fastrand::usize(..4)];
            let only_later = fastrand::bool();
            let mut pipeline = Pipeline::new();
            for key in ["scripted", "built-in"] {
                pipeline.cmd("DEL").arg(key).ignore();
                match left {
                    None => &mut pipeline,
                    Some(0) => pipeline.cmd("SET").arg(key).arg("record"),
                    Some(left) => pipeline.cmd("SET").arg(key).arg("record").arg("PX").arg(left * MINUTE),
                };
            }
            let before = pipeline.len();
            let life = Duration::from_secs(wanted * 60);
            if only_later {
                prolong(&mut pipeline, b"scripted", life);
            } else {
                end_after(&mut pipeline, b"scripted", life);
            }
            let flag = if only_later { "GT" } else { "XX" };
            pipeline.cmd("PEXPIRE").arg("built-in").arg(wanted as i64 * MINUTE).arg(flag);
            pipeline.cmd("PTTL").arg("scripted").cmd("PTTL").arg("built-in");
            let answers = link.query(&pipeline).await.expect("Redis answers");
            let [scripted, built_in, one, other] = numbers(&answers[before..])[..] else { panic!("{answers:?}") };
            let shown = format!("{left:?} left, {wanted} wanted, {flag}: {answers:?}");
            assert_eq!(scripted, built_in, "{shown}");
            // They are ten minutes apart where they are not the same.
            assert!((one - other).abs() < 5 * MINUTE && (one < 0) == (other < 0), "{shown}");
            seen.push((left.is_some_and(|left| left > 0), only_later, scripted));
        }
        for expected in [(true, true, 1), (true, true, 0), (true, false, 1), (false, true, 0), (false, false, 0)] {
            assert!(seen.contains(&expected), "{expected:?} did not come up");
        }
    });
}

/// In a cluster the channel may be with another node than the record: whoever hears of its end asks, and must not find it.
#[test]
fn where_nobody_but_us_tells_an_end_is_told_once_it_is_done() {
    let mut relays = Vec::new();
    let cluster = RedisCluster::announcing(&[], |port| {
        relays.push(Relay::to(port));
        relays.last().expect("one").port()
    });
    let keys: Vec<String> = (0..9).map(|number| format!("session:alice-{number}-0123456789")).collect();
    let masters: Vec<usize> = keys.iter().map(|key| cluster.master_of(key)).collect();
    for (key, master) in keys.iter().zip(&masters) {
        cluster.nodes()[*master].ask::<()>(&["SET", key, "record", "EX", "600"]).expect("SET");
    }
    let mut connection = cluster.nodes()[0].client().get_connection().expect("a connection");
    connection.set_read_timeout(Some(Duration::from_secs(60))).expect("a time-out");
    let mut heard = connection.as_pubsub();
    heard.subscribe(channel("sidegate:")).expect("SUBSCRIBE");
    let (tell, told) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            for (key, master) in keys.iter().zip(&masters) {
                let message: String = heard.get_message().expect("a message").get_payload().expect("a text");
                let stands: i64 = cluster.nodes()[*master].ask(&["EXISTS", key]).expect("EXISTS");
                tell.send((message, stands)).expect("the test listens");
            }
        });
        on_a_worker(async {
            let settings = Settings::of_url(&cluster.url()).expect("a URL");
            let settings = Settings { timeout: Duration::from_secs(10), ..settings };
            let link = Link::new(&settings, &[], &Registry::new(1), 0);
            becomes(&link, true).await;
            let bounds =
                Bounds::new(near::Settings::default(), MemorySettings::default(), ["session:"], "sidegate:limit:");
            let remembered = Remembered::new(bounds, Coherence::new());
            for (key, master) in keys.iter().zip(&masters) {
                // What the record's node is told takes its time; what others are told does not.
                relays[*master].delay(Duration::from_millis(100), Duration::ZERO);
                let mut pipeline = Pipeline::new();
                pipeline.cmd("DEL").arg(key);
                let answers = remembered.change(&link, "sidegate:", &[key.as_bytes()], pipeline).await;
                relays[*master].delay(Duration::ZERO, Duration::ZERO);
                assert_eq!(answers, Ok(vec![Value::Int(1)]));
                assert_eq!(told.recv().expect("it is told"), (key.clone(), 0));
            }
        });
    });
}
