//! Fields that say who calls, by what way, and for which path: what an app believes of whoever may write them. Pure.
//!
//! 1. Only we, or a trusted proxy, may write them. A stranger's own never reach the app (`upstream::hop`).
//! 2. So the app may see another value than the client has sent, and an answer that was chosen by one of them cannot be found
//!    by the client's own (`cache::rules::vary`).

/// What begins so is one, in lower case.
const FORWARDED: &str = "x-forwarded";

/// The other names; lower case. The last ones tell an app that the request was for another path than the one that our
/// rules were applied to.
const OTHERS: [&str; 8] = [
    "forwarded",
    "x-request-id",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "x-original-url",
    "x-rewrite-url",
];

/// Whether the field of this name, in lower case, is one of them.
pub fn is_claim(name: &str) -> bool {
    matches!(name.as_bytes().first(), Some(b'x' | b'f' | b't'))
        && (name.strip_prefix(FORWARDED).is_some_and(|rest| matches!(rest.as_bytes().first(), None | Some(b'-')))
            || OTHERS.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_known_by_name() {
        for name in
            ["x-forwarded", "x-forwarded-for", "x-forwarded-anything", "forwarded", "x-real-ip", "x-original-url"]
        {
            assert!(is_claim(name), "{name}");
        }
        for name in ["x-forwardedness", "x-forward", "forwarded-for", "x-api-key", "true", "", "via"] {
            assert!(!is_claim(name), "{name}");
        }
    }
}
