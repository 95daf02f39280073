//! One request to a running sidegate's admin listener, and its answer on a terminal.

use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;

use crate::clock;

/// How long an answer may take, all in all.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long work may take: as long as the admin listener gives it.
const LONG_PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of the answer that are read.
const LONGEST: usize = 4 << 20;

/// Asks the admin listener at `address` (`host:port`) for `request` (`METHOD TARGET`), with this content if there is any;
/// prints the answer as it is (`json`) or as it is `told`, and exits with 0; with 1 if there is none, or it is a refusal.
pub fn tell(address: &str, request: &str, content: Option<&str>, json: bool, told: fn(&Value) -> String) -> ExitCode {
    // The same variable that the configuration would name; never an argument, which others can see.
    let token = std::env::var("SIDEGATE_ADMIN_TOKEN").ok().map(SecretString::from);
    let answer = match content {
        None => ask(address, request, token.as_ref()),
        Some(content) => send(address, request, token.as_ref(), content, LONG_PATIENCE),
    };
    let (status, content) = match answer {
        Ok(answer) => answer,
        Err(error) => {
            eprintln!("error: sidegate at {address} does not answer: {error}");
            return ExitCode::FAILURE;
        }
    };
    let answer: Value = serde_json::from_str(&content).unwrap_or_default();
    match (status, json) {
        (200, true) => println!("{content}"),
        (200, false) => print!("{}", told(&answer)),
        (401, _) => {
            eprintln!("error: the admin listener wants its token: set SIDEGATE_ADMIN_TOKEN");
            return ExitCode::FAILURE;
        }
        _ => {
            eprintln!("error: {}", answer["error"].as_str().unwrap_or(&content));
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// The status and content of the answer of the admin listener at `address` (`host:port`) to `METHOD TARGET`.
///
/// # Errors
/// It does not answer within 2 s, or is none.
pub fn ask(address: &str, request: &str, token: Option<&SecretString>) -> io::Result<(u16, String)> {
    send(address, request, token, "", PATIENCE)
}

fn send(
    address: &str,
    request: &str,
    token: Option<&SecretString>,
    content: &str,
    patience: Duration,
) -> io::Result<(u16, String)> {
    let until = Deadline { at: clock::instant() + patience, patience };
    let mut stream = connect(address, until)?;
    let to = stream.peer_addr()?;
    stream.set_write_timeout(Some(until.left()?))?;
    let token = token.map_or_else(String::new, |token| format!("Authorization: Bearer {}\r\n", token.expose_secret()));
    let length = if content.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", content.len()) };
    let head = format!("{request} HTTP/1.1\r\nHost: {to}\r\n{token}{length}Connection: close\r\n\r\n");
    stream.write_all([head.as_bytes(), content.as_bytes()].concat().as_slice())?;
    let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
    while answer.len() < LONGEST {
        stream.set_read_timeout(Some(until.left()?))?;
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => answer.extend_from_slice(&piece[..read]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                return Err(until.missed());
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

/// Percent-encoded, all but letters and digits.
pub fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._".contains(&byte) {
            out.push(byte as char);
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

/// Tries each address of the name in turn.
fn connect(address: &str, until: Deadline) -> io::Result<TcpStream> {
    let mut failure = io::Error::new(io::ErrorKind::InvalidInput, "it has no address");
    for place in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&reachable(place), until.left()?) {
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

/// Until when all of it has to be over.
#[derive(Clone, Copy)]
struct Deadline {
    at: Instant,
    patience: Duration,
}

impl Deadline {
    fn left(self) -> io::Result<Duration> {
        let left = self.at.saturating_duration_since(clock::instant());
        if left.is_zero() { Err(self.missed()) } else { Ok(left) }
    }

    fn missed(self) -> io::Error {
        io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", self.patience.as_secs()))
    }
}
