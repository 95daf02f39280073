//! Stored responses in Redis, shared by the fleet. How its keys are spelt says `names`.
//!
//! | value | life |
//! |---|---|
//! | a place's generation | [`OPEN`]; once something is stored under it at least that of the entry, up to a whole [`STEP`] |
//! | a stored response, or the list of its variants | freshness, and a little; a list at least an hour |
//! | a piece of content | that of its entry, and some minutes |
//! | the index of a tag | an hour longer than all it lists |
//! | the mark of a tag | ten minutes |
//!
//! 1. A look-up is one trip, which goes with `gather`, also where it opens the place: `SET g PROPOSAL NX PX` and `MGET g
//!    ENTRY` in one pipeline. Who will not fill sends the MGET alone.
//! 2. Where the selecting fields of a URI are known the variant is asked for at once; where they are not, the variant that
//!    the guess makes (`learnt`) is asked for beside the primary entry. Only a wrong guess takes a second trip.
//! 3. A generation that this request's look-up has put there is deleted behind it if nobody took the answer: a request
//!    that is refused further in fills nothing. Whoever came to rely on it meanwhile has a miss.
//! 4. A fill that took longer than [`OPEN`] is not kept: its generation may be gone, and nothing could be reused.
//! 5. Whatever does not read back is a miss.
//! 6. A response that carries tags is stored in a second trip, behind the answer (`tags`).
//! 7. Where replicas may be read the entries come from one of them, at the same time (`aside`).
//! 8. A look-up that finds other variants only says which, in a second trip if it has to: the app can then be offered them.
//! 9. How responses are put there says `keep`, how content in pieces is read `pieces`.
//!
//! # Why the life of a generation ends at a round time
//! A generation outlives its entries if each of them extends it. To do so at each fill would tell every near tier of the
//! fleet, each time, to forget the place. The end is therefore rounded up to a whole [`STEP`], and `EXPIREAT … GT` changes
//! nothing where it stands there already. A minute is added for clocks that differ; an end in the past is refused by `GT`.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderName;
use quick_cache::unsync::Cache as Bounded;
use redis::{Pipeline, Value};
use tokio::time::{sleep, timeout};

use super::generation::Worth;
use super::learnt::Learnt;
use super::names::{EntryName, Names};
use super::near::{KIND, NearStore};
use super::owed::Debts;
use super::purge::{Softness, Target};
use super::{Found, Generation, Marks, Mint, Owed, Purpose, Question, softened};
use crate::cache::key::Key;
use crate::cache::rules::vary::Digest;
use crate::cache::stored::{Content, Entry, Form, Pieces, StoredResponse, Variants};
use crate::clock::Clock;
use crate::exchange::{Answer, Answers, Aside, Note, Slot};
use crate::redis_pool::Link;
use crate::redis_pool::near::Counts;
use crate::telemetry::registry::Registry;

mod aside;
mod keep;
mod lock;
mod pieces;
mod purging;
mod tags;
mod walk;

pub use lock::{Claim, Lock, SCRIPT as LOCK};
pub use tags::SCRIPT as TRIM;

/// Lists variants; a link over which responses are stored is made with it.
pub const SCRIPT: &str = include_str!("scripts/list.lua");

/// Stores a part; a link over which responses are stored is made with it.
pub const PART: &str = include_str!("scripts/part.lua");

static PLACING: LazyLock<String> = LazyLock::new(|| redis::Script::new(PART).get_hash().to_owned());
static LISTING: LazyLock<String> = LazyLock::new(|| redis::Script::new(SCRIPT).get_hash().to_owned());

/// How long a generation lives before anything is stored under it: how long an app may take to answer.
pub const OPEN: Duration = Duration::from_secs(60);
/// The life of a generation ends at a multiple of this, in seconds.
pub const STEP: u64 = 600;
/// Seconds by which the clocks of sidegate and Redis may differ before something is forgotten early.
const CLOCKS: u64 = 60;
/// How long selecting fields are kept, at least.
const SELECTING: Duration = Duration::from_secs(3600);
/// How long a write waits for another connection, once, when the one broke by which it was to invalidate.
const SOON: Duration = Duration::from_millis(100);
/// How often Redis is told of what it is owed.
const AGAIN: Duration = Duration::from_millis(20);
/// Contents in pieces that a worker remembers to have met.
const MET: usize = 256;
/// Keys that are deleted, or walked past, in one trip.
const BATCH: usize = 500;

/// The store in Redis, as one worker sees it.
pub struct RedisStore {
    link: Link,
    prefix: Arc<str>,
    clock: Clock,
    form: Form,
    near: Option<(Arc<NearStore>, Counts)>,
    learnt: Learnt,
    mint: Mint,
    /// Content in pieces that look-ups have met, for the fill that replaces it.
    met: RefCell<Bounded<EntryName, Pieces>>,
    marks: Arc<Marks>,
}

impl RedisStore {
    /// A store under `prefix`, with content in this form.
    /// Between `ask` and `look_up` the request's fields of these names may change.
    pub fn new(link: Link, prefix: Arc<str>, clock: Clock, form: Form, written_late: Rc<[HeaderName]>) -> Self {
        let (learnt, met) = (Learnt::new(written_late), RefCell::new(Bounded::new(MET)));
        Self { link, prefix, clock, form, near: None, learnt, mint: Mint::new(), met, marks: Arc::default() }
    }

    /// Remembers of so many URIs, and no more, which fields select their variants.
    #[must_use]
    pub fn learning(mut self, uris: usize) -> Self {
        self.learnt = self.learnt.within(uris);
        self
    }

    /// With what this process has seen of purged tags.
    #[must_use]
    pub fn knowing(mut self, marks: Arc<Marks>) -> Self {
        self.marks = marks;
        self
    }

    /// With this near tier, if there is one, before it.
    #[must_use]
    pub fn behind(mut self, near: Option<Arc<NearStore>>, registry: &Registry, worker: usize) -> Self {
        self.near = near.map(|near| (near, Counts::new(registry, worker, KIND)));
        self
    }

    /// Leaves what the near tier has in `answers`; or else adds the commands that look it up and, if asked to, open the
    /// place, and says how many.
    pub fn ask(&self, question: Question<'_>, answers: &mut Answers, pipeline: &mut Pipeline) -> usize {
        let Question { key, request, purpose } = question;
        let names = Names::of(&self.prefix, key.place());
        let (first, guess) = self.learnt.candidates(key.digest(), request);
        let candidates = || [Some(first), guess].into_iter().flatten();
        if let Some((near, counts)) = &self.near {
            if let Some(response) = near.look_up(&names, candidates(), request, self.clock.unix_seconds()) {
                counts.hit();
                answers.put(Slot::Cache, Answer::Near(response));
                return 0;
            }
            counts.missed();
            answers.set_note(Slot::Cache, near.note(&names));
        }
        let generation = names.generation();
        let opens = purpose == Purpose::ReuseOrFill;
        if opens {
            let proposal = self.mint.generation().proposal();
            pipeline.cmd("SET").arg(&generation).arg(&proposal).arg("NX").arg("PX").arg(OPEN.as_millis() as u64);
        }
        let replica = self.link.replica(generation.as_bytes());
        pipeline.cmd("MGET").arg(generation);
        let entries = candidates().map(|candidate| names.entry(&candidate));
        let seals = match replica {
            None => {
                entries.for_each(|entry| {
                    pipeline.arg(entry);
                });
                0
            }
            Some(replica) => {
                let (aside, seals) = aside::ask(replica, entries, pipeline);
                answers.set_aside(aside);
                seals
            }
        };
        1 + usize::from(opens) + seals
    }

    /// What is stored. `answer` is what Redis said to [`RedisStore::ask`], `note` how things stood then, and `aside` what was
    /// asked of a replica.
    pub async fn look_up(
        &self,
        question: Question<'_>,
        answer: Answer,
        note: Option<Note>,
        aside: Option<Aside>,
    ) -> Found {
        let (answer, note, aside) = match answer {
            // In a box, as all that few requests need: every request's future is as large as the largest.
            Answer::NotAsked => Box::pin(self.answer(question)).await,
            // What was right for the request as it came may not be right for it as it is now.
            Answer::Near(response) => match response.downcast::<StoredResponse>() {
                Ok(response) if response.selects(question.request) => return Found::Stored(response),
                _ => Box::pin(self.answer(question)).await,
            },
            answer => (answer, note, aside),
        };
        match answer {
            Answer::Values(values) => self.read(question, values, note, aside).await,
            Answer::Near(response) => response.downcast().map_or(Found::Unavailable("near"), Found::Stored),
            Answer::Unavailable(reason) => Found::Unavailable(reason),
            Answer::NotAsked => Found::Unavailable("not-asked"),
        }
    }

    /// What `gather` would have left.
    async fn answer(&self, question: Question<'_>) -> (Answer, Option<Note>, Option<Aside>) {
        let (mut answers, mut pipeline) = (Answers::default(), Pipeline::new());
        if self.ask(question, &mut answers, &mut pipeline) > 0 {
            let answer = self.link.query(&pipeline).await.map_or_else(Answer::Unavailable, Answer::Values);
            answers.put(Slot::Cache, answer);
        }
        (answers.take(Slot::Cache), answers.note(Slot::Cache), answers.take_aside())
    }

    async fn read(
        &self,
        question: Question<'_>,
        values: Vec<Value>,
        note: Option<Note>,
        aside: Option<Aside>,
    ) -> Found {
        let Question { key, request, purpose } = question;
        let is_new = matches!(values[..], [Value::Okay, ..]);
        let stands = matches!(values[..], [Value::Nil, ..]);
        // Whether the proposal was taken does not matter: MGET came after it.
        let mut values = values.into_iter().skip_while(|value| !matches!(value, Value::Array(_)));
        let Some(Value::Array(found)) = values.next() else { return Found::Unavailable("refused") };
        let mut found = found.into_iter();
        let Some(generation) = found.next().and_then(generation) else {
            if stands && purpose == Purpose::ReuseOrFill {
                // No generation of ours, and it keeps the place from having one.
                let mut pipeline = Pipeline::new();
                pipeline.cmd("DEL").arg(Names::of(&self.prefix, key.place()).generation());
                self.link.send(pipeline);
            }
            return Found::nothing(None);
        };
        let (mut values, late) = match aside {
            None => (found, false),
            // In a box is what only some need: it would make the future of every look-up larger.
            Some(aside) => match Box::pin(self.whole(values.collect(), aside)).await {
                Ok(whole) => (whole.values.into_iter(), whole.late),
                Err(reason) => return Found::Unavailable(reason),
            },
        };
        let digest = key.digest();
        let mut other_variants = self.learnt.varies(&digest);
        // A place that was opened just now has nothing to offer; nor is anything asked for a third time.
        let mut known = if is_new || late || purpose == Purpose::Reuse { Listed::Nowhere } else { Listed::Elsewhere };
        let entry = match values.next().and_then(|value| self.entry(&digest, value)) {
            Some(Entry::Variants(variants)) => {
                other_variants = true;
                let guessed = self.learnt.is_guess(&variants.selecting).then(|| values.next()).flatten();
                let tagged = variants.known.iter().any(|known| known.etag.is_some());
                self.learnt.learn(digest, &variants.selecting, tagged);
                let value = match guessed {
                    Some(value) => value,
                    None if late => Value::Nil,
                    None => match Box::pin(self.value(key, Some(variants.selecting.variant(request)))).await {
                        Ok(value) => value,
                        Err(reason) => return Found::Unavailable(reason),
                    },
                };
                known = Listed::Here(variants);
                self.entry(&digest, value)
            }
            entry => entry,
        };
        if let Some(Entry::Response(response)) = entry {
            self.meet(&digest, &response, purpose);
            match response.generation.worth(generation) {
                _ if !response.selects(request) => {}
                Worth::Whole => {
                    self.remember(key, &response, note);
                    return Found::Stored(response);
                }
                Worth::Softened(since) => return Found::Stored(softened(&response, generation, since)),
                Worth::Nothing => {}
            }
        }
        let known = match known {
            Listed::Here(variants) => Some(variants),
            Listed::Elsewhere if self.learnt.has_tags(&digest) => Box::pin(self.listed(key)).await,
            _ => None,
        };
        let known = known.map_or_else(Vec::new, |variants| variants.known_under(generation).to_vec());
        Found::Nothing { generation: Some(generation), other_variants, known }
    }

    async fn value(&self, key: &Key, variant: Option<Digest>) -> Result<Value, &'static str> {
        let name = EntryName { digest: key.digest(), variant };
        let mut pipeline = Pipeline::new();
        pipeline.cmd("GET").arg(Names::of(&self.prefix, key.place()).entry(&name));
        Ok(self.link.query(&pipeline).await?.pop().unwrap_or_default())
    }

    /// The list of variants of a URI.
    async fn listed(&self, key: &Key) -> Option<Variants> {
        let value = self.value(key, None).await.ok()?;
        match self.entry(&key.digest(), value)? {
            Entry::Variants(variants) => Some(variants),
            Entry::Response(_) => None,
        }
    }

    /// The response that is stored as this variant of the URI under this generation, whatever it selects.
    pub async fn variant(&self, key: &Key, variant: Digest, generation: Generation) -> Option<Arc<StoredResponse>> {
        let value = self.value(key, Some(variant)).await.ok()?;
        match self.entry(&key.digest(), value)? {
            Entry::Response(response) if response.generation.worth(generation) == Worth::Whole => Some(response),
            _ => None,
        }
    }

    /// Remembers the pieces of what a fill may replace.
    fn meet(&self, digest: &Digest, response: &StoredResponse, purpose: Purpose) {
        let Content::Pieces(pieces) = response.content else { return };
        if purpose == Purpose::ReuseOrFill {
            let variant = response.variant.as_ref().map(|(_, variant)| *variant);
            self.met.borrow_mut().insert(EntryName { digest: *digest, variant }, pieces);
        }
    }

    fn remember(&self, key: &Key, response: &Arc<StoredResponse>, note: Option<Note>) {
        let (Some((near, counts)), Some(note)) = (&self.near, note) else { return };
        let variant = response.variant.as_ref().map(|(_, variant)| *variant);
        let entry = EntryName { digest: key.digest(), variant };
        let names = Names::of(&self.prefix, key.place());
        if !near.keep(note, &names, entry, response, self.clock.unix_seconds()) {
            counts.raced();
        }
    }

    fn entry(&self, digest: &Digest, value: Value) -> Option<Entry> {
        match value {
            Value::BulkString(bytes) => Entry::decode(Bytes::from(bytes), digest, self.form.max_content),
            _ => None,
        }
    }

    /// If `answer` shows that the place of `key` was opened by this very look-up: what closes it again, without waiting.
    pub fn closing(&self, answer: &Answer, key: impl FnOnce() -> Option<Key>) -> Option<impl FnOnce() + 'static> {
        let Answer::Values(values) = answer else { return None };
        let [Value::Okay, _, ..] = values[..] else { return None };
        let (link, generation) = (self.link.clone(), Names::of(&self.prefix, key()?.place()).generation());
        Some(move || {
            let mut pipeline = Pipeline::new();
            pipeline.cmd("DEL").arg(generation);
            link.send(pipeline);
        })
    }

    /// Whether there is a connection again soon.
    async fn returns(&self) -> bool {
        let mut up = self.link.subscribe();
        timeout(SOON, up.wait_for(|up| *up)).await.is_ok_and(|up| up.is_ok())
    }

    /// Tells Redis what it is owed, as soon as it answers, again and again until nothing is owed.
    pub async fn settle_all(&self, owed: &Owed) {
        while owed.is_any() {
            if self.link.is_up() {
                self.settle(owed).await;
            }
            sleep(AGAIN).await;
        }
    }

    async fn settle_each(&self, debts: &Debts) -> Result<(), &'static str> {
        self.invalidate(debts.places.keys().map(|place| &**place)).await?;
        for (target, softness) in debts.purges.keys() {
            self.purge(target, *softness, self.clock.unix_seconds()).await?;
        }
        Ok(())
    }

    /// Tells Redis what it is owed. What fails stays owed; somebody else being at it already is no failure.
    pub async fn settle(&self, owed: &Owed) {
        let Some(_settling) = owed.claim() else { return };
        let debts = owed.debts();
        let told = match debts.everything {
            Some(_) => self.purge(&Target::All, Softness::Hard, self.clock.unix_seconds()).await.map(drop),
            None => self.settle_each(&debts).await,
        };
        match told {
            Ok(()) => owed.settled(&debts),
            Err(reason) => tracing::debug!(reason, "stored responses cannot be invalidated yet"),
        }
    }
}

/// Where the list of a URI's variants is.
enum Listed {
    /// It was read.
    Here(Variants),
    /// It can be asked for.
    Elsewhere,
    /// It is not asked for.
    Nowhere,
}

fn generation(value: Value) -> Option<Generation> {
    match value {
        Value::BulkString(bytes) => Generation::of_value(&bytes),
        _ => None,
    }
}
