//! Large content over Redis: in pieces, which are read while they are sent.

use super::*;

/// Bytes of a page, of which no piece is like another.
const LENGTH: usize = 1050;

fn page(seed: u32) -> String {
    (0..LENGTH / 7).map(|number| format!("{seed:02}{number:05}")).collect()
}

/// Over Redis, without and with a near tier; content stands in eleven pieces.
async fn trials() -> [Trial; 2] {
    let [_, plain, near] = Trial::each().await;
    [plain, near].map(|trial| {
        let trial = trial.app(|_, number| Response::new(Body::full(page(number))));
        let policy = Policy { piece: 100, max_body: 2000, compress: false, ..policy() };
        trial.route(|route| route.policy = Some(Arc::new(policy)))
    })
}

impl Trial {
    /// The names of all pieces, in order.
    fn pieces(&self) -> Vec<String> {
        let number = |name: &String| name.rsplit(':').next().and_then(|number| number.parse::<u32>().ok());
        let mut names: Vec<String> = redis::cmd("KEYS").arg("*:p:*").query(&mut self.redis()).expect("KEYS");
        names.sort_by_key(number);
        names
    }

    /// The name of the only entry.
    fn entry(&self) -> String {
        let names: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut self.redis()).expect("KEYS");
        let of_entry = |name: &&String| !name.ends_with(":g") && !name.contains(":p:");
        names.iter().find(of_entry).expect("an entry").clone()
    }

    fn tell(&self, words: &[&str]) {
        redis::cmd(words[0]).arg(&words[1..]).exec(&mut self.redis()).unwrap_or_else(|why| panic!("{words:?}: {why}"));
    }

    async fn page_is_stored(&self) {
        let first = self.get("/page").await;
        assert_eq!((first.content.as_str(), first.field("x-cache")), (page(1).as_str(), "MISS"));
        self.stored().await;
        self.stored().await;
        let hit = self.get("/page").await;
        assert_eq!((hit.content.as_str(), hit.field("x-cache")), (page(1).as_str(), "HIT"));
        assert_eq!(hit.field("content-length"), LENGTH.to_string());
    }

    /// What a client gets of a hit, and how it ends.
    async fn read(&self, between: impl FnOnce()) -> (StatusCode, usize, bool) {
        let mut exchange = exchange("GET", "/page", &[], Body::empty());
        self.gather(&mut exchange).await;
        let mut response = self.answer(exchange).await;
        let (mut length, mut between) = (0, Some(between));
        loop {
            match response.body_mut().frame().await {
                None => return (response.status(), length, true),
                Some(Err(_)) => return (response.status(), length, false),
                Some(Ok(frame)) => length += frame.data_ref().map_or(0, |bytes| bytes.len()),
            }
            if let Some(between) = between.take() {
                between();
            }
        }
    }
}

async fn found(store: &Store, key: &Key) -> Option<Arc<StoredResponse>> {
    match store.look_up(question(key, Purpose::Reuse), Answer::NotAsked, None, None).await {
        Found::Stored(stored) => Some(stored),
        _ => None,
    }
}

#[test]
fn large_content_stands_in_pieces_and_is_read_from_them() {
    as_worker(async || {
        for trial in trials().await {
            trial.page_is_stored().await;
            assert_eq!(trial.pieces().len(), 11);
            let mut redis = trial.redis();
            let life = |name: &str, redis: &mut redis::Connection| -> i64 {
                redis::cmd("TTL").arg(name).query(redis).expect("TTL")
            };
            let entry = life(&trial.entry(), &mut redis);
            for piece in trial.pieces() {
                assert!(life(&piece, &mut redis) > entry + 60, "{piece} lives little longer than its entry");
            }
            let head = trial.ask("HEAD", "/page", &[]).await;
            assert_eq!((head.field("x-cache"), head.field("content-length")), ("HIT", LENGTH.to_string().as_str()));
            assert_eq!(trial.asked.get(), 1);
        }
    });
}

#[test]
fn a_part_needs_only_the_pieces_that_it_lies_in() {
    as_worker(async || {
        let trial = &trials().await[0];
        trial.page_is_stored().await;
        let form = Form { compress: false, max_content: 2000, piece: 100, max_variants: 1 };
        let link = trial.worker.link.clone().expect("a link");
        let store = Store::Redis(Box::new(redis_store_of_form(link, "sidegate:", form)));
        let key = key("/page");
        let stored = found(&store, &key).await.expect("a stored response");
        let pieces = trial.pieces();
        trial.tell(&["DEL", &pieces[0], &pieces[10]]);
        let part = store.content(&key, &stored, Some(&(250..=449))).await.expect("a part");
        let part = part.collect().await.expect("a whole part").to_bytes();
        assert_eq!(part, page(1).as_bytes()[250..450]);
        assert!(found(&store, &key).await.is_some(), "nothing was seen to be gone");
        assert!(store.content(&key, &stored, Some(&(1000..=2000))).await.is_none(), "its last piece is gone");
        trial.stored().await;
        assert!(found(&store, &key).await.is_none(), "the entry is deleted");
    });
}

#[test]
fn content_that_is_not_all_there_is_a_miss_before_its_head_goes_out() {
    as_worker(async || {
        type Spoil = fn(&Trial, &[String]);
        let spoils: [(&str, Spoil); 6] = [
            ("the first is gone", |trial, pieces| trial.tell(&["DEL", &pieces[0]])),
            ("the last is gone", |trial, pieces| trial.tell(&["DEL", &pieces[10]])),
            ("the first is cut", |trial, pieces| trial.tell(&["SET", &pieces[0], "sgp"])),
            ("the first is damaged", |trial, pieces| trial.tell(&["SETRANGE", &pieces[0], "60", "x"])),
            ("the first is another", |trial, pieces| trial.tell(&["COPY", &pieces[1], &pieces[0], "REPLACE"])),
            ("the first is a list", |trial, pieces| {
                trial.tell(&["DEL", &pieces[0]]);
                trial.tell(&["LPUSH", &pieces[0], "x"]);
            }),
        ];
        for (what, spoil) in spoils {
            for trial in trials().await {
                trial.page_is_stored().await;
                spoil(&trial, &trial.pieces());
                let miss = trial.get("/page").await;
                assert_eq!((miss.content.as_str(), miss.field("x-cache")), (page(2).as_str(), "MISS"), "{what}");
                trial.stored().await;
                trial.stored().await;
                let hit = trial.get("/page").await;
                assert_eq!((hit.content.as_str(), hit.field("x-cache")), (page(2).as_str(), "HIT"), "{what}");
            }
        }
    });
}

#[test]
fn content_that_goes_while_it_is_sent_ends_with_an_error_and_is_a_miss_from_then_on() {
    as_worker(async || {
        for trial in trials().await {
            trial.page_is_stored().await;
            let pieces = trial.pieces();
            let (status, length, whole) = trial.read(|| trial.tell(&["DEL", &pieces[5]])).await;
            assert_eq!((status.as_u16(), length, whole), (200, 500, false));
            trial.stored().await;
            assert_eq!(trial.get("/page").await.content, page(2));
        }
    });
}

#[test]
fn who_reads_content_that_is_replaced_comes_to_its_end() {
    as_worker(async || {
        for trial in trials().await {
            trial.page_is_stored().await;
            let mut exchange = exchange("GET", "/page", &[], Body::empty());
            trial.gather(&mut exchange).await;
            let mut old = trial.answer(exchange).await;
            let first = old.body_mut().frame().await.expect("a piece").expect("one that is there");
            trial.ask("PUT", "/page", &[]).await;
            assert_eq!(trial.get("/page").await.content, page(3));
            trial.stored().await;
            trial.stored().await;
            assert_eq!(trial.get("/page").await.content, page(3));
            let rest = old.into_body().collect().await.expect("the rest of the old").to_bytes();
            let old = [first.data_ref().expect("content"), &rest[..]].concat();
            assert_eq!(old, page(1).as_bytes());
            // They are there for whoever reads them, but not for as long as a stored response.
            assert_eq!(trial.pieces().len(), 22);
        }
    });
}

#[test]
fn pieces_that_are_replaced_do_not_live_on_for_as_long_as_they_were_to() {
    as_worker(async || {
        let trial = &trials().await[0];
        trial.page_is_stored().await;
        let old = trial.pieces();
        trial.ask("PUT", "/page", &[]).await;
        trial.get("/page").await;
        trial.stored().await;
        trial.stored().await;
        let new = trial.pieces().len() - old.len();
        assert_eq!(new, 11);
        for piece in old {
            let life: i64 = redis::cmd("TTL").arg(&piece).query(&mut trial.redis()).expect("TTL");
            assert!(life <= 300, "{piece} lives for {life} s");
        }
    });
}

#[test]
fn a_redis_that_is_full_stores_no_entry_without_its_content() {
    as_worker(async || {
        let [trial, _] = trials().await;
        trial.tell(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
        let redis = RefCell::new(trial.redis());
        let trial = trial.app(move |_, number| {
            // The place was opened; its content finds no room.
            let most = if number == 1 { 1 } else { 0 };
            redis::cmd("CONFIG").arg(&["SET", "maxmemory"]).arg(most).exec(&mut redis.borrow_mut()).expect("CONFIG");
            Response::new(Body::full(page(number)))
        });
        for (number, outcome, pieces) in [(1, "MISS", 0), (2, "MISS", 11), (2, "HIT", 11)] {
            let told = trial.get("/page").await;
            assert_eq!((told.content.as_str(), told.field("x-cache")), (page(number).as_str(), outcome));
            trial.stored().await;
            trial.stored().await;
            assert_eq!(trial.pieces().len(), pieces);
        }
    });
}

#[test]
fn no_invalidation_is_lost_with_content_in_pieces() {
    as_worker(async || {
        let server = RedisServer::start();
        let process = async || {
            let link = link(&server).await;
            let form = Form { compress: false, max_content: 1000, piece: 3, max_variants: 1 };
            let store = redis_store_of_form(link.clone(), "sidegate:", form);
            Process(Store::Redis(Box::new(store)), Some(link))
        };
        let processes = [process().await, process().await, process().await];
        for seed in 0..10 {
            no_invalidation_is_lost(&processes, seed, 400, None).await;
        }
    });
}
