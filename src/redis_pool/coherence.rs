//! Whether what this process remembers of Redis still stands: the rules that every near tier keeps.
//!
//! 1. An *era* is a stretch of time in which every change of a tracked key is told to this process (`tracking`). Outside an
//!    era nothing that is remembered is used, and nothing is remembered.
//! 2. What is remembered carries its era, and counts in no other: the end of an era forgets everything at once.
//! 3. Tags (Redis keys, or what stands in their braces) are spread over 256 *gates*, each with an *epoch*. A change
//!    of a tag moves its gate's epoch on and forgets the tag, in one step.
//! 4. Who is about to ask Redis takes a [`Note`] of era and epoch first; what Redis says is remembered only if both are
//!    still the same, checked and put in one step. A value read before a change is therefore never remembered after it.
//! 5. *The fence*: what is remembered is not used while news has arrived that has not been applied: while a socket over
//!    which changes are told has unread bytes, or what was read from one is still being applied.
//!
//! # Why
//! A value and the news that it has changed come over different connections, in any order. Were the value simply put
//! in, one that was read before the change and arrived after the news would stay. Gates and not one epoch for each
//! key: nothing has to be kept of keys that are not remembered, and two tags that share a gate cost each other a trip now
//! and then, never a stale value.
//!
//! # Why a fence
//! Redis writes the news of a change to our socket before it acknowledges the change to who made it. A request that comes
//! after the acknowledgement therefore finds the news in the socket's queue at the latest, and looking there (one
//! `poll(2)` that never waits, one for all that a request asks at once) is enough to serve nothing that is known to be over. Without it the answer would depend on
//! which thread the system lets run first. Over a network the news needs its time like everything else, and the fence
//! covers what has arrived. So it does of FLUSHDB and FLUSHALL: their news Redis writes after the
//! acknowledgement, when it next comes round to it. That took 2 to 3 ms, and once 10 on a loaded machine; until then what is
//! remembered is used.

use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};

use ahash::RandomState;
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::near::Mode;
use crate::exchange::Note;

/// Gates.
const GATES: usize = 256;
/// Sockets looked at in one call.
const AT_ONCE: usize = 16;

/// The last era of any [`Coherence`] of this process: no two have the same number.
static LAST: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The sockets of the era that this thread last looked at, so that looking again takes no lock.
    static SIGHT: RefCell<Sockets> = RefCell::default();
    /// Whether [`in_one_look`] is under way, and what it has seen.
    static LOOK: Cell<Look> = const { Cell::new(Look::Closed) };
}

/// A look at the sockets that counts for all of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// None: each question looks for itself.
    Closed,
    /// Nobody has asked yet.
    Open,
    /// The sockets of this era had nothing unread.
    Quiet(u64),
}

/// Ends the look, also if what was done meanwhile panicked.
struct Looking;

impl Drop for Looking {
    fn drop(&mut self) {
        LOOK.set(Look::Closed);
    }
}

/// What `act` asks of near tiers is answered by one look at the sockets. `act` serves one request, which was there before
/// it began: news that comes later is of changes that were not acknowledged when the request was sent.
pub fn in_one_look<T>(act: impl FnOnce() -> T) -> T {
    LOOK.set(Look::Open);
    let _looking = Looking;
    act()
}

/// The one page that the near tiers and the tracking of a process share.
#[derive(Debug)]
pub struct Coherence {
    /// 0: none.
    era: AtomicU64,
    /// How many are applying what they read.
    applying: AtomicUsize,
    /// The last era was one of [`Mode::PubSub`].
    announces: AtomicBool,
    sockets: Mutex<Sockets>,
    gates: Box<[Mutex<u64>]>,
    hasher: RandomState,
}

/// Over which the changes of an era are told.
#[derive(Clone, Debug, Default)]
struct Sockets {
    era: u64,
    sockets: Arc<[OwnedFd]>,
}

/// As long as it lives, something that was read has not been applied (rule 5).
#[derive(Debug)]
pub struct Applying(Arc<Coherence>);

impl Coherence {
    /// Outside any era.
    pub fn new() -> Arc<Self> {
        let gates = (0..GATES).map(|_| Mutex::new(0)).collect();
        Arc::new(Self {
            era: AtomicU64::new(0),
            applying: AtomicUsize::new(0),
            announces: AtomicBool::new(true),
            sockets: Mutex::default(),
            gates,
            hasher: RandomState::new(),
        })
    }

    /// The era, if what was remembered in it may be used now (rules 1 and 5). Costs a system call, once in a look.
    pub fn era(&self) -> Option<u64> {
        let era = self.in_force()?;
        let look = LOOK.get();
        let quiet = look == Look::Quiet(era) || self.nothing_unread(era);
        if quiet && look == Look::Open {
            LOOK.set(Look::Quiet(era));
        }
        // Whoever takes bytes out of a socket says so first: after a look at an empty one this is seen.
        fence(Ordering::SeqCst);
        let applied = self.applying.load(Ordering::Acquire) == 0;
        (quiet && applied && self.in_force() == Some(era)).then_some(era)
    }

    /// How changes are told in the era in force.
    pub fn mode(&self) -> Option<Mode> {
        self.in_force()?;
        Some(if self.announces() { Mode::PubSub } else { Mode::Tracking })
    }

    /// Who invalidates a key has to publish its name ([`channel`](super::near::channel)), for nobody else will tell. Says
    /// so until an era has shown that Redis itself tells: other instances may be remembering already.
    pub fn announces(&self) -> bool {
        self.announces.load(Ordering::Acquire)
    }

    /// From now on every change is told, and nothing has to be looked at for it. What was remembered before counts no
    /// longer.
    pub fn begin(&self) {
        self.begin_over(Mode::Tracking, Arc::default());
    }

    /// From now on every change is told as `mode` says, over `sockets`. What was remembered before counts no longer.
    pub fn begin_over(&self, mode: Mode, sockets: Arc<[OwnedFd]>) {
        let mut held = self.sockets.lock();
        let era = LAST.fetch_add(1, Ordering::Relaxed) + 1;
        *held = Sockets { era, sockets };
        self.announces.store(mode == Mode::PubSub, Ordering::Release);
        self.era.store(era, Ordering::Release);
    }

    /// From now on changes may go untold.
    pub fn end(&self) {
        self.era.store(0, Ordering::Release);
        *self.sockets.lock() = Sockets::default();
    }

    /// To be held from before bytes are read that tell of changes until these are applied.
    pub fn applying(self: &Arc<Self>) -> Applying {
        self.applying.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        Applying(self.clone())
    }

    /// To be taken before Redis is asked about `tag`; `None` outside an era: then there is nothing to remember.
    pub fn note(&self, tag: &[u8]) -> Option<Note> {
        let era = self.in_force()?;
        Some(Note { era, epoch: *self.gate(tag).lock() })
    }

    /// Remembers, by `put`, what Redis said about `tag`, if nothing has changed since `note`; says whether.
    pub fn keep(&self, tag: &[u8], note: Note, put: impl FnOnce()) -> bool {
        let epoch = self.gate(tag).lock();
        let stands = self.in_force() == Some(note.era) && *epoch == note.epoch;
        if stands {
            put();
        }
        stands
    }

    /// `tag` has changed: forgets it, by `forget`, and whatever is still on its way.
    pub fn changed(&self, tag: &[u8], forget: impl FnOnce()) {
        let mut epoch = self.gate(tag).lock();
        *epoch += 1;
        forget();
    }

    /// Whether the sockets of `era` have nothing to read.
    fn nothing_unread(&self, era: u64) -> bool {
        SIGHT.with_borrow_mut(|sight| {
            if sight.era != era {
                *sight = self.sockets.lock().clone();
            }
            sight.era == era && sight.sockets.chunks(AT_ONCE).all(nothing_unread)
        })
    }

    fn in_force(&self) -> Option<u64> {
        Some(self.era.load(Ordering::Acquire)).filter(|era| *era != 0)
    }

    fn gate(&self, tag: &[u8]) -> &Mutex<u64> {
        &self.gates[(self.hasher.hash_one(tag) >> 48) as usize % GATES]
    }
}

impl Drop for Applying {
    fn drop(&mut self) {
        // What was read is lost with who read it.
        if std::thread::panicking() {
            self.0.end();
        }
        self.0.applying.fetch_sub(1, Ordering::Release);
    }
}

/// Whether none of these, at most [`AT_ONCE`], has anything to read, an end included.
fn nothing_unread(sockets: &[OwnedFd]) -> bool {
    let Some(first) = sockets.first() else { return true };
    let mut looks: [PollFd<'_>; AT_ONCE] =
        std::array::from_fn(|index| PollFd::new(sockets.get(index).unwrap_or(first), PollFlags::IN));
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    // Interrupted: then nothing is known.
    matches!(poll(&mut looks[..sockets.len()], Some(&at_once)), Ok(0))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_was_read_before_a_change_is_not_remembered_after_it() {
        let coherence = Coherence::new();
        assert!(coherence.note(b"k").is_none());
        coherence.begin();
        let note = coherence.note(b"k").unwrap();
        assert!(coherence.keep(b"k", note, || {}));
        let mut forgotten = false;
        coherence.changed(b"k", || forgotten = true);
        assert!(forgotten && !coherence.keep(b"k", note, || panic!("stale")));
    }

    #[test]
    fn one_look_counts_for_one_request_and_no_longer() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let coherence = Coherence::new();
        coherence.begin_over(Mode::Tracking, Arc::new([ours.into()]));
        in_one_look(|| {
            assert!(coherence.era().is_some());
            theirs.write_all(b"x").unwrap();
            assert!(coherence.era().is_some(), "it came after the request");
            let applying = coherence.applying();
            assert!(coherence.era().is_none(), "what is being applied was read since");
            drop(applying);
            coherence.end();
            assert!(coherence.era().is_none());
            coherence.begin_over(Mode::Tracking, Arc::default());
        });
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        coherence.begin_over(Mode::Tracking, Arc::new([ours.into()]));
        theirs.write_all(b"x").unwrap();
        assert!(coherence.era().is_none(), "the look is over");
        in_one_look(|| assert!(coherence.era().is_none() && coherence.era().is_none()));
    }

    #[test]
    fn what_was_read_in_one_era_is_not_remembered_in_the_next() {
        let coherence = Coherence::new();
        coherence.begin();
        let (note, era) = (coherence.note(b"k").unwrap(), coherence.era());
        coherence.end();
        coherence.end();
        assert!(coherence.era().is_none() && !coherence.keep(b"k", note, || panic!("no era")));
        coherence.begin();
        coherence.begin();
        assert!(coherence.era().is_some() && coherence.era() != era);
        assert!(!coherence.keep(b"k", note, || panic!("another era")));
    }

    #[test]
    fn nothing_is_used_while_news_is_unread_or_not_applied() {
        let coherence = Coherence::new();
        let (ours, mut redis) = UnixStream::pair().unwrap();
        // More than are looked at in one call; the last one counts too.
        let others: Vec<_> = (0..AT_ONCE).map(|_| UnixStream::pair().unwrap()).collect();
        let sockets = others.iter().map(|(quiet, _)| quiet).chain([&ours]);
        let sockets: Arc<[OwnedFd]> = sockets.map(|socket| socket.try_clone().unwrap().into()).collect();
        coherence.begin_over(Mode::Tracking, sockets);
        assert!(coherence.era().is_some());
        redis.write_all(b"news").unwrap();
        assert!(coherence.era().is_none() && coherence.note(b"k").is_some());
        let applying = coherence.applying();
        (&ours).read_exact(&mut [0; 4]).unwrap();
        assert!(coherence.era().is_none());
        drop(applying);
        assert!(coherence.era().is_some());
        drop(redis);
        assert!(coherence.era().is_none(), "the end of the connection is news");
    }

    #[test]
    fn who_panics_while_applying_ends_the_era() {
        let coherence = Coherence::new();
        coherence.begin();
        let applying = coherence.applying();
        let panicked = std::thread::spawn(move || {
            let _applying = applying;
            panic!("as a test wants it");
        });
        assert!(panicked.join().is_err() && coherence.mode().is_none());
        coherence.begin();
        assert!(coherence.era().is_some());
    }

    #[test]
    fn eras_of_two_pages_on_one_thread_are_not_taken_for_each_other() {
        let (quiet, loud) = (Coherence::new(), Coherence::new());
        let (ours, mut redis) = UnixStream::pair().unwrap();
        quiet.begin();
        loud.begin_over(Mode::PubSub, Arc::new([ours.into()]));
        redis.write_all(b"news").unwrap();
        for _ in 0..3 {
            assert!(quiet.era().is_some() && loud.era().is_none());
        }
        assert_eq!((quiet.mode(), loud.mode()), (Some(Mode::Tracking), Some(Mode::PubSub)));
        loud.end();
        assert!(loud.mode().is_none() && loud.announces() && !quiet.announces());
    }
}
