//! Takes back places that are known, and those that have to be sought.
//!
//! 1. Hard: the generation is deleted. Soft: its soft token is written over; where there was none to write over, what
//!    came of it is deleted again, and lives for [`OPEN`] at most. It has no hard token, so nobody goes by it meanwhile.
//! 2. Redis is told in batches of [`BATCH`]; near tiers that it does not tell itself are told by publishing.
//! 3. Whoever seeks places does so by `SCAN`, on each master: each generation that stands from the beginning of a purge to
//!    its end is met, and of what was fetched before it began the generation stands.

use redis::{Pipeline, Value};

use super::{BATCH, OPEN, RedisStore};
use crate::cache::store::Generation;
use crate::cache::store::names::Names;
use crate::cache::store::purge::{Softness, Target};
use crate::redis_pool::near::{Tier as _, channel};

impl RedisStore {
    /// Takes back everything at these places. This process forgets them at once, also if Redis could not be told.
    ///
    /// # Errors
    /// A word that says why Redis could not be told; it may have been done all the same.
    pub async fn invalidate(&self, places: impl Iterator<Item = &str>) -> Result<(), &'static str> {
        let places = places.map(|place| Names::of(&self.prefix, place)).collect::<Vec<_>>();
        let mut told = Ok(0);
        for batch in places.chunks(BATCH) {
            told = self.take_back(batch, Softness::Hard, 0).await;
            if told.is_err() {
                break;
            }
        }
        // After Redis: what is asked from now on is answered by what stands there now.
        places.iter().for_each(|names| self.forget(names));
        told.map(drop)
    }

    /// Takes back what `target` covers, at `now` (in seconds since the Unix epoch); says how many places it met.
    ///
    /// # Errors
    /// A word that says why Redis could not be told of all; of some it may have been.
    pub async fn purge(&self, target: &Target, softness: Softness, now: u64) -> Result<u64, &'static str> {
        if let Target::Tag(tag) = target {
            return self.purge_tags(std::slice::from_ref(tag), softness, now).await;
        }
        match target.place() {
            Some(place) => {
                let names = [Names::of(&self.prefix, &place)];
                let met = self.take_back(&names, softness, now).await;
                names.iter().for_each(|names| self.forget(names));
                met
            }
            None => {
                let met = self.walk(target, softness, now).await;
                if *target == Target::All
                    && let Some((near, _)) = &self.near
                {
                    near.empty();
                }
                met
            }
        }
    }

    /// Takes back at most [`BATCH`] places; says how many had a generation. Once again if the connection breaks: that is no
    /// outage yet, and to take back twice does no harm.
    pub(super) async fn take_back(&self, places: &[Names], softness: Softness, now: u64) -> Result<u64, &'static str> {
        let generations: Vec<_> = places.iter().map(Names::generation).collect();
        let told = self.tell(&generations, softness, now).await;
        if told == Err("disconnected") && self.returns().await {
            return self.tell(&generations, softness, now).await;
        }
        told
    }

    async fn tell(&self, generations: &[String], softness: Softness, now: u64) -> Result<u64, &'static str> {
        match softness {
            Softness::Hard => self.delete(generations).await,
            Softness::Soft => self.soften(generations, now).await,
        }
    }

    async fn delete(&self, generations: &[String]) -> Result<u64, &'static str> {
        let mut pipeline = Pipeline::with_capacity(generations.len());
        for generation in generations {
            pipeline.cmd("DEL").arg(generation);
        }
        self.announce(generations, &mut pipeline);
        let answers = self.link.query(&pipeline).await?;
        // Who may not publish has deleted all the same.
        let deleted = answers.iter().take(generations.len()).map(number);
        deleted.sum::<Option<u64>>().ok_or("refused")
    }

    async fn soften(&self, generations: &[String], now: u64) -> Result<u64, &'static str> {
        let soft = self.mint.soft(now).to_be_bytes();
        let mut pipeline = Pipeline::with_capacity(3 * generations.len());
        for generation in generations {
            pipeline.cmd("SETRANGE").arg(generation).arg(Generation::SOFT_AT).arg(&soft);
            pipeline.cmd("PEXPIRE").arg(generation).arg(OPEN.as_millis() as u64).arg("NX");
            pipeline.cmd("GET").arg(generation);
        }
        self.announce(generations, &mut pipeline);
        let answers = self.link.query(&pipeline).await?;
        let mut none = Vec::new();
        for (generation, said) in generations.iter().zip(answers.chunks_exact(3)) {
            match said {
                [Value::Int(_), Value::Int(_), Value::BulkString(value)] if Generation::of_value(value).is_none() => {
                    none.push(generation.clone());
                }
                // Whatever stands there now: it was softened, or has come since.
                [Value::Int(_), Value::Int(_), Value::BulkString(_) | Value::Nil] => {}
                _ => return Err("refused"),
            }
        }
        if !none.is_empty() {
            self.delete(&none).await?;
        }
        Ok((generations.len() - none.len()) as u64)
    }

    /// Tells near tiers that Redis does not tell itself.
    fn announce(&self, generations: &[String], pipeline: &mut Pipeline) {
        if self.near.as_ref().is_some_and(|(near, _)| near.announces()) {
            let channel = channel(&self.prefix);
            for generation in generations {
                pipeline.cmd("PUBLISH").arg(&channel).arg(generation);
            }
        }
    }

    pub(super) fn forget(&self, names: &Names) {
        if let Some((near, _)) = &self.near {
            near.forget(names);
        }
    }
}

fn number(answer: &Value) -> Option<u64> {
    match answer {
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}
