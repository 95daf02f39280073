//! `[session.NAME.custom]`.

use crate::config::raw::{Fault, Table, Value, text};
use crate::config::validate::process::count;
use crate::session::format::custom::Custom;
use crate::session::format::custom::key::{Identifiers, KeyTemplate};
use crate::session::format::custom::step::{STEPS, Step};
use crate::session::format::custom::value::{self, WORDS};

/// Reads it.
pub fn custom(table: &mut Table<'_>) -> Option<Custom> {
    let mut custom = Custom::default();
    let steps =
        table.list("credential", |value| Step::parse(value.text()?).map_err(|why| Fault::with_help(why, STEPS)));
    if let Some(steps) = steps {
        custom.credential = steps.value.into_iter().map(|step| step.value).collect();
    }
    if let Some(Some(identifiers)) = table.section("identifier", identifiers) {
        custom.identifier = identifiers;
    }
    let help = "key = \"app:{id}:session\", or {sha1} or {sha256} of the identifier";
    let key = table.require("key", help, text(KeyTemplate::parse));
    table.set("value", &mut custom.value, |value| {
        let words: Vec<&str> = value.items().iter().map(Value::text).collect::<Result<_, _>>()?;
        value::Value::parse(&words).map_err(|why| Fault::with_help(why, WORDS))
    });
    let root = table.read("root", |value| super::attribute(value.text()?));
    if let Some(root) = root.as_ref().filter(|_| custom.value.is_hash()) {
        table.reading.error(&root.at, "a hash has nothing inside its fields: `root` leads nowhere");
    }
    custom.root = root.map(|root| root.value);
    custom.key = key?.value;
    Some(custom)
}

/// What `[session.NAME]` must and must not say where its format is `custom`.
pub fn needs(table: &mut Table<'_>) {
    table.needs("custom", "custom = { key = \"app:{id}:session\" }: how credential and record are written");
    table.needs("from", "from = [\"cookie:NAME\"]: nobody knows where this app has its credential");
    if let Some(prefix) = table.value("prefix") {
        table.reading.error(&prefix.at, Fault::with_help("`prefix` is a part of `custom.key`", "key = \"app:{id}\""));
    }
}

/// `identifier = { … }`.
fn identifiers(table: &mut Table<'_>) -> Option<Identifiers> {
    let mut alphabet = "A-Za-z0-9_-".to_owned();
    table.set("alphabet", &mut alphabet, |value| value.text().map(str::to_owned));
    let (mut min, mut max) = (16, 128);
    table.set("min", &mut min, count(8..257));
    table.set("max", &mut max, count(8..257));
    Identifiers::new(&alphabet, min, max).map_err(|why| table.reading.error(&table.at, why)).ok()
}
