//! The PROXY protocol header that a connection may begin with: whose connection it really is (HAProxy's
//! `proxy-protocol.txt`, versions 1 and 2).
//!
//! 1. Only a trusted proxy is believed. A peer that is none is refused as soon as it
//!    has begun a header; where one is required, such a
//!    peer is refused whatever it sends. On a Unix socket the peer is trusted if `"unix"` is among `trusted_proxies`.
//! 2. The header comes first, ahead of TLS and of HTTP, once, whole within the header time-out and `max_header_size`.
//! 3. Its source address takes the place of the peer address from then on: for the bound on connections per address, in
//!    the log, in X-Forwarded-For. Whether fields of the request are believed is decided by that address too: a header
//!    makes nobody's X-Forwarded-For trustworthy whose address is not among `trusted_proxies`.
//! 4. `LOCAL`, `UNKNOWN`, and families that are no TCP keep the address of the socket's other end.
//! 5. Type-length-values are skipped unread, within the bound of rule 2.
//! 6. What breaks the grammar, comes late, is missing, or comes from a stranger is closed without an answer and counted.
//!
//! # Why
//! The decoder is ours because what follows the header must not be touched, and because the crate that encodes is lenient
//! where two readers could differ: it takes `+80` for a port, any byte after `PROXY`, `UNKNOWNX`, and a first version of any
//! length that comes at once; and it refuses a LOCAL of an unknown family, which the protocol says to accept.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::BytesMut;
use ipnet::IpNet;
use tokio::io::AsyncReadExt;

use super::transport::Transport;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const WORD: &[u8; 6] = b"PROXY ";
/// Bytes of a first-version header with its CR LF, at most.
const LONGEST_LINE: usize = 107;
/// Bytes of a second-version header that always come.
const FIXED: usize = 16;
/// How many bytes are looked at at once.
const LOOK: usize = 512;

/// `server.proxy_protocol`, and whom it is believed from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Whether headers are looked for.
    pub mode: Mode,
    /// Networks of trusted proxies.
    pub trusted: Vec<IpNet>,
    /// Peers on Unix sockets are trusted.
    pub trust_unix: bool,
}

/// Whether connections begin with a header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// They do not; what looks like one is read as a request, and refused as that.
    #[default]
    Off,
    /// Those of trusted proxies may.
    Optional,
    /// All do.
    Required,
}

/// Why a connection is closed before its first request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The peer is no trusted proxy.
    Untrusted,
    /// There is no header, or the connection ended before its end.
    Missing,
    /// The header breaks the grammar or the bound.
    Malformed,
    /// The header did not come in time.
    Late,
}

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// All of them may belong to a header; more must come.
    Partly,
    /// No header.
    Absent,
    /// A header of so many bytes, and whom it names. Bytes that say nothing more may still have to come.
    Header(usize, Option<SocketAddr>),
    /// What can only be a header, and is none.
    Malformed,
}

impl Settings {
    fn trusts(&self, peer: Option<IpAddr>) -> bool {
        peer.map_or(self.trust_unix, |peer| self.trusted.iter().any(|network| network.contains(&peer)))
    }
}

/// Reads the header of a connection, if it has one. The peer address from now on, and what was read of the request
/// behind it (nothing, on TCP with a header). Unbounded in time.
///
/// # Errors
/// [`Refused`]: close it.
pub async fn introduce(
    transport: &mut Transport,
    peer: Option<SocketAddr>,
    settings: &Settings,
    most: usize,
) -> Result<(Option<SocketAddr>, BytesMut), Refused> {
    let trusted = settings.trusts(peer.map(|peer| peer.ip().to_canonical()));
    if !trusted && settings.mode == Mode::Required {
        return Err(Refused::Untrusted);
    }
    let mut read = BytesMut::new();
    loop {
        let ahead = look_ahead(transport, &mut read).await.map_err(|_| Refused::Missing)?;
        // What is undecided is no longer than the longest line and one look.
        let seen = [&read, &*ahead].concat();
        if !trusted && (seen.starts_with(SIGNATURE) || seen.starts_with(WORD)) {
            return Err(Refused::Untrusted);
        }
        match find(&seen, most) {
            Found::Header(length, source) => {
                take(transport, &mut read, length).await.map_err(|_| Refused::Missing)?;
                let behind = read.split_off(length);
                return Ok((source.or(peer), behind));
            }
            Found::Absent if settings.mode == Mode::Required => return Err(Refused::Missing),
            Found::Absent => return Ok((peer, read)),
            Found::Malformed => return Err(Refused::Malformed),
            Found::Partly => {
                let known = read.len() + ahead.len();
                take(transport, &mut read, known).await.map_err(|_| Refused::Missing)?;
            }
        }
    }
}

/// Waits for bytes, and leaves them where they are: TLS, which may follow, wants them from the socket. On a Unix socket
/// there is no TLS, and they are read.
async fn look_ahead(transport: &mut Transport, read: &mut BytesMut) -> io::Result<Vec<u8>> {
    let mut ahead = Vec::new();
    let some = match transport {
        Transport::Tcp(socket) => {
            ahead.resize(LOOK, 0);
            let some = socket.peek(&mut ahead).await?;
            ahead.truncate(some);
            some
        }
        other => {
            read.reserve(LOOK);
            other.read_buf(read).await?
        }
    };
    if some == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(ahead) }
}

/// Takes from the socket what has been seen there, until `read` holds so many bytes.
async fn take(transport: &mut Transport, read: &mut BytesMut, length: usize) -> io::Result<()> {
    let before = read.len();
    if before < length {
        read.resize(length, 0);
        transport.read_exact(&mut read[before..]).await?;
    }
    Ok(())
}

/// What `bytes`, the first of a connection, are; a header has at most `most` bytes.
pub fn find(bytes: &[u8], most: usize) -> Found {
    let begins = |signature: &[u8]| {
        let known = bytes.len().min(signature.len());
        bytes[..known] == signature[..known]
    };
    let found = match () {
        () if bytes.is_empty() => return Found::Partly,
        () if begins(SIGNATURE) => second_version(bytes),
        () if begins(WORD) => first_version(bytes),
        () => return Found::Absent,
    };
    match found {
        Some(Found::Header(length, _)) if length > most => Found::Malformed,
        Some(found) => found,
        None => Found::Malformed,
    }
}

/// §2.1; `None` if it is malformed.
fn first_version(bytes: &[u8]) -> Option<Found> {
    let Some(end) = bytes.iter().take(LONGEST_LINE).position(|byte| !matches!(byte, b' '..=b'~')) else {
        return (bytes.len() < LONGEST_LINE).then_some(Found::Partly);
    };
    match &bytes[end..] {
        [b'\r'] => return (end + 1 < LONGEST_LINE).then_some(Found::Partly),
        [b'\r', b'\n', ..] if end + 2 <= LONGEST_LINE => {}
        _ => return None,
    }
    let line = std::str::from_utf8(&bytes[WORD.len()..end]).ok()?;
    let words: Vec<&str> = line.split(' ').collect();
    let source = match words[..] {
        ["UNKNOWN", ..] => None,
        ["TCP4", source, destination, from, to] => {
            let _: (Ipv4Addr, u16) = (destination.parse().ok()?, port(to)?);
            Some((source.parse::<Ipv4Addr>().ok()?, port(from)?).into())
        }
        ["TCP6", source, destination, from, to] => {
            let _: (Ipv6Addr, u16) = (destination.parse().ok()?, port(to)?);
            Some((source.parse::<Ipv6Addr>().ok()?, port(from)?).into())
        }
        _ => return None,
    };
    Some(Found::Header(end + 2, source))
}

/// Decimal digits without a sign and without zeros ahead.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

/// §2.2; `None` if it is malformed.
fn second_version(bytes: &[u8]) -> Option<Found> {
    let local = match bytes.get(SIGNATURE.len()) {
        None => return Some(Found::Partly),
        Some(0x20) => true,
        Some(0x21) => false,
        Some(_) => return None,
    };
    let Some((fixed, rest)) = bytes.split_at_checked(FIXED) else { return Some(Found::Partly) };
    let announced = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    let header = |source| Some(Found::Header(FIXED + announced, source));
    let addresses = match fixed[13] {
        _ if local => return header(None),
        0x11 => 4,
        0x21 => 16,
        // Not told, or not TCP over IP.
        0x00 | 0x12 | 0x22 | 0x31 | 0x32 => return header(None),
        _ => return None,
    };
    // Two addresses and two ports.
    let least = 2 * addresses + 4;
    if announced < least {
        return None;
    }
    let Some(block) = rest.get(..least) else { return Some(Found::Partly) };
    let source = match addresses {
        4 => IpAddr::from(<[u8; 4]>::try_from(&block[..4]).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(&block[..16]).ok()?),
    };
    let from = u16::from_be_bytes([block[2 * addresses], block[2 * addresses + 1]]);
    header(Some((source, from).into()))
}

#[cfg(test)]
mod tests;
