//! `sidegate purge`: stored responses are taken back, by a running sidegate, wherever they are stored.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::admin::tell;
use crate::cache::purge::Wanted;

/// `sidegate purge …`.
#[derive(Debug, Args)]
#[command(
    after_help = "One running sidegate is enough: it holds on all that share its Redis. Where the admin listener has a \
                        token, it is taken from the environment: SIDEGATE_ADMIN_TOKEN."
)]
pub struct Arguments {
    /// URLs, in all their queries and variants: example.com/users
    #[arg(value_name = "URL")]
    urls: Vec<String>,
    /// All paths that begin so: 'example.com/assets/*', or '/assets/*' on every host
    #[arg(long = "prefix", value_name = "URL*")]
    prefixes: Vec<String>,
    /// All paths that fit, with * for any text: 'example.com/users/*/photo', or '/users/*' on every host
    #[arg(long = "pattern", value_name = "GLOB")]
    patterns: Vec<String>,
    /// Everything that the app has tagged so
    #[arg(long = "tag", value_name = "NAME")]
    tags: Vec<String>,
    /// Everything
    #[arg(long)]
    all: bool,
    /// What is met becomes stale, and stays: it is validated at its next use, and stands in while the app is away
    #[arg(long)]
    soft: bool,
    /// The admin listener of a running sidegate
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9901")]
    admin: String,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

/// Asks, prints how many places (paths of which something is stored) each name met, and exits with 0; with 1 if nothing, or not all, was purged.
pub fn purge(arguments: Arguments) -> ExitCode {
    let Arguments { urls, prefixes, patterns, tags, all, soft, admin, json } = arguments;
    let wanted = Wanted { urls, prefixes, patterns, tags, all, soft };
    // Before anything is sent: what it would say of a mistake, this can say.
    if let Err(why) = wanted.read() {
        eprintln!("error: {why}");
        return ExitCode::FAILURE;
    }
    let content = match serde_json::to_string(&wanted) {
        Ok(content) => content,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    tell(&admin, "POST /cache/purge", Some(&content), json, told)
}

/// The answer for people.
fn told(answer: &Value) -> String {
    let mut out = String::new();
    let done = if answer["soft"] == true { "made stale" } else { "purged" };
    for row in answer["purged"].as_array().into_iter().flatten() {
        let places = if row["places"] == 1 { "place" } else { "places" };
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{:<48} {} {places} {done}", row["name"].as_str().unwrap_or_default(), row["places"]);
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_are_told_in_words() {
        let answer = |soft: bool| {
            let rows = json!([{"name": "url a.test/x", "places": 1}, {"name": "tag t", "places": 20}]);
            told(&json!({"purged": rows, "places": 21, "soft": soft}))
        };
        let expected = "url a.test/x                                     1 place purged\n\
                        tag t                                            20 places purged\n";
        assert_eq!(answer(false), expected);
        assert!(answer(true).ends_with(" 20 places made stale\n"));
    }
}
