//! Lists of preferences: `Accept-Language`, `Accept-Encoding` (RFC 9110 §12.4.2, §12.5.3, §12.5.4).
//!
//! 1. Words are compared without case, weights as numbers; without a weight it is 1.
//! 2. Of words with the same weight the order says nothing, and neither does repetition of the same.
//! 3. A list that does not read so from end to end, and one of more than [`MAX_MEMBERS`] members, has no meaning here: it
//!    is compared byte by byte.
//!
//! # Why
//! Rule 2 is what §12.5.4 says: order cannot be relied upon. An app that goes by it all the same answers one of two
//! languages that its client likes equally well. Different weights stay different even where they rank alike: an app may
//! weigh them against something of its own. So does a word with weight 0: it forbids.

use http::{HeaderMap, HeaderName};

/// Members of a list that is compared by meaning.
pub const MAX_MEMBERS: usize = 16;
/// The weight 1.
const WHOLE: u16 = 1000;

/// A word, and its weight in thousandths.
type Preference<'a> = (&'a [u8], u16);

/// What a list of preferences means: the one that is liked best first.
pub struct Preferences<'a> {
    members: [Preference<'a>; MAX_MEMBERS],
    length: usize,
}

impl<'a> Preferences<'a> {
    /// Reads all lines of the field; `None`: it has no meaning here (rule 3), or is not there.
    pub fn of(request: &'a HeaderMap, name: &HeaderName) -> Option<Self> {
        let mut found = Self { members: [(b"", 0); MAX_MEMBERS], length: 0 };
        let lines = request.get_all(name).iter();
        for text in lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii) {
            if text.is_empty() {
                continue;
            }
            *found.members.get_mut(found.length)? = preference(text)?;
            found.length += 1;
        }
        found.members[..found.length].sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| lower(a.0).cmp(lower(b.0))));
        request.contains_key(name).then_some(found)
    }

    /// One text for all lists with this meaning, which no list with another meaning has, nor one without.
    pub fn put(&self, out: &mut Vec<u8>) {
        let mut last = None;
        for member @ (word, weight) in &self.members[..self.length] {
            if last.is_some_and(|last| same(last, member)) {
                continue;
            }
            if last.is_some() {
                out.push(b',');
            }
            out.extend(lower(word));
            if *weight < WHOLE {
                out.extend_from_slice(b";q=0.");
                out.extend([weight / 100, weight / 10 % 10, weight % 10].map(|digit| b'0' + digit as u8));
            }
            last = Some(member);
        }
    }
}

fn lower(word: &[u8]) -> impl Iterator<Item = u8> {
    word.iter().map(u8::to_ascii_lowercase)
}

fn same(a: &Preference<'_>, b: &Preference<'_>) -> bool {
    a.1 == b.1 && a.0.eq_ignore_ascii_case(b.0)
}

fn preference(text: &[u8]) -> Option<Preference<'_>> {
    let (word, weight) = match text.iter().position(|byte| *byte == b';') {
        Some(at) => (text[..at].trim_ascii_end(), weight(text[at + 1..].trim_ascii_start())?),
        None => (text, WHOLE),
    };
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"*-_.".contains(byte);
    (!word.is_empty() && word.iter().all(is_word)).then_some((word, weight))
}

/// `q=0.5` (§12.4.2), in thousandths.
fn weight(text: &[u8]) -> Option<u16> {
    let value = text.strip_prefix(b"q=").or_else(|| text.strip_prefix(b"Q="))?;
    let (whole, rest) = value.split_first()?;
    let decimals = match rest {
        [] => rest,
        [b'.', decimals @ ..] if decimals.len() <= 3 && decimals.iter().all(u8::is_ascii_digit) => decimals,
        _ => return None,
    };
    let add = |value: u16, index: usize| value * 10 + decimals.get(index).map_or(0, |digit| u16::from(digit - b'0'));
    let thousandths = (0..3).fold(0, add);
    match whole {
        b'0' => Some(thousandths),
        b'1' if thousandths == 0 => Some(WHOLE),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use http::header::ACCEPT_LANGUAGE;
    use proptest::prelude::*;

    fn head(lines: &[&str]) -> HeaderMap {
        let mut head = HeaderMap::new();
        for line in lines {
            head.append(ACCEPT_LANGUAGE, HeaderValue::from_str(line).unwrap());
        }
        head
    }

    fn meaning(lines: &[&str]) -> Option<String> {
        let head = head(lines);
        let mut out = Vec::new();
        Preferences::of(&head, &ACCEPT_LANGUAGE)?.put(&mut out);
        Some(String::from_utf8(out).unwrap())
    }

    #[test]
    fn lists_are_the_same_if_they_mean_the_same() {
        let cases: &[(&[&str], Option<&str>)] = &[
            (&["en, de"], Some("de,en")),
            (&["de, en"], Some("de,en")),
            (&["eN", " De "], Some("de,en")),
            (&["en;q=1.0, de; Q=1"], Some("de,en")),
            (&["en,en;q=1.000"], Some("en")),
            (&["en;q=0.5, de"], Some("de,en;q=0.500")),
            (&["en;q=0.5, de;q=0.50"], Some("de;q=0.500,en;q=0.500")),
            (&["en;q=0.4, de;q=0.5"], Some("de;q=0.500,en;q=0.400")),
            (&["*;q=0.1,gzip , x-y"], Some("gzip,x-y,*;q=0.100")),
            (&["en, de;q=0"], Some("en,de;q=0.000")),
            (&["en, en;q=0.5"], Some("en,en;q=0.500")),
            (&["", ","], Some("")),
            (&[], None),
            (&["en;q=2"], None),
            (&["en;q=1.1"], None),
            (&["en;q=0.1234"], None),
            (&["en;q="], None),
            (&["en;level=1"], None),
            (&["en;q=1;x=2"], None),
            (&["e n"], None),
            (&["\"en, de\""], None),
            (&["1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17"], None),
        ];
        for (lines, expected) in cases {
            assert_eq!(meaning(lines).as_deref(), *expected, "{lines:?}");
        }
    }

    proptest! {
        #[test]
        fn no_list_is_too_strange(list in "[a-cA-C;q=01.,* ]{0,24}") {
            if let Some(once) = meaning(&[&list]) {
                prop_assert_eq!(meaning(&[&once]), Some(once.clone()), "what it means means itself");
            }
        }

        #[test]
        fn order_within_a_weight_says_nothing(mut members in prop::collection::vec("[a-c]{1,2}(;q=0\\.[0-9])?", 1..8), seed: u64) {
            let before = meaning(&[&members.join(", ")]);
            fastrand::Rng::with_seed(seed).shuffle(&mut members);
            prop_assert_eq!(meaning(&[&members.join(",")]), before);
        }
    }
}
