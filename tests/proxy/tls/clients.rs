//! Clients' certificates: who gets in, what the app is told, what limits and caches make of it.

use rustls::version::{TLS12, TLS13};
use sha2::{Digest, Sha256};

use super::{secured, telling};
use crate::harness::tls::{Asking, Authority, Door, Identity, replace};
use crate::harness::{Configuration, Directory, Origin, Reply, Sidegate, http2, until};

/// sidegate that asks for certificates of `authority`, and tells their subject, common name and digest.
fn asking(app: &Origin, directory: &Directory, authority: &Authority, mode: &str) -> Configuration {
    replace(directory.file("ca.pem"), &authority.pem());
    let client = format!(
        ", client = {{ ca = {:?}, mode = {mode:?}, forward = {{ X-Client-Subject = \"subject\", X-Client-CN = \"cn\" }} }}",
        directory.file("ca.pem").display().to_string()
    );
    secured(app, directory, &client).0
}

fn showing(sidegate: &Sidegate, identity: Option<&Identity>) -> Door {
    let asking = Asking::for_name("localhost");
    Door::to(sidegate.address(), &identity.map_or_else(|| Asking::for_name("localhost"), |of| asking.showing(of)))
}

#[test]
fn required_means_that_nobody_else_gets_in() {
    let (app, directory, authority) = (telling(), Directory::new(), Authority::new("clients"));
    let sidegate = asking(&app, &directory, &authority, "required").start();
    let alice = authority.client("alice");
    let stranger = Authority::new("strangers").client("alice");
    let expired = authority.sign(|params| params.not_after = rcgen::date_time_ymd(2001, 1, 1));
    for version in [&TLS12, &TLS13] {
        let door = |identity: Option<&Identity>| {
            let asking = Asking::for_name("localhost").only(version);
            let asking = if let Some(identity) = identity { asking.showing(identity) } else { asking };
            Door::to(sidegate.address(), &asking)
        };
        assert_eq!(door(Some(&alice)).client().get("/").text(), "x-client-cn=alice x-client-subject=CN=alice");
        for (identity, alert) in
            [(None, "CertificateRequired"), (Some(&stranger), "UnknownCA"), (Some(&expired), "CertificateExpired")]
        {
            let said = door(identity).refused();
            // TLS 1.2 has no alert of its own for a missing certificate.
            assert!(
                said.contains(alert) || (identity.is_none() && said.contains("HandshakeFailure")),
                "{alert}: {said}"
            );
        }
    }
    assert_eq!(app.count(), 2);
    let failed = || sidegate.metric("sidegate_tls_handshakes_total{outcome=\"failed\"}");
    until("six failed handshakes", || failed() == 6.0);
}

#[test]
fn optional_lets_nobody_in_as_somebody() {
    let (app, directory, authority) = (telling(), Directory::new(), Authority::new("clients"));
    let sidegate = asking(&app, &directory, &authority, "optional").start();
    let spoofed = [("X-Client-Subject", "CN=admin"), ("x-client-cn", "admin")];
    assert_eq!(showing(&sidegate, None).client().get_with("/", &spoofed).text(), "");
    let alice = authority.client("alice");
    let told = showing(&sidegate, Some(&alice)).client().get_with("/", &spoofed).text();
    assert_eq!(told, "x-client-cn=alice x-client-subject=CN=alice");
    let stranger = Authority::new("strangers").client("alice");
    let said = showing(&sidegate, Some(&stranger)).refused();
    assert!(said.contains("UnknownCA"), "{said}");
}

#[test]
fn a_spoofed_identity_field_is_removed_in_every_spelling_on_every_route_and_listener() {
    let (app, directory, authority) = (telling(), Directory::new(), Authority::new("clients"));
    let routes = "[[route]]\npath = \"/a\"\n[[route]]\npath = \"/{*rest}\"\nwebsocket = false\n";
    let sidegate = asking(&app, &directory, &authority, "optional").listen("http://127.0.0.2:0").with(routes).start();
    let spoofed = [
        ("X-Client-Subject", "CN=admin"),
        ("x_client_subject", "CN=admin"),
        ("X-CLIENT_SUBJECT", "CN=admin"),
        ("x.client.cn", "admin"),
        ("X-Client-CN", "admin"),
        ("X-Client-Other", "kept"),
    ];
    // Nor can it be had removed as a field of the connection (RFC 9110 §7.6.1).
    let hop_by_hop = [("Connection", "keep-alive, X-Client-CN, x-client-subject")];
    let alice = "x-client-cn=alice x-client-other=kept x-client-subject=CN=alice";
    let nobody = "x-client-other=kept";
    let known = showing(&sidegate, Some(&authority.client("alice")));
    let plain = || crate::harness::Client::to(&sidegate.addresses()[1]);
    for path in ["/a", "/b"] {
        assert_eq!(known.client().get_with(path, &spoofed).text(), alice);
        let told = known.client().get_with(path, &hop_by_hop).text();
        assert_eq!(told, "x-client-cn=alice x-client-subject=CN=alice");
        assert_eq!(showing(&sidegate, None).client().get_with(path, &spoofed).text(), nobody);
        assert_eq!(plain().get_with(path, &spoofed).text(), nobody);
    }
    let asking = Asking::for_name("localhost").offering(&["h2"]).showing(&authority.client("alice"));
    let over_http2 = Door::to(sidegate.address(), &asking);
    let mut request = http::Request::get("https://localhost/a");
    for (name, value) in spoofed {
        request = request.header(name.to_lowercase(), value);
    }
    let request = request.body(bytes::Bytes::new()).expect("a request");
    assert_eq!(http2::ask(&over_http2.address(), vec![(request, None)])[0].content, alice);
}

#[test]
fn what_a_certificate_says_cannot_break_out_of_its_field() {
    let (app, directory, authority) = (telling(), Directory::new(), Authority::new("clients"));
    let sidegate = asking(&app, &directory, &authority, "required").start();
    let hostile = authority.client("bob,O=Admins\r\nX-Admin: 1 Ä");
    let told = showing(&sidegate, Some(&hostile)).client().get("/").text();
    let expected = "x-client-cn=bob,O=Admins%0D%0AX-Admin: 1 %C3%84 \
                    x-client-subject=CN=bob\\,O\\=Admins\\0d\\0aX-Admin: 1 %C3%84";
    assert_eq!(told, expected);
    let nameless = authority.sign(|params| params.distinguished_name = rcgen::DistinguishedName::new());
    let told = showing(&sidegate, Some(&nameless)).client().get_with("/", &[("X-Client-CN", "admin")]).text();
    assert_eq!(told, "x-client-subject=", "no common name, no field");
}

#[test]
fn a_limit_can_count_by_certificate() {
    let (app, directory, authority) = (Origin::saying("app"), Directory::new(), Authority::new("clients"));
    let tables =
        "[limit.each]\nkey = \"certificate\"\nquota = \"3 per hour\"\n[[route]]\npath = \"/\"\nlimits = \"each\"\n";
    let sidegate = asking(&app, &directory, &authority, "optional").with(tables).start();
    let (alice, bob) = (authority.client("alice"), authority.client("bob"));
    let statuses = |identity: Option<&Identity>, times: usize| -> Vec<u16> {
        let door = showing(&sidegate, identity);
        (0..times).map(|_| door.client().get("/").status).collect()
    };
    assert_eq!(statuses(Some(&alice), 4), [200, 200, 200, 429]);
    assert_eq!(statuses(Some(&bob), 1), [200]);
    assert_eq!(statuses(Some(&alice), 1), [429], "another connection, the same certificate");
    assert_eq!(statuses(None, 4), [200, 200, 200, 429], "without one it counts by address");
    assert_eq!(statuses(Some(&bob), 2), [200, 200]);
}

#[test]
fn what_the_app_says_to_one_client_is_not_stored_for_another() {
    let app = Origin::answering(|request| Reply::text(request.field("x-client-cn").unwrap_or("nobody")));
    let (directory, authority) = (Directory::new(), Authority::new("clients"));
    let tables = "[cache.pages]\nttl = \"600s\"\n[[route]]\npath = \"/{*rest}\"\ncache = \"pages\"\n";
    let sidegate = asking(&app, &directory, &authority, "optional").with(tables).start();
    let asked = |name: Option<&str>| {
        let identity = name.map(|name| authority.client(name));
        let answer = showing(&sidegate, identity.as_ref()).client().get("/");
        (answer.text(), answer.field("cache-status").unwrap_or_default().to_owned())
    };
    let (text, status) = asked(Some("alice"));
    assert!(text == "alice" && status.contains("detail=\"credentials:"), "{text} {status}");
    assert_eq!(asked(Some("bob")).0, "bob");
    assert_eq!(asked(None).0, "nobody");
    assert!(asked(None).1.contains("hit"), "what is said to nobody is for nobody");
    let (text, status) = asked(Some("alice"));
    assert_eq!(text, "alice", "{status}");
}

#[test]
fn each_fact_of_a_certificate_can_be_told() {
    let (app, directory, authority) = (telling(), Directory::new(), Authority::new("clients"));
    replace(directory.file("ca.pem"), &authority.pem());
    let facts = "X-Client-1 = \"subject\", X-Client-2 = \"issuer\", X-Client-3 = \"cn\", X-Client-4 = \"serial\", \
                 X-Client-5 = \"sha256\", X-Client-6 = \"san\"";
    let ca = directory.file("ca.pem").display().to_string();
    let client = format!(", client = {{ ca = {ca:?}, forward = {{ {facts} }} }}");
    let sidegate = secured(&app, &directory, &client).0.start();
    let alice = authority.sign(|params| {
        let names = vec!["alice.test".to_owned(), "192.0.2.1".to_owned()];
        params.subject_alt_names = rcgen::CertificateParams::new(names).expect("names").subject_alt_names;
        params.subject_alt_names.push(rcgen::SanType::URI("spiffe://a/b,c".try_into().expect("ASCII")));
        params.distinguished_name.push(rcgen::DnType::CommonName, "alice");
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "Users");
        params.serial_number = Some(vec![0x12, 0xab].into());
    });
    let digest: String = Sha256::digest(&alice.leaf).iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = format!(
        "x-client-1=O=Users,CN=alice x-client-2=CN=clients x-client-3=alice x-client-4=12ab x-client-5={digest} \
         x-client-6=DNS:alice.test,IP:192.0.2.1,URI:spiffe://a/b%2Cc"
    );
    assert_eq!(showing(&sidegate, Some(&alice)).client().get("/").text(), expected);
}
