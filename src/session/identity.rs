//! The fields by which the app learns who is logged in, or who presented a certificate.
//!
//! 1. Before anything else looks at a request, every field that an app could take for one of them is removed: on all
//!    routes, those without a session too, and whichever session the name belongs to.
//! 2. Spelling does not matter: case, and every character that is neither letter nor digit, are alike.
//! 3. Values are visible ASCII and inner spaces; all other bytes of the UTF-8 text, and `%`, are percent-encoded, so that
//!    percent-decoding gives the text back.
//! 4. The alternative names of a certificate are a list with `,` between, each name encoded for itself, its own commas too.
//!
//! # Why
//! Rule 2: WSGI, Rack and PHP read `X_User_Id` and `X-User-Id` as one variable, some servers any punctuation.

use std::rc::Rc;

use http::{HeaderMap, HeaderName, HeaderValue};
use tower::Layer;

use super::Definition;
use crate::exchange::{self, CertificateFact, ClientCertificate, Exchange, Next, Principal, pass};

/// The identity fields of a configuration.
#[derive(Clone, Debug, Default)]
pub struct IdentityFields {
    names: Vec<HeaderName>,
    /// What the app is told of clients' certificates.
    certificate: Vec<(HeaderName, CertificateFact)>,
}

impl IdentityFields {
    /// From the names that all session definitions forward under.
    pub fn new(names: impl IntoIterator<Item = HeaderName>) -> Self {
        let mut names: Vec<HeaderName> = names.into_iter().collect();
        names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        Self { names, certificate: Vec::new() }
    }

    /// Also tells these facts of a client's certificate, under names that are identity fields too.
    #[must_use]
    pub fn telling(self, certificate: Vec<(HeaderName, CertificateFact)>) -> Self {
        let names = self.names.into_iter().chain(certificate.iter().map(|(name, _)| name.clone()));
        let names = Self::new(names).names;
        Self { names, certificate }
    }

    /// Removes what a client sent under these names, in any spelling. Costs nothing if there are no names.
    pub fn strip(&self, fields: &mut HeaderMap) {
        if self.names.is_empty() || !fields.keys().any(|name| self.names(name)) {
            return;
        }
        let spoofed: Vec<HeaderName> = fields.keys().filter(|name| self.names(name)).cloned().collect();
        for name in spoofed {
            fields.remove(name);
        }
    }

    /// Tells the app who presented this certificate. A fact that it lacks gives no field.
    fn tell(&self, certificate: &ClientCertificate, fields: &mut HeaderMap) {
        for (name, fact) in &self.certificate {
            let texts = fact.of(certificate);
            let value = match fact {
                CertificateFact::AlternativeNames => listed(texts),
                _ => texts.first().and_then(|text| encoded(text)),
            };
            if let Some(value) = value {
                fields.insert(name, value);
            }
        }
    }

    /// Whether an app could take `name` for one of these.
    pub fn names(&self, name: &HeaderName) -> bool {
        self.names.iter().any(|own| alike(own.as_str().as_bytes(), name.as_str().as_bytes()))
    }
}

/// Rule 2; field names are lower case already.
fn alike(own: &[u8], other: &[u8]) -> bool {
    let punctuation = |byte: u8| !byte.is_ascii_alphanumeric();
    own.len() == other.len() && own.iter().zip(other).all(|(a, b)| a == b || punctuation(*a) && punctuation(*b))
}

/// Takes spoofed identity fields out of every request (rule 1), and puts in what a client's certificate says: that is
/// known from the start, and the same on all routes. Stands before whatever reads fields by name.
pub fn strip_layer<S: Next>(identity: Rc<IdentityFields>) -> impl Layer<S, Service = impl Next> + Clone {
    exchange::layer(move |mut exchange: Box<Exchange>, next: S| {
        identity.strip(exchange.request.headers_mut());
        if let Some(certificate) = &exchange.connection.certificate {
            identity.tell(certificate, exchange.request.headers_mut());
        }
        pass(next, exchange)
    })
}

/// Tells the app who is logged in. An attribute that the record lacks gives no field.
pub(super) fn forward(definition: &Definition, principal: &Principal, fields: &mut HeaderMap) {
    for (name, path) in &definition.forward {
        if let Some(value) = principal.attribute(path).and_then(encoded) {
            fields.insert(name, value);
        }
    }
}

/// Rule 4.
fn listed(texts: &[String]) -> Option<HeaderValue> {
    let mut list = Vec::new();
    for text in texts {
        if !list.is_empty() {
            list.push(b',');
        }
        for &byte in encoded(text)?.as_bytes() {
            if byte == b',' { list.extend_from_slice(b"%2C") } else { list.push(byte) }
        }
    }
    (!list.is_empty()).then(|| HeaderValue::from_maybe_shared(bytes::Bytes::from(list)).ok())?
}

/// Rule 3.
fn encoded(text: &str) -> Option<HeaderValue> {
    let bytes = text.as_bytes();
    let last = bytes.len().saturating_sub(1);
    let plain = |at: usize, byte: u8| match byte {
        b'%' => false,
        b' ' => at > 0 && at < last,
        _ => byte.is_ascii_graphic(),
    };
    if bytes.iter().enumerate().all(|(at, byte)| plain(at, *byte)) {
        return HeaderValue::from_bytes(bytes).ok();
    }
    let mut out = Vec::with_capacity(bytes.len() * 2);
    for (at, &byte) in bytes.iter().enumerate() {
        if plain(at, byte) {
            out.push(byte);
        } else {
            let digit = |half: u8| b"0123456789ABCDEF"[usize::from(half & 15)];
            out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte)]);
        }
    }
    HeaderValue::from_maybe_shared(bytes::Bytes::from(out)).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn left(names: &[&'static str], sent: &[&'static str]) -> Vec<String> {
        let identity = IdentityFields::new(names.iter().map(|name| HeaderName::from_static(name)));
        let mut fields = HeaderMap::new();
        for name in sent {
            fields.append(*name, HeaderValue::from_static("spoofed"));
        }
        identity.strip(&mut fields);
        let mut left: Vec<String> = fields.keys().map(ToString::to_string).collect();
        left.sort();
        left
    }

    #[test]
    fn every_spelling_of_an_identity_field_is_removed_and_nothing_else() {
        let sent = ["x-user-id", "x-user-id", "x_user_id", "x-user_id", "x.user-id", "x-user-ids", "xuserid", "accept"];
        assert_eq!(left(&["x-user-id", "x-user-plan"], &sent), ["accept", "x-user-ids", "xuserid"]);
        assert_eq!(left(&[], &["x-user-id"]), ["x-user-id"]);
    }

    #[test]
    fn values_cannot_break_out_of_their_field() {
        let text = |text| encoded(text).unwrap().to_str().unwrap().to_owned();
        assert_eq!(text("alice smith"), "alice smith");
        assert_eq!(text("a\r\nX-Admin: 1"), "a%0D%0AX-Admin: 1");
        assert_eq!(text("Müller"), "M%C3%BCller");
        assert_eq!(text(" 100% "), "%20100%25%20");
        assert_eq!(text(""), "");
    }

    #[test]
    fn a_list_of_names_is_split_at_its_commas_and_nowhere_else() {
        let list = |texts: &[&str]| {
            let value = listed(&texts.iter().map(ToString::to_string).collect::<Vec<_>>());
            value.map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(list(&[]), None);
        assert_eq!(list(&["DNS:a", "URI:b,c", "URI:%"]).as_deref(), Some("DNS:a,URI:b%2Cc,URI:%25"));
    }

    proptest! {
        #[test]
        fn percent_decoding_gives_the_text_back(original in ".{0,40}") {
            let value = encoded(&original).unwrap();
            let (mut bytes, mut rest) = (Vec::new(), value.as_bytes());
            while let Some((&byte, after)) = rest.split_first() {
                if byte == b'%' {
                    bytes.push(u8::from_str_radix(std::str::from_utf8(&after[..2]).unwrap(), 16).unwrap());
                    rest = &after[2..];
                } else {
                    prop_assert!(byte == b' ' || byte.is_ascii_graphic());
                    bytes.push(byte);
                    rest = after;
                }
            }
            prop_assert_eq!(bytes, original.into_bytes());
        }
    }
}
