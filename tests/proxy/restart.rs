//! One sidegate after another, under load: by sockets that a supervisor keeps, and by a port that two share.
//!
//! What counts as lost: a request that was sent and not answered, and a connection that was refused. HTTP lets a server close
//! an idle connection at any moment, and leaves the request that crosses it to the client to repeat (RFC 9112 §9.3.1); these
//! clients ask every few milliseconds, so sidegate owes each of them a last answer with `Connection: close`, and nothing is
//! left to be repeated.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::harness::load::Tally;
use crate::harness::sidegate::command;
use crate::harness::{Client, Configuration, Directory, Load, Origin, PATIENCE, Sidegate, client::request, until};

/// A listening socket as systemd opens it.
fn listening() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
    socket.listen(4096).expect("a listening socket");
    let address = socket.local_addr().ok().and_then(|address| address.as_socket()).expect("its address");
    (socket, address)
}

/// sidegate with this socket as file descriptor 3, and told so.
fn activated(socket: RawFd) -> Command {
    let binary = command();
    let mut shell = Command::new("sh");
    // The process id is known to the shell that becomes sidegate, and to nobody before.
    shell.args(["-c", "LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" \"$@\""]).arg(binary.get_program());
    shell.env_remove("REDIS_URL").env_remove("RUST_LOG");
    // SAFETY: between fork and exec only async-signal-safe calls are made.
    unsafe {
        shell.pre_exec(move || {
            let passed = if socket == 3 { libc::fcntl(3, libc::F_SETFD, 0) } else { libc::dup2(socket, 3) };
            if passed < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
        });
    }
    shell
}

/// Clients that keep their connections, and clients that take a new one for each request.
struct Both(Load, Load);

impl Both {
    fn start(address: &str) -> Self {
        let load = |connections, fields: &'static [(&'static str, &'static str)]| {
            let ask = move |_, _| request("GET", "/", fields, b"");
            Load::start(address, connections, ask, |answer| answer.text() == "app")
        };
        Self(load(6, &[]), load(6, &[("Connection", "close")]))
    }

    fn wait_for_more(&self, answers: u64) {
        self.0.wait_for_more(answers);
        self.1.wait_for_more(answers);
    }

    fn finish_without_loss(self) {
        for Tally { answers, failures, wrong, refused, .. } in [self.0.finish(), self.1.finish()] {
            assert_eq!((&failures, wrong, refused), (&Vec::new(), 0, 0), "of {answers:?}");
            assert_eq!(answers.keys().collect::<Vec<_>>(), [&200], "{answers:?}");
        }
    }
}

#[test]
fn a_restart_over_a_socket_that_is_handed_over_loses_no_request() {
    let app = Origin::saying("app");
    let (socket, address) = listening();
    let text = Configuration::of(&app).text().replacen("127.0.0.1:0", &address.to_string(), 1);
    let start = || Sidegate::start_by(&text, activated(socket.as_raw_fd()));
    let mut running = start();
    assert_eq!(running.address(), address.to_string());
    let load = Both::start(&address.to_string());
    for overlapping in [true, false, true, false] {
        load.wait_for_more(100);
        if overlapping {
            let mut before = std::mem::replace(&mut running, start());
            assert_eq!(before.terminate().code(), Some(0));
        } else {
            // As `systemctl restart` does it: who comes meanwhile waits in the socket.
            assert_eq!(running.terminate().code(), Some(0));
            running = start();
        }
    }
    load.wait_for_more(100);
    load.finish_without_loss();
}

#[test]
fn a_successor_at_the_same_port_takes_over_without_loss() {
    let app = Origin::saying("app");
    let shared = Configuration::of(&app).server("share_port = true");
    let mut running = shared.start();
    let address = running.address().to_owned();
    let text = shared.text().replacen("127.0.0.1:0", &address, 1);
    let load = Both::start(&address);
    for _ in 0..4 {
        load.wait_for_more(100);
        let mut before = std::mem::replace(&mut running, Sidegate::start(&text));
        load.wait_for_more(100);
        assert_eq!(before.terminate().code(), Some(0));
    }
    load.wait_for_more(100);
    load.finish_without_loss();
}

#[test]
fn a_successor_at_the_same_unix_socket_takes_over() {
    let (app, directory) = (Origin::saying("app"), Directory::new());
    let place = format!("unix:{}", directory.file("socket").display());
    let shared = Configuration::of(&app).server("share_port = true").listen(&place);
    let mut before = shared.start();
    let mut kept = Client::to(&place);
    assert_eq!(kept.get("/").status, 200);
    let after = shared.start();
    before.terminate();
    assert_eq!(Client::to(&place).get("/").status, 200);
    assert_eq!(after.metric("sidegate_connections_total"), 1.0);
}

#[test]
fn a_port_is_shared_only_where_it_is_said() {
    let app = Origin::saying("app");
    let first = Configuration::of(&app).server("share_port = true").start();
    let text = Configuration::of(&app).text().replacen("127.0.0.1:0", first.address(), 1);
    let directory = Directory::new();
    let file = directory.file("sidegate.toml");
    std::fs::write(&file, text).expect("a configuration");
    let mut second = Sidegate::spawn(directory, command().arg("run").arg("--config").arg(file));
    assert_eq!(second.wait().code(), Some(1));
    until("the reason", || second.errors().contains("in use"));
}

#[test]
fn at_a_shared_admin_port_the_successor_alone_answers_once_the_other_stops() {
    let app = Origin::saying("app");
    // Stopping takes as long as this holds on to its connection.
    let shared = Configuration::of(&app).server("share_port = true\ndrain_linger = \"60s\"");
    let before = shared.start();
    let mut idle = before.client();
    assert_eq!(idle.get("/").status, 200);
    let text = shared.text().replacen("127.0.0.1:0", before.address(), 1);
    let after = Sidegate::start(
        &text.replace("[admin]\nlisten = \"127.0.0.1:0\"", &format!("[admin]\nlisten = {:?}", before.admin())),
    );
    before.signal(libc::SIGTERM);
    let question = request("GET", "/readyz", &[("Host", before.admin())], b"");
    let ready = || {
        let asked = Client::try_to(before.admin()).and_then(|mut admin| {
            admin.try_send(&question)?;
            admin.try_answer_to("GET")
        });
        asked.is_ok_and(|answer| answer.status == 200)
    };
    until("ten ready answers one after the other", || (0..10).all(|_| ready()));
    assert_eq!(after.ask_admin("/livez").status, 200);
    assert_eq!(idle.get("/").field("connection"), Some("close"), "the one before it still answers who asks");
}

#[test]
fn a_socket_that_listen_does_not_name_is_an_error() {
    let app = Origin::saying("app");
    let (socket, address) = listening();
    let directory = Directory::new();
    let file = directory.file("sidegate.toml");
    std::fs::write(&file, Configuration::of(&app).text()).expect("a configuration");
    let mut sidegate = Sidegate::spawn(directory, activated(socket.as_raw_fd()).arg("run").arg("--config").arg(file));
    assert_eq!(sidegate.wait().code(), Some(1));
    let named = format!("the supervisor passed a socket for {address}, which server.listen does not name: 127.0.0.1:0");
    until("the reason", || sidegate.errors().contains(&named));
    let datagrams = UdpSocket::bind("127.0.0.1:0").expect("a socket of the wrong kind");
    let directory = Directory::new();
    let file = directory.file("sidegate.toml");
    std::fs::write(&file, Configuration::of(&app).text()).expect("a configuration");
    let mut sidegate =
        Sidegate::spawn(directory, activated(datagrams.as_raw_fd()).arg("run").arg("--config").arg(file));
    assert_eq!(sidegate.wait().code(), Some(1));
    until("the reason", || sidegate.errors().contains("no listening stream socket"));
}

#[test]
fn the_supervisor_is_told_of_start_reload_and_stop() {
    let (app, directory) = (Origin::saying("app"), Directory::new());
    let place = directory.file("notify");
    let supervisor = UnixDatagram::bind(&place).expect("a socket for notifications");
    supervisor.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let heard = || {
        let mut buffer = [0; 512];
        let length = supervisor.recv(&mut buffer).expect("a notification");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let config = Configuration::of(&app);
    let mut started = command();
    started.env("NOTIFY_SOCKET", &place);
    let mut sidegate = Sidegate::start_by(&config.text(), started);
    assert_eq!(heard(), "READY=1\n");
    sidegate.reload(&config.text().replace("[upstream.app]\n", "[upstream.app]\nmax_connections = 77\n"));
    assert!(heard().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(heard(), "READY=1\n");
    assert_eq!(sidegate.terminate().code(), Some(0));
    assert_eq!(heard(), "STOPPING=1\n");
}

#[test]
fn the_supervisor_gets_signs_of_life_where_it_wants_them_and_none_from_a_process_that_hangs() {
    let (app, directory) = (Origin::saying("app"), Directory::new());
    let place = directory.file("notify");
    let supervisor = UnixDatagram::bind(&place).expect("a socket for notifications");
    supervisor.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let heard = || {
        let mut buffer = [0; 512];
        supervisor.recv(&mut buffer).map(|length| String::from_utf8_lossy(&buffer[..length]).into_owned())
    };
    let mut started = command();
    started.env("NOTIFY_SOCKET", &place).env("WATCHDOG_USEC", "200000");
    let sidegate = Sidegate::start_by(&Configuration::of(&app).text(), started);
    assert_eq!(heard().expect("a notification"), "READY=1\n");
    (0..5).for_each(|_| assert_eq!(heard().expect("a sign of life"), "WATCHDOG=1\n"));
    sidegate.signal(libc::SIGSTOP);
    supervisor.set_nonblocking(true).expect("an option");
    until("no further sign", || {
        std::thread::sleep(Duration::from_millis(400));
        heard().is_err()
    });
    sidegate.signal(libc::SIGCONT);
    until("another sign", || heard().is_ok_and(|said| said == "WATCHDOG=1\n"));
}

#[test]
fn while_it_is_not_ready_everything_else_goes_on_for_drain_delay() {
    let app = Origin::saying("app");
    let mut sidegate = Configuration::of(&app).server("drain_delay = \"60s\"").start();
    let mut kept = sidegate.client();
    assert_eq!(kept.get("/").status, 200);
    sidegate.signal(libc::SIGTERM);
    until("/readyz to be 503", || sidegate.ask_admin("/readyz").status == 503);
    for answer in [kept.get("/"), sidegate.get("/"), kept.get("/")] {
        assert_eq!((answer.status, answer.field("connection")), (200, None));
    }
    assert_eq!(sidegate.terminate().code(), Some(0), "told twice: at once");
}

#[test]
fn an_idle_connection_may_ask_once_more_while_the_process_stops() {
    let app = Origin::saying("app");
    let certified = crate::harness::secure::Certified::new();
    let lingering = "drain_linger = \"60s\"\npark_after = \"50ms\"";
    for (tls, lines) in [(false, String::new()), (true, certified.line())] {
        let mut sidegate = Configuration::of(&app).server(lingering).server(&lines).start();
        let connect = || if tls { certified.client(sidegate.address(), b"") } else { sidegate.client() };
        // Parked, not yet parked, and without a request so far.
        let mut clients = [connect(), connect(), connect()];
        assert_eq!(clients[0].get("/").status, 200);
        std::thread::sleep(Duration::from_millis(150));
        assert_eq!(clients[1].get("/").status, 200);
        sidegate.signal(libc::SIGTERM);
        sidegate.wait_for_log("stopping");
        until("/readyz to be 503", || sidegate.ask_admin("/readyz").status == 503);
        for client in &mut clients {
            let answer = client.get("/");
            assert_eq!((answer.status, answer.field("connection")), (200, Some("close")));
            assert!(client.is_closed());
        }
    }
}

#[test]
fn a_reload_moves_from_one_address_to_all_of_them_and_back_without_loss() {
    let app = Origin::saying("app");
    let configuration = Configuration::of(&app);
    let first = configuration.start();
    let address = first.address().to_owned();
    drop(first);
    let one = configuration.text().replacen("127.0.0.1:0", &address, 1);
    let all = one.replacen(&address, &address.replace("127.0.0.1", "0.0.0.0"), 1);
    let mut sidegate = Sidegate::start(&one);
    let load = Both::start(&address);
    for text in [&all, &one, &all, &one] {
        load.wait_for_more(50);
        sidegate.reload(text);
    }
    load.wait_for_more(50);
    load.finish_without_loss();
}
