//! What of the query is in the key. Pure.
//!
//! A parameter is what stands between two `&`; its name ends at the first `=`. Nothing is decoded: what is in the key is
//! in it as it was sent, and the app always gets the whole query as it was sent.
//!
//! 1. Without rules the query is in the key byte for byte.
//! 2. `query_drop` leaves out parameters of just these names; `utm_*`: all whose names begin so.
//! 3. `query_keep` leaves out all others. A name that a generous app may read as one of these is one of them: case is
//!    ignored, and `.` is `_`.
//! 4. Left out is only what every app reads as the parameter that it seems to be: a `;`, at which some split, keeps it in
//!    the key, and so does a name with anything but letters, digits and `-._~` (unless `query_drop` says just that name).
//! 5. A parameter in which the configuration looks for a session or an API key is never left out: it says who asks.
//! 6. `query = "sorted"` sorts by name. Parameters whose names an app may take for one (rule 3) keep their order, so that
//!    `a=1&a=2` and `a=2&a=1` stay two keys. If anything is not plain by rule 4, the order stays as it was sent.
//! 7. A query of which nothing is left is none.
//!
//! # Why
//! What is left out of a key is a request that the app can tell apart and the cache cannot. Whoever finds a parameter that
//! we leave out and the app reads may choose what others are answered ("parameter cloaking": `utm_x=1;admin=1`,
//! `%61dmin=1`). To keep too much costs a miss.
//!
//! What rule 6 takes away: the order of parameters with different names. An app that reads meaning into it, or that signs
//! the query as sent, must not be sorted.

use std::borrow::Cow;

use crate::cache::QueryKey;

/// One parameter, as sent.
struct Parameter<'q> {
    text: &'q str,
    name: &'q str,
}

/// What of `query` is in the key; `None`: nothing, as if there were no query.
pub(super) fn kept<'q>(query: &'q str, rules: &QueryKey) -> Option<Cow<'q, str>> {
    let QueryKey { sorted, keep, drop, .. } = rules;
    if !sorted && keep.is_empty() && drop.is_empty() {
        return Some(query.into());
    }
    let mut parameters: Vec<_> =
        query.split('&').map(Parameter::of).filter(|parameter| parameter.is_kept(rules)).collect();
    if *sorted && parameters.iter().all(Parameter::is_plain) {
        parameters.sort_by(|one, other| folded(one.name).cmp(folded(other.name)));
    }
    let (first, others) = parameters.split_first()?;
    let mut text = String::with_capacity(query.len());
    text.push_str(first.text);
    for parameter in others {
        text.push('&');
        text.push_str(parameter.text);
    }
    Some(text.into())
}

impl<'q> Parameter<'q> {
    fn of(text: &'q str) -> Self {
        Self { text, name: text.split('=').next().unwrap_or_default() }
    }

    /// Rules 2 to 5.
    fn is_kept(&self, rules: &QueryKey) -> bool {
        if rules.credentials.iter().any(|name| folded(self.name).eq(folded(name))) {
            return true;
        }
        let is_dropped = |rule: &String| match rule.strip_suffix('*') {
            Some(start) => self.is_plain() && self.name.starts_with(start),
            None => !self.text.contains(';') && self.name == rule,
        };
        if rules.drop.iter().any(is_dropped) {
            return false;
        }
        let is_kept = |rule: &String| match rule.strip_suffix('*') {
            Some(start) => self.name.len() >= start.len() && folded(self.name).take(start.len()).eq(folded(start)),
            None => folded(self.name).eq(folded(rule)),
        };
        rules.keep.is_empty() || !self.is_plain() || rules.keep.iter().any(is_kept)
    }

    /// Rule 4: every app reads it alike.
    fn is_plain(&self) -> bool {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        self.name.bytes().all(plain) && !self.text.contains(';')
    }
}

/// A name as the most generous app may read it (rule 3).
fn folded(name: &str) -> impl Iterator<Item = u8> {
    name.bytes().map(|byte| if byte == b'.' { b'_' } else { byte.to_ascii_lowercase() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(sorted: bool, keep: &[&str], drop: &[&str]) -> QueryKey {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        QueryKey { sorted, keep: owned(keep), drop: owned(drop), credentials: vec!["token".to_owned()] }
    }

    fn check(rules: &QueryKey, cases: &[(&str, Option<&str>)]) {
        for (query, expected) in cases {
            assert_eq!(kept(query, rules).as_deref(), *expected, "{query} under {rules:?}");
        }
    }

    #[test]
    fn without_rules_the_query_is_in_the_key_byte_for_byte() {
        let as_sent = ["", "b=1&a=2", "&&", "a=%7e&%61=;?/", "utm_source=x"];
        check(&QueryKey::default(), &as_sent.map(|query| (query, Some(query))));
    }

    #[test]
    fn dropped_parameters_are_left_out_and_nothing_that_may_hide_in_them() {
        check(
            &rules(false, &[], &["utm_*", "fbclid", "a[]"]),
            &[
                ("a=1&utm_source=x&b=2", Some("a=1&b=2")),
                ("fbclid=1", None),
                ("fbclid", None),
                ("utm_=&utm_x&utm_y=1&utm_y=2", None),
                ("fbclids=1", Some("fbclids=1")),
                ("FBCLID=1", Some("FBCLID=1")),
                ("xutm_a=1", Some("xutm_a=1")),
                ("%75tm_a=1", Some("%75tm_a=1")),
                // Some apps split at `;`: there is an `admin` in these.
                ("utm_a=1;admin=1", Some("utm_a=1;admin=1")),
                ("fbclid=1;admin=1", Some("fbclid=1;admin=1")),
                ("utm_a;admin=1", Some("utm_a;admin=1")),
                // One encodes, some decode before they split.
                ("utm_%26admin=1", Some("utm_%26admin=1")),
                ("a[]=1&b=1", Some("b=1")),
                ("b=2&a=1&b=1", Some("b=2&a=1&b=1")),
                ("", Some("")),
                ("&", Some("&")),
            ],
        );
    }

    #[test]
    fn what_an_app_may_read_as_a_kept_parameter_is_kept() {
        check(
            &rules(false, &["page", "a_b", "f*"], &[]),
            &[
                ("page=1&x=2", Some("page=1")),
                ("x=2", None),
                ("", None),
                ("Page=1&PAGE=2", Some("Page=1&PAGE=2")),
                ("%70age=1", Some("%70age=1")),
                ("a.b=1&a+b=2&a%20b=3&ab=4", Some("a.b=1&a+b=2&a%20b=3")),
                ("page[x]=1", Some("page[x]=1")),
                ("x=1;page=2", Some("x=1;page=2")),
                ("Filter=1&f=2&g=3", Some("Filter=1&f=2")),
            ],
        );
        check(&rules(false, &["u*"], &["utm_*"]), &[("utm_a=1&u=2&v=3", Some("u=2"))]);
    }

    #[test]
    fn what_says_who_asks_is_never_left_out() {
        check(
            &rules(false, &["page"], &["t*"]),
            &[("token=1&page=2&t=3", Some("token=1&page=2")), ("Token=1", Some("Token=1"))],
        );
        check(&rules(false, &[], &["token"]), &[("token=1", Some("token=1"))]);
    }

    #[test]
    fn sorting_changes_the_order_of_different_names_and_nothing_else() {
        check(
            &rules(true, &[], &[]),
            &[
                ("b=1&a=2", Some("a=2&b=1")),
                ("a=2&b=1", Some("a=2&b=1")),
                ("a=1&a=2", Some("a=1&a=2")),
                ("a=2&a=1", Some("a=2&a=1")),
                ("b&a=2&a=1&b=0", Some("a=2&a=1&b&b=0")),
                // One parameter to some apps: last or first, the order tells.
                ("b=1&A=2&a=1", Some("A=2&a=1&b=1")),
                ("b=1&a=1&A=2", Some("a=1&A=2&b=1")),
                ("x.y=1&x_y=2&a", Some("a&x.y=1&x_y=2")),
                ("x_y=2&x.y=1&a", Some("a&x_y=2&x.y=1")),
                // What it is called is not certain: nothing is moved.
                ("b=1&%61=2&a=3", Some("b=1&%61=2&a=3")),
                ("b=1;c=2&a=3", Some("b=1;c=2&a=3")),
                ("b[]=1&a=3", Some("b[]=1&a=3")),
                ("a=%2F&a=/", Some("a=%2F&a=/")),
            ],
        );
    }
}
