//! Where session records live: the app's Redis, or this process (the demo, and apps in the same process).

pub mod memory;
pub mod redis;
