//! One connection over which a master tells what changes.
//!
//! 1. `HELLO 3` with the login, a name for `CLIENT LIST`, then `CLIENT TRACKING ON BCAST` with the prefixes. Refused, or a
//!    server that knows no RESP3: `SUBSCRIBE` to the channel of our own invalidations.
//! 2. What has arrived is marked as not applied from before it is read until the tiers have been told ([`Applying`]); while
//!    a message has arrived in part, it stays so.
//! 3. An answer is a sign of life, unless it says that the server is not in order (`LOADING`, `MASTERDOWN`, `NOAUTH` …): then
//!    the connection counts as lost, and is made again soon. Any other error refuses a command for good.
//! 4. While a PING is unanswered the mark is set as well, for at most [`UNANSWERED`].
//!
//! # Why rule 4
//! Redis appends the news of a change to our connection's output before it writes anybody's, and writes first to who was
//! given something last: news goes out before the acknowledgement of the change. But a connection that was given the
//! answer to a PING in the same turn already stands in the queue, behind who changes something after the PING. Over a
//! network, where the answer takes longer, microseconds make no difference.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};

use super::Refused;
use crate::redis_pool::address::{Endpoint, Server};
use crate::redis_pool::coherence::{Applying, Coherence};
use crate::redis_pool::connect::not_opened;
use crate::redis_pool::near::{self, Mode};
use crate::redis_pool::resp::{Reader, Value, push_command};
use crate::redis_pool::transport::{self, Stream};

/// What `CLIENT LIST` calls it.
const NAME: &[u8] = b"sidegate-near";
/// How long an unanswered PING keeps what is remembered from being used.
const UNANSWERED: Duration = Duration::from_millis(2);
/// Bytes read at once.
const READ: usize = 16 << 10;

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told<'f> {
    /// This key has changed or is gone.
    Changed(&'f [u8]),
    /// All keys are gone.
    Flushed,
    /// Nothing any more.
    Lost,
}

/// A connection whose server tells.
pub(super) struct Feed {
    wire: Wire,
    mode: Mode,
    channel: String,
}

impl Feed {
    /// Connects, logs in, and asks to be told: of what changes under `prefixes`, else of what is published on `channel`.
    pub(super) async fn open(
        endpoint: &Endpoint,
        server: &Server,
        prefixes: &[String],
        channel: String,
    ) -> Result<Self, Refused> {
        let stream = transport::open(endpoint, server.tls.as_ref()).await;
        let stream = stream.map_err(|error| away(not_opened(&error).word()))?;
        let mut feed = Self { wire: Wire::new(stream), mode: Mode::Tracking, channel };
        let tracking = feed.hello(server).await? && feed.track(prefixes).await?;
        if !tracking {
            feed.subscribe().await?;
        }
        Ok(feed)
    }

    /// Whether it tells of every change.
    pub(super) fn is_tracking(&self) -> bool {
        self.mode == Mode::Tracking
    }

    /// Logs in; says whether the server speaks RESP3.
    async fn hello(&mut self, server: &Server) -> Result<bool, Refused> {
        let credentials = server.login.credentials();
        let login = credentials.map(|(user, password)| (user.unwrap_or("default"), password));
        let mut hello: Vec<&[u8]> = vec![b"HELLO", b"3"];
        if let Some((user, password)) = login {
            hello.extend([&b"AUTH"[..], user.as_bytes(), password.as_bytes()]);
        }
        let resp3 = match self.wire.ask(&hello).await? {
            Value::Error(error) => match disorder(&error) {
                Some(reason) => return Err(away(reason)),
                None => false,
            },
            _ => true,
        };
        if let (false, Some((user, password))) = (resp3, credentials) {
            let mut auth: Vec<&[u8]> = vec![b"AUTH"];
            auth.extend(user.map(str::as_bytes));
            auth.push(password.as_bytes());
            if let Value::Error(_) = self.wire.ask(&auth).await? {
                return Err(away("auth"));
            }
        }
        // Only for whoever looks at the list of clients: it may be refused.
        self.wire.ask(&[b"CLIENT", b"SETNAME", NAME]).await?;
        Ok(resp3)
    }

    /// Asks for tracking; says whether that is granted.
    async fn track(&mut self, prefixes: &[String]) -> Result<bool, Refused> {
        let mut tracking: Vec<&[u8]> = vec![b"CLIENT", b"TRACKING", b"ON", b"BCAST"];
        for prefix in prefixes {
            tracking.extend([&b"PREFIX"[..], prefix.as_bytes()]);
        }
        match self.wire.ask(&tracking).await? {
            Value::Text(text) if text == b"OK" => Ok(true),
            Value::Error(error) if error.starts_with(b"NOAUTH") => Err(away("auth")),
            answer => {
                tracing::debug!(?answer, "client tracking is refused");
                Ok(false)
            }
        }
    }

    /// Asks to be told of what is published on the channel, on which we have to be allowed to publish too.
    pub(super) async fn subscribe(&mut self) -> Result<(), Refused> {
        self.mode = Mode::PubSub;
        // No key: it concerns nobody.
        if let Value::Error(error) = self.wire.ask(&[b"PUBLISH", self.channel.as_bytes(), b""]).await? {
            return Err(refusal(&error));
        }
        self.wire.send(&[b"SUBSCRIBE", self.channel.as_bytes()]).await?;
        loop {
            match self.wire.receive().await? {
                Value::Error(error) => return Err(refusal(&error)),
                Value::Push(words) | Value::List(words) if says(&words, b"subscribe") => return Ok(()),
                _ => {}
            }
        }
    }

    /// Hands on what is told until the connection is of no use any more, and at last [`Told::Lost`]; says why. What has
    /// been read and not applied is marked in `coherence`.
    pub(super) async fn read(
        self,
        near: &near::Settings,
        coherence: &Arc<Coherence>,
        mut apply: impl FnMut(Told<'_>),
    ) -> &'static str {
        let mut applying = None;
        let reason = self.read_marking(near, coherence, &mut applying, &mut apply).await;
        apply(Told::Lost);
        drop(applying);
        reason
    }

    async fn read_marking(
        self,
        near: &near::Settings,
        coherence: &Arc<Coherence>,
        applying: &mut Option<Applying>,
        apply: &mut impl FnMut(Told<'_>),
    ) -> &'static str {
        let Self { mut wire, channel, .. } = self;
        let mut pings = interval_at(Instant::now() + near.ping, near.ping);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let silent = wire.heard + near.silence;
            // Looked at when it is over, and then no more.
            let answer_due = wire.asked.map_or(silent, |asked| asked + UNANSWERED);
            tokio::select! {
                lost = poll_fn(|context| wire.poll_each(context, coherence, applying, |value| {
                    tell(&value, channel.as_bytes(), apply);
                })) => return lost.reason,
                () = sleep_until(answer_due), if wire.asked.is_some() => wire.asked = None,
                // Unless something was read since.
                () = sleep_until(silent) => if wire.heard + near.silence <= Instant::now() {
                    return "silent";
                },
                _ = pings.tick() => {
                    applying.get_or_insert_with(|| coherence.applying());
                    wire.asked = Some(Instant::now());
                    match timeout(near.silence, wire.send(&[b"PING"])).await {
                        Ok(Ok(())) => {}
                        Ok(Err(lost)) => return lost.reason,
                        Err(_) => return "silent",
                    }
                }
            }
        }
    }
}

impl AsFd for Feed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wire.stream.as_fd()
    }
}

/// What one message tells; whatever else it may be tells nothing.
fn tell(message: &Value, channel: &[u8], apply: &mut impl FnMut(Told<'_>)) {
    let (Value::Push(words) | Value::List(words)) = message else { return };
    match &words[..] {
        [Value::Text(what), Value::List(keys)] if what == b"invalidate" => {
            for key in keys {
                if let Value::Text(key) = key {
                    apply(Told::Changed(key));
                }
            }
        }
        [Value::Text(what), Value::Null] if what == b"invalidate" => apply(Told::Flushed),
        [Value::Text(what), Value::Text(on), Value::Text(key)] if what == b"message" && on == channel => {
            apply(Told::Changed(key));
        }
        _ => {}
    }
}

/// Whether it answers a PING; as a list where the connection has subscribed over RESP2.
fn is_answer(value: &Value) -> bool {
    match value {
        Value::Push(_) => false,
        Value::List(words) => says(words, b"pong"),
        _ => true,
    }
}

fn says(words: &[Value], what: &[u8]) -> bool {
    matches!(words.first(), Some(Value::Text(said)) if said == what)
}

/// What an error says that is about the server and not about the command, in a word; `None`: it is about the command.
fn disorder(error: &[u8]) -> Option<&'static str> {
    let code = error.split(|byte| *byte == b' ').next().unwrap_or_default();
    Some(match code {
        b"NOAUTH" | b"WRONGPASS" => "auth",
        b"LOADING" => "loading",
        b"BUSY" => "busy",
        b"MASTERDOWN" | b"CLUSTERDOWN" | b"READONLY" | b"MISCONF" | b"OOM" | b"TRYAGAIN" => "disorder",
        _ => return None,
    })
}

fn refusal(error: &[u8]) -> Refused {
    disorder(error).map_or(Refused { reason: "refused", lasting: true }, away)
}

fn away(reason: &'static str) -> Refused {
    Refused { reason, lasting: false }
}

/// Why a connection that stood is of no use any more.
fn word(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::InvalidData => "tls",
        io::ErrorKind::TimedOut => "timeout",
        _ => "disconnected",
    }
}

/// The bytes of a connection, both ways.
struct Wire {
    stream: Stream,
    reader: Reader,
    bytes: Box<[u8]>,
    /// When something was last read.
    heard: Instant,
    /// When the PING was sent that is unanswered.
    asked: Option<Instant>,
}

impl Wire {
    fn new(stream: Stream) -> Self {
        Self { stream, reader: Reader::default(), bytes: vec![0; READ].into(), heard: Instant::now(), asked: None }
    }

    async fn send(&mut self, command: &[&[u8]]) -> Result<(), Refused> {
        let mut bytes = Vec::new();
        push_command(&mut bytes, command);
        let sent = async {
            self.stream.write_all(&bytes).await?;
            self.stream.flush().await
        };
        sent.await.map_err(|error| away(word(&error)))
    }

    /// The answer to a command; what is told in between concerns nobody yet.
    async fn ask(&mut self, command: &[&[u8]]) -> Result<Value, Refused> {
        self.send(command).await?;
        loop {
            match self.receive().await? {
                Value::Push(_) => {}
                answer => return Ok(answer),
            }
        }
    }

    async fn receive(&mut self) -> Result<Value, Refused> {
        loop {
            if let Some(value) = self.reader.next().map_err(|_| away("protocol"))? {
                return Ok(value);
            }
            poll_fn(|context| self.poll_read(context)).await?;
        }
    }

    /// Hands every value that arrives to `each`; ready when the connection is of no use any more.
    fn poll_each(
        &mut self,
        context: &mut Context<'_>,
        coherence: &Arc<Coherence>,
        applying: &mut Option<Applying>,
        mut each: impl FnMut(Value),
    ) -> Poll<Refused> {
        loop {
            applying.get_or_insert_with(|| coherence.applying());
            let Poll::Ready(read) = self.poll_read(context) else {
                if self.reader.is_empty() && self.asked.is_none() {
                    *applying = None;
                }
                return Poll::Pending;
            };
            if let Err(lost) = read {
                return Poll::Ready(lost);
            }
            loop {
                match self.reader.next() {
                    Ok(Some(Value::Error(error))) => {
                        self.asked = None;
                        // What a slow script changes is told when it is done.
                        if let Some(reason) = disorder(&error).filter(|reason| *reason != "busy") {
                            return Poll::Ready(away(reason));
                        }
                    }
                    Ok(Some(value)) => {
                        if is_answer(&value) {
                            self.asked = None;
                        }
                        each(value);
                    }
                    Ok(None) => break,
                    Err(_) => return Poll::Ready(away("protocol")),
                }
            }
        }
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        let mut into = ReadBuf::new(&mut self.bytes);
        Pin::new(&mut self.stream).poll_read(context, &mut into).map(|read| match read {
            Ok(()) if into.filled().is_empty() => Err(away("disconnected")),
            Ok(()) => {
                self.heard = Instant::now();
                self.reader.feed(into.filled());
                Ok(())
            }
            Err(error) => Err(away(word(&error))),
        })
    }
}
