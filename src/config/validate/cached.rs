//! What a cache says that may be meant otherwise: answers that reach somebody they are not for, or nobody at all.
//!
//! # Why
//! What the app answers by and does not declare by `Vary` is its own mistake, but one that a cache makes everybody's. Only
//! what the file itself shows is warned of, at each start: a warning that is right in one file of ten is read in none. What depends
//! on others (`sidegate check` tells it) is not.

use crate::cache::{Cookies, KeyPart, Policy, SetCookie};
use crate::config::raw::{Fault, Table, Value};
use crate::upstream::hop;

/// Notes what `policy`, of `[cache.NAME]`, may not mean.
pub fn warn_of(policy: &Policy, table: &mut Table<'_>) {
    let reading = table.reading;
    if policy.set_cookie == SetCookie::Store
        && let Some(value) = table.value("set_cookie")
    {
        let message = "everybody gets the cookie that one client was sent: if it names a session, they share it";
        reading.warning(&value.at, Fault::with_help(message, "\"strip\" stores the response without it"));
    }
    let unseen = policy.keying.by.iter().find_map(|part| match part {
        KeyPart::Field(name) if hop::is_no_clients(name) => Some(name),
        _ => None,
    });
    if !reading.trusts_proxies.get()
        && let (Some(name), Some(value)) = (unseen, table.value("key"))
    {
        let message = format!(
            "`{name}` is in the key, and the app never gets a client's own: clients can only choose where answers are stored"
        );
        let help = "scheme and host are in the key already";
        reading.warning(&value.at, Fault::with_help(message, help));
    }
}

/// Notes that a route's `on_write` has nothing to take back: the file has no cache.
pub fn warn_of_on_write(table: &mut Table<'_>) {
    let Some(value) = table.value("on_write") else { return };
    let help = "cache = \"pages\" on the routes that read, and [cache.pages]";
    let message = "`on_write` takes back what is stored, and nothing is: there is no cache in this file";
    value.reading.warning(&value.at, Fault::with_help(message, help));
}

/// Notes what `policy` does in vain on a route that names it with `value`. `session`: the route verifies one.
pub fn warn_on_route(policy: &Policy, session: bool, value: &Value<'_>) {
    if !session || policy.is_by_principal() {
        return;
    }
    let help = "key = [\"principal\"] stores for each user alone; or a route of its own, without session";
    let warn = |message: &str| value.reading.warning(&value.at, Fault::with_help(message, help));
    if policy.cookies == Cookies::Ignore {
        warn(
            "`cookies = \"ignore\"` of this cache changes nothing here: under a session every request carries credentials",
        );
    }
    if policy.freshness.override_ttl.is_some() {
        warn(
            "`override_ttl` of this cache is in vain here: under a session only what says that it is for all is stored",
        );
    }
}
