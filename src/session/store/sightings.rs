//! What is kept in Redis of sessions as they pass: the device each is bound to, what is known of it, and which each user
//! has. How it is spelt, and what is sent for it; no I/O.
//!
//! | key | |
//! |---|---|
//! | `PREFIX device:{HANDLE}` | what the session is bound to (`device`) |
//! | `PREFIX session:{HANDLE}` | hash: user, session, record (the key of the app's), first, last (Unix milliseconds), address, agent |
//! | `PREFIX revoked:{HANDLE}` | the session was revoked, less than `index.revoked_for` ago |
//! | `PREFIX user:{SESSION:DIGEST of the user}` | sorted set: handles by when they were last seen |
//!
//! 1. A handle is the digest of the record's key. It names a session, and nobody can log in with it.
//! 2. Each key is written by one command or script of its own: in a cluster they lie apart. One that is not written is
//!    written with the next sighting.
//! 3. Each has a TTL that outlives the session's by [`SPARE`], for apps prolong their sessions between two sightings; none is
//!    ever shortened.
//! 4. A revoked session is marked, for many frameworks write the whole record once more at the end of each request: one that was
//!    under way while its session was revoked would bring it back.

use std::sync::LazyLock;
use std::time::Duration;

use redis::{Pipeline, Value};

use crate::redis_pool::key::{digest, push_escaped, push_tagged};
use crate::redis_pool::text;

/// How much longer than a session what is kept of it lives.
pub const SPARE: Duration = Duration::from_secs(24 * 60 * 60);

/// The scripts that pipelines of this room call.
pub const SCRIPTS: [&str; 2] = [include_str!("scripts/session_seen.lua"), include_str!("scripts/user_seen.lua")];

static SHAS: LazyLock<[String; 2]> =
    LazyLock::new(|| SCRIPTS.map(|script| redis::Script::new(script).get_hash().to_owned()));

/// What is known of a session besides its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Who is logged in.
    pub user: String,
    /// The name of its definition.
    pub session: String,
    /// The key of its record.
    pub record: Vec<u8>,
    /// When it was first seen, in Unix milliseconds.
    pub first: u64,
    /// When it was last noted, in Unix milliseconds.
    pub last: u64,
    /// The client address at that time.
    pub address: String,
    /// The family of its User-Agent at that time.
    pub agent: String,
}

/// The handle of the session whose record has this key.
pub fn handle(record: &[u8]) -> String {
    digest(record)
}

/// Whether `text` can be a handle.
pub fn is_handle(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// The key of the device that a session is bound to.
pub fn device(prefix: &str, handle: &str) -> String {
    tagged(prefix, "device", handle)
}

/// The key that says that a session was revoked.
pub fn revoked(prefix: &str, handle: &str) -> String {
    tagged(prefix, "revoked", handle)
}

/// The key of what is known of a session.
pub fn session(prefix: &str, handle: &str) -> String {
    tagged(prefix, "session", handle)
}

/// The key of the sessions of a user.
pub fn user(prefix: &str, session: &str, user: &str) -> String {
    let mut tag = String::with_capacity(session.len() + 33);
    push_escaped(&mut tag, session);
    tag.push(':');
    tag.push_str(&digest(user.as_bytes()));
    tagged(prefix, "user", &tag)
}

fn tagged(prefix: &str, kind: &str, tag: &str) -> String {
    let mut key = String::with_capacity(prefix.len() + kind.len() + tag.len() + 3);
    push_tagged(&mut key, prefix, kind, tag);
    key
}

/// Asks for the device that a session is bound to: one command.
pub fn ask_device(pipeline: &mut Pipeline, prefix: &str, handle: &str) {
    pipeline.cmd("GET").arg(device(prefix, handle));
}

/// Asks whether a session was revoked: one command.
pub fn ask_revoked(pipeline: &mut Pipeline, prefix: &str, handle: &str) {
    pipeline.cmd("GET").arg(revoked(prefix, handle));
}

/// Marks a session as revoked, for so long.
pub fn mark_revoked(pipeline: &mut Pipeline, prefix: &str, handle: &str, revoked_for: Duration) {
    pipeline.cmd("SET").arg(revoked(prefix, handle)).arg("1").arg("PX").arg(millis(revoked_for));
}

/// Binds a session to a device, unless it is bound already.
pub fn bind(pipeline: &mut Pipeline, prefix: &str, handle: &str, to: &str, life: Duration) {
    pipeline.cmd("SET").arg(device(prefix, handle)).arg(to).arg("PX").arg(millis(life)).arg("NX");
}

/// Keeps the binding for as long as the session may last from now on.
pub fn keep_bound(pipeline: &mut Pipeline, prefix: &str, handle: &str, life: Duration) {
    pipeline.cmd("PEXPIRE").arg(device(prefix, handle)).arg(millis(life));
}

/// Notes that a session was seen at `sighting.last`, and that its user has it; of a user at most `most` are known.
pub fn note(pipeline: &mut Pipeline, prefix: &str, sighting: &Sighting, life: Duration, most: u32) {
    let (handle, ttl) = (handle(&sighting.record), millis(life));
    pipeline.cmd("EVALSHA").arg(&SHAS[0]).arg(1).arg(session(prefix, &handle)).arg(sighting.last).arg(ttl);
    pipeline.arg(&sighting.user).arg(&sighting.session).arg(&sighting.record).arg(&sighting.address);
    pipeline.arg(&sighting.agent);
    let user = user(prefix, &sighting.session, &sighting.user);
    pipeline.cmd("EVALSHA").arg(&SHAS[1]).arg(1).arg(user).arg(sighting.last).arg(ttl).arg(handle).arg(most);
}

/// Asks for the handles of a user's sessions, the latest seen first: one command.
pub fn ask_handles(pipeline: &mut Pipeline, prefix: &str, session: &str, of: &str) {
    pipeline.cmd("ZREVRANGEBYSCORE").arg(user(prefix, session, of)).arg("+inf").arg("-inf");
}

/// The handles that are told.
pub fn handles(value: &Value) -> Vec<String> {
    let Value::Array(values) = value else { return Vec::new() };
    let texts = values.iter().filter_map(text).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    texts.filter(|text| is_handle(text)).collect()
}

/// Asks what is known of a session: one command.
pub fn ask_session(pipeline: &mut Pipeline, prefix: &str, handle: &str) {
    let fields = ["user", "session", "record", "first", "last", "address", "agent"];
    pipeline.cmd("HMGET").arg(session(prefix, handle)).arg(&fields);
}

/// What is told of a session; `None`: nothing.
pub fn sighting(value: &Value) -> Option<Sighting> {
    let Value::Array(values) = value else { return None };
    let bytes = |index: usize| values.get(index).and_then(text);
    let words = |index| bytes(index).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let number = |index| words(index).and_then(|text| text.parse().ok());
    Some(Sighting {
        user: words(0)?,
        session: words(1)?,
        record: bytes(2)?.to_owned(),
        first: number(3)?,
        last: number(4)?,
        address: words(5)?,
        agent: words(6)?,
    })
}

/// Forgets a session that is over.
pub fn forget(pipeline: &mut Pipeline, prefix: &str, sighting: &Sighting) {
    pipeline.cmd("DEL").arg(device(prefix, &handle(&sighting.record)));
    forget_seen(pipeline, prefix, sighting);
}

/// Forgets that a session was seen, and not what device it is bound to.
pub fn forget_seen(pipeline: &mut Pipeline, prefix: &str, sighting: &Sighting) {
    forget_seen_of(pipeline, prefix, &sighting.session, &sighting.user, &handle(&sighting.record));
}

/// The same, of the session of this handle.
pub fn forget_seen_of(pipeline: &mut Pipeline, prefix: &str, name: &str, of: &str, handle: &str) {
    pipeline.cmd("DEL").arg(session(prefix, handle));
    forget_handle(pipeline, prefix, name, of, handle);
}

/// Forgets that a user has a session.
pub fn forget_handle(pipeline: &mut Pipeline, prefix: &str, session: &str, of: &str, handle: &str) {
    pipeline.cmd("ZREM").arg(user(prefix, session, of)).arg(handle);
}

fn millis(life: Duration) -> u64 {
    u64::try_from(life.as_millis()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_shows_a_token_or_a_user() {
        let handle = handle(b"session:abc");
        assert_eq!(session("sidegate:", &handle), format!("sidegate:session:{{{handle}}}"));
        assert_eq!(device("sidegate:", &handle), format!("sidegate:device:{{{handle}}}"));
        assert_eq!(user("sidegate:", "web app", "alice"), format!("sidegate:user:{{web%20app:{}}}", digest(b"alice")));
        assert!(
            is_handle(&handle) && !is_handle(&handle[1..]) && !is_handle(&handle.replace('a', "A").replace('b', "B"))
        );
    }

    #[test]
    fn what_is_told_of_a_session_is_read_whole_or_not_at_all() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let told = ["7", "web", "session:abc", "1000", "2000", "192.0.2.7", "curl"].map(text).to_vec();
        let read = sighting(&Value::Array(told.clone())).unwrap();
        assert_eq!((read.user.as_str(), read.first, read.last, read.agent.as_str()), ("7", 1000, 2000, "curl"));
        for missing in 0..told.len() {
            let mut told = told.clone();
            told[missing] = Value::Nil;
            assert_eq!(sighting(&Value::Array(told)), None, "{missing}");
        }
        assert_eq!(sighting(&Value::Nil), None);
        let both = Value::Array(vec![text(&handle(b"a")), text("strange"), Value::Nil]);
        assert_eq!(handles(&both), [handle(b"a")]);
    }
}
