use std::time::Duration;

use proptest::prelude::*;
use sfv::{BareItem, Item, List, ListEntry, Parser};

use super::*;

const QUOTA: Quota = Quota { amount: 100, per: Duration::from_secs(60) };

/// A second of 1970, in µs.
const NOW: u64 = 1_000_000_000;

fn per_address(settings: Settings) -> Fields {
    Fields::new("per-address", QUOTA, settings)
}

fn told(fields: &Fields) -> Told<'_> {
    Told { fields, refused: false, remaining: 57, retry_after: 0, reset_after: 20_000_001, partition: None }
}

fn lines(fields: &HeaderMap) -> Vec<String> {
    let mut lines: Vec<_> = fields.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    lines.sort();
    lines
}

fn written(all: &[Told<'_>], after_another: bool) -> Vec<String> {
    let mut fields = HeaderMap::new();
    for name in [REMAINING, DRAFT] {
        fields.insert(name, HeaderValue::from_static("the app's"));
    }
    tell(all.iter().copied(), all.first().copied(), NOW, after_another, &mut fields);
    lines(&fields)
}

#[test]
fn fields_name_the_quota_what_is_left_and_when_it_is_full_rounded_up() {
    let expected = [
        "ratelimit-policy: \"per-address\";q=100;w=60",
        "ratelimit: \"per-address\";r=57;t=21",
        "x-ratelimit-limit: 100",
        "x-ratelimit-remaining: 57",
        "x-ratelimit-reset: 1021",
    ];
    assert_eq!(written(&[told(&per_address(Settings::default()))], false), expected);
}

#[test]
fn the_other_dialect_counts_seconds_left_and_the_draft_can_be_turned_off() {
    let settings = Settings { reset_in_seconds_left: true, draft_fields: false, ..Settings::default() };
    let expected =
        ["ratelimit: the app's", "x-ratelimit-limit: 100", "x-ratelimit-remaining: 57", "x-ratelimit-reset: 21"];
    assert_eq!(written(&[told(&per_address(settings))], false), expected);
}

#[test]
fn every_limit_is_in_the_list_and_the_nearest_in_the_other_fields() {
    let (near, far) = (per_address(Settings::default()), Fields::new("daily", QUOTA, Settings::default()));
    let uploads = Fields::in_flight("uploads", 4, Settings::default());
    let all = [told(&near), Told { remaining: 99, ..told(&far) }, Told { remaining: 3, ..told(&uploads) }];
    let expected = [
        "ratelimit-policy: \"per-address\";q=100;w=60, \"daily\";q=100;w=60, \"uploads\";q=4;qu=\"concurrent-requests\"",
        "ratelimit: \"per-address\";r=57;t=21, \"daily\";r=99;t=21, \"uploads\";r=3",
        "x-ratelimit-limit: 100",
        "x-ratelimit-remaining: 57",
        "x-ratelimit-reset: 1021",
    ];
    assert_eq!(written(&all, false), expected);
}

#[test]
fn a_second_position_adds_to_the_list_and_leaves_what_is_nearer() {
    let (inner, outer) = (per_address(Settings::default()), Fields::new("daily", QUOTA, Settings::default()));
    let mut fields = HeaderMap::new();
    tell([told(&inner)].into_iter(), Some(told(&inner)), NOW, false, &mut fields);
    tell([Told { remaining: 99, ..told(&outer) }].into_iter(), None, NOW, true, &mut fields);
    let state: Vec<_> = fields.get_all(DRAFT).iter().collect();
    assert_eq!(state, ["\"per-address\";r=57;t=21", "\"daily\";r=99;t=21"]);
    assert_eq!(fields.get_all(DRAFT_POLICY).iter().count(), 2);
    assert_eq!(fields.get_all(REMAINING).iter().collect::<Vec<_>>(), ["57"]);
}

#[test]
fn a_limit_on_requests_in_flight_says_nothing_of_time() {
    let uploads = Fields::in_flight("uploads", 4, Settings::default());
    let refused = Told { refused: true, remaining: 0, retry_after: 1_000_000, ..told(&uploads) };
    let expected = [
        "ratelimit-policy: \"uploads\";q=4;qu=\"concurrent-requests\"",
        "ratelimit: \"uploads\";r=0",
        "x-ratelimit-remaining: the app's",
    ];
    assert_eq!(written(&[refused], false), expected);
}

#[test]
fn the_window_of_a_refusal_ends_when_retry_after_does() {
    let fields = per_address(Settings::default());
    for (retry_after, seconds) in [(11_000_001, 12), (1, 1), (u64::MAX, 21)] {
        let refused = Told { refused: true, remaining: 0, retry_after, ..told(&fields) };
        let state = format!("ratelimit: \"per-address\";r=0;t={seconds}");
        assert!(written(&[refused], false).contains(&state), "{state}");
    }
}

#[test]
fn a_partition_is_told_by_the_start_of_its_digest() {
    let fields = per_address(Settings::default());
    // FIPS 180-2, appendix B.1: ba7816bf8f01…
    let told = Told { partition: Some(Partition::of("abc")), ..told(&fields) };
    assert!(written(&[told], false).contains(&"ratelimit: \"per-address\";r=57;t=21;pk=:ungWv48B:".to_owned()));
    let [ListEntry::Item(member)] = &parsed("\"per-address\";r=57;t=21;pk=:ungWv48B:")[..] else {
        panic!("a list of one")
    };
    assert_eq!(member.params["pk"].as_byte_sequence(), Some(&[0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01][..]));
}

#[test]
fn a_warning_names_the_limit_and_the_share_once_it_is_reached() {
    for (name, remaining, capacity, expected) in [
        ("per-address", 17, 100, Some("per-address; used=83")),
        ("per-address", 20, 100, Some("per-address; used=80")),
        ("per-address", 201, 1000, None),
        ("9-lives", 0, 9, Some("\"9-lives\"; used=100")),
        ("full", 7, 7, None),
        ("more-than-all", 9, 7, None),
        ("nothing", 0, 0, None),
    ] {
        let value = warning(name, 80, remaining, capacity);
        assert_eq!(value.as_ref().map(|value| value.to_str().unwrap()), expected, "{name}");
        if let Some(value) = value {
            let item: Item = Parser::new(value.as_bytes()).parse().expect("a structured field");
            assert!(item.params["used"].as_integer().is_some() && !matches!(item.bare_item, BareItem::Integer(_)));
        }
    }
}

#[test]
fn a_refusal_is_nearer_than_any_share_and_a_smaller_share_nearer_than_a_smaller_number() {
    assert!(nearer((true, 5, 10), (false, 0, 10)));
    assert!(nearer((false, 10, 1000), (false, 5, 10)));
    assert!(!nearer((false, 5, 10), (false, 50, 100)));
}

#[test]
fn retry_after_is_at_least_a_second_and_never_too_early_and_silent_where_waiting_is_in_vain() {
    assert_eq!([0, 1, 1_000_000, 1_000_001].map(retry_after), [1, 1, 1, 2].map(Some));
    assert_eq!(retry_after(u64::MAX), None);
}

fn parsed(value: &str) -> List {
    Parser::new(value).parse().unwrap_or_else(|error| panic!("{value}: {error}"))
}

proptest! {
    /// A parser of structured fields (RFC 9651) reads back what was meant, whatever names and numbers.
    #[test]
    fn the_lists_are_structured_fields_and_read_back_as_they_were_meant(
        limits in proptest::collection::vec(
            ("[ -~]{1,64}", 1..=u64::MAX, 0..=u64::MAX, 0..=u64::MAX, 0..=u64::MAX, any::<(bool, bool, bool)>()),
            1..5,
        ),
        per in 1..=366 * 86_400_000_000_u64,
    ) {
        let quota = |amount| Quota { amount, per: Duration::from_micros(per) };
        let made: Vec<_> = limits.iter().map(|(name, amount, .., (_, timed, _))| match timed {
            true => Fields::new(name, quota(*amount), Settings::default()),
            false => Fields::in_flight(name, *amount, Settings::default()),
        }).collect();
        let all = limits.iter().zip(&made).map(|((name, _, remaining, retry_after, reset_after, (refused, _, keyed)), fields)| Told {
            fields,
            refused: *refused,
            remaining: *remaining,
            retry_after: *retry_after,
            reset_after: *reset_after,
            partition: keyed.then(|| Partition::of(name)),
        });
        let mut fields = HeaderMap::new();
        tell(all, None, NOW, false, &mut fields);
        let (policies, states) =
            (parsed(fields[DRAFT_POLICY].to_str().unwrap()), parsed(fields[DRAFT].to_str().unwrap()));
        prop_assert_eq!((policies.len(), states.len()), (limits.len(), limits.len()));
        for (((name, amount, remaining, retry_after, reset_after, (refused, timed, keyed)), policy), state) in
            limits.iter().zip(&policies).zip(&states)
        {
            let (ListEntry::Item(policy), ListEntry::Item(state)) = (policy, state) else { panic!("items") };
            let number = |item: &Item, key: &str| {
                item.params.get(key).map(|value| u64::try_from(i64::from(value.as_integer().unwrap())).unwrap())
            };
            for item in [policy, state] {
                prop_assert_eq!(item.bare_item.as_string().map(|text| text.as_str()), Some(name.as_str()));
            }
            prop_assert_eq!(number(policy, "q"), Some((*amount).min(LARGEST)));
            prop_assert_eq!(number(policy, "w"), timed.then(|| per.div_ceil(SECOND)));
            let unit = policy.params.get("qu").map(|unit| unit.as_string().unwrap().as_str());
            prop_assert_eq!(unit, (!timed).then_some("concurrent-requests"));
            prop_assert_eq!(number(state, "r"), Some((*remaining).min(LARGEST)));
            let wait = if *refused && *retry_after != u64::MAX { retry_after } else { reset_after };
            prop_assert_eq!(number(state, "t"), timed.then(|| wait.div_ceil(SECOND)));
            prop_assert_eq!(state.params.contains_key("pk"), *keyed);
        }
    }
}
