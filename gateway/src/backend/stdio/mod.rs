//! An MCP server that is a process: messages are lines on its standard streams.

mod handshake;
mod process;
mod session;
mod supervisor;

use std::{path::PathBuf, time::Duration};

use tokio::sync::{mpsc, oneshot, watch};

use super::{Asker, ClientSide, Event, Exchange, Interest, News};
use crate::message::{Limits, Message};

/// How a process is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program, then its arguments.
    pub command: Vec<String>,
    /// Limits of its messages; a result is one.
    pub limits: Limits,
    /// How long `server/discover` may stay without an answer before the server is taken for one
    /// with sessions. 3 s.
    pub probe_timeout: Duration,
    /// How long it may take to begin. 30 s.
    pub start_timeout: Duration,
    /// Whether to ask for a session without asking for `server/discover` first; `None`: ask.
    pub legacy: Option<bool>,
    /// How long it may take to end after each step: closed input, SIGTERM, SIGKILL. 2 s.
    pub stop_timeout: Duration,
    /// Who talks with it: all agents together, or the one that it is for.
    pub client: ClientSide,
    /// Whether it is for one agent only, who is asked what belongs to no request. No.
    pub exclusive: bool,
    /// Requests that it works on at one time; others wait. 1,000.
    pub concurrency: usize,
    /// Variables of its environment besides those of the edge's own.
    pub environment: Vec<(String, String)>,
    /// Where it runs; `None` is where the edge does.
    pub directory: Option<PathBuf>,
}

impl Options {
    /// The defaults, with this command.
    pub fn new(command: Vec<String>) -> Self {
        Self {
            command,
            limits: Limits::default(),
            probe_timeout: Duration::from_secs(3),
            start_timeout: Duration::from_secs(30),
            legacy: None,
            stop_timeout: Duration::from_secs(2),
            client: ClientSide::of_all(),
            exclusive: false,
            concurrency: 1_000,
            environment: Vec::new(),
            directory: None,
        }
    }
}

/// A process, restarted whenever it ends. Clones are the same process.
#[derive(Clone, Debug)]
pub struct Stdio {
    commands: mpsc::Sender<Command>,
    cancels: mpsc::UnboundedSender<u64>,
    ending: watch::Sender<bool>,
}

/// What the edges want of the process.
#[derive(Debug)]
enum Command {
    Request {
        request: Message,
        asker: Asker,
        events: mpsc::Sender<Event>,
        ticket: oneshot::Sender<u64>,
    },
    Send(Message),
    Shutdown(oneshot::Sender<()>),
}

impl Stdio {
    /// Starts the process, and starts it again whenever it ends. Must be called within a runtime.
    pub fn start(options: Options) -> (Self, mpsc::Receiver<News>) {
        let (commands, commanded) = mpsc::channel(super::REQUESTS_MAX);
        let (cancels, cancelled) = mpsc::unbounded_channel();
        let (news, receiver) = mpsc::channel(super::NEWS_MAX);
        let ending = watch::Sender::new(false);
        let told = ending.subscribe();
        tokio::spawn(supervisor::run(options, commanded, cancelled, told, news));
        (Self { commands, cancels, ending }, receiver)
    }

    pub(super) async fn request(&self, request: Message, asker: Asker) -> Exchange {
        let (events, received) = mpsc::channel(super::EVENTS_MAX);
        let (ticket, given) = oneshot::channel();
        let command = Command::Request { request, asker, events, ticket };
        let given = match self.commands.send(command).await {
            Ok(()) => given.await.unwrap_or(0),
            Err(_) => 0,
        };
        let interest = Interest { ticket: given, cancels: self.cancels.clone() };
        Exchange::new(received, interest)
    }

    pub(super) async fn send(&self, message: Message) {
        // A process that has been shut down takes nothing more.
        _ = self.commands.send(Command::Send(message)).await;
    }

    pub(super) async fn shutdown(&self) {
        let (done, ended) = oneshot::channel();
        self.ending.send_replace(true);
        if self.commands.send(Command::Shutdown(done)).await.is_ok() {
            // Dropped unsaid if the process had been shut down before.
            _ = ended.await;
        }
    }
}

#[cfg(test)]
mod tests;
