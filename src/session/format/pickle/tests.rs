use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::super::Record;
use super::super::datum::UNTOLD;
use super::super::python::tests::{data, shown};
use super::super::tests::wanted;
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
            "{cart: {a: 1, b: 2}, id: 7}",
        ),
        (
            "{'n': defaultdict(list, a=[1]), 'q': deque([1, 2]), 'id': 7}, 4",
            b"\x80\x04\x95i\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01n\x94\x8c\x0bcollections\x94\x8c\x0bdefaultdict\x94\x93\x94\
              \x8c\x08builtins\x94\x8c\x04list\x94\x93\x94\x85\x94R\x94\x8c\x01a\x94]\x94K\x01as\x8c\x01q\x94h\x02\x8c\x05deque\
              \x94\x93\x94)R\x94(K\x01K\x02e\x8c\x02id\x94K\x07u.",
            "{n: {a: [1]}, q: ?, id: 7}",
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

/// `[what, what is told in each protocol, records of protocols 0 to 5]`: `tests/fixtures/sessions/python.json`, made by `python.py`
/// beside it.
type Row = (String, Vec<String>, Vec<Option<String>>);

/// The records that Python wrote, of protocol 2 and later, and what is told of each.
pub(in crate::session::format) fn kept() -> Vec<(String, Vec<u8>, String)> {
    let rows: Vec<Row> = serde_json::from_str(include_str!("../../../../tests/fixtures/sessions/python.json")).unwrap();
    let of = |(what, told, written): Row| {
        let each = (0..6).zip(told).zip(written).skip(2);
        each.map(move |((protocol, told), record)| {
            (format!("{what}, protocol {protocol}"), STANDARD.decode(record.unwrap()).unwrap(), told)
        })
    };
    rows.into_iter().flat_map(of).collect()
}

#[test]
fn what_apps_keep_in_sessions_leaves_the_rest_readable() {
    let kept = kept();
    assert!(kept.len() > 150, "{}", kept.len());
    for (what, record, told) in kept {
        let read = decode(&record).map(|read| shown(&read));
        assert_eq!(read, Ok(format!("{{before: b, x: {told}, user_id: 7, again: b}}")), "{what}");
    }
}

#[test]
fn protocols_0_and_1_are_not_read() {
    let rows: Vec<Row> = serde_json::from_str(include_str!("../../../../tests/fixtures/sessions/python.json")).unwrap();
    for record in rows.iter().flat_map(|(_, _, written)| &written[..2]).flatten() {
        assert_eq!(decode(&STANDARD.decode(record).unwrap()), Err("record is not a pickle of protocol 2 to 5"));
    }
}

#[test]
fn a_user_that_is_an_object_is_nobody_that_could_be_named_and_not_nobody() {
    for (what, record, told) in kept().into_iter().filter(|(_, _, told)| told == "?") {
        let read = decode(&record).unwrap();
        for path in ["x", "x.id", "x.user_id", "x.0"] {
            assert_eq!(Record::of(&wanted(&[path]), &read), Err(UNTOLD), "{what}: {path} is {told}");
        }
        let known = Record::of(&wanted(&["user_id", "x", "x.roles", "x.0"]), &read).unwrap();
        assert_eq!(known.attributes, [("user_id".to_owned(), "7".to_owned())], "{what}: no attribute");
    }
}

#[test]
fn a_call_takes_nothing_back_into_the_open() {
    let user = |body: &[u8]| {
        let read = decode(&[&b"\x80\x04"[..], body].concat())?;
        Record::of(&wanted(&["a.user_id"]), &read).map(|record| record.user)
    };
    let session = |made: &[u8]| [&b"}\x8c\x01a"[..], made, b"s."].concat();
    assert_eq!(user(&session(b"}\x8c\x07user_idK\x05s")), Ok(Some("5".into())));
    for (what, made) in [
        ("a call of what holds the user", &b"cm\nC\n}\x8c\x07user_idK\x05s\x85R"[..]),
        ("an object that is given the user", b"cm\nC\n)\x81\x8c\x07user_idK\x05s"),
        ("an object that is filled with the user", b"cm\nC\n)\x81}\x8c\x07user_idK\x05sb"),
        ("an object that is a list", b"cm\nC\n)R(K\x05e"),
        ("an object that is a set", b"cm\nC\n)R(K\x05\x90"),
        ("a class", b"cm\nC\n"),
        ("a class that is filled", b"cm\nC\n}\x8c\x07user_idK\x05sb"),
        ("a class of a registry", b"\x82\x05)R"),
        ("a class of a registry, long", b"\x84\x05\x00\x00\x00)\x81"),
        ("what an object gives when called", b"cm\nC\n)R)R"),
        ("an object, by names", b"cm\nC\n)}\x8c\x07user_idK\x05s\x92"),
        ("an object, referred to", b"cm\nC\n)R\x94\x8c\x07user_idK\x05s0h\x00"),
        ("a map that has been filled", b"}\x8c\x07user_idK\x05s}b"),
        ("a map that has been filled, referred to", b"}\x94\x8c\x07user_idK\x05s}b0h\x00"),
        ("an ordered map that is filled", b"ccollections\nOrderedDict\n)R\x8c\x07user_idK\x05s}b"),
        ("an ordered map of something", b"ccollections\nOrderedDict\n]\x85R\x8c\x07user_idK\x05s"),
        ("an ordered map by the other opcode", b"ccollections\nOrderedDict\n)\x81\x8c\x07user_idK\x05s"),
        ("a map that defaults to more", b"ccollections\ndefaultdict\nN}\x86R\x8c\x07user_idK\x05s"),
    ] {
        assert_eq!(user(&session(made)), Err(UNTOLD), "{what}");
    }
    // In the place of the whole record there is no session.
    assert_eq!(
        super::super::python::decode(b"\x80\x04cm\nC\n}\x8c\x07user_idK\x05s\x85R."),
        Err("record is not a map")
    );
    assert_eq!(super::super::python::decode(b"\x80\x04}\x8c\x07user_idK\x05s}b."), Err("record is not a map"));
}

#[test]
fn a_class_is_known_by_its_whole_name() {
    let read = |class: &str, rest: &[u8]| {
        let (module, name) = class.rsplit_once('.').unwrap();
        let named = [b"\x80\x02c", module.as_bytes(), b"\n", name.as_bytes(), b"\n", rest].concat();
        decode(&named).map(|read| shown(&read)).unwrap()
    };
    let (new, call, list) = (b"X\x01\x00\x00\x00t\x85\x81.", b")R.", b"]K\x05a\x85R.");
    assert_eq!((&*read("markupsafe.Markup", new), &*read("collections.OrderedDict", call)), ("t", "{}"));
    assert_eq!((&*read("__builtin__.set", list), &*read("builtins.frozenset", list)), ("[5]", "[5]"));
    for other in [
        "markupsafe.markup",
        "markupsafe.Markup2",
        "markupsafe.x.Markup",
        "jinja2.Markup",
        "x.markupsafe.Markup",
        ".Markup",
    ] {
        assert_eq!(read(other, new), "?", "{other}");
    }
    for other in [
        "collections.orderedDict",
        "collections.abc.OrderedDict",
        "mycollections.OrderedDict",
        "collections.OrderedDict ",
    ] {
        assert_eq!(read(other, call), "?", "{other}");
    }
    for other in ["builtins.sorted", "sets.set", "builtins.set.x", "builtins.list", "builtins.dict"] {
        assert_eq!(read(other, list), "?", "{other}");
    }
    // By the other opcode, or of something else.
    assert_eq!(read("markupsafe.Markup", b"X\x01\x00\x00\x00t\x85R."), "?");
    assert_eq!(read("markupsafe.Markup", b"K\x05\x85\x81."), "?");
    assert_eq!(read("builtins.set", b"]K\x05a\x85\x81."), "?", "`set.__new__` is empty");
    assert_eq!(read("builtins.set", b"K\x05\x85\x85R."), "?");
    assert_eq!(read("builtins.set", b"X\x01\x00\x00\x00t\x85R."), "?", "a text is a set of letters");
}

#[test]
fn what_is_copied_is_not_filled_with_the_original() {
    // l = [5]; s = set(l); l.append(6); (l, s)
    let record = b"\x80\x02(]q\x00K\x05ac__builtin__\nset\nh\x00\x85Rq\x01h\x00K\x06a0t.";
    assert_eq!(shown(&decode(record).unwrap()), "[[5, 6], [5]]");
}

#[test]
fn texts_of_python_2_are_texts_where_they_are_ascii() {
    // {'name': 'M\xc3\xbcller', '_auth_user_id': '5', u'long': 'x'} in the opcodes of Python 2.7 (pickle.py, read and not run).
    let record = b"\x80\x02}q\x00(U\x04nameq\x01U\x07M\xc3\xbcllerq\x02U\x0d_auth_user_idq\x03U\x015q\x04X\x04\x00\x00\x00longq\x05T\x01\x00\x00\x00xq\x06u.";
    assert_eq!(shown(&decode(record).unwrap()), "{name: <M\\xc3\\xbcller>, _auth_user_id: 5, long: x}");
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
    // A set of a list of a thousand, made again and again.
    let sets =
        [&b"(]\x94("[..], &long(1000, b"N"), b"e\x85\x94", &long(1000, b"c__builtin__\nset\nh\x01R"), b"t."].concat();
    let sets = pickle(&sets);
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
        (sets, "record has too many values"),
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
        (pickle(b"\x8c\x02osN\x93."), "pickle names a class without a name"),
        (pickle(b"N)R."), "pickle calls what is no class"),
        (pickle(b"\x8c\x02os\x8c\x06system\x93NR."), "pickle calls what is no class"),
        (pickle(b"cos\nsystem"), "record is cut short"),
        (pickle(b"c\xff\nsystem\n."), "pickle names a class without a name"),
        (pickle(b"\x95\x05\x00\x00\x00\x00\x00\x00\x00cos\nsystem\n."), "pickle has a value over the end of its frame"),
        (pickle(b")\x81."), "pickle takes what is not there"),
        (pickle(b"N)\x81."), "pickle calls what is no class"),
        (pickle(b"})\x81."), "pickle calls what is no class"),
        (pickle(b"cm\nC\nN\x81."), "pickle calls what is no class"),
        (pickle(b"cm\nC\n)N\x92."), "pickle calls what is no class"),
        (pickle(b"cm\nC\nN}\x92."), "pickle calls what is no class"),
        (pickle(b")}\x92."), "pickle takes what is not there"),
        (pickle(b"}b."), "pickle takes what is not there"),
        (pickle(b"cm\nC\n)R(}b."), "pickle takes what is not there"),
        (pickle(b"]}b."), "pickle fills what is no object"),
        (pickle(b"\x8c\x07user_id}b."), "pickle fills what is no object"),
        (pickle(b"cm\nC\n(Ne."), "pickle appends to what is no list"),
        (pickle(b"cm\nC\nNNs."), "pickle names values in what is no dict"),
        (pickle(b"(ios\nsystem\n."), "pickle makes an object as in protocol 0 (INST, OBJ)"),
        (pickle(b"(\x8c\x01m\x8c\x01C\x93o."), "pickle makes an object as in protocol 0 (INST, OBJ)"),
        (pickle(b"P5\n."), "pickle refers to what is kept elsewhere (PERSID)"),
        (pickle(b"\x97."), "pickle refers to bytes that are kept elsewhere (NEXT_BUFFER)"),
        (pickle(b"\x82."), "record is cut short"),
        (pickle(b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff."), "record is cut short"),
        (pickle(b"\x96\x05\x00\x00\x00\x00\x00\x00\x00abc."), "record is cut short"),
        (pickle(b"\x8b\xff\xff\xff\xff."), "record is cut short"),
        (pickle(b"T\xff\xff\xff\xff."), "record is cut short"),
        (pickle(b"S'a'\n."), "pickle has an opcode of protocol 0"),
        (pickle(b"0."), "pickle takes what is not there"),
        (pickle(b"N(0."), "pickle takes what is not there"),
        (pickle(b"1."), "pickle takes what is not there"),
        (pickle(b"N0."), "pickle is not one value"),
        (pickle(b"N2."), "pickle has an opcode that makes no data"),
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
