//! A report as text for people and as JSON for programs. Pure.

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use super::figures::{grouped, percent, share, some};
use super::report::{OfLimit, Refused, Report};

/// For people.
pub fn text(report: &Report) -> String {
    let lines = &report.lines;
    let mut said = some(lines.read, "line");
    // Writing to a String cannot fail.
    if let Some((first, last)) = report.span {
        let _ = write!(said, ", {} to {} UTC", moment(first), moment(last));
    }
    let (judged, refused) = (some(report.judged, "request"), share(report.refused, report.judged));
    let _ = writeln!(said, "\n{judged} came to a limit; {refused} of them would have been refused");
    let left_out = [
        (lines.unreadable, "cannot be read"),
        (lines.no_request, "no proper request"),
        (lines.no_route, "met no route"),
        (lines.unlimited, "came to no limit"),
        (lines.late.requests, "came too late"),
        (lines.ahead, "ahead of the next one"),
    ];
    for (count, what) in left_out.into_iter().filter(|(count, _)| *count > 0) {
        let _ = writeln!(said, "{} {what}", grouped(count));
    }
    for limit in &report.limits {
        let shadow = if limit.shadow { " (shadow)" } else { "" };
        let _ = writeln!(said, "\nlimit {}: {} by {}{shadow}", limit.name, limit.quota, limit.key);
        for (what, text) in rows(limit) {
            let _ = writeln!(said, "  {what:<12}{text}");
        }
        top(&mut said, limit);
    }
    said
}

fn rows(limit: &OfLimit) -> Vec<(&'static str, String)> {
    if limit.judged == 0 {
        return vec![("judged", "nothing".to_owned())];
    }
    let keys = |keys: usize| format!("{} of the keys", share(keys as u64, limit.keys as u64));
    let requests = |requests: u64| format!("{} of the requests", share(requests, limit.judged));
    let mut rows = Vec::new();
    rows.push(("judged", format!("{} of {}", some(limit.judged, "request"), some(limit.keys as u64, "key"))));
    if limit.exempt > 0 {
        rows.push(("exempt", some(limit.exempt, "request")));
    }
    rows.push(("refused", format!("{}, {}", requests(limit.refused), keys(limit.keys_refused))));
    if limit.delayed > 0 {
        rows.push(("delayed", requests(limit.delayed)));
    }
    if let Some((quota, refused, of)) = limit.trial {
        rows.push(("trial", format!("{quota} refuses {}, {}", requests(refused), keys(of))));
    }
    if let Some(minute) = limit.busiest {
        let (asked, refused) = (some(minute.requests, "request"), grouped(minute.refused));
        rows.push(("busiest", format!("{}: {asked} in the minute, {refused} refused", moment(minute.at))));
    }
    let [half, most, nearly, all] = limit.peaks.map(grouped);
    let window = window(limit);
    let peaks = format!("50 % of the keys at most {half}, 99 % {most}, 99.9 % {nearly}, all {all}");
    rows.push(("asked", format!("in their busiest {window}, {peaks}")));
    rows.push((
        "suggestion",
        match &limit.suggestion {
            Some((quota, 0)) => format!("{quota} refuses nobody"),
            Some((quota, of)) => format!("{quota} refuses {}", keys(*of)),
            None => "no quota of this kind spares all but 0.1 % of the keys".to_owned(),
        },
    ));
    rows
}

fn top(said: &mut String, limit: &OfLimit) {
    if limit.top.is_empty() {
        return;
    }
    let window = window(limit);
    let width = limit.top.iter().map(|refused| refused.key.chars().count()).max().unwrap_or(0);
    said.push_str("  refused most\n");
    for Refused { key, judged, refused, peak } in &limit.top {
        let (refused, judged, peak) = (grouped(*refused), grouped(*judged), grouped(*peak));
        let _ = writeln!(said, "    {key:<width$}  {refused:>12} of {judged}, {peak} in its busiest {window}");
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
            "ahead": lines.ahead,
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
