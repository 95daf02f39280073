//! `/limits`: what operators ask of limits, as paths and parameters. Pure.
//!
//! | | |
//! |---|---|
//! | `GET /limits` | all limits |
//! | `GET /limits/NAME/top` | who is refused most, lately; `most=` rows |
//! | `GET /limits/NAME/key?key=…` | where a key stands; `key=` once for each part of the limit's key |
//! | `POST /limits/NAME/reset?key=…` | what it has spent is forgotten |
//! | `POST /limits/NAME/grant?key=…&units=N` | so many units that it has spent are given back |
//!
//! Keys are shown in part, unless `reveal=true`.

use http::{Method, StatusCode};

use crate::rate_limit::operate::{Deed, Order, Trouble};
use crate::rate_limit::partition::parameters;

/// Rows of a list, unless said.
const ROWS: usize = 10;

/// What a request asks.
#[derive(Debug, PartialEq, Eq)]
pub enum Asks<T = Order> {
    /// This.
    Order(T),
    /// Something that is asked for with this method.
    With(&'static str),
    /// Something that cannot be; why.
    Wrong(String),
    /// Nothing of the kind.
    Nothing,
}

/// Reads a request.
pub fn read(method: &Method, path: &str, query: &str) -> Asks {
    let Some(rest) = path.strip_prefix("/limits") else { return Asks::Nothing };
    let mut segments = rest.split('/');
    let (first, name, what, more) = (segments.next(), segments.next(), segments.next(), segments.next());
    if first != Some("") || more.is_some() {
        return Asks::Nothing;
    }
    let texts = |name| parameters(query, name).map(|text| String::from_utf8_lossy(&text).into_owned());
    let number =
        |name| texts(name).next().map(|text| text.parse().map_err(|_| format!("`{name}` is no number: {text}")));
    let reveal = texts("reveal").any(|text| text == "true");
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let deed = match (name, what) {
        (None | Some(""), None) if reads => return Asks::Order(Order::List),
        (None | Some(""), None) => return Asks::With("GET, HEAD"),
        (Some(_), Some("top" | "key")) if !reads => return Asks::With("GET, HEAD"),
        (Some(_), Some("reset" | "grant")) if *method != Method::POST => return Asks::With("POST"),
        (Some(limit), Some("top")) => {
            return match number("most").transpose() {
                Ok(most) => {
                    let most = usize::try_from(most.unwrap_or(ROWS as u64)).unwrap_or(usize::MAX);
                    Asks::Order(Order::Top { limit: limit.to_owned(), most, reveal })
                }
                Err(wrong) => Asks::Wrong(wrong),
            };
        }
        (Some(_), Some("key")) => Deed::Show,
        (Some(_), Some("reset")) => Deed::Reset,
        (Some(_), Some("grant")) => match number("units").transpose() {
            Ok(Some(units @ 1..=1_000_000_000)) => Deed::Grant(units),
            Ok(_) => return Asks::Wrong("`units` says how many are given back: 1 to 1,000,000,000".into()),
            Err(wrong) => return Asks::Wrong(wrong),
        },
        _ => return Asks::Nothing,
    };
    let values: Vec<String> = texts("key").collect();
    if values.is_empty() {
        return Asks::Wrong("`key` says whose: once for each part of the limit's key".into());
    }
    Asks::Order(Order::Key { limit: name.unwrap_or_default().to_owned(), values, deed, reveal })
}

/// The status that tells of a trouble, and its sentence.
pub fn told(trouble: &Trouble) -> (StatusCode, &str) {
    match trouble {
        Trouble::Unknown(why) => (StatusCode::NOT_FOUND, why),
        Trouble::Wrong(why) => (StatusCode::BAD_REQUEST, why),
        Trouble::Unavailable(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(line: &str) -> Asks {
        let (method, target) = line.split_once(' ').unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        read(&method.parse().unwrap(), path, query)
    }

    fn key(values: &[&str], deed: Deed, reveal: bool) -> Asks {
        let values = values.iter().map(|&value| value.to_owned()).collect();
        Asks::Order(Order::Key { limit: "a".into(), values, deed, reveal })
    }

    #[test]
    fn each_path_asks_one_thing() {
        assert_eq!(asked("GET /limits"), Asks::Order(Order::List));
        let top = |most, reveal| Asks::Order(Order::Top { limit: "a".into(), most, reveal });
        assert_eq!(asked("GET /limits/a/top"), top(10, false));
        assert_eq!(asked("GET /limits/a/top?most=3&reveal=true"), top(3, true));
        assert_eq!(asked("GET /limits/a/key?key=192.0.2.1"), key(&["192.0.2.1"], Deed::Show, false));
        assert_eq!(asked("POST /limits/a/reset?key=x%2cy&key=%23z"), key(&["x,y", "#z"], Deed::Reset, false));
        assert_eq!(asked("POST /limits/a/grant?key=x&units=5&reveal=true"), key(&["x"], Deed::Grant(5), true));
    }

    #[test]
    fn what_changes_something_is_posted_and_what_does_not_is_not() {
        for line in ["GET /limits/a/reset?key=x", "HEAD /limits/a/grant?key=x&units=1"] {
            assert_eq!(asked(line), Asks::With("POST"), "{line}");
        }
        for line in ["POST /limits", "POST /limits/a/top", "DELETE /limits/a/key?key=x"] {
            assert_eq!(asked(line), Asks::With("GET, HEAD"), "{line}");
        }
    }

    #[test]
    fn what_lacks_something_is_told_what() {
        for line in [
            "GET /limits/a/key",
            "POST /limits/a/reset",
            "POST /limits/a/grant?key=x",
            "POST /limits/a/grant?key=x&units=0",
            "POST /limits/a/grant?key=x&units=-1",
            "GET /limits/a/top?most=many",
        ] {
            assert!(matches!(asked(line), Asks::Wrong(_)), "{line}");
        }
        for line in ["GET /limitsx", "GET /limits/a", "GET /limits/a/b", "GET /limits/a/top/x", "GET /"] {
            assert_eq!(asked(line), Asks::Nothing, "{line}");
        }
    }
}
