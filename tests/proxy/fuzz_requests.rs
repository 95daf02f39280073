//! Requests that are sound, spoilt and cut in every way a seed can think of, through a running sidegate to an app that
//! writes everything down.
//!
//! What holds, whatever is sent:
//! 1. The app sees only requests that the client framed, in their order, by the letter of RFC 9112 ([`strict`]).
//! 2. No byte that is no request reaches it; the start of one only if its content broke off, or was found to be malformed
//!    after its head had gone on.
//! 3. One request in is at most one request out, and each answer is that of its own request.
//! 4. Every connection ends, and sidegate lives.
//!
//! A fixed seed and a fresh one, which is printed, by count; `SIDEGATE_FUZZ_SECONDS` goes on with fresh seeds for so long
//! (`make fuzz`), `SIDEGATE_FUZZ_SEED` plays one again.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::harness::{Configuration, PATIENCE, Sidegate};
use crate::protocol::recorder::{Event, Recorder};
use crate::protocol::spoil;
use crate::protocol::strict::{self, Message, Read as Found};

/// Connections made from one seed.
const ROUNDS: usize = 1500;

/// Bytes that arrive together if they are sent together.
const AT_ONCE: usize = 4000;

#[test]
fn fuzz_requests_and_let_no_byte_pass_that_is_not_part_of_one() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let app = Recorder::start();
    let sidegate = Configuration::to(&app.url()).server("timeouts = { half_closed = \"2s\" }").start();
    let until = Instant::now() + Duration::from_secs(number("SIDEGATE_FUZZ_SECONDS").unwrap_or(0));
    if let Some(seed) = number("SIDEGATE_FUZZ_SEED") {
        return play(&sidegate, &app, seed);
    }
    play(&sidegate, &app, 9112);
    loop {
        let seed = fastrand::u64(..);
        println!("fuzz_requests: SIDEGATE_FUZZ_SEED={seed}");
        play(&sidegate, &app, seed);
        if Instant::now() >= until {
            return;
        }
    }
}

/// One connection: what was sent, and how the reference reads it.
struct Round {
    pieces: Vec<Vec<u8>>,
    framed: Vec<Message>,
    /// Those that the app may still see.
    owed: Vec<Message>,
    rest: Found,
}

impl Round {
    fn new(pieces: Vec<Vec<u8>>) -> Self {
        let (framed, rest) = strict::read_all(&pieces.concat());
        Self { pieces, owed: framed.clone(), framed, rest }
    }

    /// Whether this identifier stands in it.
    fn says(&self, id: Option<&str>) -> bool {
        id.is_none_or(|id| strict::text(&self.pieces.concat()).contains(id))
    }

    /// Whether the client framed this request, after those that the app has seen.
    fn takes(&mut self, seen: &Message) -> bool {
        let Some(place) = self.owed.iter().position(|framed| is_same(framed, seen)) else { return false };
        if is_early(seen) {
            self.owed.remove(place);
        } else {
            let passed: Vec<_> = self.owed.drain(..=place).take(place).collect();
            self.owed.splice(..0, passed.into_iter().filter(is_early));
        }
        true
    }
}

/// Whether the app answers it before its content has come: then it may be whole after the next one is, or never.
fn is_early(message: &Message) -> bool {
    message.target.starts_with("/early")
}

fn play(sidegate: &Sidegate, app: &Recorder, seed: u64) {
    let (mut rng, mut id) = (Rng::with_seed(seed), 0);
    let mut rounds: Vec<Round> = Vec::with_capacity(ROUNDS);
    for number in 0..ROUNDS {
        let pieces = spoil::connection(&mut rng, &mut id);
        let received = converse(sidegate.address(), &pieces);
        rounds.push(Round::new(pieces));
        let events = app.take();
        if let Err(why) =
            received.as_ref().map_err(Clone::clone).and_then(|received| judge(&mut rounds, received, &events))
        {
            let sent: Vec<_> = rounds[number].pieces.iter().map(|piece| strict::text(piece)).collect();
            let received = received.map(|received| strict::text(&received));
            panic!(
                "{why}\n  SIDEGATE_FUZZ_SEED={seed}, round {number}\n  sent:     {sent:?}\n  received: {received:?}\n  \
                 the app:  {events:?}"
            );
        }
    }
    assert_eq!(sidegate.get("/alive").status, 200);
    app.take();
}

/// Sends the pieces, ends its side, and reads to the end.
fn converse(address: &str, pieces: &[Vec<u8>]) -> Result<Vec<u8>, String> {
    let mut stream = TcpStream::connect(address).map_err(|error| format!("no connection: {error}"))?;
    stream
        .set_nodelay(true)
        .and_then(|()| stream.set_read_timeout(Some(PATIENCE)))
        .map_err(|error| error.to_string())?;
    for piece in pieces {
        // It may have been refused, and closed.
        if stream.write_all(piece).is_err() {
            break;
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
    let mut received = Vec::new();
    match stream.read_to_end(&mut received) {
        Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
            Err("the connection hangs".into())
        }
        _ => Ok(received),
    }
}

fn judge(rounds: &mut [Round], received: &[u8], events: &[Event]) -> Result<(), String> {
    for event in events {
        match event {
            Event::Whole(seen) if !rounds.iter_mut().rev().any(|round| round.takes(seen)) => {
                return Err(format!("the app saw a request that the client did not frame: {seen:?}"));
            }
            Event::Whole(_) => {}
            Event::Malformed(why, _) => return Err(format!("malformed bytes reached the app: {why}")),
            Event::BrokenOff(bytes) => may_break_off(bytes, rounds)?,
        }
    }
    let Some(round @ Round { framed, rest, .. }) = rounds.last() else { return Ok(()) };
    let answers = answers(received, framed)?;
    if answers.len() > framed.len() + 1 {
        return Err(format!("{} answers to {} requests", answers.len(), framed.len()));
    }
    // The app's answers carry the identifiers of the requests, in their order.
    let cut = if let Found::More(Some(cut)) = rest { Some(cut) } else { None };
    let mut asked = framed.iter().chain(cut).map(|message| message.one("x-id").unwrap_or("none"));
    let ids: Vec<&str> = answers.iter().flatten().map(String::as_str).collect();
    let wrong = ids.iter().enumerate().find(|(place, id)| {
        // The last may have been answered early, before its content was found to be malformed.
        let early = matches!(rest, Found::Bad(_)) && place + 1 == ids.len() && round.says(Some(id));
        !asked.any(|asked| asked == **id) && !early
    });
    match wrong {
        Some((_, id)) => Err(format!("an answer of the app's ({id}) that is not to the next request")),
        None => Ok(()),
    }
}

/// Whether the start of a request that never became whole may have reached the app. It is told of an end some time after
/// the client is, so that may be of an earlier round.
fn may_break_off(bytes: &[u8], rounds: &[Round]) -> Result<(), String> {
    let Found::More(Some(head)) = strict::read(bytes) else {
        return Err("a part of a head reached the app".into());
    };
    let of_round = |round: &Round| match &round.rest {
        // Answered before its content had come, and then closed.
        _ if is_early(&head) => true,
        Found::More(Some(cut)) if cut.one("x-id") == head.one("x-id") => true,
        // Its content was malformed, to sidegate at least, and its head may have gone on, unless all of it came at once.
        _ => (round.pieces.len() > 1 || round.pieces[0].len() > AT_ONCE) && round.says(head.one("x-id")),
    };
    let may = rounds.iter().rev().any(of_round);
    if may {
        Ok(())
    } else {
        Err(format!("a request that was refused reached the app in part: {}", strict::text(bytes)))
    }
}

/// Whether the app saw the request that the client framed: what frames it and what names it is the same.
fn is_same(framed: &Message, seen: &Message) -> bool {
    let taken_out = |name: &str| framed.all("connection").any(|value| value.to_ascii_lowercase().contains(name));
    let same = |name: &str| framed.all(name).eq(seen.all(name)) || (taken_out(name) && seen.all(name).next().is_none());
    framed.method == seen.method
        && path(framed) == seen.target
        && framed.content == seen.content
        && same("x-id")
        && same("x-note")
}

/// The target in the form in which it goes on (RFC 9112 §3.2.1, §3.2.4).
fn path(framed: &Message) -> String {
    let Some((_, rest)) = framed.target.split_once("://").filter(|_| !framed.target.starts_with('/')) else {
        return framed.target.clone();
    };
    match rest.find(['/', '?']).map(|end| &rest[end..]) {
        None if framed.method == "OPTIONS" => "*".into(),
        None => "/".into(),
        Some(query) if query.starts_with('?') => format!("/{query}"),
        Some(path) => path.into(),
    }
}

/// The `X-Id` of each answer, if it has one; a connection may end within the last of them.
fn answers(mut received: &[u8], framed: &[Message]) -> Result<Vec<Option<String>>, String> {
    let mut answers = Vec::new();
    while let Some(end) = memchr::memmem::find(received, b"\r\n\r\n") {
        let head = strict::text(&received[..end]);
        received = &received[end + 4..];
        let status =
            head.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).and_then(|code| code.parse::<u16>().ok());
        let status = status.ok_or_else(|| format!("no status line: {head:?}"))?;
        if status < 200 {
            continue;
        }
        let field = |name: &str| {
            let line = head.lines().skip(1).find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")));
            line.map(|line| line[name.len() + 1..].trim_matches([' ', '\t']).to_owned())
        };
        let to_head = framed.get(answers.len()).is_some_and(|message| message.method == "HEAD");
        let length = field("content-length").and_then(|length| length.parse::<usize>().ok());
        // An answer to HEAD, refused before it was whole, has no content either.
        let length = length.filter(|_| !to_head).unwrap_or(0);
        received = received.get(length..).unwrap_or_default();
        answers.push(field("x-id"));
    }
    if received.is_empty() { Ok(answers) } else { Err(format!("{} bytes after the last answer", received.len())) }
}
