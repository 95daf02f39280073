//! Writes, and what they invalidate (RFC 9111 §4.4).
//!
//! 1. A write that may have happened invalidates its own path, those that its answer names, what `on_write` says, and the
//!    groups that its answer names (RFC 9875), before the answer's head goes out; also when its client has gone meanwhile.
//! 2. Redis away: it is owed, and settled behind.
//!
//! # Why writes run as tasks
//! The future of a request is dropped with its connection. A write's must not be: the app may have done what it was
//! asked, and nobody would invalidate.

use std::panic::resume_unwind;
use std::rc::Rc;

use http::Response;

use super::Cache;
use crate::body::Body;
use crate::cache::Key;
use crate::cache::rules::on_write::Written;
use crate::cache::rules::{groups, invalidation};
use crate::cache::store::purge::{Softness, Target};
use crate::cache::store::{Found, Store, below_tag};
use crate::exchange::{Exchange, Next};
use crate::telemetry::Record;

/// Whether nobody knows what the app did: it may have had some of the request, and no answer of its own went on.
/// Whoever is to blame: an upload that breaks off, stalls or grows too large fails when the app may have acted already.
fn is_unknown(record: &Record) -> bool {
    record.upstream_error.is_some() || (record.local_reply.is_some() && record.upstream_time.is_some())
}

impl Cache {
    pub(super) async fn write<S: Next>(self: Rc<Self>, exchange: Box<Exchange>, next: S) -> Response<Body> {
        let request = &exchange.request;
        let Ok(key) = Key::of_place(exchange.client.scheme, request.uri(), request.headers()) else {
            return self.pass_by("method", None, exchange, next).await;
        };
        let filled = self.route.on_write.iter().filter_map(|template| template.fill(&exchange.parameters));
        let places = key.places_of(request.uri().path(), self.route.slash_is_text);
        let mut places = places.unwrap_or_else(|| vec![key.place().to_owned()]);
        let mut tags = Vec::new();
        for written in filled {
            match written {
                Written::Path(path) => places.push(key.place_of(&path)),
                Written::Below(path) => tags.push(below_tag(&key.place_of(&path))),
                Written::Tag(tag) => tags.push(tag),
            }
        }
        let (scheme, path) = (exchange.client.scheme, request.uri().path().to_owned());
        let trail = exchange.trail.clone();
        let writing = self.owed.writing();
        let written = tokio::task::spawn_local(async move {
            let _until_invalidated = writing;
            let response = self.clone().pass_by("method", None, exchange, next).await;
            let unknown = is_unknown(&trail.borrow());
            if invalidation::invalidates(response.status(), unknown) {
                let target = invalidation::Target { scheme, authority: key.authority(), path: &path };
                let named = invalidation::named_paths(response.headers(), target);
                places.extend(named.iter().map(|path| key.place_of(path)));
                tags.extend(groups::invalidated(response.headers(), key.authority()));
                self.invalidate(&places, &tags).await;
            }
            response
        });
        match written.await.map_err(tokio::task::JoinError::try_into_panic) {
            Ok(response) => response,
            Err(Ok(panic)) => resume_unwind(panic),
            // The worker is ending, and this future with it.
            Err(Err(_)) => std::future::pending().await,
        }
    }

    /// Takes back places and tags side by side; what of it Redis could not be told is owed.
    async fn invalidate(self: &Rc<Self>, places: &[String], tags: &[String]) {
        let now = self.clock.unix_seconds();
        let (of_places, of_tags) = tokio::join!(self.store.invalidate(places), self.store.invalidate_tags(tags, now));
        if let Err(reason) = of_places {
            tracing::debug!(reason, places = places.len(), "an invalidation is owed to Redis");
            self.owed.add(places);
        }
        if let Err(reason) = of_tags {
            tracing::debug!(reason, tags = tags.len(), "an invalidation is owed to Redis");
            self.owed.add_purges(tags.iter().cloned().map(Target::Tag), Softness::Hard);
        }
        if of_places.is_err() || of_tags.is_err() {
            self.clone().settle();
        }
    }

    /// Whether what was found must not be reused, because an invalidation of it is owed to Redis.
    pub(super) fn is_owed(&self, key: &Key, found: &Found) -> bool {
        let by_tag = || match found {
            Found::Stored(stored) => self.owed.covers_tags(|| self.tags_of(key, &stored.head)),
            _ => false,
        };
        self.owed.is_any() && (self.owed.covers(key.place()) || by_tag())
    }

    /// Tells Redis what it is owed, behind the request that noticed, as soon as it can be told.
    pub(super) fn settle(self: Rc<Self>) {
        if matches!(self.store, Store::Redis(_)) && !self.settling.replace(true) {
            tokio::task::spawn_local(async move {
                if let Store::Redis(store) = &self.store {
                    store.settle_all(&self.owed).await;
                }
                self.settling.set(false);
            });
        }
    }
}
