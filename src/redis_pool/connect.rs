//! How bb8 makes a connection, and knows a broken one.

use std::io;
use std::time::Duration;

use bb8_redis::bb8::{ManageConnection, Pool};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ErrorKind, RedisConnectionInfo, RedisError, ServerErrorKind};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::address::{Endpoint, Login, Server};
use super::{Settings, transport};

/// The least time a connection gets to come about: name, TCP, TLS and AUTH take several trips, and no request waits.
const CONNECT: Duration = Duration::from_secs(1);

/// Makes connections to one place, with all scripts loaded.
#[derive(Debug)]
pub(super) struct Connector {
    endpoint: Endpoint,
    server: Server,
    timeout: Duration,
    scripts: Box<[&'static str]>,
}

/// A connection of the pool; its driver ends with it.
pub(super) struct Leased {
    /// Cloned for each request.
    pub(super) handle: MultiplexedConnection,
    /// Not to be used again: the pool throws it away.
    pub(super) broken: bool,
    driver: AbortHandle,
}

/// A pool of `settings.connections`, none of them made yet.
pub(super) fn pool(endpoint: Endpoint, settings: &Settings, scripts: &[&'static str]) -> Pool<Connector> {
    let server = settings.server.clone();
    let connector = Connector { endpoint, server, timeout: settings.timeout, scripts: scripts.into() };
    // A lease is tested by its task, and lasts until it breaks.
    let pool = Pool::builder()
        .max_size(settings.connections.max(1))
        .test_on_check_out(false)
        .max_lifetime(None)
        .idle_timeout(None)
        .connection_timeout(CONNECT);
    pool.build_unchecked(connector)
}

impl Connector {
    async fn open(&self) -> Result<Leased, RedisError> {
        let stream = transport::open(&self.endpoint, self.server.tls.as_ref()).await?;
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(Some(CONNECT.max(self.timeout)))
            // One write for all that is sent in one turn of the event loop.
            .set_pipeline_buffer_size(1024)
            .set_write_backpressure_boundary(64 * 1024);
        // It says nothing by itself: what we say is answered with errors that can be told apart.
        let silent = RedisConnectionInfo::default().set_skip_set_lib_name();
        let (handle, driver) = MultiplexedConnection::new_with_config(&silent, stream, config).await?;
        let driver = tokio::task::spawn_local(driver).abort_handle();
        let mut leased = Leased { handle, broken: false, driver };
        sign_on(&mut leased.handle, &self.server.login, self.server.database).await?;
        leased.handle.set_response_timeout(self.timeout);
        self.is_valid(&mut leased).await?;
        load(&mut leased.handle, &self.scripts).await?;
        Ok(leased)
    }
}

impl ManageConnection for Connector {
    type Connection = Leased;
    type Error = RedisError;

    async fn connect(&self) -> Result<Leased, RedisError> {
        let limit = CONNECT.max(self.timeout);
        timeout(limit, self.open()).await.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
    }

    async fn is_valid(&self, leased: &mut Leased) -> Result<(), RedisError> {
        ping(&mut leased.handle).await
    }

    fn has_broken(&self, leased: &mut Leased) -> bool {
        leased.broken
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Says who we are, and which database we mean.
async fn sign_on(handle: &mut MultiplexedConnection, login: &Login, database: i64) -> Result<(), RedisError> {
    if let Some((user, password)) = login.credentials() {
        redis::cmd("AUTH").arg(user).arg(password).exec_async(handle).await?;
    }
    if database != 0 {
        redis::cmd("SELECT").arg(database).exec_async(handle).await?;
    }
    Ok(())
}
/// Asks whether Redis is there and serving (it is not while `LOADING`).
pub(super) async fn ping(handle: &mut MultiplexedConnection) -> Result<(), RedisError> {
    redis::cmd("PING").exec_async(handle).await
}

/// Loads scripts, so that EVALSHA finds them.
pub(super) async fn load(handle: &mut MultiplexedConnection, scripts: &[&'static str]) -> Result<(), RedisError> {
    if scripts.is_empty() {
        return Ok(());
    }
    let mut pipeline = redis::Pipeline::with_capacity(scripts.len());
    for script in scripts {
        pipeline.cmd("SCRIPT").arg("LOAD").arg(script);
    }
    pipeline.exec_async(handle).await
}

/// A word for logs and metrics.
pub(super) fn word(error: &RedisError) -> &'static str {
    match error.kind() {
        ErrorKind::AuthenticationFailed => "auth",
        ErrorKind::Server(ServerErrorKind::BusyLoading) => "loading",
        ErrorKind::Server(_) | ErrorKind::Extension => match error.code() {
            Some("NOAUTH" | "WRONGPASS" | "NOPERM") => "auth",
            _ => "refused",
        },
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => "protocol",
        ErrorKind::InvalidClientConfig => "url",
        _ if error.is_timeout() => "timeout",
        _ => "disconnected",
    }
}
