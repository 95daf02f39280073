//! Where somebody who is not logged in is sent to log in. Pure.
//!
//! 1. Only who navigates: GET or HEAD, preferring HTML, `Sec-Fetch-Mode: navigate` where the browser says its mode at all (W3C
//!    Fetch Metadata §2.2); no gRPC, no upgrade. All others get 401.
//! 2. The login page itself is answered 401: a redirect to it would lead to itself, for ever.
//! 3. The way back is the path and query of this request as the client sent them, percent-encoded as one parameter. It is a path,
//!    never a URL: the login decides what it is a path of.
//! 4. Without a way back if the path does not begin with exactly one `/`, has a `\`, a control character or a dot segment, or if
//!    path and query are longer than [`LONGEST`].
//! 5. A credential in the query is left out of the way back.
//!
//! # Why
//! Rule 4: to a browser `//elsewhere` and `/\elsewhere` are URLs of another site (WHATWG URL §4.4), and a login that returns to
//! whatever it is told is an open redirect.

use http::header::{HOST, HeaderName, HeaderValue, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{Method, Request, Uri};

use super::credential::without_credentials;
use super::settings::Login;
use super::{Carrier, Definition};
use crate::local_reply::{LocalReply, grpc, prefers_html};
use crate::route::canonical::canonical;
use crate::route::table::bare_host;

/// The longest path and query, in bytes as sent, that are told to the login.
pub const LONGEST: usize = 1024;

const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// What answers `request` in the place of `reply`: the way to the login, if `reply` asks for one and a browser can take it.
pub fn instead<B>(definition: &Definition, request: &Request<B>, reply: LocalReply) -> LocalReply {
    let asks = matches!(reply, LocalReply::SessionMissing | LocalReply::SessionInvalid);
    let Some(login) = definition.login.as_ref().filter(|_| asks) else { return reply };
    if !is_navigation(request) || is_login(login, request) {
        return reply;
    }
    match HeaderValue::try_from(location(login, &definition.carriers, request.uri())) {
        Ok(location) => LocalReply::LoginNeeded { location },
        Err(_) => reply,
    }
}

/// Rule 1.
fn is_navigation<B>(request: &Request<B>) -> bool {
    let fields = request.headers();
    matches!(*request.method(), Method::GET | Method::HEAD)
        && !grpc::is_call(request)
        && !fields.contains_key(UPGRADE)
        && !fields.contains_key(SEC_WEBSOCKET_VERSION)
        && fields.get_all(SEC_FETCH_MODE).iter().all(|mode| mode == "navigate")
        && prefers_html(fields)
}

/// Rule 2. Being asked for in another case, or with a slash at the end, it may still be the same page.
fn is_login<B>(login: &Login, request: &Request<B>) -> bool {
    let Ok(url) = login.url.parse::<Uri>() else { return true };
    if let Some(host) = url.host() {
        let asked = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        if !bare_host(asked).eq_ignore_ascii_case(host) {
            return false;
        }
    }
    let [own, asked] = [url.path(), request.uri().path()].map(|path| canonical(path).path.into_owned());
    own.trim_end_matches('/').eq_ignore_ascii_case(asked.trim_end_matches('/'))
}

fn location(login: &Login, carriers: &[Carrier], uri: &Uri) -> String {
    let mut location = login.url.clone();
    let Some(back) = way_back(carriers, uri).filter(|_| !login.back.is_empty()) else { return location };
    match location.as_bytes() {
        [.., b'?' | b'&'] => {}
        url if url.contains(&b'?') => location.push('&'),
        _ => location.push('?'),
    }
    location.push_str(&login.back);
    location.push('=');
    for byte in back.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            location.push(char::from(byte));
        } else {
            let digit = |half: u8| char::from(b"0123456789ABCDEF"[usize::from(half & 15)]);
            location.extend(['%', digit(byte >> 4), digit(byte)]);
        }
    }
    location
}

/// Rules 3 to 5.
fn way_back(carriers: &[Carrier], uri: &Uri) -> Option<String> {
    let path = uri.path();
    let of_this_site = path.starts_with('/') && !path.starts_with("//") && !path.contains('\\');
    let has_dots = path.split('/').any(|segment| matches!(segment, "." | ".."));
    let mut back = path.to_owned();
    if let Some(query) = uri.query() {
        let left = without_credentials(carriers, query).unwrap_or_else(|| query.to_owned());
        if !left.is_empty() {
            back.extend(["?", &left]);
        }
    }
    let safe = of_this_site && !has_dots && back.len() <= LONGEST && !back.bytes().any(|byte| byte.is_ascii_control());
    safe.then_some(back)
}

#[cfg(test)]
mod tests {
    use http::Version;
    use proptest::prelude::*;

    use super::super::Format;
    use super::*;

    const BROWSER: (&str, &str) = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");

    fn definition(url: &str) -> Definition {
        let carriers = vec![Carrier::Cookie("sid".into()), Carrier::Query("token".into())];
        let login = Some(Login { url: url.into(), back: "next".into() });
        Definition { carriers, login, ..Definition::new("web", Format::Json) }
    }

    /// The `Location`, or else the status.
    fn answered(definition: &Definition, method: &str, target: &str, fields: &[(&str, &str)]) -> String {
        let mut request = Request::builder().method(method).uri(target).header("host", "app.test:8080");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        match instead(definition, &request.body(()).unwrap(), LocalReply::SessionMissing) {
            LocalReply::LoginNeeded { location } => location.to_str().unwrap().to_owned(),
            other => other.status().as_str().to_owned(),
        }
    }

    fn browsed(target: &str) -> String {
        answered(&definition("/login"), "GET", target, &[BROWSER])
    }

    #[test]
    fn who_navigates_is_sent_to_the_login_and_nobody_else() {
        let to_login = "/login?next=/a%3Fb%3Dc%26d";
        let navigation = ("sec-fetch-mode", "navigate");
        let login = definition("/login");
        let by = |method, fields: &[(&str, &str)]| answered(&login, method, "/a?b=c&d", fields);
        assert_eq!(by("GET", &[BROWSER]), to_login);
        assert_eq!(by("HEAD", &[BROWSER, navigation]), to_login);
        for fields in [
            &[][..],
            &[("accept", "*/*")],
            &[("accept", "application/json, text/html;q=0.9")],
            &[BROWSER, ("sec-fetch-mode", "cors")],
            &[BROWSER, ("sec-fetch-mode", "websocket")],
            &[BROWSER, navigation, ("sec-fetch-mode", "no-cors")],
            &[BROWSER, ("upgrade", "websocket")],
            &[BROWSER, ("sec-websocket-version", "13")],
        ] {
            assert_eq!(by("GET", fields), "401", "{fields:?}");
        }
        assert_eq!([by("POST", &[BROWSER]), by("OPTIONS", &[BROWSER])], ["401", "401"]);
        let none = Definition { login: None, ..login };
        assert_eq!(answered(&none, "GET", "/a", &[BROWSER]), "401");
    }

    #[test]
    fn calls_of_grpc_and_other_refusals_stay_what_they_are() {
        let call = Request::get("/a").version(Version::HTTP_2).header("content-type", "application/grpc");
        let call = call.header(BROWSER.0, BROWSER.1).body(()).unwrap();
        assert_eq!(instead(&definition("/login"), &call, LocalReply::SessionMissing), LocalReply::SessionMissing);
        let page = Request::get("/a").header(BROWSER.0, BROWSER.1).body(()).unwrap();
        for reply in [LocalReply::SessionForbidden, LocalReply::SessionStoreDown { retry_after: 1 }] {
            assert_eq!(instead(&definition("/login"), &page, reply.clone()), reply);
        }
    }

    #[test]
    fn the_login_page_is_never_sent_to_itself() {
        for target in ["/login", "/login/", "/login?next=/login", "/Login", "/%6cogin", "/a/../login"] {
            assert_eq!(browsed(target), "401", "{target}");
        }
        assert_eq!(browsed("/login/help"), "/login?next=/login/help");
        let elsewhere = |url| answered(&definition(url), "GET", "/login", &[BROWSER]);
        assert_eq!(elsewhere("https://APP.test/login"), "401");
        assert_eq!(elsewhere("https://id.test/login"), "https://id.test/login?next=/login");
    }

    #[test]
    fn the_way_back_is_one_parameter_of_whatever_url() {
        let with = |url| answered(&definition(url), "GET", "/a b".replace(' ', "%20").as_str(), &[BROWSER]);
        assert_eq!(with("/login?app=1"), "/login?app=1&next=/a%2520b");
        assert_eq!(with("/login?"), "/login?next=/a%2520b");
        assert_eq!(with("https://id.test"), "https://id.test?next=/a%2520b");
        let mut silent = definition("/login");
        silent.login = Some(Login { url: "/login".into(), back: String::new() });
        assert_eq!(answered(&silent, "GET", "/a", &[BROWSER]), "/login");
    }

    #[test]
    fn only_a_safe_path_of_this_site_is_a_way_back() {
        for target in ["//evil.test", "//evil.test/a", "/./a", "/a/../..//evil.test"] {
            assert_eq!(browsed(target), "/login", "{target}");
        }
        for target in
            ["/?next=//evil.test", "/%5cevil.test", "/a//b", "/.a", "/%2F/evil.test", "/a?x=%0d%0aSet-Cookie:b"]
        {
            assert!(browsed(target).starts_with("/login?next=/"), "{target}: {}", browsed(target));
        }
        let (just, over) = (format!("/{}", "a".repeat(LONGEST - 1)), format!("/{}", "a".repeat(LONGEST)));
        assert_eq!((browsed(&just).len(), browsed(&over).as_str()), ("/login?next=".len() + LONGEST, "/login"));
    }

    #[test]
    fn a_credential_never_comes_along() {
        assert_eq!(browsed("/a?token=s3cret&b=1"), "/login?next=/a%3Fb%3D1");
        assert_eq!(browsed("/a?t%6Fken=s3cret"), "/login?next=/a");
    }

    proptest! {
        #[test]
        fn whatever_is_asked_for_the_answer_leads_to_the_login_and_decodes_to_the_target(
            target in "/[a-z0-9/.%?=&;:@\\\\+*-]{0,40}",
        ) {
            prop_assume!(target.parse::<Uri>().is_ok());
            let told = browsed(&target);
            if told == "401" || told == "/login" {
                return Ok(());
            }
            let back = told.strip_prefix("/login?next=").unwrap();
            prop_assert!(back.starts_with('/') && !back.starts_with("//"), "{}", told);
            prop_assert!(back.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~/%".contains(&byte)));
            let mut decoded = Vec::new();
            let mut bytes = back.bytes();
            while let Some(byte) = bytes.next() {
                let mut digit = || char::from(bytes.next().unwrap()).to_digit(16).unwrap() as u8;
                decoded.push(if byte == b'%' { digit() << 4 | digit() } else { byte });
            }
            // A query without anything in it is left out.
            let sent = target.strip_suffix('?').filter(|path| !path.contains('?')).unwrap_or(&target);
            prop_assert_eq!(String::from_utf8(decoded).unwrap(), sent);
        }
    }
}
