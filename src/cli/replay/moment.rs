//! When a line of a log says that it was: in µs since the Unix epoch. Pure.
//!
//! 1. `10/Oct/2000:13:55:36 -0700`, as Apache's `%t` and nginx's `$time_local`.
//! 2. `2000-10-10T13:55:36.123Z` or with an offset (RFC 3339); a space may stand for the `T`. Without an offset: UTC.
//! 3. Seconds since the epoch with or without a fraction; whole numbers too large for that are ms, µs or ns.
//! 4. Parts of a µs are cut. What is before 1970 or after 2200 is no time of a log.

/// 2200-01-01, in seconds since the Unix epoch.
const LAST: u64 = 7_258_118_400;

const SECOND: u64 = 1_000_000;

const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// Rule 1.
pub fn bracketed(text: &[u8]) -> Option<u64> {
    let &[d1, d2, b'/', m1, m2, m3, b'/', ref rest @ ..] = text else { return None };
    let month = MONTHS.iter().position(|month| **month == [m1, m2, m3])? as u64 + 1;
    let (&[y1, y2, y3, y4, b':', ref rest @ ..], day) = (rest, number(&[d1, d2])?) else { return None };
    let (seconds, rest) = time_of_day(rest)?;
    moment(number(&[y1, y2, y3, y4])?, month, day, seconds, 0, offset(rest.strip_prefix(b" ")?)?)
}

/// Rule 2.
pub fn rfc3339(text: &[u8]) -> Option<u64> {
    let (&[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T' | b't' | b' '], rest) = text.split_first_chunk::<11>()?
    else {
        return None;
    };
    let (seconds, rest) = time_of_day(rest)?;
    let (micros, rest) = fraction(rest);
    let offset = match rest {
        [] | b"Z" | b"z" => 0,
        _ => offset(rest)?,
    };
    moment(number(&[y1, y2, y3, y4])?, number(&[m1, m2])?, number(&[d1, d2])?, seconds, micros, offset)
}

/// Rule 3, of text.
pub fn unix(text: &[u8]) -> Option<u64> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (whole, rest) = text.split_at_checked(digits).filter(|(whole, _)| (1..=19).contains(&whole.len()))?;
    let whole = number(whole)?;
    match fraction(rest) {
        (0, []) => since_epoch(whole),
        (micros, []) if whole < LAST => Some(whole * SECOND + micros),
        _ => None,
    }
}

/// Rule 3, of a whole number.
pub fn since_epoch(number: u64) -> Option<u64> {
    const MILLIS: u64 = LAST * 1_000;
    const MICROS: u64 = LAST * SECOND;
    match number {
        0..LAST => Some(number * SECOND),
        LAST..MILLIS => Some(number * 1_000),
        MILLIS..MICROS => Some(number),
        _ => Some(number / 1_000),
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// `13:55:36`, in seconds.
fn time_of_day(text: &[u8]) -> Option<(u64, &[u8])> {
    let (&[h1, h2, b':', m1, m2, b':', s1, s2], rest) = text.split_first_chunk::<8>()? else { return None };
    let (hour, minute, second) = (number(&[h1, h2])?, number(&[m1, m2])?, number(&[s1, s2])?);
    // A leap second is the first of the next minute.
    (hour < 24 && minute < 60 && second <= 60).then_some((hour * 3600 + minute * 60 + second, rest))
}

/// `.123456789`, in whole µs.
fn fraction(text: &[u8]) -> (u64, &[u8]) {
    let [b'.' | b',', rest @ ..] = text else { return (0, text) };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (fraction, rest) = rest.split_at(digits);
    let micros = (0..6).map(|place| fraction.get(place).map_or(0, |digit| u64::from(digit - b'0')));
    (micros.fold(0, |micros, digit| micros * 10 + digit), rest)
}

/// `-0700`, `+05:30` or `Z`, in seconds east.
fn offset(text: &[u8]) -> Option<i64> {
    let (sign, h1, h2, m1, m2) = match *text {
        [b'Z'] => return Some(0),
        [sign, h1, h2, m1, m2] | [sign, h1, h2, b':', m1, m2] => (sign, h1, h2, m1, m2),
        _ => return None,
    };
    let seconds = i64::try_from(number(&[h1, h2])? * 3600 + number(&[m1, m2])? * 60).ok()?;
    match sign {
        b'+' => Some(seconds),
        b'-' => Some(-seconds),
        _ => None,
    }
}

fn moment(year: u64, month: u64, day: u64, seconds: u64, micros: u64, offset: i64) -> Option<u64> {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let length = match month {
        2 => 28 + u64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=length).contains(&day) || !(1970..2200).contains(&year) {
        return None;
    }
    // Years begin in March, so that the day that may be missing is the last; day 0 is 0000-03-01.
    let (from_march, year) = if month > 2 { (month - 3, year) } else { (month + 9, year - 1) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * from_march + 2) / 5 + day - 1;
    const EPOCH: u64 = 719_468;
    let local = i64::try_from((days - EPOCH) * 86_400 + seconds).ok()?;
    Some(u64::try_from(local - offset).ok()? * SECOND + micros)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn one_moment_is_read_in_every_spelling() {
        const MOMENT: u64 = 971_211_336_000_000;
        assert_eq!(bracketed(b"10/Oct/2000:13:55:36 -0700"), Some(MOMENT));
        assert_eq!(bracketed(b"11/Oct/2000:02:25:36 +0530"), Some(MOMENT));
        for text in ["2000-10-10T20:55:36Z", "2000-10-10 20:55:36", "2000-10-10T22:55:36.000000999+02:00"] {
            assert_eq!(rfc3339(text.as_bytes()), Some(MOMENT), "{text}");
        }
        assert_eq!(rfc3339(b"2000-10-10T20:55:36.5Z"), Some(MOMENT + 500_000));
        for text in ["971211336", "971211336.000", "971211336000", "971211336000000", "971211336000000123"] {
            // Too few digits for nanoseconds would be another time in µs.
            assert_eq!(unix(text.as_bytes()).map(|at| at / SECOND), Some(MOMENT / SECOND), "{text}");
        }
        assert_eq!(unix(b"971211336.25"), Some(MOMENT + 250_000));
    }

    #[test]
    fn what_is_no_moment_is_none() {
        for text in ["", "10/Oct/2000:13:55:36", "32/Oct/2000:13:55:36 +0000", "10/Okt/2000:13:55:36 +0000"] {
            assert_eq!(bracketed(text.as_bytes()), None, "{text}");
        }
        for text in ["2000-02-30T00:00:00Z", "1999-12-31T24:00:00Z", "2000-10-10T20:55:36.5+1", "0000-01-01T00:00:00Z"]
        {
            assert_eq!(rfc3339(text.as_bytes()), None, "{text}");
        }
        for text in ["", ".5", "1e9", "-1", "99999999999999999999", "1.5.5"] {
            assert_eq!(unix(text.as_bytes()), None, "{text}");
        }
        assert_eq!(bracketed(b"01/Jan/1970:00:00:00 +0100"), None, "before the epoch");
    }

    proptest::proptest! {
        #[test]
        fn every_second_reads_back_as_another_crate_writes_it(second in 0..LAST) {
            let text = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(second)).to_string();
            proptest::prop_assert_eq!(rfc3339(text.as_bytes()), Some(second * SECOND));
        }

        #[test]
        fn no_text_makes_it_panic(text in proptest::collection::vec(proptest::num::u8::ANY, 0..40)) {
            let _ = (bracketed(&text), rfc3339(&text), unix(&text));
        }
    }
}
