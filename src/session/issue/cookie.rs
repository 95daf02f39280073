//! The cookie by which a client carries a session of ours (RFC 6265bis). Pure.
//!
//! 1. It is `HttpOnly` always; `Secure`, `SameSite`, `Path` and `Domain` are as configured. What browsers refuse (`__Host-`
//!    with a domain, say) is no configuration.
//! 2. `Max-Age` says how long a persistent one lives: as long as its record. Any other lives as long as the browser.
//! 3. It is cleared by the same attributes, empty, and long over.
//! 4. The app's own cookie of that name goes: the browser would keep whichever comes last.

use std::time::Duration;

use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue};

use crate::session::settings::{Issue, SameSite};

/// The line that gives a client the session `identifier`, which lasts for `life`; `None`: its attributes are no text for a
/// field, which no configuration has.
pub fn given(issue: &Issue, identifier: &str, life: Duration) -> Option<HeaderValue> {
    let age = issue.persistent.then(|| format!("; Max-Age={}", life.as_secs().max(1)));
    line(issue, identifier, &age.unwrap_or_default())
}

/// The line that takes it away.
pub fn cleared(issue: &Issue) -> Option<HeaderValue> {
    line(issue, "", "; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT")
}

fn line(issue: &Issue, value: &str, age: &str) -> Option<HeaderValue> {
    let Issue { cookie, path, .. } = issue;
    let domain = issue.domain.as_ref().map(|domain| format!("; Domain={domain}")).unwrap_or_default();
    let secure = if issue.secure { "; Secure" } else { "" };
    let same_site = match issue.same_site {
        SameSite::Strict => "Strict",
        SameSite::Lax => "Lax",
        SameSite::None => "None",
    };
    let line = format!("{cookie}={value}; Path={path}{domain}{age}; HttpOnly{secure}; SameSite={same_site}");
    HeaderValue::try_from(line).ok()
}

/// Removes the lines that set a cookie of this name; says whether there were any (rule 4).
pub fn drop_own(fields: &mut HeaderMap, name: &str) -> bool {
    let sets = |line: &HeaderValue| {
        let text = line.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
        text.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii() == name.as_bytes()
    };
    if !fields.get_all(SET_COOKIE).iter().any(sets) {
        return false;
    }
    let others: Vec<_> = fields.get_all(SET_COOKIE).iter().filter(|line| !sets(line)).cloned().collect();
    fields.remove(SET_COOKIE);
    for line in others {
        fields.append(SET_COOKIE, line);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issue() -> Issue {
        Issue {
            ttl: Duration::from_secs(60),
            cookie: "sid".into(),
            path: "/app".into(),
            domain: Some("example.com".into()),
            secure: false,
            same_site: SameSite::Strict,
            persistent: false,
        }
    }

    fn text(line: Option<HeaderValue>) -> String {
        line.unwrap().to_str().unwrap().to_owned()
    }

    #[test]
    fn a_cookie_says_what_is_configured_and_is_cleared_by_the_same() {
        let host = Issue {
            cookie: "__Host-sid".into(),
            path: "/".into(),
            domain: None,
            secure: true,
            same_site: SameSite::Lax,
            persistent: true,
            ..issue()
        };
        let life = Duration::from_millis(90_500);
        assert_eq!(text(given(&host, "x", life)), "__Host-sid=x; Path=/; Max-Age=90; HttpOnly; Secure; SameSite=Lax");
        assert_eq!(
            text(cleared(&host)),
            "__Host-sid=; Path=/; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly; Secure; SameSite=Lax"
        );
        let plain = "sid=x; Path=/app; Domain=example.com; HttpOnly; SameSite=Strict";
        assert_eq!(text(given(&issue(), "x", life)), plain);
        assert_eq!(given(&Issue { cookie: "a\nb".into(), ..issue() }, "x", life), None);
    }

    #[test]
    fn the_apps_own_cookie_of_that_name_goes_and_no_other() {
        let mut fields = HeaderMap::new();
        for line in ["a=1; Path=/", "sid=own; Path=/", " sid = other", "SID=2", "sid2=3", "b=sid=4"] {
            fields.append(SET_COOKIE, HeaderValue::from_static(line));
        }
        assert!(drop_own(&mut fields, "sid") && !drop_own(&mut fields, "sid"));
        let left: Vec<_> = fields.get_all(SET_COOKIE).iter().map(|line| line.to_str().unwrap()).collect();
        assert_eq!(left, ["a=1; Path=/", "SID=2", "sid2=3", "b=sid=4"]);
    }
}
