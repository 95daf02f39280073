//! The commands.

pub mod demo;
pub mod health;
pub mod check;
pub mod init;
