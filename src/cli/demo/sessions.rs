//! Where the sample app keeps its session records: where sidegate looks for them.
//!
//! 1. The record is JSON; its key in Redis is `session:ID`, as many a real app has it.
//! 2. A record that could not be written is no login: the app answers 503.
//!
//! # Why
//! sidegate never writes a session: that is the app's business, and the sample app does it as a real one would.

use std::io;
use std::time::Duration;

use parking_lot::Mutex;
use redis::Commands;
use serde_json::Value;

use crate::session::store::memory::MemoryStore;

/// What stands before the session identifier in its Redis key.
pub const PREFIX: &str = "session:";

/// How long Redis may take to connect or to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Session records, as the app writes them. May block: the app calls it off its runtime's thread.
pub trait Sessions: Send + Sync {
    /// Writes the record of session `id`, which ends by itself after `ttl` (whole seconds, at least 1).
    fn put(&self, id: &str, record: &Value, ttl: Duration) -> io::Result<()>;
    /// Removes the record of session `id`, if there is one.
    fn remove(&self, id: &str) -> io::Result<()>;
}

/// In process memory, shared with sidegate.
impl Sessions for MemoryStore {
    fn put(&self, id: &str, record: &Value, ttl: Duration) -> io::Result<()> {
        let kept = MemoryStore::put(self, &format!("{PREFIX}{id}"), record.to_string(), ttl);
        if kept { Ok(()) } else { Err(io::ErrorKind::OutOfMemory.into()) }
    }

    fn remove(&self, id: &str) -> io::Result<()> {
        MemoryStore::remove(self, &format!("{PREFIX}{id}"));
        Ok(())
    }
}

/// Session records in Redis, over one blocking connection that is opened anew after it failed.
pub struct RedisSessions {
    client: redis::Client,
    connection: Mutex<Option<redis::Connection>>,
}

impl RedisSessions {
    /// Takes a Redis URL; connects at the first use. Fails if the URL cannot be read.
    pub fn new(url: &str) -> io::Result<Self> {
        let client = redis::Client::open(url).map_err(io::Error::other)?;
        Ok(Self { client, connection: Mutex::new(None) })
    }

    fn ask<T>(&self, question: impl Fn(&mut redis::Connection) -> redis::RedisResult<T>) -> io::Result<T> {
        let mut kept = self.connection.lock();
        if let Some(mut connection) = kept.take()
            && let Ok(answer) = question(&mut connection)
        {
            *kept = Some(connection);
            return Ok(answer);
        }
        // No connection, or one that Redis has closed meanwhile: both questions may be asked twice.
        let mut connection = self.connect().map_err(io::Error::other)?;
        let answer = question(&mut connection).map_err(io::Error::other)?;
        *kept = Some(connection);
        Ok(answer)
    }

    fn connect(&self) -> redis::RedisResult<redis::Connection> {
        let connection = self.client.get_connection_with_timeout(PATIENCE)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.set_write_timeout(Some(PATIENCE))?;
        Ok(connection)
    }
}

impl Sessions for RedisSessions {
    fn put(&self, id: &str, record: &Value, ttl: Duration) -> io::Result<()> {
        let (key, json, seconds) = (format!("{PREFIX}{id}"), record.to_string(), ttl.as_secs().max(1));
        self.ask(|connection| connection.set_ex(&key, &json, seconds))
    }

    fn remove(&self, id: &str) -> io::Result<()> {
        let key = format!("{PREFIX}{id}");
        self.ask(|connection| connection.del(&key))
    }
}
