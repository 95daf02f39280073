//! One line for each request, with every decision and its reason.
//!
//! 1. A worker writes lines into a buffer of its own and hands it to the [`Sink`] when it passes [`HANDFUL`] bytes, or
//!    when its first line is [`PATIENCE`] old; at once where somebody may be watching.
//! 2. Requests come or not, so the worker also calls [`AccessLog::tick`], every [`PATIENCE`].
//! 3. Lines that the sink refuses or loses are dropped and counted: `sidegate_access_log_dropped_total`.
//!
//! # Why
//! A line per `write` would cost more than the request. A buffer per worker costs no lock, and a bounded number of
//! bytes on the way costs no request when the reader stalls.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

use super::line::{self, Ending, Moment};
use super::redact::Redaction;
use super::registry::{Counter, Registry};
use super::sink::{Look, Sink};
use super::trail::Record;
use crate::clock::Clock;

/// Bytes that make a buffer worth handing over.
pub const HANDFUL: usize = 16 * 1024;

/// How long a line may wait in the worker's buffer.
pub const PATIENCE: Duration = Duration::from_millis(200);

/// A worker's part of the access log.
#[derive(Debug)]
pub struct AccessLog {
    lines: RefCell<Lines>,
    sink: Sink,
    redaction: Redaction,
    clock: Clock,
    dropped: Counter,
}

#[derive(Debug, Default)]
struct Lines {
    buffer: Vec<u8>,
    count: u64,
    /// When the first of them was written, in milliseconds since the Unix epoch.
    since: u64,
    /// The second in which the last line was written, since the Unix epoch, and as text.
    second: u64,
    second_text: String,
}

impl AccessLog {
    /// The part of `worker`.
    pub fn new(sink: &Sink, redaction: Redaction, clock: Clock, registry: &Registry, worker: usize) -> Rc<Self> {
        let help = "Access-log lines that could not be written in time.";
        let dropped = registry.counter(worker, "sidegate_access_log_dropped_total", help, &[]);
        Rc::new(Self { lines: RefCell::default(), sink: sink.clone(), redaction, clock, dropped })
    }

    /// Writes the line of a request that has ended.
    pub fn write(&self, record: &Record, ending: Ending) {
        let now = self.clock.unix_micros() / 1000;
        let mut lines = self.lines.borrow_mut();
        let lines = &mut *lines;
        lines.turn_to(now / 1000);
        if lines.count == 0 {
            lines.since = now;
        }
        let at = Moment { second: &lines.second_text, millis: now % 1000 };
        match self.sink.look() {
            Look::Json => line::json(&mut lines.buffer, at, record, ending, &self.redaction),
            Look::Human { colour } => line::human(&mut lines.buffer, at, record, ending, &self.redaction, colour),
        }
        lines.count += 1;
        if self.sink.is_watched() || lines.buffer.len() >= HANDFUL || lines.is_due(now) {
            self.hand_over(lines);
        }
    }

    /// Hands over lines that have waited long enough.
    pub fn tick(&self) {
        let mut lines = self.lines.borrow_mut();
        if lines.count > 0 && lines.is_due(self.clock.unix_micros() / 1000) {
            self.hand_over(&mut lines);
        }
        match self.sink.take_lost() {
            0 => {}
            lost => self.dropped.add(lost),
        }
    }

    /// Hands over all lines, as before the end of the worker; dropping does it too.
    pub fn flush(&self) {
        let mut lines = self.lines.borrow_mut();
        if lines.count > 0 {
            self.hand_over(&mut lines);
        }
    }

    fn hand_over(&self, lines: &mut Lines) {
        let room = lines.buffer.capacity();
        let buffer = std::mem::replace(&mut lines.buffer, Vec::with_capacity(room));
        let count = std::mem::take(&mut lines.count);
        if !self.sink.offer(buffer, count) {
            self.dropped.add(count);
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.flush();
    }
}

impl Lines {
    fn turn_to(&mut self, second: u64) {
        if self.second != second || self.second_text.is_empty() {
            self.second = second;
            self.second_text = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(second)).to_string();
            self.second_text.truncate("2026-01-31T12:03:04".len());
        }
    }

    /// Whether the first line is old enough; also when the clock was set back.
    fn is_due(&self, now: u64) -> bool {
        now.abs_diff(self.since) >= PATIENCE.as_millis() as u64
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::{self, Write};
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use http::{Method, Version};
    use parking_lot::Mutex;

    use super::*;
    use crate::body::End;
    use crate::clock::{self, ManualClock};

    const NOON: u64 = 1_769_860_984_007_000;

    #[derive(Clone, Default)]
    pub struct Page(Arc<Mutex<Vec<u8>>>);

    impl Page {
        pub fn text(&self) -> String {
            String::from_utf8(self.0.lock().clone()).unwrap()
        }
    }

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A reader that takes one write each time it is told to.
    struct Stalled(Receiver<()>);

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.recv().map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn stalled() -> (SyncSender<()>, Stalled) {
        let (go, gate) = sync_channel(64);
        (go, Stalled(gate))
    }

    fn log(sink: &Sink, registry: &Registry) -> (Rc<AccessLog>, Arc<ManualClock>) {
        let (clock, hand) = Clock::manual(NOON);
        (AccessLog::new(sink, Redaction::default(), clock, registry, 0), hand)
    }

    fn write(log: &AccessLog, target: &'static str) {
        let target = Some(http::uri::PathAndQuery::from_static(target));
        let record = Record::new(clock::instant(), Method::GET, target, Version::HTTP_11);
        log.write(&record, Ending { end: End::Complete, took: Duration::from_millis(1) });
    }

    #[test]
    fn lines_wait_for_the_tick_and_carry_the_wall_time() {
        let (page, registry) = (Page::default(), Registry::new(1));
        let sink = Sink::to(Box::new(page.clone()), Look::Json, 1 << 20).unwrap();
        let (log, clock) = log(&sink, &registry);
        write(&log, "/a");
        clock.advance(Duration::from_millis(199));
        log.tick();
        assert_eq!(log.lines.borrow().count, 1);
        clock.advance(Duration::from_millis(1));
        log.tick();
        clock.advance(Duration::from_secs(1));
        write(&log, "/b");
        drop(log);
        sink.flush_and_stop();
        let text = page.text();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["time"], "2026-01-31T12:03:04.007Z");
        assert_eq!(lines[1]["time"], "2026-01-31T12:03:05.207Z");
        assert_eq!(lines[1]["target"], "/b");
    }

    #[test]
    fn lines_for_people_are_handed_over_at_once() {
        let (page, registry) = (Page::default(), Registry::new(1));
        let sink = Sink::to(Box::new(page.clone()), Look::Human { colour: true }, 1 << 20).unwrap();
        let (log, _clock) = log(&sink, &registry);
        write(&log, "/a");
        assert_eq!(log.lines.borrow().count, 0);
        sink.flush_and_stop();
        assert_eq!(page.text(), "12:03:04 GET /a \u{1b}[31m---\u{1b}[0m 1.0ms\n");
    }

    #[test]
    fn a_full_buffer_is_handed_over() {
        let (page, registry) = (Page::default(), Registry::new(1));
        let sink = Sink::to(Box::new(page.clone()), Look::Json, 1 << 20).unwrap();
        let (log, _clock) = log(&sink, &registry);
        let mut written = 0;
        while log.lines.borrow().count == written {
            write(&log, "/a");
            written += 1;
        }
        assert!((60..HANDFUL as u64).contains(&written), "{written}");
        sink.flush_and_stop();
        assert_eq!(page.text().lines().count() as u64, written);
    }

    #[test]
    fn a_stalled_reader_costs_lines_and_never_blocks() {
        let ((go, gate), registry) = (stalled(), Registry::new(1));
        let sink = Sink::to(Box::new(gate), Look::Human { colour: false }, 100).unwrap();
        let (log, _clock) = log(&sink, &registry);
        for _ in 0..100 {
            write(&log, "/a");
        }
        let dropped = || registry.value("sidegate_access_log_dropped_total", &[]);
        // "12:03:04 GET /a --- 1.0ms\n" is 26 bytes: three fit into a hundred.
        assert_eq!(dropped(), 97);
        for _ in 0..3 {
            go.send(()).unwrap();
        }
        while sink.outstanding() > 0 {
            std::thread::yield_now();
        }
        write(&log, "/b");
        assert_eq!(dropped(), 97);
        drop(go);
        sink.flush_and_stop();
        log.tick();
        assert_eq!(dropped(), 98, "a reader that has gone away loses the line, and it is counted");
    }

    #[test]
    fn after_the_stop_lines_are_counted_as_dropped() {
        let registry = Registry::new(1);
        let sink = Sink::to(Box::new(io::sink()), Look::Json, 1 << 20).unwrap();
        let (log, _clock) = log(&sink, &registry);
        sink.flush_and_stop();
        write(&log, "/a");
        // The writer's end of the channel goes a moment after it has said that it is done.
        while sink.offer(Vec::new(), 0) {
            std::thread::yield_now();
        }
        log.flush();
        assert_eq!(registry.value("sidegate_access_log_dropped_total", &[]), 1);
    }
}
