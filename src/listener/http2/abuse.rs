//! What a client may do to an HTTP/2 connection that brings neither a request nor content, and how often. Pure.
//!
//! 1. Frames that cost work and bring nothing are counted by kind; the counts begin anew every [`WINDOW`].
//! 2. A client earns what a good one needs: a reset for each request that was answered; four WINDOW_UPDATEs for each KiB
//!    that was sent to it, and for each piece of content however small that came from the app and went out whole.
//! 3. Beyond its bound a kind ends the connection with ENHANCE_YOUR_CALM (RFC 9113 §10.5).
//!
//! # Why
//! HTTP/2 lets a client start work and take it back for a few bytes (CVE-2023-44487), or make a server answer frames that
//! mean nothing. h2 bounds what such frames leave in memory; what they cost in time it does not count. Windows that begin
//! anew need one addition for a frame and no clock: an attacker gains a factor of two by straddling them, no more.
//!
//! Clients of gRPC open windows message by message, of a few bytes each: two for each call in vain were seen (grpcio 1.85),
//! and three hundred calls a second would have been abuse. What earns is the app's piece and not our frame: whoever
//! opens windows byte by byte makes frames of one piece, and earns nothing.

use std::cell::Cell;
use std::time::Duration;

/// After this long the counts begin anew.
pub const WINDOW: Duration = Duration::from_secs(10);
/// For each so many bytes sent the client may send one more WINDOW_UPDATE.
const BYTES_PER_WINDOW_UPDATE: u64 = 256;
/// For each piece of content sent whole it may send so many.
const WINDOW_UPDATES_PER_PIECE: u64 = 4;

/// A way to waste a server's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abuse {
    /// RST_STREAM for requests that are under way ("rapid reset", CVE-2023-44487).
    Reset,
    /// Mistakes within streams, each of which makes us send an RST_STREAM ("made you reset", CVE-2025-8671).
    StreamError,
    /// SETTINGS.
    Settings,
    /// PING.
    Ping,
    /// PRIORITY.
    Priority,
    /// WINDOW_UPDATE.
    WindowUpdate,
    /// Frames of content or of fields that are next to empty.
    Empty,
    /// CONTINUATION (CVE-2024-27316 and others).
    Continuation,
    /// Fields that are small on the wire and large when decoded.
    Fields,
    /// GOAWAY, and frames of types that nobody knows.
    Other,
}

impl Abuse {
    /// All of them, in the order of the enumeration.
    pub const ALL: [Self; 10] = [
        Self::Reset,
        Self::StreamError,
        Self::Settings,
        Self::Ping,
        Self::Priority,
        Self::WindowUpdate,
        Self::Empty,
        Self::Continuation,
        Self::Fields,
        Self::Other,
    ];

    /// Its name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::StreamError => "stream-error",
            Self::Settings => "settings",
            Self::Ping => "ping",
            Self::Priority => "priority",
            Self::WindowUpdate => "window-update",
            Self::Empty => "empty",
            Self::Continuation => "continuation",
            Self::Fields => "fields",
            Self::Other => "other",
        }
    }
}

/// What one HTTP/2 connection may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// RST_STREAM frames in ten seconds, beyond the requests answered in that time.
    pub max_resets: u32,
    /// Resets that the client may make us send, in the life of the connection.
    pub max_stream_errors: u32,
    /// Frames that bring neither a request nor content, of each kind, in ten seconds.
    pub max_control_frames: u32,
    /// Bytes of content that may come for one request before the app takes them.
    pub stream_window: u32,
    /// The same for all requests of the connection together.
    pub connection_window: u32,
    /// Bytes of one answer that wait for the socket.
    pub send_buffer: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            max_resets: 200,
            max_stream_errors: 256,
            max_control_frames: 2000,
            stream_window: 256 * 1024,
            connection_window: 1024 * 1024,
            send_buffer: 128 * 1024,
        }
    }
}

/// The counts of one connection.
#[derive(Debug, Default)]
pub struct Budget {
    spent: [Cell<u32>; Abuse::ALL.len()],
    answered: Cell<u32>,
    sent: Cell<u64>,
    pieces: Cell<u64>,
    elapsed: Cell<Duration>,
}

impl Budget {
    /// Counts one frame; whether that is still within `bounds`.
    pub fn spend(&self, kind: Abuse, bounds: &Bounds) -> bool {
        let spent = &self.spent[kind as usize];
        spent.set(spent.get().saturating_add(1));
        let earned = match kind {
            Abuse::Reset => u64::from(self.answered.get()),
            Abuse::WindowUpdate => {
                self.sent.get() / BYTES_PER_WINDOW_UPDATE + self.pieces.get() * WINDOW_UPDATES_PER_PIECE
            }
            _ => 0,
        };
        let bound = if kind == Abuse::Reset { bounds.max_resets } else { bounds.max_control_frames };
        u64::from(spent.get()) <= u64::from(bound) + earned
    }

    /// A request was answered whole.
    pub fn answered(&self) {
        self.answered.set(self.answered.get().saturating_add(1));
    }

    /// A piece of content was sent whole.
    pub fn piece(&self) {
        self.pieces.set(self.pieces.get().saturating_add(1));
    }

    /// So many bytes were sent.
    pub fn sent(&self, bytes: usize) {
        self.sent.set(self.sent.get().saturating_add(bytes as u64));
    }

    /// So much time has passed.
    pub fn passed(&self, time: Duration) {
        self.elapsed.set(self.elapsed.get() + time);
        if self.elapsed.get() >= WINDOW {
            self.elapsed.set(Duration::ZERO);
            self.answered.set(0);
            self.sent.set(0);
            self.pieces.set(0);
            self.spent.iter().for_each(|spent| spent.set(0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spend(budget: &Budget, kind: Abuse, times: u32) -> bool {
        let bounds = Bounds { max_resets: 3, max_control_frames: 5, ..Bounds::default() };
        (0..times).all(|_| budget.spend(kind, &bounds))
    }

    #[test]
    fn each_kind_has_a_count_of_its_own() {
        let budget = Budget::default();
        for kind in Abuse::ALL {
            let bound = if kind == Abuse::Reset { 3 } else { 5 };
            assert!(spend(&budget, kind, bound), "{kind:?}");
            assert!(!spend(&budget, kind, 1), "{kind:?}");
        }
    }

    #[test]
    fn what_is_earned_may_be_spent() {
        let budget = Budget::default();
        budget.answered();
        assert!(spend(&budget, Abuse::Reset, 4));
        assert!(!spend(&budget, Abuse::Reset, 1));
        budget.sent(1024);
        assert!(spend(&budget, Abuse::WindowUpdate, 9));
        assert!(!spend(&budget, Abuse::WindowUpdate, 1));
        budget.piece();
        assert!(spend(&budget, Abuse::WindowUpdate, 3));
        assert!(!spend(&budget, Abuse::WindowUpdate, 1));
    }

    #[test]
    fn the_counts_begin_anew() {
        let budget = Budget::default();
        assert!(!spend(&budget, Abuse::Ping, 6));
        budget.passed(WINDOW / 2);
        assert!(!spend(&budget, Abuse::Ping, 1));
        budget.passed(WINDOW / 2);
        assert!(spend(&budget, Abuse::Ping, 5));
    }

    #[test]
    fn kinds_stand_in_their_own_place() {
        for (place, kind) in Abuse::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, place);
        }
    }
}
