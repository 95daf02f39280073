//! What the log says of one node that cannot be reached, wholly or in part, though Redis answers.
//!
//! 1. A node that is away while others answer is named at once, and each minute for as long as it is, by reason.
//! 2. Once that was said, it is also said when the node answers again.
//! 3. A connection that is missing while others of the same node work is named at once, and once a minute.
//!
//! # Why
//! A cluster that has lost a master still answers, so that nothing says it is away: and whoever asks for what lay there
//! has no answer.

use std::cell::{Cell, RefCell};

use crate::clock::instant;

use super::complaints::Complaints;
use super::fault::Fault;

/// What was said of one node.
#[derive(Default)]
pub(super) struct Absence {
    of_node: RefCell<Complaints>,
    of_connections: RefCell<Complaints>,
    /// The log's last word is that the node is away.
    said: Cell<bool>,
}

impl Absence {
    /// The node is away, or was tried in vain; others answer.
    pub(super) fn lasts(&self, endpoint: &str, worker: usize, fault: Fault) {
        if let Some(times) = self.of_node.borrow_mut().note(fault, instant()) {
            self.said.set(true);
            tracing::warn!(endpoint, worker, reason = fault.word(), times, "a Redis node is away, others answer");
        }
    }

    /// The node answers.
    pub(super) fn ends(&self, endpoint: &str, worker: usize) {
        if self.said.take() {
            tracing::info!(endpoint, worker, "the Redis node answers again");
        }
    }

    /// A connection could not be made; others of the node work.
    pub(super) fn lacks_a_connection(&self, endpoint: &str, worker: usize, fault: Fault) {
        if let Some(times) = self.of_connections.borrow_mut().note(fault, instant()) {
            let reason = fault.word();
            tracing::warn!(endpoint, worker, reason, times, "a connection to Redis is missing, others work");
        }
    }
}
