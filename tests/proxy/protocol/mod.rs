//! PROTOCOL.md as a table: bytes in, what the app may see, what must come back. One file for each section.
//!
//! 1. A [`Case`] is data. Each is sent over a connection of its own; all of a table meet one sidegate and one app.
//! 2. The app reads by the letter: whatever reaches it must be well-formed, whoever sent it.
//! 3. A table fails with all of its failed cases, each with the bytes that were sent and received.

pub mod recorder;
pub mod spoil;
pub mod strict;

mod chunks;
mod connection;
mod framing;
mod head;
mod host;
mod identity;
mod reuse;
mod sizes;
mod slow;

use std::fmt::Write;

use crate::harness::{Client, Configuration, Sidegate};
use recorder::{Event, Recorder};
use strict::Message;

/// What is sent, and what must become of it.
#[derive(Clone, Debug)]
pub struct Case {
    name: String,
    /// `9112 §6.3`.
    section: &'static str,
    pieces: Vec<Vec<u8>>,
    /// The client ends its side after that.
    ends: bool,
    app: Vec<Expected>,
    /// The app may also see the start of a request that never becomes whole.
    broken_off: bool,
    /// The statuses that may come back, in order. 0: the connection ends without a word.
    back: Vec<Vec<u16>>,
    then: Then,
}

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It is closed, by itself.
    Closed,
    /// It takes another request.
    Open,
    /// Either.
    Whatever,
}

/// A request as the app must see it.
#[derive(Clone, Debug)]
pub struct Expected {
    start: String,
    fields: Vec<(&'static str, Option<String>)>,
    content: Option<Vec<u8>>,
    trailers: Option<Vec<(String, String)>>,
}

/// A request that must not reach the app.
pub fn refused(section: &'static str, name: impl Into<String>, bytes: impl AsRef<[u8]>, statuses: &[u16]) -> Case {
    let (name, pieces) = (name.into(), vec![bytes.as_ref().to_vec()]);
    let back = vec![statuses.to_vec()];
    Case { name, section, pieces, ends: false, app: Vec::new(), broken_off: false, back, then: Then::Closed }
}

/// A request that must reach the app, beginning `start` (`GET /path`), and be answered 200 on a connection that stays.
pub fn passes(section: &'static str, name: impl Into<String>, bytes: impl AsRef<[u8]>, start: &str) -> Case {
    let mut case = refused(section, name, bytes, &[200]);
    case.then = Then::Open;
    case.and(start)
}

impl Case {
    /// Another request that the app must see, after those before.
    pub fn and(mut self, start: &str) -> Self {
        let (start, fields) = (format!("{start} HTTP/1.1"), Vec::new());
        self.app.push(Expected { start, fields, content: None, trailers: None });
        self
    }

    /// Another answer that must come back.
    pub fn back(mut self, statuses: &[u16]) -> Self {
        self.back.push(statuses.to_vec());
        self
    }

    /// The last answer may also be none, if so: what was sent is not refused yet, only waited for.
    pub fn back_or_nothing(mut self, holds: bool) -> Self {
        self.back.last_mut().expect("an answer").extend(holds.then_some(0));
        self
    }

    /// What becomes of the connection.
    pub fn then(mut self, then: Then) -> Self {
        self.then = then;
        self
    }

    /// The app may see the start of a request, and its connection broken off.
    pub fn or_broken_off(mut self) -> Self {
        self.broken_off = true;
        self
    }

    /// The client ends its side when it has sent all.
    pub fn ends(mut self) -> Self {
        self.ends = true;
        self
    }

    /// Sent in pieces of so many bytes.
    pub fn in_pieces_of(mut self, size: usize) -> Self {
        self.pieces = self.pieces.concat().chunks(size).map(<[u8]>::to_vec).collect();
        self
    }

    /// The last request has this field once, with this value.
    pub fn with(self, name: &'static str, value: impl Into<String>) -> Self {
        let value = Some(value.into());
        self.last(|expected| expected.fields.push((name, value)))
    }

    /// The last request has no such field.
    pub fn without(self, name: &'static str) -> Self {
        self.last(|expected| expected.fields.push((name, None)))
    }

    /// The last request has this content.
    pub fn content(self, content: impl AsRef<[u8]>) -> Self {
        self.last(|expected| expected.content = Some(content.as_ref().to_vec()))
    }

    /// The last request has these trailers.
    pub fn trailers(self, trailers: &[(&str, &str)]) -> Self {
        let trailers = trailers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.last(|expected| expected.trailers = Some(trailers))
    }

    fn last(mut self, change: impl FnOnce(&mut Expected)) -> Self {
        change(self.app.last_mut().expect("a request that the app sees"));
        self
    }
}

impl Expected {
    fn is(&self, seen: &Message) -> Result<(), String> {
        let start = format!("{} {} HTTP/1.{}", seen.method, seen.target, seen.minor);
        if start != self.start {
            return Err(format!("the app saw {start:?}, not {:?}", self.start));
        }
        for (name, value) in &self.fields {
            let found: Vec<_> = seen.all(name).collect();
            if found != value.iter().map(String::as_str).collect::<Vec<_>>() {
                return Err(format!("the app saw {name}: {found:?}, not {value:?}"));
            }
        }
        if self.content.as_ref().is_some_and(|content| *content != seen.content) {
            return Err(format!("the app saw the content {:?}", strict::text(&seen.content)));
        }
        match &self.trailers {
            Some(trailers) if *trailers != seen.trailers => {
                Err(format!("the app saw the trailers {:?}", seen.trailers))
            }
            _ => Ok(()),
        }
    }
}

/// Runs a table against a sidegate of its own.
pub fn table(cases: Vec<Case>) {
    table_with("", cases);
}

/// The same, with lines of `[server]`.
pub fn table_with(server: &str, cases: Vec<Case>) {
    let app = Recorder::start();
    let sidegate = Configuration::to(&app.url()).server(server).start();
    run(&sidegate, &app, cases);
}

/// Runs a table.
pub fn run(sidegate: &Sidegate, app: &Recorder, mut cases: Vec<Case>) {
    // Whether the app notices a request that breaks off during this case or the next one nobody knows: those come last.
    cases.sort_by_key(|case| case.broken_off);
    let mut failed = String::new();
    let (mut wrong, total) = (0, cases.len());
    for case in cases {
        let mut received = String::new();
        let verdict = play(sidegate, &case, &mut received).and_then(|()| compare(&case, &app.take()));
        // Whatever a failed case has left behind is not the next one's.
        app.take();
        if let Err(why) = verdict {
            wrong += 1;
            let sent = strict::text(&case.pieces.concat());
            let sent = if sent.len() > 600 { format!("{:.600} … ({} bytes)", sent, sent.len()) } else { sent };
            let _ = writeln!(
                failed,
                "\n{} ({}): {why}\n  sent:     {sent:?}\n  received: {received}",
                case.name, case.section
            );
        }
    }
    println!("{total} cases");
    assert!(failed.is_empty(), "{wrong} of {total} cases failed:\n{failed}");
    assert_eq!(sidegate.get("/alive").status, 200);
}

fn play(sidegate: &Sidegate, case: &Case, received: &mut String) -> Result<(), String> {
    let mut client = sidegate.client();
    for piece in &case.pieces {
        // It may be refused, and closed, before all of it was sent.
        if client.try_send(piece).is_err() {
            break;
        }
    }
    if case.ends {
        client.end();
    }
    let method = if case.pieces.concat().starts_with(b"HEAD ") { "HEAD" } else { "GET" };
    for expected in &case.back {
        let (status, words) = match client.try_answer_to(method) {
            Ok(answer) => (answer.status, format!("{} {:?} {:?} ", answer.status, answer.fields.0, answer.text())),
            Err(error) => (0, format!("({error}) ")),
        };
        received.push_str(&words);
        if !expected.contains(&status) {
            return Err(format!("answered {status}, expected one of {expected:?}"));
        }
    }
    follow_up(case.then, &mut client)
}

fn follow_up(then: Then, client: &mut Client) -> Result<(), String> {
    match then {
        Then::Whatever => Ok(()),
        Then::Closed if client.is_closed() => Ok(()),
        Then::Closed => Err("the connection stayed open, or said more".into()),
        Then::Open => {
            let sent = client.try_send(b"GET /again HTTP/1.1\r\nHost: a\r\n\r\n");
            let answer = sent.and_then(|()| client.try_answer_to("GET"));
            let status = answer.map_err(|error| format!("no answer to another request: {error}"))?.status;
            if status == 200 { Ok(()) } else { Err(format!("another request was answered {status}")) }
        }
    }
}

fn compare(case: &Case, events: &[Event]) -> Result<(), String> {
    let mut whole = Vec::new();
    for event in events {
        match event {
            Event::Whole(message) if message.target == "/again" => {}
            Event::Whole(message) => whole.push(message),
            Event::BrokenOff(_) if case.broken_off => {}
            Event::BrokenOff(bytes) => return Err(format!("reached the app in part: {:?}", strict::text(bytes))),
            Event::Malformed(why, bytes) => {
                return Err(format!("reached the app malformed ({why}): {:?}", strict::text(bytes)));
            }
        }
    }
    if whole.len() != case.app.len() {
        return Err(format!("the app saw {} requests, not {}: {whole:?}", whole.len(), case.app.len()));
    }
    case.app.iter().zip(whole).try_for_each(|(expected, seen)| expected.is(seen))
}
