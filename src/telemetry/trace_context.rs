//! Names of requests that mean the same to every program on the way: W3C Trace Context, and the request identifier.
//!
//! 1. A valid `traceparent` goes on as it came: sidegate opens no span of its own.
//! 2. An absent or invalid one is replaced by a new one; whoever does so also removes `tracestate`, which belongs to the
//!    one that is gone (W3C Trace Context §3.2.3, §4.3).
//! 3. Identifiers are random, not secret.
//!
//! # Why
//! The new one says *sampled*: an app that traces follows its parent by default, and a sidecar in front of it must not
//! turn its tracing off.

use std::cell::RefCell;

use fastrand::Rng;
use http::HeaderValue;

/// Bytes of a `traceparent` of version 00.
const LENGTH: usize = 55;

/// The `traceparent` to send: `None` where the incoming one is valid and stays, else a new one.
pub fn outgoing(incoming: Option<&HeaderValue>) -> Option<HeaderValue> {
    match incoming {
        Some(value) if is_valid(value.as_bytes()) => None,
        _ => fresh(),
    }
}

thread_local! {
    // Each generator has 64 bits of state: two of them, seeded apart, make 128 bits mean what they say.
    static GENERATORS: RefCell<[Rng; 2]> = RefCell::new([seeded(), seeded()]);
}

fn random() -> u128 {
    GENERATORS.with_borrow_mut(|[high, low]| u128::from(high.u64(..)) << 64 | u128::from(low.u64(..)))
}

/// Seeded by the operating system; should it refuse, by fastrand itself (time and thread).
fn seeded() -> Rng {
    let mut seed = [0; 8];
    match getrandom::fill(&mut seed) {
        Ok(()) => Rng::with_seed(u64::from_ne_bytes(seed)),
        Err(_) => Rng::new(),
    }
}

/// A new request identifier: 32 hex digits.
pub fn request_id() -> Option<HeaderValue> {
    let mut text = [0; 32];
    hex(&mut text, random());
    HeaderValue::from_bytes(&text).ok()
}

/// W3C Trace Context §3.2.2: version, trace-id, parent-id, flags. A later version may be longer.
fn is_valid(value: &[u8]) -> bool {
    let Some((known, more)) = value.split_at_checked(LENGTH) else { return false };
    let digits = |part: &[u8]| part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let nonzero = |part: &[u8]| part.iter().any(|byte| *byte != b'0');
    let (version, trace, parent, flags) = (&known[..2], &known[3..35], &known[36..52], &known[53..]);
    let dashes = [2, 35, 52].iter().all(|at| known[*at] == b'-');
    let length = more.is_empty() || (version != b"00" && more[0] == b'-');
    dashes
        && length
        && version != b"ff"
        && [version, trace, parent, flags].into_iter().all(digits)
        && nonzero(trace)
        && nonzero(parent)
}

fn fresh() -> Option<HeaderValue> {
    let mut text = *b"00-00000000000000000000000000000000-0000000000000000-01";
    hex(&mut text[3..35], random().max(1));
    hex(&mut text[36..52], random() >> 64 | 1);
    HeaderValue::from_bytes(&text).ok()
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Writes the low digits of `number` over `out`, an even number of them.
fn hex(out: &mut [u8], mut number: u128) {
    for pair in out.rchunks_exact_mut(2) {
        let byte = number as u8;
        pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        number >>= 8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn kept(value: &str) -> bool {
        outgoing(Some(&HeaderValue::from_str(value).unwrap())).is_none()
    }

    #[test]
    fn a_valid_parent_is_kept() {
        assert!(kept(GOOD));
        assert!(kept(&GOOD.replace("-01", "-00")));
        assert!(kept(&format!("cc{}", &GOOD[2..])));
        assert!(kept(&format!("cc{}-what-the-future-brings", &GOOD[2..])));
    }

    #[test]
    fn an_invalid_parent_is_replaced() {
        let cases = [
            String::new(),
            "garbage".into(),
            GOOD[..54].into(),
            format!("{GOOD}-more"),
            format!("cc{}.more", &GOOD[2..]),
            format!("ff{}", &GOOD[2..]),
            GOOD.to_uppercase(),
            GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)),
            GOOD.replace('-', "_"),
            GOOD.replace("-01", "-0g"),
        ];
        for case in cases {
            assert!(!kept(&case), "{case}");
        }
    }

    #[test]
    fn new_ones_are_valid_and_differ() {
        let (one, other) = (outgoing(None).unwrap(), outgoing(None).unwrap());
        assert!(is_valid(one.as_bytes()), "{one:?}");
        assert_ne!(one, other);
        assert_eq!(request_id().unwrap().len(), 32);
        assert_ne!(request_id(), request_id());
    }
}
