//! Content codings that sidegate applies itself (`encode`; RFC 9110 §8.4, §12.5.3).
//!
//! 1. Two layers. The outer one stands before anybody looks anything up: it makes of what the client accepts the one coding
//!    it is to be sent (`negotiation`). The inner one stands between the cache and the app: it codes what the app has not
//!    (`eligible`). So the cache stores an answer once for each coding, as it is sent: a hit codes nothing and copies
//!    nothing.
//! 2. The app is asked for that one coding, and may send it: a file that it has compressed beforehand is better than
//!    what can be made while somebody waits.
//! 3. Coding is streamed (`stream`): nothing is held back, nothing that was cut short ends as whole.
//! 4. A coded answer has an entity tag of its own, and the app is asked for it by the app's (`tags`).
//! 5. All coders of the process together take at most `[memory] encoding`. An answer that finds no place goes out as the
//!    app sent it.
//! 6. What HEAD is told is what GET would be (RFC 9110 §9.3.2).
//! 7. Nothing is coded where the cache only observes: the app's answers are compared, and reach clients, as they are.
//!
//! # Why not after the cache
//! To code what is stored at each hit costs hundreds of times what a hit costs. To store both forms and decide at the hit
//! needs the cache to know codings; `Vary` says it all.
//!
//! # What this does not cover
//! An answer that holds both a secret and what an attacker may choose tells the secret by its coded length (BREACH). Such
//! an answer says `no-transform`, or its route does not `encode`.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, VARY};
use http::{Method, Response, StatusCode};
use http_body::Body as _;
use tower::Layer;

use self::coder::{Coder, ROOM};
use self::negotiation::Wanted;
use self::stream::Coded;
use super::policy::{Coding, Mode, Policy};
use crate::body::Body;
use crate::exchange::{self, Exchange, Next, pass};
use crate::telemetry::registry::{Counter, Registry};

mod coder;
mod eligible;
mod negotiation;
mod stream;
mod tags;

impl Coding {
    /// All that there are, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Brotli, Self::Zstd, Self::Gzip];

    /// Its name in `Content-Encoding`.
    pub fn token(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// The coding of this name, in any case.
    pub fn of_token(token: &[u8]) -> Option<Self> {
        // RFC 9110 §8.4.1.3.
        let token = if token.eq_ignore_ascii_case(b"x-gzip") { b"gzip" } else { token };
        Self::ALL.into_iter().find(|coding| token.eq_ignore_ascii_case(coding.token().as_bytes()))
    }
}

/// Bounds of what coders take (`[memory]`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemorySettings {
    /// Bytes of all coders of the process together.
    pub max_bytes: u64,
}

impl Default for MemorySettings {
    fn default() -> Self {
        Self { max_bytes: 64 << 20 }
    }
}

/// What the coders of all workers may take (rule 5).
#[derive(Clone, Debug)]
pub struct Places {
    taken: Arc<AtomicU64>,
    settings: MemorySettings,
}

impl Places {
    /// All of them free.
    pub fn new(settings: MemorySettings) -> Self {
        Self { taken: Arc::default(), settings }
    }

    fn take(&self) -> Option<Place> {
        let room = |taken: u64| taken.checked_add(ROOM).filter(|taken| *taken <= self.settings.max_bytes);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).ok()?;
        Some(Place(self.taken.clone()))
    }
}

/// The place of one coder, until it is dropped.
struct Place(Arc<AtomicU64>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(ROOM, Ordering::Relaxed);
    }
}

/// What one route's layers code, on one worker.
pub struct Encode {
    offers: Vec<Coding>,
    places: Places,
    coded: [Counter; Coding::ALL.len()],
}

impl Encode {
    /// As the policy says; `None`: it says nothing of codings.
    pub fn new(policy: &Policy, places: &Places, registry: &Registry, worker: usize) -> Option<Rc<Self>> {
        let coded = Coding::ALL.map(|coding| {
            let help = "Answers that sidegate compressed itself.";
            let labels = [("cache", &*policy.name), ("coding", coding.token())];
            registry.counter(worker, "sidegate_cache_encoded_total", help, &labels)
        });
        let offers = policy.encode.clone();
        (!offers.is_empty() && policy.mode == Mode::On).then(|| Rc::new(Self { offers, places: places.clone(), coded }))
    }

    /// The answer to a request that was settled for `wanted`.
    fn answer(&self, wanted: Wanted, is_head: bool, mut response: Response<Body>) -> Response<Body> {
        let (status, length) = (response.status(), length(&response));
        let head = response.headers_mut();
        if head.contains_key(CONTENT_ENCODING) {
            eligible::varies(head);
        }
        if !eligible::is_eligible(status, head, length) {
            return response;
        }
        eligible::varies(head);
        let Wanted::Coded(coding) = wanted else { return response };
        if is_head {
            eligible::into_coded(head, coding);
            return response;
        }
        let Some(place) = self.places.take() else { return response };
        let Ok(coder) = Coder::new(coding, length) else { return response };
        eligible::into_coded(head, coding);
        self.coded[coding as usize].inc();
        response.map(|content| Body::boxed(Coded::new(content, coder, place)))
    }
}

/// The outer layer: what the client is to be sent is settled before anything is looked up.
pub fn settling<S: Next>(encode: Rc<Encode>) -> impl Layer<S, Service = impl Next> + Clone {
    exchange::layer(move |mut exchange: Box<Exchange>, next: S| {
        negotiation::settle(exchange.request.headers_mut(), &encode.offers);
        pass(next, exchange)
    })
}

/// The inner layer: what the app sends is coded.
pub fn layer<S: Next>(encode: Rc<Encode>) -> impl Layer<S, Service = impl Next> + Clone {
    exchange::layer(move |mut exchange: Box<Exchange>, next: S| {
        let encode = encode.clone();
        async move {
            let wanted = negotiation::settled(exchange.request.headers());
            let is_head = exchange.request.method() == Method::HEAD;
            let asked = tags::unmark(exchange.request.headers_mut());
            let mut response = pass(next, exchange).await;
            if response.status() == StatusCode::NOT_MODIFIED {
                let head = response.headers_mut();
                asked.answered(head);
                // What it says replaces what is stored (RFC 9111 §3.2), and what is stored may be coded.
                if head.contains_key(VARY) {
                    eligible::varies(head);
                }
            }
            encode.answer(wanted, is_head, response)
        }
    })
}

/// Bytes of content, where they are known: by the field, which HEAD has, too, or by the framing.
fn length(response: &Response<Body>) -> Option<u64> {
    let said = response.headers().get(CONTENT_LENGTH);
    said.and_then(|length| length.to_str().ok()?.parse().ok()).or_else(|| response.body().size_hint().exact())
}
