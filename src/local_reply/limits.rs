//! What limits say when they refuse.
//!
//! 1. The problem type of a spent quota is the one that draft-ietf-httpapi-ratelimit-headers registers (§5.1), and
//!    `violated-policies` names the limits as the fields `RateLimit-Policy` and `RateLimit` do. While limits are counted by
//!    each instance for itself, it is the other one (§5.2): the quota that refused is smaller than the configured one. The
//!    status stays: the client is to slow down, the service is there.
//! 2. A limit may say another status, and another content, of its own type. `{limit}`, `{quota}` and `{retry_after}` in
//!    that content stand for what they say, escaped as its type asks: as in a JSON string, or as in HTML and XML.
//! 3. A request that costs more than its limit ever allows at once is not told to come back: it has no `Retry-After`.
//!
//! # Why
//! The placeholders are replaced in one walk: what stands in their place is never read for placeholders again.

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderValue, StatusCode};

use super::page::escaped;

/// A limit refused a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The limit's name; of several, of the one that refuses longest.
    pub limit: Arc<str>,
    /// How much it allows, in the configuration's words: `100 per minute`, `4 in flight`.
    pub quota: String,
    /// Seconds until the same request would pass; `None`: it never will.
    pub retry_after: Option<u64>,
    /// The names of all limits that refused it.
    pub violated: Vec<Arc<str>>,
    /// What it allows is, for now, less than is configured: this instance counts for itself.
    pub reduced: bool,
    /// What the answer looks like.
    pub refusal: Refusal,
}

/// `refusal` of a limit: what its refusals look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// 429 unless said.
    pub status: StatusCode,
    /// Instead of a problem document; `{retry_after}`, `{limit}` and `{quota}` stand for what they say.
    pub content: Option<Arc<str>>,
    /// Of that content.
    pub content_type: HeaderValue,
}

impl Refusal {
    /// Whether its content is of the type it claims, as far as that can be told: JSON is.
    pub fn is_sound(&self) -> bool {
        if Writing::of(&self.content_type) != Writing::Json {
            return true;
        }
        let refused = Refused {
            limit: "per-address".into(),
            quota: "100 per minute".into(),
            retry_after: Some(1),
            violated: Vec::new(),
            reduced: false,
            refusal: self.clone(),
        };
        refused.content().is_none_or(|content| serde_json::from_str::<serde::de::IgnoredAny>(&content).is_ok())
    }
}

impl Default for Refusal {
    fn default() -> Self {
        let content_type = HeaderValue::from_static("text/plain; charset=utf-8");
        Self { status: StatusCode::TOO_MANY_REQUESTS, content: None, content_type }
    }
}

/// How a text has to be written to stand inside content of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    Plain,
    Json,
    Markup,
}

impl Refused {
    /// The problem type (rule 1).
    pub(super) fn problem_type(&self) -> &'static str {
        if self.reduced {
            "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"
        } else {
            "https://iana.org/assignments/http-problem-types#quota-exceeded"
        }
    }

    /// How much is allowed, as a sentence.
    pub(super) fn allowance(&self) -> String {
        let for_now = if self.reduced { " for now" } else { "" };
        format!("The limit \"{}\" is {}{for_now}.", self.limit, self.quota)
    }

    /// What became of the request.
    pub(super) fn detail(&self) -> String {
        match self.seconds() {
            Some(seconds) => format!("{} Try again in {seconds} s.", self.allowance()),
            None => format!("{} This request costs more than it allows at once.", self.allowance()),
        }
    }

    /// What became of a request of which too many were in flight: when one of them ends, nobody knows.
    pub(super) fn detail_in_flight(&self) -> String {
        format!("{} Try again when one of them has ended.", self.allowance())
    }

    /// `Retry-After` (RFC 9110 §10.2.3).
    pub(super) fn seconds(&self) -> Option<u64> {
        self.retry_after.map(|seconds| seconds.max(1))
    }

    /// The limit's own content for this refusal, if it has one.
    pub(super) fn content(&self) -> Option<String> {
        let pattern = self.refusal.content.as_deref()?;
        let writing = Writing::of(&self.refusal.content_type);
        let mut content = String::with_capacity(pattern.len() + 32);
        let mut rest = pattern;
        while let Some(at) = rest.find('{') {
            content.push_str(&rest[..at]);
            rest = &rest[at..];
            let end = rest.find('}').map_or(rest.len(), |end| end + 1);
            match &rest[..end] {
                "{limit}" => content.push_str(&writing.escaped(&self.limit)),
                "{quota}" => content.push_str(&writing.escaped(&self.quota)),
                "{retry_after}" => match self.seconds() {
                    Some(seconds) => content.push_str(itoa::Buffer::new().format(seconds)),
                    None if writing == Writing::Json => content.push_str("null"),
                    None => content.push_str("never"),
                },
                _ => {
                    content.push('{');
                    rest = &rest[1..];
                    continue;
                }
            }
            rest = &rest[end..];
        }
        content.push_str(rest);
        Some(content)
    }
}

impl Writing {
    /// By the type's essence: its suffix counts (RFC 6839), its parameters do not.
    fn of(content_type: &HeaderValue) -> Self {
        let essence = content_type.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
        let subtype = essence.trim().rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
        match subtype.rsplit('+').next().unwrap_or_default() {
            "json" => Self::Json,
            "html" | "xml" => Self::Markup,
            _ => Self::Plain,
        }
    }

    fn escaped(self, text: &str) -> Cow<'_, str> {
        match self {
            Self::Plain => Cow::Borrowed(text),
            Self::Markup => Cow::Owned(escaped(text)),
            Self::Json => {
                let quoted = serde_json::Value::from(text).to_string();
                Cow::Owned(quoted[1..quoted.len() - 1].to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(content: &str, content_type: &'static str) -> Refused {
        let content_type = HeaderValue::from_static(content_type);
        Refused {
            limit: "per-\"key\"".into(),
            quota: "<{limit}> per minute".into(),
            retry_after: Some(7),
            violated: vec!["per-\"key\"".into()],
            reduced: false,
            refusal: Refusal { content: Some(content.into()), content_type, ..Refusal::default() },
        }
    }

    #[test]
    fn placeholders_are_replaced_once_and_escaped_as_the_type_asks() {
        let pattern = "{limit} {quota} {retry_after}";
        for (content_type, expected) in [
            ("text/plain", "per-\"key\" <{limit}> per minute 7"),
            ("application/json", "per-\\\"key\\\" <{limit}> per minute 7"),
            ("application/vnd.api+JSON; charset=utf-8", "per-\\\"key\\\" <{limit}> per minute 7"),
            ("text/html; charset=utf-8", "per-&quot;key&quot; &lt;{limit}&gt; per minute 7"),
            ("application/atom+xml", "per-&quot;key&quot; &lt;{limit}&gt; per minute 7"),
        ] {
            assert_eq!(refused(pattern, content_type).content().as_deref(), Some(expected), "{content_type}");
        }
    }

    #[test]
    fn braces_that_are_no_placeholder_stay_and_json_stays_json() {
        let refused = refused(r#"{"error":{"quota":"{quota}","after":{retry_after},"{":"}{"}}"#, "application/json");
        let content: serde_json::Value = serde_json::from_str(&refused.content().unwrap()).expect("JSON");
        let expected = serde_json::json!({"error": {"quota": "<{limit}> per minute", "after": 7, "{": "}{"}});
        assert_eq!(content, expected);
    }

    #[test]
    fn content_without_an_end_or_with_characters_of_any_width_is_kept() {
        for kept in ["{", "}", "{limit", "é{ü}ß{", "{}", "{{", "{é"] {
            assert_eq!(refused(kept, "text/plain").content().as_deref(), Some(kept));
        }
        assert_eq!(refused("{{limit}}", "text/plain").content().as_deref(), Some("{per-\"key\"}"));
    }

    #[test]
    fn what_can_never_pass_is_told_so_and_not_to_come_back() {
        let refused = Refused { retry_after: None, ..refused(r#"{"after":{retry_after}}"#, "application/json") };
        assert_eq!(refused.content().as_deref(), Some(r#"{"after":null}"#));
        assert!(refused.detail().ends_with("costs more than it allows at once."), "{}", refused.detail());
        let plain = Refused {
            refusal: Refusal { content_type: "text/plain".parse().unwrap(), ..refused.refusal.clone() },
            ..refused
        };
        assert_eq!(plain.content().as_deref(), Some("{\"after\":never}"));
    }
}
