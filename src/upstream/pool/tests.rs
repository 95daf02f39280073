//! The pool over real sockets, with endpoints that come and go at the roster's word.

use std::net::SocketAddr;

use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

use super::*;
use crate::rate_limit::trial::exchange;
use crate::upstream::tries::Retries;
use crate::upstream::{Place, Server};

struct Worker {
    pool: Rc<Pool>,
    retries: Rc<Retries>,
    roster: Arc<Roster>,
    registry: Arc<Registry>,
}

impl Worker {
    /// With an upstream that is one host name, whose addresses the test says.
    fn start(change: impl FnOnce(&mut Settings)) -> Self {
        let server = Server { tls: false, http2: false, place: Place::Tcp("app".into(), 80), weight: 1 };
        let mut settings = Settings::new("app", vec![server]);
        change(&mut settings);
        let registry = Registry::new(2);
        let roster = Roster::new(&settings, None, &registry, 1);
        let (watchdog, place) = (Watchdog::start(), (0, 1));
        let connector = Connector::new(&settings);
        Self {
            pool: Pool::new(&settings, roster.clone(), connector, watchdog.clone(), &registry, place),
            retries: Retries::new(&settings, watchdog, &registry, place),
            roster,
            registry,
        }
    }

    async fn lease(&self) -> Result<Lease, NoConnection> {
        let mut tries = self.retries.begin(&exchange("GET", "/", "192.0.2.1", &[]));
        self.pool.lease(&mut tries, None).await
    }
}

/// Listens somewhere.
async fn app() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

async fn accepted(app: &TcpListener) -> TcpStream {
    app.accept().await.expect("a connection").0
}

fn on_a_worker(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    LocalSet::new().block_on(&runtime.expect("a test runtime"), test);
}

#[test]
fn an_address_that_is_gone_finishes_what_it_has_and_keeps_no_connection() {
    on_a_worker(async {
        let ((old, old_at), (new, new_at)) = (app().await, app().await);
        let worker = Worker::start(|_| ());
        worker.roster.resolved(0, Some(vec![old_at]));
        let (idle, used) = (worker.lease().await.expect("one"), worker.lease().await.expect("another"));
        let mut ended = [accepted(&old).await, accepted(&old).await];
        idle.give_back();
        assert_eq!(worker.pool.open.get(), 2);

        worker.roster.resolved(0, Some(vec![new_at]));
        let next = worker.lease().await.expect("at the new address");
        let _kept = accepted(&new).await;
        assert!(!next.reused && next.endpoint().is_none());
        assert_eq!(ended[0].read(&mut [0]).await.ok(), Some(0), "the idle connection is closed");
        assert_eq!(worker.pool.open.get(), 2, "the one in use, and the new one");
        used.give_back();
        assert_eq!(ended[1].read(&mut [0]).await.ok(), Some(0), "and so is the other, once it is given back");
        next.give_back();
        let again = worker.lease().await.expect("the new one again");
        assert_eq!((again.reused, worker.pool.open.get()), (true, 1));
    });
}

#[test]
fn a_connection_that_the_app_closed_before_it_was_given_back_carries_nothing_more() {
    on_a_worker(async {
        let (listener, address) = app().await;
        let worker = Worker::start(|_| ());
        worker.roster.resolved(0, Some(vec![address]));
        let lease = worker.lease().await.expect("a new one");
        drop(accepted(&listener).await);
        lease.give_back();
        let next = worker.lease().await.expect("another new one");
        assert_eq!((next.reused, worker.pool.open.get()), (false, 1));
    });
}

#[test]
fn a_request_waits_for_the_first_address_and_no_longer_than_connect() {
    on_a_worker(async {
        let (listener, address) = app().await;
        let worker = Worker::start(|settings| settings.timeouts.connect = Duration::from_secs(60));
        let roster = worker.roster.clone();
        let (lease, ()) = tokio::join!(worker.lease(), async { roster.resolved(0, Some(vec![address])) });
        assert!(lease.is_ok_and(|lease| !lease.reused));
        drop(accepted(&listener).await);

        let worker = Worker::start(|settings| settings.timeouts.connect = Duration::from_millis(40));
        let unresolved = Some(NoConnection::Failed(Failure::Unresolved));
        assert_eq!(worker.lease().await.err(), unresolved);
        worker.roster.resolved(0, None);
        assert_eq!(worker.lease().await.err(), unresolved);
    });
}

#[test]
fn bounds_of_upstream_and_endpoint_hold_and_every_count_returns_to_nothing() {
    on_a_worker(async {
        let ((one, one_at), (other, other_at)) = (app().await, app().await);
        let worker = Worker::start(|settings| {
            (settings.max_connections, settings.max_connections_per_endpoint) = (3, 2);
            settings.max_pending = 0;
            settings.balance = Balance::LeastRequests;
        });
        worker.roster.resolved(0, Some(vec![one_at, other_at]));
        let mut leases = Vec::new();
        for _ in 0..3 {
            leases.push(worker.lease().await.expect("room"));
        }
        assert_eq!(worker.lease().await.err(), Some(NoConnection::Busy));
        let open = |worker: &Worker| -> Vec<usize> {
            let mut open: Vec<_> = worker.pool.endpoints.borrow().iter().map(|local| local.open.get()).collect();
            open.sort_unstable();
            open
        };
        assert_eq!(open(&worker), [1, 2]);
        leases.clear();
        assert_eq!((open(&worker), worker.pool.open.get()), (vec![0, 0], 0));
        let active = |endpoint: &Arc<Endpoint>| endpoint.active.load(Ordering::Relaxed);
        assert_eq!(worker.roster.endpoints().iter().map(active).collect::<Vec<_>>(), [0, 0]);
        drop((one, other));
    });
}

#[test]
fn those_who_wait_notice_an_address_that_is_new() {
    on_a_worker(async {
        let ((_one, one_at), (_other, other_at)) = (app().await, app().await);
        let worker = Worker::start(|settings| {
            settings.max_connections_per_endpoint = 2;
            settings.queue_timeout = Duration::from_secs(600);
        });
        worker.roster.resolved(0, Some(vec![one_at]));
        let held = (worker.lease().await.expect("room"), worker.lease().await.expect("room"));
        let waiting = async { tokio::join!(worker.lease(), worker.lease()) };
        let noticed = async {
            tokio::task::yield_now().await;
            assert!(!worker.pool.queue.is_empty());
            assert_eq!(worker.pool.room(), 0);
            worker.roster.resolved(0, Some(vec![one_at, other_at]));
            worker.pool.wake_waiting();
            assert_eq!(worker.pool.room(), 2);
        };
        let (leased, ()) = tokio::join!(waiting, noticed);
        assert!(leased.0.is_ok() && leased.1.is_ok());
        drop(held);
        assert_eq!(worker.pool.open.get(), 2);
    });
}

#[test]
fn all_who_wait_hear_that_nobody_is_left() {
    on_a_worker(async {
        let (_app, at) = app().await;
        let worker = Worker::start(|settings| {
            settings.max_connections = 1;
            settings.queue_timeout = Duration::from_secs(600);
            (settings.breaker.failures, settings.breaker.most_percent) = (1, 100);
        });
        worker.roster.resolved(0, Some(vec![at]));
        let mut held = worker.lease().await.expect("room");
        let waiting = async { tokio::join!(worker.lease(), worker.lease()) };
        let fails = async {
            tokio::task::yield_now().await;
            held.failed();
            drop(held);
        };
        let (heard, ()) = tokio::join!(waiting, fails);
        let is_out = |heard: Result<Lease, NoConnection>| matches!(heard, Err(NoConnection::Out { .. }));
        assert!(is_out(heard.0) && is_out(heard.1));
    });
}

#[test]
fn no_more_is_opened_ahead_in_a_round_than_is_missing() {
    on_a_worker(async {
        let (_app, at) = app().await;
        for (tells_client, opened) in [(false, 2), (true, 0)] {
            let worker = Worker::start(|settings| {
                (settings.warm_connections, settings.proxy_protocol) = (2, tells_client);
            });
            // What the pool opens by itself begins, finds no address, and sleeps.
            tokio::task::yield_now().await;
            worker.roster.resolved(0, Some(vec![at]));
            worker.pool.refresh();
            // As if the app ended each connection at once.
            worker.pool.endpoints.borrow().iter().for_each(|local| local.gone.set(true));
            worker.pool.warm_up().await;
            let counted = worker.registry.value("sidegate_upstream_connections_opened_total", &[("upstream", "app")]);
            assert_eq!((counted, worker.pool.open.get()), (opened, 0));
        }
    });
}

#[test]
fn a_connection_that_cannot_be_opened_is_tried_elsewhere_and_counted() {
    on_a_worker(async {
        let ((gone, gone_at), (_well, well_at)) = (app().await, app().await);
        drop(gone);
        let worker = Worker::start(|settings| settings.breaker.failures = 1);
        worker.roster.resolved(0, Some(vec![gone_at, well_at]));
        let ill = worker.roster.endpoints().into_iter().find(|endpoint| endpoint.address == Some(gone_at));
        let mut leases = Vec::new();
        for _ in 0..4 {
            leases.push(worker.lease().await.expect("the other endpoint"));
        }
        assert_eq!(ill.map(|endpoint| endpoint.state()), Some("open"), "asked once");
        assert_eq!(worker.pool.open.get(), 4);

        let alone = Worker::start(|settings| settings.retries.most = 0);
        alone.roster.resolved(0, Some(vec![gone_at]));
        assert_eq!(alone.lease().await.err(), Some(NoConnection::Failed(Failure::Refused)));
        assert_eq!(alone.pool.open.get(), 0);
    });
}
