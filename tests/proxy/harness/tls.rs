//! TLS for clients and origins that speak in the clear: an [`Authority`] to sign certificates, a [`Door`] that puts TLS
//! between a client and the proxy, and a [`Front`] that takes TLS off before an origin. Both note each handshake.
//!
//! # Why
//! All other parts of the harness work on bare sockets. With a door in front of them they say over TLS just what they
//! say without it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SignatureScheme, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{Directory, Origin, until};

/// Signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    own: rcgen::Certificate,
}

/// A certificate and its key.
#[derive(Clone)]
pub struct Identity {
    /// The certificate.
    pub leaf: CertificateDer<'static>,
    /// The certificate in PEM.
    pub certificate: String,
    /// The key in PEM.
    pub key: String,
}

impl Authority {
    /// A new one.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let own = params.self_signed(&key).expect("a certificate");
        Self { issuer: Issuer::new(params, key), own }
    }

    /// Its own certificate in PEM.
    pub fn pem(&self) -> String {
        self.own.pem()
    }

    /// A certificate for host names or addresses.
    pub fn server(&self, names: &[&str]) -> Identity {
        self.sign(|params| {
            let names = names.iter().map(ToString::to_string).collect::<Vec<_>>();
            params.subject_alt_names = CertificateParams::new(names).expect("names").subject_alt_names;
        })
    }

    /// A certificate for a client.
    pub fn client(&self, name: &str) -> Identity {
        self.sign(|params| params.distinguished_name.push(DnType::CommonName, name))
    }

    /// A certificate as `make` has it.
    pub fn sign(&self, make: impl FnOnce(&mut CertificateParams)) -> Identity {
        self.sign_for(KeyPair::generate().expect("a key"), make)
    }

    /// A certificate for this key.
    pub fn sign_for(&self, key: KeyPair, make: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = CertificateParams::default();
        make(&mut params);
        let made = params.signed_by(&key, &self.issuer).expect("a certificate");
        Identity { leaf: made.der().clone(), certificate: made.pem(), key: key.serialize_pem() }
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.own.der().clone()).expect("an authority");
        Arc::new(roots)
    }
}

impl Identity {
    /// Writes `NAME.pem` and `NAME.key`; the first is renamed into its place last.
    pub fn write(&self, directory: &Directory, name: &str) {
        replace(directory.file(&format!("{name}.key")), &self.key);
        replace(directory.file(&format!("{name}.pem")), &self.certificate);
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.leaf.clone()]
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("a key")
    }
}

/// Writes a file at once.
pub fn replace(path: PathBuf, text: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).expect("a file");
    std::fs::rename(beside, path).expect("a file in its place");
}

/// What came of a handshake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handshake {
    /// The session before was taken up again.
    pub resumed: bool,
    /// The certificate that the other side showed.
    pub leaf: Option<CertificateDer<'static>>,
    /// What ALPN settled on.
    pub alpn: Option<String>,
    /// The name that was asked for, where it was heard.
    pub name: Option<String>,
}

/// Handshakes that came to an end, and what went wrong, in order.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<(Vec<Handshake>, Vec<String>)>>);

impl Notes {
    fn of<T>(&self, look: impl FnOnce(&mut (Vec<Handshake>, Vec<String>)) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn wrong(&self, error: impl ToString) {
        self.of(|notes| notes.1.push(error.to_string()));
    }
}

/// How a client speaks TLS.
pub struct Asking {
    name: ServerName<'static>,
    alpn: Vec<Vec<u8>>,
    versions: Vec<&'static SupportedProtocolVersion>,
    identity: Option<Identity>,
    schemes: Option<Vec<SignatureScheme>>,
}

impl Asking {
    /// For this name; an address is sent as no name at all.
    pub fn for_name(name: &str) -> Self {
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        Self { name, alpn: Vec::new(), versions: rustls::ALL_VERSIONS.to_vec(), identity: None, schemes: None }
    }

    /// Offers these protocols.
    pub fn offering(mut self, alpn: &[&str]) -> Self {
        self.alpn = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        self
    }

    /// Speaks only this version.
    pub fn only(mut self, version: &'static SupportedProtocolVersion) -> Self {
        self.versions = vec![version];
        self
    }

    /// Can verify these signatures only.
    pub fn verifying(mut self, schemes: &[SignatureScheme]) -> Self {
        self.schemes = Some(schemes.to_vec());
        self
    }

    /// Shows this certificate.
    pub fn showing(mut self, identity: &Identity) -> Self {
        self.identity = Some(identity.clone());
        self
    }

    fn config(&self) -> ClientConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&self.versions);
        let builder = builder
            .expect("versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(self.schemes.clone())));
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => builder.with_client_auth_cert(identity.chain(), identity.key()).expect("an identity"),
        };
        config.alpn_protocols.clone_from(&self.alpn);
        config
    }
}

/// Listens in the clear, and speaks TLS to an address: one TLS client, with its memory of sessions.
pub struct Door {
    address: SocketAddr,
    notes: Notes,
    _runtime: Background,
}

impl Door {
    /// To the TLS port at `address`.
    pub fn to(address: &str, asking: &Asking) -> Self {
        let (runtime, notes) = (Background::new(), Notes::default());
        let listener = runtime.0.block_on(TcpListener::bind("127.0.0.1:0")).expect("a door");
        let own = listener.local_addr().expect("a bound address");
        let (noted, connector, name) =
            (notes.clone(), TlsConnector::from(Arc::new(asking.config())), asking.name.clone());
        let address = address.to_owned();
        runtime.0.spawn(async move {
            while let Ok((plain, _)) = listener.accept().await {
                let (noted, connector, name, address) =
                    (noted.clone(), connector.clone(), name.clone(), address.clone());
                tokio::spawn(async move {
                    let socket = TcpStream::connect(&address).await.expect("the proxy listens");
                    match connector.connect(name, socket).await {
                        Ok(stream) => {
                            let said = handshake(stream.get_ref().1, None);
                            noted.of(|notes| notes.0.push(said));
                            tie(plain, stream, &noted).await;
                        }
                        Err(error) => noted.wrong(error),
                    }
                });
            }
        });
        Self { address: own, notes, _runtime: runtime }
    }

    /// Where it listens in the clear.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// A client that goes through it.
    pub fn client(&self) -> super::Client {
        super::Client::to(&self.address())
    }

    /// The handshakes that succeeded.
    pub fn handshakes(&self) -> Vec<Handshake> {
        self.notes.of(|notes| notes.0.clone())
    }

    /// The last handshake.
    pub fn last(&self) -> Handshake {
        self.handshakes().pop().expect("a handshake")
    }

    /// Goes through it once, and waits for what is said to that.
    pub fn refused(&self) -> String {
        let before = self.notes.of(|notes| notes.1.len());
        let mut client = self.client();
        let _ = client.try_send(&super::client::request("GET", "/", &[], b""));
        let answer = client.try_answer_to("GET");
        assert!(answer.is_err(), "answered: {answer:?}");
        until("an error of TLS", || self.notes.of(|notes| notes.1.len()) > before);
        self.notes.of(|notes| notes.1.last().cloned()).unwrap_or_default()
    }
}

/// Takes TLS off before an origin.
pub struct Front {
    address: SocketAddr,
    notes: Notes,
    _runtime: Background,
}

impl Front {
    /// Before `origin`, showing `identity`; asks for certificates of `clients`, if there are any to ask for.
    pub fn before(origin: &Origin, identity: &Identity, clients: Option<&Authority>) -> Self {
        Self::speaking(origin, identity, clients, rustls::ALL_VERSIONS)
    }

    /// Before what listens at `app`, showing `identity`.
    pub fn at(app: SocketAddr, identity: &Identity) -> Self {
        Self::standing(app, identity, None, rustls::ALL_VERSIONS)
    }

    /// The same, in these versions only.
    pub fn speaking(
        origin: &Origin,
        identity: &Identity,
        clients: Option<&Authority>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        Self::standing(origin.address(), identity, clients, versions)
    }

    fn standing(
        app: SocketAddr,
        identity: &Identity,
        clients: Option<&Authority>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions);
        let builder = builder.expect("versions");
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(clients.roots(), provider).build().expect("a verifier"),
            ),
        };
        let mut config = builder.with_single_cert(identity.chain(), identity.key()).expect("an identity");
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let (runtime, notes) = (Background::new(), Notes::default());
        let listener = runtime.0.block_on(TcpListener::bind("127.0.0.1:0")).expect("a front");
        let address = listener.local_addr().expect("a bound address");
        let (noted, acceptor) = (notes.clone(), TlsAcceptor::from(Arc::new(config)));
        runtime.0.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (noted, acceptor) = (noted.clone(), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor.accept(socket).into_fallible().await {
                        Ok(stream) => {
                            let session = stream.get_ref().1;
                            let said = handshake(session, session.server_name());
                            noted.of(|notes| notes.0.push(said));
                            let plain = TcpStream::connect(app).await.expect("the origin listens");
                            tie(plain, stream, &noted).await;
                        }
                        Err((error, mut socket)) => {
                            noted.wrong(error);
                            // The alert is read before the connection goes.
                            let _ = socket.shutdown().await;
                            let _ = socket.read_to_end(&mut Vec::new()).await;
                        }
                    }
                });
            }
        });
        Self { address, notes, _runtime: runtime }
    }

    /// `https://localhost:PORT`.
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// The handshakes that succeeded.
    pub fn handshakes(&self) -> Vec<Handshake> {
        self.notes.of(|notes| notes.0.clone())
    }
}

/// Moves bytes both ways until both sides have ended, or either has failed.
async fn tie(plain: TcpStream, secured: impl AsyncRead + AsyncWrite, notes: &Notes) {
    let (mut from_plain, mut to_plain) = plain.into_split();
    let (mut from_secured, mut to_secured) = tokio::io::split(secured);
    let out = async {
        let _ = copy(&mut from_plain, &mut to_secured).await;
        let _ = to_secured.shutdown().await;
    };
    let back = async {
        if let Err(error) = copy(&mut from_secured, &mut to_plain).await {
            notes.wrong(error);
        }
        let _ = to_plain.shutdown().await;
    };
    tokio::join!(out, back);
}

fn handshake(session: &rustls::CommonState, name: Option<&str>) -> Handshake {
    Handshake {
        resumed: session.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
        leaf: session.peer_certificates().and_then(|chain| chain.first().cloned()).map(CertificateDer::into_owned),
        alpn: session.alpn_protocol().map(|protocol| String::from_utf8_lossy(protocol).into_owned()),
        name: name.map(str::to_owned),
    }
}

/// A runtime that goes away without waiting.
pub struct Background(Runtime);

impl std::ops::Deref for Background {
    type Target = Runtime;

    fn deref(&self) -> &Runtime {
        &self.0
    }
}

impl Background {
    /// With one thread.
    pub fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Self(runtime.expect("a runtime"))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let nothing = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        std::mem::replace(&mut self.0, nothing).shutdown_background();
    }
}

/// Believes anybody: tests look at the certificate themselves.
#[derive(Debug)]
struct Anybody(Option<Vec<SignatureScheme>>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let all =
            || rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes();
        self.0.clone().unwrap_or_else(all)
    }
}
