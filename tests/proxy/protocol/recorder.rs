//! An app that writes down every byte it is sent, and reads requests by the letter.

use std::io::{Read as _, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::strict::{self, Message, Read};

/// What reached the app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A whole request.
    Whole(Message),
    /// A connection ended within a request: these bytes had come.
    BrokenOff(Vec<u8>),
    /// Bytes that are no request: never right.
    Malformed(&'static str, Vec<u8>),
}

/// A running app. Ends, with its connections, when dropped.
pub struct Recorder {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    events: Mutex<Vec<Event>>,
    connections: Mutex<Vec<TcpStream>>,
    stopped: AtomicBool,
}

impl Recorder {
    /// Starts one. It answers 200 with the request's target and `X-Id` in fields of the same meaning; a target that
    /// starts with `/early` as soon as its head has come; `Expect: 100-continue` with 100 before that.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the recorder can listen");
        let address = listener.local_addr().expect("a bound address");
        let shared = Arc::new(Shared::default());
        let accepting = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if accepting.stopped.load(Ordering::SeqCst) {
                    break;
                }
                let (_, Ok(kept)) = (stream.set_nodelay(true), stream.try_clone()) else { continue };
                locked(&accepting.connections).push(kept);
                let shared = accepting.clone();
                thread::spawn(move || shared.serve(stream));
            }
        });
        Self { address, shared }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All that has happened since this was last asked.
    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *locked(&self.shared.events))
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        for stream in locked(&self.shared.connections).iter() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn serve(&self, mut stream: TcpStream) {
        let (mut bytes, mut piece) = (Vec::new(), vec![0; 64 * 1024]);
        let mut answered = false;
        loop {
            match strict::read(&bytes) {
                Read::Whole(message, taken) => {
                    bytes.drain(..taken);
                    let answer = answer(&message);
                    // Before the answer: who has it may look here at once.
                    locked(&self.events).push(Event::Whole(message));
                    if !std::mem::take(&mut answered) && stream.write_all(&answer).is_err() {
                        return;
                    }
                    continue;
                }
                Read::Bad(why) => {
                    locked(&self.events).push(Event::Malformed(why, bytes));
                    return;
                }
                Read::More(Some(head)) if !answered => {
                    let early = head.target.starts_with("/early");
                    let expects = head.one("expect").is_some();
                    if early || expects {
                        answered = early;
                        let said = if early { answer(&head) } else { b"HTTP/1.1 100 Continue\r\n\r\n".to_vec() };
                        if stream.write_all(&said).is_err() {
                            return;
                        }
                    }
                }
                Read::More(_) => {}
            }
            match stream.read(&mut piece) {
                Ok(some @ 1..) => bytes.extend_from_slice(&piece[..some]),
                _ => {
                    if !bytes.is_empty() {
                        locked(&self.events).push(Event::BrokenOff(bytes));
                    }
                    return;
                }
            }
        }
    }
}

fn answer(message: &Message) -> Vec<u8> {
    let id = message.one("x-id").unwrap_or("none").chars().filter_map(|letter| u8::try_from(letter).ok());
    let content = if message.method == "HEAD" { "" } else { "app" };
    let mut answer = b"HTTP/1.1 200 OK\r\nX-Id: ".to_vec();
    answer.extend(id);
    answer.extend_from_slice(format!("\r\nContent-Length: 3\r\n\r\n{content}").as_bytes());
    answer
}

fn locked<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}
