//! Java's object serialization, as far as it is plain: texts, `Long`, `Integer`, `Boolean` and `null`. Pure; no class is looked up.
//!
//! 1. A number or truth value is known by the whole description of its class; whatever is described otherwise is opaque.
//! 2. A text is in modified UTF-8: zero is two bytes, and what is beyond the first plane is two surrogates of three bytes.
//!
//! Source: Java Object Serialization Specification, §6.4 (grammar), `java.io.DataInput` (modified UTF-8); bytes of OpenJDK 17.0.15.

use super::MAX_RECORD;
use super::datum::Datum;

/// What each stream begins with: `STREAM_MAGIC`, version 5.
const HEADER: &[u8] = b"\xac\xed\0\x05";
/// `TC_OBJECT TC_CLASSDESC` and the class: its name, its `serialVersionUID`, `SC_SERIALIZABLE`, one field called `value`.
const LONG: &[u8] = b"sr\0\x0ejava.lang.Long\x3b\x8b\xe4\x90\xcc\x8f\x23\xdf\x02\0\x01J\0\x05value";
const INTEGER: &[u8] = b"sr\0\x11java.lang.Integer\x12\xe2\xa0\xa4\xf7\x81\x87\x38\x02\0\x01I\0\x05value";
const BOOLEAN: &[u8] = b"sr\0\x11java.lang.Boolean\xcd\x20\x72\x80\xd5\x9c\xfa\xee\x02\0\x01Z\0\x05value";
/// `TC_ENDBLOCKDATA` and the class above: `Number`, above which there is none.
const NUMBER: &[u8] = b"xr\0\x10java.lang.Number\x86\xac\x95\x1d\x0b\x94\xe0\x8b\x02\0\0xp";
/// No class above.
const NO_SUPER: &[u8] = b"xp";

/// Whether `bytes` are of this encoding.
pub fn is_java(bytes: &[u8]) -> bool {
    bytes.starts_with(HEADER)
}

/// Decodes a value.
///
/// # Errors
/// It is too large, not serialized by Java, or a text that is damaged.
pub fn decode(bytes: &[u8]) -> Result<Datum, &'static str> {
    if bytes.len() > MAX_RECORD {
        return Err("record too large");
    }
    let stream = bytes.strip_prefix(HEADER).ok_or("value is not serialized by Java")?;
    let whole = |number: i64| Datum::Whole(number.into());
    Ok(match stream {
        [b'p'] => Datum::Nothing,
        [b't', short @ ..] => short
            .split_first_chunk()
            .map_or(Err(DAMAGED), |(length, text)| written(u16::from_be_bytes(*length).into(), text))?,
        [b'|', long @ ..] => long
            .split_first_chunk()
            .map_or(Err(DAMAGED), |(length, text)| written(u64::from_be_bytes(*length), text))?,
        _ => {
            let number = |class: &[u8]| stream.strip_prefix(class)?.strip_prefix(NUMBER);
            let long = number(LONG).and_then(|value| value.try_into().ok()).map(i64::from_be_bytes).map(whole);
            let integer = || number(INTEGER).and_then(|value| value.try_into().ok()).map(i32::from_be_bytes);
            let flag = || match stream.strip_prefix(BOOLEAN)?.strip_prefix(NO_SUPER)? {
                [0] => Some(Datum::Flag(false)),
                [1] => Some(Datum::Flag(true)),
                _ => None,
            };
            let known = long.or_else(|| integer().map(|number| whole(number.into()))).or_else(flag);
            known.unwrap_or(Datum::Opaque)
        }
    })
}

const DAMAGED: &str = "text of Java is damaged";

/// A text of so many bytes, and nothing behind it.
fn written(length: u64, text: &[u8]) -> Result<Datum, &'static str> {
    if length != text.len() as u64 {
        return Err(DAMAGED);
    }
    let mut units = Vec::new();
    let mut rest = text;
    while let Some((&first, behind)) = rest.split_first() {
        let low = |at: usize| behind.get(at).filter(|&&byte| byte & 0xc0 == 0x80).map(|byte| u16::from(byte & 0x3f));
        let (unit, used) = match first {
            0x01..=0x7f => (Some(u16::from(first)), 0),
            0xc0..=0xdf => (low(0).map(|low| u16::from(first & 0x1f) << 6 | low), 1),
            0xe0..=0xef => {
                let lows = low(0).zip(low(1));
                (lows.map(|(middle, low)| u16::from(first & 0x0f) << 12 | middle << 6 | low), 2)
            }
            _ => (None, 0),
        };
        // One spelling of each: what fits into fewer bytes is in fewer, save zero.
        let fits = match (unit, used) {
            (Some(unit), 1) => unit == 0 || unit > 0x7f,
            (Some(unit), 2) => unit > 0x7ff,
            (unit, _) => unit.is_some(),
        };
        units.push(unit.filter(|_| fits).ok_or(DAMAGED)?);
        rest = behind.get(used..).unwrap_or_default();
    }
    // Half a surrogate pair is no character; Java does not mind.
    Ok(String::from_utf16(&units).map_or(Datum::Opaque, Datum::Text))
}

#[cfg(test)]
pub mod tests {
    use std::time::Duration;

    use fastrand::Rng;
    use proptest::prelude::*;

    use super::super::marshal::tests::bytes;
    use super::*;
    use crate::clock::instant;

    // What ObjectOutputStream.writeObject of OpenJDK 17.0.15 wrote of what is said above each.
    /// `1795224951900L`
    pub const LAST: &str = "aced00057372000e6a6176612e6c616e672e4c6f6e673b8be490cc8f23df0200014a000576616c7565787200106a6176612e6c616e\
        672e4e756d62657286ac951d0b94e08b0200007870000001a1fbbedc5c";
    /// `-1L`
    const MINUS: &str = "aced00057372000e6a6176612e6c616e672e4c6f6e673b8be490cc8f23df0200014a000576616c7565787200106a6176612e6c616e\
        672e4e756d62657286ac951d0b94e08b0200007870ffffffffffffffff";
    /// `1800`
    pub const HALF_AN_HOUR: &str = "aced0005737200116a6176612e6c616e672e496e746567657212e2a0a4f781873802000149000576616c7565787200106a\
        6176612e6c616e672e4e756d62657286ac951d0b94e08b020000787000000708";
    /// `-1`
    pub const NEVER: &str = "aced0005737200116a6176612e6c616e672e496e746567657212e2a0a4f781873802000149000576616c7565787200106a61\
        76612e6c616e672e4e756d62657286ac951d0b94e08b0200007870ffffffff";
    /// `"alice"`
    pub const ALICE: &str = "aced0005740005616c696365";
    /// `"Müller \u0000 \ud83d\ude00"`
    const ODD: &str = "aced00057400114dc3bc6c6c657220c08020eda0bdedb880";
    /// `true`
    const TRUE: &str = "aced0005737200116a6176612e6c616e672e426f6f6c65616ecd207280d59cfaee0200015a000576616c7565787001";
    /// `1.5`
    const DOUBLE: &str = "aced0005737200106a6176612e6c616e672e446f75626c6580b3c24a296bfb0402000144000576616c7565787200106a6176612e6c616e\
        672e4e756d62657286ac951d0b94e08b02000078703ff8000000000000";
    /// `new ArrayList<>(List.of("user", "editor"))`
    pub const LIST: &str = "aced0005737200136a6176612e7574696c2e41727261794c6973747881d21d99c7619d03000149000473697a65787000000002770400\
        00000274000475736572740006656469746f7278";
    /// `UUID.fromString("6f1d3a52-8d6e-4a5f-9b0c-2f1e4d3c5b6a")`
    const UUID: &str = "aced00057372000e6a6176612e7574696c2e55554944bc9903f7986d852f0200024a000c6c65617374536967426974734a000b6d6f73\
        745369674269747378709b0c2f1e4d3c5b6a6f1d3a528d6e4a5f";
    /// `enum E { ADMIN }`
    const ENUM: &str = "aced00057e72000347244500000000000000001200007872000e6a6176612e6c616e672e456e756d0000000000000000120000787074000541444d494e";

    fn read(hex: &str) -> Datum {
        decode(&bytes(hex)).unwrap()
    }

    #[test]
    fn what_java_wrote_is_read() {
        assert_eq!((read(LAST), read(MINUS)), (Datum::Whole(1_795_224_951_900), Datum::Whole(-1)));
        assert_eq!((read(HALF_AN_HOUR), read(NEVER)), (Datum::Whole(1800), Datum::Whole(-1)));
        assert_eq!((read(ALICE), read("aced0005740000")), (Datum::Text("alice".into()), Datum::Text(String::new())));
        assert_eq!(read(ODD), Datum::Text("Müller \0 😀".into()));
        assert_eq!((read(TRUE), read(&TRUE.replace("787001", "787000"))), (Datum::Flag(true), Datum::Flag(false)));
        assert_eq!(read("aced000570"), Datum::Nothing);
    }

    #[test]
    fn objects_are_opaque() {
        for object in [DOUBLE, LIST, UUID, ENUM, "aced0005", "aced000573"] {
            assert_eq!(read(object), Datum::Opaque, "{object}");
        }
        // A class that calls itself Long and is described otherwise; a number with something behind it.
        assert_eq!(read(&LAST.replace("3b8be490", "3b8be491")), Datum::Opaque);
        assert_eq!(read(&format!("{LAST}00")), Datum::Opaque);
        assert_eq!(read(&TRUE.replace("787001", "787002")), Datum::Opaque);
    }

    #[test]
    fn long_texts_are_texts() {
        let long = [HEADER, b"|", &70_000_u64.to_be_bytes(), "x".repeat(70_000).as_bytes()].concat();
        assert_eq!(decode(&long), Ok(Datum::Text("x".repeat(70_000))));
        assert_eq!(decode(&long[..long.len() - 1]), Err(DAMAGED));
        assert_eq!(decode(&[HEADER, b"|", &u64::MAX.to_be_bytes(), b"x"].concat()), Err(DAMAGED));
        assert_eq!(decode(&[HEADER, &vec![0; MAX_RECORD]].concat()), Err("record too large"));
    }

    #[test]
    fn damaged_texts_are_refused_and_half_characters_are_no_text() {
        let text = |text: &[u8]| decode(&[HEADER, b"t", &(text.len() as u16).to_be_bytes(), text].concat());
        for damaged in
            [&b"\0"[..], b"\xc3", b"\xc3\x28", b"\xe2\x82", b"\x80", b"\xf0\x9f\x98\x80", b"\xc1\x81", b"\xe0\x81\x81"]
        {
            assert_eq!(text(damaged), Err(DAMAGED), "{damaged:?}");
        }
        assert_eq!(text(b"\xed\xa0\xbd"), Ok(Datum::Opaque));
        assert_eq!(decode(b"alice"), Err("value is not serialized by Java"));
    }

    proptest! {
        #[test]
        fn no_bytes_bring_it_down(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode(&[HEADER, &bytes[..]].concat());
            let _ = decode(&[HEADER, b"t\0\x0a", &bytes[..]].concat());
        }
    }

    #[test]
    fn fuzz_java() {
        let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
        let deadline = number("SIDEGATE_FUZZ_SECONDS").map(|seconds| instant() + Duration::from_secs(seconds));
        let seed = number("SIDEGATE_FUZZ_SEED").unwrap_or_else(|| deadline.map_or(17, |_| fastrand::u64(..)));
        println!("fuzz_java: SIDEGATE_FUZZ_SEED={seed}");
        let mut random = Rng::with_seed(seed);
        let written = [LAST, HALF_AN_HOUR, ALICE, ODD, TRUE, LIST].map(bytes);
        let (mut turn, mut read) = (0, 0);
        while deadline.map_or(turn < 20_000, |deadline| instant() < deadline) {
            let mut value = written[random.usize(..written.len())].clone();
            for _ in 0..random.usize(1..3) {
                let place = random.usize(4..value.len());
                match random.u8(..4) {
                    0 => value.truncate(place.max(5)),
                    1 => value.insert(place, random.u8(..)),
                    _ => value[place] = random.u8(..),
                }
            }
            read += usize::from(matches!(decode(&value), Ok(read) if read != Datum::Opaque));
            turn += 1;
        }
        assert!(read * 50 > turn && read * 20 < turn * 19, "{read} of {turn} read: the mutations say little");
    }
}
