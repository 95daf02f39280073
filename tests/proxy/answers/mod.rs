//! What an app may answer over HTTP/1, sound, broken and hostile, and what the client gets of it (PROTOCOL.md, "Hostile or
//! broken apps" and "Upstream reuse").
//!
//! A [`Case`] is data: the bytes of the app, the method that was asked with, what the client must get, and whether the
//! connection to the app carries the next request.

mod bounds;
mod chunks;
mod connections;
mod framing;
mod heads;
mod http2;
mod interim;
mod sound;
mod truncated;

use serde_json::Value;

use crate::harness::{Answer, Client, Configuration, Origin, Sidegate, client::request, until};

/// One answer.
#[derive(Clone)]
pub struct Case {
    name: String,
    /// Where it is written.
    section: &'static str,
    method: &'static str,
    /// What the app sends.
    bytes: Vec<u8>,
    /// The app closes the connection after that.
    closes: bool,
    want: Want,
    /// The connection carries the next request as well.
    reused: bool,
}

/// What the client must get.
#[derive(Clone, Debug)]
pub enum Want {
    /// This status and content, whole.
    Whole(u16, Vec<u8>),
    /// 502 with this RFC 9209 type.
    Refused(&'static str),
    /// The head of the answer, and content that is broken off; this type in the log.
    BrokenOff(&'static str),
    /// Either of the two: it depends on what has come when the head is read.
    Either(&'static str),
}

/// Answered whole, over a connection that is kept.
pub fn whole(
    name: impl Into<String>,
    section: &'static str,
    bytes: impl AsRef<[u8]>,
    content: impl AsRef<[u8]>,
) -> Case {
    let want = Want::Whole(200, content.as_ref().to_vec());
    let bytes = bytes.as_ref().to_vec();
    Case { name: name.into(), section, method: "GET", bytes, closes: false, want, reused: true }
}

/// Refused, with the connection closed.
pub fn refused(name: impl Into<String>, section: &'static str, bytes: impl AsRef<[u8]>, error: &'static str) -> Case {
    Case { want: Want::Refused(error), reused: false, ..whole(name, section, bytes, "") }
}

/// Broken off, with the connection closed.
pub fn broken(name: impl Into<String>, section: &'static str, bytes: impl AsRef<[u8]>, error: &'static str) -> Case {
    Case { want: Want::BrokenOff(error), reused: false, ..whole(name, section, bytes, "") }
}

impl Case {
    fn method(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }

    fn status(mut self, status: u16) -> Self {
        if let Want::Whole(said, _) = &mut self.want {
            *said = status;
        }
        self
    }

    /// The app closes the connection after its answer.
    fn closes(mut self) -> Self {
        (self.closes, self.reused) = (true, false);
        self
    }

    /// The connection must not be used again, though the app leaves it open.
    fn not_reused(mut self) -> Self {
        self.reused = false;
        self
    }

    fn or_refused(mut self) -> Self {
        if let Want::BrokenOff(error) = self.want {
            self.want = Want::Either(error);
        }
        self
    }
}

/// An app that answers `/case/N` with the bytes of the N-th case, and anything else with its own target.
fn app(cases: Vec<Case>) -> Origin {
    Origin::scripted(move |wire| {
        while let Some(request) = wire.request()? {
            match request.target.strip_prefix("/case/").and_then(|number| number.parse::<usize>().ok()) {
                Some(number) => {
                    wire.send(&cases[number].bytes)?;
                    if cases[number].closes {
                        return Ok(());
                    }
                }
                None => {
                    let text = &request.target;
                    wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len()).as_bytes())?;
                }
            }
        }
        Ok(())
    })
}

/// Asks for each case over a connection of its own, then for another page, and compares.
pub fn judge(cases: Vec<Case>) {
    judge_behind(Configuration::of, cases);
}

/// The same, behind a configuration that adds to one for `app` and one worker.
pub fn judge_behind(configuration: impl Fn(&Origin) -> Configuration, cases: Vec<Case>) {
    let app = app(cases.clone());
    let sidegate = configuration(&app).server("workers = 1").start();
    let mut wrong: Vec<String> = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        if let Err(why) = ask(&sidegate, &app, number, case) {
            wrong.push(format!("{} ({}): {why}", case.name, case.section));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    let lines = lines(&sidegate, 2 * cases.len());
    for (number, case) in cases.iter().enumerate() {
        let line = lines.iter().find(|line| line["target"] == format!("/case/{number}").as_str());
        let said = line.and_then(|line| line["upstream_error"].as_str());
        let error = match &case.want {
            Want::Whole(..) => None,
            Want::Refused(error) | Want::BrokenOff(error) | Want::Either(error) => Some(*error),
        };
        if said != error {
            wrong.push(format!("{} ({}): logged as {said:?}, expected {error:?}", case.name, case.section));
        }
    }
    assert!(wrong.is_empty(), "{} of {} log lines:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

fn ask(sidegate: &Sidegate, app: &Origin, number: usize, case: &Case) -> Result<(), String> {
    let mut client = sidegate.client();
    client.send(request(case.method, &format!("/case/{number}"), &[], b""));
    let answer = client.try_answer_to(case.method);
    let error_of = |answer: &Answer| answer.field("proxy-status").unwrap_or_default().to_owned();
    let is_refused = |error| matches!(&answer, Ok(answer) if answer.status == 502 && error_of(answer) == format!("sidegate; error={error}"));
    let is_broken_off = match &answer {
        Ok(answer) => answer.cut_short && answer.status != 502,
        Err(error) => error.kind() == std::io::ErrorKind::UnexpectedEof,
    };
    let right = match &case.want {
        Want::Whole(status, content) => {
            matches!(&answer, Ok(answer) if (answer.status, &answer.content, answer.cut_short) == (*status, content, false))
        }
        Want::Refused(error) => is_refused(error),
        Want::BrokenOff(_) => is_broken_off,
        Want::Either(error) => is_broken_off || is_refused(error),
    };
    if !right {
        return Err(format!("answered {answer:?}, expected {:?}", case.want));
    }
    next_is_its_own(sidegate, app, number, case.reused)
}

/// The request after a case is answered with its own answer, over the same connection or another one.
fn next_is_its_own(sidegate: &Sidegate, app: &Origin, number: usize, reused: bool) -> Result<(), String> {
    let target = format!("/next/{number}");
    let next = sidegate.get(&target);
    if (next.status, next.text().as_str()) != (200, target.as_str()) {
        return Err(format!("the next request was answered {next:?}"));
    }
    let requests = app.requests();
    let connection =
        |target: &str| requests.iter().rev().find(|seen| seen.target == target).map(|seen| seen.connection);
    let same = connection(&target) == connection(&format!("/case/{number}"));
    if same != reused {
        return Err(format!("the connection was {}used again", if same { "" } else { "not " }));
    }
    Ok(())
}

/// The lines of the access log, when there are so many.
fn lines(sidegate: &Sidegate, count: usize) -> Vec<Value> {
    let requests = || sidegate.output().lines().filter(|line| line.contains("\"event\":\"request\"")).count();
    until("a line in the access log for each request", || requests() >= count);
    sidegate.output().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// A head of 200 with these lines, and what follows it.
pub fn ok(lines: &[&str], after: impl AsRef<[u8]>) -> Vec<u8> {
    head("HTTP/1.1 200 OK", lines, after)
}

/// A head with these lines, and what follows it.
pub fn head(status: &str, lines: &[&str], after: impl AsRef<[u8]>) -> Vec<u8> {
    let mut bytes = format!("{status}\r\n").into_bytes();
    for line in lines {
        bytes.extend_from_slice(line.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(after.as_ref());
    bytes
}

/// A client of its own that has asked for `target`.
pub fn asking(sidegate: &Sidegate, method: &str, target: &str) -> Client {
    let mut client = sidegate.client();
    client.send(request(method, target, &[], b""));
    client
}
