//! `sidegate health`: asks the admin listener whether it is ready, for Docker's `HEALTHCHECK`.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::clock;

/// How long it may take, all in all.
const PATIENCE: Duration = Duration::from_secs(2);

/// Bytes of the answer that are read.
const LONGEST: usize = 64 * 1024;

/// Asks the admin listener at `address` (`host:port`), prints one line, and exits with 0 if it is ready, else 1.
pub fn health(address: &str) -> ExitCode {
    match ask(address) {
        Ok((200, _)) => {
            println!("sidegate at {address} is ready");
            ExitCode::SUCCESS
        }
        Ok((status, content)) => {
            println!("sidegate at {address} is not ready: {status} {}", content);
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("sidegate at {address} does not answer: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The status and content of `GET /readyz`.
fn ask(address: &str) -> io::Result<(u16, String)> {
    let until = clock::instant() + PATIENCE;
    let mut stream = connect(address, until)?;
    let to = stream.peer_addr()?;
    stream.set_write_timeout(Some(left(until)?))?;
    stream.write_all(format!("GET /readyz HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n").as_bytes())?;
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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::Arc;

    use super::*;
    use crate::admin::{self, Health, State};
    use crate::telemetry::registry::Registry;

    #[test]
    fn it_says_what_the_admin_listener_says() {
        let health = Health::new();
        let state = State { registry: Registry::new(1), health: health.clone(), reload: Box::new(|| Ok(Vec::new())) };
        let listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        let settings = admin::Settings { listen, ..admin::Settings::default() };
        let handle = admin::spawn(&settings, Arc::new(state)).unwrap().unwrap();
        let address = handle.address.to_string();
        let (status, content) = ask(&address).unwrap();
        assert!(status == 503 && content.contains("\"status\":\"starting\"}"), "{content}");
        assert_eq!(super::health(&address), ExitCode::FAILURE);
        health.set_applied();
        assert_eq!(ask(&format!("0.0.0.0:{}", handle.address.port())).unwrap().0, 200);
        assert_eq!(super::health(&address), ExitCode::SUCCESS);
        handle.stop();
        assert_eq!(super::health(&address), ExitCode::FAILURE);
    }

    #[test]
    fn a_listener_that_says_nothing_sensible_is_not_ready() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let other = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 512]);
            stream.write_all(b"220 mail.test\r\n").unwrap();
        });
        assert_eq!(ask(&address).unwrap_err().to_string(), "this is not an admin listener");
        other.join().unwrap();
    }

    #[test]
    fn a_listener_that_says_nothing_at_all_is_given_up() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        assert_eq!(ask(&address).unwrap_err().to_string(), "no answer within 2 s");
    }
}
