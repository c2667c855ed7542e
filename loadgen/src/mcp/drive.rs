//! Sends requests: when they are due, or when the one before was answered.

use std::{sync::Arc, time::Duration};

use aip_gateway::message::{Id, Message};
use serde_json::{Map, Value};
use tokio::{sync::mpsc, task::JoinSet, time::timeout};

use super::{
    pace::Due,
    plan::Request,
    recorder::{End, Sample},
    run::{Shared, UNDER_WAY_MAX},
    target::Failure,
    template::{Facts, fill, fill_text},
};

/// One request to be made.
#[derive(Clone, Copy, Debug)]
struct Task {
    kind: usize,
    hot: f64,
    cancel: bool,
    agent: usize,
    sequence: u64,
    due: Duration,
}

/// Sends what is due when it is due, whoever has not answered.
pub(super) async fn open(shared: Arc<Shared>, mut arrivals: mpsc::Receiver<Due>) {
    let mut random = fastrand::Rng::with_seed(shared.seed ^ 0x5eed);
    let mut under_way = JoinSet::new();
    while let Some(Due { sequence, offset }) = arrivals.recv().await {
        if shared.interrupt.is_set() {
            break;
        }
        while under_way.try_join_next().is_some() {}
        let agent = usize::try_from(sequence).unwrap_or(0) % shared.agents.len();
        let task = shared.task(agent, sequence, offset, &mut random);
        if shared.under_way.available_permits() == 0 {
            let end = End::Error(format!("not sent: {UNDER_WAY_MAX} under way"));
            shared.note(task, shared.since(), end);
            continue;
        }
        let shared = Arc::clone(&shared);
        under_way.spawn(async move { shared.carry_out(task).await });
    }
    while under_way.join_next().await.is_some() {}
}

/// Each agent asks again when it was answered.
pub(super) async fn closed(shared: Arc<Shared>) {
    let mut agents = JoinSet::new();
    for agent in 0..shared.agents.len() {
        let shared = Arc::clone(&shared);
        agents.spawn(async move {
            let seed = shared.seed ^ (agent as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut random = fastrand::Rng::with_seed(seed);
            tokio::time::sleep_until(shared.origin.into()).await;
            let mut turn = 0;
            loop {
                let think = shared.plan.think.draw(&mut random);
                if !think.is_zero() {
                    tokio::time::sleep(think).await;
                }
                if shared.total() <= shared.since() || shared.interrupt.is_set() {
                    break;
                }
                let sequence = (agent as u64) << 40 | turn;
                let task = shared.task(agent, sequence, shared.since(), &mut random);
                turn += 1;
                shared.carry_out(task).await;
            }
        });
    }
    while agents.join_next().await.is_some() {}
}

impl Shared {
    /// What an agent is to ask: chosen by weight.
    fn task(&self, agent: usize, sequence: u64, due: Duration, random: &mut fastrand::Rng) -> Task {
        let sum = self.weights.last().copied().unwrap_or_default();
        let at = random.f64() * sum;
        let kind = self.weights.iter().position(|weight| at < *weight).unwrap_or_default();
        let (hot, cancel) = (random.f64(), random.f64() < self.plan.cancel);
        Task { kind, hot, cancel, agent, sequence, due }
    }

    /// Makes a request, and records how it ended.
    async fn carry_out(&self, task: Task) {
        let Ok(_permit) = self.under_way.acquire().await else { return };
        let request = &self.plan.requests[task.kind];
        let sent = self.since();
        let end = if request.method == "connect" {
            self.cold_connect(task.agent).await
        } else {
            self.ask(request, task).await
        };
        self.note(task, sent, end);
    }

    /// A request that was sent then is over.
    fn note(&self, task: Task, sent: Duration, end: End) {
        let (kind, place) = (task.kind, task.agent % self.places);
        let (due, done) = (task.due, self.since());
        self.recorder.record(Sample { kind, place, due, sent, done, end });
    }

    async fn cold_connect(&self, agent: usize) -> End {
        match timeout(self.plan.timeout, self.opener.open(agent)).await {
            Ok(Ok(connection)) => {
                let opener = Arc::clone(&self.opener);
                tokio::spawn(async move { opener.close(&connection).await });
                End::Right(0)
            }
            Ok(Err(reason)) => End::Error(format!("connect: {reason}")),
            Err(_) => End::Lost("timeout of connect".to_owned()),
        }
    }

    async fn ask(&self, request: &Request, task: Task) -> End {
        let facts = Facts { sequence: task.sequence, agent: task.agent };
        let connection = self.agents[task.agent].connection();
        let params = params(request, facts, task.hot, self.seed);
        let params = connection.params(&params, request.priority);
        let message = Message::request(Id::from_number(task.sequence), &request.method, &params);
        let asking = timeout(self.plan.timeout, connection.ask(message));
        let answer = if task.cancel {
            // Dropping what asks cancels the request.
            match timeout(self.plan.cancel_after, asking).await {
                Ok(answer) => answer,
                Err(_) => return End::Cancelled,
            }
        } else {
            asking.await
        };
        match answer {
            Ok(Ok(answer)) => {
                let expected = request.expect.as_ref();
                let expected = expected.map(|text| fill_text(text, facts, self.seed));
                if expected.is_some_and(|text| !answer.body().contains(&text)) {
                    return End::Wrong;
                }
                End::Right(answer.body().len() as u64)
            }
            Ok(Err(failure @ Failure::Lost)) => End::Lost(failure.kind()),
            Ok(Err(failure)) => End::Error(failure.kind()),
            Err(_) => End::Lost("timeout".to_owned()),
        }
    }
}

/// A request's params without `_meta`.
fn params(request: &Request, facts: Facts, hot: f64, seed: u64) -> Map<String, Value> {
    let mut params = Map::new();
    let named = request.tool.as_ref().or(request.prompt.as_ref());
    if let Some(name) = named {
        params.insert("name".to_owned(), Value::from(name.as_str()));
    }
    if let Some(arguments) = &request.arguments {
        params.insert("arguments".to_owned(), Value::Object(fill(arguments, facts, seed)));
    } else if named.is_some() {
        params.insert("arguments".to_owned(), Value::Object(Map::new()));
    }
    if !request.uris.is_empty() {
        let turn = usize::try_from(facts.sequence).unwrap_or(0) % request.uris.len();
        let index = if hot < request.hot { 0 } else { turn };
        let uri = fill_text(&request.uris[index], facts, seed);
        params.insert("uri".to_owned(), Value::from(uri));
    }
    params
}
