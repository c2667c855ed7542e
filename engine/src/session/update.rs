//! REQUEST_UPDATE: of the peer, and its answers to ours.

use aip_codec::moqt::{
    error_code::RequestCode,
    id::RequestId,
    message::{Message, RequestUpdate},
    name::TrackNamespace,
    parameter::Parameter,
};

use super::{
    Event, Misbehavior, Session, SessionError,
    request::{Kind, Request, State},
};

impl Session {
    /// The peer answers the oldest update of ours.
    pub(super) fn update_response(
        &mut self,
        id: RequestId,
        message: Message,
    ) -> Result<(), SessionError> {
        let Some(request) = self.requests.get_mut(id) else { return Ok(()) };
        let Some(update) = request.updates_sent.pop_front() else {
            return Err(Misbehavior::UnexpectedUpdateResponse.into());
        };
        let result = match message {
            Message::RequestOk(ok) if !ok.properties.is_empty() => {
                return Err(Misbehavior::UpdateResponseProperties.into());
            }
            Message::RequestOk(ok) if !ok.parameters.iter().all(has_place_in_update_ok) => {
                return Err(Misbehavior::UpdateResponseParameter.into());
            }
            Message::RequestOk(ok) => Ok(ok),
            Message::RequestError(error) => Err(error),
            _ => return Err(Misbehavior::UnexpectedUpdateResponse.into()),
        };
        if result.is_err() {
            self.fills.remove(&update);
        }
        self.events.push_back(Event::UpdateResponse { request: id, update, result });
        Ok(())
    }

    /// The peer changes a request.
    pub(super) fn update_received(
        &mut self,
        id: RequestId,
        update: RequestUpdate,
    ) -> Result<(), SessionError> {
        self.check_hops(&update.parameters)?;
        self.requests.note_received(update.request_id)?;
        let limit = self.config.request_updates_max;
        let (_, unknown_token) = self.resolve_tokens(&update.parameters)?;
        let invalid_filters = self.has_invalid_filters(&update.parameters);
        let Some(request) = self.requests.get_mut(id) else { return Ok(()) };
        if !update.parameters.iter().all(|parameter| has_place_in_update(&request.kind, parameter))
        {
            return Err(Misbehavior::UpdateParameter.into());
        }
        request.updates_received.push_back(update.request_id);
        if limit != 0 && limit < request.updates_received.len() as u64 {
            if 19 <= self.version.number() {
                return Err(Misbehavior::TooManyRequestUpdates.into());
            }
            // Draft 18 has no limit to tell a peer of: its request fails, not its session.
            self.reject_update(id, RequestCode::EXCESSIVE_LOAD, "too many unanswered updates");
            return Ok(());
        }
        if let Some(prefix) = update.parameters.track_namespace_prefix() {
            let prefix = prefix.clone();
            if self.moves_onto_another(id, &prefix) {
                self.reject_update(id, RequestCode::PREFIX_OVERLAP, "prefix overlaps another");
                return Ok(());
            }
        }
        if unknown_token || invalid_filters {
            let code =
                if unknown_token { RequestCode::UNAUTHORIZED } else { RequestCode::INVALID_FILTER };
            self.reject_update(id, code, code.name());
            return Ok(());
        }
        let Some(request) = self.requests.get_mut(id) else { return Ok(()) };
        let (parameters, update) = (update.parameters, update.request_id);
        if request.state == State::Pending && !request.kind.is_ours() {
            if parameters.hops().is_some() {
                let parameters = parameters.clone();
                self.events.push_back(Event::Hops { request: id, parameters });
            }
            request.updates_held.push((update, parameters));
        } else {
            self.events.push_back(Event::Update { request: id, update, parameters });
        }
        Ok(())
    }

    /// Whether a prefix update overlaps another request; if not, it is noted.
    fn moves_onto_another(&mut self, id: RequestId, prefix: &TrackNamespace) -> bool {
        let tracks = match self.requests.get(id).map(|request| &request.kind) {
            Some(Kind::TracksReceived { .. }) => true,
            Some(Kind::NamespaceWatchReceived { .. }) => false,
            _ => return false,
        };
        let overlaps = self.requests.any(|other_id, request| {
            let other = match &request.kind {
                Kind::NamespaceWatchReceived { prefix } if !tracks => prefix,
                Kind::TracksReceived { prefix } if tracks => prefix,
                _ => return false,
            };
            other_id != id && (prefix.is_prefix_of(other) || other.is_prefix_of(prefix))
        });
        if !overlaps
            && let Some(Request {
                kind:
                    Kind::NamespaceWatchReceived { prefix: old } | Kind::TracksReceived { prefix: old },
                ..
            }) = self.requests.get_mut(id)
        {
            *old = prefix.clone();
        }
        overlaps
    }
}

/// Whether a parameter has a place in a REQUEST_UPDATE of this kind of request. Who publishes a track
/// has parameters of a subscription in PUBLISH, and so in its update.
const fn has_place_in_update(kind: &Kind, parameter: &Parameter) -> bool {
    match parameter {
        Parameter::AuthorizationToken(_) => true,
        Parameter::Hops(_) => matches!(
            kind,
            Kind::NamespaceReceived | Kind::Publication(_) | Kind::TracksReceived { .. }
        ),
        Parameter::Cost(_) => matches!(kind, Kind::NamespaceReceived),
        Parameter::SubscriberPriority(_) => {
            matches!(kind, Kind::Publication(_) | Kind::Subscription(_) | Kind::FetchReceived(_))
        }
        Parameter::Forward(_) => matches!(
            kind,
            Kind::Publication(_) | Kind::Subscription(_) | Kind::TracksReceived { .. }
        ),
        Parameter::SubgroupFilter(_)
        | Parameter::ObjectIdFilter(_)
        | Parameter::PriorityFilter(_)
        | Parameter::ObjectPropertyFilter(_) => {
            matches!(kind, Kind::Publication(_) | Kind::TracksReceived { .. })
        }
        Parameter::TrackPropertyFilter(_) => matches!(kind, Kind::TracksReceived { .. }),
        Parameter::TrackNamespacePrefix(_) => {
            matches!(kind, Kind::NamespaceWatchReceived { .. } | Kind::TracksReceived { .. })
        }
        Parameter::ObjectDeliveryTimeout(_)
        | Parameter::SubgroupDeliveryTimeout(_)
        | Parameter::LocationFilter(_) => {
            matches!(kind, Kind::Publication(_) | Kind::Subscription(_))
        }
        Parameter::FillParameters(_) | Parameter::NewGroupRequest(_) => {
            matches!(kind, Kind::Publication(_))
        }
        _ => false,
    }
}

/// Whether a parameter has a place in the answer to a REQUEST_UPDATE.
const fn has_place_in_update_ok(parameter: &Parameter) -> bool {
    matches!(parameter, Parameter::Expires(_) | Parameter::LargestObject(_))
}
