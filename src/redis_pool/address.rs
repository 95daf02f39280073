//! Where Redis is, and as whom to speak to it: what the URL of `[redis]` says. Pure.
//!
//! 1. `redis://` and `rediss://` (TLS) name one server, `unix://` its socket; `+sentinel` names those who know the master,
//!    `+cluster` some of the nodes.
//! 2. `//USER:PASSWORD@` is the login on Redis itself, each part percent-encoded where it has to be. The sentinels' own
//!    login stands in keys of its own: it is another one.
//! 3. What is wrong is said without repeating anything of the URL: it may hold a password.
//!
//! # Why
//! redis-rs knows neither of the schemes with `+`, and quotes what it cannot read.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

use super::tls::Tls;

/// The port of Redis, if none is said.
const REDIS: u16 = 6379;
/// The port of a sentinel, if none is said.
const SENTINEL: u16 = 26379;

/// One address that a connection can be made to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A name or an IP address (without brackets), and a port.
    Tcp {
        /// The name or address.
        host: Arc<str>,
        /// The port.
        port: u16,
    },
    /// The path of a socket.
    Unix(Arc<Path>),
}

/// How the servers stand to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topology {
    /// One server, or one address behind which others see to there being one.
    Single(Endpoint),
    /// The master of this name, whichever server the sentinels say it is.
    Sentinel {
        /// Asked in turn.
        sentinels: Vec<Endpoint>,
        /// The name under which they watch over it.
        master: Arc<str>,
        /// As whom to speak to the sentinels.
        login: Login,
    },
    /// Masters that share the slots.
    Cluster {
        /// Nodes to learn the others from.
        seeds: Vec<Endpoint>,
    },
}

/// As whom to speak (`AUTH`); neither: as nobody in particular.
#[derive(Clone, Debug, Default)]
pub struct Login {
    /// The ACL user; `None`: `default`.
    pub user: Option<Arc<str>>,
    /// The password.
    pub password: Option<SecretString>,
}

/// What `[redis]` says about where, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where.
    pub topology: Topology,
    /// As whom.
    pub login: Login,
    /// The number of the database (`SELECT`).
    pub database: i64,
    /// TLS, toward sentinels too.
    pub tls: Option<Tls>,
}

/// What a URL says: a [`Server`] without the keys that stand beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Where; sentinels without their login.
    pub topology: Topology,
    /// As whom.
    pub login: Login,
    /// The number of the database.
    pub database: i64,
    /// TLS is to be spoken.
    pub tls: bool,
}

impl Address {
    /// The address with the TLS that it asks for.
    pub fn with_tls(self, tls: Option<Tls>) -> Server {
        Server { topology: self.topology, login: self.login, database: self.database, tls }
    }
}

impl Login {
    /// What `AUTH` takes: the user, if one is named, and the password. `None`: nobody need say who they are.
    pub fn credentials(&self) -> Option<(Option<&str>, &str)> {
        let password = self.password.as_ref().map(ExposeSecret::expose_secret);
        // A user without a password (`nopass`) is let in with any.
        (self.user.is_some() || password.is_some()).then(|| (self.user.as_deref(), password.unwrap_or_default()))
    }
}

impl FromStr for Address {
    type Err = &'static str;

    /// Reads a URL.
    ///
    /// # Errors
    /// A sentence that says what is wrong, and repeats nothing of it.
    fn from_str(url: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let (tls, kind) = match scheme {
            "unix" => return unix(rest),
            "rediss" => (true, ""),
            _ => match scheme.split_once('+').unwrap_or((scheme, "")) {
                ("redis", kind) => (false, kind),
                ("rediss", kind) => (true, kind),
                _ => (false, "unknown"),
            },
        };
        if !matches!(kind, "" | "sentinel" | "cluster") {
            return Err(
                "a Redis URL begins with redis://, rediss:// (TLS), unix://, redis+sentinel:// or redis+cluster://",
            );
        }
        if rest.contains(['?', '#']) {
            return Err("a Redis URL has no `?` and no `#`: in a password they are written %3F and %23");
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) =
            authority.rsplit_once('@').map_or((None, authority), |(login, hosts)| (Some(login), hosts));
        let login = login.map(login_of).transpose()?.unwrap_or_default();
        let port = if kind == "sentinel" { SENTINEL } else { REDIS };
        let mut endpoints = hosts.split(',').map(|host| endpoint(host, port)).collect::<Result<Vec<_>, _>>()?;
        let (topology, path) = match kind {
            "sentinel" => {
                let (master, path) = path.split_once('/').unwrap_or((path, ""));
                let master = decoded(master)?;
                if master.is_empty() {
                    return Err("sentinels are asked for a master by its name: redis+sentinel://HOST,HOST/NAME");
                }
                (Topology::Sentinel { sentinels: endpoints, master: master.into(), login: Login::default() }, path)
            }
            "cluster" => (Topology::Cluster { seeds: endpoints }, path),
            _ => match (endpoints.pop(), endpoints.is_empty()) {
                (Some(only), true) => (Topology::Single(only), path),
                _ => return Err("several hosts are redis+sentinel:// or redis+cluster://"),
            },
        };
        let database = database(path)?;
        if kind == "cluster" && database != 0 {
            return Err("a cluster has only database 0");
        }
        Ok(Self { topology, login, database, tls })
    }
}

/// `unix:///PATH?db=1&user=U&pass=P`.
fn unix(rest: &str) -> Result<Address, &'static str> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let path = decoded(path)?;
    if !path.starts_with('/') {
        return Err("the path of a socket is absolute: unix:///run/redis.sock");
    }
    let mut address = Address {
        topology: Topology::Single(Endpoint::Unix(Path::new(&path).into())),
        login: Login::default(),
        database: 0,
        tls: false,
    };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("db", number)) => address.database = database(number)?,
            Some(("user", user)) => address.login.user = Some(decoded(user)?.into()),
            Some(("pass", password)) => address.login.password = Some(decoded(password)?.into()),
            _ => return Err("after the path of a socket may stand ?db=NUMBER&user=USER&pass=PASSWORD"),
        }
    }
    Ok(address)
}

fn login_of(text: &str) -> Result<Login, &'static str> {
    let (user, password) = text.split_once(':').map_or((text, None), |(user, password)| (user, Some(password)));
    let user = Some(decoded(user)?).filter(|user| !user.is_empty()).map(Into::into);
    let password = password.map(decoded).transpose()?.filter(|password| !password.is_empty()).map(Into::into);
    Ok(Login { user, password })
}

fn endpoint(text: &str, port: u16) -> Result<Endpoint, &'static str> {
    let wrong = "a host is a name, an IPv4 address, or an IPv6 address in brackets";
    let (host, port_written) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or(wrong)?;
            host.parse::<Ipv6Addr>().map_err(|_| wrong)?;
            (host, Some(rest).filter(|rest| !rest.is_empty()).map(|rest| rest.strip_prefix(':').unwrap_or("")))
        }
        None => {
            let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
            let letter = |each: u8| each.is_ascii_alphanumeric() || b".-_".contains(&each);
            if host.is_empty() || !host.bytes().all(letter) {
                return Err(wrong);
            }
            (host, port)
        }
    };
    let port = match port_written {
        None => port,
        Some(written) => {
            let port = written.parse().ok().filter(|port| *port > 0);
            port.ok_or("a port is a number from 1 to 65535")?
        }
    };
    Ok(Endpoint::Tcp { host: host.into(), port })
}

fn database(text: &str) -> Result<i64, &'static str> {
    match text {
        "" => Ok(0),
        _ if text.bytes().all(|each| each.is_ascii_digit()) => text.parse().map_err(|_| "no database has that number"),
        _ => Err("a database is a number"),
    }
}

/// Percent-decoded (RFC 3986 §2.1).
fn decoded(text: &str) -> Result<String, &'static str> {
    let wrong = "a `%` stands before two hexadecimal digits; itself it is written %25";
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (digits, after) = after.split_at_checked(2).ok_or(wrong)?;
        rest = after;
        let digit = |each: u8| char::from(each).to_digit(16).ok_or(wrong);
        bytes.push((digit(digits[0])? * 16 + digit(digits[1])?) as u8);
    }
    String::from_utf8(bytes).map_err(|_| "what is percent-encoded is not UTF-8")
}

impl PartialEq for Login {
    fn eq(&self, other: &Self) -> bool {
        let exposed = |login: &Self| login.password.as_ref().map(|password| password.expose_secret().to_owned());
        self.user == other.user && exposed(self) == exposed(other)
    }
}

impl Eq for Login {}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

/// The URL without its logins, and with all its ports.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secured = if self.tls.is_some() { "s" } else { "" };
        let listed = |endpoints: &[Endpoint]| endpoints.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        match &self.topology {
            Topology::Single(Endpoint::Unix(path)) => write!(f, "unix://{}", path.display())?,
            Topology::Single(endpoint) => write!(f, "redis{secured}://{endpoint}")?,
            Topology::Sentinel { sentinels, master, .. } => {
                write!(f, "redis{secured}+sentinel://{}/{master}", listed(sentinels))?;
            }
            Topology::Cluster { seeds } => write!(f, "redis{secured}+cluster://{}", listed(seeds))?,
        }
        match (self.database, &self.topology) {
            (0, _) => Ok(()),
            (database, Topology::Single(Endpoint::Unix(_))) => write!(f, "?db={database}"),
            (database, _) => write!(f, "/{database}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Address {
        url.parse().unwrap_or_else(|wrong| panic!("{url}: {wrong}"))
    }

    fn shown(url: &str) -> String {
        read(url).with_tls(None).to_string()
    }

    #[test]
    fn each_scheme_names_its_topology_with_all_ports() {
        for (url, expected) in [
            ("redis://127.0.0.1", "redis://127.0.0.1:6379"),
            ("redis://u:p@h:7000/3", "redis://h:7000/3"),
            ("redis://[::1]/", "redis://[::1]:6379"),
            ("redis://[::1]:7000/0", "redis://[::1]:7000"),
            ("rediss://h:6380/1", "redis://h:6380/1"),
            ("unix:///run/r%20s.sock?db=2&user=u&pass=hunter2", "unix:///run/r s.sock?db=2"),
            (
                "redis+sentinel://u:p@h1:26379,h2,[::2]:5/mymaster",
                "redis+sentinel://h1:26379,h2:26379,[::2]:5/mymaster",
            ),
            ("rediss+sentinel://h/m%2Fn/4", "redis+sentinel://h:26379/m/n/4"),
            ("redis+cluster://h1,h2:7001/", "redis+cluster://h1:6379,h2:7001"),
        ] {
            assert_eq!(shown(url), expected, "{url}");
            assert_eq!(read(url).tls, url.starts_with("rediss"), "{url}");
        }
    }

    #[test]
    fn logins_are_decoded_and_never_shown() {
        let login = |url| {
            let Login { user, password } = read(url).login;
            (user.map(|user| user.to_string()), password.map(|password| password.expose_secret().to_owned()))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(login("redis://h"), (None, None));
        assert_eq!(login("redis://:p%40s%2Fs%25@h"), (None, some("p@s/s%")));
        assert_eq!(login("redis://app:a:b@c@h"), (some("app"), some("a:b@c")));
        assert_eq!(login("redis+cluster://app@h,i"), (some("app"), None));
        assert_eq!(login("unix:///s?pass=p%26q"), (None, some("p&q")));
        let address = read("redis://app:hunter2@h");
        assert!(!format!("{address:?} {}", address.clone().with_tls(None)).contains("hunter2"));
    }

    #[test]
    fn logins_that_differ_make_servers_that_differ() {
        assert_eq!(read("redis://u:a@h"), read("redis://u:a@h:6379/0"));
        assert_ne!(read("redis://u:a@h"), read("redis://u:b@h"));
        assert_ne!(read("redis://u:a@h"), read("redis://v:a@h"));
    }

    #[test]
    fn what_is_wrong_is_said_without_repeating_the_url() {
        for url in [
            "",
            "hunter2",
            "127.0.0.1:6379/hunter2",
            "http://u:hunter2@h",
            "redis+hunter2://h",
            "redis://u:hunter2@",
            "redis://u:hunter2@h:port",
            "redis://u:hunter2@h:0",
            "redis://u:hunter2@h:65536",
            "redis://u:hunter2@h/db",
            "redis://u:hunter2@h/99999999999999999999",
            "redis://u:hunter2@h/-1",
            "redis://u:hunter2@::1",
            "redis://u:hunter2@[::1",
            "redis://u:hunter2@[::1]7000",
            "redis://u:hunter2@h h",
            "redis://u:hunter2@h?protocol=resp3",
            "redis://u:hunter2#@h",
            "redis://u:hunter2/@h",
            "redis://u:%hunter2@h",
            "redis://u:hunter2%4",
            "redis://u:hunter2%ff@h",
            "redis://u:hunter2@h1,h2",
            "redis+sentinel://u:hunter2@h1,h2",
            "redis+sentinel://u:hunter2@h1,h2//3",
            "redis+cluster://u:hunter2@h1,,h2",
            "redis+cluster://u:hunter2@h1/1",
            "unix://run/hunter2",
            "unix:///run?hunter2",
        ] {
            let wrong = url.parse::<Address>().expect_err(url);
            assert!(!wrong.contains("hunter2"), "{wrong}");
        }
    }
}
