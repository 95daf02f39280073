//! What is taken back, by place, prefix, pattern and tag, hard and soft, over each store; and by several processes at once.

use sidegate::cache::store::purge::{Softness, Target};
use sidegate::cache::store::{Marks, Wildcards};

use super::near::tracked;
use super::*;

/// The store of a trial, as an operator of the same process has it.
fn store(trial: &Trial) -> Store {
    match &trial.worker.link {
        None => Store::Memory(trial.worker.memory.clone()),
        Some(link) => {
            Store::Redis(Box::new(redis_store(link.clone(), "sidegate:").knowing(trial.worker.marks.clone())))
        }
    }
}

const NOW: u64 = 784_111_777;

async fn purge(trial: &Trial, target: &Target, softness: Softness) -> u64 {
    store(trial).purge(target, softness, NOW).await.expect("a store that answers")
}

fn prefix(path: &str) -> Target {
    Target::Prefix { authority: Some("example.com".into()), path: path.into() }
}

/// Tags by the path: `/a/1` carries `a` and `all`.
fn tagged() -> impl Fn(&Request<Body>, u32) -> Response<Body> {
    |request, number| {
        let mut response = Response::new(Body::full(number.to_string()));
        let first = request.uri().path().split('/').nth(1).unwrap_or_default();
        response.headers_mut().insert("cache-tag", format!("{first}, all").parse().expect("a value"));
        response
    }
}

#[test]
fn a_purge_takes_back_what_it_covers_and_says_how_many_places_it_met() {
    as_worker(async || {
        for trial in Trial::each().await {
            let trial = trial.app(tagged());
            let url = Target::Url { authority: "example.com".into(), path: "/A/1/".into() };
            let pattern = Target::Pattern { authority: None, glob: "*/2".into() };
            let everywhere = Target::Prefix { authority: None, path: "/".into() };
            for (target, met, gone) in [
                (url, 1, &["/a/1"][..]),
                (prefix("/a"), 2, &["/a/1", "/a/2"]),
                (prefix("/other"), 0, &[]),
                (pattern, 2, &["/a/2", "/b/2"]),
                (Target::Tag("b".into()), 2, &["/b/1", "/b/2"]),
                (Target::Tag("none".into()), 0, &[]),
                (Target::Tag("all".into()), 4, &["/a/1", "/a/2", "/b/1", "/b/2"]),
                (everywhere, 4, &["/a/1", "/a/2", "/b/1", "/b/2"]),
                (Target::All, 4, &["/a/1", "/a/2", "/b/1", "/b/2"]),
            ] {
                let all = ["/a/1", "/a/2", "/b/1", "/b/2"];
                for uri in all {
                    trial.get(uri).await;
                    assert_eq!(trial.get(uri).await.field("x-cache"), "HIT", "{uri} before {target:?}");
                }
                assert_eq!(purge(&trial, &target, Softness::Hard).await, met, "{target:?}");
                for uri in all {
                    let expected = if gone.contains(&uri) { "MISS" } else { "HIT" };
                    assert_eq!(trial.get(uri).await.field("x-cache"), expected, "{uri} after {target:?}");
                }
            }
        }
    });
}

#[test]
fn what_is_purged_softly_is_validated_and_then_fresh_again() {
    as_worker(async || {
        for trial in Trial::each().await {
            let trial = trial.app(|request, number| {
                let mut response = match request.headers().contains_key("if-none-match") {
                    true => Response::builder().status(304).body(Body::empty()).expect("a response"),
                    false => Response::new(Body::full(number.to_string())),
                };
                response.headers_mut().insert("etag", "\"1\"".parse().expect("a value"));
                response.headers_mut().insert("cache-tag", "page".parse().expect("a value"));
                response
            });
            let url = Target::Url { authority: "example.com".into(), path: "/page".into() };
            for target in [url, prefix("/p"), Target::Tag("page".into()), Target::All] {
                trial.get("/page").await;
                assert_eq!(trial.get("/page").await.field("x-cache"), "HIT");
                let before = trial.asked.get();
                assert_eq!(purge(&trial, &target, Softness::Soft).await, 1);
                let told = trial.get("/page").await;
                assert_eq!((told.field("x-cache"), told.content.as_str()), ("REVALIDATED", "1"), "{target:?}");
                assert_eq!(trial.asked.get(), before + 1);
                assert_eq!(trial.get("/page").await.field("x-cache"), "HIT", "{target:?}");
            }
            assert_eq!(purge(&trial, &prefix("/p"), Softness::Hard).await, 1);
            assert_eq!(purge(&trial, &prefix("/p"), Softness::Soft).await, 0, "there is nothing left");
            assert_eq!(trial.get("/page").await.field("x-cache"), "MISS");
            assert_eq!(trial.get("/page").await.field("x-cache"), "HIT", "what was softened in vain is no obstacle");
        }
    });
}

#[test]
fn a_write_takes_back_all_below_a_path_tags_and_the_groups_its_answer_names() {
    as_worker(async || {
        for trial in Trial::each().await {
            let entries =
                ["/users/{id}/{*}", "tag:user-{id}"].map(|text| OnWrite::parse(text, &["id"]).expect("an entry"));
            let wildcards = Wildcards::new(entries.iter().filter_map(|entry| entry.below(&[])));
            let trial = trial.route(|route| {
                route.on_write = entries.to_vec();
                route.wildcards = Arc::new(wildcards);
            });
            let trial = trial.app(|request, number| {
                let mut response = Response::new(Body::full(number.to_string()));
                let fields = match (request.method().as_str(), request.uri().path()) {
                    ("POST", _) => ("cache-group-invalidation", "\"lists\""),
                    (_, "/list") => ("cache-groups", "\"lists\", \"more\""),
                    (_, "/avatar") => ("surrogate-key", "avatars user-7"),
                    _ => ("x-nothing", ""),
                };
                response.headers_mut().insert(fields.0, fields.1.parse().expect("a value"));
                response
            });
            let all = ["/users/7", "/users/7/posts/1?page=2", "/users/70", "/users", "/list", "/avatar"];
            for uri in all {
                trial.get(uri).await;
                assert_eq!(trial.get(uri).await.field("x-cache"), "HIT", "{uri}");
            }
            trial.ask("POST", "/elsewhere", &[]).await;
            for (uri, expected) in all.into_iter().zip(["MISS", "MISS", "HIT", "HIT", "MISS", "MISS"]) {
                assert_eq!(trial.get(uri).await.field("x-cache"), expected, "{uri}");
                assert_eq!(trial.get(uri).await.field("x-cache"), "HIT", "{uri} is stored again at once");
            }
        }
    });
}

#[test]
fn a_fill_that_was_under_way_when_its_tag_was_purged_is_not_kept() {
    as_worker(async || {
        for trial in Trial::each().await {
            let store = store(&trial);
            let key = key("/page");
            let question = question(&key, Purpose::ReuseOrFill);
            let generation = async || match store.look_up(question, Answer::NotAsked, None, None).await {
                Found::Nothing { generation: Some(generation), .. } => Some(generation),
                Found::Stored(_) => None,
                other => panic!("{other:?}"),
            };
            let keep = async |since| {
                let opened = generation().await.expect("nothing is stored");
                store.keep(&key, stored(opened, 1), Keeping { tags: vec!["t".into()], since, ..keeping() });
                for _ in 0..3 {
                    trial.stored().await;
                }
                generation().await.is_none()
            };
            let since = Since::now(0);
            // Nothing of the place stands in the index yet, so the purge does not meet it.
            assert_eq!(purge(&trial, &Target::Tag("t".into()), Softness::Hard).await, 0);
            assert!(!keep(since).await, "it began before");
            assert!(keep(Since::now(0)).await, "it began after");
        }
    });
}

#[test]
fn another_process_loses_one_fill_of_a_purged_tag_and_no_more() {
    as_worker(async || {
        let server = RedisServer::start();
        let (one, two) = (process(&server, None).await, process(&server, None).await);
        one.0.purge(&Target::Tag("t".into()), Softness::Hard, NOW).await.expect("Redis");
        let kept = async |process: &Process, place: &str| {
            let key = key(place);
            let question = question(&key, Purpose::ReuseOrFill);
            let found = process.0.look_up(question, Answer::NotAsked, None, None).await;
            let Found::Nothing { generation: Some(generation), .. } = found else { panic!("{found:?}") };
            process.0.keep(
                &key,
                stored(generation, 1),
                Keeping { tags: vec!["t".into()], since: Since::now(0), ..keeping() },
            );
            settled(process).await;
            matches!(process.0.look_up(question, Answer::NotAsked, None, None).await, Found::Stored(_))
        };
        assert!(kept(&one, "/1").await, "who purges knows his mark");
        assert!(!kept(&two, "/2").await, "another sees it for the first time");
        assert!(kept(&two, "/3").await && kept(&two, "/4").await);
    });
}

#[test]
fn a_response_with_more_tags_than_allowed_is_not_stored() {
    as_worker(async || {
        for trial in Trial::each().await {
            let trial = trial.route(|route| route.policy = Some(Arc::new(Policy { max_tags: 2, ..policy() })));
            let trial = trial.app(saying(&[("cache-tag", "a, b, c")]));
            for _ in 0..2 {
                let told = trial.get("/page").await;
                assert_eq!(
                    told.field("cache-status"),
                    "sidegate; fwd=uri-miss; fwd-status=200; detail=\"too-many-tags: cache.max_tags\""
                );
            }
        }
    });
}

#[test]
fn a_tag_that_is_owed_is_read_around_and_paid_when_redis_is_back() {
    as_worker(async || {
        let [_, mut trial, _] = Trial::each().await;
        trial =
            trial.route(|route| route.on_write = vec![OnWrite::parse("tag:b", &[]).expect("an entry")]).app(tagged());
        for uri in ["/a/1", "/b/1"] {
            trial.get(uri).await;
            assert_eq!(trial.get(uri).await.field("x-cache"), "HIT");
        }
        // Redis answers everything but marks.
        let mut redis = trial.redis();
        let rule = ["ACL", "SETUSER", "default", "-zscan"];
        redis::cmd(rule[0]).arg(&rule[1..]).exec(&mut redis).expect("a rule");
        trial.ask("POST", "/elsewhere", &[]).await;
        assert!(trial.worker.owed.is_any());
        let told = trial.get("/b/1").await;
        assert_eq!((told.field("x-cache"), told.field("cache-status").contains("owed")), ("BYPASS", true));
        assert_eq!(trial.get("/a/1").await.field("x-cache"), "HIT");
        redis::cmd("ACL").arg(&["SETUSER", "default", "+zscan"]).exec(&mut redis).expect("a rule");
        let paid = async {
            while trial.worker.owed.is_any() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), paid).await.expect("what is owed is paid");
        assert_eq!(trial.get("/b/1").await.field("x-cache"), "MISS");
        assert_eq!(trial.get("/a/1").await.field("x-cache"), "HIT");
    });
}

#[test]
fn keys_of_tags_have_an_end() {
    as_worker(async || {
        let [_, trial, _] = Trial::each().await;
        let trial = trial.app(tagged());
        trial.get("/a/1").await;
        purge(&trial, &Target::Tag("a".into()), Softness::Soft).await;
        let mut redis = trial.redis();
        for key in ["sidegate:tag:{a}", "sidegate:tag:{a}:mark", "sidegate:cache:{example.com/a/1}:g"] {
            let ends: i64 = redis::cmd("PTTL").arg(key).query(&mut redis).expect("a time");
            assert!(ends > 0, "{key}: {ends}");
        }
    });
}

#[test]
fn what_has_ended_leaves_an_index_a_batch_at_a_time_and_what_has_not_stays() {
    const ENDED: u64 = 5_000;
    as_worker(async || {
        let [_, trial, _] = Trial::each().await;
        let trial = trial.app(tagged());
        let mut redis = trial.redis();
        let mut zadd = redis::cmd("ZADD");
        zadd.arg("sidegate:tag:{a}");
        for number in 0..ENDED {
            zadd.arg(-1).arg(format!("example.com/ended-{number}"));
        }
        zadd.exec(&mut redis).expect("ZADD");
        let mut count = || redis::cmd("ZCARD").arg("sidegate:tag:{a}").query::<u64>(&mut redis).expect("a count");
        let (mut fills, mut before) = (0, ENDED);
        while before > fills {
            trial.get(&format!("/a/{fills}")).await;
            fills += 1;
            let now = count();
            assert!(before <= now + 500, "{before} and then {now}");
            before = now;
            assert!(fills < 2_000, "{now} are left");
        }
        assert_eq!(before, fills, "those that were filled");
    });
}

/// A process on `server`, with what it remembers of it.
async fn process(server: &RedisServer, near: Option<Arc<NearStore>>) -> Process {
    let registry = Registry::new(1);
    let marks = Arc::new(Marks::new());
    Process::on_redis(link(server).await, |store| store.behind(near, &registry, 0).knowing(marks))
}

/// Waits until what was sent behind is done: a tagged fill is two trips.
async fn settled(Process(_, link): &Process) {
    for _ in 0..4 {
        tokio::task::yield_now().await;
        let mut ping = redis::Pipeline::new();
        ping.cmd("PING");
        link.as_ref().expect("a link").query(&ping).await.expect("an answer");
    }
}

/// What several processes do to a few places that share a tag, at once and at random.
struct Crowd {
    processes: Vec<Process>,
    /// What the app answers now, and what was confirmed, by place.
    app: [Cell<u64>; PLACES],
    confirmed: [Cell<u64>; PLACES],
    hits: Cell<u32>,
    kept: Cell<u32>,
}

const PLACES: usize = 4;

impl Crowd {
    fn new(processes: Vec<Process>) -> Rc<Self> {
        let numbers = || std::array::from_fn(|_| Cell::new(0));
        Rc::new(Self { processes, app: numbers(), confirmed: numbers(), hits: Cell::new(0), kept: Cell::new(0) })
    }

    async fn read(&self, random: &mut fastrand::Rng) {
        let (place, process) = (random.usize(..PLACES), &self.processes[random.usize(..self.processes.len())]);
        let key = key(&format!("/crowd/{place}"));
        let question = question(&key, Purpose::ReuseOrFill);
        let due = self.confirmed[place].get();
        let mut answers = process.ask(question).await;
        let (answer, note) = (answers.take(Slot::Cache), answers.note(Slot::Cache));
        let generation = match process.0.look_up(question, answer, note, answers.take_aside()).await {
            Found::Stored(stored) => {
                // What was purged softly is stale, and answers nobody here.
                if stored.facts.lifetime > 0 {
                    let version = u64::from_le_bytes(whole(&stored)[..].try_into().expect("a version"));
                    assert!(version >= due, "{version} was read at {place} after write {due}");
                    self.hits.set(self.hits.get() + 1);
                    if random.u8(..4) > 0 {
                        return;
                    }
                }
                stored.generation
            }
            Found::Nothing { generation: Some(generation), .. } => generation,
            Found::Nothing { .. } => return,
            Found::Unavailable(reason) => panic!("the store is {reason}"),
        };
        let since = Since::now(0);
        pause(random).await;
        let version = self.app[place].get();
        pause(random).await;
        self.kept.set(self.kept.get() + 1);
        process.0.keep(&key, stored(generation, version), Keeping { tags: vec!["crowd".into()], since, ..keeping() });
    }

    async fn write(&self, random: &mut fastrand::Rng) {
        let place = random.usize(..PLACES);
        let path = format!("/crowd/{place}");
        let (target, places) = match random.u8(..6) {
            0 => (Target::Url { authority: "example.com".into(), path }, place..place + 1),
            1 => (Target::Prefix { authority: None, path: "/crowd".into() }, 0..PLACES),
            2 => (Target::Pattern { authority: None, glob: format!("*/{place}") }, place..place + 1),
            3 => (Target::All, 0..PLACES),
            _ => (Target::Tag("crowd".into()), 0..PLACES),
        };
        let softness = if random.bool() { Softness::Soft } else { Softness::Hard };
        let written: Vec<_> =
            places.clone().map(|place| self.app[place].replace(self.app[place].get() + 1) + 1).collect();
        pause(random).await;
        let process = &self.processes[random.usize(..self.processes.len())];
        process.0.purge(&target, softness, NOW).await.expect("Redis answers");
        for (place, version) in places.zip(written) {
            self.confirmed[place].set(self.confirmed[place].get().max(version));
        }
    }

    /// Six readers and two writers, in an order drawn from `seed`.
    async fn run(self: &Rc<Self>, seed: u64, rounds: usize) {
        let all: Vec<_> = (0..8_u64)
            .map(|number| {
                let (crowd, mut random) = (self.clone(), fastrand::Rng::with_seed(seed * 8 + number));
                tokio::task::spawn_local(async move {
                    for _ in 0..rounds {
                        if number < 6 {
                            crowd.read(&mut random).await;
                        } else {
                            for _ in 0..random.u8(..20) {
                                pause(&mut random).await;
                            }
                            crowd.write(&mut random).await;
                        }
                    }
                })
            })
            .collect();
        for one in all {
            one.await.expect("nobody was answered by what was over");
        }
    }
}

/// For as long as some of the others need for a trip, or not at all.
async fn pause(random: &mut fastrand::Rng) {
    for _ in 0..random.u8(..8) {
        tokio::task::yield_now().await;
    }
}

#[test]
fn no_purge_is_lost_among_processes_that_remember_and_fill_at_once() {
    as_worker(async || {
        let server = RedisServer::start();
        let (mut processes, mut trackings) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let (near, tracking) = tracked(crate::settings(&server), Coherence::new()).await;
            processes.push(process(&server, Some(near)).await);
            trackings.push(tracking);
        }
        let crowd = Crowd::new(processes);
        for seed in 0..6 {
            crowd.run(seed, 60).await;
        }
        let (hits, kept) = (crowd.hits.get(), crowd.kept.get());
        assert!(hits > 100 && kept > 100, "only {hits} hits and {kept} fills, so little was shown");
    });
}

#[test]
fn no_purge_is_lost_in_memory() {
    as_worker(async || {
        let memory = MemoryStore::new(MemorySettings::default());
        let crowd = Crowd::new([memory.clone(), memory].map(|memory| Process(Store::Memory(memory), None)).into());
        for seed in 0..20 {
            crowd.run(seed, 200).await;
        }
        assert!(crowd.hits.get() > 100, "only {} hits", crowd.hits.get());
    });
}

#[test]
fn a_tag_is_purged_wherever_in_a_cluster_its_places_lie_however_many() {
    as_worker(async || {
        let cluster = RedisCluster::start();
        let link = link_to(&cluster.url()).await;
        let process = Process::on_redis(link, |store| store);
        // More than one page of the index.
        let keys: Vec<_> = (0..1200).map(|number| key(&format!("/page-{number}"))).collect();
        let found = async |key: &Key| {
            let question = question(key, Purpose::ReuseOrFill);
            process.0.look_up(question, Answer::NotAsked, None, None).await
        };
        let fill = async || {
            for some in keys.chunks(100) {
                for key in some {
                    let Found::Nothing { generation: Some(generation), .. } = found(key).await else { continue };
                    process.0.keep(key, stored(generation, 1), Keeping { tags: vec!["t".into()], ..keeping() });
                }
                settled(&process).await;
            }
            let mut there = 0;
            for key in &keys {
                there += u64::from(matches!(found(key).await, Found::Stored(_)));
            }
            there
        };
        assert_eq!(fill().await, 1200);
        for (target, softness) in [
            (Target::Tag("t".into()), Softness::Soft),
            (prefix("/page"), Softness::Soft),
            (Target::Tag("t".into()), Softness::Hard),
        ] {
            assert_eq!(process.0.purge(&target, softness, NOW).await, Ok(1200), "{target:?}");
            for key in keys.iter().step_by(37) {
                match (found(key).await, softness) {
                    (Found::Stored(stored), Softness::Soft) => assert_eq!(stored.facts.lifetime, 0),
                    (Found::Nothing { .. }, Softness::Hard) => {}
                    (other, _) => panic!("{other:?} after {target:?}"),
                }
            }
        }
        assert_eq!(fill().await, 1200);
        assert_eq!(process.0.purge(&prefix("/page-1"), Softness::Hard, NOW).await, Ok(311));
    });
}
