//! Follows the links of a marshalled value: from what was read to what it says.

use crate::session::format::datum::{Budget, Datum, room};

/// A value as it was read; others are named by their places.
#[derive(Debug)]
pub enum Node<'a> {
    /// Says what it says.
    Leaf(Datum),
    /// Text, if it is UTF-8.
    Text(&'a [u8]),
    /// A symbol.
    Symbol(&'a [u8]),
    /// A list.
    List(Vec<usize>),
    /// A hash: names and values.
    Map(Vec<(usize, usize)>),
    /// An object or a structure.
    Object {
        /// Its class.
        class: &'a [u8],
        /// Its variables, or members.
        variables: Vec<(&'a [u8], usize)>,
    },
}

/// What the node at `top` says, with all that it leads to, of a record of `length` bytes. Names are written once and linked to, so it
/// says more text than is written.
///
/// # Errors
/// Links make it too deep, too many values, or more text than a record may have.
pub fn expanded(nodes: &[Node<'_>], top: usize, length: usize) -> Result<Datum, &'static str> {
    let mut expansion = Expansion { nodes, entered: vec![false; nodes.len()], room: room(length) };
    expansion.datum(top, &mut Budget::of(length))
}

struct Expansion<'n, 'a> {
    nodes: &'n [Node<'a>],
    /// Those that are being expanded.
    entered: Vec<bool>,
    /// Bytes of text that may still come.
    room: usize,
}

impl<'n, 'a> Expansion<'n, 'a> {
    fn datum(&mut self, place: usize, budget: &mut Budget) -> Result<Datum, &'static str> {
        budget.spend()?;
        let nodes = self.nodes;
        let Some(node) = nodes.get(place) else { return Ok(Datum::Opaque) };
        match node {
            Node::Text(bytes) | Node::Symbol(bytes) => self.text(bytes),
            Node::Leaf(Datum::Bytes(bytes)) => {
                self.make_room(bytes.len())?;
                Ok(Datum::Bytes(bytes.clone()))
            }
            Node::Leaf(datum) => Ok(datum.clone()),
            Node::List(_) | Node::Map(_) | Node::Object { .. } => {
                if self.enter(place, true) {
                    return Ok(Datum::Opaque);
                }
                let made = budget.within(|budget| self.inside(node, budget));
                self.enter(place, false);
                made
            }
        }
    }

    fn inside(&mut self, node: &'n Node<'a>, budget: &mut Budget) -> Result<Datum, &'static str> {
        match node {
            Node::List(items) => {
                items.iter().map(|item| self.datum(*item, budget)).collect::<Result<_, _>>().map(Datum::List)
            }
            Node::Map(entries) => {
                // Of one name the last counts: texts come after all others.
                let is_text = |name: usize| matches!(self.nodes.get(name), Some(Node::Text(_)));
                let (texts, others): (Vec<_>, Vec<_>) = entries.iter().partition(|(name, _)| is_text(*name));
                let mut read = Vec::new();
                for (name, value) in others.into_iter().chain(texts) {
                    let value = self.datum(value, budget)?;
                    match self.datum(name, budget)? {
                        Datum::Text(name) => read.push((name, value)),
                        Datum::Whole(number) => read.push((number.to_string(), value)),
                        _ => {}
                    }
                }
                Ok(Datum::Map(read))
            }
            Node::Object { variables, .. } => {
                let mut read = Vec::new();
                for (name, value) in variables {
                    let value = self.datum(*value, budget)?;
                    if let Datum::Text(name) = self.text(name)? {
                        read.push((name, value));
                    }
                }
                Ok(Datum::Map(read))
            }
            Node::Leaf(_) | Node::Text(_) | Node::Symbol(_) => Ok(Datum::Opaque),
        }
    }

    fn text(&mut self, bytes: &[u8]) -> Result<Datum, &'static str> {
        self.make_room(bytes.len())?;
        Ok(Datum::of_bytes(bytes))
    }

    fn make_room(&mut self, bytes: usize) -> Result<(), &'static str> {
        self.room = self.room.checked_sub(bytes).ok_or("record has too much text")?;
        Ok(())
    }

    /// Notes whether a node is being expanded; says whether it was.
    fn enter(&mut self, place: usize, inside: bool) -> bool {
        self.entered.get_mut(place).is_some_and(|entered| std::mem::replace(entered, inside))
    }
}
