use std::io::Write as _;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};

use super::super::fixtures::agree;
use super::super::tests::wanted;
use super::*;
use crate::session::{Definition, Format};

/// `pickle.dumps({'_auth_user_id': '5'}, 4)`, Python 3.11.
const PICKLE: &[u8] = b"\x80\x04\x95\x18\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x0d_auth_user_id\x94\x8c\x015\x94s.";

fn user(bytes: &[u8]) -> Result<String, &'static str> {
    let read = Django::new(":1:").read(&wanted(&["_auth_user_id"]), Stored::Text(bytes), 0)?;
    Ok(read.unwrap().user.unwrap_or_default())
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn real_captures_are_judged_as_the_app_judged_them() {
    let definition = |prefix: &str| Definition { prefix: prefix.to_owned(), ..Definition::new("web", Format::Django) };
    let profiles = [
        "django-builtin-pickle",
        "django-builtin-json",
        "django-builtin-datetime",
        "django-builtin-save-every",
        "django-redis-pickle",
        "django-redis-json",
        "django-redis-zlib",
    ];
    let usual = profiles.map(|profile| agree(profile, Definition::new("web", Format::Django)));
    let cached_db = agree("django-cached-db", definition(":1:django.contrib.sessions.cached_db"));
    assert_eq!(usual.iter().sum::<usize>() + cached_db, 55);
}

#[test]
fn an_identifier_is_32_lower_case_letters_and_digits() {
    let located = |text: &str| Django::new("site:2:").locate(text.as_bytes()).map(|located| located.key);
    let id = "fmit0322sbdx2d3gjym88j5h6y2ypoh7";
    assert_eq!(located(id), Ok(format!("site:2:{id}")));
    assert_eq!(located(&id[1..]), Err("identifier too short"));
    assert_eq!(located(&format!("{id}a")), Err("identifier too long"));
    for foreign in [id.to_uppercase(), id.replace('m', "M"), id.replace('m', ":"), id.replace('m', "%")] {
        assert_eq!(located(&foreign), Err("identifier has foreign characters"), "{foreign}");
    }
}

#[test]
fn a_record_may_be_compressed() {
    assert_eq!(user(PICKLE).as_deref(), Ok("5"));
    assert_eq!(user(b"\x81\xad_auth_user_id\xa15").as_deref(), Ok("5"));
    assert_eq!(user(&zlib(PICKLE)).as_deref(), Ok("5"));
    assert_eq!(user(&gzip(br#"{"_auth_user_id": "5"}"#)).as_deref(), Ok("5"));
    assert_eq!(user(&zstd::bulk::compress(PICKLE, 3).unwrap()).as_deref(), Ok("5"));
    // gzip.compress(…) and zlib.compress(…, 1) of Python 3.11.
    let python = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03k`\x99*\xc1\x00\x01\xb5Szx\xe3\x13KK2\xe2K\x8bS\x8b\xe23S\xa6\xf40\x9a\
        N)\xd6\x03\x00\xce\xc1\xe7(#\x00\x00\x00";
    assert_eq!(user(python).as_deref(), Ok("5"));
    let python =
        b"x\x01k`\x99*\xc1\x00\x01\xb5Szx\xe3\x13KK2\xe2K\x8bS\x8b\xe23S\xa6\xf40\x9aN)\xd6\x03\x00\xa4~\x0a\xc2";
    assert_eq!(user(python).as_deref(), Ok("5"));
}

#[test]
fn what_is_no_session_says_why() {
    let bomb = vec![b'0'; 64 << 20];
    let full = vec![b'0'; MAX_RECORD];
    let unread = "record is neither JSON nor MessagePack nor a pickle";
    let table: Vec<(Vec<u8>, &str)> = vec![
        (b"5".to_vec(), "record is a plain number"),
        (b"-12".to_vec(), "record is a plain number"),
        (b"".to_vec(), unread),
        (b"\"text\"".to_vec(), unread),
        (zlib(&bomb), "record too large"),
        (gzip(&bomb), "record too large"),
        (zstd::bulk::compress(&bomb, 1).unwrap(), "record is not zstd, or is too large"),
        (zlib(&full), unread),
        (zlib(&[&full[..], b"0"].concat()), "record too large"),
        (zlib(PICKLE)[..30].to_vec(), "record is not zlib"),
        (gzip(PICKLE)[..30].to_vec(), "record is not gzip"),
        (b"xyz".to_vec(), "record is not zlib"),
        ([zlib(PICKLE), b"x".to_vec()].concat(), "record goes on behind its end"),
        ([gzip(PICKLE), b"x".to_vec()].concat(), "record goes on behind its end"),
        (b"\x28\xb5\x2f\xfdxyz".to_vec(), "record is not zstd, or is too large"),
        (b"\x04\x22\x4d\x18\x68\x40".to_vec(), "record is compressed by lz4, which is not read"),
        (b"\xfd7zXZ\x00\x00\x04".to_vec(), "record is compressed by lzma, which is not read"),
        (zlib(b"5"), unread),
        (zlib(&zlib(PICKLE)), unread),
        (vec![b'{'; MAX_RECORD + 1], "record too large"),
        (b"\x80\x05K\x05.".to_vec(), "record is not a map"),
    ];
    for (bytes, reason) in table {
        assert_eq!(user(&bytes), Err(reason), "{}", bytes[..bytes.len().min(40)].escape_ascii());
    }
}
