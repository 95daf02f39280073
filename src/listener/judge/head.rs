//! A head, line by line: what it says about the message, or why it is refused. Pure.

use super::grammar::{has_control, is_host, is_path_and_query, is_token, trimmed};
use super::{Bounds, Refusal};

/// How the end of a message is found (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// At the end of the head.
    None,
    /// After so many bytes.
    Length(u64),
    /// After the last chunk.
    Chunked,
    /// Never: protocols are to be switched.
    Switch,
}

/// The longest method, with the version and two spaces, in bytes: what a request line has besides its target.
const BESIDE_TARGET: usize = 128;

/// What the lines of a head have said so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Head {
    /// Bytes of it, empty lines before it included.
    bytes: usize,
    /// Field lines.
    fields: usize,
    request_line: Option<RequestLine>,
    head: bool,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
    connection_upgrade: bool,
}

/// What of a request line is needed later.
#[derive(Clone, Copy, Debug, Default)]
struct RequestLine {
    http_1_0: bool,
    get: bool,
    server_wide: bool,
}

impl Head {
    /// Whether the request line has not come yet.
    pub fn is_blank(&self) -> bool {
        self.request_line.is_none()
    }

    /// Whether it begins as HEAD does, sound or not.
    pub fn is_head(&self) -> bool {
        self.head
    }

    /// Whether it is OPTIONS for a server as a whole, said in the absolute form (RFC 9112 §3.2.4).
    pub fn is_server_wide(&self) -> bool {
        self.request_line.is_some_and(|line| line.server_wide)
    }

    /// One more line, without its CR LF. `None`: the head goes on.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn line(&mut self, line: &[u8], bounds: &Bounds) -> Result<Option<Framing>, Refusal> {
        self.check_size(line.len() + 2, bounds)?;
        self.bytes += line.len() + 2;
        let Some(request) = self.request_line else {
            if !line.is_empty() {
                self.head = line.starts_with(b"HEAD ");
                self.request_line = Some(request_line(line, bounds)?);
            }
            return Ok(None);
        };
        if line.is_empty() {
            return self.framing(request).map(Some);
        }
        if self.fields == bounds.most_fields {
            return Err(Refusal::FieldsTooLarge);
        }
        self.fields += 1;
        self.field(line).map(|()| None).map_err(Refusal::Head)
    }

    /// Whether a line of so many bytes, or one that has got so far, has room.
    ///
    /// # Errors
    /// 414 in a request line, 431 in a field.
    pub fn check_size(&self, line: usize, bounds: &Bounds) -> Result<(), Refusal> {
        let (longest, refusal) = match self.request_line {
            None => (bounds.longest_target + BESIDE_TARGET, Refusal::TargetTooLong),
            Some(_) => (bounds.largest_field + 2, Refusal::FieldsTooLarge),
        };
        let fits = line <= longest && self.bytes + line <= bounds.largest_head;
        if fits { Ok(()) } else { Err(refusal) }
    }

    fn field(&mut self, line: &[u8]) -> Result<(), &'static str> {
        let (name, value) = field(line)?;
        match name.len() {
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let repeated = self.length.replace(content_length(value)?).is_some();
                if repeated {
                    return Err("repeated Content-Length");
                }
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                let plain = value.eq_ignore_ascii_case(b"chunked") && !line.contains(&b'\t');
                if !plain || std::mem::replace(&mut self.chunked, true) {
                    return Err("Transfer-Encoding is not one `chunked`");
                }
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.upgrade |= value.eq_ignore_ascii_case(b"websocket"),
            10 if name.eq_ignore_ascii_case(b"connection") => {
                let mut words = value.split(|byte| *byte == b',');
                self.connection_upgrade |= words.any(|word| trimmed(word).eq_ignore_ascii_case(b"upgrade"));
            }
            _ => {}
        }
        Ok(())
    }

    fn framing(&self, request: RequestLine) -> Result<Framing, Refusal> {
        match (self.chunked, self.length) {
            (true, Some(_)) => Err(Refusal::Head("both Content-Length and Transfer-Encoding")),
            (true, None) if request.http_1_0 => Err(Refusal::Head("Transfer-Encoding in HTTP/1.0")),
            (true, None) => Ok(Framing::Chunked),
            (false, Some(length)) if length > 0 => Ok(Framing::Length(length)),
            // `target` takes the Upgrade field out of every other request, so that nobody behind could switch either.
            _ if self.upgrade && self.connection_upgrade && request.get && !request.http_1_0 => Ok(Framing::Switch),
            _ => Ok(Framing::None),
        }
    }
}

/// `method SP request-target SP HTTP-version` (RFC 9112 §3).
fn request_line(line: &[u8], bounds: &Bounds) -> Result<RequestLine, Refusal> {
    let malformed = Err(Refusal::Head("malformed request line"));
    let (Some(first), Some(last)) = (memchr::memchr(b' ', line), memchr::memrchr(b' ', line)) else {
        return Err(Refusal::Head("no version in the request line"));
    };
    let http_1_0 = match &line[last + 1..] {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => return Err(Refusal::Version),
        _ => return Err(Refusal::Head("no version in the request line")),
    };
    if first == last {
        return malformed;
    }
    let (method, target) = (&line[..first], &line[first + 1..last]);
    if target.len() > bounds.longest_target {
        return Err(Refusal::TargetTooLong);
    }
    if !is_token(method) {
        return malformed;
    }
    let server_wide = match target.first() {
        Some(b'/') if is_path_and_query(target) => false,
        Some(_) => unusual_target(method, target).map_err(Refusal::Head)?,
        None => return malformed,
    };
    Ok(RequestLine { http_1_0, get: method == b"GET", server_wide })
}

/// A target that is not in origin form (RFC 9112 §3.2); whether it stands for a server as a whole.
fn unusual_target(method: &[u8], target: &[u8]) -> Result<bool, &'static str> {
    if method == b"CONNECT" {
        return Err("CONNECT is not served here");
    }
    if target == b"*" {
        return if method == b"OPTIONS" { Ok(false) } else { Err("malformed target") };
    }
    let after =
        |scheme: &[u8]| target.split_at_checked(scheme.len()).filter(|(start, _)| start.eq_ignore_ascii_case(scheme));
    let Some((_, rest)) = after(b"http://").or(after(b"https://")) else { return Err("malformed target") };
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    // What stands behind takes no escapes in a target's authority.
    if !is_host(authority) || authority.contains(&b'%') {
        return Err("malformed authority");
    }
    if !is_path_and_query(path) {
        return Err("malformed target");
    }
    Ok(path.is_empty() && method == b"OPTIONS")
}

/// Name and trimmed value of a field line (RFC 9112 §5).
///
/// # Errors
/// What is wrong with it.
pub fn field(line: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err("obsolete line folding");
    }
    let colon = memchr::memchr(b':', line).ok_or("field without a colon")?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if !is_token(name) {
        return Err("field name is not a token");
    }
    if has_control(value) {
        return Err("control character in a field");
    }
    Ok((name, trimmed(value)))
}

fn content_length(value: &[u8]) -> Result<u64, &'static str> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return Err("malformed Content-Length");
    }
    // 19 digits fit, but for those beyond what any file has.
    let sum = value.iter().try_fold(0u64, |sum, digit| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
    sum.filter(|length| *length < u64::MAX >> 1).ok_or("Content-Length too large")
}
