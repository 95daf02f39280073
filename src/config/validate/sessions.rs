//! `[session.NAME]`.

mod custom;
mod doors;
mod uses;

pub use doors::Doors;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::definitions::{field_name, identity_fields};
use super::process::{prefix, sized};
use crate::config::quantity;
use crate::config::raw::{Fault, Placed, Table, Value, choice, text};
use crate::config::secret::secret;
use crate::session::format::{Cipher, Handler, MAX_RECORD, way};
use crate::session::issue::record::LONGEST;
use crate::session::{Carrier, Definition, Format, OnOutage, Preflight, Secrets};

/// The longest time for which a login is believed while Redis is away.
const LONGEST_GRACE: Duration = Duration::from_secs(60 * 60);

/// Reads `[session.NAME]`.
pub fn session(name: &Placed<String>, table: &mut Table<'_>) -> Option<Definition> {
    table.needs("format", "format = \"json\" (an object in a string key), \"hash\", or the framework that writes it");
    let placed = table.read("format", format);
    let format = with_options(table, placed.as_ref());
    let mut definition = Definition::new(&name.value, format);
    if let Some(given) = table.filled("secrets", secret) {
        // What could not be read of format and `custom` has been noted.
        let read = placed.is_some() && definition.format != Format::Custom(Arc::default());
        if read && !definition.format.takes_secrets() {
            let help = "they are of flask, express and laravel, and of a step `signed` of custom";
            table.reading.error(&given.at, Fault::with_help("nothing is signed: `secrets` does nothing", help));
        }
        definition.secrets = Secrets::new(given.value.into_iter().map(|secret| secret.value));
    }
    if definition.format == Format::Rails {
        table.needs("from", "from = [\"cookie:_myapp_session\"]: `key:` of config/initializers/session_store.rb");
    }
    if let Some(carriers) = table.filled("from", |value| carrier(value.text()?)) {
        definition.carriers = carriers.value.into_iter().map(|carrier| carrier.value).collect();
    }
    if matches!(definition.format, Format::Custom(_)) {
        custom::needs(table);
    } else {
        table.set("prefix", &mut definition.prefix, text(prefix));
    }
    if let Some(user) = table.filled("user", |value| attribute(value.text()?)) {
        definition.user = user.value.into_iter().map(|path| path.value).collect();
    }
    if let Some(forward) = table.value("forward") {
        definition.forward = identity_fields(&forward, |path| attribute(path.text()?));
    }
    let preflights = [("pass", Preflight::Pass), ("refuse", Preflight::Refuse)];
    table.set("preflight", &mut definition.preflight, choice(&preflights));
    table.set("retry_after", &mut definition.retry_after, text(quantity::duration));
    definition.on_outage = on_outage(table);
    let max_record = table.read("max_record", sized(4 << 10, MAX_RECORD as u64));
    uses::read(table, &mut definition);
    if let Some(Placed { value, at }) = max_record {
        definition.max_record = value;
        if definition.issue.is_some() && value < LONGEST {
            let help = "with `issue` at least \"17 KiB\"";
            let message = "a session that is made here may be larger, and could not be read again";
            table.reading.error(&at, Fault::with_help(message, help));
        }
    }
    for (key, example) in [("mode", "\"optional\""), ("require", "{ role = [\"admin\"] }")] {
        let help = format!("it belongs in the route: session = {{ use = \"{}\", {key} = {example} }}", name.value);
        table.belongs_elsewhere(key, help);
    }
    // A format that is not known has been noted.
    let placed = placed?;
    if definition.format.usual().signed && definition.secrets.is_empty() {
        table.needs("secrets", "secrets = [{ env = \"SESSION_SECRET\" }]: the app's own, newest first");
        return None;
    }
    if let Err(why) = way(&definition) {
        // What is wrong with a secret is told where they stand.
        let of_secret = table.value("secrets").filter(|_| why.starts_with("secret "));
        table.reading.error(&of_secret.map_or(placed.at, |secrets| secrets.at), why);
        return None;
    }
    Some(definition)
}

/// Secrets, newest first.
pub(super) fn secrets(table: &mut Table<'_>, key: &'static str) -> Option<Secrets> {
    let secrets = table.filled(key, secret)?;
    Some(Secrets::new(secrets.value.into_iter().map(|secret| secret.value)))
}

fn format(value: &Value<'_>) -> Result<Format, Fault> {
    let formats = [
        ("json", Format::Json),
        ("hash", Format::Hash),
        ("flask", Format::Flask),
        ("express", Format::Express),
        ("django", Format::Django),
        ("php", Format::Php(Handler::Php)),
        ("laravel", Format::Laravel(Cipher::Cbc)),
        ("rails", Format::Rails),
        ("spring", Format::Spring { base64: true }),
        ("custom", Format::Custom(Arc::default())),
    ];
    choice(&formats)(value)
}

/// What some formats ask besides.
fn with_options(table: &mut Table<'_>, placed: Option<&Placed<Format>>) -> Format {
    let handlers = [
        ("php", Handler::Php),
        ("php_serialize", Handler::Serialize),
        ("php_binary", Handler::Binary),
        ("igbinary", Handler::Igbinary),
    ];
    let handler = table.read("serialize_handler", choice(&handlers));
    let ciphers = [
        ("AES-256-CBC", Cipher::Cbc),
        ("AES-128-CBC", Cipher::Cbc),
        ("AES-256-GCM", Cipher::Gcm),
        ("AES-128-GCM", Cipher::Gcm),
    ];
    let cipher = table.read("cipher", choice(&ciphers));
    let base64 = table.read("base64", Value::flag);
    let custom = table.read("custom", |value| value.table("`custom`", custom::custom));
    let Some(Placed { value: format, .. }) = placed else { return Format::Json };
    let strange = |key: &str, at: &Range<usize>, of: &str| {
        table.reading.error(at, format!("`{key}` is of format `{of}`"));
    };
    if let Some(handler) = handler.as_ref().filter(|_| !matches!(format, Format::Php(_))) {
        strange("serialize_handler", &handler.at, "php");
    }
    if let Some(cipher) = cipher.as_ref().filter(|_| !matches!(format, Format::Laravel(_))) {
        strange("cipher", &cipher.at, "laravel");
    }
    if let Some(base64) = base64.as_ref().filter(|_| !matches!(format, Format::Spring { .. })) {
        strange("base64", &base64.at, "spring");
    }
    if let Some(custom) = custom.as_ref().filter(|_| !matches!(format, Format::Custom(_))) {
        strange("custom", &custom.at, "custom");
    }
    match format.clone() {
        Format::Custom(none) => Format::Custom(custom.and_then(|custom| custom.value).map_or(none, Arc::new)),
        Format::Php(usual) => Format::Php(handler.map_or(usual, |handler| handler.value)),
        Format::Laravel(usual) => Format::Laravel(cipher.map_or(usual, |cipher| cipher.value)),
        Format::Spring { base64: usual } => Format::Spring { base64: base64.map_or(usual, |base64| base64.value) },
        other => other,
    }
}

/// `on_outage` and `grace`.
fn on_outage(table: &mut Table<'_>) -> OnOutage {
    let mut believes = false;
    table.set("on_outage", &mut believes, choice(&[("closed", false), ("grace", true)]));
    let mut grace = Duration::from_secs(60);
    table.set("grace", &mut grace, |value| {
        let grace = quantity::duration(value.text()?)?;
        if grace > LONGEST_GRACE {
            let message = format!("a login that nobody confirmed for {} is too old", quantity::shown_duration(grace));
            return Err(Fault::with_help(message, "at most an hour: a logout is not seen while Redis is away"));
        }
        if !believes {
            let help = "on_outage = \"grace\" believes them for that long";
            return Err(Fault::with_help("nobody is believed while Redis is away: `grace` does nothing", help));
        }
        Ok(grace)
    });
    if believes { OnOutage::Grace(grace) } else { OnOutage::Closed }
}

fn carrier(text: &str) -> Result<Carrier, Fault> {
    let help = "\"cookie:NAME\", \"bearer\", \"header:NAME\" or \"query:NAME\"";
    match text.split_once(':') {
        None if text == "bearer" => Ok(Carrier::Bearer),
        Some((_, "")) => Err(Fault::with_help(format!("`{text}` names nothing after the colon"), help)),
        Some(("cookie", name)) => Ok(Carrier::Cookie(name.to_owned())),
        Some(("query", name)) => Ok(Carrier::Query(name.to_owned())),
        Some(("header", name)) => Ok(Carrier::Header(field_name(name)?)),
        _ => Err(Fault::with_help(format!("`{text}` carries no session"), help)),
    }
}

/// A dotted path into a session record.
pub(super) fn attribute(path: &str) -> Result<String, Fault> {
    if path.is_empty() || path.split('.').any(str::is_empty) {
        return Err(format!("`{path}` is not the path of an attribute, like `user.id`").into());
    }
    Ok(path.to_owned())
}
