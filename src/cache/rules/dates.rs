//! `HTTP-date` (RFC 9110 §5.6.7), in seconds since the Unix epoch.
//!
//! 1. Three formats: IMF-fixdate, and the obsolete ones of RFC 850 and of C's `asctime`. Names of days and months, and
//!    `GMT`, in any case.
//! 2. Everything else in them is exact: one space where one stands, two digits where two stand, the comma, no other zone.
//!    What is not exact is no date.
//! 3. Two digits are a year only in the format of RFC 850: the one that is at most 50 years ahead of now.
//! 4. The name of the day is not compared with the date: it adds nothing to it, and senders get it wrong.
//! 5. What lies before 1970 is no date here: nothing that a cache compares was made then.
//!
//! # Why a parser of our own
//! A date that is misread is a response that is fresh for years. Known parsers accept a missing comma, other zones or one
//! digit for two, refuse other cases and wrong names of days, and know no 50 years.

use std::time::{Duration, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue};

const MONTHS: [&[u8]; 12] =
    [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"];
const DAYS: [&[u8]; 7] = [b"monday", b"tuesday", b"wednesday", b"thursday", b"friday", b"saturday", b"sunday"];
/// Bytes of the short name of a day.
const SHORT: usize = 3;
const SECONDS_OF_DAY: u64 = 24 * 60 * 60;

/// A date in any of the three formats; `None` if it is none, or lies before 1970.
pub fn date(value: &HeaderValue, now: u64) -> Option<u64> {
    let mut text = Text(value.as_bytes());
    let name = text.letters();
    let is_short = DAYS.iter().any(|day| day[..SHORT].eq_ignore_ascii_case(name));
    let is_long = DAYS.iter().any(|day| day.eq_ignore_ascii_case(name));
    let seconds = match text.0.first()? {
        b',' if is_short => text.imf_fixdate(),
        b',' if is_long => text.rfc_850(now),
        b' ' if is_short => text.asctime(),
        _ => None,
    };
    seconds.filter(|_| text.0.is_empty())
}

/// The date in the only line of field `name`; `None` if there is no line, or more than one, or no date in it.
pub fn only_date(head: &HeaderMap, name: HeaderName, now: u64) -> Option<u64> {
    let mut lines = head.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (Some(line), None) => date(line, now),
        _ => None,
    }
}

/// A date as it is sent (IMF-fixdate).
pub fn date_text(unix_seconds: u64) -> Option<HeaderValue> {
    const LAST: u64 = 253_402_300_799; // the end of the year 9999, beyond which the format has no words
    let time = UNIX_EPOCH + Duration::from_secs(unix_seconds.min(LAST));
    HeaderValue::try_from(httpdate::fmt_http_date(time)).ok()
}

/// What of a date is not read yet.
struct Text<'a>(&'a [u8]);

impl Text<'_> {
    /// `, 06 Nov 1994 08:49:37 GMT`.
    fn imf_fixdate(&mut self) -> Option<u64> {
        self.exactly(b", ")?;
        let day = self.number(2)?;
        self.exactly(b" ")?;
        let month = self.month()?;
        self.exactly(b" ")?;
        let year = self.number(4)?;
        self.exactly(b" ")?;
        let time = self.time()?;
        self.exactly(b" ")?;
        self.gmt()?;
        at(year, month, day, time)
    }

    /// `, 06-Nov-94 08:49:37 GMT`.
    fn rfc_850(&mut self, now: u64) -> Option<u64> {
        self.exactly(b", ")?;
        let day = self.number(2)?;
        self.exactly(b"-")?;
        let month = self.month()?;
        self.exactly(b"-")?;
        let year = self.number(2)?;
        self.exactly(b" ")?;
        let time = self.time()?;
        self.exactly(b" ")?;
        self.gmt()?;
        in_century(now, year, |year| at(year, month, day, time))
    }

    /// ` Nov  6 08:49:37 1994`.
    fn asctime(&mut self) -> Option<u64> {
        self.exactly(b" ")?;
        let month = self.month()?;
        self.exactly(b" ")?;
        let day = if self.exactly(b" ").is_some() { self.number(1)? } else { self.number(2)? };
        self.exactly(b" ")?;
        let time = self.time()?;
        self.exactly(b" ")?;
        at(self.number(4)?, month, day, time)
    }

    fn letters(&mut self) -> &[u8] {
        let length = self.0.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
        let (letters, rest) = self.0.split_at(length);
        self.0 = rest;
        letters
    }

    fn exactly(&mut self, text: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(text)?;
        Some(())
    }

    fn number(&mut self, digits: usize) -> Option<u64> {
        let (number, rest) = self.0.split_at_checked(digits)?;
        self.0 = rest;
        let all_digits = number.iter().all(u8::is_ascii_digit);
        all_digits.then(|| number.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0')))
    }

    /// From 1.
    fn month(&mut self) -> Option<u64> {
        let name = self.letters();
        MONTHS.iter().zip(1..).find(|(month, _)| month.eq_ignore_ascii_case(name)).map(|(_, number)| number)
    }

    fn gmt(&mut self) -> Option<()> {
        self.letters().eq_ignore_ascii_case(b"gmt").then_some(())
    }

    /// `08:49:37`, in seconds; a leap second is the next minute's first.
    fn time(&mut self) -> Option<u64> {
        let hour = self.number(2)?;
        self.exactly(b":")?;
        let minute = self.number(2)?;
        self.exactly(b":")?;
        let second = self.number(2)?;
        (hour < 24 && minute < 60 && second <= 60).then_some((hour * 60 + minute) * 60 + second)
    }
}

/// The date in the latest year of these two last digits that is at most 50 years ahead of now.
fn in_century(now: u64, two_digits: u64, at: impl Fn(u64) -> Option<u64>) -> Option<u64> {
    let this_year = year_of(now);
    let latest = at_start(this_year + 50)?.saturating_add(now.saturating_sub(at_start(this_year)?));
    let centuries = [this_year / 100 + 1, this_year / 100, (this_year / 100).saturating_sub(1)];
    centuries.into_iter().filter_map(|century| at(century * 100 + two_digits)).find(|date| *date <= latest)
}

/// Seconds since the epoch; `None` if there is no such day, or it lies before 1970.
fn at(year: u64, month: u64, day: u64, time: u64) -> Option<u64> {
    let leap = is_leap(year);
    let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let before = lengths.iter().take(usize::try_from(month.checked_sub(1)?).ok()?).sum::<u64>();
    let length = *lengths.get(usize::try_from(month - 1).ok()?)?;
    if day == 0 || day > length {
        return None;
    }
    Some(at_start(year)? + (before + day - 1) * SECONDS_OF_DAY + time)
}

/// The start of a year, in seconds since the epoch; `None` before 1970.
fn at_start(year: u64) -> Option<u64> {
    let leap_days = |year: u64| (year - 1) / 4 - (year - 1) / 100 + (year - 1) / 400;
    let years = year.checked_sub(1970)?;
    Some((years * 365 + leap_days(year) - leap_days(1970)) * SECONDS_OF_DAY)
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

/// The year of a moment; 9999 beyond it.
fn year_of(now: u64) -> u64 {
    let guess = (1970 + now / (365 * SECONDS_OF_DAY)).min(9999);
    (1970..=guess).rev().find(|year| at_start(*year).is_some_and(|start| start <= now)).unwrap_or(1970)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::EXPIRES;
    use proptest::prelude::*;

    const NOW: u64 = 1_795_000_000; // in November 2026

    fn read(text: &str) -> Option<u64> {
        date(&HeaderValue::from_bytes(text.as_bytes()).unwrap(), NOW)
    }

    #[test]
    fn three_formats_are_dates_and_others_are_not() {
        for (text, expected) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(784_111_777)),
            ("Sun Nov  6 08:49:37 1994", Some(784_111_777)),
            ("Sun Nov 06 08:49:37 1994", Some(784_111_777)),
            ("SUN, 06 nOv 1994 08:49:37 gmt", Some(784_111_777)),
            ("sunday, 06-NOV-94 08:49:37 Gmt", Some(784_111_777)),
            ("sUN noV  6 08:49:37 1994", Some(784_111_777)),
            ("Mon, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)), // it was a Sunday
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Tue, 19 Jan 2038 03:14:08 GMT", Some(1 << 31)),
            ("Sun, 21 Nov 2286 04:46:39 GMT", Some(10_000_039_599)),
            ("Thu, 29 Feb 2024 00:00:00 GMT", Some(1_709_164_800)),
            ("Thu, 29 Feb 2023 00:00:00 GMT", None),
            ("Thu, 29 Feb 2000 23:59:60 GMT", Some(951_868_800)),
            ("Thu, 29 Feb 2100 00:00:00 GMT", None),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(253_402_300_799)),
            ("Sun, 06 Nov 1994 08:49:37 EST", None),
            ("Sun, 06 Nov 1994 08:49:37 UTC", None),
            ("Sun, 06 Nov 1994 08:49:37 +0000", None),
            ("Sun, 06 Nov 1994 08:49:37", None),
            ("Sun, 06 Nov 1994 08:49:37 GMT ", None),
            ("Sun, 06 Nov 1994 8:49:37 GMT", None),
            ("Sun, 6 Nov 1994 08:49:37 GMT", None),
            ("Sun 06 Nov 1994 08:49:37 GMT", None),
            ("Sun, 06  Nov  1994 08:49:37 GMT", None),
            ("Sun,06 Nov 1994 08:49:37 GMT", None),
            ("Sun, 06-Nov-1994 08:49:37 GMT", None),
            ("Sun, 06-Nov-94 08:49:37 GMT", None),
            ("Sunday, 06-Nov-1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 94 08:49:37 GMT", None),
            ("Sunday, 06 Nov 1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 08.49.37 GMT", None),
            ("Sun, 06 November 1994 08:49:37 GMT", None),
            ("Sun, 00 Nov 1994 08:49:37 GMT", None),
            ("Sun, 31 Nov 1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 24:00:00 GMT", None),
            ("Sun, 06 Nov 1994 00:60:00 GMT", None),
            ("Sun, 06 Nov 1994 00:00:61 GMT", None),
            ("Son, 06 Nov 1994 08:49:37 GMT", None),
            ("Sun Nov 6 08:49:37 1994", None),
            ("Sun Nov   6 08:49:37 1994", None),
            ("Sun, 31 Dec 1950 00:00:00 GMT", None),
            ("Sun, 31 Dec 0000 00:00:00 GMT", None),
            ("784111777", None),
            ("0", None),
            ("", None),
        ] {
            assert_eq!(read(text), expected, "{text:?}");
        }
    }

    #[test]
    fn two_digits_are_the_year_that_is_at_most_50_years_ahead() {
        for (year, expected) in [("26", 2026), ("27", 2027), ("76", 2076), ("77", 1977), ("99", 1999), ("00", 2000)] {
            let seconds = read(&format!("Friday, 01-Jan-{year} 00:00:00 GMT"));
            assert_eq!(seconds, at_start(expected), "{year}");
        }
        // To the second, as §5.6.7 says "more than 50 years".
        assert_eq!(read("Friday, 31-Dec-76 00:00:00 GMT"), at(1976, 12, 31, 0));
        let in_2070 = date(&HeaderValue::from_static("Friday, 01-Jan-20 00:00:00 GMT"), 3_160_000_000);
        assert_eq!(in_2070, at_start(2120));
    }

    #[test]
    fn two_lines_are_no_date() {
        let mut head = HeaderMap::new();
        head.append(EXPIRES, date_text(5).unwrap());
        assert_eq!(only_date(&head, EXPIRES, NOW), Some(5));
        head.append(EXPIRES, date_text(5).unwrap());
        assert_eq!(only_date(&head, EXPIRES, NOW), None);
    }

    proptest! {
        #[test]
        fn what_is_sent_reads_back(seconds in 0..253_402_300_800_u64) {
            prop_assert_eq!(date(&date_text(seconds).unwrap(), NOW), Some(seconds));
        }

        #[test]
        fn no_bytes_are_too_strange(bytes in any::<Vec<u8>>(), now: u64) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                date(&value, now);
            }
        }

        #[test]
        fn what_almost_is_a_date_is_read_as_it_or_not_at_all(
            seconds in 0..253_402_300_800_u64, at in 0..29_usize, byte in b' '..=b'~'
        ) {
            let mut text = date_text(seconds).unwrap().as_bytes().to_vec();
            text[at] = byte;
            let found = date(&HeaderValue::from_bytes(&text).unwrap(), NOW);
            // Whatever is read is written with the same numbers; only the day's name and cases may differ.
            if let Some(found) = found && !text[26..].eq_ignore_ascii_case(b"60 GMT") {
                prop_assert!(date_text(found).unwrap().as_bytes()[4..20].eq_ignore_ascii_case(&text[4..20]));
            }
        }
    }
}
