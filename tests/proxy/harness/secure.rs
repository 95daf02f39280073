//! A client over TLS that sends just the bytes it is told, before the handshake and after it.

use std::fs;
use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::client::Stream;
use super::{Client, Directory, PATIENCE};

/// A certificate for `localhost`, and where it is written.
pub struct Certified {
    directory: Directory,
    certificate: CertificateDer<'static>,
}

impl Certified {
    /// A fresh one.
    pub fn new() -> Self {
        let directory = Directory::new();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        fs::write(directory.file("key.pem"), made.signing_key.serialize_pem()).expect("a key file");
        fs::write(directory.file("cert.pem"), made.cert.pem()).expect("a certificate file");
        Self { directory, certificate: made.cert.der().clone() }
    }

    /// The line of `[server]` that uses it.
    pub fn line(&self) -> String {
        let file = |name| self.directory.file(name).display().to_string();
        format!("tls = {{ certificate = {:?}, key = {:?} }}", file("cert.pem"), file("key.pem"))
    }

    /// Connects, sends `ahead` as it is, and begins TLS with HTTP/1.1 by ALPN.
    pub fn client(&self, address: &str, ahead: &[u8]) -> Client {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("a sound certificate");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = builder.expect("TLS versions").with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = ServerName::try_from("localhost").expect("a name");
        let tls = ClientConnection::new(Arc::new(config), name).expect("a TLS client");
        let mut socket = TcpStream::connect(address).expect("a connection");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        socket.set_nodelay(true).expect("an option");
        socket.write_all(ahead).expect("bytes ahead of TLS");
        Client::over(Box::new(StreamOwned::new(tls, socket)))
    }
}

impl Stream for StreamOwned<ClientConnection, TcpStream> {
    fn end(&self) {
        let _ = self.sock.shutdown(Shutdown::Write);
    }
}
