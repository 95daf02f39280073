//! Certificates and keys: PEM text from a file, or from `{ env = "NAME" }`. It never stands in the configuration itself.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::raw::{Fault, Value};

/// Bytes of a PEM file: all the world's authorities fit.
const LARGEST: u64 = 4 << 20;

/// A PEM text and where it comes from.
pub struct Pem {
    /// Its path or variable, for messages.
    pub shown: String,
    /// The text; whether it is PEM at all is for others to say.
    pub text: Vec<u8>,
    /// The file to watch, if it is from one.
    pub file: Option<PathBuf>,
}

/// Reads it from `"path"`, `{ file = "path" }` or `{ env = "NAME" }`.
///
/// # Errors
/// The file cannot be read, the variable is not set, or it is something else.
pub fn pem(value: &Value<'_>) -> Result<Pem, Fault> {
    let reading = value.reading;
    if !value.is_table() {
        let path = value.text()?;
        if path.contains("-----BEGIN") {
            reading.hide(value.at.clone());
            return Err(Fault::with_help(
                "PEM does not stand in the configuration",
                "a file's path, or { env = \"NAME\" }",
            ));
        }
        return from_file(&reading.folder.join(path));
    }
    let named = |value: &Value<'_>| Ok(value.text()?.to_owned());
    let (env, file) = value.table("PEM", |table| (table.read("env", named), table.read("file", named)))?;
    match (env, file) {
        (Some(name), None) => {
            let text = (reading.environment)(&name.value);
            let text = text.ok_or_else(|| format!("the environment variable {} is not set", name.value))?;
            Ok(Pem { shown: name.value, text: text.into_bytes(), file: None })
        }
        (None, Some(path)) => from_file(&reading.folder.join(path.value)),
        _ => Err(Fault::with_help("PEM has one origin", r#""path", { file = "path" } or { env = "NAME" }"#)),
    }
}

fn from_file(path: &Path) -> Result<Pem, Fault> {
    let mut text = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(LARGEST).read_to_end(&mut text));
    let shown = path.display().to_string();
    match read {
        Ok(_) => Ok(Pem { shown, text, file: Some(path.to_owned()) }),
        Err(error) => Err(format!("cannot read {shown}: {error}").into()),
    }
}
