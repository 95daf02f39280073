//! Classes of which it is certain what they would give; all others give something opaque. Pure.
//!
//! | class | made by | of | is |
//! |---|---|---|---|
//! | `markupsafe.Markup`, `django.utils.safestring.SafeString` | NEWOBJ | one text | that text |
//! | `collections.OrderedDict` | REDUCE | nothing | a map, filled afterwards |
//! | `collections.defaultdict` | REDUCE | a factory, or nothing | a map, filled afterwards |
//! | `set`, `frozenset` of `builtins` (2 and 3 only) | REDUCE | one list | a list |
//!
//! A class is known by its module and its whole name, letter by letter, and by the one opcode that Python writes for it.
//!
//! # Why
//! A flashed message of Flask is `Markup`, and a cart in order an `OrderedDict`: they say what is in them and nothing else.
//! What a `UUID` or a `datetime` says takes code to tell.

/// A class of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// A text that is safe in HTML.
    Text,
    /// A map that keeps its order.
    Ordered,
    /// A map that answers for names that it does not have.
    Defaulting,
    /// `set`.
    Set,
    /// `frozenset`.
    Frozen,
}

impl Known {
    /// The class that is called so, if it is one of them.
    pub fn of(module: &str, name: &str) -> Option<Self> {
        match (module, name) {
            ("markupsafe", "Markup") | ("django.utils.safestring", "SafeString") => Some(Self::Text),
            ("collections", "OrderedDict") => Some(Self::Ordered),
            ("collections", "defaultdict") => Some(Self::Defaulting),
            ("builtins" | "__builtin__", "set") => Some(Self::Set),
            ("builtins" | "__builtin__", "frozenset") => Some(Self::Frozen),
            _ => None,
        }
    }

    /// Whether Python makes it by NEWOBJ, and not by REDUCE.
    pub fn is_new(self) -> bool {
        self == Self::Text
    }
}
