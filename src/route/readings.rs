//! What apps make of an ambiguous path. Pure.
//!
//! 1. It begins with the path as sent. Whatever some app does to a path (decode it, decode it again, take `%2F`, `\`, `%5C`
//!    for slashes, cut off path parameters, trim segments, fold full-width characters, end it at `%3F` or `%23`, resolve dot
//!    segments with or without empty ones) is done to each reading in turn, until nothing new comes of it: so no order of
//!    doing it is left out.
//! 2. Of an app that takes `%2F` for text it is not taken for a slash; unless dot segments come of it.
//! 3. Where that cannot be listed there are no readings: a NUL, a control character, an overlong character or a broken
//!    escape in one of them; more readings than [`MOST`], or more of them than [`BYTES`] hold.
//!
//! # Why
//! A list of known tricks is behind by one. What apps do to paths is few things; the tricks are their combinations.

use super::canonical::{decode, escaped, folded, push_escape, resolve, trimmed};

/// Readings of one path: what a hostile one costs is bounded.
pub const MOST: usize = 64;

/// Bytes of all readings of a path together: a long one may have few.
pub const BYTES: usize = 64 * 1024;

/// What is done to a path; `None`: it makes no difference to this one.
type Step = fn(&str) -> Option<String>;

const STEPS: [Step; 11] = [
    |path| changed(path, decode(path).0),
    decode_again,
    |path| replaced(path, &[("%5C", "/"), ("\\", "/")]),
    |path| replaced(path, &[("%3B", ";")]),
    |path| each_segment(path, |segment| segment.split(';').next().unwrap_or(segment)),
    |path| each_segment(path, trimmed),
    |path| each_segment(path, trimmed_away),
    fold_full_width,
    |path| changed(path, path.split("%3F").next().and_then(|path| path.split("%23").next()).unwrap_or(path).to_owned()),
    |path| changed(path, resolve(path)),
    |path| changed(path, resolve_with_empty(path)),
];

/// The ways in which apps read `path`, each once, repeated slashes counted once; `None` if they cannot be listed.
/// `slash_is_text`: the app takes `%2F` for text.
pub fn readings(path: &str, slash_is_text: bool) -> Option<Vec<String>> {
    let all = closure(path, true)?;
    match slash_is_text && !all.iter().any(|reading| has_dot_segments(reading)) {
        true => closure(path, false),
        false => Some(all),
    }
}

/// Whether a reading of `path` has dot segments, or there may be one.
pub fn may_climb(path: &str) -> bool {
    closure(path, true).is_none_or(|all| all.iter().any(|reading| has_dot_segments(reading)))
}

fn closure(path: &str, slashes: bool) -> Option<Vec<String>> {
    let mut found = vec![as_sent(path)];
    let mut next = 0;
    while let Some(reading) = found.get(next) {
        if decode(reading).1.is_some_and(|ambiguity| ambiguity.is_anybodys_guess()) {
            return None;
        }
        let mut further: Vec<String> = STEPS.iter().filter_map(|step| step(reading)).collect();
        further.extend(slashes.then(|| replaced(reading, &[("%2F", "/")])).flatten());
        for reading in further {
            if !found.contains(&reading) {
                found.push(reading);
            }
        }
        if found.len() > MOST || found.len() * path.len() > BYTES {
            return None;
        }
        next += 1;
    }
    let mut merged: Vec<String> = found.iter().map(|reading| merge_slashes(reading)).collect();
    merged.sort_unstable();
    merged.dedup();
    Some(merged)
}

/// The path as it came, its escapes in upper case, what must be escaped escaped; nothing decoded.
fn as_sent(path: &str) -> String {
    let mut sent = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(first) = rest.chars().next() {
        let length = match escaped(rest.as_bytes()) {
            Some(byte) => {
                push_escape(&mut sent, byte);
                3
            }
            None if first.is_ascii_graphic() => {
                sent.push(first);
                1
            }
            None => {
                rest.as_bytes()[..first.len_utf8()].iter().for_each(|byte| push_escape(&mut sent, *byte));
                first.len_utf8()
            }
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    sent
}

fn changed(path: &str, made: String) -> Option<String> {
    (made != path).then_some(made)
}

fn replaced(path: &str, pairs: &[(&str, &str)]) -> Option<String> {
    let any = pairs.iter().any(|(from, _)| path.contains(from));
    any.then(|| pairs.iter().fold(path.to_owned(), |path, (from, to)| path.replace(from, to)))
}

/// `%2541` is `%41` to who has decoded it once, and decodes it again.
fn decode_again(path: &str) -> Option<String> {
    let mut inner = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find("%25") {
        let (before, escape) = rest.split_at(at);
        inner.push_str(before);
        let digits = escape.as_bytes().get(3..5).is_some_and(|next| next.iter().all(u8::is_ascii_hexdigit));
        inner.push_str(if digits { "%" } else { "%25" });
        rest = &escape[3..];
    }
    inner.push_str(rest);
    (inner != path).then(|| decode(&inner).0)
}

fn each_segment(path: &str, read: impl Fn(&str) -> &str) -> Option<String> {
    let segments: Vec<&str> = path.split('/').map(read).collect();
    changed(path, segments.join("/"))
}

/// A segment of dots and spaces alone is empty to who trims them all; `.` and `..` as they are mean something.
fn trimmed_away(segment: &str) -> &str {
    let dots = trimmed(segment).trim_end_matches('.');
    if dots.is_empty() && !matches!(segment, "." | "..") { dots } else { segment }
}

fn fold_full_width(path: &str) -> Option<String> {
    let mut made = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        let (before, escape) = rest.split_at(at);
        made.push_str(before);
        let length = match folded(escape) {
            // A percent sign that was folded is text until it is decoded again.
            Some(("%", length)) => {
                made.push_str("%25");
                length
            }
            Some((ascii, length)) => {
                made.push_str(ascii);
                length
            }
            None => {
                made.push('%');
                1
            }
        };
        rest = &escape[length..];
    }
    made.push_str(rest);
    changed(path, made)
}

/// RFC 3986 §5.2.4 to the letter: an empty segment is one that `..` can take away.
fn resolve_with_empty(path: &str) -> String {
    let Some(below_root) = path.strip_prefix('/') else { return path.to_owned() };
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = below_root.split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                kept.extend(last.then_some(""));
            }
            _ => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

fn has_dot_segments(path: &str) -> bool {
    path.split('/').any(|segment| matches!(segment, "." | ".."))
}

/// Counts repeated slashes once, and leaves dot segments as they are.
fn merge_slashes(path: &str) -> String {
    let mut merged = String::with_capacity(path.len());
    for character in path.chars() {
        if character != '/' || !merged.ends_with('/') {
            merged.push(character);
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(path: &str) -> Vec<String> {
        readings(path, false).unwrap_or_else(|| panic!("no readings of {path}"))
    }

    #[test]
    fn a_path_is_read_in_each_way_once() {
        assert_eq!(all("/a%2fb"), ["/a%2Fb", "/a/b"]);
        assert_eq!(all("/%61//b"), ["/%61/b", "/a/b"]);
        assert_eq!(all("/x/..%2fadmin"), ["/admin", "/x/..%2Fadmin", "/x/../admin"]);
        assert_eq!(all("/admin/../x"), ["/admin/../x", "/x"]);
        assert_eq!(all("/admin%3fx"), ["/admin", "/admin%3Fx"]);
        assert_eq!(all("/admin.%20/x"), ["/admin.%20/x", "/admin/x"]);
        assert_eq!(all("/a//../b"), ["/a/../b", "/a/b", "/b"]);
        assert!(all("/.%20/admin/...").contains(&"/admin/".to_owned()));
    }

    #[test]
    fn every_order_of_doing_it_is_read() {
        for path in [
            "/x/..;a/admin",
            "/x%5c..%5Cadmin",
            "/x/%2e%2e%2fadmin",
            "/%61dmin",
            "/%2561dmin",
            "/%252561dmin",
            "/x/%252e%252e%252fadmin",
            "/x/..%c2%a0/admin",
            "/x/%ef%bc%8e%ef%bc%8e/admin",
            "/x%ef%bc%8f..%ef%bc%8fadmin",
            "/x/..%253b/admin",
            "/x/%e2%80%a5/admin",
            "/%ef%bc%8561dmin",
        ] {
            assert!(all(path).contains(&"/admin".to_owned()), "{path}: {:?}", all(path));
        }
    }

    #[test]
    fn an_encoded_slash_that_is_text_is_none_unless_it_hides_dot_segments() {
        assert_eq!(readings("/a%2fb", true).unwrap(), ["/a%2Fb"]);
        assert!(readings("/a%2f..%2fb", true).unwrap().contains(&"/b".to_owned()));
    }

    #[test]
    fn what_cannot_be_listed_has_no_readings() {
        for path in ["/a%00", "/a%0a", "/a%zz", "/a%c0%ae", "/a%2500", "/a%25%30%30"] {
            assert_eq!(readings(path, false), None, "{path}");
        }
        assert!(may_climb("/a%00") && may_climb("/a/%252e%252e/b") && !may_climb("/a%2Fb;c"));
    }

    #[test]
    fn a_long_path_may_have_few_readings_and_a_short_one_many() {
        let long = "a".repeat(BYTES / 4);
        assert_eq!(readings(&format!("/{long}%3D"), false).map(|all| all.len()), Some(2));
        assert_eq!(readings(&format!("/{long};a%2f%5c%25%32%66%41."), false), None);
        assert_eq!(readings(&format!("/a{}", ";%2f%5c%252e%253b./.%20%ef%bc%8f".repeat(3)), false), None);
    }
}
