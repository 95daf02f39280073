//! Lifecycle logs (`tracing`), to standard error.
//!
//! Standard output belongs to the access log, so that the two can be sent to different places.

use std::io::IsTerminal;
use std::sync::OnceLock;

use parking_lot::Mutex;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt, registry, reload};

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `tracing` filter.
    pub level: String,
    /// One line a request, to standard output.
    pub access: bool,
    /// How lines are written.
    pub format: Format,
    /// Bytes of access-log lines that wait for a slow reader of standard output; more are dropped and counted.
    pub buffer: usize,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Human on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// For people.
    Human,
    /// For machines.
    Json,
}

impl Format {
    /// Whether lines are for people, on a stream that is a terminal or not.
    pub fn is_human(self, terminal: bool) -> bool {
        match self {
            Self::Auto => terminal,
            Self::Human => true,
            Self::Json => false,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self { level: "info".into(), access: true, format: Format::Auto, buffer: 1024 * 1024 }
    }
}

/// Whether people who look at a terminal want colours there (<https://no-color.org>).
pub(super) fn colours(terminal: bool) -> bool {
    terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

type Filter = reload::Handle<EnvFilter, registry::Registry>;

static FILTER: OnceLock<Filter> = OnceLock::new();
static STARTING: Mutex<()> = Mutex::new(());

/// Starts the lifecycle log; called again, as by a reload, it changes the filter and leaves the format as it is.
///
/// # Errors
/// In a sentence, if `settings.level` is no `tracing` filter. The log is then as it was.
pub fn start(settings: &Settings) -> Result<(), String> {
    let filter = EnvFilter::try_new(&settings.level)
        .map_err(|error| format!("{:?} is not a level or filter of the log: {error}", settings.level))?;
    let _starting = STARTING.lock();
    if let Some(running) = FILTER.get() {
        return running.reload(filter).map_err(|error| format!("the level of the log stays as it was: {error}"));
    }
    let terminal = std::io::stderr().is_terminal();
    let (filter, handle) = reload::Layer::new(filter);
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match settings.format.is_human(terminal) {
        true => lines.with_ansi(colours(terminal)).with_target(false).boxed(),
        false => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
    };
    // A test binary, or a program that embeds us, may have a subscriber already; it is then theirs to set up.
    if registry().with(filter).with(lines).try_init().is_ok() {
        let _ = FILTER.set(handle);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starting_twice_changes_the_level_and_a_bad_level_is_refused() {
        start(&Settings::default()).unwrap();
        start(&Settings { level: "warn,sidegate=debug".into(), ..Settings::default() }).unwrap();
        assert!(tracing::enabled!(target: "sidegate", tracing::Level::DEBUG));
        let error = start(&Settings { level: "sidegate=loud".into(), ..Settings::default() }).unwrap_err();
        assert!(error.starts_with("\"sidegate=loud\" is not a level or filter of the log: "), "{error}");
    }

    #[test]
    fn auto_is_human_on_a_terminal_only() {
        assert!(Format::Auto.is_human(true) && !Format::Auto.is_human(false));
        assert!(Format::Human.is_human(false) && !Format::Json.is_human(true));
    }
}
