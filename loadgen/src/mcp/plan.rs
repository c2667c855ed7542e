//! What agents do: a TOML file, or what discovery makes of a server.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{duration, schedule::Arrivals};

/// Plans that come with the program, by name.
const NAMED: [(&str, &str); 4] = [
    ("calls", include_str!("../../plans/calls.toml")),
    ("churn", include_str!("../../plans/churn.toml")),
    ("lists", include_str!("../../plans/lists.toml")),
    ("mixed", include_str!("../../plans/mixed.toml")),
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
    /// Between an answer and the next request of a closed loop. 0.
    #[serde(with = "duration::text")]
    pub think: Duration,
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
            think: Duration::ZERO,
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
            requests: Vec::new(),
        }
    }
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
    /// The resources of `resources/read`; absent: discovery fills them in.
    pub uris: Vec<String>,
    /// The share of reads that are of the first of `uris`, besides its own turn: what caches hit. 0.
    pub hot: f64,
    /// Arguments; strings in it may hold templates: {{sequence}}, {{agent}}, {{text:LENGTH}},
    /// {{int:A..B}}. Absent: made from the tool's schema.
    pub arguments: Option<Map<String, Value>>,
    /// What must stand in the answer, after the same templates; else it is wrong.
    pub expect: Option<String>,
}

impl Request {
    /// What it is called in reports.
    pub fn title(&self) -> String {
        match self.tool.as_ref().or(self.prompt.as_ref()) {
            Some(name) => format!("{} {name}", self.method),
            None => self.method.clone(),
        }
    }

    /// How often, against the others.
    pub fn weight(&self) -> f64 {
        if self.weight == 0.0 { 1.0 } else { self.weight }
    }
}

impl Plan {
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
                return Err(format!("the weight of `{}` is no positive number", request.title()));
            }
            if !(0.0..=1.0).contains(&request.hot) {
                return Err("`hot` is a share between 0 and 1".to_owned());
            }
            if request.method.is_empty() {
                return Err("a request needs a `method`".to_owned());
            }
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
        }
        assert!(Plan::load("no such plan").unwrap_err().contains("calls, churn, lists, mixed"));
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
