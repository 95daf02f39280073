//! A client that verifies as browsers do: both protocols by ALPN, and a certificate that is renewed in place.

use std::fs;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::harness::{Configuration, Directory, Origin, PATIENCE, Reply, until};

/// Writes a fresh certificate for `localhost` and its key.
fn certify(directory: &Directory) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    fs::write(directory.file("key.pem"), made.signing_key.serialize_pem()).expect("a key file");
    fs::write(directory.file("cert.pem"), made.cert.pem()).expect("a certificate file");
    made.cert.der().clone()
}

/// GET `/` over TLS; speaks what ALPN settles on. The version, the content, and the `x-forwarded-proto` that the app saw.
fn get(address: &str, trusted: &CertificateDer<'static>, alpn: &[&[u8]]) -> Result<(Version, String), String> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).expect("a sound certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder.expect("TLS versions").with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    let work = async {
        let socket = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        let name = ServerName::try_from("localhost").expect("a name");
        let stream =
            TlsConnector::from(Arc::new(config)).connect(name, socket).await.map_err(|error| error.to_string())?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let request = Request::get("https://localhost/").header("host", "localhost").body(Empty::<Bytes>::new());
        let request = request.expect("a request");
        let answer = if http2 {
            let io = TokioIo::new(stream);
            let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
                .await
                .map_err(|error| error.to_string())?;
            tokio::spawn(connection);
            sender.send_request(request).await
        } else {
            let io = TokioIo::new(stream);
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(io).await.map_err(|error| error.to_string())?;
            tokio::spawn(connection);
            let (mut parts, content) = request.into_parts();
            parts.uri = "/".parse().expect("a target");
            sender.send_request(Request::from_parts(parts, content)).await
        };
        let answer = answer.map_err(|error| error.to_string())?;
        let version = answer.version();
        let content = answer.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
        Ok((version, String::from_utf8_lossy(&content).into_owned()))
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await.expect("an answer in time") })
}

#[test]
fn both_protocols_are_spoken_over_tls_and_a_renewed_certificate_is_taken_up() {
    let app = Origin::answering(|request| Reply::text(request.field("x-forwarded-proto").unwrap_or("none")));
    let directory = Directory::new();
    let first = certify(&directory);
    let files = ["cert.pem", "key.pem"].map(|name| directory.file(name).display().to_string());
    let tls = format!("tls = {{ certificate = {:?}, key = {:?} }}", files[0], files[1]);
    let configuration = Configuration::of(&app).server(&tls);
    let mut sidegate = configuration.start();
    let said = |version| Ok((version, "https".to_owned()));
    assert_eq!(get(sidegate.address(), &first, &[b"h2", b"http/1.1"]), said(Version::HTTP_2));
    assert_eq!(get(sidegate.address(), &first, &[b"http/1.1"]), said(Version::HTTP_11));
    assert_eq!(get(sidegate.address(), &first, &[]), said(Version::HTTP_11));

    let second = certify(&directory);
    assert!(get(sidegate.address(), &second, &[b"h2"]).is_err(), "it is not in use yet");
    sidegate.reload(&configuration.text());
    until("the new certificate", || get(sidegate.address(), &second, &[b"h2"]).is_ok());
    assert!(get(sidegate.address(), &first, &[b"h2"]).is_err(), "the old one is gone");
}
