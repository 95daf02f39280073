//! Quantities carry units: `60s`, `1 MiB`. Pure.

use std::time::Duration;

use bytesize::ByteSize;

/// The longest time that can be configured: a year.
pub const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Reads a time like `60s`, `1m 30s`, `250ms`; at most a year, `0s` allowed.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn duration_or_zero(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text)
        .map_err(|_| format!("`{text}` is not a time; times read like `60s`, `1m 30s` or `250ms`"))?;
    if duration > LONGEST { Err(format!("`{text}` is more than a year")) } else { Ok(duration) }
}

/// Reads a time that is more than none.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn duration(text: &str) -> Result<Duration, String> {
    match duration_or_zero(text)? {
        Duration::ZERO => Err("a time of 0 would be over before it began".into()),
        duration => Ok(duration),
    }
}

/// Reads a time that `0s` turns off.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn duration_or_none(text: &str) -> Result<Option<Duration>, String> {
    Ok(Some(duration_or_zero(text)?).filter(|duration| !duration.is_zero()))
}

/// Reads a size in bytes like `1 MiB`, `64 KiB`, `500 kB`; at most 1 PiB.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn size(text: &str) -> Result<u64, String> {
    // The parser takes a number alone for bytes.
    let size = text.parse().ok().filter(|_: &ByteSize| text.ends_with(|last: char| last.is_ascii_alphabetic()));
    let size = size.ok_or_else(|| format!("`{text}` is not a size; sizes read like `64 KiB` or `10 MiB`"))?;
    if size > ByteSize::pib(1) { Err(format!("`{text}` is more than 1 PiB")) } else { Ok(size.as_u64()) }
}

/// Reads a share like `20%`; whole, at most 100.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn percent(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix('%').and_then(|number| number.trim_end().parse().ok());
    number.filter(|number| *number <= 100).ok_or_else(|| format!("`{text}` is not a share from `0%` to `100%`"))
}

/// A time as the file would say it.
pub fn shown_duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// A size as the file would say it.
pub fn shown_size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.iter().find(|(unit, _)| bytes > 0 && bytes.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{} {name}", bytes / unit),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_read_back_as_they_were_written() {
        for text in ["60ms", "1s", "1m 30s", "2h"] {
            assert_eq!(shown_duration(duration(text).unwrap()), text);
        }
        for text in ["1 MiB", "64 KiB", "3 GiB", "1000 B"] {
            assert_eq!(shown_size(size(text).unwrap()), text);
        }
        assert_eq!(size("1.5 KiB").unwrap(), 1536);
        assert_eq!(size("500 kB").unwrap(), 500_000);
    }

    #[test]
    fn a_quantity_without_a_known_unit_is_refused() {
        for text in ["60", "soon", "", "-1s", "1 parsec", "s"] {
            assert!(duration(text).is_err(), "{text}");
        }
        for text in ["10", "much", "", "-1 MiB", "1 mile", "99999999999 TiB"] {
            assert!(size(text).is_err(), "{text}");
        }
        for text in ["20", "101%", "-1%", "%", "0.5%"] {
            assert!(percent(text).is_err(), "{text}");
        }
        assert_eq!(percent("20%"), Ok(20));
        assert!(duration("0s").is_err());
        assert!(duration("9000 years").is_err());
        assert_eq!(duration_or_none("0s").unwrap(), None);
    }
}
