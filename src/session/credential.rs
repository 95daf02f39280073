//! Finds the credential in a request. Pure.
//!
//! 1. The carriers are looked at in the configured order; an empty value counts as none.
//! 2. Two different values of one name in one carrier: refused. Twice the same is once.
//! 3. What the text says is the format's to tell.

use std::borrow::Cow;

use http::{HeaderMap, header};

use super::Carrier;
use crate::rate_limit::partition::{cookies, parameters};

/// What the client presents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential<'a> {
    /// Nothing.
    Absent,
    /// A text.
    Sent(Cow<'a, [u8]>),
    /// Several that contradict each other; says why.
    Rejected(&'static str),
}

/// The credential among `fields` and in `query` (without its `?`), by the first of `carriers` that has one.
pub fn credential<'a>(carriers: &[Carrier], fields: &'a HeaderMap, query: Option<&'a str>) -> Credential<'a> {
    for carrier in carriers {
        let found = match carrier {
            Carrier::Cookie(name) => single(cookies(fields, name).map(Cow::Borrowed), "duplicate cookie"),
            Carrier::Bearer => bearer(fields),
            Carrier::Header(name) => {
                let values = fields.get_all(name).iter().map(|value| Cow::Borrowed(value.as_bytes()));
                single(values, "duplicate field")
            }
            Carrier::Query(name) => single(parameters(query.unwrap_or_default(), name), "duplicate parameter"),
        };
        match found {
            Err(reason) => return Credential::Rejected(reason),
            Ok(Some(value)) if !value.is_empty() => return Credential::Sent(value),
            Ok(_) => {}
        }
    }
    Credential::Absent
}

type Value<'a> = Cow<'a, [u8]>;

/// The one value there is; `reason` if there are different ones.
fn single<'a>(
    mut values: impl Iterator<Item = Value<'a>>,
    reason: &'static str,
) -> Result<Option<Value<'a>>, &'static str> {
    let first = values.next();
    if values.any(|other| Some(&other) != first.as_ref()) { Err(reason) } else { Ok(first) }
}

/// RFC 6750 §2.1, the scheme in any case (RFC 9110 §11.1). Another scheme is no credential of ours.
fn bearer(fields: &HeaderMap) -> Result<Option<Value<'_>>, &'static str> {
    let lines = fields.get_all(header::AUTHORIZATION).iter().map(|value| Cow::Borrowed(value.as_bytes()));
    let Some(Cow::Borrowed(line)) = single(lines, "duplicate field")? else { return Ok(None) };
    let Some((scheme, token)) = line.split_at_checked(b"bearer ".len()) else { return Ok(None) };
    Ok(scheme.eq_ignore_ascii_case(b"bearer ").then(|| Cow::Borrowed(token.trim_ascii())))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn by(carrier: Carrier, fields: &[(&str, &str)], query: &str) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        match credential(&[carrier], &map, Some(query)) {
            Credential::Absent => "absent".into(),
            Credential::Sent(text) => String::from_utf8_lossy(&text).into_owned(),
            Credential::Rejected(reason) => format!("rejected: {reason}"),
        }
    }

    fn cookie(line: &str) -> String {
        by(Carrier::Cookie("sid".into()), &[("cookie", line)], "")
    }

    #[test]
    fn cookie_is_found_among_others_whatever_the_spacing() {
        assert_eq!(cookie("a=1;sid=abcdefgh;  b=2"), "abcdefgh");
        assert_eq!(cookie("xsid=zzzzzzzz; sid=abcdefg=; sidx=zzzzzzzz"), "abcdefg=");
        assert_eq!(cookie("SID=zzzzzzzz; sid"), "absent");
        assert_eq!(cookie("sid="), "absent");
        let lines = [("cookie", "a=1"), ("cookie", "sid=abcdefgh")];
        assert_eq!(by(Carrier::Cookie("sid".into()), &lines, ""), "abcdefgh");
    }

    #[test]
    fn two_cookies_of_one_name_are_refused_unless_they_agree() {
        assert_eq!(cookie("sid=abcdefgh; sid=abcdefgh"), "abcdefgh");
        assert_eq!(cookie("sid=abcdefgh; sid=hgfedcba"), "rejected: duplicate cookie");
        assert_eq!(cookie("sid=; sid=hgfedcba"), "rejected: duplicate cookie");
    }

    #[test]
    fn bearer_scheme_is_recognised_in_any_case_and_others_are_not_ours() {
        let bearer = |value: &str| by(Carrier::Bearer, &[("authorization", value)], "");
        assert_eq!(bearer("bEaReR  abcdefgh"), "abcdefgh");
        for other in ["Basic abcdefgh", "Bearer", "Bearer ", "Bearerabcdefgh", ""] {
            assert_eq!(bearer(other), "absent", "{other}");
        }
        let two = [("authorization", "Bearer abcdefgh"), ("authorization", "Bearer hgfedcba")];
        assert_eq!(by(Carrier::Bearer, &two, ""), "rejected: duplicate field");
    }

    #[test]
    fn query_is_decoded_in_names_and_values() {
        let query = |query: &str| by(Carrier::Query("token".into()), &[], query);
        assert_eq!(query("a=b&token=abc%2Fdefg&c"), "abc/defg");
        assert_eq!(query("%74oken=abcdefgh"), "abcdefgh");
        assert_eq!(query("token=abcdefgh&t%6Fken=hgfedcba"), "rejected: duplicate parameter");
        assert_eq!(query("token=abc+defgh"), "abc defgh");
        assert_eq!(query("token=abcdefgh%zz%4"), "abcdefgh%zz%4");
        assert_eq!(query("token"), "absent");
    }

    #[test]
    fn first_carrier_that_has_a_credential_decides() {
        let carriers = [Carrier::Header("x-token".parse().unwrap()), Carrier::Cookie("sid".into())];
        let mut fields = HeaderMap::new();
        fields.insert("cookie", HeaderValue::from_static("sid=abcdefgh"));
        assert_eq!(credential(&carriers, &fields, None), Credential::Sent(Cow::Borrowed(b"abcdefgh")));
        fields.insert("x-token", HeaderValue::from_static("no"));
        assert_eq!(credential(&carriers, &fields, None), Credential::Sent(Cow::Borrowed(b"no")));
    }
}
