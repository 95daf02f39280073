//! What h2spec (github.com/summerwind/h2spec) asks of a server, case by case, in the order of its groups.
//!
//! 1. A case is named as h2spec names it: group, section, number, and what is sent.
//! 2. What passes is what passes there: for an error of the connection, GOAWAY with the code or the end of the connection;
//!    for one of a stream, RST_STREAM with the code as well. But a GOAWAY with another code fails here.
//!
//! # Why
//! h2spec is a program of its own that cannot be had everywhere; frames as data can.

mod connection;
mod frames;
mod generic;
mod hpack;
mod messages;

use crate::harness::frames::{self as wire, *};
use crate::harness::{Configuration, Origin};

/// What is sent, and what must come.
struct Case {
    name: &'static str,
    steps: Vec<Step>,
}

enum Step {
    Send(Vec<u8>),
    See(See),
}

/// What must come; other frames before it do not count.
#[derive(Clone, Copy, Debug)]
enum See {
    /// GOAWAY with one of these codes, or the end of the connection.
    ConnectionError(&'static [u32]),
    /// The same, or RST_STREAM with one of these codes on some stream.
    StreamError(&'static [u32]),
    /// The head of an answer on this stream.
    Head(u32),
    /// DATA of this length.
    Data(usize),
    /// The end of the answer on this stream.
    EndOf(u32),
    /// SETTINGS acknowledged.
    SettingsAck,
    /// PING acknowledged with this text, and none with another.
    Pong(&'static [u8; 8]),
    /// The end of the connection.
    Closed,
    /// RST_STREAM with this code on this stream, and nothing else.
    Reset(u32, u32),
    /// GOAWAY with this code, and nothing else.
    GoAway(u32),
}

use Step::{See as Then, Send};

const PROTOCOL: &[u32] = &[PROTOCOL_ERROR];
const CLOSED: &[u32] = &[STREAM_CLOSED];
const SIZE: &[u32] = &[FRAME_SIZE_ERROR];
const COMPRESSION: &[u32] = &[COMPRESSION_ERROR];
const FLOW: &[u32] = &[FLOW_CONTROL_ERROR];

fn case(name: &'static str, steps: Vec<Step>) -> Case {
    Case { name, steps }
}

/// Frames that end the connection.
fn ends(name: &'static str, frames: &[Vec<u8>], codes: &'static [u32]) -> Case {
    case(name, vec![Send(frames.concat()), Then(See::ConnectionError(codes))])
}

/// Frames that end the stream, or the connection.
fn resets(name: &'static str, frames: &[Vec<u8>], codes: &'static [u32]) -> Case {
    case(name, vec![Send(frames.concat()), Then(See::StreamError(codes))])
}

/// Frames that are answered on stream 1.
fn is_answered(name: &'static str, frames: &[Vec<u8>]) -> Case {
    case(name, vec![Send(frames.concat()), Then(See::Head(1))])
}

/// Frames that do no harm: a PING after them is answered.
fn is_borne(name: &'static str, frames: &[Vec<u8>]) -> Case {
    case(name, vec![Send(frames.concat()), Send(ping(b"alive!!!")), Then(See::Pong(b"alive!!!"))])
}

/// Runs all cases against one sidegate, each over a connection of its own.
fn pass(cases: Vec<Case>) {
    let app = Origin::saying("some content of the app");
    let sidegate = Configuration::of(&app).server("max_streams = 10").start();
    let failed: Vec<_> = cases.iter().filter_map(|case| run(sidegate.address(), case).err()).collect();
    assert!(failed.is_empty(), "{} of {} failed:\n{}", failed.len(), cases.len(), failed.join("\n"));
    assert_eq!(sidegate.get("/").status, 200);
}

fn run(address: &str, case: &Case) -> Result<(), String> {
    let mut connection = Frames::to(address);
    for step in &case.steps {
        match step {
            Send(bytes) => drop(connection.send(bytes)),
            Then(see) => {
                see.wait(&mut connection).map_err(|came| format!("{}: {see:?} wanted, {came} came", case.name))?;
            }
        }
    }
    Ok(())
}

impl See {
    fn wait(self, connection: &mut Frames) -> Result<(), String> {
        loop {
            let Some(frame) = connection.next() else {
                let ended = matches!(self, Self::ConnectionError(_) | Self::StreamError(_) | Self::Closed);
                return if ended { Ok(()) } else { Err("the end of the connection".into()) };
            };
            let came = format!("{frame:?}");
            match (self, frame.kind) {
                (Self::Closed, _) => {}
                (Self::ConnectionError(codes) | Self::StreamError(codes), wire::GOAWAY) => {
                    return if codes.contains(&frame.code()) { Ok(()) } else { Err(came) };
                }
                (Self::StreamError(codes), RST_STREAM) if codes.contains(&frame.code()) => return Ok(()),
                (Self::Reset(stream, code), RST_STREAM) if frame.stream == stream && frame.code() == code => {
                    return Ok(());
                }
                (Self::GoAway(code), wire::GOAWAY) if frame.code() == code => return Ok(()),
                (_, RST_STREAM | wire::GOAWAY) if frame.code() != NO_ERROR => return Err(came),
                (Self::Head(stream), HEADERS) if frame.stream == stream => return Ok(()),
                (Self::Data(length), DATA) => {
                    return if frame.payload.len() == length { Ok(()) } else { Err(came) };
                }
                (Self::EndOf(stream), HEADERS | DATA) if frame.stream == stream && frame.has(END_STREAM) => {
                    return Ok(());
                }
                (Self::SettingsAck, SETTINGS) if frame.has(ACK) => return Ok(()),
                (Self::Pong(text), PING) => {
                    return if frame.has(ACK) && frame.payload == text { Ok(()) } else { Err(came) };
                }
                _ => {}
            }
        }
    }
}
