//! Agents that only listen, and the call that makes them hear something.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aip_gateway::message::{Id, Message};
use serde_json::{Map, Value};

use super::{
    plan::Trigger,
    run::Shared,
    template::{Facts, fill},
};
use crate::measure::Times;

/// Numbers of listeners' requests begin here, those of triggers there: no task has them.
const LISTENER: u64 = 1 << 50;
const TRIGGER: u64 = 1 << 51;

/// What listeners heard. With a trigger, each is to hear something after each call of it.
#[derive(Debug)]
pub(super) struct Ear {
    /// Of each listener, the last call after which it heard something.
    heard_of: Vec<u64>,
    /// Calls so far, and when the last one was made.
    calls: u64,
    called_at: Duration,
    /// Whether the last call's figures count.
    measured: bool,
    /// Listeners that heard of the last call.
    hearers: usize,
    heard: Times,
    last: Times,
    notifications: u64,
    again: u64,
    lost: u64,
}

/// The ear, which any thread may have.
pub(super) fn lock(ear: &Mutex<Ear>) -> MutexGuard<'_, Ear> {
    // What a thread that panicked left behind are numbers.
    ear.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ear {
    pub(super) fn new(listeners: usize) -> Self {
        Self {
            heard_of: vec![0; listeners],
            calls: 0,
            called_at: Duration::ZERO,
            measured: false,
            hearers: 0,
            heard: Times::default(),
            last: Times::default(),
            notifications: 0,
            again: 0,
            lost: 0,
        }
    }

    /// The trigger is called.
    fn call(&mut self, at: Duration, measured: bool) {
        self.settle();
        self.calls += 1;
        (self.called_at, self.measured, self.hearers) = (at, measured, 0);
    }

    /// What was not heard of the last call is lost.
    fn settle(&mut self) {
        if self.measured {
            self.lost += (self.heard_of.len() - self.hearers) as u64;
        }
        self.measured = false;
    }

    /// A listener heard something.
    fn hear(&mut self, listener: usize, at: Duration) {
        self.notifications += 1;
        let Some(heard_of) = self.heard_of.get_mut(listener) else { return };
        if self.calls == 0 {
            return;
        }
        if *heard_of == self.calls {
            self.again += u64::from(self.measured);
            return;
        }
        *heard_of = self.calls;
        self.hearers += 1;
        if !self.measured {
            return;
        }
        let took = at.saturating_sub(self.called_at).as_nanos();
        let took = u64::try_from(took).unwrap_or(u64::MAX);
        self.heard.record(took);
        if self.hearers == self.heard_of.len() {
            self.last.record(took);
        }
    }

    /// Notifications so far.
    pub(super) const fn count(&self) -> u64 {
        self.notifications
    }

    /// From a call of the trigger until each listener heard.
    pub(super) const fn heard(&self) -> &Times {
        &self.heard
    }

    /// The same until the last listener heard, of calls of which all did.
    pub(super) const fn last(&self) -> &Times {
        &self.last
    }

    pub(super) fn figures(&self) -> Vec<(String, f64)> {
        let mut figures = vec![("notifications heard".to_owned(), self.notifications as f64)];
        if self.calls != 0 {
            figures.push(("notifications lost".to_owned(), self.lost as f64));
            figures.push(("notifications heard again".to_owned(), self.again as f64));
        }
        figures
    }
}

/// Listens for changes until the run is over.
pub(super) async fn listen(shared: Arc<Shared>, index: usize) {
    let connection = shared.agents[index % shared.agents.len()].connection();
    let heard = || lock(&shared.ear).hear(index, shared.since());
    let id = LISTENER + index as u64;
    if let Err(failure) = connection.listen(&shared.plan.listen, id, heard).await {
        shared.recorder.error(&format!("listen: {}", failure.kind()));
    }
}

/// Calls the tool that makes listeners hear something, until the measured part is over.
pub(super) async fn trigger(shared: Arc<Shared>, trigger: Trigger) {
    tokio::time::sleep_until(shared.origin.into()).await;
    let mut ticks = tokio::time::interval(trigger.every);
    for call in 0.. {
        ticks.tick().await;
        let at = shared.since();
        // A call that listeners have no time left to hear of would count as lost.
        let end = shared.plan.warm_up + shared.plan.duration;
        if end < at + trigger.every || shared.interrupt.is_set() {
            lock(&shared.ear).settle();
            return;
        }
        let facts = Facts { sequence: TRIGGER + call, agent: 0 };
        let arguments = fill(&trigger.arguments, facts, shared.seed);
        let params = Map::from_iter([
            ("name".to_owned(), Value::from(trigger.tool.as_str())),
            ("arguments".to_owned(), Value::Object(arguments)),
        ]);
        let connection = shared.agents[0].connection();
        let params = connection.params(&params, None);
        let request = Message::request(Id::from_number(TRIGGER + call), "tools/call", &params);
        lock(&shared.ear).call(at, shared.plan.warm_up <= at);
        if let Err(failure) = connection.ask(request).await {
            shared.recorder.error(&format!("trigger: {}", failure.kind()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    #[test]
    fn each_listener_hears_of_each_call_once_or_has_lost_it() {
        let mut ear = Ear::new(3);
        ear.hear(0, MILLISECOND);
        ear.call(2 * MILLISECOND, false);
        ear.hear(0, 3 * MILLISECOND);
        ear.call(10 * MILLISECOND, true);
        for (listener, at) in [(0, 11), (1, 12), (2, 15), (1, 16)] {
            ear.hear(listener, at * MILLISECOND);
        }
        ear.call(20 * MILLISECOND, true);
        ear.hear(2, 21 * MILLISECOND);
        ear.settle();
        ear.hear(1, 30 * MILLISECOND);
        assert_eq!((ear.heard().count(), ear.last().count()), (4, 1));
        assert!(ear.last().quantile(0.5).abs_diff(5_000_000) < 5_000);
        let figures = ear.figures();
        let figure = |name: &str| figures.iter().find(|(it, _)| it == name).unwrap().1;
        assert_eq!(figure("notifications heard"), 8.0);
        assert_eq!(figure("notifications lost"), 2.0);
        assert_eq!(figure("notifications heard again"), 1.0);
    }
}
