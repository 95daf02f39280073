//! `laravel`: sessions in Laravel's cache store over Redis. Pure.
//!
//! Captured with Laravel 8 and phpredis. From the source of 9.52, 10.48, 11.40, 12.40 and 13.26: cookie, user and record are the
//! same, and what differs is said in the configuration:
//!
//! | new projects of | `prefix` | cookie |
//! |---|---|---|
//! | 8 | `laravel_database_laravel_cache:` (the default here) | `laravel_session` |
//! | 9, 10 | `laravel_database_laravel_cache_:` | `laravel_session` |
//! | 11, 12.0 | `laravel_database_laravel_cache_` | `laravel_session` |
//! | 12.11 | `laravel-database-laravel-cache-` | `laravel-session` |
//!
//! `laravel` in them is the app's name; 13 has `session.prefix` in the place of the cache's.
//!
//! 1. The cookie is an [`envelope`], `=` in it written as `%3D`. There is one cookie, and no other carrier.
//! 2. In it stands the HMAC-SHA1 of the cookie's name and `v2` by any of the keys, in hexadecimal digits, then `|`, then the
//!    identifier: 40 of `[A-Za-z0-9]`. A cookie that was made for another name opens no session.
//! 3. A record is a text of PHP (`s:N:"…";`), or that text alone where phpredis serializes nothing. Its text is the attributes,
//!    serialized by PHP or as JSON (`session.serialization`), or an envelope (`session.encrypt`) in which the same text stands
//!    wrapped once more; or it is empty.
//!
//! # Why
//! Rule 1: in a field or a query a credential has no name, and its prefix could not be checked.

use super::datum::Datum;
use super::envelope::{self, Keys};
use super::{Cipher, MAX_RECORD, MAX_TEXT, Record, Stored, Wanted, Way, identifier, json, serialized, sign};
use crate::exchange::Located;
use crate::session::{Carrier, Definition};

/// Sealed identifiers, and records in PHP.
pub struct Laravel {
    prefix: String,
    keys: Keys,
    /// What stands before the identifier in a cookie of our name, by each key.
    vouchers: Vec<String>,
}

impl Laravel {
    /// As `definition` says.
    ///
    /// # Errors
    /// It has a carrier besides one cookie, or secrets that are no keys.
    pub fn new(definition: &Definition, cipher: Cipher) -> Result<Self, String> {
        let [Carrier::Cookie(name)] = definition.carriers.as_slice() else {
            return Err("format `laravel` has one carrier, a cookie: its name is sealed in it".into());
        };
        let keys = envelope::keys(&definition.secrets)?;
        let voucher = |key: &Vec<u8>| {
            let tag = sign::tag(&sign::sha1_key(key), &[name.as_bytes(), b"v2"]);
            sign::hex(tag.as_ref()) + "|"
        };
        let vouchers = keys.iter().map(voucher).collect();
        Ok(Self { prefix: definition.prefix.clone(), keys: Keys::new(cipher, &keys)?, vouchers })
    }

    /// The attributes of a session.
    fn attributes(&self, record: &[u8]) -> Result<Datum, &'static str> {
        if record.len() > MAX_RECORD {
            return Err("record too large");
        }
        let text = unwrapped(record)?;
        match text.first() {
            // Every envelope is a JSON object, and begins with `{"`.
            Some(b'e') => plain(unwrapped(&self.keys.open(text)?)?),
            _ => plain(text),
        }
    }
}

impl Way for Laravel {
    fn locate(&self, text: &[u8]) -> Result<Located, &'static str> {
        // Browsers keep no longer cookies.
        if text.len() > MAX_TEXT {
            return Err("cookie too long");
        }
        let text = std::str::from_utf8(text).map_err(|_| envelope::NOT_OURS)?;
        let clear = self.keys.open(text.replace("%3D", "=").replace("%3d", "=").as_bytes())?;
        let named = |voucher: &String| {
            let (before, identifier) = clear.split_at_checked(voucher.len())?;
            sign::same(before, voucher.as_bytes()).then_some(identifier)
        };
        let named = self.vouchers.iter().find_map(named).ok_or("made for another cookie")?;
        Ok(Located::behind(&self.prefix, identifier(named, 40..=40, |byte| byte.is_ascii_alphanumeric())?))
    }

    fn read(&self, wanted: &Wanted, stored: Stored<'_>, _: u64) -> Result<Option<Record>, &'static str> {
        let Stored::Text(bytes) = stored else { return Err("record is not a string") };
        Record::of(wanted, &self.attributes(bytes)?).map(Some)
    }
}

/// Without the `s:N:"…";` around it, if there is one.
fn unwrapped(text: &[u8]) -> Result<&[u8], &'static str> {
    if text.starts_with(b"s:") { serialized::text(text) } else { Ok(text) }
}

/// An array of PHP, or a JSON object.
fn plain(text: &[u8]) -> Result<Datum, &'static str> {
    let attributes = match text.first() {
        None => return Ok(Datum::Map(Vec::new())),
        Some(b'{' | b'[') => json::decode(text)?,
        Some(_) => serialized::decode(text)?,
    };
    if let Datum::Map(_) | Datum::List(_) = attributes { Ok(attributes) } else { Err("record is not an array") }
}

#[cfg(test)]
mod tests {
    use super::super::Format;
    use super::super::envelope::tests::sealed;
    use super::super::fixtures::agree;
    use super::super::php::odd::fuzz;
    use super::super::tests::wanted;
    use super::*;
    use crate::session::Secrets;

    const ID: &str = "AEWulvVKHIiTv4zyLrVaXmuTFiBRlJ5qmcaxVs6k";
    const NEW: &str = "new-new-new-new-new-new-new-new-";
    const OLD: &str = "old-old-old-old-";

    fn definition(cipher: Cipher, secrets: &[&str]) -> Definition {
        let secrets = Secrets::new(secrets.iter().map(|secret| (*secret).into()));
        Definition { secrets, ..Definition::new("web", Format::Laravel(cipher)) }
    }

    fn laravel(cipher: Cipher, secrets: &[&str]) -> Laravel {
        Laravel::new(&definition(cipher, secrets), cipher).unwrap()
    }

    /// `id` as a cookie called `name`, sealed by `key`.
    fn cookie(cipher: Cipher, key: &str, name: &str, id: &str) -> String {
        let voucher = sign::tag(&sign::sha1_key(key.as_bytes()), &[name.as_bytes(), b"v2"]);
        let clear = format!("{}|{id}", sign::hex(voucher.as_ref()));
        String::from_utf8(sealed(cipher, key.as_bytes(), clear.as_bytes())).unwrap().replace('=', "%3D")
    }

    fn user(laravel: &Laravel, record: &str) -> Result<Option<String>, &'static str> {
        laravel.read(&wanted(&["user_id"]), Stored::Text(record.as_bytes()), 0).map(|record| record.unwrap().user)
    }

    fn wrapped(text: &str) -> String {
        format!("s:{}:\"{text}\";", text.len())
    }

    #[test]
    fn real_captures_are_judged_as_the_app_judged_them() {
        let agree = |profile, cipher| agree(profile, Definition::new("web", Format::Laravel(cipher)));
        let cbc = agree("laravel-cbc", Cipher::Cbc) + agree("laravel-encrypted-store", Cipher::Cbc);
        assert_eq!(cbc + agree("laravel-gcm", Cipher::Gcm), 36);
    }

    #[test]
    fn keys_rotate_and_names_do_not() {
        for cipher in [Cipher::Cbc, Cipher::Gcm] {
            let both = laravel(cipher, &[NEW, OLD]);
            let key = |cookie: &str| both.locate(cookie.as_bytes()).map(|located| located.key);
            for known in [NEW, OLD] {
                let cookie = cookie(cipher, known, "laravel_session", ID);
                assert_eq!(key(&cookie), Ok(format!("laravel_database_laravel_cache:{ID}")));
                assert_eq!(key(&cookie.replace("%3D", "%3d")), key(&cookie));
                assert_eq!(laravel(cipher, &[&"x".repeat(32)]).locate(cookie.as_bytes()), Err(envelope::NOT_OURS));
            }
            assert_eq!(key(&cookie(cipher, NEW, "XSRF-TOKEN", ID)), Err("made for another cookie"));
            assert_eq!(key(&cookie(cipher, NEW, "laravel_sessio", ID)), Err("made for another cookie"));
            let bare = String::from_utf8(sealed(cipher, NEW.as_bytes(), ID.as_bytes())).unwrap();
            assert_eq!(key(&bare), Err("made for another cookie"));
        }
    }

    #[test]
    fn an_identifier_is_as_laravel_makes_them() {
        let way = laravel(Cipher::Cbc, &[NEW]);
        let of = |id: &str| way.locate(cookie(Cipher::Cbc, NEW, "laravel_session", id).as_bytes());
        assert_eq!(of(ID).unwrap().identifier, ID);
        assert_eq!(of(&ID[1..]), Err("identifier too short"));
        assert_eq!(of(&format!("{ID}a")), Err("identifier too long"));
        assert_eq!(of(&ID.replace('A', ":")), Err("identifier has foreign characters"));
        assert_eq!(way.locate(&[b'e'; MAX_TEXT + 1]), Err("cookie too long"));
        for strange in [ID, "", "%3D", "eyJpdiI6", "e\u{fc}", "%65%79"] {
            assert_eq!(way.locate(strange.as_bytes()), Err(envelope::NOT_OURS), "{strange}");
        }
        let spelt = cookie(Cipher::Cbc, NEW, "laravel_session", ID).replacen('e', "%65", 1);
        assert_eq!(way.locate(spelt.as_bytes()), Err(envelope::NOT_OURS));
    }

    #[test]
    fn a_record_is_read_however_it_is_wrapped() {
        let php = r#"a:1:{s:7:"user_id";i:5;}"#;
        for cipher in [Cipher::Cbc, Cipher::Gcm] {
            let way = laravel(cipher, &[NEW, OLD]);
            for plain in [php, r#"{"user_id":5}"#] {
                assert_eq!(user(&way, plain), Ok(Some("5".into())), "{plain}");
                assert_eq!(user(&way, &wrapped(plain)), Ok(Some("5".into())), "{plain}");
                for key in [NEW, OLD] {
                    let sealed = String::from_utf8(sealed(cipher, key.as_bytes(), wrapped(plain).as_bytes())).unwrap();
                    assert_eq!(user(&way, &wrapped(&sealed)), Ok(Some("5".into())), "{plain}");
                    assert_eq!(user(&way, &sealed), Ok(Some("5".into())), "{plain}");
                }
            }
            let strange = String::from_utf8(sealed(cipher, &[9; 32], wrapped(php).as_bytes())).unwrap();
            assert_eq!(user(&way, &wrapped(&strange)), Err(envelope::NOT_OURS));
        }
    }

    #[test]
    fn a_session_with_nothing_in_it_is_nobodys_and_what_is_none_is_refused() {
        let way = laravel(Cipher::Cbc, &[NEW]);
        for empty in ["", "s:0:\"\";", "s:6:\"a:0:{}\";", "s:2:\"[]\";", "s:2:\"{}\";"] {
            assert_eq!(user(&way, empty), Ok(None), "{empty}");
        }
        let twice = wrapped(&wrapped("a:1:{s:7:\"user_id\";i:5;}"));
        for none in ["i:5;", "s:4:\"i:5;\";", "s:3:\"a", "N;", "garbage", "eyJpdiI6", &twice] {
            assert!(user(&way, none).is_err(), "{none}");
        }
        let large = wrapped(&"a".repeat(MAX_RECORD));
        assert_eq!(user(&way, &large), Err("record too large"));
    }

    #[test]
    fn carriers_and_secrets_are_checked_before_anything_is_served() {
        let error = |definition: &Definition| Laravel::new(definition, Cipher::Cbc).err().unwrap();
        let cookie = Carrier::Cookie("laravel_session".into());
        let field = Carrier::Header(http::HeaderName::from_static("x-session"));
        let mut definition = definition(Cipher::Cbc, &[NEW]);
        for carriers in
            [vec![Carrier::Bearer], vec![field], vec![cookie.clone(), Carrier::Bearer], vec![cookie.clone(); 2]]
        {
            definition.carriers = carriers;
            assert!(error(&definition).contains("one carrier, a cookie"));
        }
        definition.carriers = vec![cookie];
        definition.secrets = Secrets::new(["hunter2".into()]);
        let told = error(&definition);
        assert!(told.contains("APP_KEY") && !told.contains("hunter2"), "{told}");
    }

    #[test]
    fn fuzz_cookies_and_records() {
        let way = laravel(Cipher::Cbc, &[NEW, OLD]);
        let cookies = [NEW, OLD].map(|key| cookie(Cipher::Cbc, key, "laravel_session", ID).into_bytes());
        fuzz("cookies", &cookies, |text| {
            way.locate(text).is_ok_and(|found| found.identifier == ID || panic!("forged"))
        });
        let php = r#"a:3:{s:7:"user_id";i:5;s:5:"roles";a:1:{i:0;s:4:"user";}s:1:"o";O:1:"P":1:{s:1:"a";i:1;}}"#;
        let sealed = String::from_utf8(sealed(Cipher::Cbc, NEW.as_bytes(), wrapped(php).as_bytes())).unwrap();
        let records = [php.to_owned(), wrapped(php), wrapped(r#"{"user_id":5}"#), wrapped(&sealed)];
        fuzz("records", &records.map(String::into_bytes), |record| way.attributes(record).is_ok());
    }
}
