use super::*;
use crate::clock::instant;

const LIMITS: &str = "sidegate:limit:";

fn of(near: Settings) -> (Arc<Coherence>, Arc<Remembered>) {
    let coherence = Coherence::new();
    coherence.begin();
    (coherence.clone(), Remembered::new(Bounds::new(near, ["plan:"], LIMITS), coherence))
}

fn burst(burst: u64) -> Arc<Entitlement> {
    Arc::new(Entitlement { all: Grant { quota: None, burst: Some(burst) }, ..Entitlement::default() })
}

fn asked(asked: Instant) -> Stands {
    Stands { asked, life: None }
}

/// The burst that is certain, or 0 for who is certainly unknown; and the one that was known last.
fn knows(remembered: &Remembered, now: Instant) -> (Option<u64>, Option<u64>) {
    let burst = |entitlement: Arc<Entitlement>| entitlement.all.burst.unwrap_or(0);
    let certain = remembered.certain(b"plan:k", now).map(|certain| match certain {
        Certain::Record(entitlement) => burst(entitlement),
        Certain::Unknown => 0,
    });
    (certain, remembered.last_known(b"plan:k").map(burst))
}

fn keep(remembered: &Remembered, of: u64, now: Instant) {
    assert!(remembered.keep(b"plan:k", remembered.note(b"plan:k"), burst(of), asked(now)));
}

#[test]
fn a_record_is_certain_until_its_change_is_told_and_known_last_after_it() {
    let (_, remembered) = of(Settings::default());
    let now = instant();
    assert_eq!(knows(&remembered, now), (None, None));
    keep(&remembered, 5, now);
    assert_eq!(knows(&remembered, now), (Some(5), Some(5)));
    remembered.changed(b"plan:other");
    assert_eq!(knows(&remembered, now), (Some(5), Some(5)));
    remembered.changed(b"plan:k");
    assert_eq!(knows(&remembered, now), (None, Some(5)));
    keep(&remembered, 6, now);
    assert_eq!(knows(&remembered, now), (Some(6), Some(6)));
}

#[test]
fn certainty_ends_with_the_age_and_with_the_key_and_what_was_known_last_stays() {
    let (_, remembered) = of(Settings::default());
    let (now, age) = (instant(), Settings::default().plan_max_age);
    keep(&remembered, 5, now);
    let millisecond = Duration::from_millis(1);
    assert_eq!(knows(&remembered, now + age - millisecond), (Some(5), Some(5)));
    assert_eq!(knows(&remembered, now + age), (None, Some(5)));
    let ending = Stands { asked: now, life: Some(2 * millisecond) };
    remembered.keep(b"plan:k", remembered.note(b"plan:k"), burst(6), ending);
    assert_eq!(knows(&remembered, now + millisecond), (Some(6), Some(6)));
    assert_eq!(knows(&remembered, now + 2 * millisecond), (None, Some(6)));
}

#[test]
fn what_was_read_before_a_change_is_not_certain_after_it() {
    let (_, remembered) = of(Settings::default());
    let now = instant();
    let note = remembered.note(b"plan:k");
    remembered.changed(b"plan:k");
    assert!(!remembered.keep(b"plan:k", note, burst(5), asked(now)));
    assert_eq!(knows(&remembered, now), (None, Some(5)));
    assert!(!remembered.keep_unknown(b"plan:k", note, asked(now)));
    assert_eq!(knows(&remembered, now), (None, None));
}

#[test]
fn what_somebody_asked_earlier_does_not_replace_what_was_told_later() {
    let (_, remembered) = of(Settings::default());
    let (before, now) = (instant(), instant() + Duration::from_secs(1));
    keep(&remembered, 6, now);
    remembered.keep(b"plan:k", None, burst(5), asked(before));
    remembered.keep_unknown(b"plan:k", None, asked(before));
    assert_eq!(knows(&remembered, now), (Some(6), Some(6)));
    remembered.keep(b"plan:k", None, burst(7), asked(now));
    assert_eq!(knows(&remembered, now), (None, Some(7)));
}

#[test]
fn the_loss_of_tracking_leaves_what_was_known_last_and_nothing_certain() {
    let (coherence, remembered) = of(Settings::default());
    let now = instant();
    keep(&remembered, 5, now);
    coherence.end();
    remembered.empty();
    assert_eq!(knows(&remembered, now), (None, Some(5)));
    assert!(remembered.keep(b"plan:k", remembered.note(b"plan:k"), burst(6), asked(now)), "outside an era");
    coherence.begin();
    assert_eq!(knows(&remembered, now), (None, Some(6)));
}

#[test]
fn who_is_unknown_is_remembered_only_while_redis_tells_of_changes() {
    let (coherence, remembered) = of(Settings::default());
    let now = instant();
    let unknown = || remembered.keep_unknown(b"plan:k", remembered.note(b"plan:k"), asked(now));
    keep(&remembered, 5, now);
    assert!(unknown());
    assert_eq!(knows(&remembered, now), (Some(0), None));
    remembered.changed(b"plan:k");
    assert_eq!(knows(&remembered, now), (None, None));
    assert!(unknown());
    keep(&remembered, 6, now);
    assert_eq!(knows(&remembered, now), (Some(6), Some(6)), "a record has come");
    assert!(unknown());
    coherence.begin_over(Mode::PubSub, Arc::default());
    assert!(unknown());
    assert_eq!(knows(&remembered, now), (None, None));
}

#[test]
fn where_changes_by_others_are_not_told_a_record_is_certain_for_less_long() {
    let (coherence, remembered) = of(Settings::default());
    coherence.begin_over(Mode::PubSub, Arc::default());
    let now = instant();
    keep(&remembered, 5, now);
    let age = Settings::default().untracked_plan_max_age;
    assert!(age <= Duration::from_secs(1));
    assert_eq!(knows(&remembered, now).0, Some(5));
    assert_eq!(knows(&remembered, now + age), (None, Some(5)));
}

#[test]
fn invented_keys_are_bounded_and_drive_out_no_true_ones() {
    let near = Settings { max_plan_bytes: 64 * 1024, ..Settings::default() };
    let (_, remembered) = of(near);
    let now = instant();
    let key = |number: u32| format!("plan:{number:016}").into_bytes();
    for number in 0..100 {
        remembered.keep(&key(number), remembered.note(&key(number)), burst(5), asked(now));
    }
    for number in 100..20_000 {
        assert!(remembered.keep_unknown(&key(number), remembered.note(&key(number)), asked(now)));
    }
    assert!((0..100).all(|number| remembered.certain(&key(number), now).is_some()));
    let Size { entries, bytes } = remembered.size();
    assert!(bytes <= near.max_plan_bytes && entries > 120, "{entries} in {bytes} bytes");
    for number in 0..20_000 {
        remembered.keep(&key(number), remembered.note(&key(number)), burst(5), asked(now));
    }
    assert!(remembered.size().bytes <= near.max_plan_bytes);
}

#[test]
fn a_reload_keeps_what_was_known_last_unless_its_own_bound_changes() {
    let (_, before) = of(Settings::default());
    let now = instant();
    keep(&before, 5, now);
    let renewed = |near| before.renewed(Bounds::new(near, ["plan:"], LIMITS), Coherence::new());
    let other = Settings { plan_max_age: Duration::from_secs(1), ..Settings::default() };
    assert_eq!(knows(&renewed(other), now), (None, Some(5)));
    let smaller = Settings { max_plan_bytes: 1 << 20, ..Settings::default() };
    assert_eq!(knows(&renewed(smaller), now), (None, None));
}

#[test]
fn nothing_is_heard_of_what_covers_the_limits_or_is_turned_off() {
    let hears = |near| {
        let bounds = Bounds::new(near, ["plan:", "side", "plan:"], LIMITS);
        let remembered = Remembered::new(bounds, Coherence::new());
        (remembered.hears_of("plan:"), remembered.hears_of("side"))
    };
    assert_eq!(hears(Settings::default()), (true, false));
    assert_eq!(hears(Settings { enabled: false, ..Settings::default() }), (false, false));
    let nothing = Settings { max_plan_bytes: 0, ..Settings::default() };
    assert_eq!(hears(nothing), (false, false));
    let (_, remembered) = of(nothing);
    keep(&remembered, 5, instant());
    assert_eq!((knows(&remembered, instant()), remembered.size()), ((None, None), Size::default()));
}

#[test]
fn a_complaint_is_made_once_and_so_many_at_most() {
    let (_, remembered) = of(Settings::default());
    assert!(remembered.is_new(("k", "why")) && !remembered.is_new(("k", "why")) && remembered.is_new(("k", "else")));
    let made = (0..2 * COMPLAINTS).filter(|number| remembered.is_new(number)).count();
    assert_eq!(made, COMPLAINTS - 2);
}
