//! pickle of Python, protocols 2 to 5, read as data: nothing is imported, called or made. Pure.
//!
//! 1. A closed set of opcodes makes data (`opcode`); any other ends the reading, and the reason names it.
//! 2. A class is a marker that nobody looks up (STACK_GLOBAL), and what calling it would give is opaque (REDUCE): a record
//!    with a `datetime` or a `Decimal` keeps its other attributes. What is put into such an object is dropped.
//! 3. A pickle begins with its protocol and ends with STOP, exactly one value on the stack, and nothing behind it. A frame
//!    (PEP 3154) is no longer than the record, and no value reaches over its end.
//! 4. Work is bounded by the record's length, memory by the number of its values; nothing is reserved for a length that is
//!    merely claimed. No more values are remembered (MEMOIZE) than there are.
//!
//! # Why
//! Loading a pickle runs whatever code its writer chose. This reads the few words that a dictionary of plain values is
//! written with, and has no other.

mod graph;
mod opcode;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use self::graph::{Graph, Node, Place};
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
            BINFLOAT => {
                let number = f64::from_be_bytes(self.array()?);
                self.push(Node::Float(number))
            }
            SHORT_BINUNICODE | BINUNICODE => {
                let bytes = self.counted(opcode == SHORT_BINUNICODE)?;
                self.push(std::str::from_utf8(bytes).map_or(Node::Bytes(bytes), Node::Text))
            }
            SHORT_BINBYTES | BINBYTES => {
                let bytes = self.counted(opcode == SHORT_BINBYTES)?;
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
            STACK_GLOBAL => self.class(),
            REDUCE => self.object(),
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
        for part in self.pop_many(2)? {
            if !matches!(self.graph.at(part)?, Node::Text(_)) {
                return Err("pickle names a class without a name");
            }
        }
        self.push(Node::Class)
    }

    fn object(&mut self) -> Step {
        let parts = self.pop_many(2)?;
        let [class, arguments] = parts.as_slice() else { return Err("pickle takes what is not there") };
        if !matches!((self.graph.at(*class)?, self.graph.at(*arguments)?), (Node::Class, Node::Fixed(_))) {
            return Err("pickle calls what is no class");
        }
        self.push(Node::Object)
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

    fn counted(&mut self, short: bool) -> Result<&'a [u8], &'static str> {
        let length = self.name(short)?;
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
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
