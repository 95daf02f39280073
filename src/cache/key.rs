//! Which stored response a request asks for (RFC 9111 §2, §4).
//!
//! 1. The *primary key* is the target URI, whatever the method: scheme, authority (lower case, without its default
//!    port), path and query as sent. Nothing else is made equal: two requests that the app could tell apart by their
//!    URI never share a key.
//! 2. Its *place* is authority and path, the path in its canonical form ([`canonical`]), in lower case and without a slash
//!    at its end: some apps tell no case, and routes no slash.
//!    What a write invalidates is a place: in all its queries, variants, schemes and spellings.
//! 3. Where apps may read a path as one of another place, it is not stored (`;`, `%2F`, a backslash …): a write to the
//!    other place would not find it. A write by such a path invalidates all the places that it may be read as.
//! 4. A URI of more than [`MAX_LENGTH`] bytes has no key.
//! 5. By configuration parts of the query are left out, or sorted (`query`), and other facts about the request are in
//!    the key besides (`parts`): fields, who is logged in, the content of a POST that is a read (`posted`). The place is
//!    the same with all of them: a write takes back what is stored there for everybody.
//! 6. So are the policy's settings that decide for whom answers are stored, where they are not the defaults (`apart`): what
//!    was stored under others is never found.
//!
//! # Why
//! The text of a key is `AUTHORITY PATH ?QUERY`, a space, and the scheme: the place of a path that is canonical is then
//! the start of it, and one allocation serves both. Where other facts are in it, a space, `by=` and their digest follow; and
//! for the settings a space, `as=` and theirs.
//! No part can hold a space, so no two of them read the same. Rule 2 is
//! not symmetrical to rule 1 because its mistakes are not: to take back too much costs a miss.

use std::borrow::Cow;
use std::cell::OnceCell;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::header::HOST;
use http::{HeaderMap, Uri};
use sha2::{Digest as _, Sha256};

use super::Keying;
use super::rules::vary::Digest;
use crate::exchange::{Principal, Scheme};
use crate::route::canonical::{Canonical, canonical};
use crate::route::case::folded;
use crate::route::readings::readings;

mod apart;
mod parts;
pub(super) mod posted;
mod query;

pub(super) use apart::apart;

/// Bytes of a URI that has a key.
pub const MAX_LENGTH: usize = 4096;

/// A primary key. Two with the same text are the same: the rest follows from it.
#[derive(Clone, Debug)]
pub struct Key {
    text: String,
    authority: usize,
    place: usize,
    /// The place, where the path as sent is not canonical.
    canonical: Option<String>,
    /// Apps may read the path as one of another place (rule 3).
    ambiguous: bool,
    /// Of the text, once somebody has asked: a miss does so several times.
    digest: OnceCell<Digest>,
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Key {}

/// What may be in a key besides the URI.
#[derive(Clone, Copy, Debug)]
pub struct Besides<'a> {
    /// What of it is.
    pub keying: &'a Keying,
    /// Who is logged in.
    pub principal: Option<&'a Principal>,
    /// A session is looked for in `Authorization` before anywhere else.
    pub bearer_first: bool,
    /// SHA-256 of the content, of a POST that is a read.
    pub posted: Option<&'a Digest>,
    /// What sets the policy apart from others (rule 6).
    pub apart: Option<&'a str>,
}

impl<'a> Besides<'a> {
    /// Of a GET by nobody.
    pub fn of(keying: &'a Keying) -> Self {
        Self { keying, principal: None, bearer_first: false, posted: None, apart: None }
    }
}

impl Key {
    /// The key of a read under a policy (rules 5 and 6).
    ///
    /// # Errors
    /// As [`Key::of`].
    pub fn of_read(scheme: Scheme, uri: &Uri, head: &HeaderMap, besides: &Besides<'_>) -> Result<Self, &'static str> {
        let query = uri.query().filter(|query| query.len() <= MAX_LENGTH);
        if query.is_none() && uri.query().is_some() {
            return Err("uri-too-long");
        }
        let query = query.and_then(|query| query::kept(query, &besides.keying.query));
        let mut key = Self::with_query(scheme, uri, query.as_deref(), head)?;
        if let Some(digest) = parts::digest(besides, head) {
            key.text.push_str(" by=");
            BASE64_URL_SAFE_NO_PAD.encode_string(digest, &mut key.text);
        }
        if let Some(apart) = besides.apart {
            key.text.extend([" as=", apart]);
        }
        Ok(key)
    }

    /// The key of a request; the authority of its target wins over its `Host` (RFC 9112 §3.2.2).
    ///
    /// # Errors
    /// A word that says why it has none.
    pub fn of(scheme: Scheme, uri: &Uri, head: &HeaderMap) -> Result<Self, &'static str> {
        Self::with_query(scheme, uri, uri.query(), head)
    }

    /// The key of the same place without a query: whatever a write's query is, its place has a key.
    ///
    /// # Errors
    /// As [`Key::of`].
    pub fn of_place(scheme: Scheme, uri: &Uri, head: &HeaderMap) -> Result<Self, &'static str> {
        Self::with_query(scheme, uri, None, head)
    }

    fn with_query(scheme: Scheme, uri: &Uri, query: Option<&str>, head: &HeaderMap) -> Result<Self, &'static str> {
        let authority = match uri.authority() {
            Some(authority) => authority.as_str(),
            None => head.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default(),
        };
        let authority = without_default_port(authority, scheme);
        if authority.is_empty() || authority.bytes().any(|byte| matches!(byte, b' ' | b'/' | b'?')) {
            return Err("no-authority");
        }
        let path = if uri.path().is_empty() { "/" } else { uri.path() };
        let length = authority.len() + path.len() + query.map_or(0, |query| query.len() + 1);
        if length > MAX_LENGTH {
            return Err("uri-too-long");
        }
        let mut text = String::with_capacity(length + " https".len());
        text.push_str(authority);
        text.make_ascii_lowercase();
        text.push_str(path);
        let place = text.len();
        if let Some(query) = query {
            text.push('?');
            text.push_str(query);
        }
        text.push(' ');
        text.push_str(scheme.as_str());
        let (authority, Canonical { path: canonical, ambiguity }) = (authority.len(), canonical(path));
        let canonical = place_of(canonical);
        let canonical = (*canonical != *path).then(|| [&text[..authority], &canonical].concat());
        Ok(Self { text, authority, place, canonical, ambiguous: ambiguity.is_some(), digest: OnceCell::new() })
    }

    /// The whole of it: the same only for the same target URI, and the same of what else is in it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Authority and canonical path.
    pub fn place(&self) -> &str {
        self.canonical.as_deref().unwrap_or(&self.text[..self.place])
    }

    /// The authority.
    pub fn authority(&self) -> &str {
        &self.text[..self.authority]
    }

    /// The place of another path of the same authority.
    pub fn place_of(&self, path: &str) -> String {
        [self.authority(), &*place_path(path)].concat()
    }

    /// The places that apps may read `path` as, its own among them; `None` if they cannot be listed. `slash_is_text`: the
    /// app takes `%2F` for text.
    pub fn places_of(&self, path: &str, slash_is_text: bool) -> Option<Vec<String>> {
        if canonical(path).ambiguity.is_none() {
            return Some(vec![self.place_of(path)]);
        }
        let mut places: Vec<_> = readings(path, slash_is_text)?.iter().map(|path| self.place_of(path)).collect();
        places.push(self.place_of(path));
        places.sort_unstable();
        places.dedup();
        Some(places)
    }

    /// Whether no app reads its path as one of another place (rule 3).
    pub fn is_of_one_place(&self, slash_is_text: bool) -> bool {
        let path = &self.text[self.authority..self.place];
        !self.ambiguous || self.places_of(path, slash_is_text).is_some_and(|places| places.len() == 1)
    }

    /// SHA-256 of its text.
    pub fn digest(&self) -> Digest {
        *self.digest.get_or_init(|| Sha256::digest(&self.text).into())
    }
}

/// The path of a place (rule 2).
pub(super) fn place_path(path: &str) -> Cow<'_, str> {
    place_of(canonical(path).path)
}

/// The same, of a path in canonical form.
fn place_of(path: Cow<'_, str>) -> Cow<'_, str> {
    let bare = |path: &str| if path.len() > 1 && path.ends_with('/') { path.len() - 1 } else { path.len() };
    match path {
        Cow::Borrowed(path) => folded(&path[..bare(path)]),
        Cow::Owned(path) => folded(&path[..bare(&path)]).into_owned().into(),
    }
}

/// An authority without the port that its scheme has anyway, and without a colon before none.
pub(super) fn without_default_port(authority: &str, scheme: Scheme) -> &str {
    let port = match scheme {
        Scheme::Http => ":80",
        Scheme::Https => ":443",
    };
    authority.strip_suffix(port).or_else(|| authority.strip_suffix(':')).unwrap_or(authority)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn key(scheme: Scheme, uri: &str, host: &'static str) -> Result<Key, &'static str> {
        let head = HeaderMap::from_iter([(HOST, HeaderValue::from_static(host))]);
        Key::of(scheme, &uri.parse().unwrap(), &head)
    }

    #[test]
    fn the_key_is_the_target_uri() {
        use Scheme::*;
        for (scheme, uri, host, text, place) in [
            (Http, "/a?b=1", "Example.COM", "example.com/a?b=1 http", "example.com/a"),
            (Http, "/a?", "example.com:80", "example.com/a? http", "example.com/a"),
            (Https, "/A%2f/../b", "example.com:80", "example.com:80/A%2f/../b https", "example.com:80/b"),
            (Http, "/%7ea/caf%c3%a9?%7e", "a", "a/%7ea/caf%c3%a9?%7e http", "a/~a/caf%C3%A9"),
            (Https, "/", "[::1]:443", "[::1]/ https", "[::1]/"),
            (Http, "/Users/A/?B", "a", "a/Users/A/?B http", "a/users/a"),
            (Http, "/", "[::1]", "[::1]/ http", "[::1]/"),
            (Http, "http://wins.com/x", "example.com", "wins.com/x http", "wins.com/x"),
            (Http, "http://wins.com", "example.com", "wins.com/ http", "wins.com/"),
        ] {
            let key = key(scheme, uri, host).unwrap();
            assert_eq!((key.text(), key.place()), (text, place));
        }
    }

    #[test]
    fn a_request_without_authority_or_with_an_endless_uri_has_no_key() {
        assert_eq!(key(Scheme::Http, "/", ""), Err("no-authority"));
        assert_eq!(key(Scheme::Http, "/", "a/b"), Err("no-authority"));
        assert_eq!(key(Scheme::Http, &format!("/{}", "a".repeat(MAX_LENGTH)), "a"), Err("uri-too-long"));
    }

    #[test]
    fn the_place_of_another_path_is_that_of_a_request_for_it() {
        let write = key(Scheme::Http, "/users/7", "Example.com:80").unwrap();
        assert_eq!(write.place_of("/users"), key(Scheme::Http, "//users/", "example.com").unwrap().place());
        assert_eq!(write.place_of("/~a@b"), key(Scheme::Http, "/%7Ea%40b", "example.com").unwrap().place());
        assert_eq!(write.place_of("/users"), key(Scheme::Http, "/users?page=2", "example.com").unwrap().place());
    }
}
