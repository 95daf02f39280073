use proptest::prelude::*;

use super::super::python::tests::{data, shown};
use super::*;

/// A list of thirty levels, each of which has the next one twice, and `[1]` in the end.
///
/// `l = [1]`, and `l = [l, l]` thirty times; `pickle.dumps(l, 4)`, Python 3.11.
const DOUBLED: &[u8] = b"\x80\x04\x95\xba\x00\x00\x00\x00\x00\x00\x00]\x94(]\x94(]\x94(]\x94(]\x94(]\x94(]\x94(]\x94(]\x94(]\
    \x94(]\x94(]\x94(]\x94(]\x94(]\x94(]\x94(]\x94(]\x94(]\x94(]\x94(]\x94(]\x94(]\x94(]\x94(]\x94(]\x94(]\x94(]\x94(]\x94(]\
    \x94(]\x94K\x01ah\x1eeh\x1deh\x1ceh\x1beh\x1aeh\x19eh\x18eh\x17eh\x16eh\x15eh\x14eh\x13eh\x12eh\x11eh\x10eh\x0feh\x0eeh\
    \x0deh\x0ceh\x0beh\x0aeh\x09eh\x08eh\x07eh\x06eh\x05eh\x04eh\x03eh\x02eh\x01e.";

/// `value` as protocol 2 and later write it.
fn encode(value: &Datum, to: &mut Vec<u8>) {
    let mut counted = |short: u8, long: u8, bytes: &[u8]| {
        match u8::try_from(bytes.len()) {
            Ok(length) => to.extend([short, length]),
            Err(_) => {
                to.push(long);
                to.extend((bytes.len() as u32).to_le_bytes());
            }
        }
        to.extend(bytes);
    };
    match value {
        Datum::Nothing => to.push(NONE),
        Datum::Flag(truth) => to.push(if *truth { NEWTRUE } else { NEWFALSE }),
        Datum::Whole(number) => match (u8::try_from(*number), u16::try_from(*number), i32::try_from(*number)) {
            (Ok(number), ..) => to.extend([BININT1, number]),
            (_, Ok(number), _) => to.extend([&[BININT2][..], &number.to_le_bytes()].concat()),
            (_, _, Ok(number)) => to.extend([&[BININT][..], &number.to_le_bytes()].concat()),
            _ => to.extend([&[LONG1, 9][..], &number.to_le_bytes()[..9]].concat()),
        },
        Datum::Float(number) => to.extend([&[BINFLOAT][..], &number.to_be_bytes()].concat()),
        Datum::Text(text) => counted(SHORT_BINUNICODE, BINUNICODE, text.as_bytes()),
        Datum::Bytes(bytes) => counted(SHORT_BINBYTES, BINBYTES, bytes),
        Datum::List(items) => {
            to.extend([EMPTY_LIST, MEMOIZE, MARK]);
            items.iter().for_each(|item| encode(item, to));
            to.push(APPENDS);
        }
        Datum::Map(entries) => {
            to.extend([EMPTY_DICT, MEMOIZE, MARK]);
            for (name, value) in entries {
                encode(&Datum::Text(name.clone()), to);
                encode(value, to);
            }
            to.push(SETITEMS);
        }
        Datum::Opaque => to.extend(b"\x8c\x01m\x8c\x01C\x93)R"),
    }
}

fn written(value: &Datum) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(value, &mut bytes);
    bytes.push(STOP);
    [&[PROTO, 4, FRAME][..], &(bytes.len() as u64).to_le_bytes(), &bytes].concat()
}

#[test]
fn what_python_writes_is_read() {
    // pickle.dumps(…, protocol) of Python 3.11.
    let table: [(&str, &[u8], &str); 11] = [
        (
            "{'a': 1, 'b': [True, None, 1.5, -1, 70000, 2**40, -2**63, 2**64, 2**127]}, 2",
            b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01K\x01X\x01\x00\x00\x00bq\x02]q\x03(\x88NG?\xf8\x00\x00\x00\x00\x00\x00J\xff\xff\
              \xff\xffJp\x11\x01\x00\x8a\x06\x00\x00\x00\x00\x00\x01\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x80\x8a\x09\x00\x00\x00\
              \x00\x00\x00\x00\x00\x01\x8a\x11\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80\x00eu.",
            "{a: 1, b: [true, None, 1.5, -1, 70000, 1099511627776, -9223372036854775808, 18446744073709551616, ?]}",
        ),
        (
            "{'a': (1, 2, 3, 4), 'b': (), 'c': {7}, 'd': frozenset({8}), 'e': b'\\xff'}, 4",
            b"\x80\x04\x954\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01a\x94(K\x01K\x02K\x03K\x04t\x94\x8c\x01b\x94)\x8c\x01c\x94\
              \x8f\x94(K\x07\x90\x8c\x01d\x94(K\x08\x91\x94\x8c\x01e\x94C\x01\xff\x94u.",
            "{a: [1, 2, 3, 4], b: [], c: [7], d: [8], e: <\\xff>}",
        ),
        (
            "{5: 'five', 'M\\u00fcller': '\\ud800', None: 1, 2.5: 2, True: 3, (1,): 4}, 4",
            b"\x80\x04\x955\x00\x00\x00\x00\x00\x00\x00}\x94(K\x05\x8c\x04five\x94\x8c\x07M\xc3\xbcller\x94\x8c\x03\xed\xa0\x80\
              \x94NK\x01G@\x04\x00\x00\x00\x00\x00\x00K\x02\x88K\x03K\x01\x85\x94K\x04u.",
            "{5: five, Müller: <\\xed\\xa0\\x80>}",
        ),
        (
            "{'at': datetime(2026, 11, 21), 'id': 7}, 5",
            b"\x80\x05\x95:\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x02at\x94\x8c\x08datetime\x94\x8c\x08datetime\x94\x93\x94C\x0a\
              \x07\xea\x0b\x15\x00\x00\x00\x00\x00\x00\x94\x85\x94R\x94\x8c\x02id\x94K\x07u.",
            "{at: ?, id: 7}",
        ),
        (
            "{'sum': Decimal('1.50'), 'id': 7}, 4",
            b"\x80\x04\x953\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x03sum\x94\x8c\x07decimal\x94\x8c\x07Decimal\x94\x93\x94\x8c\
              \x041.50\x94\x85\x94R\x94\x8c\x02id\x94K\x07u.",
            "{sum: ?, id: 7}",
        ),
        (
            "{'cart': OrderedDict(a=1, b=2), 'id': 7}, 4",
            b"\x80\x04\x95B\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x04cart\x94\x8c\x0bcollections\x94\x8c\x0bOrderedDict\x94\x93\
              \x94)R\x94(\x8c\x01a\x94K\x01\x8c\x01b\x94K\x02u\x8c\x02id\x94K\x07u.",
            "{cart: ?, id: 7}",
        ),
        (
            "{'n': defaultdict(list, a=[1]), 'q': deque([1, 2]), 'id': 7}, 4",
            b"\x80\x04\x95i\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01n\x94\x8c\x0bcollections\x94\x8c\x0bdefaultdict\x94\x93\x94\
              \x8c\x08builtins\x94\x8c\x04list\x94\x93\x94\x85\x94R\x94\x8c\x01a\x94]\x94K\x01as\x8c\x01q\x94h\x02\x8c\x05deque\
              \x94\x93\x94)R\x94(K\x01K\x02e\x8c\x02id\x94K\x07u.",
            "{n: ?, q: ?, id: 7}",
        ),
        (
            "{'big': 2**128, 'id': -2**127}, 4",
            b"\x80\x04\x955\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x03big\x94\x8a\x11\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\
              \x00\x00\x00\x00\x00\x01\x8c\x02id\x94\x8a\x10\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80u.",
            "{big: ?, id: -170141183460469231731687303715884105728}",
        ),
        ("{'b': b'abc'}, 3", b"\x80\x03}q\x00X\x01\x00\x00\x00bq\x01C\x03abcq\x02s.", "{b: <abc>}"),
        (
            "x = ['x']; {'a': x, 'b': x, 'id': '5'}, 4",
            b"\x80\x04\x95\x1f\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01a\x94]\x94\x8c\x01x\x94a\x8c\x01b\x94h\x02\x8c\x02id\x94\
              \x8c\x015\x94u.",
            "{a: [x], b: [x], id: 5}",
        ),
        ("{}, 2", b"\x80\x02}q\x00.", "{}"),
    ];
    for (python, bytes, expected) in table {
        assert_eq!(decode(bytes).map(|told| shown(&told)).as_deref(), Ok(expected), "{python}");
    }
}

#[test]
fn what_is_filled_after_it_was_referred_to_is_seen_filled() {
    // x = []; (x, x, x), and 5 is appended to the last.
    assert_eq!(shown(&decode(b"\x80\x04]\x94h\x00h\x00K\x05a\x87.").unwrap()), "[[5], [5], [5]]");
    assert_eq!(shown(&decode(b"\x80\x04K\x07r\xff\xff\xff\xffj\xff\xff\xff\xff\x86.").unwrap()), "[7, 7]");
}

#[test]
fn calling_is_data_and_nothing_is_called() {
    // os.system("id"), and the same within a session.
    let call = b"\x8c\x02os\x8c\x06system\x93\x8c\x02id\x85R";
    let alone = [&b"\x80\x04"[..], call, b"."].concat();
    let within = [&b"\x80\x04}\x8c\x01a"[..], call, b"s."].concat();
    assert_eq!(decode(&alone), Ok(Datum::Opaque));
    assert_eq!(shown(&decode(&within).unwrap()), "{a: ?}");
}

#[test]
fn what_is_hostile_or_none_says_why() {
    let pickle = |body: &[u8]| [&b"\x80\x04"[..], body].concat();
    let long = |count: usize, word: &[u8]| word.repeat(count);
    let levels = |count: usize| pickle(&[long(count, b"]"), long(count - 1, b"a"), b".".to_vec()].concat());
    // A text of 60,000 bytes that is said again and again.
    let text = [&b"X\x60\xea\x00\x00"[..], &[b'a'; 60_000], b"\x94"].concat();
    let said = pickle(&[&b"("[..], &text, &long(100, b"h\x00"), b"t."].concat());
    // As a name, too.
    let named = pickle(&[&b"}("[..], &text, b"N", &long(100, b"h\x00N"), b"u."].concat());
    // Entries that are left out, in a map that is met again and again.
    let left_out =
        pickle(&[&b"N\x94}\x94("[..], &long(8000, b"h\x00h\x00"), b"u(", &long(8000, b"h\x01"), b"tt."].concat());
    let left_out = [&left_out[..2], b"(", &left_out[2..]].concat();
    let uuid = b"\x80\x04\x95/\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01u\x94\x8c\x04uuid\x94\x8c\x04UUID\x94\x93\x94)\x81\x94}\
        \x94\x8c\x03int\x94K\x01sb\x8c\x02id\x94K\x07u.";
    let table: Vec<(Vec<u8>, &str)> = vec![
        // Depth, cycles, bombs.
        (levels(65), "record is nested too deeply"),
        (pickle(b"]\x94h\x00a."), "record is nested too deeply"),
        (pickle(b"}\x94\x8c\x01ah\x00s."), "record is nested too deeply"),
        (pickle(b"]\x94(h\x00h\x00h\x00e."), "record is nested too deeply"),
        (DOUBLED.to_vec(), "record has too many values"),
        (said, "record says the same too often"),
        (named, "record says the same too often"),
        (left_out, "record has too many values"),
        (pickle(&[&b"("[..], &long(20_000, b"N"), b"t."].concat()), "record has too many values"),
        (pickle(b"Nq\x00q\x01."), "pickle remembers more than it has"),
        (pickle(b"N\x94\x94."), "pickle remembers more than it has"),
        (pickle(&long(MAX_RECORD - 2, b"(")), "record is cut short"),
        (vec![0x80; MAX_RECORD + 1], "record too large"),
        // Claims.
        (pickle(b"X\xff\xff\xff\xff."), "record is cut short"),
        (pickle(b"B\xff\xff\xff\x7f."), "record is cut short"),
        (pickle(b"\x8a\xff."), "record is cut short"),
        (pickle(b"J."), "record is cut short"),
        (pickle(b"\x95\xff\xff\xff\xff\xff\xff\xff\xff}."), "pickle has a frame beyond its end"),
        (pickle(b"\x95\x03\x00\x00\x00\x00\x00\x00\x00}."), "pickle has a frame beyond its end"),
        (pickle(b"\x95\x02\x00\x00\x00\x00\x00\x00\x00M\x01\x00."), "pickle has a value over the end of its frame"),
        (
            pickle(&[b"\x95\x0a\x00\x00\x00\x00\x00\x00\x00".repeat(2), b"}.".to_vec()].concat()),
            "pickle has a frame within a frame",
        ),
        // A stack that does not come out.
        (pickle(b"."), "pickle is not one value"),
        (pickle(b"NN."), "pickle is not one value"),
        (pickle(b"N(."), "pickle is not one value"),
        (pickle(b"N.N"), "record goes on behind its end"),
        (pickle(b"}"), "record is cut short"),
        (pickle(b"Na."), "pickle takes what is not there"),
        (pickle(b"N(\x85."), "pickle takes what is not there"),
        (pickle(b"](Na."), "pickle takes what is not there"),
        (pickle(b"e."), "pickle takes what is not there"),
        (pickle(b"\x94."), "pickle takes what is not there"),
        (pickle(b"h\x05."), "pickle refers to nothing"),
        (pickle(b")Na."), "pickle appends to what is no list"),
        (pickle(b"](N\x90."), "pickle adds to what is no set"),
        (pickle(b"]NNs."), "pickle names values in what is no dict"),
        (pickle(b"}(Nu."), "pickle has a name without a value"),
        // What is code, or may be.
        (pickle(b"cos\nsystem\n\x8c\x02id\x85R."), "pickle names code as before protocol 4 (GLOBAL)"),
        (pickle(b"\x8c\x02osN\x93."), "pickle names a class without a name"),
        (pickle(b"N)R."), "pickle calls what is no class"),
        (pickle(b"\x8c\x02os\x8c\x06system\x93NR."), "pickle calls what is no class"),
        (uuid.to_vec(), "pickle makes an object (NEWOBJ)"),
        (pickle(b"\x8c\x01m\x8c\x01C\x93)R}b."), "pickle fills an object (BUILD)"),
        (pickle(b"(ios\nsystem\n."), "pickle makes an object (INST, OBJ)"),
        (pickle(b"(\x8c\x01m\x8c\x01C\x93o."), "pickle makes an object (INST, OBJ)"),
        (pickle(b"P5\n."), "pickle refers to what is kept elsewhere (PERSID)"),
        (pickle(b"\x82\x01."), "pickle refers to a registry of code (EXT)"),
        (pickle(b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff."), "pickle has a value beyond all bounds"),
        (pickle(b"U\x01a."), "pickle has a text of Python 2"),
        (pickle(b"N0."), "pickle has an opcode that makes no data"),
        (pickle(b"\x80\x04}."), "pickle has an opcode that makes no data"),
        // Other protocols, and none.
        (b"(dp0\n.".to_vec(), "record is not a pickle of protocol 2 to 5"),
        (b"\x80\x01}.".to_vec(), "record is not a pickle of protocol 2 to 5"),
        (b"\x80".to_vec(), "record is not a pickle of protocol 2 to 5"),
        (b"".to_vec(), "record is not a pickle of protocol 2 to 5"),
        (b"\x80\x06}.".to_vec(), "pickle of an unknown protocol"),
    ];
    for (bytes, reason) in table {
        assert_eq!(decode(&bytes), Err(reason), "{}", bytes[..bytes.len().min(60)].escape_ascii());
    }
    assert!(decode(&levels(64)).is_ok());
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(value in data()) {
        let bytes = written(&value);
        prop_assert_eq!(decode(&bytes), Ok(value));
        prop_assert!(decode(&bytes[..bytes.len() - 1]).is_err());
    }
}
