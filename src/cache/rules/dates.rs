//! `HTTP-date` (RFC 9110 §5.6.7), in seconds since the Unix epoch.

use std::time::{Duration, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue};

/// A date in any of the three formats; `None` if it is none, or lies before 1970.
pub fn date(value: &HeaderValue) -> Option<u64> {
    let time = httpdate::parse_http_date(value.to_str().ok()?).ok()?;
    time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

/// The date in the only line of field `name`; `None` if there is no line, or more than one, or no date in it.
pub fn only_date(head: &HeaderMap, name: HeaderName) -> Option<u64> {
    let mut lines = head.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (Some(line), None) => date(line),
        _ => None,
    }
}

/// A date as it is sent (IMF-fixdate).
pub fn date_text(unix_seconds: u64) -> Option<HeaderValue> {
    const LAST: u64 = 253_402_300_799; // the end of the year 9999, beyond which the format has no words
    let time = UNIX_EPOCH + Duration::from_secs(unix_seconds.min(LAST));
    HeaderValue::try_from(httpdate::fmt_http_date(time)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::EXPIRES;

    #[test]
    fn three_formats_are_dates_and_others_are_not() {
        for (text, expected) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(784_111_777)),
            ("Sun Nov  6 08:49:37 1994", Some(784_111_777)),
            ("Fri, 01 Jan 2038 00:00:00 GMT", Some(2_145_916_800)),
            ("Wed, 01 Jan 2300 00:00:00 GMT", None), // it was a Monday
            ("Mon, 01 Jan 2300 00:00:00 GMT", Some(10_413_792_000)),
            ("Sun, 06 Nov 1994 08:49:37 EST", None),
            ("Sun, 06 Nov 1994 8:49:37 GMT", None),
            ("Sun, 31 Dec 1950 00:00:00 GMT", None),
            ("0", None),
            ("", None),
        ] {
            assert_eq!(date(&HeaderValue::from_static(text)), expected, "{text:?}");
        }
        assert_eq!(date_text(784_111_777).unwrap(), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert!(date_text(u64::MAX).is_some());
    }

    #[test]
    fn two_lines_are_no_date() {
        let mut head = HeaderMap::new();
        head.append(EXPIRES, date_text(5).unwrap());
        assert_eq!(only_date(&head, EXPIRES), Some(5));
        head.append(EXPIRES, date_text(5).unwrap());
        assert_eq!(only_date(&head, EXPIRES), None);
    }
}
