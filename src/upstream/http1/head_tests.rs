use super::*;

const BOUNDS: Bounds = Bounds { largest_head: 512, most_fields: 8 };

fn read_all(bytes: &[u8], to_head: bool) -> Result<Option<(Head, usize)>, Refusal> {
    read(&Bytes::copy_from_slice(bytes), to_head, BOUNDS)
}

/// The head that these lines are; `\r\n` is put after each, and the empty line at the end.
fn sound(lines: &[&str], to_head: bool) -> Head {
    let bytes = lines.iter().map(|line| format!("{line}\r\n")).collect::<String>() + "\r\n";
    let (head, length) = read_all(bytes.as_bytes(), to_head)
        .unwrap_or_else(|refusal| panic!("{lines:?}: {refusal:?}"))
        .unwrap_or_else(|| panic!("{lines:?}: not whole"));
    assert_eq!(length, bytes.len(), "{lines:?}");
    head
}

fn refused(lines: &[&str]) -> Refusal {
    let bytes = lines.iter().map(|line| format!("{line}\r\n")).collect::<String>() + "\r\n";
    match read_all(bytes.as_bytes(), false) {
        Err(refusal) => refusal,
        Ok(read) => panic!("{lines:?} was read as {read:?}"),
    }
}

const OK: &str = "HTTP/1.1 200 OK";

#[test]
fn the_end_of_the_content_is_found_in_one_way() {
    for (lines, to_head, framing) in [
        (&[OK][..], false, Framing::UntilClose),
        (&[OK, "Content-Length: 0"], false, Framing::Length(0)),
        (&[OK, "Content-Length: 12"], false, Framing::Length(12)),
        (&[OK, "content-length:\t12 "], false, Framing::Length(12)),
        (&[OK, "Content-Length: 0012"], false, Framing::Length(12)),
        (&[OK, "Transfer-Encoding: chunked"], false, Framing::Chunked),
        (&[OK, "Transfer-Encoding: Chunked"], false, Framing::Chunked),
        (&[OK, "Content-Length: 12"], true, Framing::Length(0)),
        (&[OK, "Transfer-Encoding: chunked"], true, Framing::Length(0)),
        (&["HTTP/1.1 204 No Content"], false, Framing::Length(0)),
        (&["HTTP/1.1 304 Not Modified", "Content-Length: 12"], false, Framing::Length(0)),
        (&["HTTP/1.1 103 Early Hints"], false, Framing::Length(0)),
    ] {
        assert_eq!(sound(lines, to_head).framing, framing, "{lines:?}");
    }
}

#[test]
fn what_could_be_framed_in_two_ways_is_refused() {
    let (length, chunked) = ("Content-Length: 2", "Transfer-Encoding: chunked");
    for lines in [
        &[OK, length, chunked][..],
        &[OK, chunked, length],
        &[OK, length, length],
        &[OK, length, "Content-Length: 3"],
        &[OK, "Content-Length: 2, 2"],
        &[OK, "Content-Length: -2"],
        &[OK, "Content-Length: +2"],
        &[OK, "Content-Length: 0x2"],
        &[OK, "Content-Length: 2.0"],
        &[OK, "Content-Length: 2 2"],
        &[OK, "Content-Length:"],
        &[OK, "Content-Length: 99999999999999999999"],
        &[OK, chunked, chunked],
        &[OK, "Transfer-Encoding: gzip, chunked"],
        &[OK, "Transfer-Encoding: chunked, gzip"],
        &[OK, "Transfer-Encoding: chunked, chunked"],
        &[OK, "Transfer-Encoding: identity"],
        &[OK, "Transfer-Encoding: xchunked"],
        &[OK, "Transfer-Encoding: chunked;a=b"],
        &[OK, "Transfer-Encoding: \"chunked\""],
        &[OK, "Transfer-Encoding: , chunked"],
        &[OK, "Transfer-Encoding:"],
        &["HTTP/1.0 200 OK", chunked],
        &["HTTP/1.1 204 No Content", length, chunked],
        &["HTTP/1.1 304 Not Modified", length, length],
    ] {
        assert!(matches!(refused(lines), Refusal::Malformed(_)), "{lines:?}");
    }
}

#[test]
fn malformed_heads_are_refused() {
    for lines in [
        &[""][..],
        &["HTTP/1.1"],
        &["HTTP/1.1 "],
        &["HTTP/1.1 20"],
        &["HTTP/1.1 2000 OK"],
        &["HTTP/1.1 abc"],
        &["HTTP/1.1  200 OK"],
        &["HTTP/1.1\t200 OK"],
        &["HTTP/1.1 200OK"],
        &["HTTP/1.1 099 Low"],
        &["HTTP/1.1 +20 OK"],
        &["HTTP/1.1 200 O\rK"],
        &["HTTP/1.1 200 O\0K"],
        &["HTTP/1.1 200 O\x7fK"],
        &["HTTP/1.2 200 OK"],
        &["HTTP/2.0 200 OK"],
        &["HTTP/2 200 OK"],
        &["HTTP/0.9 200 OK"],
        &["HTTP/11 200 OK"],
        &["HTTP/1.1200 OK"],
        &["http/1.1 200 OK"],
        &[" HTTP/1.1 200 OK"],
        &["SSH-2.0-OpenSSH_9.2"],
        &["<html>"],
        &[OK, "A"],
        &[OK, ": b"],
        &[OK, "A : b"],
        &[OK, "A\t: b"],
        &[OK, " A: b"],
        &[OK, "A: b", " folded"],
        &[OK, "A: b", "\tfolded"],
        &[OK, "A: b\rC: d"],
        &[OK, "A: b\0"],
        &[OK, "A: \x01b"],
        &[OK, "A: b\x7f"],
        &[OK, "A: b\x0b"],
        &[OK, "A(: b"],
        &[OK, "A B: b"],
        &[OK, "A\u{e9}: b"],
        &[OK, "\"A\": b"],
    ] {
        assert!(matches!(refused(lines), Refusal::Malformed(_)), "{lines:?}");
    }
    for bytes in [&b"HTTP/1.1 200 OK\n\n"[..], b"HTTP/1.1 200 OK\r\nA: b\nC: d", b"\r\nHTTP/1.1 200 OK\r\n\r\n", b"SSH"]
    {
        assert!(matches!(read_all(bytes, false), Err(Refusal::Malformed(_))), "{bytes:?}");
    }
}

#[test]
fn a_head_is_bounded_in_bytes_and_fields() {
    let long = format!("A: {}", "b".repeat(600));
    assert_eq!(refused(&[OK, &long]), Refusal::TooLarge);
    assert_eq!(refused(&[&format!("{OK}{}", "k".repeat(600))]), Refusal::TooLarge);
    assert_eq!(refused(&[&[OK][..], &["A: b"; 9]].concat()), Refusal::TooLarge);
    assert_eq!(sound(&[&[OK][..], &["A: b"; 8]].concat(), false).fields.len(), 8);
    assert_eq!(read_all(&[b"HTTP/1.1 200 ", [b'k'; 600].as_slice()].concat(), false).err(), Some(Refusal::TooLarge));
    assert!(matches!(read_all(&[b"HTTP/1.1 200 ", [b'k'; 400].as_slice()].concat(), false), Ok(None)));
}

#[test]
fn a_head_that_is_cut_anywhere_is_waited_for() {
    let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: y\r\n\r\n";
    for cut in 0..whole.len() {
        assert!(matches!(read_all(&whole[..cut], false), Ok(None)), "{cut}");
    }
}

#[test]
fn fields_about_the_connection_stop_here() {
    let head = sound(
        &[
            OK,
            "Connection: X-Inner, Content-Length, close",
            "X-Inner: 1",
            "Keep-Alive: timeout=5",
            "Upgrade: h2c",
            "X: y",
        ],
        false,
    );
    assert_eq!(head.fields.keys().collect::<Vec<_>>(), ["x"]);
    assert!(!head.persistent);
    assert_eq!(head.upgrade.as_ref().map(HeaderValue::as_bytes), Some(&b"h2c"[..]));
    let informed = sound(&["HTTP/1.1 103 Early Hints", "Content-Length: 5", "Link: </a>"], false);
    assert_eq!(informed.fields.keys().collect::<Vec<_>>(), ["link"], "an interim answer has no length");
}

#[test]
fn a_connection_is_kept_as_its_version_has_it() {
    for (lines, persistent) in [
        (&[OK][..], true),
        (&[OK, "Connection: keep-alive"], true),
        (&[OK, "Connection: Close"], false),
        (&[OK, "Connection: a", "Connection: keep-alive, close"], false),
        (&["HTTP/1.0 200 OK"], false),
        (&["HTTP/1.0 200 OK", "Connection: Keep-Alive"], true),
    ] {
        assert_eq!(sound(lines, false).persistent, persistent, "{lines:?}");
    }
}

#[test]
fn an_unusual_reason_is_kept_and_a_missing_one_is_none() {
    assert_eq!(sound(&["HTTP/1.1 404 Nobody Home"], false).reason.as_deref(), Some(&b"Nobody Home"[..]));
    for line in [OK, "HTTP/1.1 200 ", "HTTP/1.1 200"] {
        assert_eq!(sound(&[line], false).reason, None, "{line:?}");
    }
}
