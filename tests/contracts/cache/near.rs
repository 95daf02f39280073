//! What this process remembers of Redis.

use redis::Value;
use sidegate::redis_pool::coherence::Coherence;
use sidegate::redis_pool::near::{Mode, Settings, Tier as _};
use sidegate::redis_pool::tracking::Terms;

use super::trips::Counted;
use super::*;

fn settings() -> Settings {
    Settings { response_max_age: Duration::from_secs(30), ..Settings::default() }
}

fn near_store(coherence: Arc<Coherence>) -> Arc<NearStore> {
    NearStore::new(&settings(), coherence, "sidegate:").expect("room for a near tier")
}

/// A near tier that is told of every change in `redis`, as that of a process is.
pub(super) async fn tracked(redis: crate::Settings, coherence: Arc<Coherence>) -> (Arc<NearStore>, Tracking) {
    let near = near_store(coherence.clone());
    let terms = Terms { redis, near: settings(), tiers: vec![near.clone()], coherence: coherence.clone() };
    let tracking = Tracking::start(terms, Registry::new(1), 0).expect("a thread");
    era(&coherence).await;
    (near, tracking)
}

/// Waits for one.
async fn era(coherence: &Coherence) {
    let begun = async {
        while coherence.era().is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), begun).await.expect("an era within a minute");
}

/// A cache with a near tier that is told by the test alone, and by what goes through this process.
struct Near {
    counted: Counted,
    coherence: Arc<Coherence>,
}

impl Near {
    async fn new() -> Self {
        let coherence = Coherence::new();
        let mut counted = Counted::new(RedisServer::start()).await;
        coherence.begin();
        counted.trial.worker.near = Some(near_store(coherence.clone()));
        counted.trial = counted.trial.route(|_| ());
        Self { counted, coherence }
    }

    /// Has it stored, and remembered.
    async fn remember(&self, uri: &str) {
        assert_ne!(self.counted.get(uri, &[]).await.0, "HIT");
        assert_eq!(self.counted.get(uri, &[]).await, ("HIT".into(), 1));
        self.is_remembered(uri, true).await;
    }

    async fn is_remembered(&self, uri: &str, remembered: bool) {
        assert_eq!(self.counted.get(uri, &[]).await, ("HIT".into(), u64::from(!remembered)), "{uri}");
    }

    fn tier(&self) -> &NearStore {
        self.counted.trial.worker.near.as_deref().expect("a near tier")
    }
}

#[test]
fn a_hot_request_makes_no_trip_and_copies_no_content() {
    as_worker(async || {
        let near = Near::new().await;
        near.remember("/page").await;
        let mut answers = [const { None }; 2];
        for answer in &mut answers {
            let mut exchange = exchange("GET", "/page", &[], Body::empty());
            assert_eq!(near.counted.trial.cache.ask(&mut exchange, &mut redis::Pipeline::new()), 0);
            let Answer::Near(response) = exchange.answers.take(Slot::Cache) else { panic!("nothing remembered") };
            *answer = Some(whole(&response.downcast::<StoredResponse>().expect("a response")).as_ptr());
        }
        assert_eq!(answers[0], answers[1]);
        let head = near.counted.head("HEAD", "/page", &[]).await;
        assert_eq!(
            (&head.headers()["x-cache"], &head.headers()["cache-status"]),
            (&"HIT".parse().unwrap(), &"sidegate; hit; ttl=60".parse().unwrap())
        );
        let registry = &near.counted.trial.worker.registry;
        let hits = |tier| registry.value("sidegate_cache_hits_total", &[("cache", "pages"), ("tier", tier)]);
        assert_eq!((hits("near"), hits("redis"), hits("memory")), (2, 1, 0));
        assert_eq!(registry.value("sidegate_cache_requests_total", &[("cache", "pages"), ("outcome", "hit")]), 3);
        assert!(near.tier().size().bytes > 0);
    });
}

#[test]
fn news_of_a_generation_forgets_the_place_and_news_of_an_entry_that_entry_alone() {
    as_worker(async || {
        let near = Near::new().await;
        let mut redis = near.counted.redis();
        for uri in ["/page?1", "/page?2", "/other"] {
            near.remember(uri).await;
        }
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut redis).expect("keys");
        let of_page = |key: &&String| key.starts_with("sidegate:cache:{example.com/page}:");
        let entry = keys.iter().filter(of_page).find(|key| !key.ends_with(":g")).expect("an entry");
        near.tier().changed(entry.as_bytes());
        let (_, one) = near.counted.get("/page?1", &[]).await;
        let (_, two) = near.counted.get("/page?2", &[]).await;
        assert_eq!(one + two, 1, "one of the two was forgotten");
        near.is_remembered("/other", true).await;
        near.tier().changed(b"sidegate:cache:{example.com/page}:g");
        near.is_remembered("/page?1", false).await;
        near.is_remembered("/other", true).await;
        near.tier().changed(b"sidegate:cache:no key of ours");
        near.is_remembered("/other", true).await;
    });
}

#[test]
fn what_was_asked_before_a_change_is_not_remembered_after_it() {
    as_worker(async || {
        let near = Near::new().await;
        near.remember("/page").await;
        let generation = b"sidegate:cache:{example.com/page}:g";
        near.tier().changed(generation);
        let link = near.counted.trial.worker.link.clone().expect("a link");
        let mut exchange = exchange("GET", "/page", &[], Body::empty());
        let mut pipeline = redis::Pipeline::new();
        near.counted.trial.cache.ask(&mut exchange, &mut pipeline);
        exchange.answers.put(Slot::Cache, Answer::Values(link.query(&pipeline).await.expect("an answer")));
        // While the answer was on its way.
        near.tier().changed(generation);
        assert_eq!(near.counted.trial.answer(exchange).await.headers()["x-cache"], "HIT");
        near.is_remembered("/page", false).await;
        let races = near.counted.trial.worker.registry.value("sidegate_near_races_total", &[("kind", "response")]);
        assert_eq!(races, 1);
    });
}

#[test]
fn outside_the_era_it_was_remembered_in_nothing_is_used() {
    as_worker(async || {
        let near = Near::new().await;
        near.remember("/page").await;
        near.coherence.end();
        near.is_remembered("/page", false).await;
        near.is_remembered("/page", false).await;
        near.coherence.begin();
        near.is_remembered("/page", false).await;
        near.is_remembered("/page", true).await;
        near.tier().empty();
        assert_eq!(near.tier().size().entries, 0);
        near.is_remembered("/page", false).await;
    });
}

#[test]
fn a_remembered_response_ends_by_its_freshness_by_the_maximum_age_and_when_the_clock_is_set_back() {
    as_worker(async || {
        let near = Near::new().await;
        let time = &near.counted.trial.time;
        near.remember("/page").await;
        time.advance(Duration::from_secs(29));
        near.is_remembered("/page", true).await;
        time.advance(Duration::from_secs(1));
        near.is_remembered("/page", false).await;
        time.advance(Duration::from_secs(29));
        near.is_remembered("/page", true).await;
        time.advance(Duration::from_secs(1));
        assert_eq!(near.counted.get("/page", &[]).await, ("EXPIRED".into(), 1));
        near.is_remembered("/page", false).await;
        near.is_remembered("/page", true).await;
        time.set(784_111_777_000_000);
        near.is_remembered("/page", false).await;
    });
}

#[test]
fn variants_are_remembered_side_by_side_and_credentials_are_judged_as_ever() {
    as_worker(async || {
        let mut near = Near::new().await;
        near.counted.trial = near.counted.trial.app(saying(&[("vary", "accept-language")]));
        let ask = async |language| near.counted.get("/page", &[("accept-language", language)]).await;
        for trips in [1, 1, 0] {
            for language in ["de", "fr"] {
                assert_eq!(ask(language).await.1, trips, "{language}");
            }
        }
        let somebody = [("accept-language", "de"), ("authorization", "x")];
        assert_eq!(near.counted.get("/page", &somebody).await, ("BYPASS".into(), 0));
    });
}

#[test]
fn a_write_through_this_process_forgets_before_it_is_answered_also_if_redis_cannot_be_told() {
    as_worker(async || {
        let mut near = Near::new().await;
        for uri in ["/page?1", "/page?2"] {
            near.remember(uri).await;
        }
        near.counted.head("POST", "/page", &[]).await;
        assert_eq!(near.counted.get("/page?1", &[]).await.0, "MISS");
        near.remember("/page?2").await;
        near.counted.trial.server.as_mut().expect("a server").kill();
        near.counted.head("POST", "/page", &[]).await;
        assert_eq!(near.counted.get("/page?2", &[]).await.0, "BYPASS");
        assert!(near.counted.trial.worker.owed.covers("example.com/page"));
    });
}

#[test]
fn where_nobody_else_tells_an_invalidation_is_published() {
    as_worker(async || {
        let near = Near::new().await;
        near.coherence.begin_over(Mode::PubSub, Arc::default());
        let mut redis = near.counted.redis();
        let mut heard = redis.as_pubsub();
        heard.subscribe("sidegate:invalidate").expect("a subscription");
        near.counted.head("POST", "/{a}", &[]).await;
        let told: Vec<u8> = match heard.get_message().expect("a message").get_payload().expect("a name") {
            Value::BulkString(name) => name,
            other => panic!("{other:?}"),
        };
        assert_eq!(told, b"sidegate:cache:{example.com/%257Ba%257D}:g");
    });
}

#[test]
fn no_invalidation_is_lost_between_processes_that_remember() {
    as_worker(async || {
        let server = RedisServer::start();
        let registry = Registry::new(1);
        let coherences = [Coherence::new(), Coherence::new()];
        let (mut processes, mut trackings) = (Vec::new(), Vec::new());
        for coherence in &coherences {
            let (near, tracking) = tracked(crate::settings(&server), coherence.clone()).await;
            let behind = |store: RedisStore| store.behind(Some(near), &registry, 0);
            processes.push(Process::on_redis(link(&server).await, behind));
            trackings.push(tracking);
        }
        let mut redis = server.client().get_connection().expect("a connection");
        let mut killed = 0;
        let mut outside = |generation: Option<&str>| match generation {
            Some(generation) => redis::cmd("DEL").arg(generation).exec(&mut redis).expect("a deletion"),
            // One of the connections that tell is lost.
            None => {
                let list: String = redis::cmd("CLIENT").arg("LIST").query(&mut redis).expect("a list");
                let telling = list.lines().filter(|line| line.contains(" flags=tB "));
                let ids: Vec<_> = telling.filter_map(|line| line.strip_prefix("id=")?.split(' ').next()).collect();
                if let Some(id) = fastrand::choice(ids) {
                    killed += 1;
                    redis::cmd("CLIENT").arg("KILL").arg("ID").arg(id).exec(&mut redis).expect("an end");
                }
            }
        };
        for seed in 0..12 {
            for coherence in &coherences {
                era(coherence).await;
            }
            no_invalidation_is_lost(&processes, seed, 2000, Some(&mut outside)).await;
        }
        let hits = registry.value("sidegate_near_hits_total", &[("kind", "response")]);
        assert!(killed > 0, "only {killed} connections that tell were lost");
        assert!(hits > 100, "only {hits} were remembered, so little was shown");
    });
}
