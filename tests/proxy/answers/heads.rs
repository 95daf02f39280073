//! Heads that are no HTTP.

use super::{head, judge, ok, refused};

const ERROR: &str = "http_protocol_error";

#[test]
fn status_lines_that_are_none_are_refused() {
    let section = "RFC 9112 §4";
    let lines = [
        ("no status", "HTTP/1.1"),
        ("a blank for a status", "HTTP/1.1 "),
        ("two digits", "HTTP/1.1 20 OK"),
        ("four digits", "HTTP/1.1 2000 OK"),
        ("letters", "HTTP/1.1 abc OK"),
        ("a sign", "HTTP/1.1 +20 OK"),
        ("two spaces", "HTTP/1.1  200 OK"),
        ("a tab", "HTTP/1.1\t200 OK"),
        ("no space after the status", "HTTP/1.1 200OK"),
        ("a tab after the status", "HTTP/1.1 200\tOK"),
        ("no space after the version", "HTTP/1.1200 OK"),
        ("a status below 100", "HTTP/1.1 099 Low"),
        ("a status of 0", "HTTP/1.1 000 None"),
        ("HTTP/1.2", "HTTP/1.2 200 OK"),
        ("HTTP/2.0", "HTTP/2.0 200 OK"),
        ("HTTP/2", "HTTP/2 200 OK"),
        ("HTTP/0.9", "HTTP/0.9 200 OK"),
        ("HTTP/1", "HTTP/1 200 OK"),
        ("HTTP/1.10", "HTTP/1.10 200 OK"),
        ("HTTP/01.1", "HTTP/01.1 200 OK"),
        ("lower case", "http/1.1 200 OK"),
        ("another protocol", "ICY 200 OK"),
        ("a blank first", " HTTP/1.1 200 OK"),
        ("a CR in the reason", "HTTP/1.1 200 O\rK"),
        ("a NUL in the reason", "HTTP/1.1 200 O\0K"),
        ("a control in the reason", "HTTP/1.1 200 O\x1bK"),
        ("DEL in the reason", "HTTP/1.1 200 O\x7fK"),
        ("an empty line first", "\r\nHTTP/1.1 200 OK"),
        ("a request", "GET / HTTP/1.1"),
    ];
    judge(
        lines.map(|(name, line)| refused(name, section, head(line, &["Content-Length: 5"], "hello"), ERROR)).to_vec(),
    );
}

#[test]
fn what_is_no_http_at_all_is_refused() {
    let section = "RFC 9112 §2.2";
    judge(vec![
        refused("SSH", section, "SSH-2.0-OpenSSH_9.2\r\n", ERROR),
        refused("HTML", section, "<html>hello</html>", ERROR),
        refused("a TLS alert", section, b"\x15\x03\x01\x00\x02\x02\x28", ERROR),
        refused("HTTP/2 settings", section, b"\x00\x00\x00\x04\x00\x00\x00\x00\x00", ERROR),
        refused("one byte", section, "x", ERROR),
        refused("zeros", section, [0; 100], ERROR),
    ]);
}

#[test]
fn fields_that_are_malformed_are_refused() {
    let lines = [
        ("no colon", "RFC 9112 §5", "X-Bad"),
        ("an empty name", "RFC 9112 §5", ": a"),
        ("a space before the colon", "RFC 9112 §5.1", "X-Bad : a"),
        ("a tab before the colon", "RFC 9112 §5.1", "X-Bad\t: a"),
        ("a folded line", "RFC 9112 §5.2", "X-Bad: a\r\n b"),
        ("a line folded with a tab", "RFC 9112 §5.2", "X-Bad: a\r\n\tb"),
        ("a folded line of blanks", "RFC 9112 §5.2", "X-Bad: a\r\n  "),
        ("a blank before the name", "RFC 9112 §5", " X-Bad: a"),
        ("a space in the name", "RFC 9110 §5.1", "X Bad: a"),
        ("a bracket in the name", "RFC 9110 §5.1", "X(Bad: a"),
        ("a quote in the name", "RFC 9110 §5.1", "\"X\": a"),
        ("a slash in the name", "RFC 9110 §5.1", "X/Bad: a"),
        ("obs-text in the name", "RFC 9110 §5.1", "X-B\u{e4}d: a"),
        ("a NUL in the name", "RFC 9110 §5.1", "X\0Bad: a"),
        ("a CR in the name", "RFC 9112 §2.2", "X\rBad: a"),
        ("a CR in the value", "RFC 9112 §2.2", "X-Bad: a\rb"),
        ("a CR at the end of the value", "RFC 9112 §2.2", "X-Bad: a\r"),
        ("a NUL in the value", "RFC 9110 §5.5", "X-Bad: a\0b"),
        ("a vertical tab in the value", "RFC 9110 §5.5", "X-Bad: a\x0bb"),
        ("a form feed in the value", "RFC 9110 §5.5", "X-Bad: a\x0cb"),
        ("an escape in the value", "RFC 9110 §5.5", "X-Bad: \x1b[0m"),
        ("DEL in the value", "RFC 9110 §5.5", "X-Bad: a\x7f"),
    ];
    let cases =
        lines.map(|(name, section, line)| refused(name, section, ok(&[line, "Content-Length: 5"], "hello"), ERROR));
    judge(cases.to_vec());
}

#[test]
fn lines_that_end_in_lf_alone_are_refused() {
    let section = "RFC 9112 §2.2";
    judge(vec![
        refused("all of them", section, "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", ERROR),
        refused("the status line", section, "HTTP/1.1 200 OK\nContent-Length: 5\r\n\r\nhello", ERROR),
        refused("a field", section, "HTTP/1.1 200 OK\r\nX: y\nContent-Length: 5\r\n\r\nhello", ERROR),
        refused("the last field", section, "HTTP/1.1 200 OK\r\nContent-Length: 5\n\r\nhello", ERROR),
        refused("the empty line", section, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\nhello", ERROR),
        refused("a split answer", section, "HTTP/1.1 200 OK\r\nX: a\n\nHTTP/1.1 200 OK\r\n\r\n", ERROR),
        refused("CR alone", section, "HTTP/1.1 200 OK\rContent-Length: 5\r\r\nhello", ERROR),
        refused("CR CR LF", section, "HTTP/1.1 200 OK\r\r\nContent-Length: 5\r\n\r\nhello", ERROR),
        refused("CR CR LF after a field", section, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\r\n\r\nhello", ERROR),
    ]);
}
