//! The fields by which the app learns who is logged in, or who presented a certificate.
//!
//! 1. Before anything else looks at a request, every field that an app could take for one of them is removed: on all
//!    routes, those without a session too, and whichever session the name belongs to. A signature is one of them.
//! 2. Spelling does not matter: case, and every character that is neither letter nor digit, are alike.
//! 3. How an attribute is written, and a list, is [`written`]'s to say; an attribute that the record lacks gives no field. [`USER`]
//!    is no attribute: it is whoever the record names, and never lacks.
//! 4. The alternative names of a certificate are a list, too. Of its other facts a comma is a character like any.
//! 5. A field that carries a credential (`header:NAME`) is no identity field: it is the client's to send. But what was verified here
//!    is what the app gets: nothing that the client says about its connection takes it away.
//! 6. By setting, a field vouches for the others ([`vouched`]). It is made as the request leaves, for it may hold the
//!    target that the app gets, and only of a login: what passes as nobody has none.
//!
//! # Why
//! Rule 2: WSGI, Rack and PHP read `X_User_Id` and `X-User-Id` as one variable, some servers any punctuation.

mod vouched;
mod written;

use std::rc::Rc;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, Request};
use tower::Layer;

use self::vouched::{Sent, Voucher};
use self::written::{listed, percent};
use super::settings::Encoding;
use super::{Carrier, Definition};
use crate::clock::Clock;
use crate::exchange::spelling::alike;
use crate::exchange::{self, CertificateFact, ClientCertificate, Exchange, Next, Orders, Principal, pass};

/// What a field of `forward` tells in the place of an attribute: whoever `user` found, under whichever of its paths.
pub const USER: &str = "@user";

/// The identity fields of a configuration.
#[derive(Clone, Debug, Default)]
pub struct IdentityFields {
    names: Vec<HeaderName>,
    /// What the app is told of clients' certificates.
    certificate: Vec<(HeaderName, CertificateFact)>,
    /// What carries a credential.
    carriers: Vec<HeaderName>,
    /// What vouches for them, of each session that wants it.
    vouchers: Rc<[Voucher]>,
    clock: Clock,
}

impl IdentityFields {
    /// From the names that all session definitions forward under.
    pub fn new(names: impl IntoIterator<Item = HeaderName>) -> Self {
        let mut names: Vec<HeaderName> = names.into_iter().collect();
        names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        Self { names, ..Self::default() }
    }

    /// Those of all `definitions`, their signatures too, and what an app orders of sessions by. `clock` tells when they are made.
    pub fn of<'a>(definitions: impl Iterator<Item = &'a Definition> + Clone, clock: Clock) -> Self {
        let told = definitions.clone().flat_map(|session| &session.forward).map(|(name, _)| name);
        let orders = definitions.clone().any(|session| session.issue.is_some()).then(Orders::fields);
        let names = told.chain(signatures(definitions.clone())).cloned().chain(orders.into_iter().flatten());
        let (mut vouchers, mut carriers): (Vec<Voucher>, _) = (Vec::new(), Vec::new());
        for definition in definitions {
            carriers.extend(definition.carriers.iter().filter_map(Carrier::field).cloned());
            // One session stands on many routes.
            if !vouchers.iter().any(|voucher| voucher.is_of(&definition.name)) {
                vouchers.extend(Voucher::of(definition));
            }
        }
        Self { carriers, vouchers: vouchers.into(), clock, ..Self::new(names) }
    }

    /// Also tells these facts of a client's certificate, under names that are identity fields too.
    #[must_use]
    pub fn telling(self, certificate: Vec<(HeaderName, CertificateFact)>) -> Self {
        let names = self.names.into_iter().chain(certificate.iter().map(|(name, _)| name.clone()));
        let names = Self::new(names).names;
        Self { names, certificate, ..self }
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
                CertificateFact::AlternativeNames => listed(Encoding::Percent, texts.iter().map(String::as_str)),
                _ => texts.first().and_then(|text| percent(text)),
            };
            if let Some(value) = value {
                fields.insert(name, value);
            }
        }
    }

    /// Vouches for what `request`, as it goes to the app, says of `principal` (rule 6).
    pub fn vouch<B>(&self, principal: &Principal, request: &mut Request<B>) {
        let Some(voucher) = self.vouchers.iter().find(|voucher| voucher.is_of(&principal.session)) else { return };
        let target = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
        let sent = Sent { method: request.method().as_str(), target, fields: request.headers() };
        let value = voucher.vouch(principal, &sent, self.clock.unix_seconds());
        if let Some(value) = value {
            request.headers_mut().insert(voucher.field(), value);
        }
    }

    /// Whether the app relies on `name` to say who asks: one of these, or what carries a credential (rule 5).
    pub fn relies_on(&self, name: &HeaderName) -> bool {
        self.carriers.contains(name) || self.names(name)
    }

    /// Whether an app could take `name` for one of these.
    pub fn names(&self, name: &HeaderName) -> bool {
        self.names.iter().any(|own| alike(own.as_str().as_bytes(), name.as_str().as_bytes()))
    }
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

/// Names of the fields that vouch for others. They are written as a request leaves: nothing before it can go by them.
pub fn signatures<'a>(
    definitions: impl Iterator<Item = &'a Definition> + Clone,
) -> impl Iterator<Item = &'a HeaderName> + Clone {
    definitions.filter_map(|session| session.identity.signature.as_ref()).map(|signature| &signature.field)
}

/// Tells the app who is logged in.
pub(super) fn forward(definition: &Definition, principal: &Principal, fields: &mut HeaderMap) {
    for (name, path) in &definition.forward {
        if let Some(value) = listed(definition.identity.encoding, texts(principal, path)) {
            fields.insert(name, value);
        }
    }
}

/// Whether the app is told something under a path of `forward`.
pub(super) fn is_told(encoding: Encoding, principal: &Principal, path: &str) -> bool {
    listed(encoding, texts(principal, path)).is_some()
}

/// What is told of `principal` under a path of `forward`.
pub(super) fn texts<'p>(principal: &'p Principal, path: &'p str) -> impl Iterator<Item = &'p str> {
    let is_user = path == USER;
    let user = is_user.then_some(principal.user.as_str());
    user.into_iter().chain(principal.texts(path).filter(move |_| !is_user))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

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
    fn a_signature_is_an_identity_field_that_nobody_else_can_send() {
        let field = HeaderName::from_static("x-signed");
        let secrets = super::super::Secrets::new(["secret".into()]);
        let ttl = std::time::Duration::from_secs(60);
        let signature = super::super::settings::Signature { field, kind: Default::default(), secrets, ttl };
        let mut definition = Definition::new("web", super::super::Format::Json);
        definition.forward = vec![(HeaderName::from_static("x-user-id"), "user_id".into())];
        definition.identity.signature = Some(signature);
        let identity = IdentityFields::of([&definition, &definition].into_iter(), Clock::System);
        for spelling in ["x-signed", "x_signed", "x.signed", "x-user_id"] {
            assert!(identity.names(&HeaderName::from_static(spelling)), "{spelling}");
        }
        assert!(!identity.names(&HeaderName::from_static("x-identity-signature")));
        assert_eq!(identity.vouchers.len(), 1);
    }

    #[test]
    fn what_carries_a_credential_is_relied_on_and_stays_the_clients_to_send() {
        let mut definition = Definition::new("web", super::super::Format::Json);
        let token = HeaderName::from_static("x-session-token");
        definition.carriers = vec![Carrier::Cookie("x-cookie".into()), Carrier::Header(token.clone())];
        let identity = IdentityFields::of([&definition].into_iter(), Clock::System);
        assert!(identity.relies_on(&token) && !identity.names(&token));
        assert!(!identity.relies_on(&HeaderName::from_static("x-cookie")));
    }
}
