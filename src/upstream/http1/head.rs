//! Reads the head of an app's answer, strictly (RFC 9112 §4–6). Pure.
//!
//! 1. Every line ends in CR LF; a bare LF, a bare CR, NUL or another control character is malformed (§2.2), and so are
//!    folded lines (§5.2), white space before the colon (§5.1) and empty or misspelt names.
//! 2. The status line is `HTTP/1.1` or `HTTP/1.0`, one space, three digits from 100 to 999, and a reason (§4). The
//!    space before a reason that is empty may be missing: it cannot be read in two ways, and some apps leave it out.
//!    Beyond 599 a status means nothing in HTTP (RFC 9110 §15), but its end is found as that of any: it is the client's to judge.
//! 3. The end of the content can be found in one way only: by one Content-Length of 1 to 19 digits, by one
//!    Transfer-Encoding that is `chunked` and nothing else, and not in HTTP/1.0, or by the end of the connection (§6).
//!    What names it in two ways is malformed whatever the status and the method: it may be another message's.
//! 4. Answers to HEAD, and 1xx, 204 and 304, have no content (§6.3). What 1xx and 204 say of its length is dropped
//!    (RFC 9110 §8.6).
//! 5. Hop-by-hop fields are read here and go no further (RFC 9110 §7.6.1); nor does what `Connection` names.
//!    Orders about the client's session ([`Orders`]) are kept beside them.
//! 6. A head is bounded in bytes and in fields.
//!
//! # Why
//! `httparse` would be a second pass over the same bytes: `HeaderName` and `HeaderValue` refuse all that must be
//! refused when they are made, so that finding line ends and colons (`memchr`) is all that is left to do. Values are
//! slices of the bytes that were read.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, Version};
use memchr::memchr;

use crate::exchange::Orders;
use crate::upstream::hop;

/// How large the head of an answer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes.
    pub largest_head: usize,
    /// Fields.
    pub most_fields: usize,
}

/// How the end of the content is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After so many bytes; 0 where there is no content.
    Length(u64),
    /// By chunks.
    Chunked,
    /// By the end of the connection.
    UntilClose,
}

/// The head of an answer, without its hop-by-hop fields.
#[derive(Debug)]
pub struct Head {
    /// 100 to 999.
    pub status: StatusCode,
    /// 1.0 or 1.1.
    pub version: Version,
    /// The reason phrase, where it is not the usual one.
    pub reason: Option<Bytes>,
    /// The end-to-end fields.
    pub fields: HeaderMap,
    /// The protocol that a 101 switches to.
    pub upgrade: Option<HeaderValue>,
    /// What the app orders about the client's session.
    pub orders: Option<Box<Orders>>,
    /// How its content ends.
    pub framing: Framing,
    /// The connection may carry another request after it (RFC 9112 §9.3).
    pub persistent: bool,
}

/// Why an answer is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is not HTTP, or could be read in two ways; says why.
    Malformed(&'static str),
    /// Its head is larger than the bound.
    TooLarge,
}

/// Reads the head that `bytes` begin with, and how many bytes it is; `None` if it is not all there. `to_head`: it answers
/// a HEAD.
///
/// # Errors
/// [`Refusal`], as soon as it is certain.
pub fn read(bytes: &Bytes, to_head: bool, bounds: Bounds) -> Result<Option<(Head, usize)>, Refusal> {
    let Some((line, mut at)) = line(bytes, 0, bounds)? else {
        return if looks_like_http(bytes) { Ok(None) } else { Err(Refusal::Malformed("no status line")) };
    };
    let (version, status, reason) = status_line(line)?;
    let usual = status.canonical_reason().unwrap_or_default().as_bytes();
    let reason = (!reason.is_empty() && reason != usual).then(|| bytes.slice_ref(reason));
    let mut fields = HeaderMap::with_capacity(TYPICAL);
    let mut hops = Hops::default();
    let mut count = 0;
    loop {
        let Some((line, next)) = self::line(bytes, at, bounds)? else { return Ok(None) };
        at = next;
        if line.is_empty() {
            break;
        }
        count += 1;
        if count > bounds.most_fields {
            return Err(Refusal::TooLarge);
        }
        let (name, value) = field(bytes, line).map_err(Refusal::Malformed)?;
        if hop::stops_here(&name) {
            hops.note(&name, value);
        } else {
            if name == CONTENT_LENGTH {
                hops.length(value.as_bytes());
            }
            fields.try_append(name, value).map_err(|_| Refusal::TooLarge)?;
        }
    }
    let persistent = hops.persistent(version);
    hops.remove_named(&mut fields);
    let framing = hops.framing(version).map_err(Refusal::Malformed)?;
    let contentless = status.is_informational() || status == StatusCode::NO_CONTENT;
    if contentless && hops.lengths > 0 {
        fields.remove(CONTENT_LENGTH);
    }
    let framing = match contentless || to_head || status == StatusCode::NOT_MODIFIED {
        true => Framing::Length(0),
        false => framing,
    };
    Ok(Some((
        Head { status, version, reason, fields, upgrade: hops.upgrade, orders: hops.orders, framing, persistent },
        at,
    )))
}

/// Room for the fields of most answers.
const TYPICAL: usize = 16;

/// The line at `at`, without its CR LF, and where the next one begins; `None` if it is not all there.
fn line(bytes: &Bytes, at: usize, bounds: Bounds) -> Result<Option<(&[u8], usize)>, Refusal> {
    let rest = &bytes[at..];
    let Some(end) = memchr(b'\n', rest) else {
        return if bytes.len() > bounds.largest_head { Err(Refusal::TooLarge) } else { Ok(None) };
    };
    let next = at + end + 1;
    if next > bounds.largest_head {
        return Err(Refusal::TooLarge);
    }
    match rest[..end].strip_suffix(b"\r") {
        Some(line) => Ok(Some((line, next))),
        None => Err(Refusal::Malformed("bare LF")),
    }
}

/// Whether more bytes could make a status line of these.
fn looks_like_http(bytes: &[u8]) -> bool {
    const START: &[u8] = b"HTTP/1.";
    let known = bytes.len().min(START.len());
    bytes[..known] == START[..known]
}

fn status_line(line: &[u8]) -> Result<(Version, StatusCode, &[u8]), Refusal> {
    let malformed = Refusal::Malformed("malformed status line");
    let (version, rest) = line.split_at_checked(9).ok_or(malformed)?;
    let version = match version {
        b"HTTP/1.1 " => Version::HTTP_11,
        b"HTTP/1.0 " => Version::HTTP_10,
        _ => return Err(malformed),
    };
    let (code, reason) = rest.split_at_checked(3).ok_or(malformed)?;
    let status = StatusCode::from_bytes(code).map_err(|_| malformed)?;
    let reason = match reason {
        [] => reason,
        [b' ', reason @ ..] => reason,
        _ => return Err(malformed),
    };
    if reason.iter().any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f) {
        return Err(malformed);
    }
    Ok((version, status, reason))
}

/// Name and value of a field line that is a part of `bytes`.
///
/// # Errors
/// What is wrong with it.
pub fn field(bytes: &Bytes, line: &[u8]) -> Result<(HeaderName, HeaderValue), &'static str> {
    let colon = memchr(b':', line).ok_or("field without a colon")?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    // A token: white space, also before the colon or at the start of a folded line, is none.
    let name = HeaderName::from_bytes(name).map_err(|_| "field name is not a token")?;
    // White space is SP and HTAB only.
    let start = value.iter().position(|byte| !matches!(byte, b' ' | b'\t')).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !matches!(byte, b' ' | b'\t')).map_or(start, |last| last + 1);
    let value = HeaderValue::from_maybe_shared(bytes.slice_ref(&value[start..end]));
    Ok((name, value.map_err(|_| "control character in a field")?))
}

/// What the fields say about the connection and the framing.
#[derive(Default)]
struct Hops {
    lengths: usize,
    length: Option<u64>,
    codings: usize,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    named: Vec<HeaderName>,
    upgrade: Option<HeaderValue>,
    orders: Option<Box<Orders>>,
}

impl Hops {
    fn length(&mut self, value: &[u8]) {
        self.lengths += 1;
        self.length = content_length(value);
    }

    fn note(&mut self, name: &HeaderName, value: HeaderValue) {
        match name.as_str() {
            "connection" => {
                for word in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    if word.eq_ignore_ascii_case(b"keep-alive") {
                        self.keep_alive = true;
                    } else if word.eq_ignore_ascii_case(b"close") {
                        self.close = true;
                    } else {
                        self.named.extend(hop::removable(word));
                    }
                }
            }
            "transfer-encoding" => {
                self.codings += 1;
                self.chunked = value.as_bytes().eq_ignore_ascii_case(b"chunked");
            }
            "upgrade" => self.upgrade = Some(value),
            _ if Orders::names(name) => self.orders.get_or_insert_default().note(name, value),
            _ => {}
        }
    }

    fn remove_named(&mut self, fields: &mut HeaderMap) {
        for name in self.named.drain(..) {
            fields.remove(name);
        }
    }

    fn persistent(&self, version: Version) -> bool {
        !self.close && (version == Version::HTTP_11 || self.keep_alive)
    }

    fn framing(&self, version: Version) -> Result<Framing, &'static str> {
        match (self.lengths, self.codings) {
            (0, 0) => Ok(Framing::UntilClose),
            (1, 0) => self.length.map(Framing::Length).ok_or("malformed Content-Length"),
            (0, 1) if version == Version::HTTP_10 => Err("Transfer-Encoding in HTTP/1.0"),
            (0, 1) if self.chunked => Ok(Framing::Chunked),
            (0, _) => Err("Transfer-Encoding is not one `chunked`"),
            (_, 0) => Err("repeated Content-Length"),
            _ => Err("both Content-Length and Transfer-Encoding"),
        }
    }
}

/// A Content-Length: 1 to 19 digits.
pub fn content_length(value: &[u8]) -> Option<u64> {
    if !matches!(value.len(), 1..=19) || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
