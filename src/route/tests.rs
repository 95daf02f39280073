//! No spelling of a path meets a weaker policy than what some app makes of it.
//!
//! The apps are written here anew, on bytes, and know nothing of `readings`.

use http::Method;
use proptest::prelude::*;

use super::pattern::Pattern;
use super::strictness::Strict;
use super::table::{Found, Table};
use super::{OnAmbiguity, PathCase, Paths};

/// A policy: the greater, the stricter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Policy(u8);

impl Strict for Policy {
    fn is_as_strict_as(&self, other: &Self) -> bool {
        self.0 >= other.0
    }
}

/// What an app does to a path before it compares it, in this order.
#[derive(Clone, Debug)]
enum Habit {
    /// Percent-decodes; `%2F` too, or not.
    Decode { slashes: bool },
    /// Takes backslashes for slashes.
    Backslashes,
    /// Cuts path parameters off.
    Parameters,
    /// Resolves dot segments; empty segments count, or not.
    Dots { empty: bool },
    /// Trims segments as Windows does.
    Trim,
    /// Folds full-width characters.
    FullWidth,
    /// Ends the path at a NUL.
    Nul,
    /// Drops control characters.
    Controls,
    /// Ends the path at `?` or `#`.
    Delimiters,
    /// Takes overlong UTF-8.
    Overlong,
    /// Tells no case.
    Case,
}

fn habits() -> Vec<Vec<Habit>> {
    use Habit::*;
    let decode = Decode { slashes: true };
    vec![
        vec![],
        vec![decode.clone()],
        vec![Decode { slashes: false }],
        vec![decode.clone(), decode.clone()],
        vec![decode.clone(), Dots { empty: true }],
        vec![decode.clone(), Dots { empty: false }],
        vec![Dots { empty: false }, decode.clone()],
        vec![Decode { slashes: false }, Dots { empty: false }, decode.clone()],
        vec![Dots { empty: true }, decode.clone(), Dots { empty: true }, decode.clone(), Dots { empty: true }],
        vec![decode.clone(), decode.clone(), decode.clone(), Dots { empty: false }],
        vec![Parameters, decode.clone(), Dots { empty: false }],
        vec![decode.clone(), Parameters, Dots { empty: false }],
        vec![Parameters, decode.clone(), Parameters, decode.clone(), Dots { empty: true }],
        vec![decode.clone(), Backslashes, Dots { empty: false }],
        vec![Backslashes, Dots { empty: false }, decode.clone()],
        vec![decode.clone(), Backslashes, Trim, Dots { empty: false }],
        vec![decode.clone(), decode.clone(), Backslashes, Trim, Dots { empty: true }],
        vec![decode.clone(), FullWidth, Dots { empty: false }],
        vec![decode.clone(), FullWidth, decode.clone(), Parameters, Dots { empty: false }],
        vec![decode.clone(), Nul],
        vec![decode.clone(), Controls, Dots { empty: false }],
        vec![decode.clone(), Delimiters, Dots { empty: false }],
        vec![decode.clone(), Overlong, Dots { empty: false }],
        vec![decode, Trim],
    ]
}

fn lived(path: &[u8], habits: &[Habit]) -> Vec<u8> {
    habits.iter().fold(path.to_vec(), |path, habit| habit.of(path))
}

impl Habit {
    fn of(&self, path: Vec<u8>) -> Vec<u8> {
        match self {
            Self::Decode { slashes } => decoded(&path, *slashes),
            Self::Backslashes => path.into_iter().map(|byte| if byte == b'\\' { b'/' } else { byte }).collect(),
            Self::Parameters => {
                segments(&path, |segment| segment.split(|byte| *byte == b';').next().unwrap_or_default().to_vec())
            }
            Self::Dots { empty } => resolved(&path, *empty),
            Self::Trim => segments(&path, |segment| {
                if matches!(segment, b"." | b"..") {
                    return segment.to_vec();
                }
                let end = segment.iter().rposition(|byte| !matches!(byte, b'.' | b' ')).map_or(0, |last| last + 1);
                segment[..end].to_vec()
            }),
            Self::FullWidth => {
                let text = String::from_utf8_lossy(&path).into_owned();
                let fold = |letter: char| match letter {
                    '\u{ff01}'..='\u{ff5e}' => char::from_u32(letter as u32 - 0xfee0).unwrap_or(letter),
                    '\u{2024}' => '.',
                    _ => letter,
                };
                text.replace('\u{2025}', "..").chars().map(fold).collect::<String>().into_bytes()
            }
            Self::Nul => path.split(|byte| *byte == 0).next().unwrap_or_default().to_vec(),
            Self::Controls => path.into_iter().filter(|byte| !byte.is_ascii_control()).collect(),
            Self::Delimiters => path.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default().to_vec(),
            Self::Overlong => {
                let mut made = Vec::new();
                let mut rest = &path[..];
                while let [first, after @ ..] = rest {
                    rest = match (first, after) {
                        (0xc0 | 0xc1, [second, further @ ..]) => {
                            made.push((first & 1) << 6 | second & 0x3f);
                            further
                        }
                        _ => {
                            made.push(*first);
                            after
                        }
                    };
                }
                made
            }
            Self::Case => path.to_ascii_lowercase(),
        }
    }
}

fn decoded(path: &[u8], slashes: bool) -> Vec<u8> {
    let mut made = Vec::new();
    let mut rest = path;
    while let [first, after @ ..] = rest {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.filter(|_| *first == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if slashes || byte != b'/' => {
                made.push(byte);
                rest = &rest[3..];
            }
            _ => {
                made.push(*first);
                rest = after;
            }
        }
    }
    made
}

fn segments(path: &[u8], of: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    path.split(|byte| *byte == b'/').map(of).collect::<Vec<_>>().join(&b'/')
}

fn resolved(path: &[u8], empty: bool) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    for segment in path.split(|byte| *byte == b'/').skip(1) {
        match segment {
            b"" if !empty => {}
            b"." => {}
            b".." => drop(kept.pop()),
            _ => kept.push(segment),
        }
    }
    [&b"/"[..], &kept.join(&b'/')].concat()
}

/// What the app that lived so serves at this path.
fn served(paths: &[(&'static str, Policy)], path: &[u8]) -> Policy {
    let first = path.split(|byte| *byte == b'/').find(|segment| !segment.is_empty()).unwrap_or_default();
    let named = paths.iter().find(|(name, _)| name.as_bytes() == first);
    named.or(paths.iter().find(|(name, _)| name.is_empty())).expect("a rest").1
}

/// A route for each name and all below it; the empty name is the rest.
fn table(paths: Paths, names: &[(&'static str, Policy)]) -> Table<Policy> {
    let path = |name: &str| if name.is_empty() { "/{*rest}".to_owned() } else { format!("/{name}/{{*rest}}") };
    let pattern = |name: &str| Pattern::parse(&path(name), Vec::new(), Vec::new()).expect("a pattern");
    Table::new(paths, names.iter().map(|(name, policy)| (pattern(name), *policy)).collect())
}

/// Spellings of one letter.
fn letter(letter: char) -> impl Strategy<Value = String> {
    let byte = letter as u8;
    let full = char::from_u32(u32::from(byte) + 0xfee0).unwrap_or(letter).to_string();
    let full: String = full.bytes().map(|byte| format!("%{byte:02x}")).collect();
    prop_oneof![
        12 => Just(letter.to_string()),
        1 => Just(letter.to_ascii_uppercase().to_string()),
        1 => Just(format!("%{byte:02x}")),
        1 => Just(format!("%{byte:02X}")),
        1 => Just(format!("%25{byte:02x}")),
        1 => Just(format!("%2525{byte:02x}")),
        1 => Just(full),
        1 => Just(format!("%{:02x}%{:02x}", 0xc0 | byte >> 6, 0x80 | byte & 0x3f)),
    ]
}

fn word(word: &'static str) -> impl Strategy<Value = String> {
    word.chars().map(|each| letter(each).boxed()).collect::<Vec<_>>().prop_map(|letters| letters.concat())
}

/// What may stand between two segments, or at an end.
fn joint() -> impl Strategy<Value = &'static str> {
    let rare = [
        "//",
        "/./",
        "/../",
        "%2f",
        "%2F",
        "%252f",
        "%25252f",
        "\\",
        "%5c",
        "%255C",
        "/;/",
        "/;a=1/",
        ";a/",
        ";",
        "%3b/",
        "%253b",
        "/..;/",
        "/.;x/",
        "/..;a/../",
        "./",
        "../",
        "/.%20/",
        "%20/",
        "%20",
        "/%20",
        "/..%20/",
        "%c2%a0/",
        "/%2e/",
        "/%2e%2e/",
        "/.%2e/",
        "/%252e%252e/",
        "/x/../",
        "/x%2f..%2f",
        "/x\\..\\",
        "%ef%bc%8f",
        "/%ef%bc%8e%ef%bc%8e/",
        "/%e2%80%a5/",
        "%00",
        "%00/",
        "%0a",
        "%09/",
        "%3f",
        "%23/",
        "%c0%af",
        "/%c0%ae%c0%ae/",
        "%u002f",
        "%",
        "+",
        "/...",
    ];
    prop_oneof![2 => Just("/"), 3 => proptest::sample::select(rare.to_vec())]
}

fn spelling() -> impl Strategy<Value = String> {
    let name = || prop_oneof![4 => word("admin"), 3 => word("open"), 1 => word("x")];
    let pair = (joint(), name()).prop_map(|(joint, name)| format!("{joint}{name}"));
    (proptest::collection::vec(pair, 0..4), joint()).prop_map(|(pairs, end)| format!("/{}{end}", pairs.concat()))
}

const GUARDED: [(&str, Policy); 2] = [("admin", Policy(2)), ("", Policy(0))];
const OPENED: [(&str, Policy); 3] = [("open", Policy(0)), ("admin", Policy(2)), ("", Policy(1))];

fn holds(paths: Paths, names: &[(&'static str, Policy)], sent: &str) -> Result<bool, TestCaseError> {
    let table = table(paths, names);
    let Found::Route { target, .. } = table.find(None, &Method::GET, sent) else { return Ok(false) };
    for mut lives in habits() {
        if paths.case == PathCase::Insensitive {
            lives.push(Habit::Case);
        }
        let seen = lived(sent.as_bytes(), &lives);
        let due = served(names, &seen);
        let seen = String::from_utf8_lossy(&seen).into_owned();
        prop_assert!(target.0 >= due.0, "{sent} met {target:?}, and {lives:?} sees {seen}, which is due {due:?}");
    }
    Ok(true)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_500) })]

    #[test]
    fn no_spelling_meets_a_weaker_policy_than_what_an_app_makes_of_it(sent in spelling()) {
        for ambiguity in [OnAmbiguity::Refuse, OnAmbiguity::Strictest] {
            for case in [PathCase::Sensitive, PathCase::Insensitive] {
                for names in [&GUARDED[..], &OPENED[..]] {
                    holds(Paths { ambiguity, case }, names, &sent)?;
                }
            }
        }
    }
}

#[test]
fn what_is_not_ambiguous_passes_and_the_strictest_stands_for_what_is() {
    for ambiguity in [OnAmbiguity::Refuse, OnAmbiguity::Strictest] {
        let paths = Paths { ambiguity, case: PathCase::Sensitive };
        for (sent, passes) in [
            ("/admin/x", true),
            ("/open//y", true),
            ("/admin/a%20b", true),
            ("/x/a%2fb", true),
            ("/admin%2fx", ambiguity == OnAmbiguity::Strictest),
            ("/open/..%2fadmin", ambiguity == OnAmbiguity::Strictest),
            ("/%61dmin", ambiguity == OnAmbiguity::Strictest),
            ("/admin;x/y", ambiguity == OnAmbiguity::Strictest),
            ("/admin%00", false),
        ] {
            assert!(matches!(holds(paths, &OPENED, sent), Ok(found) if found == passes), "{sent} {ambiguity:?}");
        }
    }
}

#[test]
fn the_strictest_of_several_is_met_with_the_parameters_of_its_own_reading() {
    let pattern = |path: &str| Pattern::parse(path, Vec::new(), Vec::new()).expect("a pattern");
    let routes = vec![(pattern("/users/{id}"), Policy(2)), (pattern("/{*rest}"), Policy(0))];
    let paths = Paths { ambiguity: OnAmbiguity::Strictest, case: PathCase::Sensitive };
    let table = Table::new(paths, routes);
    let Found::Route { target, parameters } = table.find(None, &Method::GET, "/users%2f7") else { panic!() };
    assert_eq!((target, parameters), (&Policy(2), vec![("id".into(), "7".to_owned())]));
}

#[test]
fn an_app_that_takes_an_encoded_slash_for_text_has_a_way() {
    let mut pattern = Pattern::parse("/projects/{id}/issues", Vec::new(), Vec::new()).expect("a pattern");
    for text in [false, true] {
        pattern.slash_is_text = text;
        let table = Table::new(Paths::default(), vec![(pattern.clone(), Policy(0)), (pattern_of_rest(), Policy(2))]);
        let passes = |path| matches!(table.find(None, &Method::GET, path), Found::Route { target: Policy(0), .. });
        assert_eq!(passes("/projects/group%2Fname/issues"), text);
        assert!(!passes("/projects/..%2Fname/issues"));
        assert!(!passes("/projects/group%5Cname/../issues"));
    }
}

#[test]
fn case_counts_unless_the_app_says_it_does_not() {
    for (case, policy) in [(PathCase::Sensitive, Policy(0)), (PathCase::Insensitive, Policy(2))] {
        let paths = Paths { case, ..Paths::default() };
        let table = table(paths, &GUARDED);
        let Found::Route { target, .. } = table.find(None, &Method::GET, "/ADMIN/x") else { panic!() };
        assert_eq!(*target, policy);
    }
}

#[test]
fn where_case_does_not_count_a_second_spelling_is_unreachable() {
    for (case, expected) in [(PathCase::Sensitive, vec![]), (PathCase::Insensitive, vec![(1, 0)])] {
        let pattern = |path: &str| (Pattern::parse(path, Vec::new(), Vec::new()).expect("a pattern"), Policy(0));
        let routes = vec![pattern("/admin/{*rest}"), pattern("/Admin/{*all}")];
        assert_eq!(Table::new(Paths { case, ..Paths::default() }, routes).unreachable(), expected);
    }
}

fn pattern_of_rest() -> Pattern {
    Pattern::parse("/{*rest}", Vec::new(), Vec::new()).expect("a pattern")
}
