//! Follows the framing of an HTTP/1 connection byte by byte, stricter than the parser behind it. Pure.
//!
//! 1. Every line of a head and of chunk framing ends in CR LF; a bare LF or a bare CR anywhere in them is refused
//!    (RFC 9112 §2.2, §7.1).
//! 2. A line that starts with white space (obs-fold, or space before the first field) is refused (§2.2, §5.2).
//! 3. A head that names its content's length in two ways is refused: Content-Length beside Transfer-Encoding, two
//!    Content-Lengths, a Content-Length that is not 1 to 19 digits, a Transfer-Encoding that is anything but one
//!    `chunked`, or any Transfer-Encoding in HTTP/1.0 (§6.1–6.3).
//! 4. Chunk sizes are 1 to 16 hex digits; extensions are visible ASCII, bounded, and ignored; trailer lines are fields (§7.1).
//! 5. A version other than 1.0 and 1.1 is refused with 505; a request line without one (HTTP/0.9) with 400.
//! 6. A head larger than the bound, or with more fields, is refused (431, or 414 while still in the request line), and
//!    so is a malformed request line or a control character in a field (RFC 9112 §3, RFC 9110 §5.5).
//! 7. After a request to switch to a WebSocket nothing is judged: the listener ends the connection unless it is switched.
//!    To no other protocol is ever switched, so any other Upgrade is as good as absent (RFC 9110 §7.8).
//!
//! # Why
//! Two parsers stand behind each other, ours and the app's; whatever they could read in two ways must not pass. hyper is
//! lenient in places (bare LF, chunk extensions), and its parser cannot be told otherwise. Judging the bytes as they come
//! off the transport, before hyper sees them, costs one pass of `memchr` over a head, needs no second parser, and leaves
//! one place to deepen. What needs a parsed request (Host, target, versions) is judged in `target`.

use memchr::{memchr, memmem};

use super::chunk::{self, LONGEST_LINE as LONGEST_CHUNK_LINE, MOST_TRAILER_BYTES};

/// Where in the stream of messages the connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Between two messages: nothing of the next has come.
    Between,
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
    /// The head is malformed: 400. Nothing of this message may go on.
    Head(&'static str),
    /// The request line is too long: 414.
    TargetTooLong,
    /// The fields are too large: 431.
    FieldsTooLarge,
    /// The version is none of ours: 505.
    Version,
    /// The framing of the content is malformed: it must end as broken off.
    Content(&'static str),
}

/// Follows one connection.
#[derive(Debug)]
pub struct Judge {
    state: State,
    /// The part of a head, or of a line of chunk framing, that earlier reads brought.
    partial: Vec<u8>,
    bounds: Bounds,
}

/// How large a head may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes.
    pub largest_head: usize,
    /// Fields.
    pub most_fields: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Between,
    Head,
    Length(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailers(usize),
    Switched,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    None,
    Length(u64),
    Chunked,
    Switch,
}

impl Judge {
    /// A judge for a new connection.
    pub fn new(bounds: Bounds) -> Self {
        Self { state: State::Between, partial: Vec::new(), bounds }
    }

    /// Where the connection stands.
    pub fn phase(&self) -> Phase {
        match self.state {
            State::Between => Phase::Between,
            State::Head => Phase::Head,
            State::Switched => Phase::Switched,
            _ => Phase::Content,
        }
    }

    /// Judges the next bytes of the connection.
    ///
    /// # Errors
    /// How many of `bytes` belong to sound messages before the offending one, and why that is refused.
    pub fn follow(&mut self, bytes: &[u8]) -> Result<(), (usize, Refusal)> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            at += match self.state {
                State::Between | State::Head => self.head(rest).map_err(|refusal| (at, refusal))?,
                State::Length(left) => {
                    let step = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    self.state = match left - step as u64 {
                        0 => State::Between,
                        left => State::Length(left),
                    };
                    step
                }
                State::ChunkData(left) => {
                    let step = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    self.state = match left - step as u64 {
                        0 => State::ChunkEnd,
                        left => State::ChunkData(left),
                    };
                    step
                }
                State::ChunkSize | State::ChunkEnd | State::Trailers(_) => {
                    self.framing_line(rest).map_err(|refusal| (at, refusal))?
                }
                State::Switched => rest.len(),
            };
        }
        Ok(())
    }

    /// A head, or a part of one; returns the bytes consumed.
    fn head(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        if self.partial.is_empty() && self.state == State::Between && bytes.starts_with(b"\r\n") {
            return Ok(2); // RFC 9112 §2.2: an empty line before the request line is ignored.
        }
        if self.partial == b"\r" && bytes.starts_with(b"\n") {
            self.partial.clear();
            self.state = State::Between;
            return Ok(1);
        }
        self.state = State::Head;
        if self.partial.is_empty()
            && let Some(end) = memmem::find(bytes, b"\r\n\r\n")
        {
            self.state = after_head(judge_head(&bytes[..end + 2], self.bounds)?);
            return Ok(end + 4);
        }
        // Split over reads: gather it, bounded, until the empty line has come.
        let searched = self.partial.len().saturating_sub(3);
        let room = (self.bounds.largest_head + 4).saturating_sub(self.partial.len());
        let taken = bytes.len().min(room);
        let before = self.partial.len();
        self.partial.extend_from_slice(&bytes[..taken]);
        match memmem::find(&self.partial[searched..], b"\r\n\r\n") {
            Some(found) => {
                let end = searched + found;
                let head = std::mem::take(&mut self.partial);
                self.state = after_head(judge_head(&head[..end + 2], self.bounds)?);
                Ok(end + 4 - before)
            }
            None if taken < bytes.len() => Err(too_large(&self.partial)),
            None => {
                bare_ends(&self.partial[before.saturating_sub(1)..])?;
                Ok(taken)
            }
        }
    }

    /// One line of chunk framing, or a part of one; returns the bytes consumed.
    fn framing_line(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        let Some(end) = memchr(b'\n', bytes) else {
            self.partial.extend_from_slice(&bytes[..bytes.len().min(LONGEST_CHUNK_LINE + 1)]);
            if self.partial.len() > LONGEST_CHUNK_LINE {
                return Err(Refusal::Content("line of chunk framing too long"));
            }
            return Ok(bytes.len());
        };
        let gathered;
        let line = if self.partial.is_empty() {
            &bytes[..end]
        } else {
            self.partial.extend_from_slice(&bytes[..end.min(LONGEST_CHUNK_LINE)]);
            gathered = std::mem::take(&mut self.partial);
            &gathered
        };
        if line.len() > LONGEST_CHUNK_LINE {
            return Err(Refusal::Content("line of chunk framing too long"));
        }
        let Some(line) = line.strip_suffix(b"\r") else {
            return Err(Refusal::Content("bare LF in chunk framing"));
        };
        self.state = match self.state {
            State::ChunkEnd if line.is_empty() => State::ChunkSize,
            State::ChunkEnd => return Err(Refusal::Content("chunk longer than its size")),
            State::Trailers(_) if line.is_empty() => State::Between,
            State::Trailers(so_far) if so_far + line.len() > MOST_TRAILER_BYTES => {
                return Err(Refusal::Content("trailers too large"));
            }
            State::Trailers(so_far) => {
                field(line).map_err(|_| Refusal::Content("malformed trailer"))?;
                State::Trailers(so_far + line.len())
            }
            _ => match chunk::size(line).map_err(Refusal::Content)? {
                0 => State::Trailers(0),
                size => State::ChunkData(size),
            },
        };
        Ok(end + 1)
    }
}

fn after_head(framing: Framing) -> State {
    match framing {
        Framing::None | Framing::Length(0) => State::Between,
        Framing::Length(length) => State::Length(length),
        Framing::Chunked => State::ChunkSize,
        Framing::Switch => State::Switched,
    }
}

fn too_large(head: &[u8]) -> Refusal {
    if memchr(b'\n', head).is_none() { Refusal::TargetTooLong } else { Refusal::FieldsTooLarge }
}

/// Refuses a bare LF early, so that a client that never sends an empty line with CR does not wait for the time-out.
fn bare_ends(bytes: &[u8]) -> Result<(), Refusal> {
    for end in memchr::memchr_iter(b'\n', bytes) {
        if end > 0 && bytes[end - 1] != b'\r' {
            return Err(Refusal::Head("bare LF"));
        }
    }
    Ok(())
}

/// `head` is a request line and fields, each with its CR LF, without the empty line.
fn judge_head(head: &[u8], Bounds { largest_head: largest, most_fields }: Bounds) -> Result<Framing, Refusal> {
    if head.len() > largest {
        return Err(too_large(&head[..largest]));
    }
    let mut lines = Lines(head);
    let request_line = lines.next().unwrap_or(Err("no request line")).map_err(Refusal::Head)?;
    let http_1_0 = match request_line.rsplit(|byte| *byte == b' ').next() {
        Some(b"HTTP/1.1") => false,
        Some(b"HTTP/1.0") => true,
        Some([b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9']) => return Err(Refusal::Version),
        _ => return Err(Refusal::Head("no version in the request line")),
    };
    if !is_request_line(request_line) {
        return Err(Refusal::Head("malformed request line"));
    }
    let (mut length, mut chunked, mut upgrade, mut connection_upgrade) = (None, false, false, false);
    for (index, line) in lines.enumerate() {
        if index == most_fields {
            return Err(Refusal::FieldsTooLarge);
        }
        let line = line.map_err(Refusal::Head)?;
        let (name, value) = field(line).map_err(Refusal::Head)?;
        if has_control(value) {
            return Err(Refusal::Head("control character in a field"));
        }
        match name.len() {
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let repeated = length.replace(content_length(value).map_err(Refusal::Head)?).is_some();
                if repeated {
                    return Err(Refusal::Head("repeated Content-Length"));
                }
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if chunked || !value.eq_ignore_ascii_case(b"chunked") || memchr(b'\t', line).is_some() {
                    return Err(Refusal::Head("Transfer-Encoding is not one `chunked`"));
                }
                chunked = true;
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => upgrade |= value.eq_ignore_ascii_case(b"websocket"),
            10 if name.eq_ignore_ascii_case(b"connection") => {
                connection_upgrade |=
                    value.split(|byte| *byte == b',').any(|word| word.trim_ascii().eq_ignore_ascii_case(b"upgrade"));
            }
            _ => {}
        }
    }
    match (chunked, length) {
        (true, Some(_)) => Err(Refusal::Head("both Content-Length and Transfer-Encoding")),
        (true, None) if http_1_0 => Err(Refusal::Head("Transfer-Encoding in HTTP/1.0")),
        (true, None) => Ok(Framing::Chunked),
        (false, Some(length)) if length > 0 => Ok(Framing::Length(length)),
        _ if upgrade && connection_upgrade && !http_1_0 => Ok(Framing::Switch),
        _ => Ok(Framing::None),
    }
}

/// A method, a target and a version with one space between them, and no control character (RFC 9112 §3).
fn is_request_line(line: &[u8]) -> bool {
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let token = !method.is_empty() && method.iter().all(|byte| TOKEN[usize::from(*byte)]);
    token && !target.is_empty() && !has_control(target) && memchr(b'\t', target).is_none() && words.count() == 1
}

/// Whether there is a control character other than HTAB. Every byte is looked at: that the compiler makes fast.
fn has_control(bytes: &[u8]) -> bool {
    bytes.iter().fold(false, |found, byte| found | ((*byte < b' ') & (*byte != b'\t')) | (*byte == 0x7f))
}

/// Lines that end in CR LF, and hold neither.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = Result<&'a [u8], &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        let end = memchr(b'\n', self.0)?;
        let (line, rest) = (&self.0[..end], &self.0[end + 1..]);
        self.0 = rest;
        Some(match line.strip_suffix(b"\r") {
            None => Err("bare LF"),
            Some(line) if memchr(b'\r', line).is_some() => Err("bare CR"),
            Some(line) => Ok(line),
        })
    }
}

/// Name and trimmed value of a field line (RFC 9112 §5).
fn field(line: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err("obsolete line folding");
    }
    let colon = memchr(b':', line).ok_or("field without a colon")?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() || !name.iter().all(|byte| TOKEN[usize::from(*byte)]) {
        return Err("field name is not a token");
    }
    // White space is SP and HTAB only.
    let start = value.iter().position(|byte| !matches!(byte, b' ' | b'\t')).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !matches!(byte, b' ' | b'\t')).map_or(start, |last| last + 1);
    Ok((name, &value[start..end]))
}

fn content_length(value: &[u8]) -> Result<u64, &'static str> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return Err("malformed Content-Length");
    }
    value
        .iter()
        .try_fold(0u64, |sum, digit| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
        .ok_or("Content-Length too large")
}

/// The characters of a token (RFC 9110 §5.6.2).
static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let c = byte as u8;
        table[byte] = c.is_ascii_alphanumeric()
            || matches!(
                c,
                b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
            );
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(bytes: &[u8]) -> Result<Phase, Refusal> {
        // Whole, and byte by byte: the answer must not depend on how the bytes were cut.
        let mut whole = Judge::new(Bounds { largest_head: 256, most_fields: 8 });
        let at_once = whole.follow(bytes).map(|()| whole.phase()).map_err(|(_, refusal)| refusal);
        let mut judge = Judge::new(Bounds { largest_head: 256, most_fields: 8 });
        let mut trickled = Ok(());
        for byte in bytes.chunks(1) {
            trickled = judge.follow(byte).map_err(|(_, refusal)| refusal);
            if trickled.is_err() {
                break;
            }
        }
        assert_eq!(at_once, trickled.map(|()| judge.phase()), "{:?}", String::from_utf8_lossy(bytes));
        at_once
    }

    #[test]
    fn sound_messages_are_followed_to_their_end() {
        for (bytes, phase) in [
            (&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], Phase::Between),
            (b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Phase::Between),
            (b"GET / HTTP/1.1\r\nHost: a\r\n", Phase::Head),
            (b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab", Phase::Content),
            (b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", Phase::Between),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\n\r\n", Phase::Between),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\nGET / HTTP/1.1\r\n\r\n", Phase::Between),
            (b"GET / HTTP/1.1\r\nConnection: a, Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x00\n", Phase::Switched),
        ] {
            assert_eq!(verdict(bytes), Ok(phase), "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let head = |fields: &str| format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n").into_bytes();
        let chunks = |text: &str| format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{text}").into_bytes();
        for bytes in [
            b"GET / HTTP/1.1\nHost: a\r\n\r\n".to_vec(),
            head("A: b\nC: d"),
            head("A: b\rC: d"),
            head("A: b\r\n folded"),
            head(" A: b"),
            head("A : b"),
            head(": b"),
            head("A"),
            head("A: b\x01"),
            head("A: b\x7f"),
            b"GET  / HTTP/1.1\r\n\r\n".to_vec(),
            b"GE(T / HTTP/1.1\r\n\r\n".to_vec(),
            b"GET /\x01 HTTP/1.1\r\n\r\n".to_vec(),
            head("Content-Length: 3\r\nTransfer-Encoding: chunked"),
            head("Content-Length: 3\r\nContent-Length: 3"),
            head("Content-Length: 3, 3"),
            head("Content-Length: +3"),
            head("Content-Length: 0x3"),
            head("Content-Length: 99999999999999999999"),
            head("Content-Length:"),
            head("Transfer-Encoding: xchunked"),
            head("Transfer-Encoding: gzip, chunked"),
            head("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
            head("Transfer-Encoding:\x0bchunked"),
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
            chunks(" 3\r\nabc"),
            chunks("3 \r\nabc"),
            chunks("\r\n"),
            chunks("fffffffffffffffff\r\n"),
            chunks("ffffffffffffffff\r\n"),
            chunks("0\r\n\n"),
            chunks("0\r\nX : y\r\n\r\n"),
        ] {
            assert!(matches!(verdict(&bytes), Err(Refusal::Content(_))), "{:?}", String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn a_head_beyond_its_bound_is_refused_by_what_grew() {
        let long = "a".repeat(300);
        assert_eq!(verdict(format!("GET /{long}").as_bytes()), Err(Refusal::TargetTooLong));
        assert_eq!(verdict(format!("GET / HTTP/1.1\r\nA: {long}\r\n\r\n").as_bytes()), Err(Refusal::FieldsTooLarge));
        let many = "A: b\r\n".repeat(9);
        assert_eq!(verdict(format!("GET / HTTP/1.1\r\n{many}\r\n").as_bytes()), Err(Refusal::FieldsTooLarge));
    }

    #[test]
    fn sound_bytes_before_a_refused_message_are_counted() {
        let mut judge = Judge::new(Bounds { largest_head: 256, most_fields: 8 });
        let sound = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let bytes = [&sound[..], b"GET / HTTP/1.1\r\n bad\r\n\r\n"].concat();
        assert_eq!(judge.follow(&bytes), Err((sound.len(), Refusal::Head("obsolete line folding"))));
    }
}
