//! What of a policy is in the key. Pure.
//!
//! 1. Settings that decide for whom an answer is stored, or what requests are alike: `cookies`, `set_cookie`, what the
//!    query rules leave out or sort; and `override_ttl`, which gives answers a life that they do not say.
//! 2. Where all of these are the defaults there is nothing, so that most keys are what an operator would type.
//! 3. `key` and the content of a POST are not among them: they are in the key themselves ([`parts`](super::parts)).
//!
//! # Why
//! What is stored was judged by the settings of its time, and is looked up by those of today. A policy that took cookies
//! for nothing has stored what somebody's session was answered; with `cookies = "private"` again that must not be found.
//! The same holds of two routes that reach one URL with different caches. The place is the same with all of them: a write
//! takes back what was stored under any.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use crate::cache::{Policy, QueryKey};

/// Bytes of the digest that are in a key: an accident is not to be feared, and nobody but the operator chooses the settings.
const LENGTH: usize = 6;

/// The mark of the settings of a policy; `None`: they are the defaults.
pub fn apart(policy: &Policy) -> Option<Box<str>> {
    let settings = |policy: &Policy| {
        let QueryKey { sorted, keep, drop, credentials } = &policy.keying.query;
        let rules = *sorted || !keep.is_empty() || !drop.is_empty();
        let query = rules.then_some((sorted, keep, drop, credentials));
        // Texts are in quotes and escaped, so that no two of these read the same.
        format!("{:?}", (policy.cookies, policy.set_cookie, policy.freshness.override_ttl, query))
    };
    let own = settings(policy);
    let differs = own != settings(&Policy::new(""));
    differs.then(|| BASE64_URL_SAFE_NO_PAD.encode(&Sha256::digest(own)[..LENGTH]).into())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use super::*;
    use crate::cache::{Cookies, KeyPart, SetCookie};

    fn of(change: impl FnOnce(&mut Policy)) -> Option<Box<str>> {
        let mut policy = Policy::new("pages");
        change(&mut policy);
        apart(&policy)
    }

    #[test]
    fn what_decides_for_whom_an_answer_is_stored_sets_keys_apart() {
        let changes: [fn(&mut Policy); 10] = [
            |_| {},
            |policy| policy.cookies = Cookies::Ignore,
            |policy| policy.set_cookie = SetCookie::Strip,
            |policy| policy.set_cookie = SetCookie::Store,
            |policy| policy.freshness.override_ttl = Some(Duration::from_secs(1)),
            |policy| policy.freshness.override_ttl = Some(Duration::from_secs(2)),
            |policy| policy.keying.query.sorted = true,
            |policy| policy.keying.query.keep = vec!["a".into(), "b".into()],
            |policy| policy.keying.query.drop = vec!["a".into(), "b".into()],
            |policy| policy.keying.query.drop = vec!["a\", \"b".into()],
        ];
        let mut seen = HashMap::new();
        for (number, change) in changes.into_iter().enumerate() {
            let mark = of(change);
            assert_eq!(mark.is_none(), number == 0, "{number}");
            assert_eq!(mark, of(change), "the same in every process");
            assert_eq!(seen.insert(mark, number), None, "{number}");
        }
    }

    #[test]
    fn what_does_not_leaves_them_as_they_are() {
        let others: [fn(&mut Policy); 4] = [
            |policy| policy.freshness.ttl = Some(Duration::from_secs(9)),
            |policy| policy.keying.by = vec![KeyPart::Principal],
            |policy| policy.post_body = Some(9),
            |policy| policy.keying.query.credentials = vec!["token".into()],
        ];
        assert!(others.into_iter().all(|change| of(change).is_none()));
    }
}
