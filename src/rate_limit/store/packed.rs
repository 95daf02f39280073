//! Numbers on their way to and from a script, as bytes: one after the other, each a big-endian double.
//!
//! # Why
//! That is what Lua's `struct` reads and writes without any text: a tenth of what Redis spends on an argument, or on an
//! element of an answer, for each number.

/// Whole numbers beyond it have no double of their own.
const LARGEST: u64 = 1 << 53;

const WIDTH: usize = size_of::<f64>();

/// `numbers` (each at most 2^53), one after the other.
pub fn pack(numbers: impl IntoIterator<Item = u64>, into: &mut Vec<u8>) {
    // Exact up to 2^53.
    into.extend(numbers.into_iter().flat_map(|number| (number as f64).to_be_bytes()));
}

/// The numbers in `bytes`, unless one of them is not whole, or is none of ours.
pub fn unpack(bytes: &[u8]) -> Option<Vec<u64>> {
    let (numbers, []) = bytes.as_chunks::<WIDTH>() else { return None };
    numbers.iter().map(|number| whole(f64::from_be_bytes(*number))).collect()
}

fn whole(number: f64) -> Option<u64> {
    // A cast that loses anything does not lead back.
    let whole = number as u64;
    (whole <= LARGEST && whole as f64 == number).then_some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked_to_the_last_unit() {
        let numbers = vec![0, 1, 1_795_236_000_000_001, LARGEST - 1, LARGEST];
        let mut bytes = Vec::new();
        pack(numbers.iter().copied(), &mut bytes);
        assert_eq!((bytes.len(), unpack(&bytes)), (40, Some(numbers)));
    }

    #[test]
    fn what_is_no_row_of_whole_numbers_is_none_of_ours() {
        for number in [0.5, -1.0, f64::NAN, f64::INFINITY, 1e17] {
            assert_eq!(unpack(&number.to_be_bytes()), None, "{number}");
        }
        assert_eq!(unpack(b"1234567"), None);
    }
}
