//! One agent: an MCP client that somebody else wrote.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use hdrhistogram::Histogram;
use rmcp::{
    ClientHandler, ClientLifecycleMode, ClientServiceExt as _, RoleClient,
    model::{
        CallToolRequestParams, ClientConfig, ProtocolVersion, ReadResourceRequestParams,
        ResourceUpdatedNotificationParam, ServerNotification, SubscribeRequestParams,
        SubscriptionFilter,
    },
    service::{ClientCacheConfig, NotificationContext, RunningService, Subscription},
    transport::StreamableHttpClientTransport,
};
use serde_json::Value;
use tokio::{sync::mpsc, time::Instant};

use super::{children::Children, plan::Plan};

/// How long an agent waits for anything.
const PATIENCE: Duration = Duration::from_secs(30);
/// Errors whose words are kept.
const WORDS_MAX: usize = 5;

/// Hears of updates.
#[derive(Clone, Debug)]
struct Ear(mpsc::Sender<String>);

impl ClientHandler for Ear {
    fn get_info(&self) -> ClientConfig {
        ClientConfig::default()
    }

    async fn on_resource_updated(
        &self,
        params: ResourceUpdatedNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        // Nobody waits for more than one.
        _ = self.0.try_send(params.uri);
    }
}

/// See the module.
pub(super) struct Agent {
    name: String,
    client: RunningService<RoleClient, Ear>,
    updates: tokio::sync::Mutex<mpsc::Receiver<String>>,
    subscription: tokio::sync::Mutex<Option<Subscription>>,
    latencies: Mutex<Histogram<u64>>,
    counts: Mutex<Counts>,
}

/// What one agent has done.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) calls: u64,
    pub(super) reads: u64,
    pub(super) told: u64,
    pub(super) errors: u64,
}

/// One row of the table.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) counts: Counts,
    pub(super) p50_us: u64,
    pub(super) p99_us: u64,
}

/// What has come of a piece of work.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) counts: Counts,
    pub(super) latencies: Histogram<u64>,
    /// The first errors in words.
    pub(super) words: Vec<String>,
    pub(super) agents: Vec<Row>,
}

/// One microsecond to one minute, three digits.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("these bounds are allowed")
}

impl Default for Outcome {
    fn default() -> Self {
        let (counts, latencies) = (Counts::default(), histogram());
        Self { counts, latencies, words: Vec::new(), agents: Vec::new() }
    }
}

impl Outcome {
    /// Counts an error.
    pub(super) fn fail(&mut self, words: &str) {
        self.counts.errors += 1;
        if self.words.len() < WORDS_MAX {
            self.words.push(words.to_owned());
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.counts.calls += other.counts.calls;
        self.counts.reads += other.counts.reads;
        self.counts.told += other.counts.told;
        self.counts.errors += other.counts.errors;
        // Both have the same bounds.
        _ = self.latencies.add(&other.latencies);
        let room = WORDS_MAX.saturating_sub(self.words.len());
        self.words.extend(other.words.iter().take(room).cloned());
    }
}

impl Agent {
    /// An agent over an HTTP edge. `sessions`: it knows only revisions with sessions.
    pub(super) async fn over_http(index: usize, url: &str, sessions: bool) -> Result<Self, String> {
        let transport = StreamableHttpClientTransport::from_uri(url.to_owned());
        let (ear, updates) = mpsc::channel(16);
        let serving = Ear(ear).serve_with_lifecycle(transport, lifecycle(sessions));
        let client = serving.await.map_err(|error| format!("agent {index} over HTTP: {error}"))?;
        Ok(Self::new(format!("{index} HTTP"), client, updates).await)
    }

    /// An agent over standard streams of an edge of its own.
    pub(super) async fn over_stdio(
        index: usize,
        children: &mut Children,
        arguments: &[String],
        sessions: bool,
    ) -> Result<Self, String> {
        let streams = children.start_with_streams("aip-mcp", arguments)?;
        let (ear, updates) = mpsc::channel(16);
        let serving = Ear(ear).serve_with_lifecycle(streams, lifecycle(sessions));
        let client = serving.await.map_err(|error| format!("agent {index} over stdio: {error}"))?;
        Ok(Self::new(format!("{index} stdio"), client, updates).await)
    }

    async fn new(
        name: String,
        client: RunningService<RoleClient, Ear>,
        updates: mpsc::Receiver<String>,
    ) -> Self {
        // Every read is asked of the edge, so that what is counted is the tier's doing.
        client.set_response_cache_config(ClientCacheConfig::disabled()).await;
        let version = client.peer_info().map(|info| info.protocol_version.to_string());
        Self {
            name: format!("{name} {}", version.unwrap_or_default()),
            client,
            updates: updates.into(),
            subscription: None.into(),
            latencies: Mutex::new(histogram()),
            counts: Mutex::default(),
        }
    }

    /// The tools as they are listed.
    pub(super) async fn tools(&self) -> Result<Vec<Value>, String> {
        let tools = self.client.list_all_tools().await.map_err(|error| error.to_string())?;
        Ok(tools.into_iter().filter_map(|tool| serde_json::to_value(tool).ok()).collect())
    }

    /// The first resource that is listed.
    pub(super) async fn first_resource(&self) -> Option<String> {
        let resources = self.client.list_resources(None).await.ok()?;
        resources.resources.into_iter().next().map(|resource| resource.uri)
    }

    /// A tool's answer as text.
    pub(super) async fn call_text(&self, call: CallToolRequestParams) -> Result<String, String> {
        let called = tokio::time::timeout(PATIENCE, self.client.call_tool(call)).await;
        let called =
            called.map_err(|_| "no answer".to_owned())?.map_err(|error| error.to_string())?;
        let value = serde_json::to_value(called).map_err(|error| error.to_string())?;
        if value.get("isError").and_then(Value::as_bool) == Some(true) {
            return Err(format!("the tool failed: {value}"));
        }
        let texts = value.get("content").and_then(Value::as_array).into_iter().flatten();
        let texts = texts.filter_map(|content| content.get("text")?.as_str());
        Ok(texts.collect::<Vec<_>>().join("\n"))
    }

    /// A resource's text.
    async fn read(&self, uri: &str) -> Result<String, String> {
        let read = self.client.read_resource(ReadResourceRequestParams::new(uri));
        let read = tokio::time::timeout(PATIENCE, read).await;
        let read = read.map_err(|_| "no answer".to_owned())?.map_err(|error| error.to_string())?;
        let value = serde_json::to_value(read).map_err(|error| error.to_string())?;
        let text = value.pointer("/contents/0/text").and_then(Value::as_str);
        Ok(text.unwrap_or_default().to_owned())
    }

    /// Lists the tools, calls one, reads the resource, and asks to be told of its changes.
    pub(super) async fn work(
        &self,
        index: usize,
        calls: usize,
        reads: usize,
        plan: &Plan,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        if let Err(error) = self.tools().await {
            outcome.fail(&format!("agent {}: tools/list: {error}", self.name));
        }
        for number in 0..calls {
            let Some((call, expected)) = plan.call(index, number) else { break };
            let began = Instant::now();
            let answer = self.call_text(call).await;
            let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            outcome.counts.calls += 1;
            outcome.latencies.saturating_record(took);
            match answer {
                Ok(text) if text.contains(&expected) => {}
                Ok(text) => outcome.fail(&format!("agent {}: not its answer: {text}", self.name)),
                Err(error) => outcome.fail(&format!("agent {}: tools/call: {error}", self.name)),
            }
        }
        if let Some(uri) = &plan.resource {
            for _ in 0..reads {
                outcome.counts.reads += 1;
                if let Err(error) = self.read(uri).await {
                    outcome.fail(&format!("agent {}: resources/read: {error}", self.name));
                }
            }
            if plan.follows_changes()
                && let Err(error) = self.subscribe(uri).await
            {
                outcome.fail(&format!("agent {}: cannot follow {uri}: {error}", self.name));
            }
        }
        self.remember(&outcome);
        outcome
    }

    async fn subscribe(&self, uri: &str) -> Result<(), String> {
        let info = self.client.peer_info();
        let modern = info.is_some_and(|info| {
            info.protocol_version.as_str() == ProtocolVersion::V_2026_07_28.as_str()
        });
        if !modern {
            #[expect(deprecated, reason = "it is what sessions have")]
            let subscribed = self.client.subscribe(SubscribeRequestParams::new(uri)).await;
            return subscribed.map_err(|error| error.to_string());
        }
        let mut filter = SubscriptionFilter::new();
        filter.resource_subscriptions = Some(vec![uri.to_owned()]);
        let subscription = self.client.listen(filter).await.map_err(|error| error.to_string())?;
        *self.subscription.lock().await = Some(subscription);
        Ok(())
    }

    /// Waits to be told of the change, then reads the new text.
    pub(super) async fn hear(&self, plan: &Plan, expected: &str) -> Outcome {
        let mut outcome = Outcome::default();
        let Some(uri) = &plan.resource else { return outcome };
        match tokio::time::timeout(PATIENCE, self.told()).await {
            Ok(true) => outcome.counts.told += 1,
            Ok(false) | Err(_) => {
                outcome.fail(&format!("agent {}: was not told of the change", self.name));
            }
        }
        outcome.counts.reads += 1;
        match self.read(uri).await {
            Ok(text) if text == expected => {}
            Ok(text) => outcome.fail(&format!("agent {}: reads old text: {text}", self.name)),
            Err(error) => outcome.fail(&format!("agent {}: resources/read: {error}", self.name)),
        }
        self.remember(&outcome);
        outcome
    }

    async fn told(&self) -> bool {
        let mut subscription = self.subscription.lock().await;
        let Some(subscription) = subscription.as_mut() else {
            return self.updates.lock().await.recv().await.is_some();
        };
        loop {
            match subscription.next().await {
                Ok(Some(ServerNotification::ResourceUpdatedNotification(_))) => return true,
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return false,
            }
        }
    }

    fn remember(&self, outcome: &Outcome) {
        // What a thread that panicked left behind is whole: nothing panics between two changes.
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.calls += outcome.counts.calls;
        counts.reads += outcome.counts.reads;
        counts.told += outcome.counts.told;
        counts.errors += outcome.counts.errors;
        let mut latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        // Both have the same bounds.
        _ = latencies.add(&outcome.latencies);
    }

    /// Its row of the table.
    pub(super) fn describe(&self) -> Row {
        let latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        Row {
            name: self.name.clone(),
            counts: *self.counts.lock().unwrap_or_else(PoisonError::into_inner),
            p50_us: latencies.value_at_quantile(0.5),
            p99_us: latencies.value_at_quantile(0.99),
        }
    }

    /// Ends it.
    pub(super) async fn end(self) {
        drop(self.subscription);
        // Whether its end is orderly or not, it ends.
        _ = tokio::time::timeout(Duration::from_secs(5), self.client.cancel()).await;
    }
}

fn lifecycle(sessions: bool) -> ClientLifecycleMode {
    if sessions {
        return ClientLifecycleMode::Initialize;
    }
    ClientLifecycleMode::Auto {
        preferred_versions: vec![ProtocolVersion::V_2026_07_28],
        legacy_version: Some(ProtocolVersion::V_2025_11_25),
    }
}
