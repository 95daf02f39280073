//! cli

pub mod health;
