//! Calls through relays that know no CALL: the request is a track's name, the reply its only version
//! (PROFILE.md section 4.2).

use aip_codec::moqt::id::GroupId;

use super::{Connector, Talk};
use crate::{
    link::ReadError,
    message::{Id, Message, code},
    name::CALLER_CALL,
    random::unguessable,
    version,
};

/// Bytes of JSON that a request may have to be a track's name; a longer one is a track's content.
const REQUEST_LENGTH_MAX: usize = 3_000;

/// Calls the server by a track. The answer, or the error that says why there is none.
pub(super) async fn run(connector: &Connector, request: &Message, talk: &Talk) -> Message {
    match reply_to(connector, request, talk).await {
        Ok(answer) => match request.id() {
            Some(id) => answer.with_id(id.clone()),
            None => answer,
        },
        Err(reason) => Message::error(request.id(), code::INTERNAL_ERROR, &reason, ""),
    }
}

async fn reply_to(
    connector: &Connector,
    request: &Message,
    talk: &Talk,
) -> Result<Message, String> {
    // Nobody can guess the track's name, and no cache holds it.
    let nonce = unguessable().ok_or("no random numbers can be had")?;
    let id = Id::from_raw(&format!("\"{nonce}\"")).ok_or("no id can be made")?;
    let mut sent = request.with_id(id.clone());
    let server = &connector.options.server;
    let mut offered = None;
    if REQUEST_LENGTH_MAX < sent.text().len() {
        let track = server.requests_track(&nonce).map_err(|error| error.to_string())?;
        let content = version::of_result(GroupId(0), sent.text(), None);
        offered = Some(connector.link.offer(track, content).await);
        let params = format!(r#"{{"caller":"{nonce}"}}"#);
        sent = Message::request(id, CALLER_CALL, &params);
    }
    let track = server.call_track(sent.text()).map_err(|error| error.to_string())?;
    let version = connector.link.read(track).await;
    drop(offered);
    let version = version.map_err(|error| match error {
        ReadError::Refused(refusal) => format!(
            "the call by a track was refused: {} ({})",
            refusal.reason.escape_debug(),
            refusal.code.name()
        ),
        ReadError::Unavailable(error) => format!("the call cannot be made now: {error}"),
        ReadError::Lost => {
            "the session with the relay was lost; whether the server ran this is not known"
                .to_owned()
        }
    })?;
    for object in &version.objects {
        let parsed = Message::parse(object.clone(), &connector.options.limits);
        let message =
            parsed.map_err(|error| format!("the reply is no message: {}", error.reason))?;
        if message.is_response() {
            return Ok(message);
        }
        // An agent that has gone is noticed by who called.
        _ = talk.to_agent.send(message).await;
    }
    Err("the reply has no answer".to_owned())
}
