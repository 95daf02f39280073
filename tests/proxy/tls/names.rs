//! Which certificate is shown, which versions and protocols are spoken, and where.

use rustls::SignatureScheme;
use rustls::version::{TLS12, TLS13};

use super::{door, pair, secured, telling};
use crate::harness::tls::{Asking, Authority, Door, Identity};
use crate::harness::{Configuration, Directory, Origin, Sidegate, http2, until};

struct Names {
    sidegate: Sidegate,
    first: Identity,
    second: Identity,
    wild: Identity,
    _app: Origin,
    _directory: Directory,
}

/// Three certificates: for `a.test`; for `b.test`, which only the file says; for `*.wild.test`.
fn three(more: &str) -> Names {
    let (app, directory, authority) = (Origin::saying("app"), Directory::new(), Authority::new("servers"));
    let (first, second) = (authority.server(&["a.test"]), authority.server(&["b.test", "x.wild.test"]));
    let wild = authority.server(&["*.wild.test"]);
    for (name, identity) in [("a", &first), ("b", &second), ("wild", &wild)] {
        identity.write(&directory, name);
    }
    let [a, b, c] = ["a", "b", "wild"].map(|name| pair(&directory, name));
    let tls = format!("tls = {{ {a}, certificates = [{{ {b}, names = [\"B.test\"] }}, {{ {c} }}]{more} }}");
    let sidegate = Configuration::of(&app).server(&tls).start();
    Names { sidegate, first, second, wild, _app: app, _directory: directory }
}

#[test]
fn the_name_asked_for_chooses_the_certificate() {
    let names = three("");
    let shown = |name: &str| {
        let door = Door::to(names.sidegate.address(), &Asking::for_name(name));
        assert_eq!(door.client().get("/").text(), "app", "{name}");
        door.last().leaf
    };
    assert_eq!(shown("a.test"), Some(names.first.leaf.clone()));
    assert_eq!(shown("b.test"), Some(names.second.leaf.clone()));
    assert_eq!(shown("y.wild.test"), Some(names.wild.leaf.clone()));
    assert_eq!(shown("x.wild.test"), Some(names.wild.leaf.clone()), "`names` stand in place of the certificate's own");
    for unknown in ["wild.test", "x.y.wild.test", "other.test", "127.0.0.1"] {
        assert_eq!(shown(unknown), Some(names.first.leaf.clone()), "{unknown}");
    }
}

#[test]
fn an_unknown_name_and_none_can_be_refused() {
    let names = three(", unknown_name = \"refuse\"");
    let door = |name: &str| Door::to(names.sidegate.address(), &Asking::for_name(name));
    assert_eq!(door("b.test").client().get("/").text(), "app");
    for unknown in ["other.test", "x.y.wild.test", "127.0.0.1"] {
        let said = door(unknown).refused();
        assert!(said.contains("AccessDenied"), "{unknown}: {said}");
    }
    let failed = || names.sidegate.metric("sidegate_tls_handshakes_total{outcome=\"failed\"}");
    until("three failed handshakes", || failed() == 3.0);
    assert_eq!(names.sidegate.metric("sidegate_tls_handshakes_total{outcome=\"full\"}"), 1.0);
}

#[test]
fn alpn_settles_on_http2_where_it_is_on() {
    let (app, directory) = (Origin::saying("app"), Directory::new());
    let settled = |sidegate: &Sidegate, offered: &[&str]| {
        let door = Door::to(sidegate.address(), &Asking::for_name("localhost").offering(offered));
        let _client = door.client();
        until("a handshake", || !door.handshakes().is_empty());
        door.last().alpn
    };
    let on = secured(&app, &directory, "").0.start();
    assert_eq!(settled(&on, &["h2", "http/1.1"]), Some("h2".into()));
    assert_eq!(settled(&on, &["http/1.1"]), Some("http/1.1".into()));
    assert_eq!(settled(&on, &[]), None);
    let off = secured(&app, &directory, ", http2 = false").0.start();
    assert_eq!(settled(&off, &["h2", "http/1.1"]), Some("http/1.1".into()));
    let said = Door::to(off.address(), &Asking::for_name("localhost").offering(&["h2"])).refused();
    assert!(said.contains("NoApplicationProtocol"), "{said}");
    let door = Door::to(on.address(), &Asking::for_name("localhost").offering(&["h2"]));
    let request = http::Request::get("https://localhost/").body(bytes::Bytes::new()).expect("a request");
    assert_eq!(http2::ask(&door.address(), vec![(request, None)])[0].content, "app");
}

#[test]
fn a_version_below_the_oldest_is_refused() {
    let (app, directory) = (Origin::saying("app"), Directory::new());
    let old = || Asking::for_name("localhost").only(&TLS12);
    let both = secured(&app, &directory, "").0.start();
    assert_eq!(Door::to(both.address(), &old()).client().get("/").text(), "app");
    let new = secured(&app, &directory, ", min_version = \"1.3\"").0.start();
    let said = Door::to(new.address(), &old()).refused();
    assert!(said.contains("ProtocolVersion"), "{said}");
    assert_eq!(Door::to(new.address(), &Asking::for_name("localhost").only(&TLS13)).client().get("/").text(), "app");
}

#[test]
fn tls_and_cleartext_listen_side_by_side() {
    let (app, directory) = (telling(), Directory::new());
    let (configuration, identity) = secured(&app, &directory, "");
    // Three addresses of this machine, since each has a port of its own to choose.
    let configuration = configuration.listen("http://127.0.0.2:0").listen("https://127.0.0.3:0");
    let mut sidegate = configuration.start();
    let places = sidegate.addresses().to_vec();
    let over_tls = |place: &str| {
        let door = Door::to(place, &Asking::for_name("localhost"));
        assert_eq!(door.client().get("/").status, 200);
        door.last().leaf
    };
    assert_eq!(over_tls(&places[0]), Some(identity.leaf.clone()));
    assert_eq!(over_tls(&places[2]), Some(identity.leaf));
    assert_eq!(crate::harness::Client::to(&places[1]).get("/").status, 200);
    assert_eq!(app.last().field("x-forwarded-proto"), Some("http"));
    // What a listener speaks changes without it being opened anew.
    sidegate.reload(&configuration.text().replace("http://127.0.0.2", "https://127.0.0.2"));
    over_tls(&places[1]);
    assert_eq!(app.last().field("x-forwarded-proto"), Some("https"));
    assert_eq!(door(&sidegate).client().get("/").status, 200);
}

#[test]
fn of_two_certificates_for_one_name_the_client_gets_one_it_can_verify() {
    let (app, directory, authority) = (Origin::saying("app"), Directory::new(), Authority::new("servers"));
    let names = rcgen::CertificateParams::new(vec!["localhost".into()]).expect("a name").subject_alt_names;
    let of_kind = |kind| {
        let key = rcgen::KeyPair::generate_for(kind).expect("a key");
        authority.sign_for(key, |params| params.subject_alt_names = names.clone())
    };
    let (modern, usual) = (of_kind(&rcgen::PKCS_ED25519), of_kind(&rcgen::PKCS_ECDSA_P256_SHA256));
    modern.write(&directory, "modern");
    usual.write(&directory, "usual");
    let [first, second] = ["modern", "usual"].map(|name| pair(&directory, name));
    let tls = format!("tls = {{ {first}, certificates = [{{ {second} }}] }}");
    let sidegate = Configuration::of(&app).server(&tls).start();
    let shown = |scheme| {
        let door = Door::to(sidegate.address(), &Asking::for_name("localhost").verifying(&[scheme]));
        assert_eq!(door.client().get("/").text(), "app");
        door.last().leaf
    };
    assert_eq!(shown(SignatureScheme::ED25519), Some(modern.leaf));
    assert_eq!(shown(SignatureScheme::ECDSA_NISTP256_SHA256), Some(usual.leaf));
}
