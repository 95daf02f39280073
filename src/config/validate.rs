//! Makes settings of a document: each table in its turn, then what they say about each other.

mod cached;
mod caches;
mod definitions;
mod endpoints;
mod http2;
mod limits;
mod near;
mod plans;
mod process;
mod redis;
mod routes;
mod sessions;
mod tls;
mod treatment;

use std::path::Path;
use std::sync::Arc;

use self::definitions::Definitions;
use super::raw::{Fault, Table};
use super::settings::{RouteSettings, Settings};
use super::{Environment, address};
use crate::listener::Bind;
use crate::route::pattern::Pattern;
use crate::{rate_limit, upstream};

/// Reads the whole document. `None` only if something was noted.
pub fn settings(root: &mut Table<'_>) -> Option<Settings> {
    let (server, client_addr, paths) = root.section("server", process::server).unwrap_or_default();
    let mut admin = root.section("admin", process::admin).unwrap_or_default();
    admin.share_port = server.share_port;
    if let Some(place) = admin.listen
        && place.port() != 0
        && server.listen.contains(&Bind::Tcp(place))
    {
        root.reading.error(&(0..0), format!("`{place}` is where the server and the admin listener both want to be"));
    }
    let log = root.section("log", process::log).unwrap_or_default();
    let redis = redis::redis(root);
    let memory = root.section("memory", process::memory).unwrap_or_default();
    let near = near::read(root, redis.is_some());
    let purge = root.section("purge", process::purge).unwrap_or_default();
    let (limits, by_default) = root.section("limits", process::limits).unwrap_or_default();
    let definitions = Definitions::read(root, redis.is_some());
    let routes = routes::read(root, &definitions, paths, &by_default);
    let upstreams = definitions.upstreams()?;
    let redis = redis.flatten();
    let routes = routes?;
    Some(Settings {
        server,
        client_addr,
        paths,
        admin,
        log,
        redis,
        near,
        memory,
        purge,
        limits,
        upstreams,
        routes,
        secret_files: root.reading.secret_files.take(),
    })
}

/// Settings that forward everything to `url`.
pub fn plain(url: &str, environment: Environment<'_>) -> Result<Settings, Fault> {
    let server = address::server(url, Path::new(""))?;
    let redis = redis::by_environment(environment)?;
    let mut app = upstream::Settings::new("app", vec![server]);
    if app.servers.iter().any(|server| server.tls) {
        app.tls = Some(tls::by_system(false)?);
    }
    Ok(Settings {
        server: crate::listener::Settings::default(),
        client_addr: crate::client_addr::Settings::default(),
        paths: crate::route::Paths::default(),
        admin: crate::admin::Settings::default(),
        log: crate::telemetry::logs::Settings::default(),
        redis,
        near: crate::redis_pool::near::Settings::default(),
        memory: super::settings::MemorySettings::default(),
        purge: crate::cache::purge::Settings::default(),
        limits: rate_limit::Settings::default(),
        upstreams: vec![app],
        routes: vec![everything()],
        secret_files: Vec::new(),
    })
}

/// The route of a file that has none: everything to the only upstream.
fn everything() -> RouteSettings {
    RouteSettings {
        label: Arc::from("/{*rest}"),
        pattern: Pattern::everything(),
        upstream: 0,
        limits: Vec::new(),
        cost: None,
        session: None,
        cache: None,
        on_write: Vec::new(),
        rewrite: upstream::rewrite::Rewrite::default(),
        response_fields: crate::route::fields::Edits::default(),
        cors: None,
        websocket: true,
        max_body: None,
    }
}
