//! Keeps the process running.

use std::time::Duration;

use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{
    Command, Options,
    handshake::{self, Failed},
    process::Process,
    session::{Outcome, Session},
};
use crate::{
    backend::{Event, News, tell},
    description::Description,
    message::{Message, code},
};

const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A run that lasted so long was a good one.
const GOOD_RUN: Duration = Duration::from_secs(10);

/// How a run ended.
enum End {
    /// The edge wants no more of it. Holds who waits for the end.
    Shutdown(Option<tokio::sync::oneshot::Sender<()>>),
    /// By itself.
    Died,
}

/// Everything outside a run.
struct Supervisor {
    options: Options,
    commands: mpsc::Receiver<Command>,
    cancels: mpsc::UnboundedReceiver<u64>,
    /// Said before [`Command::Shutdown`], which may wait behind requests.
    ending: watch::Receiver<bool>,
    news: mpsc::Sender<News>,
    /// Whether to ask for a session at once.
    legacy: bool,
    /// The number of the last request of any run.
    last: u64,
}

/// Runs the process until the edge wants no more of it.
pub(super) async fn run(
    options: Options,
    commands: mpsc::Receiver<Command>,
    cancels: mpsc::UnboundedReceiver<u64>,
    ending: watch::Receiver<bool>,
    news: mpsc::Sender<News>,
) {
    let legacy = options.legacy == Some(true);
    // Numbers 1 and 2 are the handshake's.
    let mut supervisor = Supervisor { options, commands, cancels, ending, news, legacy, last: 2 };
    let mut backoff = BACKOFF_MIN;
    loop {
        let began = Instant::now();
        match supervisor.run_once().await {
            Ok(End::Shutdown(done)) => {
                if let Some(done) = done {
                    // Who waited may have gone.
                    _ = done.send(());
                }
                return;
            }
            Ok(End::Died) if GOOD_RUN <= began.elapsed() => backoff = BACKOFF_MIN,
            Ok(End::Died) => {}
            Err(reason) => {
                tracing::warn!("the MCP server cannot be started: {reason}");
                supervisor.tell(News::Down(reason)).await;
            }
        }
        if let Some(done) = supervisor.wait(backoff).await {
            // Who waited may have gone.
            _ = done.send(());
            return;
        }
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

impl Supervisor {
    async fn tell(&self, news: News) {
        // The edge may be ending.
        _ = self.news.send(news).await;
    }

    /// Starts the process and stays with it. `Err` says why it could not be started.
    async fn run_once(&mut self) -> Result<End, String> {
        let mut process = Process::start(&self.options)
            .map_err(|error| format!("`{}`: {error}", self.options.command.join(" ")))?;
        let Some(shaken) = self.shake(&mut process).await else {
            process.stop(self.options.stop_timeout).await;
            return Ok(End::Shutdown(None));
        };
        let description = match shaken {
            Ok(description) => description,
            Err(failed) => {
                let status = process.stop(self.options.stop_timeout).await;
                return self.not_begun(failed, &status);
            }
        };
        tracing::info!(revision = %description.revision, "the MCP server is up");
        self.tell(News::Up(description.clone())).await;
        let mut session = Session::new(
            description.revision.is_modern(),
            self.options.exclusive,
            self.options.concurrency,
            self.last,
        );
        let end = self.attend(&mut process, &mut session, &description).await;
        self.last = session.last();
        match end {
            End::Died => session
                .fail_all("the MCP server ended before it answered; it is being started again"),
            // A server that still works on something may not end when its input does.
            End::Shutdown(_) => {
                for number in session.numbers() {
                    process.write(cancelled(number).text());
                }
                session.fail_all("the edge beside the MCP server is ending");
            }
        }
        let status = process.stop(self.options.stop_timeout).await;
        if let End::Died = end {
            tracing::warn!(status, "the MCP server ended");
            self.tell(News::Down(format!("the MCP server ended ({status})"))).await;
        }
        Ok(end)
    }

    /// The handshake; `None` if the edge ends meanwhile, which a server that never answers must not
    /// hold up.
    async fn shake(&mut self, process: &mut Process) -> Option<Result<Description, Failed>> {
        tokio::select! {
            shaken = handshake::shake(process, &self.options, self.legacy) => Some(shaken),
            _ = self.ending.wait_for(|ending| *ending) => None,
        }
    }

    /// The handshake has failed.
    fn not_begun(&mut self, failed: Failed, status: &str) -> Result<End, String> {
        match failed {
            Failed::EndedOnProbe if self.options.legacy.is_none() => {
                self.legacy = true;
                Ok(End::Died)
            }
            Failed::EndedOnProbe => Err(format!("it ended at once ({status})")),
            Failed::Because(reason) => Err(reason),
        }
    }

    /// Carries messages both ways until the process or the edge ends.
    async fn attend(
        &mut self,
        process: &mut Process,
        session: &mut Session,
        description: &Description,
    ) -> End {
        loop {
            tokio::select! {
                line = process.read() => {
                    let Some(line) = line else { return End::Died };
                    match session.handle_line(line, &self.options.limits) {
                        Outcome::Done => {}
                        Outcome::Answer(answer) => _ = process.write(answer.text()),
                        Outcome::News(message) => self.tell_soon(message),
                    }
                }
                Some(number) = self.cancels.recv() => {
                    if session.forget(number) {
                        process.write(cancelled(number).text());
                    }
                }
                command = self.commands.recv() => match command {
                    None => return End::Shutdown(None),
                    Some(Command::Shutdown(done)) => return End::Shutdown(Some(done)),
                    Some(Command::Request { request, asker, events, ticket }) => {
                        let Some(number) = session.begin(&request, asker, events) else {
                            continue;
                        };
                        // Who asked may have gone: dropping its exchange cancels it.
                        if ticket.send(number).is_err() {
                            session.forget(number);
                        }
                    }
                    Some(Command::Send(message)) => {
                        if let (true, Some(id)) = (message.is_response(), message.id()) {
                            session.answered(id);
                        }
                        if !description.revision.is_modern() && !process.write(message.text()) {
                            tracing::warn!("the MCP server takes no input: a message was dropped");
                        }
                    }
                },
            }
            while let Some((number, text)) = session.next_to_write() {
                if !process.write(&text) {
                    session.fail(number, "the MCP server takes no input: it hangs");
                }
            }
        }
    }

    /// Hands on a notification, unless too many wait: floods are cut, nobody is held up.
    fn tell_soon(&self, message: Message) {
        if self.news.try_send(News::Message(message)).is_err() {
            tracing::debug!("a notification of the MCP server was dropped: too many wait");
        }
    }

    /// Waits, refusing what is asked meanwhile. Gives who waits for the end if the edge ends.
    async fn wait(&mut self, patience: Duration) -> Option<tokio::sync::oneshot::Sender<()>> {
        let until = Instant::now() + patience;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return None,
                Some(_) = self.cancels.recv() => {}
                command = self.commands.recv() => match command {
                    None => return Some(tokio::sync::oneshot::channel().0),
                    Some(Command::Shutdown(done)) => return Some(done),
                    Some(Command::Send(_)) => {}
                    Some(Command::Request { request, events, .. }) => {
                        let reason = "the MCP server is down; it is being started again: retry";
                        let id = request.id();
                        let answer = Message::error(id, code::INTERNAL_ERROR, reason, "");
                        // Who asked may have gone.
                        _ = tell(&events, Event::Answer(answer));
                    }
                },
            }
        }
    }
}

fn cancelled(number: u64) -> Message {
    let params = format!(r#"{{"requestId":{number},"reason":"cancelled by the agent"}}"#);
    Message::notification("notifications/cancelled", &params)
}
