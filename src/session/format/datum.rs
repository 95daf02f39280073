//! What a decoded record is made of, whatever encoding it came in; and what is read of it. Pure.
//!
//! 1. A dotted path leads through maps by name and through lists by number; an attribute of the whole record whose own name
//!    has dots comes first (Rails keeps `warden.user.user.key`), the longest such name before others. Of a name given twice
//!    the last counts, as it does for nearly every app.
//! 2. Texts are as they are, numbers and truth values as JSON writes them, whole numbers without a fraction (`5.0` is `5`); nothing, maps, bytes that are no text, and what
//!    is opaque have no text. A list of texts is several texts of one attribute.
//! 3. A number that has lost digits on the way has no text.
//! 4. What is within something opaque is opaque. Where the user is to be told and there is somebody who has no text (something
//!    opaque, bytes that are no text, a number that has lost digits, a text that is too long), the record is not read: somebody is logged
//!    in, and nobody knows who.
//! 5. A birth is a number of seconds or milliseconds since 1970, or a timestamp (RFC 3339).
//!
//! # Why
//! Rule 3: beyond 2^53 a number without fraction has been rounded: two users could become one.

use super::{MAX_TEXT, Record, USUAL_RECORD, Wanted};

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub enum Datum {
    /// `null`, `None`, `nil`.
    Nothing,
    /// True or false.
    Flag(bool),
    /// A whole number.
    Whole(i128),
    /// A number with a fraction.
    Float(f64),
    /// Text.
    Text(String),
    /// Bytes that are no text.
    Bytes(Vec<u8>),
    /// A list.
    List(Vec<Datum>),
    /// Values by name, in the order of the record; numbers as names are written in decimal.
    Map(Vec<(String, Datum)>),
    /// Something that is not read: an object, a reference, a number beyond all bounds.
    Opaque,
}

/// What a decoder may spend on one record.
#[derive(Debug)]
pub struct Budget {
    depth: usize,
    values: usize,
}

/// Levels of values in values.
const MAX_DEPTH: usize = 64;
/// Values in a record of the usual length; a longer one may have as many more as it is longer.
const MAX_VALUES: usize = 16_384;

impl Default for Budget {
    fn default() -> Self {
        Self { depth: MAX_DEPTH, values: MAX_VALUES }
    }
}

/// Bytes of text that a record of so many bytes may say where what is written once is told wherever it is meant.
pub fn room(record: usize) -> usize {
    4 * record.max(USUAL_RECORD)
}

impl Budget {
    /// For a record of so many bytes.
    pub fn of(record: usize) -> Self {
        let values = MAX_VALUES.max(record / (USUAL_RECORD / MAX_VALUES));
        Self { values, ..Self::default() }
    }

    /// One more value.
    ///
    /// # Errors
    /// There are too many.
    pub fn spend(&mut self) -> Result<(), &'static str> {
        self.values = self.values.checked_sub(1).ok_or("record has too many values")?;
        Ok(())
    }

    /// Reads what is one level further in.
    ///
    /// # Errors
    /// That is too deep; or what `read` says.
    pub fn within<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, &'static str>) -> Result<T, &'static str> {
        self.depth = self.depth.checked_sub(1).ok_or("record is nested too deeply")?;
        let made = read(self);
        self.depth += 1;
        made
    }
}

impl Datum {
    /// Text, if the bytes are UTF-8.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        std::str::from_utf8(bytes).map_or_else(|_| Self::Bytes(bytes.to_vec()), |text| Self::Text(text.to_owned()))
    }

    /// What is under `path` (rule 1).
    pub fn at(&self, path: &str) -> Option<&Self> {
        let ends = std::iter::once(path.len()).chain(path.rmatch_indices('.').map(|(dot, _)| dot));
        let mut led = ends.filter_map(|end| {
            let (name, further) = path.split_at_checked(end)?;
            further.split('.').skip(1).try_fold(self.named(name)?, Self::named)
        });
        led.next()
    }

    fn named(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Map(entries) => entries.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value),
            Self::List(items) => items.get(name.parse::<usize>().ok()?),
            Self::Opaque => Some(self),
            _ => None,
        }
    }

    /// Its text, if it has one (rules 2 and 3).
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Text(text) => (text.len() <= MAX_TEXT).then(|| text.clone()),
            Self::Flag(truth) => Some(truth.to_string()),
            Self::Whole(number) => Some(number.to_string()),
            Self::Float(number) => {
                let exact = number.is_finite() && number.abs() < 9_007_199_254_740_992.0;
                match number.fract() == 0.0 {
                    _ if !exact => None,
                    true => Some((*number as i64).to_string()),
                    false => serde_json::Number::from_f64(*number).map(|number| number.to_string()),
                }
            }
            Self::Nothing | Self::Bytes(_) | Self::List(_) | Self::Map(_) | Self::Opaque => None,
        }
    }

    /// Whether it may name somebody although it has no text (rule 4).
    fn is_untold(&self) -> bool {
        match self {
            Self::Opaque => true,
            Self::Bytes(bytes) => !bytes.is_empty(),
            Self::Text(_) | Self::Float(_) => self.text().is_none(),
            Self::Nothing | Self::Flag(_) | Self::Whole(_) | Self::List(_) | Self::Map(_) => false,
        }
    }

    /// The time that it tells (rule 5), in Unix milliseconds.
    pub fn time(&self) -> Option<u64> {
        let since = match self {
            Self::Text(text) => match text.parse::<f64>() {
                Ok(number) => number,
                Err(_) => text.parse::<jiff::Timestamp>().ok()?.as_second() as f64,
            },
            Self::Whole(number) => *number as f64,
            Self::Float(number) => *number,
            _ => return None,
        };
        // Seconds reach this in the year 5138; milliseconds passed it in 1973.
        let millis = if since >= 1e11 { since } else { since * 1000.0 };
        // Beyond what a number without fraction can tell it is no time, either.
        (0.0..9e15).contains(&millis).then_some(millis as u64)
    }
}

/// Why a record is not read whose user has no text.
pub const UNTOLD: &str = "the attribute of the user cannot be read";

impl Record {
    /// What `record` says.
    ///
    /// # Errors
    /// It tells of a user that cannot be read (rule 4), before it names one that can.
    pub fn of(wanted: &Wanted, record: &Datum) -> Result<Self, &'static str> {
        let mut read = Self::default();
        for (index, path) in wanted.paths().iter().enumerate() {
            let Some(value) = record.at(path) else { continue };
            if let Datum::List(items) = value {
                read.attributes.extend(items.iter().filter_map(Datum::text).map(|text| (path.clone(), text)));
            }
            if index < wanted.users() && read.user.is_none() && value.is_untold() {
                return Err(UNTOLD);
            }
            let Some(text) = value.text() else { continue };
            if index < wanted.users() && read.user.is_none() && wanted.names_somebody(value, &text) {
                read.user = Some(text.clone());
            }
            read.attributes.push((path.clone(), text));
        }
        read.born = wanted.born().and_then(|path| record.at(path)?.time());
        if let (true, Datum::Map(entries)) = (wanted.names(), record) {
            read.names = entries.iter().map(|(name, _)| name.clone()).collect();
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::wanted;
    use super::*;

    fn map(entries: &[(&str, Datum)]) -> Datum {
        Datum::Map(entries.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
    }

    #[test]
    fn paths_lead_through_maps_and_lists() {
        let key = Datum::List(vec![Datum::List(vec![Datum::Whole(5)]), Datum::Text("salt".into())]);
        let record = map(&[("warden", map(&[("key", key)])), ("a.b", Datum::Whole(7)), ("a", Datum::Nothing)]);
        let text = |path: &str| record.at(path).and_then(Datum::text);
        assert_eq!(text("warden.key.0.0").as_deref(), Some("5"));
        assert_eq!(text("a.b").as_deref(), Some("7"));
        assert_eq!((text("a"), text("warden.key.1.0"), text("warden.key.7")), (None, None, None));
    }

    #[test]
    fn the_longest_name_with_dots_leads_first() {
        let five = || Datum::List(vec![Datum::Whole(5)]);
        let inner = map(&[("user", map(&[("key", Datum::List(vec![Datum::Whole(6)]))]))]);
        let text = |record: &Datum| record.at("warden.user.key.0").and_then(Datum::text);
        assert_eq!(text(&map(&[("warden.user.key", five()), ("warden", inner.clone())])).as_deref(), Some("5"));
        assert_eq!(text(&map(&[("warden.user", map(&[("key", five())]))])).as_deref(), Some("5"));
        assert_eq!(text(&map(&[("warden.user.key", Datum::Nothing), ("warden", inner)])).as_deref(), Some("6"));
    }

    #[test]
    fn the_first_attribute_that_names_somebody_is_the_user() {
        let wanted = Wanted { users: 2, paths: vec!["a".into(), "b".into()], ..wanted(&[]) };
        let user = |a: Datum, b: Datum| Record::of(&wanted, &map(&[("a", a), ("b", b)])).unwrap().user;
        assert_eq!(user(Datum::Whole(1), Datum::Whole(2)).as_deref(), Some("1"));
        assert_eq!(user(Datum::Nothing, Datum::Whole(2)).as_deref(), Some("2"));
        assert_eq!(user(Datum::Flag(true), Datum::Text(String::new())), None);
        assert_eq!(user(Datum::List(vec![Datum::Whole(1)]), Datum::Map(Vec::new())), None);
        assert_eq!(user(Datum::Whole(1), Datum::Opaque).as_deref(), Some("1"), "the first has told");
    }

    #[test]
    fn a_user_that_cannot_be_told_is_not_nobody() {
        let wanted = Wanted { users: 2, ..wanted(&["a", "b.id", "c"]) };
        let of = |a: Datum, b: Datum| Record::of(&wanted, &map(&[("a", a), ("b", b), ("c", Datum::Opaque)]));
        let long = Datum::Text("x".repeat(MAX_TEXT + 1));
        for untold in [Datum::Opaque, Datum::Bytes(vec![0xff]), Datum::Float(1e30), Datum::Float(f64::NAN), long] {
            assert_eq!(of(untold.clone(), Datum::Nothing), Err(UNTOLD), "{untold:?}");
            assert_eq!(
                of(untold.clone(), map(&[("id", Datum::Whole(7))])),
                Err(UNTOLD),
                "another is not taken: {untold:?}"
            );
            assert_eq!(of(Datum::Nothing, map(&[("id", untold.clone())])), Err(UNTOLD), "{untold:?}");
        }
        assert_eq!(of(Datum::Nothing, Datum::Opaque), Err(UNTOLD), "within something opaque");
        let told = of(Datum::Whole(5), Datum::Opaque).unwrap();
        assert_eq!((told.user.as_deref(), told.attributes.len()), (Some("5"), 1), "what is opaque is no attribute");
    }

    #[test]
    fn what_is_within_something_opaque_is_opaque_and_satisfies_nothing() {
        let record =
            map(&[("id", Datum::Whole(5)), ("user", Datum::Opaque), ("roles", Datum::List(vec![Datum::Opaque]))]);
        for path in ["user", "user.id", "user.0.name", "roles.0", "roles.0.x"] {
            assert_eq!(record.at(path), Some(&Datum::Opaque), "{path}");
        }
        let wanted = wanted(&["id", "user", "user.role", "roles", "roles.0"]);
        assert_eq!(Record::of(&wanted, &record).unwrap().attributes, [("id".to_owned(), "5".to_owned())]);
    }

    #[test]
    fn a_list_is_several_attributes_of_one_path() {
        let roles = Datum::List(vec![Datum::Text("user".into()), Datum::Nothing, Datum::Text("editor".into())]);
        let record = Record::of(&wanted(&["id", "roles"]), &map(&[("roles", roles)])).unwrap();
        let read: Vec<_> = record.attributes.iter().map(|(path, text)| format!("{path}={text}")).collect();
        assert_eq!(read, ["roles=user", "roles=editor"]);
    }

    #[test]
    fn a_birth_is_seconds_milliseconds_or_a_timestamp() {
        let at = |datum: Datum| datum.time().map(|millis| millis / 1000);
        for told in [
            Datum::Whole(1_795_224_951),
            Datum::Whole(1_795_224_951_900),
            Datum::Float(1_795_224_951.5),
            Datum::Text("1795224951".into()),
            Datum::Text("2026-11-21T01:35:51Z".into()),
        ] {
            assert_eq!(at(told.clone()), Some(1_795_224_951), "{told:?}");
        }
        assert_eq!((at(Datum::Nothing), at(Datum::Text("yesterday".into())), at(Datum::Whole(-5))), (None, None, None));
    }

    #[test]
    fn budgets_end() {
        let mut budget = Budget::default();
        fn dig(budget: &mut Budget) -> Result<(), &'static str> {
            budget.within(dig)
        }
        assert_eq!(dig(&mut budget), Err("record is nested too deeply"));
        assert!((0..MAX_VALUES).all(|_| budget.spend().is_ok()), "depth was given back");
        assert_eq!(budget.spend(), Err("record has too many values"));
        // A record that is no longer than usual has what is usual, one of four times that length four times as many.
        for (record, times) in [(0, 1), (USUAL_RECORD, 1), (4 * USUAL_RECORD, 4)] {
            let mut budget = Budget::of(record);
            assert_eq!((0..).take_while(|_| budget.spend().is_ok()).count(), times * MAX_VALUES);
            assert_eq!(room(record), times * 4 * USUAL_RECORD);
        }
    }
}
