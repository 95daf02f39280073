use std::cell::Cell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::thread;

use bytes::Bytes;
use http_body::{Body as _, Frame};
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::{spawn_local, yield_now};

use super::*;
use crate::body::{Body, BodyError};
use crate::cache::store::Mint;
use crate::clock;

const BOUNDS: Bounds = Bounds { max_body: 1 << 10 };

fn flights() -> Arc<Flights<u64>> {
    Flights::new(UnderWay::new(1 << 20), 1 << 20)
}

/// Two generations.
fn generations() -> [Generation; 2] {
    static BOTH: OnceLock<[Generation; 2]> = OnceLock::new();
    *BOTH.get_or_init(|| {
        let mint = Mint::new();
        [mint.generation(), mint.generation()]
    })
}

fn asking(key: u8) -> Asking {
    let key = FlightKey { digest: [key; 32], generation: generations()[0], variant: None, credentials: false };
    Asking { key, may_drive: true, since: clock::instant(), max_waiters: 100 }
}

fn drive(flights: &Arc<Flights<u64>>, asking: Asking) -> Driver<u64> {
    match flights.join(asking) {
        Joined::Drive { driver, landed: false } => driver,
        other => panic!("{other:?}"),
    }
}

fn wait(flights: &Arc<Flights<u64>>, asking: Asking) -> Waiter<u64> {
    match flights.join(asking) {
        Joined::Wait(waiter) => waiter,
        other => panic!("{other:?}"),
    }
}

fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    }
}

/// Content that comes in these frames, a turn of the runtime between any two; it may break off.
struct Script {
    frames: VecDeque<Result<&'static [u8], ()>>,
    turn: bool,
}

impl http_body::Body for Script {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.turn = !self.turn;
        if self.turn {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.frames.pop_front().map(|frame| match frame {
            Ok(bytes) => Ok(Frame::data(Bytes::from_static(bytes))),
            Err(()) => Err(BodyError::Broken("test")),
        }))
    }
}

fn script(frames: impl IntoIterator<Item = Result<&'static [u8], ()>>) -> Body {
    Body::boxed(Script { frames: frames.into_iter().collect(), turn: false })
}

/// All of the content, or `None` if it broke off.
async fn read(reader: Reader<u64>) -> Option<Vec<u8>> {
    let (mut reader, mut all) = (Body::boxed(reader), Vec::new());
    loop {
        match poll_fn(|cx| Pin::new(&mut reader).poll_frame(cx)).await {
            None => return Some(all),
            Some(Ok(frame)) => all.extend(frame.into_data().unwrap_or_default()),
            Some(Err(_)) => return None,
        }
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap().block_on(future)
}

#[test]
fn a_driver_that_is_dropped_hands_over_to_one_that_may_drive_and_still_waits() {
    let flights = flights();
    let driver = drive(&flights, asking(1));
    let gone = wait(&flights, asking(1));
    let unfit = wait(&flights, Asking { may_drive: false, ..asking(1) });
    let (next, last) = (wait(&flights, asking(1)), wait(&flights, asking(1)));
    drop(gone);
    drop(driver);
    let Some(Told::Drive(driver)) = now(next.told()) else { panic!("nobody drives") };
    drop(driver);
    let Some(Told::Drive(driver)) = now(last.told()) else { panic!("nobody drives") };
    drop(driver);
    assert!(matches!(now(unfit.told()), Some(Told::Leave(Leave::Deserted))));
    assert_eq!(flights.count(), 0);
}

#[test]
fn a_waiter_that_leaves_with_the_role_in_its_hands_hands_over_again() {
    let flights = flights();
    let driver = drive(&flights, asking(1));
    let (first, second) = (wait(&flights, asking(1)), wait(&flights, asking(1)));
    drop(driver);
    // It has been sent the role, and never heard of it.
    drop(first);
    assert!(matches!(now(second.told()), Some(Told::Drive(_))));
    assert_eq!(flights.count(), 0);
}

#[test]
fn all_are_told_at_once_what_is_not_for_them_and_what_is_there_whole() {
    let flights = flights();
    let driver = drive(&flights, asking(1));
    let waiters = [(); 3].map(|()| wait(&flights, asking(1)));
    driver.part(Leave::Unshareable);
    for waiter in waiters {
        assert!(matches!(now(waiter.told()), Some(Told::Leave(Leave::Unshareable))));
    }
    let driver = drive(&flights, asking(1));
    let waiters = [(); 3].map(|()| wait(&flights, asking(1)));
    let before = asking(1);
    assert!(driver.has_waiters());
    driver.settle(Some(7));
    for waiter in waiters {
        assert!(matches!(now(waiter.told()), Some(Told::Whole(7))));
    }
    let Joined::Drive { driver, landed: true } = flights.join(before) else { panic!("not remembered") };
    let late = wait(&flights, asking(1));
    driver.settle(None);
    assert!(matches!(now(late.told()), Some(Told::Leave(Leave::Stored))));
    assert_eq!(flights.count(), 0);
}

#[test]
fn another_generation_or_variant_is_another_flight() {
    let flights = flights();
    let first = asking(1);
    let others = [
        FlightKey { generation: generations()[1], ..first.key },
        FlightKey { variant: Some([0; 32]), ..first.key },
        FlightKey { credentials: true, ..first.key },
        FlightKey { digest: [2; 32], ..first.key },
    ];
    let drivers: Vec<_> =
        [first.key].into_iter().chain(others).map(|key| drive(&flights, Asking { key, ..first })).collect();
    assert_eq!(flights.count(), 5);
    // So it is in the fleet: but for the generation, which has no part in who fetches.
    let fetched_by = |variant, credentials| FlightKey { variant, credentials, ..first.key }.fetched_by();
    let fleet = [(None, false), (None, true), (Some([9; 32]), false), (Some([9; 32]), true), (Some([8; 32]), false)];
    let known: std::collections::HashSet<_> = fleet.map(|(variant, login)| fetched_by(variant, login)).into();
    assert_eq!(known.len(), fleet.len());
    assert_eq!(others[0].fetched_by(), first.key.fetched_by());
    drop(drivers);
    assert_eq!(flights.count(), 0);
}

#[test]
fn a_full_flight_and_one_that_nobody_may_drive_are_not_joined() {
    let flights = flights();
    let unfit = Asking { may_drive: false, ..asking(1) };
    assert!(matches!(flights.join(unfit), Joined::Alone(Alone::Unfit)));
    let narrow = Asking { max_waiters: 1, ..asking(1) };
    let driver = drive(&flights, narrow);
    let first = wait(&flights, narrow);
    assert!(matches!(flights.join(narrow), Joined::Alone(Alone::Crowded)));
    drop(first);
    let second = wait(&flights, narrow);
    let (_pilot, own) = driver.open(5, None).unwrap();
    assert!(matches!(flights.join(narrow), Joined::Alone(Alone::Crowded)));
    drop((own, second));
    assert!(matches!(flights.join(narrow), Joined::Stream(5, _)));
}

#[test]
fn everybody_streams_what_has_come_so_far_and_the_whole_is_gathered_once() {
    run(async {
        let flights = flights();
        let driver = drive(&flights, asking(1));
        let waiter = wait(&flights, asking(1));
        let (mut pilot, own) = driver.open(5, Some(6)).unwrap();
        let Told::Stream(5, early) = waiter.told().await else { panic!("not told") };
        let mut early = Box::pin(early);
        let mut body = script([Ok(&b"bc"[..]), Ok(b"def")]);
        {
            let begun = vec![Frame::data(Bytes::from_static(b"a"))];
            let mut flying = pin!(pilot.fly(begun, &mut body, BOUNDS));
            poll_fn(|cx| Poll::Ready(flying.as_mut().poll(cx).is_ready())).await;
            poll_fn(|cx| Poll::Ready(flying.as_mut().poll(cx).is_ready())).await;
            // Half of it is here while the other half is not.
            for half in ["a", "bc"] {
                let frame = poll_fn(|cx| early.as_mut().poll_frame(cx)).await.unwrap().unwrap();
                assert_eq!(frame.into_data().unwrap(), half);
            }
            assert_eq!(early.size_hint().exact(), Some(3));
            assert!(now(poll_fn(|cx| early.as_mut().poll_frame(cx))).is_none());
            let Joined::Stream(5, late) = flights.join(asking(1)) else { panic!("not joined") };
            let landed = flying.await.unwrap();
            assert_eq!((&landed.content[..], landed.trailers), (&b"abcdef"[..], false));
            assert_eq!(read(late).await.unwrap(), b"abcdef");
        }
        assert_eq!(read(own).await.unwrap(), b"abcdef");
        let before = asking(1);
        drop(pilot);
        assert!(!matches!(flights.join(asking(1)), Joined::Drive { landed: true, .. }));
        assert!(matches!(flights.join(before), Joined::Drive { landed: true, .. }));
        assert_eq!((flights.count(), flights.under_way.filling()), (0, 0));
    });
}

#[test]
fn what_breaks_off_breaks_off_for_everybody_and_is_not_kept() {
    run(async {
        let flights = flights();
        let (mut pilot, own) = drive(&flights, asking(1)).open(5, None).unwrap();
        let Joined::Stream(_, other) = flights.join(asking(1)) else { panic!("not joined") };
        assert!(pilot.fly(Vec::new(), &mut script([Ok(&b"abc"[..]), Err(())]), BOUNDS).await.is_none());
        // Who comes now begins anew.
        let _driver = drive(&flights, asking(1));
        drop(pilot);
        assert_eq!(flights.count(), 1);
        assert_eq!((read(own).await, read(other).await), (None, None));
        let (pilot, own) = drive(&flights, asking(2)).open(5, None).unwrap();
        drop(pilot);
        assert_eq!(read(own).await, None);
    });
}

#[test]
fn a_fetch_is_let_go_of_when_its_last_reader_leaves() {
    run(async {
        let flights = flights();
        let (mut pilot, own) = drive(&flights, asking(1)).open(5, None).unwrap();
        let Joined::Stream(_, other) = flights.join(asking(1)) else { panic!("not joined") };
        let flying = spawn_local(async move { pilot.fly(Vec::new(), &mut Body::boxed(Never), BOUNDS).await.is_none() });
        yield_now().await;
        drop(own);
        yield_now().await;
        assert!(!flying.is_finished());
        drop(other);
        assert!(flying.await.unwrap());
        assert_eq!((flights.count(), flights.under_way.filling()), (0, 0));
    });
}

/// Content that has nothing, and does not end.
struct Never;

impl http_body::Body for Never {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Pending
    }
}

#[test]
fn content_beyond_a_bound_passes_to_its_readers_and_is_not_kept() {
    run(async {
        const FRAME: &[u8] = &[7; 8 << 10];
        // Beyond what one response may hold, and beyond what all may.
        for (flights, count) in [(flights(), 1000), (Flights::new(UnderWay::new(40), 1 << 20), 100)] {
            let (mut pilot, own) = drive(&flights, asking(1)).open(5, None).unwrap();
            let Joined::Stream(_, other) = flights.join(asking(1)) else { panic!("not joined") };
            let held = Arc::new(AtomicUsize::new(0));
            let most = held.clone();
            let flight = flights.shard(&asking(1).key).lock().flying[&asking(1).key].clone();
            let flying = spawn_local(async move {
                let mut body = script((0..count).map(|_| Ok(FRAME)));
                pilot.fly(Vec::new(), &mut body, BOUNDS).await.is_none()
            });
            let watching = spawn_local(async move {
                while !flying.is_finished() {
                    let now = flight.with_content(|content| content.held()).unwrap();
                    most.fetch_max(now as usize, Ordering::Relaxed);
                    yield_now().await;
                }
                assert!(flying.await.unwrap());
            });
            let (own, other) = tokio::join!(read(own), read(other));
            assert_eq!((own.unwrap().len(), other.unwrap().len()), (count * FRAME.len(), count * FRAME.len()));
            watching.await.unwrap();
            assert!(held.load(Ordering::Relaxed) < 256 << 10);
            assert_eq!(flights.under_way.filling(), 0);
        }
    });
}

#[test]
fn a_reader_that_stops_neither_halts_the_others_nor_holds_more_than_there_is_room_for() {
    const FRAME: &[u8] = &[7; 8 << 10];
    const FRAMES: usize = 1000;
    run(async {
        let flights = flights();
        let mut flying = Vec::new();
        for key in 0..10 {
            let (mut pilot, own) = drive(&flights, asking(key)).open(5, None).unwrap();
            let Joined::Stream(_, stopped) = flights.join(asking(key)) else { panic!("not joined") };
            let body = script((0..FRAMES).map(|_| Ok(FRAME)));
            spawn_local(async move { drop(pilot.fly(Vec::new(), &mut { body }, BOUNDS).await) });
            flying.push((spawn_local(read(own)), stopped));
        }
        let mut most = 0;
        while !flying.iter().all(|(honest, _)| honest.is_finished()) {
            most = most.max(flights.under_way.filling());
            yield_now().await;
        }
        assert!(most > 512 << 10, "there was room for some, {most}");
        // Half of the room, and for each a window and a frame.
        assert!(most <= (512 << 10) + 10 * (264 << 10), "{most}");
        for (honest, stopped) in flying {
            assert_eq!(honest.await.unwrap().map(|content| content.len()), Some(FRAMES * FRAME.len()));
            assert_eq!(read(stopped).await, None, "never as whole");
        }
        assert_eq!((flights.count(), flights.under_way.filling()), (0, 0));
    });
}

#[test]
fn content_that_is_there_already_is_read_at_once() {
    assert!(matches!(Ahead::read(&mut Body::full("abc")), Ahead::Whole(all) if all == "abc"));
    assert!(matches!(Ahead::read(&mut Body::empty()), Ahead::Whole(all) if all.is_empty()));
    let mut later = script([Ok(&b"abc"[..])]);
    assert!(matches!(Ahead::read(&mut later), Ahead::Begun(frames) if frames.is_empty()));
    assert!(matches!(Ahead::read(&mut later), Ahead::Begun(frames) if frames.len() == 1));
    let mut broken = Body::boxed(Script { frames: [Err(())].into(), turn: true });
    assert!(matches!(Ahead::read(&mut broken), Ahead::Broken(_)));
}

#[test]
fn passing_content_cannot_be_joined() {
    run(async {
        let flights = Flights::<u64>::new(UnderWay::new(0), 1 << 20);
        let (mut pilot, _own) = drive(&flights, asking(1)).open(5, None).unwrap();
        let mut body = script([Ok(&b"abc"[..]), Ok(b"def")]);
        assert!(pilot.fly(Vec::new(), &mut body, BOUNDS).await.is_none());
        assert!(matches!(flights.join(asking(1)), Joined::Alone(Alone::Passing)));
    });
}

/// What one of the random test met.
#[derive(Default)]
struct Tally {
    streamed: Cell<usize>,
    drove: Cell<usize>,
    took_over: Cell<usize>,
    cut: Cell<usize>,
}

fn add(count: &Cell<usize>) {
    count.set(count.get() + 1);
}

/// Threads whose tasks ask for a few keys and are dropped at any point: each that is not dropped comes to an end, what is
/// read is what its driver had, nobody drives beside another, and nothing is left behind.
#[test]
fn whoever_leaves_whenever_all_others_are_answered() {
    const KEYS: usize = 3;
    let flights = flights();
    let driving: Arc<[AtomicUsize; KEYS]> = Arc::default();
    let threads: Vec<_> = (0..4)
        .map(|seed| {
            let (flights, driving) = (flights.clone(), driving.clone());
            thread::spawn(move || run(random(seed, flights, driving)))
        })
        .collect();
    let tallies: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    let sum = |of: fn(&[usize; 4]) -> usize| tallies.iter().map(of).sum::<usize>();
    assert!(sum(|tally| tally[0]) > 0 && sum(|tally| tally[1]) > 0 && sum(|tally| tally[2]) > 0);
    assert!(sum(|tally| tally[3]) > 0);
    assert_eq!((flights.count(), flights.under_way.filling()), (0, 0));
}

async fn random(seed: u64, flights: Arc<Flights<u64>>, driving: Arc<[AtomicUsize; 3]>) -> [usize; 4] {
    let mut random = fastrand::Rng::with_seed(seed);
    let tally = std::rc::Rc::new(Tally::default());
    for _ in 0..300 {
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let one = one(random.fork(), flights.clone(), driving.clone(), tally.clone());
                let patience = random.bool().then(|| random.usize(0..12));
                spawn_local(within(patience, one))
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    }
    [tally.streamed.get(), tally.drove.get(), tally.took_over.get(), tally.cut.get()]
}

/// Drops `future` after so many polls.
async fn within(polls: Option<usize>, future: impl Future<Output = ()>) {
    let (mut future, mut count) = (Box::pin(future), 0);
    poll_fn(|cx| {
        if polls.is_some_and(|polls| count >= polls) {
            return Poll::Ready(());
        }
        count += 1;
        if polls.is_some() {
            cx.waker().wake_by_ref();
        }
        future.as_mut().poll(cx)
    })
    .await;
}

/// Counts those who drive a key.
struct Driving<'a>(&'a AtomicUsize);

impl<'a> Driving<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        assert_eq!(count.fetch_add(1, Ordering::SeqCst), 0, "two drive");
        Self(count)
    }
}

impl Drop for Driving<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn one(
    mut random: fastrand::Rng,
    flights: Arc<Flights<u64>>,
    driving: Arc<[AtomicUsize; 3]>,
    tally: std::rc::Rc<Tally>,
) {
    let key = random.usize(0..3);
    let driver = match flights.join(asking(key as u8)) {
        Joined::Drive { driver, .. } => driver,
        Joined::Stream(head, reader) => return check(head, reader, &tally).await,
        Joined::Alone(alone) => panic!("{alone:?}"),
        Joined::Wait(waiter) => match waiter.told().await {
            Told::Drive(driver) => {
                add(&tally.took_over);
                driver
            }
            Told::Stream(head, reader) => return check(head, reader, &tally).await,
            Told::Whole(head) => return assert_eq!(head, 99),
            Told::Leave(why) => return assert_eq!(why, Leave::Unshareable),
        },
    };
    add(&tally.drove);
    // Declared after the driver, so that it ends before the role is handed over.
    let asked = Driving::begin(&driving[key]);
    for _ in 0..random.usize(0..4) {
        yield_now().await;
    }
    drop(asked);
    match random.u8(0..8) {
        0 => driver.part(Leave::Unshareable),
        1 => driver.settle(Some(99)),
        2 => drop(driver),
        choice => {
            let frames = random.u64(0..5);
            let (mut pilot, reader) = driver.open(frames, None).unwrap();
            let cut = (choice == 3).then_some(Err(()));
            let mut body = script((0..frames).map(|_| Ok(&b"frame"[..])).chain(cut));
            spawn_local(async move { drop(pilot.fly(Vec::new(), &mut body, BOUNDS).await) });
            check(frames, reader, &tally).await;
        }
    }
}

async fn check(frames: u64, reader: Reader<u64>, tally: &Tally) {
    match read(reader).await {
        Some(content) => {
            assert_eq!(content, b"frame".repeat(frames as usize));
            add(&tally.streamed);
        }
        None => add(&tally.cut),
    }
}
