//! Counters of what seldom happens, by a word that is known only when it does.
//!
//! 1. A counter is made when it is first needed: what never happens is not shown.
//! 2. Words are sidegate's own, of a closed list: reasons are texts of this program, statuses those of its answers. Nothing that
//!    a client sends becomes a label.

use std::cell::RefCell;
use std::sync::Arc;

use http::StatusCode;

use crate::telemetry::registry::{Counter, Registry};

/// The counters of one session on one worker.
pub struct Seldom {
    registry: Arc<Registry>,
    worker: usize,
    session: Arc<str>,
    rejections: RefCell<Vec<(&'static str, Counter)>>,
    would: RefCell<Vec<(StatusCode, Counter)>>,
}

impl Seldom {
    /// Of `session`, on `worker`.
    pub fn new(registry: &Arc<Registry>, worker: usize, session: &Arc<str>) -> Self {
        let (rejections, would) = (RefCell::default(), RefCell::default());
        Self { registry: registry.clone(), worker, session: session.clone(), rejections, would }
    }

    /// A credential, or the record under it, was no session.
    pub fn rejected(&self, reason: &'static str) {
        let help = "Credentials and records that are no session, by what is wrong with them.";
        let labels = [("session", &*self.session), ("reason", reason)];
        let make = || self.registry.counter(self.worker, "sidegate_session_rejections_total", help, &labels);
        count(&self.rejections, reason, make);
    }

    /// A request passed that would have been answered with `status`.
    pub fn would_refuse(&self, status: StatusCode) {
        let help = "Requests that passed and would have been refused, were the session not only observed.";
        let labels = [("session", &*self.session), ("status", status.as_str())];
        let make = || self.registry.counter(self.worker, "sidegate_session_would_refuse_total", help, &labels);
        count(&self.would, status, make);
    }
}

/// Rule 1.
fn count<W: PartialEq>(counters: &RefCell<Vec<(W, Counter)>>, word: W, make: impl FnOnce() -> Counter) {
    let mut counters = counters.borrow_mut();
    match counters.iter().find(|(known, _)| *known == word) {
        Some((_, counter)) => counter.inc(),
        None => {
            let counter = make();
            counter.inc();
            counters.push((word, counter));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_has_its_counter_once_it_is_needed() {
        let registry = Registry::new(1);
        let seldom = Seldom::new(&registry, 0, &"web".into());
        assert!(!registry.render().contains("sidegate_session_rejections_total"));
        for reason in ["identifier too short", "duplicate cookie", "identifier too short"] {
            seldom.rejected(reason);
        }
        seldom.would_refuse(StatusCode::FOUND);
        let value = |name: &str, label| registry.value(name, &[("session", "web"), label]);
        assert_eq!(value("sidegate_session_rejections_total", ("reason", "identifier too short")), 2);
        assert_eq!(value("sidegate_session_rejections_total", ("reason", "duplicate cookie")), 1);
        assert_eq!(value("sidegate_session_would_refuse_total", ("status", "302")), 1);
    }
}
