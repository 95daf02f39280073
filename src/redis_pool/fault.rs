//! What can go wrong between us and Redis, and what is done about each. Pure.
//!
//! | word | what happened | effect |
//! |---|---|---|
//! | `down` | not asked: the breaker is open | none: it is open already |
//! | `timeout` | no answer in time | counted: [`super::Breaker::failures`] in a row open the breaker, or cost one connection |
//! | `unreachable` | nobody listens there, no such name, no route | no connection |
//! | `tls` | the TLS handshake failed | no connection |
//! | `maxclients` | Redis has as many clients as it takes | no connection |
//! | `disconnected` | the connection was closed or reset, also in the midst of a reply, or of a pipeline one of whose replies was none | the connection goes |
//! | `protocol` | a reply that is none, to a single command | the connection goes: nobody knows where the next one begins |
//! | `auth` | `NOAUTH`, `WRONGPASS`, or any other answer to `AUTH` | the endpoint is unusable |
//! | `database` | any other answer to `SELECT`: no database has that number, or the user may not have it | the endpoint is unusable |
//! | `readonly` | a replica, or a master no longer | the endpoint is unusable |
//! | `masterdown` | a replica that has lost its master and says nothing instead | the endpoint is unusable |
//! | `loading` | it reads its data first | the endpoint is unusable |
//! | `busy` | a script runs and runs | the endpoint is unusable |
//! | `clusterdown` | the cluster has no majority | the endpoint is unusable |
//! | `uncovered` | nobody serves this slot of the cluster | the command failed |
//! | `moved`, `ask`, `tryagain` | the slot is elsewhere, or on its way | the command failed; a cluster sends it again |
//! | `nomaster` | no sentinel names a master of that name that says it is one | no connection |
//! | `noscript` | the script is not known | done again: it is loaded, and only what missed it is sent again |
//! | `oom` | no memory for writes | the command failed |
//! | `misconf` | writes are off, since they cannot be saved | the command failed |
//! | `noreplicas` | writes are off, since too few replicas would have them | the command failed |
//! | `noperm` | the user may not do this | the command failed |
//! | `wrongtype` | the key holds something else | the command failed |
//! | `refused` | any other error | the command failed |
//!
//! A command that failed is a value for the room that sent it; the other commands of its pipeline count.
//!
//! # Why
//! An endpoint that is unusable would say the same to whoever asks next: each would wait for a trip to hear it. A
//! command that failed says nothing about the next one: without memory Redis still reads.

/// What went wrong. See the front page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Fault {
    Down,
    Timeout,
    Unreachable,
    Tls,
    TooManyClients,
    Disconnected,
    Protocol,
    Auth,
    Database,
    ReadOnly,
    MasterDown,
    Loading,
    Busy,
    ClusterDown,
    Uncovered,
    Moved,
    Ask,
    TryAgain,
    NoMaster,
    NoScript,
    OutOfMemory,
    Misconfigured,
    NoReplicas,
    NoPermission,
    WrongType,
    Refused,
}

/// What is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// Counted: several in a row open the breaker.
    Counted,
    /// The connection goes, or does not come about.
    Lost,
    /// The breaker opens: all who wait go on at once.
    Unusable,
    /// Nothing: it is a value for who sent the command.
    Command,
    /// What failed is sent again, once.
    Again,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 26] = [
        Self::Down,
        Self::Timeout,
        Self::Unreachable,
        Self::Tls,
        Self::TooManyClients,
        Self::Disconnected,
        Self::Protocol,
        Self::Auth,
        Self::Database,
        Self::ReadOnly,
        Self::MasterDown,
        Self::Loading,
        Self::Busy,
        Self::ClusterDown,
        Self::Uncovered,
        Self::Moved,
        Self::Ask,
        Self::TryAgain,
        Self::NoMaster,
        Self::NoScript,
        Self::OutOfMemory,
        Self::Misconfigured,
        Self::NoReplicas,
        Self::NoPermission,
        Self::WrongType,
        Self::Refused,
    ];

    /// Of an error reply: its code (`READONLY`, `ERR` …) and what follows that.
    pub fn of_reply(code: &str, text: &str) -> Self {
        match code {
            "NOAUTH" | "WRONGPASS" => Self::Auth,
            "READONLY" => Self::ReadOnly,
            "MASTERDOWN" => Self::MasterDown,
            "LOADING" => Self::Loading,
            "BUSY" => Self::Busy,
            "CLUSTERDOWN" if text.starts_with("Hash slot not served") => Self::Uncovered,
            "CLUSTERDOWN" => Self::ClusterDown,
            "MOVED" => Self::Moved,
            "ASK" => Self::Ask,
            "TRYAGAIN" => Self::TryAgain,
            "NOSCRIPT" => Self::NoScript,
            "OOM" => Self::OutOfMemory,
            "MISCONF" => Self::Misconfigured,
            "NOREPLICAS" => Self::NoReplicas,
            "NOPERM" => Self::NoPermission,
            "WRONGTYPE" => Self::WrongType,
            "ERR" if text.starts_with("max number of clients") => Self::TooManyClients,
            _ => Self::Refused,
        }
    }

    /// The word for logs and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Tls => "tls",
            Self::TooManyClients => "maxclients",
            Self::Disconnected => "disconnected",
            Self::Protocol => "protocol",
            Self::Auth => "auth",
            Self::Database => "database",
            Self::ReadOnly => "readonly",
            Self::MasterDown => "masterdown",
            Self::Loading => "loading",
            Self::Busy => "busy",
            Self::ClusterDown => "clusterdown",
            Self::Uncovered => "uncovered",
            Self::Moved => "moved",
            Self::Ask => "ask",
            Self::TryAgain => "tryagain",
            Self::NoMaster => "nomaster",
            Self::NoScript => "noscript",
            Self::OutOfMemory => "oom",
            Self::Misconfigured => "misconf",
            Self::NoReplicas => "noreplicas",
            Self::NoPermission => "noperm",
            Self::WrongType => "wrongtype",
            Self::Refused => "refused",
        }
    }

    /// What is done about it.
    pub fn effect(self) -> Effect {
        match self {
            Self::Down => Effect::None,
            Self::Timeout => Effect::Counted,
            Self::Unreachable
            | Self::Tls
            | Self::TooManyClients
            | Self::NoMaster
            | Self::Disconnected
            | Self::Protocol => Effect::Lost,
            Self::Auth
            | Self::Database
            | Self::ReadOnly
            | Self::MasterDown
            | Self::Loading
            | Self::Busy
            | Self::ClusterDown => Effect::Unusable,
            Self::NoScript => Effect::Again,
            Self::Uncovered
            | Self::Moved
            | Self::Ask
            | Self::TryAgain
            | Self::OutOfMemory
            | Self::Misconfigured
            | Self::NoReplicas
            | Self::NoPermission
            | Self::WrongType
            | Self::Refused => Effect::Command,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_reply_has_its_fault_and_its_effect() {
        // As Redis 7.0.15 spells them.
        for (reply, word, effect) in [
            ("NOAUTH Authentication required.", "auth", Effect::Unusable),
            ("WRONGPASS invalid username-password pair or user is disabled.", "auth", Effect::Unusable),
            ("READONLY You can't write against a read only replica.", "readonly", Effect::Unusable),
            ("MASTERDOWN Link with MASTER is down", "masterdown", Effect::Unusable),
            ("LOADING Redis is loading the dataset in memory", "loading", Effect::Unusable),
            ("BUSY Redis is busy running a script.", "busy", Effect::Unusable),
            ("CLUSTERDOWN The cluster is down", "clusterdown", Effect::Unusable),
            ("CLUSTERDOWN Hash slot not served", "uncovered", Effect::Command),
            ("MOVED 3999 127.0.0.1:6381", "moved", Effect::Command),
            ("ASK 3999 127.0.0.1:6381", "ask", Effect::Command),
            ("TRYAGAIN Multiple keys request during rehashing of slot", "tryagain", Effect::Command),
            ("NOSCRIPT No matching script.", "noscript", Effect::Again),
            ("OOM command not allowed when used memory > 'maxmemory'.", "oom", Effect::Command),
            ("MISCONF Redis is configured to save RDB snapshots", "misconf", Effect::Command),
            ("NOREPLICAS Not enough good replicas to write.", "noreplicas", Effect::Command),
            ("NOPERM User u has no permissions to run the 'get' command", "noperm", Effect::Command),
            ("WRONGTYPE Operation against a key holding the wrong kind of value", "wrongtype", Effect::Command),
            ("ERR max number of clients reached", "maxclients", Effect::Lost),
            ("ERR syntax error", "refused", Effect::Command),
            ("SOMETHING new", "refused", Effect::Command),
        ] {
            let (code, text) = reply.split_once(' ').unwrap();
            let fault = Fault::of_reply(code, text);
            assert_eq!((fault.word(), fault.effect()), (word, effect), "{reply}");
        }
    }

    #[test]
    fn each_fault_has_a_word_of_its_own_and_stands_in_the_table() {
        let page = include_str!("fault.rs");
        let words: HashSet<&str> = Fault::ALL.iter().map(|fault| fault.word()).collect();
        assert_eq!(words.len(), Fault::ALL.len());
        for (index, fault) in Fault::ALL.into_iter().enumerate() {
            assert_eq!(fault as usize, index);
            let row = page.lines().take_while(|line| line.starts_with("//!"));
            assert!(row.filter(|line| line.contains(&format!("`{}`", fault.word()))).count() == 1, "{}", fault.word());
        }
    }

    #[test]
    fn readme_says_once_what_is_done_about_each() {
        let (_, section) = include_str!("../../README.md").split_once("### When it goes wrong").unwrap();
        let table: Vec<_> = section.lines().skip_while(|line| !line.starts_with("| kind |")).collect();
        let kinds = table.iter().take_while(|line| line.starts_with('|')).filter_map(|row| row.split('|').nth(1));
        let mut said: Vec<_> = kinds.flat_map(|kinds| kinds.split('`').skip(1).step_by(2)).collect();
        said.sort_unstable();
        let mut words = Fault::ALL.map(Fault::word);
        words.sort_unstable();
        assert_eq!(said, words);
    }
}
