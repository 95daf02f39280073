//! Every format against what stands in no capture: damaged credentials, damaged records, and records of one another.
//!
//! By a fixed seed and count; for longer, `SIDEGATE_FUZZ_SECONDS` (`make fuzz`), and to repeat a run `SIDEGATE_FUZZ_SEED`.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fastrand::Rng;
use serde_json::Value as Json;

use super::custom::Custom;
use super::custom::key::KeyTemplate;
use super::custom::step::Step;
use super::custom::value::Value;
use super::{Cipher, Format, Handler, MAX_TEXT, Stored, Wanted, Way, way};
use crate::clock::instant;
use crate::session::{Definition, Secrets};

/// Turns of a run that is not told how long it may take.
const COUNT: usize = 4_000;

const LARAVEL_KEY: &str = "base64:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// A format that is met with anything.
struct Met {
    name: String,
    prefix: String,
    way: Arc<dyn Way>,
    wanted: Wanted,
}

/// All formats, signed ones with the secret of their captures.
fn formats() -> Vec<Met> {
    let php = [Handler::Php, Handler::Serialize, Handler::Binary, Handler::Igbinary];
    let php = php.map(|handler| (Format::Php(handler), ""));
    let laravel = [Cipher::Cbc, Cipher::Gcm].map(|cipher| (Format::Laravel(cipher), LARAVEL_KEY));
    let spring = [true, false].map(|base64| (Format::Spring { base64 }, ""));
    let signing = "session-signing-key-0123456789";
    let others = [
        (Format::Json, ""),
        (Format::Hash, ""),
        (Format::Flask, ""),
        (Format::Flask, signing),
        (Format::Express, signing),
        (Format::Django, ""),
        (Format::Rails, ""),
    ];
    let met = |(format, secret): (Format, &str)| {
        let mut definition = Definition::new("web", format);
        definition.secrets = Secrets::new(Some(secret).filter(|secret| !secret.is_empty()).map(Into::into));
        definition.attributes = ["roles", "cart", "data.0.name", "name"].map(str::to_owned).into();
        let (way, wanted) = (way(&definition).unwrap(), Wanted::of(&definition));
        Met { name: format!("{:?}", definition.format), prefix: definition.prefix, way, wanted }
    };
    let custom = described().map(|custom| {
        let secret = if custom.is_signed() { signing } else { "" };
        (Format::Custom(custom.into()), secret)
    });
    others.into_iter().chain(php).chain(laravel).chain(spring).chain(custom).map(met).collect()
}

/// Steps, key, value and root.
type Described = (&'static [&'static str], &'static str, &'static [&'static str], Option<&'static str>);

/// Descriptions of sessions that take every step, coding and decoder once.
fn described() -> impl Iterator<Item = Custom> {
    const EXPRESS: [&str; 3] = ["percent", "prefix:s:", "signed:hmac-sha256:base64:."];
    const CHAIN: [&str; 8] = ["unquote", "percent", "base64url", "before:|", "after:=", "suffix:x", "hex", "base64"];
    const FLASK: [&str; 1] = ["signed:hmac-sha1:base64url:.:flask-session"];
    let of = |(steps, key, value, root): Described| Custom {
        credential: steps.iter().map(|step| Step::parse(step).unwrap()).collect(),
        key: KeyTemplate::parse(key).unwrap(),
        value: Value::parse(value).unwrap(),
        root: root.map(str::to_owned),
        ..Custom::default()
    };
    let descriptions: [Described; 11] = [
        (&EXPRESS, "sess:{id}", &["json"], None),
        (&CHAIN, "app:{sha256}", &["zlib", "json"], Some("data.session")),
        (&FLASK, "session:{id}", &["msgpack"], None),
        (&[], "app:{id}-session", &["hex", "gzip", "pickle"], None),
        (&[], "app:{sha1}", &["base64", "zlib", "marshal"], Some("0")),
        (&[], "app:{id}", &["base64url", "hex", "base64", "php"], Some("a.0")),
        (&[], "app:{id}", &["igbinary"], None),
        (&[], "app:{id}", &["php-session"], Some("user")),
        (&[], "app:{id}", &["php-binary"], None),
        (&[], "app:{id}", &["text"], None),
        (&[], "app:{id}", &["hash"], None),
    ];
    descriptions.into_iter().map(of)
}

impl Met {
    /// Takes `bytes` for a credential, and for a record: nothing fails but by a reason, and what is told is bounded.
    fn meets(&self, bytes: &[u8]) {
        let Self { way, wanted, prefix, .. } = self;
        if let Ok(located) = way.locate(bytes) {
            let behind = located.key.strip_prefix(prefix).expect("the key is behind the prefix");
            let safe = |byte: u8| byte.is_ascii_graphic() && byte != b'*';
            let length = (8..=512).contains(&behind.len());
            assert!(behind.bytes().all(safe) && length, "{behind:?} from {}", bytes.escape_ascii());
            assert!(!located.identifier.contains(':'), "{located:?} may be of another family of keys");
        }
        let record = match way.fields(wanted) {
            None => way.read(wanted, Stored::Text(bytes), 1_795_300_000_000),
            Some(names) => {
                let fields = vec![Some(bytes); names.len()];
                way.read(wanted, Stored::Fields(&fields), 1_795_300_000_000)
            }
        };
        if let Ok(Some(record)) = record {
            assert!(record.user.is_none_or(|user| !user.is_empty() && user.len() <= MAX_TEXT));
            assert!(record.attributes.iter().all(|(_, text)| text.len() <= MAX_TEXT));
        }
    }
}

/// All that clients sent and Redis held when the captures were taken.
fn captured() -> Vec<Vec<u8>> {
    let rows: Vec<Json> =
        serde_json::from_str(include_str!("../../../tests/fixtures/sessions/frameworks.json")).unwrap();
    let decoded = |value: &Json| STANDARD.decode(value.as_str()?).ok();
    let all = rows.iter().flat_map(|row| {
        let credential = row["cookie_value_raw"].as_str().or(row["carrier_value_raw"].as_str());
        let fields = row["redis_hash_base64"].as_object().into_iter().flat_map(serde_json::Map::values);
        let held = fields.chain([&row["redis_value_base64"]]).filter_map(decoded);
        credential.map(|text| text.as_bytes().to_vec()).into_iter().chain(held).collect::<Vec<_>>()
    });
    let all: Vec<_> = all.filter(|bytes| !bytes.is_empty()).collect();
    assert!(all.len() > 400, "{}", all.len());
    all
}

/// One of the captured, with up to four changes.
fn spoilt(random: &mut Rng, captured: &[Vec<u8>]) -> Vec<u8> {
    let any = |random: &mut Rng| captured[random.usize(..captured.len())].clone();
    let mut bytes = any(random);
    for _ in 0..random.usize(0..5) {
        let at = random.usize(..=bytes.len());
        match random.u8(..6) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random.u8(..)),
            2 => bytes.extend_from_within(at..),
            3 => {
                let other = any(random);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[random.usize(..other.len())..]);
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = [0, 0x7f, 0x80, 0xff, b'.', b':', b'"', random.u8(..)][random.usize(..8)];
                }
            }
        }
    }
    bytes
}

#[test]
fn fuzz_all_formats() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let deadline = number("SIDEGATE_FUZZ_SECONDS").map(|seconds| instant() + Duration::from_secs(seconds));
    let seed = number("SIDEGATE_FUZZ_SEED").unwrap_or_else(|| deadline.map_or(3154, |_| fastrand::u64(..)));
    println!("fuzz_all_formats: SIDEGATE_FUZZ_SEED={seed}");
    let (mut random, captured, formats) = (Rng::with_seed(seed), captured(), formats());
    let mut turn = 0;
    while deadline.map_or(turn < COUNT, |deadline| instant() < deadline) {
        let bytes = spoilt(&mut random, &captured);
        for format in &formats {
            let met = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| format.meets(&bytes)));
            assert!(met.is_ok(), "{} met {}", format.name, bytes.escape_ascii());
        }
        turn += 1;
    }
}
