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

const ALL: [(&str, &str, &str); 53] = [
    // The request passes the store by.
    ("method", "the method is neither GET nor HEAD", "RFC 9111 §4"),
    ("request-content", "the request has content, and the key does not", "RFC 9110 §9.3.1"),
    ("upgrade", "the request asks to switch protocols", "RFC 9110 §7.8"),
    ("precondition", "the request has a condition that only the app can judge", "RFC 9111 §4.3.2"),
    ("connection", "Connection names a field that the app does not get to see", "RFC 9110 §7.6.1"),
    ("method-override", "a field says another method, by which the app may answer", "RFC 9110 §9.1"),
    ("path", "an app could read the path as that of another place, where a write would not find it", "RFC 3986 §6"),
    ("no-authority", "the request does not say of which host", "RFC 9110 §7.2"),
    ("uri-too-long", "the URI is longer than a key can be: 4096 bytes", "RFC 9111 §2"),
    ("owed", "a write here could not be told to Redis yet", "redis"),
    ("store-unavailable", "the store could not be asked, or the place was not opened", "redis"),
    ("observe", "what is stored would have been sent, but the cache only observes", "cache.mode"),
    ("observe-equal", "the cache only observes; the app said what is stored", "cache.mode"),
    ("observe-status", "the cache only observes; the app's status is not the stored one", "cache.mode"),
    ("observe-fields", "the cache only observes; a field of the app's answer is not as stored", "cache.mode"),
    ("observe-content", "the cache only observes; the app's content is not the stored one", "cache.mode"),
    ("observe-unknown", "the cache only observes; the app's answer did not come to its end", "cache.mode"),
    ("only-if-cached", "the client takes only what is stored, and nothing is that may be sent", "RFC 9111 §5.2.1.7"),
    // Nothing that is stored fits.
    ("uri-miss", "nothing is stored for this URI", "RFC 9111 §4"),
    ("vary-miss", "something is stored, for requests with other fields", "RFC 9111 §4.1"),
    ("authorization", "the request has Authorization, and what is stored is not said to be for all", "RFC 9111 §3.5"),
    ("session", "the route verifies a session, and what is stored is not said to be for all", "RFC 9111 §3.5"),
    ("cookie", "the request has a Cookie, and what is stored is not said to be for all", "cache.cookies"),
    ("certificate", "the client shows a certificate, and what is stored is not said to be for all", "RFC 9111 §3.5"),
    ("partial", "what is stored is a part, and does not hold all that is asked for", "RFC 9111 §3.3"),
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
    ("session-order", "the app orders something about this client's session", "session.issue"),
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
    ("part-unasked", "the part was not asked for as one range", "RFC 9110 §14.2"),
    (
        "part-range",
        "Content-Range is missing, or contradicts itself, the length or what was asked for",
        "RFC 9110 §14.4",
    ),
    ("part-validator", "the part has no strong validator, which parts are put together by", "RFC 9111 §3.4"),
    ("part-of-stored", "a part takes the place of nothing that is whole", "RFC 9111 §3.3"),
    ("part-coding", "sidegate compresses the whole, and no part of it", "cache.encode"),
    ("no-policy", "the route stores nothing", "route.cache"),
    ("fresh", "it is stored, and fresh", "RFC 9111 §4"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::rules::parts::Unfit;
    use crate::cache::rules::reuse::NotReused;
    use crate::cache::rules::storing::NotStored;

    #[test]
    fn each_word_of_the_rules_has_a_sentence_and_a_section() {
        let words = NotStored::ALL.map(NotStored::as_str).into_iter().chain(NotReused::ALL.map(NotReused::as_str));
        let words = words.chain(Unfit::ALL.map(Unfit::as_str));
        for word in words {
            let reason = of(word).unwrap_or_else(|| panic!("{word} is not explained"));
            assert!(!reason.sentence.is_empty() && !reason.rule.is_empty(), "{word}");
        }
        for reused in NotReused::ALL {
            assert_eq!(of(reused.as_str()).map(|reason| reason.rule), Some(reused.section()));
        }
    }

    /// Words in the cache's own text that are none of these: for metrics, of RFC 9211 and of Cache-Control.
    const OTHERS: [&str; 28] = [
        "a",
        "cache-status",
        "alone",
        "bypass",
        "cache",
        "content",
        "equal",
        "expired",
        "fields",
        "route",
        "hit",
        "keep-alive",
        "close",
        "te",
        "memory",
        "miss",
        "near",
        "none",
        "outcome",
        "parted",
        "redis",
        "request",
        "revalidated",
        "shared",
        "sidegate",
        "tier",
        "unknown",
        "x-cache",
    ];

    /// Lower-case words between quotes in the file at `path`, which is below `src/cache`, as far as its tests.
    fn words_in(path: &std::path::Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        let is_word = |text: &&str| {
            text.starts_with(|letter: char| letter.is_ascii_lowercase())
                && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
        };
        code.split('"').skip(1).step_by(2).filter(is_word).map(str::to_owned).collect()
    }

    #[test]
    fn each_word_that_is_said_has_a_sentence() {
        let cache = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cache");
        let mut files: Vec<_> =
            std::fs::read_dir(cache.join("layer")).unwrap().map(|file| file.unwrap().path()).collect();
        // Their words are those of what they print.
        files.retain(|file| !file.ends_with("explain.rs"));
        files.extend(["layer.rs", "key.rs", "rules/request.rs", "observe.rs"].map(|file| cache.join(file)));
        let mut met = 0;
        for file in files {
            for word in words_in(&file) {
                let is_known = of(&word).is_some();
                met += usize::from(is_known);
                assert!(is_known || OTHERS.contains(&&*word), "`{word}` of {} is not explained", file.display());
            }
        }
        assert!(met > 25, "{met} words were found: do they look otherwise now?");
    }

    #[test]
    fn each_word_is_in_the_list_of_readme() {
        let readme = include_str!("../../README.md");
        let list = readme.split("Cache-Status: …; detail=").nth(1).and_then(|rest| rest.split("\n### ").next());
        let list = list.expect("README lists the words of `detail`");
        for (word, ..) in ALL {
            assert!(list.contains(&format!("`{word}`")), "`{word}` is not in README's list");
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
