//! Messages of HTTP/1.1 as they are on the wire: the little reader that both the client and the origin use.
//!
//! It believes what it reads and repairs nothing: a message that it cannot read is a failed test.

use std::io::{self, BufRead, Read};

/// Field lines in the order they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<(String, String)>);

impl Fields {
    /// The value of the first line of this name, in any case.
    pub fn one(&self, name: &str) -> Option<&str> {
        let line = self.0.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        line.map(|(_, value)| value.as_str())
    }

    /// The values of all lines of this name, in any case.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Whether a line of this name is there.
    pub fn has(&self, name: &str) -> bool {
        self.one(name).is_some()
    }

    fn says(&self, name: &str, token: &str) -> bool {
        self.all(name).flat_map(|value| value.split(',')).any(|member| member.trim().eq_ignore_ascii_case(token))
    }
}

/// A start line and its fields.
#[derive(Clone, Debug)]
pub struct Head {
    /// The request line or status line.
    pub start: String,
    /// Its fields.
    pub fields: Fields,
}

/// Reads a head; `None` if the connection ends before its first byte.
pub fn head(from: &mut impl BufRead) -> io::Result<Option<Head>> {
    let Some(start) = line(from)? else { return Ok(None) };
    Ok(Some(Head { start, fields: field_lines(from)? }))
}

/// How the end of a message's content is known (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// So many bytes.
    Length(u64),
    /// Chunks, and trailers after them.
    Chunked,
    /// All that comes until the connection ends.
    UntilClose,
}

impl Framing {
    /// What the fields of a message say; `otherwise` if they say nothing.
    pub fn of(fields: &Fields, otherwise: Self) -> Self {
        if fields.says("transfer-encoding", "chunked") {
            return Self::Chunked;
        }
        fields.one("content-length").and_then(|length| length.trim().parse().ok()).map_or(otherwise, Self::Length)
    }
}

/// Reads content and hands over each piece; then the trailers.
///
/// # Errors
/// `UnexpectedEof` if the connection ended first; what had come was handed over.
pub fn content(from: &mut impl BufRead, framing: Framing, mut piece: impl FnMut(&[u8])) -> io::Result<Fields> {
    match framing {
        Framing::Length(length) => pieces(from, length, &mut piece)?,
        Framing::UntilClose => loop {
            let some = from.fill_buf()?;
            if some.is_empty() {
                break;
            }
            piece(some);
            let taken = some.len();
            from.consume(taken);
        },
        Framing::Chunked => loop {
            let size = line(from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let digits = size.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(digits, 16).map_err(|_| malformed(&format!("chunk size {size:?}")))?;
            if size == 0 {
                return field_lines(from);
            }
            pieces(from, size, &mut piece)?;
            if line(from)?.is_none_or(|rest| !rest.is_empty()) {
                return Err(malformed("no line end after a chunk"));
            }
        },
    }
    Ok(Fields::default())
}

fn pieces(from: &mut impl BufRead, mut left: u64, piece: &mut impl FnMut(&[u8])) -> io::Result<()> {
    while left > 0 {
        let some = from.fill_buf()?;
        if some.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let taken = some.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        piece(&some[..taken]);
        from.consume(taken);
        left -= taken as u64;
    }
    Ok(())
}

fn field_lines(from: &mut impl BufRead) -> io::Result<Fields> {
    let mut fields = Fields::default();
    loop {
        let line = line(from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if line.is_empty() {
            return Ok(fields);
        }
        let (name, value) = line.split_once(':').ok_or_else(|| malformed(&format!("field line {line:?}")))?;
        fields.0.push((name.to_owned(), value.trim().to_owned()));
    }
}

/// A line without its CR LF; `None` at the end of the connection.
fn line(from: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    from.by_ref().take(1024 * 1024).read_until(b'\n', &mut bytes)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    if !bytes.ends_with(b"\r\n") {
        // Cut short, or a bare LF: neither may come from a proxy or go to an app.
        let kind = if bytes.ends_with(b"\n") { io::ErrorKind::InvalidData } else { io::ErrorKind::UnexpectedEof };
        return Err(io::Error::new(kind, format!("line without CR LF: {:?}", String::from_utf8_lossy(&bytes))));
    }
    bytes.truncate(bytes.len() - 2);
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}
