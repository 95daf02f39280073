//! Follows the frames of an HTTP/2 connection, as they come, ahead of h2. Pure.
//!
//! 1. The first frame after the preface is SETTINGS (RFC 9113 §3.4); no frame is longer than [`LONGEST_FRAME`] (§4.2).
//! 2. A frame has the length its type asks for: else FRAME_SIZE_ERROR (§6). It belongs to a stream, or to none, as its type
//!    says: else PROTOCOL_ERROR.
//! 3. Nothing stands between HEADERS and its CONTINUATIONs (§6.10).
//! 4. Content and fields after the end of a stream are STREAM_CLOSED, frames of a stream that never began PROTOCOL_ERROR (§5.1).
//! 5. A client neither pushes (§8.4), nor gives its streams even numbers or goes back in them (§5.1.1).
//! 6. An initial window beyond 2^31-1 is FLOW_CONTROL_ERROR (§6.5.2).
//! 7. Blocks of fields are looked over, without their padding (`fields`). A stream does not depend on itself: h2 would skip
//!    its fields, and take all later ones for what they are not.
//! 8. Frames that bring neither request nor content are counted ([`Budget`]).
//!
//! Every offence ends the connection: RFC 9113 §5.4.1 allows that for what it calls an error of a stream too.
//!
//! # Why
//! h2 knows most of this, yet names it PROTOCOL_ERROR throughout, and does not count frames. Nine bytes of each frame, with
//! its settings and fields, say all that is needed. What is inside (values, windows, lengths) stays h2's to judge.

use std::rc::Rc;

use h2::Reason;

use super::abuse::{Abuse, Bounds, Budget};
use super::fields::Fields;

/// Bytes of the client's connection preface (RFC 9113 §3.4).
const PREFACE: usize = 24;
/// Bytes of a frame's payload: what every peer must take, and all that we announce (§4.2).
pub const LONGEST_FRAME: usize = 16_384;
/// How many streams, of those that ended last, are told from those that never were.
const REMEMBERED: usize = 32;

const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offence {
    /// The code for GOAWAY (RFC 9113 §7).
    pub code: Reason,
    /// What was overdone, where that is the reason.
    pub abuse: Option<Abuse>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Data,
    Headers,
    Priority,
    Reset,
    Settings,
    Push,
    Ping,
    GoAway,
    WindowUpdate,
    Continuation,
    Unknown,
}

/// Follows one connection.
pub struct Frames {
    budget: Rc<Budget>,
    bounds: Bounds,
    /// Bytes of the preface still to come.
    preface: usize,
    begun: bool,
    /// The head of a frame, as far as it has come.
    head: [u8; 9],
    have: usize,
    /// Of the frame under way: type, bytes still to come.
    kind: Kind,
    left: usize,
    /// One setting, as far as it has come.
    setting: [u8; 6],
    /// Of HEADERS, what stands before the fields, as far as it has come; how long that is, and the padding at the end.
    lead: [u8; 6],
    lead_have: usize,
    lead_length: usize,
    padding: usize,
    fields: Fields,
    /// The stream whose fields are still to be continued.
    block: Option<u32>,
    /// The last stream that began.
    highest: u32,
    /// Streams that will still bring content, oldest first; of those up to `forgotten` nothing is known.
    open: Vec<u32>,
    most_open: usize,
    forgotten: u32,
    ended: [u32; REMEMBERED],
    next_ended: usize,
}

impl Frames {
    /// Of a connection that has sent nothing yet. `streams`: how many it may have at once.
    pub fn new(bounds: Bounds, streams: u32, budget: Rc<Budget>) -> Self {
        Self {
            budget,
            bounds,
            preface: PREFACE,
            begun: false,
            head: [0; 9],
            have: 0,
            kind: Kind::Unknown,
            left: 0,
            setting: [0; 6],
            lead: [0; 6],
            lead_have: 0,
            lead_length: 0,
            padding: 0,
            fields: Fields::new(),
            block: None,
            highest: 0,
            open: Vec::new(),
            // Those that we have reset may still bring something.
            most_open: 2 * streams as usize + 16,
            forgotten: 0,
            ended: [0; REMEMBERED],
            next_ended: 0,
        }
    }

    /// Whether the rest of a head, or the client's first SETTINGS, is waited for.
    pub fn awaits_head(&self) -> bool {
        let within = self.left > 0 && matches!(self.kind, Kind::Headers | Kind::Continuation);
        !self.begun || self.have > 0 || self.block.is_some() || within
    }

    /// Judges the next bytes of the connection.
    ///
    /// # Errors
    /// How many of `bytes` stand before the offending frame, and why the connection is to end.
    pub fn follow(&mut self, bytes: &[u8]) -> Result<(), (usize, Offence)> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            if self.preface > 0 {
                let step = self.preface.min(rest.len());
                self.preface -= step;
                at += step;
            } else if self.left > 0 {
                let step = self.left.min(rest.len());
                let here = &rest[..step];
                match self.kind {
                    Kind::Settings => self.settings(here),
                    Kind::Headers | Kind::Continuation => self.look_over(here),
                    _ => Ok(()),
                }
                .map_err(|offence| (at, offence))?;
                self.left -= step;
                at += step;
            } else {
                let step = (self.head.len() - self.have).min(rest.len());
                self.head[self.have..self.have + step].copy_from_slice(&rest[..step]);
                self.have += step;
                if self.have == self.head.len() {
                    self.have = 0;
                    self.begin().map_err(|offence| (at, offence))?;
                }
                at += step;
            }
        }
        Ok(())
    }

    /// Judges the head of a frame.
    fn begin(&mut self) -> Result<(), Offence> {
        let [length @ .., kind, flags, a, b, c, d] = self.head;
        let length = u32::from_be_bytes([0, length[0], length[1], length[2]]) as usize;
        let stream = u32::from_be_bytes([a & 0x7f, b, c, d]);
        self.kind = kind_of(kind);
        self.left = length;
        if length > LONGEST_FRAME {
            return error(Reason::FRAME_SIZE_ERROR);
        }
        if !self.begun && (self.kind != Kind::Settings || flags & ACK != 0) {
            return error(Reason::PROTOCOL_ERROR);
        }
        self.begun = true;
        if self.block.is_some_and(|block| self.kind != Kind::Continuation || block != stream) {
            return error(Reason::PROTOCOL_ERROR);
        }
        match self.kind {
            Kind::Data => self.data(length, flags, stream),
            Kind::Headers => self.headers(length, flags, stream),
            Kind::Continuation => self.continuation(length, flags),
            Kind::Push => error(Reason::PROTOCOL_ERROR),
            Kind::Priority => {
                sized(length == 5).and(belongs(stream != 0))?;
                self.count(Abuse::Priority)
            }
            Kind::Reset => {
                sized(length == 4).and(belongs(self.has_begun(stream)))?;
                self.end(stream);
                self.count(Abuse::Reset)
            }
            Kind::WindowUpdate => {
                sized(length == 4).and(belongs(stream == 0 || self.has_begun(stream)))?;
                self.count(Abuse::WindowUpdate)
            }
            Kind::Settings => {
                let whole = if flags & ACK == 0 { length.is_multiple_of(6) } else { length == 0 };
                belongs(stream == 0).and(sized(whole))?;
                self.count(Abuse::Settings)
            }
            Kind::Ping => {
                belongs(stream == 0).and(sized(length == 8))?;
                self.count(Abuse::Ping)
            }
            Kind::GoAway => {
                belongs(stream == 0).and(sized(length >= 8))?;
                self.count(Abuse::Other)
            }
            Kind::Unknown => self.count(Abuse::Other),
        }
    }

    fn data(&mut self, length: usize, flags: u8, stream: u32) -> Result<(), Offence> {
        belongs(self.has_begun(stream))?;
        sized(length > 0 || flags & PADDED == 0)?;
        if !self.open.contains(&stream) && stream > self.forgotten {
            return error(Reason::STREAM_CLOSED);
        }
        if flags & END_STREAM != 0 {
            self.end(stream);
            return Ok(());
        }
        if length == 0 { self.count(Abuse::Empty) } else { Ok(()) }
    }

    fn headers(&mut self, length: usize, flags: u8, stream: u32) -> Result<(), Offence> {
        belongs(stream % 2 == 1)?;
        let least = before_fields(flags);
        sized(length >= least)?;
        let last = flags & END_STREAM != 0;
        (self.lead_have, self.lead_length, self.padding) = (0, least, 0);
        self.fields.begin(stream <= self.highest, flags & END_HEADERS == 0);
        if stream > self.highest {
            self.highest = stream;
            if last { self.remember(stream) } else { self.opened(stream) }
        } else if self.open.contains(&stream) {
            if last {
                self.end(stream);
            }
        } else if stream > self.forgotten {
            let ended = self.ended.contains(&stream);
            return error(if ended { Reason::STREAM_CLOSED } else { Reason::PROTOCOL_ERROR });
        }
        if flags & END_HEADERS == 0 {
            self.block = Some(stream);
            if length == least {
                return self.count(Abuse::Empty);
            }
        }
        Ok(())
    }

    fn continuation(&mut self, length: usize, flags: u8) -> Result<(), Offence> {
        belongs(self.block.is_some())?;
        (self.lead_have, self.lead_length, self.padding) = (0, 0, 0);
        if flags & END_HEADERS != 0 {
            self.block = None;
            return if length == 0 { self.fields.end().or_else(error) } else { Ok(()) };
        }
        self.count(if length == 0 { Abuse::Empty } else { Abuse::Continuation })
    }

    /// Looks at settings, whose six bytes may come in pieces.
    fn settings(&mut self, bytes: &[u8]) -> Result<(), Offence> {
        for (byte, left) in bytes.iter().zip((0..=self.left).rev()) {
            let place = (6 - left % 6) % 6;
            self.setting[place] = *byte;
            if place == 5 && self.setting[..2] == [0, 4] && self.setting[2] > 0x7f {
                return error(Reason::FLOW_CONTROL_ERROR);
            }
        }
        Ok(())
    }

    /// Looks over the fields of a frame.
    fn look_over(&mut self, bytes: &[u8]) -> Result<(), Offence> {
        let (lead, rest) = bytes.split_at((self.lead_length - self.lead_have).min(bytes.len()));
        let left = self.left - lead.len();
        if !lead.is_empty() {
            self.lead[self.lead_have..self.lead_have + lead.len()].copy_from_slice(lead);
            self.lead_have += lead.len();
            if self.lead_have < self.lead_length {
                return Ok(());
            }
            self.judge_lead(left)?;
        }
        let fields = rest.len().min(left.saturating_sub(self.padding));
        self.fields.look_over(&rest[..fields]).or_else(error)?;
        let whole = left == rest.len() && self.block.is_none();
        if whole { self.fields.end().or_else(error) } else { Ok(()) }
    }

    /// Judges what stands before the fields of HEADERS; there are `left` bytes after it.
    fn judge_lead(&mut self, left: usize) -> Result<(), Offence> {
        let [_, _, _, _, flags, stream @ ..] = self.head;
        let mut lead = &self.lead[..self.lead_length];
        if flags & PADDED != 0 {
            self.padding = usize::from(lead[0]);
            lead = &lead[1..];
        }
        belongs(self.padding <= left)?;
        let [depends_on @ .., _] = lead else { return Ok(()) };
        let itself = depends_on[0] & 0x7f == stream[0] & 0x7f && depends_on[1..] == stream[1..];
        belongs(!itself)
    }

    fn has_begun(&self, stream: u32) -> bool {
        stream % 2 == 1 && stream <= self.highest
    }

    fn opened(&mut self, stream: u32) {
        if self.open.len() == self.most_open {
            self.forgotten = self.forgotten.max(self.open.remove(0));
        }
        self.open.push(stream);
    }

    fn end(&mut self, stream: u32) {
        if let Some(place) = self.open.iter().position(|open| *open == stream) {
            self.open.remove(place);
            self.remember(stream);
        }
    }

    fn remember(&mut self, stream: u32) {
        self.ended[self.next_ended] = stream;
        self.next_ended = (self.next_ended + 1) % REMEMBERED;
    }

    fn count(&self, kind: Abuse) -> Result<(), Offence> {
        if self.budget.spend(kind, &self.bounds) {
            return Ok(());
        }
        Err(Offence { code: Reason::ENHANCE_YOUR_CALM, abuse: Some(kind) })
    }
}

/// Bytes of a HEADERS frame that stand before its fields (RFC 9113 §6.2).
fn before_fields(flags: u8) -> usize {
    usize::from(flags & PADDED != 0) + if flags & PRIORITY == 0 { 0 } else { 5 }
}

fn kind_of(kind: u8) -> Kind {
    match kind {
        0 => Kind::Data,
        1 => Kind::Headers,
        2 => Kind::Priority,
        3 => Kind::Reset,
        4 => Kind::Settings,
        5 => Kind::Push,
        6 => Kind::Ping,
        7 => Kind::GoAway,
        8 => Kind::WindowUpdate,
        9 => Kind::Continuation,
        _ => Kind::Unknown,
    }
}

fn error(code: Reason) -> Result<(), Offence> {
    Err(Offence { code, abuse: None })
}

fn sized(right: bool) -> Result<(), Offence> {
    if right { Ok(()) } else { error(Reason::FRAME_SIZE_ERROR) }
}

fn belongs(right: bool) -> Result<(), Offence> {
    if right { Ok(()) } else { error(Reason::PROTOCOL_ERROR) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADERS: u8 = 1;
    const FIELDS: &[u8] = b"\x00\x01x\x01y";
    /// A field of the static table.
    const MORE: &[u8] = b"\x90";

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    fn connection(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(4, 0, 0, &[]));
        bytes.extend(frames.concat());
        bytes
    }

    fn frames() -> Frames {
        let bounds = Bounds { max_control_frames: 4, ..Bounds::default() };
        Frames::new(bounds, 4, Rc::default())
    }

    /// The code, whether the bytes come at once or one by one; and that what stands before is told rightly.
    fn code(sent: &[Vec<u8>]) -> Option<Reason> {
        let bytes = connection(sent);
        let at_once = frames().follow(&bytes);
        let mut by_one = frames();
        let split = bytes.iter().find_map(|byte| by_one.follow(&[*byte]).err());
        assert_eq!(at_once.map_err(|(_, offence)| offence).err(), split.map(|(_, offence)| offence), "{sent:?}");
        if let Err((sound, _)) = at_once {
            assert_eq!(frames().follow(&bytes[..sound]), Ok(()), "{sent:?}");
        }
        at_once.err().map(|(_, offence)| offence.code)
    }

    #[test]
    fn sound_frames_pass_and_others_have_their_code() {
        let get = frame(HEADERS, END_STREAM | END_HEADERS, 1, FIELDS);
        let post = frame(HEADERS, END_HEADERS, 1, FIELDS);
        let size = Some(Reason::FRAME_SIZE_ERROR);
        let protocol = Some(Reason::PROTOCOL_ERROR);
        let closed = Some(Reason::STREAM_CLOSED);
        let calm = Some(Reason::ENHANCE_YOUR_CALM);
        let cases = [
            (vec![get.clone()], None),
            (
                vec![get.clone(), frame(HEADERS, 5, 3, FIELDS), frame(2, 0, 1, &[0; 5]), frame(8, 0, 1, &[0, 0, 0, 1])],
                None,
            ),
            (vec![post.clone(), frame(0, 0, 1, b"ab"), frame(0, 1, 1, b"")], None),
            (vec![post.clone(), frame(0, 0, 1, b"ab"), frame(HEADERS, 5, 1, FIELDS)], None),
            (vec![frame(HEADERS, 1, 1, FIELDS), frame(9, 0, 1, MORE), frame(9, 4, 1, MORE)], None),
            (vec![frame(4, 0, 0, &[0, 4, 0x7f, 255, 255, 255, 0, 3, 0, 0, 0, 1])], None),
            (vec![frame(200, 0xff, 9, b"what"), frame(6, 0, 0, &[0; 8])], None),
            (vec![frame(4, 0, 0, &[0, 3, 0, 0, 0, 1, 0, 4, 0x80, 0, 0, 0])], Some(Reason::FLOW_CONTROL_ERROR)),
            (vec![frame(4, 0, 0, &[0; 5])], size),
            (vec![frame(4, ACK, 0, &[0; 6])], size),
            (vec![frame(4, 0, 1, &[])], protocol),
            (vec![frame(6, 0, 0, &[0; 7])], size),
            (vec![frame(6, 0, 1, &[0; 8])], protocol),
            (vec![frame(7, 0, 0, &[0; 7])], size),
            (vec![frame(7, 0, 1, &[0; 8])], protocol),
            (vec![frame(8, 0, 0, &[0; 3])], size),
            (vec![frame(8, 0, 1, &[0; 4])], protocol),
            (vec![frame(2, 0, 0, &[0; 5])], protocol),
            (vec![frame(2, 0, 1, &[0; 4])], size),
            (vec![get.clone(), frame(3, 0, 1, &[0; 3])], size),
            (vec![frame(3, 0, 1, &[0; 4])], protocol),
            (vec![frame(3, 0, 0, &[0; 4])], protocol),
            (vec![frame(5, 4, 1, &[0; 8])], protocol),
            (vec![frame(0, 1, 0, b"x")], protocol),
            (vec![frame(0, 1, 1, b"x")], protocol),
            (vec![post.clone(), frame(0, PADDED, 1, b"")], size),
            (vec![get.clone(), frame(0, 1, 1, b"x")], closed),
            (vec![post.clone(), frame(0, 1, 1, b"x"), frame(0, 1, 1, b"x")], closed),
            (vec![post.clone(), frame(3, 0, 1, &[0; 4]), frame(0, 1, 1, b"x")], closed),
            (vec![get.clone(), get.clone()], closed),
            (vec![post.clone(), frame(3, 0, 1, &[0; 4]), get.clone()], closed),
            (vec![frame(HEADERS, 5, 5, FIELDS), frame(HEADERS, 5, 3, FIELDS)], protocol),
            (vec![frame(HEADERS, 5, 2, FIELDS)], protocol),
            (vec![frame(HEADERS, 5, 0, FIELDS)], protocol),
            (vec![frame(HEADERS, 5 | PRIORITY, 1, b"x")], size),
            (vec![frame(9, 4, 1, b"x")], protocol),
            (vec![frame(HEADERS, 1, 1, FIELDS), frame(9, 4, 3, b"x")], protocol),
            (vec![frame(HEADERS, 1, 1, FIELDS), frame(200, 0, 0, b"")], protocol),
            (vec![frame(0, 0, 1, &[0; LONGEST_FRAME + 1])], size),
            (vec![frame(6, 0, 0, &[0; 8]); 4], None),
            (vec![frame(6, 0, 0, &[0; 8]); 5], calm),
            (vec![frame(2, 0, 7, &[0; 5]); 5], calm),
            (vec![frame(99, 0, 7, &[0; 5]); 5], calm),
            (vec![post, vec![frame(0, 0, 1, b""); 5].concat()], calm),
            (vec![frame(HEADERS, 1, 1, FIELDS), vec![frame(9, 0, 1, MORE); 5].concat()], calm),
        ];
        for (sent, expected) in cases {
            assert_eq!(code(&sent), expected, "{sent:?}");
        }
    }

    #[test]
    fn fields_are_looked_over_without_what_stands_around_them() {
        let compression = Some(Reason::COMPRESSION_ERROR);
        let protocol = Some(Reason::PROTOCOL_ERROR);
        for (flags, payload, expected) in [
            (0, &b"\x80"[..], compression),
            (0, b"\x82\x00", compression),
            (PADDED, b"\x01\x82\x80", None),
            (PADDED, b"\x02\x82\x00\x00", None),
            (PADDED, b"\x01\x00\x80", compression),
            (PADDED, b"\x02\x80\x80", None),
            (PADDED, b"\x03\x80\x80", protocol),
            (PRIORITY, b"\0\0\0\0\0\x82", None),
            (PRIORITY, b"\0\0\0\x03\0\x82", None),
            (PRIORITY, b"\0\0\0\x01\0\x82", protocol),
            (PRIORITY, b"\x80\0\0\x01\0\x82", protocol),
            (PADDED | PRIORITY, b"\x01\0\0\0\0\0\x80\0", compression),
            (PADDED | PRIORITY, b"\x01\x80\0\0\x01\0\x82\0", protocol),
        ] {
            let sent = [frame(HEADERS, flags | END_HEADERS | END_STREAM, 1, payload)];
            assert_eq!(code(&sent), expected, "{flags:x} {payload:x?}");
        }
    }

    #[test]
    fn blocks_in_several_frames_are_looked_over() {
        let compression = Some(Reason::COMPRESSION_ERROR);
        let protocol = Some(Reason::PROTOCOL_ERROR);
        let post = frame(HEADERS, END_HEADERS, 1, FIELDS);
        let last = |payload: &[u8]| frame(9, END_HEADERS, 1, payload);
        for (sent, expected) in [
            (vec![frame(HEADERS, 1, 1, b"\x00\x01"), last(b"x\x01y")], None),
            (vec![frame(HEADERS, 1, 1, b"\x00\x01"), last(b"x\x01")], compression),
            (vec![frame(HEADERS, 1, 1, b"\x00\x01"), last(b"")], compression),
            (vec![frame(HEADERS, 1, 1, b""), last(b"\x82")], None),
            (vec![frame(HEADERS, 1 | PADDED, 1, b"\x02\x82\0\0"), last(b"\xbe")], compression),
            (vec![frame(HEADERS, 1 | PADDED, 1, b"\x02\x00\0\0"), last(b"\x01x\x01y")], None),
            (vec![frame(HEADERS, 1, 1, b"\x04\x03"), last(b"/#a")], protocol),
            (vec![post.clone(), frame(HEADERS, 1, 1, FIELDS), last(b"\x82")], protocol),
            // The field that h2 would forget.
            (vec![frame(HEADERS, 1, 1, b"\x82\x00\x0aconnection\x01x\x00\x01"), last(b"x\x01y")], protocol),
        ] {
            assert_eq!(code(&sent), expected, "{sent:x?}");
        }
    }

    #[test]
    fn the_first_frame_is_settings() {
        for first in [frame(6, 0, 0, &[0; 8]), frame(4, ACK, 0, &[])] {
            let bytes = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), first].concat();
            assert!(frames().follow(&bytes).is_err_and(|(_, offence)| offence.code == Reason::PROTOCOL_ERROR));
        }
    }

    #[test]
    fn streams_that_stay_open_are_forgotten_within_a_bound() {
        let streams: Vec<_> = (0..1000).map(|number| frame(HEADERS, END_HEADERS, 2 * number + 1, FIELDS)).collect();
        let mut frames = frames();
        assert_eq!(frames.follow(&connection(&streams)), Ok(()));
        assert_eq!(frames.open.len(), frames.most_open);
        assert_eq!(frames.follow(&frame(0, 0, 1, b"x")), Ok(()));
        assert_eq!(frames.follow(&frame(0, 1, 1999, b"x")), Ok(()));
        assert!(frames.follow(&frame(0, 1, 1999, b"x")).is_err());
    }

    #[test]
    fn the_oldest_are_forgotten_whichever_ended_before() {
        let opened = |number: u32| frame(HEADERS, END_HEADERS, number, FIELDS);
        let mut frames = frames();
        let most = frames.most_open as u32;
        let streams: Vec<_> = (0..most).map(|number| opened(2 * number + 1)).collect();
        let end = |number| frame(0, END_STREAM, number, b"x");
        let sent = [streams.concat(), end(1), opened(2 * most + 1), opened(2 * most + 3)];
        assert_eq!(frames.follow(&connection(&sent)), Ok(()));
        assert_eq!(frames.forgotten, 3);
        assert_eq!(frames.follow(&end(5)), Ok(()));
        assert!(frames.follow(&end(5)).is_err());
    }

    #[test]
    fn a_head_under_way_is_waited_for() {
        let mut frames = frames();
        assert!(frames.awaits_head());
        frames.follow(&connection(&[])).expect("sound bytes");
        assert!(!frames.awaits_head());
        for (bytes, waits) in [
            (&[0, 0][..], true),
            (&[2, HEADERS, END_STREAM, 0, 0, 0, 1], true),
            (MORE, true),
            (MORE, true),
            (&[0, 0, 1, 9, END_HEADERS, 0, 0, 0, 1], true),
            (MORE, false),
        ] {
            frames.follow(bytes).expect("sound bytes");
            assert_eq!(frames.awaits_head(), waits, "{bytes:?}");
        }
    }
}
