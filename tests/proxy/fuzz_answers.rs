//! Answers that are mutated at random, and a reader of our own that says what may be made of them.
//!
//! 1. What looks complete to the client is what a strict reader makes of the app's bytes; what a strict reader takes for
//!    sound comes through whole.
//! 2. The next request gets its own answer, and nothing is stored of an answer that was not whole.
//! 3. Nothing hangs, and the proxy lives.
//!
//! By a fixed seed and count; for longer, `SIDEGATE_FUZZ_SECONDS`, and to repeat a run `SIDEGATE_FUZZ_SEED`.

use std::iter::Peekable;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::harness::{Answer, Client, Configuration, Origin, Sidegate, client::request};

/// Answers in a run that is not told how long it may take.
const COUNT: usize = 1200;

/// The answer to be given next, and whether the app hangs up after it; `None` once it was given.
type Script = Arc<Mutex<Option<(Vec<u8>, bool)>>>;

#[test]
fn fuzz_answers_of_the_app() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let deadline = number("SIDEGATE_FUZZ_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let seed = number("SIDEGATE_FUZZ_SEED").unwrap_or_else(|| deadline.map_or(9112, |_| fastrand::u64(..)));
    let mut random = Rng::with_seed(seed);
    let script = Script::default();
    let app = mutant(script.clone());
    let cached = "[cache.all]\nttl = \"60s\"\n[[route]]\npath = \"/{*rest}\"\ncache = \"all\"";
    let timeouts = "timeouts = { first_byte = \"300ms\", idle = \"300ms\" }";
    let sidegate = Configuration::of(&app).server("workers = 1").upstream(timeouts).with(cached).start();
    let (mut sound, mut turn) = (0, 0);
    while deadline.map_or(turn < COUNT, |deadline| Instant::now() < deadline) {
        let bytes = mutated(&mut random, turn);
        // An app that waits costs a time-out.
        let hangs_up = random.u8(..) > 8;
        let expected = strictly_read(&bytes, hangs_up);
        sound += usize::from(expected.is_some());
        *script.lock().expect("the script") = Some((bytes.clone(), hangs_up));
        if let Err(why) = judge(&sidegate, turn, expected.as_ref()) {
            panic!("seed {seed}, turn {turn}: {why}\nthe app sent {:?}", String::from_utf8_lossy(&bytes));
        }
        turn += 1;
    }
    assert!(sound * 10 > turn && sound * 10 < turn * 9, "{sound} of {turn} were sound: the mutations say little");
}

/// An app that gives the answer of the script once, and otherwise says which request it was asked.
fn mutant(script: Script) -> Origin {
    Origin::scripted(move |wire| {
        while let Some(request) = wire.request()? {
            let scripted = if request.path() == "/next" { None } else { script.lock().expect("the script").take() };
            match scripted {
                Some((bytes, hangs_up)) => {
                    wire.send(&bytes)?;
                    if hangs_up {
                        return Ok(());
                    }
                }
                None => {
                    let text = format!("again {}", request.target);
                    wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len()).as_bytes())?;
                }
            }
        }
        Ok(())
    })
}

fn judge(sidegate: &Sidegate, turn: usize, expected: Option<&(u16, Vec<u8>)>) -> Result<(), String> {
    let target = format!("/{turn}");
    let asked = |client: &mut Client, target: &str| client.send(request("GET", target, &[], b"")).try_answer_to("GET");
    let answer = asked(&mut sidegate.client(), &target);
    let complete = |answer: &Answer| !answer.cut_short && answer.field("proxy-status").is_none();
    let found =
        answer.as_ref().ok().filter(|answer| complete(answer)).map(|answer| (answer.status, answer.content.clone()));
    if found.as_ref() != expected {
        return Err(format!("expected {expected:?}, the client got {answer:?}"));
    }
    let next = sidegate.get(&format!("/next?{turn}"));
    if next.text() != format!("again /next?{turn}") {
        return Err(format!("the next request was answered {next:?}"));
    }
    if expected.is_none() {
        let again = sidegate.get(&target);
        if again.text() != format!("again {target}") {
            return Err(format!("what was broken was kept: {again:?}"));
        }
    }
    Ok(())
}

/// A sound answer with up to three mutations.
fn mutated(random: &mut Rng, turn: usize) -> Vec<u8> {
    let mut bytes = sound(random, turn);
    for _ in 0..random.usize(0..4) {
        mutate(random, &mut bytes);
    }
    if bytes.is_empty() { b"\r\n".to_vec() } else { bytes }
}

fn sound(random: &mut Rng, turn: usize) -> Vec<u8> {
    let content = format!("<{turn}>").repeat(random.usize(0..40));
    let mut out = String::new();
    for _ in 0..random.usize(0..3).saturating_sub(1) {
        out += "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    }
    let version = if random.u8(..) < 30 { "HTTP/1.0" } else { "HTTP/1.1" };
    let status = ["200 OK", "200 OK", "200 OK", "204 No Content", "404 Not Found", "500 Oh No"][random.usize(..6)];
    out += &format!("{version} {status}\r\n");
    for _ in 0..random.usize(..3) {
        out += ["X-A: b\r\n", "Cache-Control: max-age=60\r\n", "Connection: close\r\n", "Set-Cookie: a=b\r\n"]
            [random.usize(..4)];
    }
    match random.usize(..3) {
        _ if status.starts_with("204") => out += "\r\n",
        0 => out += &format!("\r\n{content}"),
        1 if version == "HTTP/1.1" => {
            out += "Transfer-Encoding: chunked\r\n\r\n";
            for piece in content.as_bytes().chunks(random.usize(1..50)) {
                let extension = if random.bool() { "" } else { ";a=b" };
                out += &format!("{:x}{extension}\r\n{}\r\n", piece.len(), String::from_utf8_lossy(piece));
            }
            out += if random.bool() { "0\r\n\r\n" } else { "0\r\nX-Sum: 1\r\n\r\n" };
        }
        _ => out += &format!("Content-Length: {}\r\n\r\n{content}", content.len()),
    }
    out.into_bytes()
}

/// What is put in somewhere.
const SPLINTERS: [&[u8]; 24] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b";",
    b"0",
    b"1",
    b"f",
    b",",
    b"\x0b",
    b"\xff",
    b"\r\n\r\n",
    b"0\r\n\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip\r\n",
    b"Connection: keep-alive\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
];

fn mutate(random: &mut Rng, bytes: &mut Vec<u8>) {
    // Lines are where it matters: half of the places are the beginning or the end of one.
    let ends: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] == b'\n').collect();
    let at = match random.bool() && !ends.is_empty() {
        true => ends[random.usize(..ends.len())] + random.usize(..2),
        false => random.usize(..=bytes.len()),
    }
    .min(bytes.len());
    let some = random.usize(1..12).min(bytes.len() - at);
    match random.usize(..7) {
        0 => bytes.truncate(at),
        1 => drop(bytes.drain(at..at + some)),
        2 => {
            let again = bytes[at..at + some].to_vec();
            bytes.splice(at..at, again);
        }
        3 if at < bytes.len() => bytes[at] = random.u8(..),
        4 if at < bytes.len() => bytes[at] ^= 0x20,
        _ => drop(bytes.splice(at..at, SPLINTERS[random.usize(..SPLINTERS.len())].iter().copied())),
    }
}

/// Status and content, if the bytes are a sound and whole answer to GET, read to the letter of RFC 9112.
fn strictly_read(mut bytes: &[u8], ends: bool) -> Option<(u16, Vec<u8>)> {
    for _ in 0..=16 {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let (head, rest) = (&bytes[..end], &bytes[end + 4..]);
        let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        // Every LF but the last (cut off with the empty line) has its CR, and there is no other.
        if count(head, b'\n') != head.windows(2).filter(|pair| pair == b"\r\n").count()
            || count(head, b'\n') != count(head, b'\r')
        {
            return None;
        }
        let (version, status) = status_line(lines.next()?)?;
        let (mut lengths, mut codings) = (Vec::new(), Vec::new());
        for line in lines {
            let (name, value) = field(line)?;
            match name.to_ascii_lowercase().as_slice() {
                b"content-length" => lengths.push(value),
                b"transfer-encoding" => codings.push(value.to_ascii_lowercase()),
                _ => {}
            }
        }
        let length = match (lengths.as_slice(), codings.as_slice()) {
            ([], []) => None,
            ([length], []) if length.iter().all(u8::is_ascii_digit) && (1..20).contains(&length.len()) => {
                Some(String::from_utf8_lossy(length).parse::<usize>().ok()?)
            }
            ([], [coding]) if coding == b"chunked" && version == b'1' => None,
            _ => return None,
        };
        match status {
            101 => return None,
            100..200 => bytes = rest,
            204 | 304 => return Some((status, Vec::new())),
            _ if !codings.is_empty() => return Some((status, chunks(rest)?)),
            _ => {
                return match length {
                    Some(length) => Some((status, rest.get(..length)?.to_vec())),
                    None => ends.then(|| (status, rest.to_vec())),
                };
            }
        }
    }
    None
}

fn count(bytes: &[u8], what: u8) -> usize {
    bytes.iter().filter(|byte| **byte == what).count()
}

fn status_line(line: &[u8]) -> Option<(u8, u16)> {
    let text: String = line.iter().map(|byte| char::from(*byte)).collect();
    let version = *line.get(7)?;
    let rest = text.strip_prefix("HTTP/1.1 ").or_else(|| text.strip_prefix("HTTP/1.0 "))?;
    let (code, reason) = (rest.get(..3)?, rest.get(3..)?);
    let sound = code.bytes().all(|byte| byte.is_ascii_digit()) && (reason.is_empty() || reason.starts_with(' '));
    let printable = line.iter().all(|byte| (*byte >= b' ' || *byte == b'\t') && *byte != 0x7f);
    let status = code.parse().ok().filter(|status| (100..1000).contains(status))?;
    (sound && printable).then_some((version, status))
}

fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    if name.is_empty()
        || !name.iter().all(token)
        || value.iter().any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f)
    {
        return None;
    }
    Some((name, value.trim_ascii()))
}

/// RFC 9112 §7.1.1, a byte at a time.
fn are_extensions(text: &mut Peekable<impl Iterator<Item = u8>>) -> bool {
    let blanks = |text: &mut Peekable<_>| while text.next_if(|byte| matches!(byte, b' ' | b'\t')).is_some() {};
    let token = |text: &mut Peekable<_>| {
        let mut length = 0;
        while text.next_if(|byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte)).is_some() {
            length += 1;
        }
        length > 0
    };
    while text.peek().is_some() {
        blanks(text);
        if text.next() != Some(b';') {
            return false;
        }
        blanks(text);
        if !token(text) {
            return false;
        }
        // White space may stand before what follows, and nothing but `;` or `=` may follow it.
        let blank = text.peek().is_some_and(|byte| matches!(byte, b' ' | b'\t'));
        blanks(text);
        match text.peek() {
            Some(b'=') => {}
            Some(b';') => continue,
            None if !blank => return true,
            _ => return false,
        }
        text.next();
        blanks(text);
        if text.next_if_eq(&b'"').is_none() {
            if !token(text) {
                return false;
            }
            continue;
        }
        let is_text = |byte: u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
        loop {
            match text.next() {
                Some(b'"') => break,
                Some(b'\\') if text.next().is_some_and(is_text) => {}
                Some(byte) if byte != b'\\' && is_text(byte) => {}
                _ => return false,
            }
        }
    }
    true
}

fn chunks(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let (line, after) = crlf_line(rest)?;
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        if !(1..=16).contains(&digits) || !are_extensions(&mut line[digits..].iter().copied().peekable()) {
            return None;
        }
        let size = usize::from_str_radix(&String::from_utf8_lossy(&line[..digits]), 16).ok()?;
        rest = after;
        if size == 0 {
            break;
        }
        content.extend_from_slice(rest.get(..size)?);
        rest = rest[size..].strip_prefix(b"\r\n")?;
    }
    loop {
        let (line, after) = crlf_line(rest)?;
        if line.is_empty() {
            return Some(content);
        }
        field(line)?;
        rest = after;
    }
}

/// A line without its CR LF, and what follows it; `None` if it is not whole or ends otherwise.
fn crlf_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let line = bytes[..end].strip_suffix(b"\r")?;
    (!line.contains(&b'\r')).then_some((line, &bytes[end + 1..]))
}
