//! The lock on a fetch in the fleet.

use sidegate::cache::store::{Claim, LOCK, Lock};

use super::*;

const LIFE: Duration = Duration::from_secs(60);

async fn claimed(store: &RedisStore, key: &Key) -> Lock {
    match store.claim(key, key.digest(), LIFE).await {
        Claim::Ours(lock) => lock,
        other => panic!("{other:?}"),
    }
}

/// Locks are let go of without waiting, behind who drops them.
async fn let_go() {
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
}

#[test]
fn one_instance_fetches_until_it_lets_go_or_leaves_word() {
    as_worker(async || {
        let server = RedisServer::start();
        let link = Link::new(&crate::settings(&server), &[SCRIPT, LOCK], &Registry::new(1), 0);
        up(&link, true).await;
        let [one, other] = [(); 2].map(|()| redis_store(link.clone(), "sidegate:"));
        let key = key("/page");
        let lock = claimed(&one, &key).await;
        assert!(matches!(other.claim(&key, key.digest(), LIFE).await, Claim::Taken));
        drop(lock);
        let_go().await;
        let lock = claimed(&other, &key).await;
        lock.leave_unshareable(LIFE);
        let_go().await;
        assert!(matches!(one.claim(&key, key.digest(), LIFE).await, Claim::Unshareable));
        one.shareable_again(&key, key.digest());
        let_go().await;
        // One that has lost its lock takes nothing from the next.
        let lost = claimed(&one, &key).await;
        let keys: Vec<String> = server.ask(&["KEYS", "*:lock"]).expect("keys");
        server.ask::<()>(&["DEL", &keys[0]]).expect("DEL");
        let _held = claimed(&other, &key).await;
        drop(lost);
        let_go().await;
        assert!(matches!(one.claim(&key, key.digest(), LIFE).await, Claim::Taken));
        let life: i64 = server.ask(&["PTTL", &keys[0]]).expect("a life");
        assert!((1..=60_000).contains(&life), "{life}");
    });
}

#[test]
fn it_is_let_go_of_behind_the_entry_however_long_its_pieces_take() {
    as_worker(async || {
        let server = RedisServer::start();
        let link = Link::new(&crate::settings(&server), &[SCRIPT, LOCK], &Registry::new(1), 0);
        up(&link, true).await;
        let [one, other] = [(); 2].map(|()| {
            let form = Form { compress: false, max_content: 4 << 20, piece: 64 << 10, max_variants: 3 };
            Store::Redis(Box::new(redis_store_of_form(link.clone(), "sidegate:", form)))
        });
        let (Store::Redis(own), Store::Redis(theirs)) = (&one, &other) else { panic!("not in Redis") };
        let key = key("/large");
        let found = async |store: &Store| {
            store.look_up(question(&key, Purpose::ReuseOrFill), Answer::NotAsked, None, None).await
        };
        let Found::Nothing { generation: Some(generation), .. } = found(&one).await else { panic!("not opened") };
        let lock = claimed(own, &key).await;
        let mut response = stored(generation, 1);
        response.content = Bytes::from(vec![7; 3 << 20]).into();
        own.keep(&key, response, Keeping { lock: Some(lock), ..keeping() });
        let mut waited = 0;
        loop {
            match theirs.claim(&key, key.digest(), LIFE).await {
                Claim::Taken => waited += 1,
                Claim::Ours(_lock) => break,
                other => panic!("{other:?}"),
            }
        }
        assert!(waited > 0, "the pieces took no time");
        assert!(matches!(found(&other).await, Found::Stored(_)), "who comes next finds it");
    });
}

#[test]
fn without_redis_nobody_is_waited_for() {
    as_worker(async || {
        let mut server = RedisServer::start();
        let link = link(&server).await;
        let store = redis_store(link.clone(), "sidegate:");
        let key = key("/page");
        server.kill();
        up(&link, false).await;
        assert!(matches!(store.claim(&key, key.digest(), LIFE).await, Claim::Unknown));
    });
}
