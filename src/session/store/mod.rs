//! Where session records live: the app's Redis, or this process (the demo, and apps in the same process). And what is
//! remembered of those in Redis.

pub mod doubts;
pub mod ending;
pub mod grace;
pub mod known;
pub mod memory;
pub mod near;
pub mod redis;
pub mod remembered;
pub mod sightings;
