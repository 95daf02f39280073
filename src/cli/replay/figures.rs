//! Numbers as people read them. Pure.

/// A part, in percent; 0 of nothing.
pub fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

/// `1,234 (1.50 %)`.
pub fn share(part: u64, whole: u64) -> String {
    format!("{} ({:.2} %)", grouped(part), percent(part, whole))
}

/// `1 key`, `1,234 keys`.
pub fn some(number: u64, what: &str) -> String {
    format!("{} {what}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([some(1, "key"), some(1_000, "key"), share(1, 8)], ["1 key", "1,000 keys", "1 (12.50 %)"]);
    }
}
