//! Lifecycle logs (`tracing`), to standard error.

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

impl Default for Settings {
    fn default() -> Self {
        Self { level: "info".into(), access: true, format: Format::Auto, buffer: 1024 * 1024 }
    }
}
