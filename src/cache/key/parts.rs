//! What is in the key besides the URI: `key` of the policy, and the content of a POST that is a read. Pure.
//!
//! 1. A field: all its lines, in their order, byte for byte; none is not an empty one.
//! 2. The principal: the session's name, the user, and the attributes that the configuration names, for by these the app
//!    is told who asks. Nobody is a key of its own, in which nobody's own responses are.
//! 3. `Authorization` is in the key beside a principal that something else has named: the app may go by it.
//! 4. The content of a POST: its SHA-256, and `Content-Type`.
//!
//! # Why
//! All of it is one SHA-256: a key may be told (`Cache-Status`, logs), and these may be secrets; and field values are bytes
//! that no text holds. Each part and each text in it is preceded by its length, so that no two lists of parts read the
//! same.

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName};
use sha2::{Digest as _, Sha256};

use super::Besides;
use crate::cache::KeyPart;
use crate::cache::rules::vary::Digest;
use crate::exchange::Principal;

/// The digest of all parts; `None`: there are none.
pub(super) fn digest(besides: &Besides<'_>, head: &HeaderMap) -> Option<Digest> {
    if besides.keying.by.is_empty() && besides.posted.is_none() {
        return None;
    }
    let mut parts = Parts(Sha256::new());
    for part in &besides.keying.by {
        match part {
            KeyPart::Field(name) => parts.field(name, head),
            KeyPart::Principal => parts.principal(besides, head),
        }
    }
    if let Some(content) = besides.posted {
        parts.text("content");
        parts.field(&CONTENT_TYPE, head);
        parts.text(content);
    }
    Some(parts.0.finalize().into())
}

struct Parts(Sha256);

impl Parts {
    fn text(&mut self, text: impl AsRef<[u8]>) {
        self.count(text.as_ref().len());
        self.0.update(text);
    }

    fn count(&mut self, count: usize) {
        self.0.update((count as u64).to_le_bytes());
    }

    fn field(&mut self, name: &HeaderName, head: &HeaderMap) {
        let lines = head.get_all(name);
        self.text("field");
        self.text(name.as_str());
        self.count(lines.iter().count());
        lines.iter().for_each(|line| self.text(line));
    }

    fn principal(&mut self, besides: &Besides<'_>, head: &HeaderMap) {
        let Some(Principal { session, user, attributes, .. }) = besides.principal else { return self.text("nobody") };
        self.text("principal");
        self.text(&**session);
        self.text(user);
        self.count(attributes.len());
        for (name, value) in attributes {
            self.text(name);
            self.text(value);
        }
        if !(besides.bearer_first && is_one_bearer(head)) {
            self.field(&AUTHORIZATION, head);
        }
    }
}

/// Whether `Authorization` is what a session that looks there first has been found in (RFC 6750 §2.1).
fn is_one_bearer(head: &HeaderMap) -> bool {
    const SCHEME: &[u8] = b"bearer ";
    let mut lines = head.get_all(AUTHORIZATION).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return false };
    line.as_bytes().get(..SCHEME.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(SCHEME))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::cache::Keying;
    use http::HeaderValue;

    const FIELDS: [HeaderName; 2] = [HeaderName::from_static("x-a"), HeaderName::from_static("x-b")];

    fn keying(by: Vec<KeyPart>) -> Keying {
        Keying { by, ..Keying::default() }
    }

    fn head(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut head = HeaderMap::new();
        for (name, value) in lines {
            head.append(*name, HeaderValue::from_static(value));
        }
        head
    }

    fn principal(session: &str, user: &str, attributes: &[(&str, &str)]) -> Principal {
        Principal {
            session: session.into(),
            user: user.into(),
            session_digest: "d".into(),
            session_key: "k".into(),
            attributes: attributes.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        }
    }

    /// Fails unless each has a digest of its own.
    fn all_differ<T: std::fmt::Debug>(requests: impl IntoIterator<Item = T>, digest: impl Fn(&T) -> Option<Digest>) {
        let mut seen = HashMap::new();
        for request in requests {
            let digest = digest(&request).expect("parts");
            if let Some(other) = seen.insert(digest, format!("{request:?}")) {
                panic!("{other} and {request:?} share a key");
            }
        }
    }

    #[test]
    fn what_the_key_does_not_name_is_not_in_it() {
        let (none, some) = (keying(vec![]), keying(vec![KeyPart::Field(FIELDS[0].clone())]));
        assert_eq!(digest(&Besides::of(&none), &head(&[("x-a", "1")])), None);
        let with = |lines| digest(&Besides::of(&some), &head(lines));
        assert_eq!(with(&[("x-a", "1"), ("x-b", "2")]), with(&[("x-a", "1")]));
    }

    #[test]
    fn no_two_lists_of_fields_read_the_same() {
        let keying = keying(FIELDS.map(KeyPart::Field).to_vec());
        let requests: [&[(&'static str, &'static str)]; 10] = [
            &[],
            &[("x-a", "")],
            &[("x-b", "")],
            &[("x-a", ""), ("x-a", "")],
            &[("x-a", "1, 2")],
            &[("x-a", "1"), ("x-a", "2")],
            &[("x-a", "2"), ("x-a", "1")],
            &[("x-a", "1,2")],
            &[("x-a", "1"), ("x-b", "2")],
            &[("x-b", "12")],
        ];
        all_differ(requests, |lines| digest(&Besides::of(&keying), &head(lines)));
        let one_less = super::tests::keying(vec![KeyPart::Field(FIELDS[0].clone())]);
        assert_ne!(digest(&Besides::of(&keying), &head(&[])), digest(&Besides::of(&one_less), &head(&[])));
    }

    #[test]
    fn everybody_has_a_key_of_his_own_and_nobody_too() {
        let keying = keying(vec![KeyPart::Principal]);
        let people = [
            None,
            Some(principal("web", "7", &[])),
            Some(principal("web", "", &[])),
            Some(principal("we", "b7", &[])),
            Some(principal("api", "7", &[])),
            Some(principal("web", "7", &[("role", "admin")])),
            Some(principal("web", "7", &[("role", "")])),
        ];
        let of = |who: &Option<Principal>, lines: &[(&'static str, &'static str)], bearer_first| {
            let besides = Besides { principal: who.as_ref(), bearer_first, ..Besides::of(&keying) };
            digest(&besides, &head(lines))
        };
        all_differ(&people, |who| of(who, &[], false));
        // Another session of the same user is the same user.
        let alice = Some(principal("web", "7", &[]));
        let elsewhere = alice.clone().map(|alice| Principal { session_key: "other".into(), ..alice });
        assert_eq!(of(&alice, &[], false), of(&elsewhere, &[], false));
        let (one, two) = ([("authorization", "Bearer one")], [("authorization", "bearer two")]);
        assert_eq!(of(&alice, &one, true), of(&alice, &two, true), "the session's own");
        assert_ne!(of(&alice, &one, false), of(&alice, &two, false), "beside a session that a cookie has named");
        let foreign = [("authorization", "Basic one")];
        assert_ne!(of(&alice, &foreign, true), of(&alice, &[("authorization", "Basic two")], true));
        let both = [one[0], foreign[0]];
        assert_ne!(of(&alice, &both, true), of(&alice, &one, true));
    }

    #[test]
    fn posts_are_told_apart_by_content_and_its_type_and_from_get() {
        let keying = keying(vec![]);
        let contents: [(Digest, &[(&'static str, &'static str)]); 4] = [
            ([1; 32], &[]),
            ([2; 32], &[]),
            ([1; 32], &[("content-type", "application/json")]),
            ([1; 32], &[("content-type", "text/plain")]),
        ];
        all_differ(contents, |(content, lines)| {
            digest(&Besides { posted: Some(content), ..Besides::of(&keying) }, &head(lines))
        });
        assert_eq!(digest(&Besides::of(&keying), &head(&[])), None);
    }
}
