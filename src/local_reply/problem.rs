//! Answers of ours as problem documents (RFC 9457).

use std::borrow::Cow;
use std::sync::Arc;

use serde::Serialize;

use super::LocalReply;

/// What a problem document says (RFC 9457 §3.1), facts last.
#[derive(Serialize)]
struct Problem<'a> {
    #[serde(rename = "type")]
    kind: Cow<'static, str>,
    title: &'static str,
    status: u16,
    detail: Cow<'static, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quota: Option<&'a str>,
    #[serde(rename = "violated-policies", skip_serializing_if = "Option::is_none")]
    violated: Option<&'a [Arc<str>]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allow: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
}

impl LocalReply {
    /// The problem document, which ends with a line break.
    pub(super) fn json(&self) -> Vec<u8> {
        let (kind, title) = self.title();
        let mut problem = Problem {
            kind: match self.refused() {
                Some(refused) => refused.problem_type().into(),
                None => format!("urn:sidegate:problem:{kind}").into(),
            },
            title,
            status: self.status().as_u16(),
            detail: self.detail(),
            limit: None,
            quota: None,
            violated: None,
            retry_after: self.retry_after(),
            max_bytes: None,
            allow: None,
            error: self.proxy_error(),
        };
        match self {
            Self::RateLimited(refused) | Self::TooManyInFlight(refused) => {
                problem.limit = Some(&refused.limit);
                problem.quota = Some(&refused.quota);
                problem.violated = Some(&refused.violated);
            }
            Self::LimitKeyMissing { limit } => problem.limit = Some(limit),
            Self::ContentTooLarge { bound } => problem.max_bytes = Some(*bound),
            Self::MethodNotAllowed { allow } => problem.allow = Some(allow),
            _ => {}
        }
        // Texts and numbers under fixed names: this cannot fail, and an empty document would still carry its status.
        let mut bytes = serde_json::to_vec(&problem).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }
}
