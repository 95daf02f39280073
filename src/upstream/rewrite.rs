//! What the app gets to see of a request instead of what the client sent, and how its redirects find the way back.
//!
//! 1. `strip_prefix` takes whole segments from the start of the path, whatever their spelling; `add_prefix` puts some
//!    there; all that follows stays byte for byte as sent. `rewrite` makes the whole path of the route's parameters, in
//!    canonical form. The query stays.
//! 2. A path that an app may read as one with dot segments is refused (400): it could lead out of its prefix.
//! 3. What comes of it begins with exactly one slash.
//! 4. `set_host` replaces Host; X-Forwarded-Host keeps the client's.
//! 5. Then request fields are removed and set: after hop-by-hop fields have gone, so that `Connection` cannot take them.
//! 6. With `rewrite_location`, Location and Content-Location that name a path of the app are turned back, if they begin
//!    with what was added. A Set-Cookie's Path and what stands in the content stay as the app says.
//!
//! # Why
//! The cache lies outside of this: keys, invalidation and `on_write` speak of the URL that the client knows, and rule 6
//! comes before it, so that the `Location` of a write is one of those, too.

use std::rc::Rc;
use std::sync::Arc;

use http::header::{CONTENT_LOCATION, HOST, HeaderValue, LOCATION};
use http::uri::PathAndQuery;
use http::{HeaderMap, Request, Uri};
use tower::Layer;

use crate::body::Body;
use crate::cache::rules::invalidation::Template;
use crate::exchange::{self, Exchange, Next, pass};
use crate::local_reply::LocalReply;
use crate::route::canonical::canonical;
use crate::route::case::folded;
use crate::route::fields::Edits;
use crate::route::readings::may_climb;

/// What a route changes about a request before the app gets it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// Its path.
    pub path: Option<Path>,
    /// Its Host.
    pub host: Option<HeaderValue>,
    /// Its other fields.
    pub fields: Edits,
    /// The app's redirects are turned back (rule 6).
    pub location: bool,
}

/// What becomes of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Path {
    /// Another prefix. Both are canonical, begin with a slash and do not end with one, or are empty.
    Prefix {
        /// What is taken away.
        strip: String,
        /// What comes there instead.
        add: String,
    },
    /// Another path.
    Template(Template),
}

/// Values of the parameters in a path.
type Parameters = [(Arc<str>, String)];

impl Rewrite {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.path.is_none() && self.host.is_none() && self.fields.is_empty()
    }

    /// Rules 1 to 5.
    ///
    /// # Errors
    /// The answer to give instead.
    pub fn request(&self, request: &mut Request<Body>, parameters: &Parameters) -> Result<(), LocalReply> {
        if let Some(path) = &self.path {
            let uri = request.uri();
            // `OPTIONS *` asks about the app, not about a path.
            if uri.path() != "*" {
                let path = path.of(uri.path(), parameters).map_err(|reason| LocalReply::BadRequest { reason })?;
                let target = uri.query().map_or(path.clone(), |query| format!("{path}?{query}"));
                let target = PathAndQuery::try_from(target);
                let target = target.map_err(|_| LocalReply::BadRequest { reason: "path that cannot be rewritten" })?;
                *request.uri_mut() = Uri::from(target);
            }
        }
        if let Some(host) = &self.host {
            request.headers_mut().insert(HOST, host.clone());
        }
        self.fields.apply(request.headers_mut());
        Ok(())
    }

    /// Rule 6; `host`: what the client sent.
    fn answer(&self, host: Option<&HeaderValue>, fields: &mut HeaderMap) {
        for name in [LOCATION, CONTENT_LOCATION] {
            let back = fields.get(&name).and_then(|value| self.turned_back(value.to_str().ok()?, host));
            if let Some(back) = back {
                fields.insert(name, back);
            }
        }
    }

    fn turned_back(&self, location: &str, host: Option<&HeaderValue>) -> Option<HeaderValue> {
        let Some(Path::Prefix { strip, add }) = &self.path else { return None };
        // A browser drops tabs before it reads a URL: what stands behind one could become the authority.
        if location.contains('\t') {
            return None;
        }
        let (before, target) = match location.split_once("://") {
            Some(("http" | "https", rest)) => {
                let (authority, target) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
                let is = |host: &HeaderValue| host.as_bytes().eq_ignore_ascii_case(authority.as_bytes());
                // The app may know the client's Host from X-Forwarded-Host.
                match (host.is_some_and(is), self.host.as_ref().is_some_and(is)) {
                    (true, _) => (&location[..location.len() - target.len()], target),
                    // A name that only we use for it.
                    (false, true) => ("", target),
                    (false, false) => return None,
                }
            }
            // Another authority's, or relative to the request: that is not changed by a prefix.
            _ if !location.starts_with('/') || location.starts_with("//") => return None,
            _ => ("", location),
        };
        let rest = target.strip_prefix(add.as_str())?;
        if !(rest.is_empty() || rest.starts_with(['/', '?', '#'])) {
            return None;
        }
        let slash = if rest.starts_with('/') || strip.is_empty() { "/" } else { "" };
        let rest = rest.trim_start_matches(['/', '\\']);
        HeaderValue::try_from(format!("{before}{strip}{slash}{rest}")).ok()
    }
}

impl Path {
    /// What becomes of `path`, which is as sent.
    fn of(&self, path: &str, parameters: &Parameters) -> Result<String, &'static str> {
        if canonical(path).ambiguity.is_some() && may_climb(path) {
            return Err("path that may lead out of its prefix");
        }
        let made = match self {
            Self::Template(template) => template.fill(parameters).ok_or("path without the route's parameters")?,
            Self::Prefix { strip, add } => {
                let rest = without(path, strip).ok_or("prefix that cannot be stripped")?;
                let inner = rest.trim_start_matches('/');
                let lower = inner.get(..3).map(str::to_ascii_lowercase);
                if inner.starts_with('\\') || matches!(lower.as_deref(), Some("%2f" | "%5c")) {
                    return Err("path that begins with an encoded slash or a backslash");
                }
                let slash = if rest.is_empty() && !add.is_empty() { "" } else { "/" };
                format!("{add}{slash}{inner}")
            }
        };
        Ok(format!("/{}", made.trim_start_matches('/')))
    }
}

/// What follows the segments of `prefix` in `path`; empty segments do not count, spelling and case neither: the route has
/// matched.
fn without<'p>(path: &'p str, prefix: &str) -> Option<&'p str> {
    let mut rest = path;
    for wanted in prefix.split('/').filter(|segment| !segment.is_empty()) {
        let inner = rest.trim_start_matches('/');
        let (segment, further) = inner.split_at(inner.find('/').unwrap_or(inner.len()));
        let spelled = canonical(segment).path;
        (folded(&spelled) == folded(wanted)).then_some(())?;
        rest = further;
    }
    Some(rest)
}

/// Turns the app's redirects back (rule 6).
pub fn layer<S: Next>(rewrite: Rc<Rewrite>) -> impl Layer<S, Service = impl Next> + Clone {
    exchange::layer(move |exchange: Box<Exchange>, next: S| {
        let rewrite = rewrite.clone();
        let host = exchange.request.headers().get(HOST).cloned();
        async move {
            let mut response = pass(next, exchange).await;
            rewrite.answer(host.as_ref(), response.headers_mut());
            response
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(strip: &str, add: &str) -> Path {
        Path::Prefix { strip: strip.into(), add: add.into() }
    }

    #[test]
    fn whole_segments_are_stripped_and_the_rest_stays_as_sent() {
        for (strip, add, sent, made) in [
            ("/api", "", "/api/users/%41?", "/users/%41?"),
            ("/api", "", "/api", "/"),
            ("/api", "", "/api/", "/"),
            ("/api/v1", "", "//api//%761//x//y", "/x//y"),
            ("/api", "", "/API/x", "/x"),
            ("/api", "", "/api//evil.example", "/evil.example"),
            ("/api", "/v2", "/api/x/", "/v2/x/"),
            ("/api", "/v2", "/api", "/v2"),
            ("/api", "/v2", "/api/", "/v2/"),
            ("", "/v2", "//x", "/v2/x"),
            ("", "/v2", "/", "/v2/"),
            ("/api", "", "/api/a%2Fb;c", "/a%2Fb;c"),
        ] {
            assert_eq!(prefix(strip, add).of(sent, &[]).as_deref(), Ok(made), "{strip} {add} {sent}");
        }
    }

    #[test]
    fn what_could_lead_out_of_a_prefix_or_be_read_as_a_host_is_refused() {
        for sent in [
            "/api/../x",
            "/api/%2e%2e/x",
            "/api/x/..%2fy",
            "/api/x%5c..%5cy",
            "/api/..;/x",
            "/api/%252e%252e/x",
            "/api/%00",
            "/api/%2fevil.example",
            "/api/%5Cevil.example",
            "/api/\\evil.example",
            "/api%2Fx",
            "/apis/x",
        ] {
            assert!(prefix("/api", "").of(sent, &[]).is_err(), "{sent}");
        }
    }

    #[test]
    fn a_template_is_filled_with_parameters() {
        let template = Path::Template(Template::parse("/{kind}/v2/{id}", &["kind", "id"]).unwrap());
        let parameters = |kind: &str| [("kind".into(), kind.to_owned()), ("id".into(), "7".to_owned())];
        assert_eq!(template.of("/a/7", &parameters("a")).unwrap(), "/a/v2/7");
        assert_eq!(template.of("//7", &parameters("")).unwrap(), "/v2/7");
        assert!(template.of("/a/../7", &parameters("a")).is_err());
        assert!(template.of("/a", &[]).is_err());
    }

    #[test]
    fn a_redirect_of_the_app_is_turned_back_and_no_other() {
        let host = HeaderValue::from_static("example.com");
        let turned = |strip: &str, add: &str, location: &str| {
            let rewrite = Rewrite {
                path: Some(prefix(strip, add)),
                host: Some(HeaderValue::from_static("app.internal:3000")),
                location: true,
                ..Rewrite::default()
            };
            rewrite.turned_back(location, Some(&host)).map(|value| value.to_str().unwrap().to_owned())
        };
        for (strip, add, location, expected) in [
            ("/api", "", "/users/7?a#b", Some("/api/users/7?a#b")),
            ("/api", "", "/", Some("/api/")),
            ("/api", "", "http://app.internal:3000/x", Some("/api/x")),
            ("/api", "", "https://Example.com/x", Some("https://Example.com/api/x")),
            ("/api", "", "https://example.com", Some("https://example.com/api")),
            ("/api", "", "https://elsewhere.com/x", None),
            ("/api", "", "//elsewhere.com/x", None),
            ("/api", "", "users/7", None),
            ("/api", "/v2", "/v2/x", Some("/api/x")),
            ("/api", "/v2", "/v2", Some("/api")),
            ("/api", "/v2", "/v20/x", None),
            ("/api", "/v2", "/login", None),
            ("", "/v2", "/v2//elsewhere.com", Some("/elsewhere.com")),
            ("", "/v2", "/v2/\\elsewhere.com", Some("/elsewhere.com")),
            ("", "/v2", "/v2/\t/elsewhere.com", None),
            ("", "/v2", "/v2?a", Some("/?a")),
        ] {
            assert_eq!(turned(strip, add, location).as_deref(), expected, "{strip} {add} {location}");
        }
    }

    #[test]
    fn host_and_fields_are_replaced_and_the_query_stays() {
        let mut request = Request::builder().uri("/api/x?y=%2F").header("host", "a").body(Body::empty()).unwrap();
        let rewrite = Rewrite {
            path: Some(prefix("/api", "")),
            host: Some(HeaderValue::from_static("b")),
            fields: Edits { remove: vec![http::header::COOKIE], ..Edits::default() },
            location: false,
        };
        request.headers_mut().insert("cookie", HeaderValue::from_static("a=b"));
        rewrite.request(&mut request, &[]).unwrap();
        assert_eq!(request.uri(), "/x?y=%2F");
        assert_eq!(request.headers()["host"], "b");
        assert!(!request.headers().contains_key("cookie"));
    }
}
