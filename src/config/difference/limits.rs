//! `limit.NAME` and `plan.NAME`.

use super::{Said, Secret, Section, list, plain, time};
use crate::rate_limit::{Exempt, Limit, Missing, Plan, Precision, Refusal, Rule, Unknown};

pub(super) fn limit(limit: &Limit) -> Section {
    let counting = limit.counting();
    let (most, life) = match &limit.rule {
        Rule::InFlight { most, life } => (most.to_string(), time(*life)),
        Rule::Quota(_) => ("none".to_owned(), "none".to_owned()),
    };
    let missing = match &limit.missing {
        Missing::By(part) => part.to_string(),
        Missing::Skip => "skip".into(),
        Missing::Refuse => "refuse".into(),
    };
    let Exempt { addresses, keys, session } = &limit.exempt;
    let session = session.iter().map(|(path, values)| format!("{path} = {}", values.join(" or ")));
    let Refusal { status, content, content_type } = &limit.refusal;
    let lines = vec![
        ("key", plain(&limit.key)),
        ("ipv4_prefix", plain(limit.grouping.ipv4)),
        ("ipv6_prefix", plain(limit.grouping.ipv6)),
        ("missing", plain(missing)),
        ("exempt.addresses", list(addresses.iter().map(ToString::to_string))),
        ("exempt.keys", Said::Secretly(Secret(keys.join("\n")))),
        ("exempt.session", list(session)),
        ("in_flight", plain(most)),
        ("in_flight_life", plain(life)),
        ("algorithm", list(counting.map(|counting| counting.algorithm.to_string()))),
        ("quota", list(counting.map(|counting| counting.quota.to_string()))),
        ("burst", list(counting.map(|counting| counting.burst.to_string()))),
        ("calendar", list(counting.and_then(|counting| Some(counting.calendar.as_ref()?.to_string())))),
        ("cost", plain(&limit.cost)),
        ("count", plain(&limit.count)),
        ("charge_refused", plain(limit.charge_refused)),
        ("on_exceed", plain(limit.on_exceed)),
        ("warn_at", list(limit.warn_at.map(|share| format!("{share}%")))),
        ("shadow", plain(limit.shadow)),
        ("trial", list(limit.trial.map(|quota| quota.to_string()))),
        ("precision", plain(if limit.precision == Precision::Leased { "leased" } else { "exact" })),
        ("plan", list(limit.plan.iter().map(|plan| plan.name.to_string()))),
        ("refusal.status", plain(status.as_str())),
        ("refusal.content", list(content.iter().map(ToString::to_string))),
        ("refusal.content_type", plain(content_type.to_str().unwrap_or_default())),
    ];
    Section { name: format!("limit.{}", limit.name), lines }
}

pub(super) fn plan(plan: &Plan) -> Section {
    let lines = vec![
        ("key", plain(&plan.key)),
        ("record", plain(&plan.record)),
        ("unknown", plain(if plan.unknown == Unknown::Refuse { "refuse" } else { "default" })),
    ];
    Section { name: format!("plan.{}", plan.name), lines }
}
