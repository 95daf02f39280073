//! How the end of a message is found (RFC 9112 §6).

use super::{Case, Then, passes, refused, table};

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

fn post(version: &str, fields: &str, content: &str) -> String {
    format!("POST /framing HTTP/{version}\r\nHost: a\r\n{fields}\r\n\r\n{content}")
}

/// Codings that are not one plain `chunked`.
const CODINGS: [&str; 32] = [
    "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\ntransfer-encoding: identity",
    "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: identity, chunked",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: gzip",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: chunked, gzip",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: chunkedx",
    "Transfer-Encoding: chunk",
    "Transfer-Encoding: \"chunked\"",
    "Transfer-Encoding: 'chunked'",
    "Transfer-Encoding: chunked;q=1",
    "Transfer-Encoding: chunked; a=b",
    "Transfer-Encoding: , chunked",
    "Transfer-Encoding: chunked,",
    "Transfer-Encoding: ,",
    "Transfer-Encoding:",
    "Transfer-Encoding:\tchunked",
    "Transfer-Encoding: chunked\t",
    "Transfer-Encoding: \tchunked",
    "Transfer-Encoding: chun ked",
    "Transfer-Encoding: \x0bchunked",
    "Transfer-Encoding: chunked\x0c",
    "Transfer-Encoding: \u{a0}chunked",
    "Transfer-Encoding: chunked\0",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding\t: chunked",
    "Transfer-Encoding: chu\r\n nked",
];

/// Lengths that are not one number.
const LENGTHS: [&str; 32] = [
    "Content-Length: 3\r\nContent-Length: 5",
    "Content-Length: 5\r\nContent-Length: 3",
    "Content-Length: 3\r\nContent-Length: 3",
    "Content-Length: 3\r\ncontent-length: 0",
    "Content-Length: 3, 5",
    "Content-Length: 3,3",
    "Content-Length: 3, 3",
    "Content-Length: 3,",
    "Content-Length: ,3",
    "Content-Length: +3",
    "Content-Length: -3",
    "Content-Length: -0",
    "Content-Length: 0x3",
    "Content-Length: 3h",
    "Content-Length: 3.0",
    "Content-Length: 3e0",
    "Content-Length: 1 0",
    "Content-Length: 3;",
    "Content-Length: '3'",
    "Content-Length: \"3\"",
    "Content-Length:",
    "Content-Length: ",
    "Content-Length: three",
    "Content-Length: \x0b3",
    "Content-Length: 3\x0c",
    "Content-Length: 3\0",
    "Content-Length: 99999999999999999999",
    "Content-Length: 18446744073709551616",
    "Content-Length: 18446744073709551619",
    "Content-Length: 9223372036854775808",
    "Content-Length: \u{663}",
    "Content-Length : 3",
];

#[test]
fn the_end_of_a_message_is_found_in_one_way_or_the_message_is_refused() {
    let mut cases: Vec<Case> = Vec::new();
    let chunked = format!("3\r\nabc\r\n0\r\n\r\n{SMUGGLED}");
    for coding in CODINGS {
        for version in ["1.1", "1.0"] {
            let bytes = post(version, coding, &chunked);
            cases.push(refused("9112 §6.1", format!("HTTP/{version} {coding:?}"), bytes, &[400, 501]));
        }
        let beside = post("1.1", &format!("Content-Length: 3\r\n{coding}"), &chunked);
        cases.push(refused("9112 §6.3", format!("a length beside {coding:?}"), beside, &[400, 501]));
    }
    for coding in ["chunked", "Chunked", "CHUNKED"] {
        let name = format!("HTTP/1.0 {coding}");
        cases.push(refused("9112 §6.1", name, post("1.0", &format!("Transfer-Encoding: {coding}"), &chunked), &[400]));
        for (first, second) in [("Content-Length: 6", ""), ("", "Content-Length: 6"), ("Content-Length: 0", "")] {
            let fields = [first, &format!("Transfer-Encoding: {coding}"), second];
            let fields = fields.iter().filter(|line| !line.is_empty()).copied().collect::<Vec<_>>().join("\r\n");
            cases.push(refused("9112 §6.3", format!("both: {fields:?}"), post("1.1", &fields, &chunked), &[400]));
        }
        let bytes = post("1.1", &format!("Transfer-Encoding: {coding}"), "3\r\nabc\r\n0\r\n\r\n");
        cases.push(passes("9112 §7", format!("HTTP/1.1 {coding}"), bytes, "POST /framing").content("abc"));
    }
    for length in LENGTHS {
        for version in ["1.1", "1.0"] {
            let name = format!("HTTP/{version} {length:?}");
            cases.push(refused("9110 §8.6", name, post(version, length, &format!("abc{SMUGGLED}")), &[400]));
        }
    }
    for length in ["3", "03", "0000000000000000003", "  3", "3  ", "\t3\t"] {
        let bytes = post("1.1", &format!("Content-Length:{length}"), "abc");
        let case = passes("9110 §8.6", format!("length {length:?}"), bytes, "POST /framing");
        cases.push(case.content("abc").with("content-length", "3").without("transfer-encoding"));
    }
    cases.extend(methods());
    cases.extend(truncated());
    table(cases);
}

/// Content is framed alike for every method (§6).
fn methods() -> Vec<Case> {
    let mut cases = Vec::new();
    for method in
        ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW", "get", "M-SEARCH", "!#$%&'*+-.^_`|~"]
    {
        let start = format!("{method} /framing");
        let none = format!("{start} HTTP/1.1\r\nHost: a\r\n\r\n");
        cases.push(passes("9112 §6.3", format!("{method} without content"), none, &start).content(""));
        let length = format!("{start} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
        cases.push(passes("9112 §6.3", format!("{method} with a length"), length, &start).content("abc"));
        let chunks = format!("{start} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
        cases.push(passes("9112 §6.3", format!("{method} in chunks"), chunks, &start).content("abc"));
    }
    let old = "POST /framing HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc";
    cases.push(passes("9112 §6.3", "HTTP/1.0 with a length", old, "POST /framing").content("abc").then(Then::Closed));
    let none = "POST /framing HTTP/1.1\r\nHost: a\r\n\r\n";
    cases.push(passes("9112 §6.3", "POST without a word about content", none, "POST /framing").content(""));
    cases
}

/// Content that ends before it is whole is never taken for whole (§8).
fn truncated() -> Vec<Case> {
    let mut cases = Vec::new();
    let length = post("1.1", "Content-Length: 10", "0123456789");
    let chunks = post("1.1", "Transfer-Encoding: chunked", "5\r\n01234\r\n5;a=b\r\n56789\r\n0\r\nX-T: 1\r\n\r\n");
    for (name, whole) in [("a length", length), ("chunks", chunks)] {
        let head = whole.find("\r\n\r\n").expect("a head") + 4;
        for cut in head..whole.len() {
            let case = refused("9112 §8", format!("{name}, cut at {cut}"), &whole[..cut], &[0, 400, 408]);
            cases.push(case.ends().or_broken_off());
        }
        for cut in (1..head).step_by(7) {
            cases.push(refused("9112 §8", format!("{name}, head cut at {cut}"), &whole[..cut], &[0, 400, 408]).ends());
        }
    }
    cases
}
