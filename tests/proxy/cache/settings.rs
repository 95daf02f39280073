//! What was stored under settings that decide for whom it is stored is not sent under others.

use super::{hit, outcome};
use crate::harness::{Configuration, Origin, RedisServer, Reply};

fn app() -> Origin {
    Origin::answering(|request| {
        let who = request.field("cookie").unwrap_or("nobody").to_owned();
        Reply::text(who).field("Cache-Control", "max-age=60")
    })
}

#[test]
fn a_policy_that_takes_cookies_for_credentials_again_begins_anew() {
    let redis = RedisServer::start();
    for over_redis in [false, true] {
        let app = app();
        let config = |cookies: &str| {
            let lines =
                format!("[cache.pages]\ncookies = {cookies:?}\n[[route]]\npath = \"/{{*rest}}\"\ncache = \"pages\"\n");
            let config = Configuration::of(&app).with(&lines);
            if over_redis { config.redis(&redis) } else { config }
        };
        let mut sidegate = config("ignore").start();
        hit(&mut sidegate.client(), "/page", &[("Cookie", "sid=alice")]);
        assert_eq!(sidegate.get("/page").text(), "sid=alice", "that is what the setting says");
        sidegate.reload(&config("private").text());
        let answer = sidegate.get("/page");
        assert_eq!((outcome(&answer), answer.text().as_str()), ("MISS", "nobody"), "over Redis: {over_redis}");
        // A write takes back what was stored under either.
        assert_eq!(sidegate.client().ask("PUT", "/page", &[], b"x").status, 200);
        assert_eq!(outcome(&sidegate.get("/page")), "MISS");
        sidegate.reload(&config("ignore").text());
        assert_eq!(sidegate.get("/page").text(), "nobody");
    }
}
