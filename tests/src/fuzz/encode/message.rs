//! Messages.

use aip_codec::{
    aip::{call::Call, hops::RelayId, setup_option::AipOption},
    moqt::{
        error_code::{PublishDoneCode, RequestCode},
        id::{RequestId, TrackAlias},
        message::{
            Fetch, FetchOk, FetchTarget, Goaway, Message, MessageType as Kind, Namespace,
            NamespaceDone, Publish, PublishDone, PublishNamespace, PublishSkipped,
            PublishStateNotify, Reason, Redirect, RequestError, RequestOk, RequestUpdate, Setup,
            Subscribe, SubscribeNamespace, SubscribeOk, SubscribeTracks, TrackStatus,
        },
    },
};
use arbitrary::Result;

use super::value::{
    Input, bytes, location, namespace, number, optional, pair, parameters, properties, token, track,
};

/// A message of any kind.
pub(super) fn message(input: Input<'_, '_>) -> Result<Message> {
    let kind = crate::fuzz::message_type(input.arbitrary()?);
    match request(kind, input)? {
        Some(request) => Ok(request),
        None => answer(kind, input),
    }
}

/// A request; `None` if `kind` is none.
fn request(kind: Kind, input: Input<'_, '_>) -> Result<Option<Message>> {
    let request_id = RequestId(number(input)?);
    let parameters = parameters(input, 0)?;
    Ok(Some(match kind {
        Kind::RequestUpdate => Message::RequestUpdate(RequestUpdate { request_id, parameters }),
        Kind::Subscribe => {
            Message::Subscribe(Subscribe { request_id, track: track(input)?, parameters })
        }
        Kind::Publish => Message::Publish(Publish {
            request_id,
            track: track(input)?,
            track_alias: TrackAlias(number(input)?),
            parameters,
            properties: properties(input)?,
        }),
        Kind::Fetch => {
            Message::Fetch(Fetch { request_id, target: fetch_target(input)?, parameters })
        }
        Kind::TrackStatus => {
            Message::TrackStatus(TrackStatus { request_id, track: track(input)?, parameters })
        }
        Kind::PublishNamespace => Message::PublishNamespace(PublishNamespace {
            request_id,
            namespace: namespace(input)?,
            parameters,
        }),
        Kind::SubscribeNamespace => Message::SubscribeNamespace(SubscribeNamespace {
            request_id,
            prefix: namespace(input)?,
            parameters,
        }),
        Kind::SubscribeTracks => Message::SubscribeTracks(SubscribeTracks {
            request_id,
            prefix: namespace(input)?,
            parameters,
        }),
        Kind::Call => {
            let (namespace, name) = track(input)?.into_parts();
            Message::Call(Call { request_id, namespace, name, parameters })
        }

        _ => return Ok(None),
    }))
}

/// What is no request: SETUP, answers, and what is told without being asked.
fn answer(kind: Kind, input: Input<'_, '_>) -> Result<Message> {
    let parameters = parameters(input, 0)?;
    Ok(match kind {
        Kind::Setup => Message::Setup(setup(input)?),
        Kind::Goaway => Message::Goaway(Goaway {
            uri: bytes(input)?,
            timeout: number(input)?,
            request_id: optional(input, number)?.map(RequestId),
        }),
        Kind::RequestOk => {
            Message::RequestOk(RequestOk { parameters, properties: properties(input)? })
        }
        Kind::RequestError => Message::RequestError(request_error(input)?),
        Kind::SubscribeOk => Message::SubscribeOk(SubscribeOk {
            track_alias: TrackAlias(number(input)?),
            parameters,
            properties: properties(input)?,
        }),
        Kind::PublishDone => Message::PublishDone(PublishDone {
            code: PublishDoneCode(number(input)?),
            stream_count: optional(input, number)?,
            reason: reason(input)?,
        }),
        Kind::PublishStateNotify => Message::PublishStateNotify(PublishStateNotify { parameters }),
        Kind::FetchOk => Message::FetchOk(FetchOk {
            end_of_track: input.arbitrary()?,
            end: location(input)?,
            parameters,
            properties: properties(input)?,
        }),
        Kind::Namespace => Message::Namespace(Namespace { suffix: namespace(input)?, parameters }),
        Kind::NamespaceDone => Message::NamespaceDone(NamespaceDone { suffix: namespace(input)? }),
        Kind::PublishSkipped => {
            let (suffix, name) = track(input)?.into_parts();
            Message::PublishSkipped(PublishSkipped { suffix, name })
        }
        _ => return Err(arbitrary::Error::IncorrectFormat),
    })
}

fn reason(input: Input<'_, '_>) -> Result<Reason> {
    Ok(Reason::new(&String::from_utf8_lossy(&bytes(input)?)))
}

fn setup(input: Input<'_, '_>) -> Result<Setup> {
    let mut setup = Setup {
        path: optional(input, bytes)?,
        authority: optional(input, bytes)?,
        max_auth_token_cache_size: number(input)?,
        implementation: optional(input, bytes)?,
        ..Setup::default()
    };
    for _ in 0..input.int_in_range(0..=2)? {
        setup.tokens.push(token(input)?);
        setup.unknown.push(pair(input)?);
    }
    if input.arbitrary()? {
        (setup.max_filter_ranges, setup.max_request_updates) = (number(input)?, number(input)?);
    }
    if input.arbitrary()? {
        let content_types =
            (0..input.int_in_range(0..=2)?).map(|_| bytes(input)).collect::<Result<_>>()?;
        setup.aip = Some(AipOption { content_types, ..AipOption::default() });
    }
    if input.arbitrary()? {
        setup.relay_id = Some(RelayId(number(input)?)).filter(|relay| *relay != RelayId::UNKNOWN);
    }
    Ok(setup)
}

fn fetch_target(input: Input<'_, '_>) -> Result<FetchTarget> {
    Ok(match input.int_in_range(0..=2)? {
        0 => FetchTarget::Track(track(input)?),
        1 => FetchTarget::Standalone {
            track: track(input)?,
            start: location(input)?,
            end: location(input)?,
        },
        _ => FetchTarget::Joining {
            relative: input.arbitrary()?,
            request_id: RequestId(number(input)?),
            start: number(input)?,
        },
    })
}

fn request_error(input: Input<'_, '_>) -> Result<RequestError> {
    let code = if input.arbitrary()? { RequestCode::REDIRECT } else { RequestCode(number(input)?) };
    let mut redirect = None;
    if input.arbitrary()? {
        let (namespace, name) = track(input)?.into_parts();
        redirect = Some(Redirect { uri: bytes(input)?, namespace, name });
    }
    Ok(RequestError { code, retry_interval: number(input)?, reason: reason(input)?, redirect })
}
