//! Opens the listening sockets, and closes them without losing whom they have let in.
//!
//! 1. Each worker has a socket of its own for each TCP address (SO_REUSEPORT), so the kernel spreads connections and no
//!    lock is shared. Where the system does not spread (anything but Linux), for Unix sockets and for inherited ones,
//!    workers share one.
//! 2. A place where another process listens is an error, unless `share_port` says that this one is to succeed it: then
//!    both are given connections until the other one stops. A Unix socket is replaced by renaming.
//! 3. Before a socket is closed it lets nobody in any more ([`turn_away`]): a client that asks then is not
//!    refused, its system asks again after a second, and by then finds the successor, or that nobody listens.
//!
//! # Why
//! Rule 3: closing a socket resets whoever waits in its queue, or is half way into it, and SO_REUSEPORT gives each socket
//! its own queue: a restart would lose a handful of connections under load, however quickly the queue is emptied first.
//! A filter that drops the first packet of a handshake, and no other, leaves time to accept the rest.
//! (`net.ipv4.tcp_migrate_req` would move them, but is off by default and not ours to set.)

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};

use super::Bind;

/// Connections that wait in the kernel to be accepted.
const BACKLOG: i32 = 4096;
/// After how much silence the kernel asks whether the peer is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// A listening socket, not yet bound to a worker.
#[derive(Debug)]
pub struct Listening {
    /// The socket.
    pub socket: Kind,
    /// A supervisor opened it and has it still: its queue outlives us.
    pub inherited: bool,
}

/// A listening socket.
#[derive(Debug)]
pub enum Kind {
    /// TCP.
    Tcp(std::net::TcpListener),
    /// A Unix socket.
    Unix(std::os::unix::net::UnixListener),
}

/// Who else may listen at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// Nobody.
    None,
    /// This process itself does, or a predecessor may.
    Allowed,
}

/// Opens `bind` once for each worker; says the address bound (port 0 becomes a real one).
///
/// # Errors
/// What the system says, with the address.
pub fn open(bind: &Bind, workers: usize, others: Others) -> io::Result<(Vec<Listening>, Bind)> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {bind}: {error}"));
    match bind {
        Bind::Tcp(address) => {
            if cfg!(target_os = "linux") && others == Others::None {
                // A port that another process listens on is an error, although that process might share it.
                probe(*address).map_err(named)?;
            }
            let first = tcp(*address).map_err(named)?;
            let bound = first.local_addr().map_err(named)?;
            let mut all = vec![first];
            while all.len() < workers {
                let another = if cfg!(target_os = "linux") { tcp(bound) } else { all[0].try_clone() };
                all.push(another.map_err(named)?);
            }
            let all = all.into_iter().map(|socket| Listening { socket: Kind::Tcp(socket), inherited: false });
            Ok((all.collect(), Bind::Tcp(bound)))
        }
        Bind::Unix(path) => {
            let first = Kind::Unix(unix(path, others).map_err(named)?);
            let first = Listening { socket: first, inherited: false };
            let mut all = vec![first];
            while all.len() < workers {
                all.push(all[0].try_clone().map_err(named)?);
            }
            Ok((all, bind.clone()))
        }
    }
}

impl Listening {
    /// Another descriptor of the same socket.
    ///
    /// # Errors
    /// Out of file descriptors.
    pub fn try_clone(&self) -> io::Result<Self> {
        let socket = match &self.socket {
            Kind::Tcp(socket) => Kind::Tcp(socket.try_clone()?),
            Kind::Unix(socket) => Kind::Unix(socket.try_clone()?),
        };
        Ok(Self { socket, inherited: self.inherited })
    }
}

/// Lets nobody begin a handshake with this socket any more; handshakes that have begun are finished. Whether it could be
/// done: elsewhere than on Linux it cannot.
pub fn turn_away(socket: SockRef<'_>) -> bool {
    #[cfg(target_os = "linux")]
    {
        use socket2::SockFilter;
        /// Classic BPF over the TCP header: drop what has SYN and not ACK.
        const WITHOUT_SYN: [SockFilter; 5] = [
            // The byte with the flags.
            SockFilter::new(0x30, 0, 0, 13),
            // SYN and ACK of it.
            SockFilter::new(0x54, 0, 0, 0x12),
            // SYN alone: the next; else: the one after.
            SockFilter::new(0x15, 0, 1, 0x02),
            SockFilter::new(0x06, 0, 0, 0),
            SockFilter::new(0x06, 0, 0, u32::MAX),
        ];
        match socket.attach_filter(&WITHOUT_SYN) {
            Ok(()) => return true,
            Err(error) => tracing::debug!(%error, "cannot turn newcomers away before a listener closes"),
        }
    }
    let _ = socket;
    false
}

/// What is accepted takes it over from the listening socket: small answers go out at once, and a peer that is lost
/// without a word is noticed.
///
/// # Errors
/// What the system says.
pub fn set_for_connections(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(KEEP_ALIVE / 4))
}

/// Bounds the bytes of an answer that the kernel keeps for a client beyond what its window takes; accepted connections take
/// it over. Elsewhere than on Linux the system's own bound stays.
pub fn bound_unsent(socket: SockRef<'_>, bytes: u32) {
    #[cfg(target_os = "linux")]
    if let Err(error) = socket.set_tcp_notsent_lowat(bytes) {
        tracing::debug!(%error, "cannot bound what is not yet sent");
    }
    let _ = (socket, bytes);
}

fn tcp(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if cfg!(target_os = "linux") {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    set_for_connections(&socket)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Binds without sharing, for a moment: fails where anybody listens.
fn probe(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&SockAddr::from(address))
}

fn unix(path: &Path, others: Others) -> io::Result<std::os::unix::net::UnixListener> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    let answers = is_socket && std::os::unix::net::UnixStream::connect(path).is_ok();
    let listener = if answers && others == Others::Allowed {
        let beside = PathBuf::from(format!("{}.{}", path.display(), std::process::id()));
        let listener = std::os::unix::net::UnixListener::bind(&beside)?;
        std::fs::rename(&beside, path)?;
        listener
    } else {
        // A socket left behind by a process that is gone is replaced; one that answers, or any other file, is not.
        if is_socket && !answers {
            std::fs::remove_file(path)?;
        }
        std::os::unix::net::UnixListener::bind(path)?
    };
    listener.set_nonblocking(true)?;
    Ok(listener)
}
