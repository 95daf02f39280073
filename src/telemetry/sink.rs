//! Where the lines of all workers go: one thread that writes them to standard output.
//!
//! 1. Workers hand over whole buffers of whole lines; they never write, and never wait.
//! 2. At most `bound` bytes are outstanding. What comes beyond is refused, and the worker counts it as dropped.
//! 3. A reader that has gone away (`EPIPE`) or a disk that is full ends nothing: its lines are lost and counted, and
//!    writing is tried again with the next buffer.
//!
//! # Why
//! `docker logs`, a pipe into a slow program or a stopped terminal make `write` block without limit. A request must not
//! wait for the reader of its log.

use std::io::{self, ErrorKind, IsTerminal as _, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use super::logs;

/// How long the end of the process waits for a slow reader.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// How long the writer leaves a full pipe alone that somebody made non-blocking.
const PIPE_PAUSE: Duration = Duration::from_millis(5);

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// One JSON object a line.
    Json,
    /// Words, handed over line by line.
    Human {
        /// With colours.
        colour: bool,
    },
}

/// The writer of all lines; clones share it.
#[derive(Clone, Debug)]
pub struct Sink {
    to_writer: Sender<Message>,
    outstanding: Arc<AtomicUsize>,
    lost: Arc<AtomicU64>,
    bound: usize,
    look: Look,
    terminal: bool,
}

#[derive(Debug)]
enum Message {
    Lines { bytes: Vec<u8>, lines: u64 },
    Stop(Sender<()>),
}

impl Sink {
    /// Writes to standard output, as the settings say.
    ///
    /// # Errors
    /// If the writer's thread cannot be started.
    pub fn stdout(settings: &logs::Settings) -> io::Result<Self> {
        let terminal = io::stdout().is_terminal();
        let look = match settings.format.is_human(terminal) {
            true => Look::Human { colour: logs::colours(terminal) },
            false => Look::Json,
        };
        Self::start(Box::new(io::stdout()), look, settings.buffer, terminal)
    }

    /// Writes to `out`; at most `bound` bytes wait.
    ///
    /// # Errors
    /// If the writer's thread cannot be started.
    pub fn to(out: Box<dyn Write + Send>, look: Look, bound: usize) -> io::Result<Self> {
        Self::start(out, look, bound, false)
    }

    fn start(out: Box<dyn Write + Send>, look: Look, bound: usize, terminal: bool) -> io::Result<Self> {
        let (to_writer, messages) = mpsc::channel();
        let (outstanding, lost) = (Arc::<AtomicUsize>::default(), Arc::<AtomicU64>::default());
        let sink = Self { to_writer, outstanding: outstanding.clone(), lost: lost.clone(), bound, look, terminal };
        let write = move || write_all_of(&messages, out, &outstanding, &lost);
        thread::Builder::new().name("access-log".into()).spawn(write)?;
        Ok(sink)
    }

    /// How its lines look.
    pub fn look(&self) -> Look {
        self.look
    }

    /// Whether somebody may be watching: lines are then handed over one by one.
    pub(super) fn is_watched(&self) -> bool {
        self.terminal || matches!(self.look, Look::Human { .. })
    }

    /// Bytes handed over and not yet written.
    #[cfg(test)]
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding.load(Ordering::Relaxed)
    }

    /// Hands over whole lines; `false`: refused, too many bytes are waiting.
    pub(super) fn offer(&self, bytes: Vec<u8>, lines: u64) -> bool {
        let size = bytes.len();
        let waiting = self.outstanding.fetch_add(size, Ordering::Relaxed);
        // An idle writer takes any buffer, however small the bound.
        let taken = (waiting == 0 || waiting.saturating_add(size) <= self.bound)
            && self.to_writer.send(Message::Lines { bytes, lines }).is_ok();
        if !taken {
            self.outstanding.fetch_sub(size, Ordering::Relaxed);
        }
        taken
    }

    /// Lines that were taken but could not be written, since this was last asked.
    pub(super) fn take_lost(&self) -> u64 {
        match self.lost.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.lost.swap(0, Ordering::Relaxed),
        }
    }

    /// Waits, but not for long, until what was handed over is written, and ends the writer. Lines that come later are
    /// refused.
    pub fn flush_and_stop(&self) {
        let (done, wait) = mpsc::channel();
        if self.to_writer.send(Message::Stop(done)).is_ok() {
            let _ = wait.recv_timeout(LAST_WAIT);
        }
    }
}

/// The writer's thread: ends at `Stop`, or when the last sink is gone.
fn write_all_of(
    messages: &Receiver<Message>,
    mut out: Box<dyn Write + Send>,
    outstanding: &AtomicUsize,
    lost: &AtomicU64,
) {
    let mut failing = false;
    for message in messages {
        match message {
            Message::Lines { bytes, lines } => {
                let written = write_whole(&mut *out, &bytes);
                outstanding.fetch_sub(bytes.len(), Ordering::Relaxed);
                if let Err(error) = &written {
                    lost.fetch_add(lines, Ordering::Relaxed);
                    if !failing {
                        tracing::warn!(%error, "the access log cannot be written; lines are lost until it can");
                    }
                }
                failing = written.is_err();
            }
            Message::Stop(done) => {
                let _ = out.flush();
                let _ = done.send(());
                return;
            }
        }
    }
}

/// As `write_all` and `flush`, but waits for a pipe that is full and non-blocking instead of losing the rest.
fn write_whole(out: &mut dyn Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) => pause_or_fail(error)?,
        }
    }
    loop {
        match out.flush() {
            Ok(()) => return Ok(()),
            Err(error) => pause_or_fail(error)?,
        }
    }
}

fn pause_or_fail(error: io::Error) -> io::Result<()> {
    match error.kind() {
        ErrorKind::Interrupted => Ok(()),
        ErrorKind::WouldBlock => {
            thread::sleep(PIPE_PAUSE);
            Ok(())
        }
        _ => Err(error),
    }
}
