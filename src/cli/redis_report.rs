//! `sidegate redis-report`: what each feature keeps in Redis. Reads only, in bounded steps.
//!
//! 1. Nothing that a client sent is shown: rows bear the names of the configuration, and no key is printed.
//! 2. What is not known is said: a census that was cut short, bytes of a sample, keys that live for ever.

mod table;

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::config::quantity::duration;
use crate::config::settings::Settings;
use crate::config::{self, Loaded};
use crate::rate_limit::plan::Name;
use crate::rate_limit::{Plan, key_name};
use crate::redis_pool::census::{self, Bounds, Features};

/// Exit code for a configuration that cannot be used.
const UNUSABLE: u8 = 2;

/// What is asked for.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The configuration file: which Redis, which prefixes
    #[arg(short, long, value_name = "FILE", env = "SIDEGATE_CONFIG", default_value = "sidegate.toml")]
    config: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Count this many keys at most
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    max_keys: u64,
    /// Take this long at most
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    timeout: Duration,
}

/// Counts, and prints a table or JSON to standard output. Exits with 0; with 1 if Redis cannot be read, with 2 if the
/// configuration cannot be used or names no Redis.
pub fn report(arguments: &Arguments) -> ExitCode {
    let loaded = match config::load(&arguments.config, &config::environment) {
        Ok(Loaded { settings, .. }) => settings,
        Err(report) => {
            eprintln!("{}", report.render(std::io::stderr().is_terminal()));
            return ExitCode::from(UNUSABLE);
        }
    };
    let Some(redis) = &loaded.redis else {
        eprintln!("error: {} names no Redis, and REDIS_URL is not set", arguments.config.display());
        return ExitCode::from(UNUSABLE);
    };
    let features = features(&loaded, &redis.prefix);
    let keys = usize::try_from(arguments.max_keys).unwrap_or(usize::MAX);
    let bounds = Bounds { keys, time: arguments.timeout };
    let mut progress = Progress { shown: std::io::stderr().is_terminal() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let taken = runtime.block_on(census::take(redis, &features, bounds, &mut |keys| progress.show(keys)));
    progress.end();
    let census = match taken {
        Ok(census) => census,
        Err(why) => {
            eprintln!("error: Redis at {} cannot be read: {}", redis.shown(), sentence(why));
            return ExitCode::FAILURE;
        }
    };
    let said = match arguments.json {
        true => table::json(&redis.shown(), &features, &census),
        false => table::text(&redis.shown(), &features, &census),
    };
    for warning in table::warnings(&census) {
        eprintln!("warning: {warning}");
    }
    if write!(std::io::stdout(), "{said}").is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What to make of a word for logs.
fn sentence(why: &'static str) -> String {
    let sentence = match why {
        "unreachable" => "nobody listens there, or nothing has that name",
        "timeout" => "it does not answer in time",
        "auth" => "it refuses the user or the password",
        "noperm" => "its user may not do this (README says which rights are needed)",
        "tls" => "the TLS handshake failed",
        "nomaster" => "no sentinel knows a master of that name",
        _ => return why.to_owned(),
    };
    format!("{sentence} ({why})")
}

/// Whose keys the configuration tells apart.
fn features(settings: &Settings, prefix: &str) -> Features {
    let mut limits: Vec<_> = settings.routes.iter().flat_map(|route| &route.limits).map(|limit| &*limit.name).collect();
    limits.sort_unstable();
    limits.dedup();
    let sessions = settings.routes.iter().filter_map(|route| route.session.as_ref());
    let mut sessions: Vec<_> =
        sessions.map(|of| (of.definition.name.to_string(), of.definition.prefix.clone())).collect();
    sessions.sort_unstable();
    sessions.dedup();
    let plans = settings.routes.iter().flat_map(|route| &route.limits).filter_map(|limit| limit.plan.as_ref());
    let beginning = |plan: &Plan| Name::new(&plan.record).beginning().to_owned();
    let mut plans: Vec<_> = plans.map(|plan| (plan.name.to_string(), beginning(plan))).collect();
    plans.sort_unstable();
    plans.dedup();
    Features {
        prefix: prefix.to_owned(),
        limits: limits.into_iter().map(|name| (name.to_owned(), key_name(name))).collect(),
        sessions,
        plans,
    }
}

/// How many keys there are so far, for whoever waits at a terminal.
struct Progress {
    shown: bool,
}

impl Progress {
    fn show(&mut self, keys: u64) {
        if self.shown {
            eprint!("\r{keys} keys");
        }
    }

    /// Takes the line back.
    fn end(&self) {
        if self.shown {
            eprint!("\r\x1b[K");
        }
    }
}
