//! The configuration file: text → raw → validated → [`settings::Settings`].

pub mod settings;
