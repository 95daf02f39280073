//! Units of hot keys that this process has taken ahead, and spends by itself; shared by all workers.
//!
//! 1. A request is answered out of what is held, or out of a refusal that is remembered, or the store is asked, and for a
//!    lease besides (`account` says how large). A key that is not hot is exact.
//! 2. What is taken may be spent for as long as a lease lives, reckoned from before the store was asked (`lots`). What is not
//!    spent goes back when that is over, or nobody has asked for it of late (`tend`); what is lost on the way is lost to the
//!    client, and never given twice.
//! 3. What is held belongs to a policy. Under another one it is given back, and not spent.
//! 4. There is room for so many keys. A key that finds none is exact.
//! 5. Without Redis nothing is leased. Where it goes, what is held may be spent to its end.
//!
//! # Why
//! A key that is asked for 5,000 times a second would cost Redis 5,000 scripts; of which it answers 200,000 a second, for
//! the whole fleet. Taken by the hundred they cost next to nothing, and the fleet still never admits more than the quota:
//! the store counts what was taken as if it were spent at the latest moment (`algorithm::gcra`, rule 7).

mod account;
mod demand;
mod lots;
mod pace;
mod tend;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use ahash::RandomState;
use parking_lot::Mutex;

use self::account::Account;
use self::lots::Lot;
pub(super) use self::tend::counters;
pub use self::tend::{Giving, Tending};
use super::algorithm::{Decision, Policy};
use super::store::MemorySettings;

/// Shards, at most; and keys in each, at least.
const SHARDS: usize = 64;

/// What becomes of a request for units of a leased key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// They were held, and are spent.
    Spent {
        /// Units that are held still: so many are certain.
        held: u64,
        /// Units that may be spent still, as far as is known: with what the store had when it was last asked, less what
        /// others are likely to have taken since.
        remaining: u64,
        /// µs until all units are there again.
        reset_after: u64,
    },
    /// There are none for now.
    Refused {
        /// µs until they would be let in, as far as is known.
        retry_after: u64,
        /// µs until all units are there again.
        reset_after: u64,
    },
    /// The store is to be asked for them.
    Ask {
        /// And for so many besides.
        lease: u64,
    },
}

/// What this process has taken ahead.
#[derive(Debug)]
pub struct Leases {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    closed: AtomicBool,
}

#[derive(Debug)]
struct Shard {
    accounts: HashMap<Arc<str>, Account, RandomState>,
    /// Of accounts that were replaced.
    unspent: Vec<Unspent>,
    room: usize,
}

/// Units that were taken and not spent, to be given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unspent {
    /// `NAME:KEY`.
    pub key: Arc<str>,
    /// By which they were taken.
    pub policy: Policy,
    /// When, by the clock of the store (µs since the Unix epoch).
    pub since: u64,
    /// How many.
    pub units: u64,
}

/// What has become of the units of a limit since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// Taken ahead.
    pub taken: u64,
    /// Spent of them.
    pub spent: u64,
    /// Not spent, and to be given back.
    pub returned: u64,
    /// Not spent, and not worth giving back any more.
    pub expired: u64,
}

/// What is found to be over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// To be given back.
    pub unspent: Vec<Unspent>,
    /// By limit, as its keys begin.
    pub uses: BTreeMap<Box<str>, Use>,
}

impl Leases {
    /// None yet; for as many keys as `settings` say.
    pub fn new(settings: MemorySettings) -> Arc<Self> {
        let keys = settings.max_keys.max(1);
        let count = 1 << (keys / SHARDS).clamp(1, SHARDS).ilog2();
        let hasher = RandomState::new();
        let shard =
            || Shard { accounts: HashMap::with_hasher(hasher.clone()), unspent: Vec::new(), room: keys / count };
        let shards = (0..count).map(|_| Mutex::new(shard())).collect();
        Arc::new(Self { shards, hasher, closed: AtomicBool::new(false) })
    }

    /// Spends `units` of `key` (`NAME:KEY`) at `now`, or says what to do instead. Whoever is told to ask says then what was
    /// [answered](Self::answered), or that [nothing was](Self::unanswered).
    pub fn spend(&self, key: &str, policy: &Policy, units: u64, now: Instant) -> Held {
        if policy.lease_life() == 0 || self.closed.load(Ordering::Relaxed) {
            return Held::Ask { lease: 0 };
        }
        match self.shard(key).lock().account(key, policy, now) {
            Some(account) => account.spend(units, now),
            None => Held::Ask { lease: 0 },
        }
    }

    /// The store was asked about `key` and has answered. `asked_at` is the instant that was given to [`Self::spend`], so
    /// before it was asked.
    pub fn answered(&self, key: &str, policy: &Policy, asked_at: Instant, decision: &Decision) {
        if policy.lease_life() == 0 {
            return;
        }
        let mut shard = self.shard(key).lock();
        if let Some(account) = shard.account(key, policy, asked_at) {
            account.answered(asked_at, decision);
        }
    }

    /// The store was not asked about `key` after all, as was said to who came at `asked_at`.
    pub fn unasked(&self, key: &str, asked_at: Instant) {
        if let Some(account) = self.shard(key).lock().accounts.get_mut(key) {
            account.unasked(asked_at);
        }
    }

    /// The store could not be asked about `key`: who asks next finds out anew.
    pub fn unanswered(&self, key: &str) {
        if let Some(account) = self.shard(key).lock().accounts.get_mut(key) {
            account.unanswered();
        }
    }

    /// Puts back `units` that were [spent](Self::spend) at `spent_at` in vain: another limit has refused the request.
    pub fn put_back(&self, key: &str, units: u64, spent_at: Instant) {
        if let Some(account) = self.shard(key).lock().accounts.get_mut(key) {
            account.put_back(units, spent_at);
        }
    }

    /// Forgets what is over at `now`, and says what is to be given back.
    pub fn sweep(&self, now: Instant) -> Swept {
        self.clear(now, |account| (account.sweep(now), account.is_over(now)))
    }

    /// Forgets everything, says what is to be given back, and holds nothing from now on.
    pub fn close(&self, now: Instant) -> Swept {
        self.closed.store(true, Ordering::Relaxed);
        self.clear(now, |account| (account.close(), true))
    }

    /// Keys that something is known of.
    pub fn keys(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().accounts.len()).sum()
    }

    fn clear(&self, now: Instant, end: impl Fn(&mut Account) -> (Option<Lot>, bool)) -> Swept {
        let mut swept = Swept::default();
        for shard in &self.shards {
            let mut shard = shard.lock();
            for unspent in std::mem::take(&mut shard.unspent) {
                swept.of(&unspent.key).returned += unspent.units;
                swept.unspent.push(unspent);
            }
            shard.accounts.retain(|key, account| {
                let (left, over) = end(account);
                swept.note(key, account, left, now);
                !over
            });
        }
        swept
    }

    fn shard(&self, key: &str) -> &Mutex<Shard> {
        // The upper bits: the table in the shard goes by the lower ones.
        &self.shards[(self.hasher.hash_one(key) >> 48) as usize & (self.shards.len() - 1)]
    }
}

impl Shard {
    /// The account of `key` under `policy`; none if there is no room.
    fn account(&mut self, key: &str, policy: &Policy, now: Instant) -> Option<&mut Account> {
        // A borrow that is returned early would last to the end: so it is looked up twice only where it is new.
        if !self.accounts.contains_key(key) {
            if self.accounts.len() >= self.room {
                return None;
            }
            self.accounts.insert(key.into(), Account::new(policy, now));
        }
        let account = self.accounts.get_mut(key)?;
        if account.policy() != policy {
            let left = account.close().filter(|_| self.unspent.len() < self.room);
            let unspent = |left: Lot| Unspent::new(key.into(), account.policy(), &left);
            self.unspent.extend(left.map(unspent));
            *account = Account::new(policy, now);
        }
        Some(account)
    }
}

impl Unspent {
    fn new(key: Arc<str>, policy: &Policy, left: &Lot) -> Self {
        Self { key, policy: policy.clone(), since: left.since, units: left.units }
    }
}

impl Swept {
    /// What was used of the limit that `key` belongs to.
    fn of(&mut self, key: &str) -> &mut Use {
        let name = key.split(':').next().unwrap_or_default();
        self.uses.entry(name.into()).or_default()
    }

    fn note(&mut self, key: &Arc<str>, account: &mut Account, left: Option<Lot>, now: Instant) {
        let (taken, spent) = account.used();
        let returned = left.filter(|left| account.is_worth_returning(left, now));
        if taken == 0 && spent == 0 && left.is_none() {
            return;
        }
        let used = self.of(key);
        used.taken += taken;
        used.spent += spent;
        match (returned, left) {
            (Some(left), _) => {
                used.returned += left.units;
                self.unspent.push(Unspent::new(key.clone(), account.policy(), &left));
            }
            (None, Some(left)) => used.expired += left.units,
            (None, None) => {}
        }
    }
}
