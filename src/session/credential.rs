//! Finds the credential in a request. Pure.
//!
//! 1. The carriers are looked at in the configured order; an empty value counts as none. The first that has one decides, whatever
//!    the others hold: where the app looks in another order, that is the order to configure.
//! 2. Two different values of one name in one carrier: refused. Twice the same is once. Over several lines as in one, and over
//!    HTTP/2 as over HTTP/1.1.
//! 3. A cookie, or a parameter of the query, that some app takes for this one although it is spelt otherwise (`met`) is one of
//!    the same name: of another value, or alone, it is refused. So is a cookie that some app finds within another, whatever its value.
//! 4. What the text says is the format's to tell.
//! 5. A parameter of the query is one in whatever spelling, when it is read as when it is taken away.
//! 6. A field that the app takes for this one (rule 2 of `identity`) is refused, alone or beside it, whatever its value.
//! 7. `Authorization` that says `bearer`, and not as RFC 6750 does, is refused; another scheme is no credential of ours.
//!
//! # Why
//! Rule 3 holds in every format: nobody is told in what the app is written, and `json` is read by all of them.
//!
//! Rule 6: WSGI joins both by a comma, Rack and PHP take the last.
//!
//! Rule 7: PHP's usual `/Bearer\s(\S+)/` takes a tab, Laravel the last `Bearer ` of the line, wherever it stands. Were it passed over, the
//! next carrier would be verified here, and this one used there.

mod met;

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use memchr::memchr2_iter;

use self::met::Met;
use super::Carrier;
use crate::exchange::spelling::alike;

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
    let mut found = carriers.iter().map(|carrier| carried(carrier, fields, query));
    found.find(|found| *found != Credential::Absent).unwrap_or(Credential::Absent)
}

/// The carrier that decides (rule 1), if there is a credential at all.
pub fn carrier<'c>(carriers: &'c [Carrier], fields: &HeaderMap, query: Option<&str>) -> Option<&'c Carrier> {
    carriers.iter().find(|carrier| carried(carrier, fields, query) != Credential::Absent)
}

/// `query` without the parameters in which `carriers` look; `None`: it has none of them.
pub fn without_credentials(carriers: &[Carrier], query: &str) -> Option<String> {
    let names = || carriers.iter().filter_map(|one| if let Carrier::Query(name) = one { Some(name) } else { None });
    let carries = |pair: &&str| names().any(|name| met::parameters(pair, name).next().is_some());
    if !query.split('&').any(|pair| carries(&pair)) {
        return None;
    }
    Some(query.split('&').filter(|pair| !carries(pair)).collect::<Vec<_>>().join("&"))
}

/// Takes out of `fields` all that `carriers` look at there, also what an app may take for it (rules 3 and 6). What is in the query is not
/// among them ([`without_credentials`]).
pub fn take_out(carriers: &[Carrier], fields: &mut HeaderMap) {
    for carrier in carriers {
        match carrier {
            Carrier::Cookie(name) => keep_of_lines(&header::COOKIE, fields, |line| without_cookie(name, line)),
            Carrier::Bearer => keep_of_lines(&header::AUTHORIZATION, fields, |line| {
                matches!(token(line.as_bytes()), Ok(None)).then(|| line.clone())
            }),
            Carrier::Header(name) => {
                let is_it = |sent: &&HeaderName| alike(name.as_str().as_bytes(), sent.as_str().as_bytes());
                let names: Vec<_> = fields.keys().filter(is_it).cloned().collect();
                names.iter().for_each(|name| drop(fields.remove(name)));
            }
            Carrier::Query(_) => {}
        }
    }
}

/// Leaves of the lines of a field what `keep` makes of each.
fn keep_of_lines(field: &HeaderName, fields: &mut HeaderMap, keep: impl Fn(&HeaderValue) -> Option<HeaderValue>) {
    let kept: Vec<_> = fields.get_all(field).iter().filter_map(keep).collect();
    fields.remove(field);
    for line in kept {
        fields.append(field, line);
    }
}

/// `line` without the cookie called `name`; `None`: it has no other.
fn without_cookie(name: &str, line: &HeaderValue) -> Option<HeaderValue> {
    let is_it = |pair: &&[u8]| met::cookies(pair, name.as_bytes()).next().is_some();
    let pairs = || line.as_bytes().split(|byte| *byte == b';');
    if !pairs().any(|pair| is_it(&pair)) {
        return Some(line.clone());
    }
    let others: Vec<_> = pairs().filter(|pair| !is_it(pair)).map(<[u8]>::trim_ascii).collect();
    // Part of a line is one.
    if others.is_empty() { None } else { HeaderValue::from_bytes(&others.join(&b"; "[..])).ok() }
}

fn carried<'a>(carrier: &Carrier, fields: &'a HeaderMap, query: Option<&'a str>) -> Credential<'a> {
    let found = match carrier {
        Carrier::Cookie(name) => cookie(name, fields),
        Carrier::Bearer => bearer(fields),
        Carrier::Header(name) => field(name, fields),
        Carrier::Query(name) => of_one_name(met::parameters(query.unwrap_or_default(), name), "duplicate parameter"),
    };
    match found {
        Err(reason) => Credential::Rejected(reason),
        Ok(Some(value)) if !value.is_empty() => Credential::Sent(value),
        Ok(_) => Credential::Absent,
    }
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

/// Rules 2 and 3: the value of all that a name is met with; `reason` if there are different ones.
fn of_one_name<'a>(
    met: impl Iterator<Item = Met<'a>>,
    reason: &'static str,
) -> Result<Option<Value<'a>>, &'static str> {
    let (mut own, mut alias) = (None, None);
    for met in met {
        let (known, value) = match met {
            Met::Own(value) => (&mut own, value),
            Met::Alias(value) => (&mut alias, value),
            Met::Within => return Err(reason),
        };
        if known.get_or_insert_with(|| value.clone()) != &value {
            return Err(reason);
        }
    }
    if alias.is_some() && alias != own { Err(reason) } else { Ok(own) }
}

fn cookie<'a>(name: &str, fields: &'a HeaderMap) -> Result<Option<Value<'a>>, &'static str> {
    let lines = fields.get_all(header::COOKIE).iter();
    of_one_name(lines.flat_map(|line| met::cookies(line.as_bytes(), name.as_bytes())), "duplicate cookie")
}

/// Rules 2 and 6.
fn field<'a>(name: &HeaderName, fields: &'a HeaderMap) -> Result<Option<Value<'a>>, &'static str> {
    const DUPLICATE: &str = "duplicate field";
    let is_alias = |sent: &HeaderName| sent != name && alike(name.as_str().as_bytes(), sent.as_str().as_bytes());
    if fields.keys().any(is_alias) {
        return Err(DUPLICATE);
    }
    single(fields.get_all(name).iter().map(|value| Cow::Borrowed(value.as_bytes())), DUPLICATE)
}

/// RFC 6750 §2.1, the scheme in any case (RFC 9110 §11.1); the scheme alone is an empty value. Rule 7.
fn bearer(fields: &HeaderMap) -> Result<Option<Value<'_>>, &'static str> {
    let lines = fields.get_all(header::AUTHORIZATION).iter().map(|value| Cow::Borrowed(value.as_bytes()));
    let Some(Cow::Borrowed(line)) = single(lines, "duplicate field")? else { return Ok(None) };
    Ok(token(line)?.map(Cow::Borrowed))
}

/// What stands behind the scheme, if that is this one; an error: some app may find one elsewhere in the line (rule 7).
fn token(line: &[u8]) -> Result<Option<&[u8]>, &'static str> {
    if let Some((scheme, token)) = line.split_at_checked(BEARER.len())
        && scheme.eq_ignore_ascii_case(BEARER)
    {
        let bare = token.trim_ascii_start();
        let spaces = &token[..token.len() - bare.len()];
        if bare.is_empty()
            || !spaces.is_empty() && spaces.iter().all(|byte| *byte == b' ') && bare.iter().all(u8::is_ascii_graphic)
        {
            return Ok(Some(bare));
        }
    }
    if says_bearer(line) { Err("malformed authorization") } else { Ok(None) }
}

const BEARER: &[u8] = b"bearer";

/// Whether some app may find a bearer's token in `line`: after the word, or wherever white space follows these letters.
fn says_bearer(line: &[u8]) -> bool {
    memchr2_iter(b'b', b'B', line).any(|at| {
        let Some((word, after)) = line[at..].split_at_checked(BEARER.len()) else { return false };
        let is_word = !at.checked_sub(1).is_some_and(|before| line[before].is_ascii_alphanumeric());
        let ends = |next: &u8| !next.is_ascii_graphic() || is_word && !next.is_ascii_alphanumeric();
        word.eq_ignore_ascii_case(BEARER) && after.first().is_some_and(ends)
    })
}

#[cfg(test)]
mod tests {
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
    fn what_names_a_session_is_taken_out_of_all_fields_and_nothing_else_is() {
        let carriers = ["sid", "X-Token", ""].map(|name| match name {
            "sid" => Carrier::Cookie(name.into()),
            "" => Carrier::Bearer,
            _ => Carrier::Header(name.parse().unwrap()),
        });
        let taken = |lines: &[(&str, &str)]| {
            let mut fields = HeaderMap::new();
            for (name, value) in lines {
                fields.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            take_out(&carriers, &mut fields);
            let left = |(name, value): (&HeaderName, &HeaderValue)| {
                format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))
            };
            let mut left: Vec<_> = fields.iter().map(left).collect();
            left.sort();
            left
        };
        assert_eq!(taken(&[("cookie", "a=1;sid=abcdefgh;  b=2;c")]), ["cookie: a=1; b=2; c"]);
        assert_eq!(taken(&[("cookie", "sid=abcdefgh"), ("cookie", "a=1;b=2")]), ["cookie: a=1;b=2"]);
        assert_eq!(taken(&[("cookie", "sid=abcdefgh; \u{a0}sid=abcdefgh; sid")]), [""; 0]);
        let others = [("authorization", "Basic YTpi"), ("cookie", "SID=1; xsid=2; a=sid=3"), ("x-tokens", "t")];
        assert_eq!(taken(&others), others.map(|(name, value)| format!("{name}: {value}")));
        let all = [
            ("authorization", "bEARER abcdefgh"),
            ("x-token", "abcdefgh"),
            ("x-token", "abcdefgh"),
            ("X_Token", "abcdefgh"),
            ("x.token", "abcdefgh"),
        ];
        assert_eq!(taken(&all), [""; 0]);
    }

    #[test]
    fn two_cookies_of_one_name_are_refused_unless_they_agree() {
        assert_eq!(cookie("sid=abcdefgh; sid=abcdefgh"), "abcdefgh");
        assert_eq!(cookie("sid=abcdefgh; sid=hgfedcba"), "rejected: duplicate cookie");
        assert_eq!(cookie("sid=; sid=hgfedcba"), "rejected: duplicate cookie");
    }

    #[test]
    fn white_space_of_any_alphabet_around_a_name_makes_no_other_cookie() {
        for space in ["\u{a0}", "\u{85}", "\u{2003}", "\u{3000}", "\u{feff}", " \u{a0}\t"] {
            for alias in [format!("{space}sid"), format!("sid{space}"), format!("{space}sid{space}")] {
                assert_eq!(cookie(&format!("{alias}=hgfedcba")), "rejected: duplicate cookie", "{space:?} alone");
                let beside = format!("sid=abcdefgh; {alias}=hgfedcba");
                assert_eq!(cookie(&beside), "rejected: duplicate cookie", "{space:?}");
            }
        }
        let latin = HeaderValue::from_bytes(b"sid=abcdefgh; sid\xa0=hgfedcba").unwrap();
        let fields = HeaderMap::from_iter([(header::COOKIE, latin)]);
        let found = credential(&[Carrier::Cookie("sid".into())], &fields, None);
        assert_eq!(found, Credential::Rejected("duplicate cookie"));
        for other in ["\"sid\"", "s\u{a0}id", "\u{a0}", "", "\u{a0}sid2"] {
            assert_eq!(cookie(&format!("sid=abcdefgh; {other}=hgfedcba")), "abcdefgh", "{other:?}");
        }
    }

    #[test]
    fn a_field_that_an_app_takes_for_the_carrier_is_refused() {
        let name = || Carrier::Header("x-session-token".parse().unwrap());
        let good = ("X-Session-Token", "abcdefgh");
        assert_eq!(by(name(), &[good, ("X-Session", "hgfedcba")], ""), "abcdefgh");
        for alias in ["X_Session_Token", "x-session_token", "X.Session.Token"] {
            assert_eq!(by(name(), &[(alias, "hgfedcba")], ""), "rejected: duplicate field", "{alias}");
            assert_eq!(by(name(), &[good, (alias, "abcdefgh")], ""), "rejected: duplicate field", "{alias}");
        }
    }

    #[test]
    fn bearer_scheme_is_recognised_in_any_case_and_others_are_not_ours() {
        let bearer = |value: &str| by(Carrier::Bearer, &[("authorization", value)], "");
        assert_eq!(bearer("bEaReR  abcdefgh"), "abcdefgh");
        for other in
            ["Basic abcdefgh", "Bearer", "Bearer ", "Bearerabcdefgh", "", "Basic YWJlYXJlcg==", "Basic aBearer="]
        {
            assert_eq!(bearer(other), "absent", "{other}");
        }
        for bent in [
            "Bearer\tabcdefgh",
            "Bearer \tabcdefgh",
            "Basic x, Bearer abcdefgh",
            "Basic x,bearer\tabcdefgh",
            "xBearer abcdefgh",
            "Bearer=abcdefgh",
            "Bearer: abcdefgh",
            "Bearer,abcdefgh",
            "Bearer abcdefgh Bearer hgfedcba",
            "Bearer abcdefgh hgfedcba",
            "Bearer abcdefgh\u{a0}",
        ] {
            assert_eq!(bearer(bent), "rejected: malformed authorization", "{bent:?}");
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
        assert_eq!(query("token=abcdefgh&%20token=abcdefgh"), "abcdefgh", "twice the same is once");
        for alias in [
            "%20token",
            "+token",
            "token%00x",
            "token[]",
            "token[",
            "[token]",
            "a=1;token",
            "a;token",
            "?token",
            ".token",
        ] {
            assert_eq!(query(&format!("{alias}=hgfedcba")), "rejected: duplicate parameter", "{alias} alone");
            for beside in [format!("token=abcdefgh&{alias}=hgfedcba"), format!("{alias}=hgfedcba&token=abcdefgh")] {
                assert_eq!(query(&beside), "rejected: duplicate parameter", "{beside}");
            }
        }
    }

    #[test]
    fn what_php_takes_for_the_cookie_counts_as_the_cookie() {
        let sent = |line: &'static str| {
            let fields = HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_static(line))]);
            let carriers = [Carrier::Cookie("laravel_session".into())];
            match credential(&carriers, &fields, None) {
                Credential::Sent(text) => String::from_utf8(text.into_owned()).unwrap(),
                other => format!("{other:?}"),
            }
        };
        assert_eq!(sent("laravel_session=abcdefgh; theme.dark=1"), "abcdefgh");
        assert_eq!(sent("laravel_session=abcdefgh; laravel.session=abcdefgh"), "abcdefgh");
        for line in
            ["laravel.session=hgfedcba", "laravel_session=abcdefgh; laravel[session=hgfedcba", "laravel_session[]="]
        {
            assert_eq!(sent(line), "Rejected(\"duplicate cookie\")", "{line}");
        }
    }

    #[test]
    fn a_credential_is_taken_out_of_the_query_in_every_spelling_and_nothing_else() {
        let left = |query: &str| {
            let carriers = [Carrier::Bearer, Carrier::Query("token".into()), Carrier::Query("t 2".into())];
            without_credentials(&carriers, query)
        };
        assert_eq!(left("a=1&tokens=2&atoken=3&token%3D=4&token-=5&a;tokens=6"), None);
        assert_eq!(left(""), None);
        for (query, rest) in [
            ("token=abc", ""),
            ("a=1&token=abc&b=%41", "a=1&b=%41"),
            ("t%6Fken=abc&a", "a"),
            ("%74%6f%6B%65%6e=x&&a=b=c", "&a=b=c"),
            ("token&token=&a", "a"),
            ("t+2=x&t%202=y", ""),
            ("a=1&token;x=5&token%20=6&+token=7&token[]&b;token=8", "a=1"),
            ("?token=1&a=1&.token=2&%23token=3&a?token=4", "a=1&a?token=4"),
        ] {
            assert_eq!(left(query).as_deref(), Some(rest), "{query}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_taken_away_is_what_would_have_been_found(query in "([a-c%467=&+;?#.]|token|t%6fken){0,12}") {
            let carriers = [Carrier::Query("token".into())];
            let find = |query: &str| credential(&carriers, &HeaderMap::new(), Some(query)) != Credential::Absent;
            match without_credentials(&carriers, &query) {
                None => proptest::prop_assert!(!find(&query)),
                Some(left) => proptest::prop_assert!(!find(&left) && without_credentials(&carriers, &left).is_none()),
            }
        }
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
