//! Follows the framing of an HTTP/1 connection byte by byte, stricter than the parser behind it. Pure.
//!
//! 1. Every line of a head and of chunk framing ends in CR LF; a bare LF or a bare CR anywhere in them is refused
//!    (RFC 9112 §2.2, §7.1). Empty lines before a request line mean nothing, but count as the start of a head.
//! 2. A line that starts with white space (obs-fold, or space before the first field) is refused (§2.2, §5.2).
//! 3. A head that names its content's length in two ways is refused: Content-Length beside Transfer-Encoding, two
//!    Content-Lengths, a Content-Length that is not 1 to 19 digits, a Transfer-Encoding that is anything but one
//!    `chunked`, or any Transfer-Encoding in HTTP/1.0 (§6.1–6.3).
//! 4. Chunk sizes are 1 to 16 hex digits; extensions keep to their grammar, are bounded, and ignored; trailer lines are
//!    fields (§7.1).
//! 5. A version other than 1.0 and 1.1 is refused with 505; a request line without one (HTTP/0.9) with 400.
//! 6. A target, a field, a head and trailers larger than their bounds, or with more fields, are refused (414, 431), and so
//!    is a malformed request line or target, CONNECT, and a control character in a field (RFC 9112 §3, RFC 9110 §5.5).
//! 7. After a request to switch to a WebSocket nothing is judged: the listener ends the connection unless it is switched.
//!    To no other protocol is ever switched, so any other Upgrade is as good as absent (RFC 9110 §7.8).
//! 8. Nothing of a refused message goes on, if all of it that came before the offending byte came in the same read: then
//!    its head is withheld too, also where only its content is at fault.
//!
//! # Why
//! Two parsers stand behind each other, ours and the app's; whatever they could read in two ways must not pass. Three
//! ways were open:
//!
//! * **hyper's own options.** It has none for this. Bare LF in heads and chunks, chunk extensions of any bytes, repeated
//!   lengths, targets with fragments (dropped) and codings that only end in `chunked` are all read and repaired, and what
//!   it does refuse it answers itself, without our words, our log and our count.
//! * **A codec of our own.** It would be a little faster (STACK.md: 0.88 against 0.94), but it is also the whole of keep-alive,
//!   100-continue, upgrades, early answers and half-closed connections once more, in the one place where a mistake is a
//!   smuggled request.
//! * **A judge under hyper**, which sees the bytes as they come off the transport. It only says no: what passes is read
//!   by a parser that thousands of others use, so a mistake here is a lenience and never a request of our making.
//!
//! It costs one pass over a head: each line is found (`memchr`), its name and its target are looked up in a table of
//! character classes, its value is searched for controls, both without branches; four names are compared by length first.
//! Nothing is copied but a line that is cut by the end of a read. Of content with a length no byte is looked at, of chunks
//! only the lines between them. What needs a parsed request (Host, Expect, both protocols) is judged in `target`.

pub mod grammar;
mod head;

use memchr::memchr;

use super::chunk;
use head::{Framing, Head, field};

/// Where in the stream of messages the connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Between two messages: nothing of the next has come.
    Between,
    /// Only empty lines, which mean nothing, have come.
    Blank,
    /// Inside a head.
    Head,
    /// Inside content.
    Content,
    /// A switch of protocols was asked for; what follows is not ours to judge.
    Switched,
}

/// Why a message is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is malformed: 400. Nothing of this message may go on.
    Head(&'static str),
    /// The request line is too long: 414.
    TargetTooLong,
    /// The fields are too large: 431.
    FieldsTooLarge,
    /// The version is none of ours: 505.
    Version,
    /// The framing of content whose head has gone on is malformed: it must end as broken off.
    Content(&'static str),
}

/// How large the parts of a message may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of a head.
    pub largest_head: usize,
    /// Bytes of a target.
    pub longest_target: usize,
    /// Bytes of a field line.
    pub largest_field: usize,
    /// Fields of a head, and of the trailers.
    pub most_fields: usize,
    /// Bytes of all trailers.
    pub largest_trailers: usize,
    /// Bytes of a chunk's size with its extensions.
    pub longest_chunk_line: usize,
}

/// Follows one connection.
#[derive(Debug)]
pub struct Judge {
    state: State,
    head: Head,
    /// The part of a line that earlier reads brought.
    partial: Vec<u8>,
    bounds: Bounds,
    /// Heads that were sound.
    heads: u32,
    server_wide: Vec<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Between,
    Head,
    Length(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailers { fields: usize, bytes: usize },
    Switched,
}

impl Judge {
    /// A judge for a new connection.
    pub fn new(bounds: Bounds) -> Self {
        let head = Head::default();
        Self { state: State::Between, head, partial: Vec::new(), bounds, heads: 0, server_wide: Vec::new() }
    }

    /// Where the connection stands.
    pub fn phase(&self) -> Phase {
        match self.state {
            State::Between => Phase::Between,
            State::Head if self.head.is_blank() && matches!(self.partial[..], [] | [b'\r']) => Phase::Blank,
            State::Head => Phase::Head,
            State::Switched => Phase::Switched,
            _ => Phase::Content,
        }
    }

    /// Which requests (0 is the connection's first) since this was last asked are OPTIONS for the server as a whole, said
    /// in the absolute form (RFC 9112 §3.2.4). hyper reads `http://a` as `http://a/`.
    pub fn take_server_wide(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.server_wide)
    }

    /// Whether the message under way is HEAD, whose answer has no content (RFC 9110 §9.3.2), as far as can be seen.
    pub fn is_head(&self) -> bool {
        self.head.is_head()
    }

    /// Judges the next bytes of the connection.
    ///
    /// # Errors
    /// How many of `bytes` belong to sound messages before the offending one, and why that is refused.
    pub fn follow(&mut self, bytes: &[u8]) -> Result<(), (usize, Refusal)> {
        let mut at = 0;
        // Where the message under way began, if it did in these bytes.
        let mut start = None;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let step = match self.state {
                State::Between => {
                    start = Some(at);
                    self.state = State::Head;
                    self.head = Head::default();
                    self.head_line(rest)
                }
                State::Head => self.head_line(rest),
                State::Length(left) => {
                    let step = within(left, rest);
                    self.state = match left - step as u64 {
                        0 => State::Between,
                        left => State::Length(left),
                    };
                    Ok(step)
                }
                State::ChunkData(left) => {
                    let step = within(left, rest);
                    self.state = match left - step as u64 {
                        0 => State::ChunkEnd,
                        left => State::ChunkData(left),
                    };
                    Ok(step)
                }
                State::ChunkSize | State::ChunkEnd | State::Trailers { .. } => self.framing_line(rest),
                State::Switched => Ok(rest.len()),
            };
            at += step.map_err(|refusal| match (start, refusal) {
                (Some(start), Refusal::Content(reason)) => (start, Refusal::Head(reason)),
                (Some(start), refusal) => (start, refusal),
                (None, refusal) => (at, refusal),
            })?;
        }
        Ok(())
    }

    /// One line of a head, or a part of one; returns the bytes consumed.
    fn head_line(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        let Some(end) = memchr(b'\n', bytes) else {
            self.head.check_size(self.partial.len() + bytes.len(), &self.bounds)?;
            return self.keep(bytes).map_err(Refusal::Head);
        };
        let line = match self.partial.is_empty() {
            true => &bytes[..end],
            false => {
                self.head.check_size(self.partial.len() + end + 1, &self.bounds)?;
                self.keep(&bytes[..end]).map_err(Refusal::Head)?;
                &self.partial
            }
        };
        let line = line.strip_suffix(b"\r").ok_or(Refusal::Head("bare LF"))?;
        if let Some(framing) = self.head.line(line, &self.bounds)? {
            if self.head.is_server_wide() {
                self.server_wide.push(self.heads);
            }
            self.heads = self.heads.wrapping_add(1);
            self.state = match framing {
                Framing::None => State::Between,
                Framing::Length(length) => State::Length(length),
                Framing::Chunked => State::ChunkSize,
                Framing::Switch => State::Switched,
            };
        }
        self.partial.clear();
        Ok(end + 1)
    }

    /// Keeps a part of a line until the rest comes. What no line of a head may hold is refused at once, so that nobody is
    /// kept waiting for a line that cannot become sound.
    fn keep(&mut self, bytes: &[u8]) -> Result<usize, &'static str> {
        let bare = self.partial.last() == Some(&b'\r') && !bytes.is_empty();
        let (body, last) = bytes.split_at(bytes.len().saturating_sub(1));
        if bare || grammar::has_control(body) || (last != b"\r" && grammar::has_control(last)) {
            return Err("bare CR or control character");
        }
        self.partial.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    /// One line of chunk framing, or a part of one; returns the bytes consumed.
    fn framing_line(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        let end = memchr(b'\n', bytes);
        let part = &bytes[..end.unwrap_or(bytes.len())];
        let longest = match self.state {
            State::Trailers { .. } => self.bounds.largest_field,
            _ => self.bounds.longest_chunk_line,
        };
        if self.partial.len() + part.len() > longest + 1 {
            return Err(Refusal::Content("line of chunk framing too long"));
        }
        // What cannot become sound is not waited for.
        match (self.state, self.partial.first().or(bytes.first())) {
            (State::ChunkEnd, Some(first)) if *first != b'\r' => {
                return Err(Refusal::Content("chunk longer than its size"));
            }
            (State::ChunkSize, Some(first)) if !first.is_ascii_hexdigit() => {
                return Err(Refusal::Content("malformed chunk size"));
            }
            _ => {}
        }
        if end.is_none() || !self.partial.is_empty() {
            self.keep(part).map_err(Refusal::Content)?;
        }
        let Some(end) = end else { return Ok(bytes.len()) };
        let line = if self.partial.is_empty() { part } else { &self.partial };
        let line = line.strip_suffix(b"\r").ok_or(Refusal::Content("bare LF in chunk framing"))?;
        self.state = self.after_framing_line(line).map_err(Refusal::Content)?;
        self.partial.clear();
        Ok(end + 1)
    }

    fn after_framing_line(&self, line: &[u8]) -> Result<State, &'static str> {
        match self.state {
            State::ChunkEnd if line.is_empty() => Ok(State::ChunkSize),
            State::ChunkEnd => Err("chunk longer than its size"),
            State::Trailers { .. } if line.is_empty() => Ok(State::Between),
            State::Trailers { fields, bytes } => {
                let (fields, bytes) = (fields + 1, bytes + line.len() + 2);
                if fields > self.bounds.most_fields || bytes > self.bounds.largest_trailers {
                    return Err("trailers too large");
                }
                field(line).map_err(|_| "malformed trailer")?;
                Ok(State::Trailers { fields, bytes })
            }
            _ => Ok(match chunk::size(line)? {
                0 => State::Trailers { fields: 0, bytes: 0 },
                size => State::ChunkData(size),
            }),
        }
    }
}

/// How many of `bytes` belong to content of which `left` bytes are still to come.
fn within(left: u64, bytes: &[u8]) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge() -> Judge {
        let (longest_target, largest_field) = (150, 200);
        let (largest_head, most_fields, largest_trailers, longest_chunk_line) = (300, 8, 64, 32);
        let bounds =
            Bounds { largest_head, longest_target, largest_field, most_fields, largest_trailers, longest_chunk_line };
        Judge::new(bounds)
    }

    /// Whole, byte by byte, and in two parts cut anywhere: what is refused must not depend on how the bytes were cut,
    /// only whether its head has gone on by then.
    fn verdict(bytes: &[u8]) -> Result<Phase, Refusal> {
        let mut whole = judge();
        let at_once = whole.follow(bytes).map(|()| whole.phase()).map_err(|(_, refusal)| refusal);
        let trickled = in_parts(bytes.chunks(1));
        assert_eq!(at_once.is_err(), trickled.is_err(), "{:?}", String::from_utf8_lossy(bytes));
        for cut in 1..bytes.len() {
            let cut = in_parts([&bytes[..cut], &bytes[cut..]].into_iter());
            assert_eq!(cut.is_err(), trickled.is_err(), "{:?}", String::from_utf8_lossy(bytes));
        }
        trickled
    }

    fn in_parts<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Result<Phase, Refusal> {
        let mut judge = judge();
        for part in parts {
            judge.follow(part).map_err(|(_, refusal)| refusal)?;
        }
        Ok(judge.phase())
    }

    #[test]
    fn sound_messages_are_followed_to_their_end() {
        for (bytes, phase) in [
            (&b""[..], Phase::Between),
            (b"\r", Phase::Blank),
            (b"\r\n\r\n", Phase::Blank),
            (b"\r\nG", Phase::Head),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Phase::Between),
            (b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Phase::Between),
            (b"GET / HTTP/1.1\r\nHost: a\r\n", Phase::Head),
            (b"GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", Phase::Between),
            (b"GET HTTPS://[::1]:1?q HTTP/1.1\r\n\r\n", Phase::Between),
            (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", Phase::Between),
            (b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab", Phase::Content),
            (b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", Phase::Between),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\n\r\n", Phase::Between),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\nGET / HTTP/1.1\r\n\r\n", Phase::Between),
            (b"GET / HTTP/1.1\r\nConnection: a, Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x00\n", Phase::Switched),
            (b"POST / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", Phase::Between),
            (b"GET / HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", Phase::Between),
        ] {
            assert_eq!(verdict(bytes), Ok(phase), "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let head = |fields: &str| format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n").into_bytes();
        let start = |line: &str| format!("{line}\r\n\r\n").into_bytes();
        let chunks = |text: &str| format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{text}").into_bytes();
        for bytes in [
            b"GET / HTTP/1.1\nHost: a\r\n\r\n".to_vec(),
            b"\nGET / HTTP/1.1\r\n\r\n".to_vec(),
            b"\rGET / HTTP/1.1\r\n\r\n".to_vec(),
            b"\x16\x03\x01\x02".to_vec(),
            start("GET / HTTP/1.1\r"),
            head("A: b\nC: d"),
            head("A: b\rC: d"),
            head("A: b\r\n folded"),
            head(" A: b"),
            head("A : b"),
            head(": b"),
            head("A"),
            head("A: b\x01"),
            head("A: b\x7f"),
            start("GET  / HTTP/1.1"),
            start("GE(T / HTTP/1.1"),
            start("GET /\x01 HTTP/1.1"),
            start("GET /#a HTTP/1.1"),
            start("GET * HTTP/1.1"),
            start("GET a HTTP/1.1"),
            start("GET http:///a HTTP/1.1"),
            start("GET http://u@a/ HTTP/1.1"),
            start("GET http://a:x/ HTTP/1.1"),
            start("GET ftp://a/ HTTP/1.1"),
            start("CONNECT a:1 HTTP/1.1"),
            start("GET /"),
            start("GET"),
            head("Content-Length: 3\r\nTransfer-Encoding: chunked"),
            head("Content-Length: 3\r\nContent-Length: 3"),
            head("Content-Length: 3, 3"),
            head("Content-Length: +3"),
            head("Content-Length: 0x3"),
            head("Content-Length: 9999999999999999999"),
            head("Content-Length:"),
            head("Transfer-Encoding: xchunked"),
            head("Transfer-Encoding: gzip, chunked"),
            head("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
            head("Transfer-Encoding:\x0bchunked"),
            head("Transfer-Encoding:\tchunked"),
            head("Transfer-Encoding: chunked;a"),
            b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
        ] {
            assert!(matches!(verdict(&bytes), Err(Refusal::Head(_))), "{:?}", String::from_utf8_lossy(&bytes));
        }
        for bytes in [
            chunks("3\nabc\r\n"),
            chunks("3\r\nabc\n"),
            chunks("3\r\nabcd\r\n"),
            chunks("3;\n\r\nabc"),
            chunks("3;a\rb\r\nabc"),
            chunks("0x3\r\nabc"),
            chunks("3 \r\nabc"),
            chunks("\r\n"),
            chunks("fffffffffffffffff\r\n"),
            chunks("0\r\n\n"),
            chunks("0\r\nX : y\r\n\r\n"),
            chunks("0\r\nX: y\x01\r\n\r\n"),
        ] {
            assert!(matches!(verdict(&bytes), Err(Refusal::Content(_))), "{:?}", String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn what_is_beyond_its_bound_is_refused_by_what_grew() {
        let field = |length: usize| format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(length - 3));
        let target = |length: usize| format!("GET {} HTTP/1.1\r\n\r\n", "/".repeat(length));
        assert_eq!(verdict(target(150).as_bytes()), Ok(Phase::Between));
        assert_eq!(verdict(target(151).as_bytes()), Err(Refusal::TargetTooLong));
        assert_eq!(verdict(format!("GET /{}", "a".repeat(290)).as_bytes()), Err(Refusal::TargetTooLong));
        assert_eq!(verdict("\r\n".repeat(151).as_bytes()), Err(Refusal::TargetTooLong));
        assert_eq!(verdict(field(200).as_bytes()), Ok(Phase::Between));
        assert_eq!(verdict(field(201).as_bytes()), Err(Refusal::FieldsTooLarge));
        let many = |lines: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(lines));
        assert_eq!(verdict(many(8).as_bytes()), Ok(Phase::Between));
        assert_eq!(verdict(many(9).as_bytes()), Err(Refusal::FieldsTooLarge));
        let two =
            |length: usize| format!("GET / HTTP/1.1\r\n{}\r\n", format!("A: {}\r\n", "a".repeat(length)).repeat(2));
        assert_eq!(verdict(two(136).as_bytes()), Ok(Phase::Between));
        assert_eq!(verdict(two(137).as_bytes()), Err(Refusal::FieldsTooLarge));
        let chunked = |text: &str| format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{text}");
        let extension = |length: usize| chunked(&format!("0;{}\r\n\r\n", "a".repeat(length - 2)));
        assert_eq!(verdict(extension(32).as_bytes()), Ok(Phase::Between));
        assert!(matches!(verdict(extension(33).as_bytes()), Err(Refusal::Content(_))));
        let trailer = |length: usize| chunked(&format!("0\r\nA: {}\r\n\r\n", "a".repeat(length - 5)));
        assert_eq!(verdict(trailer(64).as_bytes()), Ok(Phase::Between));
        assert!(matches!(verdict(trailer(65).as_bytes()), Err(Refusal::Content(_))));
    }

    #[test]
    fn sound_bytes_before_a_refused_message_are_counted() {
        let sound = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let bytes = [&sound[..], b"GET / HTTP/1.1\r\n bad\r\n\r\n"].concat();
        assert_eq!(judge().follow(&bytes), Err((sound.len(), Refusal::Head("obsolete line folding"))));
        // Content that is at fault takes its head with it, if that has not gone on yet.
        let post = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n";
        let bytes = [&sound[..], post, b"1\n"].concat();
        assert_eq!(judge().follow(&bytes), Err((sound.len(), Refusal::Head("bare LF in chunk framing"))));
        let mut judge = judge();
        assert_eq!(judge.follow(post), Ok(()));
        assert_eq!(judge.follow(b"1\r\na\r\n1\n"), Err((6, Refusal::Content("bare LF in chunk framing"))));
    }

    #[test]
    fn an_absolute_form_without_a_path_is_remembered_for_options_alone() {
        let mut judge = judge();
        for method in ["GET", "OPTIONS", "OPTIONS"] {
            let head = format!("{method} http://a HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(judge.follow(head.as_bytes()), Ok(()));
        }
        assert_eq!(judge.follow(b"OPTIONS http://a/ HTTP/1.1\r\n\r\n"), Ok(()));
        assert_eq!(judge.take_server_wide(), [1, 2]);
    }
}
