//! Which pages of other origins may read a route's answers (Fetch §3.2, the CORS protocol).
//!
//! 1. A preflight (OPTIONS with Origin and Access-Control-Request-Method) is answered here, 204, before limits and
//!    session: it carries no credentials, and what it says is the same for all.
//! 2. Every other request goes its way. Its answer, whoever gave it, says which origin may read it; so a script can
//!    also read a 401 or 429.
//! 3. An origin that is not listed gets no field: its browser keeps the answer from the page. Nothing else is refused:
//!    CORS protects readers, it does not guard the app.
//! 4. What the app says itself (`Access-Control-*`) is replaced.
//! 5. Where the answer depends on the origin, `Vary: Origin` says so, also to requests without one.
//! 6. `https://*.example.com` is every host below `example.com`, not itself. `*` is every origin; never with credentials.
//!
//! # Why
//! Rule 4: two `Access-Control-Allow-Origin` lines make browsers refuse both, and of two places that decide one will be
//! forgotten. A stored response lies inside of this layer, so one copy serves all origins.

use std::rc::Rc;
use std::time::Duration;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
    ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use tower::Layer;

use crate::body::Body;
use crate::exchange::{self, Exchange, Next, pass};

/// `[cors.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// NAME.
    pub name: std::sync::Arc<str>,
    /// Who may read.
    pub origins: Vec<Origin>,
    /// Methods that a page may use; empty: `*`.
    pub methods: Vec<Method>,
    /// Request fields that a page may send besides the safelisted ones (Fetch §2.2.2).
    pub fields: Vec<Field>,
    /// Response fields that a page may read besides the safelisted ones.
    pub expose: Vec<Field>,
    /// Whether requests may carry cookies, and other credentials.
    pub credentials: bool,
    /// How long a browser may remember the answer to a preflight.
    pub max_age: Duration,
}

/// A field in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// `*`.
    Any,
    /// This one.
    Named(HeaderName),
}

/// Whose pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Everybody's.
    Any,
    /// `https://app.example.com`, in lower case.
    Exactly(String),
    /// `https://*.example.com:8443`: scheme with `://`, and what follows the star.
    Below(String, String),
}

impl Origin {
    /// Reads an origin (RFC 6454 §6.2): scheme, host, and port where it is not the scheme's own.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        if text == "null" {
            return Err("`null` is the origin of whoever hides theirs: anybody's".into());
        }
        let lower = text.to_ascii_lowercase();
        let Some((scheme, rest)) = lower.split_once("://") else {
            return Err(format!("`{text}` lacks the scheme: `https://{text}`"));
        };
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (rest, None),
        };
        let default = match scheme {
            "http" => "80",
            "https" => "443",
            _ => return Err(format!("`{scheme}` is not a scheme of web pages: `https` or `http`")),
        };
        if rest.contains(['/', '?', '#']) {
            return Err(format!("`{text}` has a path: an origin ends with its host or port"));
        }
        if port.is_some_and(|port| port.parse::<u16>().is_err() || !port.bytes().all(|byte| byte.is_ascii_digit())) {
            return Err(format!("`{text}` has no sound port"));
        }
        let bare = host.strip_prefix("*.").unwrap_or(host);
        let literal = bare.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
        let sound = match literal {
            Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
            None => bare.split('.').all(is_label),
        };
        if !sound {
            return Err(format!("`{text}` has no sound host; `*` can only stand for the first labels"));
        }
        let port = port.filter(|port| *port != default).map_or(String::new(), |port| format!(":{port}"));
        match host.strip_prefix('*') {
            Some(below) => Ok(Self::Below(format!("{scheme}://"), format!("{below}{port}"))),
            None => Ok(Self::Exactly(format!("{scheme}://{host}{port}"))),
        }
    }

    /// Whether it is `origin`, as a browser sends it.
    fn is(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(own) => own == origin,
            Self::Below(scheme, below) => origin
                .strip_prefix(scheme.as_str())
                .and_then(|rest| rest.strip_suffix(below.as_str()))
                .is_some_and(|labels| labels.split('.').all(is_label)),
        }
    }
}

fn is_label(label: &str) -> bool {
    !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exactly(origin) => f.write_str(origin),
            Self::Below(scheme, below) => write!(f, "{scheme}*{below}"),
        }
    }
}

impl std::fmt::Display for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Named(name) => f.write_str(name.as_str()),
        }
    }
}

/// The method that a CORS preflight asks for; `None`: it is none.
pub fn preflight(request: &Request<Body>) -> Option<Method> {
    let fields = request.headers();
    if *request.method() != Method::OPTIONS || !fields.contains_key(ORIGIN) {
        return None;
    }
    fields.get(ACCESS_CONTROL_REQUEST_METHOD).and_then(|method| Method::from_bytes(method.as_bytes()).ok())
}

/// A policy, its lists written out.
pub struct Cors {
    policy: Policy,
    methods: HeaderValue,
    fields: Option<HeaderValue>,
    expose: Option<HeaderValue>,
}

impl Cors {
    /// Of a policy.
    pub fn new(policy: &Policy) -> Rc<Self> {
        let methods: Vec<&str> = policy.methods.iter().map(Method::as_str).collect();
        let methods = if methods.is_empty() { "*".to_owned() } else { methods.join(", ") };
        Rc::new(Self {
            // Methods are tokens.
            methods: HeaderValue::from_str(&methods).unwrap_or(HeaderValue::from_static("")),
            fields: list(&policy.fields),
            expose: list(&policy.expose),
            policy: policy.clone(),
        })
    }

    /// The answer to a preflight (rule 1).
    pub fn answer_preflight(&self, request: &Request<Body>) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let fields = response.headers_mut();
        if self.allow(origin(request.headers()), fields) {
            fields.insert(ACCESS_CONTROL_ALLOW_METHODS, self.methods.clone());
            if let Some(list) = &self.fields {
                fields.insert(ACCESS_CONTROL_ALLOW_HEADERS, list.clone());
            }
            fields.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(self.policy.max_age.as_secs()));
        }
        response
    }

    /// Says on an answer who may read it (rules 2 to 5).
    fn tell(&self, origin: Option<&HeaderValue>, fields: &mut HeaderMap) {
        let theirs: Vec<HeaderName> =
            fields.keys().filter(|name| name.as_str().starts_with("access-control-")).cloned().collect();
        for name in theirs {
            fields.remove(name);
        }
        if self.allow(origin, fields)
            && let Some(expose) = &self.expose
        {
            fields.insert(ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
        }
    }

    /// Says whether `origin` may read this answer.
    fn allow(&self, origin: Option<&HeaderValue>, fields: &mut HeaderMap) -> bool {
        let everybody = self.policy.origins.contains(&Origin::Any);
        if !everybody && !varies_by_origin(fields) {
            fields.append(VARY, HeaderValue::from_static("Origin"));
        }
        let Some(origin) = origin else { return false };
        let is_listed = |text: &str| self.policy.origins.iter().any(|listed| listed.is(text));
        if !origin.to_str().is_ok_and(is_listed) {
            return false;
        }
        let allowed = if everybody { HeaderValue::from_static("*") } else { origin.clone() };
        fields.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if self.policy.credentials {
            fields.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        true
    }
}

fn list(fields: &[Field]) -> Option<HeaderValue> {
    let names: Vec<String> = fields.iter().map(Field::to_string).collect();
    HeaderValue::from_str(&names.join(", ")).ok().filter(|_| !names.is_empty())
}

fn varies_by_origin(fields: &HeaderMap) -> bool {
    let lines = fields.get_all(VARY).iter().filter_map(|line| line.to_str().ok());
    let mut members = lines.flat_map(|line| line.split(','));
    members.any(|member| member.trim() == "*" || member.trim().eq_ignore_ascii_case("origin"))
}

/// Who asks; nobody, if several are named.
fn origin(fields: &HeaderMap) -> Option<&HeaderValue> {
    let mut all = fields.get_all(ORIGIN).iter();
    all.next().filter(|_| all.next().is_none())
}

/// Says on each answer of a route who may read it.
pub fn layer<S: Next>(cors: Rc<Cors>) -> impl Layer<S, Service = impl Next> + Clone {
    exchange::layer(move |exchange: Box<Exchange>, next: S| {
        let cors = cors.clone();
        let origin = origin(exchange.request.headers()).cloned();
        async move {
            let mut response = pass(next, exchange).await;
            cors.tell(origin.as_ref(), response.headers_mut());
            response
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_origins_are_nobodys() {
        let lines = |lines: &[&'static str]| {
            let lines = lines.iter().map(|line| (ORIGIN, HeaderValue::from_static(line)));
            origin(&HeaderMap::from_iter(lines)).cloned()
        };
        assert_eq!(lines(&["https://a"]), Some(HeaderValue::from_static("https://a")));
        assert_eq!((lines(&[]), lines(&["https://a", "https://b"])), (None, None));
    }

    fn cors(origins: &[&str], credentials: bool) -> Rc<Cors> {
        Cors::new(&Policy {
            name: "spa".into(),
            origins: origins.iter().map(|text| Origin::parse(text).unwrap()).collect(),
            methods: vec![Method::GET, Method::PUT],
            fields: vec![Field::Named(HeaderName::from_static("x-token"))],
            expose: vec![Field::Named(HeaderName::from_static("x-total"))],
            credentials,
            max_age: Duration::from_secs(60),
        })
    }

    fn told(cors: &Cors, origin: Option<&'static str>) -> Vec<String> {
        let mut fields = HeaderMap::new();
        fields.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("https://of-the-app"));
        cors.tell(origin.map(HeaderValue::from_static).as_ref(), &mut fields);
        let mut told: Vec<String> =
            fields.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        told.sort();
        told
    }

    #[test]
    fn a_listed_origin_is_told_and_no_other() {
        let listed = cors(&["https://app.example.com", "https://*.example.org:8443"], true);
        for origin in ["https://app.example.com", "https://a.example.org:8443", "https://a.b.example.org:8443"] {
            let allowed = format!("access-control-allow-origin: {origin}");
            let expected = [
                "access-control-allow-credentials: true",
                &allowed,
                "access-control-expose-headers: x-total",
                "vary: Origin",
            ];
            assert_eq!(told(&listed, Some(origin)), expected);
        }
        for origin in [
            None,
            Some("null"),
            Some("http://app.example.com"),
            Some("https://app.example.com:444"),
            Some("https://app.example.com.evil.org"),
            Some("https://example.org:8443"),
            Some("https://evilexample.org:8443"),
            Some("https://evil.org/.example.org:8443"),
            Some("https://.example.org:8443"),
            Some("https://evil.org\u{23}.example.org:8443"),
            Some("https://a.example.org"),
        ] {
            assert_eq!(told(&listed, origin), ["vary: Origin"], "{origin:?}");
        }
    }

    #[test]
    fn everybody_needs_no_vary() {
        let expected = ["access-control-allow-origin: *", "access-control-expose-headers: x-total"];
        assert_eq!(told(&cors(&["*"], false), Some("https://a")), expected);
        assert_eq!(told(&cors(&["*"], false), None), Vec::<String>::new());
    }

    #[test]
    fn vary_is_said_once() {
        for vary in ["accept, origin", "*"] {
            let mut fields = HeaderMap::new();
            fields.insert(VARY, HeaderValue::from_static(vary));
            cors(&["https://a"], false).tell(None, &mut fields);
            assert_eq!(fields.get_all(VARY).iter().collect::<Vec<_>>(), [vary]);
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        for (text, origin) in [
            ("https://A.example.com:443", "https://a.example.com"),
            ("http://[::1]:3000", "http://[::1]:3000"),
            ("https://*.example.com", "https://*.example.com"),
            ("*", "*"),
        ] {
            assert_eq!(Origin::parse(text).unwrap().to_string(), origin);
        }
        for text in
            ["example.com", "https://a/", "https://a.*.b", "ftp://a", "https://a:x", "null", "https://", "https://*"]
        {
            assert!(Origin::parse(text).is_err(), "{text}");
        }
    }
}
