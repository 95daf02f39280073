//! `flask`: Flask-Session (0.5 to 0.8, captured) with its Redis interface. Pure.
//!
//! 1. An identifier is 22 to 256 of `[A-Za-z0-9_-]`: 43 as 0.6 and later make it, or a UUID as 0.5 does.
//! 2. With secrets (`SESSION_USE_SIGNER`), a credential is an identifier, a dot and its signature by any of them:
//!    itsdangerous' `Signer`, HMAC-SHA1 under a key derived by HMAC-SHA1 with the salt `flask-session`, in base64url without
//!    padding. Only the one spelling that the app itself sends is taken.
//! 3. Without secrets a credential is an identifier. One that is signed, and Flask's own cookie, which is no session in Redis,
//!    are refused under names of their own: both are what a configuration gets wrong.
//! 4. A record is MessagePack, JSON or a pickle (`python`).
//!
//! # Why
//! 22 characters are 128 bits (`SESSION_ID_LENGTH = 16`): shorter identifiers can be guessed. The framework would take the
//! last character of a signature in four spellings, as two of its bits mean nothing; browsers return what they were given.

use aws_lc_rs::hmac::Key;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::sign::{keys, same, sha1_key, tag};
use super::{Record, Stored, Wanted, Way, identifier, python};
use crate::exchange::Located;
use crate::session::Secrets;

/// Identifiers, signed or not, and what Flask-Session writes under them.
pub struct Flask {
    prefix: String,
    keys: Vec<Key>,
}

impl Flask {
    /// Under keys that begin with `prefix`; signed by one of `secrets`, if there are any.
    ///
    /// # Errors
    /// A secret is not written as it says.
    pub fn new(prefix: &str, secrets: &Secrets) -> Result<Self, String> {
        let derived = |secret: &Vec<u8>| sha1_key(tag(&sha1_key(secret), &[b"flask-session"]).as_ref());
        Ok(Self { prefix: prefix.to_owned(), keys: keys(secrets)?.iter().map(derived).collect() })
    }

    /// The identifier in `text`, if one of the secrets vouches for it (rule 2).
    fn verified<'a>(&self, text: &'a [u8]) -> Result<&'a [u8], &'static str> {
        let dot = text.iter().rposition(|byte| *byte == b'.').ok_or("signature is missing")?;
        let (id, signature) = (&text[..dot], &text[dot + 1..]);
        let vouches = |key: &Key| same(URL_SAFE_NO_PAD.encode(tag(key, &[id])).as_bytes(), signature);
        if self.keys.iter().any(vouches) { Ok(id) } else { Err("signature is wrong") }
    }
}

/// Flask keeps a session in its cookie as `PAYLOAD.TIME.SIGNATURE`, with a dot before what is compressed.
fn is_of_flask(text: &[u8]) -> bool {
    let own = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.".contains(byte);
    let payload = text.strip_prefix(b".").unwrap_or(text);
    // JSON in braces, or zlib, in base64url.
    let begins = payload.starts_with(b"ey") || (text.starts_with(b".") && payload.starts_with(b"eJ"));
    begins && text.iter().all(own) && payload.iter().filter(|byte| **byte == b'.').count() == 2
}

/// Whether it has the form of an identifier with its signature, which has 27 characters.
fn is_signed(text: &[u8]) -> bool {
    let id = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-".contains(byte);
    let parts: Vec<&[u8]> = text.split(|byte| *byte == b'.').collect();
    matches!(parts[..], [before, after] if after.len() == 27 && !before.is_empty() && parts.iter().all(|part| part.iter().all(id)))
}

impl Way for Flask {
    fn locate(&self, text: &[u8]) -> Result<Located, &'static str> {
        if is_of_flask(text) {
            return Err("Flask's own cookie, no session in Redis");
        }
        let id = match self.keys.is_empty() {
            true if is_signed(text) => return Err("identifier is signed, and no secrets are set"),
            true => text,
            false => self.verified(text)?,
        };
        let id = identifier(id, 22..=256, |byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))?;
        Ok(Located::behind(&self.prefix, id))
    }

    fn read(&self, wanted: &Wanted, stored: Stored<'_>, _: u64) -> Result<Option<Record>, &'static str> {
        let Stored::Text(bytes) = stored else { return Err("record is not a string") };
        Record::of(wanted, &python::decode(bytes)?).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::agree;
    use super::super::tests::wanted;
    use super::*;
    use crate::session::{Definition, Format};

    const ID: &str = "CttPtIgpm-S2RgCwvQdF1NpY1_iheyc2edaSGahIB2Q";

    fn flask(secrets: &[&str]) -> Flask {
        Flask::new("session:", &Secrets::new(secrets.iter().map(|secret| (*secret).into()))).unwrap()
    }

    fn signature(secret: &str, id: &str) -> String {
        URL_SAFE_NO_PAD.encode(tag(&flask(&[secret]).keys[0], &[id.as_bytes()]))
    }

    #[test]
    fn real_captures_are_judged_as_the_app_judged_them() {
        let definition =
            |prefix: &str| Definition { prefix: prefix.to_owned(), ..Definition::new("web", Format::Flask) };
        let profiles = [
            "flask-msgpack",
            "flask-json",
            "flask-msgpack-signed",
            "flask-json-signed",
            "flask-not-permanent",
            "flask-no-refresh",
            "flask-login",
            "flask-old-pickle",
            "flask-old-pickle-signed",
        ];
        let usual: usize = profiles.iter().map(|profile| agree(profile, definition("session:"))).sum();
        assert_eq!(usual + agree("flask-key-prefix", definition("shop:sess:")), 81);
    }

    #[test]
    fn a_signature_by_any_secret_vouches_in_one_spelling_only() {
        let located = |secrets: &[&str], text: &str| {
            flask(secrets).locate(text.as_bytes()).map(|located| located.key.replace(ID, "ID"))
        };
        let signed = format!("{ID}.{}", signature("new", ID));
        assert_eq!(located(&["new"], &signed).as_deref(), Ok("session:ID"));
        assert_eq!(located(&["newest", "new"], &signed).as_deref(), Ok("session:ID"));
        assert_eq!(located(&["base64:bmV3", "hex:00ff"], &signed).as_deref(), Ok("session:ID"), "a secret of bytes");
        assert_eq!(located(&["newest"], &signed), Err("signature is wrong"));
        assert_eq!(located(&["new"], ID), Err("signature is missing"));
        assert_eq!(located(&["new"], &format!("{ID}.")), Err("signature is wrong"));
        assert_eq!(located(&[], ID).as_deref(), Ok("session:ID"));
        assert_eq!(located(&[], &signed), Err("identifier is signed, and no secrets are set"));

        let (all, last) = signed.split_at(signed.len() - 1);
        let taken = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_="
            .iter()
            .filter(|other| located(&["new"], &format!("{all}{}", char::from(**other))).is_ok());
        assert_eq!(taken.map(|byte| char::from(*byte)).collect::<String>(), last);
        assert_eq!(located(&["new"], &format!("{signed}=")), Err("signature is wrong"));
        assert_eq!(located(&["new"], &format!("\"{signed}\"")), Err("signature is wrong"));
    }

    #[test]
    fn a_signature_does_not_make_an_identifier() {
        for (id, reason) in [
            ("short", "identifier too short"),
            ("", "identifier too short"),
            ("../../../../etc/passwd/and/more", "identifier has foreign characters"),
            ("abcdefghijklmnopqrstuvwxyz:LOCK", "identifier has foreign characters"),
            ("abcdefghijklmnopqrstuvwxyz.dots", "identifier has foreign characters"),
        ] {
            let signed = format!("{id}.{}", signature("s", id));
            assert_eq!(flask(&["s"]).locate(signed.as_bytes()), Err(reason), "{id}");
        }
        assert!(flask(&[]).locate(b"0ec87e4e-a8d3-4704-bc52-f0dada269ede").is_ok());
        assert_eq!(flask(&[]).locate(&[b'a'; 21]), Err("identifier too short"));
        assert_eq!(flask(&[]).locate(&[b'a'; 257]), Err("identifier too long"));
    }

    #[test]
    fn one_redis_may_hold_all_three_encodings() {
        let user = |bytes: &[u8]| {
            let read = flask(&[]).read(&wanted(&["user_id"]), Stored::Text(bytes), 0);
            read.map(|record| record.unwrap().user.unwrap_or_default())
        };
        assert_eq!(user(br#"{"user_id":5}"#).as_deref(), Ok("5"));
        assert_eq!(user(b"\x81\xa7user_id\x05").as_deref(), Ok("5"));
        assert_eq!(user(b"\x80\x04}\x8c\x07user_idK\x05s.").as_deref(), Ok("5"));
        assert_eq!(user(b"\x80").as_deref(), Ok(""), "an empty map");
        assert_eq!(user(b"\x80\x04]."), Err("record is not a map"));
        for other in [&b""[..], b"[]", b"\x91\x05", b"5", b" {}", b"\xff"] {
            assert_eq!(user(other), Err("record is neither JSON nor MessagePack nor a pickle"), "{other:?}");
        }
    }

    #[test]
    fn what_a_configuration_gets_wrong_has_a_name_of_its_own() {
        let signed = format!("{ID}.{}", signature("secret", ID));
        let why = |flask: &Flask, text: &str| flask.locate(text.as_bytes()).unwrap_err();
        assert_eq!(why(&flask(&[]), &signed), "identifier is signed, and no secrets are set");
        assert_eq!(why(&flask(&["other"]), &signed), "signature is wrong");
        assert_eq!(why(&flask(&["secret"]), ID), "signature is missing");
        let own = "Flask's own cookie, no session in Redis";
        for cookie in
            ["eyJ1c2VyX2lkIjo3fQ.aSDkVg.5tDk2p6cWzX1j7kQnq0YyT0n1kQ", ".eJyrVirKz0lVslIqSc0rSSxJVaoFAD3vBkI.aSDkVg.x"]
        {
            assert_eq!((why(&flask(&[]), cookie), why(&flask(&["secret"]), cookie)), (own, own));
        }
        assert_eq!(why(&flask(&[]), &format!("{ID}.x")), "identifier has foreign characters");
    }
}
