//! Lets a request pass, or refuses it, and tells its client where it stands.

use std::rc::Rc;

use tower::Layer;

use crate::exchange::{Exchange, Next, layer as make, pass};
use crate::local_reply::LocalReply;

use super::RateLimit;
use super::after::Passing;
use super::judge::Verdict;

/// Enforces `limits`. May stand in a stack more than once, each time with limits of its own: the innermost that refuses
/// answers, and the one nearest to refusal is shown.
pub fn layer<S: Next>(limits: Rc<RateLimit>) -> impl Layer<S, Service = impl Next> + Clone {
    make(move |mut exchange: Box<Exchange>, next: S| {
        let limits = limits.clone();
        async move {
            let verdict = limits.judge(&mut exchange).await;
            let trail = exchange.trail.clone();
            match verdict {
                Verdict::Unlimited => pass(next, exchange).await,
                Verdict::Within(standing) => {
                    let passing = Passing::new(limits, standing);
                    let mut response = pass(next, exchange).await;
                    passing.answered(&mut trail.borrow_mut(), &mut response);
                    response
                }
                Verdict::Beyond(standing) => {
                    let mut response = exchange.refuse(&limits.refusal(&standing));
                    limits.show(&standing, &mut trail.borrow_mut(), response.headers_mut());
                    limits.close(standing.docket);
                    response
                }
                Verdict::Nameless(limit) => exchange.refuse(&LocalReply::LimitKeyMissing { limit }),
                Verdict::Closed => exchange.refuse(&RateLimit::store_down()),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use http::{Response, StatusCode};
    use tower::service_fn;

    use super::*;
    use crate::body::Body;
    use crate::clock::{Clock, ManualClock};
    use crate::exchange::{Answer, Principal, Slot};
    use crate::rate_limit::lease::Leases;
    use crate::rate_limit::partition::{Key, Part};
    use crate::rate_limit::quota::Quota;
    use crate::rate_limit::refusals::Refusals;
    use crate::rate_limit::store::{MemorySettings, OnOutage, memory::MemoryStore};
    use crate::rate_limit::trial::exchange;
    use crate::rate_limit::{Limit, Settings, Worker};
    use crate::redis_pool::fleet::Fleet;
    use crate::redis_pool::{self, DOWN, Link};
    use crate::telemetry::registry::Registry;

    const NOW: u64 = 1_795_236_000_000_000;

    struct Bench {
        clock: (Clock, Arc<ManualClock>),
        memory: Arc<MemoryStore>,
        registry: Arc<Registry>,
        settings: Settings,
        link: Option<Link>,
    }

    impl Bench {
        fn new() -> Self {
            Self {
                clock: Clock::manual(NOW),
                memory: MemoryStore::new(MemorySettings::default()),
                registry: Registry::new(1),
                settings: Settings::default(),
                link: None,
            }
        }

        /// Limits of `amount` per minute, by address unless the name is `user`.
        fn limits(&self, limits: &[(&str, u64)]) -> Rc<RateLimit> {
            let limit = |&(name, amount): &(&str, u64)| {
                let part = if name == "user" { Part::SessionField("user.id".into()) } else { Part::Address };
                let quota = Quota { amount, per: Duration::from_secs(60) };
                Arc::new(Limit::new(name, Key(vec![part]), quota))
            };
            let limits: Vec<_> = limits.iter().map(limit).collect();
            let worker = Worker {
                memory: self.memory.clone(),
                link: self.link.clone(),
                prefix: "sidegate:".into(),
                apart: false,
                tops: crate::rate_limit::top::Tops::new(10),
                fleet: Fleet::new(),
                waiting: Arc::default(),
                leases: Leases::new(MemorySettings::default()),
                refusals: Refusals::new(MemorySettings::default()),
                clock: self.clock.0.clone(),
                registry: self.registry.clone(),
                number: 0,
            };
            RateLimit::new(&limits, None, self.settings, &worker)
        }

        fn outcomes(&self, limit: &str, outcome: &str) -> u64 {
            self.registry.value("sidegate_limit_decisions_total", &[("limit", limit), ("outcome", outcome)])
        }
    }

    fn app() -> impl Next {
        service_fn(|_: Box<Exchange>| async {
            Ok(Response::builder().header("x-ratelimit-remaining", "the app's").body(Body::empty()).unwrap_or_default())
        })
    }

    async fn through(limits: &Rc<RateLimit>, exchange: Exchange) -> Response<Body> {
        pass(layer(limits.clone()).layer(app()), Box::new(exchange)).await
    }

    fn caller() -> Exchange {
        exchange("GET", "/", "192.0.2.1", &[])
    }

    fn field<'a>(response: &'a Response<Body>, name: &str) -> &'a str {
        response.headers().get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[tokio::test]
    async fn a_client_beyond_its_quota_gets_429_and_passes_exactly_when_told() {
        let bench = Bench::new();
        let limits = bench.limits(&[("per-address", 3)]);
        for remaining in ["2", "1", "0"] {
            let response = through(&limits, caller()).await;
            assert_eq!((response.status(), field(&response, "x-ratelimit-remaining")), (StatusCode::OK, remaining));
        }
        let request = caller();
        let trail = request.trail.clone();
        let refused = through(&limits, request).await;
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        let told = ["retry-after", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "ratelimit"];
        assert_eq!(told.map(|name| field(&refused, name)), ["20", "3", "0", "1795236060", "\"per-address\";r=0;t=20"]);
        assert_eq!(trail.borrow().limit.as_ref().map(|limit| (limit.refused, limit.counted)), Some((true, "memory")));
        assert_eq!(through(&limits, exchange("GET", "/", "192.0.2.2", &[])).await.status(), StatusCode::OK);

        bench.clock.1.advance(Duration::from_secs(20));
        assert_eq!(through(&limits, caller()).await.status(), StatusCode::OK);
        assert_eq!((bench.outcomes("per-address", "allowed"), bench.outcomes("per-address", "refused")), (5, 1));
    }

    #[tokio::test]
    async fn a_refusal_by_one_limit_costs_the_others_nothing_and_the_nearest_is_shown() {
        let bench = Bench::new();
        let limits = bench.limits(&[("wide", 10), ("narrow", 1)]);
        through(&limits, caller()).await;
        for _ in 0..20 {
            assert_eq!(field(&through(&limits, caller()).await, "x-ratelimit-limit"), "1");
        }
        let wide = bench.limits(&[("wide", 10)]);
        assert_eq!(field(&through(&wide, caller()).await, "x-ratelimit-remaining"), "8");
    }

    #[tokio::test]
    async fn of_two_positions_the_limit_nearer_to_refusal_is_shown_whichever_it_is() {
        for (outer, inner, shown) in [(10, 2, "user"), (2, 10, "per-address")] {
            let bench = Bench::new();
            let (by_address, by_user) = (bench.limits(&[("per-address", outer)]), bench.limits(&[("user", inner)]));
            let mut request = caller();
            request.principal = Some(Arc::new(Principal {
                session: "web".into(),
                user: "7".into(),
                session_digest: "d".into(),
                session_key: "d".into(),
                attributes: vec![("user.id".into(), "7".into())],
            }));
            let trail = request.trail.clone();
            let response = pass(layer(by_address).layer(layer(by_user).layer(app())), Box::new(request)).await;
            assert_eq!(field(&response, "x-ratelimit-limit"), "2");
            let both: Vec<_> = response.headers().get_all("ratelimit").iter().cloned().collect();
            let left = |name: &str| if name == shown { "r=1;t=30" } else { "r=9;t=6" };
            assert_eq!(both, ["user", "per-address"].map(|name| format!("\"{name}\";{}", left(name))));
            assert_eq!(trail.borrow().limit.as_ref().map(|limit| limit.name.to_string()).as_deref(), Some(shown));
        }
    }

    /// A link to where no Redis is.
    fn dead_link(registry: &Arc<Registry>) -> Link {
        let settings = redis_pool::Settings::of_url("redis://127.0.0.1:1").unwrap();
        Link::new(&settings, &[], registry, 0)
    }

    #[test]
    fn without_redis_limits_count_locally_or_open_or_close_as_configured() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default()).unwrap();
        runtime.block_on(async {
            let mut bench = Bench::new();
            let link = dead_link(&bench.registry);
            bench.link = Some(link.clone());
            let expected = [
                (OnOutage::Local, StatusCode::TOO_MANY_REQUESTS, "local_refused", "local"),
                (OnOutage::Open, StatusCode::OK, "open", "open"),
                (OnOutage::Closed, StatusCode::SERVICE_UNAVAILABLE, "closed", "closed"),
            ];
            for (on_outage, status, outcome, counted) in expected {
                bench.settings.on_outage = on_outage;
                let limits = bench.limits(&[("per-address", 1)]);
                through(&limits, caller()).await;
                // As `gather` would have left it.
                let mut request = caller();
                request.answers.put(Slot::Limits, Answer::Unavailable("down"));
                let trail = request.trail.clone();
                assert_eq!(through(&limits, request).await.status(), status, "{on_outage:?}");
                assert!(bench.outcomes("per-address", outcome) > 0, "{outcome}");
                assert_eq!(trail.borrow().limit.as_ref().map(|limit| limit.counted), Some(counted));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert_eq!(link.shared_state().load(Ordering::Relaxed), DOWN);
        });
    }
}
