//! The variants of one URI: which are known, what may be offered of them, and how many they are.

use http::header::{ACCEPT_LANGUAGE, ETAG};
use sidegate::cache::rules::vary::Selecting;

use super::*;

/// Of a store that keeps three of them.
const MOST: usize = 3;

fn language(language: &str) -> HeaderMap {
    HeaderMap::from_iter([(ACCEPT_LANGUAGE, language.parse().expect("a value"))])
}

fn selecting() -> Selecting {
    Selecting::new(vec![ACCEPT_LANGUAGE]).expect("one field")
}

impl Process {
    async fn find(&self, text: &str) -> Found {
        let (key, request) = (key("/page"), language(text));
        let question = Question { key: &key, request: &request, purpose: Purpose::ReuseOrFill };
        let mut answers = self.ask(question).await;
        let (answer, note) = (answers.take(Slot::Cache), answers.note(Slot::Cache));
        self.0.look_up(question, answer, note, answers.take_aside()).await
    }

    async fn fill(&self, text: &str) {
        let generation = match self.find(text).await {
            Found::Stored(stored) => stored.generation,
            Found::Nothing { generation, .. } => generation.expect("a place that is open"),
            Found::Unavailable(reason) => panic!("the store is {reason}"),
        };
        let head = HeaderMap::from_iter([(ETAG, format!("\"{text}\"").parse().expect("a tag"))]);
        let variant = Some((selecting(), selecting().variant(&language(text))));
        let response = StoredResponse { head, variant, ..stored(generation, 1) };
        self.0.keep(&key("/page"), response, Keeping { max_variants: MOST, ..keeping() });
    }

    async fn settle(&self) {
        let mut ping = redis::Pipeline::new();
        ping.cmd("PING");
        for _ in 0..20 {
            tokio::task::yield_now().await;
            if let Some(link) = &self.1 {
                link.query(&ping).await.expect("Redis");
            }
        }
    }

    /// The tags that a request for another language could offer.
    async fn offered(&self) -> Vec<String> {
        let Found::Nothing { known, other_variants, .. } = self.find("none").await else { panic!("nothing is there") };
        assert!(other_variants || known.is_empty());
        known.iter().map(|known| known.etag.as_ref().expect("a tag").to_str().expect("text").to_owned()).collect()
    }
}

/// A process on each store, and another on the same.
async fn processes() -> ([[Process; 2]; 2], RedisServer) {
    let memory = MemoryStore::new(MemorySettings::default());
    let server = RedisServer::start();
    let on_redis = async || Process::on_redis(link(&server).await, |store| store);
    let redis = [on_redis().await, on_redis().await];
    ([[(); 2].map(|()| Process(Store::Memory(memory.clone()), None)), redis], server)
}

#[test]
fn the_tags_of_known_variants_are_told_and_the_oldest_goes() {
    as_worker(async || {
        let (stores, _server) = processes().await;
        for [one, other] in stores {
            assert_eq!(one.offered().await, Vec::<String>::new());
            let kept: [(&str, &[&str]); 5] = [
                ("de", &["\"de\""]),
                ("fr", &["\"de\"", "\"fr\""]),
                ("en", &["\"de\"", "\"fr\"", "\"en\""]),
                ("de", &["\"fr\"", "\"en\"", "\"de\""]),
                ("it", &["\"en\"", "\"de\"", "\"it\""]),
            ];
            for (text, offered) in kept {
                one.fill(text).await;
                one.settle().await;
                // Also by one that has seen nothing of it yet.
                for process in [&one, &other] {
                    assert_eq!(process.offered().await, offered);
                }
            }
            for (text, is_there) in [("fr", false), ("en", true), ("de", true), ("it", true)] {
                assert_eq!(matches!(one.find(text).await, Found::Stored(_)), is_there, "{text}");
            }
            one.0.invalidate(&[key("/page").place().to_owned()]).await.expect("a store that answers");
            assert_eq!(one.offered().await, Vec::<String>::new(), "what is taken back is not offered");
        }
    });
}

#[test]
fn a_variant_can_be_had_by_what_was_told_of_it() {
    as_worker(async || {
        let (stores, _server) = processes().await;
        for [one, other] in stores {
            one.fill("de").await;
            one.settle().await;
            let Found::Nothing { generation, known, .. } = other.find("fr").await else { panic!("fr is not stored") };
            let generation = generation.expect("a place that is open");
            let stored = other.0.variant(&key("/page"), known[0].variant, generation).await.expect("the variant");
            assert_eq!(stored.head[ETAG], "\"de\"");
            one.0.invalidate(&[key("/page").place().to_owned()]).await.expect("a store that answers");
            let Found::Nothing { generation, .. } = other.find("de").await else { panic!("it was taken back") };
            let generation = generation.expect("a place that is open");
            assert!(other.0.variant(&key("/page"), known[0].variant, generation).await.is_none());
        }
    });
}

#[test]
fn variants_that_are_stored_at_the_same_time_are_all_listed() {
    as_worker(async || {
        let (stores, _server) = processes().await;
        for [one, other] in stores {
            one.find("opens the place").await;
            tokio::join!(one.fill("de"), other.fill("fr"), one.fill("en"));
            one.settle().await;
            other.settle().await;
            let mut offered = one.offered().await;
            offered.sort();
            assert_eq!(offered, ["\"de\"", "\"en\"", "\"fr\""]);
        }
    });
}

#[test]
fn what_is_no_list_is_replaced_by_one() {
    as_worker(async || {
        let ([_, [one, _]], server) = processes().await;
        one.fill("de").await;
        one.settle().await;
        let mut redis = server.client().get_connection().expect("a connection");
        let names: Vec<String> = redis::cmd("KEYS").arg("sidegate:*").query(&mut redis).expect("KEYS");
        let list = names.iter().min_by_key(|name| (name.ends_with(":g"), name.len())).expect("a list");
        for spoil in [&["SET", list, "rubbish"][..], &["LPUSH", list, "x"], &["SET", list, ""]] {
            redis::cmd("DEL").arg(list).exec(&mut redis).expect("DEL");
            redis::cmd(spoil[0]).arg(&spoil[1..]).exec(&mut redis).expect("a spoilt list");
            assert_eq!(one.offered().await, Vec::<String>::new(), "{spoil:?}");
            one.fill("fr").await;
            one.settle().await;
            assert_eq!(one.offered().await, ["\"fr\""], "{spoil:?}");
        }
    });
}
