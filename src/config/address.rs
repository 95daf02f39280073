//! Places on the network, as the file writes them. Pure.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use http::Uri;
use ipnet::IpNet;

use crate::exchange::Scheme;
use crate::listener::Bind;
use crate::upstream::{Place, Server};

/// Reads a place to listen: `127.0.0.1:8080`, `[::1]:8080`, `unix:/run/sidegate.sock` (relative to `folder`).
///
/// # Errors
/// A sentence that says what is wrong.
pub fn bind(text: &str, folder: &Path) -> Result<Bind, String> {
    match text.strip_prefix("unix:") {
        Some("") => Err("`unix:` needs the path of a socket".into()),
        Some(path) => Ok(Bind::Unix(folder.join(path))),
        None => socket(text).map(Bind::Tcp),
    }
}

/// Reads a place to listen as [`bind`] does, with what it speaks if that is said: `https://0.0.0.0:8443`.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn listen(text: &str, folder: &Path) -> Result<(Bind, Option<Scheme>), String> {
    let (scheme, place) = match text.split_once("://") {
        Some(("http", place)) => (Some(Scheme::Http), place),
        Some(("https", place)) => (Some(Scheme::Https), place),
        Some((other, _)) if other != "unix" && !other.starts_with("unix:") => {
            return Err(format!("`{other}` is not `http` or `https`"));
        }
        _ => (None, text),
    };
    match (bind(place, folder)?, scheme) {
        (Bind::Unix(_), Some(_)) => Err("a Unix socket speaks cleartext: write `unix:/path`".into()),
        (bind, scheme) => Ok((bind, scheme)),
    }
}

/// Reads an IP address with its port.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn socket(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| match text.split_once(':') {
        Some(("", port)) if port.parse::<u16>().is_ok() => {
            format!("`{text}` lacks the address: `0.0.0.0:{port}` is every interface, `127.0.0.1:{port}` this machine")
        }
        Some(("localhost", port)) => format!("`localhost` may be several addresses; write `127.0.0.1:{port}`"),
        _ if text.parse::<IpAddr>().is_ok() => format!("`{text}` lacks the port"),
        _ => format!("`{text}` is not an address with a port, like `127.0.0.1:8080` or `[::1]:8080`"),
    })
}

/// Reads a network: `10.0.0.0/8`, or one address.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn network(text: &str) -> Result<IpNet, String> {
    let network = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    network.ok_or_else(|| format!("`{text}` is neither a network like `10.0.0.0/8`, nor an address, nor `unix`"))
}

/// Reads an endpoint: `http://host:port`, `https://host`, `h2c://host:port`, `unix:/path` (relative to `folder`),
/// `h2c+unix:/path`.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn server(text: &str, folder: &Path) -> Result<Server, String> {
    let (http2, plain) = text.strip_prefix("h2c+").map_or((false, text), |plain| (true, plain));
    if let Some(path) = plain.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        return match path {
            "" => Err("`unix:` needs the path of a socket".into()),
            _ => Ok(Server { tls: false, http2, place: Place::Unix(folder.join(path)), weight: 1 }),
        };
    }
    let Some((scheme, _)) = text.split_once("://") else {
        return Err(format!("`{text}` lacks the scheme: `http://{text}`"));
    };
    let (tls, http2) = match scheme {
        "http" => (false, false),
        "https" => (true, false),
        "h2c" => (false, true),
        _ => return Err(format!("`{scheme}` is not `http`, `https`, `h2c` or `unix`")),
    };
    let uri: Uri = text.parse().map_err(|_| format!("`{text}` is not a URL"))?;
    if uri.path() != "/" || uri.query().is_some() {
        return Err("a server has no path: requests are forwarded with their own".into());
    }
    let authority = uri.authority().filter(|authority| !authority.host().is_empty());
    let authority = authority.ok_or_else(|| format!("`{text}` names no host"))?;
    if authority.as_str().contains('@') {
        return Err("a server has no user and password here".into());
    }
    let port = match authority.port_u16() {
        None if authority.as_str().len() > authority.host().len() => {
            return Err(format!("`{text}` has no valid port"));
        }
        Some(0) => return Err("port 0 is nowhere".into()),
        port => port.unwrap_or(if tls { 443 } else { 80 }),
    };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    Ok(Server { tls, http2, place: Place::Tcp(host.to_owned(), port), weight: 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_urls_without_path() {
        let shown = |text| server(text, Path::new("/etc")).map(|server| server.to_string());
        for (text, expected) in [
            ("http://app:3000", "http://app:3000"),
            ("http://app", "http://app:80"),
            ("https://app/", "https://app:443"),
            ("http://[::1]:3000", "http://[::1]:3000"),
            ("h2c://app:50051", "h2c://app:50051"),
            ("h2c+unix:/run/app.sock", "h2c+unix:/run/app.sock"),
            ("unix:/run/app.sock", "unix:/run/app.sock"),
            ("unix:///run/app.sock", "unix:/run/app.sock"),
            ("unix:app.sock", "unix:/etc/app.sock"),
        ] {
            assert_eq!(shown(text).as_deref(), Ok(expected), "{text}");
        }
        for bad in
            ["app:3000", "ftp://app", "http://", "http://app/api", "http://u:p@app", "http://app:0", "http://app:x"]
        {
            assert!(shown(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn listeners_are_addresses_with_port_or_unix_sockets() {
        for text in ["127.0.0.1:8080", "[::]:8443", "unix:/run/sidegate.sock"] {
            assert_eq!(bind(text, Path::new("")).unwrap().to_string(), text);
        }
        let scheme = |text| listen(text, Path::new("")).map(|(bind, scheme)| (bind.to_string(), scheme));
        assert_eq!(scheme("127.0.0.1:80"), Ok(("127.0.0.1:80".into(), None)));
        assert_eq!(scheme("http://127.0.0.1:80"), Ok(("127.0.0.1:80".into(), Some(Scheme::Http))));
        assert_eq!(scheme("https://[::]:443"), Ok(("[::]:443".into(), Some(Scheme::Https))));
        assert_eq!(scheme("unix:///run/a"), Ok(("unix:///run/a".into(), None)));
        for bad in ["ftp://127.0.0.1:80", "https://127.0.0.1", "https://unix:/run/a"] {
            assert!(scheme(bad).is_err(), "{bad}");
        }
        for bad in [":8080", "localhost:80", "127.0.0.1", "8080", "unix:"] {
            assert!(bind(bad, Path::new("")).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_trusted_proxy_is_a_network_or_an_address() {
        assert_eq!(network("10.0.0.0/8").unwrap().to_string(), "10.0.0.0/8");
        assert_eq!(network("::1").unwrap().to_string(), "::1/128");
        assert!(network("10.0.0.0/99").is_err());
    }
}
