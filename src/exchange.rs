//! One request on its way through the stack, with what has been found out about it so far.
//!
//! 1. Each layer reads what earlier ones found and adds its own finding; none takes one back.
//! 2. It travels in one box: passing it on costs eight bytes, and the whole of it is allocated once.
//! 3. It holds plain facts only. What to do with them is each room's business.
//!
//! # Why
//! `http::Extensions` would do the same with three allocations and a hash for each fact, and would hide from the
//! reader which facts there are. Here they stand in a list.

mod certificate;
mod entitlement;
pub mod overriding;
mod passing;
pub mod preflight;
mod session;
pub mod spelling;

use std::any::Any;
use std::cell::RefCell;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Method, Request, Response, StatusCode};
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite};
use tower::Layer;
use tower::layer::layer_fn;

pub use self::certificate::{CertificateFact, ClientCertificate};
pub use self::entitlement::{Entitlement, Grant};
pub use self::passing::{Either, Passing, pass};
pub use self::session::{Located, Orders, Presented, Principal, Stands};
use crate::body::Body;
use crate::local_reply::LocalReply;
use crate::telemetry::Trail;

/// A service of the stack: takes an [`Exchange`], always answers, never fails.
pub trait Next:
    tower::Service<Box<Exchange>, Response = Response<Body>, Error = Infallible, Future: 'static> + Clone + 'static
{
}

impl<S> Next for S where
    S: tower::Service<Box<Exchange>, Response = Response<Body>, Error = Infallible, Future: 'static> + Clone + 'static
{
}

/// A layer that is one async function: it gets the exchange and the next service, and answers.
///
/// # Why
/// A future written by hand for each layer, or a box for each, is what the alternatives cost; an opaque type costs neither.
/// What wraps it is written by hand all the same: an `async` block around a future holds it twice, once before and once
/// while it is awaited, and five layers of that made a future of 46 KB that was copied at each request.
pub fn layer<S, F, Answering>(act: F) -> impl Layer<S, Service = impl Next> + Clone
where
    S: Next,
    F: Fn(Box<Exchange>, S) -> Answering + Clone + 'static,
    Answering: Future<Output = Response<Body>> + 'static,
{
    layer_fn(move |next: S| {
        let act = act.clone();
        Acting(move |exchange| act(exchange, next.clone()))
    })
}

/// A service that is one async function: the end of a stack.
pub fn service<F, Answering>(act: F) -> impl Next
where
    F: Fn(Box<Exchange>) -> Answering + Clone + 'static,
    Answering: Future<Output = Response<Body>> + 'static,
{
    Acting(act)
}

#[derive(Clone)]
struct Acting<F>(F);

impl<F, Answering> tower::Service<Box<Exchange>> for Acting<F>
where
    F: Fn(Box<Exchange>) -> Answering,
    Answering: Future<Output = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Always<Answering>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, exchange: Box<Exchange>) -> Self::Future {
        Always { answer: (self.0)(exchange) }
    }
}

pin_project! {
    /// A future that cannot fail, where one that might is asked for.
    pub struct Always<F> {
        #[pin]
        answer: F,
    }
}

impl<F> Always<F> {
    /// Around `answer`.
    pub fn new(answer: F) -> Self {
        Self { answer }
    }
}

impl<F: Future> Future for Always<F> {
    type Output = Result<F::Output, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().answer.poll(cx).map(Ok)
    }
}

/// A service whose type is erased: one box for each request that passes.
///
/// # Why
/// Opaque types nest, and the compiler's work grows with a power of their depth: six layers compile in seconds, twelve do
/// not in ten minutes. And a layer that may or may not be there would have to be a type all the same.
#[derive(Clone)]
pub struct Seam(Rc<dyn Fn(Box<Exchange>) -> Answering>);

/// An answer on its way, its type erased.
type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>>>>;

impl Seam {
    /// Erases the type of `next`.
    pub fn new(next: impl Next) -> Self {
        Self(Rc::new(move |exchange| {
            let mut next = next.clone();
            Box::pin(next.call(exchange))
        }))
    }

    /// With `layer` around it, if there is one.
    #[must_use]
    pub fn under<L>(self, layer: Option<L>) -> Self
    where
        L: Layer<Self, Service: Next>,
    {
        match layer {
            Some(layer) => Self::new(layer.layer(self)),
            None => self,
        }
    }
}

impl tower::Service<Box<Exchange>> for Seam {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, exchange: Box<Exchange>) -> Answering {
        (self.0)(exchange)
    }
}

/// One request, and what is known about it.
pub struct Exchange {
    /// The request as it goes on; layers change it in place.
    pub request: Request<Body>,
    /// The connection it came by.
    pub connection: Rc<Connection>,
    /// How the client is sent interim answers, where there is a way.
    pub interim: Option<Rc<dyn Interim>>,
    /// Who calls; by `client_addr`.
    pub client: Client,
    /// Path parameters of the matched route, in the pattern's order; by `route`.
    pub parameters: Vec<(Arc<str>, String)>,
    /// What the client's plan gives it, where a limit goes by one and its record is known; by `rate_limit::plan`.
    pub plan: Option<Arc<Entitlement>>,
    /// What the stores answered; by `gather`.
    pub answers: Answers,
    /// The session credential that the client sent, once it has been looked for; by `session`.
    pub presented: Option<Rc<Presented>>,
    /// Who is logged in; by `session`.
    pub principal: Option<Arc<Principal>>,
    /// SHA-256 of the content of a POST that is a read; by `cache`.
    pub posted: Option<Box<[u8; 32]>>,
    /// What was decided and why, for the access log.
    pub trail: Trail,
}

impl Exchange {
    /// Whether it is a CORS preflight: see [`preflight`].
    pub fn is_preflight(&self) -> bool {
        *self.request.method() == Method::OPTIONS && preflight::is_one(&self.request)
    }

    /// The same request once more, without content and without what the stores answered: for what is asked beside it, or
    /// again.
    pub fn again(&self) -> Box<Self> {
        let mut request = Request::new(Body::empty());
        request.method_mut().clone_from(self.request.method());
        request.uri_mut().clone_from(self.request.uri());
        *request.version_mut() = self.request.version();
        request.headers_mut().clone_from(self.request.headers());
        Box::new(Self {
            request,
            connection: self.connection.clone(),
            interim: self.interim.clone(),
            client: self.client.clone(),
            parameters: self.parameters.clone(),
            plan: self.plan.clone(),
            answers: Answers::default(),
            presented: None,
            principal: self.principal.clone(),
            posted: self.posted.clone(),
            trail: self.trail.clone(),
        })
    }

    /// Answers it with `reply`, and says so in the access log.
    pub fn refuse(&self, reply: &LocalReply) -> Response<Body> {
        self.trail.borrow_mut().local_reply = Some(reply.kind());
        reply.respond(&self.request)
    }
}

/// The client's side of a connection, shared by all its requests.
pub struct Connection {
    /// The socket's other end; `None` on a Unix socket.
    pub peer: Option<SocketAddr>,
    /// Whether the client spoke TLS to us.
    pub tls: bool,
    /// The certificate that the client presented; it was verified.
    pub certificate: Option<Rc<ClientCertificate>>,
    /// The app's side of an upgraded connection, left here by `upstream` with its 101 answer and taken by the listener.
    pub tunnel: RefCell<Option<Tunnel>>,
}

/// A way to send interim answers ahead of the final one (RFC 9110 §15.2).
pub trait Interim {
    /// Sends one; or drops it, if the client does not read.
    fn send(&self, status: StatusCode, fields: &http::HeaderMap);
}

/// A connection to the app that is about to switch protocols.
pub type Switching = Pin<Box<dyn Future<Output = std::io::Result<Box<dyn Duplex>>>>>;

/// The app's side of an upgraded connection (RFC 9110 §7.8).
pub struct Tunnel {
    /// Becomes the connection to the app once the app's 101 has been read, or fails with the reason.
    pub io: Switching,
    /// Called once, when both directions have ended, with the bytes moved (to the app, to the client).
    pub ended: Box<dyn FnOnce(u64, u64)>,
}

/// Both directions of a byte stream.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The client address: the peer's, or what trusted proxies say (RFC 7239, right to left). Folded: never IPv4-mapped.
    pub address: IpAddr,
    /// The peer is a trusted proxy: its `X-Forwarded-*` and `X-Request-Id` are believed.
    pub trusted: bool,
    /// The scheme the client used, as far as we may believe it.
    pub scheme: Scheme,
}

/// Appends the text of `address`; without the formatting machinery where it is IPv4, as most are.
pub fn push_address(text: &mut String, address: IpAddr) {
    let IpAddr::V4(address) = address else { return text.push_str(&address.to_string()) };
    for (index, octet) in address.octets().into_iter().enumerate() {
        if index > 0 {
            text.push('.');
        }
        text.push_str(itoa::Buffer::new().format(octet));
    }
}

/// The scheme of a target URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Cleartext.
    Http,
    /// TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Which question to the stores an answer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// Limits that depend on the request alone.
    Limits,
    /// Limits on requests in flight.
    InFlight,
    /// The session record.
    Session,
    /// The stored response.
    Cache,
}

/// What Redis said to one question.
#[derive(Debug, Default)]
pub enum Answer {
    /// Nothing was asked.
    #[default]
    NotAsked,
    /// One value for each command asked, in order. A command's own failure (`WRONGTYPE` …) is `redis::Value::ServerError`.
    Values(Vec<redis::Value>),
    /// Redis was not asked: the room that would have asked remembers it. Of the type that this room keeps.
    Near(Arc<dyn Any + Send + Sync>),
    /// Redis could not be reached in time; says why, in a word for logs and metrics.
    Unavailable(&'static str),
}

/// How things stood when Redis was asked: what it says is remembered only while they stand the same
/// (`redis_pool::coherence`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    /// The stretch of time in which all changes are told.
    pub era: u64,
    /// Counts the changes.
    pub epoch: u64,
}

/// A question that is asked beside the slot's own, of a server that may be behind, and what that server says to it or why
/// it does not. Dropped, it asks for nobody.
pub type Aside = tokio::task::JoinHandle<(redis::Pipeline, Result<Vec<redis::Value>, &'static str>)>;

/// What Redis said, by question.
#[derive(Debug, Default)]
pub struct Answers {
    answers: [Answer; 4],
    notes: [Option<Note>; 4],
    undos: [Option<Undo>; 4],
    aside: Option<Aside>,
    login: Option<Arc<dyn Any + Send + Sync>>,
    session_stands: Stands,
    kept: Option<Box<dyn Any>>,
    /// A limit is known to refuse the request, whatever Redis says: nothing further in has to be asked.
    pub refused: bool,
    places: Option<Box<dyn Any>>,
    claim: Option<Weak<dyn Any>>,
    key: Option<Box<dyn Any>>,
}

impl Answers {
    /// Takes the answer of `slot`, leaving [`Answer::NotAsked`].
    pub fn take(&mut self, slot: Slot) -> Answer {
        if let Some(undo) = self.undos[slot as usize].take() {
            undo.forget();
        }
        std::mem::take(&mut self.answers[slot as usize])
    }

    /// Lets go of the stored response, and of the key under which it was asked for: the request is another one than the one that
    /// asked. Its room asks again.
    pub fn ask_for_stored_again(&mut self) {
        drop((self.take(Slot::Cache), self.aside.take(), self.key.take()));
        self.notes[Slot::Cache as usize] = None;
    }

    /// The answer of `slot`, which stays.
    pub fn peek(&self, slot: Slot) -> &Answer {
        &self.answers[slot as usize]
    }

    /// Has `undo` called when the exchange ends and nobody has taken the answer of `slot`: the request was refused, or
    /// its client left.
    pub fn unless_taken(&mut self, slot: Slot, undo: impl FnOnce() + 'static) {
        self.undos[slot as usize] = Some(Undo(Some(Box::new(undo))));
    }

    /// Leaves an answer.
    pub fn put(&mut self, slot: Slot, answer: Answer) {
        self.answers[slot as usize] = answer;
    }

    /// What is asked aside for [`Slot::Cache`], if anything is.
    pub fn take_aside(&mut self) -> Option<Aside> {
        self.aside.take()
    }

    /// Leaves that.
    pub fn set_aside(&mut self, aside: Aside) {
        self.aside = Some(aside);
    }

    /// Leaves what is known of the login; of the type that its room keeps.
    pub fn keep_login(&mut self, login: Arc<dyn Any + Send + Sync>) {
        self.login = Some(login);
    }

    /// The same again, if it is a `T`.
    pub fn login<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.login.clone()?.downcast().ok()
    }

    /// Leaves whether the session that is presented is there, and is this client's.
    pub fn keep_session_stands(&mut self, stands: Stands) {
        self.session_stands = stands;
    }

    /// The same again.
    pub fn session_stands(&self) -> Stands {
        self.session_stands
    }

    /// Leaves what the limits made of the request when they asked; of the type that their room keeps.
    pub fn keep(&mut self, kept: Box<dyn Any>) {
        self.kept = Some(kept);
    }

    /// Takes that.
    pub fn kept(&mut self) -> Option<Box<dyn Any>> {
        self.kept.take()
    }

    /// Leaves what stands for the places that a request in flight has asked for; of the type that their room keeps. Dropped with
    /// an exchange that ends before its answer has come, it takes them back.
    pub fn keep_places(&mut self, places: Box<dyn Any>) {
        self.places = Some(places);
    }

    /// Takes that.
    pub fn kept_places(&mut self) -> Option<Box<dyn Any>> {
        self.places.take()
    }

    /// Leaves, for whom it may concern, what stands for the places that the request has: they are free once nobody has it.
    pub fn show_claim(&mut self, claim: Weak<dyn Any>) {
        self.claim = Some(claim);
    }

    /// A share in that.
    pub fn claim(&self) -> Option<Rc<dyn Any>> {
        self.claim.as_ref()?.upgrade()
    }

    /// Leaves under what the stored response is asked for; of the type that its room keeps.
    pub fn keep_key(&mut self, key: Box<dyn Any>) {
        self.key = Some(key);
    }

    /// Takes that.
    pub fn kept_key(&mut self) -> Option<Box<dyn Any>> {
        self.key.take()
    }

    /// How things stood when the question of `slot` was asked; `None`: its answer is not to be remembered.
    pub fn note(&self, slot: Slot) -> Option<Note> {
        self.notes[slot as usize]
    }

    /// Leaves that, before the question is asked.
    pub fn set_note(&mut self, slot: Slot, note: Option<Note>) {
        self.notes[slot as usize] = note;
    }
}

/// Takes back, when it is dropped, what asking has changed.
struct Undo(Option<Box<dyn FnOnce()>>);

impl Undo {
    fn forget(mut self) {
        self.0 = None;
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        if let Some(undo) = self.0.take() {
            undo();
        }
    }
}

impl std::fmt::Debug for Undo {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Undo")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_asking_has_changed_is_taken_back_only_if_nobody_takes_the_answer() {
        let undone = Rc::new(RefCell::new(Vec::new()));
        let mut answers = Answers::default();
        for slot in [Slot::Cache, Slot::Session] {
            let undone = undone.clone();
            answers.unless_taken(slot, move || undone.borrow_mut().push(slot));
        }
        answers.take(Slot::Session);
        assert!(undone.borrow().is_empty());
        drop(answers);
        assert_eq!(*undone.borrow(), [Slot::Cache]);
    }
}
