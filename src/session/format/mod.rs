//! How session records are written: one file for each way.
//!
//! 1. Of a record only the attributes that the configuration names are kept, as text.
//! 2. A user is named by a text that is not empty, or by a number. Nothing, `null`, `""`, `true`, `false`, lists and
//!    objects name nobody.
//! 3. A record beyond [`MAX_RECORD`] is not read; an attribute beyond [`MAX_TEXT`] is left out.
//!
//! # Why
//! Rule 2: a flag would make one user of all who are logged in, and what is stored or counted for one would be for all.

pub mod hash;
pub mod json;

use super::Definition;

/// The largest record that is read, in bytes.
pub const MAX_RECORD: usize = 256 * 1024;

/// The longest text of an attribute, in bytes.
pub const MAX_TEXT: usize = 4096;

/// What a session record says, as far as it is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Who is logged in, if anybody.
    pub user: Option<String>,
    /// The wanted attributes that it has, by dotted path.
    pub attributes: Vec<(String, String)>,
}

/// What is wanted of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted(Vec<String>);

impl Wanted {
    /// The user, and whatever else `definition` forwards or counts by; each once.
    pub fn of(definition: &Definition) -> Self {
        let mut paths = vec![definition.user.clone()];
        let others = definition.forward.iter().map(|(_, path)| path).chain(&definition.attributes);
        for path in others {
            if !paths.contains(path) {
                paths.push(path.clone());
            }
        }
        Self(paths)
    }

    /// Dotted paths, that of the user first.
    pub fn paths(&self) -> &[String] {
        &self.0
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn wanted(paths: &[&str]) -> Wanted {
        Wanted(paths.iter().map(|path| (*path).to_owned()).collect())
    }
}
