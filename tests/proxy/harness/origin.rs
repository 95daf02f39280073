//! The app, as a script: takes real connections, remembers everything it was sent, answers what the test says.
//!
//! * [`Origin::answering`]: whole requests in, a [`Reply`] out, keep-alive. For most tests.
//! * [`Origin::scripted`]: each connection is a [`Wire`] in the test's hands. For answers that break rules, come in
//!   pieces, come early, or never.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::PATIENCE;
use super::wire::{self, Fields, Framing};

/// A request as the app saw it.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its method.
    pub method: String,
    /// Its target, byte for byte.
    pub target: String,
    /// `HTTP/1.1`.
    pub version: String,
    /// Its fields.
    pub fields: Fields,
    /// Its content, as far as it was read.
    pub content: Vec<u8>,
    /// Its trailers.
    pub trailers: Fields,
    /// On which connection it came: 0, 1, 2 …
    pub connection: usize,
    /// All of its content has come, trailers and what ends them included.
    pub whole: bool,
}

impl Request {
    /// The first value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.one(name)
    }

    /// The path without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

/// A running origin. Ends, with all its connections, when dropped.
pub struct Origin {
    address: SocketAddr,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    requests: Mutex<Vec<Request>>,
    connections: Mutex<Vec<TcpStream>>,
    sent: AtomicU64,
    received: AtomicU64,
    stopped: AtomicBool,
}

impl Origin {
    /// Answers each whole request with what `answer` makes of it.
    pub fn answering(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::scripted(move |wire| {
            while let Some(request) = wire.request()? {
                wire.send(&answer(&request).bytes(request.method == "HEAD"))?;
            }
            Ok(())
        })
    }

    /// Answers every request alike.
    pub fn saying(text: &'static str) -> Self {
        Self::answering(move |_| Reply::text(text))
    }

    /// Hands each connection to `script`; it is closed when the script ends.
    pub fn scripted(script: impl Fn(&mut Wire) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1:0".parse().expect("an address"), script)
    }

    /// The same, at an address: for an app that comes back where it was.
    pub fn at(address: SocketAddr, script: impl Fn(&mut Wire) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).expect("the origin can listen");
        let address = listener.local_addr().expect("a bound address");
        let seen = Arc::new(Seen::default());
        let (script, shared) = (Arc::new(script), seen.clone());
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if shared.stopped.load(Ordering::SeqCst) {
                    break;
                }
                let _ = stream.set_nodelay(true);
                let Ok(mut wire) = Wire::new(stream, &shared) else { continue };
                let script = script.clone();
                thread::spawn(move || {
                    // The connection going away is not the origin's failure: the test sees it on its own side.
                    let _ = script(&mut wire);
                    let _ = wire.stream.shutdown(Shutdown::Both);
                });
            }
        });
        Self { address, seen }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every request seen so far, in the order their heads came.
    pub fn requests(&self) -> Vec<Request> {
        locked(&self.seen.requests).clone()
    }

    /// How many requests came so far.
    pub fn count(&self) -> usize {
        locked(&self.seen.requests).len()
    }

    /// The last request that came.
    pub fn last(&self) -> Request {
        self.requests().pop().expect("a request reached the app")
    }

    /// How many connections were made so far.
    pub fn connections(&self) -> usize {
        locked(&self.seen.connections).len()
    }

    /// Bytes handed to its sockets so far.
    pub fn sent(&self) -> u64 {
        self.seen.sent.load(Ordering::SeqCst)
    }

    /// Bytes of content it has read so far.
    pub fn received(&self) -> u64 {
        self.seen.received.load(Ordering::SeqCst)
    }

    /// Closes all its connections, and goes on listening.
    pub fn hang_up(&self) {
        for stream in locked(&self.seen.connections).iter() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.seen.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        self.hang_up();
    }
}

/// One connection to the origin.
pub struct Wire {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
    number: usize,
    seen: Arc<Seen>,
}

impl Wire {
    fn new(stream: TcpStream, seen: &Arc<Seen>) -> io::Result<Self> {
        let mut connections = locked(&seen.connections);
        let number = connections.len();
        connections.push(stream.try_clone()?);
        let reader = BufReader::with_capacity(64 * 1024, stream.try_clone()?);
        Ok(Self { stream, reader, number, seen: seen.clone() })
    }

    /// Which of the origin's connections it is: 0, 1, 2 …
    pub fn number(&self) -> usize {
        self.number
    }

    /// Reads a request with its content; `None` when the connection ends.
    pub fn request(&mut self) -> io::Result<Option<Request>> {
        let Some(mut request) = self.head()? else { return Ok(None) };
        let mut content = Vec::new();
        let seen = &self.seen;
        let trailers = wire::content(&mut self.reader, framing(&request), |piece| {
            seen.received.fetch_add(piece.len() as u64, Ordering::SeqCst);
            content.extend_from_slice(piece);
        });
        request.content = content;
        request.trailers = trailers?;
        request.whole = true;
        if let Some(noted) = locked(&self.seen.requests).iter_mut().rfind(|noted| noted.connection == self.number) {
            *noted = request.clone();
        }
        Ok(Some(request))
    }

    /// Reads the head of a request, and leaves its content where it is.
    pub fn head(&mut self) -> io::Result<Option<Request>> {
        let Some(head) = wire::head(&mut self.reader)? else { return Ok(None) };
        let mut words = head.start.splitn(3, ' ').map(str::to_owned);
        let mut word = || words.next().unwrap_or_default();
        let request = Request {
            method: word(),
            target: word(),
            version: word(),
            fields: head.fields,
            content: Vec::new(),
            trailers: Fields::default(),
            connection: self.number,
            whole: false,
        };
        locked(&self.seen.requests).push(request.clone());
        Ok(Some(request))
    }

    /// Reads the content that follows a head, counts it, and keeps none of it.
    pub fn drain(&mut self, request: &Request) -> io::Result<u64> {
        let (mut total, seen) = (0, &self.seen);
        wire::content(&mut self.reader, framing(request), |piece| {
            total += piece.len() as u64;
            seen.received.fetch_add(piece.len() as u64, Ordering::SeqCst);
        })?;
        Ok(total)
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(64 * 1024) {
            self.stream.write_all(piece)?;
            self.seen.sent.fetch_add(piece.len() as u64, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Reads what has come, at least a byte; empty when the connection has ended.
    pub fn some(&mut self) -> io::Result<Vec<u8>> {
        let some = self.reader.fill_buf()?.to_vec();
        self.reader.consume(some.len());
        Ok(some)
    }

    /// Reads exactly so many bytes.
    pub fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Sends no more, and goes on reading.
    pub fn end(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Waits until the other side ends the connection.
    pub fn wait_for_end(&mut self) -> io::Result<()> {
        while !self.some()?.is_empty() {}
        Ok(())
    }

    /// Whether nothing comes for a moment: for what must not be sent.
    pub fn stays_silent(&mut self) -> io::Result<bool> {
        self.stream.set_read_timeout(Some(std::time::Duration::from_millis(100)))?;
        let silent = match self.reader.fill_buf() {
            Ok(some) => some.is_empty(),
            Err(error) => matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        };
        self.stream.set_read_timeout(None)?;
        Ok(silent)
    }
}

fn framing(request: &Request) -> Framing {
    Framing::of(&request.fields, Framing::Length(0))
}

/// What the app answers.
#[derive(Clone, Debug)]
pub struct Reply {
    status: String,
    fields: Vec<(String, String)>,
    content: Vec<u8>,
}

impl Reply {
    /// 200 with this text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { status: "200 OK".into(), fields: Vec::new(), content: text.into().into_bytes() }
    }

    /// Another status: `404 Not Found`.
    pub fn status(mut self, status: &str) -> Self {
        self.status = status.to_owned();
        self
    }

    /// One more field.
    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    fn bytes(&self, head_only: bool) -> Vec<u8> {
        let mut out = format!("HTTP/1.1 {}\r\n", self.status).into_bytes();
        for (name, value) in &self.fields {
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        let without_content = self.status.starts_with("204") || self.status.starts_with("304");
        if !without_content {
            out.extend_from_slice(format!("Content-Length: {}\r\n", self.content.len()).as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        if !head_only && !without_content {
            out.extend_from_slice(&self.content);
        }
        out
    }
}

fn locked<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A gate that one side waits at until the other opens it: a script until the test says so, or the test until a script did.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, std::sync::Condvar)>);

impl Gate {
    /// Lets everybody pass, now and later.
    pub fn open(&self) {
        *locked(&self.0.0) = true;
        self.0.1.notify_all();
    }

    /// Waits until it is open, at most as long as a test may take; whether it is.
    pub fn wait(&self) -> bool {
        let open = locked(&self.0.0);
        self.0.1.wait_timeout_while(open, PATIENCE, |open| !*open).is_ok_and(|(open, _)| *open)
    }
}
