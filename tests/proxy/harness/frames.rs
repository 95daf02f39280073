//! A client of HTTP/2 that sends just the frames it is told.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use super::hpack::{Reader, block};

/// The client's connection preface (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long a frame is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 0x1;
pub const ACK: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;
pub const PADDED: u8 = 0x8;
pub const PRIORITISED: u8 = 0x20;

pub const NO_ERROR: u32 = 0;
pub const PROTOCOL_ERROR: u32 = 1;
pub const INTERNAL_ERROR: u32 = 2;
pub const FLOW_CONTROL_ERROR: u32 = 3;
pub const STREAM_CLOSED: u32 = 5;
pub const FRAME_SIZE_ERROR: u32 = 6;
pub const REFUSED_STREAM: u32 = 7;
pub const CANCEL: u32 = 8;
pub const COMPRESSION_ERROR: u32 = 9;
pub const ENHANCE_YOUR_CALM: u32 = 11;

pub const SETTINGS_INITIAL_WINDOW_SIZE: u16 = 4;

/// The bytes of a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// HEADERS with all its fields.
pub fn headers(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, flags | END_HEADERS, stream, block(fields))
}

/// A request without content.
pub fn get(stream: u32) -> Vec<u8> {
    headers(stream, END_STREAM, &request("GET", "/"))
}

/// The head of a request with content.
pub fn post(stream: u32) -> Vec<u8> {
    headers(stream, 0, &request("POST", "/"))
}

/// The pseudo-fields of a request.
pub fn request<'a>(method: &'a str, path: &'a str) -> [(&'a str, &'a str); 4] {
    [(":method", method), (":scheme", "http"), (":path", path), (":authority", "app.test")]
}

/// DATA.
pub fn data(stream: u32, flags: u8, content: impl AsRef<[u8]>) -> Vec<u8> {
    frame(DATA, flags, stream, content)
}

/// RST_STREAM.
pub fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, code.to_be_bytes())
}

/// PING.
pub fn ping(text: &[u8; 8]) -> Vec<u8> {
    frame(PING, 0, 0, text)
}

/// PRIORITY.
pub fn priority(stream: u32, depends_on: u32, weight: u8) -> Vec<u8> {
    frame(PRIORITY, 0, stream, [&depends_on.to_be_bytes()[..], &[weight]].concat())
}

/// WINDOW_UPDATE.
pub fn window_update(stream: u32, by: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, by.to_be_bytes())
}

/// SETTINGS.
pub fn settings(pairs: &[(u16, u32)]) -> Vec<u8> {
    let pairs = pairs.iter().flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat());
    frame(SETTINGS, 0, 0, pairs.collect::<Vec<_>>())
}

/// GOAWAY.
pub fn go_away(code: u32, says: &str) -> Vec<u8> {
    frame(GOAWAY, 0, 0, [&[0; 4][..], &code.to_be_bytes(), says.as_bytes()].concat())
}

/// A frame that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The code of RST_STREAM or GOAWAY.
    pub fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("a code"))
    }

    /// Whether a flag is set.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// An answer, as far as it came.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Its status; 0 if there was none.
    pub status: u16,
    /// Its fields.
    pub fields: Vec<(String, String)>,
    /// The 1xx answers before it.
    pub interim: Vec<(u16, Vec<(String, String)>)>,
    /// Its content.
    pub content: Vec<u8>,
    /// Its trailers.
    pub trailers: Vec<(String, String)>,
    /// The code that the stream was reset with, or that GOAWAY said, if not NO_ERROR.
    pub error: Option<u32>,
    /// It came to its end.
    pub whole: bool,
}

impl Answer {
    /// The first value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// One connection.
pub struct Frames {
    stream: TcpStream,
    read: Vec<u8>,
    reader: Reader,
    pongs: bool,
}

impl Frames {
    /// Connects, and sends nothing.
    pub fn bare(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream.set_write_timeout(Some(PATIENCE)).expect("a time-out");
        stream.set_nodelay(true).expect("no delay");
        Self { stream, read: Vec::new(), reader: Reader::default(), pongs: true }
    }

    /// Connects, with the settings of both sides exchanged.
    pub fn to(address: &str) -> Self {
        Self::with(address, &[])
    }

    /// The same, with settings of its own.
    pub fn with(address: &str, pairs: &[(u16, u32)]) -> Self {
        let mut connection = Self::bare(address);
        connection.send(PREFACE).send(settings(pairs));
        let theirs = connection.next().expect("the server's SETTINGS");
        assert_eq!((theirs.kind, theirs.flags), (SETTINGS, 0), "the first frame: {theirs:?}");
        connection.until(|frame| frame.kind == SETTINGS && frame.has(ACK)).expect("SETTINGS acknowledged");
        connection.send(frame(SETTINGS, ACK, 0, []));
        connection
    }

    /// Answers no PING from now on.
    pub fn without_pongs(mut self) -> Self {
        self.pongs = false;
        self
    }

    /// Sends bytes as they are; that the other side has gone shows when reading.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let _ = self.stream.write_all(bytes.as_ref());
        self
    }

    /// Sends bytes as they are; whether they could be sent.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Sends no more.
    pub fn end(&mut self) -> &mut Self {
        let _ = self.stream.shutdown(Shutdown::Write);
        self
    }

    /// The next frame; `None` when the connection has ended. A PING has been answered then.
    pub fn next(&mut self) -> Option<Frame> {
        let frame = self.read_frame()?;
        if frame.kind == PING && !frame.has(ACK) && self.pongs {
            self.send(self::frame(PING, ACK, 0, &frame.payload));
        }
        Some(frame)
    }

    fn read_frame(&mut self) -> Option<Frame> {
        loop {
            if self.read.len() >= 9 {
                let length = u32::from_be_bytes([0, self.read[0], self.read[1], self.read[2]]) as usize;
                if self.read.len() >= 9 + length {
                    let bytes: Vec<_> = self.read.drain(..9 + length).collect();
                    let stream = u32::from_be_bytes(bytes[5..9].try_into().expect("four bytes"));
                    return Some(Frame { kind: bytes[3], flags: bytes[4], stream, payload: bytes[9..].to_vec() });
                }
            }
            let mut some = [0; 16 * 1024];
            match self.stream.read(&mut some) {
                Ok(0) => return None,
                Ok(length) => self.read.extend_from_slice(&some[..length]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    panic!("waited {PATIENCE:?} for a frame in vain")
                }
                Err(_) => return None,
            }
        }
    }

    /// The next frame that fits; `None` when the connection ended without one.
    pub fn until(&mut self, fits: impl Fn(&Frame) -> bool) -> Option<Frame> {
        loop {
            let frame = self.next()?;
            if frame.kind == HEADERS {
                // The table of fields is the connection's: no block may be left out.
                self.reader.fields(&frame.payload);
            }
            if fits(&frame) {
                return Some(frame);
            }
        }
    }

    /// The code of the next GOAWAY; `None` if the connection ended without one.
    pub fn going_away(&mut self) -> Option<u32> {
        self.until(|frame| frame.kind == GOAWAY).map(|frame| frame.code())
    }

    /// Whether the connection ends, whatever comes before.
    pub fn ends(&mut self) -> bool {
        self.until(|_| false).is_none()
    }

    /// Whether a PING is answered: then everything sent before it was read.
    pub fn is_alive(&mut self) -> bool {
        self.send(ping(b"alive?!?"));
        self.until(|frame| frame.kind == PING && frame.has(ACK) && frame.payload == b"alive?!?").is_some()
    }

    /// The answer on a stream.
    pub fn answer(&mut self, stream: u32) -> Answer {
        let mut answer = Answer::default();
        while !answer.whole && answer.error.is_none() {
            let Some(frame) = self.next() else { break };
            match frame.kind {
                HEADERS => {
                    let fields = self.reader.fields(&frame.payload);
                    if frame.stream == stream {
                        answer.take(fields);
                    }
                }
                DATA if frame.stream == stream => answer.content.extend_from_slice(&frame.payload),
                RST_STREAM if frame.stream == stream => answer.error = Some(frame.code()),
                GOAWAY if frame.code() != NO_ERROR => answer.error = Some(frame.code()),
                _ => {}
            }
            let ends = matches!(frame.kind, DATA | HEADERS) && frame.stream == stream && frame.has(END_STREAM);
            answer.whole |= ends;
        }
        answer
    }

    /// Sends a request without content, and reads its answer.
    pub fn ask(&mut self, stream: u32, path: &str) -> Answer {
        self.send(headers(stream, END_STREAM, &request("GET", path))).answer(stream)
    }
}

impl Answer {
    fn take(&mut self, fields: Vec<(String, String)>) {
        let status = fields.iter().find(|(name, _)| name == ":status").map(|(_, value)| value.parse().unwrap_or(0));
        match status {
            None => self.trailers = fields,
            Some(status @ 100..200) => self.interim.push((status, fields)),
            Some(status) => (self.status, self.fields) = (status, fields),
        }
    }
}
