//! The real binary, started on a configuration in a directory of its own.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use serde_json::Value;

use super::{Client, Origin, RedisServer, until};

/// What stands in the configuration file: what tests need everywhere, and what this one adds.
#[derive(Clone, Debug)]
pub struct Configuration {
    listen: Vec<String>,
    server: String,
    redis: Option<String>,
    redis_lines: String,
    app: String,
    upstream: String,
    rest: String,
}

impl Configuration {
    /// In front of this app, with nothing else.
    pub fn of(app: &Origin) -> Self {
        Self::to(&app.url())
    }

    /// In front of several endpoints of an app: `[{origin}, …]` as TOML has it.
    pub fn across(servers: &str) -> Self {
        Self { app: servers.to_owned(), ..Self::to("") }
    }

    /// In front of the app at this URL, with nothing else.
    pub fn to(url: &str) -> Self {
        Self {
            listen: vec!["127.0.0.1:0".into()],
            server: String::new(),
            redis: None,
            // A test machine may be busy: Redis gets a second here, not the 50 ms of production.
            redis_lines: "timeout = \"1s\"".into(),
            app: format!("[{url:?}]"),
            upstream: String::new(),
            rest: String::new(),
        }
    }

    /// Also listens here.
    pub fn listen(mut self, address: &str) -> Self {
        self.listen.push(address.to_owned());
        self
    }

    /// Lines of `[server]`.
    pub fn server(mut self, lines: &str) -> Self {
        self.server += lines;
        self.server += "\n";
        self
    }

    /// Lines of `[upstream.app]`.
    pub fn upstream(mut self, lines: &str) -> Self {
        self.upstream += lines;
        self.upstream += "\n";
        self
    }

    /// Stores in this Redis.
    pub fn redis(self, redis: &RedisServer) -> Self {
        self.redis_at(&redis.url())
    }

    /// Stores in the Redis at this URL.
    pub fn redis_at(mut self, url: &str) -> Self {
        self.redis = Some(url.to_owned());
        self
    }

    /// Lines of `[redis]`, the time-out (else 1 s) among them.
    pub fn redis_lines(mut self, lines: &str) -> Self {
        self.redis_lines = lines.to_owned();
        self
    }

    /// Tables of its own: limits, caches, sessions, routes.
    pub fn with(mut self, tables: &str) -> Self {
        self.rest += tables;
        self.rest += "\n";
        self
    }

    /// The file.
    pub fn text(&self) -> String {
        let Self { listen, server, app, upstream, rest, redis_lines, .. } = self;
        let redis = self.redis.as_ref().map_or(String::new(), |url| format!("[redis]\nurl = {url:?}\n{redis_lines}\n"));
        format!(
            "[server]\nlisten = {listen:?}\n{server}\n[admin]\nlisten = \"127.0.0.1:0\"\n\n[log]\nformat = \"json\"\n\n\
             {redis}\n[upstream.app]\nservers = {app}\n{upstream}\n{rest}"
        )
    }

    /// Starts it, and waits until each worker has its Redis, if there is one and it answers: which request is the
    /// first to be counted there is no business of most tests.
    pub fn start(&self) -> Sidegate {
        let sidegate = Sidegate::start(&self.text());
        let place = self.redis.as_deref().and_then(|url| url.strip_prefix("redis://")?.split('/').next());
        if place.is_some_and(|place| TcpStream::connect(place).is_ok()) {
            let workers = &sidegate.logged("ready")[0]["workers"];
            let connected = || sidegate.ask_admin("/readyz").json()["redis"]["workers_up"] == *workers;
            until("each worker connected to Redis", connected);
        }
        sidegate
    }
}

/// A directory that goes away with its owner.
pub struct Directory(PathBuf);

impl Directory {
    /// A new one.
    pub fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("sidegate-test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::SeqCst));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a temporary directory");
        Self(path)
    }

    /// A path in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Lines that a process has printed so far.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn collect(from: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let kept = lines.clone();
        thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                kept.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        lines
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A running sidegate. Killed when dropped; tells what it said if the test fails.
pub struct Sidegate {
    child: Child,
    directory: Directory,
    errors: Lines,
    output: Lines,
    addresses: Vec<String>,
    admin: String,
}

impl Sidegate {
    /// Starts `sidegate run --config FILE` and waits until it is ready.
    pub fn start(config: &str) -> Self {
        Self::start_by(config, command())
    }

    /// The same by another command, which is given these arguments: in a surrounding of its own.
    pub fn start_by(config: &str, mut command: Command) -> Self {
        let directory = Directory::new();
        let file = directory.file("sidegate.toml");
        fs::write(&file, config).expect("the configuration can be written");
        let arguments = ["run".as_ref(), "--config".as_ref(), file.as_os_str()];
        let mut sidegate = Self::spawn(directory, command.args(arguments));
        sidegate.wait_for_log("ready");
        sidegate.addresses = sidegate.logged("listening").iter().map(address_of).collect();
        sidegate.admin = sidegate.logged("admin listening").last().map(address_of).unwrap_or_default();
        assert!(!sidegate.addresses.is_empty(), "no \"listening\" line before \"ready\"");
        sidegate
    }

    /// Starts any of its commands, and waits for nothing.
    pub fn spawn(directory: Directory, command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the sidegate binary starts");
        let errors = Lines::collect(child.stderr.take().expect("standard error"));
        let output = Lines::collect(child.stdout.take().expect("standard output"));
        Self { child, directory, errors, output, addresses: Vec::new(), admin: String::new() }
    }

    /// Its first address: `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.addresses[0]
    }

    /// All its addresses, in the order it said them.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Its admin listener.
    pub fn admin(&self) -> &str {
        &self.admin
    }

    /// A new connection to it.
    pub fn client(&self) -> Client {
        Client::to(self.address())
    }

    /// GET over a connection of its own.
    pub fn get(&self, target: &str) -> super::Answer {
        self.client().get(target)
    }

    /// The process.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process id")
    }

    /// Its configuration file.
    pub fn file(&self) -> PathBuf {
        self.directory.file("sidegate.toml")
    }

    /// What it printed to standard error so far.
    pub fn errors(&self) -> String {
        self.errors.all().join("\n")
    }

    /// What it printed to standard output so far.
    pub fn output(&self) -> String {
        self.output.all().join("\n")
    }

    /// Log lines whose message begins so.
    pub fn logged(&self, message: &str) -> Vec<Value> {
        let says = |line: &Value| line["message"].as_str().is_some_and(|said| said.starts_with(message));
        json(&self.errors).into_iter().filter(says).collect()
    }

    /// Waits for a log line with this message; returns the last of them.
    pub fn wait_for_log(&mut self, message: &str) -> Value {
        let mut found = None;
        until(&format!("log line {message:?}"), || {
            found = self.logged(message).pop();
            let gone = self.child.try_wait().ok().flatten();
            assert!(found.is_some() || gone.is_none(), "sidegate ended ({gone:?}) before it said {message:?}");
            found.is_some()
        });
        found.unwrap_or_default()
    }

    /// Waits for an access-log line that `fits`, and returns it.
    pub fn access_log(&self, fits: impl Fn(&Value) -> bool) -> Value {
        let mut found = None;
        until("an access-log line that fits", || {
            found = json(&self.output).into_iter().find(|line| fits(line));
            found.is_some()
        });
        found.unwrap_or_default()
    }

    /// Writes the file anew, sends SIGHUP and waits until a reload has gone well.
    pub fn reload(&mut self, config: &str) {
        let before = self.logged("reloaded").len();
        self.write(config);
        self.signal(libc::SIGHUP);
        until("\"reloaded\" in the log", || self.logged("reloaded").len() > before);
    }

    /// Writes the file anew, sends SIGHUP and waits until a reload has failed; returns what the log says.
    pub fn reload_in_vain(&mut self, config: &str) -> String {
        let before = self.logged("reload failed").len();
        self.write(config);
        self.signal(libc::SIGHUP);
        until("\"reload failed\" in the log", || self.logged("reload failed").len() > before);
        self.logged("reload failed").pop().unwrap_or_default().to_string()
    }

    /// Writes the file anew, as an editor would: at once.
    pub fn write(&self, config: &str) {
        let beside = self.directory.file("sidegate.toml.new");
        fs::write(&beside, config).expect("the configuration can be written");
        fs::rename(&beside, self.file()).expect("the configuration can be replaced");
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        super::signal(self.pid(), signal);
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        until("the end of sidegate", || {
            status = self.child.try_wait().expect("a child to wait for");
            status.is_some()
        });
        status.expect("an exit status")
    }

    /// SIGTERM, and waits for its end.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(libc::SIGTERM);
        self.wait()
    }

    /// Resident memory, in bytes.
    pub fn rss(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the state of the process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).expect("KiB") * 1024
    }

    /// GET on the admin listener.
    pub fn ask_admin(&self, target: &str) -> super::Answer {
        Client::to(&self.admin).get_with(target, &[("Host", &self.admin)])
    }

    /// A metric by its whole name with labels, as `/metrics` shows it; 0 if it is not there.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.ask_admin("/metrics").text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap_or_else(|_| panic!("{name} {value} is no number")))
    }
}

impl Drop for Sidegate {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("---- sidegate said:\n{}\n---- its output:\n{}\n----", self.errors(), tail(&self.output()));
        }
    }
}

/// The binary, in an environment that says nothing to it.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sidegate"));
    command.env_remove("REDIS_URL").env_remove("RUST_LOG");
    command
}

/// Runs a command that ends by itself: exit code, standard output, standard error.
pub fn run(arguments: &[&str], directory: &Path) -> (i32, String, String) {
    let done = command().args(arguments).current_dir(directory).output().expect("the sidegate binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (done.status.code().unwrap_or(-1), text(done.stdout), text(done.stderr))
}

fn json(lines: &Lines) -> Vec<Value> {
    lines.all().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn address_of(line: &Value) -> String {
    line["address"].as_str().expect("an address in the log line").to_owned()
}

fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
