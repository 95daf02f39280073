//! A client of HTTP/1.1 that sends just the bytes it is told.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;

use super::wire::{self, Fields, Framing};
use super::{PATIENCE, until};

/// An answer, with what came before it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// `HTTP/1.1`.
    pub version: String,
    /// Its status code.
    pub status: u16,
    /// Its fields.
    pub fields: Fields,
    /// Its content, as far as it came.
    pub content: Vec<u8>,
    /// Its trailers.
    pub trailers: Fields,
    /// The 1xx answers that came ahead of it.
    pub interim: Vec<(u16, Fields)>,
    /// The connection ended before the content did.
    pub cut_short: bool,
}

impl Answer {
    /// The first value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.one(name)
    }

    /// A field that is a number.
    pub fn number(&self, name: &str) -> u64 {
        let value = self.field(name).unwrap_or_else(|| panic!("no {name} in {self:?}"));
        value.parse().unwrap_or_else(|_| panic!("{name}: {value} is no number"))
    }

    /// Its content as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.content).into_owned()
    }

    /// Its content as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.content).unwrap_or_else(|error| panic!("{error} in {}", self.text()))
    }
}

/// What a client speaks over.
pub trait Stream: Read + Write + Send {
    /// Sends no more.
    fn end(&self);
}

impl Stream for TcpStream {
    fn end(&self) {
        let _ = self.shutdown(Shutdown::Write);
    }
}

impl Stream for UnixStream {
    fn end(&self) {
        let _ = self.shutdown(Shutdown::Write);
    }
}

/// One connection.
pub struct Client {
    stream: BufReader<Box<dyn Stream>>,
}

impl Client {
    /// Connects to `127.0.0.1:PORT`, `[::1]:PORT` or `unix:/path`.
    ///
    /// # Errors
    /// As the system says: refused, and so on.
    pub fn try_to(address: &str) -> io::Result<Self> {
        let stream: Box<dyn Stream> = if let Some(path) = address.strip_prefix("unix:") {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Box::new(stream)
        } else {
            let stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            stream.set_nodelay(true)?;
            Box::new(stream)
        };
        Ok(Self::over(stream))
    }

    /// Speaks over this.
    pub fn over(stream: Box<dyn Stream>) -> Self {
        Self { stream: BufReader::with_capacity(64 * 1024, stream) }
    }

    /// Connects, or fails the test.
    pub fn to(address: &str) -> Self {
        Self::try_to(address).unwrap_or_else(|error| panic!("no connection to {address}: {error}"))
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.try_send(bytes.as_ref()).expect("the client can send");
        self
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// If the other side has gone.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let stream = self.stream.get_mut();
        stream.write_all(bytes)?;
        stream.flush()
    }

    /// Sends no more, and goes on reading.
    pub fn end(&mut self) -> &mut Self {
        self.stream.get_ref().end();
        self
    }

    /// Reads the answer to a request of this method.
    ///
    /// # Errors
    /// If no whole head comes: the connection ended, or took too long.
    pub fn try_answer_to(&mut self, method: &str) -> io::Result<Answer> {
        let mut answer = self.try_head()?;
        if method == "HEAD" || matches!(answer.status, 101 | 204 | 304) {
            return Ok(answer);
        }
        let (mut content, framing) = (Vec::new(), Framing::of(&answer.fields, Framing::UntilClose));
        match wire::content(&mut self.stream, framing, |piece| content.extend_from_slice(piece)) {
            Ok(trailers) => answer.trailers = trailers,
            Err(error) if ended(&error) => answer.cut_short = true,
            Err(error) => return Err(error),
        }
        answer.content = content;
        Ok(answer)
    }

    /// Reads the head of an answer, and the 1xx answers before it.
    ///
    /// # Errors
    /// As [`Client::try_answer_to`].
    pub fn try_head(&mut self) -> io::Result<Answer> {
        let mut interim = Vec::new();
        loop {
            let head = wire::head(&mut self.stream)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let (version, rest) = head.start.split_once(' ').unwrap_or((&head.start, ""));
            let status = rest.get(..3).and_then(|code| code.parse().ok());
            let status: u16 = status.ok_or_else(|| io::Error::other(format!("status line {:?}", head.start)))?;
            if (100..200).contains(&status) && status != 101 {
                interim.push((status, head.fields));
                continue;
            }
            let (version, fields, trailers) = (version.to_owned(), head.fields, Fields::default());
            return Ok(Answer { version, status, fields, content: Vec::new(), trailers, interim, cut_short: false });
        }
    }

    /// Reads the answer to a request of this method.
    pub fn answer_to(&mut self, method: &str) -> Answer {
        self.try_answer_to(method).unwrap_or_else(|error| panic!("no answer to {method}: {error}"))
    }

    /// Reads the answer to a request that was no HEAD.
    pub fn answer(&mut self) -> Answer {
        self.answer_to("GET")
    }

    /// Reads the head of an answer, and leaves its content where it is.
    pub fn head(&mut self) -> Answer {
        self.try_head().unwrap_or_else(|error| panic!("no answer: {error}"))
    }

    /// Reads a 1xx answer.
    pub fn interim(&mut self) -> u16 {
        let head = wire::head(&mut self.stream).expect("an interim answer").expect("an interim answer");
        head.start.get(9..12).and_then(|code| code.parse().ok()).expect("a status")
    }

    /// Sends a request and reads its answer.
    pub fn ask(&mut self, method: &str, target: &str, fields: &[(&str, &str)], content: &[u8]) -> Answer {
        self.send(request(method, target, fields, content)).answer_to(method)
    }

    /// GET.
    pub fn get(&mut self, target: &str) -> Answer {
        self.ask("GET", target, &[], b"")
    }

    /// GET with fields.
    pub fn get_with(&mut self, target: &str, fields: &[(&str, &str)]) -> Answer {
        self.ask("GET", target, fields, b"")
    }

    /// Reads exactly so many bytes.
    pub fn exactly(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).expect("bytes from the proxy");
        bytes
    }

    /// Reads a line, its end included.
    pub fn read_line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a line from the proxy");
        line
    }

    /// Reads content and counts it, keeping none; tells how many bytes came, and whether that was all.
    pub fn count_content(&mut self, fields: &Fields) -> (u64, bool) {
        let mut total = 0;
        let framing = Framing::of(fields, Framing::UntilClose);
        let whole = wire::content(&mut self.stream, framing, |piece| total += piece.len() as u64).is_ok();
        (total, whole)
    }

    /// Reads bytes until they contain `text`.
    pub fn read_until(&mut self, text: &str) -> String {
        let mut read = Vec::new();
        until(&format!("{text:?} from the proxy"), || {
            let some = self.stream.fill_buf().expect("bytes from the proxy").to_vec();
            self.stream.consume(some.len());
            read.extend_from_slice(&some);
            assert!(!some.is_empty(), "the connection ended before {text:?}: {:?}", String::from_utf8_lossy(&read));
            String::from_utf8_lossy(&read).contains(text)
        });
        String::from_utf8_lossy(&read).into_owned()
    }

    /// Whether the other side ends the connection, without a further byte.
    pub fn is_closed(&mut self) -> bool {
        match self.stream.fill_buf() {
            Ok(some) => some.is_empty(),
            Err(error) => ended(&error),
        }
    }
}

fn ended(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe)
}

/// The bytes of a request to `Host: app.test`, with a length if there is content.
pub fn request(method: &str, target: &str, fields: &[(&str, &str)], content: &[u8]) -> Vec<u8> {
    let mut out = format!("{method} {target} HTTP/1.1\r\n");
    if !fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        out.push_str("Host: app.test\r\n");
    }
    for (name, value) in fields {
        out.push_str(&format!("{name}: {value}\r\n"));
    }
    if !content.is_empty() || matches!(method, "POST" | "PUT" | "PATCH") {
        out.push_str(&format!("Content-Length: {}\r\n", content.len()));
    }
    out.push_str("\r\n");
    let mut out = out.into_bytes();
    out.extend_from_slice(content);
    out
}
