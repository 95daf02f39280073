//! Answers that are sound, in every way that an answer may be framed.

use super::{Case, head, judge, ok, whole};

const LENGTH: &str = "Content-Length: 5";
const CHUNKED: &str = "Transfer-Encoding: chunked";

#[test]
fn content_with_a_length_comes_through_whole() {
    let section = "RFC 9112 §6.2";
    let large = vec![b'x'; 300_000];
    judge(vec![
        whole("a length", section, ok(&[LENGTH], "hello"), "hello"),
        whole("no content", section, ok(&["Content-Length: 0"], ""), ""),
        whole("leading zeros", section, ok(&["Content-Length: 0005"], "hello"), "hello"),
        whole("white space around", section, ok(&["Content-Length: \t 5 \t"], "hello"), "hello"),
        whole("no white space", section, ok(&["Content-Length:5"], "hello"), "hello"),
        whole("upper case", section, ok(&["CONTENT-LENGTH: 5"], "hello"), "hello"),
        whole(
            "content that looks like a head",
            section,
            ok(&["Content-Length: 19"], "HTTP/1.1 200 OK\r\n\r\n"),
            "HTTP/1.1 200 OK\r\n\r\n",
        ),
        whole("NUL in content", section, ok(&["Content-Length: 3"], b"a\0b"), b"a\0b"),
        whole("large content", section, ok(&["Content-Length: 300000"], &large), &large),
        whole("closed after it", section, ok(&[LENGTH, "Connection: close"], "hello"), "hello").closes(),
        whole("closed after it unasked", section, ok(&[LENGTH], "hello"), "hello").closes(),
        whole("to POST", section, ok(&[LENGTH], "hello"), "hello").method("POST"),
    ]);
}

#[test]
fn chunked_content_comes_through_whole() {
    let section = "RFC 9112 §7.1";
    let chunked = |chunks: &str| ok(&[CHUNKED], chunks);
    let large = "x".repeat(200_000);
    let fine = "1\r\na\r\n".repeat(3000) + "0\r\n\r\n";
    judge(vec![
        whole("a chunk", section, chunked("5\r\nhello\r\n0\r\n\r\n"), "hello"),
        whole("no chunk", section, chunked("0\r\n\r\n"), ""),
        whole("two chunks", section, chunked("2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"), "hello"),
        whole("leading zeros", section, chunked("005\r\nhello\r\n000\r\n\r\n"), "hello"),
        whole("upper-case digits", section, chunked("A\r\nhellohello\r\n0\r\n\r\n"), "hellohello"),
        whole("lower-case digits", section, chunked("a\r\nhellohello\r\n0\r\n\r\n"), "hellohello"),
        whole("an extension", "RFC 9112 §7.1.1", chunked("5;a=b\r\nhello\r\n0\r\n\r\n"), "hello"),
        whole("a quoted extension", "RFC 9112 §7.1.1", chunked("5;a=\"b c\"\r\nhello\r\n0;z\r\n\r\n"), "hello"),
        whole("a trailer", "RFC 9112 §7.1.2", chunked("5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"), "hello"),
        whole(
            "a forbidden trailer",
            "RFC 9110 §6.5.1",
            chunked("5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n"),
            "hello",
        ),
        whole(
            "chunked in another case",
            section,
            ok(&["transfer-encoding: CHUNKED"], "5\r\nhello\r\n0\r\n\r\n"),
            "hello",
        ),
        whole("many small chunks", section, chunked(&fine), "a".repeat(3000)),
        whole("a large chunk", section, chunked(&format!("{:x}\r\n{large}\r\n0\r\n\r\n", large.len())), &large),
        whole("framing as content", section, chunked("7\r\n0\r\n\r\n0\r\r\n0\r\n\r\n"), "0\r\n\r\n0\r"),
        whole("closed after it", section, ok(&[CHUNKED, "Connection: close"], "0\r\n\r\n"), "").closes(),
        whole("closed after it unasked", section, chunked("5\r\nhello\r\n0\r\n\r\n"), "hello").closes(),
    ]);
}

#[test]
fn content_may_end_with_the_connection() {
    let section = "RFC 9112 §6.3";
    judge(vec![
        whole("of HTTP/1.1", section, ok(&[], "hello"), "hello").closes(),
        whole("without content", section, ok(&[], ""), "").closes(),
        whole("of HTTP/1.0", section, head("HTTP/1.0 200 OK", &[], "hello"), "hello").closes(),
        whole("that keeps alive", section, head("HTTP/1.0 200 OK", &["Connection: keep-alive"], "hello"), "hello")
            .closes(),
        whole("with a field that is no length", section, ok(&["X-Content-Length: 3"], "hello"), "hello").closes(),
    ]);
}

#[test]
fn the_version_and_connection_decide_what_is_kept() {
    let section = "RFC 9112 §9.3";
    let old = |lines: &[&str]| head("HTTP/1.0 200 OK", lines, "hello");
    judge(vec![
        whole("1.0", section, old(&[LENGTH]), "hello").not_reused(),
        whole("1.0 that keeps alive", section, old(&[LENGTH, "Connection: keep-alive"]), "hello"),
        whole("1.0 that keeps alive in upper case", section, old(&[LENGTH, "Connection: KEEP-ALIVE"]), "hello"),
        whole("1.0 that cannot decide", section, old(&[LENGTH, "Connection: keep-alive, close"]), "hello").not_reused(),
        whole("1.1 that closes", section, ok(&[LENGTH, "Connection: close"], "hello"), "hello").not_reused(),
        whole("1.1 that closes in upper case", section, ok(&[LENGTH, "Connection: CLOSE"], "hello"), "hello")
            .not_reused(),
        whole("close in a list", section, ok(&[LENGTH, "Connection: a, close"], "hello"), "hello").not_reused(),
        whole("close in a second line", section, ok(&[LENGTH, "Connection: a", "Connection: close"], "hello"), "hello")
            .not_reused(),
        whole("close as a part of a word", section, ok(&[LENGTH, "Connection: closed"], "hello"), "hello"),
        whole("chunks that close", section, ok(&[CHUNKED, "Connection: close"], "5\r\nhello\r\n0\r\n\r\n"), "hello")
            .not_reused(),
    ]);
}

#[test]
fn answers_without_content_have_none_whatever_they_say() {
    let section = "RFC 9112 §6.3";
    let none = |status: &str, lines: &[&str]| head(&format!("HTTP/1.1 {status}"), lines, "");
    judge(vec![
        whole("204", section, none("204 No Content", &[]), "").status(204),
        whole("204 with a length", "RFC 9110 §8.6", none("204 No Content", &[LENGTH]), "").status(204),
        whole("204 with chunks", section, none("204 No Content", &[CHUNKED]), "").status(204),
        whole("304", section, none("304 Not Modified", &[]), "").status(304),
        whole("304 with a length", "RFC 9110 §15.4.5", none("304 Not Modified", &[LENGTH]), "").status(304),
        whole("304 with chunks", section, none("304 Not Modified", &[CHUNKED]), "").status(304),
        whole("HEAD with a length", "RFC 9110 §9.3.2", none("200 OK", &[LENGTH]), "").method("HEAD"),
        whole("HEAD with chunks", section, none("200 OK", &[CHUNKED]), "").method("HEAD"),
        whole("HEAD with neither", section, none("200 OK", &[]), "").method("HEAD"),
        whole("HEAD, 404", section, none("404 Not Found", &["Content-Length: 1000"]), "").method("HEAD").status(404),
    ]);
}

#[test]
fn content_where_there_is_none_is_dropped_with_its_connection() {
    let section = "RFC 9112 §6.3";
    let with = |status: &str, lines: &[&str], after: &str| head(&format!("HTTP/1.1 {status}"), lines, after);
    let chunks = "5\r\nhello\r\n0\r\n\r\n";
    judge(vec![
        whole("204", section, with("204 No Content", &[LENGTH], "hello"), "").status(204).not_reused(),
        whole("204 with chunks", section, with("204 No Content", &[CHUNKED], chunks), "").status(204).not_reused(),
        whole("304", section, with("304 Not Modified", &[LENGTH], "hello"), "").status(304).not_reused(),
        whole("304 with chunks", section, with("304 Not Modified", &[CHUNKED], chunks), "").status(304).not_reused(),
        whole("HEAD", section, with("200 OK", &[LENGTH], "hello"), "").method("HEAD").not_reused(),
        whole("HEAD with chunks", section, with("200 OK", &[CHUNKED], chunks), "").method("HEAD").not_reused(),
        whole("HEAD with an answer", section, with("200 OK", &[LENGTH], "HTTP/1.1 200 OK\r\n\r\n"), "")
            .method("HEAD")
            .not_reused(),
    ]);
}

#[test]
fn heads_that_look_odd_and_are_sound_pass() {
    let fields: Vec<String> = (0..200).map(|number| format!("X-{number}: a")).collect();
    let mut many: Vec<&str> = fields.iter().map(String::as_str).collect();
    many.push(LENGTH);
    let long = format!("X-Long: {}", "a".repeat(60_000));
    let status = |line: &str| head(line, &[LENGTH], "hello");
    let field = |line: &str| ok(&[LENGTH, line], "hello");
    let cases: Vec<Case> = vec![
        whole("an empty reason", "RFC 9112 §4", status("HTTP/1.1 200 "), "hello"),
        whole("no reason and no space", "RFC 9112 §4", status("HTTP/1.1 200"), "hello"),
        whole("a long reason", "RFC 9112 §4", status("HTTP/1.1 200 All is well: (really)"), "hello"),
        whole("a tab in the reason", "RFC 9112 §4", status("HTTP/1.1 200 All\twell"), "hello"),
        whole("the lowest status", "RFC 9110 §15", status("HTTP/1.1 200 OK"), "hello"),
        whole("the highest status", "RFC 9110 §15", status("HTTP/1.1 999 Odd"), "hello").status(999),
        whole("an unknown status", "RFC 9110 §15", status("HTTP/1.1 299 Odd"), "hello").status(299),
        whole("an empty value", "RFC 9110 §5.5", field("X-Empty:"), "hello"),
        whole("a value of blanks", "RFC 9110 §5.5", field("X-Blank: \t "), "hello"),
        whole("a tab in a value", "RFC 9110 §5.5", field("X-Tab: a\tb"), "hello"),
        whole("obs-text", "RFC 9110 §5.5", field("X-Name: Andr\u{e9}"), "hello"),
        whole("a name of all token characters", "RFC 9110 §5.6.2", field("!#$%&'*+-.^_`|~09azAZ: a"), "hello"),
        whole("a name of one letter", "RFC 9110 §5.6.2", field("X: a"), "hello"),
        whole("a colon in a value", "RFC 9112 §5", field("X: a: b"), "hello"),
        whole("many fields", "RFC 9110 §5.4", ok(&many, "hello"), "hello"),
        whole("a long field", "RFC 9110 §5.4", ok(&[LENGTH, &long], "hello"), "hello"),
        whole(
            "repeated fields",
            "RFC 9110 §5.3",
            ok(&["Set-Cookie: a=1", "Set-Cookie: b=2", LENGTH], "hello"),
            "hello",
        ),
        whole("a field named like framing", "RFC 9112 §6", field("Content_Length: 9"), "hello"),
        whole("205", "RFC 9110 §15.3.6", head("HTTP/1.1 205 Reset Content", &["Content-Length: 0"], ""), "")
            .status(205),
    ];
    judge(cases);
}
