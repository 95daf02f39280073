//! What a relay writes down.

use std::collections::HashMap;

use super::frames;

/// Words of a command that are kept, and bytes of each.
const WORDS: usize = 12;
const BYTES: usize = 160;
/// Commands that are kept; later ones are not written down.
const COMMANDS: usize = 200_000;

/// A command: its first words, each cut to a bounded length. `EVALSHA` also stands as `evalsha` if it came so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Name, arguments.
    pub words: Vec<String>,
}

impl Command {
    /// Its name in capitals.
    pub fn name(&self) -> String {
        self.words.first().map(|name| name.to_ascii_uppercase()).unwrap_or_default()
    }

    /// Whether it begins with these words: `CLIENT TRACKING`.
    pub fn begins(&self, with: &str) -> bool {
        let mut own = self.words.iter();
        with.split(' ').all(|word| own.next().is_some_and(|own| own.eq_ignore_ascii_case(word)))
    }

    /// Whether a word of it contains this.
    pub fn mentions(&self, text: &str) -> bool {
        self.words.iter().any(|word| word.contains(text))
    }

    pub(super) fn read(frame: &[u8]) -> Self {
        let cut = |word: &[u8]| String::from_utf8_lossy(&word[..word.len().min(BYTES)]).into_owned();
        Self { words: frames::words(frame).take(WORDS).map(cut).collect() }
    }
}

/// What was sent on one connection without waiting for an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trip {
    /// Which connection: 0, 1, 2 … in the order they were made.
    pub connection: usize,
    /// In the order they came.
    pub commands: Vec<Command>,
}

impl Trip {
    /// The names of its commands.
    pub fn names(&self) -> Vec<String> {
        self.commands.iter().map(Command::name).collect()
    }
}

#[derive(Default)]
pub(super) struct Record {
    pub(super) trips: Vec<Trip>,
    /// By connection: its last trip.
    last: HashMap<usize, usize>,
    commands: usize,
}

impl Record {
    /// Writes commands down: with those before them on this connection, or as a new trip.
    pub(super) fn add(&mut self, connection: usize, new: bool, commands: impl Iterator<Item = Command>) {
        if self.commands >= COMMANDS {
            return;
        }
        if new || !self.last.contains_key(&connection) {
            self.last.insert(connection, self.trips.len());
            self.trips.push(Trip { connection, commands: Vec::new() });
        }
        let trip = &mut self.trips[self.last[&connection]].commands;
        let before = trip.len();
        trip.extend(commands);
        self.commands += trip.len() - before;
    }
}
