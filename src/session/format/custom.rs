//! `custom`: sessions that no other format knows, as the configuration describes them. Pure.
//!
//! 1. A credential's text goes through the steps of `credential`, in their order: decoded, cut to size, its signature checked.
//!    What does not go through is no credential.
//! 2. What is left is the identifier. Its alphabet and length are checked last, whatever vouched for it.
//! 3. `key` says where its record is: the identifier, or a digest of it, between two texts.
//! 4. The value goes through the codings of `value`, and the decoder at their end; or it is a hash.
//! 5. `root` is the path of what the session is inside the record. Where there is nothing under it, nobody is logged in.

pub mod key;
pub mod step;
pub mod value;

use std::sync::Arc;

use aws_lc_rs::hmac::Key;

use self::key::{Identifiers, KeyTemplate};
use self::step::Step;
use self::value::Value;
use super::datum::Datum;
use super::hash::Hash;
use super::{Record, Stored, Wanted, Way, sign};
use crate::exchange::Located;
use crate::session::Secrets;

/// A longer text is no credential, in bytes.
const MAX_CREDENTIAL: usize = 4096;

/// `[session.NAME.custom]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Custom {
    /// From the credential to the identifier.
    pub credential: Vec<Step>,
    /// What an identifier looks like.
    pub identifier: Identifiers,
    /// From the identifier to the key.
    pub key: KeyTemplate,
    /// How the value is written.
    pub value: Value,
    /// Dotted path of what is the session inside the record.
    pub root: Option<String>,
}

impl Custom {
    /// Whether a secret is needed.
    pub fn is_signed(&self) -> bool {
        self.credential.iter().any(Step::is_signed)
    }
}

impl std::fmt::Display for Custom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let steps: Vec<_> = self.credential.iter().map(Step::written).collect();
        let root = self.root.as_deref().map(|root| format!(" under {root}")).unwrap_or_default();
        write!(f, "[{}] {} {} [{}]{root}", steps.join(", "), self.identifier, self.key.written(), self.value.written())
    }
}

/// The way of a [`Custom`].
pub struct CustomWay {
    custom: Arc<Custom>,
    /// Of each step, those that vouch.
    keys: Vec<Vec<Key>>,
    hash: Hash,
}

impl CustomWay {
    /// As `custom` says, signed by any of `secrets`.
    ///
    /// # Errors
    /// A credential is signed, and there are no secrets, or one is not written as it says.
    pub fn new(custom: &Arc<Custom>, secrets: &Secrets) -> Result<Self, String> {
        if custom.is_signed() && secrets.is_empty() {
            return Err("the credential is signed: `secrets` is missing".into());
        }
        let secrets = sign::keys(secrets)?;
        let keys = |step: &Step| secrets.iter().filter_map(|secret| step.key(secret)).collect();
        let keys = custom.credential.iter().map(keys).collect();
        Ok(Self { custom: custom.clone(), keys, hash: Hash::new(custom.key.prefix()) })
    }
}

impl Way for CustomWay {
    fn locate(&self, text: &[u8]) -> Result<Located, &'static str> {
        if text.len() > MAX_CREDENTIAL {
            return Err("credential too long");
        }
        let steps = self.custom.credential.iter().zip(&self.keys);
        let plain = steps.into_iter().try_fold(text.to_vec(), |text, (step, keys)| step.apply(text, keys))?;
        let identifier = self.custom.identifier.check(&plain)?;
        Ok(Located { key: self.custom.key.of(identifier), identifier: identifier.to_owned() })
    }

    fn fields(&self, wanted: &Wanted) -> Option<Vec<String>> {
        if self.custom.value.is_hash() { self.hash.fields(wanted) } else { None }
    }

    fn read(&self, wanted: &Wanted, stored: Stored<'_>, now: u64) -> Result<Option<Record>, &'static str> {
        if self.custom.value.is_hash() {
            return self.hash.read(wanted, stored, now);
        }
        let Stored::Text(bytes) = stored else { return Err("record is not a string") };
        let record = self.custom.value.decode(bytes, wanted.largest())?;
        let session = match &self.custom.root {
            Some(root) => record.at(root).unwrap_or(&Datum::Nothing),
            // PHP writes no attributes as an empty list.
            None if matches!(record, Datum::Map(_) | Datum::List(_)) => &record,
            None => return Err("record has no attributes"),
        };
        Record::of(wanted, session).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::MAX_RECORD;
    use super::super::fixtures::{agree, is_bounded, live};
    use super::super::php::odd::fuzz;
    use super::super::tests::wanted;
    use super::*;
    use crate::session::{Carrier, Definition, Format};

    fn custom(credential: &[&str], identifier: Identifiers, key: &str, value: &[&str]) -> Custom {
        Custom {
            credential: credential.iter().map(|step| Step::parse(step).unwrap()).collect(),
            identifier,
            key: KeyTemplate::parse(key).unwrap(),
            value: Value::parse(value).unwrap(),
            root: None,
        }
    }

    fn definition(custom: Custom, cookie: &str, user: &str) -> Definition {
        let carriers = vec![Carrier::Cookie(cookie.into())];
        Definition { carriers, user: vec![user.into()], ..Definition::new("web", Format::Custom(custom.into())) }
    }

    fn identifiers(alphabet: &str, min: usize, max: usize) -> Identifiers {
        Identifiers::new(alphabet, min, max).unwrap()
    }

    #[test]
    fn express_in_its_terms_is_judged_as_express() {
        let steps = ["percent", "prefix:s:", "signed:hmac-sha256:base64:."];
        let express = custom(&steps, identifiers("A-Za-z0-9_-", 32, 32), "sess:{id}", &["json"]);
        let judged = |profile, user| agree(profile, definition(express.clone(), "connect.sid", user));
        let plain = ["express-default", "express-max-age", "express-rolling-resave", "express-rotated"];
        let plain: usize = plain.iter().map(|profile| judged(profile, "user_id")).sum();
        assert_eq!(plain + judged("express-passport", "passport.user"), 56);
    }

    #[test]
    fn flask_in_its_terms_is_judged_as_flask() {
        let raw = identifiers("A-Za-z0-9_-", 43, 43);
        let steps = ["signed:hmac-sha1:base64url:.:flask-session"];
        let mut judged = 0;
        for (profile, steps, value) in [
            ("flask-json", &[][..], "json"),
            ("flask-json-signed", &steps, "json"),
            ("flask-msgpack", &[], "msgpack"),
            ("flask-msgpack-signed", &steps, "msgpack"),
        ] {
            let flask = custom(steps, raw.clone(), "session:{id}", &[value]);
            judged += agree(profile, definition(flask, "session", "user_id"));
        }
        let old = custom(&[], identifiers("a-f0-9-", 36, 36), "session:{id}", &["pickle"]);
        judged += agree("flask-old-pickle", definition(old, "session", "user_id"));
        assert_eq!(judged, 42);
    }

    #[test]
    fn rails_and_hashes_in_its_terms_are_judged_as_themselves() {
        let rails = |value| custom(&[], identifiers("0-9a-f", 32, 32), "session:2::{sha256}", &[value]);
        let judged = |profile, value| agree(profile, definition(rails(value), "_myapp_session", "user_id"));
        let rails = judged("rails-redis-store", "marshal") + judged("rails-redis-store-json", "json");
        let token = custom(&[], identifiers("A-Za-z0-9_-", 16, 128), "session:{id}", &["hash"]);
        let carriers = vec![
            Carrier::Bearer,
            Carrier::Cookie("session_token".into()),
            Carrier::Header("x-session-token".parse().unwrap()),
            Carrier::Query("token".into()),
        ];
        let token = Definition { carriers, ..definition(token, "", "user_id") };
        assert_eq!(rails + agree("token-hash", token), 26);
    }

    #[test]
    fn the_session_may_be_inside_the_record() {
        let mut custom = custom(&[], Identifiers::default(), "app:{id}:session", &["base64", "json"]);
        custom.root = Some("data.session".into());
        let way = CustomWay::new(&custom.into(), &Secrets::default()).unwrap();
        assert_eq!(way.locate(b"0123456789abcdef").unwrap().key, "app:0123456789abcdef:session");
        let read = |text: &[u8]| way.read(&wanted(&["user.id"]), Stored::Text(text), 0);
        use base64::Engine as _;
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text).into_bytes();
        let inside = encode(r#"{"data":{"session":{"user":{"id":7}}},"user":{"id":8}}"#);
        assert_eq!(read(&inside).unwrap().unwrap().user.as_deref(), Some("7"));
        for nobody in [r#"{"user":{"id":8}}"#, r#"{"data":{"session":null}}"#, "[]"] {
            assert_eq!(read(&encode(nobody)).unwrap().unwrap().user, None, "{nobody}");
        }
        assert_eq!(read(b"{}"), Err("record is not base64"));
        assert_eq!(read(&encode("{")), Err("record is not JSON"));
    }

    #[test]
    fn signed_credentials_need_a_secret() {
        let signed = custom(&["signed:hmac-sha512:hex:."], Identifiers::default(), "s:{id}", &["text"]).into();
        let way = |secrets: &Secrets| CustomWay::new(&signed, secrets).map(|_| ());
        assert_eq!(way(&Secrets::default()), Err("the credential is signed: `secrets` is missing".into()));
        assert_eq!(way(&Secrets::new(["secret".into()])), Ok(()));
    }

    /// No damaged credential is taken for one that was not signed, whatever its steps undo.
    #[test]
    fn fuzz_custom_credentials() {
        let itsdangerous: &[&str] = &["signed:hmac-sha1:base64url:.:flask-session"];
        let cookie_signature: &[&str] = &["percent", "prefix:s:", "signed:hmac-sha256:base64:."];
        for (profile, steps) in [("flask-msgpack-signed", itsdangerous), ("express", cookie_signature)] {
            let live = live(profile);
            let secrets = Secrets::new(live.iter().flat_map(|live| &live.secrets).map(|secret| secret.as_str().into()));
            let custom = custom(steps, identifiers("A-Za-z0-9_-", 16, 64), "s:{id}", &["json"]).into();
            let way = CustomWay::new(&custom, &secrets).unwrap();
            let seeds: Vec<Vec<u8>> = live.iter().map(|live| live.credential.clone()).collect();
            fuzz("custom credentials", &seeds, |text| {
                let located = way.locate(text);
                assert_eq!(located, way.locate(text));
                let is_theirs = |found: &Located| live.iter().any(|live| live.identifier == found.identifier);
                assert!(located.as_ref().map_or(true, is_theirs), "forged: {}", text.escape_ascii());
                located.is_ok()
            });
        }
    }

    /// Every coding and decoder, the first byte of an input saying which.
    #[test]
    fn fuzz_custom_values() {
        let zlib = |plain: &[u8]| {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut encoder, plain).unwrap();
            encoder.finish().unwrap()
        };
        let captured = |profile: &str| live(profile).swap_remove(0).record;
        let hex = |bytes: &[u8]| sign::hex(bytes).into_bytes();
        let php = &b"a:2:{s:7:\"user_id\";i:5;s:1:\"o\";O:1:\"P\":1:{s:1:\"a\";d:1.5;}}"[..];
        let igbinary = &b"\0\0\0\x02\x14\x02\x11\x07user_id\x06\x05\x11\x01o\x17\x01P\x14\x01\x11\x01a\x00"[..];
        let all: [(&[&str], Vec<u8>); 9] = [
            (&["zlib", "json"], zlib(&captured("express"))),
            (&["json"], captured("express")),
            (&["msgpack"], captured("flask-msgpack")),
            (&["hex", "pickle"], hex(&captured("flask-old-pickle"))),
            (&["hex", "zlib", "marshal"], hex(&zlib(&captured("rails-redis-store")))),
            (&["php"], php.to_vec()),
            (&["igbinary"], igbinary.to_vec()),
            (&["php-session"], b"user_id|i:5;roles|a:1:{i:0;s:4:\"user\";}".to_vec()),
            (&["php-binary"], b"\x07user_idi:5;\x01oN;".to_vec()),
        ];
        let values = all.each_ref().map(|(words, _)| Value::parse(words).unwrap());
        let seeds: Vec<Vec<u8>> = (0..).zip(&all).map(|(kind, (_, bytes))| [&[kind][..], bytes].concat()).collect();
        fuzz("custom values", &seeds, |input| {
            let Some((kind, bytes)) = input.split_first() else { return false };
            let value = &values[usize::from(*kind) % values.len()];
            let told = value.decode(bytes, MAX_RECORD);
            // Written out: a number that is none is not the same as itself.
            assert_eq!(format!("{told:?}"), format!("{:?}", value.decode(bytes, MAX_RECORD)));
            told.iter().for_each(is_bounded);
            told.is_ok()
        });
    }

    proptest! {
        #[test]
        fn no_credential_brings_it_down(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let steps = ["unquote", "percent", "base64url", "before:|", "after:=", "suffix:x", "hex", "signed:hmac-sha1:hex:."];
            for count in 0..=steps.len() {
                let custom = custom(&steps[..count], Identifiers::default(), "s:{sha1}", &["gzip", "json"]).into();
                let way = CustomWay::new(&custom, &Secrets::new(["secret".into()])).unwrap();
                if let Ok(located) = way.locate(&text) {
                    prop_assert!(count < steps.len() && located.key.len() == 42 && located.identifier.len() >= 16);
                }
                let _ = way.read(&wanted(&["id"]), Stored::Text(&text), 0);
            }
        }
    }
}
