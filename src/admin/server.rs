//! The listener, its thread, and its answers.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::de::DeserializeOwned;
use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinSet};

use super::guard::{self, Verdict};
use super::limits::{self, Asks};
use super::{Order, Settings, State, explain, process, sessions};
use crate::cache::purge;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const METRICS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

const INDEX: &str = "sidegate\n\n\
    GET  /metrics  counters, for Prometheus\n\
    GET  /livez    whether the process answers\n\
    GET  /readyz   whether it should get requests, and what Redis and the upstreams are doing\n\
    POST /reload   read the configuration again\n\
    GET  /limits   limits; /limits/NAME/top: who is refused; /limits/NAME/key?key=…: where a key stands\n\
    POST /limits/NAME/reset?key=…, /limits/NAME/grant?key=…&units=N: what it has spent is forgotten, or given back\n\
    GET  /sessions?user=USER  the sessions of a user\n\
    POST /sessions/HANDLE/revoke, /sessions/revoke?user=USER  they are over; `sidegate sessions` asks it\n\
    POST /cache/purge  stored responses are taken back: {\"urls\": [\"https://example.com/\"]}; `sidegate purge` asks it\n\
    POST /explain  what would become of a request: {\"method\": \"GET\", \"url\": \"/\"}; `sidegate explain` asks it\n";

/// A running admin listener. It ends when this is dropped.
#[derive(Debug)]
pub struct Handle {
    /// Where it listens; with the port that the system chose, if 0 was asked for.
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Handle {
    /// Ends it, and waits until its thread has ended.
    pub fn stop(mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Starts the admin listener on a thread of its own; `None` if the settings want none.
///
/// # Errors
/// If it cannot listen there, or if it would be reachable from elsewhere without a token. The text names the address.
pub fn spawn(settings: &Settings, state: Arc<State>) -> io::Result<Option<Handle>> {
    let Some(listen) = settings.listen else { return Ok(None) };
    let named = |error: io::Error| io::Error::new(error.kind(), format!("admin listener {listen}: {error}"));
    if !listen.ip().to_canonical().is_loopback() && settings.token.is_none() {
        let why = "can be reached from other machines, which needs admin.token";
        return Err(named(io::Error::new(io::ErrorKind::InvalidInput, why)));
    }
    let listener = bind(listen, settings.share_port).map_err(named)?;
    let address = listener.local_addr().map_err(named)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(named)?;
    let listener = runtime.block_on(async { TcpListener::from_std(listener) }).map_err(named)?;
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = Serving { state, settings: settings.clone() };
    let serve = move || {
        runtime.block_on(async {
            tokio::select! {
                () = accept(&listener, Arc::new(serving)) => {}
                _ = stopped => {}
            }
        });
        // A reload that is still running must not keep the process.
        runtime.shutdown_background();
    };
    let thread = thread::Builder::new().name("admin".into()).spawn(serve).map_err(named)?;
    Ok(Some(Handle { address, stop: Some(stop), thread: Some(thread) }))
}

fn bind(address: SocketAddr, shared: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(128)?;
    Ok(socket.into())
}

struct Serving {
    state: Arc<State>,
    settings: Settings,
}

async fn accept(listener: &TcpListener, serving: Arc<Serving>) {
    let mut open = Open::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => open.serve(stream, serving.clone()).await,
            Err(error) => {
                tracing::warn!(%error, "the admin listener cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Connections, the oldest first.
#[derive(Default)]
struct Open {
    tasks: JoinSet<()>,
    order: VecDeque<(AbortHandle, Arc<AtomicBool>)>,
}

impl Open {
    /// Serves one more; the oldest that has not asked anything yet goes for it, or else one of the others must end first.
    async fn serve(&mut self, stream: TcpStream, serving: Arc<Serving>) {
        self.order.retain(|(task, _)| !task.is_finished());
        if self.order.len() >= serving.settings.max_connections {
            match self.order.iter().position(|(_, asked)| !asked.load(Ordering::Relaxed)) {
                Some(silent) => self.order.remove(silent).into_iter().for_each(|(task, _)| task.abort()),
                None => drop(self.tasks.join_next().await),
            }
        }
        while self.tasks.try_join_next().is_some() {}
        let asked = Arc::new(AtomicBool::new(false));
        let noted = asked.clone();
        let task = self.tasks.spawn(async move {
            let _ = tokio::time::timeout(serving.settings.timeouts.total, serve(stream, serving, noted)).await;
        });
        self.order.push_back((task, asked));
    }
}

async fn serve(stream: TcpStream, serving: Arc<Serving>, asked: Arc<AtomicBool>) {
    let head_time = serving.settings.timeouts.header;
    let service = service_fn(move |request| {
        asked.store(true, Ordering::Relaxed);
        let serving = serving.clone();
        async move { Ok::<_, Infallible>(serving.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_time)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection to the admin listener failed");
    }
}

impl Serving {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (request, content) = request.into_parts();
        let verdict = guard::judge(&request, self.settings.token.as_ref());
        match verdict {
            Verdict::Forbidden(why) => return failed(StatusCode::FORBIDDEN, why),
            Verdict::WrongToken => return unauthorized("the token is wrong"),
            Verdict::Everything | Verdict::HealthOnly => {}
        }
        let reading = matches!(request.method, Method::GET | Method::HEAD);
        match (request.uri.path(), verdict) {
            ("/livez", _) if reading => reply(StatusCode::OK, TEXT, "alive\n"),
            ("/readyz", verdict) if reading => self.ready(verdict),
            ("/livez" | "/readyz", _) => not_allowed("GET, HEAD"),
            (_, Verdict::HealthOnly) => unauthorized("this needs the token (Authorization: Bearer)"),
            ("/", _) if reading => reply(StatusCode::OK, TEXT, INDEX),
            ("/metrics", _) if reading => {
                reply(StatusCode::OK, METRICS, self.state.registry.render() + &process::render())
            }
            ("/", _) | ("/metrics", _) => not_allowed("GET, HEAD"),
            ("/reload", _) if request.method == Method::POST => self.reload().await,
            ("/reload", _) => not_allowed("POST"),
            (path, _) if path.starts_with("/limits") => self.limits(&request).await,
            (path, _) if path.starts_with("/sessions") => self.sessions(&request).await,
            ("/cache/purge" | "/explain", _) if request.method != Method::POST => not_allowed("POST"),
            ("/cache/purge", _) => self.purge(content).await,
            ("/explain", _) => self.explain(content).await,
            _ => nothing(),
        }
    }

    async fn limits(&self, request: &http::request::Parts) -> Response<Full<Bytes>> {
        let (path, query) = (request.uri.path(), request.uri.query().unwrap_or_default());
        self.asked(limits::read(&request.method, path, query), Order::Limits).await
    }

    async fn sessions(&self, request: &http::request::Parts) -> Response<Full<Bytes>> {
        let (path, query) = (request.uri.path(), request.uri.query().unwrap_or_default());
        self.asked(sessions::read(&request.method, path, query), Order::Sessions).await
    }

    async fn asked<T>(&self, asks: Asks<T>, order: fn(T) -> Order) -> Response<Full<Bytes>> {
        match asks {
            Asks::Order(asked) => self.done(order(asked)).await,
            Asks::With(methods) => not_allowed(methods),
            Asks::Wrong(why) => failed(StatusCode::BAD_REQUEST, &why),
            Asks::Nothing => nothing(),
        }
    }

    async fn purge(&self, content: Incoming) -> Response<Full<Bytes>> {
        let wanted = self.sent::<purge::Wanted>(content).await;
        match wanted.and_then(|wanted| wanted.read()) {
            Ok(order) => self.done(Order::Purge(order)).await,
            Err(why) => failed(StatusCode::BAD_REQUEST, &why),
        }
    }

    async fn explain(&self, content: Incoming) -> Response<Full<Bytes>> {
        let wanted = self.sent::<explain::Wanted>(content).await;
        match wanted.and_then(|wanted| wanted.read()) {
            Ok(asked) => self.done(Order::Explain(Box::new(asked))).await,
            Err(why) => failed(StatusCode::BAD_REQUEST, &why),
        }
    }

    /// What the content says, which is JSON.
    async fn sent<T: DeserializeOwned>(&self, content: Incoming) -> Result<T, String> {
        let most = self.settings.max_body;
        let content = Limited::new(content, most).collect().await;
        let content = content.map_err(|_| format!("the content is larger than {most} bytes, or broke off"))?;
        serde_json::from_slice(&content.to_bytes()).map_err(|error| error.to_string())
    }

    async fn done(&self, order: Order) -> Response<Full<Bytes>> {
        match (self.state.orders)(order).await {
            Ok(Ok(answer)) => reply(StatusCode::OK, JSON, format!("{answer}\n")),
            Ok(Err(trouble)) => {
                let (status, why) = limits::told(&trouble);
                failed(status, why)
            }
            Err(_) => failed(StatusCode::SERVICE_UNAVAILABLE, "nobody is there to ask: try again"),
        }
    }

    fn ready(&self, verdict: Verdict) -> Response<Full<Bytes>> {
        let health = &self.state.health;
        let (status, word) = health.status();
        let report = if verdict == Verdict::Everything { health.report() } else { json!({ "status": word }) };
        reply(status, JSON, format!("{report}\n"))
    }

    async fn reload(&self) -> Response<Full<Bytes>> {
        let state = self.state.clone();
        match tokio::task::spawn_blocking(move || (state.reload)()).await {
            Ok(Ok(changed)) => reply(StatusCode::OK, JSON, format!("{}\n", json!({ "changed": changed }))),
            Ok(Err(errors)) => failed(StatusCode::UNPROCESSABLE_ENTITY, &errors),
            Err(_) => failed(StatusCode::INTERNAL_SERVER_ERROR, "the reload broke off; the old configuration stays"),
        }
    }
}

fn reply(status: StatusCode, kind: HeaderValue, content: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(content.into()));
    *response.status_mut() = status;
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, kind);
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn nothing() -> Response<Full<Bytes>> {
    failed(StatusCode::NOT_FOUND, "there is nothing here; GET / lists what there is")
}

fn failed(status: StatusCode, why: &str) -> Response<Full<Bytes>> {
    reply(status, JSON, format!("{}\n", json!({ "error": why })))
}

fn unauthorized(why: &str) -> Response<Full<Bytes>> {
    let mut response = failed(StatusCode::UNAUTHORIZED, why);
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"sidegate admin\""));
    response
}

fn not_allowed(methods: &'static str) -> Response<Full<Bytes>> {
    let mut response = failed(StatusCode::METHOD_NOT_ALLOWED, "this is asked for with another method");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    response
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use secrecy::SecretString;

    use super::super::{Health, State, Timeouts};
    use super::*;
    use crate::telemetry::registry::Registry;

    const HOUR: Duration = Duration::from_secs(3600);

    /// Whom nobody answers.
    fn nobody() -> super::super::Orders {
        Box::new(|_| oneshot::channel().1)
    }

    fn start(token: Option<&str>) -> (Handle, Arc<State>) {
        let state = state();
        (start_with(token, state.clone()), state)
    }

    fn start_with(token: Option<&str>, state: Arc<State>) -> Handle {
        start_as(Settings { token: token.map(SecretString::from), ..Settings::default() }, state)
    }

    fn start_as(settings: Settings, state: Arc<State>) -> Handle {
        let listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        spawn(&Settings { listen, ..settings }, state).unwrap().unwrap()
    }

    fn state() -> Arc<State> {
        Arc::new(State {
            registry: Registry::new(1),
            health: Health::new(),
            reload: Box::new(|| Ok(vec!["route /users added".into()])),
            orders: nobody(),
        })
    }

    /// Sends a request with these fields; `Host` is ours unless they name one.
    fn ask(handle: &Handle, line: &str, fields: &[&str]) -> String {
        let mut stream = std::net::TcpStream::connect(handle.address).unwrap();
        let own = format!("Host: {}", handle.address);
        let host = fields.iter().all(|field| !field.starts_with("Host:")).then_some(own.as_str());
        let fields = host.iter().chain(fields).map(|field| format!("{field}\r\n")).collect::<String>();
        stream.write_all(format!("{line} HTTP/1.1\r\n{fields}\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn status(answer: &str) -> u16 {
        answer[9..12].parse().unwrap()
    }

    #[test]
    fn metrics_show_the_registry_and_the_process() {
        let (handle, state) = start(None);
        state.registry.counter(0, "sidegate_x_total", "x", &[]).add(3);
        let answer = ask(&handle, "GET /metrics", &[]);
        assert_eq!(status(&answer), 200, "{answer}");
        assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
        assert!(answer.contains("\nsidegate_x_total 3\n") && answer.contains("\nsidegate_build_info{"), "{answer}");
        handle.stop();
    }

    #[test]
    fn readiness_follows_health() {
        let (handle, state) = start(None);
        assert_eq!(status(&ask(&handle, "GET /livez", &[])), 200);
        assert_eq!(status(&ask(&handle, "GET /readyz", &[])), 503);
        state.health.set_applied();
        let answer = ask(&handle, "GET /readyz", &[]);
        assert_eq!(status(&answer), 200);
        let content: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        assert_eq!((&content["status"], &content["redis"]["state"]), (&"ready".into(), &"none".into()));
        state.health.set_draining();
        let answer = ask(&handle, "GET /readyz", &[]);
        assert!(status(&answer) == 503 && answer.contains("\"draining\""), "{answer}");
    }

    #[test]
    fn a_reload_says_what_changed_or_what_is_wrong() {
        let (handle, _state) = start(None);
        let answer = ask(&handle, "POST /reload", &[]);
        assert!(status(&answer) == 200 && answer.ends_with("{\"changed\":[\"route /users added\"]}\n"), "{answer}");
        let answer = ask(&handle, "GET /reload", &[]);
        assert!(status(&answer) == 405 && answer.contains("allow: POST\r\n"), "{answer}");

        let reload: super::super::Reload = Box::new(|| Err("line 3:\n  \"no\"".into()));
        let failing = State { registry: Registry::new(1), health: Health::new(), reload, orders: nobody() };
        let answer = ask(&start_with(None, Arc::new(failing)), "POST /reload", &[]);
        assert!(status(&answer) == 422 && answer.ends_with("{\"error\":\"line 3:\\n  \\\"no\\\"\"}\n"), "{answer}");
    }

    #[test]
    fn other_sites_and_rebound_names_are_refused() {
        let (handle, _state) = start(None);
        assert_eq!(status(&ask(&handle, "GET /metrics", &["Host: evil.test:9901"])), 403);
        assert_eq!(status(&ask(&handle, "POST /reload", &["Origin: http://evil.test"])), 403);
        assert_eq!(status(&ask(&handle, "POST /reload", &["Sec-Fetch-Site: cross-site"])), 403);
        assert_eq!(status(&ask(&handle, "POST /reload", &[&format!("Origin: http://{}", handle.address)])), 200);
    }

    #[test]
    fn with_a_token_configured_only_health_is_told_without_it() {
        let (handle, state) = start(Some("t0ken"));
        state.health.set_applied();
        for line in ["GET /metrics", "POST /reload", "GET /", "GET /nothing"] {
            let answer = ask(&handle, line, &[]);
            assert!(status(&answer) == 401 && answer.contains("www-authenticate: Bearer"), "{answer}");
        }
        assert_eq!(status(&ask(&handle, "GET /metrics", &["Authorization: Bearer wrong"])), 401);
        assert_eq!(status(&ask(&handle, "GET /metrics", &["Authorization: Bearer t0ken"])), 200);
        assert_eq!(status(&ask(&handle, "GET /livez", &[])), 200);
        assert!(ask(&handle, "GET /readyz", &[]).ends_with("\r\n\r\n{\"status\":\"ready\"}\n"));
    }

    #[test]
    fn an_unknown_path_points_to_the_index() {
        let (handle, _state) = start(None);
        assert_eq!(status(&ask(&handle, "GET /nothing", &[])), 404);
        assert!(ask(&handle, "GET /", &[]).contains("POST /reload"));
        assert!(ask(&handle, "HEAD /", &[]).ends_with("\r\n\r\n"));
    }

    #[test]
    fn a_place_that_is_taken_is_named() {
        let (handle, state) = start(None);
        let again = spawn(&Settings { listen: Some(handle.address), ..Settings::default() }, state.clone());
        let error = again.unwrap_err().to_string();
        assert!(error.starts_with(&format!("admin listener {}: ", handle.address)), "{error}");
        assert!(spawn(&Settings { listen: None, ..Settings::default() }, state).unwrap().is_none());
    }

    #[test]
    fn off_loopback_it_does_not_start_without_a_token() {
        let (_handle, state) = start(None);
        let listen = Some(SocketAddr::from(([0, 0, 0, 0], 0)));
        let error = spawn(&Settings { listen, ..Settings::default() }, state).unwrap_err();
        assert!(error.to_string().contains("needs admin.token"), "{error}");
    }

    #[test]
    fn stopping_closes_the_listener() {
        let (handle, _state) = start(None);
        let address = handle.address;
        handle.stop();
        assert!(std::net::TcpStream::connect(address).is_err());
    }

    #[test]
    fn silent_connections_do_not_keep_others_out() {
        let (handle, _state) = start(None);
        let connect = |_| std::net::TcpStream::connect(handle.address).unwrap();
        let silent: Vec<_> = (0..2 * Settings::default().max_connections).map(connect).collect();
        assert_eq!(status(&ask(&handle, "GET /livez", &[])), 200);
        // Long before their time was over, the oldest made room.
        let mut oldest = &silent[0];
        assert_eq!(oldest.read(&mut [0]).unwrap_or_default(), 0);
    }

    #[test]
    fn as_many_connections_as_are_configured_are_open_at_once() {
        // Nobody is let go of for the time.
        let timeouts = Timeouts { header: HOUR, total: HOUR };
        let handle = start_as(Settings { max_connections: 2, timeouts, ..Settings::default() }, state());
        let connect = || std::net::TcpStream::connect(handle.address).unwrap();
        let (mut first, _second, _third) = (connect(), connect(), connect());
        assert_eq!(first.read(&mut [0]).unwrap_or_default(), 0, "the oldest made room for the third");
    }

    #[test]
    fn who_does_not_ask_in_time_is_let_go_of() {
        let (short, long) = (Duration::from_millis(100), Timeouts { header: HOUR, total: HOUR });
        let begun = |timeouts| {
            let handle = start_as(Settings { timeouts, ..Settings::default() }, state());
            let mut asking = std::net::TcpStream::connect(handle.address).unwrap();
            write!(asking, "GET /livez HTTP/1.1\r\nHost: {}\r\n", handle.address).unwrap();
            (handle, asking)
        };
        // Each of the two times ends it alone; whoever came before and has longer is still there then.
        for timeouts in [Timeouts { header: short, ..long }, Timeouts { total: short, ..long }] {
            let (_patient, mut slow) = begun(long);
            let (_handle, mut silent) = begun(timeouts);
            // Of hyper it hears that it was too slow, or nothing.
            let mut told = String::new();
            let _ = silent.read_to_string(&mut told);
            assert!(!told.contains(" 200 "), "{timeouts:?}: {told}");
            slow.write_all(b"\r\n").unwrap();
            let mut answer = String::new();
            slow.read_to_string(&mut answer).unwrap();
            assert_eq!(status(&answer), 200, "{timeouts:?}");
        }
    }

    #[test]
    fn content_beyond_the_configured_size_is_refused() {
        let handle = start_as(Settings { max_body: 100, ..Settings::default() }, state());
        let purge = |length: usize| {
            let mut stream = std::net::TcpStream::connect(handle.address).unwrap();
            let head = format!("POST /cache/purge HTTP/1.1\r\nHost: {}\r\nContent-Length: {length}", handle.address);
            stream.write_all(format!("{head}\r\n\r\n{}", " ".repeat(length)).as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        };
        let (fitting, larger) = (purge(100), purge(101));
        assert!(status(&fitting) == 400 && !fitting.contains("larger than"), "{fitting}");
        assert!(status(&larger) == 400 && larger.contains("larger than 100 bytes"), "{larger}");
    }

    #[test]
    fn who_has_asked_is_not_dropped_for_who_comes_later() {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let held = parking_lot::Mutex::new(held);
        let reload: super::super::Reload = Box::new(move || {
            // Ends when the test says so, or has ended.
            let _ = held.lock().recv();
            Ok(Vec::new())
        });
        let state = State { registry: Registry::new(1), health: Health::new(), reload, orders: nobody() };
        let handle = start_with(None, Arc::new(state));
        let mut asking = std::net::TcpStream::connect(handle.address).unwrap();
        asking.write_all(format!("POST /reload HTTP/1.1\r\nHost: {}\r\n\r\n", handle.address).as_bytes()).unwrap();
        assert_eq!(status(&ask(&handle, "GET /livez", &[])), 200);
        let connect = |_| std::net::TcpStream::connect(handle.address).unwrap();
        let _silent: Vec<_> = (0..2 * Settings::default().max_connections).map(connect).collect();
        assert_eq!(status(&ask(&handle, "GET /livez", &[])), 200);
        drop(release);
        let mut answer = String::new();
        asking.read_to_string(&mut answer).unwrap();
        assert_eq!(status(&answer), 200);
    }
}
