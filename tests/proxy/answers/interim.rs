//! Interim answers, and the one that switches protocols.

use super::{broken, head, judge, judge_behind, ok, refused, whole};
use crate::harness::Configuration;

const LAST: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

fn after(interim: &str) -> String {
    format!("{interim}{LAST}")
}

#[test]
fn interim_answers_come_before_the_last_one() {
    let section = "RFC 9110 §15.2";
    judge(vec![
        whole("100", section, after("HTTP/1.1 100 Continue\r\n\r\n"), "hello"),
        whole("102", section, after("HTTP/1.1 102 Processing\r\n\r\n"), "hello"),
        whole("103", section, after("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"), "hello"),
        whole("an unknown one", section, after("HTTP/1.1 199 Odd\r\n\r\n"), "hello"),
        whole("sixteen", section, after(&"HTTP/1.1 102 Processing\r\n\r\n".repeat(16)), "hello"),
        whole(
            "with a length",
            "RFC 9110 §8.6",
            after("HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n"),
            "hello",
        ),
        whole("of HTTP/1.0", section, after("HTTP/1.0 103 Early Hints\r\n\r\n"), "hello"),
        whole("that closes", section, after("HTTP/1.1 103 Early Hints\r\nConnection: close\r\n\r\n"), "hello"),
        whole("before 204", section, "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", "").status(204),
    ]);
}

#[test]
fn too_many_interim_answers_or_malformed_ones_are_refused() {
    let (section, error) = ("RFC 9110 §15.2", "http_protocol_error");
    judge(vec![
        refused("seventeen", section, after(&"HTTP/1.1 102 Processing\r\n\r\n".repeat(17)), error),
        refused("a flood", section, "HTTP/1.1 100 Continue\r\n\r\n".repeat(10_000), error),
        refused("with content", section, after("HTTP/1.1 103 Early Hints\r\nContent-Length: 3\r\n\r\nabc"), error),
        refused(
            "framed in two ways",
            section,
            after("HTTP/1.1 100 Continue\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"),
            error,
        ),
        refused("a malformed one", section, after("HTTP/1.1 103 Early Hints\r\nX : y\r\n\r\n"), error),
        refused("a last one that is malformed", section, "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 abc\r\n\r\n", error),
        refused("nothing after it", section, "HTTP/1.1 103 Early Hints\r\n\r\n", "http_response_incomplete").closes(),
    ]);
    let none = |app: &_| Configuration::of(app).upstream("max_interim = 0");
    judge_behind(
        none,
        vec![
            refused("one where none is allowed", section, after("HTTP/1.1 103 Early Hints\r\n\r\n"), error),
            whole("none", section, LAST, "hello"),
        ],
    );
}

#[test]
fn a_switch_of_protocols_that_nobody_asked_for_is_refused() {
    let (section, error) = ("RFC 9110 §15.2.2", "http_upgrade_failed");
    let switch = |lines: &[&str]| head("HTTP/1.1 101 Switching Protocols", lines, "hello");
    judge(vec![
        refused("to WebSocket", section, switch(&["Connection: Upgrade", "Upgrade: websocket"]), error),
        refused("to h2c", section, switch(&["Connection: Upgrade", "Upgrade: h2c"]), error),
        refused("to nothing", section, switch(&[]), error),
        refused("with a length", section, switch(&["Content-Length: 5"]), error),
        refused("to HEAD", section, switch(&["Upgrade: websocket"]), error).method("HEAD"),
        refused("to POST", section, switch(&["Upgrade: websocket"]), error).method("POST"),
    ]);
}

#[test]
fn nothing_of_an_answer_that_is_not_one_is_passed_on() {
    judge(vec![
        refused("silence", "RFC 9209 §2.3.8", "", "connection_terminated").closes().method("POST"),
        refused("a part of a head", "RFC 9209 §2.3.15", "HTTP/1.1 200 OK\r\nX: y\r\n", "http_response_incomplete")
            .closes(),
        refused("a part of a head to POST", "RFC 9112 §8", "HTTP/1.1 200 O", "http_response_incomplete")
            .closes()
            .method("POST"),
        broken("a head alone", "RFC 9112 §8", ok(&["Content-Length: 5"], ""), "http_response_incomplete")
            .closes()
            .or_refused(),
        broken(
            "a head of chunks alone",
            "RFC 9112 §8",
            ok(&["Transfer-Encoding: chunked"], ""),
            "http_response_incomplete",
        )
        .closes()
        .or_refused(),
        broken("half of it", "RFC 9112 §8", ok(&["Content-Length: 10"], "hello"), "http_response_incomplete").closes(),
        broken(
            "no last chunk",
            "RFC 9112 §8",
            ok(&["Transfer-Encoding: chunked"], "5\r\nhello\r\n"),
            "http_response_incomplete",
        )
        .closes(),
        broken(
            "half of the last chunk",
            "RFC 9112 §8",
            ok(&["Transfer-Encoding: chunked"], "5\r\nhello\r\n0\r\n"),
            "http_response_incomplete",
        )
        .closes(),
    ]);
}
