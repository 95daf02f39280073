//! Sessions are taken up again, across workers and reloads, and not beyond the rules they were made under.

use rustls::version::{TLS12, TLS13};

use super::{door, secured};
use crate::harness::client::request;
use crate::harness::tls::{Asking, Authority, Door, replace};
use crate::harness::{Directory, Origin, Sidegate, until};

const RESUMED: &str = "sidegate_tls_handshakes_total{outcome=\"resumed\"}";

/// One connection after the other; whether each was resumed.
fn resumed(door: &Door, times: usize) -> Vec<bool> {
    let before = door.handshakes().len();
    for _ in 0..times {
        assert_eq!(door.client().get("/").text(), "app");
    }
    door.handshakes()[before..].iter().map(|handshake| handshake.resumed).collect()
}

#[test]
fn whichever_worker_meets_the_client_again_takes_its_session_up() {
    let (app, directory) = (Origin::saying("app"), Directory::new());
    let sidegate = secured(&app, &directory, "").0.server("workers = 4").start();
    for version in [&TLS12, &TLS13] {
        let door = Door::to(sidegate.address(), &Asking::for_name("localhost").only(version));
        let expected: Vec<bool> = (0..12).map(|turn| turn > 0).collect();
        assert_eq!(resumed(&door, 12), expected, "{version:?}");
    }
    assert_eq!(sidegate.metric(RESUMED), 22.0);
}

#[test]
fn a_session_outlives_a_reload_and_a_new_certificate() {
    let (app, directory) = (Origin::saying("app"), Directory::new());
    let (configuration, _) = secured(&app, &directory, "");
    let mut sidegate = configuration.start();
    let door = door(&sidegate);
    assert_eq!(resumed(&door, 2), [false, true]);
    sidegate.reload(&configuration.text().replace("[admin]", "max_streams = 77\n[admin]"));
    assert_eq!(resumed(&door, 1), [true]);
    Authority::new("others").server(&["localhost"]).write(&directory, "server");
    sidegate.reload(&configuration.text());
    assert_eq!(resumed(&door, 1), [true]);
}

#[test]
fn no_session_outlives_the_authority_that_its_client_was_believed_for() {
    let (app, directory, authority) = (Origin::saying("app"), Directory::new(), Authority::new("clients"));
    replace(directory.file("ca.pem"), &authority.pem());
    let client = format!(", client = {{ ca = {:?} }}", directory.file("ca.pem").display().to_string());
    let (configuration, _) = secured(&app, &directory, &client);
    let mut sidegate: Sidegate = configuration.start();
    let asking = Asking::for_name("localhost").showing(&authority.client("alice"));
    let door = Door::to(sidegate.address(), &asking);
    assert_eq!(resumed(&door, 2), [false, true]);
    replace(directory.file("ca.pem"), &Authority::new("others").pem());
    sidegate.reload(&configuration.text());
    let said = door.refused();
    assert!(said.contains("UnknownCA"), "{said}");
    assert_eq!(sidegate.metric(RESUMED), 1.0);
}

#[test]
fn a_session_does_not_outlive_the_certificate_of_its_client() {
    let (app, directory, authority) = (Origin::saying("app"), Directory::new(), Authority::new("clients"));
    replace(directory.file("ca.pem"), &authority.pem());
    let client = format!(", client = {{ ca = {:?} }}", directory.file("ca.pem").display().to_string());
    let sidegate = secured(&app, &directory, &client).0.start();
    let end = std::time::SystemTime::now() + std::time::Duration::from_secs(5);
    let brief = authority.sign(|params| params.not_after = end.into());
    let door = Door::to(sidegate.address(), &Asking::for_name("localhost").showing(&brief));
    assert_eq!(door.client().get("/").text(), "app");
    until("the certificate refused", || {
        let mut client = door.client();
        let _ = client.try_send(&request("GET", "/", &[], b""));
        client.try_answer_to("GET").is_err()
    });
    assert!(door.last().resumed, "the handshake itself was taken up again");
    assert!(sidegate.metric("sidegate_tls_handshakes_total{outcome=\"failed\"}") >= 1.0);
}
