//! One connection of a node, or its absence: used by requests through clones.

use std::cell::{Cell, RefCell};

use redis::aio::MultiplexedConnection;
use redis::{Pipeline, RedisError, Value};
use tokio::sync::Notify;

use super::connect::{failure, fault, load};
use super::fault::{Effect, Fault};

/// One connection, or its absence.
#[derive(Default)]
pub(super) struct Lane {
    handle: RefCell<Option<MultiplexedConnection>>,
    /// Which connection it is: what is learnt about an earlier one does not count.
    generation: Cell<u64>,
    /// Trips on it that were answered.
    answers: Cell<u64>,
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
    pub(super) fn put_up(&self, handle: MultiplexedConnection) {
        self.generation.set(self.generation.get() + 1);
        *self.handle.borrow_mut() = Some(handle);
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
    }

    /// Trips that were answered, so far.
    pub(super) fn answers(&self) -> u64 {
        self.answers.get()
    }

    /// Sends `pipeline` over `handle` once, and what missed its script a second time.
    ///
    /// # Errors
    /// [`Fault::Down`] if the connection was taken down meanwhile.
    pub(super) async fn exchange(
        &self,
        handle: &mut MultiplexedConnection,
        pipeline: &Pipeline,
        scripts: &[&'static str],
    ) -> Result<Vec<Value>, Fault> {
        tokio::select! {
            biased;
            answer = exchange(handle, pipeline, scripts) => answer,
            // Another request has found out already.
            () = self.lost.notified() => Err(Fault::Down),
        }
    }
}

async fn exchange(
    handle: &mut MultiplexedConnection,
    pipeline: &Pipeline,
    scripts: &[&'static str],
) -> Result<Vec<Value>, Fault> {
    let sent = |error: RedisError| fault(&error);
    let mut values = send(handle, pipeline).await.map_err(sent)?;
    if values.iter().any(lacks_script) {
        load(handle, scripts).await?;
        if pipeline.is_transaction() {
            return send(handle, pipeline).await.map_err(sent);
        }
        let mut again = Pipeline::new();
        for (command, _) in pipeline.cmd_iter().zip(&values).filter(|(_, value)| lacks_script(value)) {
            again.add_command(command.clone());
        }
        let missed = values.iter_mut().filter(|value| lacks_script(value));
        missed.zip(send(handle, &again).await.map_err(sent)?).for_each(|(value, answer)| *value = answer);
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
    failure(value).is_some_and(|fault| fault.effect() == Effect::Again)
}
