//! The endpoints of all upstreams, while they are looked after.
//!
//! A configuration that is being prepared has rosters of its own for the upstreams that it changes: were they those in
//! force, a reload that fails would have changed something. Which endpoints stay, and all that is known of them, they share.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::config::settings::Settings;
use crate::telemetry::registry::Registry;
use crate::upstream;
use crate::upstream::roster::Roster;

/// The rosters of the configuration in force, and of one that is being prepared.
#[derive(Default)]
pub struct Rosters(Mutex<Vec<Tended>>);

struct Tended {
    settings: upstream::Settings,
    roster: Arc<Roster>,
    /// Looks after it; ends when dropped.
    tasks: Option<JoinSet<()>>,
}

impl Rosters {
    /// The roster of exactly these settings; the same one for all workers. `slot` of the registry is the rosters' own.
    pub fn of(&self, app: &upstream::Settings, registry: &Arc<Registry>, slot: usize) -> Arc<Roster> {
        let mut all = self.0.lock();
        if let Some(known) = all.iter().find(|known| known.settings == *app) {
            return known.roster.clone();
        }
        let before = all.iter().find(|known| known.settings.name == app.name).map(|known| known.roster.clone());
        let roster = Roster::new(app, before.as_deref(), registry, slot);
        all.push(Tended { settings: app.clone(), roster: roster.clone(), tasks: None });
        roster
    }

    /// Looks after the upstreams of `settings` too, on the runtime of the caller.
    ///
    /// # Errors
    /// TLS is asked for and cannot be had.
    pub fn tend(&self, settings: &Settings, registry: &Arc<Registry>, slot: usize) -> io::Result<()> {
        for app in &settings.upstreams {
            let roster = self.of(app, registry, slot);
            let mut all = self.0.lock();
            let untended = all.iter_mut().find(|known| known.settings == *app && known.tasks.is_none());
            if let Some(untended) = untended {
                untended.tasks = Some(upstream::tend(app, &roster, registry, slot)?);
            }
        }
        Ok(())
    }

    /// Forgets all upstreams but those of `settings`: they are in force, or again alone in force.
    pub fn keep(&self, settings: &Settings) {
        let mut all = self.0.lock();
        let (kept, gone): (Vec<_>, Vec<_>) =
            all.drain(..).partition(|known| settings.upstreams.contains(&known.settings));
        *all = kept;
        for gone in gone {
            let after = all.iter().find(|kept| kept.settings.name == gone.settings.name);
            gone.roster.retire(after.map(|after| &*after.roster));
        }
    }
}
