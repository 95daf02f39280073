//! What cannot be shown from outside.

use std::sync::Arc;

use http::Response;
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::io::{AsyncWriteExt, duplex};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::{LocalSet, spawn_local};

use super::fields::Fields;
use super::huffman::tests::encoded;
use super::*;
use crate::exchange::{self, Exchange};
use crate::telemetry::registry::Registry;

async fn answer(exchange: Box<Exchange>) -> Response<Body> {
    assert_ne!(exchange.request.uri().path(), "/panic", "a panic that is meant");
    Response::new(Body::full("app"))
}

fn request(path: &str) -> Request<()> {
    Request::get(format!("http://app.test{path}")).body(()).expect("a test request")
}

#[test]
fn a_panic_ends_its_stream_alone() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a test runtime");
    LocalSet::new().block_on(&runtime, async {
        let (ours, theirs) = UnixStream::pair().expect("two sockets");
        let stack = exchange::service(answer);
        let (_stop, draining) = watch::channel(false);
        let served = Served {
            current: Rc::new(move || stack.clone()),
            settings: Arc::new(Settings::default()),
            draining,
            metrics: Rc::new(Metrics::new(&Registry::new(1), 0)),
            log: Rc::new(|_, _| {}),
        };
        let connection = Rc::new(Connection { peer: None, tls: false, certificate: None, tunnel: None.into() });
        spawn_local(serve(Transport::Unix(ours), Bytes::new(), connection, served));
        let (mut client, driver) = h2::client::handshake(theirs).await.expect("a handshake");
        spawn_local(driver);
        for path in ["/", "/panic", "/"] {
            let (answer, _) = client.send_request(request(path), true).expect("a request");
            let status = answer.await.map(|answer| answer.status().as_u16());
            assert_eq!(status.ok(), (path == "/").then_some(200), "{path}");
        }
    });
}

/// A string of a block: plain, or in the Huffman code, which may end in a byte too many or in a zero.
fn string() -> impl Strategy<Value = Vec<u8>> {
    let text = prop_oneof![3 => vec(b'a'..=b'z', 1..20), 1 => vec(Just(b'0'), 500..2000)];
    (text, 0..40).prop_map(|(text, spelling)| {
        let huffman = spelling >= 20;
        let mut bytes = if huffman { encoded(&text) } else { text };
        match spelling {
            38 => bytes.push(0xff),
            39 => bytes.push(encoded(b"0")[0] & 0xfe),
            _ => {}
        }
        let (flag, length) = (if huffman { 0x80 } else { 0 }, bytes.len());
        let mut string = vec![flag | length.min(127) as u8];
        if length >= 127 {
            string.extend([(length - 127) as u8 | 0x80, ((length - 127) >> 7) as u8]);
        }
        string.extend(bytes);
        string
    })
}

/// A field of a block, or a size of the table: nothing that h2 ends a connection for, but that it cannot be decoded.
fn representation() -> impl Strategy<Value = Vec<u8>> {
    let form = prop_oneof![3 => Just(0x40_u8), 1 => Just(0), 1 => Just(0x10)];
    prop_oneof![
        10 => (form.clone(), string(), string()).prop_map(|(form, name, value)| [vec![form], name, value].concat()),
        5 => (15_u8..66, string()).prop_map(|(name, value)| {
            let name = if name < 63 { vec![0x40 | name] } else { vec![0x7f, name - 63] };
            [name, value].concat()
        }),
        10 => (0x8f..0xc3_u8).prop_map(|index| vec![index]),
        1 => (0..34_u8).prop_map(|size| vec![0x3f, 0x80 | size, size]),
    ]
}

/// What h2 alone ends a connection for on which these blocks come.
async fn h2_alone(blocks: &[Vec<u8>]) -> Option<Reason> {
    let (mut client, ours) = duplex(1 << 20);
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    for (number, block) in blocks.iter().enumerate() {
        bytes.extend(&(block.len() as u32).to_be_bytes()[1..]);
        bytes.extend([1, 5, 0, 0, 0, 2 * number as u8 + 1]);
        bytes.extend(block);
    }
    client.write_all(&bytes).await.expect("room for all");
    client.shutdown().await.expect("an end");
    let mut http2 = server::Builder::new().handshake::<_, Bytes>(ours).await.expect("a handshake");
    let mut streams = Vec::new();
    while let Some(next) = http2.accept().await {
        match next {
            Ok(stream) => streams.push(stream),
            Err(error) => return error.is_go_away().then(|| error.reason()).flatten(),
        }
    }
    None
}

proptest! {
    #[test]
    fn the_judge_of_fields_is_in_step_with_h2(blocks in vec(vec(representation(), 1..8), 1..7)) {
        let blocks: Vec<_> = blocks.iter().map(|block| block.concat()).collect();
        prop_assume!(blocks.iter().all(|block| block.len() <= frames::LONGEST_FRAME));
        let mut fields = Fields::new();
        let ours = blocks.iter().find_map(|block| {
            fields.begin(false, false);
            fields.look_over(block).and_then(|()| fields.end()).err()
        });
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a test runtime");
        let theirs = runtime.block_on(h2_alone(&blocks));
        prop_assert_eq!(ours.is_some(), theirs.is_some(), "{:?} {:?}", ours, theirs);
        prop_assert!(ours.is_none_or(|code| code == Reason::COMPRESSION_ERROR));
    }

    #[test]
    fn the_table_is_in_step_with_that_of_h2(
        lengths in prop_oneof![
            vec((1_usize..30, 1_usize..60), 60..160),
            vec((1_usize..400, prop_oneof![1_usize..60, 900..1100_usize, 3900..4100_usize]), 1..40),
        ],
        smaller in 0_u8..32,
    ) {
        let string = |length: usize| {
            let more = length.checked_sub(127).map(|more| vec![more as u8 | 0x80, (more >> 7) as u8]).unwrap_or_default();
            [vec![length.min(127) as u8], more, vec![b'x'; length]].concat()
        };
        let entry = |(name, value): &(usize, usize)| [vec![0x40], string(*name), string(*value)].concat();
        let (first, last) = lengths.split_at(lengths.len() / 2);
        let mut blocks: Vec<_> = first.chunks(3).map(|some| some.iter().flat_map(entry).collect::<Vec<_>>()).collect();
        blocks.push(vec![0x3f, 0x80 | smaller, smaller]);
        blocks.extend(last.chunks(3).map(|some| some.iter().flat_map(entry).collect::<Vec<_>>()));
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a test runtime");
        let mut fields = Fields::new();
        for block in &blocks {
            fields.begin(false, false);
            prop_assert_eq!(fields.look_over(block), Ok(()));
        }
        let refers = |index: usize| index.checked_sub(127).map_or(vec![0x80 | index as u8], |more| vec![0xff, more as u8]);
        let beyond = (62..).find(|index| fields.look_over(&refers(*index)).is_err()).expect("an end of the table");
        for (index, sound) in [(beyond - 1, true), (beyond, false)] {
            let sent = [&blocks[..], &[refers(index)]].concat();
            prop_assert_eq!(runtime.block_on(h2_alone(&sent)).is_none(), sound, "{} of {:?}", index, lengths);
        }
    }
}
