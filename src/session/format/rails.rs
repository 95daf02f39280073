//! `rails`: redis-actionpack, redis-session-store, and Rails' own `cache_store` in Redis. Pure.
//!
//! 1. The cookie is 32 hexadecimal digits in lower case: the public identifier. The key holds the private one, `2::` and
//!    SHA-256 of it in hexadecimal (Rack 2.0.8 and newer).
//! 2. A record is a Marshal hash or a JSON object; with `cache_store` an entry around one (`entry`), which may be over before its key
//!    is. What it is, it says itself.
//!
//! # Why
//! Rule 1: the stores themselves fall back to the key of what the client sends, so that `2::…` as a cookie opens that session for whoever
//! can list keys. Not here.

mod entry;

use sha2::{Digest as _, Sha256};

use self::entry::Held;
use super::datum::Datum;
use super::marshal::{self, Marshalled};
use super::{Record, Stored, Wanted, Way, identifier, json, sign};
use crate::exchange::Located;

/// Public identifiers, and hashes under the private ones.
pub struct Rails {
    prefix: String,
}

impl Rails {
    /// Under keys that begin with `prefix`.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }
}

impl Way for Rails {
    fn locate(&self, text: &[u8]) -> Result<Located, &'static str> {
        let public = identifier(text, 32..=32, |byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))?;
        let private = sign::hex(&Sha256::digest(public));
        Ok(Located { identifier: public.to_owned(), key: [&self.prefix, "2::", &private].concat() })
    }

    fn read(&self, wanted: &Wanted, stored: Stored<'_>, now: u64) -> Result<Option<Record>, &'static str> {
        let Stored::Text(bytes) = stored else { return Err("record is not a string") };
        match session(bytes, wanted.largest(), now)? {
            Some((record @ Datum::Map(_), ends)) => Ok(Some(Record { ends, ..Record::of(wanted, &record)? })),
            Some(_) => Err("record is not a hash"),
            None => Ok(None),
        }
    }
}

/// What a record holds, and when that is over, if it says; nothing if it is over. It is inflated to at most so many bytes.
fn session(bytes: &[u8], most: usize, now: u64) -> Result<Option<Held>, &'static str> {
    match bytes {
        [4, 8, ..] => match marshal::decode(bytes)? {
            Marshalled { class: Some(b"ActiveSupport::Cache::Entry"), datum } => entry::of_object(&datum, most, now),
            whole => Ok(Some((value(whole)?, None))),
        },
        [0, 0x11, framed @ ..] => entry::framed(framed, most, now),
        [0, packed @ ..] => entry::packed(packed, now),
        [1, deflated @ ..] => entry::packed(&super::inflate::zlib(deflated, most)?, now),
        [0xcc, 0x80, ..] => Err("record is Rails' MessagePack, which is not read"),
        _ => Ok(Some((json::decode(bytes)?, None))),
    }
}

/// A value that is no object: of an object of a class of its own nobody knows what it says.
fn value(marshalled: Marshalled<'_>) -> Result<Datum, &'static str> {
    match marshalled.class {
        Some(_) => Err("record is not a hash"),
        None => Ok(marshalled.datum),
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

    #[test]
    fn real_captures_are_judged_as_the_app_judged_them() {
        let definition = |prefix: &str| Definition {
            carriers: vec![Carrier::Cookie("_myapp_session".into())],
            prefix: prefix.into(),
            ..Definition::new("web", Format::Rails)
        };
        let stores = ["rails-redis-store", "rails-redis-store-expire", "rails-redis-store-json"];
        let judged: usize = stores.iter().map(|profile| agree(profile, definition("session:"))).sum();
        assert_eq!(judged + agree("rails-cache-store", definition("_session_id:")), 28);
    }

    #[test]
    fn a_private_identifier_opens_nothing() {
        let rails = Rails::new("session:");
        let public = "16c0247be2029bc98398cd64eac4f7ef";
        let located = rails.locate(public.as_bytes()).unwrap();
        assert_eq!(located.key, "session:2::5663c9ff8bc52111c108bfb32eb706588831ff4b79293d890a489a2876be05f1");
        assert_eq!(located.identifier, public);
        let private = located.key.strip_prefix("session:").unwrap();
        assert_eq!(rails.locate(private.as_bytes()), Err("identifier too long"));
        assert_eq!(rails.locate(&private.as_bytes()[..32]), Err("identifier has foreign characters"));
        assert_eq!(rails.locate(public.to_uppercase().as_bytes()), Err("identifier has foreign characters"));
        assert_eq!(rails.locate(&public.as_bytes()[1..]), Err("identifier too short"));
    }

    #[test]
    fn the_user_of_devise_is_found_without_being_told_where() {
        // Marshal.dump({"warden.user.user.key" => [[5], "$2a$12$salt"], "session_id" => "abc"}), Ruby 3.1.2.
        let record = marshal::tests::bytes(
            "04087b0749221977617264656e2e757365722e757365722e6b6579063a0645545b075b06690a4922102432612431322473616c74063b00\
             5449220f73657373696f6e5f6964063b0054492208616263063b0054",
        );
        let definition = Definition::new("web", Format::Rails);
        let read = Rails::new("session:").read(&Wanted::of(&definition), Stored::Text(&record), 0);
        assert_eq!(read.unwrap().unwrap().user.as_deref(), Some("5"));
    }

    #[test]
    fn what_is_no_session_says_why() {
        let read = |bytes: &[u8]| Rails::new("session:").read(&wanted(&["id"]), Stored::Text(bytes), 0);
        assert_eq!(read(b""), Err("record is not JSON"));
        assert_eq!(read(b"[1]"), Err("record is not a hash"));
        assert_eq!(read(b"\x04\x08[\x06i\x06"), Err("record is not a hash"));
        assert_eq!(read(b"\x04\x08o:\x08Foo\x06:\x08@idi\x06"), Err("record is not a hash"));
        assert_eq!(read(b"\x04\x07{\x00"), Err("record is not JSON"));
        assert_eq!(read(b"\xcc\x80\x81"), Err("record is Rails' MessagePack, which is not read"));
        assert_eq!(read(b"\x01\x78\x9c"), Err("record is not zlib"));
        assert_eq!(Rails::new("").read(&wanted(&["id"]), Stored::Fields(&[]), 0), Err("record is not a string"));
    }

    #[test]
    fn fuzz_rails_cookies() {
        let seeds: Vec<Vec<u8>> = live("rails").into_iter().map(|live| live.credential).collect();
        let way = Rails::new("session:");
        fuzz("rails cookies", &seeds, |text| {
            let located = way.locate(text);
            assert_eq!(located, way.locate(text));
            let private = |key: &str| key.strip_prefix("session:2::").is_some_and(|digest| digest.len() == 64);
            assert!(
                located.as_ref().is_ok_and(|found| found.identifier.as_bytes() == text && private(&found.key))
                    || located.is_err()
            );
            located.is_ok()
        });
    }

    /// Marshal, JSON, and entries of cache_store of every Rails.
    #[test]
    fn fuzz_rails_records() {
        let captured = live("rails").into_iter().map(|live| live.record);
        let seeds: Vec<Vec<u8>> = captured.chain(entry::tests::all()).collect();
        let (way, wanted) = (Rails::new("session:"), Wanted::of(&Definition::new("web", Format::Rails)));
        fuzz("rails records", &seeds, |bytes| {
            let held = session(bytes, MAX_RECORD, 0);
            assert_eq!(held, session(bytes, MAX_RECORD, 0));
            if let Ok(Some((record, _))) = &held {
                is_bounded(record);
            }
            let read = way.read(&wanted, Stored::Text(bytes), 0);
            assert!(read.is_err() || held.is_ok(), "read, and not decoded");
            read.is_ok()
        });
    }

    proptest! {
        #[test]
        fn no_bytes_bring_it_down(head in 0..6_usize, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let heads: [&[u8]; 6] = [b"", b"\x04\x08", b"\x00\x11", b"\x00\x04\x08", b"\x01\x78\x9c", b"\x04\x08{"];
            let _ = session(&[heads[head], &bytes[..]].concat(), super::super::USUAL_RECORD, 0);
        }
    }
}
