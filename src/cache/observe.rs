//! What the store would have answered, compared with what the app says (`mode = "observe"`).
//!
//! 1. Compared are, in this order: the status; the fields that say what the content is, whose it is and where to go
//!    ([`FIELDS`]); the content, byte for byte, as it passes.
//! 2. Nothing is held back, and nothing is kept but the stored content, which is there already.
//! 3. Content that does not come to its end without having differed tells nothing.
//! 4. Each comparison is counted by route, with the bytes that the app would have been spared; the access log has it, too.
//!    Of those that differ one is warned of in [`QUIET`], by a digest of its key: a URI may hold what logs must not.
//!
//! # Why not all fields
//! Apps stamp each answer: with the time, a request's number, how long it took. Were these compared nothing would ever be
//! equal, and nobody would look.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http::header::{CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE, LOCATION, SET_COOKIE};
use http::{HeaderMap, HeaderName, StatusCode};
use http_body::Frame;

use super::rules::vary::Digest;
use crate::body::{End, Watch};
use crate::telemetry::registry::{Counter, Registry};

/// The fields that are compared.
pub const FIELDS: [HeaderName; 6] =
    [CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_DISPOSITION, LOCATION, SET_COOKIE];

/// The shortest time between two warnings of one route and worker.
pub const QUIET: Duration = Duration::from_secs(10);

/// What a comparison has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The client would have got the same.
    Equal,
    /// Another status.
    Status,
    /// The same status, and another field.
    Fields,
    /// The same fields, and other content.
    Content,
    /// The app did not answer, or not to the end.
    Unknown,
}

impl Verdict {
    const ALL: [Self; 5] = [Self::Equal, Self::Status, Self::Fields, Self::Content, Self::Unknown];

    /// For metrics.
    fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Status => "status",
            Self::Fields => "fields",
            Self::Content => "content",
            Self::Unknown => "unknown",
        }
    }

    /// For the access log.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Equal => "observe-equal",
            Self::Status => "observe-status",
            Self::Fields => "observe-fields",
            Self::Content => "observe-content",
            Self::Unknown => "observe-unknown",
        }
    }

    fn differs(self) -> bool {
        matches!(self, Self::Status | Self::Fields | Self::Content)
    }
}

/// How the heads differ, if they do.
pub(super) fn heads(expected: (StatusCode, &HeaderMap), said: (StatusCode, &HeaderMap)) -> Option<Verdict> {
    if expected.0 != said.0 {
        return Some(Verdict::Status);
    }
    let same = |name: &HeaderName| expected.1.get_all(name).iter().eq(said.1.get_all(name));
    (!FIELDS.iter().all(same)).then_some(Verdict::Fields)
}

/// Compares content as it passes, and reports what the whole comparison has found and how many bytes came.
pub(super) struct Comparison<R: FnOnce(Verdict, u64)> {
    /// What is expected to come yet.
    expected: Bytes,
    found: Option<Verdict>,
    came: u64,
    report: Option<R>,
}

impl<R: FnOnce(Verdict, u64)> Comparison<R> {
    /// With `expected`, unless the heads differ already.
    pub(super) fn new(found: Option<Verdict>, expected: Bytes, report: R) -> Self {
        Self { expected, found, came: 0, report: Some(report) }
    }
}

impl<R: FnOnce(Verdict, u64)> Watch for Comparison<R> {
    fn frame(&mut self, frame: &Frame<Bytes>) {
        let Some(bytes) = frame.data_ref() else { return };
        self.came += bytes.len() as u64;
        if self.found.is_some() {
            return;
        }
        if self.expected.starts_with(bytes) {
            self.expected.advance(bytes.len());
        } else {
            self.found = Some(Verdict::Content);
        }
    }

    fn end(&mut self, end: End) {
        let found = self.found.unwrap_or(match end {
            End::Complete if self.expected.is_empty() => Verdict::Equal,
            End::Complete => Verdict::Content,
            End::Failed | End::Abandoned => Verdict::Unknown,
        });
        if let Some(report) = self.report.take() {
            report(found, self.came);
        }
    }
}

/// What is reported of one route, on one worker.
pub(super) struct Observer {
    route: Arc<str>,
    cache: Arc<str>,
    observed: [Counter; 5],
    spared: Counter,
    /// When somebody was last warned, in microseconds since the Unix epoch.
    warned: Cell<u64>,
    /// How many have differed since.
    unsaid: Cell<u64>,
}

impl Observer {
    /// Of the route called so, and its cache.
    pub(super) fn new(registry: &Registry, worker: usize, route: &Arc<str>, cache: &Arc<str>) -> Self {
        let observed = Verdict::ALL.map(|verdict| {
            let help =
                "Requests that a stored response would have answered, by how the app's own answer compares with it.";
            let labels = [("route", &**route), ("cache", &**cache), ("outcome", verdict.as_str())];
            registry.counter(worker, "sidegate_cache_observed_total", help, &labels)
        });
        let help = "Content that the app would not have had to send, had stored responses been sent.";
        let labels = [("route", &**route), ("cache", &**cache)];
        let spared = registry.counter(worker, "sidegate_cache_observed_bytes_total", help, &labels);
        let (warned, unsaid) = (Cell::new(0), Cell::new(0));
        Self { route: route.clone(), cache: cache.clone(), observed, spared, warned, unsaid }
    }

    /// Counts what was found of the response under this key, and perhaps warns of it. `now` is in microseconds since the
    /// Unix epoch.
    pub(super) fn report(&self, verdict: Verdict, bytes: u64, key: &Digest, now: u64) {
        self.observed[verdict as usize].inc();
        self.spared.add(bytes);
        if !verdict.differs() {
            return;
        }
        if now < self.warned.get().saturating_add(QUIET.as_micros() as u64) {
            self.unsaid.set(self.unsaid.get() + 1);
            return;
        }
        self.warned.set(now);
        let unsaid = self.unsaid.take();
        let key: String = key[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        tracing::warn!(
            route = &*self.route,
            cache = &*self.cache,
            differs = verdict.as_str(),
            key,
            unsaid,
            "the cache would have sent another answer than the app"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::head_of as head;
    use std::cell::RefCell;
    use std::rc::Rc;

    #[test]
    fn heads_are_compared_by_what_they_say_of_the_content() {
        let stored = head(&[("content-type", "text/html"), ("date", "then"), ("age", "5")]);
        let found = |status: u16, fields: &[_]| {
            heads((StatusCode::OK, &stored), (StatusCode::from_u16(status).unwrap(), &head(fields)))
        };
        assert_eq!(found(200, &[("content-type", "text/html"), ("date", "now")]), None);
        assert_eq!(found(404, &[("content-type", "text/html")]), Some(Verdict::Status));
        assert_eq!(found(200, &[("content-type", "text/plain")]), Some(Verdict::Fields));
        assert_eq!(found(200, &[]), Some(Verdict::Fields));
        assert_eq!(found(200, &[("content-type", "text/html"), ("set-cookie", "a=b")]), Some(Verdict::Fields));
    }

    fn compared(found: Option<Verdict>, expected: &'static str, frames: &[&'static str], end: End) -> (Verdict, u64) {
        let reported = Rc::new(RefCell::new(Vec::new()));
        let report = reported.clone();
        let report = move |verdict, bytes| report.borrow_mut().push((verdict, bytes));
        let mut comparison = Comparison::new(found, Bytes::from_static(expected.as_bytes()), report);
        frames.iter().for_each(|frame| comparison.frame(&Frame::data(Bytes::from_static(frame.as_bytes()))));
        comparison.end(end);
        let reported = reported.borrow();
        assert_eq!(reported.len(), 1);
        reported[0]
    }

    #[test]
    fn content_is_compared_byte_for_byte_however_it_is_cut() {
        for (expected, frames, end, verdict) in [
            ("abcdef", &["abc", "", "def"][..], End::Complete, Verdict::Equal),
            ("", &[], End::Complete, Verdict::Equal),
            ("abcdef", &["abc", "deX"], End::Complete, Verdict::Content),
            ("abcdef", &["abc"], End::Complete, Verdict::Content),
            ("abc", &["abc", "def"], End::Complete, Verdict::Content),
            ("abc", &["abcdef"], End::Complete, Verdict::Content),
            ("abcdef", &["abc"], End::Failed, Verdict::Unknown),
            ("abcdef", &["abc"], End::Abandoned, Verdict::Unknown),
            ("abcdef", &["X"], End::Abandoned, Verdict::Content),
        ] {
            let came = frames.iter().map(|frame| frame.len() as u64).sum();
            assert_eq!(compared(None, expected, frames, end), (verdict, came), "{expected} {frames:?} {end:?}");
        }
        assert_eq!(compared(Some(Verdict::Status), "a", &["a"], End::Complete), (Verdict::Status, 1));
    }

    #[test]
    fn what_differs_is_counted_always_and_warned_of_now_and_then() {
        let registry = Registry::new(1);
        let observer = Observer::new(&registry, 0, &"/a".into(), &"pages".into());
        let quiet = QUIET.as_micros() as u64;
        for (verdict, now, warned, unsaid) in [
            (Verdict::Equal, quiet, 0, 0),
            (Verdict::Content, quiet, quiet, 0),
            (Verdict::Status, quiet + 1, quiet, 1),
            (Verdict::Unknown, 3 * quiet, quiet, 1),
            (Verdict::Fields, 3 * quiet, 3 * quiet, 0),
        ] {
            observer.report(verdict, 10, &[7; 32], now);
            assert_eq!((observer.warned.get(), observer.unsaid.get()), (warned, unsaid), "{verdict:?}");
        }
        let labels = [("route", "/a"), ("cache", "pages"), ("outcome", "content")];
        assert_eq!(registry.value("sidegate_cache_observed_total", &labels), 1);
        assert_eq!(registry.value("sidegate_cache_observed_bytes_total", &labels[..2]), 50);
    }
}
