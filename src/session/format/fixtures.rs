//! What real frameworks wrote, and how their apps judged it: `tests/fixtures/sessions/frameworks.json`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value as Json;

use super::super::credential::{Credential, credential};
use super::super::digest::Key;
use super::super::store::known::Reading;
use super::super::verdict::{Found, Verdict, judge};
use super::super::{Definition, Secrets};
use super::datum::Datum;
use super::python::tests::weight;
use super::{MAX_RECORD, Stored};
use crate::exchange::Presented;

/// Requires that every capture of `profile` is judged as its app judged it; says how many there are.
///
/// The captures name the secrets. `definition` is otherwise as a user would write it for this app.
pub fn agree(profile: &str, definition: Definition) -> usize {
    let rows: Vec<Json> =
        serde_json::from_str(include_str!("../../../tests/fixtures/sessions/frameworks.json")).unwrap();
    let rows: Vec<&Json> = rows.iter().filter(|row| row["profile"] == profile).collect();
    assert!(!rows.is_empty(), "no captures of {profile}");
    for row in &rows {
        check(row, definition.clone());
    }
    rows.len()
}

/// A session that an app made and took when it was captured.
pub struct Live {
    /// As the client sent it.
    pub credential: Vec<u8>,
    /// Whose signature it has, if any.
    pub secrets: Vec<String>,
    /// Its identifier.
    pub identifier: String,
    /// What Redis held, a string.
    pub record: Vec<u8>,
}

/// Those of all profiles that begin with `profile`.
pub fn live(profile: &str) -> Vec<Live> {
    let rows: Vec<Json> =
        serde_json::from_str(include_str!("../../../tests/fixtures/sessions/frameworks.json")).unwrap();
    let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
    let of = |row: &&Json| {
        let named = row["profile"].as_str().is_some_and(|name| name.starts_with(profile));
        named && row["expected"]["valid"] == true && row["redis_type"] == "string"
    };
    let live = rows.iter().filter(of).map(|row| Live {
        credential: text(&row["cookie_value_raw"]).into_bytes(),
        secrets: text(&row["secret"]).split(',').filter(|secret| !secret.is_empty()).map(str::to_owned).collect(),
        identifier: text(&row["expected"]["session_id"]),
        record: STANDARD.decode(text(&row["redis_value_base64"])).unwrap(),
    });
    let live: Vec<_> = live.collect();
    assert!(!live.is_empty(), "no captures of {profile}");
    live
}

/// Requires that what is told of a record is within the bounds of all decoders.
pub fn is_bounded(told: &Datum) {
    let (values, length) = weight(told);
    // Some decoders count names, some do not.
    assert!(values <= 2 * 16_384 && length <= 4 * MAX_RECORD, "{values} values, {length} bytes");
}

fn check(row: &Json, mut definition: Definition) {
    let id = row["id"].as_str().unwrap();
    let expected = &row["expected"];
    let attributes = expected["attributes"].as_object();
    let opaque: Vec<&Json> = expected["opaque_attributes"].as_array().into_iter().flatten().collect();
    let told = |(name, value): (&String, &Json)| {
        (!opaque.iter().any(|opaque| *opaque == name)).then(|| (name.clone(), texts(value)))
    };
    let told: Vec<(String, Vec<String>)> = attributes.into_iter().flatten().filter_map(told).collect();
    definition.attributes = told.iter().map(|(name, _)| name.clone()).collect();
    if let Some(secrets) = row["secret"].as_str() {
        definition.secrets = Secrets::new(secrets.split(',').map(Into::into));
    }
    let reading = Reading::of(&definition.clone().into()).unwrap();

    let mut fields = http::HeaderMap::new();
    let mut query = None;
    let sent = |key: &str| row[key].as_str().unwrap_or_default();
    match row["carrier"].as_str().unwrap() {
        "cookie" => {
            let line = format!("theme=dark; {}={}", sent("cookie_name"), sent("cookie_value_raw"));
            fields.insert("cookie", line.parse().unwrap());
        }
        "header" => {
            let name: http::HeaderName = sent("carrier_name").parse().unwrap();
            fields.insert(name, sent("carrier_value_raw").parse().unwrap());
        }
        _ => query = Some(format!("{}={}", sent("carrier_name"), sent("carrier_value_raw"))),
    }
    let presented = match credential(&definition.carriers, &fields, query.as_deref()) {
        Credential::Absent => Presented::Absent,
        Credential::Rejected(reason) => Presented::Rejected(reason),
        Credential::Sent(text) => reading.locate(&text).map_or_else(Presented::Rejected, Presented::Located),
    };
    let found = match &presented {
        Presented::Located(located) if located.key == sent("redis_key") => stored(row, &reading),
        _ => Found::Nothing,
    };
    let verdict = judge(&definition.name, &presented, found, &Key::new([0; 32]));
    match (&verdict, expected["authenticated"].as_bool(), expected["reason"].as_str()) {
        (Verdict::Valid(principal), Some(true), _) => {
            assert_eq!(Some(&*principal.user), expected["user_id"].as_str(), "{id}");
            for (name, texts) in &told {
                let read = principal.attributes.iter().filter(|(path, _)| path == name).map(|(_, text)| text);
                assert_eq!(read.collect::<Vec<_>>(), texts.iter().collect::<Vec<_>>(), "{id}: {name}");
            }
        }
        (Verdict::Anonymous, Some(false), _) | (Verdict::Absent, None, Some("no_credential")) => {}
        (Verdict::Rejected(_), None, Some("bad_signature")) => {}
        // What cannot be an identifier is not looked up.
        (Verdict::Expired | Verdict::Rejected(_), None, Some("not_found")) => {}
        _ => panic!("{id}: {verdict:?} instead of {expected}"),
    }
}

/// What Redis held, as it would tell.
fn stored(row: &Json, reading: &Reading) -> Found {
    let bytes = |value: &Json| STANDARD.decode(value.as_str().unwrap()).unwrap();
    match (row["redis_type"].as_str().unwrap(), reading.fields()) {
        ("string", None) => reading.read(Stored::Text(&bytes(&row["redis_value_base64"])), now(row)),
        ("hash", Some(fields)) => {
            let hash = row["redis_hash_base64"].as_object().unwrap();
            let values: Vec<Option<Vec<u8>>> = fields.iter().map(|field| hash.get(field).map(bytes)).collect();
            let values: Vec<Option<&[u8]>> = values.iter().map(Option::as_deref).collect();
            reading.read(Stored::Fields(&values), now(row))
        }
        // WRONGTYPE, or no key.
        _ => Found::Nothing,
    }
}

fn now(row: &Json) -> u64 {
    (row["captured_at"].as_f64().unwrap() * 1000.0) as u64
}

/// The texts of an attribute, as `datum` would tell them.
fn texts(value: &Json) -> Vec<String> {
    match value {
        Json::String(text) => vec![text.clone()],
        Json::Bool(_) | Json::Number(_) => vec![value.to_string()],
        Json::Array(items) => items.iter().flat_map(texts).collect(),
        Json::Null | Json::Object(_) => Vec::new(),
    }
}
