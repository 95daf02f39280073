//! One connection through a relay: two threads read, two write.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::frames::Frames;
use super::record::Command;
use super::{Mode, Shared, locked};

/// Pieces on their way in one direction.
const ON_THE_WAY: usize = 4096;
const GARBAGE: &[u8] = b"\x00\xfe garbage \r\n\r\n\x01";

pub(super) struct Connection {
    number: usize,
    client: TcpStream,
    server: TcpStream,
    state: Mutex<State>,
    /// Something of it was swallowed: nothing passes any more.
    dead: AtomicBool,
    reset: AtomicBool,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct State {
    /// What the client waits for, in order.
    expected: VecDeque<Expected>,
    /// Answers cannot be told from messages any more.
    subscribed: bool,
    /// Not RESP, or not any more.
    opaque: bool,
}

/// An answer.
enum Expected {
    /// From the server.
    Servers,
    /// From the relay.
    Made(Vec<u8>),
}

/// Bytes to be written once their time has come; `None`: the end.
type Piece = (Instant, Option<Vec<u8>>);

/// One direction.
struct Way<'a> {
    queue: SyncSender<Piece>,
    shared: &'a Shared,
    direction: usize,
}

impl Way<'_> {
    fn send(&self, bytes: Option<Vec<u8>>) {
        let delay = self.shared.delays[self.direction].load(Ordering::SeqCst);
        // Nobody takes it any more: the connection is ending.
        let _ = self.queue.send((Instant::now() + Duration::from_micros(delay), bytes));
    }
}

impl Connection {
    /// Carries on until one side ends it.
    pub(super) fn open(number: usize, client: TcpStream, shared: &Arc<Shared>) {
        let target = *locked(&shared.target);
        let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else {
            // As near to a refusal as can be: a reset.
            let _ = socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO));
            return;
        };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (state, dead, reset) = (Mutex::default(), AtomicBool::new(false), AtomicBool::new(false));
        let shared = shared.clone();
        let connection = Arc::new(Self { number, client, server, state, dead, reset, shared });
        locked(&connection.shared.open).insert(number, connection.clone());

        let (to_server, for_server) = sync_channel(ON_THE_WAY);
        let (to_client, for_client) = sync_channel(ON_THE_WAY);
        let (one, back) = (connection.clone(), to_client.clone());
        thread::spawn(move || one.write(&one.server, &for_server));
        let one = connection.clone();
        thread::spawn(move || one.write(&one.client, &for_client));
        let one = connection.clone();
        thread::spawn(move || one.carry_replies(to_client));
        thread::spawn(move || connection.carry_commands(to_server, back));
    }

    /// Ends it with RST: once the last thread has let go of it.
    pub(super) fn reset(&self) {
        self.reset.store(true, Ordering::SeqCst);
        let _ = socket2::SockRef::from(&self.client).set_linger(Some(Duration::ZERO));
        // Wakes who reads; of this, nothing is seen outside.
        let _ = self.client.shutdown(Shutdown::Read);
        let _ = self.server.shutdown(Shutdown::Both);
    }

    fn carry_commands(&self, to_server: SyncSender<Piece>, to_client: SyncSender<Piece>) {
        let server = Way { queue: to_server, shared: &self.shared, direction: 0 };
        let client = Way { queue: to_client, shared: &self.shared, direction: 1 };
        let (mut frames, mut chunk) = (Frames::default(), [0; 16 * 1024]);
        while let Ok(length @ 1..) = (&self.client).read(&mut chunk) {
            if self.reset.load(Ordering::SeqCst) {
                break;
            }
            frames.push(&chunk[..length]);
            let commands = if locked(&self.state).opaque { Ok(Vec::new()) } else { frames.whole() };
            match commands {
                Ok(commands) => self.take(&commands, &server, &client),
                Err(_) => locked(&self.state).opaque = true,
            }
            if locked(&self.state).opaque {
                let rest = frames.rest();
                if !rest.is_empty() && !self.swallows() {
                    server.send(Some(rest));
                }
            }
        }
        server.send(None);
        locked(&self.shared.open).remove(&self.number);
    }

    fn take(&self, frames: &[Vec<u8>], server: &Way<'_>, client: &Way<'_>) {
        if frames.is_empty() {
            return;
        }
        let commands: Vec<_> = frames.iter().map(|frame| Command::read(frame)).collect();
        let mut state = locked(&self.state);
        if !state.subscribed {
            let new = state.expected.is_empty();
            locked(&self.shared.record).add(self.number, new, commands.iter().cloned());
        }
        let mut passing = Vec::new();
        let mut slow = Vec::new();
        for (frame, command) in frames.iter().zip(&commands) {
            match command.name().as_str() {
                "SUBSCRIBE" | "PSUBSCRIBE" | "SSUBSCRIBE" => state.subscribed = true,
                "PSYNC" | "SYNC" | "MONITOR" => state.opaque = true,
                _ => {}
            }
            let made = match self.mode_for(command) {
                Mode::Fail { line, .. } => format!("{line}\r\n").into_bytes(),
                Mode::Garbage => GARBAGE.to_vec(),
                Mode::Freeze => {
                    self.dead.store(true, Ordering::SeqCst);
                    continue;
                }
                mode => {
                    if !state.subscribed {
                        state.expected.push_back(Expected::Servers);
                    }
                    match mode {
                        Mode::Slow(time) => slow.push((time, frame.clone())),
                        _ => passing.extend_from_slice(frame),
                    }
                    continue;
                }
            };
            if state.expected.is_empty() {
                client.send(Some(made))
            } else {
                state.expected.push_back(Expected::Made(made))
            }
        }
        drop(state);
        if !passing.is_empty() {
            server.send(Some(passing));
        }
        for (time, frame) in slow {
            thread::sleep(time);
            server.send(Some(frame));
        }
    }

    /// What is done to this command.
    fn mode_for(&self, command: &Command) -> Mode {
        if self.dead.load(Ordering::SeqCst) {
            return Mode::Freeze;
        }
        let mut mode = locked(&self.shared.mode);
        match &mut *mode {
            Mode::Fail { only, times, .. } => {
                let meant = only.is_empty() || only.iter().any(|begin| command.begins(begin));
                if !meant || *times == 0 {
                    return Mode::Pass;
                }
                *times -= 1;
                mode.clone()
            }
            other => other.clone(),
        }
    }

    /// Whether what comes now is swallowed.
    fn swallows(&self) -> bool {
        if *locked(&self.shared.mode) == Mode::Freeze {
            self.dead.store(true, Ordering::SeqCst);
        }
        self.dead.load(Ordering::SeqCst)
    }

    fn carry_replies(&self, to_client: SyncSender<Piece>) {
        let client = Way { queue: to_client, shared: &self.shared, direction: 1 };
        let (mut frames, mut chunk) = (Frames::default(), [0; 64 * 1024]);
        while let Ok(length @ 1..) = (&self.server).read(&mut chunk) {
            if self.swallows() {
                continue;
            }
            frames.push(&chunk[..length]);
            let opaque = locked(&self.state).opaque;
            let replies = if opaque { vec![frames.rest()] } else { frames.whole().unwrap_or_default() };
            for reply in replies {
                if !self.pass(reply, opaque, &client) {
                    return;
                }
            }
        }
        // The other end of a dead connection says nothing, its end included.
        if !self.swallows() {
            client.send(None);
        }
    }

    /// Passes a reply on; `false` if that was the end.
    fn pass(&self, mut reply: Vec<u8>, opaque: bool, client: &Way<'_>) -> bool {
        let mode = locked(&self.shared.mode).clone();
        if let Mode::Cut(most) = mode
            && reply.len() > most
        {
            reply.truncate(most);
            client.send(Some(reply));
            client.send(None);
            return false;
        }
        let mut state = locked(&self.state);
        let answers = !opaque && !state.subscribed && reply.first() != Some(&b'>');
        client.send(Some(reply));
        if answers {
            state.expected.pop_front();
            while let Some(Expected::Made(_)) = state.expected.front() {
                if let Some(Expected::Made(made)) = state.expected.pop_front() {
                    client.send(Some(made));
                }
            }
        }
        true
    }

    fn write(&self, mut stream: &TcpStream, pieces: &Receiver<Piece>) {
        for (due, bytes) in pieces {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let Some(bytes) = bytes else { break };
            if stream.write_all(&bytes).is_err() {
                break;
            }
        }
        if !self.reset.load(Ordering::SeqCst) {
            // Of either side: the threads that read end too.
            let _ = self.client.shutdown(Shutdown::Both);
            let _ = self.server.shutdown(Shutdown::Both);
        }
    }
}
