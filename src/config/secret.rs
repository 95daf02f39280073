//! Secrets: written out, or taken from `{ env = "NAME" }` or `{ file = "path" }`.

use std::io::Read as _;
use std::ops::Range;

use secrecy::SecretString;

use super::raw::{Fault, Value, text};

/// Bytes of a secret's file: a path may lead to a device that never ends.
const LARGEST: u64 = 64 << 10;

/// Reads a secret. A file's final line break is not part of it.
///
/// # Errors
/// It is empty, its variable is not set, its file cannot be read, or it is something else.
pub fn secret(value: &Value<'_>) -> Result<SecretString, Fault> {
    read(value, |written| Some(0..written.len()))
}

/// Reads a URL that may carry a password; as [`secret`].
///
/// # Errors
/// As [`secret`].
pub fn secret_url(value: &Value<'_>) -> Result<SecretString, Fault> {
    read(value, |written| {
        // A Unix socket's password stands in the query.
        let end = if written.contains('?') { written.len() } else { written.rfind('@')? };
        Some(written.find("//").map_or(0, |at| at + 2)..end)
    })
}

/// Reads a secret; of a literal one, what `secret_part` names is never quoted.
fn read(value: &Value<'_>, secret_part: fn(&str) -> Option<Range<usize>>) -> Result<SecretString, Fault> {
    let secret = if value.is_table() {
        let (env, file) = value.table("a secret", |table| {
            (
                table.read("env", text(|name| Ok::<_, Fault>(name.to_owned()))),
                table.read("file", text(|path| Ok::<_, Fault>(path.to_owned()))),
            )
        })?;
        match (env, file) {
            (Some(name), None) => from_environment(value, &name.value)?,
            (None, Some(path)) => from_file(value, &path.value)?,
            _ => return Err(Fault::with_help("a secret has one origin", r#"{ env = "NAME" } or { file = "path" }"#)),
        }
    } else {
        let text = value.text()?;
        let start = value.at.start;
        if let Some(part) = secret_part(value.reading.written(&value.at)) {
            value.reading.hide(start + part.start..start + part.end);
        }
        text.to_owned()
    };
    if secret.is_empty() { Err("a secret cannot be empty".into()) } else { Ok(secret.into()) }
}

fn from_environment(value: &Value<'_>, name: &str) -> Result<String, Fault> {
    (value.reading.environment)(name).ok_or_else(|| format!("the environment variable {name} is not set").into())
}

fn from_file(value: &Value<'_>, path: &str) -> Result<String, Fault> {
    let path = value.reading.folder.join(path);
    let mut text = String::new();
    std::fs::File::open(&path)
        .and_then(|file| file.take(LARGEST + 1).read_to_string(&mut text))
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    if text.len() as u64 > LARGEST {
        return Err(format!("{} is larger than {} KiB", path.display(), LARGEST >> 10).into());
    }
    value.reading.secret_files.borrow_mut().push(path);
    Ok(text.strip_suffix("\r\n").or(text.strip_suffix('\n')).unwrap_or(&text).to_owned())
}
