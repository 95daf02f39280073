//! The lines of one log, from a file or from standard input.
//!
//! 1. A log is read as a stream: no more of it is held than [`BUFFER`] bytes, however long its lines are.
//! 2. A line longer than [`LONGEST`] is skipped, and said to be there.
//! 3. A last line without an end is a line.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use memchr::memchr;

/// Bytes of a line.
pub const LONGEST: usize = 64 * 1024;

/// Bytes that are read at once.
const BUFFER: usize = 4 * LONGEST;

/// How a file begins that gzip has made.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// A log that is being read.
pub struct Source {
    /// What it is called.
    pub name: String,
    /// Lines so far.
    pub lines: u64,
    /// Bytes so far.
    pub bytes: u64,
    /// The latest time that a line of it told, in µs since the Unix epoch; `u64::MAX` once it has ended.
    pub newest: u64,
    input: Box<dyn Read>,
    buffer: Box<[u8]>,
    /// What of the buffer has been read and not been given yet.
    start: usize,
    end: usize,
    ended: bool,
}

/// A line, or that there was one.
pub enum Piece<'s> {
    /// A line without its end.
    Line(&'s [u8]),
    /// A line longer than [`LONGEST`].
    TooLong,
}

impl Source {
    /// Opens a file, or `-`: standard input. Also says how long a file is.
    ///
    /// # Errors
    /// It cannot be opened, or is compressed.
    pub fn open(path: &Path) -> io::Result<(Self, Option<u64>)> {
        if path == Path::new("-") {
            return Ok((Self::new("standard input", Box::new(io::stdin().lock())), None));
        }
        let file = File::open(path)?;
        let about = file.metadata()?;
        if about.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let mut source = Self::new(&path.display().to_string(), Box::new(file));
        source.fill()?;
        if source.buffer[..source.end].starts_with(&GZIP) {
            return Err(io::Error::other("it is compressed: `zcat FILE | sidegate replay -` reads it"));
        }
        Ok((source, about.is_file().then_some(about.len())))
    }

    /// The lines of `input`.
    pub fn new(name: &str, input: Box<dyn Read>) -> Self {
        let buffer = vec![0; BUFFER].into_boxed_slice();
        Self { name: name.to_owned(), lines: 0, bytes: 0, newest: 0, input, buffer, start: 0, end: 0, ended: false }
    }

    /// The next line; `None` at the end.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn next(&mut self) -> io::Result<Option<Piece<'_>>> {
        let (mut looked, mut too_long) = (0, false);
        loop {
            if let Some(at) = memchr(b'\n', &self.buffer[self.start + looked..self.end]) {
                let line = self.start..self.start + looked + at;
                self.start = line.end + 1;
                return Ok(Some(self.piece(line, 1, too_long)));
            }
            looked = self.end - self.start;
            if looked > LONGEST {
                // What comes before the end of this line is of no use.
                self.bytes += looked as u64;
                (self.start, self.end, looked, too_long) = (0, 0, 0, true);
            }
            if self.ended || self.fill()? == 0 {
                self.ended = true;
                if looked == 0 && !too_long {
                    self.newest = u64::MAX;
                    return Ok(None);
                }
                let line = self.start..self.end;
                self.start = self.end;
                return Ok(Some(self.piece(line, 0, too_long)));
            }
        }
    }

    fn piece(&mut self, line: std::ops::Range<usize>, end: u64, too_long: bool) -> Piece<'_> {
        self.lines += 1;
        self.bytes += line.len() as u64 + end;
        let line = &self.buffer[line];
        if too_long || line.len() > LONGEST {
            return Piece::TooLong;
        }
        Piece::Line(line.strip_suffix(b"\r").unwrap_or(line))
    }

    /// Reads on; 0 at the end.
    fn fill(&mut self) -> io::Result<usize> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        loop {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(read) => {
                    self.end += read;
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a few bytes at a time.
    struct Trickle(Vec<u8>, usize);

    impl Read for Trickle {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let few = self.1.min(self.0.len()).min(into.len());
            into[..few].copy_from_slice(&self.0[..few]);
            self.0.drain(..few);
            Ok(few)
        }
    }

    fn lines(text: &[u8], at_once: usize) -> Vec<Option<Vec<u8>>> {
        let mut source = Source::new("log", Box::new(Trickle(text.to_vec(), at_once)));
        let mut lines = Vec::new();
        while let Some(piece) = source.next().unwrap() {
            lines.push(match piece {
                Piece::Line(line) => Some(line.to_vec()),
                Piece::TooLong => None,
            });
        }
        assert_eq!((source.lines, source.bytes), (lines.len() as u64, text.len() as u64));
        lines
    }

    #[test]
    fn lines_come_whole_however_they_arrive() {
        for at_once in [1, 2, 7, 1000] {
            let told = lines(b"a\n\nbc\r\nlast", at_once);
            assert_eq!(told, [&b"a"[..], b"", b"bc", b"last"].map(|line| Some(line.to_vec())));
            assert_eq!(lines(b"a\n", at_once).len(), 1);
            assert!(lines(b"", at_once).is_empty());
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_one_line_and_the_next_is_whole() {
        for length in [LONGEST, LONGEST + 1, BUFFER - 1, BUFFER, BUFFER + 1, 3 * BUFFER] {
            let mut text = vec![b'x'; length];
            text.extend_from_slice(b"\nnext\n");
            text.extend(vec![b'y'; length]);
            for at_once in [1000, BUFFER] {
                let told = lines(&text, at_once);
                assert_eq!(told.len(), 3, "{length}");
                assert_eq!(told[0].is_some(), length <= LONGEST, "{length}");
                assert_eq!(told[1].as_deref(), Some(&b"next"[..]));
                assert_eq!(told[2].is_some(), length <= LONGEST, "{length}");
            }
        }
    }
}
