//! How long an answer's head is waited for, whatever the app speaks.
//!
//! 1. It must come within `first_byte` of the end of the request; while the client is still sending, or the app takes what
//!    it sends, the app is not blamed.
//! 2. Content that waits for a 100 is let go when `expect_timeout` is over (RFC 9110 §10.1.1).
//! 3. `total` ends it in any case.

use std::task::{Context, Poll};

use super::forward::NoAnswer;
use super::http1::{Asked, Outgoing};
use super::watchdog::Deadline;

/// The deadlines of one try.
#[derive(Default)]
pub struct Waiting {
    first_byte: Option<Deadline>,
    expecting: Option<Deadline>,
    /// Pieces of the request's content that had been taken when the deadline began.
    pieces: u64,
}

impl Waiting {
    /// Nothing can be done at the moment: ready with what it was waited for, if it was too long. `sent`: the whole request
    /// is on its way.
    pub fn poll_late(
        &mut self,
        cx: &mut Context<'_>,
        asked: &Asked<'_>,
        outgoing: &mut Outgoing,
        sent: bool,
    ) -> Poll<NoAnswer> {
        let upstream = asked.upstream;
        if let Some(content) = outgoing.content().filter(|content| content.held) {
            let patience = self.expecting.get_or_insert_with(|| upstream.watchdog.deadline(upstream.expect_timeout));
            if patience.poll_late(cx) {
                content.held = false;
                cx.waker().wake_by_ref();
            }
        }
        if asked.total.is_some_and(|total| total.poll_late(cx)) {
            return Poll::Ready(NoAnswer::Late);
        }
        let late = self.first_byte.get_or_insert_with(|| upstream.watchdog.deadline(upstream.first_byte));
        if !late.poll_late(cx) {
            return Poll::Pending;
        }
        match outgoing.content() {
            // The request is still on its way: the client is slow, or the app takes it, both of which have their own bounds.
            Some(content) if content.awaits_client || content.pieces != self.pieces => {
                self.pieces = content.pieces;
                late.extend(upstream.first_byte);
                late.poll_late(cx);
                Poll::Pending
            }
            _ => Poll::Ready(if sent { NoAnswer::Late } else { NoAnswer::Unread }),
        }
    }
}
