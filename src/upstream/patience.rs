//! How long the content of an answer may take, whatever the app speaks.
//!
//! 1. A pause longer than `idle` ends it, unless the app is still taking the request, or waits for the client to send it.
//! 2. A pause begins when there is nothing to hand on, and anew with each frame; and when the request has been sent whole,
//!    for then the app's turn begins.
//! 3. `total` ends it in any case.

use std::rc::Rc;
use std::task::Context;
use std::time::Duration;

use super::content::Progress;
use super::watchdog::{Deadline, Watchdog};
use crate::body::BodyError;

/// How long the content of one answer may take.
pub struct Patience {
    /// Longest pause; `None`: unbounded (event streams).
    longest: Option<Duration>,
    pausing: Option<Deadline>,
    /// Pieces of the request that had been taken when the pause began.
    pieces: u64,
    /// When all of it must have come.
    total: Option<Deadline>,
}

impl Patience {
    /// With pauses of at most `longest`, until `total`; either may be unbounded.
    pub fn new(longest: Option<Duration>, total: Option<Deadline>) -> Self {
        Self { longest, pausing: None, pieces: 0, total }
    }

    /// What has been taken of a request by now excuses no pause.
    pub fn begin(&mut self, request: Option<Progress>) {
        self.pieces = request.map_or(0, |request| request.pieces);
    }

    /// A frame has come, or the app's turn: a pause begins anew.
    pub fn moved(&self) {
        if let (Some(pausing), Some(longest)) = (&self.pausing, self.longest) {
            pausing.extend(longest);
        }
    }

    /// There is nothing to hand on: what has taken too long, by its RFC 9209 type, if anything has. `request`: how far the
    /// request is that is still being sent.
    pub fn poll_late(
        &mut self,
        cx: &mut Context<'_>,
        watchdog: &Rc<Watchdog>,
        request: Option<Progress>,
    ) -> Option<(&'static str, BodyError)> {
        if let Some(longest) = self.longest {
            let pausing = self.pausing.get_or_insert_with(|| watchdog.deadline(longest));
            if pausing.poll_late(cx) {
                if !request.is_some_and(|request| request.excuses(&mut self.pieces)) {
                    return Some(("connection_read_timeout", BodyError::TimedOut("upstream idle")));
                }
                pausing.extend(longest);
                pausing.poll_late(cx);
            }
        }
        let late = self.total.as_ref().is_some_and(|total| total.poll_late(cx));
        late.then_some(("http_response_timeout", BodyError::TimedOut("upstream total")))
    }
}
