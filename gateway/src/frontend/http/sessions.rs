//! The sessions that there are, by their unguessable names.

use std::{
    collections::BTreeMap,
    io::Read as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use crate::{
    connect::{Connector, session::Session},
    message::Message,
};

/// Messages that may wait for a session's stream; more are dropped.
const WAITING_MAX: usize = 1_024;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    sessions: Mutex<BTreeMap<String, Arc<Held>>>,
}

/// A session, and what waits for its stream.
#[derive(Debug)]
pub(super) struct Held {
    session: Arc<Session>,
    used: Mutex<Instant>,
    /// Here while no stream is open.
    waiting: Mutex<Option<mpsc::Receiver<Message>>>,
    ended: watch::Sender<bool>,
}

/// The stream of a session; when dropped, another can be opened.
#[derive(Debug)]
pub(super) struct Stream {
    held: Arc<Held>,
    messages: Option<mpsc::Receiver<Message>>,
    ended: watch::Receiver<bool>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a thread that panicked left behind is whole: nothing panics between two changes.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sessions {
    /// A new session and its name; `None` if there are `sessions_max`, or no name can be had.
    pub(super) fn begin(
        &self,
        connector: &Arc<Connector>,
        sessions_max: usize,
    ) -> Option<(String, Arc<Held>)> {
        let name = unguessable()?;
        let mut sessions = locked(&self.sessions);
        if sessions_max <= sessions.len() {
            return None;
        }
        let (unsolicited, waiting) = mpsc::channel(WAITING_MAX);
        let held = Arc::new(Held {
            session: Session::new(Arc::clone(connector), unsolicited),
            used: Mutex::new(Instant::now()),
            waiting: Mutex::new(Some(waiting)),
            ended: watch::Sender::new(false),
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
    pub(super) const fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// The session's stream; `None` if it is open already.
    pub(super) fn take_stream(self: &Arc<Self>) -> Option<Stream> {
        let messages = locked(&self.waiting).take()?;
        Some(Stream {
            held: Arc::clone(self),
            messages: Some(messages),
            ended: self.ended.subscribe(),
        })
    }
}

impl Stream {
    /// The next message; `None` at the session's end.
    pub(super) async fn next(&mut self) -> Option<Message> {
        let messages = self.messages.as_mut()?;
        tokio::select! {
            message = messages.recv() => message,
            _ = self.ended.wait_for(|ended| *ended) => None,
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        *locked(&self.held.waiting) = self.messages.take();
        *locked(&self.held.used) = Instant::now();
    }
}

/// 128 random bits.
fn unguessable() -> Option<String> {
    let mut bytes = [0u8; 16];
    std::fs::File::open("/dev/urandom").ok()?.read_exact(&mut bytes).ok()?;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
