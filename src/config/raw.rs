//! Reads a parsed TOML document, key by key.
//!
//! 1. A key that is asked for is a known key; what is left when a table has been read is unknown. No list to keep in step.
//! 2. Whatever is wrong is noted with its place, and reading goes on: all errors come at once.
//! 3. A value that is wrong reads as absent. Since something was noted, the settings made from it are never used.
//! 4. Literal secrets are remembered by place, so that no message quotes them.
//!
//! # Why
//! serde stops at its first error and loses positions in all but the plainest structs. A document that is walked keeps
//! both, and each key stands once, beside the reader that gives it a meaning.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::path::{Path, PathBuf};

use http::HeaderName;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::diagnostic::Severity;

type Key<'d> = Spanned<DeString<'d>>;

/// Something wrong with a value; where: at the value, unless said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

/// What was noted while reading.
#[derive(Clone, Debug)]
pub struct Finding {
    /// How grave.
    pub severity: Severity,
    /// Where, in bytes.
    pub at: Range<usize>,
    /// What.
    pub fault: Fault,
}

/// The reading of one file: what it may look at besides the text, and what it found.
pub struct Reading<'d> {
    text: &'d str,
    /// Environment variables.
    pub environment: &'d dyn Fn(&str) -> Option<String>,
    /// Where relative paths start: the file's folder.
    pub folder: &'d Path,
    /// The process keeps session records itself: sessions need no Redis.
    pub keeps_sessions: bool,
    /// Files of secrets that were read.
    pub secret_files: RefCell<Vec<PathBuf>>,
    /// The fields that tell of clients' certificates; `None`: nobody is asked for one. Known once `[server]` has been read.
    pub certificate_fields: RefCell<Option<Vec<HeaderName>>>,
    /// Somebody's word about the client is believed. Known once `[server]` has been read.
    pub trusts_proxies: Cell<bool>,
    findings: RefCell<Vec<Finding>>,
    secrets: RefCell<Vec<Range<usize>>>,
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    /// Where, in bytes.
    pub at: Range<usize>,
}

/// A value of the document.
#[derive(Clone)]
pub struct Value<'d> {
    value: &'d DeValue<'d>,
    /// Where it stands, in bytes.
    pub at: Range<usize>,
    /// The reading it belongs to.
    pub reading: &'d Reading<'d>,
}

/// A table of the document while it is being read.
pub struct Table<'d> {
    name: String,
    /// Its header, or the whole of an inline table.
    pub at: Range<usize>,
    entries: &'d DeTable<'d>,
    asked: Vec<&'static str>,
    tables_go_to: Option<&'static str>,
    elsewhere: Vec<(&'static str, String)>,
    /// The reading it belongs to.
    pub reading: &'d Reading<'d>,
}

impl Fault {
    /// A fault and its remedy.
    pub fn with_help(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: Some(help.into()) }
    }
}

impl<T: Into<String>> From<T> for Fault {
    fn from(message: T) -> Self {
        Self { message: message.into(), help: None }
    }
}

impl<'d> Reading<'d> {
    /// A reading that has found nothing yet.
    pub fn new(text: &'d str, environment: &'d dyn Fn(&str) -> Option<String>, folder: &'d Path) -> Self {
        Self {
            text,
            environment,
            folder,
            keeps_sessions: false,
            secret_files: RefCell::default(),
            certificate_fields: RefCell::default(),
            trusts_proxies: Cell::default(),
            findings: RefCell::default(),
            secrets: RefCell::default(),
        }
    }

    /// Notes an error.
    pub fn error(&self, at: &Range<usize>, fault: impl Into<Fault>) {
        self.note(Severity::Error, at, fault.into());
    }

    /// Notes a warning.
    pub fn warning(&self, at: &Range<usize>, fault: impl Into<Fault>) {
        self.note(Severity::Warning, at, fault.into());
    }

    /// Remembers that a secret stands here.
    pub fn hide(&self, at: Range<usize>) {
        self.secrets.borrow_mut().push(at);
    }

    /// The text at a place, as written.
    pub fn written(&self, at: &Range<usize>) -> &'d str {
        self.text.get(at.clone()).unwrap_or_default()
    }

    /// The line, from 1, of a place in the text.
    pub fn line(&self, place: usize) -> usize {
        self.text.bytes().take(place).filter(|byte| *byte == b'\n').count() + 1
    }

    /// What was found, in the text's order, and where secrets stand.
    pub fn finish(self) -> (Vec<Finding>, Vec<Range<usize>>) {
        let mut findings = self.findings.into_inner();
        findings.sort_by_key(|finding| finding.at.start);
        (findings, self.secrets.into_inner())
    }

    fn note(&self, severity: Severity, at: &Range<usize>, fault: Fault) {
        self.findings.borrow_mut().push(Finding { severity, at: at.clone(), fault });
    }
}

impl<'d> Table<'d> {
    /// The whole document.
    pub fn root(document: &'d DeTable<'d>, reading: &'d Reading<'d>) -> Self {
        Self {
            name: "the file".into(),
            at: 0..0,
            entries: document,
            asked: Vec::new(),
            tables_go_to: None,
            elsewhere: Vec::new(),
            reading,
        }
    }

    /// A value, if its key is there.
    pub fn value(&mut self, key: &'static str) -> Option<Value<'d>> {
        if !self.asked.contains(&key) {
            self.asked.push(key);
        }
        let value = self.entries.get(key)?;
        Some(Value { value: value.get_ref(), at: value.span(), reading: self.reading })
    }

    /// What `read` makes of a value, if its key is there and the value is right.
    pub fn read<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Value<'d>) -> Result<T, Fault>,
    ) -> Option<Placed<T>> {
        self.value(key)?.read(read)
    }

    /// Replaces a default by what the file says.
    pub fn set<T>(&mut self, key: &'static str, default: &mut T, read: impl FnOnce(&Value<'d>) -> Result<T, Fault>) {
        if let Some(placed) = self.read(key, read) {
            *default = placed.value;
        }
    }

    /// As [`Table::read`]; the key's absence is an error.
    pub fn require<T>(
        &mut self,
        key: &'static str,
        help: &str,
        read: impl FnOnce(&Value<'d>) -> Result<T, Fault>,
    ) -> Option<Placed<T>> {
        self.needs(key, help);
        self.read(key, read)
    }

    /// Notes an error if the key is absent.
    pub fn needs(&mut self, key: &'static str, help: &str) {
        if self.value(key).is_none() {
            self.reading.error(&self.at, Fault::with_help(format!("{} lacks `{key}`", self.name), help));
        }
    }

    /// Each item of a list, or the only value, that is right; `None` if the key is absent.
    pub fn list<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&Value<'d>) -> Result<T, Fault>,
    ) -> Option<Placed<Vec<Placed<T>>>> {
        let value = self.value(key)?;
        let items = value.items().iter().filter_map(|item| item.read(&mut read)).collect();
        Some(Placed { value: items, at: value.at })
    }

    /// As [`Table::list`]; an empty list is an error.
    pub fn filled<T>(
        &mut self,
        key: &'static str,
        read: impl FnMut(&Value<'d>) -> Result<T, Fault>,
    ) -> Option<Placed<Vec<Placed<T>>>> {
        if let Some(value) = self.value(key)
            && value.items().is_empty()
        {
            self.reading.error(&value.at, format!("`{key}` is an empty list"));
        }
        self.list(key, read)
    }

    /// Unknown tables in here are taken for a slip: they are `[title.NAME]`.
    pub fn tables_go_to(&mut self, title: &'static str) {
        self.tables_go_to = Some(title);
    }

    /// `key` is none of this table's, but often taken for one; `help` says where it belongs.
    pub fn belongs_elsewhere(&mut self, key: &'static str, help: impl Into<String>) {
        self.elsewhere.push((key, help.into()));
    }

    /// Reads a table inside this one, if it is there.
    pub fn section<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Table<'d>) -> T) -> Option<T> {
        let value = self.value(key)?;
        let name = if self.at.is_empty() { format!("`[{key}]`") } else { format!("`{key}`") };
        value.read(|value| value.table(&name, read)).map(|placed| placed.value)
    }

    /// Reads the tables `[key.NAME]`, in the text's order.
    pub fn named<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&Placed<String>, &mut Table<'d>) -> T,
    ) -> Vec<(Placed<String>, T)> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let read_one = |(name, value): (Placed<&str>, Value<'d>)| {
            let name = Placed { value: name.value.to_owned(), at: name.at };
            if !is_name(&name.value) {
                let message = format!("`{}` is not a name: up to 64 letters, digits, `-` and `_`", name.value);
                self.reading.error(&name.at, message);
            }
            let title = format!("`[{key}.{}]`", name.value);
            let made = value.read(|value| value.table(&title, |table| read(&name, table)))?;
            Some((name, made.value))
        };
        value.pairs(&format!("`{key}`")).into_iter().filter_map(read_one).collect()
    }

    /// Reads the tables `[[key]]`.
    pub fn repeated<T>(&mut self, key: &'static str, mut read: impl FnMut(&mut Table<'d>) -> T) -> Vec<T> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let name = format!("`[[{key}]]`");
        if !matches!(value.value, DeValue::Array(_)) {
            let help = format!("write `[[{key}]]`: there may be several");
            self.reading.error(&value.at, Fault::with_help(format!("`{key}` is not a list of tables"), help));
            return Vec::new();
        }
        let tables = value.items();
        tables.iter().filter_map(|table| Some(table.read(|value| value.table(&name, &mut read))?.value)).collect()
    }

    fn refuse_unknown(&self) {
        for (key, value) in in_order(self.entries) {
            let name: &str = key.get_ref();
            if !self.asked.contains(&name) {
                let misplaced = self.tables_go_to.filter(|_| value.get_ref().is_table());
                let elsewhere = self.elsewhere.iter().find(|(key, _)| *key == name).map(|(_, help)| help.clone());
                let help = misplaced
                    .map(|title| format!("did you mean `[{title}.{name}]`?"))
                    .or(elsewhere)
                    .or_else(|| did_you_mean(name, self.asked.iter().copied()))
                    .unwrap_or_else(|| format!("known here: {}", self.asked.join(", ")));
                self.reading
                    .error(&key.span(), Fault::with_help(format!("unknown key `{name}` in {}", self.name), help));
            }
        }
    }
}

impl<'d> Value<'d> {
    /// What `read` makes of it; a fault is noted at its place.
    pub fn read<T>(&self, read: impl FnOnce(&Self) -> Result<T, Fault>) -> Option<Placed<T>> {
        match read(self) {
            Ok(value) => Some(Placed { value, at: self.at.clone() }),
            Err(fault) => {
                self.reading.error(&self.at, fault);
                None
            }
        }
    }

    /// A text.
    ///
    /// # Errors
    /// It is something else.
    pub fn text(&self) -> Result<&'d str, Fault> {
        match self.value {
            DeValue::String(text) => Ok(text),
            other => Err(format!("expected a text in quotes, found {}", kind(other)).into()),
        }
    }

    /// `true` or `false`.
    ///
    /// # Errors
    /// It is something else.
    pub fn flag(&self) -> Result<bool, Fault> {
        match self.value {
            DeValue::Boolean(flag) => Ok(*flag),
            other => Err(format!("expected true or false, found {}", kind(other)).into()),
        }
    }

    /// A whole number within `range`.
    ///
    /// # Errors
    /// It is something else, or out of range.
    pub fn number(&self, range: Range<u64>) -> Result<u64, Fault> {
        let DeValue::Integer(number) = self.value else {
            return Err(format!("expected a whole number, found {}", kind(self.value)).into());
        };
        let found = u64::from_str_radix(number.as_str(), number.radix()).ok().filter(|found| range.contains(found));
        let end = range.end.saturating_sub(1);
        found.ok_or_else(|| format!("{number} is not between {} and {end}", range.start).into())
    }

    /// What `read` makes of a table; `name` is for messages.
    ///
    /// # Errors
    /// It is something else.
    pub fn table<T>(&self, name: &str, read: impl FnOnce(&mut Table<'d>) -> T) -> Result<T, Fault> {
        let DeValue::Table(entries) = self.value else {
            return Err(format!("{name} is {}, not a table", kind(self.value)).into());
        };
        let at = self.at.clone();
        let (name, reading) = (name.to_owned(), self.reading);
        let mut table =
            Table { name, at, entries, asked: Vec::new(), tables_go_to: None, elsewhere: Vec::new(), reading };
        let made = read(&mut table);
        table.refuse_unknown();
        Ok(made)
    }

    /// Whether it is a table.
    pub fn is_table(&self) -> bool {
        self.value.is_table()
    }

    /// The entries of a table whose keys are the user's own, in the text's order; `name` is for messages.
    pub fn pairs(&self, name: &str) -> Vec<(Placed<&'d str>, Value<'d>)> {
        let DeValue::Table(entries) = self.value else {
            self.reading.error(&self.at, format!("{name} is {}, not a table", kind(self.value)));
            return Vec::new();
        };
        let pair = |(key, value): (&'d Key<'d>, &'d Spanned<DeValue<'d>>)| {
            let value = Value { value: value.get_ref(), at: value.span(), reading: self.reading };
            (Placed { value: &**key.get_ref(), at: key.span() }, value)
        };
        in_order(entries).into_iter().map(pair).collect()
    }

    /// The items of a list; anything else is a list of one.
    pub fn items(&self) -> Vec<Value<'d>> {
        match self.value {
            DeValue::Array(items) => items
                .iter()
                .map(|item| Value { value: item.get_ref(), at: item.span(), reading: self.reading })
                .collect(),
            _ => vec![self.clone()],
        }
    }
}

/// Reads a whole document.
pub fn document<'d, T>(
    document: &'d DeTable<'d>,
    reading: &'d Reading<'d>,
    read: impl FnOnce(&mut Table<'d>) -> T,
) -> T {
    let mut root = Table::root(document, reading);
    let made = read(&mut root);
    root.refuse_unknown();
    made
}

/// A reader of texts from a function that reads a text.
pub fn text<'d, T, E: Into<Fault>>(
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> impl FnOnce(&Value<'d>) -> Result<T, Fault> {
    move |value| parse(value.text()?).map_err(Into::into)
}

/// A reader of one of several words.
pub fn choice<'d, T: Clone>(words: &[(&str, T)]) -> impl FnOnce(&Value<'d>) -> Result<T, Fault> {
    move |value| {
        let text = value.text()?;
        let chosen = words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| meaning.clone());
        chosen.ok_or_else(|| {
            let known: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            let help = did_you_mean(text, words.iter().map(|(word, _)| *word));
            let help = help.unwrap_or_else(|| format!("it is one of {}", known.join(", ")));
            Fault::with_help(format!("`{text}` is not known here"), help)
        })
    }
}

/// `did you mean …` if one of the known words is near.
pub fn did_you_mean<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<String> {
    let nearness = |known: &str| strsim::jaro_winkler(word, known);
    let nearest = known.into_iter().max_by(|one, other| nearness(one).total_cmp(&nearness(other)))?;
    (nearness(nearest) > 0.8).then(|| format!("did you mean `{nearest}`?"))
}

/// `[table]` entries in the text's order; the parser keeps them by name.
fn in_order<'d>(table: &'d DeTable<'d>) -> Vec<(&'d Key<'d>, &'d Spanned<DeValue<'d>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

/// Names stand in fields, metric labels and Redis keys.
fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
