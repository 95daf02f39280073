//! What `ActiveSupport::Cache` puts around a value in Redis, in the forms of Rails 5.2 to 8.0. Pure.
//!
//! 1. An entry is over at the time that it tells, even while its key stands.
//! 2. To 6.1 it is a marshalled object: `@value`, `@created_at` and `@expires_in` in seconds; with `@compressed` the value is
//!    marshalled and deflated by itself.
//! 3. In 7.0 a byte (0: as it is, 1: deflated) stands before a marshalled list of value, end, version; without what is `nil`.
//! 4. From 7.1 two bytes (0, 17), the kind (1: marshalled; beyond: a bare text; the highest bit: deflated), the end as a
//!    double (below zero: none), the length of a version (below zero: none) and the version stand before the value.
//!
//! Source: activesupport 6.1.7.10 (run), `cache/{entry,coder,serializer_with_fallback}.rb` of 7.1 (read).

use super::value;
use crate::session::format::datum::Datum;
use crate::session::format::{inflate, marshal};

/// A value, and when its entry is over, in Unix milliseconds.
pub type Held = (Datum, Option<u64>);

const UNKNOWN: &str = "record is an entry of an unknown Rails";

/// Reads an entry of rule 2; nothing if it is over at `now`, in Unix milliseconds.
///
/// # Errors
/// It is of another Rails, or what is in it cannot be read.
pub fn of_object(entry: &Datum, most: usize, now: u64) -> Result<Option<Held>, &'static str> {
    let held = entry.at("@value").ok_or(UNKNOWN)?;
    let end = match entry.at("@expires_in") {
        None | Some(Datum::Nothing) => None,
        Some(life) => {
            let begun = entry.at("@created_at").and_then(number).ok_or(UNKNOWN)?;
            Some(begun + number(life).ok_or(UNKNOWN)?)
        }
    };
    let Some(ends) = standing(end, now) else { return Ok(None) };
    let value = match (entry.at("@compressed"), held) {
        (None, held) => held.clone(),
        (Some(_), Datum::Bytes(deflated)) => marshalled(&inflate::zlib(deflated, most)?)?,
        (Some(_), _) => return Err(UNKNOWN),
    };
    Ok(Some((value, ends)))
}

/// Reads an entry of rule 3, behind its first byte and inflated.
///
/// # Errors
/// As above.
pub fn packed(bytes: &[u8], now: u64) -> Result<Option<Held>, &'static str> {
    let Datum::List(members) = marshalled(bytes)? else { return Err(UNKNOWN) };
    let mut members = members.into_iter();
    let value = members.next().unwrap_or(Datum::Nothing);
    let end = match members.next() {
        None | Some(Datum::Nothing) => None,
        Some(end) => Some(number(&end).ok_or(UNKNOWN)?),
    };
    Ok(standing(end, now).map(|ends| (value, ends)))
}

/// Reads an entry of rule 4, behind its first two bytes.
///
/// # Errors
/// As above.
pub fn framed(bytes: &[u8], most: usize, now: u64) -> Result<Option<Held>, &'static str> {
    const DEFLATED: u8 = 0x80;
    let (&[kind], rest) = bytes.split_first_chunk().ok_or(UNKNOWN)?;
    let (end, rest) = rest.split_first_chunk().ok_or(UNKNOWN)?;
    let (version, rest) = rest.split_first_chunk().ok_or(UNKNOWN)?;
    let version = usize::try_from(i32::from_le_bytes(*version)).unwrap_or(0);
    let (_, held) = rest.split_at_checked(version).ok_or(UNKNOWN)?;
    let end = f64::from_le_bytes(*end);
    let Some(ends) = standing((end >= 0.0).then_some(end), now) else { return Ok(None) };
    let value = match kind {
        1 => marshalled(held)?,
        0x81 => marshalled(&inflate::zlib(held, most)?)?,
        text if (2..=4).contains(&(text & !DEFLATED)) => return Err("record is not a hash"),
        _ => return Err(UNKNOWN),
    };
    Ok(Some((value, ends)))
}

fn marshalled(bytes: &[u8]) -> Result<Datum, &'static str> {
    value(marshal::decode(bytes)?)
}

/// When what ends at `end`, in Unix seconds, ends in milliseconds; nothing if that is over at `now`.
fn standing(end: Option<f64>, now: u64) -> Option<Option<u64>> {
    let ends = end.map(|end| (end * 1000.0).ceil() as u64);
    ends.is_none_or(|ends| ends > now).then_some(ends)
}

fn number(datum: &Datum) -> Option<f64> {
    match datum {
        Datum::Whole(number) => Some(*number as f64),
        Datum::Float(number) => Some(*number),
        _ => None,
    }
}

#[cfg(test)]
pub mod tests {
    use super::super::session;
    use super::*;
    use crate::session::format::MAX_RECORD;
    use crate::session::format::marshal::tests::bytes;

    /// `ActiveSupport::Cache::Entry.new({"user_id" => 5, "bio" => "abc" * 1000}, expires_in: 5400)`, 6.1.7.10, at 1795293872.447298.
    const DEFLATED_61: &str = "04086f3a20416374697665537570706f72743a3a43616368653a3a456e7472790a3a0b4076616c7565224b789c63e1a866f754\
        e2292d4e2d8acf4c61b362730dc9e4f254e248cacc67b36608f15462dac19d98943c8a46d1281a45a368148da251348a46d1281ae408d4800700a8ac85\
        f63a0d4076657273696f6e303a1040637265617465645f61746617313739353239333837322e343437323938353a1040657870697265735f696e660a35\
        2e3465333a1040636f6d7072657373656454";
    /// The same of `{"user_id" => 5}`, without end.
    const ENDLESS_61: &str = "04086f3a20416374697665537570706f72743a3a43616368653a3a456e747279093a0b4076616c75657b0649220c757365725f\
        6964063a064554690a3a0d4076657273696f6e303a1040637265617465645f61746617313739353239333837322e343437373337373a10406578706972\
        65735f696e30";

    // From here on marshalled, deflated and packed by Ruby 3.1.2, but put together as the source says. Until 1795224992.5, or endless.
    /// `"\0" + Marshal.dump([{"user_id" => 5, "cart" => ["book"]}, 1795224992.5])`
    const PACKED_70: &str = "0004085b077b0749220c757365725f6964063a064554690a49220963617274063b00545b06492209626f6f6b063b005466113137\
        39353232343939322e35";
    /// `"\0" + Marshal.dump([{"user_id" => 5, "cart" => ["book"]}])`
    const ENDLESS_70: &str =
        "0004085b067b0749220c757365725f6964063a064554690a49220963617274063b00545b06492209626f6f6b063b0054";
    /// `"\1" + Zlib::Deflate.deflate(Marshal.dump([{"user_id" => 5, "bio" => "abc" * 400}, 1795224992.5]))`
    const DEFLATED_70: &str = "01789c63e18866af66f754e2292d4e2d8acf4c61b362730dc9e4f254e248cacc67b36608f15462dac09298943c8a46d1281a45\
        4302810aae344143734b532323134b4b233d5300e325d7f8";
    /// `"\0\x11" + [1, 1795224992.5, -1].pack("CEl<") + Marshal.dump({"user_id" => 5, "cart" => ["book"]})`
    const FRAMED_71: &str = "001101000020683dc0da41ffffffff04087b0749220c757365725f6964063a064554690a49220963617274063b00545b064922\
        09626f6f6b063b0054";
    /// `"\0\x11" + [0x81, -1.0, 2].pack("CEl<") + "v1" + Zlib::Deflate.deflate(Marshal.dump({"user_id" => 5, "bio" => "abc" * 400}))`
    const DEFLATED_71: &str = "001181000000000000f0bf020000007631789c63e1a866f754e2292d4e2d8acf4c61b362730dc9e4f254e248cacc67b36608f1\
        5462dac09298943c8a46d1281a454302810a2e004a78d4aa";

    /// Each kind of entry.
    pub fn all() -> Vec<Vec<u8>> {
        let all = [DEFLATED_61, ENDLESS_61, PACKED_70, ENDLESS_70, DEFLATED_70, FRAMED_71, DEFLATED_71];
        all.map(bytes).into()
    }

    fn user(entry: &str, now: u64) -> Result<Option<String>, &'static str> {
        Ok(session(&bytes(entry), MAX_RECORD, now)?
            .map(|(record, _)| record.at("user_id").and_then(Datum::text).unwrap()))
    }

    #[test]
    fn entries_of_every_rails_hold_the_session() {
        let all = [DEFLATED_61, ENDLESS_61, PACKED_70, ENDLESS_70, DEFLATED_70, FRAMED_71, DEFLATED_71];
        for entry in all {
            assert_eq!(user(entry, 1_795_224_992_000), Ok(Some("5".into())), "{entry}");
        }
    }

    #[test]
    fn an_entry_is_over_at_its_end_although_its_key_stands() {
        for (entry, end) in [
            (DEFLATED_61, 1_795_299_272_448),
            (PACKED_70, 1_795_224_992_500),
            (DEFLATED_70, 1_795_224_992_500),
            (FRAMED_71, 1_795_224_992_500),
        ] {
            assert_eq!((user(entry, end - 1), user(entry, end)), (Ok(Some("5".into())), Ok(None)), "{entry}");
            assert_eq!(session(&bytes(entry), MAX_RECORD, 0).unwrap().unwrap().1, Some(end), "{entry}");
        }
        for entry in [ENDLESS_61, ENDLESS_70, DEFLATED_71] {
            assert_eq!(user(entry, 9_000_000_000_000), Ok(Some("5".into())), "{entry}");
        }
    }

    #[test]
    fn entries_of_something_else_and_damaged_ones_are_refused() {
        // A text by itself: `[2, -1.0, -1].pack("CEl<") + "text"`.
        assert_eq!(user("001102000000000000f0bfffffffff74657874", 0), Err("record is not a hash"));
        assert_eq!(user("001105000000000000f0bfffffffff74657874", 0), Err(UNKNOWN));
        assert_eq!(user("001101000000000000f0bfffffff7f0408", 0), Err(UNKNOWN), "a version beyond the end");
        assert_eq!(user("0004087b00", 0), Err(UNKNOWN), "packed, and not a list");
        // Rails 4.0 had short names: Entry with `@v` alone.
        let old = "04086f3a20416374697665537570706f72743a3a43616368653a3a456e747279063a0740767b00";
        assert_eq!(user(old, 0), Err(UNKNOWN));
        for whole in [DEFLATED_61, PACKED_70, DEFLATED_70, FRAMED_71, DEFLATED_71] {
            for end in (4..whole.len()).step_by(2) {
                assert!(user(&whole[..end], 0).is_err(), "{}", &whole[..end]);
            }
        }
    }
}
