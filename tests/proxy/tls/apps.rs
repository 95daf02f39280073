//! TLS toward the app.

use rustls::version::TLS12;

use crate::harness::tls::{Authority, Front, Identity, replace};
use crate::harness::{Configuration, Directory, Origin, Sidegate, until};

/// sidegate in front of an https app that believes the authority in `ca.pem`, with `more` in its `tls`.
fn believing(url: &str, directory: &Directory, authority: &Authority, more: &str) -> Configuration {
    replace(directory.file("ca.pem"), &authority.pem());
    let ca = directory.file("ca.pem").display().to_string();
    Configuration::to(url).upstream(&format!("tls = {{ ca = {ca:?}{more} }}"))
}

/// The `Proxy-Status` of a 502, and what the log says about the certificate.
fn failure(sidegate: &mut Sidegate) -> (String, String) {
    let answer = sidegate.get("/");
    assert_eq!(answer.status, 502, "{answer:?}");
    let line = sidegate.wait_for_log("TLS handshake with the app failed");
    let status = answer.field("proxy-status").unwrap_or_default().to_owned();
    let logged = sidegate.access_log(|line| line["status"] == 502);
    assert_eq!(
        Some(format!("sidegate; error={}", logged["upstream_error"].as_str().unwrap_or_default())),
        Some(status.clone())
    );
    (status, line["certificate"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn an_app_under_our_own_authority_is_reached_by_its_name() {
    let (app, directory, authority) = (Origin::saying("app"), Directory::new(), Authority::new("apps"));
    let front = Front::before(&app, &authority.server(&["localhost", "app.internal"]), None);
    let by_host = believing(&front.url(), &directory, &authority, "").start();
    assert_eq!(by_host.get("/").text(), "app");
    let by_name = believing(&front.url(), &directory, &authority, ", server_name = \"app.internal\"").start();
    assert_eq!(by_name.get("/").text(), "app");
    let by_address = Front::before(&app, &authority.server(&["127.0.0.1"]), None);
    let url = by_address.url().replace("localhost", "127.0.0.1");
    assert_eq!(believing(&url, &directory, &authority, "").start().get("/").text(), "app");
    assert_eq!(by_address.handshakes()[0].name, None, "an address is no name to ask for");
    let heard: Vec<_> = front.handshakes().into_iter().map(|heard| (heard.name, heard.alpn)).collect();
    let one = |name: &str| (Some(name.to_owned()), Some("http/1.1".to_owned()));
    assert_eq!(heard, [one("localhost"), one("app.internal")]);
}

#[test]
fn what_is_wrong_with_the_apps_certificate_is_told_apart_in_the_log() {
    let (app, directory, authority) = (Origin::saying("app"), Directory::new(), Authority::new("apps"));
    let named = |make: fn(&mut rcgen::CertificateParams)| {
        authority.sign(|params| {
            params.subject_alt_names =
                rcgen::CertificateParams::new(vec!["localhost".into()]).expect("a name").subject_alt_names;
            make(params);
        })
    };
    let cases: [(Identity, &str); 4] = [
        (Authority::new("strangers").server(&["localhost"]), "unknown authority"),
        (authority.server(&["other.test"]), "for another name"),
        (named(|params| params.not_after = rcgen::date_time_ymd(2001, 1, 1)), "expired"),
        (named(|params| params.not_before = rcgen::date_time_ymd(4000, 1, 1)), "not valid yet"),
    ];
    for (identity, reason) in cases {
        let front = Front::before(&app, &identity, None);
        let mut sidegate = believing(&front.url(), &directory, &authority, "").start();
        let told = failure(&mut sidegate);
        assert_eq!(told, ("sidegate; error=tls_certificate_error".into(), reason.into()));
        let errors = "sidegate_upstream_errors_total{upstream=\"app\",error=\"tls_certificate_error\"}";
        assert_eq!(sidegate.metric(errors), 1.0);
    }
    assert_eq!(app.count(), 0);
}

#[test]
fn the_systems_authorities_do_not_count_beside_our_own_unless_asked_for() {
    let (app, directory, authority) = (Origin::saying("app"), Directory::new(), Authority::new("apps"));
    let front = Front::before(&app, &authority.server(&["localhost"]), None);
    replace(directory.file("ca.pem"), &authority.pem());
    let ca = directory.file("ca.pem").display().to_string();
    let both = Configuration::to(&front.url()).upstream(&format!("tls = {{ ca = [\"system\", {ca:?}] }}")).start();
    assert_eq!(both.get("/").text(), "app");
    let mut system = Configuration::to(&front.url()).start();
    assert_eq!(failure(&mut system).1, "unknown authority");
}

#[test]
fn an_app_that_asks_who_we_are_is_told() {
    let (app, directory, authority) = (Origin::saying("app"), Directory::new(), Authority::new("apps"));
    let front = Front::before(&app, &authority.server(&["localhost"]), Some(&authority));
    let own = authority.client("sidegate");
    own.write(&directory, "own");
    let shown = format!(", {}", super::pair(&directory, "own"));
    let sidegate = believing(&front.url(), &directory, &authority, &shown).start();
    assert_eq!(sidegate.get("/").text(), "app");
    assert_eq!(front.handshakes()[0].leaf, Some(own.leaf));
    let nameless = believing(&front.url(), &directory, &authority, "").start();
    let answer = nameless.get("/");
    assert_eq!((answer.status, answer.field("proxy-status")), (502, Some("sidegate; error=tls_alert_received")));
    assert_eq!(app.count(), 1);
}

#[test]
fn what_is_no_certificate_error_is_not_called_one() {
    let (app, directory, authority) = (Origin::saying("app"), Directory::new(), Authority::new("apps"));
    // It answers a handshake as the bad request that it is.
    let cleartext = Origin::scripted(|wire| {
        wire.some()?;
        wire.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")?;
        wire.wait_for_end()
    });
    let url = cleartext.url().replace("http://127.0.0.1", "https://localhost");
    let mut sidegate = believing(&url, &directory, &authority, "").start();
    assert_eq!(failure(&mut sidegate).0, "sidegate; error=tls_protocol_error");
    let old = Front::speaking(&app, &authority.server(&["localhost"]), None, &[&TLS12]);
    let mut strict = believing(&old.url(), &directory, &authority, ", min_version = \"1.3\"").start();
    assert_eq!(failure(&mut strict).0, "sidegate; error=tls_alert_received");
    assert_eq!(believing(&old.url(), &directory, &authority, "").start().get("/").text(), "app");
}

#[test]
fn verification_is_off_only_by_its_loud_name() {
    let app = Origin::saying("app");
    let front = Front::before(&app, &Authority::new("strangers").server(&["other.test"]), None);
    let configuration = Configuration::to(&front.url()).upstream("tls = { danger_accept_any_certificate = true }");
    let mut sidegate = configuration.start();
    assert_eq!(sidegate.get("/").text(), "app");
    assert_eq!(sidegate.logged("any certificate is accepted").len(), 1, "at the start");
    sidegate.reload(&configuration.text());
    assert_eq!(sidegate.logged("any certificate is accepted").len(), 2, "and at each reload");
}

#[test]
fn sessions_with_the_app_are_taken_up_again_by_all_workers() {
    let (app, directory, authority) = (Origin::saying("app"), Directory::new(), Authority::new("apps"));
    let front = Front::before(&app, &authority.server(&["localhost"]), None);
    let sidegate = believing(&front.url(), &directory, &authority, "").server("workers = 4").start();
    for turn in 1..=8 {
        assert_eq!(sidegate.get("/").text(), "app");
        app.hang_up();
        let open = "sidegate_upstream_connections{upstream=\"app\"}";
        until("the connection to the app gone", || sidegate.metric(open) == 0.0);
        assert_eq!(front.handshakes().len(), turn);
    }
    let resumed: Vec<bool> = front.handshakes().iter().map(|handshake| handshake.resumed).collect();
    assert_eq!(resumed, (0..8).map(|turn| turn > 0).collect::<Vec<_>>());
}

#[test]
fn a_replaced_authority_is_taken_up_and_a_bad_one_is_not() {
    let (app, directory, authority) = (Origin::saying("app"), Directory::new(), Authority::new("apps"));
    let front = Front::before(&app, &authority.server(&["localhost"]), None);
    let configuration = believing(&front.url(), &directory, &Authority::new("strangers"), "");
    let mut sidegate = configuration.start();
    assert_eq!(failure(&mut sidegate).1, "unknown authority");
    replace(directory.file("ca.pem"), "nothing");
    let said = sidegate.reload_in_vain(&configuration.text());
    assert!(said.contains("holds no certificate in PEM"), "{said}");
    replace(directory.file("ca.pem"), &authority.pem());
    until("the new authority believed", || sidegate.get("/").status == 200);
}

#[test]
fn websockets_and_streams_pass_over_tls_on_both_sides() {
    let app = Origin::scripted(|wire| {
        let Some(head) = wire.head()? else { return Ok(()) };
        if head.field("upgrade").is_some() {
            wire.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")?;
            loop {
                let some = wire.some()?;
                if some.is_empty() {
                    return Ok(());
                }
                wire.send(&some)?;
            }
        }
        // Each piece is sent once the piece before has been answered by one of the request's.
        wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        for _ in 0..3 {
            wire.exactly(9)?;
            wire.send(b"4\r\npong\r\n")?;
        }
        wire.send(b"0\r\n\r\n")
    });
    let (directory, authority) = (Directory::new(), Authority::new("apps"));
    let front = Front::before(&app, &authority.server(&["localhost"]), None);
    authority.server(&["localhost"]).write(&directory, "server");
    let tls = format!("tls = {{ {} }}", super::pair(&directory, "server"));
    let sidegate = believing(&front.url(), &directory, &authority, "").server(&tls).start();
    let door = super::door(&sidegate);
    let mut socket = door.client();
    socket.send(
        "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    assert_eq!(socket.head().status, 101);
    let large = vec![b'x'; 200_000];
    for bytes in [&b"hello"[..], &large] {
        socket.send(bytes);
        assert!(socket.exactly(bytes.len()) == bytes);
    }
    socket.end();
    assert!(socket.is_closed());
    let mut stream = door.client();
    stream.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..3 {
        stream.send("4\r\nping\r\n");
        stream.read_until("pong");
    }
    stream.send("0\r\n\r\n");
}
