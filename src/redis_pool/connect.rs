//! How bb8 makes a connection, and knows a broken one.

use std::time::Duration;

use bb8_redis::bb8::{ManageConnection, Pool};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ErrorKind, RedisError, ServerErrorKind};
use secrecy::ExposeSecret;

use super::Settings;

/// The least time a connection gets to come about: name, TCP, TLS and AUTH take several trips, and no request waits.
const CONNECT: Duration = Duration::from_secs(1);

/// Makes connections as `[redis]` says, with all scripts loaded.
#[derive(Debug)]
pub(super) struct Connector {
    client: Client,
    timeout: Duration,
    scripts: Box<[&'static str]>,
}

/// A connection of the pool.
pub(super) struct Leased {
    /// Cloned for each request.
    pub(super) handle: MultiplexedConnection,
    /// Not to be used again: the pool throws it away.
    pub(super) broken: bool,
}

/// A pool of `settings.connections`, none of them made yet.
///
/// # Errors
/// `url`, if the URL cannot be used.
pub(super) fn pool(settings: &Settings, scripts: &[&'static str]) -> Result<Pool<Connector>, &'static str> {
    let url = settings.url.expose_secret();
    if url.starts_with("rediss:") {
        // redis-rs brings rustls without a provider. Fails only if the process has one already: then that one is used.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    }
    let client = Client::open(url).map_err(|_| "url")?;
    let connector = Connector { client, timeout: settings.timeout, scripts: scripts.into() };
    // A lease is tested by its task, and lasts until it breaks.
    let pool = Pool::builder()
        .max_size(settings.connections.max(1))
        .test_on_check_out(false)
        .max_lifetime(None)
        .idle_timeout(None)
        .connection_timeout(CONNECT);
    Ok(pool.build_unchecked(connector))
}

impl ManageConnection for Connector {
    type Connection = Leased;
    type Error = RedisError;

    async fn connect(&self) -> Result<Leased, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT.max(self.timeout)))
            .set_response_timeout(Some(self.timeout))
            // One write for all that is sent in one turn of the event loop.
            .set_pipeline_buffer_size(1024)
            .set_write_backpressure_boundary(64 * 1024);
        let handle = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        let mut leased = Leased { handle, broken: false };
        self.is_valid(&mut leased).await?;
        load(&mut leased.handle, &self.scripts).await?;
        Ok(leased)
    }

    async fn is_valid(&self, leased: &mut Leased) -> Result<(), RedisError> {
        ping(&mut leased.handle).await
    }

    fn has_broken(&self, leased: &mut Leased) -> bool {
        leased.broken
    }
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
