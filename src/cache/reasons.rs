//! What the words mean by which the cache says why it did not store or reuse something, and which rule that is. Pure.
//!
//! # Why
//! `Cache-Status`, logs and metrics get a word: few bytes, the same for all. Who asks `sidegate explain` wants a sentence,
//! and where to read on.

/// A rule that had its say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason {
    /// In `Cache-Status` and logs.
    pub word: &'static str,
    /// What it means.
    pub sentence: &'static str,
    /// Where it stands: an RFC and its section, or the key of the configuration.
    pub rule: &'static str,
}

/// The reason that this word gives; `None`: the word is not known here.
pub fn of(word: &str) -> Option<Reason> {
    let (word, sentence, rule) = *ALL.iter().find(|(known, ..)| *known == word)?;
    Some(Reason { word, sentence, rule })
}

/// What `detail` of `Cache-Status` says of a word: itself and its rule, as a string (RFC 9651 §3.3.3), which is ASCII; a word
/// that is not known here, by itself.
pub fn detail(word: &str) -> String {
    match of(word) {
        Some(Reason { rule, .. }) => format!("\"{word}: {}\"", rule.replace('§', "")),
        None => word.to_owned(),
    }
}

const ALL: [(&str, &str, &str); 38] = [
    // The request passes the store by.
    ("method", "the method is neither GET nor HEAD", "RFC 9111 §4"),
    ("request-content", "the request has content, and the key does not", "RFC 9110 §9.3.1"),
    ("upgrade", "the request asks to switch protocols", "RFC 9110 §7.8"),
    ("precondition", "the request has a condition that only the app can judge", "RFC 9111 §4.3.2"),
    ("connection", "Connection names a field that the app does not get to see", "RFC 9110 §7.6.1"),
    ("path", "an app could read the path as that of another place, where a write would not find it", "RFC 3986 §6"),
    ("no-authority", "the request does not say of which host", "RFC 9110 §7.2"),
    ("uri-too-long", "the URI is longer than a key can be: 4096 bytes", "RFC 9111 §2"),
    ("owed", "a write here could not be told to Redis yet", "redis"),
    ("store-unavailable", "the store could not be asked, or the place was not opened", "redis"),
    // Nothing that is stored fits.
    ("uri-miss", "nothing is stored for this URI", "RFC 9111 §4"),
    ("vary-miss", "something is stored, for requests with other fields", "RFC 9111 §4.1"),
    ("authorization", "the request has Authorization, and what is stored is not said to be for all", "RFC 9111 §3.5"),
    ("session", "the route verifies a session, and what is stored is not said to be for all", "RFC 9111 §3.5"),
    ("cookie", "the request has a Cookie, and what is stored is not said to be for all", "cache.cookies"),
    ("certificate", "the client shows a certificate, and what is stored is not said to be for all", "RFC 9111 §3.5"),
    ("stale", "what is stored, or was answered, is not fresh", "RFC 9111 §4.2"),
    ("no-cache", "the response says no-cache: it is validated at each use", "RFC 9111 §5.2.2.4"),
    ("request-no-cache", "the client says no-cache", "RFC 9111 §5.2.1.4"),
    ("request-max-age", "it is older than the client's max-age", "RFC 9111 §5.2.1.1"),
    ("request-min-fresh", "it is not as fresh as the client's min-fresh", "RFC 9111 §5.2.1.3"),
    ("refresh-failed", "the app failed just now, and is left alone for a moment", "cache.retry_refresh"),
    ("unreachable", "the app could not be reached, and what is stored stands in", "RFC 9111 §4.2.4"),
    // The answer is not stored.
    ("head", "the answer to HEAD has no content to store", "RFC 9111 §4.3.5"),
    ("request-no-store", "the client says no-store", "RFC 9111 §5.2.1.5"),
    ("local-reply", "sidegate gave the answer itself", "RFC 9111 §3"),
    ("status", "the status is no final and whole answer, or not understood beside must-understand", "RFC 9111 §3"),
    ("no-store", "the response says no-store", "RFC 9111 §5.2.2.5"),
    ("private", "the response says private, and the key has no principal", "RFC 9111 §5.2.2.7"),
    ("set-cookie", "the response sets a cookie", "cache.set_cookie"),
    ("vary", "Vary is *, or names more fields than are kept apart", "RFC 9111 §4.1"),
    ("event-stream", "an event stream has no end to wait for", "HTML §9.2"),
    (
        "credentials",
        "it answers credentials, and is not said to be for all: public, s-maxage, must-revalidate",
        "RFC 9111 §3.5",
    ),
    ("no-lifetime", "nothing says how long it is fresh, and it cannot be validated", "RFC 9111 §4.2.1"),
    ("too-large", "the content is larger than max_body", "cache.max_body"),
    ("too-many-tags", "it has more tags than max_tags", "cache.max_tags"),
    ("no-policy", "the route stores nothing", "route.cache"),
    ("fresh", "it is stored, and fresh", "RFC 9111 §4"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::rules::reuse::NotReused;
    use crate::cache::rules::storing::NotStored;

    #[test]
    fn each_word_of_the_rules_has_a_sentence_and_a_section() {
        use NotStored::*;
        let stored = [
            RequestNoStore,
            LocalReply,
            Status,
            NoStore,
            Private,
            NoCache,
            SetCookie,
            Vary,
            EventStream,
            Credentials,
            NoLifetime,
            Stale,
        ];
        let reused = [
            NotReused::Stale,
            NotReused::NoCache,
            NotReused::ClientNoCache,
            NotReused::ClientMaxAge,
            NotReused::ClientMinFresh,
        ];
        let words = stored.into_iter().map(NotStored::as_str).chain(reused.into_iter().map(NotReused::as_str));
        for word in words {
            let reason = of(word).unwrap_or_else(|| panic!("{word} is not explained"));
            assert!(!reason.sentence.is_empty() && !reason.rule.is_empty(), "{word}");
        }
        for reused in reused {
            assert_eq!(of(reused.as_str()).map(|reason| reason.rule), Some(reused.section()));
        }
    }

    #[test]
    fn no_word_is_explained_twice() {
        for (index, (word, ..)) in ALL.iter().enumerate() {
            assert!(ALL[index + 1..].iter().all(|(other, ..)| other != word), "{word}");
        }
        assert_eq!(of("unheard-of"), None);
    }
}
