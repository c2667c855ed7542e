//! One agent over standard streams: messages are lines.

use std::{future::Future, pin::pin, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufWriter},
    sync::mpsc,
    task::JoinSet,
};

use crate::{
    lines::{Line, Lines, on_one_line},
    message::{Kind, Limits, Message, ParseError, code},
    offer::{Admitted, Offer, Session},
};

/// Messages that may wait for the agent to read them; answers wait, notifications are dropped.
const MESSAGES_MAX: usize = 1_024;
/// Requests of the agent at one time; one more is refused.
const REQUESTS_MAX: usize = 1_000;
/// How long answers may take once the agent has closed its end.
const LAST_ANSWERS: Duration = Duration::from_secs(60);
/// How long the agent may take to read the last of them.
const LAST_WRITES: Duration = Duration::from_secs(5);

/// Serves one agent until it closes `input`, its answers are written, or `stop` is done.
///
/// # Errors
/// If `input` cannot be read.
pub async fn run(
    offer: impl Into<Offer>,
    input: impl AsyncRead + Unpin,
    output: impl AsyncWrite + Unpin + Send + 'static,
    stop: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let offer = offer.into();
    let limits = *offer.limits();
    let (to_agent, messages) = mpsc::channel(MESSAGES_MAX);
    let writing = tokio::spawn(write(output, messages));
    let mut agent = Agent {
        session: offer.session(to_agent.clone()),
        to_agent,
        requests: JoinSet::new(),
        listening: JoinSet::new(),
    };
    let mut lines = Lines::new(input, limits.length_max);
    let mut stop = pin!(stop);
    let ended = loop {
        tokio::select! {
            () = &mut stop => break Ok(false),
            Some(_) = agent.requests.join_next() => {}
            Some(_) = agent.listening.join_next() => {}
            line = lines.next() => match line {
                Ok(Some(line)) => agent.handle_line(line, &limits).await,
                Ok(None) => break Ok(true),
                Err(error) => break Err(error),
            },
        }
    };
    if let Ok(true) = ended {
        let answered = async { while agent.requests.join_next().await.is_some() {} };
        tokio::select! {
            () = &mut stop => {}
            _ = tokio::time::timeout(LAST_ANSWERS, answered) => {}
        }
    }
    drop(agent);
    if tokio::time::timeout(LAST_WRITES, writing).await.is_err() {
        tracing::warn!("the client does not read: what was left for it is dropped");
    }
    ended.map(|_| ())
}

struct Agent {
    session: Session,
    to_agent: mpsc::Sender<Message>,
    requests: JoinSet<()>,
    /// Requests that are never answered by themselves.
    listening: JoinSet<()>,
}

impl Agent {
    async fn handle_line(&mut self, line: Line, limits: &Limits) {
        let parsed = match line {
            Line::Whole(text) => Message::parse(text, limits),
            Line::TooLong { .. } => {
                let reason = format!("at most {} bytes are taken", limits.length_max);
                Err(ParseError { code: code::INVALID_REQUEST, reason })
            }
        };
        match parsed {
            Ok(message) => self.handle(message).await,
            Err(error) => self.refuse(&error).await,
        }
    }

    async fn handle(&mut self, message: Message) {
        match message.kind() {
            Kind::Notification => self.session.handle_notification(message),
            Kind::Result | Kind::Error => self.session.handle_answer(&message),
            Kind::Request if REQUESTS_MAX <= self.requests.len() + self.listening.len() => {
                let reason = "too many requests are under way";
                let answer = Message::error(message.id(), code::INTERNAL_ERROR, reason, "");
                self.say(answer).await;
            }
            Kind::Request => match self.session.admit(&message) {
                // What follows may not overtake it.
                Ok(admitted) if message.method() == "initialize" => {
                    if let Some(answer) = admitted.answer(&message, self.to_agent.clone()).await {
                        self.say(answer).await;
                    }
                }
                Ok(admitted) => self.begin(message, admitted),
                Err(answer) => self.say(*answer).await,
            },
        }
    }

    fn begin(&mut self, request: Message, admitted: Admitted) {
        let listens = request.method() == "subscriptions/listen";
        let to_agent = self.to_agent.clone();
        let answering = async move {
            if let Some(answer) = admitted.answer(&request, to_agent.clone()).await {
                // The agent may have gone.
                _ = to_agent.send(answer).await;
            }
        };
        if listens {
            self.listening.spawn(answering);
        } else {
            self.requests.spawn(answering);
        }
    }

    async fn refuse(&self, error: &ParseError) {
        self.say(Message::error(None, error.code, &error.reason, "")).await;
    }

    async fn say(&self, message: Message) {
        // The agent may have gone.
        _ = self.to_agent.send(message).await;
    }
}

async fn write(output: impl AsyncWrite + Unpin, mut messages: mpsc::Receiver<Message>) {
    let mut output = BufWriter::new(output);
    while let Some(message) = messages.recv().await {
        let line = on_one_line(message.text().clone());
        let mut written =
            output.write_all(&line).await.is_ok() && output.write_all(b"\n").await.is_ok();
        if messages.is_empty() {
            written = written && output.flush().await.is_ok();
        }
        if !written {
            return;
        }
    }
    // A client that is gone needs no last words.
    _ = output.flush().await;
}
