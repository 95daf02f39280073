//! Fields by which a request says that it is of another method. Pure.
//!
//! `X-HTTP-Method-Override`, `X-HTTP-Method` and `X-Method-Override`, in any spelling that an app takes for one of these. No standard
//! knows them; what they say, and what becomes of it, is the business of `route`.

use http::{HeaderMap, HeaderName};

use super::spelling::alike;

const FIELDS: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];

/// Whether a field of `head` says another method.
pub fn is_said(head: &HeaderMap) -> bool {
    head.keys().any(is_by)
}

/// Whether the field called `name` is one of these.
pub fn is_by(name: &HeaderName) -> bool {
    let name = name.as_str().as_bytes();
    FIELDS.iter().any(|field| alike(field.as_bytes(), name))
}
