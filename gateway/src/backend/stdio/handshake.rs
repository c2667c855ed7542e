//! Which revision a process speaks, and what it says of itself.

use std::time::Duration;

use bytes::Bytes;

use super::{Options, process::Process};
use crate::{
    backend::own_meta,
    description::Description,
    lines::Line,
    message::{Id, Kind, Message, code, string_member},
    revision::Revision,
};

/// How a handshake ended, if it did not succeed.
#[derive(Debug)]
pub(super) enum Failed {
    /// The process ended on a question of a newer revision: ask for a session the next time.
    EndedOnProbe,
    /// Anything else.
    Because(String),
}

/// Asks for `server/discover`, and for a session if that is not answered by a server without
/// sessions. `legacy` skips the first.
pub(super) async fn shake(
    process: &mut Process,
    options: &Options,
    legacy: bool,
) -> Result<Description, Failed> {
    let params = format!(r#"{{"_meta":{}}}"#, own_meta());
    let probe = Message::request(Id::from_number(1), "server/discover", &params);
    if !legacy {
        match ask(process, options, &probe, options.probe_timeout).await {
            Answer::Message(answer) => {
                if let Some(outcome) = of_discover(&answer) {
                    return outcome;
                }
            }
            Answer::Nothing => {}
            Answer::End => return Err(Failed::EndedOnProbe),
        }
        if options.legacy == Some(false) {
            return Err(Failed::Because("it does not answer server/discover".to_owned()));
        }
    }
    match initialize(process, options).await {
        // It was slow to begin, and took the probe for its client's choice.
        Err(Refused::Modern) if !legacy => {
            match ask(process, options, &probe, options.start_timeout).await {
                Answer::Message(answer) => of_discover(&answer).unwrap_or_else(|| {
                    Err(Failed::Because("it has neither sessions nor server/discover".to_owned()))
                }),
                Answer::Nothing | Answer::End => {
                    Err(Failed::Because("it does not answer server/discover".to_owned()))
                }
            }
        }
        Err(Refused::Modern) => Err(Failed::Because("it has no sessions".to_owned())),
        Err(Refused::Because(reason)) => Err(Failed::Because(reason)),
        Ok(description) => Ok(description),
    }
}

/// Why there is no session.
enum Refused {
    /// The server speaks a revision without sessions.
    Modern,
    Because(String),
}

/// Whether an error names a revision without sessions as supported.
fn wants_modern(error: &Message) -> bool {
    let error: Option<serde_json::Value> = serde_json::from_str(error.body()).ok();
    let supported = error.as_ref().and_then(|error| error.pointer("/data/supported")?.as_array());
    let mut supported = supported.into_iter().flatten().filter_map(|version| version.as_str());
    supported.any(|version| Revision::parse(version).is_some_and(Revision::is_modern))
}

/// What the answer to the probe says; `None` is to ask for a session.
fn of_discover(answer: &Message) -> Option<Result<Description, Failed>> {
    if answer.kind() == Kind::Result {
        return Description::from_result(answer.body_bytes()).map(Ok);
    }
    let error: serde_json::Value = serde_json::from_str(answer.body()).ok()?;
    if error.get("code")?.as_i64()? != i64::from(code::UNSUPPORTED_PROTOCOL_VERSION) {
        return None;
    }
    let supported = error.pointer("/data/supported")?;
    let sessions = supported.as_array()?.iter().filter_map(|version| version.as_str());
    if sessions.filter_map(Revision::parse).any(|revision| !revision.is_modern()) {
        return None;
    }
    let reason = format!("it speaks only MCP {supported}, which this edge does not");
    Some(Err(Failed::Because(reason)))
}

async fn initialize(process: &mut Process, options: &Options) -> Result<Description, Refused> {
    let params = options.client.initialize_params();
    let request = Message::request(Id::from_number(2), "initialize", &params);
    match ask(process, options, &request, options.start_timeout).await {
        Answer::Message(answer) if answer.kind() == Kind::Result => {
            let description = Description::from_result(answer.body_bytes()).ok_or_else(|| {
                let version = string_member(answer.body(), "protocolVersion");
                Refused::Because(format!(
                    "it answers `initialize` with revision {version:?}, which is not spoken here"
                ))
            })?;
            process.write(Message::notification("notifications/initialized", "").text());
            Ok(description)
        }
        Answer::Message(answer) if wants_modern(&answer) => Err(Refused::Modern),
        Answer::Message(answer) => {
            Err(Refused::Because(format!("it refuses `initialize`: {}", answer.body())))
        }
        Answer::Nothing => Err(Refused::Because(format!(
            "it does not answer `initialize` (revision {}) within {:?}",
            Revision::LATEST_LEGACY,
            options.start_timeout
        ))),
        Answer::End => Err(Refused::Because("it ended before it answered `initialize`".to_owned())),
    }
}

enum Answer {
    Message(Message),
    Nothing,
    End,
}

/// Asks, and waits for the answer; whatever else is said meanwhile is dropped.
async fn ask(
    process: &mut Process,
    options: &Options,
    request: &Message,
    patience: Duration,
) -> Answer {
    process.write(request.text());
    let answered = async {
        loop {
            let Some(line) = process.read().await else { return Answer::End };
            let Line::Whole(line) = line else { continue };
            if let Some(answer) = answer_to(request, line, options) {
                return Answer::Message(answer);
            }
        }
    };
    tokio::time::timeout(patience, answered).await.unwrap_or(Answer::Nothing)
}

fn answer_to(request: &Message, line: Bytes, options: &Options) -> Option<Message> {
    let message = Message::parse(line, &options.limits).ok()?;
    // An error without an id can only belong to what was asked last.
    (message.is_response() && (message.id() == request.id() || message.id().is_none()))
        .then_some(message)
}
