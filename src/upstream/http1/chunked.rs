//! Takes the chunks out of an answer's content, strictly (RFC 9112 §7.1). Pure.
//!
//! 1. Sizes and extensions are read by the rules of [`chunk`]; extensions are dropped.
//! 2. Every line of chunk framing ends in CR LF, and a chunk's content is as long as its size says.
//! 3. Trailers are fields by the rules of `head`, bounded in bytes; those that could change the message are dropped
//!    (RFC 9110 §6.5.1).
//! 4. Content is handed on as slices of what was read, as far as it goes.

use bytes::{Buf, Bytes};
use http::HeaderMap;
use memchr::memchr;

use super::head;
use crate::listener::chunk::{self, LONGEST_LINE, MOST_TRAILER_BYTES};
use crate::upstream::hop;

/// Where in chunked content a connection stands.
#[derive(Debug, Default)]
pub struct Chunks {
    state: State,
    /// The part of a line that earlier reads brought.
    partial: Vec<u8>,
    trailers: HeaderMap,
    trailer_bytes: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    Content(u64),
    End,
    Trailers,
    Over,
}

/// What chunked content brings.
#[derive(Debug)]
pub enum Piece {
    /// Content, not empty.
    Content(Bytes),
    /// Its end, with the trailers that may go on.
    End(HeaderMap),
    /// Nothing more before the next bytes come.
    Starved,
}

/// Why chunked content is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its framing is malformed; says why.
    Malformed(&'static str),
    /// Its trailers are larger than the bound.
    Trailers,
}

impl Chunks {
    /// The next piece, taken from the front of `read`.
    ///
    /// # Errors
    /// [`Refusal`]; nothing that comes after it means anything.
    pub fn next(&mut self, read: &mut Bytes) -> Result<Piece, Refusal> {
        loop {
            match self.state {
                State::Over => return Ok(Piece::End(std::mem::take(&mut self.trailers))),
                State::Content(_) if read.is_empty() => return Ok(Piece::Starved),
                State::Content(left) => {
                    let content = read.split_to(usize::try_from(left).unwrap_or(usize::MAX).min(read.len()));
                    self.state = match left - content.len() as u64 {
                        0 => State::End,
                        left => State::Content(left),
                    };
                    return Ok(Piece::Content(content));
                }
                State::Size | State::End | State::Trailers => {
                    let Some(line) = self.line(read)? else { return Ok(Piece::Starved) };
                    self.framing(&line)?;
                }
            }
        }
    }

    fn framing(&mut self, line: &Bytes) -> Result<(), Refusal> {
        self.state = match self.state {
            State::End if line.is_empty() => State::Size,
            State::End => return Err(Refusal::Malformed("chunk longer than its size")),
            State::Trailers if line.is_empty() => State::Over,
            State::Trailers => {
                self.trailer_bytes += line.len();
                if self.trailer_bytes > MOST_TRAILER_BYTES {
                    return Err(Refusal::Trailers);
                }
                let (name, value) = head::field(line, line).map_err(Refusal::Malformed)?;
                if hop::answer_trailer_may_pass(&name) {
                    self.trailers.try_append(name, value).map_err(|_| Refusal::Trailers)?;
                }
                State::Trailers
            }
            _ => match chunk::size(line).map_err(Refusal::Malformed)? {
                0 => State::Trailers,
                size => State::Content(size),
            },
        };
        Ok(())
    }

    /// The next line without its CR LF; `None` if it is not all there.
    fn line(&mut self, read: &mut Bytes) -> Result<Option<Bytes>, Refusal> {
        let end = memchr(b'\n', read);
        if self.partial.len() + end.unwrap_or(read.len()) > LONGEST_LINE {
            return Err(match self.state {
                State::Trailers => Refusal::Trailers,
                _ => Refusal::Malformed("line of chunk framing too long"),
            });
        }
        let Some(end) = end else {
            self.partial.extend_from_slice(read);
            read.clear();
            // A line that cannot become sound is not waited for.
            return match (self.state, self.partial.as_slice()) {
                (State::End, [] | [b'\r']) => Ok(None),
                (State::End, _) => Err(Refusal::Malformed("chunk longer than its size")),
                _ => Ok(None),
            };
        };
        let mut line = read.split_to(end);
        read.advance(1);
        if !self.partial.is_empty() {
            self.partial.extend_from_slice(&line);
            line = std::mem::take(&mut self.partial).into();
        }
        if !line.ends_with(b"\r") {
            return Err(Refusal::Malformed("bare LF in chunk framing"));
        }
        line.truncate(line.len() - 1);
        Ok(Some(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that `bytes` bring, cut into reads of `step` bytes; what is left over after the end.
    fn taken(bytes: &[u8], step: usize) -> Result<(Vec<u8>, Option<HeaderMap>, usize), Refusal> {
        let (mut chunks, mut content, mut left) = (Chunks::default(), Vec::new(), bytes.len());
        for piece in bytes.chunks(step) {
            let mut read = Bytes::copy_from_slice(piece);
            loop {
                match chunks.next(&mut read)? {
                    Piece::Content(more) => content.extend_from_slice(&more),
                    Piece::End(trailers) => return Ok((content, Some(trailers), left - piece.len() + read.len())),
                    Piece::Starved => break,
                }
            }
            left -= piece.len();
        }
        Ok((content, None, 0))
    }

    #[test]
    fn sound_chunks_are_taken_apart_however_they_are_cut() {
        for (bytes, content, left) in [
            (&b"3\r\nabc\r\n0\r\n\r\n"[..], &b"abc"[..], 0),
            (b"3;a=\"b\"\r\nabc\r\nA\r\n0123456789\r\n00\r\n\r\nHTTP", b"abc0123456789", 4),
            (b"0\r\nX-Sum: 1\r\nContent-Length: 3\r\n\r\n", b"", 0),
        ] {
            for step in 1..=bytes.len() {
                let (found, trailers, after) = taken(bytes, step).expect("sound chunks");
                assert_eq!((found.as_slice(), after), (content, left), "{step}");
                let trailers = trailers.expect("an end");
                assert!(trailers.iter().all(|(name, _)| name == "x-sum"), "{trailers:?}");
            }
        }
    }

    #[test]
    fn malformed_chunks_are_refused_however_they_are_cut() {
        let long = format!("3;{}\r\n", "a".repeat(LONGEST_LINE));
        for bytes in [
            "3\nabc\r\n0\r\n\r\n",
            "3\r\nabc\n0\r\n\r\n",
            "3\r\nabcd\r\n0\r\n\r\n",
            "3\r\nabc0\r\n\r\n",
            "3\r\nabc\r\r\n0\r\n\r\n",
            "0x3\r\nabc\r\n",
            " 3\r\nabc\r\n",
            "3 \r\nabc\r\n",
            "+3\r\nabc\r\n",
            "-3\r\nabc\r\n",
            "\r\n",
            "g\r\n",
            "fffffffffffffffff\r\n",
            "ffffffffffffffff\r\n",
            "3;a\rb\r\nabc",
            "3;a\0b\r\nabc",
            "0\n\r\n",
            "0\r\n\n",
            "0\r\nX : y\r\n\r\n",
            "0\r\nX: y\n\r\n",
            "0\r\n X: y\r\n\r\n",
            "0\r\nX: \0\r\n\r\n",
            "0\r\nX\r\n\r\n",
            long.as_str(),
        ] {
            for step in [1, 2, 3, bytes.len()] {
                assert!(matches!(taken(bytes.as_bytes(), step), Err(Refusal::Malformed(_))), "{bytes:?} by {step}");
            }
        }
        let trailers = format!("0\r\n{}\r\n", format!("X: {}\r\n", "y".repeat(500)).repeat(20));
        assert_eq!(taken(trailers.as_bytes(), 100), Err(Refusal::Trailers));
    }
}
