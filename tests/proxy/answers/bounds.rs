//! Heads and trailers that are too large.

use super::{broken, judge, judge_behind, ok, refused, whole};
use crate::harness::Configuration;

const HEAD: &str = "http_response_header_section_size";

#[test]
fn large_heads_and_trailers_are_refused() {
    let section = "RFC 9110 §5.4";
    let long = format!("X: {}", "a".repeat(70_000));
    let fields: Vec<String> = (0..300).map(|number| format!("X-{number}: a")).collect();
    let many: Vec<&str> = fields.iter().map(String::as_str).collect();
    let status = format!("HTTP/1.1 200 {}\r\n\r\n", "a".repeat(70_000));
    let trailers = format!("5\r\nhello\r\n0\r\n{}\r\n", format!("X: {}\r\n", "a".repeat(900)).repeat(20));
    let trailer = format!("0\r\nX: {}\r\n\r\n", "a".repeat(3000));
    let chunked = |chunks: &str| ok(&["Transfer-Encoding: chunked"], chunks);
    judge(vec![
        refused("a long field", section, ok(&[&long], ""), HEAD),
        refused("many fields", section, ok(&many, ""), HEAD),
        refused("an endless field", section, format!("HTTP/1.1 200 OK\r\nX: {}", "a".repeat(70_000)), HEAD),
        refused("an endless status line", section, format!("HTTP/1.1 200 {}", "a".repeat(70_000)), HEAD),
        refused("a long reason", section, status, HEAD),
        broken("many trailers", section, chunked(&trailers), "http_response_trailer_section_size"),
        refused("a long trailer", section, chunked(&trailer), "http_response_trailer_section_size"),
    ]);
}

#[test]
fn the_bounds_are_the_configurations() {
    let bounded = |app: &_| {
        Configuration::of(app).upstream("max_response_header_size = \"2 KiB\"").upstream("max_response_headers = 10")
    };
    let section = "RFC 9110 §5.4";
    let (short, long) = (format!("X: {}", "a".repeat(1900)), format!("X: {}", "a".repeat(2020)));
    judge_behind(
        bounded,
        vec![
            whole("just within", section, ok(&[&short, "Content-Length: 5"], "hello"), "hello"),
            refused("just beyond", section, ok(&[&long, "Content-Length: 5"], "hello"), HEAD),
            whole("ten fields", section, ok(&[&["X: a"; 9][..], &["Content-Length: 5"]].concat(), "hello"), "hello"),
            refused("eleven fields", section, ok(&[&["X: a"; 10][..], &["Content-Length: 5"]].concat(), "hello"), HEAD),
        ],
    );
}
