//! How large the parts of a request may be: at each bound, and one beyond it (RFC 9112 §3, RFC 6585 §5).

use super::{Case, Then, passes, refused, table_with};

const BOUNDS: &str = "max_target = \"2 KiB\"\nmax_field_size = \"1 KiB\"\nmax_header_size = \"8 KiB\"\nmax_headers = 20\n\
                      max_trailer_size = \"256 B\"\nmax_chunk_line = \"64 B\"";

fn get(target: &str, lines: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n{lines}\r\n")
}

/// A target of so many bytes.
fn target(size: usize) -> String {
    format!("/{}", "t".repeat(size - 1))
}

/// A field line of so many bytes, without its end.
fn line(size: usize) -> String {
    format!("X-A: {}\r\n", "a".repeat(size - 5))
}

#[test]
fn each_part_of_a_request_is_bounded() {
    let mut cases: Vec<Case> = Vec::new();
    for size in [100, 2047, 2048] {
        let start = format!("GET {}", target(size));
        cases.push(passes("9112 §3", format!("a target of {size}"), get(&target(size), ""), &start));
        cases.push(
            passes("9112 §3", format!("a target of {size}, cut"), get(&target(size), ""), &start).in_pieces_of(1000),
        );
    }
    for size in [2049, 2100, 2177, 2500, 5000, 100_000] {
        cases.push(refused("9112 §3", format!("a target of {size}"), get(&target(size), ""), &[414]));
        cases.push(
            refused("9112 §3", format!("a target of {size} and no end"), format!("GET {}", target(size)), &[414])
                .ends()
                .back_or_nothing(size < 2177),
        );
        let query = get(&format!("/?{}", "q".repeat(size - 2)), "");
        cases.push(refused("9112 §3", format!("a query of {size}"), query, &[414]));
    }
    cases.push(refused("9112 §3", "a method without end", "M".repeat(10_000), &[414, 400]));
    cases.push(refused("9112 §2.2", "empty lines without end", "\r\n".repeat(10_000), &[414, 400]));
    for size in [100, 1023, 1024] {
        cases.push(passes("6585 §5", format!("a field of {size}"), get("/", &line(size)), "GET /"));
        cases.push(
            passes("6585 §5", format!("a field of {size}, cut"), get("/", &line(size)), "GET /").in_pieces_of(500),
        );
    }
    for size in [1025, 2000, 100_000] {
        cases.push(refused("6585 §5", format!("a field of {size}"), get("/", &line(size)), &[431]));
        let endless = line(size);
        let endless = format!("GET / HTTP/1.1\r\nHost: a\r\n{}", endless.trim_end());
        cases.push(
            refused("6585 §5", format!("a field of {size} and no end"), endless, &[431])
                .ends()
                .back_or_nothing(size < 1027),
        );
        let name = format!("GET / HTTP/1.1\r\nHost: a\r\n{}: b\r\n\r\n", "N".repeat(size));
        cases.push(refused("6585 §5", format!("a name of {size}"), name, &[431]));
        let host = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", "h".repeat(size));
        cases.push(refused("6585 §5", format!("a Host of {size}"), host, &[431]));
    }
    for number in [18, 19] {
        cases.push(passes(
            "6585 §5",
            format!("{number} fields and Host"),
            get("/", &"X-A: b\r\n".repeat(number)),
            "GET /",
        ));
    }
    for number in [20, 21, 500] {
        cases.push(refused(
            "6585 §5",
            format!("{number} fields and Host"),
            get("/", &"X-A: b\r\n".repeat(number)),
            &[431],
        ));
    }
    // The whole head, of fields that are each small enough: 8192 bytes with its last empty line.
    let head = |size: usize| {
        let start = "GET / HTTP/1.1\r\nHost: a\r\n".len();
        let rest = size - start - 2;
        let (whole, last) = (rest / 1000 - 1, rest % 1000 + 1000);
        let lines = format!("{}{}", line(998).repeat(whole), [line(last / 2 - 2), line(last - last / 2 - 2)].concat());
        get("/", &lines)
    };
    assert_eq!(head(8192).len(), 8192);
    for size in [8000, 8191, 8192] {
        cases.push(passes("6585 §5", format!("a head of {size}"), head(size), "GET /"));
        cases.push(passes("6585 §5", format!("a head of {size}, cut"), head(size), "GET /").in_pieces_of(3000));
    }
    for size in [8193, 8200, 9000, 16_000] {
        cases.push(refused("6585 §5", format!("a head of {size}"), head(size), &[431]));
    }
    cases.push(refused(
        "6585 §5",
        "a head without end",
        "GET / HTTP/1.1\r\n".to_owned() + &"X-A: b\r\n".repeat(100_000),
        &[431],
    ));
    let post = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for size in [10, 63, 64] {
        let chunk = format!("{post}3;{}\r\nabc\r\n0\r\n\r\n", "e".repeat(size - 2));
        cases.push(passes("9112 §7.1.1", format!("a chunk line of {size}"), chunk, "POST /").content("abc"));
    }
    for size in [65, 100, 1000, 70_000] {
        let chunk = format!("{post}3;{}\r\nabc\r\n0\r\n\r\n", "e".repeat(size - 2));
        cases.push(refused("9112 §7.1.1", format!("a chunk line of {size}"), chunk, &[400, 0]).or_broken_off());
    }
    for size in [10, 255, 256] {
        let trailers = format!("{post}0\r\nX-T: {}\r\n\r\n", "t".repeat(size - 7));
        cases.push(passes("9112 §7.1.2", format!("trailers of {size}"), trailers, "POST /").content(""));
    }
    for size in [257, 1000, 70_000] {
        let trailers = format!("{post}0\r\nX-T: {}\r\n\r\n", "t".repeat(size - 7));
        cases.push(refused("9112 §7.1.2", format!("trailers of {size}"), trailers, &[400, 0]).or_broken_off());
    }
    let many = format!("{post}0\r\n{}\r\n", "X-T:\r\n".repeat(40));
    cases
        .push(passes("9112 §7.1.2", "20 trailers", many.replacen(&"X-T:\r\n".repeat(20), "", 1), "POST /").content(""));
    cases.push(refused("9112 §7.1.2", "40 trailers", many, &[400, 0]).or_broken_off());
    let large = format!("POST /large HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n{}", "c".repeat(300_000));
    cases.push(
        passes("9112 §6.2", "content beyond every buffer", &large, "POST /large")
            .content("c".repeat(300_000))
            .then(Then::Open),
    );
    table_with(BOUNDS, cases);
}
