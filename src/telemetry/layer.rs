//! The outermost layer: sees every request come and every answer go.
//!
//! 1. A request without an identifier gets one; the answer carries it (`X-Request-Id`).
//! 2. A request ends when the content of its answer has ended, or when the client has left; a tunnel's (RFC 9110 §7.8)
//!    when both directions have. Then, once, it is counted, its time is measured and its line is written.
//! 3. A client that left before there was an answer is counted under the status class `none`.
//!
//! # Why
//! One value, [`Passage`], stands for a request in flight, and its drop is the end. It cannot be forgotten, whichever
//! way the request goes: answered, abandoned in the middle of a layer, or lost in a panic.

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Frame;
use tower::Layer;

use super::access_log::AccessLog;
use super::line::{self, Ending};
use super::registry::{Counter, Gauge, Histogram, Registry};
use super::trace_context;
use super::trail::{Record, Trail};
use crate::body::{Body, End, Watch};
use crate::clock;
use crate::exchange::{self, Connection, Exchange, Next, pass};
use crate::local_reply;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"];
const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "none"];

/// A worker's counters and its part of the access log.
pub struct Telemetry {
    worker: usize,
    registry: Arc<Registry>,
    access: Option<Rc<AccessLog>>,
    in_flight: Gauge,
    /// In the order given to `new`, and one more for requests that no route matched.
    routes: Vec<Route>,
}

struct Route {
    label: Arc<str>,
    /// By method and class; made when first needed, so that what never happens is not shown.
    requests: [OnceCell<Counter>; METHODS.len() * CLASSES.len()],
    duration: Histogram,
    overhead: Histogram,
}

impl Telemetry {
    /// For `worker`; `routes` are the labels of all routes: [`Record::route_index`] counts in this list.
    pub fn new(
        worker: usize,
        registry: &Arc<Registry>,
        routes: &[Arc<str>],
        access: Option<Rc<AccessLog>>,
    ) -> Rc<Self> {
        let in_flight = requests_in_flight(registry, worker);
        let labels = routes.iter().cloned().chain([Arc::from("none")]);
        let routes = labels.map(|label| Route::new(worker, registry, label)).collect();
        Rc::new(Self { worker, registry: registry.clone(), access, in_flight, routes })
    }

    fn arrive(self: &Rc<Self>, exchange: &Exchange) -> Passage {
        let mut record = exchange.trail.borrow_mut();
        if record.request_id.is_none() {
            record.request_id = trace_context::request_id();
        }
        if self.access.is_some() && record.host.is_none() {
            record.host = authority(&exchange.request);
        }
        let without_content = record.method == Method::HEAD;
        self.in_flight.inc();
        Passage { telemetry: self.clone(), trail: exchange.trail.clone(), sent: 0, end: None, without_content }
    }

    fn ended(&self, record: &Record, ending: Ending) {
        self.in_flight.dec();
        let matched = record.route_index.and_then(|index| self.routes[..self.routes.len() - 1].get(index));
        if let Some(route) = matched.or(self.routes.last()) {
            let (method, class) = (method_index(&record.method), class_index(record.status));
            let make = || self.counter(&route.label, METHODS[method], CLASSES[class]);
            route.requests[method * CLASSES.len() + class].get_or_init(make).inc();
            route.duration.observe(ending.took);
            // An app that failed took time that is nobody's.
            if let (Some(ours), None) = (line::ours(record), record.upstream_error) {
                route.overhead.observe(ours);
            }
        }
        if let Some(access) = &self.access {
            access.write(record, ending);
        }
    }

    fn counter(&self, route: &str, method: &str, class: &str) -> Counter {
        let labels = [("route", route), ("method", method), ("status_class", class)];
        self.registry.counter(self.worker, "sidegate_requests_total", "Requests that have ended.", &labels)
    }
}

/// Counts requests in flight on `worker`: those that arrive here, and those that go on when their client has left.
pub fn requests_in_flight(registry: &Registry, worker: usize) -> Gauge {
    let help = "Requests whose answer has not yet ended.";
    registry.gauge(worker, "sidegate_requests_in_flight", help, &[])
}

impl Route {
    fn new(worker: usize, registry: &Registry, label: Arc<str>) -> Self {
        let labels = [("route", &*label)];
        let help = "From the head of a request to the end of its answer.";
        let duration = registry.histogram(worker, "sidegate_request_duration_seconds", help, &labels);
        let help = "From the head of a request to the head of its answer, without the app's time.";
        let overhead = registry.histogram(worker, "sidegate_overhead_seconds", help, &labels);
        Self { requests: [const { OnceCell::new() }; METHODS.len() * CLASSES.len()], duration, overhead, label }
    }
}

/// Sees every request come and every answer go. See the module's rules.
pub fn layer<S: Next>(telemetry: Rc<Telemetry>) -> impl Layer<S, Service = impl Next> + Clone {
    exchange::layer(move |exchange: Box<Exchange>, next: S| {
        let passage = telemetry.arrive(&exchange);
        let connection = exchange.connection.clone();
        async move {
            let mut response = pass(next, exchange).await;
            passage.answered(&mut response, &connection);
            response
        }
    })
}

/// A request in flight. Its drop is the request's end.
struct Passage {
    telemetry: Rc<Telemetry>,
    trail: Trail,
    sent: u64,
    end: Option<End>,
    /// The answer has no content, whatever its fields say (RFC 9110 §6.4.1): not to read it is not to abandon it.
    without_content: bool,
}

impl Passage {
    fn answered(mut self, response: &mut Response<Body>, connection: &Connection) {
        let status = response.status();
        {
            let mut record = self.trail.borrow_mut();
            record.status = Some(status);
            record.head_time = Some(clock::instant().saturating_duration_since(record.started));
            if let Some(id) = &record.request_id {
                if record.local_reply.is_some() {
                    local_reply::name(response, id);
                }
                response.headers_mut().insert(X_REQUEST_ID, id.clone());
            }
        }
        self.without_content |= matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if status == StatusCode::SWITCHING_PROTOCOLS
            && let Some(tunnel) = &mut *connection.tunnel.borrow_mut()
        {
            let ended = std::mem::replace(&mut tunnel.ended, Box::new(|_, _| {}));
            tunnel.ended = Box::new(move |to_app, to_client| {
                let mut passage = self;
                ended(to_app, to_client);
                (passage.sent, passage.end) = (to_client, Some(End::Complete));
            });
            return;
        }
        let body = std::mem::take(response.body_mut());
        *response.body_mut() = body.watched(self);
    }
}

impl Watch for Passage {
    fn frame(&mut self, frame: &Frame<Bytes>) {
        self.sent += frame.data_ref().map_or(0, |content| content.len() as u64);
    }

    fn end(&mut self, end: End) {
        self.end = Some(end);
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        let end = match self.end.unwrap_or(End::Abandoned) {
            End::Abandoned if self.without_content && self.end.is_some() => End::Complete,
            end => end,
        };
        // Borrowed only by a layer that panics at this moment: then there is no more to say.
        let Ok(mut record) = self.trail.try_borrow_mut() else { return self.telemetry.in_flight.dec() };
        record.sent = self.sent;
        let took: Duration = clock::instant().saturating_duration_since(record.started);
        self.telemetry.ended(&record, Ending { end, took });
    }
}

/// The authority the request was sent to (RFC 9110 §7.2): the target's own before `Host`.
fn authority(request: &Request<Body>) -> Option<HeaderValue> {
    match request.uri().authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => request.headers().get(HOST).cloned(),
    }
}

fn method_index(method: &Method) -> usize {
    METHODS.iter().position(|name| *name == method.as_str()).unwrap_or(METHODS.len() - 1)
}

fn class_index(status: Option<StatusCode>) -> usize {
    match status.map(|status| usize::from(status.as_u16() / 100)) {
        Some(class @ 1..=5) => class - 1,
        _ => CLASSES.len() - 1,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::convert::Infallible;
    use std::future::{pending, ready};
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use http::Version;
    use http_body_util::BodyExt as _;
    use tower::{Service as _, service_fn};

    use super::super::access_log::tests::Page;
    use super::super::redact::Redaction;
    use super::super::sink::{Look, Sink};
    use super::*;
    use crate::body::BodyError;
    use crate::clock::Clock;
    use crate::exchange::{Answers, Client, Scheme, Tunnel};

    fn exchange(method: Method) -> (Box<Exchange>, Trail) {
        let request =
            Request::builder().method(&method).uri("/a").header(HOST, "api.test").body(Body::empty()).unwrap();
        let target = request.uri().path_and_query().cloned();
        let trail = Rc::new(RefCell::new(Record::new(clock::instant(), method, target, Version::HTTP_11)));
        let connection = Connection { peer: None, tls: false, certificate: None, tunnel: RefCell::default() };
        let client = Client { address: [192, 0, 2, 1].into(), trusted: false, scheme: Scheme::Http };
        let exchange = Exchange {
            request,
            connection: Rc::new(connection),
            interim: None,
            client,
            parameters: Vec::new(),
            answers: Answers::default(),
            plan: None,
            presented: None,
            principal: None,
            posted: None,
            trail: trail.clone(),
        };
        (Box::new(exchange), trail)
    }

    struct Broken;

    impl http_body::Body for Broken {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            Poll::Ready(Some(Err(BodyError::Broken("test"))))
        }
    }

    fn telemetry(registry: &Arc<Registry>) -> Rc<Telemetry> {
        Telemetry::new(0, registry, &["/users".into(), "/{*rest}".into()], None)
    }

    fn counted(registry: &Registry, route: &str, method: &str, class: &str) -> u64 {
        registry.value("sidegate_requests_total", &[("route", route), ("method", method), ("status_class", class)])
    }

    /// Sends one request through the layer; `act` answers it.
    async fn send(
        telemetry: &Rc<Telemetry>,
        exchange: Box<Exchange>,
        act: impl Fn(&mut Exchange) -> Response<Body> + Clone + 'static,
    ) -> Response<Body> {
        let app = service_fn(move |mut exchange: Box<Exchange>| ready(Ok::<_, Infallible>(act(&mut exchange))));
        let Ok(response) = layer(telemetry.clone()).layer(app).call(exchange).await;
        response
    }

    #[tokio::test]
    async fn a_request_is_counted_when_its_content_has_ended() {
        let registry = Registry::new(1);
        let telemetry = telemetry(&registry);
        let (exchange, trail) = exchange(Method::GET);
        let response = send(&telemetry, exchange, |exchange| {
            let mut record = exchange.trail.borrow_mut();
            (record.route_index, record.upstream_time) = (Some(1), Some(Duration::from_secs(9)));
            Response::new(Body::full("hello"))
        })
        .await;
        let id = trail.borrow().request_id.clone().unwrap();
        assert_eq!(response.headers()["x-request-id"], id);
        assert_eq!(registry.value("sidegate_requests_in_flight", &[]), 1);
        assert_eq!(counted(&registry, "/{*rest}", "GET", "2xx"), 0);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
        assert_eq!(registry.value("sidegate_requests_in_flight", &[]), 0);
        assert_eq!(counted(&registry, "/{*rest}", "GET", "2xx"), 1);
        assert_eq!(trail.borrow().sent, 5);
        let text = registry.render();
        assert!(text.contains("sidegate_overhead_seconds_count{route=\"/{*rest}\"} 1\n"), "{text}");
        assert!(text.contains("sidegate_overhead_seconds_sum{route=\"/{*rest}\"} 0\n"), "{text}");
    }

    #[tokio::test]
    async fn an_identifier_that_is_there_is_kept() {
        let telemetry = telemetry(&Registry::new(1));
        let (exchange, trail) = exchange(Method::GET);
        trail.borrow_mut().request_id = Some(HeaderValue::from_static("theirs"));
        let response = send(&telemetry, exchange, |_| Response::new(Body::empty())).await;
        assert_eq!(response.headers()["x-request-id"], "theirs");
    }

    #[tokio::test]
    async fn a_client_that_leaves_before_the_answer_is_counted_as_such() {
        let registry = Registry::new(1);
        let app = service_fn(|_: Box<Exchange>| pending::<Result<Response<Body>, Infallible>>());
        let mut service = layer(telemetry(&registry)).layer(app);
        let waiting = service.call(exchange(Method::from_bytes(b"BREW").unwrap()).0);
        assert_eq!(registry.value("sidegate_requests_in_flight", &[]), 1);
        drop(waiting);
        assert_eq!(registry.value("sidegate_requests_in_flight", &[]), 0);
        assert_eq!(counted(&registry, "none", "other", "none"), 1);
    }

    #[tokio::test]
    async fn the_line_says_how_the_content_ended() {
        let (registry, page) = (Registry::new(1), Page::default());
        let look = Look::Human { colour: false };
        let sink = Sink::to(Box::new(page.clone()), look, 1 << 20).unwrap();
        let (clock, _hand) = Clock::manual(0);
        let access = AccessLog::new(&sink, Redaction::default(), clock, &registry, 0);
        let telemetry = Telemetry::new(0, &registry, &[], Some(access));
        let full = |_: &mut Exchange| Response::new(Body::full("hello"));
        drop(send(&telemetry, exchange(Method::GET).0, full).await);
        drop(send(&telemetry, exchange(Method::HEAD).0, full).await);
        let broken = send(&telemetry, exchange(Method::GET).0, |_| Response::new(Body::boxed(Broken)));
        assert!(broken.await.into_body().collect().await.is_err());
        let (exchange, trail) = exchange(Method::GET);
        drop(send(&telemetry, exchange, full).await.into_body().collect().await);
        assert_eq!(trail.borrow().host.as_ref().unwrap(), "api.test");
        sink.flush_and_stop();
        let ends: Vec<_> =
            page.text().lines().map(|line| line.rsplit_once("content ").map(|(_, end)| end.to_owned())).collect();
        assert_eq!(ends, [Some("abandoned".into()), None, Some("failed".into()), None]);
    }

    #[tokio::test]
    async fn a_tunnel_ends_when_both_directions_have() {
        let registry = Registry::new(1);
        let telemetry = telemetry(&registry);
        let (exchange, trail) = exchange(Method::GET);
        let (connection, ended) = (exchange.connection.clone(), Rc::new(Cell::new((0, 0))));
        let told = ended.clone();
        let response = send(&telemetry, exchange, move |exchange| {
            let told = told.clone();
            let ended = Box::new(move |up, down| told.set((up, down)));
            let tunnel = Tunnel { io: Box::pin(pending()), ended };
            *exchange.connection.tunnel.borrow_mut() = Some(tunnel);
            Response::builder().status(101).body(Body::empty()).unwrap()
        })
        .await;
        drop(response);
        assert_eq!(counted(&registry, "none", "GET", "1xx"), 0);
        let tunnel = connection.tunnel.take().unwrap();
        (tunnel.ended)(3, 4);
        assert_eq!((ended.get(), trail.borrow().sent), ((3, 4), 4));
        assert_eq!(counted(&registry, "none", "GET", "1xx"), 1);
        assert_eq!(registry.value("sidegate_requests_in_flight", &[]), 0);
    }
}
