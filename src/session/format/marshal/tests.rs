//! What Ruby itself wrote, and what nobody should have written.
//!
//! The fuzzer runs by a fixed seed and count; for longer, `SIDEGATE_FUZZ_SECONDS`, and to repeat a run `SIDEGATE_FUZZ_SEED`.

use std::time::Duration;

use fastrand::Rng;

use super::*;
use crate::clock::instant;

/// Bytes from hexadecimal digits.
pub(in crate::session::format) fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().map(|digit| digit.to_digit(16).unwrap()).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

fn read(hex: &str) -> Datum {
    decode(&bytes(hex)).unwrap().datum
}

/// As a line: `{a: 1, b: ["x", nil]}`; `?` is opaque.
fn shown(datum: &Datum) -> String {
    match datum {
        Datum::Nothing => "nil".into(),
        Datum::Flag(truth) => truth.to_string(),
        Datum::Whole(number) => number.to_string(),
        Datum::Float(number) => format!("{number:?}"),
        Datum::Text(text) => format!("{text:?}"),
        Datum::Bytes(bytes) => format!("<{}>", bytes.escape_ascii()),
        Datum::List(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(", ")),
        Datum::Map(entries) => {
            let entries: Vec<_> = entries.iter().map(|(name, value)| format!("{name}: {}", shown(value))).collect();
            format!("{{{}}}", entries.join(", "))
        }
        Datum::Opaque => "?".into(),
    }
}

// Each is Marshal.dump of the expression above it: Ruby 3.1.2, activesupport 6.1.7.10.

/// `{"a" => [0, 1, -1, 122, 123, -123, -124, 255, 256, -256, -257, 65535, 65536, 16777216, 2**30-1, -(2**30), 2**30, -(2**30)-1,
/// 2**31, 2**62, 2**64, 2**100, -(2**100), 2**200]}`
const INTS: &str = "04087b0649220661063a0645545b1d6900690669fa697f69017b698069ff846901ff6902000169ff0069fefffe6902ffff690300000169040000\
    00016904ffffff3f69fc000000c06c2b07000000406c2d07010000406c2b07000000806c2b0900000000000000406c2b0a000000000000000001006c2b0c00\
    000000000000000000000010006c2d0c00000000000000000000000010006c2b120000000000000000000000000000000000000000000000000001";

/// `[1.5, -0.0, 1e100, Float::INFINITY, -Float::INFINITY, Float::NAN, 1795224992.6553764, 5400.0, 3.0]`
const FLOATS: &str = "04085b0e6608312e3566072d30660a31653130306608696e6666092d696e6666086e616e6617313739353232343939322e3635353337363466\
    0a352e346533660633";

/// `s = "shared text"; [s, s, {"k" => s}, 1.5, 1.5, 2**70, s]`
const LINKS: &str = "04085b0c4922107368617265642074657874063a06455440067b064922066b063b005440066608312e3540096c2b0a000000000000000040004006";

/// `h = {"user_id" => 5}; h["me"] = h; h`
const CYCLE: &str = "04087b0749220c757365725f6964063a064554690a4922076d65063b00544000";

/// `{a: :b, "a" => :a, c: :"é", d: :"é", "user_id" => 7}`
const SYMBOLS: &str =
    "04087b0a3a06613a066249220661063a0645543b003a0663493a07c3a9063b07543a06643b0949220c757365725f6964063b0754690c";

/// `["utf", "ascii" in US-ASCII, "bin\xff".b, "müller" in ISO-8859-1, the same in Shift_JIS, "5" in UTF-16LE]`
const ENCODINGS: &str = "04085b0b492208757466063a06455449220a6173636969063b0046220962696eff49220b6dfc6c6c6572063a0d656e636f64696e67220f\
    49534f2d383835392d3149220b6d3f6c6c6572063b06220e53686966745f4a49534922073500063b06220d5554462d31364c45";

/// `{"t" => Time.at(1795224992, 5, :nsec), "r" => /ab+c/i, "st" => S.new(1, "two"), "o" => Foo.new (with @a = 1, @b = [self, "x"]), "c" => String,
/// "m" => Kernel, "d" => BigDecimal("1.5"), "set" => Set.new([1, 2]), "rng" => (1..3), "cpx" => Complex(1, 2),
/// "os" => OpenStruct.new(a: 1), "date" => Date.new(2026, 1, 2), "x" => "x".extend(Comparable), "last" => "end"}`
const OPAQUE: &str = "04087b1349220674063a06455449753a0954696d650da1aa1f80000000920a3a0d6e616e6f5f6e756d690a3a0d6e616e6f5f64656e69063a0d\
    7375626d6963726f220700503a0b6f666673657469003a097a6f6e65492208555443063b004649220672063b0054492f0961622b6301063b00464922077374\
    063b0054533a0653073a066169063a066249220874776f063b00544922066f063b00546f3a08466f6f073a07406169063a0740625b07401049220678063b00\
    5449220663063b0054630b537472696e674922066d063b00546d0b4b65726e656c49220664063b0054753a0f426967446563696d616c0e31383a302e313565\
    31492208736574063b00546f3a08536574063a0a40686173687d0769065469075446492208726e67063b00546f3a0a52616e6765083a096578636c463a0a62\
    6567696e69063a08656e646908492208637078063b0054553a0c436f6d706c65785b07690669074922076f73063b0054553a0f4f70656e5374727563747b06\
    3b0d690649220964617465063b0054553a09446174655b0b69006903738d25690069006900660c3232393931363149220678063b005449220678063b005449\
    22096c617374063b0054492208656e64063b0054";

/// `t = "after"; {"z" => Time.utc(2026, 1, 2), "t" => t, "u" => t, "zz" => Time.at(0, in: "+09:00"), "v" => t}`
const TIMES: &str = "04087b0a4922067a063a06455449753a0954696d650d40801fc000000000063a097a6f6e65492208555443063b004649220674063b00544922\
    0a6166746572063b005449220675063b0054400a4922077a7a063b005449753b060d2080118000000000073a0b6f66667365746902907e3b0730492206760\
    63b0054400a";

#[test]
fn numbers_are_read_to_the_last_digit() {
    let ints = "{a: [0, 1, -1, 122, 123, -123, -124, 255, 256, -256, -257, 65535, 65536, 16777216, 1073741823, -1073741824, \
        1073741824, -1073741825, 2147483648, 4611686018427387904, 18446744073709551616, 1267650600228229401496703205376, \
        -1267650600228229401496703205376, ?]}";
    assert_eq!(shown(&read(INTS)), ints);
    assert_eq!(shown(&read(FLOATS)), "[1.5, -0.0, 1e100, ?, ?, ?, 1795224992.6553764, 5400.0, 3.0]");
}

#[test]
fn links_count_as_what_they_lead_to_and_cycles_end() {
    let links =
        r#"["shared text", "shared text", {k: "shared text"}, 1.5, 1.5, 1180591620717411303424, "shared text"]"#;
    assert_eq!(shown(&read(LINKS)), links);
    assert_eq!(shown(&read(CYCLE)), "{user_id: 5, me: ?}");
    let times = r#"{z: ?, t: "after", u: "after", zz: ?, v: "after"}"#;
    assert_eq!(shown(&read(TIMES)), times);
    // t = Time.at(0, in: "+09:00"); [t, "after", the same, t, ["after"], "x"]: what `_dump` wrote is counted after its variables.
    let order = "04085b0b49753a0954696d650d2080118000000000073a0b6f66667365746902907e3a097a6f6e653049220a6166746572063a0645544007\
        40065b06400749220678063b0854";
    assert_eq!(shown(&read(order)), r#"[?, "after", "after", ?, ["after"], "x"]"#);
    // [Complex(1, 2), s = "after", s]: what `marshal_dump` gave is counted after its object.
    let dumped = "04085b08553a0c436f6d706c65785b076906690749220a6166746572063a0645544008";
    assert_eq!(shown(&read(dumped)), r#"[?, "after", "after"]"#);
    // [r = /a/, s, r, s]
    let pattern = "04085b09492f066100063a06454649220a6166746572063b005440064007";
    assert_eq!(shown(&read(pattern)), r#"[?, "after", ?, "after"]"#);
    // ["mü" in ISO-8859-1 as a symbol, q = "q", q]: the name of its encoding is counted.
    let symbol = "04085b08493a076dfc063a0d656e636f64696e67220f49534f2d383835392d3149220671063a0645544007";
    assert_eq!(shown(&read(symbol)), r#"[<m\xfc>, "q", "q"]"#);
}

#[test]
fn of_names_that_look_alike_the_text_counts() {
    let record = read(SYMBOLS);
    assert_eq!(shown(&record), r#"{a: "b", c: "é", d: "é", a: "a", user_id: 7}"#);
    assert_eq!(record.at("a").and_then(Datum::text).as_deref(), Some("a"));
    // {"1" => "text", 1 => "number", nil => "none", 1.5 => "half", [1] => "list"}
    let others = "04087b0a49220631063a06455449220974657874063b0054690649220b6e756d626572063b00543049220\
        96e6f6e65063b00546608312e3549220968616c66063b00545b06690649220\
        96c697374063b0054";
    assert_eq!(shown(&read(others)), r#"{1: "number", 1: "text"}"#);
}

#[test]
fn texts_are_those_whose_encoding_is_known() {
    let texts = r#"["utf", "ascii", <bin\xff>, <m\xfcller>, <m?ller>, <5\x00>]"#;
    assert_eq!(shown(&read(ENCODINGS)), texts);
}

#[test]
fn objects_are_read_over_and_never_made() {
    let opaque = r#"{t: ?, r: ?, st: {a: 1, b: "two"}, o: {@a: 1, @b: [?, "x"]}, c: ?, m: ?, d: ?, set: {@hash: {1: true, 2: true}}, rng: {excl: false, begin: 1, end: 3}, cpx: ?, os: ?, date: ?, x: "x", last: "end"}"#;
    assert_eq!(shown(&read(OPAQUE)), opaque);
    let class = |hex: &str| decode(&bytes(hex)).unwrap().class.map(<[u8]>::to_vec);
    assert_eq!(class("04086f3a08466f6f00"), Some(b"Foo".to_vec()));
    assert_eq!(class(CYCLE), None);
}

#[test]
fn subclasses_are_what_they_are_subclasses_of() {
    // h = Hash.new("dflt"); h["user_id"] = 5
    let default = "04087d0649220c757365725f6964063a064554690a49220964666c74063b0054";
    assert_eq!(shown(&read(default)), "{user_id: 5}");
    // {"user" => {"id" => 5}}.with_indifferent_access
    let indifferent = "0408433a2d416374697665537570706f72743a3a4861736857697468496e646966666572656e744163636573737b0649220975736572063a\
        064554433b007b064922076964063b0654690a";
    assert_eq!(shown(&read(indifferent)), "{user: {id: 5}}");
    // {"name" => "<b>".html_safe}
    let safe = "04087b064922096e616d65063a06455449433a1e416374697665537570706f72743a3a5361666542756666657222083c623e073b00543a0f4068\
        746d6c5f7361666554";
    assert_eq!(shown(&read(safe)), r#"{name: "<b>"}"#);
    // {"at" => Time.utc(2026, 1, 2).in_time_zone("Tokyo"), "user_id" => 5, "same" => "z"}
    let zoned = "04087b084922076174063a064554553a20416374697665537570706f72743a3a54696d65576974685a6f6e655b0849753a0954696d650d4080\
        1fc000000000063a097a6f6e65492208555443063b004649220a546f6b796f063b005449753b070d49801fc000000000063b08400949220c757365725f6964\
        063b0054690a49220973616d65063b00544922067a063b0054";
    assert_eq!(shown(&read(zoned)), r#"{at: ?, user_id: 5, same: "z"}"#);
    // {"a" => 1}.compare_by_identity
    assert_eq!(shown(&read("0408433a09486173687b0649220661063a0645546906")), "{a: 1}");
}

#[test]
fn what_is_hostile_is_refused() {
    let refused = |body: &[u8]| decode(&[b"\x04\x08", body].concat()).map(|_| ()).unwrap_err();
    assert_eq!(decode(b"\x04\x09i\x06").unwrap_err(), "record is not Marshal 4.8");
    assert_eq!(decode(&vec![4; MAX_RECORD + 1]).unwrap_err(), "record too large");
    assert_eq!(refused(b""), ENDS);
    assert_eq!(refused(b"i\x06i\x06"), "record goes on behind its end");
    // What is claimed and does not come: 2^30 items, a text, a number.
    for claims in
        [&b"[\x04\xff\xff\xff\x3f"[..], b"{\x04\xff\xff\xff\x3f", b"\"\x04\xff\xff\xff\x7f", b"l+\x04\xff\xff\xff\x7f"]
    {
        assert_eq!(refused(claims), ENDS);
    }
    assert_eq!(refused(b"\"\xfa"), "record has a negative length");
    assert_eq!(refused(b"@\x06"), "record links to nothing");
    assert_eq!(refused(b";\x00"), "record links to nothing");
    assert_eq!(refused(b"o\"\x06a\x00"), "record lacks a name");
    assert_eq!(refused(b"?"), "record has a value of an unknown kind");
    assert_eq!(refused(b"l*\x00"), "record has a number of an unknown sign");
    assert_eq!(refused(&b"[\x06".repeat(100)), "record is nested too deeply");
    assert_eq!(refused(&b"e:\x06A".repeat(100)), "record is nested too deeply");
    assert_eq!(refused(&b"I:\x06a\x06".repeat(100)), "record is nested too deeply");
    assert_eq!(refused(&b"I".repeat(100)), "record is nested too deeply");
    let many = [&b"[\x02\xff\x7f"[..], &b"0".repeat(0x7fff)].concat();
    assert_eq!(refused(&many), "record has too many values");
}

/// A list of twenty lists, each of ten links to the one before it; the innermost holds `core`.
fn multiplying(core: &[u8]) -> Vec<u8> {
    let mut body = b"\x04\x08[\x1a".to_vec();
    body.extend(core);
    for level in 1..21 {
        body.push(b'[');
        body.push(15);
        for _ in 0..10 {
            // The list around all is 0, the core 1, and so on.
            body.extend([b'@', level + 5]);
        }
    }
    body
}

#[test]
fn links_do_not_multiply() {
    assert_eq!(decode(&multiplying(b"[\x06i\x06")), Err("record has too many values"));
    let long = [&b"\"\x02\x00\x80"[..], &[b'a'; 0x8000]].concat();
    assert_eq!(decode(&multiplying(&long)), Err("record has too much text"));
}

#[test]
fn fuzz_marshal() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let deadline = number("SIDEGATE_FUZZ_SECONDS").map(|seconds| instant() + Duration::from_secs(seconds));
    let seed = number("SIDEGATE_FUZZ_SEED").unwrap_or_else(|| deadline.map_or(48, |_| fastrand::u64(..)));
    println!("fuzz_marshal: SIDEGATE_FUZZ_SEED={seed}");
    let mut random = Rng::with_seed(seed);
    let written = [INTS, FLOATS, LINKS, CYCLE, SYMBOLS, ENCODINGS, OPAQUE, TIMES].map(bytes);
    let kinds = b"0TFi:;@IeCuUdoS\"/cmMfl[{}";
    let (mut turn, mut read) = (0, 0);
    while deadline.map_or(turn < 20_000, |deadline| instant() < deadline) {
        let mut record = written[random.usize(..written.len())].clone();
        for _ in 0..random.usize(1..4) {
            let place = random.usize(2..record.len());
            match random.u8(..5) {
                0 => record[place] = random.u8(..),
                1 => record[place] = kinds[random.usize(..kinds.len())],
                2 => record[place] = random.u8(..12),
                3 => record.truncate(place.max(3)),
                _ => {
                    let end = random.usize(place..record.len());
                    let again = record[place..end].to_vec();
                    record.splice(place..place, again);
                }
            }
        }
        // Random bytes, too.
        if random.u8(..8) == 0 {
            let noise = random.usize(..100);
            record = [4, 8].into_iter().chain(std::iter::repeat_with(|| random.u8(..)).take(noise)).collect();
        }
        read += usize::from(decode(&record).is_ok());
        turn += 1;
    }
    assert!(read * 50 > turn && read * 20 < turn * 19, "{read} of {turn} read: the mutations say little");
}
