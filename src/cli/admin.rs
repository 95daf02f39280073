//! One request to a running sidegate's admin listener.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret as _, SecretString};

use crate::clock;

/// How long it may take, all in all.
const PATIENCE: Duration = Duration::from_secs(2);

/// Bytes of the answer that are read.
const LONGEST: usize = 4 << 20;

/// The status and content of the answer of the admin listener at `address` (`host:port`) to `METHOD TARGET`.
///
/// # Errors
/// It does not answer within 2 s, or is none.
pub fn ask(address: &str, request: &str, token: Option<&SecretString>) -> io::Result<(u16, String)> {
    let until = clock::instant() + PATIENCE;
    let mut stream = connect(address, until)?;
    let to = stream.peer_addr()?;
    stream.set_write_timeout(Some(left(until)?))?;
    let token = token.map_or_else(String::new, |token| format!("Authorization: Bearer {}\r\n", token.expose_secret()));
    stream.write_all(format!("{request} HTTP/1.1\r\nHost: {to}\r\n{token}Connection: close\r\n\r\n").as_bytes())?;
    let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
    while answer.len() < LONGEST {
        stream.set_read_timeout(Some(left(until)?))?;
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => answer.extend_from_slice(&piece[..read]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                return Err(too_late());
            }
            Err(error) => return Err(error),
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    let status = status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "this is not an admin listener"))?;
    let content = answer.split_once("\r\n\r\n").map_or("", |(_, content)| content);
    // Whatever answers there, it is printed on one line of a terminal.
    Ok((status, content.chars().filter(|character| !character.is_control()).collect()))
}

/// Tries each address of the name in turn.
fn connect(address: &str, until: Instant) -> io::Result<TcpStream> {
    let mut failure = io::Error::new(io::ErrorKind::InvalidInput, "it has no address");
    for place in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&reachable(place), left(until)?) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// A listener on every address is asked on loopback.
fn reachable(mut place: SocketAddr) -> SocketAddr {
    match place.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => place.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => place.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    place
}

fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(clock::instant());
    if left.is_zero() { Err(too_late()) } else { Ok(left) }
}

fn too_late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", PATIENCE.as_secs()))
}
