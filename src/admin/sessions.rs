//! `/sessions`: what operators ask of sessions, as paths and parameters. Pure.
//!
//! | | |
//! |---|---|
//! | `GET /sessions?user=USER` | the sessions of a user; `session=NAME`: of this definition alone |
//! | `POST /sessions/HANDLE/revoke` | this one is over |
//! | `POST /sessions/revoke?user=USER` | all of the user are over; `but=HANDLE`: this one stays; `session=NAME` as above |

use http::Method;

use super::limits::Asks;
use crate::rate_limit::partition::parameters;
use crate::session::operate::{Order, Whose};
use crate::session::store::sightings::is_handle;

/// Reads a request.
pub fn read(method: &Method, path: &str, query: &str) -> Asks<Order> {
    let Some(rest) = path.strip_prefix("/sessions") else { return Asks::Nothing };
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let segments: Vec<&str> = rest.split('/').collect();
    match segments.as_slice() {
        [""] if !reads => Asks::With("GET, HEAD"),
        ["", "revoke"] | ["", _, "revoke"] if *method != Method::POST => Asks::With("POST"),
        ["", handle, "revoke"] if is_handle(handle) => Asks::Order(Order::Revoke((*handle).to_owned())),
        ["", _, "revoke"] => Asks::Wrong("a handle is 32 hexadecimal digits".into()),
        [""] => whose(query).map_or_else(Asks::Wrong, |whose| Asks::Order(Order::List(whose))),
        ["", "revoke"] => {
            let but = match single(query, "but") {
                Ok(but) => but,
                Err(why) => return Asks::Wrong(why),
            };
            if but.as_deref().is_some_and(|but| !is_handle(but)) {
                return Asks::Wrong("`but` names a session by its handle: 32 hexadecimal digits".into());
            }
            whose(query).map_or_else(Asks::Wrong, |whose| Asks::Order(Order::RevokeAll { whose, but }))
        }
        _ => Asks::Nothing,
    }
}

fn whose(query: &str) -> Result<Whose, String> {
    let user = single(query, "user")?.ok_or("`user` says whose: as the session records name it")?;
    Ok(Whose { user, session: single(query, "session")? })
}

/// The one value of a parameter, if it has one. Who gives two may mean the other.
fn single(query: &str, name: &str) -> Result<Option<String>, String> {
    let mut values = parameters(query, name);
    let value = match values.next() {
        None => return Ok(None),
        Some(value) => String::from_utf8(value.into_owned()).map_err(|_| format!("`{name}` is no text"))?,
    };
    match (values.next(), value.is_empty()) {
        (Some(_), _) => Err(format!("`{name}` is given twice")),
        (None, true) => Err(format!("`{name}` is empty")),
        (None, false) => Ok(Some(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HANDLE: &str = "0123456789abcdef0123456789abcdef";

    fn asked(line: &str) -> Asks<Order> {
        let (method, target) = line.split_once(' ').unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        read(&method.parse().unwrap(), path, query)
    }

    fn of(user: &str, session: Option<&str>) -> Whose {
        Whose { user: user.into(), session: session.map(str::to_owned) }
    }

    #[test]
    fn each_path_asks_one_thing() {
        assert_eq!(asked("GET /sessions?user=a%20b"), Asks::Order(Order::List(of("a b", None))));
        assert_eq!(asked("GET /sessions?session=web&user=7"), Asks::Order(Order::List(of("7", Some("web")))));
        assert_eq!(asked(&format!("POST /sessions/{HANDLE}/revoke")), Asks::Order(Order::Revoke(HANDLE.into())));
        let all =
            |but: Option<&str>| Asks::Order(Order::RevokeAll { whose: of("7", None), but: but.map(str::to_owned) });
        assert_eq!(asked("POST /sessions/revoke?user=7"), all(None));
        assert_eq!(asked(&format!("POST /sessions/revoke?user=7&but={HANDLE}")), all(Some(HANDLE)));
    }

    #[test]
    fn what_changes_something_is_posted_and_what_does_not_is_not() {
        assert_eq!(asked("POST /sessions?user=7"), Asks::With("GET, HEAD"));
        assert_eq!(asked("GET /sessions/revoke?user=7"), Asks::With("POST"));
        assert_eq!(asked(&format!("GET /sessions/{HANDLE}/revoke")), Asks::With("POST"));
    }

    #[test]
    fn nobody_is_revoked_by_a_slip() {
        for line in [
            "GET /sessions",
            "GET /sessions?user=",
            "GET /sessions?user=%ff",
            "POST /sessions/revoke",
            "POST /sessions/revoke?user=7&user=8",
            "POST /sessions/revoke?user=7&but=",
            "POST /sessions/revoke?user=7&but=x",
            "POST /sessions/x/revoke",
        ] {
            assert!(matches!(asked(line), Asks::Wrong(_)), "{line}");
        }
        for line in ["GET /sessionsx", "GET /sessions/x", "POST /sessions/x/y/revoke", "GET /"] {
            assert_eq!(asked(line), Asks::Nothing, "{line}");
        }
    }
}
