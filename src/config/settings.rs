//! What a valid configuration says, in the rooms' own types.

use std::path::PathBuf;
use std::sync::Arc;

use crate::route::strictness::{Hold, Strictness};
use crate::telemetry::logs;
use crate::{admin, cache, client_addr, listener, rate_limit, redis_pool, session, upstream};

/// A whole configuration, free of contradictions.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `[server]`.
    pub server: listener::Settings,
    /// `server.trusted_proxies`.
    pub client_addr: client_addr::Settings,
    /// `server.path_ambiguity` and `server.path_case`.
    pub paths: crate::route::Paths,
    /// `[admin]`.
    pub admin: admin::Settings,
    /// `[log]`.
    pub log: logs::Settings,
    /// `[redis]`, or `REDIS_URL`; without: everything in process memory.
    pub redis: Option<redis_pool::Settings>,
    /// `[near]`: what is remembered of Redis.
    pub near: redis_pool::near::Settings,
    /// `[memory]`: bounds of the in-process stores.
    pub memory: MemorySettings,
    /// `[purge]`: who may use the method `PURGE`.
    pub purge: cache::purge::Settings,
    /// `[limits]`: what all limits have in common.
    pub limits: rate_limit::Settings,
    /// `[upstream.NAME]`, by name.
    pub upstreams: Vec<upstream::Settings>,
    /// `[[route]]`, in the file's order. A file without any gets one: `/{*rest}` to the only upstream.
    pub routes: Vec<RouteSettings>,
    /// Files that secrets of any of these were read from.
    pub secret_files: Vec<PathBuf>,
}

impl Settings {
    /// Every limit that a route has, once.
    pub fn limits_in_use(&self) -> Vec<Arc<rate_limit::Limit>> {
        let mut limits: Vec<Arc<rate_limit::Limit>> = Vec::new();
        for limit in self.routes.iter().flat_map(|route| &route.limits) {
            if limits.iter().all(|known| known.name != limit.name) {
                limits.push(limit.clone());
            }
        }
        limits
    }

    /// The files besides the configuration that were read for it: certificates, keys and secrets.
    pub fn files(&self) -> Vec<PathBuf> {
        let server = self.server.tls.iter().flat_map(|tls| &tls.settings.files);
        let upstreams = self.upstreams.iter().flat_map(|upstream| &upstream.tls).flat_map(|tls| &tls.settings.files);
        let redis = self.redis.iter().flat_map(|redis| &redis.server.tls).flat_map(|tls| &tls.told.files);
        server.chain(upstreams).chain(redis).chain(&self.secret_files).cloned().collect()
    }
}

/// `[memory]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemorySettings {
    /// `limit_keys`.
    pub limits: rate_limit::store::MemorySettings,
    /// `responses`.
    pub cache: cache::MemorySettings,
    /// Work areas of content coders.
    pub coders: cache::encode::MemorySettings,
    /// `grace_sessions`.
    pub sessions: session::MemorySettings,
    /// `issued_sessions`.
    pub issued: session::IssuedSettings,
    /// `recent_sessions`.
    pub recent: session::RecentSettings,
    /// `owed_invalidations`.
    pub owed: cache::OwedSettings,
}

/// `[[route]]`.
#[derive(Clone, Debug)]
pub struct RouteSettings {
    /// Its label in logs and metrics: methods (if any), host (if any) and path, as in the file.
    pub label: Arc<str>,
    /// What it matches.
    pub pattern: crate::route::pattern::Pattern,
    /// Where it leads: an index into [`Settings::upstreams`].
    pub upstream: usize,
    /// What limits it.
    pub limits: Vec<Arc<rate_limit::Limit>>,
    /// What a request costs under limits whose cost is in units, if not what they say themselves.
    pub cost: Option<u64>,
    /// Who may pass.
    pub session: Option<session::OnRoute>,
    /// What is stored.
    pub cache: Option<Arc<cache::Policy>>,
    /// Paths besides its own that a successful write here invalidates: templates of this route's parameters.
    pub on_write: Vec<String>,
    /// What the app gets to see instead of what the client sent.
    pub rewrite: upstream::rewrite::Rewrite,
    /// What is done to the fields of answers.
    pub response_fields: crate::route::fields::Edits,
    /// Which other origins' pages may read answers.
    pub cors: Option<Arc<crate::route::cors::Policy>>,
    /// WebSockets pass.
    pub websocket: bool,
    /// Bytes of request content, if bounded; more: 413.
    pub max_body: Option<u64>,
}

fn hold(mode: session::Mode) -> Hold {
    match mode {
        session::Mode::Required => Hold::Required,
        session::Mode::Optional => Hold::Optional,
        session::Mode::Observe => Hold::Observed,
    }
}

impl RouteSettings {
    /// How strict it is. `among`: all routes, itself included.
    pub fn strictness(&self, among: &[Self]) -> Strictness {
        let alike = |other: &Self| {
            self.upstream == other.upstream
                && self.rewrite == other.rewrite
                && self.response_fields == other.response_fields
                && self.cors == other.cors
                && self.on_write == other.on_write
                && self.cost == other.cost
        };
        Strictness {
            treatment: among.iter().position(alike).unwrap_or(among.len()),
            session: self.session.as_ref().map(|of| (of.definition.name.clone(), hold(of.mode))),
            demands: self.session.iter().flat_map(|of| &of.require).map(|demand| format!("{demand:?}")).collect(),
            limits: self.limits.iter().map(|limit| limit.name.clone()).collect(),
            cache: self.cache.as_ref().map(|policy| policy.name.clone()),
            websocket: self.websocket,
            max_body: self.max_body,
        }
    }
}
