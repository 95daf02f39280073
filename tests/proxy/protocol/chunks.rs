//! Chunks, their extensions and trailers (RFC 9112 §7.1).

use super::{Case, passes, refused, table};

const HEAD: &str = "POST /chunks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/// In one piece, when nothing has gone on yet; and with the head sent ahead, when it may have.
fn bad(section: &'static str, name: &str, content: &str) -> [Case; 2] {
    let whole = format!("{HEAD}{content}{SMUGGLED}");
    let refuse = |name: String| refused(section, name, &whole, &[400]);
    let mut ahead = refused(section, format!("{name}, after its head"), &whole, &[0, 400]).or_broken_off();
    ahead.pieces = vec![HEAD.into(), format!("{content}{SMUGGLED}").into()];
    [refuse(name.to_owned()), ahead]
}

#[test]
fn chunks_are_read_to_the_letter() {
    let mut cases = Vec::new();
    for size in [
        "",
        " 3",
        "3 ",
        "3\t",
        "\t3",
        "+3",
        "-3",
        "0x3",
        "3h",
        "x",
        "3,",
        "3.",
        "3 3",
        "\"3\"",
        "3\0",
        "\x0b3",
        "3\x0c",
        "\u{a0}3",
        "00000000000000003",
        "10000000000000003",
        "fffffffffffffffff",
        "ffffffffffffffff",
        "8000000000000003",
        "7fffffffffffffff",
    ] {
        cases.extend(bad("9112 §7.1", &format!("size {size:?}"), &format!("{size}\r\nabc\r\n0\r\n\r\n")));
    }
    for extension in [
        ";",
        ";;",
        ";=a",
        ";a=",
        ";a;",
        ";a b",
        "; ",
        ";a=\"b",
        ";a=\"b\"c",
        ";a=\"\\",
        ";a=\0",
        ";a=\x01",
        ";\x7f",
        ";a\x0b",
        ";a=b,c=d",
        ";a/b",
        ",a",
        " a",
        ";a=\"\0\"",
        ";a=\"\x01\"",
        ";a=b ",
    ] {
        cases.extend(bad(
            "9112 §7.1.1",
            &format!("extension {extension:?}"),
            &format!("3{extension}\r\nabc\r\n0\r\n\r\n"),
        ));
        cases.extend(bad(
            "9112 §7.1.1",
            &format!("last chunk's {extension:?}"),
            &format!("3\r\nabc\r\n0{extension}\r\n\r\n"),
        ));
    }
    // A bare LF, a bare CR, and ends of lines that are both or neither, at every place where a line ends or might.
    for (place, before, after) in [
        ("after the size", "3", "abc\r\n0\r\n\r\n"),
        ("in an extension", "3;a=", "b\r\nabc\r\n0\r\n\r\n"),
        ("in a quoted extension", "3;a=\"", "\"\r\nabc\r\n0\r\n\r\n"),
        ("after an extension", "3;a=b", "abc\r\n0\r\n\r\n"),
        ("after the data", "3\r\nabc", "0\r\n\r\n"),
        ("after the last chunk", "3\r\nabc\r\n0", "\r\n"),
        ("after the last chunk's extension", "3\r\nabc\r\n0;a", "\r\n"),
        ("at the end", "3\r\nabc\r\n0\r\n", ""),
        ("after a trailer", "3\r\nabc\r\n0\r\nX-T: 1", "\r\n"),
        ("in a trailer", "3\r\nabc\r\n0\r\nX-T: 1", "2\r\n\r\n"),
        ("after trailers", "3\r\nabc\r\n0\r\nX-T: 1\r\n", ""),
    ] {
        for end in ["\n", "\r", "\r\r\n", "\n\r", "\n\n", "\r\r"] {
            // What `LF` alone ends is not told from an end by `LF` and the next line's start.
            let text = format!("{before}{end}{after}");
            cases.extend(bad("9112 §2.2, §7.1", &format!("{end:?} {place}"), &text));
        }
    }
    cases.extend(bad("9112 §7.1", "data longer than its size", "3\r\nabcd\r\n0\r\n\r\n"));
    cases.extend(bad("9112 §7.1", "data longer by a CR", "3\r\nabc\r\r\n0\r\n\r\n"));
    cases.extend(bad("9112 §7.1", "data shorter than its size", "4\r\nabc\r\n0\r\n\r\n"));
    cases.extend(bad("9112 §7.1", "no line end after the data", "3\r\nabc0\r\n\r\n"));
    cases.extend(bad("9112 §7.1", "an empty line before the size", "\r\n3\r\nabc\r\n0\r\n\r\n"));
    for trailer in [
        "X-T",
        " X-T: 1",
        "X T: 1",
        "X-T : 1",
        ": 1",
        "X-T: 1\r\n folded",
        "X-T: \0",
        "X-T: \x01",
        "X(T: 1",
        "X-T\0: 1",
    ] {
        let text = format!("3\r\nabc\r\n0\r\n{trailer}\r\n\r\n");
        cases.extend(bad("9112 §7.1.2", &format!("trailer {trailer:?}"), &text));
    }
    table(cases);
}

#[test]
fn chunks_that_are_only_unusual_pass() {
    let pass = |name: String, content: String| {
        passes("9112 §7.1", name, format!("{HEAD}{content}"), "POST /chunks").content("abc").without("content-length")
    };
    let mut cases = Vec::new();
    for size in [
        "3",
        "03",
        "0000000000000003",
        "3;a",
        "3;a=b",
        "3;a=\"b c\"",
        "3;a=\"\\\"\"",
        "3;a;b=c",
        "3 ;a",
        "3;a = b",
        "3\t;\ta",
    ] {
        cases.push(pass(format!("size {size:?}"), format!("{size}\r\nabc\r\n0\r\n\r\n")));
    }
    for last in ["0", "00", "0000000000000000", "0;a=b"] {
        cases.push(pass(format!("last chunk {last:?}"), format!("3\r\nabc\r\n{last}\r\n\r\n")));
    }
    cases.push(pass("a chunk a byte".into(), "1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n".into()));
    for size in [1, 2, 3, 7] {
        let whole = pass(format!("in pieces of {size}"), "3;a=b\r\nabc\r\n0\r\n\r\n".into());
        cases.push(whole.in_pieces_of(size));
    }
    let digits = passes(
        "9112 §7.1",
        "hex digits in both cases",
        format!("{HEAD}a\r\n0123456789\r\nB\r\n0123456789a\r\n0\r\n\r\n"),
        "POST /chunks",
    );
    cases.push(digits.content("01234567890123456789a"));
    cases.push(passes("9112 §7.1", "no content", format!("{HEAD}0\r\n\r\n"), "POST /chunks").content(""));
    table(cases);
}

#[test]
fn trailers_pass_only_if_they_change_nothing() {
    let mut cases = Vec::new();
    let with = |declared: &str, trailers: &str| {
        let fields = if declared.is_empty() { String::new() } else { format!("Trailer: {declared}\r\n") };
        format!(
            "POST /chunks HTTP/1.1\r\nHost: a\r\n{fields}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n{trailers}\r\n\r\n"
        )
    };
    let case = |name: String, bytes: String| passes("9110 §6.5", name, bytes, "POST /chunks").content("abc");
    cases.push(case("declared".into(), with("X-Sum", "X-Sum: 1")).trailers(&[("x-sum", "1")]));
    cases.push(
        case("two".into(), with("X-Sum, X-Two", "X-Sum: 1\r\nX-Two: 2")).trailers(&[("x-sum", "1"), ("x-two", "2")]),
    );
    for forbidden in [
        "Content-Length",
        "Transfer-Encoding",
        "Host",
        "Content-Type",
        "Content-Encoding",
        "Content-Range",
        "Trailer",
        "TE",
        "Connection",
        "Keep-Alive",
        "Proxy-Connection",
        "Upgrade",
        "Authorization",
        "Proxy-Authorization",
        "Cookie",
        "Set-Cookie",
        "Cache-Control",
        "Expect",
        "Max-Forwards",
        "Pragma",
        "Range",
        "If-Match",
        "If-None-Match",
        "If-Range",
        "Age",
        "Expires",
        "Date",
        "Location",
        "Retry-After",
        "Vary",
        "Warning",
        "WWW-Authenticate",
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X_Forwarded_For",
        "Forwarded",
        "X-Real-IP",
        "X-Request-Id",
        "Via",
        "Content_Length",
        "Accept-Encoding",
        "Traceparent",
    ] {
        let bytes = with(&format!("X-Sum, {forbidden}"), &format!("{forbidden}: 1\r\nX-Sum: 1"));
        cases.push(case(format!("{forbidden} in a trailer"), bytes).trailers(&[("x-sum", "1")]));
    }
    table(cases);
}
