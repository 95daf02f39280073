//! The request's name in the content of an answer, so that whoever reads it can report it.
//!
//! # Why
//! Most layers that answer have lost the request by then, and none knows that it is the last to answer; `telemetry` does,
//! and knows the name. What is added is spliced into the content: a refusal must stay cheap, and is not written twice.

use bytes::Bytes;
use http::Response;
use http::header::{CONTENT_LENGTH, HeaderValue};

use super::page::{self, escaped};
use crate::body::Body;

/// What a problem document ends with.
const END_OF_DOCUMENT: &str = "}\n";

/// Content that has room for a name.
#[derive(Clone)]
pub(super) struct Unnamed {
    /// The content so far.
    pub content: Bytes,
    /// It is a page, not a problem document.
    pub html: bool,
    /// It is sent; to HEAD it is not.
    pub sent: bool,
}

/// Writes the request's name into the content of an answer that sidegate gives itself; others stay as they are.
pub fn name(response: &mut Response<Body>, id: &HeaderValue) {
    let Some(Unnamed { content, html, sent }) = response.extensions_mut().remove::<Unnamed>() else { return };
    let Ok(id) = id.to_str() else { return };
    let (end, member) = match html {
        true => (page::END, format!(" · request {}", escaped(id))),
        false => (END_OF_DOCUMENT, format!(",\"request_id\":{}", serde_json::Value::from(id))),
    };
    let Some(before) = content.strip_suffix(end.as_bytes()) else { return };
    let content = [before, member.as_bytes(), end.as_bytes()].concat();
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(content.len()));
    if sent {
        *response.body_mut() = Body::full(content);
    }
}
