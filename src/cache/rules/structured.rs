//! Structured fields (RFC 8941), as far as caching fields are made of them: strict, or nothing (§4.2).
//!
//! 1. Several lines are one field, joined with a comma.
//! 2. What does not read to its end by the grammar is no field at all: there is no repair.
//! 3. Parameters must be well formed, and mean nothing here.

use http::{HeaderMap, HeaderName};

/// Bytes of a field beyond which it is none.
pub const MAX_BYTES: usize = 8 * 1024;
/// Digits of an integer (§3.3.1), of the whole part of a decimal, and of the rest of it (§3.3.2).
const DIGITS: (usize, usize, usize) = (15, 12, 3);

/// A bare item, or what stands in the place of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// An integer (§3.3.1).
    Integer(i64),
    /// A string (§3.3.3), without its quotes and escapes.
    String(String),
    /// A boolean (§3.3.6); also a member of a dictionary that has no value.
    Boolean(bool),
    /// Well formed, and of another type: decimal, token, byte sequence, inner list.
    Other,
}

/// A dictionary (§3.2): each key once, with its last value. `None`: it is none, or empty.
pub fn dictionary(head: &HeaderMap, name: &HeaderName) -> Option<Vec<(String, Value)>> {
    let text = joined(head, name)?;
    let mut reader = Reader(&text);
    let mut members: Vec<(String, Value)> = Vec::new();
    reader.each_member(|reader| {
        let key = reader.key()?;
        let value = if reader.take(b'=') { reader.member()? } else { Value::Boolean(true) };
        reader.parameters()?;
        members.retain(|(known, _)| *known != key);
        members.push((key, value));
        Some(())
    })?;
    Some(members)
}

/// A list (§3.1). `None`: it is none, or empty.
pub fn list(head: &HeaderMap, name: &HeaderName) -> Option<Vec<Value>> {
    let text = joined(head, name)?;
    let mut reader = Reader(&text);
    let mut members = Vec::new();
    reader.each_member(|reader| {
        members.push(reader.member()?);
        reader.parameters()
    })?;
    Some(members)
}

fn joined(head: &HeaderMap, name: &HeaderName) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    for line in head.get_all(name) {
        if text.len() + line.len() + 2 > MAX_BYTES {
            return None;
        }
        if !text.is_empty() {
            text.extend_from_slice(b", ");
        }
        text.extend_from_slice(line.as_bytes());
    }
    let spaces = text.iter().take_while(|byte| **byte == b' ').count();
    text.drain(..spaces);
    text.truncate(text.len() - text.iter().rev().take_while(|byte| **byte == b' ').count());
    (!text.is_empty()).then_some(text)
}

/// Reads from the front; `None` where the grammar has nothing that begins so.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Members between commas; none after the last comma is a failure (§4.2.1).
    fn each_member(&mut self, mut member: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        loop {
            member(self)?;
            self.skip(b" \t");
            if self.0.is_empty() {
                return Some(());
            }
            self.take(b',').then_some(())?;
            self.skip(b" \t");
        }
    }

    /// An item or an inner list, without its parameters.
    fn member(&mut self) -> Option<Value> {
        if !self.take(b'(') {
            return self.bare_item();
        }
        loop {
            self.skip(b" ");
            if self.take(b')') {
                return Some(Value::Other);
            }
            self.bare_item()?;
            self.parameters()?;
            matches!(self.0.first()?, b' ' | b')').then_some(())?;
        }
    }

    fn bare_item(&mut self) -> Option<Value> {
        match *self.0.first()? {
            b'-' | b'0'..=b'9' => self.number(),
            b'"' => self.string().map(Value::String),
            b':' => self.byte_sequence(),
            b'?' => self.boolean(),
            b'*' | b'a'..=b'z' | b'A'..=b'Z' => {
                self.span(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte));
                Some(Value::Other)
            }
            _ => None,
        }
    }

    fn parameters(&mut self) -> Option<()> {
        while self.take(b';') {
            self.skip(b" ");
            self.key()?;
            if self.take(b'=') {
                self.bare_item()?;
            }
        }
        Some(())
    }

    fn key(&mut self) -> Option<String> {
        self.0.first().filter(|byte| byte.is_ascii_lowercase() || **byte == b'*')?;
        let key = self.span(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.*".contains(&byte));
        Some(String::from_utf8_lossy(key).into_owned())
    }

    fn number(&mut self) -> Option<Value> {
        let sign = if self.take(b'-') { -1 } else { 1 };
        let whole = self.span(|byte| byte.is_ascii_digit());
        if self.take(b'.') {
            let rest = self.span(|byte| byte.is_ascii_digit());
            let fits = (1..=DIGITS.1).contains(&whole.len()) && (1..=DIGITS.2).contains(&rest.len());
            return fits.then_some(Value::Other);
        }
        let fits = (1..=DIGITS.0).contains(&whole.len());
        fits.then(|| Value::Integer(sign * whole.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0'))))
    }

    fn string(&mut self) -> Option<String> {
        self.take(b'"').then_some(())?;
        let mut text = String::new();
        loop {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            match byte {
                b'"' => return Some(text),
                b'\\' => {
                    let (escaped, rest) = self.0.split_first().filter(|(byte, _)| matches!(byte, b'"' | b'\\'))?;
                    self.0 = rest;
                    text.push(char::from(*escaped));
                }
                b' '..=b'~' => text.push(char::from(*byte)),
                _ => return None,
            }
        }
    }

    fn byte_sequence(&mut self) -> Option<Value> {
        self.take(b':').then_some(())?;
        self.span(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte));
        self.take(b':').then_some(Value::Other)
    }

    fn boolean(&mut self) -> Option<Value> {
        let (value, rest) = match self.0 {
            [b'?', b'0', rest @ ..] => (false, rest),
            [b'?', b'1', rest @ ..] => (true, rest),
            _ => return None,
        };
        self.0 = rest;
        Some(Value::Boolean(value))
    }

    fn span(&mut self, belongs: impl Fn(u8) -> bool) -> &'a [u8] {
        let length = self.0.iter().take_while(|byte| belongs(**byte)).count();
        let (span, rest) = self.0.split_at(length);
        self.0 = rest;
        span
    }

    fn take(&mut self, byte: u8) -> bool {
        let rest = self.0.strip_prefix(&[byte]);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn skip(&mut self, bytes: &[u8]) {
        self.span(|byte| bytes.contains(&byte));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    const NAME: HeaderName = HeaderName::from_static("field");

    fn head(lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (NAME, HeaderValue::from_bytes(line.as_bytes()).unwrap())).fold(
            HeaderMap::new(),
            |mut head, (name, value)| {
                head.append(name, value);
                head
            },
        )
    }

    #[test]
    fn a_dictionary_reads_to_its_end_or_not_at_all() {
        use Value::{Boolean, Integer, Other};
        let one = |key: &str, value: Value| Some(vec![(key.to_owned(), value)]);
        let cases: &[(&[&str], Option<Vec<(String, Value)>>)] = &[
            (&["a=1"], one("a", Integer(1))),
            (&["a=-15"], one("a", Integer(-15))),
            (&["a=999999999999999"], one("a", Integer(999_999_999_999_999))),
            (&["a=9999999999999999"], None),
            (&["a"], one("a", Boolean(true))),
            (&["a=?0"], one("a", Boolean(false))),
            (&["a;x=1;y"], one("a", Boolean(true))),
            (&["a=1;  x=\"q\""], one("a", Integer(1))),
            (&["a=1.5"], one("a", Other)),
            (&["a=1."], None),
            (&["a=1.2345"], None),
            (&["a=\"x \\\"y\\\\\""], one("a", Value::String("x \"y\\".into()))),
            (&["a=\"x"], None),
            (&["a=\"\\n\""], None),
            (&["a=tok/en:x"], one("a", Other)),
            (&["a=:aGk=:"], one("a", Other)),
            (&["a=:a Gk=:"], None),
            (&["a=(1 \"b\";q  c)"], one("a", Other)),
            (&["a=(1"], None),
            (&["a=(1,2)"], None),
            (&["a=1, a=2"], one("a", Integer(2))),
            (&["b", "  a=2  "], Some(vec![("b".into(), Boolean(true)), ("a".into(), Integer(2))])),
            (&["a \t, \t b"], Some(vec![("a".into(), Boolean(true)), ("b".into(), Boolean(true))])),
            (&["a,"], None),
            (&[",a"], None),
            (&["a,,b"], None),
            (&["a =1"], None),
            (&["a= 1"], None),
            (&["A=1"], None),
            (&["a=1, &&&&&"], None),
            (&["a=1 b=2"], None),
            (&["a=@1659578233"], None), // RFC 9651
            (&[""], None),
            (&["  "], None),
            (&[], None),
        ];
        for (lines, expected) in cases {
            assert_eq!(dictionary(&head(lines), &NAME), *expected, "{lines:?}");
        }
        assert_eq!(dictionary(&head(&[&format!("a=\"{}\"", "x".repeat(MAX_BYTES))]), &NAME), None);
    }

    #[test]
    fn a_list_reads_to_its_end_or_not_at_all() {
        let text = |text: &str| Value::String(text.into());
        assert_eq!(list(&head(&["\"a\", \"b\";x", "\"c\""]), &NAME), Some(vec![text("a"), text("b"), text("c")]));
        assert_eq!(list(&head(&["1, (\"a\")"]), &NAME), Some(vec![Value::Integer(1), Value::Other]));
        for line in ["\"a\" \"b\"", "\"a\",", "\"é\"", "a=1"] {
            assert_eq!(list(&head(&[line]), &NAME), None, "{line:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "[ -~\t]{0,40}") {
            let head = head(&[&text]);
            dictionary(&head, &NAME);
            list(&head, &NAME);
        }

        #[test]
        fn strings_read_back(texts in prop::collection::vec("[ -~]{0,12}", 1..5)) {
            let quoted: Vec<_> = texts.iter().map(|text| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))).collect();
            let expected: Vec<_> = texts.into_iter().map(Value::String).collect();
            prop_assert_eq!(list(&head(&[&quoted.join(", ")]), &NAME), Some(expected));
        }
    }
}
