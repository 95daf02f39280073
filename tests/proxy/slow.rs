//! Clients that take their time.

mod many;

use std::net::TcpStream;

use crate::harness::secure::Certified;
use crate::harness::{Client, Configuration, Origin, Sidegate, until};

/// sidegate with this time-out short and all others long, over TLS or not; and how to connect.
struct Hurried {
    sidegate: Sidegate,
    certified: Option<Certified>,
}

impl Hurried {
    /// One without TLS and one with.
    fn both(app: &Origin, which: &str) -> [Self; 2] {
        [None, Some(Certified::new())].map(|certified| {
            let others = ["header", "body", "idle", "write"]
                .map(|name| format!("{name} = {:?}", if name == which { "250ms" } else { "60s" }));
            let timeouts = format!("timeouts = {{ {} }}", others.join(", "));
            let tls = certified.as_ref().map(Certified::line).unwrap_or_default();
            let sidegate = Configuration::of(app).server(&timeouts).server(&tls).start();
            Self { sidegate, certified }
        })
    }

    fn client(&self) -> Client {
        match &self.certified {
            Some(certified) => certified.client(self.sidegate.address(), b""),
            None => self.sidegate.client(),
        }
    }

    fn timed_out(&self) -> f64 {
        self.sidegate.metric("sidegate_client_timeouts_total")
    }
}

#[test]
fn a_head_that_drips_is_answered_408_and_never_reaches_the_app() {
    let app = Origin::saying("app");
    for hurried in Hurried::both(&app, "header") {
        let mut client = hurried.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ");
        // However often a byte comes: the head as a whole has its time.
        until("an end to it", || client.try_send(b"x").is_err() || hurried.timed_out() == 1.0);
        assert_eq!(client.try_answer_to("GET").map(|answer| answer.status).unwrap_or(408), 408);
        assert!(client.is_closed());
        assert_eq!((app.count(), hurried.timed_out()), (0, 1.0));
    }
}

#[test]
fn content_that_stops_coming_is_answered_408_and_the_app_never_sees_its_end() {
    let app = Origin::saying("app");
    for (turn, hurried) in Hurried::both(&app, "body").into_iter().enumerate() {
        let mut client = hurried.client();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n01234");
        assert_eq!(client.answer().status, 408);
        assert!(client.is_closed());
        assert_eq!(hurried.timed_out(), 1.0);
        let open = "sidegate_upstream_connections{upstream=\"app\"}";
        until("the connection to the app given up", || hurried.sidegate.metric(open) == 0.0);
        assert!(app.count() == turn + 1 && app.last().content.is_empty(), "no whole request");
    }
}

#[test]
fn an_idle_connection_is_closed_and_that_is_no_time_out_of_a_request() {
    let app = Origin::saying("app");
    for hurried in Hurried::both(&app, "idle") {
        let mut client = hurried.client();
        assert_eq!(client.get("/").status, 200);
        assert!(client.is_closed());
        assert_eq!(hurried.timed_out(), 0.0);
    }
}

#[test]
fn a_connection_that_never_says_anything_is_closed() {
    let app = Origin::saying("app");
    for hurried in Hurried::both(&app, "header") {
        // Over TLS not even the handshake comes.
        let mut silent = Client::to(hurried.sidegate.address());
        assert!(silent.is_closed());
        assert_eq!((app.count(), hurried.timed_out()), (0, 1.0));
    }
}

#[test]
fn a_few_bytes_that_may_become_http_2_are_not_waited_for_for_ever() {
    let app = Origin::saying("app");
    let hurried = &Hurried::both(&app, "header")[0];
    let mut client = hurried.client();
    client.send("PRI * HTTP/2.0\r\n");
    assert!(client.is_closed());
    assert_eq!(hurried.timed_out(), 1.0);
}

#[test]
fn an_answer_that_nobody_reads_is_given_up_and_so_is_the_connection_to_the_app() {
    let app = Origin::scripted(|wire| {
        while wire.request()?.is_some() {
            wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 64 << 20).as_bytes())?;
            wire.send(&vec![b'x'; 64 << 20])?;
        }
        Ok(())
    });
    for hurried in Hurried::both(&app, "write") {
        let mut client = hurried.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.head().status, 200);
        until("an end to it", || hurried.timed_out() == 1.0);
        let open = "sidegate_upstream_connections{upstream=\"app\"}";
        until("the connection to the app given up", || hurried.sidegate.metric(open) == 0.0);
        let line = hurried.sidegate.access_log(|line| line["end"] == "abandoned");
        assert_eq!(line["status"], 200);
    }
}

#[test]
fn what_a_client_does_not_read_is_kept_by_the_app_and_not_by_the_kernel() {
    const WHOLE: u64 = 64 << 20;
    let app = Origin::scripted(move |wire| {
        while wire.request()?.is_some() {
            wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {WHOLE}\r\n\r\n").as_bytes())?;
            (0..WHOLE >> 16).try_for_each(|_| wire.send(&[b'x'; 1 << 16]))?;
        }
        Ok(())
    });
    // What waits in the kernel for a client that does not read, under the smallest bound and under none to speak of.
    let waiting = |bound: &str| {
        let sidegate = Configuration::of(&app).server(&format!("max_unsent = {bound:?}")).start();
        let stream = TcpStream::connect(sidegate.address()).unwrap();
        let (from, to) = (stream.peer_addr().unwrap().port(), stream.local_addr().unwrap().port());
        let mut client = Client::over(Box::new(stream));
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        client.head();
        // On a busy machine it may stand still for a moment in between.
        let (mut seen, mut times) = (0, 0);
        until("the kernel to be full", || {
            std::thread::sleep(std::time::Duration::from_millis(200));
            let now = unacknowledged(from, to);
            times = if now > 0 && std::mem::replace(&mut seen, now) == now { times + 1 } else { 0 };
            times == 4
        });
        seen
    };
    let (least, most) = (waiting("16 KiB"), waiting("1 GiB"));
    assert!(least < 512 << 10 && most > 2 * least, "{least} and {most}");
}

/// Bytes in the kernel that the socket of `local` has not got rid of to `remote` (`/proc/net/tcp`, tx_queue).
fn unacknowledged(local: u16, remote: u16) -> u64 {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let (local, remote) = (format!(":{local:04X}"), format!(":{remote:04X}"));
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut ours = rows.filter(|row| row[1].ends_with(&local) && row[2].ends_with(&remote));
    let queues = ours.next().expect("the connection is in the table")[4].to_owned();
    u64::from_str_radix(queues.split(':').next().unwrap(), 16).unwrap()
}
