//! `sidegate limits`: what operators ask of limits of a running sidegate, and have done to them.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::admin::{escaped, tell};

/// `sidegate limits …`.
#[derive(Debug, Args)]
#[command(after_help = "Where the admin listener has a token, it is taken from the environment: SIDEGATE_ADMIN_TOKEN.")]
pub struct Arguments {
    /// The admin listener of a running sidegate
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9901", global = true)]
    admin: String,
    /// Print the answer as JSON
    #[arg(long, global = true)]
    json: bool,
    /// Show addresses whole, and all that is known of other keys (half of an API key's digest)
    #[arg(long, global = true)]
    reveal: bool,
    #[command(subcommand)]
    wanted: Option<Wanted>,
}

#[derive(Debug, Subcommand)]
enum Wanted {
    /// List all limits (the default)
    List,
    /// Who is refused most by a limit, lately, by this instance
    Top {
        /// Its name
        limit: String,
        /// Rows
        #[arg(short = 'n', long, value_name = "ROWS", default_value_t = 10)]
        most: usize,
    },
    /// Where a key stands
    Show(Key),
    /// Forget what a key has spent
    Reset(Key),
    /// Give a key units back that it has spent
    Grant {
        #[command(flatten)]
        key: Key,
        /// How many
        #[arg(short, long, value_name = "N")]
        units: u64,
    },
}

#[derive(Debug, Args)]
struct Key {
    /// The name of the limit
    limit: String,
    /// A value for each part of its key: what the client sends (192.0.2.1, its API key), or what `top --reveal` shows
    #[arg(required = true, value_name = "VALUE")]
    values: Vec<String>,
}

/// Asks, prints the answer, and exits with 0; with 1 if there is none, or no such thing.
pub fn limits(arguments: &Arguments) -> ExitCode {
    let request = request(arguments.wanted.as_ref().unwrap_or(&Wanted::List), arguments.reveal);
    tell(&arguments.admin, &request, None, arguments.json, told)
}

fn request(wanted: &Wanted, reveal: bool) -> String {
    let of = |method: &str, key: &Key, what: &str| {
        let mut target = format!("{method} /limits/{}/{what}?reveal={reveal}", escaped(&key.limit));
        for value in &key.values {
            // Writing to a string cannot fail.
            let _ = write!(target, "&key={}", escaped(value));
        }
        target
    };
    match wanted {
        Wanted::List => "GET /limits".into(),
        Wanted::Top { limit, most } => format!("GET /limits/{}/top?most={most}&reveal={reveal}", escaped(limit)),
        Wanted::Show(key) => of("GET", key, "key"),
        Wanted::Reset(key) => of("POST", key, "reset"),
        Wanted::Grant { key, units } => format!("{}&units={units}", of("POST", key, "grant")),
    }
}

/// The answer for people.
fn told(answer: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut out = String::new();
    if let Some(limits) = answer.get("limits") {
        for limit in list(limits) {
            let (name, rule, key) = (text(&limit["name"]), text(&limit["rule"]), text(&limit["key"]));
            let trial = limit["trial"].as_str().map(|quota| format!(", trial {quota}")).unwrap_or_default();
            let shadow = if limit["shadow"] == true { ", shadow" } else { "" };
            let _ = writeln!(out, "{name:<24} {rule} by {key}{trial}{shadow}");
        }
        if out.is_empty() {
            out.push_str("no route has a limit\n");
        }
    } else if let Some(top) = answer.get("top") {
        for row in list(top) {
            let about = if row["too_high_by_at_most"] == 0 { "" } else { "at most " };
            let times = if row["refused"] == 1 { "time" } else { "times" };
            let _ = writeln!(out, "{:<40} refused {about}{} {times}", text(&row["key"]), row["refused"]);
        }
        if out.is_empty() {
            let _ = writeln!(out, "limit {} has refused nobody lately", text(&answer["limit"]));
        }
    } else {
        let state = if answer["refused"] == true {
            format!("refused for {} s", answer["retry_after"])
        } else {
            format!("{} left", answer["remaining"])
        };
        let (limit, key, quota) = (text(&answer["limit"]), text(&answer["key"]), text(&answer["quota"]));
        let by = if answer["quotas_of"] == "the limit itself" { " (by the limit's own quota)" } else { "" };
        let _ = writeln!(out, "{limit} {key}: {state} of {quota}{by}; all of it in {} s", answer["reset_after"]);
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_wanted_becomes_one_request() {
        let key = || Key { limit: "a".into(), values: vec!["192.0.2.1".into(), "a b&c".into()] };
        assert_eq!(request(&Wanted::List, false), "GET /limits");
        assert_eq!(request(&Wanted::Show(key()), true), "GET /limits/a/key?reveal=true&key=192.0.2.1&key=a%20b%26c");
        assert!(request(&Wanted::Grant { key: key(), units: 5 }, false).ends_with("&key=a%20b%26c&units=5"));
        assert!(request(&Wanted::Reset(key()), false).starts_with("POST /limits/a/reset?"));
    }

    #[test]
    fn answers_are_told_in_words() {
        let limit = |shadow: bool, trial: Option<&str>| {
            let limit =
                json!({"name": "a", "rule": "5 per second", "key": "address", "shadow": shadow, "trial": trial});
            told(&json!({ "limits": [limit] }))
        };
        assert_eq!(limit(false, None), "a                        5 per second by address\n");
        let both = "a                        5 per second by address, trial 2 per second, shadow\n";
        assert_eq!(limit(true, Some("2 per second")), both);
        let row = |refused: u64, excess: u64| {
            let row = json!({"key": "192.0.2.0/24", "refused": refused, "too_high_by_at_most": excess});
            told(&json!({"limit": "a", "top": [row]}))
        };
        assert!(row(7, 0).ends_with(" refused 7 times\n") && row(7, 1).ends_with(" refused at most 7 times\n"));
        assert!(row(1, 0).ends_with(" refused 1 time\n"));
        assert_eq!(told(&json!({"limit": "a", "top": []})), "limit a has refused nobody lately\n");
        let state = |refused: bool| {
            let (left, wait) = if refused { (0, 3) } else { (4, 0) };
            let quota = "5 per second";
            told(&json!({"limit": "a", "key": "x…", "quota": quota, "refused": refused, "remaining": left,
                "retry_after": wait, "reset_after": 9}))
        };
        assert_eq!(state(false), "a x…: 4 left of 5 per second; all of it in 9 s\n");
        assert_eq!(state(true), "a x…: refused for 3 s of 5 per second; all of it in 9 s\n");
    }
}
