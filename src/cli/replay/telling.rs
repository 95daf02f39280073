//! A report as text for people and as JSON for programs. Pure.

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use super::report::{OfLimit, Report, percent};

/// For people.
pub fn text(report: &Report) -> String {
    let mut said = String::new();
    let lines = &report.lines;
    // Writing to a String cannot fail.
    let _ = write!(said, "{} lines", grouped(lines.read));
    if let Some((first, last)) = report.span {
        let _ = write!(said, ", {} to {} UTC", moment(first), moment(last));
    }
    let _ = writeln!(
        said,
        "\n{} requests came to a limit; {} of them ({:.2} %) would have been refused",
        grouped(report.judged),
        grouped(report.refused),
        percent(report.refused, report.judged)
    );
    let left_out = [
        (lines.unreadable, "cannot be read"),
        (lines.no_request, "were no proper request"),
        (lines.no_route, "meet no route"),
        (lines.unlimited, "meet a route without limits"),
        (lines.late.requests, "came too late"),
    ];
    for (count, what) in left_out.into_iter().filter(|(count, _)| *count > 0) {
        let _ = writeln!(said, "{} {what}", grouped(count));
    }
    for limit in &report.limits {
        of_limit(&mut said, limit);
    }
    said
}

fn of_limit(said: &mut String, limit: &OfLimit) {
    let shadow = if limit.shadow { " (shadow)" } else { "" };
    let _ = writeln!(said, "\nlimit {}: {} by {}{shadow}", limit.name, limit.quota, limit.key);
    let row = |said: &mut String, what: &str, text: &str| {
        let _ = writeln!(said, "  {what:<12}{text}");
    };
    if limit.judged == 0 {
        return row(said, "judged", "nothing");
    }
    row(said, "judged", &format!("{} requests of {} keys", grouped(limit.judged), grouped(limit.keys as u64)));
    if limit.exempt > 0 {
        row(said, "exempt", &format!("{} requests", grouped(limit.exempt)));
    }
    let of_keys =
        |keys: usize| format!("{} keys ({:.2} %)", grouped(keys as u64), percent(keys as u64, limit.keys as u64));
    let refused = (grouped(limit.refused), limit.refused_percent(), of_keys(limit.keys_refused));
    row(said, "refused", &format!("{} requests ({:.2} %) of {}", refused.0, refused.1, refused.2));
    if limit.delayed > 0 {
        row(said, "delayed", &format!("{} requests", grouped(limit.delayed)));
    }
    if let Some((quota, requests, keys)) = limit.trial {
        let share = percent(requests, limit.judged);
        row(
            said,
            "trial",
            &format!("{quota}: refuses {} requests ({share:.2} %) of {}", grouped(requests), of_keys(keys)),
        );
    }
    if let Some(minute) = limit.busiest {
        let (requests, refused) = (grouped(minute.requests), grouped(minute.refused));
        row(said, "busiest", &format!("{}: {requests} requests in the minute, {refused} refused", moment(minute.at)));
    }
    let [half, most, nearly, all] = limit.peaks.map(grouped);
    let window = window(limit);
    row(
        said,
        "asked",
        &format!("in the busiest {window} of each key: 50 % at most {half}, 99 % {most}, 99.9 % {nearly}, all {all}"),
    );
    row(
        said,
        "suggestion",
        &match &limit.suggestion {
            Some((quota, 0)) => format!("{quota}: refuses nobody"),
            Some((quota, keys)) => format!("{quota}: refuses {}", of_keys(*keys)),
            None => "no quota with this burst spares all but 0.1 % of the keys".to_owned(),
        },
    );
    if limit.top.is_empty() {
        return;
    }
    row(said, "refused most", "");
    let width = limit.top.iter().map(|refused| refused.key.chars().count()).max().unwrap_or(0);
    for refused in &limit.top {
        let (key, of) = (&refused.key, grouped(refused.judged));
        let _ = writeln!(
            said,
            "    {key:<width$}  {:>12} of {of}, {} in its busiest {window}",
            grouped(refused.refused),
            grouped(refused.peak)
        );
    }
}

/// For programs; times are RFC 3339, shares are percent.
pub fn json(report: &Report) -> String {
    let lines = &report.lines;
    let limits: Vec<Value> = report.limits.iter().map(limit).collect();
    let told = json!({
        "complete": !lines.interrupted,
        "from": report.span.map(|(first, _)| rfc3339(first)),
        "to": report.span.map(|(_, last)| rfc3339(last)),
        "lines": {
            "read": lines.read,
            "unreadable": lines.unreadable,
            "no_request": lines.no_request,
            "no_route": lines.no_route,
            "unlimited": lines.unlimited,
            "late": lines.late.requests,
        },
        "judged": report.judged,
        "refused": report.refused,
        "refused_percent": percent(report.refused, report.judged),
        "limits": limits,
        "warnings": report.warnings,
    });
    format!("{told:#}\n")
}

fn limit(limit: &OfLimit) -> Value {
    let [half, most, nearly, all] = limit.peaks;
    let top = limit.top.iter().map(|refused| {
        json!({ "key": refused.key, "judged": refused.judged, "refused": refused.refused, "peak": refused.peak })
    });
    json!({
        "name": limit.name,
        "key": limit.key,
        "quota": limit.quota.to_string(),
        "shadow": limit.shadow,
        "judged": limit.judged,
        "refused": limit.refused,
        "refused_percent": limit.refused_percent(),
        "delayed": limit.delayed,
        "exempt": limit.exempt,
        "keys": limit.keys,
        "keys_refused": limit.keys_refused,
        "keys_beyond": limit.keys_beyond,
        "trial": limit.trial.map(|(quota, refused, keys)| {
            json!({ "quota": quota.to_string(), "refused": refused, "keys_refused": keys })
        }),
        "busiest_minute": limit.busiest.map(|minute| {
            json!({ "at": rfc3339(minute.at), "requests": minute.requests, "refused": minute.refused })
        }),
        "peak": { "p50": half, "p99": most, "p99_9": nearly, "max": all },
        "suggestion": limit.suggestion.map(|(quota, keys)| {
            json!({ "quota": quota.to_string(), "amount": quota.amount, "keys_refused": keys })
        }),
        "refused_most": top.collect::<Vec<Value>>(),
    })
}

/// `minute`, `30s`.
fn window(limit: &OfLimit) -> String {
    let quota = limit.quota.to_string();
    quota.split_once(" per ").map(|(_, window)| window.to_owned()).unwrap_or_default()
}

fn rfc3339(micros: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_micros(micros)).to_string()
}

fn moment(micros: u64) -> String {
    rfc3339(micros).replace('T', " ").replace('Z', "")
}

/// `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
