//! `[plan.NAME]`: whose quotas a limit takes.

use std::ops::Range;
use std::sync::Arc;

use super::limits::part;
use crate::config::raw::{Fault, Placed, Table, choice};
use crate::rate_limit::partition::Part;
use crate::rate_limit::{Limit, Plan, Unknown};

/// Whoever has one counter has one quota: requests with the API key and without it would else refill it for each other.
pub fn refuse_of_others(table: &mut Table<'_>, limit: &Limit, at: &Range<usize>) {
    let Some(plan) = limit.plan.as_deref().filter(|_| limit.counting().is_some()) else { return };
    if !limit.key.0.contains(&plan.key) {
        let message = format!("limit `{}` goes by plan `{}`, and does not count by its key", limit.name, plan.name);
        let help = format!("key = \"{}\", or a list with it", plan.key);
        table.reading.error(at, Fault::with_help(message, help));
    }
}

/// `[plan.NAME]`.
pub fn plan(name: &Placed<String>, table: &mut Table<'_>) -> Option<Arc<Plan>> {
    let help = "\"header:X-API-Key\", \"query:NAME\" or \"cookie:NAME\"";
    let key = table.require("key", help, |value| match part(value)? {
        part @ (Part::Header(_) | Part::Query(_) | Part::Cookie(_)) => Ok(part),
        _ => Err(Fault::with_help("this is nothing that an API key stands in", help)),
    });
    let record = table.read("record", |value| {
        let record = value.text()?;
        let whose = ["{key}", "{sha256}"].iter().map(|name| record.matches(name).count()).sum::<usize>();
        if record.starts_with('{') && whose == 1 {
            let help = "record = \"sidegate:plan:{sha256}\": clients else choose which key of Redis is read";
            Err(Fault::with_help("a record needs a beginning of its own", help))
        } else if whose == 1 && record.matches(['{', '}']).count() == 2 {
            Ok(record.to_owned())
        } else {
            let help = "`{key}` is the API key, `{sha256}` its digest: record = \"sidegate:plan:{sha256}\"";
            Err(Fault::with_help("a record has one of the two names in it, once", help))
        }
    });
    let unknown = table.read("unknown", choice(&[("default", Unknown::Default), ("refuse", Unknown::Refuse)]));
    Some(Arc::new(Plan {
        name: name.value.as_str().into(),
        key: key?.value,
        record: record.map_or("sidegate:plan:{key}".into(), |record| record.value),
        unknown: unknown.map(|unknown| unknown.value).unwrap_or_default(),
    }))
}
