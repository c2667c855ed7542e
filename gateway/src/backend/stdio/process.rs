//! One run of the process: its streams, and its end.

use std::{process::Stdio, time::Duration};

use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncWriteExt as _, BufWriter},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    sync::mpsc,
};

use super::Options;
use crate::lines::{Line, Lines, on_one_line};

/// Lines that may wait to be written; one more means that the process does not read.
const WRITES_MAX: usize = 1_024;
/// Lines that may wait to be looked at.
const READS_MAX: usize = 16;
/// Bytes of a line on stderr that are logged.
const STDERR_LINE_MAX: usize = 2_000;
/// Lines on stderr that are logged in a second.
const STDERR_LINES_MAX: u32 = 100;

/// A running process.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    group: Option<Pid>,
    /// Dropped to close the process's input.
    input: Option<mpsc::Sender<Bytes>>,
    output: mpsc::Receiver<Line>,
}

impl Process {
    /// Starts the command.
    pub(super) fn start(options: &Options) -> std::io::Result<Self> {
        let (program, arguments) = options.command.split_first().ok_or_else(|| {
            std::io::Error::new(std::io::ErrorKind::InvalidInput, "no command was given")
        })?;
        let mut command = Command::new(program);
        if let Some(directory) = &options.directory {
            command.current_dir(directory);
        }
        let mut child = command
            .args(arguments)
            .envs(options.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let (input, writes) = mpsc::channel(WRITES_MAX);
        let (reads, output) = mpsc::channel(READS_MAX);
        if let Some(stdin) = child.stdin.take() {
            tokio::spawn(write(stdin, writes));
        }
        if let Some(stdout) = child.stdout.take() {
            tokio::spawn(read(stdout, reads, options.limits.length_max));
        }
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(log(stderr));
        }
        Ok(Self { child, group, input: Some(input), output })
    }

    /// Queues a message. False if the process does not read.
    pub(super) fn write(&self, text: &Bytes) -> bool {
        self.input.as_ref().is_some_and(|input| input.try_send(text.clone()).is_ok())
    }

    /// The next line; `None` when the process has ended or closed its output.
    pub(super) async fn read(&mut self) -> Option<Line> {
        // A process may end while something that it started holds its output open.
        tokio::select! {
            biased;
            line = self.output.recv() => line,
            _ = self.child.wait() => {
                let rest = tokio::time::timeout(Duration::from_millis(100), self.output.recv());
                rest.await.ok().flatten()
            }
        }
    }

    /// Ends the process and whatever it started in its group: closes its input, then SIGTERM, then
    /// SIGKILL, `patience` after each. Says how it ended.
    pub(super) async fn stop(mut self, patience: Duration) -> String {
        self.input = None;
        self.output.close();
        for signal in [None, Some(Signal::TERM), Some(Signal::KILL)] {
            if let Some(signal) = signal {
                self.kill(signal);
            }
            if let Ok(Ok(status)) = tokio::time::timeout(patience, self.child.wait()).await {
                // What it started and left behind.
                self.kill(Signal::KILL);
                return status.to_string();
            }
        }
        "still there after SIGKILL".to_owned()
    }

    fn kill(&self, signal: Signal) {
        if let Some(group) = self.group {
            // No such group: it has ended already.
            _ = kill_process_group(group, signal);
        }
    }
}

async fn write(stdin: ChildStdin, mut lines: mpsc::Receiver<Bytes>) {
    let mut stdin = BufWriter::new(stdin);
    while let Some(line) = lines.recv().await {
        let line = on_one_line(line);
        let mut written =
            stdin.write_all(&line).await.is_ok() && stdin.write_all(b"\n").await.is_ok();
        if lines.is_empty() {
            written = written && stdin.flush().await.is_ok();
        }
        if !written {
            return;
        }
    }
    // A process that is gone needs no last words.
    _ = stdin.flush().await;
}

async fn read(stdout: ChildStdout, lines: mpsc::Sender<Line>, length_max: usize) {
    let mut reader = Lines::new(stdout, length_max);
    while let Ok(Some(line)) = reader.next().await {
        if lines.send(line).await.is_err() {
            return;
        }
    }
}

/// Logs what the process says on stderr, not faster than anyone can read; reads all of it.
async fn log(stderr: ChildStderr) {
    let mut lines = Lines::new(stderr, STDERR_LINE_MAX);
    let (mut second, mut count) = (tokio::time::Instant::now(), 0u32);
    while let Ok(Some(line)) = lines.next().await {
        if Duration::from_secs(1) <= second.elapsed() {
            if STDERR_LINES_MAX < count {
                tracing::warn!(dropped = count - STDERR_LINES_MAX, "the MCP server says too much");
            }
            (second, count) = (tokio::time::Instant::now(), 0);
        }
        count = count.saturating_add(1);
        if STDERR_LINES_MAX < count {
            continue;
        }
        let (Line::Whole(text) | Line::TooLong { head: text, .. }) = line;
        tracing::info!(target: "mcp_server", "{}", String::from_utf8_lossy(&text).escape_debug());
    }
}
