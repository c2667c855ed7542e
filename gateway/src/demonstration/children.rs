//! Processes that end with the demonstration.

use std::{collections::VecDeque, path::PathBuf, process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{ChildStdin, ChildStdout, Command},
    sync::mpsc,
};

/// How long a process may take to end after SIGTERM.
const END: Duration = Duration::from_secs(10);
/// Lines of a process's log that are kept for an error.
const LINES_KEPT: usize = 20;
/// Lines that may wait to be looked at; older ones go.
const LINES_MAX: usize = 4_096;

/// Processes that stay until the end.
#[derive(Debug, Default)]
pub(super) struct Children {
    kept: Vec<Child>,
}

/// One process. It is killed when this is dropped.
#[derive(Debug)]
pub(super) struct Child {
    name: String,
    process: tokio::process::Child,
    lines: mpsc::Receiver<String>,
    last: VecDeque<String>,
}

/// A program of this project.
pub(super) fn beside(name: &str) -> Result<PathBuf, String> {
    let path = super::programs().ok_or("this program cannot be found")?.join(name);
    if path.exists() {
        Ok(path)
    } else {
        Err(format!("{} is missing: build it with `cargo build --release`", path.display()))
    }
}

impl Children {
    /// Starts a program of this project; its standard input and output are closed.
    pub(super) fn start(&mut self, name: &str, arguments: &[String]) -> Result<&mut Child, String> {
        self.kept.push(Child::begin(name, arguments)?);
        self.kept.last_mut().ok_or_else(|| format!("{name} is not there"))
    }

    /// The same, with its standard input and output for an agent.
    pub(super) fn start_with_streams(
        &mut self,
        name: &str,
        arguments: &[String],
    ) -> Result<(ChildStdout, ChildStdin), String> {
        let mut command = Command::new(beside(name)?);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = Child::start(name, command)?;
        let streams = child.process.stdout.take().zip(child.process.stdin.take());
        self.kept.push(child);
        streams.ok_or_else(|| format!("{name} has no standard streams"))
    }

    /// Ends them all, last started first.
    pub(super) async fn end(mut self) {
        // Edges of agents end at once, together; what was started first ends alone.
        let rest = self.kept.split_off(self.kept.len().min(1));
        let ending = rest.into_iter().map(|mut child| async move { child.end().await });
        futures::future::join_all(ending).await;
        while let Some(mut child) = self.kept.pop() {
            child.end().await;
        }
    }
}

impl Child {
    /// Starts a program of this project; its standard input and output are closed.
    pub(super) fn begin(name: &str, arguments: &[String]) -> Result<Self, String> {
        let mut command = Command::new(beside(name)?);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
        Self::start(name, command)
    }

    fn start(name: &str, mut command: Command) -> Result<Self, String> {
        let mut process = command
            .env("RUST_LOG", "warn,aip_gateway=info,aip_mcp=info,aip_relay=info,aip_engine=info")
            .stderr(Stdio::piped())
            // Ctrl-C is for the demonstration, which ends them in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{name} cannot be started: {error}"))?;
        let (sender, lines) = mpsc::channel(LINES_MAX);
        if let Some(stderr) = process.stderr.take() {
            tokio::spawn(async move {
                let mut reader = BufReader::new(stderr).lines();
                while let Ok(Some(line)) = reader.next_line().await {
                    // Read on, so that the process is never held up.
                    _ = sender.try_send(line);
                }
            });
        }
        Ok(Self { name: name.to_owned(), process, lines, last: VecDeque::new() })
    }

    /// The next line of its log.
    pub(super) async fn line(&mut self, patience: Duration) -> Result<String, String> {
        match tokio::time::timeout(patience, self.lines.recv()).await {
            Ok(Some(line)) => {
                self.last.push_back(line.clone());
                if LINES_KEPT < self.last.len() {
                    self.last.pop_front();
                }
                Ok(line)
            }
            Ok(None) => Err(self.failed("ended")),
            Err(_) => Err(self.failed("says nothing more")),
        }
    }

    /// The first line that holds these words.
    pub(super) async fn wait_for(
        &mut self,
        words: &str,
        patience: Duration,
    ) -> Result<String, String> {
        let until = tokio::time::Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            let line = self.line(left).await?;
            if line.contains(words) {
                return Ok(line);
            }
        }
    }

    fn failed(&self, what: &str) -> String {
        let last: Vec<&str> = self.last.iter().map(String::as_str).collect();
        format!("{} {what}; the last it said:\n{}", self.name, last.join("\n"))
    }

    /// Ends it as a signal does. What it said last.
    pub(super) async fn end(&mut self) -> Vec<String> {
        let id = self.process.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(id) = id {
            // It may have ended by itself.
            _ = kill_process(id, Signal::TERM);
        }
        if tokio::time::timeout(END, self.process.wait()).await.is_err() {
            // Nothing is left to do if even that fails.
            _ = self.process.kill().await;
        }
        let mut lines: Vec<String> = self.last.drain(..).collect();
        // What it started may hold its stderr open.
        while let Ok(Some(line)) =
            tokio::time::timeout(Duration::from_millis(200), self.lines.recv()).await
        {
            lines.push(line);
        }
        lines
    }
}
