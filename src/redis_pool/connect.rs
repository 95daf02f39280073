//! How bb8 makes a connection, and knows a broken one.
//!
//! 1. A connection that is being made is the trial of a half-open breaker: it has signed on, holds all scripts, and is
//!    sound ([`Connector::is_valid`]) before any request sees it.
//! 2. It is also ready for writes, where there are scripts: an empty one that may write is refused where a real one
//!    would be (`READONLY`).
//! 3. What Redis says about a single command (`MISCONF`, `NOPERM` …) does not keep a connection from being made.
//!
//! # Why
//! Rule 2: a replica answers every PING. Its breaker would close, to be opened by the next request, and so on.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bb8_redis::bb8::{ManageConnection, Pool};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ErrorKind, Pipeline, RedisConnectionInfo, RedisError, Script, ServerError, Value};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::address::{Endpoint, Login, Server};
use super::fault::{Effect, Fault};
use super::sentinel::Master;
use super::{Settings, transport};

/// May write, and does not.
const WRITES_NOTHING: &str = "#!lua\nreturn 1";

/// Where a node is.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// Always there.
    Fixed(Endpoint),
    /// Where the sentinels say that the master is.
    Named(Arc<Master>),
    /// Always there, and a replica in a cluster: it answers reads to who says that they may be behind (`READONLY`).
    Replica(Endpoint),
}

/// Makes connections to one place.
#[derive(Debug)]
pub(super) struct Connector {
    place: Place,
    server: Server,
    timeout: Duration,
    connecting: Duration,
    scripts: Box<[&'static str]>,
}

/// A connection of the pool; its driver ends with it.
pub(super) struct Leased {
    /// Cloned for each request.
    pub(super) handle: MultiplexedConnection,
    /// Not to be used again: the pool throws it away.
    pub(super) broken: bool,
    /// Counts the bytes that have come.
    pub(super) received: Arc<AtomicU64>,
    driver: AbortHandle,
}

/// A pool of `settings.connections`, none of them made yet.
pub(super) fn pool(place: Place, settings: &Settings, scripts: &[&'static str]) -> Pool<Connector> {
    let server = settings.server.clone();
    let (timeout, connecting) = (settings.timeout, settings.connecting());
    let connector = Connector { place, server, timeout, connecting, scripts: scripts.into() };
    // A lease is tested by its task, and lasts until it breaks.
    let pool = Pool::builder()
        .max_size(settings.connections.max(1))
        .test_on_check_out(false)
        .max_lifetime(None)
        .idle_timeout(None)
        .connection_timeout(connecting);
    pool.build_unchecked(connector)
}

impl Place {
    /// Where it is now.
    async fn endpoint(&self, server: &Server, limit: Duration) -> Result<Endpoint, Fault> {
        match self {
            Self::Fixed(endpoint) | Self::Replica(endpoint) => Ok(endpoint.clone()),
            Self::Named(master) => master.find(server, limit).await,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(endpoint) | Self::Replica(endpoint) => endpoint.fmt(f),
            Self::Named(master) => master.fmt(f),
        }
    }
}

impl Connector {
    async fn open(&self, endpoint: &Endpoint) -> Result<Leased, Fault> {
        let opened = transport::open(endpoint, self.server.tls.as_ref()).await;
        let stream = opened.map_err(|error| not_opened(&error))?;
        let received = stream.received();
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(Some(self.connecting))
            // One write for all that is sent in one turn of the event loop.
            .set_pipeline_buffer_size(1024)
            .set_write_backpressure_boundary(64 * 1024);
        // It says nothing by itself: what we say is answered with errors that can be told apart.
        let silent = RedisConnectionInfo::default().set_skip_set_lib_name();
        let made = MultiplexedConnection::new_with_config(&silent, stream, config).await;
        let (handle, driver) = made.map_err(|error| fault(&error))?;
        let driver = tokio::task::spawn_local(driver).abort_handle();
        let mut leased = Leased { handle, broken: false, received, driver };
        sign_on(&mut leased.handle, &self.server.login, self.server.database).await?;
        if let Place::Replica(_) = self.place {
            redis::cmd("READONLY").exec_async(&mut leased.handle).await.map_err(|error| fault(&error))?;
        }
        leased.handle.set_response_timeout(self.timeout);
        self.is_valid(&mut leased).await?;
        prepare(&mut leased.handle, &self.scripts).await?;
        Ok(leased)
    }
}

impl ManageConnection for Connector {
    type Connection = Leased;
    type Error = Fault;

    async fn connect(&self) -> Result<Leased, Fault> {
        let endpoint = self.place.endpoint(&self.server, self.connecting).await?;
        timeout(self.connecting, self.open(&endpoint)).await.unwrap_or(Err(Fault::Timeout))
    }

    async fn is_valid(&self, leased: &mut Leased) -> Result<(), Fault> {
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
pub(super) async fn sign_on(handle: &mut MultiplexedConnection, login: &Login, database: i64) -> Result<(), Fault> {
    if let Some((user, password)) = login.credentials() {
        let answer = redis::cmd("AUTH").arg(user).arg(password).exec_async(handle).await;
        answer.map_err(|error| match fault(&error) {
            Fault::Refused => Fault::Auth,
            other => other,
        })?;
    }
    if database != 0 {
        let answer = redis::cmd("SELECT").arg(database).exec_async(handle).await;
        answer.map_err(|error| not_selected(fault(&error)))?;
    }
    Ok(())
}

/// What it means that `SELECT` failed so.
pub(super) fn not_selected(fault: Fault) -> Fault {
    if matches!(fault, Fault::Refused | Fault::NoPermission) { Fault::Database } else { fault }
}

/// Asks whether Redis is there and serving (it is not while `LOADING`).
pub(super) async fn ping(handle: &mut MultiplexedConnection) -> Result<(), Fault> {
    let answer = redis::cmd("PING").exec_async(handle).await.map_err(|error| fault(&error));
    answer.or_else(|fault| if is_of_command(fault) { Ok(()) } else { Err(fault) })
}

/// Loads scripts, so that EVALSHA finds them.
pub(super) async fn load(handle: &mut MultiplexedConnection, scripts: &[&'static str]) -> Result<(), Fault> {
    if scripts.is_empty() {
        return Ok(());
    }
    loading(scripts).exec_async(handle).await.map_err(|error| fault(&error))
}

/// Loads scripts, and tries whether one may write. Nothing without scripts.
async fn prepare(handle: &mut MultiplexedConnection, scripts: &[&'static str]) -> Result<(), Fault> {
    if scripts.is_empty() {
        return Ok(());
    }
    let mut pipeline = loading(scripts);
    pipeline.cmd("SCRIPT").arg("LOAD").arg(WRITES_NOTHING);
    pipeline.cmd("EVALSHA").arg(Script::new(WRITES_NOTHING).get_hash()).arg(0);
    let answers = handle.send_packed_commands(&pipeline, 0, pipeline.len()).await.map_err(|error| fault(&error))?;
    let mut faults = answers.iter().enumerate().filter_map(|(index, value)| Some((index, failure(value)?)));
    match faults.find(|(index, fault)| *index < scripts.len() || !is_of_command(*fault)) {
        Some((_, fault)) => Err(fault),
        None => Ok(()),
    }
}

fn loading(scripts: &[&'static str]) -> Pipeline {
    let mut pipeline = Pipeline::with_capacity(scripts.len() + 2);
    for script in scripts {
        pipeline.cmd("SCRIPT").arg("LOAD").arg(script);
    }
    pipeline
}

/// What fails a command alone does not make a connection unsound.
fn is_of_command(fault: Fault) -> bool {
    matches!(fault.effect(), Effect::Command | Effect::Again)
}

/// How redis-rs keeps what an error was made of.
type Shared = Arc<dyn std::error::Error + Send + Sync>;

/// What a trip, or a single command, failed of.
pub(super) fn fault(error: &RedisError) -> Fault {
    match error.kind() {
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => Fault::Protocol,
        ErrorKind::Server(_) | ErrorKind::Extension => {
            // A pipeline is as the first of its commands that failed.
            let errors = error.clone().into_server_errors();
            errors.as_deref().and_then(<[_]>::first).map_or(Fault::Refused, |(_, error)| of_reply(error))
        }
        _ if error.is_timeout() => Fault::Timeout,
        _ => {
            // An alert that came after the handshake: TLS 1.3 refuses our certificate then.
            let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<Shared>());
            let error = source.and_then(|source| source.downcast_ref::<io::Error>());
            let is_tls = error.is_some_and(|error| error.kind() == io::ErrorKind::InvalidData);
            if is_tls { Fault::Tls } else { Fault::Disconnected }
        }
    }
}

/// What one command of a pipeline failed of, if it did.
pub(super) fn failure(value: &Value) -> Option<Fault> {
    match value {
        Value::ServerError(error) => Some(of_reply(error)),
        _ => None,
    }
}

fn of_reply(error: &ServerError) -> Fault {
    Fault::of_reply(error.code(), error.details().unwrap_or_default())
}

/// Why no connection could be opened.
pub(super) fn not_opened(error: &io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::TimedOut => Fault::Timeout,
        io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof => Fault::Disconnected,
        // A name that no certificate could be for; a handshake that failed.
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => Fault::Tls,
        _ => Fault::Unreachable,
    }
}
