//! The values that a pickle makes, and which refers to which. Pure.
//!
//! 1. A value stands once, however often it is referred to.
//! 2. Told as data, a value that is referred to twice is two values: each is counted, its bytes too, and depth is bounded.
//!    A value within itself is nested too deeply.
//! 3. Names in maps are texts; a whole number as a name is written in decimal, an entry under any other name is left out.
//! 4. Lists, tuples and sets are lists; objects and classes are opaque, and what is put into an object is dropped. What a known
//!    class would give (`known`) is what it holds.
//!
//! # Why
//! A list of thirty levels that has each next one twice is 200 bytes of pickle and a thousand million values of data
//! (rule 2). What is filled after it was referred to is seen filled by all who refer to it: that is how Python reads it.

use super::super::datum::{Budget, Datum, room};
use super::known::Known;

/// Where a value stands.
#[derive(Clone, Copy, Debug)]
pub struct Place(usize);

/// A value.
#[derive(Debug)]
pub enum Node<'a> {
    /// `None`.
    Nothing,
    /// `True`, `False`.
    Flag(bool),
    /// `int`.
    Whole(i128),
    /// `int` beyond 128 bits.
    Huge,
    /// `float`.
    Float(f64),
    /// `str`.
    Text(&'a str),
    /// `bytes`, or a `str` that is not Unicode.
    Bytes(&'a [u8]),
    /// `list`.
    List(Vec<Place>),
    /// `tuple`, `frozenset`: nothing is added to it.
    Fixed(Vec<Place>),
    /// `set`.
    Set(Vec<Place>),
    /// `dict`.
    Map(Vec<(Place, Place)>),
    /// What could be called; it is not.
    Class(Option<Known>),
    /// What calling it would have given, whatever is put into it.
    Object,
}

/// The values of one pickle.
#[derive(Debug, Default)]
pub struct Graph<'a> {
    nodes: Vec<Node<'a>>,
    budget: Budget,
    /// Bytes of the pickle.
    length: usize,
}

impl<'a> Graph<'a> {
    /// Of a pickle of so many bytes; nothing yet.
    pub fn of(length: usize) -> Self {
        Self { nodes: Vec::new(), budget: Budget::of(length), length }
    }

    /// One more value.
    ///
    /// # Errors
    /// There are too many.
    pub fn add(&mut self, node: Node<'a>) -> Result<Place, &'static str> {
        self.budget.spend()?;
        self.nodes.push(node);
        Ok(Place(self.nodes.len() - 1))
    }

    /// What `known` would give of `arguments`, a tuple; an object unless that is certain.
    ///
    /// # Errors
    /// There are too many values: what is copied is counted again.
    pub fn known(&mut self, known: Known, arguments: Place) -> Result<Node<'a>, &'static str> {
        let Node::Fixed(arguments) = self.at(arguments)? else { return Ok(Node::Object) };
        let only = match arguments.as_slice() {
            [] => None,
            [only] => Some(self.at(*only)?),
            _ => return Ok(Node::Object),
        };
        Ok(match (known, only) {
            (Known::Text, Some(Node::Text(text))) => Node::Text(text),
            (Known::Ordered, None) | (Known::Defaulting, _) => Node::Map(Vec::new()),
            (Known::Set, Some(Node::List(items))) => {
                let items = items.clone();
                self.count(items.len())?;
                Node::Set(items)
            }
            (Known::Frozen, Some(Node::List(items))) => {
                let items = items.clone();
                self.count(items.len())?;
                Node::Fixed(items)
            }
            _ => Node::Object,
        })
    }

    fn count(&mut self, values: usize) -> Result<(), &'static str> {
        (0..values).try_for_each(|_| self.budget.spend())
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The value at `place`.
    ///
    /// # Errors
    /// There is none: a place is of another graph.
    pub fn at(&self, place: Place) -> Result<&Node<'a>, &'static str> {
        self.nodes.get(place.0).ok_or("pickle has no such value")
    }

    /// The value at `place`, to be filled.
    ///
    /// # Errors
    /// There is none: a place is of another graph.
    pub fn fill(&mut self, place: Place) -> Result<&mut Node<'a>, &'static str> {
        self.nodes.get_mut(place.0).ok_or("pickle has no such value")
    }

    /// The value at `place` and all that it refers to, as data.
    ///
    /// # Errors
    /// It is nested too deeply, or is too much (rule 2).
    pub fn tell(&self, place: Place) -> Result<Datum, &'static str> {
        Telling { graph: self, left: room(self.length) }.datum(place, &mut Budget::of(self.length))
    }
}

struct Telling<'a> {
    graph: &'a Graph<'a>,
    left: usize,
}

impl Telling<'_> {
    fn datum(&mut self, place: Place, budget: &mut Budget) -> Result<Datum, &'static str> {
        budget.spend()?;
        Ok(match self.graph.at(place)? {
            Node::Nothing => Datum::Nothing,
            Node::Flag(truth) => Datum::Flag(*truth),
            Node::Whole(number) => Datum::Whole(*number),
            Node::Float(number) => Datum::Float(*number),
            Node::Text(text) => Datum::Text(self.copy(text)?),
            Node::Bytes(bytes) => {
                self.pay(bytes.len())?;
                Datum::Bytes(bytes.to_vec())
            }
            Node::List(items) | Node::Fixed(items) | Node::Set(items) => budget.within(|budget| {
                let items = items.iter().map(|item| self.datum(*item, budget));
                items.collect::<Result<_, _>>().map(Datum::List)
            })?,
            Node::Map(entries) => budget.within(|budget| self.entries(entries, budget).map(Datum::Map))?,
            Node::Huge | Node::Class(_) | Node::Object => Datum::Opaque,
        })
    }

    fn entries(
        &mut self,
        entries: &[(Place, Place)],
        budget: &mut Budget,
    ) -> Result<Vec<(String, Datum)>, &'static str> {
        let mut told = Vec::new();
        for (name, value) in entries {
            // What is left out is counted as well: it takes time.
            budget.spend()?;
            let name = match self.graph.at(*name)? {
                Node::Text(name) => self.copy(name)?,
                Node::Whole(name) => name.to_string(),
                _ => continue,
            };
            told.push((name, self.datum(*value, budget)?));
        }
        Ok(told)
    }

    fn copy(&mut self, text: &str) -> Result<String, &'static str> {
        self.pay(text.len())?;
        Ok(text.to_owned())
    }

    fn pay(&mut self, bytes: usize) -> Result<(), &'static str> {
        self.left = self.left.checked_sub(bytes).ok_or("record says the same too often")?;
        Ok(())
    }
}
