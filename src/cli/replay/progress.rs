//! What a person sees who waits, and how they end it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use indicatif::{ProgressBar, ProgressStyle};

/// How far the logs have been read, on standard error if that is a terminal.
pub struct Progress {
    bar: ProgressBar,
}

/// Whether somebody has pressed Ctrl-C.
pub struct Interrupt {
    came: Arc<AtomicBool>,
}

impl Progress {
    /// Of `total` bytes, if that is known.
    pub fn new(total: Option<u64>) -> Self {
        let (bar, template) = match total {
            Some(total) => {
                (ProgressBar::new(total), "{bar:30} {percent:>3} %  {binary_bytes_per_sec}  {msg} lines, {eta} left")
            }
            None => (ProgressBar::new_spinner(), "{spinner} {binary_bytes}  {binary_bytes_per_sec}  {msg} lines"),
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { bar }
    }

    /// So many bytes, in so many lines, have been read.
    pub fn show(&self, bytes: u64, lines: u64) {
        if !self.bar.is_hidden() {
            self.bar.set_message(lines.to_string());
            self.bar.set_position(bytes);
        }
    }

    /// Takes the line back.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}

impl Interrupt {
    /// From now on the first SIGINT is noticed instead of ending the process; the second ends it.
    ///
    /// # Errors
    /// The system refuses a thread or a signal.
    pub fn listen() -> io::Result<Self> {
        let came = Arc::new(AtomicBool::new(false));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let noticed = came.clone();
        // Before the thread: nothing is lost in between.
        let mut signals = {
            let _inside = runtime.enter();
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?
        };
        thread::Builder::new().name("interrupt".into()).spawn(move || {
            runtime.block_on(async {
                signals.recv().await;
                noticed.store(true, Ordering::Relaxed);
                signals.recv().await;
                std::process::exit(1);
            });
        })?;
        Ok(Self { came })
    }

    /// Whether it has come.
    pub fn came(&self) -> bool {
        self.came.load(Ordering::Relaxed)
    }
}
