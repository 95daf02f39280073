//! What an operator names, read. Pure.
//!
//! | name | for example | what it is |
//! |---|---|---|
//! | URL | `https://example.com/users?page=2` | a place: authority and path, in all queries, variants, schemes |
//! | prefix | `https://example.com/assets/*`, `/assets/*` | every path that begins so; without an authority: at each |
//! | pattern | `example.com/users/*/photo`, `/users/*` | `*` is any text, also with slashes in it |
//! | tag | `product-7` | what the app has tagged so |
//! | all | | everything under the prefix of this configuration |
//!
//! 1. A scheme may be left out, and says only which port is the default one.
//! 2. A URL has an authority: a path alone could be meant of any site, and is a prefix or a pattern then.
//! 3. Nothing named is an error: it is never everything.
//! 4. What begins with one word and no scheme is no host: it is a path whose slash was forgotten.
//! 5. A `?` begins a query, in a prefix and a pattern too, where it is an error: places have none.

use std::fmt;

use http::{HeaderMap, Uri};
use serde::{Deserialize, Serialize};

use crate::cache::key::Key;
use crate::cache::purge::Order;
use crate::cache::store::purge::{Softness, Target};
use crate::exchange::Scheme;

/// Names in one order, at most.
pub const MOST: usize = 1000;
/// Bytes of a tag, a prefix or a pattern, at most.
const LONGEST: usize = 4096;

/// An order as it is sent: `{"urls": ["https://example.com/"], "soft": true}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Wanted {
    /// `https://example.com/users`.
    pub urls: Vec<String>,
    /// `https://example.com/assets/*`, or `/assets/*` for every authority; the star may be left out.
    pub prefixes: Vec<String>,
    /// `example.com/users/*/photo`, or `/users/*/photo` for every authority.
    pub patterns: Vec<String>,
    /// Surrogate keys.
    pub tags: Vec<String>,
    /// Everything.
    pub all: bool,
    /// What is met becomes stale, and stays.
    pub soft: bool,
}

/// A target, and how it is called in an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// `url example.com/users`.
    pub name: String,
    /// What it is.
    pub target: Target,
}

impl Wanted {
    /// Reads it.
    ///
    /// # Errors
    /// A name that names nothing, in a sentence; nothing at all; more than [`MOST`] names.
    pub fn read(&self) -> Result<Order, String> {
        let count = self.urls.len() + self.prefixes.len() + self.patterns.len() + self.tags.len();
        if count > MOST {
            return Err(format!("{count} names are more than {MOST}"));
        }
        let mut named = Vec::with_capacity(count + 1);
        for (text, read) in [(&self.urls, url as Reader), (&self.prefixes, prefix), (&self.patterns, pattern)] {
            for text in text {
                named.push(read(text)?);
            }
        }
        for text in &self.tags {
            named.push(tag(text)?);
        }
        if self.all {
            named.push(Named { name: "all".into(), target: Target::All });
        }
        if named.is_empty() {
            return Err("nothing is named: urls, prefixes, patterns, tags, or all = true".into());
        }
        Ok(Order { named, softness: if self.soft { Softness::Soft } else { Softness::Hard } })
    }
}

type Reader = fn(&str) -> Result<Named, String>;

fn url(text: &str) -> Result<Named, String> {
    let wrong = |why: &str| Err(format!("`{text}` is no URL to purge: {why}"));
    let (scheme, rest) = scheme(text);
    if rest.starts_with('/') {
        return wrong("it has no host; a path on every host is a prefix, or a pattern");
    }
    if let Some(why) = forgotten_slash(text, rest) {
        return wrong(&why);
    }
    // What is after a `#` is not sent by clients, so that nothing is stored by it.
    let Ok(uri) = format!("{}://{rest}", scheme.as_str()).parse::<Uri>() else {
        return wrong("https://example.com/path is one");
    };
    match Key::of_place(scheme, &uri, &HeaderMap::new()) {
        Ok(key) => {
            let (authority, path) = (key.authority().to_owned(), uri.path().to_owned());
            Ok(Named { name: format!("url {authority}{path}"), target: Target::Url { authority, path } })
        }
        Err(reason) => wrong(reason),
    }
}

fn prefix(text: &str) -> Result<Named, String> {
    let (authority, path) = place(text, "prefix")?;
    let path = path.strip_suffix('*').unwrap_or(&path);
    if path.contains('*') {
        return Err(format!("`{text}` is no prefix: a star inside makes a pattern"));
    }
    let name = format!("prefix {}{path}*", authority.as_deref().unwrap_or_default());
    Ok(Named { name, target: Target::Prefix { authority, path: path.to_owned() } })
}

fn pattern(text: &str) -> Result<Named, String> {
    let (authority, glob) = place(text, "pattern")?;
    let name = format!("pattern {}{glob}", authority.as_deref().unwrap_or_default());
    Ok(Named { name, target: Target::Pattern { authority, glob } })
}

fn tag(text: &str) -> Result<Named, String> {
    if text.trim().is_empty() || text.len() > LONGEST || text.contains(char::is_control) {
        return Err(format!("`{}` is no tag", text.escape_debug()));
    }
    Ok(Named { name: format!("tag {text}"), target: Target::Tag(text.to_owned()) })
}

/// The authority, if there is one, and the path.
fn place(text: &str, what: &str) -> Result<(Option<String>, String), String> {
    let wrong = |why: fmt::Arguments<'_>| Err(format!("`{}` is no {what}: {why}", text.escape_debug()));
    let (scheme, rest) = scheme(text);
    let Some(slash) = rest.find('/') else { return wrong(format_args!("it has no path")) };
    let (authority, path) = rest.split_at(slash);
    if path.len() > LONGEST || path.contains(|each: char| each.is_whitespace() || each.is_control()) {
        return wrong(format_args!("this is no path"));
    }
    if path.contains('?') {
        return wrong(format_args!(
            "a `?` begins a query, of which places have none: all of them go; `*` alone is a wildcard"
        ));
    }
    if path.contains('#') {
        return wrong(format_args!("a `#` ends the path, and is not sent by clients"));
    }
    if authority.is_empty() {
        return if rest.len() == text.len() { Ok((None, path.to_owned())) } else { wrong(format_args!("no host")) };
    }
    if let Some(why) = forgotten_slash(text, rest) {
        return wrong(format_args!("{why}"));
    }
    let known = format!("{}://{authority}/", scheme.as_str()).parse::<Uri>();
    match known.ok().and_then(|uri| Key::of_place(scheme, &uri, &HeaderMap::new()).ok()) {
        Some(key) if !authority.contains('*') => Ok((Some(key.authority().to_owned()), path.to_owned())),
        _ => wrong(format_args!("`{authority}` is no host; without one, it is of every host")),
    }
}

/// Why `text`, of which `rest` is what follows the scheme, is taken for a path without its slash, if it is (rule 4).
fn forgotten_slash(text: &str, rest: &str) -> Option<String> {
    let host = rest.split('/').next().unwrap_or_default();
    let is_word = !host.contains(['.', ':', '*']) && !host.eq_ignore_ascii_case("localhost");
    (rest.len() == text.len() && is_word)
        .then(|| format!("a path begins with a slash: `/{rest}`; if `{host}` is a host: `https://{rest}`"))
}

/// The scheme said, or https, and the rest.
fn scheme(text: &str) -> (Scheme, &str) {
    for (scheme, start) in [(Scheme::Https, "https://"), (Scheme::Http, "http://")] {
        if let Some(said) = text.get(..start.len())
            && said.eq_ignore_ascii_case(start)
        {
            return (scheme, &text[start.len()..]);
        }
    }
    (Scheme::Https, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(wanted: &str) -> Result<Vec<(String, Target)>, String> {
        let wanted: Wanted = serde_json::from_str(wanted).map_err(|error| error.to_string())?;
        Ok(wanted.read()?.named.into_iter().map(|Named { name, target }| (name, target)).collect())
    }

    #[test]
    fn each_name_is_read_as_what_it_is_called() {
        let url = |authority: &str, path: &str| Target::Url { authority: authority.into(), path: path.into() };
        let prefix = |authority: Option<&str>, path: &str| Target::Prefix {
            authority: authority.map(str::to_owned),
            path: path.into(),
        };
        let pattern = |authority: Option<&str>, glob: &str| Target::Pattern {
            authority: authority.map(str::to_owned),
            glob: glob.into(),
        };
        for (wanted, name, target) in [
            (r#"{"urls": ["https://Example.com/A?b=c"]}"#, "url example.com/A", url("example.com", "/A")),
            (r#"{"urls": ["example.com"]}"#, "url example.com/", url("example.com", "/")),
            (r#"{"urls": ["HTTP://example.com:80/a"]}"#, "url example.com/a", url("example.com", "/a")),
            (r#"{"urls": ["http://example.com:443/a"]}"#, "url example.com:443/a", url("example.com:443", "/a")),
            (r#"{"urls": ["http://[::1]:8080/a%2Fb"]}"#, "url [::1]:8080/a%2Fb", url("[::1]:8080", "/a%2Fb")),
            (r#"{"prefixes": ["https://a.com/x/*"]}"#, "prefix a.com/x/*", prefix(Some("a.com"), "/x/")),
            (r#"{"prefixes": ["/x"]}"#, "prefix /x*", prefix(None, "/x")),
            (r#"{"patterns": ["a.com/u/*/p"]}"#, "pattern a.com/u/*/p", pattern(Some("a.com"), "/u/*/p")),
            (r#"{"patterns": ["http://app/u/*"]}"#, "pattern app/u/*", pattern(Some("app"), "/u/*")),
            (r#"{"patterns": ["localhost/u/*"]}"#, "pattern localhost/u/*", pattern(Some("localhost"), "/u/*")),
            (r#"{"prefixes": ["app:81/u"]}"#, "prefix app:81/u*", prefix(Some("app:81"), "/u")),
            (r#"{"patterns": ["/u/*"]}"#, "pattern /u/*", pattern(None, "/u/*")),
            (r#"{"tags": ["a b"]}"#, "tag a b", Target::Tag("a b".into())),
            (r#"{"all": true}"#, "all", Target::All),
        ] {
            assert_eq!(read(wanted), Ok(vec![(name.to_owned(), target)]), "{wanted}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_reason() {
        for (wanted, why) in [
            ("{}", "nothing is named: urls, prefixes, patterns, tags, or all = true"),
            (r#"{"all": false, "urls": []}"#, "nothing is named: urls, prefixes, patterns, tags, or all = true"),
            (
                r#"{"urls": ["/a"]}"#,
                "`/a` is no URL to purge: it has no host; a path on every host is a prefix, or a pattern",
            ),
            (r#"{"urls": ["https://a b/"]}"#, "`https://a b/` is no URL to purge: https://example.com/path is one"),
            (r#"{"prefixes": ["example.com"]}"#, "`example.com` is no prefix: it has no path"),
            (r#"{"prefixes": ["/a/*/b"]}"#, "`/a/*/b` is no prefix: a star inside makes a pattern"),
            (
                r#"{"prefixes": ["/a?b"]}"#,
                "`/a?b` is no prefix: a `?` begins a query, of which places have none: all of them go; `*` alone is a wildcard",
            ),
            (r#"{"prefixes": ["https:///a"]}"#, "`https:///a` is no prefix: no host"),
            (
                r#"{"patterns": ["*.com/a"]}"#,
                "`*.com/a` is no pattern: `*.com` is no host; without one, it is of every host",
            ),
            (
                r#"{"patterns": ["ttl60/*"]}"#,
                "`ttl60/*` is no pattern: a path begins with a slash: `/ttl60/*`; if `ttl60` is a host: `https://ttl60/*`",
            ),
            (
                r#"{"urls": ["users/7"]}"#,
                "`users/7` is no URL to purge: a path begins with a slash: `/users/7`; if `users` is a host: `https://users/7`",
            ),
            (
                r#"{"patterns": ["/a?c"]}"#,
                "`/a?c` is no pattern: a `?` begins a query, of which places have none: all of them go; `*` alone is a wildcard",
            ),
            (r#"{"patterns": ["/a b"]}"#, "`/a b` is no pattern: this is no path"),
            (r#"{"tags": [" "]}"#, "` ` is no tag"),
            (r#"{"tags": ["a\n"]}"#, "`a\\n` is no tag"),
        ] {
            assert_eq!(read(wanted), Err(why.to_owned()), "{wanted}");
        }
        assert!(read(r#"{"url": ["a"]}"#).unwrap_err().starts_with("unknown field `url`, expected one of `urls`"));
        let many = Wanted { tags: vec!["a".into(); MOST + 1], ..Wanted::default() };
        assert_eq!(many.read().unwrap_err(), "1001 names are more than 1000");
    }

    #[test]
    fn soft_is_said_and_hard_is_the_default() {
        let softness = |soft| Wanted { all: true, soft, ..Wanted::default() }.read().map(|order| order.softness);
        assert_eq!((softness(true), softness(false)), (Ok(Softness::Soft), Ok(Softness::Hard)));
    }
}
