//! The command line. Exit codes: 0 well, 1 failed, 2 usage or configuration.

<<<<<<< HEAD
mod arguments;
=======
>>>>>>> heads/config
pub mod check;
pub mod demo;
pub mod health;
pub mod init;

pub use arguments::run;
