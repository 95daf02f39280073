//! One connection of a link: leased by a task that looks after it, used by requests through clones.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bb8_redis::bb8::{Pool, PooledConnection, RunError};
use redis::aio::MultiplexedConnection;
use redis::{Pipeline, RedisError, Value};
use tokio::sync::Notify;

use super::backoff::Backoff;
use super::connect::{Connector, load, ping, word};

/// How long a connection may be silent before it is asked whether it is there.
const IDLE: Duration = Duration::from_secs(1);

/// One connection, or its absence.
#[derive(Default)]
pub(super) struct Lane {
    handle: RefCell<Option<MultiplexedConnection>>,
    /// Which connection it is: what is learnt about an earlier one does not count.
    generation: Cell<u64>,
    /// Trips on it that were answered.
    answered: Cell<u64>,
    /// Why the last one was taken down.
    reason: Cell<&'static str>,
    lost: Notify,
}

/// What is told to the link.
pub(super) trait Report {
    /// A connection works now.
    fn rose(&self);
    /// A connection that worked does no longer.
    fn fell(&self, reason: &'static str);
    /// A connection could not be made.
    fn failed(&self, reason: &'static str);
}

impl Lane {
    /// Whether there is a connection.
    pub(super) fn is_up(&self) -> bool {
        self.handle.borrow().is_some()
    }

    /// Sends `pipeline` once, and what missed its script a second time.
    ///
    /// # Errors
    /// A word, as [`super::Link::query`] says.
    pub(super) async fn trip(&self, pipeline: &Pipeline, scripts: &[&'static str]) -> Result<Vec<Value>, &'static str> {
        let Some(mut handle) = self.handle.borrow().clone() else { return Err("down") };
        let generation = self.generation.get();
        let answer = tokio::select! {
            biased;
            answer = exchange(&mut handle, pipeline, scripts) => answer,
            // Another request has waited for the time-out already.
            () = self.lost.notified() => return Err("down"),
        };
        match answer {
            Ok(values) => {
                self.answered.set(self.answered.get().wrapping_add(1));
                Ok(values)
            }
            Err(error) => {
                let reason = word(&error);
                // Redis said no: it is there.
                if reason != "refused" && generation == self.generation.get() {
                    self.take_down(reason);
                }
                Err(reason)
            }
        }
    }

    fn take_down(&self, reason: &'static str) {
        if self.handle.borrow_mut().take().is_some() {
            self.reason.set(reason);
            self.lost.notify_waiters();
        }
    }

    /// Until the connection is taken down; says why.
    async fn watch(&self) -> &'static str {
        loop {
            if !self.is_up() {
                return self.reason.get();
            }
            let before = self.answered.get();
            tokio::select! {
                biased;
                () = self.lost.notified() => return self.reason.get(),
                () = tokio::time::sleep(IDLE) => {}
            }
            let Some(mut handle) = self.handle.borrow().clone() else { continue };
            if self.answered.get() == before
                && let Err(error) = ping(&mut handle).await
            {
                self.take_down(word(&error));
            }
        }
    }

    /// Leases connections for this lane, one after the other, for as long as it is polled.
    pub(super) async fn keep(self: Rc<Self>, pool: Pool<Connector>, report: Rc<impl Report>) {
        let mut backoff = Backoff::default();
        loop {
            match lease(&pool).await {
                Err(reason) => report.failed(reason),
                Ok(mut leased) => {
                    self.generation.set(self.generation.get() + 1);
                    self.answered.set(0);
                    *self.handle.borrow_mut() = Some(leased.handle.clone());
                    report.rose();
                    let reason = self.watch().await;
                    leased.broken = true;
                    report.fell(reason);
                    if self.answered.get() > 0 {
                        backoff = Backoff::default();
                    }
                }
            }
            tokio::time::sleep(backoff.next(fastrand::f64())).await;
        }
    }
}

/// A connection that works, leased for good.
async fn lease(pool: &Pool<Connector>) -> Result<PooledConnection<'static, Connector>, &'static str> {
    // Not `get` alone: that hides why a connection cannot be made, and waits for its time-out even when refused at once.
    let leased = pool.dedicated_connection().await.map_err(|error| word(&error))?;
    pool.add(leased).map_err(|_| "pool")?;
    pool.get_owned().await.map_err(|error| match error {
        RunError::User(error) => word(&error),
        RunError::TimedOut => "timeout",
    })
}

async fn exchange(
    handle: &mut MultiplexedConnection,
    pipeline: &Pipeline,
    scripts: &[&'static str],
) -> Result<Vec<Value>, RedisError> {
    let mut values = send(handle, pipeline).await?;
    if values.iter().any(lacks_script) {
        load(handle, scripts).await?;
        if pipeline.is_transaction() {
            return send(handle, pipeline).await;
        }
        let mut again = Pipeline::new();
        for (command, _) in pipeline.cmd_iter().zip(&values).filter(|(_, value)| lacks_script(value)) {
            again.add_command(command.clone());
        }
        let missed = values.iter_mut().filter(|value| lacks_script(value));
        missed.zip(send(handle, &again).await?).for_each(|(value, answer)| *value = answer);
    }
    Ok(values)
}

/// One value for each command; a command's own failure is a value too.
async fn send(handle: &mut MultiplexedConnection, pipeline: &Pipeline) -> Result<Vec<Value>, RedisError> {
    let count = pipeline.len();
    if !pipeline.is_transaction() {
        return handle.send_packed_commands(pipeline, 0, count).await;
    }
    // MULTI and one QUEUED for each command come before what EXEC says.
    Ok(match handle.send_packed_commands(pipeline, count + 1, 1).await?.pop() {
        Some(Value::Array(values)) if values.len() == count => values,
        said => vec![said.unwrap_or_default(); count],
    })
}

fn lacks_script(value: &Value) -> bool {
    matches!(value, Value::ServerError(error) if error.code() == "NOSCRIPT")
}
