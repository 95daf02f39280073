//! `/explain`: a request that an operator wants to understand, as JSON. Pure.
//!
//! `{"method": "GET", "url": "https://example.com/users", "fields": [["Accept-Language", "de"]], "from": "192.0.2.1"}`
//!
//! 1. `url` is a whole one, or a path: then `Host` is among the fields, or is taken to be `localhost`, which is told; and the
//!    scheme is http.
//! 2. Nothing is charged, stored or sent to the app, unless `ask` is true: then the request takes the way of any other, as
//!    of a client at `from`. Only GET and HEAD can be asked: another method could change something.
//! 3. `content` is what the request brings; without it that is not known. It is text, and says its length itself.

use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST};
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use serde::{Deserialize, Serialize};

use crate::exchange::Scheme;

/// A request as it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Its method.
    pub method: String,
    /// Where to.
    pub url: String,
    /// Its fields.
    #[serde(default)]
    pub fields: Vec<(String, String)>,
    /// The client address; default: 127.0.0.1.
    #[serde(default)]
    pub from: Option<IpAddr>,
    /// Its content, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// The request is sent on its way, and the app asked.
    #[serde(default)]
    pub ask: bool,
}

/// The same, read.
#[derive(Debug)]
pub struct Asked {
    /// In origin form, with a Host.
    pub request: Request<()>,
    /// Nobody said which host it is for.
    pub host_assumed: bool,
    /// Its content, if that is known.
    pub content: Option<Bytes>,
    /// What the client would have spoken.
    pub scheme: Scheme,
    /// Its address.
    pub address: IpAddr,
    /// The app may be asked.
    pub ask: bool,
}

impl Wanted {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong, in a sentence.
    pub fn read(&self) -> Result<Asked, String> {
        let Self { method, url, fields, from, content, ask } = self;
        let method: Method = method.parse().map_err(|_| format!("`{}` is no method", method.escape_debug()))?;
        if *ask && !matches!(method, Method::GET | Method::HEAD) {
            return Err(format!("only GET and HEAD can be asked: {method} could change something"));
        }
        let uri: Uri = url.parse().map_err(|_| format!("`{}` is no URL", url.escape_debug()))?;
        let scheme = match uri.scheme_str() {
            None if url.starts_with('/') => Scheme::Http,
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            _ => return Err(format!("`{}` is neither https://host/path nor /path", url.escape_debug())),
        };
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/")).into();
        for (name, value) in fields {
            let wrong = || format!("`{}` is no field", name.escape_debug());
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
            request.headers_mut().append(name, HeaderValue::from_str(value.trim()).map_err(|_| wrong())?);
        }
        let has_host = request.headers().contains_key(HOST);
        if !has_host {
            let authority = uri.authority().map_or("localhost", |authority| authority.as_str());
            let host = HeaderValue::from_str(authority).map_err(|_| format!("`{authority}` is no host"))?;
            request.headers_mut().insert(HOST, host);
        }
        let content = content.clone().map(Bytes::from);
        if let Some(content) = &content {
            request.headers_mut().insert(CONTENT_LENGTH, content.len().into());
        }
        let host_assumed = !has_host && uri.authority().is_none();
        let address = from.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        Ok(Asked { request, host_assumed, content, scheme, address, ask: *ask })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Asked, String> {
        serde_json::from_str::<Wanted>(text).map_err(|error| error.to_string())?.read()
    }

    #[test]
    fn a_whole_url_and_a_path_are_both_a_request() {
        let whole = read(r#"{"method": "GET", "url": "https://a.test:8443/x?y", "fields": [["X-A", " b "]]}"#).unwrap();
        assert_eq!((whole.request.uri().to_string().as_str(), whole.scheme), ("/x?y", Scheme::Https));
        assert_eq!(
            (&whole.request.headers()[HOST], &whole.request.headers()["x-a"]),
            (&"a.test:8443".parse().unwrap(), &"b".parse().unwrap())
        );
        assert!(whole.address.is_loopback() && !whole.ask && !whole.host_assumed && whole.content.is_none());
        let path = read(r#"{"method": "POST", "url": "/x", "from": "192.0.2.1"}"#).unwrap();
        assert_eq!((path.request.headers()[HOST].as_bytes(), path.scheme), (&b"localhost"[..], Scheme::Http));
        assert_eq!(path.address.to_string(), "192.0.2.1");
        assert!(path.host_assumed);
        let host = read(r#"{"method": "GET", "url": "/x", "fields": [["Host", "b.test"]], "ask": true}"#).unwrap();
        assert!(host.ask && host.request.headers()[HOST] == "b.test" && !host.host_assumed);
        let posted = read(r#"{"method": "POST", "url": "/x", "content": "abc"}"#).unwrap();
        assert_eq!(posted.content.as_deref(), Some(&b"abc"[..]));
        assert_eq!(posted.request.headers()[CONTENT_LENGTH], "3");
    }

    #[test]
    fn what_is_no_request_is_refused_with_its_reason() {
        for (text, why) in [
            (r#"{"method": "GET", "url": "a.test"}"#, "`a.test` is neither https://host/path nor /path"),
            (r#"{"method": "GET", "url": "ftp://a.test/"}"#, "`ftp://a.test/` is neither https://host/path nor /path"),
            (r#"{"method": "GET", "url": "/a b"}"#, "`/a b` is no URL"),
            (r#"{"method": "G T", "url": "/"}"#, "`G T` is no method"),
            (r#"{"method": "GET", "url": "/", "fields": [["a b", ""]]}"#, "`a b` is no field"),
            (r#"{"method": "GET", "url": "/", "fields": [["a", "x\ny"]]}"#, "`a` is no field"),
            (
                r#"{"method": "POST", "url": "/", "ask": true}"#,
                "only GET and HEAD can be asked: POST could change something",
            ),
        ] {
            assert_eq!(read(text).map(|_| ()), Err(why.to_owned()), "{text}");
        }
    }
}
