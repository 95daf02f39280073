//! What a request needs from Redis, asked for in one pipelined round trip.
//!
//! 1. Each later layer says what it needs through [`Ask`]; `gather` sends all of it at once and leaves the answers in
//!    the exchange, by slot.
//! 2. A layer that asked nothing costs nothing; when nobody asks there is no trip. Who remembers the answer leaves it as
//!    `Answer::Near` and does not ask.
//! 3. Redis away: every slot that asked gets `Answer::Unavailable` at once.
//!    Who knows that the request is refused says so (`Answers::refused`), and those behind are not asked what they need.
//! 4. Who changes something by asking is told when the answers are there ([`Ask::answered`]), and can say how it is taken
//!    back if nobody takes its answer: a request that is refused further in leaves nothing behind.

mod layer;

pub use layer::layer;

use crate::exchange::{Exchange, Slot};

/// Something that needs Redis before the request can go on.
pub trait Ask {
    /// The slot of its answer.
    fn slot(&self) -> Slot;
    /// Adds the commands that this request needs to `pipeline`, and says how many (0: nothing to ask).
    fn ask(&self, exchange: &mut Exchange, pipeline: &mut redis::Pipeline) -> usize;
    /// The answer is there, if anything was asked: the moment for `Answers::unless_taken`.
    fn answered(&self, exchange: &mut Exchange) {
        let _ = exchange;
    }
}
