//! Chunked content that is malformed: refused while nothing of it has gone out, broken off from then on.

use super::{broken, judge, ok, refused};

const ERROR: &str = "http_response_transfer_coding";

fn chunked(content: &str) -> Vec<u8> {
    ok(&["Transfer-Encoding: chunked"], content)
}

/// First chunks that are none.
const SIZES: [(&str, &str); 19] = [
    ("bare LF after the size", "5\nhello\r\n0\r\n\r\n"),
    ("bare CR after the size", "5\rhello\r\n0\r\n\r\n"),
    ("0x before the size", "0x5\r\nhello\r\n0\r\n\r\n"),
    ("a sign", "+5\r\nhello\r\n0\r\n\r\n"),
    ("a negative size", "-5\r\nhello\r\n0\r\n\r\n"),
    ("a space before the size", " 5\r\nhello\r\n0\r\n\r\n"),
    ("a space after the size", "5 \r\nhello\r\n0\r\n\r\n"),
    ("a tab after the size", "5\t\r\nhello\r\n0\r\n\r\n"),
    ("an underscore in the size", "0_5\r\nhello\r\n0\r\n\r\n"),
    ("no size", "\r\nhello\r\n0\r\n\r\n"),
    ("no number", "five\r\nhello\r\n0\r\n\r\n"),
    ("a size that overflows", "10000000000000005\r\nhello\r\n0\r\n\r\n"),
    ("a size that is almost 2^64", "ffffffffffffffff\r\nhello"),
    ("a size with many zeros", "000000000000000005\r\nhello\r\n0\r\n\r\n"),
    ("an extension without ;", "5 a=b\r\nhello\r\n0\r\n\r\n"),
    ("LF in an extension", "5;a=\nb\r\nhello\r\n0\r\n\r\n"),
    ("CR in an extension", "5;a=\rb\r\nhello\r\n0\r\n\r\n"),
    ("NUL in an extension", "5;a=\0\r\nhello\r\n0\r\n\r\n"),
    ("no chunks at all", "hello, world\r\n"),
];

#[test]
fn malformed_from_the_start_is_a_502() {
    let mut cases: Vec<_> =
        SIZES.map(|(name, content)| refused(name, "RFC 9112 §7.1", chunked(content), ERROR)).to_vec();
    let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(2000));
    cases.push(refused("an endless extension", "RFC 9112 §7.1.1", chunked(&long), ERROR));
    for (name, content) in [
        ("bare LF after the last chunk", "0\n\r\n"),
        ("bare LF at the end", "0\r\n\n"),
        ("bare LF after a trailer", "0\r\nX: y\n\r\n"),
        ("a trailer without a colon", "0\r\nX\r\n\r\n"),
        ("a trailer with a space before the colon", "0\r\nX : y\r\n\r\n"),
        ("a folded trailer", "0\r\nX: y\r\n z\r\n\r\n"),
        ("a trailer without a name", "0\r\n: y\r\n\r\n"),
        ("a NUL in a trailer", "0\r\nX: \0\r\n\r\n"),
    ] {
        cases.push(refused(name, "RFC 9112 §7.1.2", chunked(content), ERROR));
    }
    judge(cases);
}

#[test]
fn malformed_further_on_is_broken_off() {
    let mut cases: Vec<_> = SIZES
        .map(|(name, content)| broken(name, "RFC 9112 §7.1", chunked(&format!("3\r\nabc\r\n{content}")), ERROR))
        .to_vec();
    for (name, content) in [
        ("bare LF after the content", "5\r\nhello\n0\r\n\r\n"),
        ("nothing after the content", "5\r\nhello0\r\n\r\n"),
        ("more content than the size", "5\r\nhello, world\r\n0\r\n\r\n"),
        ("less content than the size", "9\r\nhello\r\n0\r\n\r\n0\r\n\r\n"),
        ("CR CR LF after the content", "5\r\nhello\r\r\n0\r\n\r\n"),
        ("a blank after the content", "5\r\nhello \r\n0\r\n\r\n"),
        ("bare LF after the last chunk", "5\r\nhello\r\n0\n\r\n"),
        ("bare LF at the end", "5\r\nhello\r\n0\r\n\n"),
        ("bare LF after a trailer", "5\r\nhello\r\n0\r\nX: y\n\r\n"),
        ("an answer for a trailer", "5\r\nhello\r\n0\r\nHTTP/1.1 200 OK\r\n\r\n"),
    ] {
        cases.push(broken(name, "RFC 9112 §7.1", chunked(content), ERROR));
    }
    judge(cases);
}
