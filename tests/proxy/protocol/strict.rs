//! Requests of HTTP/1 by the letter of RFC 9112: the reference that sidegate is compared with. It shares no code with it.
//!
//! It reads the bytes of a connection from their start, and knows no leniency at all: what the RFC allows a recipient to
//! repair is `Bad` here. It stands on both sides: it says which requests a client framed, and whether what reached the
//! app is well-formed.

/// A request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// As sent, by bytes.
    pub method: String,
    /// As sent.
    pub target: String,
    /// Of HTTP/1.
    pub minor: u8,
    /// In the order they came; names in lower case, values trimmed; a character for each byte.
    pub fields: Vec<(String, String)>,
    /// Its content, out of its chunks.
    pub content: Vec<u8>,
    /// Its trailers.
    pub trailers: Vec<(String, String)>,
}

/// What stands at the start of some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// A whole request, and how many bytes it takes.
    Whole(Message, usize),
    /// The start of one; with its head, if that is whole.
    More(Option<Message>),
    /// No request, and nothing that could become one.
    Bad(&'static str),
}

/// Why reading stopped.
enum Stop {
    More,
    Bad(&'static str),
}

impl Message {
    /// The values of all lines of a field.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The value of a field that stands there once.
    pub fn one(&self, name: &str) -> Option<&str> {
        let mut all = self.fields.iter().filter(|(key, _)| key == name);
        all.next().filter(|_| all.next().is_none()).map(|(_, value)| value.as_str())
    }
}

/// Reads the request at the start of `bytes`.
pub fn read(bytes: &[u8]) -> Read {
    let mut reader = Reader { bytes, at: 0 };
    let mut message = match reader.head() {
        Ok(message) => message,
        Err(Stop::More) => return Read::More(None),
        Err(Stop::Bad(why)) => return Read::Bad(why),
    };
    match reader.content(&mut message) {
        Ok(()) => Read::Whole(message, reader.at),
        Err(Stop::More) => Read::More(Some(message)),
        Err(Stop::Bad(why)) => Read::Bad(why),
    }
}

/// All requests of a connection's bytes until they end or go wrong.
pub fn read_all(mut bytes: &[u8]) -> (Vec<Message>, Read) {
    let mut whole = Vec::new();
    loop {
        match read(bytes) {
            Read::Whole(message, taken) => {
                whole.push(message);
                bytes = &bytes[taken..];
            }
            rest => return (whole, rest),
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// A line without its CR LF.
    fn line(&mut self) -> Result<&'a [u8], Stop> {
        let rest = &self.bytes[self.at..];
        for (index, byte) in rest.iter().enumerate() {
            match (byte, rest.get(index + 1)) {
                (b'\r', Some(b'\n')) => {
                    self.at += index + 2;
                    return Ok(&rest[..index]);
                }
                (b'\r', None) => return Err(Stop::More),
                (b'\r', Some(_)) => return Err(Stop::Bad("bare CR")),
                (b'\n', _) => return Err(Stop::Bad("bare LF")),
                _ => {}
            }
        }
        Err(Stop::More)
    }

    fn head(&mut self) -> Result<Message, Stop> {
        let mut start = self.line()?;
        while start.is_empty() {
            // RFC 9112 §2.2: empty lines before the request line are no part of it.
            start = self.line()?;
        }
        let words: Vec<_> = start.split(|byte| *byte == b' ').collect();
        let [method, target, version] = words[..] else { return Err(Stop::Bad("three words make a request line")) };
        let minor = match version {
            b"HTTP/1.1" => 1,
            b"HTTP/1.0" => 0,
            _ => return Err(Stop::Bad("version")),
        };
        if !is_token(method) || target.is_empty() || !target.iter().all(u8::is_ascii_graphic) || target.contains(&b'#')
        {
            return Err(Stop::Bad("method or target"));
        }
        let fields = self.field_lines()?;
        Ok(Message { method: text(method), target: text(target), minor, fields, ..Message::default() })
    }

    fn field_lines(&mut self) -> Result<Vec<(String, String)>, Stop> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(fields);
            }
            let colon = line.iter().position(|byte| *byte == b':').ok_or(Stop::Bad("no colon"))?;
            let (name, value) = (&line[..colon], &line[colon + 1..]);
            if !is_token(name) {
                return Err(Stop::Bad("field name"));
            }
            if value.iter().any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 127) {
                return Err(Stop::Bad("field value"));
            }
            fields.push((text(name).to_ascii_lowercase(), text(value).trim_matches([' ', '\t']).to_owned()));
        }
    }

    fn content(&mut self, message: &mut Message) -> Result<(), Stop> {
        let codings: Vec<_> = message.all("transfer-encoding").collect();
        let lengths: Vec<_> = message.all("content-length").collect();
        match (&codings[..], &lengths[..]) {
            ([], []) => Ok(()),
            ([], [length]) if !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit()) => {
                let length = length.parse().map_err(|_| Stop::Bad("length"))?;
                message.content = self.take(length)?;
                Ok(())
            }
            ([coding], []) if message.minor == 1 && coding.eq_ignore_ascii_case("chunked") => self.chunks(message),
            _ => Err(Stop::Bad("framing")),
        }
    }

    fn take(&mut self, length: usize) -> Result<Vec<u8>, Stop> {
        let end = self.at.checked_add(length).ok_or(Stop::Bad("length"))?;
        let taken = self.bytes.get(self.at..end).ok_or(Stop::More)?.to_vec();
        self.at = end;
        Ok(taken)
    }

    fn chunks(&mut self, message: &mut Message) -> Result<(), Stop> {
        loop {
            let line = self.line()?;
            let digits: String = text(line).chars().take_while(char::is_ascii_hexdigit).collect();
            let extension = text(&line[digits.len()..]);
            let sound = extension.is_empty() || extension.trim_start_matches([' ', '\t']).starts_with(';');
            if digits.is_empty() || !sound || extension.bytes().any(|byte| byte < b' ' && byte != b'\t') {
                return Err(Stop::Bad("chunk size"));
            }
            let size = usize::from_str_radix(&digits, 16).map_err(|_| Stop::Bad("chunk size"))?;
            if size == 0 {
                message.trailers = self.field_lines()?;
                return Ok(());
            }
            message.content.extend(self.take(size)?);
            match self.bytes.get(self.at..) {
                Some([b'\r', b'\n', ..]) => self.at += 2,
                Some([] | [b'\r']) => return Err(Stop::More),
                _ => return Err(Stop::Bad("chunk end")),
            }
        }
    }
}

fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

/// A character for each byte, so that nothing is lost.
pub fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

#[test]
fn the_reference_reads_to_the_letter() {
    let post = b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nT: 1\r\n\r\nGET";
    let Read::Whole(message, taken) = read(post) else { panic!("a sound request") };
    assert_eq!((message.content.as_slice(), taken), (&b"abc"[..], post.len() - 3));
    assert_eq!(message.trailers, [("t".to_owned(), "1".to_owned())]);
    assert!((1..taken).all(|cut| matches!(read(&post[..cut]), Read::More(_))));
    for bad in
        ["GET / HTTP/1.1\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nA : b\r\n\r\n", "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n"]
    {
        assert!(matches!(read(bad.as_bytes()), Read::Bad(_)), "{bad:?}");
    }
}
