//! One connection of a node, or its absence: used by requests through clones.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redis::aio::MultiplexedConnection;
use redis::{Arg, Cmd, Pipeline, Value};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::connect::{failure, fault, load};
use super::fault::{Effect, Fault};
use super::split::Split;

/// One connection, or its absence.
#[derive(Default)]
pub(super) struct Lane {
    handle: RefCell<Option<MultiplexedConnection>>,
    received: RefCell<Arc<AtomicU64>>,
    /// Which connection it is: what is learnt about an earlier one does not count.
    generation: Cell<u64>,
    /// Trips on it that were answered.
    answers: Cell<u64>,
    /// Time-outs on it since the last answer.
    late: Cell<u32>,
    lost: Notify,
}

impl Lane {
    /// Whether there is a connection.
    pub(super) fn is_up(&self) -> bool {
        self.handle.borrow().is_some()
    }

    /// The connection, and which one it is.
    pub(super) fn handle(&self) -> Option<(MultiplexedConnection, u64)> {
        Some((self.handle.borrow().clone()?, self.generation.get()))
    }

    /// Whether the connection is still the same.
    pub(super) fn is_still(&self, generation: u64) -> bool {
        self.is_up() && self.generation.get() == generation
    }

    /// From now on there is one.
    pub(super) fn put_up(&self, handle: MultiplexedConnection, received: Arc<AtomicU64>) {
        self.generation.set(self.generation.get() + 1);
        self.late.set(0);
        *self.handle.borrow_mut() = Some(handle);
        self.received.replace(received);
    }

    /// Bytes that have come over it.
    pub(super) fn received(&self) -> u64 {
        self.received.borrow().load(Ordering::Relaxed)
    }

    /// From now on there is none, and who waits on it waits no longer; says whether there was one.
    pub(super) fn take_down(&self) -> bool {
        let was_up = self.handle.borrow_mut().take().is_some();
        if was_up {
            self.lost.notify_waiters();
        }
        was_up
    }

    /// Until it is taken down.
    pub(super) async fn lost(&self) {
        self.lost.notified().await;
    }

    /// A trip on it was answered.
    pub(super) fn answered(&self) {
        self.answers.set(self.answers.get().wrapping_add(1));
        self.late.set(0);
    }

    /// A trip on it was not answered in time; says how many in a row.
    pub(super) fn late(&self) -> u32 {
        self.late.set(self.late.get() + 1);
        self.late.get()
    }

    /// Trips that were answered, so far.
    pub(super) fn answers(&self) -> u64 {
        self.answers.get()
    }

    /// Sends `pipeline` over `handle` once, and what missed its script a second time. The first answer is waited for as long
    /// as the connection says, all others until `until`.
    ///
    /// # Errors
    /// [`Fault::Down`] if the connection was taken down meanwhile.
    pub(super) async fn exchange(
        &self,
        handle: &mut MultiplexedConnection,
        pipeline: &Pipeline,
        scripts: &[&'static str],
        until: Instant,
    ) -> Result<Vec<Value>, Fault> {
        tokio::select! {
            biased;
            answer = exchange(handle, pipeline, scripts, until) => answer,
            // Another request has found out already.
            () = self.lost.notified() => Err(Fault::Down),
        }
    }
}

async fn exchange(
    handle: &mut MultiplexedConnection,
    pipeline: &Pipeline,
    scripts: &[&'static str],
    until: Instant,
) -> Result<Vec<Value>, Fault> {
    // The connection itself bounds how long this takes.
    let mut values = send(handle, pipeline).await?;
    if values.iter().any(lacks_script) {
        // In a box: it would make the future of every request larger.
        let again = Box::pin(again(handle, pipeline, scripts, &mut values));
        timeout_at(until, again).await.unwrap_or(Err(Fault::Timeout))?;
    }
    Ok(values)
}

/// Loads the scripts, and asks again for what of `values` missed one; a node that was told `ASKING` is told so again.
async fn again(
    handle: &mut MultiplexedConnection,
    pipeline: &Pipeline,
    scripts: &[&'static str],
    values: &mut [Value],
) -> Result<(), Fault> {
    load(handle, scripts).await?;
    let (mut missed, mut asking) = (Split::default(), false);
    for (place, command) in pipeline.cmd_iter().enumerate() {
        if values.get(place).is_some_and(lacks_script) {
            missed.add((), command, place, asking);
        }
        asking = is_asking(command);
    }
    for piece in missed.0 {
        let answers = send(handle, &piece.pipeline).await?;
        piece.give(Ok(answers), values);
    }
    Ok(())
}

/// One value for each command; a command's own failure is a value too.
async fn send(handle: &mut MultiplexedConnection, pipeline: &Pipeline) -> Result<Vec<Value>, Fault> {
    handle.send_packed_commands(pipeline, 0, pipeline.len()).await.map_err(|error| fault(&error))
}

fn lacks_script(value: &Value) -> bool {
    failure(value).is_some_and(|fault| fault.effect() == Effect::Again)
}

fn is_asking(command: &Cmd) -> bool {
    matches!(command.args_iter().next(), Some(Arg::Simple(b"ASKING")))
}
