//! A WebSocket that says everything back (RFC 6455).
//!
//! 1. The opening handshake is judged whole before the connection is given up (§4.2.1).
//! 2. A client masks every frame; one that does not is closed with 1002 (§5.1).
//! 3. Fragments are put together; a message has at most [`LARGEST`] bytes, more is closed with 1009.
//! 4. Control frames may come between fragments, are whole and have at most 125 bytes (§5.5).
//! 5. Text is UTF-8, or closed with 1007 (§8.1). A client that says nothing for five minutes is left.
//!
//! # Why
//! The echo is all that is needed to see WebSockets pass through sidegate; a crate for it would outweigh the app.

use std::io;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONNECTION, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderMap, HeaderName};
use sha1::{Digest, Sha1};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes of the largest message.
pub const LARGEST: usize = 64 * 1024;

/// How long a client may say nothing.
const SILENCE: Duration = Duration::from_secs(300);

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

const PROTOCOL_ERROR: u16 = 1002;
const NOT_UTF8: u16 = 1007;
const TOO_BIG: u16 = 1009;

/// What the opening handshake asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Handshake {
    /// A WebSocket; carries the `Sec-WebSocket-Accept` value.
    Accept(String),
    /// Nothing, or another version: 426 with what we speak (§4.4).
    UpgradeRequired,
    /// It is malformed: 400.
    Malformed(&'static str),
}

/// Judges the opening handshake of a GET request (§4.2.1).
pub fn handshake(fields: &HeaderMap) -> Handshake {
    if !names(fields, &UPGRADE, "websocket") || !names(fields, &CONNECTION, "upgrade") {
        return Handshake::UpgradeRequired;
    }
    if fields.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Handshake::UpgradeRequired;
    }
    let Some(key) = fields.get(SEC_WEBSOCKET_KEY) else {
        return Handshake::Malformed("Sec-WebSocket-Key is missing");
    };
    if STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16) {
        Handshake::Accept(accept(key.as_bytes()))
    } else {
        Handshake::Malformed("Sec-WebSocket-Key is not 16 bytes in base64")
    }
}

/// `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key` (§4.2.2).
fn accept(key: &[u8]) -> String {
    let digest = Sha1::new().chain_update(key).chain_update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize();
    STANDARD.encode(digest)
}

/// Whether a list field has this member, in any case.
fn names(fields: &HeaderMap, field: &HeaderName, member: &str) -> bool {
    let lines = fields.get_all(field).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|one| one.trim().eq_ignore_ascii_case(member))
}

/// Why a conversation ended.
enum Ending {
    /// The connection failed, or closed without a word.
    Lost,
    /// We close it, with this status code (§7.4); `None`: without one.
    Close(Option<u16>),
}

impl From<io::Error> for Ending {
    fn from(_: io::Error) -> Self {
        Self::Lost
    }
}

struct Frame {
    last: bool,
    opcode: u8,
    payload: Vec<u8>,
}

/// Says back what comes until either side closes.
pub async fn echo(mut io: impl AsyncRead + AsyncWrite + Unpin) {
    if let Err(Ending::Close(code)) = converse(&mut io).await {
        let reason = code.map(u16::to_be_bytes);
        let farewell = frame(CLOSE, reason.as_ref().map_or(&[], |code| &code[..]));
        if io.write_all(&farewell).await.is_ok() {
            // Nothing depends on whether the end of the connection arrives.
            io.shutdown().await.ok();
        }
    }
}

async fn converse(io: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Result<(), Ending> {
    // The message in the making: its kind, and what has come of it.
    let mut message: Option<(u8, Vec<u8>)> = None;
    loop {
        let room = LARGEST - message.as_ref().map_or(0, |(_, begun)| begun.len());
        let next = tokio::time::timeout(SILENCE, read_frame(io, room)).await;
        let Frame { last, opcode, payload } = next.map_err(|_| Ending::Lost)??;
        let (kind, whole) = match (opcode, message.take()) {
            (PING, begun) => {
                message = begun;
                io.write_all(&frame(PONG, &payload)).await?;
                continue;
            }
            (PONG, begun) => {
                message = begun;
                continue;
            }
            (CLOSE, _) => return Err(Ending::Close(farewell(&payload))),
            (TEXT | BINARY, None) => (opcode, payload),
            (CONTINUATION, Some((kind, mut begun))) => {
                begun.extend_from_slice(&payload);
                (kind, begun)
            }
            _ => return Err(Ending::Close(Some(PROTOCOL_ERROR))),
        };
        if !last {
            message = Some((kind, whole));
            continue;
        }
        if kind == TEXT && std::str::from_utf8(&whole).is_err() {
            return Err(Ending::Close(Some(NOT_UTF8)));
        }
        io.write_all(&frame(kind, &whole)).await?;
    }
}

/// The code to close with in answer to a Close frame: the client's own, if it may be sent (§7.4).
fn farewell(payload: &[u8]) -> Option<u16> {
    match payload {
        [] => None,
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            let known = matches!(code, 1000..=1003 | 1007..=1011 | 3000..=4999);
            Some(if known && std::str::from_utf8(reason).is_ok() { code } else { PROTOCOL_ERROR })
        }
        _ => Some(PROTOCOL_ERROR),
    }
}

/// Reads one frame of a client (§5.2), of at most `room` bytes if it carries a message.
async fn read_frame(io: &mut (impl AsyncRead + Unpin), room: usize) -> Result<Frame, Ending> {
    let [first, second] = read(io).await?;
    let (last, reserved, opcode) = (first & 0x80 != 0, first & 0x70, first & 0x0F);
    let (masked, short) = (second & 0x80 != 0, second & 0x7F);
    let control = opcode >= CLOSE;
    let known = matches!(opcode, CONTINUATION | TEXT | BINARY | CLOSE | PING | PONG);
    if !known || reserved != 0 || !masked || (control && (!last || short > 125)) {
        return Err(Ending::Close(Some(PROTOCOL_ERROR)));
    }
    let length = match short {
        126 => u64::from(u16::from_be_bytes(read(io).await?)),
        127 => u64::from_be_bytes(read(io).await?),
        short => u64::from(short),
    };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if !control && length > room {
        return Err(Ending::Close(Some(TOO_BIG)));
    }
    let mask: [u8; 4] = read(io).await?;
    let mut payload = vec![0; length];
    io.read_exact(&mut payload).await?;
    for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    Ok(Frame { last, opcode, payload })
}

async fn read<const N: usize>(io: &mut (impl AsyncRead + Unpin)) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    io.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// One whole frame of a server: not masked (§5.1).
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(payload.len() + 10);
    bytes.push(0x80 | opcode);
    match payload.len() {
        short @ 0..=125 => bytes.push(short as u8),
        middle @ 126..=0xFFFF => {
            bytes.push(126);
            bytes.extend_from_slice(&(middle as u16).to_be_bytes());
        }
        long => {
            bytes.push(127);
            bytes.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(payload);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame as a client sends it: masked.
    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = frame(0, payload);
        bytes[0] = first;
        bytes[1] |= 0x80;
        let start = bytes.len() - payload.len();
        let mask = [7, 21, 0, 99];
        for (byte, mask) in bytes[start..].iter_mut().zip(mask.iter().cycle()) {
            *byte ^= mask;
        }
        bytes.splice(start..start, mask);
        bytes
    }

    async fn answers_to(frames: &[Vec<u8>]) -> Vec<u8> {
        let (mut client, server) = tokio::io::duplex(256 * 1024);
        client.write_all(&frames.concat()).await.unwrap();
        client.shutdown().await.unwrap();
        echo(server).await;
        let mut said = Vec::new();
        client.read_to_end(&mut said).await.unwrap();
        said
    }

    #[test]
    fn the_accept_value_is_that_of_the_rfc() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_handshake_without_version_13_or_a_sound_key_is_refused() {
        let mut fields = HeaderMap::new();
        assert_eq!(handshake(&fields), Handshake::UpgradeRequired);
        fields.insert(UPGRADE, "WebSocket".parse().unwrap());
        fields.insert(CONNECTION, "keep-alive, Upgrade".parse().unwrap());
        assert_eq!(handshake(&fields), Handshake::UpgradeRequired);
        fields.insert(SEC_WEBSOCKET_VERSION, "13".parse().unwrap());
        assert!(matches!(handshake(&fields), Handshake::Malformed(_)));
        fields.insert(SEC_WEBSOCKET_KEY, "c2hvcnQ=".parse().unwrap());
        assert!(matches!(handshake(&fields), Handshake::Malformed(_)));
        fields.insert(SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==".parse().unwrap());
        assert!(matches!(handshake(&fields), Handshake::Accept(_)));
    }

    #[tokio::test]
    async fn fragments_come_back_as_one_message_and_a_ping_between_them_is_answered_first() {
        let frames =
            [masked(TEXT, b"Hel"), masked(0x80 | PING, b"?"), masked(0x80, b"lo"), masked(0x88, &[0x03, 0xE8])];
        let expected = [frame(PONG, b"?"), frame(TEXT, b"Hello"), frame(CLOSE, &[0x03, 0xE8])].concat();
        assert_eq!(answers_to(&frames).await, expected);
    }

    #[tokio::test]
    async fn the_largest_message_is_said_back_and_a_larger_one_is_closed_with_1009() {
        let largest = vec![b'x'; LARGEST];
        let said = answers_to(&[masked(0x80 | BINARY, &largest)]).await;
        assert_eq!(said, frame(BINARY, &largest));
        let said = answers_to(&[masked(0x80 | BINARY, &vec![b'x'; LARGEST + 1])]).await;
        assert_eq!(said, frame(CLOSE, &TOO_BIG.to_be_bytes()));
        let said = answers_to(&[masked(BINARY, &largest), masked(0x80, b"x")]).await;
        assert_eq!(said, frame(CLOSE, &TOO_BIG.to_be_bytes()));
    }

    #[tokio::test]
    async fn broken_frames_are_closed_with_1002_and_broken_text_with_1007() {
        let broken = frame(CLOSE, &PROTOCOL_ERROR.to_be_bytes());
        assert_eq!(answers_to(&[frame(TEXT, b"not masked")]).await, broken);
        assert_eq!(answers_to(&[masked(0xC1, b"reserved bit")]).await, broken);
        assert_eq!(answers_to(&[masked(0x83, b"unknown opcode")]).await, broken);
        assert_eq!(answers_to(&[masked(0x80, b"continues nothing")]).await, broken);
        assert_eq!(answers_to(&[masked(PING, b"fragmented control")]).await, broken);
        assert_eq!(answers_to(&[masked(0x88, &[0])]).await, broken);
        assert_eq!(answers_to(&[masked(0x81, &[0xFF])]).await, frame(CLOSE, &NOT_UTF8.to_be_bytes()));
        assert_eq!(answers_to(&[masked(0x88, b"")]).await, frame(CLOSE, b""));
    }
}
