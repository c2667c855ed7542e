//! The sessions that there are, by their unguessable names.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use crate::{
    message::Message,
    offer::{Offer, Session},
    random::unguessable,
    resumable::{Reader, Resumable},
    revision::Revision,
};

/// Messages that may wait for a session's stream; more are dropped.
const WAITING_MAX: usize = 1_024;
/// Streams of requests that a session keeps for its agent; one more is not kept.
const STREAMS_MAX: usize = 1_000;
/// How long an agent may stay away from a request's stream before the request is given up.
const ABSENCE: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    sessions: Mutex<BTreeMap<String, Arc<Held>>>,
}

/// A session and its streams.
#[derive(Debug)]
pub(super) struct Held {
    session: Session,
    used: Mutex<Instant>,
    /// What belongs to no request.
    standing: Arc<Resumable>,
    streams: Mutex<Streams>,
    ended: watch::Sender<bool>,
}

/// Streams of requests, by their numbers.
#[derive(Debug, Default)]
struct Streams {
    last: u64,
    kept: BTreeMap<u64, Arc<Resumable>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a thread that panicked left behind is whole: nothing panics between two changes.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sessions {
    /// A new session and its name; `None` if there are `sessions_max`, or no name can be had.
    pub(super) fn begin(&self, offer: &Offer, sessions_max: usize) -> Option<(String, Arc<Held>)> {
        let name = unguessable()?;
        let mut sessions = locked(&self.sessions);
        if sessions_max <= sessions.len() {
            return None;
        }
        let (unsolicited, mut waiting) = mpsc::channel(WAITING_MAX);
        let held = Arc::new(Held {
            session: offer.session(unsolicited),
            used: Mutex::new(Instant::now()),
            standing: Resumable::new(),
            streams: Mutex::default(),
            ended: watch::Sender::new(false),
        });
        let (standing, mut ended) = (Arc::clone(&held.standing), held.ended());
        tokio::spawn(async move {
            tokio::select! {
                () = standing.keep(&mut waiting) => {}
                // The sender is gone: so is the session.
                _ = ended.wait_for(|ended| *ended) => {}
            }
        });
        sessions.insert(name.clone(), Arc::clone(&held));
        Some((name, held))
    }

    /// The session of this name, which is used now.
    pub(super) fn find(&self, name: &str) -> Option<Arc<Held>> {
        let held = locked(&self.sessions).get(name).cloned()?;
        *locked(&held.used) = Instant::now();
        Some(held)
    }

    /// Ends a session. Whether there was one.
    pub(super) fn end(&self, name: &str) -> bool {
        let held = locked(&self.sessions).remove(name);
        held.inspect(|held| _ = held.ended.send_replace(true)).is_some()
    }

    /// Ends every session.
    pub(super) fn end_all(&self) {
        for held in std::mem::take(&mut *locked(&self.sessions)).into_values() {
            held.ended.send_replace(true);
        }
    }

    /// Ends sessions that nothing has used for `idle`. Requests and streams under way use them.
    pub(super) fn sweep(&self, idle: Duration) {
        locked(&self.sessions)
            .retain(|_, held| Arc::strong_count(held) != 1 || locked(&held.used).elapsed() < idle);
    }
}

impl Held {
    pub(super) const fn session(&self) -> &Session {
        &self.session
    }

    /// Told when the session ends.
    pub(super) fn ended(&self) -> watch::Receiver<bool> {
        self.ended.subscribe()
    }

    /// The session's own stream; `None` if it is open already.
    pub(super) fn take_stream(self: &Arc<Self>) -> Option<Stream> {
        let reader = if self.standing.is_read() { None } else { self.standing.read(None) }?;
        Some(self.stream(0, reader))
    }

    /// The stream that an event was the last one read of, behind that event; `None` if it is kept
    /// no more.
    pub(super) fn resume(self: &Arc<Self>, event: &str) -> Option<Stream> {
        let (number, message) = parse_id(event)?;
        let stream = match number {
            0 => Arc::clone(&self.standing),
            _ => locked(&self.streams).kept.get(&number).cloned()?,
        };
        Some(self.stream(number, stream.read(Some(message))?))
    }

    /// A stream for a request; `None` if too many are kept.
    pub(super) fn open_stream(&self) -> Option<(u64, Arc<Resumable>)> {
        let mut streams = locked(&self.streams);
        if STREAMS_MAX <= streams.kept.len() {
            return None;
        }
        streams.last += 1;
        let (number, stream) = (streams.last, Resumable::new());
        streams.kept.insert(number, Arc::clone(&stream));
        Some((number, stream))
    }

    /// Keeps a request's stream for its agent until the agent stays away or the session ends.
    /// `working` is given up with it.
    pub(super) async fn attend(
        self: Arc<Self>,
        (number, stream): (u64, Arc<Resumable>),
        mut messages: mpsc::Receiver<Message>,
        working: impl Send,
    ) {
        let mut ended = self.ended();
        tokio::select! {
            () = async {
                stream.keep(&mut messages).await;
                // Its answer may have to be read again.
                std::future::pending::<()>().await;
            } => {}
            () = stream.abandoned(ABSENCE) => {}
            // The sender is gone: so is the session.
            _ = ended.wait_for(|ended| *ended) => {}
        }
        stream.end();
        locked(&self.streams).kept.remove(&number);
        drop(working);
    }

    /// What a response reads from.
    pub(super) fn stream(self: &Arc<Self>, number: u64, reader: Reader) -> Stream {
        Stream { held: Arc::clone(self), number, reader, ended: self.ended() }
    }
}

/// A stream of a session that is being read.
#[derive(Debug)]
pub(super) struct Stream {
    held: Arc<Held>,
    number: u64,
    reader: Reader,
    ended: watch::Receiver<bool>,
}

impl Stream {
    /// The next message and its event's id; `None` at the stream's or session's end.
    pub(super) async fn next(&mut self) -> Option<(String, Message)> {
        tokio::select! {
            message = self.reader.next() => {
                let (message_number, message) = message?;
                Some((format!("{}-{message_number}", self.number), message))
            }
            _ = self.ended.wait_for(|ended| *ended) => None,
        }
    }

    /// The id that says where the stream begins; `None` if the session's revision knows no such
    /// event.
    pub(super) fn first_id(&self) -> Option<String> {
        let resumes = self.held.session.revision()? >= Revision::V2025_11_25;
        resumes.then(|| format!("{}-{}", self.number, self.reader.after()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        *locked(&self.held.used) = Instant::now();
    }
}

/// The stream and the message that an event's id names.
fn parse_id(id: &str) -> Option<(u64, u64)> {
    let (stream, message) = id.split_once('-')?;
    Some((stream.parse().ok()?, message.parse().ok()?))
}
