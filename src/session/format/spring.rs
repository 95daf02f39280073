//! `spring`: Spring Session in Redis, a hash for each session. Pure.
//!
//! 1. The identifier is a UUID as Java writes it. The cookie is its base64 with padding, or the UUID itself, as in `X-Auth-Token` and
//!    from WebFlux: one has dashes, the other has none. `.ROUTE` behind it (`jvmRoute`) is cut off.
//! 2. An attribute NAME is the field `sessionAttr:NAME`: serialized by Java, or JSON; one that cannot be read is opaque, and the
//!    others stay readable. An empty one was removed.
//! 3. A path is the name of an attribute, dots and all. In JSON it may lead further in: then the attribute's name is what
//!    stands before the first dot.
//! 4. A key is not a session. It stands while `maxInactiveInterval` is negative, or `lastAccessedTime` and that many seconds
//!    are still to come; without these fields and `creationTime` it is none.
//! 5. A session tells its birth: `creationTime`, unless the configuration names something else.
//!
//! # Why
//! Rule 4: the indexed repository keeps the hash five minutes beyond its end, and at a logout sets `maxInactiveInterval` to 0.
//!
//! Source: Spring Session 3 and 4 (`RedisSessionMapper`, `MapSession.isExpired`, `DefaultCookieSerializer`), read and not run.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::datum::Datum;
use super::{MAX_RECORD, Record, Stored, Wanted, Way, identifier, java, json};
use crate::exchange::Located;

/// Fields that a session has; they stand before its attributes.
const OWN: [&str; 3] = ["creationTime", "lastAccessedTime", "maxInactiveInterval"];
/// What stands before the name of an attribute.
const ATTRIBUTE: &str = "sessionAttr:";

/// UUIDs, and hashes under them.
pub struct Spring {
    prefix: String,
    base64: bool,
}

impl Spring {
    /// Under keys that begin with `prefix`; cookies are `base64`.
    pub fn new(prefix: &str, base64: bool) -> Self {
        Self { prefix: prefix.to_owned(), base64 }
    }
}

impl Way for Spring {
    fn locate(&self, text: &[u8]) -> Result<Located, &'static str> {
        let decoded;
        let plain = if self.base64 && !text.contains(&b'-') {
            decoded = STANDARD.decode(text).map_err(|_| "cookie is not base64")?;
            &decoded
        } else {
            text
        };
        Ok(Located::behind(&self.prefix, uuid(plain)?))
    }

    fn fields(&self, wanted: &Wanted) -> Option<Vec<String>> {
        let attributes = names(wanted).into_iter().map(|name| [ATTRIBUTE, name].concat());
        Some(OWN.iter().map(|&own| own.to_owned()).chain(attributes).collect())
    }

    fn read(&self, wanted: &Wanted, stored: Stored<'_>, now: u64) -> Result<Option<Record>, &'static str> {
        let Stored::Fields([created, accessed, interval, attributes @ ..]) = stored else {
            return Err("record is not a hash of Spring Session");
        };
        if attributes.iter().flatten().map(|value| value.len()).sum::<usize>() > MAX_RECORD {
            return Err("record too large");
        }
        let (Some(created), Some(accessed), Some(interval)) = (created, accessed, interval) else { return Ok(None) };
        let (created, accessed, interval) = (number(created)?, number(accessed)?, number(interval)?);
        let ends = (interval >= 0).then(|| accessed.saturating_add(interval.saturating_mul(1000)));
        if ends.is_some_and(|ends| ends <= now.into()) {
            return Ok(None);
        }
        let told = |(name, value): (&str, &Option<&[u8]>)| Some((name.to_owned(), attribute((*value)?)));
        let session = Datum::Map(names(wanted).into_iter().zip(attributes).filter_map(told).collect());
        let mut record = Record::of(wanted, &session)?;
        if wanted.born().is_none() {
            record.born = u64::try_from(created).ok();
        }
        record.ends = ends.and_then(|ends| u64::try_from(ends).ok());
        Ok(Some(record))
    }
}

/// The names of the attributes that wanted paths may lead to (rule 3), each once.
fn names(wanted: &Wanted) -> Vec<&str> {
    let mut names = Vec::new();
    for path in wanted.paths().iter().map(String::as_str).chain(wanted.born()) {
        for name in [Some(path), path.split_once('.').map(|(first, _)| first)].into_iter().flatten() {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

/// A UUID in lower case, without what is behind a dot.
fn uuid(text: &[u8]) -> Result<&str, &'static str> {
    let (id, route) = match text.iter().position(|&byte| byte == b'.') {
        Some(dot) => (&text[..dot], Some(&text[dot + 1..])),
        None => (text, None),
    };
    if let Some(route) = route {
        identifier(route, 1..=64, |byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))?;
    }
    let id = identifier(id, 36..=36, |byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte) || byte == b'-')?;
    let dashes = id.match_indices('-').map(|(place, _)| place);
    if dashes.eq([8, 13, 18, 23]) { Ok(id) } else { Err("identifier is not a UUID") }
}

/// What the field of an attribute holds; what cannot be read is opaque.
fn attribute(value: &[u8]) -> Datum {
    match value {
        [] => Datum::Nothing,
        value if java::is_java(value) => java::decode(value).unwrap_or(Datum::Opaque),
        value => json::decode(value).unwrap_or(Datum::Opaque),
    }
}

fn number(value: &[u8]) -> Result<i128, &'static str> {
    match attribute(value) {
        Datum::Whole(number) => Ok(number),
        _ => Err("record tells its times in an unknown way"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::datum::UNTOLD;
    use super::super::fixtures::is_bounded;
    use super::super::java::tests::{ALICE, HALF_AN_HOUR, LAST, LIST, NEVER};
    use super::super::marshal::tests::bytes;
    use super::super::php::odd::fuzz;
    use super::*;
    use crate::session::{Definition, Format, settings};

    const ID: &str = "6f1d3a52-8d6e-4a5f-9b0c-2f1e4d3c5b6a";
    const PRINCIPAL: &str = "org.springframework.session.FindByIndexNameSessionRepository.PRINCIPAL_NAME_INDEX_NAME";
    /// `lastAccessedTime` of [`LAST`].
    const ACCESSED: u64 = 1_795_224_951_900;

    fn definition() -> Definition {
        Definition::new("web", Format::Spring { base64: true })
    }

    /// What `definition` reads of a hash with these fields at `now`.
    fn read(definition: &Definition, hash: &[(&str, Vec<u8>)], now: u64) -> Result<Option<Record>, &'static str> {
        let (spring, wanted) = (Spring::new("spring:session:sessions:", true), Wanted::of(definition));
        let value = |field: &String| hash.iter().find(|(name, _)| name == field).map(|(_, value)| value.as_slice());
        let values: Vec<Option<&[u8]>> = spring.fields(&wanted).unwrap().iter().map(value).collect();
        spring.read(&wanted, Stored::Fields(&values), now)
    }

    fn session<'a>(interval: &str, attributes: &[(&'a str, Vec<u8>)]) -> Vec<(&'a str, Vec<u8>)> {
        let times = [("creationTime", LAST), ("lastAccessedTime", LAST), ("maxInactiveInterval", interval)];
        times.map(|(name, value)| (name, bytes(value))).into_iter().chain(attributes.iter().cloned()).collect()
    }

    #[test]
    fn a_cookie_is_base64_of_a_uuid_or_the_uuid() {
        let key = |base64: bool, text: &str| {
            Spring::new("spring:session:sessions:", base64).locate(text.as_bytes()).map(|located| located.key)
        };
        let expected = format!("spring:session:sessions:{ID}");
        let encoded = STANDARD.encode(ID);
        assert_eq!(encoded, "NmYxZDNhNTItOGQ2ZS00YTVmLTliMGMtMmYxZTRkM2M1YjZh");
        for text in [encoded.clone(), ID.into(), format!("{ID}.node-1"), STANDARD.encode(format!("{ID}.node-1"))] {
            assert_eq!(key(true, &text).as_ref(), Ok(&expected), "{text}");
        }
        assert_eq!(key(false, ID), Ok(expected));
        assert_eq!(key(false, &encoded), Err("identifier too long"));
        for (text, why) in [
            ("6F1D3A52-8D6E-4A5F-9B0C-2F1E4D3C5B6A", "identifier has foreign characters"),
            ("6f1d3a52-8d6e-4a5f-9b0c-2f1e4d3c5b6", "identifier too short"),
            ("6f1d3a528-d6e-4a5f-9b0c-2f1e4d3c5b6a", "identifier is not a UUID"),
            ("6f1d3a52-8d6e-4a5f-9b0c-2f1e4d3c5b6a.", "identifier too short"),
            ("6f1d3a52-8d6e-4a5f-9b0c-2f1e4d3c5b6a.a:b", "identifier has foreign characters"),
            ("expires:6f1d3a52-8d6e-4a5f-9b0c-2f1e4d3c5b6a", "identifier too long"),
            ("NmYxZDNhNTItOGQ2ZS00YTVmLTliMGMtMmYxZTRkM2M1YjZh=", "cookie is not base64"),
            ("NmYxZDNhNTI", "cookie is not base64"),
            ("", "identifier too short"),
        ] {
            assert_eq!(key(true, text), Err(why), "{text}");
        }
    }

    #[test]
    fn the_user_is_a_text_attribute() {
        let attributes = [(&*format!("{ATTRIBUTE}{PRINCIPAL}"), bytes(ALICE))];
        let record = read(&definition(), &session(HALF_AN_HOUR, &attributes), ACCESSED).unwrap().unwrap();
        assert_eq!((record.user.as_deref(), record.born), (Some("alice"), Some(ACCESSED)));
        assert_eq!(record.ends, Some(ACCESSED + 1_800_000));
        let anonymous = |value: Vec<u8>| {
            let hash = session(HALF_AN_HOUR, &[("sessionAttr:user_id", value)]);
            read(&definition(), &hash, ACCESSED).unwrap().unwrap().user
        };
        // Removed, a list, nothing, and what is not called an attribute.
        for nobody in [&b""[..], b"[\"alice\"]", b"null"] {
            assert_eq!(anonymous(nobody.to_vec()), None, "{nobody:?}");
        }
        // An object, and no JSON: somebody, and nobody knows who.
        for untold in [&bytes(LIST)[..], b"alice"] {
            let hash = session(HALF_AN_HOUR, &[("sessionAttr:user_id", untold.to_vec())]);
            assert_eq!(read(&definition(), &hash, ACCESSED), Err(UNTOLD), "{untold:?}");
        }
        assert_eq!(anonymous(b"\"alice\"".to_vec()).as_deref(), Some("alice"));
        let plain = session(HALF_AN_HOUR, &[("user_id", bytes(ALICE))]);
        assert_eq!(read(&definition(), &plain, ACCESSED).unwrap().unwrap().user, None);
    }

    #[test]
    fn a_key_is_not_a_session() {
        let life = |interval: &str, now: u64| {
            read(&definition(), &session(interval, &[]), now).map(|session| session.is_some())
        };
        let end = ACCESSED + 1_800_000;
        assert_eq!((life(HALF_AN_HOUR, end - 1), life(HALF_AN_HOUR, end)), (Ok(true), Ok(false)));
        assert_eq!(life(NEVER, u64::MAX), Ok(true));
        // A logout of the indexed repository.
        assert_eq!(life(&HALF_AN_HOUR.replace("00000708", "00000000"), ACCESSED), Ok(false));
        assert_eq!(life(ALICE, ACCESSED), Err("record tells its times in an unknown way"));
        for missing in OWN {
            let mut hash = session(HALF_AN_HOUR, &[]);
            hash.retain(|(name, _)| *name != missing);
            assert_eq!(read(&definition(), &hash, ACCESSED), Ok(None), "{missing}");
        }
        assert_eq!(read(&definition(), &[], ACCESSED), Ok(None));
    }

    #[test]
    fn what_is_json_is_read_further_in() {
        let context = r#"{"@class":"org.springframework.security.core.context.SecurityContextImpl","authentication":{"name":"bob"}}"#;
        let hash = [
            ("creationTime", b"1795224951900".to_vec()),
            ("lastAccessedTime", b"1795224951900".to_vec()),
            ("maxInactiveInterval", b"1800".to_vec()),
            ("sessionAttr:SPRING_SECURITY_CONTEXT", context.into()),
            ("sessionAttr:since", b"1795220000".to_vec()),
        ];
        let mut definition =
            Definition { user: vec!["SPRING_SECURITY_CONTEXT.authentication.name".into()], ..definition() };
        let record = read(&definition, &hash, ACCESSED).unwrap().unwrap();
        assert_eq!((record.user.as_deref(), record.born), (Some("bob"), Some(ACCESSED)));
        let born = Some("since".to_owned());
        definition.lifetime = Some(settings::Lifetime { most: std::time::Duration::from_secs(1), born });
        let record = read(&definition, &hash, ACCESSED).unwrap().unwrap();
        assert_eq!(record.born, Some(1_795_220_000_000));
    }

    #[test]
    fn only_what_is_wanted_is_asked_for() {
        let definition = Definition { user: vec!["user.id".into(), "user.name".into()], ..definition() };
        let fields = Spring::new("", true).fields(&Wanted::of(&definition)).unwrap();
        assert_eq!(fields[..3], OWN);
        assert_eq!(fields[3..], ["sessionAttr:user.id", "sessionAttr:user", "sessionAttr:user.name"]);
    }

    #[test]
    fn fuzz_spring_cookies() {
        let seeds = [ID.to_owned(), STANDARD.encode(ID), format!("{ID}.node-1")].map(String::into_bytes);
        for base64 in [true, false] {
            let way = Spring::new("spring:session:sessions:", base64);
            let seeds: Vec<Vec<u8>> = seeds.iter().filter(|seed| way.locate(seed).is_ok()).cloned().collect();
            fuzz("spring cookies", &seeds, |text| {
                let located = way.locate(text);
                assert_eq!(located, way.locate(text));
                let is_uuid = |id: &str| uuid(id.as_bytes()) == Ok(id) && id.len() == 36;
                assert!(located.as_ref().map_or(true, |found| is_uuid(&found.identifier)), "{located:?}");
                located.is_ok()
            });
        }
    }

    /// A damaged field in each place: what it says counts for its own attribute and no other.
    #[test]
    fn fuzz_spring_fields() {
        let json =
            [&b"\"alice\""[..], b"1795224951900", b"{\"authentication\":{\"name\":\"bob\"}}"].map(<[u8]>::to_vec);
        let seeds: Vec<Vec<u8>> = [LAST, HALF_AN_HOUR, NEVER, ALICE].map(bytes).into_iter().chain(json).collect();
        let (principal, attribute_of_user) = (format!("{ATTRIBUTE}{PRINCIPAL}"), format!("{ATTRIBUTE}user_id"));
        fuzz("spring fields", &seeds, |damaged| {
            let told = attribute(damaged);
            is_bounded(&told);
            for place in 0..5 {
                let mut hash = session(HALF_AN_HOUR, &[(&*principal, Vec::new()), (&*attribute_of_user, bytes(ALICE))]);
                hash[place].1 = damaged.to_vec();
                let found = read(&definition(), &hash, ACCESSED);
                assert_eq!(found, read(&definition(), &hash, ACCESSED));
                let Ok(Some(record)) = found else { continue };
                let text = told.text().filter(|text| !text.trim().is_empty());
                let user = record.user.as_deref();
                match place {
                    0..3 => assert_eq!(user, Some("alice"), "a time names nobody"),
                    3 => assert!(user == Some("alice") || user == text.as_deref(), "{user:?} of {told:?}"),
                    _ => assert!(user.is_none() || user == text.as_deref(), "{user:?} of {told:?}"),
                }
            }
            told != Datum::Opaque
        });
    }

    proptest! {
        #[test]
        fn no_bytes_bring_it_down(text in prop::collection::vec(any::<u8>(), 0..80), value in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = Spring::new("", true).locate(&text);
            let _ = Spring::new("", false).locate(&text);
            let java = [b"\xac\xed\0\x05", &value[..]].concat();
            for value in [value, java] {
                let _ = read(&definition(), &session(HALF_AN_HOUR, &[("sessionAttr:user_id", value.clone())]), ACCESSED);
                let _ = read(&definition(), &[("creationTime", value.clone()), ("lastAccessedTime", value.clone()), ("maxInactiveInterval", value)], 0);
            }
        }
    }
}
