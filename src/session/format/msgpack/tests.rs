use proptest::prelude::*;

use super::super::python::tests::{data, shown};
use super::*;

/// `value` in the narrowest spelling.
fn encode(value: &Datum, to: &mut Vec<u8>) {
    let counted = |to: &mut Vec<u8>, length: usize, few: Option<(u8, usize)>, markers: [u8; 3]| match (few, length) {
        (Some((marker, most)), length) if length <= most => to.push(marker | length as u8),
        (_, ..=0xff) if markers[0] != 0 => to.extend([markers[0], length as u8]),
        (_, ..=0xffff) => {
            to.push(markers[1]);
            to.extend((length as u16).to_be_bytes());
        }
        _ => {
            to.push(markers[2]);
            to.extend((length as u32).to_be_bytes());
        }
    };
    match value {
        Datum::Nothing => to.push(0xc0),
        Datum::Flag(truth) => to.push(0xc2 + u8::from(*truth)),
        Datum::Whole(number) => match *number {
            -32..=-1 => to.push(*number as i8 as u8),
            0..=0x7f => to.push(*number as u8),
            -0x80..0 => to.extend([0xd0, *number as i8 as u8]),
            0x80..=0xff => to.extend([0xcc, *number as u8]),
            -0x8000..0 => to.extend([&[0xd1][..], &(*number as i16).to_be_bytes()].concat()),
            0x100..=0xffff => to.extend([&[0xcd][..], &(*number as u16).to_be_bytes()].concat()),
            -0x8000_0000..0 => to.extend([&[0xd2][..], &(*number as i32).to_be_bytes()].concat()),
            0x1_0000..=0xffff_ffff => to.extend([&[0xce][..], &(*number as u32).to_be_bytes()].concat()),
            ..0 => to.extend([&[0xd3][..], &(*number as i64).to_be_bytes()].concat()),
            _ => to.extend([&[0xcf][..], &(*number as u64).to_be_bytes()].concat()),
        },
        Datum::Float(number) => to.extend([&[0xcb][..], &number.to_be_bytes()].concat()),
        Datum::Text(text) => {
            counted(to, text.len(), Some((0xa0, 31)), [0xd9, 0xda, 0xdb]);
            to.extend(text.as_bytes());
        }
        Datum::Bytes(bytes) => {
            counted(to, bytes.len(), None, [0xc4, 0xc5, 0xc6]);
            to.extend(bytes);
        }
        Datum::List(items) => {
            counted(to, items.len(), Some((0x90, 15)), [0, 0xdc, 0xdd]);
            items.iter().for_each(|item| encode(item, to));
        }
        Datum::Map(entries) => {
            counted(to, entries.len(), Some((0x80, 15)), [0, 0xde, 0xdf]);
            for (name, value) in entries {
                encode(&Datum::Text(name.clone()), to);
                encode(value, to);
            }
        }
        Datum::Opaque => to.extend(b"\xd4\x07\x00"),
    }
}

#[test]
fn what_python_writes_is_read() {
    // By msgspec 0.22.0, with which Flask-Session 0.8 writes; the last by msgpack 1.2.4.
    let written: [(&str, &[u8], &str); 4] = [
        (
            "{'a': 1, 'b': [True, None, 1.5, -1, 70000, 2**40, -2**63, 2**64-1]}",
            b"\x82\xa1a\x01\xa1b\x98\xc3\xc0\xcb?\xf8\x00\x00\x00\x00\x00\x00\xff\xce\x00\x01\x11p\xcf\x00\x00\x01\x00\x00\x00\x00\
              \x00\xd3\x80\x00\x00\x00\x00\x00\x00\x00\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
            "{a: 1, b: [true, None, 1.5, -1, 70000, 1099511627776, -9223372036854775808, 18446744073709551615]}",
        ),
        (
            "{'at': datetime(2026, 11, 21, tzinfo=timezone.utc), 'day': datetime(2026, 11, 21), 'id': UUID(int=1), \
             'sum': Decimal('1.50')}",
            b"\x84\xa2at\xd6\xffk\x00\xdf\x00\xa3day\xb32026-11-21T00:00:00\xa2id\xd9$00000000-0000-0000-0000-000000000001\
              \xa3sum\xa41.50",
            "{at: ?, day: 2026-11-21T00:00:00, id: 00000000-0000-0000-0000-000000000001, sum: 1.50}",
        ),
        (
            "{5: 'five', 'M\\u00fcller': b'abc', 'set': {7}, 'tuple': (1, 'x')}",
            b"\x84\x05\xa4five\xa7M\xc3\xbcller\xc4\x03abc\xa3set\x91\x07\xa5tuple\x92\x01\xa1x",
            "{5: five, Müller: <abc>, set: [7], tuple: [1, x]}",
        ),
        (
            "{-5: 1, None: 2, 2.5: 3, (): 4, b'b': 5, True: 6, 'ext': ExtType(7, b'abc'), 'id': 7}",
            b"\x88\xfb\x01\xc0\x02\xcb@\x04\x00\x00\x00\x00\x00\x00\x03\x90\x04\xc4\x01b\x05\xc3\x06\xa3ext\xc7\x03\x07abc\
              \xa2id\x07",
            "{-5: 1, ext: ?, id: 7}",
        ),
    ];
    for (python, bytes, expected) in written {
        assert_eq!(shown(&decode(bytes).unwrap()), expected, "{python}");
    }
}

#[test]
fn text_that_is_no_unicode_is_bytes_and_names_nothing() {
    assert_eq!(shown(&decode(b"\x82\xa1a\xa1\xff\xa1\xff\x05").unwrap()), "{a: <\\xff>}");
    assert_eq!(shown(&decode(b"\xca\x3f\xc0\x00\x00").unwrap()), "1.5");
}

#[test]
fn what_is_hostile_or_none_says_why() {
    let deep = [vec![0x91; 65], vec![0xc0]].concat();
    let many = [b"\xdd\x00\x00\x50\x00".to_vec(), vec![0xc0; 0x5000]].concat();
    let names = [b"\xdf\x00\x00\x30\x00".to_vec(), vec![0xc0; 0x6000]].concat();
    let table: [(&[u8], &str); 17] = [
        (b"", "record is cut short"),
        (b"\x81\xa1a", "record is cut short"),
        (b"\xa5text", "record is cut short"),
        (b"\xcf\x00\x00\x00", "record is cut short"),
        (b"\xd8\x07sixteen bytes .", "record is cut short"),
        // Claims: four thousand million bytes, items, entries.
        (b"\xc6\xff\xff\xff\xff", "record is cut short"),
        (b"\xdb\xff\xff\xff\xff", "record is cut short"),
        (b"\xc9\xff\xff\xff\xff\x07", "record is cut short"),
        (b"\xdd\xff\xff\xff\xff", "record is cut short"),
        (b"\xdf\xff\xff\xff\xff\xa1a", "record is cut short"),
        (b"\xc1", "MessagePack has no such type"),
        (b"\x91\xc1", "MessagePack has no such type"),
        (b"\xc0\xc0", "record goes on behind its end"),
        (&deep, "record is nested too deeply"),
        (&many, "record has too many values"),
        (&names, "record has too many values"),
        (&[0xc0; MAX_RECORD + 1], "record too large"),
    ];
    for (bytes, reason) in table {
        assert_eq!(decode(bytes), Err(reason), "{}", bytes[..bytes.len().min(40)].escape_ascii());
    }
    assert!(decode(&deep[1..]).is_ok() && decode(b"\xd8\x07sixteen bytes ..").is_ok());
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(value in data()) {
        let mut bytes = Vec::new();
        encode(&value, &mut bytes);
        prop_assert_eq!(decode(&bytes), Ok(value));
        prop_assert!(bytes.len() < 2 || decode(&bytes[..bytes.len() - 1]).is_err());
    }
}
