//! TLS on both sides, over real sockets.

mod apps;
mod clients;
mod edges;
mod names;
mod protocols;
mod reload;
mod resumption;

use crate::harness::tls::{Asking, Authority, Door, Identity};
use crate::harness::{Configuration, Directory, Origin, Reply, Sidegate};

/// Lines of `[server.tls]` with `NAME.pem` and `NAME.key`.
fn pair(directory: &Directory, name: &str) -> String {
    let file = |ending: &str| directory.file(&format!("{name}.{ending}")).display().to_string();
    format!("certificate = {:?}, key = {:?}", file("pem"), file("key"))
}

/// An app that says under which name each field came that begins with `x-client`.
fn telling() -> Origin {
    Origin::answering(|request| {
        let told = request.fields.0.iter().filter(|(name, _)| name.to_lowercase().starts_with("x-client"));
        let mut told: Vec<_> = told.map(|(name, value)| format!("{}={value}", name.to_lowercase())).collect();
        told.sort();
        Reply::text(told.join(" "))
    })
}

/// sidegate in front of `app` with one certificate for `localhost`, and `more` in its `tls`.
fn secured(app: &Origin, directory: &Directory, more: &str) -> (Configuration, Identity) {
    let identity = Authority::new("servers").server(&["localhost"]);
    identity.write(directory, "server");
    let tls = format!("tls = {{ {}{more} }}", pair(directory, "server"));
    (Configuration::of(app).server(&tls), identity)
}

/// A door to it for `localhost`.
fn door(sidegate: &Sidegate) -> Door {
    Door::to(sidegate.address(), &Asking::for_name("localhost"))
}
