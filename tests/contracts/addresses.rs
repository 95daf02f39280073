//! Every way to reach Redis, as the configuration says it: TCP, Unix socket, TLS, user, password, database.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use redis::{Pipeline, Value};
use sidegate::config;
use sidegate::redis_pool::{CONNECTING, DOWN, Link, NO_DATABASE, Settings, UP};
use sidegate::telemetry::registry::Registry;

use crate::faults::Log;
use crate::redis_server::{RedisServer, free_port};
use crate::{becomes, on_a_worker};

/// `[redis]` as `lines` say it.
fn configured(lines: &str, password: &str) -> Settings {
    loaded(lines, password).redis.expect("[redis]")
}

/// A configuration with `[redis]` as `lines` say it, and a time-out for a busy machine.
fn loaded(lines: &str, password: &str) -> config::settings::Settings {
    let text = format!("[redis]\ntimeout = \"2s\"\n{lines}\n[upstream.app]\nservers = \"http://127.0.0.1:1\"\n");
    let environment = |name: &str| (name == "PASSWORD").then(|| password.to_owned());
    let loaded = config::parse("sidegate.toml", &text, &environment).unwrap_or_else(|report| panic!("{report}"));
    loaded.settings
}

/// What Redis says over a link, once that is up.
async fn said(settings: &Settings, words: &[&str]) -> Value {
    let link = Link::new(settings, &[], &Registry::new(1), 0);
    becomes(&link, true).await;
    let mut pipeline = Pipeline::new();
    pipeline.add_command(words.iter().fold(redis::Cmd::new(), |mut command, word| command.arg(word).to_owned()));
    link.query(&pipeline).await.unwrap().remove(0)
}

/// What has become of a link as soon as it has tried, and of what kind its failures are.
async fn tried(settings: &Settings) -> (u8, Vec<&'static str>) {
    let registry = Registry::new(1);
    let link = Link::new(settings, &[], &registry, 0);
    while link.shared_state().load(Ordering::Relaxed) == CONNECTING {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let kinds = ["tls", "auth", "database", "refused", "disconnected", "unreachable", "timeout", "maxclients"];
    let counted = |kind: &&str| registry.value("sidegate_redis_errors_total", &[("kind", kind)]) > 0;
    (link.shared_state().load(Ordering::Relaxed), kinds.into_iter().filter(counted).collect())
}

fn text(text: &str) -> Value {
    Value::BulkString(text.into())
}

#[test]
fn the_database_of_the_url_is_the_one_that_is_written_to() {
    on_a_worker(async {
        let server = RedisServer::start();
        let settings = Settings::of_url(&format!("redis://127.0.0.1:{}/3", server.port())).unwrap();
        assert_eq!(said(&settings, &["SET", "k", "v"]).await, Value::Okay);
        let keys = server.ask::<String>(&["INFO", "keyspace"]).unwrap();
        assert!(keys.contains("db3:keys=1") && !keys.contains("db0:"), "{keys}");
        let beyond = Settings::of_url(&format!("redis://127.0.0.1:{}/99", server.port())).unwrap();
        assert_eq!(tried(&beyond).await, (NO_DATABASE, vec!["database"]));
    });
}

#[test]
fn a_user_and_a_password_come_from_the_url_and_from_keys_that_win_over_it() {
    on_a_worker(async {
        let server = RedisServer::start();
        let port = server.port();
        for user in ["app >of-app", "other >of-other", "open nopass"] {
            let rule = format!("ACL SETUSER {user} on ~* &* +@all");
            server.ask::<()>(&rule.split(' ').collect::<Vec<_>>()).unwrap();
        }
        for (lines, password, user) in [
            (format!("url = \"redis://127.0.0.1:{port}\""), "", "default"),
            (format!("url = \"redis://app:of%2Dapp@127.0.0.1:{port}\""), "", "app"),
            (format!("url = \"redis://open@127.0.0.1:{port}\""), "", "open"),
            (
                format!("url = \"redis://127.0.0.1:{port}\"\nuser = \"app\"\npassword = {{ env = \"PASSWORD\" }}"),
                "of-app",
                "app",
            ),
            (
                format!("url = \"redis://other:x@127.0.0.1:{port}\"\npassword = {{ env = \"PASSWORD\" }}"),
                "of-other",
                "other",
            ),
        ] {
            assert_eq!(said(&configured(&lines, password), &["ACL", "WHOAMI"]).await, text(user), "{lines}");
        }
        let wrong = configured(&format!("url = \"redis://app:hunter2@127.0.0.1:{port}\""), "");
        assert_eq!(tried(&wrong).await, (DOWN, vec!["auth"]));
        server.ask::<()>(&["CONFIG", "SET", "requirepass", "of-default"]).unwrap();
        let nobody = configured(&format!("url = \"redis://127.0.0.1:{port}\""), "");
        assert_eq!(tried(&nobody).await, (DOWN, vec!["auth"]));
    });
}

#[test]
fn a_unix_socket_is_as_good_as_a_port() {
    on_a_worker(async {
        let path = std::env::temp_dir().join(format!("sidegate-{}.sock", free_port()));
        let path = path.to_str().unwrap();
        let server = RedisServer::start_with(&["--unixsocket", path]);
        let settings = Settings::of_url(&format!("unix://{path}?db=2")).unwrap();
        assert_eq!(said(&settings, &["SET", "k", "v"]).await, Value::Okay);
        assert!(server.ask::<String>(&["INFO", "keyspace"]).unwrap().contains("db2:keys=1"));
        drop(server);
        assert_eq!(tried(&settings).await, (DOWN, vec!["unreachable"]));
        let _ = std::fs::remove_file(path);
    });
}

#[test]
fn tls_verifies_redis_and_shows_it_our_certificate() {
    let files = Certificates::make();
    on_a_worker(async {
        let (tls_port, file) = (free_port().to_string(), |name| files.path(name));
        let _server = RedisServer::start_with(&[
            "--tls-port",
            &tls_port,
            "--tls-cert-file",
            &file("server.pem"),
            "--tls-key-file",
            &file("server.key"),
            "--tls-ca-cert-file",
            &file("ca.pem"),
            "--tls-auth-clients",
            "yes",
        ]);
        let ours = format!("certificate = \"{}\", key = \"{}\"", file("client.pem"), file("client.key"));
        let (ca, other) = (format!("ca = \"{}\"", file("ca.pem")), format!("ca = \"{}\"", file("other-ca.pem")));
        let name = "server_name = \"redis.internal\"";
        for (tls, expected) in [
            (format!("{ca}, {ours}, {name}"), (UP, vec![])),
            (format!("{ours}, danger_accept_any_certificate = true"), (UP, vec![])),
            (format!("{ca}, {ours}, {name}, min_version = \"1.3\""), (UP, vec![])),
            // The certificate is for no address.
            (format!("{ca}, {ours}"), (DOWN, vec!["tls"])),
            (format!("{ca}, {ours}, server_name = \"another.internal\""), (DOWN, vec!["tls"])),
            (format!("{other}, {ours}, {name}"), (DOWN, vec!["tls"])),
            (format!("{ca}, {name}"), (DOWN, vec!["tls"])),
        ] {
            let lines = format!("url = \"rediss://127.0.0.1:{tls_port}\"\ntls = {{ {tls} }}");
            let (log, _here) = Log::here();
            assert_eq!(tried(&configured(&lines, "")).await, expected, "{tls}");
            // Redis refuses our certificate after the handshake: that is said by the word alone.
            let about_its_own = expected.0 == DOWN && tls.contains("client.pem");
            let said = log.lines("TLS handshake with Redis failed");
            assert_eq!(said.len(), usize::from(about_its_own), "{tls}: {said:?}");
            assert!(said.iter().all(|line| line.contains("invalid peer certificate")), "{said:?}");
        }
        let lines = format!("url = \"rediss://127.0.0.1:{tls_port}/1\"\ntls = {{ {ca}, {ours}, {name} }}");
        let watched = loaded(&lines, "").files();
        assert_eq!(watched, ["client.pem", "client.key", "ca.pem"].map(|name| files.0.join(name)), "of a reload");
        // More than one record of TLS each way.
        let long = "x".repeat(100_000);
        assert_eq!(said(&configured(&lines, ""), &["ECHO", &long]).await, text(&long));
    });
}

/// Certificates of a server and a client, and who signed them; in a folder that goes with it.
struct Certificates(PathBuf);

impl Certificates {
    fn make() -> Self {
        let folder = std::env::temp_dir().join(format!("sidegate-redis-tls-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let made = Self(folder);
        let (ca, issuer) = authority();
        let (other, _) = authority();
        made.write("ca.pem", &ca);
        made.write("other-ca.pem", &other);
        for (name, host) in [("server", "redis.internal"), ("client", "sidegate.internal")] {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![host.into()]).unwrap();
            made.write(&format!("{name}.pem"), &params.signed_by(&key, &issuer).unwrap().pem());
            made.write(&format!("{name}.key"), &key.serialize_pem());
        }
        made
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The certificate of a new authority, and itself.
fn authority() -> (String, Issuer<'static, KeyPair>) {
    let mut params = CertificateParams::default();
    // As another than those it signs: a certificate that names itself its issuer is taken for one of its own.
    params.distinguished_name.push(DnType::CommonName, "authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let own = params.self_signed(&key).unwrap().pem();
    (own, Issuer::new(params, key))
}
