//! Accepts connections and reads requests from them.

pub mod accept;
pub mod admission;
pub mod chunk;
pub mod connection;
pub mod http2;
pub mod inherited;
mod judge;
mod max_forwards;
mod pace;
pub mod proxy_protocol;
mod receive;
pub mod refusal;
pub mod socket;
pub mod target;
pub mod tls;
pub mod transport;
mod tunnel;
mod wire;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What the listeners are told by `[server]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where to listen.
    pub listen: Vec<Bind>,
    /// TLS for the TCP listeners.
    pub tls: Option<tls::Secured>,
    /// Those of `listen` that speak cleartext all the same.
    pub cleartext: Vec<Bind>,
    /// How long a client may take.
    pub timeouts: Timeouts,
    /// Worker threads.
    pub workers: usize,
    /// Open client connections, over all workers; more wait in the kernel's queue.
    pub max_connections: usize,
    /// Open client connections of one peer address; more are closed at once.
    pub max_connections_per_address: usize,
    /// Bits of an IPv6 address by which connections are counted: one subscriber has many addresses.
    pub ipv6_prefix: u32,
    /// Requests of one connection; the last is answered with `Connection: close`, or followed by GOAWAY. `None`: any number.
    pub max_requests_per_connection: Option<u32>,
    /// Bytes of a request's head.
    pub max_header_size: usize,
    /// Bytes of a request's target.
    pub max_target: usize,
    /// Bytes of one field line of a request.
    pub max_field_size: usize,
    /// Fields of a request, and of its trailers.
    pub max_headers: usize,
    /// Bytes of a request's trailers.
    pub max_trailer_size: usize,
    /// Bytes of a chunk's size with its extensions.
    pub max_chunk_line: usize,
    /// For how long and how far a client that was refused is still listened to.
    pub linger: Linger,
    /// Concurrent requests on an HTTP/2 connection.
    pub max_streams: u32,
    /// What one HTTP/2 connection may cost.
    pub http2: http2::Bounds,
    /// Told to stop, the process is not ready, and goes on as before, for this long.
    pub drain_delay: Duration,
    /// Then a connection that is idle may still ask for this long; it is answered, and told to close.
    pub drain_linger: Duration,
    /// Time given to requests in flight when the process is told to stop.
    pub grace_period: Duration,
    /// Another process, of the same user, may listen at the same places: a successor starts before this one stops.
    pub share_port: bool,
    /// Who tells whose a connection is, before it begins.
    pub proxy_protocol: proxy_protocol::Settings,
    /// Bytes of an answer that the kernel keeps for a TCP client that does not read, beyond what is on its way.
    pub max_unsent: u32,
    /// An idle connection gives its buffers back after this long.
    pub park_after: Duration,
}

/// How a connection is ended whose client may still be sending (RFC 9112 §9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linger {
    /// How long, at most.
    pub time: Duration,
    /// Bytes that are read and thrown away, at most.
    pub size: usize,
}

/// A place to listen.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Bind {
    /// Address and port.
    Tcp(SocketAddr),
    /// Path of a Unix socket.
    Unix(PathBuf),
}

/// How long a client may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a whole head, from its first byte, on a new connection from its start; also for a PROXY protocol header, and for
    /// a TLS handshake.
    pub header: Duration,
    /// Between two pieces of content.
    pub body: Duration,
    /// Between two requests.
    pub idle: Duration,
    /// For a reader that stalls, between two pieces written.
    pub write: Duration,
    /// To be answered, once the client has ended its side: it may be gone.
    pub half_closed: Duration,
}

impl Settings {
    /// How large the parts of a message may be.
    fn bounds(&self) -> judge::Bounds {
        judge::Bounds {
            largest_head: self.max_header_size,
            longest_target: self.max_target,
            largest_field: self.max_field_size,
            most_fields: self.max_headers,
            largest_trailers: self.max_trailer_size,
            longest_chunk_line: self.max_chunk_line,
        }
    }
}

impl std::fmt::Display for Bind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Settings {
    /// What `bind` speaks TLS with; `None`: it speaks cleartext.
    pub fn secured(&self, bind: &Bind) -> Option<&tls::Secured> {
        self.tls.as_ref().filter(|_| matches!(bind, Bind::Tcp(_)) && !self.cleartext.contains(bind))
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: vec![Bind::Tcp(SocketAddr::from(([127, 0, 0, 1], 8080)))],
            tls: None,
            cleartext: Vec::new(),
            timeouts: Timeouts::default(),
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            max_connections: 10_000,
            max_connections_per_address: 10_000,
            ipv6_prefix: 64,
            max_requests_per_connection: None,
            max_header_size: 32 * 1024,
            max_target: 16 * 1024,
            max_field_size: 16 * 1024,
            max_headers: 100,
            max_trailer_size: 8 * 1024,
            max_chunk_line: 1024,
            linger: Linger { time: Duration::from_secs(1), size: 16 << 20 },
            max_streams: 100,
            http2: http2::Bounds::default(),
            drain_delay: Duration::ZERO,
            drain_linger: Duration::from_secs(1),
            grace_period: Duration::from_secs(30),
            share_port: false,
            proxy_protocol: proxy_protocol::Settings::default(),
            max_unsent: 256 * 1024,
            park_after: Duration::from_secs(1),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(10),
            body: Duration::from_secs(30),
            idle: Duration::from_secs(75),
            write: Duration::from_secs(30),
            half_closed: Duration::from_secs(5),
        }
    }
}
