//! Fields that a route sets, adds or removes.
//!
//! 1. Of one name, removal comes first, then what is set (in place of what is there), then what is added.
//! 2. On an answer of the route, whoever gave it: the app, the store (after it: what is stored stays as the app sent it),
//!    or sidegate itself, as far as the route was found.
//! 3. An answer that sidegate gave itself keeps its own fields: it lacks none, and gets only those it does not have.
//! 4. What frames a message, concerns the connection, or is sidegate's own, is not a route's to change.
//!
//! # Why
//! Rule 3: `Cache-Control: public` set on a route is meant for its pages, and must not make a refusal storable; the
//! security fields that a browser looks for should stand on refusals too.

use std::rc::Rc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use tower::Layer;

use crate::exchange::{self, Exchange, Next, pass};

/// What is done to the fields of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// These are there, once, with these values.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// These are there besides.
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// These are not there.
    pub remove: Vec<HeaderName>,
}

impl Edits {
    /// Whether nothing is done.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }

    /// Rule 1.
    pub fn apply(&self, fields: &mut HeaderMap) {
        for name in &self.remove {
            fields.remove(name);
        }
        for (name, value) in &self.set {
            fields.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            fields.append(name, value.clone());
        }
    }

    /// Rule 3.
    pub fn complete(&self, fields: &mut HeaderMap) {
        let missing: Vec<_> =
            self.set.iter().chain(&self.add).filter(|(name, _)| !fields.contains_key(name)).cloned().collect();
        for (name, value) in missing {
            fields.append(name, value);
        }
    }
}

/// Edits the answers of a route (rules 2 and 3).
pub fn layer<S: Next>(edits: Rc<Edits>) -> impl Layer<S, Service = impl Next> + Clone {
    exchange::layer(move |exchange: Box<Exchange>, next: S| {
        let (edits, trail) = (edits.clone(), exchange.trail.clone());
        async move {
            let mut response = pass(next, exchange).await;
            match trail.borrow().local_reply {
                None => edits.apply(response.headers_mut()),
                Some(_) => edits.complete(response.headers_mut()),
            }
            response
        }
    })
}

/// Why a route may not change a field; `None`: it may (rule 4).
pub fn reserved(name: &HeaderName, message: Message) -> Option<&'static str> {
    let name = name.as_str();
    let folded = name.replace('_', "-");
    let connection =
        ["connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "http2-settings", "via", "date"];
    let framing = ["content-length", "content-encoding", "content-range"];
    if connection.contains(&&*folded) || folded.starts_with("proxy-") {
        return Some("it concerns the connection, not the message");
    }
    if framing.contains(&&*folded) {
        return Some("it says how the content is to be read");
    }
    let ours =
        ["x-request-id", "x-cache", "cache-status", "age", "retry-after", "forwarded", "traceparent", "tracestate"];
    if ours.contains(&&*folded)
        || ["x-ratelimit-", "ratelimit", "x-forwarded-"].iter().any(|start| folded.starts_with(start))
    {
        return Some("sidegate gives it its value");
    }
    match message {
        Message::Request if folded == "host" => Some("`set_host` is for that"),
        Message::Request if folded == "expect" || folded == "range" => Some("it changes what the answer is"),
        Message::Request if folded == "x-real-ip" => Some("it says who calls"),
        _ => None,
    }
}

/// Why a field may be added or removed, but not set, or the other way round; `None`: it may.
pub fn only_added(name: &HeaderName) -> Option<&'static str> {
    match *name {
        header::SET_COOKIE => Some("it would replace the app's cookies"),
        header::VARY => Some("caches would mix up answers"),
        _ => None,
    }
}

/// Which message a field stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// To the app.
    Request,
    /// To the client.
    Response,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edits() -> Edits {
        let value = HeaderValue::from_static;
        Edits {
            set: vec![(header::CACHE_CONTROL, value("public")), (header::X_FRAME_OPTIONS, value("DENY"))],
            add: vec![(header::LINK, value("</b>"))],
            remove: vec![header::SERVER, header::LINK],
        }
    }

    #[test]
    fn removal_comes_first_then_what_is_set_then_what_is_added() {
        let mut fields = HeaderMap::new();
        fields.append(header::LINK, HeaderValue::from_static("</a>"));
        fields.append(header::SERVER, HeaderValue::from_static("x"));
        fields.append(header::CACHE_CONTROL, HeaderValue::from_static("a"));
        fields.append(header::CACHE_CONTROL, HeaderValue::from_static("b"));
        edits().apply(&mut fields);
        assert_eq!(fields.get_all(header::CACHE_CONTROL).iter().collect::<Vec<_>>(), ["public"]);
        assert_eq!(fields.get_all(header::LINK).iter().collect::<Vec<_>>(), ["</b>"]);
        assert!(!fields.contains_key(header::SERVER));
    }

    #[test]
    fn an_answer_of_ours_keeps_its_own_fields() {
        let mut fields = HeaderMap::new();
        fields.append(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        edits().complete(&mut fields);
        assert_eq!(fields[header::CACHE_CONTROL], "no-store");
        assert_eq!(fields[header::X_FRAME_OPTIONS], "DENY");
    }

    #[test]
    fn what_frames_or_is_ours_is_reserved_in_any_spelling() {
        for name in ["content-length", "transfer_encoding", "proxy-connection", "x-ratelimit-limit", "x-cache", "via"] {
            assert!(reserved(&HeaderName::from_static(name), Message::Response).is_some(), "{name}");
        }
        assert!(reserved(&header::HOST, Message::Request).is_some());
        for name in ["server", "strict-transport-security", "cache-control", "x-powered-by", "set-cookie"] {
            assert_eq!(reserved(&HeaderName::from_static(name), Message::Response), None, "{name}");
        }
    }
}
