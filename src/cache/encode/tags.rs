//! Entity tags of what sidegate codes (RFC 9110 §8.8.3). Pure.
//!
//! 1. A coded answer is another representation than the app's, and its bytes may differ from one time to the next: its
//!    tag is weak, and marked with the coding. Of `"x"` becomes `W/"x;sg=br"`, of `W/"x"` becomes `W/"x;sg=w.br"`. A tag
//!    that is malformed goes.
//! 2. What the client says in `If-None-Match` and `If-Match` is put to the app in the app's own words: a marked tag is
//!    the one it was made of.
//! 3. The app's 304 then names the copy that the client has, if what it names is the tag that a marked one was made of.
//!
//! # Why
//! An app that compares tags as text, as many do, would never know a weakened one again: each validation would be a whole
//! answer. A client that got a weak tag could never write under `If-Match`, which compares strongly. And with one tag for all
//! codings a 304 would not say which of the stored responses it is about.

use http::header::{ETAG, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue};
use memchr::memmem;

use crate::cache::Coding;

/// Before the coding, within the quotes.
const MARK: &[u8] = b";sg=";
/// Before the coding: the app's own tag was weak.
const WEAK: &[u8] = b"w.";

/// An entity tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tag<'a> {
    weak: bool,
    opaque: &'a [u8],
}

impl<'a> Tag<'a> {
    /// `None`: it is malformed.
    fn of(text: &'a [u8]) -> Option<Self> {
        let (weak, quoted) = match text.strip_prefix(b"W/") {
            Some(quoted) => (true, quoted),
            None => (false, text),
        };
        let opaque = quoted.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        (!opaque.contains(&b'"')).then_some(Self { weak, opaque })
    }

    /// The tag that this one was made of, if we made it.
    fn origin(self) -> Option<Self> {
        let at = memmem::rfind(self.opaque, MARK).filter(|_| self.weak)?;
        let (opaque, mark) = (&self.opaque[..at], &self.opaque[at + MARK.len()..]);
        let (weak, coding) = match mark.strip_prefix(WEAK) {
            Some(coding) => (true, coding),
            None => (false, mark),
        };
        Coding::ALL.iter().any(|known| known.token().as_bytes() == coding).then_some(Self { weak, opaque })
    }

    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(if self.weak { b"W/\"" } else { b"\"" });
        out.extend_from_slice(self.opaque);
        out.push(b'"');
    }
}

/// Marks the tag of an answer that is sent in `coding`.
pub(super) fn mark(answer: &mut HeaderMap, coding: Coding) {
    let Some(value) = answer.remove(ETAG) else { return };
    let Some(tag) = Tag::of(value.as_bytes()) else { return };
    let weak = if tag.weak { WEAK } else { b"" };
    let marked = [b"W/\"", tag.opaque, MARK, weak, coding.token().as_bytes(), b"\""].concat();
    if let Ok(marked) = HeaderValue::from_bytes(&marked) {
        answer.insert(ETAG, marked);
    }
}

/// Whether a tag is a marked one.
pub(super) fn is_marked(value: &HeaderValue) -> bool {
    Tag::of(value.as_bytes().trim_ascii()).and_then(Tag::origin).is_some()
}

/// The marked tags that a client has asked with, and what the app was asked instead.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// What each was made of, within the quotes, and the tag itself.
    marked: Vec<(Vec<u8>, HeaderValue)>,
    /// The others, within the quotes.
    plain: Vec<Vec<u8>>,
}

/// Puts the conditions of a request in the app's words (rule 2).
pub(super) fn unmark(request: &mut HeaderMap) -> Asked {
    let mut asked = Asked::default();
    for name in [IF_NONE_MATCH, IF_MATCH] {
        let mut lines = request.get_all(&name).iter();
        if lines.all(|line| memmem::find(line.as_bytes(), MARK).is_none()) {
            continue;
        }
        let Some(list) = unmarked_list(request.get_all(&name).iter(), &mut asked) else { continue };
        if let Ok(list) = HeaderValue::from_bytes(&list) {
            request.insert(name, list);
        }
    }
    asked
}

/// `None`: it is malformed, and stays as it is.
fn unmarked_list<'a>(lines: impl Iterator<Item = &'a HeaderValue>, asked: &mut Asked) -> Option<Vec<u8>> {
    let mut list = Vec::new();
    for line in lines {
        let mut rest = line.as_bytes();
        loop {
            while let [b',' | b' ' | b'\t', after @ ..] = rest {
                rest = after;
            }
            if rest.is_empty() {
                break;
            }
            let start = memchr::memchr(b'"', rest)? + 1;
            let end = start + memchr::memchr(b'"', &rest[start..])? + 1;
            let (text, after) = rest.split_at(end);
            let tag = Tag::of(text)?;
            if !list.is_empty() {
                list.extend_from_slice(b", ");
            }
            match tag.origin() {
                Some(origin) => {
                    origin.write(&mut list);
                    asked.marked.push((origin.opaque.to_vec(), HeaderValue::from_bytes(text).ok()?));
                }
                None => {
                    tag.write(&mut list);
                    asked.plain.push(tag.opaque.to_vec());
                }
            }
            rest = after;
        }
    }
    Some(list)
}

impl Asked {
    /// Puts the tag of the app's 304 in the client's words (rule 3).
    pub(super) fn answered(&self, not_modified: &mut HeaderMap) {
        if self.marked.is_empty() {
            return;
        }
        let Some(tag) = not_modified.get(ETAG).and_then(|value| Tag::of(value.as_bytes())) else { return };
        let is_it = |opaque: &Vec<u8>| *opaque == tag.opaque;
        if self.plain.iter().any(is_it) {
            return;
        }
        if let Some((_, marked)) = self.marked.iter().find(|(opaque, _)| is_it(opaque)) {
            let marked = marked.clone();
            not_modified.insert(ETAG, marked);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;

    fn head(name: HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn a_coded_answer_has_a_weak_tag_of_its_own() {
        for (app, coding, marked) in [
            ("\"x\"", Coding::Brotli, Some("W/\"x;sg=br\"")),
            ("W/\"x\"", Coding::Gzip, Some("W/\"x;sg=w.gzip\"")),
            ("\"\"", Coding::Zstd, Some("W/\";sg=zstd\"")),
            ("\"a,;sg=br\"", Coding::Brotli, Some("W/\"a,;sg=br;sg=br\"")),
            ("x", Coding::Brotli, None),
            ("\"", Coding::Brotli, None),
            ("W/x", Coding::Brotli, None),
            ("\"a\"b\"", Coding::Brotli, None),
        ] {
            let mut answer = head(ETAG, app);
            mark(&mut answer, coding);
            assert_eq!(answer.get(ETAG).map(HeaderValue::as_bytes), marked.map(str::as_bytes), "{app}");
            assert_eq!(answer.get(ETAG).is_some_and(is_marked), marked.is_some());
        }
    }

    #[test]
    fn the_app_is_asked_in_its_own_words_and_the_client_answered_in_its_own() {
        for (client, app, named, answered) in [
            ("W/\"x;sg=br\"", "\"x\"", "\"x\"", "W/\"x;sg=br\""),
            ("W/\"x;sg=w.br\"", "W/\"x\"", "W/\"x\"", "W/\"x;sg=w.br\""),
            // An app that weakens what it sent as strong.
            ("W/\"x;sg=br\"", "\"x\"", "W/\"x\"", "W/\"x;sg=br\""),
            ("\"y\",W/\"x;sg=gzip\"", "\"y\", \"x\"", "\"x\"", "W/\"x;sg=gzip\""),
            ("\"y\",W/\"x;sg=gzip\"", "\"y\", \"x\"", "\"y\"", "\"y\""),
            ("\"x\", W/\"x;sg=br\"", "\"x\", \"x\"", "\"x\"", "\"x\""),
            ("\"a, b\", W/\"c, d;sg=br\"", "\"a, b\", \"c, d\"", "\"c, d\"", "W/\"c, d;sg=br\""),
            // None of ours.
            ("W/\"x;sg=lz4\", \"x;sg=br\"", "W/\"x;sg=lz4\", \"x;sg=br\"", "\"x\"", "\"x\""),
            ("*", "*", "\"x\"", "\"x\""),
            ("W/\"x;sg=br\", y", "W/\"x;sg=br\", y", "\"z\"", "\"z\""),
        ] {
            for name in [IF_NONE_MATCH, IF_MATCH] {
                let mut request = head(name.clone(), client);
                let asked = unmark(&mut request);
                assert_eq!(request, head(name, app), "{client}");
                let mut answer = head(ETAG, named);
                asked.answered(&mut answer);
                assert_eq!(answer, head(ETAG, answered), "{client} {named}");
            }
        }
    }

    #[test]
    fn several_lines_are_one_list() {
        let mut request = head(IF_NONE_MATCH, "W/\"x;sg=br\"");
        request.append(IF_NONE_MATCH, HeaderValue::from_static("\"y\""));
        unmark(&mut request);
        assert_eq!(request, head(IF_NONE_MATCH, "\"x\", \"y\""));
    }
}
