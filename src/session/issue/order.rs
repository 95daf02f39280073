//! What an app orders about a session by the fields of one answer. Pure.
//!
//! 1. `X-Session-Create: {…}`: a new session with this record. `X-Session-Destroy`, whatever it says: the client's session
//!    ends. `X-Session-Extend: 900` (seconds) or `8h`: the client's session ends so long from now.
//! 2. With a new session, `X-Session-Extend` says how long that one lasts, in place of `ttl`. With an end nothing else makes
//!    sense: that is a fault, as are two lines of one name, a time of nothing or of more than a year, a line without text,
//!    and an order with the 101 that turns the connection into a tunnel.
//! 3. An error (400 and above) makes no session and extends none, even one that is ill written: the app says that it has
//!    failed, and the client is to be told of that. A session ends with any status but 101.
//!
//! # Why
//! Rule 2: an order that can be read in two ways would be carried out in the wrong one some day, and what it is about is who is
//! logged in. It is the app's bug, and is answered so that it is seen at the first try.

use std::time::Duration;

use http::{HeaderValue, StatusCode};

use crate::exchange::Orders;

/// The longest time for which a session is extended: a year.
pub const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// One order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// None that is to be carried out with this status.
    Nothing,
    /// A new session with the record that stands here; how long it lasts, if the app says.
    Create(HeaderValue, Option<Duration>),
    /// The client's session ends.
    Destroy,
    /// The client's session ends so long from now.
    Extend(Duration),
}

/// What is ordered by an answer of this status.
///
/// # Errors
/// The app's fault, in a few words for its operator.
pub fn read(orders: &Orders, status: StatusCode) -> Result<Order, &'static str> {
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err("a session order with 101");
    }
    if status.as_u16() >= 400 {
        return Ok(if orders.destroy() { Order::Destroy } else { Order::Nothing });
    }
    let (record, several) = orders.create();
    if several {
        return Err("two lines of X-Session-Create");
    }
    let (time, several) = orders.extend();
    if several {
        return Err("two lines of X-Session-Extend");
    }
    if orders.destroy() && (record.is_some() || time.is_some()) {
        return Err("X-Session-Destroy beside another session order");
    }
    let life = time.map(|line| duration(line.as_bytes()).ok_or("X-Session-Extend is no time")).transpose()?;
    Ok(match (record, life) {
        (Some(record), life) => Order::Create(record.clone(), life),
        (None, Some(life)) => Order::Extend(life),
        (None, None) if orders.destroy() => Order::Destroy,
        (None, None) => Order::Nothing,
    })
}

/// Whole seconds, or a time with units (`90s`, `8h`, `1h 30m`).
fn duration(text: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let seconds = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    let time = match seconds(text) {
        Some(seconds) => Duration::from_secs(seconds),
        None => humantime::parse_duration(text).ok()?,
    };
    (time >= Duration::from_millis(1) && time <= LONGEST).then_some(time)
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn ordered(status: u16, lines: &[(&'static str, &'static str)]) -> Result<Order, &'static str> {
        let mut orders = Orders::default();
        for (name, value) in lines {
            orders.note(&HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        read(&orders, StatusCode::from_u16(status).unwrap())
    }

    const CREATE: (&str, &str) = ("x-session-create", "{}");
    const DESTROY: (&str, &str) = ("x-session-destroy", "");
    const EXTEND: (&str, &str) = ("x-session-extend", "8h");
    const HOURS: Duration = Duration::from_secs(8 * 3600);

    #[test]
    fn each_order_is_what_it_says() {
        let record = HeaderValue::from_static("{}");
        assert_eq!(ordered(200, &[CREATE]), Ok(Order::Create(record.clone(), None)));
        assert_eq!(ordered(302, &[EXTEND, CREATE]), Ok(Order::Create(record.clone(), Some(HOURS))));
        assert_eq!(ordered(304, &[CREATE]), Ok(Order::Create(record, None)));
        assert_eq!(ordered(200, &[EXTEND]), Ok(Order::Extend(HOURS)));
        assert_eq!(ordered(204, &[DESTROY, DESTROY]), Ok(Order::Destroy));
        assert_eq!(ordered(200, &[]), Ok(Order::Nothing));
    }

    #[test]
    fn an_error_ends_a_session_and_does_nothing_else() {
        assert_eq!(ordered(401, &[CREATE, CREATE, EXTEND]), Ok(Order::Nothing));
        assert_eq!(ordered(500, &[("x-session-extend", "soon")]), Ok(Order::Nothing));
        assert_eq!(ordered(403, &[DESTROY, CREATE]), Ok(Order::Destroy));
    }

    #[test]
    fn what_can_be_read_in_two_ways_or_none_is_a_fault() {
        for lines in [&[CREATE, CREATE][..], &[EXTEND, EXTEND], &[DESTROY, CREATE], &[DESTROY, EXTEND]] {
            assert!(ordered(200, lines).is_err(), "{lines:?}");
        }
        assert!([CREATE, DESTROY, EXTEND].iter().all(|line| ordered(101, &[*line]).is_err()));
        for time in
            ["", "0", "0s", "-5", "soon", "8 h o", "99999999999999999999", "32000000", "2years", "1e3", "\u{7f}"]
        {
            assert_eq!(duration(time.as_bytes()), None, "{time:?}");
        }
        for (time, seconds) in [("900", 900), (" 15m ", 900), ("1h 30m", 5400), ("31622400", 31_622_400)] {
            assert_eq!(duration(time.as_bytes()), Some(Duration::from_secs(seconds)), "{time:?}");
        }
    }
}
