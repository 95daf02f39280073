//! `[limit.NAME]` and `[plan.NAME]`: what a limit says about itself.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use ipnet::IpNet;

use super::definitions::Named;
use super::plans;
use super::process::count;
use crate::config::quantity;
use crate::config::raw::{Fault, Placed, Table, Value, choice, did_you_mean, text};
use crate::rate_limit::partition::{Key, Part};
use crate::rate_limit::quota::Quota;
use crate::rate_limit::{
    Algorithm, Cost, Count, Counting, Exempt, Limit, Missing, OnExceed, Plan, Precision, Refusal, Rule,
};

/// A quota that gives fewer units in a lease's life is counted exactly unless the file says otherwise.
const WORTH_LEASING: u128 = 20;
/// The life of a lease that this is reckoned by.
const LEASE: Duration = Duration::from_millis(200);

const PART: &str = "\"address\", \"header:NAME\", \"cookie:NAME\", \"query:NAME\", \"session\", \"session:FIELD\", \"certificate\", \"certificate:cn\", \"route\", \"method\", \"host\"";

/// `[limit.NAME]`.
pub fn limit(
    name: &Placed<String>,
    table: &mut Table<'_>,
    plans: &Named<Arc<Plan>>,
    has_redis: bool,
) -> Option<Arc<Limit>> {
    let key = key(table);
    let rule = rule(table);
    let is_keyed = key.is_some();
    let mut limit = Limit::new(&name.value, key.unwrap_or(Key(vec![Part::Address])), Quota::ONE);
    table.set("ipv4_prefix", &mut limit.grouping.ipv4, count(8..33));
    table.set("ipv6_prefix", &mut limit.grouping.ipv6, count(16..129));
    table.set("missing", &mut limit.missing, missing);
    exempt(table, &mut limit, is_keyed);
    table.set("cost", &mut limit.cost, cost);
    if let Some(count) = table.value("count").and_then(|value| count_of(&value)) {
        limit.count = count;
    }
    table.set("charge_refused", &mut limit.charge_refused, Value::flag);
    on_exceed(table, &mut limit);
    table.set("warn_at", &mut limit.warn_at, warn_at);
    table.set("shadow", &mut limit.shadow, Value::flag);
    limit.trial = table.read("trial", text(quota)).map(|trial| trial.value);
    let at = table.value("plan").map(|value| value.at);
    let plan = table.read("plan", |value| Ok(value.text()?.to_owned()));
    let plan = plan.and_then(|plan| plans.refer(table.reading, &plan.value, &plan.at));
    limit.plan = plan.and_then(|index| plans.at(index)).cloned();
    if let Some(refusal) = table.section("refusal", refusal) {
        limit.refusal = refusal;
    }
    let precision = precision(table);
    limit.rule = rule?;
    refuse_contradictions(table, &limit, at.is_some());
    if let (Some(cost), Cost::Units(units)) = (table.value("cost"), &limit.cost)
        && let Some(fault) = too_dear(&limit, *units)
    {
        table.reading.warning(&cost.at, fault);
    }
    if let (true, Some(at)) = (is_keyed, &at) {
        plans::refuse_of_others(table, &limit, at);
    }
    limit.precision = match precision {
        Some(precision) => {
            if precision.value == Precision::Leased
                && let Some(why) = why_exact(&limit)
            {
                table.reading.error(&precision.at, format!("units of this limit cannot be leased: {why}"));
            } else if precision.value == Precision::Leased && !has_redis {
                let message = "`precision` does nothing: without Redis every request is counted in this process";
                table.reading.warning(&precision.at, message);
            }
            precision.value
        }
        None if why_exact(&limit).is_none() && is_worth_leasing(&limit) => Precision::Leased,
        None => Precision::Exact,
    };
    Some(Arc::new(limit))
}

fn key(table: &mut Table<'_>) -> Option<Key> {
    table.needs("key", &parts());
    let parts = table.filled("key", |value| part(value).map(|_| value.text().unwrap_or_default().to_owned()));
    parts.filter(|parts| !parts.value.is_empty()).and_then(|parts| {
        let key = Key::parse(parts.value.iter().map(|part| part.value.as_str()));
        key.map_err(|message| table.reading.error(&parts.at, message)).ok()
    })
}

pub fn part(value: &Value<'_>) -> Result<Part, Fault> {
    let text = value.text()?;
    match Part::parse(text) {
        Ok(Part::Certificate(_)) if value.reading.certificate_fields.borrow().is_none() => {
            let help = "[server.tls] client = { ca = \"clients-ca.pem\", mode = \"required\" }";
            Err(Fault::with_help("clients are not asked for certificates", help))
        }
        Ok(part) => Ok(part),
        Err(message) => Err(Fault { message, help: Some(near_part(text).unwrap_or_else(parts)) }),
    }
}

fn parts() -> String {
    format!("{PART}, or a list of them")
}

fn near_part(text: &str) -> Option<String> {
    let kind = text.split(':').next()?;
    if ["ip", "client_ip", "remote_addr"].contains(&kind) {
        return Some("did you mean `address`?".into());
    }
    let known =
        ["address", "header:NAME", "cookie:NAME", "query:NAME", "session", "certificate", "route", "method", "host"];
    did_you_mean(kind, known)
}

fn rule(table: &mut Table<'_>) -> Option<Rule> {
    let life = table.read("in_flight_life", text(in_flight_life));
    if let Some(most) = table.value("in_flight") {
        let most = most.read(count(1..1_000_001));
        for other in
            ["quota", "burst", "algorithm", "calendar", "trial", "precision", "cost", "count", "charge_refused", "plan"]
        {
            if let Some(value) = table.value(other) {
                let message = format!("`{other}` says nothing about requests in flight");
                table.reading.error(&value.at, Fault::with_help(message, "a limit has `in_flight` or a `quota`"));
            }
        }
        return Some(Rule::InFlight {
            most: most?.value,
            life: life.map_or(Duration::from_secs(30), |life| life.value),
        });
    }
    if let Some(life) = life {
        table.reading.error(&life.at, "`in_flight_life` goes with `in_flight`");
    }
    let algorithms = [
        ("token-bucket", Algorithm::TokenBucket),
        ("fixed-window", Algorithm::FixedWindow),
        ("sliding-window", Algorithm::SlidingWindow),
        ("sliding-log", Algorithm::SlidingLog),
    ];
    let algorithm = table.read("algorithm", choice(&algorithms));
    let algorithm = algorithm.map_or(Algorithm::TokenBucket, |algorithm| algorithm.value);
    let help = "quota = \"100 per minute\", or in_flight = 10";
    let quota = table.require("quota", help, text(quota));
    if let Some(quota) = &quota
        && algorithm == Algorithm::SlidingLog
        && quota.value.amount > Counting::LONGEST_LOG
    {
        let help = "\"sliding-window\" needs two numbers";
        let message = format!("a sliding log of more than {} requests for each key", Counting::LONGEST_LOG);
        table.reading.error(&quota.at, Fault::with_help(message, help));
    }
    let burst = table.read("burst", count(1..1_000_000_001));
    if let Some(burst) = &burst
        && algorithm != Algorithm::TokenBucket
    {
        table.reading.error(&burst.at, "`burst` goes with the token bucket: a window gives all of its quota at once");
    }
    let calendar = table.read("calendar", text(calendar));
    if let (Some(calendar), Some(quota)) = (&calendar, &quota) {
        if algorithm != Algorithm::FixedWindow {
            let help = "algorithm = \"fixed-window\"";
            let fault = Fault::with_help("`calendar` goes with fixed windows: only they begin at some time", help);
            table.reading.error(&calendar.at, fault);
        } else if !Counting::is_of_calendar(quota.value.per) {
            let help = "per hour, day, week, month or year";
            table.reading.error(&quota.at, Fault::with_help("this is no window of a calendar", help));
        }
    }
    let quota = quota?.value;
    let burst = burst.map_or(quota.amount, |burst| burst.value);
    Some(Rule::Quota(Counting { algorithm, quota, burst, calendar: calendar.map(|calendar| calendar.value) }))
}

fn quota(text: &str) -> Result<Quota, Fault> {
    text.parse().map_err(|message: String| {
        let unit = text.rsplit(' ').next().unwrap_or_default();
        let near = || did_you_mean(unit, Quota::UNITS.map(|(name, _)| name));
        let units = || {
            let names = Quota::UNITS.map(|(name, _)| name);
            format!("per {}, or any time like 30s", names.join(", "))
        };
        let help = (message == Quota::FORM).then(|| near().unwrap_or_else(units));
        Fault { message, help }
    })
}

/// Requests that last are renewed after a third of it.
fn in_flight_life(life: &str) -> Result<Duration, String> {
    let life = quantity::duration(life)?;
    let sound = Duration::from_secs(1)..=Duration::from_secs(3600);
    if sound.contains(&life) { Ok(life) } else { Err("`in_flight_life` is 1s to 1h".to_owned()) }
}

fn calendar(zone: &str) -> Result<Arc<str>, Fault> {
    match jiff::tz::TimeZone::get(zone) {
        Ok(_) => Ok(zone.into()),
        Err(_) => Err(Fault::with_help(format!("`{zone}` is no time zone"), "\"UTC\", \"Europe/Berlin\"")),
    }
}

fn missing(value: &Value<'_>) -> Result<Missing, Fault> {
    match value.text()? {
        "skip" => Ok(Missing::Skip),
        "refuse" => Ok(Missing::Refuse),
        text => part(value).map(Missing::By).map_err(|fault| {
            let otherwise = format!("\"skip\": not counted, \"refuse\": 400, or what to count by instead: {PART}");
            let near = || near_part(text).or_else(|| did_you_mean(text, ["skip", "refuse"]));
            // Of a part that is nearly right there is more to say.
            if Part::parse(text).is_ok() { fault } else { Fault { help: Some(near().unwrap_or(otherwise)), ..fault } }
        }),
    }
}

/// `exempt`; its `keys` only if the key is known.
fn exempt(table: &mut Table<'_>, limit: &mut Limit, is_keyed: bool) {
    let help = "exempt = { addresses = [\"10.0.0.0/8\"] }";
    let read = |value: &Value<'_>| {
        let of_table = value.table("`exempt`", |table| exemptions(table, limit, is_keyed));
        of_table.map_err(|fault| Fault { help: Some(help.into()), ..fault })
    };
    if let Some(exempt) = table.read("exempt", read) {
        limit.exempt = exempt.value;
    }
}

fn exemptions(table: &mut Table<'_>, limit: &Limit, is_keyed: bool) -> Exempt {
    let network = |value: &Value<'_>| {
        let text = value.text()?;
        let address = text.parse().map(|address: std::net::IpAddr| IpNet::from(address));
        text.parse().or(address).map_err(|_| format!("`{text}` is no network like 10.0.0.0/8").into())
    };
    let addresses = table.list("addresses", network);
    let addresses = addresses.into_iter().flat_map(|list| list.value).map(|network| network.value).collect();
    let keys =
        table.list("keys", |value| if is_keyed { exempt_key(value, limit) } else { Ok(value.text()?.to_owned()) });
    let keys = keys.into_iter().flat_map(|list| list.value).map(|key| key.value).collect();
    let session = table.value("session").map(|value| value.pairs("`session`")).unwrap_or_default();
    let values = |value: Value<'_>| -> Vec<String> {
        value.items().iter().filter_map(|item| item.read(|item| Ok(item.text()?.to_owned()))).map(|v| v.value).collect()
    };
    let session = session.into_iter().map(|(path, value)| (path.value.to_owned(), values(value))).collect();
    Exempt { addresses, keys, session }
}

/// A value that some request's key has.
fn exempt_key(value: &Value<'_>, limit: &Limit) -> Result<String, Fault> {
    let text = value.text()?;
    // What a key of several parts exempts is refused as a contradiction.
    let [part] = limit.key.0.as_slice() else { return Ok(text.to_owned()) };
    if text.starts_with("sha256:") && !part.is_presented() {
        let message = "only what clients present (header, cookie, query) is known by its digest";
        return Err(Fault::with_help(message, "the value itself"));
    }
    if limit.key.spelt(text, limit.grouping).is_some() {
        return Ok(text.to_owned());
    }
    let help = match part {
        Part::Address => "an address, like 192.0.2.1; networks stand in `addresses`",
        _ if part.is_presented() => "the value itself, or `sha256:` and 64 hexadecimal digits, or the first 32 of them",
        _ => "a value as clients send it",
    };
    Err(Fault::with_help(format!("`{text}` is no value of this key"), help))
}

/// Which requests are charged; `None` if something was noted.
fn count_of(value: &Value<'_>) -> Option<Count> {
    if let Ok(word) = value.text()
        && !is_status(word)
    {
        return value.read(|_| count_word(word)).map(|count| count.value);
    }
    let items = value.items();
    if items.is_empty() {
        value.reading.error(&value.at, "`count` is an empty list");
    }
    let ranges: Option<_> = items.iter().map(|item| item.read(statuses).map(|range| range.value)).collect();
    ranges.map(Count::Statuses)
}

fn count_word(word: &str) -> Result<Count, Fault> {
    match word {
        "all" => Ok(Count::All),
        "forwarded" => Ok(Count::Forwarded),
        _ => {
            let help = did_you_mean(word, ["all", "forwarded"]);
            let help =
                help.unwrap_or_else(|| "\"all\", \"forwarded\", or statuses: [\"401\", \"403\", \"5xx\"]".into());
            Err(Fault::with_help(format!("`{word}` is not known here"), help))
        }
    }
}

fn cost(value: &Value<'_>) -> Result<Cost, Fault> {
    let Ok(text) = value.text() else { return value.number(1..1_000_001).map(Cost::Units) };
    let name = text.strip_prefix("response:").and_then(|name| HeaderName::from_bytes(name.as_bytes()).ok());
    name.map(Cost::Response).ok_or_else(|| {
        Fault::with_help(
            format!("`{text}` is no cost"),
            "a number, or \"response:X-Cost\": a field of the app's answer",
        )
    })
}

fn is_status(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_digit())
}

fn statuses(value: &Value<'_>) -> Result<(StatusCode, StatusCode), Fault> {
    let number = value.number(0..1000).map(|number| number.to_string());
    let text = match &number {
        Ok(number) => number,
        Err(_) => value.text()?,
    };
    let fault = || Fault::with_help(format!("`{text}` is no status"), "\"401\", \"4xx\" or \"500-504\"");
    let status = |digits: &str| {
        let known = digits.parse().ok().filter(|number| (200..600).contains(number));
        known.and_then(|number: u16| StatusCode::from_u16(number).ok())
    };
    let (first, last) = match (text.strip_suffix("xx"), text.split_once('-')) {
        (Some(class), _) => (status(&format!("{class}00")), status(&format!("{class}99"))),
        (None, Some((first, last))) => (status(first), status(last)),
        (None, None) => (status(text), status(text)),
    };
    first.zip(last).filter(|(first, last)| first <= last).ok_or_else(fault)
}

fn on_exceed(table: &mut Table<'_>, limit: &mut Limit) {
    let delays = table.read("on_exceed", choice(&[("refuse", false), ("delay", true)]));
    let most = table.read("max_delay", text(quantity::duration));
    match (delays.is_some_and(|delays| delays.value), most) {
        (true, most) => limit.on_exceed = OnExceed::Delay(most.map_or(Duration::from_secs(1), |most| most.value)),
        (false, Some(most)) => table.reading.error(&most.at, "`max_delay` goes with on_exceed = \"delay\""),
        (false, None) => {}
    }
}

fn warn_at(value: &Value<'_>) -> Result<Option<u8>, Fault> {
    let share = value.text().map_err(|fault| match value.number(1..100) {
        Ok(percent) => Fault { help: Some(format!("\"{percent}%\"")), ..fault },
        Err(_) => fault,
    })?;
    let percent = quantity::percent(share)?;
    let percent = u8::try_from(percent).ok().filter(|percent| (1..100).contains(percent));
    percent.map(Some).ok_or_else(|| format!("`{share}` is not a share from `1%` to `99%`").into())
}

fn refusal(table: &mut Table<'_>) -> Refusal {
    let mut refusal = Refusal::default();
    let status = |value: &Value<'_>| {
        let number = value.number(400..600)?;
        let status = u16::try_from(number).ok().and_then(|number| StatusCode::from_u16(number).ok());
        status.ok_or_else(|| format!("{number} is no status").into())
    };
    table.set("status", &mut refusal.status, status);
    let content = table.read("content", |value| Ok(Arc::from(value.text()?)));
    let content_at = content.as_ref().map(|content| content.at.clone());
    refusal.content = content.map(|content| content.value);
    let content_type = |value: &Value<'_>| {
        let text = value.text()?;
        let typed = HeaderValue::from_str(text).ok().filter(|_| text.contains('/'));
        typed.ok_or_else(|| format!("`{text}` is no content type like text/html").into())
    };
    let at = table.value("content_type").map(|value| value.at);
    table.set("content_type", &mut refusal.content_type, content_type);
    if let (Some(at), None) = (at, &refusal.content) {
        table.reading.error(&at, "`content_type` goes with `content`");
    }
    if let Some(at) = content_at.filter(|_| !refusal.is_sound()) {
        let help = "texts stand in quotes, \"{limit}\" and \"{quota}\" too; {retry_after} is a number";
        table.reading.error(&at, Fault::with_help("this is no JSON once its placeholders are replaced", help));
    }
    refusal
}

fn precision<'d>(table: &mut Table<'d>) -> Option<Placed<Precision>> {
    table.read("precision", choice(&[("exact", Precision::Exact), ("leased", Precision::Leased)]))
}

/// What is said of a limit under which no request that costs `units` passes.
pub(super) fn too_dear(limit: &Limit, units: u64) -> Option<Fault> {
    let counting = limit.counting()?;
    // A plan may give more at once; and what is charged after the answer passes while one unit is left.
    if limit.plan.is_some() || limit.is_charged_after() || units <= counting.at_once() {
        return None;
    }
    let (name, most) = (&limit.name, counting.at_once());
    let message =
        format!("each request costs {units} and at most {most} may come at once under limit `{name}`: all are refused");
    let bucket = counting.algorithm == Algorithm::TokenBucket;
    let help = if bucket { format!("a `burst` of at least {units}") } else { format!("a `quota` of at least {units}") };
    Some(Fault::with_help(message, help))
}

/// Why units cannot be taken ahead, if they cannot.
fn why_exact(limit: &Limit) -> Option<&'static str> {
    let Some(counting) = limit.counting() else { return Some("it counts requests in flight") };
    if !matches!(counting.algorithm, Algorithm::TokenBucket | Algorithm::FixedWindow) {
        Some("only a token bucket and a fixed window give units ahead")
    } else if matches!(limit.cost, Cost::Response(_)) || matches!(limit.count, Count::Statuses(_)) {
        Some("it is charged after the answer")
    } else if limit.on_exceed != OnExceed::Refuse {
        Some("requests wait for their turn, which is one for all instances")
    } else if limit.charge_refused {
        Some("refused requests are charged")
    } else {
        None
    }
}

/// Whether a lease would hold more than a handful.
fn is_worth_leasing(limit: &Limit) -> bool {
    let Some(Counting { quota, burst, .. }) = limit.counting() else { return false };
    let in_a_lease = u128::from(quota.amount) * LEASE.as_micros() / quota.per.as_micros().max(1);
    in_a_lease >= WORTH_LEASING && u128::from(*burst) >= 4 * in_a_lease
}

fn refuse_contradictions(table: &mut Table<'_>, limit: &Limit, has_plan: bool) {
    let mut contradiction = |key: &'static str, message: &str, help: &str| {
        let at = table.value(key).map_or(table.at.clone(), |value| value.at);
        table.reading.error(&at, Fault::with_help(message, help));
    };
    let bucket = limit.counting().is_some_and(|counting| counting.algorithm == Algorithm::TokenBucket);
    if limit.on_exceed != OnExceed::Refuse && !bucket {
        contradiction(
            "on_exceed",
            "only a token bucket knows when a request's turn is",
            "algorithm = \"token-bucket\"",
        );
    }
    if matches!(limit.count, Count::Statuses(_)) && limit.on_exceed != OnExceed::Refuse {
        contradiction(
            "on_exceed",
            "what is charged after the answer cannot wait for its turn",
            "on_exceed = \"refuse\"",
        );
    }
    if matches!(limit.cost, Cost::Response(_)) && limit.on_exceed != OnExceed::Refuse {
        contradiction(
            "on_exceed",
            "what is charged after the answer cannot wait for its turn",
            "on_exceed = \"refuse\"",
        );
    }
    let log = limit.counting().is_some_and(|counting| counting.algorithm == Algorithm::SlidingLog);
    if log && limit.cost != Cost::Units(1) {
        let help = "\"sliding-window\" counts units of any cost";
        contradiction("cost", "a sliding log keeps a time for each unit: each request costs one", help);
    }
    if !limit.exempt.keys.is_empty() && limit.key.0.len() > 1 {
        contradiction("exempt", "`keys` exempts values of a key that has one part", "a limit of its own");
    }
    if has_plan && limit.trial.is_some() {
        contradiction(
            "trial",
            "a trial quota stands beside a fixed one, not beside a plan's",
            "a limit without `plan`",
        );
    }
}
