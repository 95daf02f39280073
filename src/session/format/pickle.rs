//! pickle of Python, protocols 2 to 5, read as data: nothing is imported, called or made. Pure.
//!
//! 1. A closed set of opcodes makes data (`opcode`); any other ends the reading, and the reason names it: nobody knows what it
//!    takes from the stack.
//! 2. A class is a marker that nobody looks up (GLOBAL, STACK_GLOBAL, EXT). What calling it or making an object of it would give
//!    (REDUCE, NEWOBJ, NEWOBJ_EX) is opaque: a record with a `datetime`, a `UUID` or an object of the app's keeps its other
//!    attributes. A few classes hold what they are given and nothing else, and are read (`known`).
//! 3. What is put into something opaque is dropped (BUILD, APPENDS, ADDITEMS, SETITEMS), and it stays opaque wherever it is
//!    referred to. A map that is filled by BUILD is opaque from then on; nothing else may be.
//! 4. What is opaque names nobody and is never a text (`datum`): a record whose user is opaque, or within something opaque, is not
//!    read, and one that is opaque as a whole is no session.
//! 5. A pickle begins with its protocol and ends with STOP, exactly one value on the stack, and nothing behind it. A frame
//!    (PEP 3154) is no longer than the record, and no value reaches over its end.
//! 6. Work is bounded by the record's length, memory by the number of its values, those that are copied counted again; nothing is
//!    reserved for a length that is merely claimed. No more values are remembered (MEMOIZE) than there are.
//! 7. A `str` of Python 2 is text where it is ASCII, as for Python 3; else bytes.
//!
//! # Why
//! Loading a pickle runs whatever code its writer chose. This reads the words that values are written with, and no more: of code
//! it sees a name, and compares it.
//!
//! Rule 2: each opcode says how much it takes, so that an unknown object is no reason not to know who is logged in. Whoever has
//! one flashed `Markup` or one `UUID` in a session would otherwise be logged out by us.
//!
//! Protocols 0 and 1 are those of Python 2 unless it is told otherwise, have no mark to be known by, and are not read.

mod graph;
mod known;
mod opcode;
#[cfg(test)]
pub(super) mod tests;

use std::collections::HashMap;

use self::graph::{Graph, Node, Place};
use self::known::Known;
use self::opcode::*;
use super::MAX_RECORD;
use super::datum::Datum;

/// Decodes a record.
///
/// # Errors
/// It is too large, not a pickle of these protocols, not plain data, nested too deeply, or has too many values.
pub fn decode(bytes: &[u8]) -> Result<Datum, &'static str> {
    if bytes.len() > MAX_RECORD {
        return Err("record too large");
    }
    match bytes {
        [PROTO, 2..=5, left @ ..] => Machine { left, graph: Graph::of(bytes.len()), ..Machine::default() }.run(),
        [PROTO, 6..=255, ..] => Err("pickle of an unknown protocol"),
        _ => Err("record is not a pickle of protocol 2 to 5"),
    }
}

/// Reads a pickle.
#[derive(Default)]
struct Machine<'a> {
    left: &'a [u8],
    /// Bytes left in the current frame; 0: outside any.
    frame: usize,
    graph: Graph<'a>,
    stack: Vec<Place>,
    /// How high the stack was at each MARK.
    marks: Vec<usize>,
    memo: HashMap<u32, Place>,
}

type Step = Result<(), &'static str>;

impl<'a> Machine<'a> {
    fn run(mut self) -> Result<Datum, &'static str> {
        loop {
            match self.byte()? {
                STOP => break,
                opcode => self.step(opcode)?,
            }
        }
        if !self.left.is_empty() {
            return Err("record goes on behind its end");
        }
        match (self.stack.as_slice(), self.marks.as_slice()) {
            ([place], []) => self.graph.tell(*place),
            _ => Err("pickle is not one value"),
        }
    }

    fn step(&mut self, opcode: u8) -> Step {
        match opcode {
            FRAME => self.begin_frame(),
            NONE => self.push(Node::Nothing),
            NEWTRUE => self.push(Node::Flag(true)),
            NEWFALSE => self.push(Node::Flag(false)),
            BININT => {
                let number = i32::from_le_bytes(self.array()?);
                self.push(Node::Whole(number.into()))
            }
            BININT1 => {
                let number = self.byte()?;
                self.push(Node::Whole(number.into()))
            }
            BININT2 => {
                let number = u16::from_le_bytes(self.array()?);
                self.push(Node::Whole(number.into()))
            }
            LONG1 => {
                let length = self.byte()?;
                let number = whole(self.take(length.into())?);
                self.push(number)
            }
            LONG4 => {
                let length = u32::from_le_bytes(self.array()?);
                let number = whole(self.take(usize::try_from(length).unwrap_or(usize::MAX))?);
                self.push(number)
            }
            BINFLOAT => {
                let number = f64::from_be_bytes(self.array()?);
                self.push(Node::Float(number))
            }
            SHORT_BINUNICODE | BINUNICODE | BINUNICODE8 => {
                let bytes = self.counted(opcode)?;
                self.push(std::str::from_utf8(bytes).map_or(Node::Bytes(bytes), Node::Text))
            }
            SHORT_BINSTRING | BINSTRING => {
                let bytes = self.counted(opcode)?;
                let text = std::str::from_utf8(bytes).ok().filter(|text| text.is_ascii());
                self.push(text.map_or(Node::Bytes(bytes), Node::Text))
            }
            SHORT_BINBYTES | BINBYTES | BINBYTES8 | BYTEARRAY8 => {
                let bytes = self.counted(opcode)?;
                self.push(Node::Bytes(bytes))
            }
            EMPTY_LIST => self.push(Node::List(Vec::new())),
            EMPTY_TUPLE => self.push(Node::Fixed(Vec::new())),
            EMPTY_SET => self.push(Node::Set(Vec::new())),
            EMPTY_DICT => self.push(Node::Map(Vec::new())),
            TUPLE1..=TUPLE3 => {
                let items = self.pop_many(usize::from(opcode - TUPLE1) + 1)?;
                self.push(Node::Fixed(items))
            }
            TUPLE | FROZENSET => {
                let items = self.pop_marked()?;
                self.push(Node::Fixed(items))
            }
            MARK => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            APPEND => {
                let items = self.pop_many(1)?;
                self.append(items)
            }
            APPENDS => {
                let items = self.pop_marked()?;
                self.append(items)
            }
            ADDITEMS => {
                let items = self.pop_marked()?;
                self.add(items)
            }
            SETITEM => {
                let entry = self.pop_many(2)?;
                self.set(&entry)
            }
            SETITEMS => {
                let entries = self.pop_marked()?;
                self.set(&entries)
            }
            MEMOIZE => {
                let name = u32::try_from(self.memo.len()).map_err(|_| MEMO)?;
                self.memoize(name)
            }
            BINPUT | LONG_BINPUT => {
                let name = self.name(opcode == BINPUT)?;
                self.memoize(name)
            }
            BINGET | LONG_BINGET => {
                let name = self.name(opcode == BINGET)?;
                let place = self.memo.get(&name).ok_or("pickle refers to nothing")?;
                self.stack.push(*place);
                Ok(())
            }
            POP => self.pop_many(1).map(drop),
            POP_MARK => self.pop_marked().map(drop),
            GLOBAL => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Node::Class(Known::of(module, name)))
            }
            STACK_GLOBAL => self.class(),
            // Numbers of classes in a registry that only the app has.
            EXT1 => self.array().and_then(|[_]| self.push(Node::Class(None))),
            EXT2 => self.array().and_then(|[_, _]| self.push(Node::Class(None))),
            EXT4 => self.array().and_then(|[_, _, _, _]| self.push(Node::Class(None))),
            REDUCE | NEWOBJ => self.object(opcode == NEWOBJ),
            NEWOBJ_EX => self.object_by_names(),
            BUILD => self.build(),
            other => Err(refusal(other)),
        }
    }

    fn push(&mut self, node: Node<'a>) -> Step {
        let place = self.graph.add(node)?;
        self.stack.push(place);
        Ok(())
    }

    /// The last `count` values, none from before the last MARK.
    fn pop_many(&mut self, count: usize) -> Result<Vec<Place>, &'static str> {
        let least = self.marks.last().copied().unwrap_or_default();
        let start = self.stack.len().checked_sub(count).filter(|start| *start >= least);
        Ok(self.stack.split_off(start.ok_or("pickle takes what is not there")?))
    }

    /// The values since the last MARK.
    fn pop_marked(&mut self) -> Result<Vec<Place>, &'static str> {
        let mark = self.marks.pop().ok_or("pickle takes what is not there")?;
        Ok(self.stack.split_off(mark))
    }

    /// The last value, which stays where it is.
    fn last(&self) -> Result<Place, &'static str> {
        let least = self.marks.last().copied().unwrap_or_default();
        self.stack.get(least..).and_then(<[_]>::last).copied().ok_or("pickle takes what is not there")
    }

    fn append(&mut self, items: Vec<Place>) -> Step {
        let list = self.last()?;
        match self.graph.fill(list)? {
            Node::List(known) => known.extend(items),
            Node::Object => {}
            _ => return Err("pickle appends to what is no list"),
        }
        Ok(())
    }

    fn add(&mut self, items: Vec<Place>) -> Step {
        let set = self.last()?;
        match self.graph.fill(set)? {
            Node::Set(known) => known.extend(items),
            Node::Object => {}
            _ => return Err("pickle adds to what is no set"),
        }
        Ok(())
    }

    fn set(&mut self, entries: &[Place]) -> Step {
        let (entries, []) = entries.as_chunks() else { return Err("pickle has a name without a value") };
        let map = self.last()?;
        match self.graph.fill(map)? {
            Node::Map(known) => known.extend(entries.iter().map(|[name, value]| (*name, *value))),
            Node::Object => {}
            _ => return Err("pickle names values in what is no dict"),
        }
        Ok(())
    }

    /// Rule 4: a pickler remembers each value at most once.
    fn memoize(&mut self, name: u32) -> Step {
        let place = self.last()?;
        self.memo.insert(name, place);
        if self.memo.len() > self.graph.len() { Err(MEMO) } else { Ok(()) }
    }

    fn class(&mut self) -> Step {
        let parts = self.pop_many(2)?;
        let text = |part: &Place| match self.graph.at(*part)? {
            Node::Text(text) => Ok(*text),
            _ => Err(NAMELESS),
        };
        let [module, name] = parts.as_slice() else { return Err(NAMELESS) };
        let known = Known::of(text(module)?, text(name)?);
        self.push(Node::Class(known))
    }

    /// Rule 2.
    fn object(&mut self, is_new: bool) -> Step {
        let parts = self.pop_many(2)?;
        let [class, arguments] = parts.as_slice() else { return Err(NO_CLASS) };
        let known = self.called(*class, *arguments)?.filter(|known| known.is_new() == is_new);
        let made = match known {
            Some(known) => self.graph.known(known, *arguments)?,
            None => Node::Object,
        };
        self.push(made)
    }

    fn object_by_names(&mut self) -> Step {
        let parts = self.pop_many(3)?;
        let [class, arguments, names] = parts.as_slice() else { return Err(NO_CLASS) };
        self.called(*class, *arguments)?;
        match self.graph.at(*names)? {
            Node::Map(_) | Node::Object => self.push(Node::Object),
            _ => Err(NO_CLASS),
        }
    }

    /// The class that is called, if it is known. What something opaque gives may be a class, too.
    fn called(&self, class: Place, arguments: Place) -> Result<Option<Known>, &'static str> {
        match (self.graph.at(class)?, self.graph.at(arguments)?) {
            (Node::Class(known), Node::Fixed(_) | Node::Object) => Ok(*known),
            (Node::Object, Node::Fixed(_) | Node::Object) => Ok(None),
            _ => Err(NO_CLASS),
        }
    }

    /// Rule 3.
    fn build(&mut self) -> Step {
        self.pop_many(1)?;
        let object = self.last()?;
        match self.graph.fill(object)? {
            Node::Object | Node::Class(_) => Ok(()),
            map @ Node::Map(_) => {
                *map = Node::Object;
                Ok(())
            }
            _ => Err("pickle fills what is no object"),
        }
    }

    fn begin_frame(&mut self) -> Step {
        if self.frame > 0 {
            return Err("pickle has a frame within a frame");
        }
        let length = u64::from_le_bytes(self.array()?);
        let length = usize::try_from(length).ok().filter(|length| *length <= self.left.len());
        self.frame = length.ok_or("pickle has a frame beyond its end")?;
        Ok(())
    }

    fn name(&mut self, short: bool) -> Result<u32, &'static str> {
        if short { self.byte().map(u32::from) } else { self.array().map(u32::from_le_bytes) }
    }

    /// The bytes behind their number, which is as long as `opcode` says.
    fn counted(&mut self, opcode: u8) -> Result<&'a [u8], &'static str> {
        let length = match opcode {
            SHORT_BINUNICODE | SHORT_BINBYTES | SHORT_BINSTRING => self.byte()?.into(),
            BINUNICODE8 | BINBYTES8 | BYTEARRAY8 => u64::from_le_bytes(self.array()?),
            _ => u32::from_le_bytes(self.array()?).into(),
        };
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }

    /// The text up to the end of the line, which is read over.
    fn line(&mut self) -> Result<&'a str, &'static str> {
        let length = memchr::memchr(b'\n', self.left).ok_or(CUT)?;
        let line = self.take(length)?;
        self.take(1)?;
        std::str::from_utf8(line).map_err(|_| NAMELESS)
    }

    fn byte(&mut self) -> Result<u8, &'static str> {
        self.array().map(|[byte]| byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        self.take(N)?.try_into().map_err(|_| CUT)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], &'static str> {
        let (taken, left) = self.left.split_at_checked(length).ok_or(CUT)?;
        if self.frame > 0 {
            self.frame = self.frame.checked_sub(length).ok_or("pickle has a value over the end of its frame")?;
        }
        self.left = left;
        Ok(taken)
    }
}

const CUT: &str = "record is cut short";
const NAMELESS: &str = "pickle names a class without a name";
const NO_CLASS: &str = "pickle calls what is no class";
const MEMO: &str = "pickle remembers more than it has";

/// A number in two's complement, the least byte first; none is 0.
fn whole<'a>(bytes: &[u8]) -> Node<'a> {
    let negative = bytes.last().is_some_and(|byte| *byte >= 0x80);
    let mut number = [if negative { 0xff } else { 0 }; 16];
    match number.get_mut(..bytes.len()) {
        Some(low) => {
            low.copy_from_slice(bytes);
            Node::Whole(i128::from_le_bytes(number))
        }
        None => Node::Huge,
    }
}
