//! Keys as a report shows them. Pure.
//!
//! 1. An address is shown by its /24 or /48, or what is counted together if that is more.
//! 2. Of a digest, and of what a session says, the beginning is shown.
//! 3. Routes, methods and hosts are shown as they are.
//!
//! # Why
//! A report goes by mail and into tickets. Who has to know exactly says so (`--reveal`), and still gets no secret: the keys
//! themselves hold digests.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::rate_limit::partition::{Key, Part};

/// Characters of a digest that are shown.
const BEGINNING: usize = 6;

/// `text`, which is a key as `key` spells it, without what would give somebody away.
pub fn redacted(key: &Key, text: &str) -> String {
    let parts = text.split(',').zip(key.0.iter().map(Some).chain(std::iter::repeat(None)));
    parts.map(|(text, part)| redacted_part(part, text)).collect::<Vec<_>>().join(",")
}

fn redacted_part(part: Option<&Part>, text: &str) -> String {
    match (part, text.as_bytes().first()) {
        (_, Some(b'@')) => format!("@{}", network(&text[1..])),
        (Some(Part::Address), _) => network(text),
        (Some(Part::Route | Part::Method | Part::Host), first) if first != Some(&b'#') => text.to_owned(),
        _ => match text.char_indices().nth(BEGINNING) {
            Some((end, _)) => format!("{}…", &text[..end]),
            // A short one would be shown whole.
            None => format!("{}…", text.chars().take(1).collect::<String>()),
        },
    }
}

/// `192.0.2.0/24` of `192.0.2.1`; `2001:db8:1::/48` of `2001:db8:1:2::/64`.
fn network(text: &str) -> String {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, bits.parse().ok()),
        None => (text, None),
    };
    match address.parse() {
        Ok(IpAddr::V4(address)) => {
            let bits = bits.unwrap_or(32).min(24);
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            format!("{}/{bits}", Ipv4Addr::from_bits(address.to_bits() & mask))
        }
        Ok(IpAddr::V6(address)) => {
            let bits = bits.unwrap_or(128).min(48);
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            format!("{}/{bits}", Ipv6Addr::from_bits(address.to_bits() & mask))
        }
        Err(_) => "…".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_given_away() {
        let key = |parts: &[&str]| Key::parse(parts.iter().copied()).unwrap();
        for (parts, text, shown) in [
            (&["address"][..], "192.0.2.77", "192.0.2.0/24"),
            (&["address"], "10.0.0.0/8", "10.0.0.0/8"),
            (&["address"], "2001:db8:1:2::/64", "2001:db8:1::/48"),
            (&["address"], "2001:db8::/32", "2001:db8::/32"),
            (&["header:x-api-key"], "#0123456789abcdef", "#01234…"),
            (&["header:x-api-key"], "@192.0.2.77", "@192.0.2.0/24"),
            (&["session:user.id"], "bob", "b…"),
            (&["session:user.id"], "barbara@example", "barbar…"),
            (&["method", "route", "address"], "GET,/users/%7bid%7d,192.0.2.77", "GET,/users/%7bid%7d,192.0.2.0/24"),
            (&["route"], "#0123456789abcdef", "#01234…"),
        ] {
            assert_eq!(redacted(&key(parts), text), shown, "{parts:?} {text}");
        }
    }
}
