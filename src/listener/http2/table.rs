//! The tables that indices of a block of fields refer to (RFC 7541 §2.3), without their values. Pure.
//!
//! 1. An index is of one of both tables, or COMPRESSION_ERROR (§2.3.3).
//! 2. What comes in puts the oldest out, by the bytes of names and values; what is larger than all puts all out (§4.4).
//! 3. No size that a client sets is beyond what we allow, which is [`LARGEST`] (§4.2).
//!
//! # Why
//! What an entry takes away from the table is known from two lengths; what it means for a request, from its name and, with
//! TE alone, a bit about its value. That is 8 bytes for each of at most 128 entries, whatever the client sends.

use std::collections::VecDeque;

use h2::Reason;

/// Bytes of the dynamic table: as we announce no other, those of RFC 9113 §6.5.2.
pub const LARGEST: usize = 4096;
/// Bytes that an entry counts beyond its name and value (RFC 7541 §4.1).
const OVERHEAD: usize = 32;

/// What a name means here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A pseudo-field; a bit of its own for each that there is.
    Pseudo(u8),
    /// `connection` and what belongs to it (RFC 9113 §8.2.2).
    Connection,
    /// `te`, which is one of those unless it says `trailers`.
    Te,
    /// Any other.
    Regular,
}

/// `:path`.
pub const PATH: Kind = Kind::Pseudo(0x04);
/// `te`'s one value.
pub const TRAILERS: &[u8] = b"trailers";
/// Bytes of the longest name that is told from others.
pub const LONGEST_NAME: usize = 17;

impl Kind {
    /// Of a name, or of what it begins with: one byte more than [`LONGEST_NAME`] is enough.
    pub const fn of(name: &[u8]) -> Self {
        match name {
            b":authority" => Self::Pseudo(0x01),
            b":method" => Self::Pseudo(0x02),
            b":path" => PATH,
            b":scheme" => Self::Pseudo(0x08),
            b":status" => Self::Pseudo(0x10),
            b":protocol" => Self::Pseudo(0x20),
            [b':', ..] => Self::Pseudo(0x40),
            b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" => Self::Connection,
            b"te" => Self::Te,
            _ => Self::Regular,
        }
    }
}

/// A name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// What it means.
    pub kind: Kind,
    /// Its bytes.
    pub length: usize,
}

/// A field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: Kind,
    /// It belongs to one connection: no request may hold it.
    pub hop_by_hop: bool,
}

/// An entry of the dynamic table.
#[derive(Clone, Copy, Debug)]
struct Entry {
    field: Field,
    name_length: u16,
    /// What it counts.
    size: u16,
}

/// Both tables, as a client's blocks see them.
#[derive(Debug)]
pub struct Table {
    /// The youngest first.
    entries: VecDeque<Entry>,
    size: usize,
    most: usize,
}

impl Table {
    /// Of a connection that begins.
    pub const fn new() -> Self {
        Self { entries: VecDeque::new(), size: 0, most: LARGEST }
    }

    /// The field at `index`, and its name.
    ///
    /// # Errors
    /// COMPRESSION_ERROR, if there is none.
    pub fn at(&self, index: usize) -> Result<(Field, Name), Reason> {
        let place = index.checked_sub(1).ok_or(Reason::COMPRESSION_ERROR)?;
        if let Some(name) = STATIC.get(place) {
            return Ok((Field { name: name.kind, hop_by_hop: matches!(name.kind, Kind::Connection) }, *name));
        }
        let entry = self.entries.get(place - STATIC.len()).ok_or(Reason::COMPRESSION_ERROR)?;
        Ok((entry.field, Name { kind: entry.field.name, length: usize::from(entry.name_length) }))
    }

    /// Takes in a field whose name and value have so many bytes.
    pub fn insert(&mut self, field: Field, name_length: usize, value_length: usize) {
        let size = name_length + value_length + OVERHEAD;
        self.make_room(size);
        // It fits into 16 bits: it is no larger than the table.
        if let (true, Ok(name_length), Ok(small)) = (size <= self.most, name_length.try_into(), size.try_into()) {
            self.size += size;
            self.entries.push_front(Entry { field, name_length, size: small });
        }
    }

    /// Sets how many bytes there may be from now on.
    ///
    /// # Errors
    /// COMPRESSION_ERROR, if that is more than we allow.
    pub fn resize(&mut self, most: usize) -> Result<(), Reason> {
        if most > LARGEST {
            return Err(Reason::COMPRESSION_ERROR);
        }
        self.most = most;
        self.make_room(0);
        Ok(())
    }

    fn make_room(&mut self, size: usize) {
        while self.size + size > self.most {
            let Some(oldest) = self.entries.pop_back() else { return };
            self.size -= usize::from(oldest.size);
        }
    }
}

/// The static table (Appendix A).
static STATIC: [Name; 61] = {
    let mut table = [Name { kind: Kind::Regular, length: 0 }; 61];
    let mut place = 0;
    while place < table.len() {
        let name = NAMES[place].as_bytes();
        table[place] = Name { kind: Kind::of(name), length: name.len() };
        place += 1;
    }
    table
};

#[rustfmt::skip]
const NAMES: [&str; 61] = [
    ":authority", ":method", ":method", ":path", ":path", ":scheme", ":scheme", ":status", ":status", ":status",
    ":status", ":status", ":status", ":status", "accept-charset", "accept-encoding", "accept-language",
    "accept-ranges", "accept", "access-control-allow-origin", "age", "allow", "authorization", "cache-control",
    "content-disposition", "content-encoding", "content-language", "content-length", "content-location",
    "content-range", "content-type", "cookie", "date", "etag", "expect", "expires", "from", "host", "if-match",
    "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "last-modified", "link", "location",
    "max-forwards", "proxy-authenticate", "proxy-authorization", "range", "referer", "refresh", "retry-after",
    "server", "set-cookie", "strict-transport-security", "transfer-encoding", "user-agent", "vary", "via",
    "www-authenticate",
];

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const REGULAR: Field = Field { name: Kind::Regular, hop_by_hop: false };

    #[test]
    fn the_static_table_is_that_of_the_appendix() {
        let table = Table::new();
        for (index, name) in
            [(1, ":authority"), (5, ":path"), (14, ":status"), (32, "cookie"), (61, "www-authenticate")]
        {
            let (field, found) = table.at(index).expect("an entry");
            assert_eq!(found, Name { kind: Kind::of(name.as_bytes()), length: name.len() }, "{name}");
            assert_eq!(field.name, found.kind);
        }
        assert!(table.at(57).expect("transfer-encoding").0.hop_by_hop);
        assert!(table.at(0).is_err());
        assert!(table.at(62).is_err());
        assert!(table.at(usize::MAX).is_err());
    }

    #[test]
    fn the_oldest_go_for_what_comes_in() {
        let mut table = Table::new();
        let path = Field { name: PATH, hop_by_hop: false };
        table.insert(path, 5, 100);
        table.insert(REGULAR, 4, 4);
        assert_eq!(table.at(63).map(|(field, name)| (field, name.length)), Ok((path, 5)));
        // 137 and 40 are in; 3,919 are left.
        table.insert(REGULAR, 3000, 887);
        assert!(table.at(64).is_ok());
        table.insert(REGULAR, 1, 0);
        assert_eq!(table.at(64).map(|(_, name)| name.length), Ok(4));
        assert!(table.at(65).is_err());
    }

    #[test]
    fn an_entry_is_small() {
        assert_eq!(size_of::<Entry>(), 8);
    }

    #[test]
    fn what_is_larger_than_the_table_empties_it() {
        let mut table = Table::new();
        table.insert(REGULAR, 1, 1);
        table.insert(REGULAR, 5, 5000);
        assert!(table.at(62).is_err());
        table.insert(REGULAR, 64, 4000);
        assert!(table.at(62).is_ok());
    }

    #[test]
    fn a_smaller_table_loses_its_oldest() {
        let mut table = Table::new();
        (1..=3).for_each(|length| table.insert(REGULAR, length, 0));
        assert_eq!(table.resize(3 + 2 + 64), Ok(()));
        assert!(table.at(63).is_ok() && table.at(64).is_err());
        assert_eq!(table.resize(0), Ok(()));
        assert!(table.at(62).is_err());
        table.insert(REGULAR, 0, 0);
        assert!(table.at(62).is_err());
        assert_eq!(table.resize(LARGEST + 1), Err(Reason::COMPRESSION_ERROR));
    }

    proptest! {
        #[test]
        fn it_holds_the_youngest_that_fit(lengths in vec((0_usize..300, 0_usize..1500), 0..60)) {
            let mut table = Table::new();
            let mut all = Vec::new();
            for (name, value) in lengths {
                table.insert(REGULAR, name, value);
                all.push(name + value + OVERHEAD);
                let mut sum = 0;
                let fit = all.iter().rev().take_while(|size| { sum += **size; sum <= LARGEST }).count();
                prop_assert_eq!(table.entries.len(), fit);
                prop_assert_eq!(table.at(61 + fit).is_ok(), true);
                prop_assert!(table.at(62 + fit).is_err());
            }
        }
    }
}
