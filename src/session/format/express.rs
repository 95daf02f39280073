//! `express`: express-session 1.17 and newer with connect-redis, in JSON. Pure.
//!
//! 1. The cookie is `s:ID.TAG`, percent-encoded by `encodeURIComponent`; behind the last dot HMAC-SHA256 of ID in base64 without
//!    `=` (cookie-signature 1.0). Compared as text: one spelling alone passes. Where another carrier has decoded it, it
//!    begins with `s:` as it stands.
//! 2. Any of the secrets will do; all are tried, and it takes as long whichever it is.
//! 3. The app may make identifiers of its own (`genid`): any of 16 to 256 characters that reach no other family of keys.
//! 4. A record is an object with express-session's own `cookie`; the rest is the app's. `cookie.expires` is not looked at.
//!
//! # Why
//! Rule 4: a read prolongs the key and leaves the value alone, so that the time in it is long past while the session lives.
//! Without `cookie` express-session itself fails on a record: something else wrote it.

use aws_lc_rs::hmac::Key;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::datum::Datum;
use super::{Record, Stored, Wanted, Way, identifier, json, percent, sign};
use crate::exchange::Located;
use crate::session::Secrets;

/// A cookie beyond this is not looked at, in bytes: 256 characters of identifier, each as `%XX`, and a signature are less.
const MAX_COOKIE: usize = 1024;

/// Signed identifiers, and JSON objects under them.
pub struct Express {
    prefix: String,
    keys: Vec<Key>,
}

impl Express {
    /// Under keys that begin with `prefix`, signed with any of `secrets`.
    ///
    /// # Errors
    /// There are no secrets, or one is not written as it says.
    pub fn new(prefix: &str, secrets: &Secrets) -> Result<Self, String> {
        if secrets.is_empty() {
            return Err("express-session signs its cookies: `secrets` is missing".into());
        }
        let keys = sign::keys(secrets)?.iter().map(|secret| sign::sha256_key(secret)).collect();
        Ok(Self { prefix: prefix.to_owned(), keys })
    }
}

impl Way for Express {
    fn locate(&self, text: &[u8]) -> Result<Located, &'static str> {
        if text.len() > MAX_COOKIE {
            return Err("cookie too long");
        }
        let plain = if text.starts_with(b"s:") { text.into() } else { percent::component(text)? };
        let signed = plain.strip_prefix(b"s:").ok_or("cookie is not signed")?;
        let dot = signed.iter().rposition(|&byte| byte == b'.').ok_or("cookie is not signed")?;
        let (id, tag) = (&signed[..dot], &signed[dot + 1..]);
        let vouches = |key: &Key| sign::same(STANDARD_NO_PAD.encode(sign::tag(key, &[id])).as_bytes(), tag);
        if !self.keys.iter().fold(false, |good, key| good | vouches(key)) {
            return Err("bad signature");
        }
        let id = identifier(id, 16..=256, |byte| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte))?;
        Ok(Located::behind(&self.prefix, id))
    }

    fn read(&self, wanted: &Wanted, stored: Stored<'_>, _: u64) -> Result<Option<Record>, &'static str> {
        let Stored::Text(bytes) = stored else { return Err("record is not a string") };
        let record = json::decode(bytes)?;
        match record.at("cookie") {
            Some(Datum::Map(_)) => Record::of(wanted, &record).map(Some),
            _ => Err("record has no `cookie`: express-session did not write it"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::fixtures::{agree, is_bounded, live};
    use super::super::php::odd::fuzz;
    use super::super::tests::wanted;
    use super::*;
    use crate::session::{Definition, Format};

    fn express(secrets: &[&str]) -> Express {
        Express::new("sess:", &Secrets::new(secrets.iter().map(|secret| (*secret).into()))).unwrap()
    }

    fn signed(id: &str, secret: &str) -> String {
        let tag = sign::tag(&sign::sha256_key(secret.as_bytes()), &[id.as_bytes()]);
        format!("s:{id}.{}", STANDARD_NO_PAD.encode(tag))
    }

    fn encoded(text: &str) -> String {
        text.replace(':', "%3A").replace('+', "%2B").replace('/', "%2F").replace('=', "%3D")
    }

    const ID: &str = "yPlU0SZwsgp99KRdFeqCPlvOJzUeXuOO";

    #[test]
    fn real_captures_are_judged_as_the_app_judged_them() {
        let profiles =
            ["express-default", "express-max-age", "express-rolling-resave", "express-passport", "express-rotated"];
        let judged: usize =
            profiles.iter().map(|profile| agree(profile, Definition::new("web", Format::Express))).sum();
        assert_eq!(judged, 56);
    }

    #[test]
    fn any_of_the_secrets_vouches_and_no_other() {
        let express = express(&["new", "old"]);
        for secret in ["new", "old"] {
            let located = express.locate(encoded(&signed(ID, secret)).as_bytes()).unwrap();
            assert_eq!((located.key, located.identifier), (format!("sess:{ID}"), ID.to_owned()));
            assert!(express.locate(signed(ID, secret).as_bytes()).is_ok(), "as a query's parameter tells it");
        }
        assert_eq!(express.locate(encoded(&signed(ID, "older")).as_bytes()), Err("bad signature"));
        assert!(Express::new("sess:", &Secrets::default()).is_err());
    }

    #[test]
    fn one_spelling_passes_and_others_do_not() {
        let express = express(&["secret"]);
        let good = encoded(&signed(ID, "secret"));
        // The last character has two bits that say nothing.
        let last = good.chars().last().unwrap();
        let turned = (b'A'..=b'z').map(char::from).filter(|other| other.is_alphanumeric() && *other != last);
        for other in turned.map(|other| format!("{}{other}", &good[..good.len() - 1])) {
            assert_eq!(express.locate(other.as_bytes()), Err("bad signature"), "{other}");
        }
        for (bent, why) in [
            (format!("{good}%3D"), "bad signature"),
            (good.replace("%3A", "%3a"), "percent-encoding is unusual"),
            (good.replace('y', "%79"), "percent-encoding is unusual"),
            (format!("\"{good}\""), "percent-encoding is unusual"),
            (good.replace("s%3A", "j%3A"), "cookie is not signed"),
            (good.replace("s%3A", ""), "cookie is not signed"),
            (format!("s%3A{ID}"), "cookie is not signed"),
            (format!("s%3A{ID}."), "bad signature"),
            ("s%3A.".into(), "bad signature"),
            (String::new(), "cookie is not signed"),
            ("s:".repeat(600), "cookie too long"),
        ] {
            assert_eq!(express.locate(bent.as_bytes()), Err(why), "{bent}");
        }
    }

    #[test]
    fn an_identifier_reaches_no_other_family_of_keys_even_if_it_is_signed() {
        let express = express(&["secret"]);
        let of = |id: &str| express.locate(signed(id, "secret").as_bytes()).map(|located| located.key);
        assert_eq!(of("user.42.0123456789abcdef").as_deref(), Ok("sess:user.42.0123456789abcdef"));
        assert_eq!(of("other:0123456789abcdef"), Err("identifier has foreign characters"));
        assert_eq!(of("0123456789abcde\u{e9}"), Err("identifier has foreign characters"));
        assert_eq!((of("short"), of(&"a".repeat(257))), (Err("identifier too short"), Err("identifier too long")));
    }

    #[test]
    fn what_express_session_did_not_write_is_no_record() {
        let read = |text: &str| express(&["s"]).read(&wanted(&["user_id"]), Stored::Text(text.as_bytes()), 0);
        let past = r#"{"cookie":{"originalMaxAge":1,"expires":"2001-01-01T00:00:00.000Z"},"user_id":5}"#;
        assert_eq!(read(past).unwrap().unwrap().user.as_deref(), Some("5"));
        for strange in [r#"{"user_id":5}"#, r#"{"cookie":null,"user_id":5}"#, "[]", "5"] {
            assert_eq!(read(strange), Err("record has no `cookie`: express-session did not write it"), "{strange}");
        }
        assert_eq!(read(""), Err("record is not JSON"));
    }

    /// No damaged cookie is taken, however it is spelt: a signature vouches for one text.
    #[test]
    fn fuzz_express_cookies() {
        let live = live("express");
        let secrets: Vec<&str> = live.iter().flat_map(|live| &live.secrets).map(String::as_str).collect();
        let way = express(&secrets);
        let sent: Vec<Vec<u8>> = live.into_iter().map(|live| live.credential).collect();
        let bare = |text: &Vec<u8>| percent::component(text).unwrap().into_owned();
        let seeds: Vec<Vec<u8>> = sent.iter().cloned().chain(sent.iter().map(bare)).collect();
        fuzz("express cookies", &seeds, |text| {
            let located = way.locate(text);
            assert_eq!(located, way.locate(text));
            assert!(located.is_err() || seeds.iter().any(|seed| seed == text), "forged: {}", text.escape_ascii());
            located.is_ok()
        });
    }

    #[test]
    fn fuzz_express_records() {
        let seeds: Vec<Vec<u8>> = live("express").into_iter().map(|live| live.record).collect();
        let (way, wanted) = (express(&["s"]), wanted(&["user_id", "passport.user", "cart.0", "cookie.expires"]));
        fuzz("express records", &seeds, |bytes| {
            let read = way.read(&wanted, Stored::Text(bytes), 0);
            assert_eq!(read, way.read(&wanted, Stored::Text(bytes), 0));
            json::decode(bytes).iter().for_each(is_bounded);
            read.is_ok()
        });
    }

    proptest! {
        #[test]
        fn no_cookie_brings_it_down(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(express(&["secret"]).locate(&bytes).is_err());
            prop_assert!(express(&["secret"]).locate(&[b"s%3A", &bytes[..]].concat()).is_err());
        }
    }
}
