//! Request line and field lines (RFC 9112 §2, §3, §5).

use super::{Case, Then, passes, refused, table};

fn with(line: &str) -> String {
    format!("GET /head HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n")
}

/// Bytes around a byte of any value.
fn around(before: &str, byte: u8, after: &str) -> Vec<u8> {
    [before.as_bytes(), &[byte], after.as_bytes()].concat()
}

fn controls() -> impl Iterator<Item = u8> {
    (0..=b' ').chain([0x7f]).filter(|byte| !b"\t ".contains(byte))
}

#[test]
fn request_lines_are_read_to_the_letter() {
    let mut cases: Vec<Case> = Vec::new();
    let end = "\r\nHost: a\r\n\r\n";
    for (name, line) in [
        ("two spaces before the target", "GET  / HTTP/1.1"),
        ("two spaces before the version", "GET /  HTTP/1.1"),
        ("a space after the version", "GET / HTTP/1.1 "),
        ("a tab after the version", "GET / HTTP/1.1\t"),
        ("a space before the method", " GET / HTTP/1.1"),
        ("a tab before the method", "\tGET / HTTP/1.1"),
        ("a tab for a space", "GET\t/ HTTP/1.1"),
        ("a tab for the other space", "GET /\tHTTP/1.1"),
        ("a tab in the target", "GET /a\tb HTTP/1.1"),
        ("a space in the target", "GET /a b HTTP/1.1"),
        ("a vertical tab for a space", "GET\x0b/ HTTP/1.1"),
        ("a form feed for a space", "GET /\x0cHTTP/1.1"),
        ("no target", "GET HTTP/1.1"),
        ("an empty target", "GET  HTTP/1.1"),
        ("no method", "/ HTTP/1.1"),
        ("an empty method", " / HTTP/1.1"),
        ("a version alone", "HTTP/1.1"),
        ("a status line", "HTTP/1.1 200 OK"),
        ("four words", "GET / x HTTP/1.1"),
        ("a version twice", "GET / HTTP/1.1 HTTP/1.1"),
        ("HTTP/0.9", "GET /"),
        ("HTTP/0.9 with a space", "GET / "),
        ("a method alone", "GET"),
        ("lower-case version", "GET / http/1.1"),
        ("mixed-case version", "GET / Http/1.1"),
        ("no digits", "GET / HTTP/"),
        ("one digit", "GET / HTTP/1"),
        ("no minor digit", "GET / HTTP/1."),
        ("no major digit", "GET / HTTP/.1"),
        ("three digits", "GET / HTTP/1.10"),
        ("a leading zero", "GET / HTTP/01.1"),
        ("a comma", "GET / HTTP/1,1"),
        ("letters", "GET / HTTP/x.y"),
        ("a space in the version", "GET / HTTP/ 1.1"),
        ("a space before the slash", "GET / HTTP /1.1"),
        ("another protocol", "GET / HTCPCP/1.1"),
        ("RTSP", "GET / RTSP/1.0"),
        ("a plus", "GET / HTTP/+1.1"),
        ("a NUL after the version", "GET / HTTP/1.1\0"),
        ("a letter after the version", "GET / HTTP/1.1x"),
        ("a bracket in the method", "GE(T / HTTP/1.1"),
        ("a colon in the method", "GET: / HTTP/1.1"),
        ("a slash in the method", "GE/T / HTTP/1.1"),
        ("a quoted method", "\"GET\" / HTTP/1.1"),
        ("a comma in the method", "GET,POST / HTTP/1.1"),
        ("a method beyond ASCII", "G\u{c9}T / HTTP/1.1"),
        ("braces in the method", "{GET} / HTTP/1.1"),
        ("an empty line of spaces first", "  \r\nGET / HTTP/1.1"),
    ] {
        cases.push(refused("9112 §3", name, format!("{line}{end}"), &[400]));
    }
    for version in ["0.9", "1.2", "1.9", "2.0", "2.1", "3.0", "9.9", "0.0", "0.1"] {
        cases.push(refused("9110 §15.6.6", format!("HTTP/{version}"), format!("GET / HTTP/{version}{end}"), &[505]));
    }
    for byte in controls().chain(*b"\"<>#").chain([0x80, 0x85, 0xa0, 0xc3, 0xe9, 0xff]) {
        for (place, before, after) in [
            ("start", "GET ", "/ HTTP/1.1"),
            ("middle", "GET /a", "b HTTP/1.1"),
            ("end", "GET /a", " HTTP/1.1"),
            ("query", "GET /a?b=", "c HTTP/1.1"),
        ] {
            let bytes = around(before, byte, &format!("{after}{end}"));
            cases.push(refused("9112 §3.2", format!("byte {byte:#04x} at a target's {place}"), bytes, &[400]));
        }
        if byte != b'#' {
            let bytes = around("G", byte, &format!("T / HTTP/1.1{end}"));
            cases.push(refused("9110 §9.1", format!("byte {byte:#04x} in a method"), bytes, &[400]));
        }
    }
    for byte in *b"{}`" {
        let bytes = around("GET /a", byte, &format!("b HTTP/1.1{end}"));
        cases.push(refused("9112 §3.2", format!("byte {:?} in a path", char::from(byte)), bytes, &[400]));
    }
    table(cases);
}

#[test]
fn targets_go_on_byte_by_byte() {
    let mut cases = Vec::new();
    let targets = "/|/a|/a/|/a//b|//a|/?|/?a|/a?b=c&d=e|/a?b?c|/a;b=c|/a,b|/a:b|/a@b|/a'b|/a(b)|/a*b|/a!b|/a$b|/a&b|/a+b|/a=b|\
                   /~a|/-._|/%41|/%c3%bc|/%20|/%25|/a?%00|/a?b=%zz|/a?[x]=y|/a[0]|/a^b|/a?`|/a?\\";
    for target in targets.split('|') {
        let bytes = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        cases.push(passes("9112 §3.2.1", format!("target {target:?}"), bytes, &format!("GET {target}")));
    }
    cases.push(passes("9112 §3.2.1", "target with |", "GET /a|b?c|d HTTP/1.1\r\nHost: a\r\n\r\n", "GET /a|b?c|d"));
    cases.push(passes("9112 §3.2.1", "braces in a query", "GET /a?{b} HTTP/1.1\r\nHost: a\r\n\r\n", "GET /a?{b}"));
    table(cases);
}

#[test]
fn lines_end_in_cr_lf_and_nothing_else() {
    let mut cases = Vec::new();
    let lines = ["GET /head HTTP/1.1", "Host: a", "X-A: b", ""];
    for place in 0..lines.len() {
        for end in ["\n", "\r", "\r\r\n", "\n\r", "\r\n\n", "\0\r\n", "\r\0\n", "\x0b\r\n", "\x0c\r\n", "\u{85}"] {
            // LF after the last line's CR LF is the start of the next head: refused as that.
            // And a byte beyond ASCII is part of the value it stands after.
            let sound = (place == 3 && end == "\r\n\n") || (place == 2 && end == "\u{85}");
            if sound {
                continue;
            }
            let mut bytes = String::new();
            for (index, line) in lines.iter().enumerate() {
                bytes.push_str(line);
                bytes.push_str(if index == place { end } else { "\r\n" });
            }
            // What has no end at all is not refused, but waited for: another line says whether it was one.
            bytes.push_str("X-C: d\r\n\r\n");
            cases.push(refused("9112 §2.2", format!("{end:?} after line {place}"), bytes, &[400]));
        }
    }
    cases.push(refused("9112 §2.2", "LF alone everywhere", "GET / HTTP/1.1\nHost: a\n\n", &[400]));
    cases.push(refused("9112 §2.2", "CR alone everywhere", "GET / HTTP/1.1\rHost: a\r\r", &[400]));
    cases.push(refused("9112 §2.2", "an LF first", "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", &[400]));
    cases.push(refused("9112 §2.2", "a CR first", "\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", &[400]));
    cases.push(refused("9112 §2.2", "a NUL first", "\0GET / HTTP/1.1\r\nHost: a\r\n\r\n", &[400]));
    cases.push(refused("9112 §2.2", "a byte-order mark first", "\u{feff}GET / HTTP/1.1\r\nHost: a\r\n\r\n", &[400]));
    cases.push(refused("9112 §2.2", "a TLS handshake", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", &[400]));
    cases.push(refused("9112 §2.2", "an SSH banner", "SSH-2.0-OpenSSH_9.2\r\n", &[400]));
    for lines in 1..=3 {
        let bytes = format!("{}GET /head HTTP/1.1\r\nHost: a\r\n\r\n", "\r\n".repeat(lines));
        cases.push(passes("9112 §2.2", format!("{lines} empty lines first"), bytes, "GET /head"));
    }
    table(cases);
}

#[test]
fn field_lines_are_read_to_the_letter() {
    let mut cases = Vec::new();
    for line in [
        "X-A",
        "X-A b",
        ": b",
        " : b",
        "X-A : b",
        "X-A\t: b",
        "X A: b",
        "X\tA: b",
        " X-A: b",
        "\tX-A: b",
        "X-A: b\r\n c",
        "X-A: b\r\n\tc",
        "X-A: b\r\n \r\nX-B: c",
        "X-A: b\r\n :c",
        "X(A: b",
        "X\"A\": b",
        "X/A: b",
        "X;A: b",
        "X,A: b",
        "X[A]: b",
        "X@A: b",
        "X{A}: b",
        "X\\A: b",
        "X<A>: b",
        "X=A: b",
        "X?A: b",
        "X\u{e9}: b",
        "\u{a0}X: b",
        "GET / HTTP/1.1",
        "\"X-A: b\"",
    ] {
        cases.push(refused("9112 §5.1", format!("line {line:?}"), with(line), &[400]));
    }
    cases.push(refused(
        "9112 §2.2",
        "white space before the first field",
        "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        &[400],
    ));
    cases.push(refused("9112 §2.2", "a folded Host", "GET / HTTP/1.1\r\nHost:\r\n a\r\n\r\n", &[400]));
    cases.push(refused("9112 §2.2", "white space between", "GET / HTTP/1.1\r\n \r\nHost: a\r\n\r\n", &[400]));
    for byte in controls() {
        for (place, before, after) in [("start", "X-A: ", "b"), ("middle", "X-A: b", "c"), ("end", "X-A: b", "")] {
            let bytes =
                [b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec(), around(before, byte, &format!("{after}\r\n\r\n"))].concat();
            cases.push(refused("9110 §5.5", format!("byte {byte:#04x} at a value's {place}"), bytes, &[400]));
        }
        for (place, before, after) in [("start", "", "X-A: b"), ("middle", "X", "A: b"), ("end", "X-A", ": b")] {
            let bytes =
                [b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec(), around(before, byte, &format!("{after}\r\n\r\n"))].concat();
            cases.push(refused("9110 §5.1", format!("byte {byte:#04x} at a name's {place}"), bytes, &[400]));
        }
    }
    table(cases);
}

#[test]
fn fields_that_are_only_unusual_pass() {
    let mut cases = Vec::new();
    let seen = |line: &str, value: &str| {
        passes("9110 §5.5", format!("line {line:?}"), with(line), "GET /head").with("x-a", value)
    };
    cases.push(seen("X-A:b", "b"));
    cases.push(seen("X-A:  b  ", "b"));
    cases.push(seen("X-A:\tb\t", "b"));
    cases.push(seen("X-A: b \t c", "b \t c"));
    cases.push(seen("x-a: b: c", "b: c"));
    cases.push(seen("X-A:", ""));
    cases.push(seen("X-A: \t ", ""));
    cases.push(seen("X-A: \"b, c\"", "\"b, c\""));
    cases.push(
        passes("9110 §5.6.2", "every character of a token", with("!#$%&'*+-.^_`|~09azAZ: b"), "GET /head")
            .with("!#$%&'*+-.^_`|~09azaz", "b"),
    );
    let bytes = [b"GET /head HTTP/1.1\r\nHost: a\r\nX-A: \x80\xa0\xff\r\n\r\n".to_vec()].concat();
    cases.push(
        passes("9110 §5.5", "bytes beyond ASCII in a value", bytes, "GET /head").with("x-a", "\u{80}\u{a0}\u{ff}"),
    );
    let twice = with("X-A: b\r\nX-A: c");
    cases.push(passes("9110 §5.3", "a field twice", twice, "GET /head"));
    for size in [1, 2, 5, 11] {
        cases.push(seen("X-A: b", "b").in_pieces_of(size));
    }
    let old = "GET /head HTTP/1.0\r\nX-A: b\r\n\r\n";
    cases.push(passes("9112 §2.3", "HTTP/1.0", old, "GET /head").with("x-a", "b").then(Then::Closed));
    table(cases);
}
