//! The configuration file of `aip-mcp serve`: several MCP servers, each by its name.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::Deserialize;

use crate::{
    backend::{Backend, ClientSide, News, http, stdio},
    message::Limits,
    name::ServerName,
    serve::{self, OwnProcesses, Processes},
};
use tokio::sync::mpsc;

/// A whole file.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// The servers, by name.
    #[serde(default)]
    pub server: BTreeMap<String, Server>,
}

/// One MCP server.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Server {
    /// Who answers for it; `localhost`.
    pub authority: Option<String>,
    /// The program that is the server, and its arguments.
    pub command: Vec<String>,
    /// Its endpoint, instead of a command.
    pub url: Option<String>,
    /// Where the program runs.
    pub directory: Option<PathBuf>,
    /// Variables of the program's environment. `${NAME}` is a variable of the edge's own.
    pub environment: BTreeMap<String, String>,
    /// Headers of every request to the URL, such as credentials. `${NAME}` as above.
    pub headers: BTreeMap<String, String>,
    /// Revisions of MCP to try: `auto`, `modern` or `legacy`.
    pub revision: Era,
    /// Which agents share a process: `auto`, `shared` or `agent`.
    pub processes: Sharing,
    /// Requests that one process works on at one time.
    pub concurrency: Option<usize>,
    /// How long a result is good if the server neither says so nor tells of changes.
    pub default_ttl_ms: Option<u64>,
    /// How old a result may be that is given again because the server fails.
    pub stale_if_error_ms: Option<u64>,
    /// How long a call may go without a sign of life.
    pub call_timeout_ms: Option<u64>,
    /// How long a call may take in all.
    pub call_deadline_ms: Option<u64>,
    /// Calls at one time.
    pub calls_max: Option<usize>,
}

/// Revisions of MCP to try with a server.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Era {
    /// 2026-07-28 if the server answers `server/discover`, else a session.
    #[default]
    Auto,
    /// 2026-07-28 only.
    Modern,
    /// 2025-11-25 and before only: sessions.
    Legacy,
}

/// Which agents share a server's process.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Sharing {
    /// With a server that has sessions, an agent that can be asked (sampling, elicitation, roots) has
    /// a process of its own; all others share one.
    #[default]
    Auto,
    /// All share one process.
    Shared,
    /// Every agent with a session has a process of its own, if the server has sessions.
    Agent,
}

impl Configuration {
    /// The configuration that a text is; `variable` looks up what `${NAME}` stands for.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let mut configuration: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        for (name, server) in &mut configuration.server {
            let wrong = |reason: String| format!("server.{name}: {reason}");
            server.name(name).map_err(|error| wrong(error.to_string()))?;
            if server.command.is_empty() == server.url.is_none() {
                return Err(wrong("say `command` or `url`, and one of them only".to_owned()));
            }
            for value in server.environment.values_mut().chain(server.headers.values_mut()) {
                *value = expanded(value, &variable).map_err(wrong)?;
            }
        }
        Ok(configuration)
    }
}

/// A value with its variables in place.
fn expanded(value: &str, variable: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut expanded = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, behind) =
            after.split_once('}').ok_or_else(|| "`${` without its `}`".to_owned())?;
        let known = variable(name);
        expanded.push_str(before);
        expanded.push_str(&known.ok_or_else(|| format!("the variable `{name}` is not set"))?);
        rest = behind;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

impl Server {
    /// What it is called in the tier.
    ///
    /// # Errors
    /// If that is no name.
    pub fn name(&self, name: &str) -> Result<ServerName, crate::name::InvalidServerName> {
        ServerName::new(self.authority.as_deref().unwrap_or("localhost"), name)
    }

    /// How it is served.
    pub fn options(&self, name: ServerName, limits: Limits) -> serve::Options {
        let mut options = serve::Options::new(name);
        options.limits = limits;
        let set = |option: &mut Duration, milliseconds: Option<u64>| {
            if let Some(milliseconds) = milliseconds {
                *option = Duration::from_millis(milliseconds);
            }
        };
        set(&mut options.default_ttl, self.default_ttl_ms);
        set(&mut options.stale_if_error, self.stale_if_error_ms);
        set(&mut options.call_timeout, self.call_timeout_ms);
        set(&mut options.call_deadline, self.call_deadline_ms);
        options.calls_max = self.calls_max.unwrap_or(options.calls_max);
        options
    }

    /// Starts it. Must be called within a runtime.
    ///
    /// # Errors
    /// If its URL or a header is none.
    pub fn start(&self, limits: Limits) -> Result<Started, String> {
        let legacy = match self.revision {
            Era::Auto => None,
            Era::Modern => Some(false),
            Era::Legacy => Some(true),
        };
        let pairs = |map: &BTreeMap<String, String>| {
            map.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
        };
        if let Some(url) = &self.url {
            let mut options = http::Options::new(url.clone());
            (options.limits, options.legacy) = (limits, legacy);
            options.headers = pairs(&self.headers);
            let (backend, news) = http::Http::start(options)?;
            return Ok(Started { backend: Backend::Http(backend), news, own: None });
        }
        let mut options = stdio::Options::new(self.command.clone());
        (options.limits, options.legacy) = (limits, legacy);
        options.environment = pairs(&self.environment);
        options.directory.clone_from(&self.directory);
        options.concurrency = self.concurrency.unwrap_or(options.concurrency).max(1);
        let processes = match self.processes {
            Sharing::Auto => Processes::Auto,
            Sharing::Shared => Processes::Shared,
            Sharing::Agent => Processes::Agent,
        };
        let own = OwnProcesses { stdio: options.clone(), processes, processes_max: 64 };
        if processes != Processes::Shared {
            // Who can be asked has a process of its own.
            options.client = ClientSide::silent();
        }
        let (backend, news) = stdio::Stdio::start(options);
        Ok(Started { backend: Backend::Stdio(backend), news, own: Some(own) })
    }
}

/// A server that was started.
#[derive(Debug)]
pub struct Started {
    /// The server.
    pub backend: Backend,
    /// What it says by itself.
    pub news: mpsc::Receiver<News>,
    /// How agents get processes of their own.
    pub own: Option<OwnProcesses>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Configuration, String> {
        Configuration::parse(text, |name| (name == "TOKEN").then(|| "secret".to_owned()))
    }

    #[test]
    fn a_file_names_servers() {
        let parsed = parse(
            r#"
            [server.files]
            command = ["npx", "files"]
            environment = { KEY = "a${TOKEN}b" }
            processes = "agent"
            concurrency = 4
            [server.docs]
            authority = "example.org"
            url = "http://127.0.0.1:1/mcp"
            headers = { authorization = "Bearer ${TOKEN}" }
            stale-if-error-ms = 60000
            "#,
        )
        .unwrap();
        let (docs, files) = (&parsed.server["docs"], &parsed.server["files"]);
        assert_eq!(files.environment["KEY"], "asecretb");
        assert_eq!((files.processes, files.concurrency), (Sharing::Agent, Some(4)));
        assert_eq!(docs.headers["authorization"], "Bearer secret");
        let name = docs.name("docs").unwrap();
        assert_eq!(name.to_string(), "example.org/docs");
        let options = docs.options(name, Limits::default());
        assert_eq!(options.stale_if_error, Duration::from_secs(60));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, reason) in [
            ("[server.a]", "`command` or `url`"),
            ("[server.a]\ncommand = [\"x\"]\nurl = \"http://h\"", "one of them only"),
            ("[server.a]\ncommand = [\"x\"]\nenvironment = { K = \"${NO}\" }", "`NO` is not set"),
            ("[server.a]\ncommand = [\"x\"]\nwhat = 1", "what"),
            ("[server.\"a/b\"]\ncommand = [\"x\"]", "no server's name"),
            ("[server.a]\ncommand = [\"x\"]\nauthority = \"A B\"", "no authority"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }
}
