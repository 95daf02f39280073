//! How a limit decides. Pure: the state, the policy and the time are arguments, the new state is in the answer.

pub mod gcra;
