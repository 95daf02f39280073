//! The configuration file: text → document → validated → [`settings::Settings`].
//!
//! 1. All errors are reported at once, each with its place, its line and a remedy where we know one.
//! 2. Unknown keys, unknown names, contradictions and unreachable routes are errors; definitions that nothing uses are
//!    warnings.
//! 3. Quantities carry units. Every secret can come from the environment or from a file.
//! 4. Relative paths start at the file's folder, so that a file means the same wherever sidegate is started.
//! 5. What the file says wins over the environment: `REDIS_URL` counts only where the file names no Redis.
//!
//! # Why
//! Reading is a walk over the parsed document with spans (`raw`) instead of serde's derive: serde stops at the first
//! error. Rule 5 because a file is reviewed and a stray variable is not; who wants the variable writes
//! `url = { env = "REDIS_URL" }`.

pub mod address;
pub mod diagnostic;
mod difference;
mod pem;
pub mod quantity;
mod raw;
mod secret;
pub mod settings;
mod validate;

#[cfg(test)]
mod tests;

use std::io::Read as _;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use toml::de::DeTable;

use self::diagnostic::Source;
pub use self::diagnostic::{Diagnostic, Report, Severity};
pub use self::difference::{Section, difference, sections};
use self::raw::{Fault, Finding, Reading};
use self::settings::Settings;

/// The commented file that `sidegate init` prints.
pub const STARTER: &str = include_str!("../../config/starter.toml");

/// Bytes of a configuration file.
const LARGEST: u64 = 4 * 1024 * 1024;

/// The value of an environment variable by its name.
pub type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;

/// The environment of this process.
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// A configuration that can be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it says.
    pub settings: Settings,
    /// What it says in vain.
    pub warnings: Vec<Diagnostic>,
}

/// Reads a configuration file.
///
/// # Errors
/// The file cannot be read, or anything in it is wrong.
pub fn load(path: &Path, environment: Environment<'_>) -> Result<Loaded, Report> {
    let name = path.display().to_string();
    match read_bounded(path) {
        Ok(text) => parse(&name, &text, environment),
        Err(error) => {
            let message = format!("cannot read {name}: {error}");
            let missing = error.kind() == std::io::ErrorKind::NotFound;
            let help = missing.then(|| "`sidegate init > sidegate.toml` writes a file to start from".to_owned());
            Err(placeless(Fault { message, help }))
        }
    }
}

/// The text of a file, at most [`LARGEST`] bytes of it: a path may lead to a device that never ends.
fn read_bounded(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(LARGEST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LARGEST {
        return Err(std::io::Error::other("it is larger than 4 MiB"));
    }
    Ok(text)
}

/// Reads a configuration from its text; `name` is the file's path.
///
/// # Errors
/// Anything in it is wrong.
pub fn parse(name: &str, text: &str, environment: Environment<'_>) -> Result<Loaded, Report> {
    read(name, text, environment, false)
}

/// As [`parse`], for a process that keeps session records itself, as `sidegate demo` does: sessions need no Redis.
///
/// # Errors
/// Anything else in it is wrong.
pub fn parse_keeping_sessions(name: &str, text: &str, environment: Environment<'_>) -> Result<Loaded, Report> {
    read(name, text, environment, true)
}

fn read(name: &str, text: &str, environment: Environment<'_>, keeps_sessions: bool) -> Result<Loaded, Report> {
    let folder = Path::new(name).parent().unwrap_or(Path::new(""));
    let (document, syntax) = DeTable::parse_recoverable(text);
    let mut reading = Reading::new(text, environment, folder);
    reading.keeps_sessions = keeps_sessions;
    let settings = raw::document(document.get_ref(), &reading, validate::settings);
    let (mut findings, secrets) = reading.finish();
    if !syntax.is_empty() {
        // What else is wrong with a text that is not TOML is guesswork; only its secrets stay hidden.
        findings = syntax.iter().map(unreadable).collect();
        findings.sort_by_key(|finding| finding.at.start);
    }
    let source = Arc::new(Source { name: name.to_owned(), text: without(secrets, text) });
    let diagnostic = |Finding { severity, at, fault }: Finding| {
        let at = Some(at).filter(|at| !text.is_empty() && (!at.is_empty() || at.start > 0));
        Diagnostic { severity, message: fault.message, help: fault.help, at, source: source.clone() }
    };
    let diagnostics: Vec<Diagnostic> = findings.into_iter().map(diagnostic).collect();
    let sound = diagnostics.iter().all(|diagnostic| diagnostic.severity == Severity::Warning);
    match settings {
        Some(settings) if sound => Ok(Loaded { settings, warnings: diagnostics }),
        _ => Err(Report { diagnostics }),
    }
}

/// The settings of `sidegate --upstream URL`: everything goes there; no limits, sessions or cache.
///
/// # Errors
/// The URL, or `REDIS_URL`, is wrong.
pub fn from_upstream(url: &str, environment: Environment<'_>) -> Result<Settings, Report> {
    validate::plain(url, environment).map_err(placeless)
}

fn placeless(Fault { message, help }: Fault) -> Report {
    let source = Arc::new(Source { name: String::new(), text: String::new() });
    Report { diagnostics: vec![Diagnostic { severity: Severity::Error, message, help, at: None, source }] }
}

fn unreadable(error: &toml::de::Error) -> Finding {
    let at = error.span().unwrap_or_default();
    Finding { severity: Severity::Error, at, fault: error.message().into() }
}

/// The text with its secrets starred out, byte for byte, so that every place stays where it is.
fn without(secrets: Vec<Range<usize>>, text: &str) -> String {
    let mut hidden = text.to_owned();
    for at in secrets {
        // Quotes stay; within a line, so that line numbers stay too.
        if let Some(secret) = text.get(at.clone()) {
            let starred: String = secret.chars().map(star).collect();
            hidden.replace_range(at, &starred);
        }
    }
    hidden
}

/// As many stars as the character has bytes.
fn star(secret: char) -> &'static str {
    match (secret, secret.len_utf8()) {
        ('"', _) => "\"",
        ('\'', _) => "'",
        ('\n', _) => "\n",
        (_, 1) => "*",
        (_, 2) => "**",
        (_, 3) => "***",
        _ => "****",
    }
}
