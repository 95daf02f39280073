//! What vouches for identity fields: that a request came through here, and whom it names. Pure.
//!
//! 1. It is made of a login alone, with the first secret; the app may accept the others while they are exchanged.
//! 2. `hmac`: the field is `t=TIME,v1=MAC`. TIME is in Unix seconds; MAC is HMAC-SHA256 (RFC 2104) in lower-case hexadecimal, keyed
//!    with the bytes of the secret, over these lines, with one `\n` between two of them and none at the end:
//!
//!    ```text
//!    TIME
//!    METHOD
//!    TARGET                as in the request line that the app gets: path and query
//!    SESSION               NAME of [session.NAME]
//!    name:value            for each identity field of the session that is sent, in the order of the names' bytes;
//!                          the name in lower case, the value byte for byte
//!    ```
//!
//!    It says so of one request, to whoever compares its TIME with the clock: within `ttl`, the same may come twice.
//! 3. `jwt`: the field is a token (RFC 7519, HS256) with the claims `iss` `sidegate`, `sub` the user, `sid` the session's
//!    digest as the log has it, `session` NAME, `iat`, `exp` = `iat` + `ttl`, and each attribute that is sent under its field's name
//!    in lower case: a text as the record has it, or a list of them. A field that is called like one of these claims, or
//!    like another of RFC 7519 §4.1, is not in it. It says who asks, whatever the request.
//! 4. A token of more than [`LONGEST`] bytes is not sent, and no app that looks for it takes the request for vouched.
//!
//! # Why
//! Without, an app that can be reached past the proxy believes whoever writes the fields. Rule 2 holds the method and the
//! target, so that what was seen on the way to one page is no pass to another.

use std::sync::Arc;

use aws_lc_rs::hmac::Key;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::texts;
use crate::exchange::Principal;
use crate::session::Definition;
use crate::session::format::sign::{hex, sha256_key, tag};
use crate::session::settings::SignatureKind;

/// The longest token, in bytes.
pub const LONGEST: usize = 16 * 1024;

/// Claims that no attribute can make: ours, and those of RFC 7519 §4.1.
const CLAIMS: [&str; 9] = ["iss", "sub", "aud", "exp", "nbf", "iat", "jti", "sid", "session"];

/// What vouches for the identity fields of one session.
#[derive(Debug)]
pub struct Voucher {
    session: Arc<str>,
    field: HeaderName,
    /// Identity fields and the paths of their attributes, in the order of the names.
    told: Vec<(HeaderName, String)>,
    kind: SignatureKind,
    key: Key,
    /// Seconds.
    ttl: u64,
}

/// A request as the app gets it.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'a> {
    /// Its method.
    pub method: &'a str,
    /// Its target.
    pub target: &'a str,
    /// Its fields, the signature aside.
    pub fields: &'a HeaderMap,
}

impl Voucher {
    /// Of a session that wants one.
    pub fn of(definition: &Definition) -> Option<Self> {
        let signature = definition.identity.signature.as_ref()?;
        let mut told = definition.forward.clone();
        told.sort_by(|(one, _), (other, _)| one.as_str().cmp(other.as_str()));
        Some(Self {
            session: definition.name.clone(),
            field: signature.field.clone(),
            told,
            kind: signature.kind,
            key: sha256_key(signature.secrets.exposed().next()?.as_bytes()),
            ttl: signature.ttl.as_secs().max(1),
        })
    }

    /// Whether it vouches for this session's.
    pub fn is_of(&self, session: &str) -> bool {
        *self.session == *session
    }

    /// The field that it writes.
    pub fn field(&self) -> &HeaderName {
        &self.field
    }

    /// The value of the field at `now` (Unix seconds).
    pub fn vouch(&self, principal: &Principal, sent: &Sent<'_>, now: u64) -> Option<HeaderValue> {
        let value = match self.kind {
            SignatureKind::Hmac => self.mac(sent, now),
            SignatureKind::Jwt => self.token(principal, sent, now),
        };
        HeaderValue::from_maybe_shared(bytes::Bytes::from(value)).ok().filter(|value| value.len() <= LONGEST)
    }

    /// Rule 2.
    fn mac(&self, sent: &Sent<'_>, now: u64) -> String {
        let now = now.to_string();
        let mut parts: Vec<&[u8]> = Vec::with_capacity(7 + 4 * self.told.len());
        for line in [&now, sent.method, sent.target] {
            parts.extend([line.as_bytes(), b"\n"]);
        }
        parts.push(self.session.as_bytes());
        for (name, _) in &self.told {
            if let Some(value) = sent.fields.get(name) {
                parts.extend([b"\n", name.as_str().as_bytes(), b":", value.as_bytes()]);
            }
        }
        format!("t={now},v1={}", hex(tag(&self.key, &parts).as_ref()))
    }

    /// Rule 3.
    fn token(&self, principal: &Principal, sent: &Sent<'_>, now: u64) -> String {
        let mut claims = Map::new();
        let sent = |name: &HeaderName| sent.fields.contains_key(name) && !CLAIMS.contains(&name.as_str());
        for (name, path) in self.told.iter().filter(|(name, _)| sent(name)) {
            let mut texts: Vec<Value> = texts(principal, path).map(Value::from).collect();
            let claim = if texts.len() == 1 { texts.remove(0) } else { texts.into() };
            claims.insert(name.as_str().to_owned(), claim);
        }
        claims.insert("iss".into(), "sidegate".into());
        claims.insert("sub".into(), principal.user.as_str().into());
        claims.insert("sid".into(), (*principal.session_digest).into());
        claims.insert("session".into(), (*self.session).into());
        claims.insert("iat".into(), now.into());
        claims.insert("exp".into(), now.saturating_add(self.ttl).into());
        let mut token = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(Value::Object(claims).to_string(), &mut token);
        let mac = tag(&self.key, &[token.as_bytes()]);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(mac, &mut token);
        token
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::settings::{Identity, Signature};
    use crate::session::{Format, Secrets};

    const NOW: u64 = 1_795_300_000;

    fn voucher(kind: SignatureKind, forward: &[(&'static str, &str)]) -> Voucher {
        let field = HeaderName::from_static("x-identity-signature");
        let secrets = Secrets::new(["new".into(), "old".into()]);
        let signature = Some(Signature { field, kind, secrets, ttl: std::time::Duration::from_secs(60) });
        let forward = forward.iter().map(|(name, path)| (HeaderName::from_static(name), (*path).to_owned())).collect();
        let identity = Identity { signature, ..Identity::default() };
        Voucher::of(&Definition { forward, identity, ..Definition::new("web", Format::Json) }).unwrap()
    }

    fn alice() -> Principal {
        let attributes = [("user_id", "5"), ("name", "M\u{fc}ller, A."), ("roles", "admin"), ("roles", "a,b")];
        Principal {
            session: "web".into(),
            user: "5".into(),
            session_digest: "d1635a".into(),
            session_key: String::new(),
            attributes: attributes.map(|(path, text)| (path.into(), text.into())).into(),
        }
    }

    fn fields(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_mac_is_over_the_lines_of_rule_two() {
        let voucher =
            voucher(SignatureKind::Hmac, &[("x-user-name", "name"), ("x-plan", "plan"), ("x-user-id", "user_id")]);
        let fields = fields(&[("x-user-id", "5"), ("x-user-name", "M%C3%BCller%2C A."), ("accept", "*/*")]);
        let sent = Sent { method: "GET", target: "/account?a=b", fields: &fields };
        let text = "1795300000\nGET\n/account?a=b\nweb\nx-user-id:5\nx-user-name:M%C3%BCller%2C A.";
        let expected = format!("t=1795300000,v1={}", hex(tag(&sha256_key(b"new"), &[text.as_bytes()]).as_ref()));
        assert_eq!(voucher.vouch(&alice(), &sent, NOW).unwrap(), expected.as_str());
        let others = [
            Sent { method: "POST", ..sent },
            Sent { target: "/account", ..sent },
            Sent { fields: &HeaderMap::new(), ..sent },
        ];
        for other in others {
            assert_ne!(voucher.vouch(&alice(), &other, NOW).unwrap(), expected.as_str(), "{other:?}");
        }
    }

    fn claims(token: &HeaderValue) -> Value {
        let parts: Vec<&str> = token.to_str().unwrap().split('.').collect();
        assert_eq!(URL_SAFE_NO_PAD.decode(parts[0]).unwrap(), br#"{"alg":"HS256","typ":"JWT"}"#);
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap()
    }

    #[test]
    fn a_token_has_the_claims_of_rule_three() {
        let forward = [("x-user-name", "name"), ("x-roles", "roles"), ("x-long", "user_id"), ("exp", "user_id")];
        let voucher = voucher(SignatureKind::Jwt, &forward);
        // `x-long` was too long to be sent.
        let fields = fields(&[("x-user-name", "a"), ("x-roles", "b"), ("exp", "5")]);
        let sent = Sent { method: "GET", target: "/", fields: &fields };
        let token = voucher.vouch(&alice(), &sent, NOW).unwrap();
        let expected = serde_json::json!({
            "iss": "sidegate", "sub": "5", "sid": "d1635a", "session": "web", "iat": NOW, "exp": NOW + 60,
            "x-user-name": "M\u{fc}ller, A.", "x-roles": ["admin", "a,b"],
        });
        assert_eq!(claims(&token), expected);
        let (signed, mac) = token.to_str().unwrap().rsplit_once('.').unwrap();
        assert_eq!(mac, URL_SAFE_NO_PAD.encode(tag(&sha256_key(b"new"), &[signed.as_bytes()])));
    }

    #[test]
    fn a_token_beyond_the_bound_is_not_sent() {
        let voucher = voucher(SignatureKind::Jwt, &[("x-roles", "roles")]);
        let fields = fields(&[("x-roles", "a")]);
        let sent = Sent { method: "GET", target: "/", fields: &fields };
        let mut alice = alice();
        alice.attributes = vec![("roles".into(), "a".repeat(LONGEST))];
        assert_eq!(voucher.vouch(&alice, &sent, NOW), None);
    }

    #[test]
    fn what_it_costs_to_vouch_is_told() {
        let fields = fields(&[("x-user-id", "5"), ("x-user-name", "M%C3%BCller%2C A.")]);
        let sent = Sent { method: "GET", target: "/account?a=b", fields: &fields };
        for kind in [SignatureKind::Hmac, SignatureKind::Jwt] {
            let voucher = voucher(kind, &[("x-user-id", "user_id"), ("x-user-name", "name")]);
            let started = crate::clock::instant();
            let made = (0..1000).filter_map(|_| voucher.vouch(&alice(), &sent, NOW)).count();
            println!("{kind:?}: {} ns each", started.elapsed().as_nanos() / 1000);
            assert_eq!(made, 1000);
            assert!(!format!("{voucher:?}").contains("new"), "the secret is shown");
        }
    }
}
