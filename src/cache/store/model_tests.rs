//! Every order in which fills, purges and losses can meet, as far as a few of them go.
//!
//! A step is a command of Redis, which is atomic; anything may happen between two of them. Readers look up, fetch and keep at
//! one place, and what they keep carries one tag; each purge is one of the place, of the tag, or of a prefix, hard or soft.
//! The app's answer is a number that each write raises before it purges. In every world that is reached somebody may look
//! up: what he would be answered must be no older than the last write whose purge was confirmed.
//!
//! Of each rule that the proof leans on there is a flaw that breaks it, and the search must find what goes wrong then:
//! else it would prove nothing.

use std::collections::HashSet;

use super::Generation;
use super::generation::Worth;
use super::purge::Softness;

/// What Redis has, and what the app.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct World {
    /// Hard token, soft token.
    place: Option<(u8, u8)>,
    /// Its tokens, and what was answered.
    entry: Option<((u8, u8), u8)>,
    indexed: bool,
    mark: Option<u8>,
    /// What the app answers now.
    app: u8,
    /// Whoever looks up now must be answered by this, or later.
    confirmed: u8,
    last_token: u8,
    /// The order of moments in all processes; each sees its own.
    now: u8,
    /// Of each process the mark that it has seen, and when.
    seen: [Option<(u8, u8)>; 2],
    readers: [Reader; 2],
    purges: [Purge; 2],
    evictions: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Reader {
    rounds: u8,
    at: Reading,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Reading {
    #[default]
    Idle,
    /// Its place has a generation, or had.
    Proposed,
    /// Under these tokens, since then.
    Opened {
        tokens: (u8, u8),
        since: u8,
    },
    Fetched {
        tokens: (u8, u8),
        since: u8,
        answer: u8,
    },
    Entered {
        tokens: (u8, u8),
        since: u8,
        answer: u8,
    },
    Allowed {
        tokens: (u8, u8),
        answer: u8,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Purge {
    #[default]
    Idle,
    Written(u8),
    Marked(u8),
    Walked {
        write: u8,
        met: bool,
    },
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Place,
    Tag,
    Prefix,
}

/// A rule that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    /// A fill reads the mark before it enters its place.
    MarkReadFirst,
    /// A purge walks the index before it writes the mark.
    WalkedFirst,
    /// A mark that is seen counts as seen before.
    AnyMarkSeen,
    /// A fill goes by its own proposal, which may come after the answer.
    OpenedLate,
    /// A soft purge puts nothing beside the hard token.
    NoSoftToken,
    /// A purge is confirmed before it has deleted.
    ConfirmedEarly,
}

/// Two purges, each by the process of its number.
type Purges = [(Kind, Softness); 2];

/// How often each of two readers asks, each in the process of its number.
type Rounds = [u8; 2];

const ROUNDS: [Rounds; 2] = [[1, 1], [2, 0]];

impl World {
    fn token(&mut self) -> u8 {
        self.last_token += 1;
        self.last_token
    }

    fn moment(&mut self) -> u8 {
        self.now += 1;
        self.now
    }

    fn see(&mut self, process: usize, mark: u8) {
        if self.seen[process].is_none_or(|(known, _)| known != mark) {
            let now = self.moment();
            self.seen[process] = Some((mark, now));
        }
    }

    /// Whether who looks up now is answered by what is over.
    fn is_wrong(&self) -> bool {
        let (Some(standing), Some((tokens, answer))) = (self.place, self.entry) else { return false };
        generation(tokens).worth(generation(standing)) == Worth::Whole && answer < self.confirmed
    }

    /// What comes of the next step of a reader, in the process of its number.
    fn read(mut self, number: usize, rounds: Rounds, flaw: Flaw) -> Option<Self> {
        let reader = self.readers[number];
        let next = match reader.at {
            Reading::Idle if reader.rounds == rounds[number] => return None,
            Reading::Idle => {
                self.readers[number].rounds += 1;
                if self.place.is_none() && flaw != Flaw::OpenedLate {
                    self.place = Some((self.token(), 0));
                }
                Reading::Proposed
            }
            Reading::Proposed => match self.place {
                // Whatever it finds, its fill goes on, as if that were stale.
                Some(tokens) => Reading::Opened { tokens, since: self.moment() },
                None if flaw == Flaw::OpenedLate => Reading::Opened { tokens: (0, 0), since: self.moment() },
                None => Reading::Idle,
            },
            Reading::Opened { tokens, since } => Reading::Fetched { tokens, since, answer: self.app },
            Reading::Fetched { tokens, since, answer } if flaw == Flaw::MarkReadFirst => {
                self.judge(number, since, flaw).map_or(Reading::Idle, |()| Reading::Entered { tokens, since, answer })
            }
            Reading::Fetched { tokens, since, answer } => {
                self.indexed = true;
                Reading::Entered { tokens, since, answer }
            }
            Reading::Entered { tokens, answer, .. } if flaw == Flaw::MarkReadFirst => {
                self.indexed = true;
                Reading::Allowed { tokens, answer }
            }
            Reading::Entered { tokens, since, answer } => {
                self.judge(number, since, flaw).map_or(Reading::Idle, |()| Reading::Allowed { tokens, answer })
            }
            Reading::Allowed { tokens: (0, _), answer } => {
                // With the flaw alone: the proposal arrives with the answer.
                let tokens = *self.place.get_or_insert((self.last_token + 1, 0));
                self.last_token += 1;
                self.entry = Some((tokens, answer));
                Reading::Idle
            }
            Reading::Allowed { tokens, answer } => {
                self.entry = Some((tokens, answer));
                Reading::Idle
            }
        };
        self.readers[number].at = next;
        Some(self)
    }

    fn judge(&mut self, process: usize, since: u8, flaw: Flaw) -> Option<()> {
        let Some(mark) = self.mark else { return Some(()) };
        let before = self.seen[process].is_some_and(|(seen, when)| seen == mark && when < since);
        self.see(process, mark);
        (before || flaw == Flaw::AnyMarkSeen).then_some(())
    }

    /// The same of a purge, in the process of its number.
    fn purge(mut self, number: usize, (kind, softness): (Kind, Softness), flaw: Flaw) -> Option<Self> {
        self.purges[number] = match self.purges[number] {
            Purge::Idle => {
                self.app += 1;
                Purge::Written(self.app)
            }
            Purge::Written(write) if flaw == Flaw::ConfirmedEarly => {
                self.confirm(write);
                Purge::Walked { write, met: true }
            }
            Purge::Written(write) => match kind {
                Kind::Place => {
                    self.take_back(softness, flaw);
                    self.confirm(write)
                }
                Kind::Tag if flaw == Flaw::WalkedFirst => Purge::Marked(write),
                Kind::Tag => {
                    let mark = self.token();
                    self.mark = Some(mark);
                    self.see(number, mark);
                    Purge::Marked(write)
                }
                Kind::Prefix => Purge::Walked { write, met: self.place.is_some() },
            },
            Purge::Marked(write) => Purge::Walked { write, met: self.indexed },
            Purge::Walked { write, met } => {
                if met {
                    self.take_back(softness, flaw);
                }
                if flaw == Flaw::WalkedFirst && kind == Kind::Tag {
                    let mark = self.token();
                    self.mark = Some(mark);
                }
                self.confirm(write)
            }
            Purge::Done => return None,
        };
        Some(self)
    }

    fn take_back(&mut self, softness: Softness, flaw: Flaw) {
        self.place = match (softness, self.place) {
            (Softness::Hard, _) | (_, None) => None,
            (Softness::Soft, standing) if flaw == Flaw::NoSoftToken => standing,
            (Softness::Soft, Some((hard, _))) => Some((hard, self.token())),
        };
    }

    fn confirm(&mut self, write: u8) -> Purge {
        self.confirmed = self.confirmed.max(write);
        Purge::Done
    }

    /// Shows all tokens and all moments.
    fn numbers(&mut self, mut token: impl FnMut(&mut u8), mut moment: impl FnMut(&mut u8)) {
        let entry = self.entry.iter_mut().map(|(tokens, _)| tokens);
        let mut pairs: Vec<&mut (u8, u8)> = self.place.iter_mut().chain(entry).collect();
        for reader in &mut self.readers {
            match &mut reader.at {
                Reading::Idle | Reading::Proposed => {}
                Reading::Opened { tokens, since }
                | Reading::Fetched { tokens, since, .. }
                | Reading::Entered { tokens, since, .. } => {
                    pairs.push(tokens);
                    moment(since);
                }
                Reading::Allowed { tokens, .. } => pairs.push(tokens),
            }
        }
        for (hard, soft) in pairs {
            token(hard);
            token(soft);
        }
        self.mark.iter_mut().for_each(&mut token);
        for (mark, when) in self.seen.iter_mut().flatten() {
            token(mark);
            moment(when);
        }
    }

    /// What Redis loses by itself.
    fn evict(mut self) -> Option<Self> {
        self.evictions = self.evictions.checked_add(1).filter(|evictions| *evictions < 2)?;
        self.place.take()?;
        Some(self)
    }
}

/// Gives tokens and moments the smallest numbers that leave them different and in order: worlds that differ in nothing else
/// are one.
fn renumbered(mut world: World) -> World {
    let (mut tokens, mut moments) = (1_u64, 1_u64);
    world.numbers(|token| tokens |= 1 << *token, |moment| moments |= 1 << *moment);
    let rank = |all: u64, number: u8| (all & ((1 << number) - 1)).count_ones() as u8;
    world.numbers(|token| *token = rank(tokens, *token), |moment| *moment = rank(moments, *moment));
    (world.last_token, world.now) = (tokens.count_ones() as u8, moments.count_ones() as u8);
    world
}

fn generation((hard, soft): (u8, u8)) -> Generation {
    Generation::new(hard.into(), soft.into())
}

/// Goes through every order; the world in which something is wrong, or how many worlds there are.
fn search(purges: Purges, rounds: Rounds, flaw: Flaw) -> Result<usize, Box<World>> {
    let (mut known, mut next) = (HashSet::new(), vec![World::default()]);
    while let Some(world) = next.pop() {
        let world = renumbered(world);
        if !known.insert(world.clone()) {
            continue;
        }
        if world.is_wrong() {
            return Err(world.into());
        }
        for (number, purge) in purges.into_iter().enumerate() {
            next.extend(world.clone().read(number, rounds, flaw));
            next.extend(world.clone().purge(number, purge, flaw));
        }
        // What is lost is lost to every kind of purge alike.
        if purges[0] == (Kind::Place, Softness::Hard) {
            next.extend(world.evict());
        }
    }
    Ok(known.len())
}

const KINDS: [Kind; 3] = [Kind::Place, Kind::Tag, Kind::Prefix];
const SOFTNESSES: [Softness; 2] = [Softness::Hard, Softness::Soft];

fn purges() -> impl Iterator<Item = (Kind, Softness)> {
    KINDS.into_iter().flat_map(|kind| SOFTNESSES.map(|softness| (kind, softness)))
}

#[test]
fn no_order_of_fills_and_purges_answers_by_what_is_over() {
    let mut worlds = 0;
    for (number, first) in purges().enumerate() {
        for second in purges().skip(number) {
            // One who asks twice is of interest where a mark may have refused him once.
            let of_tags = [first, second].iter().any(|(kind, _)| *kind == Kind::Tag);
            for rounds in ROUNDS.into_iter().take(1 + usize::from(of_tags)) {
                match search([first, second], rounds, Flaw::None) {
                    Ok(found) => worlds += found,
                    Err(world) => panic!("{first:?} and {second:?}: {world:#?}"),
                }
            }
        }
    }
    assert!(worlds > 50_000, "{worlds}");
}

#[test]
fn each_rule_is_needed() {
    use Softness::*;
    for (flaw, purges) in [
        (Flaw::MarkReadFirst, [(Kind::Tag, Hard), (Kind::Place, Hard)]),
        (Flaw::WalkedFirst, [(Kind::Tag, Hard), (Kind::Place, Hard)]),
        (Flaw::AnyMarkSeen, [(Kind::Tag, Hard), (Kind::Place, Hard)]),
        (Flaw::OpenedLate, [(Kind::Place, Hard), (Kind::Place, Hard)]),
        (Flaw::NoSoftToken, [(Kind::Place, Soft), (Kind::Place, Hard)]),
        (Flaw::ConfirmedEarly, [(Kind::Place, Hard), (Kind::Place, Hard)]),
    ] {
        assert!(search(purges, [1, 1], flaw).is_err(), "nothing goes wrong with {flaw:?}");
    }
}
