//! A stored response, and its form outside this process.
//!
//! 1. Everything a hit needs was worked out when it was stored: a hit compares integers and clones a head.
//! 2. The binary form carries a version and a checksum over everything else, and over the URI it answers for (`seal`).
//!    Whatever does not read back exactly (an older version, a cut, a flipped bit, a length that lies, another program's
//!    value) is no stored response: a miss, never an error. How it is written says `binary`.
//! 3. Not stored: hop-by-hop fields and those that `Connection` names (RFC 9110 §7.6.1), `Proxy-*` (RFC 9111 §3.1),
//!    `Age`, and the fields that sidegate writes on every answer.
//! 4. Content that gains by it is compressed, once, as it is stored; what is read back is the content as it was. Large
//!    content stands in pieces beside its entry (`content`, `piece`).
//! 5. `Date` is added where it is missing, and `Content-Length` always tells the stored content's length: no reuse has
//!    to work them out.
//! 6. A part of content (206) is a stored response that knows where it belongs (`part`); its content is that part. Who reads it
//!    without looking sends nothing: see `layer::answer`.
//! 7. A response whose fields take more than [`LARGEST_HEAD`] bytes is not stored.

use std::sync::Arc;

use http::header::{AGE, CONNECTION, CONTENT_LENGTH, DATE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::Policy;
use super::rules::dates::date_text;
use super::rules::parts::Part;
use super::rules::storing::Facts;
use super::rules::vary::{Digest, Selecting};
use super::store::Generation;

mod binary;
mod compressed;
mod content;
#[cfg(test)]
mod fuzz;
mod piece;
mod seal;
mod variants;

pub use content::{Content, Pieces};
pub use seal::SEAL;
pub use variants::{Known, Variants};

/// Bytes of names and values of the fields of a response, at most: what an app's head may take by default.
pub const LARGEST_HEAD: usize = 64 * 1024;

/// How content stands in the binary form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// Whether content that gains by it is compressed.
    pub compress: bool,
    /// Bytes of content beyond which nothing is read back.
    pub max_content: u64,
    /// Bytes of content beyond which it stands in pieces of this size.
    pub piece: u64,
    /// Variants of a URI beyond which the oldest is let go of.
    pub max_variants: usize,
}

impl Form {
    /// As a policy says.
    pub fn of(policy: &Arc<Policy>) -> Self {
        let Policy { compress, max_body: max_content, piece, max_variants, .. } = **policy;
        Self { compress, max_content, piece, max_variants }
    }
}

impl Default for Form {
    /// Of what is never stored.
    fn default() -> Self {
        Self { compress: false, max_content: 0, piece: u64::MAX, max_variants: 0 }
    }
}

/// A response that can be sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredResponse {
    /// Its status.
    pub status: StatusCode,
    /// Its fields, as each reuse sends them, but for `Age`.
    pub head: HeaderMap,
    /// Its content.
    pub content: Content,
    /// Where that belongs; `None`: it is whole. Its status is 206 exactly where this is something.
    pub part: Option<Part>,
    /// How old it is and for how long fresh.
    pub facts: Facts,
    /// The generation of its place when it was asked for.
    pub generation: Generation,
    /// Its selecting fields and the variant it is; `None`: it answers every request for its URI.
    pub variant: Option<(Selecting, Digest)>,
}

/// What stands under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A response.
    Response(Arc<StoredResponse>),
    /// The responses stand under their variants.
    Variants(Variants),
}

impl StoredResponse {
    /// Whether it answers a request with these fields (RFC 9111 §4.1).
    pub fn selects(&self, request: &HeaderMap) -> bool {
        self.variant.as_ref().is_none_or(|(selecting, variant)| {
            selecting.variant(request) == *variant || selecting.pleases(request, &self.head)
        })
    }

    /// The status by which it is judged: a part is as fresh, and for whom, as the 200 of which it is one (RFC 9111 §3.3).
    pub fn judged_as(&self) -> StatusCode {
        if self.part.is_some() { StatusCode::OK } else { self.status }
    }

    /// Bytes it takes in memory, about; content that stands in Redis takes none.
    pub fn weight(&self) -> u64 {
        let fields: usize = self.head.iter().map(|(name, value)| name.as_str().len() + value.len() + 64).sum();
        self.content.weight() + (fields + 256) as u64
    }
}

/// Whether a response with these fields may be stored (rule 7).
pub fn has_room_for(head: &HeaderMap) -> bool {
    head.iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>() <= LARGEST_HEAD
}

/// Makes of a response's fields those that are stored. `received` is in seconds since the Unix epoch.
pub fn into_stored_head(head: &mut HeaderMap, status: StatusCode, length: usize, received: u64) {
    let named = head.get_all(CONNECTION).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let named: Vec<_> = named.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()).collect();
    let ours = head.keys().filter(|name| is_ours(name)).cloned().collect::<Vec<_>>();
    for name in named.iter().chain(&ours) {
        head.remove(name);
    }
    if !head.contains_key(DATE)
        && let Some(date) = date_text(received)
    {
        head.insert(DATE, date);
    }
    if status == StatusCode::NO_CONTENT {
        head.remove(CONTENT_LENGTH);
    } else {
        head.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}

/// Fields that belong to one connection, or to one answer of ours.
fn is_ours(name: &HeaderName) -> bool {
    const CONNECTION_S: [HeaderName; 6] = [CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, AGE];
    const ANSWER_S: [&str; 6] =
        ["keep-alive", "x-cache", "cache-status", "x-request-id", "ratelimit", "ratelimit-policy"];
    let text = name.as_str();
    CONNECTION_S.contains(name)
        || ANSWER_S.contains(&text)
        || text.starts_with("proxy-")
        || text.starts_with("x-ratelimit-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_beyond_the_largest_is_not_stored() {
        let of = |length: usize| HeaderMap::from_iter([(DATE, "a".repeat(length).parse().unwrap())]);
        assert!(has_room_for(&of(LARGEST_HEAD - "date".len())) && !has_room_for(&of(LARGEST_HEAD)));
    }

    #[test]
    fn fields_of_a_connection_and_of_one_answer_are_not_stored() {
        let mut head = HeaderMap::new();
        for name in [
            "connection",
            "keep-alive",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
            "proxy-authenticate",
            "x-hop",
            "age",
            "x-cache",
            "cache-status",
            "x-ratelimit-limit",
            "ratelimit",
            "x-request-id",
            "etag",
        ] {
            head.insert(HeaderName::from_static(name), HeaderValue::from_static("close, X-Hop"));
        }
        into_stored_head(&mut head, StatusCode::OK, 5, 784_111_777);
        let mut names: Vec<_> = head.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-length", "date", "etag"]);
        assert_eq!(head[CONTENT_LENGTH], "5");
        assert_eq!(head[DATE], "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
