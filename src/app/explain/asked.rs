//! A request that an operator sends on its way, to see what becomes of it.

use std::time::Duration;

use http::header::HeaderName;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::cache;
use crate::exchange::{Exchange, Next, pass};

/// How long its answer may take, all of it.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of content that are read, so that it can be stored; beyond, the rest is left.
const MOST: usize = 64 << 20;

/// What became of it: the answer, and what the cache did.
pub async fn ask(exchange: Box<Exchange>, stack: impl Next) -> Value {
    let trail = exchange.trail.clone();
    let Ok((mut told, bytes)) = timeout(PATIENCE, answer(exchange, stack)).await else {
        return json!({ "failed": format!("no whole answer within {} s", PATIENCE.as_secs()) });
    };
    told["bytes"] = bytes.into();
    let record = trail.borrow();
    told["app"] = if record.upstream.is_some() { "was asked" } else { "was not asked" }.into();
    if let Some(reply) = record.local_reply {
        told["local_reply"] = reply.into();
    }
    if let Some(outcome) = record.cache {
        told["cache"] = outcome.into();
    }
    if let Some(reason) = record.cache_reason {
        told["because"] = cache::explained(reason);
    }
    told
}

/// The head of the answer, and bytes of its content.
async fn answer(exchange: Box<Exchange>, stack: impl Next) -> (Value, usize) {
    let response = pass(stack, exchange).await;
    let (head, mut content) = response.into_parts();
    let field = |name: HeaderName| {
        let lines = head.headers.get_all(name).iter().map(|line| String::from_utf8_lossy(line.as_bytes()));
        lines.collect::<Vec<_>>().join(", ")
    };
    let told = json!({
        "status": head.status.as_u16(),
        "cache_status": field(HeaderName::from_static("cache-status")),
        "cache_control": field(http::header::CACHE_CONTROL),
        "vary": field(http::header::VARY),
    });
    let mut bytes = 0;
    while bytes < MOST
        && let Some(Ok(frame)) = content.frame().await
    {
        bytes += frame.data_ref().map_or(0, bytes::Bytes::len);
    }
    (told, bytes)
}
