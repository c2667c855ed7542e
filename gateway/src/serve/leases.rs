//! Processes for calls of agents without sessions that can be asked.
//!
//! On one pair of standard streams nothing tells to which of several calls a question belongs, and a
//! server shows a client what suits its capabilities. So each such call has a process to itself, begun
//! with what its agent can do, and leaves it to the next call of the same kind of agent.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{task::AbortHandle, time::Instant};

use super::{OwnProcesses, Processes};
use crate::backend::{Backend, ClientSide, stdio};

/// How long a process waits for its next call before it ends.
const IDLE: Duration = Duration::from_secs(300);

/// See the module.
#[derive(Debug)]
pub(super) struct Leases {
    own: Option<OwnProcesses>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The one that was used last is the last.
    idle: Vec<Idle>,
    /// Processes that there are, idle or not.
    count: usize,
    /// Whether somebody looks after those that are idle.
    swept: bool,
    ended: bool,
}

#[derive(Debug)]
struct Idle {
    process: Process,
    since: Instant,
}

#[derive(Debug)]
struct Process {
    client: ClientSide,
    backend: Backend,
    /// Hears what the process says that belongs to no call.
    hearing: AbortHandle,
}

/// A process for one call. Dropped before the call has its answer it ends the process, which may
/// have more to say that is for nobody else.
#[derive(Debug)]
pub(super) struct Lease {
    leases: Arc<Leases>,
    process: Option<Process>,
}

impl Leases {
    pub(super) fn new(own: Option<OwnProcesses>) -> Arc<Self> {
        let own = own.filter(|own| own.processes != Processes::Shared);
        Arc::new(Self { own, state: Mutex::default() })
    }

    /// Whether there are any.
    pub(super) const fn are_given(&self) -> bool {
        self.own.is_some()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What a thread that panicked left behind is whole: nothing panics between two changes.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process that knows this client; `None` if calls share one, or there are too many.
    pub(super) fn take(self: &Arc<Self>, client: ClientSide) -> Option<Lease> {
        let own = self.own.as_ref()?;
        let mut state = self.state();
        if state.ended {
            return None;
        }
        let lease = |process| Some(Lease { leases: Arc::clone(self), process: Some(process) });
        let same = |idle: &Idle| idle.process.client == client;
        if let Some(place) = state.idle.iter().rposition(same) {
            return lease(state.idle.remove(place).process);
        }
        if own.processes_max <= state.count {
            // The one that was used longest ago makes room.
            if state.idle.is_empty() {
                tracing::warn!(own.processes_max, "a call has to share a process");
                return None;
            }
            end(state.idle.remove(0).process);
            state.count -= 1;
        }
        state.count += 1;
        let mut options = own.stdio.clone();
        options.legacy = Some(true);
        options.client = client.clone();
        let (backend, mut news) = stdio::Stdio::start(options);
        let hearing = tokio::spawn(async move { while news.recv().await.is_some() {} });
        let backend = Backend::Stdio(backend);
        lease(Process { client, backend, hearing: hearing.abort_handle() })
    }

    /// Ends processes that nobody has used for long. When the next one may have to end; `None` if
    /// none is idle.
    fn sweep(&self, now: Instant) -> Option<Instant> {
        let mut state = self.state();
        while state.idle.first().is_some_and(|idle| IDLE <= now.duration_since(idle.since)) {
            end(state.idle.remove(0).process);
            state.count -= 1;
        }
        let next = state.idle.first().map(|idle| idle.since + IDLE);
        state.swept = next.is_some();
        next
    }

    /// A process waits for its next call.
    fn rest(self: &Arc<Self>, process: Process) {
        let mut state = self.state();
        if state.ended {
            state.count -= 1;
            return end(process);
        }
        state.idle.push(Idle { process, since: Instant::now() });
        if std::mem::replace(&mut state.swept, true) {
            return;
        }
        let leases = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut next = Some(Instant::now() + IDLE);
            while let Some(when) = next {
                tokio::time::sleep_until(when).await;
                next = leases.upgrade().and_then(|leases| leases.sweep(Instant::now()));
            }
        });
    }

    /// Ends every process that is idle, and from now on each that becomes so.
    pub(super) async fn shutdown(&self) {
        let idle = {
            let mut state = self.state();
            state.ended = true;
            std::mem::take(&mut state.idle)
        };
        let ends = idle.into_iter().map(|idle| async move {
            idle.process.backend.shutdown().await;
            idle.process.hearing.abort();
        });
        futures::future::join_all(ends).await;
    }
}

/// Ends a process; nobody waits for that.
fn end(process: Process) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(async move {
            process.backend.shutdown().await;
            process.hearing.abort();
        });
    }
}

impl Lease {
    pub(super) fn backend(&self) -> Option<&Backend> {
        self.process.as_ref().map(|process| &process.backend)
    }

    /// The call has its answer: the next one may have the process.
    pub(super) fn give_back(mut self) {
        if let Some(process) = self.process.take() {
            self.leases.rest(process);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            self.leases.state().count -= 1;
            end(process);
        }
    }
}
