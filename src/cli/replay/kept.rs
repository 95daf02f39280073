//! What is kept of a key from one request to the next: a state, or a log. Pure.

use crate::rate_limit::algorithm::log::Log;
use crate::rate_limit::algorithm::{Asked, Policy, State};

/// What is kept of a key.
#[derive(Clone, Debug, Default)]
pub enum Kept {
    /// It is new.
    #[default]
    Nothing,
    /// A few numbers.
    State(State),
    /// When each unit was spent.
    Log(Log),
}

impl Kept {
    /// What it says to a request at `now` (µs since the Unix epoch).
    pub fn state(&mut self, policy: &Policy, now: u64, asked: Asked) -> Option<State> {
        match (self, policy) {
            (Self::Log(log), Policy::Log(policy)) => {
                log.reckon(policy, now);
                Some(State::Log(log.state(policy, now, asked)))
            }
            (Self::State(state), _) => Some(*state),
            _ => None,
        }
    }

    /// Keeps the state after that request.
    pub fn keep(&mut self, policy: &Policy, now: u64, state: State) {
        match (state, policy) {
            (State::Log(state), Policy::Log(policy)) => {
                if let Self::Nothing | Self::State(_) = self {
                    *self = Self::Log(Log::default());
                }
                if let Self::Log(log) = self {
                    log.add(policy, now, state.added);
                }
            }
            (state, _) => *self = Self::State(state),
        }
    }
}
