//! Ruby's `Marshal` 4.8, read as data. Pure; no class is looked up, nothing is made of what is named.
//!
//! 1. Texts are those in UTF-8 or ASCII, symbols, and bytes without an encoding that are UTF-8; what is in another encoding
//!    is bytes.
//! 2. Of an object or a structure the variables are read, by name; what a class wrote for itself (`_dump`, `marshal_dump`), patterns,
//!    classes and modules are opaque, and read over. A subclass of a text, list or hash is what it is a subclass of.
//! 3. Names of a hash are texts, symbols and whole numbers; what is under others is left out. Of names that look alike the
//!    text counts.
//! 4. A link counts as what it leads to; one that leads around to itself is opaque. What links multiply is bounded like what is
//!    written out.
//!
//! # Why
//! Rule 3: an app asks for `"user_id"` or `:user_id` and knows which; Rails has texts in its sessions.
//! Rule 4: a hundred links to links would be a record of 2^100 values.
//!
//! Source: `marshal.c` of Ruby 3.1.2, whose own writing the tests read.

mod links;
#[cfg(test)]
pub(in crate::session::format) mod tests;

use self::links::{Node, expanded};
use super::MAX_RECORD;
use super::datum::{Budget, Datum};

/// What was marshalled.
#[derive(Clone, Debug, PartialEq)]
pub struct Marshalled<'a> {
    /// The class, if it is an object of one.
    pub class: Option<&'a [u8]>,
    /// What it holds.
    pub datum: Datum,
}

/// Decodes a value.
///
/// # Errors
/// It is too large, not Marshal 4.8, damaged, nested too deeply, or has too many values.
pub fn decode(bytes: &[u8]) -> Result<Marshalled<'_>, &'static str> {
    if bytes.len() > MAX_RECORD {
        return Err("record too large");
    }
    let rest = bytes.strip_prefix(b"\x04\x08").ok_or("record is not Marshal 4.8")?;
    let mut reader = Reader { rest, symbols: Vec::new(), objects: Vec::new(), nodes: Vec::new() };
    let top = reader.value(&mut Budget::of(bytes.len()))?;
    if !reader.rest.is_empty() {
        return Err("record goes on behind its end");
    }
    let class = match reader.nodes.get(top) {
        Some(Node::Object { class, .. }) => Some(*class),
        _ => None,
    };
    Ok(Marshalled { class, datum: expanded(&reader.nodes, top, bytes.len())? })
}

const ENDS: &str = "record ends too early";

struct Reader<'a> {
    rest: &'a [u8],
    symbols: Vec<&'a [u8]>,
    /// Where in `nodes` what a link may lead to is, in the order of `marshal.c`.
    objects: Vec<usize>,
    nodes: Vec<Node<'a>>,
}

/// Variables of an object by name; members of a structure.
type Variables<'a> = Vec<(&'a [u8], usize)>;

impl<'a> Reader<'a> {
    /// Reads a value; says where it is.
    fn value(&mut self, budget: &mut Budget) -> Result<usize, &'static str> {
        budget.spend()?;
        budget.within(|budget| self.typed(budget))
    }

    fn typed(&mut self, budget: &mut Budget) -> Result<usize, &'static str> {
        match self.byte()? {
            b'0' => Ok(self.leaf(Datum::Nothing)),
            b'T' => Ok(self.leaf(Datum::Flag(true))),
            b'F' => Ok(self.leaf(Datum::Flag(false))),
            b'i' => {
                let number = self.packed()?;
                Ok(self.leaf(Datum::Whole(number.into())))
            }
            b':' => {
                let name = self.new_symbol()?;
                Ok(self.add(Node::Symbol(name)))
            }
            b';' => {
                let name = self.old_symbol()?;
                Ok(self.add(Node::Symbol(name)))
            }
            b'@' => {
                let number = self.count()?;
                self.objects.get(number).copied().ok_or("record links to nothing")
            }
            b'I' if self.rest.first() == Some(&b'u') => {
                self.byte()?;
                self.dumped(true, budget)
            }
            b'I' => {
                let place = self.value(budget)?;
                let variables = self.variables(budget)?;
                self.encode(place, &variables);
                Ok(place)
            }
            // A module that the object is extended with, or its own subclass of something built in: its name, and the object.
            b'e' | b'C' => {
                self.symbol(budget)?;
                self.value(budget)
            }
            b'u' => self.dumped(false, budget),
            b'U' | b'd' => {
                self.symbol(budget)?;
                let place = self.object();
                self.value(budget)?;
                Ok(place)
            }
            b'o' | b'S' => {
                let place = self.object();
                let class = self.symbol(budget)?;
                let variables = self.variables(budget)?;
                Ok(self.put(place, Node::Object { class, variables }))
            }
            b'"' => {
                let text = self.bytes()?;
                let place = self.object();
                Ok(self.put(place, Node::Text(text)))
            }
            b'/' => {
                self.bytes()?;
                self.byte()?;
                Ok(self.object())
            }
            b'c' | b'm' | b'M' => {
                self.bytes()?;
                Ok(self.object())
            }
            b'f' => {
                let number = float(self.bytes()?);
                let place = self.object();
                Ok(self.put(place, Node::Leaf(number)))
            }
            b'l' => {
                let number = self.large()?;
                let place = self.object();
                Ok(self.put(place, Node::Leaf(number)))
            }
            b'[' => {
                let place = self.object();
                let mut items = Vec::new();
                for _ in 0..self.count()? {
                    items.push(self.value(budget)?);
                }
                Ok(self.put(place, Node::List(items)))
            }
            kind @ (b'{' | b'}') => {
                let place = self.object();
                let mut entries = Vec::new();
                for _ in 0..self.count()? {
                    entries.push((self.value(budget)?, self.value(budget)?));
                }
                if kind == b'}' {
                    // What the hash answers for names that it does not have.
                    self.value(budget)?;
                }
                Ok(self.put(place, Node::Map(entries)))
            }
            _ => Err("record has a value of an unknown kind"),
        }
    }

    /// What a class wrote by `_dump`. Unlike all others it is counted when it has been read with its variables.
    fn dumped(&mut self, has_variables: bool, budget: &mut Budget) -> Result<usize, &'static str> {
        self.symbol(budget)?;
        self.bytes()?;
        if has_variables {
            self.variables(budget)?;
        }
        Ok(self.object())
    }

    fn variables(&mut self, budget: &mut Budget) -> Result<Variables<'a>, &'static str> {
        let mut variables = Vec::new();
        for _ in 0..self.count()? {
            variables.push((self.symbol(budget)?, self.value(budget)?));
        }
        Ok(variables)
    }

    /// A text with variables is one of an encoding: `E` is UTF-8 or ASCII, `encoding` names another.
    fn encode(&mut self, place: usize, variables: &Variables<'_>) {
        if let Some(node) = self.nodes.get_mut(place)
            && let Node::Text(text) = *node
            && variables.iter().any(|(name, _)| *name == b"encoding")
        {
            *node = Node::Leaf(Datum::Bytes(text.to_vec()));
        }
    }

    /// The name of a class, module or variable.
    fn symbol(&mut self, budget: &mut Budget) -> Result<&'a [u8], &'static str> {
        match self.byte()? {
            b':' => self.new_symbol(),
            b';' => self.old_symbol(),
            b'I' if self.rest.first() == Some(&b':') => {
                self.byte()?;
                let name = self.new_symbol()?;
                budget.within(|budget| self.variables(budget))?;
                Ok(name)
            }
            _ => Err("record lacks a name"),
        }
    }

    fn new_symbol(&mut self) -> Result<&'a [u8], &'static str> {
        let name = self.bytes()?;
        self.symbols.push(name);
        Ok(name)
    }

    fn old_symbol(&mut self) -> Result<&'a [u8], &'static str> {
        let number = self.count()?;
        self.symbols.get(number).copied().ok_or("record links to nothing")
    }

    /// A whole number that is packed: `r_long`.
    fn packed(&mut self) -> Result<i64, &'static str> {
        let first = i64::from(self.byte()?.cast_signed());
        match first {
            0 => Ok(0),
            5.. => Ok(first - 5),
            ..=-5 => Ok(first + 5),
            _ => {
                let bytes = self.take(first.unsigned_abs() as usize)?;
                let number = bytes.iter().rev().fold(0_i64, |number, byte| number << 8 | i64::from(*byte));
                // Of negative ones the bytes above are all ones.
                Ok(if first < 0 { number - (1 << (8 * bytes.len())) } else { number })
            }
        }
    }

    /// A whole number beyond 30 bits: its sign, and pairs of bytes of its magnitude, the lowest first.
    fn large(&mut self) -> Result<Datum, &'static str> {
        let sign = match self.byte()? {
            b'+' => 1,
            b'-' => -1,
            _ => return Err("record has a number of an unknown sign"),
        };
        let pairs = self.count()?;
        let bytes = self.take(pairs.saturating_mul(2))?;
        let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        let magnitude = bytes[..used]
            .iter()
            .rev()
            .try_fold(0_i128, |number, byte| number.checked_mul(256)?.checked_add(i128::from(*byte)));
        Ok(magnitude.map_or(Datum::Opaque, |magnitude| Datum::Whole(sign * magnitude)))
    }

    fn bytes(&mut self) -> Result<&'a [u8], &'static str> {
        let length = self.count()?;
        self.take(length)
    }

    fn count(&mut self) -> Result<usize, &'static str> {
        usize::try_from(self.packed()?).map_err(|_| "record has a negative length")
    }

    fn byte(&mut self) -> Result<u8, &'static str> {
        let (byte, rest) = self.rest.split_first().ok_or(ENDS)?;
        self.rest = rest;
        Ok(*byte)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], &'static str> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(ENDS)?;
        self.rest = rest;
        Ok(bytes)
    }

    fn leaf(&mut self, datum: Datum) -> usize {
        self.add(Node::Leaf(datum))
    }

    fn add(&mut self, node: Node<'a>) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// A place that links may lead to; opaque until something is put there.
    fn object(&mut self) -> usize {
        let place = self.leaf(Datum::Opaque);
        self.objects.push(place);
        place
    }

    fn put(&mut self, place: usize, node: Node<'a>) -> usize {
        if let Some(old) = self.nodes.get_mut(place) {
            *old = node;
        }
        place
    }
}

/// A number with a fraction; opaque if it is none, or beyond all bounds.
fn float(text: &[u8]) -> Datum {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<f64>().ok());
    number.filter(|number| number.is_finite()).map_or(Datum::Opaque, Datum::Float)
}
