//! Reads the arguments and does what they say.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use super::{check, demo, explain, health, init, limits, purge, redis_report, replay, sessions};
use crate::app::{self, Failure, Source, Start};
use crate::clock::Clock;
use crate::config;
use crate::listener::Bind;
use crate::session::store::memory::MemoryStore;

const DEFAULT_FILE: &str = "sidegate.toml";
/// Session records that the demo keeps in process memory.
const DEMO_SESSIONS: usize = 1_000;

/// A policy sidecar in front of an HTTP API: rate limits, response caching and session validation over Redis.
#[derive(Debug, Parser)]
#[command(name = "sidegate", version, about, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(flatten)]
    run: Run,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Args)]
struct Run {
    /// The configuration file [default: sidegate.toml]
    #[arg(short, long, value_name = "FILE", env = "SIDEGATE_CONFIG")]
    config: Option<PathBuf>,
    /// Proxy this app without a file, with the defaults
    #[arg(short, long, value_name = "URL", conflicts_with = "config")]
    upstream: Option<String>,
    /// Where to listen, with --upstream, for example 127.0.0.1:9000 or unix:/run/sidegate.sock [default: 127.0.0.1:8080]
    #[arg(short, long, value_name = "ADDRESS", requires = "upstream", value_parser = bind)]
    listen: Vec<Bind>,
    /// Where health and metrics are, with --upstream: an address or off [default: 127.0.0.1:9901]
    #[arg(long, value_name = "ADDRESS", requires = "upstream")]
    admin: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve (the default)
    Run(Run),
    /// Check a configuration: exactly what `run` would read
    Check {
        /// The configuration file
        #[arg(short, long, value_name = "FILE", env = "SIDEGATE_CONFIG", default_value = DEFAULT_FILE)]
        config: PathBuf,
        /// The same, without the flag
        #[arg(value_name = "FILE", conflicts_with = "config")]
        file: Option<PathBuf>,
    },
    /// Print a commented configuration to start from
    Init,
    /// Start a sample app with sidegate in front of it
    Demo {
        /// Keep limits, stored responses and sessions in this Redis, not in process memory
        #[arg(long, value_name = "URL")]
        redis: Option<String>,
        /// Where sidegate listens
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
        listen: SocketAddr,
        /// Port of the sample app; 0: any
        #[arg(long, value_name = "PORT", default_value_t = 0)]
        app_port: u16,
    },
    /// Ask a running sidegate whether it is ready (for HEALTHCHECK)
    Health {
        /// Its admin listener
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9901")]
        admin: String,
    },
    /// Who is limited by a running sidegate; show, reset or grant a key
    Limits(limits::Arguments),
    /// Which sessions a user has; end one, or all
    Sessions(sessions::Arguments),
    /// Have a running sidegate take stored responses back
    Purge(purge::Arguments),
    /// Ask a running sidegate what would become of a request: route, limits, session, cache, and why
    Explain(explain::Arguments),
    /// Print how many keys and bytes of Redis each feature takes: reads only, in bounded steps
    RedisReport(redis_report::Arguments),
    /// Print what the limits of a configuration would have refused of the traffic in access logs
    Replay(replay::Arguments),
    /// Print completions for a shell
    Completions {
        /// Which
        shell: Shell,
    },
}

/// Reads the arguments of the process and does what they say.
pub fn run() -> ExitCode {
    // Usage errors and --help end the process here, with 2 and 0.
    let Arguments { run, command } = Arguments::parse();
    match command {
        None => serve(run),
        Some(Command::Run(run)) => serve(run),
        Some(Command::Check { config, file }) => check::check(file.as_ref().unwrap_or(&config)),
        Some(Command::Init) => init::init(),
        Some(Command::Demo { redis, listen, app_port }) => demonstrate(redis.as_deref(), listen, app_port),
        Some(Command::Health { admin }) => health::health(&admin),
        Some(Command::Limits(arguments)) => limits::limits(&arguments),
        Some(Command::Sessions(arguments)) => sessions::sessions(&arguments),
        Some(Command::Purge(arguments)) => purge::purge(arguments),
        Some(Command::Explain(arguments)) => explain::explain(arguments),
        Some(Command::RedisReport(arguments)) => redis_report::report(&arguments),
        Some(Command::Replay(arguments)) => replay::replay(&arguments),
        Some(Command::Completions { shell }) => {
            clap_complete::generate(shell, &mut Arguments::command(), "sidegate", &mut std::io::stdout());
            ExitCode::SUCCESS
        }
    }
}

fn serve(Run { config, upstream, listen, admin }: Run) -> ExitCode {
    let source = match upstream {
        None => Source::File(config.unwrap_or_else(|| Path::new(DEFAULT_FILE).to_owned())),
        Some(url) => match config::from_upstream(&url, &config::environment) {
            Err(report) => return ended(Err(Failure::Configuration(report))),
            Ok(mut settings) => {
                if !listen.is_empty() {
                    settings.server.listen = listen;
                }
                match admin.as_deref().map(|text| (text, text.parse())) {
                    None => {}
                    Some(("off", _)) => settings.admin.listen = None,
                    Some((_, Ok(address))) => settings.admin.listen = Some(address),
                    Some((text, Err(_))) => {
                        eprintln!("error: --admin {text}: neither `off` nor an address like 127.0.0.1:9902");
                        return ExitCode::from(2);
                    }
                }
                Source::Made(Box::new(settings))
            }
        },
    };
    ended(app::run(Start { source, sessions: None, ready: Box::new(|_, _| {}) }))
}

fn demonstrate(redis: Option<&str>, listen: SocketAddr, app_port: u16) -> ExitCode {
    let failed = |what: String| ended(Err(Failure::System(what)));
    let memory = MemoryStore::new(Clock::System, DEMO_SESSIONS);
    let sessions: Arc<dyn demo::sessions::Sessions> = match redis {
        None => memory.clone(),
        Some(url) => match demo::sessions::RedisSessions::new(url) {
            Ok(sessions) => Arc::new(sessions),
            Err(error) => return failed(format!("the demo needs the Redis it was told of: {error}")),
        },
    };
    let app = match demo::app::start(sessions, app_port) {
        Ok(app) => app,
        Err(error) => return failed(format!("the sample app cannot listen on 127.0.0.1:{app_port}: {error}")),
    };
    let settings = match demo::settings(app.address, listen, redis) {
        Ok(settings) => settings,
        Err(report) => return ended(Err(Failure::Configuration(report))),
    };
    let (address, redis) = (app.address, redis.map(str::to_owned));
    let ready = move |bound: &[Bind], admin| {
        let proxy = bound.iter().find_map(|bind| if let Bind::Tcp(proxy) = bind { Some(*proxy) } else { None });
        print!("{}", demo::introduction(proxy.unwrap_or(listen), address, admin, redis.as_deref()));
    };
    ended(app::run(Start { source: Source::Made(Box::new(settings)), sessions: Some(memory), ready: Box::new(ready) }))
}

fn bind(text: &str) -> Result<Bind, String> {
    config::address::bind(text, Path::new(""))
}

fn ended(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Configuration(report)) => {
            eprintln!("{}", report.render(std::io::stderr().is_terminal()));
            ExitCode::from(2)
        }
        Err(Failure::System(what)) => {
            eprintln!("error: {what}");
            ExitCode::FAILURE
        }
    }
}
