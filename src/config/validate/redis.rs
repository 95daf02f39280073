//! `[redis]`, or `REDIS_URL`.

use std::time::Duration;

use secrecy::ExposeSecret;

use super::process::{count, prefix, sized};
use super::tls;
use crate::config::raw::{Fault, Placed, Table, Value, choice, text};
use crate::config::secret::{secret, secret_url};
use crate::config::{Environment, quantity};
use crate::redis_pool::Breaker;
use crate::redis_pool::ReplicaReads;
use crate::redis_pool::Settings;
use crate::redis_pool::address::{Address, Endpoint, Login, Topology};

/// The longest time that a start, and a reload, waits for Redis.
const LONGEST_START: Duration = Duration::from_secs(60);

/// `[redis]`, or `REDIS_URL`. `None`: no Redis is configured; `Some(None)`: it is, but wrongly.
pub fn redis(root: &mut Table<'_>) -> Option<Option<Settings>> {
    let reading = root.reading;
    let named = named(reading.environment);
    let in_file = root.section("redis", |table| section(table, &named));
    match in_file {
        Some(redis) => Some(redis),
        // `redis` stands in the file, but is no table: noted already.
        None if root.value("redis").is_some() => Some(None),
        None => match by_environment(reading.environment) {
            Ok(redis) => redis.map(Some),
            Err(fault) => {
                reading.error(&(0..0), fault);
                Some(None)
            }
        },
    }
}

/// Redis as `REDIS_URL` names it, with nothing else said.
pub fn by_environment(environment: Environment<'_>) -> Result<Option<Settings>, Fault> {
    let Some(address) = named(environment)? else { return Ok(None) };
    let tls = if address.tls { Some(tls::redis_by_system()?) } else { None };
    Ok(Some(Settings::new(address.with_tls(tls))))
}

/// What `REDIS_URL` names.
fn named(environment: Environment<'_>) -> Result<Option<Address>, Fault> {
    match environment("REDIS_URL").filter(|url| !url.is_empty()) {
        None => Ok(None),
        Some(url) => match url.parse() {
            Ok(address) => Ok(Some(address)),
            Err(wrong) => Err(format!("REDIS_URL: {wrong}").into()),
        },
    }
}

fn section(table: &mut Table<'_>, named: &Result<Option<Address>, Fault>) -> Option<Settings> {
    let reading = table.reading;
    let url = table.value("url");
    let address: Option<Address> = match (&url, named) {
        (Some(url), _) => {
            url.read(|value| Ok(secret_url(value)?.expose_secret().parse::<Address>()?)).map(|url| url.value)
        }
        (None, Ok(Some(address))) => Some(address.clone()),
        (None, Ok(None)) => {
            let help = "url = \"redis://127.0.0.1:6379\", or the environment variable REDIS_URL";
            reading.error(&table.at, Fault::with_help("`[redis]` lacks `url`", help));
            None
        }
        (None, Err(fault)) => {
            reading.error(&table.at, fault.clone());
            None
        }
    };
    // Read even if there is no URL: what is wrong with the rest is said too.
    let login = login(table, ["user", "password"]);
    let of_sentinels = [table.value("sentinel_user"), table.value("sentinel_password")];
    let sentinel_login = self::login(table, ["sentinel_user", "sentinel_password"]);
    let at = url.map_or(table.at.clone(), |url| url.at);
    let tls = table.value("tls").map(|value| (value.at, table.section("tls", tls::redis).flatten()));
    let mut rest = Settings::new("redis://localhost".parse::<Address>().ok()?.with_tls(None));
    table.set("prefix", &mut rest.prefix, text(prefix));
    table.set("timeout", &mut rest.timeout, text(quantity::duration));
    table.set("connect_timeout", &mut rest.connect_timeout, text(quantity::duration));
    table.set("start_wait", &mut rest.start_wait, text(start_wait));
    table.set("connections", &mut rest.connections, count(1..65));
    table.section("breaker", |table| breaker(table, &mut rest.breaker));
    table.set("max_sends", &mut rest.max_sends, count(1..1_000_001));
    table.set("max_send_bytes", &mut rest.max_send_bytes, sized(64 << 10, 1 << 34));
    let words = [("never", ReplicaReads::Never), ("cache", ReplicaReads::Cache)];
    let replicas = table.read("replicas", choice(&words));

    let mut address = address?;
    override_by(&mut address.login, login);
    match &mut address.topology {
        Topology::Sentinel { login, .. } => override_by(login, sentinel_login),
        _ => {
            for value in of_sentinels.into_iter().flatten() {
                reading.warning(&value.at, "this login is for sentinels, and this URL names none");
            }
        }
    }
    let tls = match (address.tls, tls) {
        (false, None) => None,
        (false, Some((at, _))) => {
            reading.warning(&at, "`tls` is for rediss://, and this URL does not speak TLS");
            None
        }
        (true, None) => Some(tls::redis_by_system().map_err(|fault| reading.error(&at, fault)).ok()?),
        (true, Some((_, tls))) => Some(tls?),
    };
    if let Some(tls) = &tls {
        for host in hosts(&address.topology).filter(|host| !tls.can_verify(host)) {
            let help = "say it: tls = { server_name = \"redis.internal\" }";
            reading.error(&at, Fault::with_help(format!("`{host}` is no name that a certificate could be for"), help));
        }
    }
    if let Some(Placed { value, at }) = replicas {
        rest.replicas = value;
        if value != ReplicaReads::Never && matches!(address.topology, Topology::Single(_)) {
            let help = "a URL with redis+sentinel:// or redis+cluster://, or replicas = \"never\"";
            reading.error(&at, Fault::with_help("nobody says what replicas a single server has", help));
        }
    }
    Some(Settings { server: address.with_tls(tls), ..rest })
}

fn start_wait(time: &str) -> Result<Duration, String> {
    let wait = quantity::duration_or_zero(time)?;
    if wait <= LONGEST_START { Ok(wait) } else { Err(format!("`{time}` is more than a minute")) }
}

fn breaker(table: &mut Table<'_>, breaker: &mut Breaker) {
    table.set("failures", &mut breaker.failures, count(1..1_000_001));
    table.set("first_wait", &mut breaker.first_wait, text(quantity::duration));
    let longest = table.read("longest_wait", text(quantity::duration));
    if let Some(Placed { value, at }) = longest {
        breaker.longest_wait = value;
        if value < breaker.first_wait {
            let first = quantity::shown_duration(breaker.first_wait);
            table.reading.error(&at, format!("the longest wait is shorter than the first one ({first})"));
        }
    }
}

/// The keys of a login.
fn login(table: &mut Table<'_>, [user, password]: [&'static str; 2]) -> Login {
    let named = |value: &Value<'_>| match value.text()? {
        "" => Err(Fault::from("a user has a name")),
        user => Ok(user.into()),
    };
    Login {
        user: table.read(user, named).map(|user| user.value),
        password: table.read(password, secret).map(|password| password.value),
    }
}

/// What stands in keys wins over the URL.
fn override_by(login: &mut Login, said: Login) {
    login.user = said.user.or(login.user.take());
    login.password = said.password.or(login.password.take());
}

fn hosts(topology: &Topology) -> impl Iterator<Item = &str> {
    let endpoints = match topology {
        Topology::Single(only) => std::slice::from_ref(only),
        Topology::Sentinel { sentinels: several, .. } | Topology::Cluster { seeds: several } => several,
    };
    endpoints.iter().filter_map(|endpoint| match endpoint {
        Endpoint::Tcp { host, .. } => Some(&**host),
        Endpoint::Unix(_) => None,
    })
}
