//! How people name the keys of a limit, and how keys are shown to them.
//!
//! 1. A key is named by a value for each of its parts, in order: what a client sends (`192.0.2.1`, its API key), or what the
//!    part is shown as: `#DIGEST` for what clients keep secret, `@ADDRESS` where a part is missing.
//! 2. Shown, it is not enough to act as its owner or to know who that is: of an address its network, of a digest its first
//!    8 digits, of anything else that is a client's own its first letter. Routes, methods and hosts are the operator's.
//! 3. Whoever asks for the whole of it gets what rule 1 takes.
//!
//! # Why
//! A list of who is limited is looked at over shoulders and pasted into tickets. What is in it must say "the same as
//! yesterday's" without saying whose.

use std::net::IpAddr;

use super::partition::{DIGEST, Grouping, Key, Part, push_group};

/// Hexadecimal digits of a digest that are shown.
const SHOWN: usize = 8;

/// The text of the key that `values` name, as `partition` spells it.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn spell(key: &Key, grouping: Grouping, values: &[String]) -> Result<String, String> {
    if values.len() != key.0.len() {
        let parts: Vec<String> = key.0.iter().map(ToString::to_string).collect();
        return Err(format!("the key of this limit is {}: a value for each", parts.join(", ")));
    }
    let mut text = String::new();
    for (index, (part, value)) in key.0.iter().zip(values).enumerate() {
        if index > 0 {
            text.push(',');
        }
        push(part, grouping, value, &mut text)?;
    }
    Ok(text)
}

/// Whether `value` names no more than the digest of what a client sends.
pub fn is_only_a_digest(value: &str) -> bool {
    value.starts_with("sha256:") || value.strip_prefix('#').is_some_and(is_digest)
}

fn push(part: &Part, grouping: Grouping, value: &str, text: &mut String) -> Result<(), String> {
    let no_address = |value: &str| format!("`{value}` is no address");
    if let Some(instead) = value.strip_prefix('@') {
        text.push('@');
        push_group(text, bare(instead).parse().map_err(|_| no_address(instead))?, grouping);
        return Ok(());
    }
    let address = *part == Part::Address;
    let named = part.push_named(if address { bare(value) } else { value }, grouping, text);
    named.ok_or_else(|| if address { no_address(value) } else { format!("`{value}` is no {part}") })
}

/// An address, of itself or of its network.
fn bare(text: &str) -> &str {
    text.split('/').next().unwrap_or(text)
}

/// The text of a key as it is shown (rule 2).
pub fn redacted(key: &Key, text: &str) -> String {
    let mut shown = Vec::new();
    for (part, text) in key.0.iter().zip(text.split(',')) {
        shown.push(match (text.strip_prefix('@'), text.strip_prefix('#'), part) {
            (Some(address), ..) => format!("@{}", network(address)),
            (_, Some(known), _) if is_digest(known) => format!("#{}…", &known[..SHOWN]),
            (_, _, Part::Address) => network(text),
            (_, _, Part::Route | Part::Method | Part::Host) => text.to_owned(),
            _ => text.chars().next().map_or_else(String::new, |first| format!("{first}…")),
        });
    }
    shown.join(",")
}

/// The /24 or /48 of an address or a network.
fn network(text: &str) -> String {
    match bare(text).parse() {
        Ok(IpAddr::V4(address)) => {
            let [a, b, c, _] = address.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        Ok(IpAddr::V6(address)) => {
            let [a, b, c, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}::/48")
        }
        Err(_) => "…".into(),
    }
}

fn is_digest(text: &str) -> bool {
    text.len() == DIGEST && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rate_limit::trial::exchange;

    fn key(parts: &[&str]) -> Key {
        Key::parse(parts.iter().copied()).unwrap()
    }

    fn spelt(parts: &[&str], values: &[&str]) -> Result<String, String> {
        let values: Vec<String> = values.iter().map(|&value| value.to_owned()).collect();
        spell(&key(parts), Grouping::default(), &values)
    }

    #[test]
    fn a_key_is_named_by_what_its_client_sends() {
        let parts = ["address", "header:x-key", "query:k", "method", "host"];
        let fields = [("x-key", "abc"), ("host", "API.example.com:80")];
        let request = exchange("POST", "/?k=s%20t", "2001:db8:1:2:3::4", &fields);
        let mut counted = String::new();
        key(&parts).push(&request, Grouping::default(), None, &mut counted);
        let named = spelt(&parts, &["2001:db8:1:2::9", "abc", "s t", "POST", "api.example.com"]);
        assert_eq!(named.as_deref(), Ok(counted.as_str()));
    }

    #[test]
    fn what_is_shown_in_whole_names_the_key_too() {
        let digest = "#ba7816bf8f01cfea414140de5dae2223";
        assert_eq!(spelt(&["header:x-key"], &["abc"]).unwrap(), digest);
        for shown in [digest, "@192.0.2.1", "@2001:db8:1:2::/64"] {
            assert_eq!(spelt(&["header:x-key"], &[shown]).unwrap(), shown);
        }
        assert_eq!(spelt(&["address"], &["2001:db8:1:2::/64"]).unwrap(), "2001:db8:1:2::/64");
    }

    #[test]
    fn what_names_nothing_is_refused() {
        assert_eq!(spelt(&["address"], &["example.com"]).unwrap_err(), "`example.com` is no address");
        let few = spelt(&["address", "header:x-key"], &["192.0.2.1"]).unwrap_err();
        assert_eq!(few, "the key of this limit is address, header:x-key: a value for each");
    }

    #[test]
    fn what_is_shown_does_not_say_who_it_is() {
        let shown = |parts: &[&str], text: &str| redacted(&key(parts), text);
        assert_eq!(shown(&["address"], "192.0.2.77"), "192.0.2.0/24");
        assert_eq!(shown(&["address"], "2001:db8:1:2::/64"), "2001:db8:1::/48");
        let both = "#ba7816bf8f01cfea414140de5dae2223,GET";
        assert_eq!(shown(&["header:x-key", "method"], both), "#ba7816bf…,GET");
        assert_eq!(shown(&["header:x-key"], "@192.0.2.77"), "@192.0.2.0/24");
        assert_eq!(shown(&["session:user.email"], "alice%40example.com"), "a…");
        assert_eq!(shown(&["route", "session"], "/users,0a1b2c"), "/users,0…");
    }
}
