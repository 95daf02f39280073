//! How a census is told: a table for people, JSON for programs, and what to be warned of. Pure.

use std::fmt::Write as _;

use bytesize::ByteSize;
use serde_json::{Value, json};

use crate::redis_pool::census::{Census, Cut, Features, Lives};

const COLUMNS: [&str; 7] = ["keys", "bytes", "each", "goes in", "on average", "at the latest", "without TTL"];

/// A row for each feature that has keys, and one for all.
pub fn text(redis: &str, features: &Features, census: &Census) -> String {
    let mut rows = vec![(String::new(), COLUMNS.map(str::to_owned))];
    let (mut keys, mut lasting, mut bytes) = (0, 0, 0);
    for (feature, tally) in &census.tallies {
        let (kind, name) = features.words(*feature);
        let what = name.map_or_else(|| kind.to_owned(), |name| format!("{kind} {name}"));
        let of = |part: fn(Lives) -> u64| tally.lives().map_or_else(|| "-".to_owned(), |lives| life(part(lives)));
        let about = if tally.weighed < tally.keys { "≈ " } else { "" };
        let weight =
            |bytes: Option<u64>| bytes.map_or_else(|| "?".to_owned(), |bytes| format!("{about}{}", size(bytes)));
        let cells = [
            tally.keys.to_string(),
            weight(tally.bytes()),
            weight(tally.bytes_each()),
            of(|lives| lives.shortest),
            of(|lives| lives.mean),
            of(|lives| lives.longest),
            tally.lasting.to_string(),
        ];
        rows.push((what, cells));
        keys += tally.keys;
        lasting += tally.lasting;
        bytes += tally.bytes().unwrap_or(0);
    }
    let about = if census.tallies.values().any(|tally| tally.weighed < tally.keys) { "≈ " } else { "" };
    let mut all: [String; 7] = Default::default();
    (all[0], all[1], all[6]) = (keys.to_string(), format!("{about}{}", size(bytes)), lasting.to_string());
    rows.push(("all".to_owned(), all));
    let mut said = format!("{redis}, keys of ours under {:?}\n\n", features.prefix);
    let first = rows.iter().map(|(what, _)| what.chars().count()).max().unwrap_or(0);
    let widths: [usize; 7] =
        std::array::from_fn(|column| rows.iter().map(|(_, cells)| cells[column].chars().count()).max().unwrap_or(0));
    for (what, cells) in &rows {
        // Writing to a String cannot fail.
        let _ = write!(said, "{what:<first$}");
        for (cell, width) in cells.iter().zip(widths) {
            let _ = write!(said, "  {cell:>width$}");
        }
        said.push('\n');
    }
    said
}

/// The same for programs: bytes and whole seconds; `null` where nothing is known.
pub fn json(redis: &str, features: &Features, census: &Census) -> String {
    let told = census.tallies.iter().map(|(feature, tally)| {
        let (kind, name) = features.words(*feature);
        let lives = tally.lives().map(|lives| {
            json!({
                "shortest": lives.shortest / 1000,
                "mean": lives.mean / 1000,
                "longest": lives.longest / 1000,
            })
        });
        json!({
            "feature": kind,
            "name": name,
            "keys": tally.keys,
            "bytes": tally.bytes(),
            "bytes_each": tally.bytes_each(),
            "weighed": tally.weighed,
            "ttl_seconds": lives,
            "without_ttl": tally.lasting,
        })
    });
    let report = json!({
        "redis": redis,
        "prefix": features.prefix,
        "complete": census.cut.is_none(),
        "bytes_by": if census.by_length { "length" } else { "memory-usage" },
        "features": told.collect::<Vec<Value>>(),
        "warnings": warnings(census),
    });
    format!("{report:#}\n")
}

/// What should not be, or is not known.
pub fn warnings(census: &Census) -> Vec<String> {
    let mut said = Vec::new();
    let ours = census.tallies.iter().filter(|(feature, _)| feature.is_ours());
    let lasting: u64 = ours.map(|(_, tally)| tally.lasting).sum();
    if lasting > 0 {
        said.push(format!("{lasting} keys under our prefix have no TTL: sidegate makes none such"));
    }
    if census.by_length {
        said.push(
            "MEMORY USAGE is refused: bytes are the lengths of strings, without names and bookkeeping".to_owned(),
        );
    }
    match census.cut {
        Some(Cut::Keys) => said.push("not all keys were counted: --max-keys was reached".to_owned()),
        Some(Cut::Time) => said.push("not all keys were counted: --timeout was over".to_owned()),
        None => {}
    }
    said
}

fn size(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

/// Milliseconds, as whole seconds.
fn life(milliseconds: u64) -> String {
    humantime::format_duration(std::time::Duration::from_secs(milliseconds / 1000)).to_string()
}
