//! Agents and their connections: opened before the load, replaced while it goes on.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::Semaphore, task::JoinSet};

use super::{
    plan::Plan,
    recorder::Recorder,
    run::{Options, Shared},
    target::{Connection, Opener, Target},
};
use crate::{clock, progress::Progress};

/// Connections that are being opened at one time.
const OPENING_MAX: usize = 64;
/// Between looks at connections that are being opened.
const LOOK: Duration = Duration::from_millis(250);

/// One agent.
#[derive(Debug)]
pub(super) struct Agent {
    connection: Mutex<Arc<Connection>>,
}

impl Agent {
    /// What it asks by now.
    pub(super) fn connection(&self) -> Arc<Connection> {
        Arc::clone(&self.connection.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace(&self, connection: Arc<Connection>) -> Arc<Connection> {
        let mut held = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *held, connection)
    }
}

/// Opens every agent's connection, some at a time.
///
/// # Errors
/// If one cannot be opened, or nobody wants it any more.
pub(super) async fn open(
    plan: &Plan,
    opener: &Arc<Opener>,
    recorder: &Recorder,
    options: &mut Options,
) -> Result<Vec<Agent>, String> {
    let is_stdio = matches!(opener.target(), Target::Stdio { .. });
    let connections = if plan.shared.unwrap_or(is_stdio) { 1 } else { plan.agents };
    let mut opening = JoinSet::new();
    let permits = Arc::new(Semaphore::new(OPENING_MAX));
    for index in 0..connections {
        let (opener, permits) = (Arc::clone(opener), Arc::clone(&permits));
        opening.spawn(async move {
            let permit = permits.acquire_owned().await;
            let since = clock::now();
            let opened = opener.open(index).await;
            drop(permit);
            (index, opened, clock::now() - since)
        });
    }
    let mut opened = Vec::new();
    let mut looks = tokio::time::interval(LOOK);
    loop {
        let done = tokio::select! {
            done = opening.join_next() => done,
            _ = looks.tick() => {
                if options.interrupt.is_set() {
                    return Err("interrupted".to_owned());
                }
                options.viewer.show(&Progress {
                    stage: "connecting".to_owned(),
                    facts: vec![("agents", format!("{} of {connections}", opened.len()))],
                    ..Progress::default()
                });
                continue;
            }
        };
        let Some(done) = done else { break };
        let (index, connection, took) = done.map_err(|error| error.to_string())?;
        recorder.connected(took);
        opened.push((index, Arc::new(connection?)));
    }
    // An agent's number says which relay it is at.
    opened.sort_by_key(|(index, _)| *index);
    let agent = |index: usize| {
        let (_, connection) = &opened[index % opened.len()];
        Agent { connection: Mutex::new(Arc::clone(connection)) }
    };
    Ok((0..plan.agents).map(agent).collect())
}

/// Ends every agent's connection.
pub(super) async fn close(shared: &Arc<Shared>) {
    let mut closing = JoinSet::new();
    for connection in shared.agents.iter().map(Agent::connection) {
        let opener = Arc::clone(&shared.opener);
        closing.spawn(async move { opener.close(&connection).await });
    }
    while closing.join_next().await.is_some() {}
}

/// Reconnects agents at the plan's rate.
pub(super) async fn reconnect(shared: Arc<Shared>) {
    if shared.plan.reconnect == 0.0 {
        return;
    }
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / shared.plan.reconnect));
    for index in 0.. {
        ticks.tick().await;
        if shared.total() <= shared.since() {
            return;
        }
        replace(&shared, index % shared.agents.len()).await;
    }
}

/// Reconnects the plan's share of agents at once, in the middle.
pub(super) async fn storm(shared: Arc<Shared>) {
    let share = shared.plan.storm;
    if share == 0.0 {
        return;
    }
    let middle = shared.origin + shared.plan.warm_up + shared.plan.duration / 2;
    tokio::time::sleep_until(middle.into()).await;
    let mut all = JoinSet::new();
    let chosen = (0..shared.agents.len())
        .filter(|index| (*index as f64) < (shared.agents.len() as f64 * share).ceil());
    for index in chosen {
        let shared = Arc::clone(&shared);
        all.spawn(async move { replace(&shared, index).await });
    }
    while all.join_next().await.is_some() {}
}

/// Opens an agent's next connection, then ends the one before.
async fn replace(shared: &Arc<Shared>, index: usize) {
    let since = clock::now();
    match shared.opener.open(index).await {
        Ok(connection) => {
            shared.recorder.connected(clock::now() - since);
            let before = shared.agents[index].replace(Arc::new(connection));
            // Requests under way hold it: they end first.
            let opener = Arc::clone(&shared.opener);
            let until = clock::now() + shared.plan.timeout;
            tokio::spawn(async move {
                while 1 < Arc::strong_count(&before) && clock::now() < until {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                opener.close(&before).await;
            });
        }
        Err(reason) => shared.recorder.error(&format!("reconnect: {reason}")),
    }
}
