//! TLS toward clients (`[server.tls]`), toward apps (`[upstream.NAME] tls`), and toward Redis (`[redis] tls`).
//!
//! Certificates and keys are read here, once: what is wrong with them stands at their place in the file, and what was
//! checked is what is used. Keys are never quoted, nor is PEM that was pasted where a path belongs.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, DnsName, ServerName};

use super::definitions::identity_fields;
use crate::clock::Clock;
use crate::config::pem::{Pem, pem};
use crate::config::raw::{Fault, Placed, Table, Value, choice, text};
use crate::exchange::CertificateFact;
use crate::listener::tls::certificate::{Certificate, Wrong};
use crate::listener::tls::pem::{self, Authorities};
use crate::listener::tls::{self, Oldest, client};
use crate::{redis_pool, upstream};

/// In place of a file: what the system believes.
const SYSTEM: &str = "system";

/// `[server.tls]`. `None`: something was noted.
pub fn server(table: &mut Table<'_>) -> Option<tls::Secured> {
    let mut files = Vec::new();
    let has_list = table.value("certificates").is_some();
    let mut certificates = Vec::new();
    if !has_list || table.value("certificate").is_some() || table.value("key").is_some() {
        certificates.push(pair(table, true, &mut files));
    }
    if let Some(list) = table.value("certificates") {
        if list.items().is_empty() {
            table.reading.error(&list.at, "`certificates` is an empty list");
            return None;
        }
        for item in list.items() {
            let read = |value: &Value<'_>| value.table("a certificate", |table| pair(table, true, &mut files));
            certificates.push(item.read(read).and_then(|pair| pair.value));
        }
    }
    let mut settings = tls::Settings {
        certificates: Vec::new(),
        refuse_unknown_names: false,
        oldest: Oldest::default(),
        http2: true,
        client: None,
        files: Vec::new(),
    };
    table.set("unknown_name", &mut settings.refuse_unknown_names, choice(&[("default", false), ("refuse", true)]));
    table.set("min_version", &mut settings.oldest, oldest);
    table.set("http2", &mut settings.http2, Value::flag);
    if table.value("client").is_some() {
        let client = table.section("client", |table| asked(table, &mut files)).flatten();
        let told = client.iter().flat_map(|client| &client.forward).map(|(name, _)| name.clone()).collect();
        table.reading.certificate_fields.replace(Some(told));
        settings.client = Some(client?);
    }
    let certificates: Vec<Placed<Arc<Certificate>>> = certificates.into_iter().collect::<Option<_>>()?;
    let places: Vec<_> = certificates.iter().map(|certificate| certificate.at.clone()).collect();
    settings.certificates = certificates.into_iter().map(|certificate| certificate.value).collect();
    for (certificate, at) in settings.certificates.iter().zip(&places).skip(1) {
        if certificate.names.is_empty() {
            let help = "names = [\"www.example.com\"]; only the first certificate serves whoever asks for none";
            table.reading.error(at, Fault::with_help("this certificate says no name that it is for", help));
        }
    }
    if let Some((index, name)) = tls::twice(&settings.certificates) {
        table.reading.warning(&places[index], format!("`{name}` has a certificate already: this one is never shown"));
    }
    settings.files = files;
    let secured = tls::Secured::new(settings);
    secured.map_err(|error| table.reading.error(&table.at, error)).ok()
}

/// `certificate`, `key` and, if it `serves`, `names`; where the certificate stands.
fn pair(table: &mut Table<'_>, serves: bool, files: &mut Vec<PathBuf>) -> Option<Placed<Arc<Certificate>>> {
    let chain = table.require("certificate", "a PEM file with the certificate chain, leaf first", pem);
    let key = table.require("key", "a PEM file with the private key", pem);
    let names = if serves { table.list("names", |value| Ok(name(value.text()?)?)) } else { None };
    let (chain, key) = (chain?, key?);
    files.extend([&chain, &key].into_iter().filter_map(|pem| pem.value.file.clone()));
    let names = names.map(|names| names.value).unwrap_or_default().into_iter().map(|name| name.value).collect();
    let now = Clock::System.unix_seconds().cast_signed();
    let (reading, shown) = (table.reading, &chain.value.shown);
    match Certificate::new(shown, &chain.value.text, &key.value.text, names) {
        Ok(certificate) => {
            if let Some(clause) = certificate.about_its_days(now) {
                reading.warning(&chain.at, format!("{shown} {clause}"));
            }
            if let Some(name) = certificate.unproven().filter(|_| serves) {
                reading.warning(&chain.at, format!("{shown} is not for `{name}`: clients will refuse it"));
            }
            Some(Placed { value: Arc::new(certificate), at: chain.at })
        }
        Err(Wrong::Certificate(clause)) => {
            reading.error(&chain.at, format!("{shown} {clause}"));
            None
        }
        Err(Wrong::Key(clause)) => {
            reading.error(&key.at, format!("{} {clause}", key.value.shown));
            None
        }
    }
}

/// `[server.tls] client`.
fn asked(table: &mut Table<'_>, files: &mut Vec<PathBuf>) -> Option<client::Settings> {
    table.needs("ca", "a PEM file with the authorities that sign clients' certificates");
    let authorities = authorities(table, false, files);
    let mut mode = client::Mode::Required;
    table.set("mode", &mut mode, choice(&[("optional", client::Mode::Optional), ("required", client::Mode::Required)]));
    let fact = |value: &Value<'_>| choice(&CertificateFact::WORDS)(value);
    let forward = table.value("forward").map(|value| identity_fields(&value, fact)).unwrap_or_default();
    Some(client::Settings { authorities: authorities?, mode, forward })
}

/// `ca`: one or several files. `None`: it is not there, or something was noted.
fn authorities(table: &mut Table<'_>, may_be_system: bool, files: &mut Vec<PathBuf>) -> Option<Authorities> {
    let mut believed = Vec::new();
    let listed = table.filled("ca", |value| {
        if may_be_system && value.text() == Ok(SYSTEM) {
            believed.extend(of_system()?);
            return Ok(SYSTEM.to_owned());
        }
        let Pem { shown, text, file } = pem(value)?;
        let wrong = |clause: String| Fault::from(format!("{shown} {clause}"));
        let found = pem::certificates(&text).map_err(wrong)?;
        Authorities::new(&found, String::new()).map_err(wrong)?;
        files.extend(file);
        believed.extend(found);
        Ok(shown)
    })?;
    let shown = listed.value.iter().map(|origin| origin.value.as_str()).collect::<Vec<_>>().join(", ");
    // An item that is wrong was noted at its own place.
    Authorities::new(&believed, shown).ok().filter(|_| !listed.value.is_empty())
}

/// `[upstream.NAME] tls`, for these servers. `None`: something was noted; `Some(None)`: none of them speaks TLS.
/// `http2`: they are offered it.
pub fn upstream(
    table: &mut Table<'_>,
    servers: &[upstream::Server],
    http2: bool,
) -> Option<Option<upstream::tls::Secured>> {
    let speaks = servers.iter().any(|server| server.tls);
    let reading = table.reading;
    let at = table.value("servers").map_or(0..0, |servers| servers.at);
    let secured = match table.value("tls") {
        None if !speaks => return Some(None),
        None => by_system(http2).map_err(|fault| reading.error(&at, fault)).ok(),
        Some(value) => {
            let secured = table.section("tls", |table| verified(table, http2, "the app")).flatten();
            if !speaks && !servers.is_empty() {
                reading.warning(&value.at, "`tls` is for https, and no server here speaks https");
                return secured.map(|_| None);
            }
            secured
        }
    }?;
    for server in servers.iter().filter(|server| server.tls) {
        if let upstream::Place::Tcp(host, _) = &server.place
            && secured.name(host).is_err()
        {
            let help = "say it: tls = { server_name = \"app.internal\" }";
            reading.error(&at, Fault::with_help(format!("`{host}` is no name that a certificate could be for"), help));
        }
    }
    Some(Some(secured))
}

/// `[redis] tls`.
pub fn redis(table: &mut Table<'_>) -> Option<redis_pool::tls::Tls> {
    verified(table, false, "Redis").as_ref().map(of_redis)
}

/// What a Redis that speaks TLS is verified with if nothing is said.
///
/// # Errors
/// The system has no certificates.
pub fn redis_by_system() -> Result<redis_pool::tls::Tls, Fault> {
    by_system(false).as_ref().map(of_redis).map_err(Clone::clone)
}

/// The same verification, toward Redis.
fn of_redis(secured: &upstream::tls::Secured) -> redis_pool::tls::Tls {
    let settings = &secured.settings;
    let name = settings.server_name.as_ref();
    let told = redis_pool::tls::Told {
        authorities: believed(settings),
        certificate: settings.certificate.as_ref().map(ToString::to_string).unwrap_or_default(),
        server_name: name.map(|name| name.to_str().into_owned()).unwrap_or_default(),
        oldest: settings.oldest.to_string(),
        files: settings.files.clone(),
    };
    redis_pool::tls::Tls::new(&secured.config(), name.cloned(), told)
}

/// Whose certificates are believed, in words.
pub fn believed(settings: &upstream::tls::Settings) -> String {
    let anybody = || "danger_accept_any_certificate".to_owned();
    settings.authorities.as_ref().map_or_else(anybody, ToString::to_string)
}

/// As the keys of a `tls` table say; `to` whom, for messages.
fn verified(table: &mut Table<'_>, http2: bool, to: &str) -> Option<upstream::tls::Secured> {
    let reading = table.reading;
    let mut files = Vec::new();
    let ca = table.value("ca");
    let own = table.value("certificate").is_some() || table.value("key").is_some();
    let own = own.then(|| pair(table, false, &mut files));
    let server_name = table.read("server_name", text(server_name)).map(|name| name.value);
    let mut oldest = Oldest::default();
    table.set("min_version", &mut oldest, self::oldest);
    let mut anybody = false;
    let danger = table.value("danger_accept_any_certificate");
    table.set("danger_accept_any_certificate", &mut anybody, Value::flag);
    let authorities = match (&ca, &danger) {
        (Some(ca), _) if anybody => {
            let help = "leave out one: `ca`, or `danger_accept_any_certificate`";
            reading.error(&ca.at, Fault::with_help("any certificate is accepted: `ca` has no meaning", help));
            return None;
        }
        (None, Some(danger)) if anybody => {
            let warning =
                format!("any certificate is accepted: whoever is on the way to {to} can read and change everything");
            reading.warning(&danger.at, warning);
            None
        }
        (Some(_), _) => Some(authorities(table, true, &mut files)?),
        (None, _) => {
            let found = of_system().and_then(|found| Ok(Authorities::new(&found, SYSTEM.into())?));
            Some(found.map_err(|fault| reading.error(&table.at, fault)).ok()?)
        }
    };
    let certificate = match own {
        None => None,
        Some(own) => Some(own?.value),
    };
    let secured = upstream::tls::Secured::new(upstream::tls::Settings {
        authorities,
        certificate,
        server_name,
        oldest,
        http2,
        files,
    });
    secured.map_err(|error| reading.error(&table.at, error)).ok()
}

/// What a server that speaks https is verified with if nothing is said.
///
/// # Errors
/// The system has no certificates.
pub fn by_system(http2: bool) -> Result<upstream::tls::Secured, Fault> {
    let settings = upstream::tls::Settings {
        authorities: Some(Authorities::new(&of_system()?, SYSTEM.into())?),
        certificate: None,
        server_name: None,
        oldest: Oldest::default(),
        http2,
        files: Vec::new(),
    };
    Ok(upstream::tls::Secured::new(settings)?)
}

fn of_system() -> Result<Vec<CertificateDer<'static>>, Fault> {
    let mut found = rustls_native_certs::load_native_certs().certs;
    // Some systems carry oddities that nothing is lost with.
    found.retain(|certificate| RootCertStore::empty().add(certificate.clone()).is_ok());
    if found.is_empty() {
        let help = "install them (ca-certificates), or say whom to believe: tls = { ca = \"ca.pem\" }";
        return Err(Fault::with_help("this system has no certificates to verify servers with", help));
    }
    Ok(found)
}

fn oldest(value: &Value<'_>) -> Result<Oldest, Fault> {
    choice(&[("1.2", Oldest::Tls12), ("1.3", Oldest::Tls13)])(value)
}

/// A name that a certificate serves.
fn name(text: &str) -> Result<String, String> {
    let name = text.to_ascii_lowercase();
    match DnsName::try_from(name.strip_prefix("*.").unwrap_or(&name)) {
        Ok(_) => Ok(name),
        Err(_) => Err(format!("`{text}` is not a host name like `www.example.com` or `*.example.com`")),
    }
}

fn server_name(text: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(text.to_owned()).map_err(|_| format!("`{text}` is neither a host name nor an address"))
}
