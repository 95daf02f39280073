//! Thousands of slow connections beside one client that behaves.
//!
//! A third drips heads, a third drips content, a third never reads what it asked for. The client that behaves asks over a connection that it keeps and over new ones in turn, before the crowd comes and within
//! it: what it is answered is asserted, what it took is reported (`make slow` shows it, with 10,000 of them).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::{Builder, Runtime};

use crate::harness::{Configuration, Sidegate, until};

/// How many, unless `SIDEGATE_SLOW_CONNECTIONS` says it: within what a CI machine lets two processes open.
const CONNECTIONS: usize = 1_500;
/// How long a slow client pauses between two bytes.
const DRIP: Duration = Duration::from_secs(2);
/// Memory for each slow connection, its side of the app included, at most.
const MEMORY: u64 = 160 * 1024;
/// Bytes of an answer that nobody reads.
const LARGE: usize = 4 << 20;

/// An app that waits for content to its end, and has an answer too large for any buffer; it counts the pieces it got rid of.
async fn app(listener: TcpListener, sent: Arc<AtomicUsize>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let sent = sent.clone();
        tokio::spawn(async move {
            let mut read = Vec::with_capacity(512);
            while stream.read_buf(&mut read).await? > 0 {
                let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
                if read.starts_with(b"POST") {
                    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
                } else if read.starts_with(b"GET /large") {
                    stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n").as_bytes()).await?;
                    for _ in 0..LARGE / 4096 {
                        stream.write_all(&[b'x'; 4096]).await?;
                        sent.fetch_add(1, Ordering::SeqCst);
                        // It is fair: what is measured is not the app.
                        tokio::task::yield_now().await;
                    }
                } else {
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\napp").await?;
                }
                read.drain(..end + 4);
            }
            std::io::Result::Ok(())
        });
    }
}

/// One slow connection, from its beginning to its end.
async fn dawdle(address: SocketAddr, number: usize, begun: &AtomicUsize) -> std::io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    let mut stream: TcpStream = socket.connect(address).await?;
    let first = match number % 3 {
        0 => "GET / HTTP/1.1\r\nHost: slow\r\nX-Slow: ",
        1 => "POST / HTTP/1.1\r\nHost: slow\r\nContent-Length: 1000000\r\n\r\n",
        _ => "GET /large HTTP/1.1\r\nHost: slow\r\n\r\n",
    };
    stream.write_all(first.as_bytes()).await?;
    begun.fetch_add(1, Ordering::SeqCst);
    loop {
        tokio::time::sleep(DRIP).await;
        if number % 3 < 2 {
            stream.write_all(b"x").await?;
        }
    }
}

fn crowd(runtime: &Runtime, address: SocketAddr, size: usize) -> Arc<AtomicUsize> {
    let begun = Arc::new(AtomicUsize::new(0));
    for number in 0..size {
        let begun = begun.clone();
        runtime.spawn(async move { dawdle(address, number, &begun).await });
    }
    begun
}

/// Asks so often, in turn over a connection that is kept and over a new one; how long each took, sorted.
fn behave(sidegate: &Sidegate, times: usize) -> Vec<Duration> {
    let mut kept = sidegate.client();
    let mut took: Vec<Duration> = (0..times)
        .map(|turn| {
            let began = Instant::now();
            let answer = if turn % 2 == 0 { kept.get("/") } else { sidegate.get("/") };
            assert_eq!((turn, answer.status, answer.text().as_str()), (turn, 200, "app"));
            began.elapsed()
        })
        .collect();
    took.sort();
    took
}

fn shown(took: &[Duration]) -> String {
    let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize];
    format!("p50 {:?}, p99 {:?}, longest {:?}", at(0.5), at(0.99), at(1.0))
}

#[test]
fn slow_connections_by_the_thousand_do_not_keep_a_client_that_behaves_from_its_answers() {
    let size = std::env::var("SIDEGATE_SLOW_CONNECTIONS").map_or(CONNECTIONS, |size| size.parse().expect("a number"));
    // The crowd and the app are in this process.
    rlimit::increase_nofile_limit(u64::MAX).expect("a limit on open files");
    let runtime = || Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let (apps, clients) = (runtime(), runtime());
    let listener = apps.block_on(TcpListener::bind("127.0.0.1:0")).expect("an app");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    let sent = Arc::new(AtomicUsize::new(0));
    apps.spawn(app(listener, sent.clone()));
    // Two thirds of the crowd are at the app as well, not evenly spread over workers.
    let configuration = Configuration::to(&url)
        .server(&format!("max_connections = {}", size + 100))
        // None is cut off while it lasts: all are there at once.
        .server("timeouts = { header = \"300s\", body = \"300s\", write = \"300s\" }")
        .upstream(&format!("max_connections = {}", size * 3 / 4 + 64));
    let sidegate = configuration.start();
    let alone = behave(&sidegate, 400);
    let before = sidegate.rss();
    let begun = crowd(&clients, sidegate.address().parse().expect("an address"), size);
    let at_the_app = || sidegate.metric("sidegate_upstream_connections{upstream=\"app\"}") as usize;
    for part in 1..=10 {
        until("the next tenth of the crowd", || begun.load(Ordering::SeqCst) >= size * part / 10);
    }
    until("two thirds of it at the app", || at_the_app() >= size * 2 / 3);
    let mut gone = 0;
    until("the app to be stuck with what nobody reads", || {
        std::thread::sleep(Duration::from_millis(100));
        std::mem::replace(&mut gone, sent.load(Ordering::SeqCst)) == gone
    });
    let within = behave(&sidegate, 400);
    let grown = sidegate.rss().saturating_sub(before);
    eprintln!(
        "{size} slow connections: {} MiB more ({} KiB each)\nalone:  {}\nwithin: {}",
        grown >> 20,
        (grown / size as u64) >> 10,
        shown(&alone),
        shown(&within)
    );
    assert!(grown < MEMORY * size as u64, "{grown} bytes more for {size} slow connections");
    assert_eq!(sidegate.metric("sidegate_accept_failures_total"), 0.0);
}
