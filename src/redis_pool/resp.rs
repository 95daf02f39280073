//! What Redis says, byte by byte: a reader of RESP2 and RESP3 for the connections that we hold without redis-rs.
//! Pure.
//!
//! 1. Bytes come in as they arrive, values go out as soon as they are whole; where the bytes are cut makes no difference.
//! 2. No byte is looked at twice, however large a value is.
//! 3. Everything is bounded: a line, a text, how deep values lie in each other, how many belong to one. What is larger, or
//!    is no RESP, is [`Unreadable`]: then nothing that follows can be understood either.
//! 4. Attributes are read and left out, maps are lists of their keys and values in turn, verbatim texts lose their kind.
//!
//! Format: <https://redis.io/docs/latest/develop/reference/protocol-spec/>.

use std::fmt;
use std::ops::Range;

/// Bytes of a line (a number, a simple text, an error), at most.
const LINE: usize = 64 << 10;
/// Bytes of a text, at most. Redis keys are such texts.
const TEXT: usize = 16 << 20;
/// How deep values may lie in each other.
const DEPTH: usize = 16;
/// How many values may belong to one, at any depth: each key that one command changes may come in one message.
const VALUES: usize = 1 << 20;
/// Bytes of room that are kept when nothing is unread.
const KEPT: usize = 64 << 10;
/// Bytes of one value, at most.
const WHOLE: usize = 64 << 20;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `_`, or a text or list of length -1.
    Null,
    /// `:`.
    Number(i64),
    /// `#`.
    Flag(bool),
    /// `+`, `$`, `=`, and what is kept as it is written: `,`, `(`.
    Text(Vec<u8>),
    /// `-`, `!`.
    Error(Vec<u8>),
    /// `*`, `~`, `%`.
    List(Vec<Value>),
    /// `>`: nobody asked for it.
    Push(Vec<Value>),
}

/// Why bytes cannot be read as RESP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// They follow no rule of RESP, or a form of it that Redis does not use (streamed texts and lists).
    Syntax,
    /// A bound is passed.
    TooLarge,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Syntax => "not RESP",
            Self::TooLarge => "too large",
        })
    }
}

/// Reads one connection.
#[derive(Debug, Default)]
pub struct Reader {
    bytes: Vec<u8>,
    /// Up to where they have been read.
    at: usize,
    /// Up to where they have been looked through for the end of a line.
    looked: usize,
    /// A text that has begun.
    text: Option<(Kind, usize)>,
    /// Lists that have begun, the outermost first.
    open: Vec<List>,
    /// Of the value that has begun.
    values: usize,
    size: usize,
}

#[derive(Debug)]
struct List {
    kind: Kind,
    left: usize,
    items: Vec<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Error,
    Verbatim,
    List,
    Push,
    Attribute,
}

/// What one step came to.
enum Step {
    /// The bytes end here.
    Wait,
    /// Something has begun.
    Begun,
    /// Something is whole.
    Whole(Value),
}

impl Reader {
    /// Takes what has arrived.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.at == self.bytes.len() {
            self.bytes.clear();
            self.bytes.shrink_to(KEPT);
            (self.at, self.looked) = (0, 0);
        } else if self.at > self.bytes.len() / 2 {
            self.bytes.drain(..self.at);
            self.looked = self.looked.saturating_sub(self.at);
            self.at = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether everything that has arrived was handed out: no value has begun.
    pub fn is_empty(&self) -> bool {
        self.at == self.bytes.len() && self.text.is_none() && self.open.is_empty()
    }

    /// The next value, if it is whole.
    ///
    /// # Errors
    /// [`Unreadable`]: the connection is of no use any more.
    pub fn next(&mut self) -> Result<Option<Value>, Unreadable> {
        loop {
            let step = match self.text {
                Some((kind, length)) => self.text(kind, length)?,
                None => self.head()?,
            };
            let mut value = match step {
                Step::Wait => return Ok(None),
                Step::Begun => continue,
                Step::Whole(value) => value,
            };
            // What is whole may make whole what it belongs to.
            loop {
                let Some(list) = self.open.last_mut() else {
                    (self.values, self.size) = (0, 0);
                    return Ok(Some(value));
                };
                list.items.push(value);
                list.left -= 1;
                if list.left > 0 {
                    break;
                }
                match self.close() {
                    Some(whole) => value = whole,
                    None => break,
                }
            }
        }
    }

    /// The innermost list is whole; an attribute says nothing.
    fn close(&mut self) -> Option<Value> {
        let List { kind, items, .. } = self.open.pop()?;
        match kind {
            Kind::Attribute => None,
            Kind::Push => Some(Value::Push(items)),
            _ => Some(Value::List(items)),
        }
    }

    /// The first line of a value: all of it, or how long what follows is.
    fn head(&mut self) -> Result<Step, Unreadable> {
        let Some(line) = self.line()? else { return Ok(Step::Wait) };
        let next = line.end + 2;
        self.count(next - line.start)?;
        self.values += 1;
        self.at = next;
        let (&kind, rest) = self.bytes[line].split_first().ok_or(Unreadable::Syntax)?;
        let whole = match kind {
            b'+' | b',' | b'(' => Value::Text(rest.to_vec()),
            b'-' => Value::Error(rest.to_vec()),
            b':' => Value::Number(number(rest)?),
            b'#' if rest == b"t" => Value::Flag(true),
            b'#' if rest == b"f" => Value::Flag(false),
            b'_' if rest.is_empty() => Value::Null,
            b'$' | b'*' if rest == b"-1" => Value::Null,
            _ => {
                let length = usize::try_from(number(rest)?).map_err(|_| Unreadable::Syntax)?;
                return self.begin(kind, length);
            }
        };
        Ok(Step::Whole(whole))
    }

    fn begin(&mut self, kind: u8, length: usize) -> Result<Step, Unreadable> {
        let (kind, length) = match kind {
            b'$' => (Kind::Text, length),
            b'!' => (Kind::Error, length),
            b'=' => (Kind::Verbatim, length),
            b'*' | b'~' => (Kind::List, length),
            b'%' => (Kind::List, length.saturating_mul(2)),
            b'|' => (Kind::Attribute, length.saturating_mul(2)),
            // A push stands by itself.
            b'>' if self.open.is_empty() => (Kind::Push, length),
            _ => return Err(Unreadable::Syntax),
        };
        if matches!(kind, Kind::Text | Kind::Error | Kind::Verbatim) {
            if length > TEXT {
                return Err(Unreadable::TooLarge);
            }
            self.text = Some((kind, length));
            return Ok(Step::Begun);
        }
        if self.open.len() == DEPTH || length > VALUES.saturating_sub(self.values) {
            return Err(Unreadable::TooLarge);
        }
        self.open.push(List { kind, left: length, items: Vec::new() });
        Ok(if length == 0 { self.close().map_or(Step::Begun, Step::Whole) } else { Step::Begun })
    }

    /// A text, once it is there whole.
    fn text(&mut self, kind: Kind, length: usize) -> Result<Step, Unreadable> {
        let end = self.at + length;
        let Some(after) = self.bytes.get(end..end + 2) else { return Ok(Step::Wait) };
        if after != b"\r\n" {
            return Err(Unreadable::Syntax);
        }
        self.count(length + 2)?;
        let text = &self.bytes[self.at..end];
        let whole = match kind {
            Kind::Error => Value::Error(text.to_vec()),
            // `txt:` or `mkd:` comes first.
            Kind::Verbatim => Value::Text(text.get(4..).ok_or(Unreadable::Syntax)?.to_vec()),
            _ => Value::Text(text.to_vec()),
        };
        self.text = None;
        self.at = end + 2;
        Ok(Step::Whole(whole))
    }

    /// Where the line lies that begins here, without its end.
    fn line(&mut self) -> Result<Option<Range<usize>>, Unreadable> {
        let from = self.looked.max(self.at);
        let found = memchr::memchr(b'\r', &self.bytes[from..]).map(|found| from + found);
        self.looked = found.unwrap_or(self.bytes.len());
        if self.looked - self.at > LINE {
            return Err(Unreadable::TooLarge);
        }
        match found.map(|end| (end, self.bytes.get(end + 1))) {
            Some((end, Some(b'\n'))) => Ok(Some(self.at..end)),
            Some((_, Some(_))) => Err(Unreadable::Syntax),
            Some((_, None)) | None => Ok(None),
        }
    }

    fn count(&mut self, bytes: usize) -> Result<(), Unreadable> {
        self.size += bytes;
        if self.size > WHOLE || self.values >= VALUES { Err(Unreadable::TooLarge) } else { Ok(()) }
    }
}

fn number(digits: &[u8]) -> Result<i64, Unreadable> {
    std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).ok_or(Unreadable::Syntax)
}

/// Appends a command.
pub fn push_command(out: &mut Vec<u8>, arguments: &[&[u8]]) {
    let mut digits = itoa::Buffer::new();
    out.push(b'*');
    out.extend_from_slice(digits.format(arguments.len()).as_bytes());
    for argument in arguments {
        out.extend_from_slice(b"\r\n$");
        out.extend_from_slice(digits.format(argument.len()).as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(argument);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<Value>, Unreadable> {
        read_in(std::iter::once(bytes))
    }

    fn read_in<'b>(pieces: impl Iterator<Item = &'b [u8]>) -> Result<Vec<Value>, Unreadable> {
        let mut reader = Reader::default();
        let mut values = Vec::new();
        for piece in pieces {
            reader.feed(piece);
            while let Some(value) = reader.next()? {
                values.push(value);
            }
        }
        Ok(values)
    }

    fn text(text: &str) -> Value {
        Value::Text(text.into())
    }

    #[test]
    fn every_form_of_both_versions_is_read() {
        let forms: [(&[u8], Value); 17] = [
            (b"+OK\r\n", text("OK")),
            (b"-ERR no\r\n", Value::Error(b"ERR no".into())),
            (b":-7\r\n", Value::Number(-7)),
            (b"$2\r\n\r\n\r\n", text("\r\n")),
            (b"$-1\r\n", Value::Null),
            (b"*-1\r\n", Value::Null),
            (b"*0\r\n", Value::List(vec![])),
            (b"*2\r\n:1\r\n*1\r\n$0\r\n\r\n", Value::List(vec![Value::Number(1), Value::List(vec![text("")])])),
            (b"_\r\n", Value::Null),
            (b"#t\r\n", Value::Flag(true)),
            (b",1.5\r\n", text("1.5")),
            (b"(12345678901234567890\r\n", text("12345678901234567890")),
            (b"!5\r\nERR x\r\n", Value::Error(b"ERR x".into())),
            (b"=7\r\ntxt:abc\r\n", text("abc")),
            (b"%1\r\n+a\r\n~1\r\n:1\r\n", Value::List(vec![text("a"), Value::List(vec![Value::Number(1)])])),
            (b"|1\r\n+ttl\r\n:9\r\n*2\r\n|0\r\n:1\r\n:2\r\n", Value::List(vec![Value::Number(1), Value::Number(2)])),
            (
                b">2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n",
                Value::Push(vec![text("invalidate"), Value::List(vec![text("k")])]),
            ),
        ];
        for (bytes, value) in forms {
            assert_eq!(read(bytes), Ok(vec![value]), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn what_is_no_resp_is_refused() {
        for bytes in [
            "x\r\n",
            "\r\n",
            ":\r\n",
            ":1x\r\n",
            "$1\r\nabc",
            "$?\r\n",
            "$-2\r\n",
            "+a\rb",
            "#x\r\n",
            "*1\r\n>0\r\n",
            "=3\r\ntxt\r\n",
        ] {
            assert_eq!(read(bytes.as_bytes()), Err(Unreadable::Syntax), "{bytes:?}");
        }
    }

    #[test]
    fn what_passes_a_bound_is_refused_before_it_is_there() {
        let deep = "*1\r\n".repeat(DEPTH + 1);
        let many = format!("*{}\r\n", VALUES + 1);
        let in_two = format!("*2\r\n*{}\r\n", VALUES - 1);
        let long = format!("${}\r\n", TEXT + 1);
        let line = "+".to_owned() + &"x".repeat(LINE + 1);
        for bytes in [&deep, &many, &in_two, &long, &line, "%4611686018427387905\r\n", "%9223372036854775807\r\n"] {
            assert_eq!(read(bytes.as_bytes()), Err(Unreadable::TooLarge), "{:.30}", bytes);
        }
        let text = [format!("${TEXT}\r\n").into_bytes(), vec![b'x'; TEXT], b"\r\n".to_vec()].concat();
        let whole = [b"*5\r\n".to_vec(), text.repeat(WHOLE / TEXT)].concat();
        assert_eq!(read(&whole), Err(Unreadable::TooLarge));
    }

    #[test]
    fn nothing_is_left_over_between_two_values_and_something_within_one() {
        let mut reader = Reader::default();
        let bytes = b">1\r\n$1\r\nk\r\n";
        for byte in &bytes[..bytes.len() - 1] {
            reader.feed(&[*byte]);
            assert_eq!(reader.next(), Ok(None));
            assert!(!reader.is_empty());
        }
        reader.feed(&bytes[bytes.len() - 1..]);
        assert!(!reader.is_empty());
        assert!(matches!(reader.next(), Ok(Some(Value::Push(_)))));
        assert!(reader.is_empty());
    }

    #[test]
    fn a_command_reads_back_as_a_list_of_texts() {
        let mut out = Vec::new();
        push_command(&mut out, &[b"SET", b"", b"\r\n"]);
        assert_eq!(read(&out), Ok(vec![Value::List(vec![text("SET"), text(""), text("\r\n")])]));
    }

    fn written(value: &Value) -> Vec<u8> {
        let list = |kind: u8, items: &[Value]| {
            let mut out = [&[kind], items.len().to_string().as_bytes(), b"\r\n"].concat();
            items.iter().for_each(|item| out.extend(written(item)));
            out
        };
        match value {
            Value::Null => b"_\r\n".to_vec(),
            Value::Number(number) => format!(":{number}\r\n").into_bytes(),
            Value::Flag(flag) => if *flag { b"#t\r\n" } else { b"#f\r\n" }.to_vec(),
            Value::Text(text) => [b"$", text.len().to_string().as_bytes(), b"\r\n", text, b"\r\n"].concat(),
            Value::Error(text) => [b"!", text.len().to_string().as_bytes(), b"\r\n", text, b"\r\n"].concat(),
            Value::List(items) => list(b'*', items),
            Value::Push(items) => list(b'>', items),
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::Number),
            any::<bool>().prop_map(Value::Flag),
            vec(any::<u8>(), 0..40).prop_map(Value::Text),
            vec(any::<u8>(), 0..10).prop_map(Value::Error),
        ];
        let tree = leaf.prop_recursive(4, 40, 6, |inner| vec(inner, 0..6).prop_map(Value::List));
        prop_oneof![tree.clone(), vec(tree, 0..4).prop_map(Value::Push)]
    }

    /// `bytes`, cut behind each of `cuts`.
    fn cut<'b>(bytes: &'b [u8], cuts: &[usize]) -> Vec<&'b [u8]> {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_wherever_it_is_cut(all in vec(values(), 1..5), cuts in vec(any::<usize>(), 0..20)) {
            let bytes: Vec<u8> = all.iter().flat_map(written).collect();
            prop_assert_eq!(read_in(cut(&bytes, &cuts).into_iter()), Ok(all));
        }

        #[test]
        fn any_bytes_read_the_same_wherever_they_are_cut(
            fragments in vec(prop_oneof![
                "[-+:$*%~>|_#,(=!]", "-?[0-9]{1,2}", Just("\r\n".to_owned()), "[a-z\r\n]{0,3}",
            ], 0..40),
            cuts in vec(any::<usize>(), 0..20),
        ) {
            let bytes = fragments.concat().into_bytes();
            prop_assert_eq!(read_in(cut(&bytes, &cuts).into_iter()), read(&bytes));
        }
    }
}
