//! Raw bytes against the protocol's text, whole and one by one.

use proptest::prelude::*;
use proxy_header::{ProxiedAddress, ProxyHeader};

use super::*;

const MOST: usize = 32 * 1024;

fn second(command: u8, family: u8, announced: u16, block: &[u8]) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    bytes.extend_from_slice(&[command, family]);
    bytes.extend_from_slice(&announced.to_be_bytes());
    bytes.extend_from_slice(block);
    bytes
}

const BLOCK4: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0xc0, 0, 0, 80];

fn named(source: &str, length: usize) -> Found {
    Found::Header(length, Some(source.parse().unwrap()))
}

/// Every beginning of `bytes` that is shorter than the header is undecided, or what it will be: nothing is judged too
/// early. What decides is in the line, or in the fixed part and the addresses: what is looked at again and again is short.
fn agrees_in_pieces(bytes: &[u8]) {
    if let Found::Header(length, _) = find(bytes, MOST) {
        // A header is also found while it is longer than what has come.
        let length = length.min(bytes.len());
        for cut in 0..length {
            let found = find(&bytes[..cut], MOST);
            assert!(found == Found::Partly || found == find(bytes, MOST), "the first {cut} of {bytes:?}: {found:?}");
            assert!(found != Found::Partly || cut < LONGEST_LINE, "undecided: {cut} of {bytes:?}");
        }
        assert_eq!(find(&bytes[..length], MOST), find(bytes, MOST), "what follows is not looked at");
    }
}

#[test]
fn good_headers_name_their_source_in_any_pieces() {
    let mut block6 = [0; 36];
    block6[..2].copy_from_slice(&[0x20, 0x01]);
    block6[32..34].copy_from_slice(&[0, 9]);
    let mut with_tlv = BLOCK4.to_vec();
    with_tlv.extend_from_slice(&[0x20, 0, 5, 1, 0, 0, 0, 0]);
    let cases: [(Vec<u8>, Found); 13] = [
        (b"PROXY TCP4 192.0.2.7 10.0.0.1 49152 80\r\nGET /".to_vec(), named("192.0.2.7:49152", 40)),
        (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n".to_vec(), named("255.255.255.255:65535", 56)),
        (b"PROXY TCP6 2001:db8::1 ::1 9 0\r\n".to_vec(), named("[2001:db8::1]:9", 32)),
        (b"PROXY UNKNOWN\r\n".to_vec(), Found::Header(15, None)),
        (b"PROXY UNKNOWN anything at all\r\n".to_vec(), Found::Header(31, None)),
        (second(0x21, 0x11, 12, &BLOCK4), named("192.0.2.7:49152", 28)),
        (second(0x21, 0x11, 20, &with_tlv), named("192.0.2.7:49152", 36)),
        (second(0x21, 0x21, 36, &block6), named("[2001::]:9", 52)),
        (second(0x20, 0x00, 0, b"GET /"), Found::Header(16, None)),
        (second(0x20, 0xff, 3, b"abcGET /"), Found::Header(19, None)),
        (second(0x21, 0x00, 4, b"abcd"), Found::Header(20, None)),
        (second(0x21, 0x12, 12, &BLOCK4), Found::Header(28, None)),
        (second(0x21, 0x31, 216, &[0; 216]), Found::Header(232, None)),
    ];
    for (bytes, expected) in cases {
        assert_eq!(find(&bytes, MOST), expected, "{}", bytes.escape_ascii());
        agrees_in_pieces(&bytes);
    }
}

#[test]
fn what_only_looks_like_a_header_is_malformed() {
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(92));
    let lines = [
        "PROXY TCP4 192.0.2.7 10.0.0.1 49152 80\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 49152 80\r\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 49152 80 \r\n",
        "PROXY TCP4  192.0.2.7 10.0.0.1 49152 80\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 49152\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 +49152 80\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 049152 80\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 65536 80\r\n",
        "PROXY TCP4 192.0.2.07 10.0.0.1 1 80\r\n",
        "PROXY TCP4 192.0.2 10.0.0.1 1 80\r\n",
        "PROXY TCP4 2001:db8::1 ::1 1 80\r\n",
        "PROXY TCP6 192.0.2.7 10.0.0.1 1 80\r\n",
        "PROXY TCP6 fe80::1%eth0 ::1 1 80\r\n",
        "PROXY tcp4 192.0.2.7 10.0.0.1 1 80\r\n",
        "PROXY UDP4 192.0.2.7 10.0.0.1 1 80\r\n",
        "PROXY UNKNOWNX\r\n",
        "PROXY \r\n",
        "PROXY / HTTP/1.1\r\nHost: a\r\n\r\n",
        "PROXY TCP4 192.0.2.7\t10.0.0.1 1 80\r\n",
        "PROXY TCP4 192.0.2.7\0",
        &long,
        &long[..LONGEST_LINE],
    ];
    for line in lines {
        assert_eq!(find(line.as_bytes(), MOST), Found::Malformed, "{line:?}");
    }
    assert_eq!(find(long.replacen('x', "", 1).as_bytes(), MOST), Found::Header(107, None), "just as long as it may be");
    let blocks = [
        second(0x11, 0x11, 12, &BLOCK4),
        second(0x22, 0x11, 12, &BLOCK4),
        second(0x21, 0x13, 12, &BLOCK4),
        second(0x21, 0x41, 12, &BLOCK4),
        second(0x21, 0x11, 11, &BLOCK4),
        second(0x21, 0x11, 0, &[]),
        second(0x21, 0x21, 12, &BLOCK4),
        second(0x30, 0x00, 0, &[])[..13].to_vec(),
        second(0x20, 0x00, u16::MAX, &[]),
    ];
    for bytes in blocks {
        assert_eq!(find(&bytes, MOST), Found::Malformed, "{}", bytes.escape_ascii());
    }
}

#[test]
fn everything_else_is_no_header() {
    for bytes in
        [&b"GET / HTTP/1.1\r\n"[..], b"PRI * HTTP/2.0", b"PROXYX", b"proxy TCP4", b"\x16\x03\x01", b"\r\nGET /"]
    {
        assert_eq!(find(bytes, MOST), Found::Absent, "{}", bytes.escape_ascii());
    }
    for bytes in [&b""[..], b"P", b"PRO", b"\r\n", &SIGNATURE[..]] {
        assert_eq!(find(bytes, MOST), Found::Partly, "{}", bytes.escape_ascii());
    }
}

proptest! {
    #[test]
    fn what_others_write_is_read(source: SocketAddr, other: SocketAddr, tail in "[ -~]{0,9}") {
        // Scopes and flow labels are not told.
        let (source, mut destination) = (SocketAddr::new(source.ip(), source.port()), SocketAddr::new(source.ip(), 443));
        destination.set_port(other.port());
        let header = ProxyHeader::with_address(ProxiedAddress::stream(source, destination));
        let mut buffer = [0; 512];
        for version in [1, 2] {
            let length = match version {
                1 => header.encode_to_slice_v1(&mut buffer).unwrap(),
                _ => header.encode_to_slice_v2(&mut buffer).unwrap(),
            };
            let bytes = [&buffer[..length], tail.as_bytes()].concat();
            prop_assert_eq!(find(&bytes, MOST), Found::Header(length, Some(source)));
            agrees_in_pieces(&bytes);
        }
    }

    #[test]
    fn no_bytes_make_it_panic_or_read_beyond_the_bound(start in 0..3usize, bytes: Vec<u8>) {
        let ahead = [&b""[..], WORD, SIGNATURE][start];
        let bytes = [ahead, &bytes].concat();
        if let Found::Header(length, _) = find(&bytes, MOST) {
            prop_assert!(length <= MOST);
        }
        agrees_in_pieces(&bytes);
    }
}
