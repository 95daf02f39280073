//! What a line of an access log tells about a request. Pure.
//!
//! 1. A line that begins with `{` is JSON ([`members`](super::members)), any other is the common log format, with or
//!    without what the combined one adds ([`quoted`](super::quoted)); unless a format is asked for.
//! 2. Without a time or the client's address a line is unreadable.
//! 3. A line whose request is none (`"-"`, the bytes of a TLS handshake) is readable: what it tells of never came as far
//!    as a limit.
//! 4. Of request fields only those that a limit counts by are taken. That a format does not tell a field is another
//!    thing than a request without it.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use http::HeaderName;

use super::{members, quoted};

/// How the lines of a log are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Each line as it looks
    #[default]
    Auto,
    /// The common log format of Apache and others; what follows in a line is ignored
    Common,
    /// The same with Referer and User-Agent: nginx's and Apache's own
    Combined,
    /// An object in each line: sidegate's own access log, and others with the like names
    Json,
}

/// Why a line cannot be read.
pub type Unreadable = &'static str;

/// Reads lines.
#[derive(Clone, Debug)]
pub struct Reader {
    /// How they are written.
    pub format: Format,
    /// Which request fields are taken, if a line has them.
    pub fields: Vec<HeaderName>,
}

/// What a line tells.
#[derive(Clone, Debug, PartialEq)]
pub struct Line<'l> {
    /// When, in µs since the Unix epoch: as written, so at the start or at the end of the request.
    pub at: u64,
    /// The client address, never IPv4-mapped.
    pub client: IpAddr,
    /// What was asked for; `None`: it was no request.
    pub asked: Option<Asked<'l>>,
    /// The host it was sent to.
    pub host: Option<Cow<'l, str>>,
    /// The status of the answer; of one that sent a browser to the login, the 401 that it stands for.
    pub status: Option<u16>,
    /// Request fields: by the place of their names in [`Reader::fields`].
    pub fields: Vec<(usize, Field<'l>)>,
    /// Who was logged in; `Some("")`: nobody.
    pub user: Option<Cow<'l, str>>,
    /// It was answered from a cache.
    pub from_cache: bool,
    /// It was a CORS preflight, which sidegate answered ahead of all limits.
    pub preflight: bool,
}

/// Method and target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked<'l> {
    /// The method.
    pub method: Cow<'l, str>,
    /// Path and query.
    pub target: Cow<'l, str>,
}

/// What a line tells of a request field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field<'l> {
    /// The request had none.
    Missing,
    /// The request had it, with this value.
    Value(Cow<'l, [u8]>),
}

impl Reader {
    /// Reads one line, without its end.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read<'l>(&self, line: &'l [u8]) -> Result<Line<'l>, Unreadable> {
        match (self.format, line.first()) {
            (Format::Json, _) | (Format::Auto, Some(b'{')) => members::read(line, &self.fields),
            (format, _) => quoted::read(line, &self.fields, format),
        }
    }
}

impl<'l> Line<'l> {
    /// A line that tells no more than when and who.
    pub(super) fn new(at: u64, client: IpAddr) -> Self {
        Self {
            at,
            client,
            asked: None,
            host: None,
            status: None,
            fields: Vec::new(),
            user: None,
            from_cache: false,
            preflight: false,
        }
    }
}

/// An address, with or without a port.
pub(super) fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let address = text.parse().ok().or_else(|| text.parse().ok().map(|with_port: SocketAddr| with_port.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

/// `GET /a HTTP/1.1`; `None` if that is no request.
pub(super) fn request_line(text: Cow<'_, str>) -> Option<Asked<'_>> {
    match text {
        Cow::Borrowed(text) => {
            split(text).map(|(method, target)| Asked { method: method.into(), target: target.into() })
        }
        Cow::Owned(text) => {
            let (method, target) = split(&text)?;
            Some(Asked { method: method.to_owned().into(), target: target.to_owned().into() })
        }
    }
}

fn split(line: &str) -> Option<(&str, &str)> {
    let (method, rest) = line.split_once(' ')?;
    let (target, version) = rest.rsplit_once(' ')?;
    (!method.is_empty() && !target.is_empty() && version.starts_with("HTTP/")).then_some((method, target))
}
