//! Which coding an answer is sent in (RFC 9110 §12.5.3). Pure.
//!
//! 1. Of the codings that we offer and the client accepts, the one of the greatest weight; of equals, the one offered
//!    first.
//! 2. None (*identity*) where the client says nothing, accepts none of ours, or weighs identity higher.
//! 3. A request for a part (`Range`) gets parts of the content as the app has it: identity, if that is acceptable.
//!    Unless it continues content that we coded (`If-Range` with a tag of ours): bytes of that cannot be had again, so it
//!    is asked for as a whole (§13.1.5, §14.2).
//! 4. The request then asks for just that: `Accept-Encoding` is one word, so that there is one variant for each coding,
//!    and the app may send content that it has in that coding already.
//! 5. A client that refuses identity and every coding of ours is the app's to answer: its field goes on as it came.
//!
//! # Why
//! Browsers differ in what they accept, not in what they would be sent: `gzip, deflate, br`, `br;q=1.0, gzip;q=0.8` and
//! two dozen more are the same answer. Stored under the fields as sent, it would be stored two dozen times.

use http::header::{ACCEPT_ENCODING, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderValue};

use super::tags;
use crate::cache::Coding;

/// What the client is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// This coding.
    Coded(Coding),
    /// The content as it is.
    Identity,
    /// Neither is acceptable (rule 5).
    Unknown,
}

/// Makes the request ask for what its client is to be sent, and tells it.
pub(super) fn settle(request: &mut HeaderMap, offers: &[Coding]) {
    let weights = Weights::of(request);
    let mut wanted = weights.choice(offers);
    if request.contains_key(RANGE) {
        if request.get(IF_RANGE).is_some_and(tags::is_marked) {
            request.remove(RANGE);
            request.remove(IF_RANGE);
        } else if weights.identity() > 0 {
            wanted = Wanted::Identity;
        }
    }
    let word = match wanted {
        Wanted::Coded(coding) => coding.token(),
        Wanted::Identity => "identity",
        Wanted::Unknown => return,
    };
    request.insert(ACCEPT_ENCODING, HeaderValue::from_static(word));
}

/// What a request asks for that has been settled.
pub(super) fn settled(request: &HeaderMap) -> Wanted {
    match request.get(ACCEPT_ENCODING).map(HeaderValue::as_bytes) {
        Some(b"identity") => Wanted::Identity,
        Some(word) => Coding::of_token(word).map_or(Wanted::Unknown, Wanted::Coded),
        None => Wanted::Unknown,
    }
}

/// What the client gives to each coding, in thousandths.
#[derive(Default)]
struct Weights {
    /// In the order of [`Coding::ALL`].
    codings: [Option<u16>; Coding::ALL.len()],
    identity: Option<u16>,
    any: Option<u16>,
}

impl Weights {
    fn of(request: &HeaderMap) -> Self {
        let mut weights = Self::default();
        for member in request.get_all(ACCEPT_ENCODING).iter().flat_map(|line| line.as_bytes().split(|b| *b == b',')) {
            let mut parts = member.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let name = parts.next().unwrap_or_default();
            // A weight that is none makes the coding unacceptable, rather than the best.
            let weight = parts.next().map_or(1000, |parameter| weight(parameter).unwrap_or(0));
            let place = if name.eq_ignore_ascii_case(b"identity") {
                &mut weights.identity
            } else if name == b"*" {
                &mut weights.any
            } else if let Some(coding) = Coding::of_token(name) {
                &mut weights.codings[coding as usize]
            } else {
                continue;
            };
            place.get_or_insert(weight);
        }
        weights
    }

    /// Acceptable unless it is refused, by name or with all others.
    fn identity(&self) -> u16 {
        self.identity.or(self.any.filter(|any| *any == 0)).unwrap_or(1)
    }

    fn choice(&self, offers: &[Coding]) -> Wanted {
        let weight = |coding: Coding| self.codings[coding as usize].or(self.any).unwrap_or(0);
        // Of equals `max_by_key` takes the last.
        let best = offers.iter().rev().copied().max_by_key(|coding| weight(*coding));
        match best.filter(|coding| weight(*coding) > 0 && weight(*coding) >= self.identity()) {
            Some(coding) => Wanted::Coded(coding),
            None if self.identity() > 0 => Wanted::Identity,
            None => Wanted::Unknown,
        }
    }
}

/// `q=0.8` (RFC 9110 §12.4.2).
fn weight(parameter: &[u8]) -> Option<u16> {
    let value = parameter.strip_prefix(b"q=").or_else(|| parameter.strip_prefix(b"Q="))?;
    let (whole, rest) = value.split_first()?;
    let digits = match rest {
        [] => rest,
        [b'.', digits @ ..] if digits.len() <= 3 => digits,
        _ => return None,
    };
    let mut thousandths = 0;
    for index in 0..3 {
        let digit = digits.get(index).copied().unwrap_or(b'0');
        thousandths = thousandths * 10 + u16::from(char::from(digit).to_digit(10)? as u8);
    }
    match whole {
        b'0' => Some(thousandths),
        b'1' if thousandths == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::head_of as head;

    const ALL: [Coding; 3] = [Coding::Brotli, Coding::Zstd, Coding::Gzip];

    #[test]
    fn the_best_coding_that_both_sides_know_is_asked_for() {
        for (accepted, offers, asked) in [
            ("gzip, deflate, br, zstd", &ALL[..], "br"),
            ("gzip, deflate", &ALL, "gzip"),
            ("gzip, deflate, br", &ALL[1..], "gzip"),
            ("GZIP", &ALL, "gzip"),
            ("x-gzip", &ALL, "gzip"),
            ("br;q=0.1, gzip;q=0.2", &ALL, "gzip"),
            ("br ; q=1.000 ,gzip;q=1", &ALL, "br"),
            ("*", &ALL, "br"),
            ("*, br;q=0", &ALL, "zstd"),
            ("br;q=0, *;q=0.5", &ALL, "zstd"),
            ("", &ALL, "identity"),
            ("deflate", &ALL, "identity"),
            ("br;q=0", &ALL, "identity"),
            ("br;q=0.0001", &ALL, "identity"),
            ("br;q=2", &ALL, "identity"),
            ("br;level=9", &ALL, "identity"),
            ("identity, br;q=0.9", &ALL, "identity"),
            ("identity;q=0.5, br", &ALL, "br"),
            ("identity;q=1, *;q=0", &ALL, "identity"),
            ("br;q=0.001", &ALL, "br"),
            ("identity;q=0, gzip;q=0.1", &ALL, "gzip"),
        ] {
            let mut request = head(&[("accept-encoding", accepted)]);
            settle(&mut request, offers);
            assert_eq!(request.get(ACCEPT_ENCODING).unwrap(), asked, "{accepted}");
            assert_eq!(request.get_all(ACCEPT_ENCODING).iter().count(), 1);
            let expected = Coding::of_token(asked.as_bytes()).map_or(Wanted::Identity, Wanted::Coded);
            assert_eq!(settled(&request), expected);
        }
    }

    #[test]
    fn several_lines_are_one_list_and_no_line_asks_for_identity() {
        let mut request = head(&[("accept-encoding", "gzip;q=0.5"), ("accept-encoding", "zstd")]);
        settle(&mut request, &ALL);
        assert_eq!(request, head(&[("accept-encoding", "zstd")]));
        let mut request = head(&[]);
        settle(&mut request, &ALL);
        assert_eq!(request, head(&[("accept-encoding", "identity")]));
    }

    #[test]
    fn who_refuses_everything_is_left_to_the_app() {
        for refusing in ["deflate, identity;q=0", "*;q=0", "compress, *;q=0"] {
            let mut request = head(&[("accept-encoding", refusing)]);
            settle(&mut request, &ALL);
            assert_eq!(request, head(&[("accept-encoding", refusing)]));
            assert_eq!(settled(&request), Wanted::Unknown);
        }
    }

    #[test]
    fn a_part_is_one_of_the_content_as_the_app_has_it() {
        let mut request = head(&[("accept-encoding", "br"), ("range", "bytes=5-"), ("if-range", "\"x\"")]);
        settle(&mut request, &ALL);
        assert_eq!(request, head(&[("accept-encoding", "identity"), ("range", "bytes=5-"), ("if-range", "\"x\"")]));
        let mut request = head(&[("accept-encoding", "br, identity;q=0"), ("range", "bytes=5-")]);
        settle(&mut request, &ALL);
        assert_eq!(request, head(&[("accept-encoding", "br"), ("range", "bytes=5-")]));
    }

    #[test]
    fn coded_content_is_not_continued() {
        let mut request = head(&[("accept-encoding", "br"), ("range", "bytes=5-"), ("if-range", "W/\"x;sg=br\"")]);
        settle(&mut request, &ALL);
        assert_eq!(request, head(&[("accept-encoding", "br")]));
    }
}
