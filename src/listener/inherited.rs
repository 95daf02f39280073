//! Sockets that a supervisor has opened for this process: systemd's socket activation (`LISTEN_FDS`).
//!
//! 1. Each is found by its address: `server.listen` names it just as the supervisor bound it. Neither order nor names
//!    matter. One that `listen` does not name is an error at start; what `listen` names besides is opened as always.
//! 2. They are kept for as long as the process lives: a reload may stop listening there and begin again.
//! 3. They are not ours alone: the queue of a socket outlives this process. A process that stops leaves it to its successor.
//!
//! # Why
//! Rule 1: a file that lists the sockets in another order than the unit would serve the wrong ones, and nobody would see it.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use socket2::{Socket, Type};

use super::Bind;
use super::socket::{Kind, Listening, set_for_connections};

/// The sockets that were passed.
#[derive(Debug, Default)]
pub struct Inherited(Vec<(Bind, Listening)>);

impl Inherited {
    /// Takes what the environment says was passed to this process; nothing where it says nothing. Once, at the start.
    ///
    /// # Errors
    /// What it says makes no sense, or a descriptor is no listening stream socket.
    pub fn take() -> io::Result<Self> {
        let passed = sd_notify::listen_fds().map_err(|error| named("LISTEN_FDS", &error))?;
        let mut sockets = Vec::new();
        for descriptor in passed {
            // SAFETY: the supervisor passed it to this process (LISTEN_PID is ours), and this is the one who takes it.
            let owned = unsafe { OwnedFd::from_raw_fd(descriptor) };
            let what = format!("file descriptor {descriptor} of the supervisor");
            sockets.push(listening(Socket::from(owned)).map_err(|error| named(&what, &error))?);
        }
        Ok(Self(sockets))
    }

    /// Whether each of them is wanted.
    ///
    /// # Errors
    /// A sentence that names one that is not.
    pub fn fits(&self, listen: &[Bind]) -> io::Result<()> {
        let strange = self.0.iter().find(|(bind, _)| !listen.contains(bind));
        strange.map_or(Ok(()), |(bind, _)| {
            let wanted: Vec<String> = listen.iter().map(Bind::to_string).collect();
            let why = format!(
                "the supervisor passed a socket for {bind}, which server.listen does not name: {}",
                wanted.join(", ")
            );
            Err(io::Error::new(io::ErrorKind::InvalidInput, why))
        })
    }

    /// The one for `bind`, once for each worker, if there is one.
    ///
    /// # Errors
    /// Out of file descriptors.
    pub fn open(&self, bind: &Bind, workers: usize) -> io::Result<Option<Vec<Listening>>> {
        let Some((_, socket)) = self.0.iter().find(|(known, _)| known == bind) else { return Ok(None) };
        (0..workers).map(|_| socket.try_clone()).collect::<io::Result<_>>().map(Some)
    }
}

fn inherited(socket: Kind) -> Listening {
    Listening { socket, inherited: true }
}

fn listening(socket: Socket) -> io::Result<(Bind, Listening)> {
    let wrong = |what| io::Error::new(io::ErrorKind::InvalidInput, what);
    if socket.r#type()? != Type::STREAM || !listens(&socket)? {
        return Err(wrong("it is no listening stream socket (Accept=no, ListenStream=)"));
    }
    let address = socket.local_addr()?;
    socket.set_nonblocking(true)?;
    if let Some(address) = address.as_socket() {
        set_for_connections(&socket)?;
        return Ok((Bind::Tcp(address), inherited(Kind::Tcp(socket.into()))));
    }
    let path = address.as_pathname().ok_or_else(|| wrong("it has neither an address nor a path"))?;
    Ok((Bind::Unix(path.to_owned()), inherited(Kind::Unix(socket.into()))))
}

#[cfg(target_os = "linux")]
fn listens(socket: &Socket) -> io::Result<bool> {
    socket.is_listener()
}

/// Elsewhere the system does not tell; the first accept will.
#[cfg(not(target_os = "linux"))]
fn listens(_: &Socket) -> io::Result<bool> {
    Ok(true)
}

fn named(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed() -> (Inherited, std::net::SocketAddr) {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        (Inherited(vec![listening(Socket::from(socket)).unwrap()]), address)
    }

    #[test]
    fn a_socket_is_found_by_its_address_as_often_as_there_are_workers() {
        let (inherited, address) = passed();
        let bind = Bind::Tcp(address);
        assert!(inherited.fits(std::slice::from_ref(&bind)).is_ok());
        assert_eq!(inherited.open(&bind, 3).unwrap().map(|all| all.len()), Some(3));
        assert_eq!(inherited.open(&bind, 2).unwrap().map(|all| all.len()), Some(2), "a reload may want it again");
        let other = Bind::Tcp(([127, 0, 0, 1], 1).into());
        assert!(inherited.open(&other, 1).unwrap().is_none());
        let error = inherited.fits(&[other]).unwrap_err().to_string();
        assert!(error.contains(&address.to_string()) && error.contains("127.0.0.1:1"), "{error}");
    }

    #[test]
    fn what_does_not_listen_is_refused() {
        let connected = std::os::unix::net::UnixStream::pair().unwrap().0;
        assert!(listening(Socket::from(connected)).is_err());
        let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(listening(Socket::from(datagrams)).is_err());
    }
}
