//! A part of content takes the place of nothing that is whole.

use http::header::ACCEPT_LANGUAGE;
use sidegate::cache::rules::parts::Part;
use sidegate::cache::rules::vary::Selecting;

use super::*;

fn german() -> HeaderMap {
    HeaderMap::from_iter([(ACCEPT_LANGUAGE, "de".parse().expect("a value"))])
}

impl Process {
    async fn look(&self) -> Found {
        let (key, request) = (key("/page"), german());
        let question = Question { key: &key, request: &request, purpose: Purpose::ReuseOrFill };
        let mut answers = self.ask(question).await;
        let (answer, note) = (answers.take(Slot::Cache), answers.note(Slot::Cache));
        self.0.look_up(question, answer, note, answers.take_aside()).await
    }

    async fn generation(&self) -> Generation {
        match self.look().await {
            Found::Stored(stored) => stored.generation,
            Found::Nothing { generation, .. } => generation.expect("a place that is open"),
            Found::Unavailable(reason) => panic!("the store is {reason}"),
        }
    }

    /// What is stored, once what was kept is there.
    async fn found(&self) -> Option<(u64, Option<Part>)> {
        let mut ping = redis::Pipeline::new();
        ping.cmd("PING");
        for _ in 0..20 {
            tokio::task::yield_now().await;
            if let Some(link) = &self.1 {
                link.query(&ping).await.expect("Redis");
            }
        }
        let Found::Stored(stored) = self.look().await else { return None };
        Some((version(&self.0, &key("/page"), &stored).await.expect("content"), stored.part))
    }

    fn keep(&self, response: StoredResponse) {
        self.0.keep(&key("/page"), response, keeping());
    }

    async fn invalidate(&self) {
        self.0.invalidate(&[key("/page").place().to_owned()]).await.expect("a store that answers");
    }
}

fn part(generation: Generation, version: u64) -> StoredResponse {
    let part = Part::new(4, 11, 20);
    StoredResponse { status: StatusCode::PARTIAL_CONTENT, part, ..stored(generation, version) }
}

fn varies(response: StoredResponse) -> StoredResponse {
    let selecting = Selecting::new(vec![ACCEPT_LANGUAGE]).expect("one field");
    let variant = selecting.variant(&german());
    StoredResponse { variant: Some((selecting, variant)), ..response }
}

/// A process on each store; large content is cut by neither.
async fn stores() -> ([Process; 2], RedisServer) {
    let server = RedisServer::start();
    let redis = Process::on_redis(link(&server).await, |store| store);
    ([Process(Store::Memory(MemoryStore::new(MemorySettings::default())), None), redis], server)
}

#[test]
fn a_part_is_found_as_a_part_and_a_newer_one_or_the_whole_replaces_it() {
    as_worker(async || {
        let (stores, _server) = stores().await;
        for store in stores {
            let here = Part::new(4, 11, 20);
            let generation = store.generation().await;
            store.keep(part(generation, 1));
            assert_eq!(store.found().await, Some((1, here)));
            store.keep(part(generation, 2));
            assert_eq!(store.found().await, Some((2, here)));
            store.keep(stored(generation, 3));
            assert_eq!(store.found().await, Some((3, None)));
        }
    });
}

#[test]
fn a_part_replaces_no_whole_response_until_that_is_taken_back() {
    as_worker(async || {
        let (stores, _server) = stores().await;
        for store in stores {
            for (whole, wants) in [(false, false), (true, true), (false, true), (true, false)] {
                store.invalidate().await;
                let generation = store.generation().await;
                let (one, two) = (stored(generation, 1), part(generation, 2));
                store.keep(if whole { varies(one) } else { one });
                assert_eq!(store.found().await, Some((1, None)));
                store.keep(if wants { varies(two) } else { two });
                assert_eq!(store.found().await, Some((1, None)), "{whole} {wants}");
                store.invalidate().await;
                let generation = store.generation().await;
                let three = part(generation, 3);
                store.keep(if wants { varies(three) } else { three });
                assert_eq!(store.found().await, Some((3, Part::new(4, 11, 20))), "{whole} {wants}");
            }
        }
    });
}
