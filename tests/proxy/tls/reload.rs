//! Certificates are replaced while connections go on.

use super::{door, secured};
use crate::harness::tls::{Authority, replace};
use crate::harness::{Directory, Origin, until};

#[test]
fn an_open_connection_goes_on_and_a_new_one_gets_the_new_certificate() {
    let (app, directory) = (Origin::saying("app"), Directory::new());
    let (configuration, first) = secured(&app, &directory, "");
    let sidegate = configuration.start();
    let old = door(&sidegate);
    let mut open = old.client();
    assert_eq!(open.get("/").text(), "app");
    let second = Authority::new("others").server(&["localhost"]);
    // Nobody is told: the files are watched.
    second.write(&directory, "server");
    let shown = || {
        let door = door(&sidegate);
        door.client().get("/");
        door.last().leaf
    };
    until("the new certificate", || shown() == Some(second.leaf.clone()));
    assert_eq!(open.get("/").text(), "app");
    assert_eq!((old.handshakes().len(), old.last().leaf), (1, Some(first.leaf)));
    // It lasts longer than anybody needs: the metric says when the first one ends.
    assert_eq!(sidegate.metric("sidegate_tls_certificate_expiry_seconds"), 67_090_118_400.0);
    let changes = sidegate.logged("changed: server: tls.certificates");
    assert_eq!(changes.len(), 1, "{changes:?}");
}

#[test]
fn a_bad_certificate_keeps_the_old_one_and_says_why() {
    let (app, directory) = (Origin::saying("app"), Directory::new());
    let (configuration, first) = secured(&app, &directory, "");
    let mut sidegate = configuration.start();
    let others = Authority::new("others");
    let good = others.server(&["localhost"]);
    let expired = others.sign(|params| params.not_after = rcgen::date_time_ymd(2001, 1, 1));
    for (certificate, key, reason) in [
        (&good.certificate, "", "holds no private key"),
        (&good.certificate, &*expired.key, "does not match the certificate"),
    ] {
        replace(directory.file("server.pem"), certificate);
        replace(directory.file("server.key"), key);
        let said = sidegate.reload_in_vain(&configuration.text());
        assert!(said.contains(reason) && said.contains("sidegate.toml:3:"), "{reason}: {said}");
        assert!(!said.contains("BEGIN"), "{said}");
        let door = door(&sidegate);
        assert_eq!(door.client().get("/").text(), "app");
        assert_eq!(door.last().leaf, Some(first.leaf.clone()));
    }
    assert!(sidegate.metric("sidegate_config_reloads_total{outcome=\"failed\"}") >= 2.0);
    // One that has expired is no reason to refuse a configuration: it is shown, and warned of.
    replace(directory.file("server.pem"), &expired.certificate);
    replace(directory.file("server.key"), &expired.key);
    let shown = directory.file("server.pem").display().to_string();
    sidegate.wait_for_log(&format!("{shown} expired on 2001-01-01: clients will refuse it"));
    good.write(&directory, "server");
    until("the mended files in force", || {
        let door = door(&sidegate);
        door.client().get("/");
        door.last().leaf == Some(good.leaf.clone())
    });
}

#[test]
fn a_certificate_that_is_gone_is_complained_of_and_nothing_else_stops() {
    let (app, directory) = (Origin::saying("app"), Directory::new());
    let (configuration, identity) = secured(&app, &directory, "");
    let sidegate = configuration.start();
    std::fs::remove_file(directory.file("server.pem")).expect("a file to remove");
    until("a failed reload", || !sidegate.logged("reload failed").is_empty());
    let said = sidegate.logged("reload failed")[0].to_string();
    assert!(said.contains("cannot read") && said.contains("server.pem"), "{said}");
    assert_eq!(door(&sidegate).client().get("/").text(), "app");
    // The configuration is still watched, and so is the place where the certificate was.
    sidegate.write(&configuration.text().replace("[admin]", "max_streams = 77\n[admin]"));
    until("another failed reload", || sidegate.logged("reload failed").len() > 1);
    identity.write(&directory, "server");
    until("the configuration in force", || !sidegate.logged("changed: server: max_streams").is_empty());
}
