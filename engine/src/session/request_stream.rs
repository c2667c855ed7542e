//! What the peer says on bidirectional streams: requests, answers, updates.

use std::time::{Duration, Instant};

use aip_codec::moqt::{
    error_code::{RequestCode, ResetCode},
    id::RequestId,
    message::{Frame, FrameDecoder, Message, MessageType, Namespace, Reason, RequestError},
    name::TrackNamespace,
    parameter::{Parameter, Parameters},
    token::Token,
};
use bytes::Bytes;

use super::{
    AuthToken, Event, Misbehavior, RangeFilters, Response, Session, SessionError,
    State as SessionState, event,
    outgoing::Begin,
    range::fetch_ok_end,
    request::{FetchReceived, Kind, Meaning, Publication, Request, State, Subscription},
    token_cache::Resolved,
};
use crate::{
    schedule::{DEFAULT_PRIORITY, Precedence},
    transport::{Action, StreamId},
};

/// How long a request whose peer listens no more may wait for the peer's last word, which was said
/// before but may come after.
const LAST_WORD_GRACE: Duration = Duration::from_millis(500);

impl Session {
    pub(super) fn receive_bidirectional(
        &mut self,
        stream: StreamId,
        bytes: Bytes,
        fin: bool,
        now: Instant,
    ) -> Result<(), SessionError> {
        if let Some(request) = self.requests.on_stream(stream) {
            return self.receive_on_request(request, bytes, fin, now);
        }
        if stream.opener() == self.side || self.is_draining(stream, fin) {
            return Ok(());
        }
        if self.is_early(stream) {
            self.keep_for_later(stream, bytes, fin);
            return Ok(());
        }
        if !matches!(self.state, SessionState::Established) {
            self.keep_for_later(stream, bytes, fin);
            return Ok(());
        }
        let version = self.version;
        let flood = &mut self.flood;
        let (decoder, _) = self.opening.entry(stream).or_insert_with(|| {
            flood.stream_begun();
            (FrameDecoder::new(version), now)
        });
        decoder.push(bytes);
        if let Some(frame) = decoder.poll()? {
            if let Some((decoder, _)) = self.opening.remove(&stream) {
                if self.opening.is_empty() {
                    // Most sessions make a request and no more for long.
                    self.opening.shrink_to_fit();
                }
                self.partial.forget(stream);
                return self.begin_request(stream, frame, decoder, fin, now);
            }
        } else if fin {
            // It ended before its request was whole: only that request fails.
            self.opening.remove(&stream);
            self.partial.forget(stream);
            self.act(Action::Reset { stream, code: ResetCode::CANCELLED.0 });
        } else {
            self.partial.note(stream, true, now + self.config.control_message_timeout, true);
        }
        Ok(())
    }

    /// Whether a stream's request is over and the rest of what the peer says there is ignored.
    fn is_draining(&mut self, stream: StreamId, fin: bool) -> bool {
        if fin {
            self.draining.remove(&stream).is_some()
        } else {
            self.draining.contains_key(&stream)
        }
    }

    /// Holds what comes before the peer's SETUP, within a bound.
    pub(super) fn keep_for_later(&mut self, stream: StreamId, bytes: Bytes, fin: bool) {
        let size = self.early_bytes + bytes.len();
        let has_place = self.early.len() < self.config.requests_max;
        if size <= self.config.early_bytes_max && has_place {
            self.early_bytes = size;
            self.early.push_back((stream, bytes, fin));
            return;
        }
        self.forget_early(stream);
        self.act(Action::Stop { stream, code: ResetCode::EXCESSIVE_LOAD.0 });
        if stream.is_bidirectional() {
            self.act(Action::Reset { stream, code: ResetCode::EXCESSIVE_LOAD.0 });
        }
    }

    /// Whether something of a stream is held until the peer's SETUP is here.
    pub(super) fn is_early(&self, stream: StreamId) -> bool {
        matches!(self.state, SessionState::Starting { .. })
            && self.early.iter().any(|(other, ..)| *other == stream)
    }

    /// Forgets what is held of a stream.
    pub(super) fn forget_early(&mut self, stream: StreamId) {
        self.early.retain(|(other, ..)| *other != stream);
        self.early_bytes = self.early.iter().map(|(_, bytes, _)| bytes.len()).sum();
    }

    fn begin_request(
        &mut self,
        stream: StreamId,
        frame: Frame,
        decoder: FrameDecoder,
        fin: bool,
        now: Instant,
    ) -> Result<(), SessionError> {
        if !is_request(frame.kind) {
            return Err(Misbehavior::NotARequest.into());
        }
        if frame.kind == MessageType::Call && !self.has_calls() {
            return Err(Misbehavior::CallNotNegotiated.into());
        }
        let message = Message::decode(self.version, frame.kind, frame.body)?;
        let (id, kind, body) = received_request(message).ok_or(Misbehavior::NotARequest)?;
        self.check_hops(parameters_of(&body))?;
        self.requests.note_received(id)?;
        let (tokens, unknown_token) = self.resolve_tokens(parameters_of(&body))?;
        let refusal = self.refusal(&kind, unknown_token, &body);
        let is_call = matches!(kind, Kind::CallReceived);
        self.note_alias_of_publish(id, &kind, &body)?;
        let alias = match &kind {
            Kind::Subscription(subscription) => subscription.alias,
            _ => None,
        };
        let mut request = Request::new(stream, kind, decoder, now);
        request.receive_open = !fin;
        self.requests.insert(id, request);
        if let Some(code) = refusal {
            self.refuse_at_once(id, code, is_call);
            return Ok(());
        }
        if is_call {
            let priority = parameters_of(&body).subscriber_priority().unwrap_or(DEFAULT_PRIORITY);
            self.begin_outgoing(stream, Begin::pulled(id, Precedence::data(id, priority)));
        } else {
            let precedence = Precedence::request(id);
            self.act(Action::Prioritize { stream, precedence });
        }
        self.events.push_back(Event::Request { request: id, body, tokens });
        if let Some(alias) = alias {
            self.release_unknown_alias(alias)?;
        }
        self.receive_on_request(id, Bytes::new(), fin, now)
    }

    /// HOPS and COST have a place only between relays that have both told their numbers.
    pub(super) fn check_hops(&self, parameters: &Parameters) -> Result<(), Misbehavior> {
        let has_any = parameters.hops().is_some() || parameters.cost().is_some();
        if has_any && self.peer_relay().is_none() {
            return Err(Misbehavior::HopsNotNegotiated);
        }
        Ok(())
    }

    /// A PUBLISH tells its alias at once, since its objects may be here before our answer.
    fn note_alias_of_publish(
        &mut self,
        id: RequestId,
        kind: &Kind,
        body: &event::Request,
    ) -> Result<(), SessionError> {
        if let (Kind::Subscription(subscription), event::Request::Publish(publish)) = (kind, body) {
            self.aliases.insert(publish.track_alias, &subscription.track, id)?;
        }
        Ok(())
    }

    /// Why a request is refused before the layer above sees it.
    fn refusal(
        &self,
        kind: &Kind,
        unknown_token: bool,
        body: &event::Request,
    ) -> Option<RequestCode> {
        if unknown_token {
            return Some(RequestCode::UNAUTHORIZED);
        }
        if self.config.requests_max <= self.requests.received_count() {
            return Some(RequestCode::EXCESSIVE_LOAD);
        }
        if self.control.goaway_sent {
            return Some(RequestCode::GOING_AWAY);
        }
        if self.has_invalid_filters(parameters_of(body)) {
            return Some(RequestCode::INVALID_FILTER);
        }
        match kind {
            Kind::NamespaceWatchReceived { prefix } if self.overlaps(prefix, false) => {
                Some(RequestCode::PREFIX_OVERLAP)
            }
            Kind::TracksReceived { prefix } if self.overlaps(prefix, true) => {
                Some(RequestCode::PREFIX_OVERLAP)
            }
            Kind::Publication(publication) if self.is_duplicate(publication) => {
                Some(RequestCode::DUPLICATE_SUBSCRIPTION)
            }
            _ => None,
        }
    }

    fn refuse_at_once(&mut self, id: RequestId, code: RequestCode, is_call: bool) {
        if is_call {
            self.refuse_call(id, code, code.name());
        } else {
            self.reject(
                id,
                RequestError {
                    code,
                    retry_interval: retry_interval(id, code),
                    reason: Reason::new(code.name()),
                    redirect: None,
                },
            );
        }
    }

    /// Whether a prefix overlaps one of an open request of the same type (draft-22 section 4.2).
    fn overlaps(&self, prefix: &TrackNamespace, tracks: bool) -> bool {
        self.requests.any(|_, request| {
            let other = match &request.kind {
                Kind::NamespaceWatchReceived { prefix } if !tracks => prefix,
                Kind::TracksReceived { prefix } if tracks => prefix,
                _ => return false,
            };
            prefix.is_prefix_of(other) || other.is_prefix_of(prefix)
        })
    }

    /// Draft 18 has one subscription for each track, role and session.
    fn is_duplicate(&self, publication: &Publication) -> bool {
        self.version.number() == 18
            && self.requests.any(|_, request| {
                matches!(&request.kind, Kind::Publication(other) if other.track == publication.track)
            })
    }

    /// Whether a message, or the fill that it asks for, has range filters that its request must be
    /// refused for.
    pub(super) fn has_invalid_filters(&self, parameters: &Parameters) -> bool {
        let ranges_max = self.config.filter_ranges_max;
        let is_invalid = |list: &Parameters| RangeFilters::of(list, ranges_max).is_err();
        is_invalid(parameters) || parameters.fill_parameters().is_some_and(is_invalid)
    }

    pub(super) fn resolve_tokens(
        &mut self,
        parameters: &Parameters,
    ) -> Result<(Vec<AuthToken>, bool), SessionError> {
        let mut resolved = Vec::new();
        let mut unknown = false;
        let tokens: Vec<Token> = parameters.authorization_tokens().cloned().collect();
        for token in tokens {
            match self.tokens.resolve(token)? {
                Resolved::Token(token) => resolved.push(token),
                Resolved::Nothing => {}
                Resolved::UnknownAlias => unknown = true,
            }
        }
        Ok((resolved, unknown))
    }

    fn receive_on_request(
        &mut self,
        id: RequestId,
        bytes: Bytes,
        fin: bool,
        now: Instant,
    ) -> Result<(), SessionError> {
        let timeout = now + self.config.control_message_timeout;
        let Some(request) = self.requests.get_mut(id) else { return Ok(()) };
        if matches!(request.kind, Kind::CallSent | Kind::CallReceived) {
            request.decoder.push(bytes);
            let bytes = request.decoder.take_remainder();
            self.receive_on_call(id, bytes, fin);
            return Ok(());
        }
        let stream = request.stream;
        // Said before the messages are read, since one of them may end the request.
        request.receive_open &= !fin;
        request.decoder.push(bytes);
        while let Some(request) = self.requests.get_mut(id) {
            let Some(frame) = request.decoder.poll()? else { break };
            self.partial.forget(stream);
            self.request_frame(id, frame, now)?;
        }
        let Some(request) = self.requests.get_mut(id) else { return Ok(()) };
        let partial = !request.decoder.is_empty();
        self.partial.note(stream, partial && !fin, timeout, true);
        if fin {
            self.request_stream_finished(id);
        }
        Ok(())
    }

    fn request_frame(
        &mut self,
        id: RequestId,
        frame: Frame,
        now: Instant,
    ) -> Result<(), SessionError> {
        let version = self.version;
        let Some(request) = self.requests.get_mut(id) else { return Ok(()) };
        let meaning = request.meaning(frame.kind, version)?;
        let message = Message::decode(version, frame.kind, frame.body)?;
        match (meaning, message) {
            (Meaning::Response, message) => self.response(id, message),
            (Meaning::UpdateResponse, message) => self.update_response(id, message),
            (Meaning::Update, Message::RequestUpdate(update)) => self.update_received(id, update),
            (Meaning::StateNotify, Message::PublishStateNotify(body)) => {
                self.events.push_back(Event::StateNotify { request: id, body });
                Ok(())
            }
            (Meaning::PublishDone, Message::PublishDone(done)) => {
                self.publish_done_received(id, done, now);
                Ok(())
            }
            (Meaning::Namespace, Message::Namespace(namespace)) => {
                self.check_hops(&namespace.parameters)?;
                let Some(request) = self.requests.get_mut(id) else { return Ok(()) };
                if let Kind::NamespaceWatchSent { known } = &mut request.kind {
                    known.insert(namespace.suffix.clone());
                }
                let Namespace { suffix, parameters } = namespace;
                self.events.push_back(Event::Namespace { request: id, suffix, parameters });
                Ok(())
            }
            (Meaning::NamespaceDone, Message::NamespaceDone(done)) => {
                let was_known = match &mut request.kind {
                    Kind::NamespaceWatchSent { known } => known.remove(&done.suffix),
                    _ => false,
                };
                if !was_known {
                    return Err(Misbehavior::NamespaceDoneFirst.into());
                }
                self.events.push_back(Event::NamespaceDone { request: id, suffix: done.suffix });
                Ok(())
            }
            (Meaning::PublishSkipped, Message::PublishSkipped(skipped)) => {
                self.events.push_back(Event::PublishSkipped {
                    request: id,
                    suffix: skipped.suffix,
                    name: skipped.name,
                });
                Ok(())
            }
            (Meaning::Goaway, Message::Goaway(goaway)) => {
                if std::mem::replace(&mut request.goaway_received, true) {
                    return Err(Misbehavior::SecondRequestGoaway.into());
                }
                if self.side == crate::transport::Side::Server && !goaway.uri.is_empty() {
                    return Err(Misbehavior::RequestGoawayUriFromClient.into());
                }
                if goaway.request_id.is_some() {
                    return Err(aip_codec::Violation::TrailingBytes.into());
                }
                self.events.push_back(Event::Goaway {
                    request: Some(id),
                    uri: goaway.uri,
                    timeout: goaway.timeout,
                });
                Ok(())
            }
            _ => Err(Misbehavior::UnexpectedMessage.into()),
        }
    }

    /// The first answer to a request of ours.
    fn response(&mut self, id: RequestId, message: Message) -> Result<(), SessionError> {
        let Some(request) = self.requests.get_mut(id) else { return Ok(()) };
        let body = match message {
            Message::RequestError(error) => {
                self.check_redirect(id, &error)?;
                // What was sent behind a PUBLISH that is refused belongs to nothing any more.
                self.reset_streams_of(id, ResetCode::CANCELLED);
                self.end_request(id);
                self.events
                    .push_back(Event::Response { request: id, body: Response::Error(error) });
                return Ok(());
            }
            Message::SubscribeOk(ok) => {
                if let Kind::Subscription(subscription) = &mut request.kind {
                    subscription.alias = Some(ok.track_alias);
                    self.aliases.insert(ok.track_alias, &subscription.track, id)?;
                }
                Response::SubscribeOk(ok)
            }
            Message::FetchOk(ok) => {
                if let Kind::FetchSent(fetch) = &request.kind
                    && fetch.start.is_some_and(|start| fetch_ok_end(self.version, ok.end) < start)
                {
                    return Err(Misbehavior::FetchEndsBeforeStart.into());
                }
                Response::FetchOk(ok)
            }
            Message::RequestOk(ok) => {
                if !ok.properties.is_empty() && !request.kind.ok_has_properties() {
                    return Err(Misbehavior::UnexpectedProperties.into());
                }
                check_ok_parameters(&request.kind, &ok.parameters)?;
                Response::Ok(ok)
            }
            _ => return Err(Misbehavior::UnexpectedResponse.into()),
        };
        request.state = State::Established;
        let is_status = matches!(request.kind, Kind::TrackStatusSent);
        let alias = match &body {
            Response::SubscribeOk(ok) => Some(ok.track_alias),
            _ => None,
        };
        self.events.push_back(Event::Response { request: id, body });
        if is_status {
            self.end_request(id);
        }
        if let Some(alias) = alias {
            self.release_unknown_alias(alias)?;
        }
        self.end_fetch_if_complete(id);
        Ok(())
    }

    fn check_redirect(&self, id: RequestId, error: &RequestError) -> Result<(), SessionError> {
        let Some(redirect) = &error.redirect else { return Ok(()) };
        if self.side == crate::transport::Side::Server && !redirect.uri.is_empty() {
            return Err(Misbehavior::RedirectUriFromClient.into());
        }
        let namespace_scoped = self
            .requests
            .get(id)
            .is_some_and(|request| request.kind.is_namespace_scoped(self.version));
        if namespace_scoped && !redirect.name.is_empty() {
            return Err(Misbehavior::RedirectNamesTrack.into());
        }
        Ok(())
    }

    /// The peer ended its side of a request's stream: it has no more to say, which is no cancel.
    fn request_stream_finished(&mut self, id: RequestId) {
        let Some(request) = self.requests.get_mut(id) else { return };
        request.receive_open = false;
        self.partial.forget(request.stream);
        let failed = match &request.kind {
            // The answer, or PUBLISH_DONE, was still owed.
            _ if request.state == State::Pending && request.kind.is_ours() => true,
            Kind::Subscription(subscription) => subscription.done.is_none(),
            // The end of its answer is the end of every namespace in it.
            Kind::NamespaceWatchSent { .. } => true,
            _ => false,
        };
        if failed {
            self.events.push_back(Event::Ended { request: id });
            self.end_request(id);
        }
    }

    /// The peer reset its side of a bidirectional stream.
    pub(super) fn bidirectional_reset(
        &mut self,
        stream: StreamId,
        code: ResetCode,
        now: Instant,
    ) -> Result<(), SessionError> {
        self.partial.forget(stream);
        let opening = self.opening.remove(&stream).map(|(_, began)| began);
        if opening.is_some() {
            self.act(Action::Reset { stream, code: ResetCode::CANCELLED.0 });
        }
        self.forget_early(stream);
        self.draining.remove(&stream);
        let id = self.requests.on_stream(stream);
        let request = id.and_then(|id| self.requests.get(id));
        let unanswered = request.filter(|it| it.is_unanswered()).map(|it| it.began);
        if self.config.minds_resets
            && stream.opener() != self.side
            && let Some(began) = opening.or(unanswered)
        {
            self.flood.stream_reset(began, now)?;
        }
        let Some(id) = id else { return Ok(()) };
        if let Some(request) = self.requests.get_mut(id) {
            request.receive_open = false;
            if matches!(request.kind, Kind::CallSent | Kind::CallReceived) {
                self.events.push_back(Event::CallReset { request: id, code });
                self.forget_call_if_over(id);
                return Ok(());
            }
        }
        self.cancelled_by_peer(id);
        Ok(())
    }

    /// The peer asks us to send no more on a bidirectional stream.
    pub(super) fn bidirectional_stopped(
        &mut self,
        stream: StreamId,
        code: ResetCode,
        now: Instant,
    ) {
        let Some(id) = self.requests.on_stream(stream) else { return };
        self.drop_outgoing(stream);
        if let Some(request) = self.requests.get_mut(id) {
            let was_open = std::mem::replace(&mut request.send_open, false);
            if matches!(request.kind, Kind::CallSent | Kind::CallReceived) {
                if was_open {
                    self.events.push_back(Event::CallStopped { request: id, code });
                }
                self.forget_call_if_over(id);
                return;
            }
            if request.receive_open && request.kind.peer_has_last_word() {
                self.stopped.insert((now + LAST_WORD_GRACE, id));
                return;
            }
        }
        self.cancelled_by_peer(id);
    }

    pub(super) fn cancelled_by_peer(&mut self, id: RequestId) {
        let has_done = self.requests.get(id).is_some_and(|request| {
            matches!(&request.kind, Kind::Subscription(subscription) if subscription.done.is_some())
        });
        if has_done {
            // The request is over already; its streams are still awaited.
            return;
        }
        self.events.push_back(Event::Ended { request: id });
        self.cancel_streams(id, ResetCode::CANCELLED);
    }
}

/// One to two seconds for what was too much, spread by the request, so that not all come back at
/// once; plus one as the wire wants it. 0 for what will not be otherwise.
fn retry_interval(id: RequestId, code: RequestCode) -> u64 {
    let spread = id.0.wrapping_mul(31) % 1_000;
    if code == RequestCode::EXCESSIVE_LOAD { 1_001 + spread } else { 0 }
}

const fn is_request(kind: MessageType) -> bool {
    matches!(
        kind,
        MessageType::Subscribe
            | MessageType::Publish
            | MessageType::Fetch
            | MessageType::TrackStatus
            | MessageType::PublishNamespace
            | MessageType::SubscribeNamespace
            | MessageType::SubscribeTracks
            | MessageType::Call
    )
}

/// A request's number, what must be remembered of it, and what the layer above learns.
fn received_request(message: Message) -> Option<(RequestId, Kind, event::Request)> {
    Some(match message {
        Message::Subscribe(body) => {
            let kind = Kind::Publication(Publication::new(body.track.clone(), false));
            (body.request_id, kind, event::Request::Subscribe(body))
        }
        Message::Publish(body) => {
            let mut subscription = Subscription::new(body.track.clone(), true, &body.parameters);
            subscription.alias = Some(body.track_alias);
            (body.request_id, Kind::Subscription(subscription), event::Request::Publish(body))
        }
        Message::Fetch(body) => (
            body.request_id,
            Kind::FetchReceived(FetchReceived::default()),
            event::Request::Fetch(body),
        ),
        Message::TrackStatus(body) => {
            (body.request_id, Kind::TrackStatusReceived, event::Request::TrackStatus(body))
        }
        Message::PublishNamespace(body) => {
            (body.request_id, Kind::NamespaceReceived, event::Request::PublishNamespace(body))
        }
        Message::SubscribeNamespace(body) => {
            let kind = Kind::NamespaceWatchReceived { prefix: body.prefix.clone() };
            (body.request_id, kind, event::Request::SubscribeNamespace(body))
        }
        Message::SubscribeTracks(body) => {
            let kind = Kind::TracksReceived { prefix: body.prefix.clone() };
            (body.request_id, kind, event::Request::SubscribeTracks(body))
        }
        Message::Call(body) => (body.request_id, Kind::CallReceived, event::Request::Call(body)),
        _ => return None,
    })
}

const fn parameters_of(body: &event::Request) -> &Parameters {
    match body {
        event::Request::Subscribe(body) => &body.parameters,
        event::Request::Publish(body) => &body.parameters,
        event::Request::Fetch(body) => &body.parameters,
        event::Request::TrackStatus(body) => &body.parameters,
        event::Request::PublishNamespace(body) => &body.parameters,
        event::Request::SubscribeNamespace(body) => &body.parameters,
        event::Request::SubscribeTracks(body) => &body.parameters,
        event::Request::Call(body) => &body.parameters,
    }
}

/// Checks that a REQUEST_OK has only what its request's kind allows.
fn check_ok_parameters(kind: &Kind, parameters: &Parameters) -> Result<(), SessionError> {
    let allowed = |parameter: &Parameter| match (kind, parameter) {
        (Kind::TrackStatusSent, Parameter::LargestObject(_)) => true,
        (Kind::TrackStatusSent, Parameter::Expires(_)) => false,
        (_, Parameter::LargestObject(_)) => false,
        _ => true,
    };
    if parameters.iter().all(allowed) { Ok(()) } else { Err(Misbehavior::ResponseParameter.into()) }
}
