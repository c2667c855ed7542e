//! Calls through relays that know no CALL: the request is a track's name, the reply its only version
//! (PROFILE.md section 4.2).

use std::{sync::Arc, time::Duration};

use aip_codec::moqt::{
    error_code::RequestCode,
    id::GroupId,
    name::FullTrackName,
    property::{MAX_CACHE_DURATION, Properties},
};
use aip_engine::client::{Refusal, TrackVersion};
use bytes::Bytes;
use tokio::{sync::mpsc, time::Instant};

use super::{
    calls::{Context, NotRun},
    publisher::Wish,
};
use crate::{
    link::{Link, ReadError, Subscription, SubscriptionEvent},
    message::{Kind, Message, code, string_member},
    name::{CALLER_CALL, request_of_track},
    version,
};

/// Milliseconds that a relay may keep a reply: nobody else knows its name.
const KEPT_MS: u64 = 10_000;

/// How long a request that is a track of its own may take to come.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long to wait before it is asked for again.
const AGAIN: Duration = Duration::from_millis(50);
/// How long the caller's track may go on behind its request.
const LEFT_OPEN: Duration = Duration::from_secs(10);

/// What becomes of a track that is a call.
#[derive(Debug)]
pub(super) enum Reply {
    /// What the server said, the answer last.
    Version(TrackVersion),
    /// It was not run.
    Refused(Refusal),
}

/// Whether a track is a call.
pub(super) fn is_call(track: &FullTrackName) -> bool {
    track.name().starts_with(crate::name::CALL_TRACKS.as_bytes())
}

/// Runs the call that a track is. The reply goes to the publisher.
pub(super) async fn run(
    track: FullTrackName,
    context: Arc<Context>,
    link: Link,
    wishes: mpsc::Sender<Wish>,
) {
    let reply = match reply_to(&track, &context, &link).await {
        Ok(objects) => Reply::Version(TrackVersion {
            group: GroupId(0),
            objects,
            properties: Properties::builder()
                .integer(MAX_CACHE_DURATION, KEPT_MS)
                .build()
                .unwrap_or_else(|_| Properties::empty()),
        }),
        Err(refusal) => Reply::Refused(refusal),
    };
    // The publisher may be ending.
    _ = wishes.send(Wish::Replied(track, reply)).await;
}

/// Whether this may be a caller's name.
fn is_name(caller: &str) -> bool {
    caller.len() == 32 && caller.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The request that a caller publishes because it is too long for a track's name.
async fn request_of(caller: &str, context: &Context, link: &Link) -> Option<Bytes> {
    let track = context.options.name.requests_track(caller).ok()?;
    let until = Instant::now() + PATIENCE;
    loop {
        let mut subscription = link.subscribe(track.clone()).await;
        match tokio::time::timeout_at(until, subscription.next()).await.ok()?? {
            SubscriptionEvent::Version(version) => {
                tokio::spawn(tokio::time::timeout(LEFT_OPEN, ended(subscription)));
                return Some(version::result_of(&version));
            }
            // The relay may not know yet who publishes it.
            SubscriptionEvent::Refused(ReadError::Refused(_)) => tokio::time::sleep(AGAIN).await,
            SubscriptionEvent::Refused(_) | SubscriptionEvent::Ended(_) => return None,
        }
    }
}

/// Waits for a subscription's end. The caller ends its track when it has the reply; there are relays to
/// which a subscription that is cancelled is the end of the session, and so of the reply.
async fn ended(mut subscription: Subscription) {
    while let Some(SubscriptionEvent::Version(_)) = subscription.next().await {}
}

async fn reply_to(
    track: &FullTrackName,
    context: &Context,
    link: &Link,
) -> Result<Vec<Bytes>, Refusal> {
    let refused = |reason: &str| Refusal {
        code: RequestCode::DOES_NOT_EXIST,
        retry_after: Some(Duration::from_millis(1)),
        reason: reason.to_owned(),
    };
    let text = request_of_track(track).ok_or_else(|| refused("no request in Base64"))?;
    let parse = |text| match Message::parse(text, &context.options.limits) {
        Ok(request) if request.kind() == Kind::Request => Ok(request),
        Ok(_) | Err(_) => Err(refused("no JSON-RPC request")),
    };
    let mut request = parse(text)?;
    if request.method() == CALLER_CALL {
        let caller = string_member(request.body(), "caller").filter(|caller| is_name(caller));
        let caller = caller.ok_or_else(|| refused("no caller"))?;
        let text = request_of(&caller, context, link).await;
        request = parse(text.ok_or_else(|| refused("the caller's request cannot be had"))?)?;
    }
    if let Some(answer) = context.answer_here(&request) {
        return Ok(vec![answer.text().clone()]);
    }
    if request.method() == "subscriptions/listen" {
        return Err(refused("a subscription is no call that ends: follow tracks"));
    }
    // The whole name is the key: a relay that asks twice has it run once.
    let (key, backend) = (track.name().clone(), context.backend.clone());
    let parameters = aip_codec::moqt::parameter::Parameters::new();
    let running = context.running(&backend, &request, &parameters, Some(&key)).await;
    let running = match running {
        Ok(running) => running,
        Err(NotRun::Refused(refusal)) => return Err(refusal),
        Err(NotRun::Answered(answer)) => return Ok(vec![answer.text().clone()]),
    };
    let mut reader =
        running.stream.read(Some(0)).ok_or_else(|| refused("the reply is kept no more"))?;
    let mut objects = Vec::new();
    while let Some((_, message)) = reader.next().await {
        if message.kind() == Kind::Request {
            let reason = "the agent cannot be asked through a relay that knows no CALL";
            let answer = Message::error(message.id(), code::METHOD_NOT_FOUND, reason, "");
            backend.send(answer).await;
            continue;
        }
        let last = message.is_response();
        objects.push(message.text().clone());
        if last {
            let bytes = objects.iter().map(Bytes::len).sum();
            context.keyed.ended(&key, bytes, Instant::now());
            return Ok(objects);
        }
    }
    Err(refused("the call was given up"))
}
