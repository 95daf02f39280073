//! What `[redis]` says.

use super::{Said, Section, plain, secret, size, time};
use crate::redis_pool::Settings;
use crate::redis_pool::address::{Login, Topology};

pub(super) fn section(redis: &Settings) -> Section {
    let (login, tls) = (&redis.server.login, redis.server.tls.as_ref().map(|tls| &tls.told));
    let sentinels = match &redis.server.topology {
        Topology::Sentinel { login, .. } => login,
        Topology::Single(_) | Topology::Cluster { .. } => &Login::default(),
    };
    let tls = tls.cloned().unwrap_or_default();
    let lines = vec![
        ("url", plain(redis.shown())),
        ("user", user(login)),
        ("password", password(login)),
        ("sentinel_user", user(sentinels)),
        ("sentinel_password", password(sentinels)),
        ("tls.ca", plain(tls.authorities)),
        ("tls.certificate", plain(tls.certificate)),
        ("tls.server_name", plain(tls.server_name)),
        ("tls.min_version", plain(tls.oldest)),
        ("prefix", plain(&redis.prefix)),
        ("timeout", plain(time(redis.timeout))),
        ("connect_timeout", plain(time(redis.connect_timeout))),
        ("start_wait", plain(time(redis.start_wait))),
        ("connections", plain(redis.connections)),
        ("breaker.failures", plain(redis.breaker.failures)),
        ("breaker.first_wait", plain(time(redis.breaker.first_wait))),
        ("breaker.longest_wait", plain(time(redis.breaker.longest_wait))),
        ("max_sends", plain(redis.max_sends)),
        ("max_send_bytes", plain(size(redis.max_send_bytes as u64))),
        ("replicas", plain(format!("{:?}", redis.replicas).to_lowercase())),
    ];
    Section { name: "redis".into(), lines }
}

fn user(login: &Login) -> Said {
    plain(login.user.as_deref().unwrap_or_default())
}

fn password(login: &Login) -> Said {
    login.password.as_ref().map_or_else(|| plain(""), secret)
}
