//! `sidegate replay`: what the limits of a configuration would have made of the traffic in access logs.
//!
//! 1. Each line becomes a request that meets the configuration's own routes, keys and algorithms; nothing is asked, of
//!    Redis or of an app. Time is the log's.
//! 2. Logs are streams: what is held does not grow with them, but with the keys of each limit, whose number is bounded.
//! 3. Several logs are read together, in the order of their times: rotated ones, and those of several servers.
//! 4. A line that is further ahead than `--reorder` waits for the next one of its log. If that is behind it by more than
//!    `--reorder`, the line was wrong, and is left out; otherwise time has gone on.
//! 5. What cannot be read, or not be judged, is counted and said. If more than half of the lines cannot be read, the report
//!    would be about something else: there is none.
//!
//! # Why
//! One wrong date would make late all that follows it.
//!
//! A quota that was guessed refuses customers or nobody. What yesterday's clients asked for is known.

mod demand;
mod figures;
mod judge;
mod kept;
mod keys;
mod line;
mod members;
mod moment;
mod order;
mod progress;
mod quoted;
mod report;
mod shown;
mod source;
mod tally;
mod telling;
mod traffic;
mod value;

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use self::judge::Judge;
use self::line::{Format, Reader};
use self::order::Order;
use self::progress::{Interrupt, Progress};
use self::report::{Detail, Lines, Report};
use self::source::{LONGEST, Piece, Source};
use self::traffic::{Asking, Elsewhere, Traffic};
use crate::config::quantity::duration;
use crate::config::settings::Settings;
use crate::config::{self, Loaded};

/// Exit code for a configuration that cannot be used.
const UNUSABLE: u8 = 2;

/// Lines that are read of one log before another one's turn.
const AT_ONCE: usize = 256;

/// Lines that cannot be read and are shown.
const EXAMPLES: usize = 3;

/// What is asked for.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The configuration file: its routes and limits
    #[arg(short, long, value_name = "FILE", env = "SIDEGATE_CONFIG", default_value = "sidegate.toml")]
    config: PathBuf,
    /// The access logs, in any order; `-`: standard input
    #[arg(value_name = "ACCESS.LOG", required = true)]
    logs: Vec<PathBuf>,
    /// How their lines are written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// List this many refused keys of each limit
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    top: usize,
    /// Show keys as they are: addresses whole, and what sessions say
    #[arg(long)]
    reveal: bool,
    /// Where requests went of which a line does not say it
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Lines may come so much later than later ones
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    reorder: Duration,
    /// Keep this many keys of each limit in mind [default: memory.limit_keys of the configuration]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    max_keys: Option<u32>,
}

/// Reads the logs, and prints a report to standard output. Exits with 0; with 1 if a log cannot be read, more than half of
/// the lines cannot, or it was interrupted; with 2 if the configuration cannot be used or has no limits.
pub fn replay(arguments: &Arguments) -> ExitCode {
    let settings = match config::load(&arguments.config, &config::environment) {
        Ok(Loaded { settings, .. }) => settings,
        Err(report) => {
            eprintln!("{}", report.render(std::io::stderr().is_terminal()));
            return ExitCode::from(UNUSABLE);
        }
    };
    if settings.routes.iter().all(|route| route.limits.is_empty()) {
        eprintln!("error: no route of {} has a limit: there is nothing to judge", arguments.config.display());
        return ExitCode::from(UNUSABLE);
    }
    match run(arguments, &settings) {
        Err(what) => {
            eprintln!("error: {what}");
            ExitCode::FAILURE
        }
        Ok(report) => {
            let said = if arguments.json { telling::json(&report) } else { telling::text(&report) };
            for warning in &report.warnings {
                eprintln!("warning: {warning}");
            }
            let whole = write!(std::io::stdout(), "{said}").is_ok() && !report.lines.interrupted;
            if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
    }
}

fn run(arguments: &Arguments, settings: &Settings) -> Result<Report, String> {
    let (mut sources, mut total) = (Vec::new(), Some(0));
    for path in &arguments.logs {
        let (source, length) =
            Source::open(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        total = total.zip(length).map(|(total, length)| total + length);
        sources.push(source);
    }
    let mut sources: Vec<_> = sources.into_iter().map(|source| (source, None)).collect();
    let room = arguments.max_keys.map_or(settings.memory.limits.max_keys, |keys| keys as usize);
    let mut replay = Replay::new(settings, arguments, room);
    let interrupt = Interrupt::listen().map_err(|error| format!("cannot listen for an interrupt: {error}"))?;
    let progress = Progress::new(total);
    let mut read = 0;
    // The one that is furthest behind; those that have ended are nowhere.
    let going = |(source, _): &&mut (Source, _)| source.newest < u64::MAX;
    while let Some((source, ahead)) = sources.iter_mut().filter(going).min_by_key(|(of, _)| of.newest) {
        let before = source.bytes;
        replay.some_lines(source, ahead).map_err(|error| format!("cannot read {}: {error}", source.name))?;
        read += source.bytes - before;
        let reached = sources.iter().map(|(source, _)| source.newest).min().unwrap_or(u64::MAX);
        replay.judge_up_to(reached);
        progress.show(read, replay.lines.read);
        if interrupt.came() {
            replay.lines.interrupted = true;
            break;
        }
    }
    replay.judge_up_to(u64::MAX);
    progress.end();
    replay.lines.late = replay.order.late();
    if replay.lines.unreadable * 2 > replay.lines.read {
        let Lines { unreadable, read, examples, .. } = &replay.lines;
        let examples = examples.join("\n  ");
        return Err(format!("{unreadable} of {read} lines cannot be read: is that an access log?\n  {examples}"));
    }
    let detail = Detail { top: arguments.top, reveal: arguments.reveal };
    Ok(Report::new(replay.lines, settings, &replay.traffic, &replay.judge, detail))
}

/// Everything between a line and its judgement.
struct Replay<'a> {
    settings: &'a Settings,
    reader: Reader,
    traffic: Traffic,
    order: Order<Asking>,
    judge: Judge,
    lines: Lines,
    /// `--reorder`, in µs.
    window: u64,
}

/// A line that nothing confirms yet.
struct Ahead {
    at: u64,
    text: Box<[u8]>,
}

impl<'a> Replay<'a> {
    fn new(settings: &'a Settings, arguments: &Arguments, room: usize) -> Self {
        let traffic = Traffic::new(settings, room, arguments.host.clone());
        let window = u64::try_from(arguments.reorder.as_micros()).unwrap_or(u64::MAX);
        Self {
            settings,
            reader: Reader { format: arguments.format, fields: traffic.fields().to_vec() },
            order: Order::new(window),
            judge: Judge::new(traffic.limits(), settings.limits),
            traffic,
            lines: Lines::default(),
            window,
        }
    }

    /// Reads some lines of a log, or its last ones. `ahead`: the one before them, if it waits for the next.
    fn some_lines(&mut self, source: &mut Source, ahead: &mut Option<Ahead>) -> std::io::Result<()> {
        for _ in 0..AT_ONCE {
            let mut newest = source.newest;
            let unreadable = match source.next()? {
                None => {
                    // Nothing is left that it could harm.
                    self.confirm(ahead.take());
                    return Ok(());
                }
                Some(Piece::Line([])) => continue,
                Some(Piece::TooLong) => {
                    self.lines.read += 1;
                    Some(format!("it is longer than {} KiB", LONGEST / 1024))
                }
                Some(Piece::Line(text)) => {
                    self.lines.read += 1;
                    match self.reader.read(text) {
                        Err(why) => Some(why.to_owned()),
                        Ok(line) => {
                            let at = line.at;
                            let (right, wrong) = match ahead.take() {
                                Some(before) if at.saturating_add(self.window) < before.at => (None, 1),
                                before => (before, 0),
                            };
                            self.lines.ahead += wrong;
                            newest = newest.max(right.as_ref().map_or(0, |before| before.at));
                            self.confirm(right);
                            if at > newest.saturating_add(self.window) {
                                *ahead = Some(Ahead { at, text: text.into() });
                            } else {
                                self.line(&line);
                                newest = newest.max(at);
                            }
                            source.newest = newest;
                            None
                        }
                    }
                }
            };
            if let Some(why) = unreadable {
                self.lines.unreadable += 1;
                if self.lines.examples.len() < EXAMPLES {
                    self.lines.examples.push(format!("{}:{}: {why}", source.name, source.lines));
                }
            }
        }
        Ok(())
    }

    /// Takes a line that had to wait.
    fn confirm(&mut self, ahead: Option<Ahead>) {
        if let Some(Ok(line)) = ahead.as_ref().map(|ahead| self.reader.read(&ahead.text)) {
            self.line(&line);
        }
    }

    fn line(&mut self, line: &line::Line<'_>) {
        let lines = &mut self.lines;
        lines.exact += u64::from(!line.at.is_multiple_of(1_000_000));
        lines.hostless += u64::from(line.host.is_none());
        lines.from_proxies += u64::from(self.settings.client_addr.trusts(line.client));
        match self.traffic.request(line) {
            Ok(asking) => drop(self.order.push(line.at, asking)),
            Err(Elsewhere::NoRequest) => lines.no_request += 1,
            Err(Elsewhere::NoRoute) => lines.no_route += 1,
            Err(Elsewhere::Unlimited) => lines.unlimited += 1,
        }
    }

    /// Judges all requests whose turn has come once all logs have come so far.
    fn judge_up_to(&mut self, reached: u64) {
        while let Some((at, asking)) = self.order.pop(reached) {
            self.judge.judge(at, &asking, self.traffic.applied(asking.route));
        }
    }
}
