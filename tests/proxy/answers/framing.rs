//! Answers whose end could be found in two ways, or in none.

use super::{head, judge, ok, refused};

const ERROR: &str = "http_protocol_error";
const CHUNKS: &str = "5\r\nhello\r\n0\r\n\r\n";

#[test]
fn content_lengths_that_are_no_one_number_are_refused() {
    let section = "RFC 9112 §6.3";
    let with = |value: &str| ok(&[&format!("Content-Length: {value}")], "hello");
    let cases = [
        ("a list", "5, 5"),
        ("a list of others", "5, 6"),
        ("a negative number", "-5"),
        ("a sign", "+5"),
        ("hexadecimal", "0x5"),
        ("a fraction", "5.0"),
        ("an exponent", "5e0"),
        ("a space inside", "5 5"),
        ("empty", ""),
        ("a word", "five"),
        ("quoted", "\"5\""),
        ("a parameter", "5;a=b"),
        ("a number of another script", "\u{665}"),
        ("an overflow of 64 bits", "18446744073709551621"),
        ("an overflow of 128 bits", "340282366920938463463374607431768211461"),
        ("twenty digits", "00000000000000000005"),
    ];
    let mut cases: Vec<_> = cases.map(|(name, value)| refused(name, section, with(value), ERROR)).to_vec();
    let twice = |first, second| ok(&[first, "X: y", second], "hello");
    cases.push(refused("twice", section, twice("Content-Length: 5", "Content-Length: 5"), ERROR));
    cases.push(refused("two others", section, twice("Content-Length: 5", "content-length: 6"), ERROR));
    judge(cases);
}

#[test]
fn transfer_encodings_that_are_not_one_chunked_are_refused() {
    let section = "RFC 9112 §6.1";
    let with = |value: &str| ok(&[&format!("Transfer-Encoding: {value}")], CHUNKS);
    let cases = [
        ("a coding before it", "gzip, chunked"),
        ("a coding after it", "chunked, gzip"),
        ("twice in a list", "chunked, chunked"),
        ("identity", "identity"),
        ("identity before it", "identity, chunked"),
        ("unknown", "xchunked"),
        ("a letter too many", "chunkedd"),
        ("a parameter", "chunked;q=1"),
        ("quoted", "\"chunked\""),
        ("an empty member", ", chunked"),
        ("an empty member after it", "chunked,"),
        ("empty", ""),
        ("a space inside", "chun ked"),
    ];
    let mut cases: Vec<_> = cases.map(|(name, value)| refused(name, section, with(value), ERROR)).to_vec();
    let chunked = "Transfer-Encoding: chunked";
    cases.push(refused("two lines", section, ok(&[chunked, chunked], CHUNKS), ERROR));
    cases.push(refused("two lines of others", section, ok(&["Transfer-Encoding: gzip", chunked], CHUNKS), ERROR));
    cases.push(refused("in HTTP/1.0", section, head("HTTP/1.0 200 OK", &[chunked], CHUNKS), ERROR));
    cases.push(refused("a vertical tab", section, ok(&["Transfer-Encoding: \x0bchunked"], CHUNKS), ERROR));
    judge(cases);
}

#[test]
fn both_a_length_and_an_encoding_are_refused() {
    let section = "RFC 9112 §6.3";
    let (length, chunked) = ("Content-Length: 5", "Transfer-Encoding: chunked");
    judge(vec![
        refused("length first", section, ok(&[length, chunked], CHUNKS), ERROR),
        refused("encoding first", section, ok(&[chunked, length], CHUNKS), ERROR),
        refused("no length to speak of", section, ok(&["Content-Length: 0", chunked], CHUNKS), ERROR),
        refused("an encoding that is none", section, ok(&[length, "Transfer-Encoding: identity"], "hello"), ERROR),
        refused("to HEAD", section, ok(&[length, chunked], ""), ERROR).method("HEAD"),
        refused("with 204", section, head("HTTP/1.1 204 No Content", &[length, chunked], ""), ERROR),
        refused("with 304", section, head("HTTP/1.1 304 Not Modified", &[length, chunked], ""), ERROR),
        refused("with 404", section, head("HTTP/1.1 404 Not Found", &[length, chunked], CHUNKS), ERROR),
        refused("in HTTP/1.0", section, head("HTTP/1.0 200 OK", &[length, chunked], CHUNKS), ERROR),
        refused("to POST", section, ok(&[length, chunked], CHUNKS), ERROR).method("POST"),
    ]);
}
