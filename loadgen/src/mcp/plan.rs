//! What agents do: a TOML file, or what discovery makes of a server.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    duration::{self, Span},
    schedule::Arrivals,
};

/// Plans that come with the program, by name.
pub const NAMED: [(&str, &str); 8] = [
    ("agents", include_str!("../../plans/agents.toml")),
    ("cache", include_str!("../../plans/cache.toml")),
    ("calls", include_str!("../../plans/calls.toml")),
    ("churn", include_str!("../../plans/churn.toml")),
    ("connects", include_str!("../../plans/connects.toml")),
    ("lists", include_str!("../../plans/lists.toml")),
    ("mixed", include_str!("../../plans/mixed.toml")),
    ("storm", include_str!("../../plans/storm.toml")),
];

/// What agents do. Everything here is part of the fingerprint.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Plan {
    /// For people.
    pub name: String,
    /// Agents, each with a connection of its own. 10.
    pub agents: usize,
    /// Whether agents share one connection; a process of their own each is too much for most. The
    /// default of stdio.
    pub shared: Option<bool>,
    /// When requests are due, over all agents. `constant:50`.
    #[serde(serialize_with = "shown", deserialize_with = "read")]
    pub arrivals: Arrivals,
    /// Instead: each agent asks again when it was answered. It hides what a slow server does to
    /// those who would have come meanwhile.
    pub closed: bool,
    /// Between an answer and the next request of a closed loop: `500ms`, or drawn from `1s..5s`. 0.
    pub think: Span,
    /// Load before anything counts. 2 s.
    #[serde(with = "duration::text")]
    pub warm_up: Duration,
    /// The time that figures are made of. 10 s.
    #[serde(with = "duration::text")]
    pub duration: Duration,
    /// Load after that. 1 s.
    #[serde(with = "duration::text")]
    pub cool_down: Duration,
    /// How long an answer is waited for. 10 s.
    #[serde(with = "duration::text")]
    pub timeout: Duration,
    /// The share of requests that are cancelled if not answered after `cancel_after`. 0.
    pub cancel: f64,
    /// See `cancel`. 50 ms.
    #[serde(with = "duration::text")]
    pub cancel_after: Duration,
    /// Agents that reconnect, a second altogether. 0.
    pub reconnect: f64,
    /// The share of agents that reconnect at one moment, in the middle of the measured time. 0.
    pub storm: f64,
    /// More agents, which only listen. 0.
    pub listeners: usize,
    /// The resources whose changes they listen for; lists' changes always.
    pub listen: Vec<String>,
    /// What makes listeners hear something, so that the way to each of them can be timed.
    pub trigger: Option<Trigger>,
    /// What is asked.
    #[serde(rename = "request")]
    pub requests: Vec<Request>,
}

impl Default for Plan {
    fn default() -> Self {
        let spacing = crate::schedule::Spacing::Even;
        Self {
            name: "unnamed".to_owned(),
            agents: 10,
            shared: None,
            arrivals: Arrivals { shape: crate::schedule::Shape::Constant(50.0), spacing },
            closed: false,
            think: Span::default(),
            warm_up: Duration::from_secs(2),
            duration: Duration::from_secs(10),
            cool_down: Duration::from_secs(1),
            timeout: Duration::from_secs(10),
            cancel: 0.0,
            cancel_after: Duration::from_millis(50),
            reconnect: 0.0,
            storm: 0.0,
            listeners: 0,
            listen: Vec::new(),
            trigger: None,
            requests: Vec::new(),
        }
    }
}

/// A tool whose call changes what listeners listen for, called by an agent of its own.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Trigger {
    /// The tool.
    pub tool: String,
    /// Its arguments, with templates.
    #[serde(default)]
    pub arguments: Map<String, Value>,
    /// Between one call and the next. What a listener has not heard by then, it has lost.
    #[serde(with = "duration::text")]
    pub every: Duration,
}

/// One kind of request.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Request {
    /// How often, against the others. 1.
    pub weight: f64,
    /// MCP's method; `connect` opens and closes a connection instead.
    pub method: String,
    /// The tool of `tools/call`; absent: discovery fills in those that may be called.
    pub tool: Option<String>,
    /// The prompt of `prompts/get`.
    pub prompt: Option<String>,
    /// The resources of `resources/read`, with templates; absent: discovery fills them in.
    pub uris: Vec<String>,
    /// The share of reads that are of the first of `uris`, besides its own turn: what caches hit. 0.
    pub hot: f64,
    /// Arguments; strings in it may hold templates: {{sequence}}, {{agent}}, {{text:LENGTH}},
    /// {{text:A..B}}, {{int:A..B}}. Absent: made from the tool's schema.
    pub arguments: Option<Map<String, Value>>,
    /// What must stand in the answer, after the same templates; else it is wrong.
    pub expect: Option<String>,
    /// Its priority at relays, 0 (first) to 255; 128 if nothing is said.
    pub priority: Option<u8>,
}

impl Request {
    /// What it is called in reports: method, tool or prompt, priority.
    pub fn labels(&self) -> Vec<(&'static str, String)> {
        let mut labels = vec![("method", self.method.clone())];
        let named = [("tool", &self.tool), ("prompt", &self.prompt)];
        labels.extend(named.into_iter().filter_map(|(key, name)| Some((key, name.clone()?))));
        labels.extend(self.priority.map(|priority| ("priority", priority.to_string())));
        labels
    }

    /// How often, against the others.
    pub fn weight(&self) -> f64 {
        if self.weight == 0.0 { 1.0 } else { self.weight }
    }
}

impl Plan {
    /// Whether tools are to be found that the server offers.
    pub fn leaves_tools_open(&self) -> bool {
        let open = |request: &Request| request.method == "tools/call" && request.tool.is_none();
        self.requests.is_empty() || self.requests.iter().any(open)
    }

    /// A named plan, or that of a file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn load(name: &str) -> Result<Self, String> {
        let named = NAMED.iter().find(|(known, _)| *known == name);
        let text = match named {
            Some((_, text)) => (*text).to_owned(),
            None => std::fs::read_to_string(name).map_err(|error| {
                let names: Vec<_> = NAMED.iter().map(|(name, _)| *name).collect();
                format!("{name}: {error}; named plans are {}", names.join(", "))
            })?,
        };
        let plan: Self = toml::from_str(&text).map_err(|error| format!("{name}: {error}"))?;
        plan.check().map_err(|reason| format!("{name}: {reason}"))?;
        Ok(plan)
    }

    /// What is wrong with the numbers, if anything.
    ///
    /// # Errors
    /// That.
    pub fn check(&self) -> Result<(), String> {
        for (what, share) in [("cancel", self.cancel), ("storm", self.storm)] {
            if !(0.0..=1.0).contains(&share) {
                return Err(format!("`{what}` is a share between 0 and 1"));
            }
        }
        for request in &self.requests {
            if !(request.weight.is_finite() && 0.0 <= request.weight) {
                return Err(format!("the weight of `{}` is no positive number", request.method));
            }
            if !(0.0..=1.0).contains(&request.hot) {
                return Err("`hot` is a share between 0 and 1".to_owned());
            }
            if request.method.is_empty() {
                return Err("a request needs a `method`".to_owned());
            }
        }
        if self.trigger.as_ref().is_some_and(|trigger| trigger.every.is_zero()) {
            return Err("`every` of the trigger must be above 0".to_owned());
        }
        if self.agents == 0 || self.duration.is_zero() || self.timeout.is_zero() {
            return Err("`agents`, `duration` and `timeout` must be above 0".to_owned());
        }
        if !(self.reconnect.is_finite() && 0.0 <= self.reconnect) {
            return Err("`reconnect` is a rate".to_owned());
        }
        Ok(())
    }
}

fn shown<S: serde::Serializer>(arrivals: &Arrivals, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(arrivals)
}

fn read<'a, D: serde::Deserializer<'a>>(from: D) -> Result<Arrivals, D::Error> {
    String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_plans_are_plans() {
        for (name, _) in NAMED {
            let plan = Plan::load(name).unwrap();
            assert_eq!(plan.name, name);
            assert!(!plan.requests.is_empty());
            let names_none = !matches!(name, "cache" | "connects" | "lists");
            assert_eq!(plan.leaves_tools_open(), names_none, "{name}");
        }
        assert!(Plan::default().leaves_tools_open());
        assert!(Plan::load("no such plan").unwrap_err().contains("calls, churn, connects"));
    }

    #[test]
    fn every_element_is_read_and_written() {
        let text = r#"
            name = "all"
            agents = 7
            arrivals = "poisson-spike:5^50@1s+500ms"
            think = "100ms..2s"
            cancel = 0.25
            cancel_after = "7ms"
            reconnect = 0.5
            storm = 1.0
            listeners = 9
            listen = ["demo://a"]
            [trigger]
            tool = "touch"
            arguments = { n = "{{sequence}}" }
            every = "250ms"
            [[request]]
            weight = 2.5
            method = "tools/call"
            tool = "echo"
            arguments = { message = "{{text:10..500}}" }
            expect = "{{text:10..500}}"
            priority = 3
            [[request]]
            method = "resources/read"
            uris = ["demo://{{int:1..9}}"]
            hot = 0.9
        "#;
        let plan: Plan = toml::from_str(text).unwrap();
        plan.check().unwrap();
        let json = serde_json::to_value(&plan).unwrap();
        let again: Plan = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(serde_json::to_value(&again).unwrap(), json);
        let labels = again.requests[0].labels();
        let shown: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(shown, ["method=tools/call", "tool=echo", "priority=3"]);
    }

    #[test]
    fn wrong_plans_are_refused() {
        for text in ["cancel = 2.0", "agents = 0", "colour = 1", "[[request]]\nweight = 1.0"] {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), text).unwrap();
            assert!(Plan::load(file.path().to_str().unwrap()).is_err(), "{text}");
        }
    }
}
