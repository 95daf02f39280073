//! What is wrong with a file, where, and what to write instead.
//!
//! Each message stands with `file:line:column`, the source line, a caret below it and, where we know one, a remedy.
//! Literal secrets are starred out of the source line: messages also go to logs.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

/// A configuration's text and what to call it.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// The file's path, as the user gave it.
    pub name: String,
    /// Its text, without the secrets in it.
    pub text: String,
}

/// How grave a diagnostic is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can be used, but does not what it seems to say.
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How grave it is.
    pub severity: Severity,
    /// What is wrong, in a sentence.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    /// Where: bytes of the source's text; `None`: nowhere in particular.
    pub at: Option<Range<usize>>,
    /// What it is about.
    pub source: Arc<Source>,
}

/// Everything that is wrong with a configuration that cannot be used, in the text's order; warnings too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// At least one error.
    pub diagnostics: Vec<Diagnostic>,
}

impl Diagnostic {
    /// As text, with colours for a terminal if `coloured`.
    pub fn render(&self, coloured: bool) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(&self.message);
        let help = self.help.as_ref().map(|help| Level::HELP.message(help));
        let group = match &self.at {
            Some(at) => {
                let place = Snippet::source(&self.source.text).path(&self.source.name);
                title.element(place.annotation(AnnotationKind::Primary.span(self.visible(at)))).elements(help)
            }
            None => {
                let file = Some(self.source.name.as_str()).filter(|name| !name.is_empty());
                Group::with_title(title).elements(file.map(Origin::path)).elements(help)
            }
        };
        let renderer = if coloured { Renderer::styled() } else { Renderer::plain() };
        renderer.decor_style(DecorStyle::Ascii).render(&[group])
    }

    /// The line it is about, from 1.
    pub fn line(&self) -> Option<usize> {
        let at = self.at.as_ref()?;
        Some(self.source.text.bytes().take(at.start).filter(|byte| *byte == b'\n').count() + 1)
    }

    /// A span within the text, and within one line: a caret below half a file helps nobody.
    fn visible(&self, at: &Range<usize>) -> Range<usize> {
        let text = &self.source.text;
        let start = at.start.min(text.len());
        let line_end = text[start..].find('\n').map_or(text.len(), |length| start + length);
        start..at.end.clamp(start, line_end.max(start))
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl Report {
    /// As text, with colours for a terminal if `coloured`; ends with a count if there are several.
    pub fn render(&self, coloured: bool) -> String {
        let mut text: Vec<String> = self.diagnostics.iter().map(|diagnostic| diagnostic.render(coloured)).collect();
        let errors = self.diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).count();
        if errors > 1 {
            text.push(format!("{errors} errors"));
        }
        text.join("\n\n")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Report {}
