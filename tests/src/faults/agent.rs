//! Publishers and subscribers on real sockets: one worker with one session to each target.

use std::{
    collections::VecDeque,
    sync::mpsc,
    time::{Duration, Instant},
};

use aip_codec::moqt::{
    error_code::PublishDoneCode,
    name::{FullTrackName, TrackNamespace},
};
use aip_engine::{
    io::{self, Config, Handle, Target},
    session::Session,
    transport::{Closed, SessionId},
};
use bytes::Bytes;

use super::sessions::Sessions;

/// The longest wait for anything that has no goal of its own.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// One group: a stream.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// Its number.
    pub id: u64,
    /// How many objects it has.
    pub objects: u64,
    /// How long each payload is.
    pub length: usize,
}

/// One object of a group that goes on.
#[derive(Clone, Copy, Debug)]
pub struct Object {
    /// Its group.
    pub group: u64,
    /// Its number; they have no gaps.
    pub number: u64,
    /// How long its payload is.
    pub length: usize,
    /// Whether it is the group's last.
    pub last: bool,
}

/// What a test tells an agent.
#[derive(Clone, Debug)]
pub enum Command {
    /// Subscribe to a track on every session.
    Subscribe(u64),
    /// Send these groups, in this order, to who has subscribed to the track.
    Publish(u64, Vec<Group>),
    /// Send one object more of a group, to who has subscribed to the track.
    Object(u64, Object),
    /// Say this on every session.
    Say(fn(&mut Session)),
}

/// What an agent tells a test.
#[derive(Clone, Debug)]
pub enum Told {
    /// A session is established.
    Established(SessionId),
    /// The relay has accepted our namespace.
    Announced(SessionId),
    /// The relay has subscribed to a track of ours.
    Subscriber(u64),
    /// Our subscription to a track was accepted.
    Accepted(SessionId, u64),
    /// Our subscription was refused or has ended.
    Ended(SessionId, Option<PublishDoneCode>),
    /// An object is here, whole.
    Object {
        /// On which session.
        session: SessionId,
        /// Of which track.
        track: u64,
        /// Its group.
        group: u64,
        /// Its number.
        object: u64,
        /// Whether its payload is what was sent.
        intact: bool,
    },
    /// A session is over.
    Closed(SessionId, Closed),
}

/// Whether an agent publishes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// It announces its namespace on every session.
    Publisher,
    /// It says nothing of its own.
    Subscriber,
}

/// A worker with its agent. Dropping it ends its sessions with a farewell.
#[derive(Debug)]
pub struct Agent {
    handle: Handle<Command>,
    told: mpsc::Receiver<Told>,
}

impl Agent {
    /// An agent with one session to each of `targets`, again and again.
    ///
    /// # Panics
    /// If there is no socket for it.
    pub fn new(role: Role, targets: Vec<Target>) -> Self {
        let (tell, told) = mpsc::channel();
        let config = Config::client(targets).with_drain_timeout(Duration::from_millis(100));
        let handle = io::spawn(config, move || Sessions::new(role, tell)).expect("a socket");
        Self { handle, told }
    }

    /// Tells it something.
    ///
    /// # Panics
    /// If it is no more.
    pub fn tell(&self, command: Command) {
        self.handle.mailbox().send(command).expect("the agent is there and reads its mail");
    }

    /// Waits until `wanted` says that it has heard enough; false if that takes longer than
    /// `patience`.
    pub fn listen(&self, patience: Duration, mut wanted: impl FnMut(Told) -> bool) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.told.recv_timeout(left) {
                Ok(told) => {
                    if wanted(told) {
                        return true;
                    }
                }
                Err(_) => return false,
            }
        }
    }

    /// Waits for `count` things that `wanted` knows.
    ///
    /// # Errors
    /// If they do not come.
    pub fn wait(
        &self,
        what: &str,
        count: usize,
        wanted: impl Fn(&Told) -> bool,
    ) -> std::io::Result<()> {
        let mut heard = 0;
        let mut last = VecDeque::new();
        let came = self.listen(PATIENCE, |told| {
            heard += usize::from(wanted(&told));
            last.push_back(told);
            if 8 < last.len() {
                last.pop_front();
            }
            heard == count
        });
        if came {
            return Ok(());
        }
        let what = format!("{heard} of {count} {what} in {PATIENCE:?}; last told: {last:?}");
        Err(std::io::Error::other(what))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.handle.shutdown();
        self.handle.wait(Duration::from_secs(5));
    }
}

/// The namespace that publishers announce.
pub(super) fn namespace() -> TrackNamespace {
    TrackNamespace::new(["faults"]).expect("a short namespace")
}

pub(super) fn name(track: u64) -> FullTrackName {
    FullTrackName::new(namespace(), Bytes::from(track.to_string())).expect("a short name")
}

pub(super) fn number(name: &FullTrackName) -> Option<u64> {
    std::str::from_utf8(name.name()).ok()?.parse().ok()
}

/// The payload of an object: every object has another.
pub(super) fn payload(track: u64, group: u64, object: u64, length: usize) -> Bytes {
    let mut random = crate::sim::random::Random::new(track << 48 ^ group << 16 ^ object);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend(random.next().to_be_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}
