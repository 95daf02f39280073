//! What the app is told of who is logged in, and how it knows that sidegate says so.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::Request;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::harness::origin::Request as Seen;
use crate::harness::{Configuration, Origin, RedisServer, Reply, http2};

const ALICE: &str = "alice-0123456789abcdef";
const SECRET: &str = "shared-by-sidegate-and-the-app";

/// Where each request is forwarded, and what it is called there.
const ROUTES: &str = r#"
[[route]]
path = "/private/{*rest}"
session = "web"

[[route]]
path = "/api/{*rest}"
session = "web"
strip_prefix = "/api"

[[route]]
path = "/maybe"
session = { use = "web", mode = "optional" }

[[route]]
path = "/{*rest}"
"#;

/// `[session.web]` with these lines besides.
fn session(lines: &str) -> String {
    format!(
        "[session.web]\nformat = \"json\"\nfrom = [\"bearer\"]\n\
         forward = {{ X-User-Id = \"user_id\", X-User-Name = \"name\", X-Roles = \"roles\" }}\n{lines}\n"
    )
}

fn signed(kind: &str, secrets: &str) -> String {
    session(&format!("identity = {{ sign = {kind:?}, secrets = [{secrets}] }}"))
}

/// A Redis with the session of alice.
fn redis() -> RedisServer {
    let redis = RedisServer::start();
    let record = r#"{"user_id":42,"name":"Müller, A.","roles":["admin","a,b"]}"#;
    redis.ask::<()>(&["SET", &format!("session:{ALICE}"), record, "EX", "600"]).expect("SET");
    redis
}

fn authorization() -> (String, String) {
    ("Authorization".into(), format!("Bearer {ALICE}"))
}

/// RFC 2104 over SHA-256, in its own words: the verifier of an app that has nothing of ours.
fn hmac(secret: &str, text: &str) -> Vec<u8> {
    let mut key = [0; 64];
    key[..secret.len()].copy_from_slice(secret.as_bytes());
    let pad = |with: u8| key.map(|byte| byte ^ with);
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}

/// Whether the signature of a request holds, as README has an app find out; says when it was made.
fn verified(secret: &str, seen: &Seen) -> Option<u64> {
    let signature = seen.field("x-identity-signature")?;
    let (time, mac) = signature.strip_prefix("t=")?.split_once(",v1=")?;
    let mut lines = vec![time.to_owned(), seen.method.clone(), seen.target.clone(), "web".to_owned()];
    for name in ["x-roles", "x-user-id", "x-user-name"] {
        lines.extend(seen.field(name).map(|value| format!("{name}:{value}")));
    }
    let expected: String = hmac(secret, &lines.join("\n")).iter().map(|byte| format!("{byte:02x}")).collect();
    (mac == expected).then(|| time.parse().expect("a time"))
}

#[test]
fn the_app_can_verify_that_a_request_came_through_the_gate() {
    let (redis, app) = (redis(), Origin::saying("app"));
    let tables = signed("hmac", &format!("{SECRET:?}")) + ROUTES;
    let sidegate = Configuration::of(&app).redis(&redis).with(&tables).start();
    let (name, value) = authorization();
    let mut client = sidegate.client();
    for (method, target, there) in [
        ("GET", "/private/page?a=b&c=%2F", "/private/page?a=b&c=%2F"),
        ("POST", "/private/page", "/private/page"),
        ("DELETE", "/api/users/7", "/users/7"),
        ("GET", "/maybe", "/maybe"),
    ] {
        let content: &[u8] = if method == "POST" { b"text" } else { b"" };
        assert_eq!(client.ask(method, target, &[(&name, &value)], content).status, 200, "{method} {target}");
        let seen = app.last();
        assert_eq!(seen.target, there);
        let made = verified(SECRET, &seen).unwrap_or_else(|| panic!("{seen:?}"));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs();
        assert!(now.abs_diff(made) < 60, "{made} at {now}");
        assert_eq!(verified("another-secret", &seen), None);
        let others = [
            Seen { method: "PUT".into(), ..seen.clone() },
            Seen { target: "/private/other".into(), ..seen.clone() },
            Seen { fields: edited(&seen, "x-user-id", "1"), ..seen.clone() },
        ];
        for other in others {
            assert_eq!(verified(SECRET, &other), None, "{other:?}");
        }
    }
    for target in ["/maybe", "/open"] {
        assert_eq!(client.get(target).status, 200);
        assert!(!app.last().fields.has("x-identity-signature"), "nobody is vouched for at {target}");
    }
}

fn edited(seen: &Seen, name: &str, value: &str) -> crate::harness::wire::Fields {
    let mut fields = seen.fields.clone();
    fields.0.iter_mut().filter(|(other, _)| other.eq_ignore_ascii_case(name)).for_each(|line| line.1 = value.into());
    fields
}

#[test]
fn a_new_secret_signs_from_the_reload_on() {
    let (redis, app) = (redis(), Origin::saying("app"));
    let file = |secrets: &str| Configuration::of(&app).redis(&redis).with(&(signed("hmac", secrets) + ROUTES)).text();
    let mut sidegate = crate::harness::Sidegate::start(&file("\"old\""));
    let (name, value) = authorization();
    let signed_with = |sidegate: &crate::harness::Sidegate, secret: &str| {
        assert_eq!(sidegate.client().get_with("/private/page", &[(&name, &value)]).status, 200);
        verified(secret, &app.last()).is_some()
    };
    assert!(signed_with(&sidegate, "old"));
    sidegate.reload(&file("\"new\", \"old\""));
    assert!(signed_with(&sidegate, "new") && !signed_with(&sidegate, "old"));
}

#[test]
fn a_token_tells_who_asks_and_until_when() {
    let (redis, app) = (redis(), Origin::saying("app"));
    let lines = format!("identity = {{ sign = \"jwt\", secrets = [{SECRET:?}], field = \"X-Token\", ttl = \"90s\" }}");
    let sidegate = Configuration::of(&app).redis(&redis).with(&(session(&lines) + ROUTES)).start();
    let (name, value) = authorization();
    let spoofed = [(name.as_str(), value.as_str()), ("X_Token", "root"), ("Connection", "X-Token")];
    assert_eq!(sidegate.client().get_with("/private/page", &spoofed).status, 200);
    let seen = app.last();
    let token: Vec<&str> = seen.fields.all("x-token").collect();
    let (signed, mac) = token[0].rsplit_once('.').expect("a token");
    assert_eq!(mac, URL_SAFE_NO_PAD.encode(hmac(SECRET, signed)));
    let parts: Vec<Value> = signed
        .split('.')
        .map(|part| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON"))
        .collect();
    assert_eq!(parts[0], serde_json::json!({ "alg": "HS256", "typ": "JWT" }));
    let claims = &parts[1];
    assert_eq!((&claims["iss"], &claims["sub"], &claims["session"]), (&"sidegate".into(), &"42".into(), &"web".into()));
    assert_eq!(claims["exp"].as_u64(), claims["iat"].as_u64().map(|made| made + 90));
    assert_eq!(claims["x-user-name"], "Müller, A.");
    assert_eq!(claims["x-roles"], serde_json::json!(["admin", "a,b"]));
    assert!(claims["sid"].as_str().is_some_and(|sid| sid.len() == 32 && !sid.contains(ALICE)), "{claims}");
    assert!(token.len() == 1 && !format!("{seen:?}").contains("root"), "{seen:?}");
    assert!(!sidegate.output().contains(token[0]) && !sidegate.errors().contains(token[0]));
}

#[test]
fn attributes_are_written_as_the_configuration_says() {
    let (redis, app) = (redis(), Origin::saying("app"));
    let (name, value) = authorization();
    for (encoding, texts, roles) in [
        ("percent", "M%C3%BCller%2C A.", "admin,a%2Cb"),
        ("rfc8187", "UTF-8''M%C3%BCller%2C%20A.", "UTF-8''admin,UTF-8''a%2Cb"),
        ("base64", &*STANDARD.encode("Müller, A."), "YWRtaW4=,YSxi"),
    ] {
        let tables = session(&format!("identity = {{ encoding = {encoding:?} }}")) + ROUTES;
        let sidegate = Configuration::of(&app).redis(&redis).with(&tables).start();
        assert_eq!(sidegate.client().get_with("/private/page", &[(&name, &value)]).status, 200);
        let seen = app.last();
        assert_eq!((seen.field("x-user-name"), seen.field("x-roles")), (Some(texts), Some(roles)), "{encoding}");
    }
}

#[test]
fn nobody_can_send_a_signature_in_any_spelling() {
    let (redis, app) = (redis(), Origin::saying("app"));
    let tables = signed("hmac", &format!("{SECRET:?}")) + ROUTES;
    let sidegate = Configuration::of(&app).redis(&redis).with(&tables).start();
    let lies =
        ["X-Identity-Signature", "x_identity_signature", "X-IDENTITY_SIGNATURE", "x.identity-signature", "X_User-Id"];
    let (name, value) = authorization();
    for (target, logged_in) in [("/open", false), ("/maybe", false), ("/private/page", true), ("/maybe", true)] {
        let mut fields: Vec<(&str, &str)> = lies.iter().map(|lie| (*lie, "t=1,v1=root")).collect();
        fields.push(("Connection", "X-Identity-Signature, X-User-Id, close"));
        if logged_in {
            fields.push((&name, &value));
        }
        assert_eq!(sidegate.client().get_with(target, &fields).status, 200, "{target}");
        let seen = app.last();
        assert!(!format!("{seen:?}").contains("root"), "{target}: {seen:?}");
        assert_eq!(verified(SECRET, &seen).is_some(), logged_in, "{target}: {seen:?}");
        assert_eq!(seen.field("x-user-id").is_some(), logged_in, "{target}");
    }
    let mut client = sidegate.client();
    client.send(
        "POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX_Identity-Signature: root\r\n\r\n",
    );
    client.answer();
    assert!(!format!("{:?}", app.last()).contains("root"), "in a trailer: {:?}", app.last());
    let over_http2 = |target: &str, token: &str| {
        let request = Request::post(format!("http://app.test{target}")).header("x_identity_signature", "t=1,v1=root");
        let request = request.header("x-identity-signature", "root").header("authorization", token);
        let trailers = [("x-identity-signature", "root"), ("x_user_id", "root"), ("x-sum", "7")];
        let trailers = trailers.map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")));
        let request = request.body(Bytes::from_static(b"text")).expect("a request");
        let answer = http2::ask(sidegate.address(), vec![(request, Some(trailers.into_iter().collect()))]).remove(0);
        assert_eq!(answer.status, 200, "{target}");
        let seen = app.last();
        assert!(!format!("{seen:?}").contains("root"), "{target} over HTTP/2: {seen:?}");
        seen
    };
    assert!(!over_http2("/open", "Basic x").fields.has("x-identity-signature"));
    assert!(verified(SECRET, &over_http2("/private/page", &value)).is_some());
}

#[test]
fn what_the_app_chose_by_a_signature_answers_nobody_else() {
    let redis = redis();
    let app = Origin::answering(|seen| {
        let vary = if seen.target.starts_with("/private/signed") { "X-Identity-Signature" } else { "X-User-Id" };
        Reply::text("app").field("Cache-Control", "public, max-age=60").field("Vary", vary)
    });
    let cached = "[cache.pages]\n\n[[route]]\npath = \"/private/{*rest}\"\nsession = \"web\"\ncache = \"pages\"\n";
    let tables = signed("hmac", &format!("{SECRET:?}")) + cached;
    let sidegate = Configuration::of(&app).redis(&redis).with(&tables).start();
    let (name, value) = authorization();
    let asked = |target: &str| {
        let before = app.count();
        for _ in 0..3 {
            assert_eq!(sidegate.client().get_with(target, &[(&name, &value)]).status, 200);
        }
        app.count() - before
    };
    assert_eq!(asked("/private/signed"), 3, "an answer that varies by the signature was stored");
    assert_eq!(asked("/private/by-user"), 1);
}

#[test]
fn whoever_user_found_is_told_under_whichever_path_and_vouched_for() {
    let app = Origin::answering(|request| {
        let signed = request.field("x-identity-signature").is_some();
        Reply::text(format!("{} {signed}", request.field("x-user-id").unwrap_or("nobody")))
    });
    let redis = RedisServer::start();
    let tables = "[session.web]\nformat = \"json\"\nfrom = [\"bearer\"]\nuser = [\"passport.user\", \"user_id\"]\n\
        forward = { X-User-Id = \"@user\" }\nidentity = { sign = \"hmac\", secrets = [\"a secret\"] }\n\
        [[route]]\npath = \"/{*rest}\"\nsession = \"web\"\n";
    let sidegate = Configuration::of(&app).redis(&redis).with(tables).start();
    for (id, record, told) in [
        ("passport-0123456789abcdef", r#"{"passport":{"user":"5"}}"#, "5 true"),
        ("plain-0123456789abcdef", r#"{"user_id":7}"#, "7 true"),
        ("both-0123456789abcdef", r#"{"passport":{"user":"5"},"user_id":7,"@user":9}"#, "5 true"),
    ] {
        let _: redis::Value = redis.ask(&["SET", &format!("session:{id}"), record]).expect("a record");
        let line = format!("Bearer {id}");
        let answer = sidegate.client().get_with("/", &[("Authorization", &line), ("X-User-Id", "1")]);
        assert_eq!((answer.status, answer.text().as_str()), (200, told), "{id}");
    }
}
