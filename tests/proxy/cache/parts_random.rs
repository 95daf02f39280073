//! Ranges, writes and new versions at random: every answer is a right range of one version.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fastrand::Rng;

use crate::harness::{Answer, Origin, Reply};

use super::parts::{LENGTH, content, served};
use super::{outcome, over_both};

/// Requests of a run.
const REQUESTS: usize = 600;
const TARGETS: [&str; 3] = ["/one", "/two", "/three"];

/// A range as clients spell it, or none.
fn any_range(random: &mut Rng) -> Option<String> {
    let (first, more) = (random.u64(0..LENGTH + 5), random.u64(0..LENGTH / 2));
    match random.u8(0..10) {
        0 | 1 => None,
        2 => Some(format!("bytes={first}-")),
        3 => Some(format!("bytes=-{}", first + 1)),
        // Beginnings, so that there is something to go on from.
        4 | 5 => Some(format!("bytes=0-{more}")),
        _ => Some(format!("bytes={first}-{}", first + more)),
    }
}

/// The version that an answer says it is of, once its content has been found to be a right range of that.
fn version_of(answer: &Answer) -> u64 {
    let tag = answer.field("etag").unwrap_or_else(|| panic!("no ETag in {answer:?}"));
    let version = tag.trim_matches(['"', 'v']).parse().unwrap_or_else(|_| panic!("{tag}"));
    let (first, last) = match (answer.status, answer.field("content-range")) {
        (200, None) => (0, LENGTH - 1),
        (206, Some(said)) => {
            let said = said.strip_prefix("bytes ").and_then(|said| said.strip_suffix("/100"));
            let (first, last) = said.and_then(|said| said.split_once('-')).unwrap_or_else(|| panic!("{answer:?}"));
            (first.parse().expect("a number"), last.parse().expect("a number"))
        }
        _ => panic!("{answer:?}"),
    };
    assert_eq!(answer.text(), content(version, first, last), "{answer:?}");
    version
}

#[test]
fn every_answer_is_a_right_range_of_one_version() {
    over_both(|config| {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = Rng::with_seed(seed);
        let versions: Arc<[AtomicU64; 3]> = Arc::new(std::array::from_fn(|_| AtomicU64::new(1)));
        let current = versions.clone();
        let app = Origin::answering(move |request| {
            let place = TARGETS.iter().position(|target| *target == request.path()).expect("one of the targets");
            if request.method == "POST" {
                return Reply::text(current[place].fetch_add(1, Ordering::SeqCst).to_string());
            }
            served(request, current[place].load(Ordering::SeqCst), "max-age=60")
        });
        let sidegate = config(&app).start();
        let mut client = sidegate.client();
        // Of each target, the version since the last write of which the writer has heard.
        let (mut since, mut hits, mut rests) = ([1; 3], 0, 0);
        for _ in 0..REQUESTS {
            let place = random.usize(0..TARGETS.len());
            let target = TARGETS[place];
            match random.u8(0..20) {
                0 => {
                    assert_eq!(client.ask("POST", target, &[], b"").status, 200);
                    since[place] = versions[place].load(Ordering::SeqCst);
                    continue;
                }
                // By other ways: what is stored may be sent on while it is fresh.
                1 => {
                    versions[place].fetch_add(1, Ordering::SeqCst);
                    continue;
                }
                _ => {}
            }
            let range = any_range(&mut random);
            let named = format!("\"v{}\"", random.u64(since[place]..=versions[place].load(Ordering::SeqCst)));
            let mut fields: Vec<(&str, &str)> = range.iter().map(|range| ("Range", range.as_str())).collect();
            if range.is_some() && random.u8(0..4) == 0 {
                fields.push(("If-Range", &named));
            }
            let answer = client.get_with(target, &fields);
            hits += usize::from(answer.field("x-cache") == Some("HIT"));
            rests += usize::from(answer.field("cache-status").is_some_and(|told| told.contains("fwd=partial")));
            if answer.status == 416 {
                continue;
            }
            let version = version_of(&answer);
            let newest = versions[place].load(Ordering::SeqCst);
            assert!((since[place]..=newest).contains(&version), "v{version} of {target}: {answer:?}");
            if answer.status == 206 && fields.len() > 1 {
                assert_eq!(answer.field("etag"), Some(&*named), "If-Range: {answer:?}");
            }
            assert_ne!(outcome(&answer), "BYPASS");
        }
        assert!(hits > 0 && rests > 0, "{hits} hits and {rests} parts that did not hold all: nothing was shown");
    });
}
