//! cli

pub mod health;
pub mod check;
pub mod init;
