//! Requests that are sound, and what spoils them: the matter of the fuzzer. The same seed makes the same bytes.

use fastrand::Rng;

/// Bytes that mean something to a parser somewhere.
const SHARP: &[u8] = b"\r\n\0 \t:;,=\"\\#%/?*@[]019afFxX-+.\x0b\x0c\x7f\x80\xa0\xff";

/// Lines that mean something to a parser somewhere.
const LINES: [&str; 48] = [
    "Content-Length: 0",
    "Content-Length: 3",
    "Content-Length: 03",
    "Content-Length: 3, 3",
    "Content-Length: -3",
    "Content-Length: 0x3",
    "Content-Length: 99999999999999999999",
    "Content-Length : 3",
    "Content_Length: 3",
    "content-length:3",
    "Content-Length: 3\n",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: Chunked",
    "Transfer-Encoding:chunked",
    "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding:\tchunked",
    "Transfer-Encoding: \x0bchunked",
    "Transfer-Encoding : chunked",
    "Transfer_Encoding: chunked",
    " Transfer-Encoding: chunked",
    "X: y\rTransfer-Encoding: chunked",
    "X: y\nTransfer-Encoding: chunked",
    "Connection: close",
    "Connection: keep-alive",
    "Connection: Content-Length",
    "Connection: Transfer-Encoding, X-Note",
    "Connection: Upgrade\r\nUpgrade: h2c",
    "Connection: Upgrade\r\nUpgrade: websocket",
    "Expect: 100-continue",
    "Expect: x",
    "Host: b",
    "Host: a b",
    "Host:",
    "Max-Forwards: 0",
    "Max-Forwards: 1",
    "TE: trailers",
    "Trailer: X-Note",
    "X-Note: n",
    " folded",
    "\tfolded",
    "",
    "0",
    "3",
    "X-Forwarded-For: 192.0.2.1",
    "GET /inner HTTP/1.1",
    "POST /inner HTTP/1.1\r\nHost: a\r\nContent-Length: 3",
];

/// What a client sends over one connection: the pieces, one after another.
pub fn connection(rng: &mut Rng, id: &mut u64) -> Vec<Vec<u8>> {
    let mut bytes = Vec::new();
    for _ in 0..rng.usize(1..=3) {
        bytes.extend(request(rng, id));
    }
    for _ in 0..rng.usize(0..=3) {
        spoil(rng, &mut bytes);
    }
    match rng.u8(0..4) {
        0 => cut(rng, &bytes),
        _ => vec![bytes],
    }
}

/// A sound request, with an `X-Id` of its own.
fn request(rng: &mut Rng, id: &mut u64) -> Vec<u8> {
    *id += 1;
    let method = *pick(rng, &["GET", "GET", "POST", "POST", "PUT", "HEAD", "OPTIONS", "DELETE", "TRACE", "BREW"]);
    let target = *pick(rng, &["/", "/a", "/a?b=c", "/a%20b", "http://a/a", "/early", "/a/b/c"]);
    let version = if rng.u8(0..10) == 0 { "1.0" } else { "1.1" };
    let mut head = format!("{method} {target} HTTP/{version}\r\nHost: a\r\nX-Id: {id}\r\n");
    let content: String = (0..rng.usize(0..40)).map(|_| *pick(rng, &['a', 'b', '0', '\r', '\n', ':', ' '])).collect();
    let framed = if method == "TRACE" { 0 } else { rng.u8(0..4) };
    match framed {
        0 | 1 => head.push_str("\r\n"),
        2 => head.push_str(&format!("Content-Length: {}\r\n\r\n{content}", content.len())),
        _ if version == "1.0" => head.push_str("Connection: keep-alive\r\n\r\n"),
        _ => {
            head.push_str("Trailer: X-Note\r\nTransfer-Encoding: chunked\r\n\r\n");
            head.push_str(&chunks(rng, &content));
        }
    }
    head.into_bytes()
}

fn chunks(rng: &mut Rng, content: &str) -> String {
    let mut text = String::new();
    let mut rest = content;
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(rng.usize(1..=rest.len()));
        let extension = *pick(rng, &["", "", ";a", ";a=b", ";a=\"b c\""]);
        text.push_str(&format!("{:x}{extension}\r\n{chunk}\r\n", chunk.len()));
        rest = after;
    }
    let trailers = *pick(rng, &["", "", "X-Note: n\r\n"]);
    text + "0\r\n" + trailers + "\r\n"
}

/// One change, anywhere.
fn spoil(rng: &mut Rng, bytes: &mut Vec<u8>) {
    let at = rng.usize(0..bytes.len().max(1)).min(bytes.len());
    let sharp = *pick(rng, SHARP);
    match rng.u8(0..12) {
        0 => bytes.insert(at, sharp),
        1 if !bytes.is_empty() => bytes[at] = sharp,
        2 if !bytes.is_empty() => drop(bytes.remove(at)),
        3 => bytes.truncate(at),
        4 => replace_one(rng, bytes, b"\r\n", &[b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\n\r\n", b""]),
        5 => replace_one(rng, bytes, b"HTTP/1.1", &[b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.10", b"http/1.1", b""]),
        6 => replace_one(rng, bytes, b" ", &[b"  ", b"\t", b"", b"\x0b"]),
        7 => replace_one(rng, bytes, b":", &[b" :", b"", b"::", b";"]),
        8 => {
            // A line twice, or somewhere else.
            let lines: Vec<Vec<u8>> = lines(bytes);
            let line = pick(rng, &lines).clone();
            insert_line(rng, bytes, &line);
        }
        9 => {
            let (from, to) = (rng.usize(0..=bytes.len()), rng.usize(0..=bytes.len()));
            let part = bytes[from.min(to)..from.max(to)].to_vec();
            bytes.splice(at..at, part);
        }
        _ => {
            let line = [pick(rng, &LINES).as_bytes(), b"\r\n"].concat();
            insert_line(rng, bytes, &line);
        }
    }
}

fn lines(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).chain([Vec::new()]).collect()
}

fn insert_line(rng: &mut Rng, bytes: &mut Vec<u8>, line: &[u8]) {
    let ends: Vec<usize> = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1).collect();
    let at = if ends.is_empty() { 0 } else { *pick(rng, &ends) };
    bytes.splice(at..at, line.iter().copied());
}

fn replace_one(rng: &mut Rng, bytes: &mut Vec<u8>, what: &[u8], others: &[&[u8]]) {
    let places: Vec<usize> = memchr::memmem::find_iter(bytes, what).collect();
    if !places.is_empty() {
        let (at, other) = (*pick(rng, &places), *pick(rng, others));
        bytes.splice(at..at + what.len(), other.iter().copied());
    }
}

fn cut(rng: &mut Rng, bytes: &[u8]) -> Vec<Vec<u8>> {
    let size = rng.usize(1..=bytes.len().max(1));
    bytes.chunks(size).map(<[u8]>::to_vec).collect()
}

fn pick<'a, T>(rng: &mut Rng, from: &'a [T]) -> &'a T {
    &from[rng.usize(0..from.len())]
}
