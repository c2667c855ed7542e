//! Tracks that we serve: each has one current version, which is a group.

use std::time::Instant;

use aip_codec::moqt::{
    error_code::{PublishDoneCode, RequestCode},
    id::{ObjectId, RequestId, SubgroupId, TrackAlias},
    location::Location,
    message::{Fetch, FetchTarget, RequestError, Subscribe, TrackStatus},
    name::{FullTrackName, TrackNamespace},
    parameter::{GroupOrder, Parameter, Parameters},
    property::Properties,
    stream::{
        fetch::{Encoder as FetchEncoder, FetchObject},
        subgroup::{Encoder, ObjectHeader, ObjectStatus, SubgroupHeader, SubgroupMode},
    },
};
use bytes::{Bytes, BytesMut};

use super::{Client, Event, OBJECT_COUNT, Owner, Refusal, TrackVersion};
use crate::{
    schedule::{DEFAULT_PRIORITY, Precedence, Rank},
    session::{Delivery, Session, fetch_range, subscription_range},
};

/// A track that somebody asked for.
#[derive(Debug)]
pub(super) struct Served {
    alias: TrackAlias,
    version: Option<TrackVersion>,
    /// What the newest version says of the track, also to who brings the first one about.
    properties: Properties,
    expires: Option<Instant>,
    subscribers: Vec<Subscriber>,
    waiting: Vec<Waiting>,
    /// When who waits is refused, once `TrackWanted` was said.
    wanted_until: Option<Instant>,
}

#[derive(Debug)]
struct Subscriber {
    request: RequestId,
    forward: bool,
    priority: u8,
    start: Location,
    end: Location,
    /// What a joining fetch goes to.
    joined_at: Option<Location>,
}

#[derive(Debug)]
struct Waiting {
    request: RequestId,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    Subscribe(Subscribe),
    Fetch(Fetch),
    TrackStatus(TrackStatus),
}

impl Served {
    const fn new(alias: TrackAlias) -> Self {
        Self {
            alias,
            version: None,
            properties: Properties::empty(),
            expires: None,
            subscribers: Vec::new(),
            waiting: Vec::new(),
            wanted_until: None,
        }
    }

    fn largest(&self) -> Option<Location> {
        let version = self.version.as_ref()?;
        let last = version.objects.len().saturating_sub(1) as u64;
        Some(Location { group: version.group, object: ObjectId(last) })
    }

    fn is_fresh(&self, now: Instant) -> bool {
        self.version.is_some() && self.expires.is_none_or(|expires| now < expires)
    }

    fn is_unused(&self, now: Instant) -> bool {
        self.subscribers.is_empty() && self.waiting.is_empty() && !self.is_fresh(now)
    }
}

impl Client {
    /// Publishes a namespace from now on (PUBLISH_NAMESPACE), on this session and later ones.
    pub fn announce(&mut self, namespace: TrackNamespace) {
        if let std::collections::btree_map::Entry::Vacant(entry) =
            self.announced.entry(namespace.clone())
        {
            entry.insert(None);
            self.announce_now(&namespace);
        }
    }

    pub(super) fn announce_now(&mut self, namespace: &TrackNamespace) {
        let Some(session) = self.session() else { return };
        let asked = session.publish_namespace(namespace.clone(), Parameters::default());
        if let Ok(request) = asked {
            self.announced.insert(namespace.clone(), Some(request));
            self.own(request, Owner::Announcement(namespace.clone()));
        }
    }

    /// Withdraws it.
    pub fn withdraw(&mut self, namespace: &TrackNamespace) {
        let Some(Some(request)) = self.announced.remove(namespace) else { return };
        self.forget(request);
        if let Some(session) = self.session() {
            session.cancel(request, aip_codec::moqt::error_code::ResetCode::CANCELLED);
        }
    }

    pub(super) fn announcement_refused(
        &mut self,
        request: RequestId,
        namespace: TrackNamespace,
        error: &RequestError,
    ) {
        self.forget(request);
        self.announced.remove(&namespace);
        let refusal = Refusal::of(error);
        self.events.push_back(Event::AnnouncementRefused { namespace, refusal });
    }

    pub(super) fn subscribe_received(&mut self, request: RequestId, body: Subscribe, now: Instant) {
        self.serve(request, body.track.clone(), Body::Subscribe(body), now);
    }

    pub(super) fn fetch_received(&mut self, request: RequestId, body: Fetch, now: Instant) {
        let track = match &body.target {
            FetchTarget::Track(track) | FetchTarget::Standalone { track, .. } => track.clone(),
            FetchTarget::Joining { request_id, .. } => match self.owner(*request_id) {
                Some(Owner::Subscriber(track) | Owner::Waiting(track)) => track,
                _ => {
                    self.refuse_with(request, RequestCode::INVALID_JOINING_REQUEST_ID);
                    return;
                }
            },
        };
        self.serve(request, track, Body::Fetch(body), now);
    }

    pub(super) fn track_status_received(
        &mut self,
        request: RequestId,
        body: TrackStatus,
        now: Instant,
    ) {
        self.serve(request, body.track.clone(), Body::TrackStatus(body), now);
    }

    pub(super) fn refuse_request(&mut self, request: RequestId) {
        self.refuse_with(request, RequestCode::NOT_SUPPORTED);
    }

    fn refuse_with(&mut self, request: RequestId, code: RequestCode) {
        if let Some(session) = self.session() {
            session.reject_with(request, code, code.name());
        }
    }

    /// Answers a request from the current version, or holds it until there is one.
    fn serve(&mut self, request: RequestId, track: FullTrackName, body: Body, now: Instant) {
        if !self.announced.keys().any(|ours| ours.is_prefix_of(track.namespace())) {
            self.refuse_with(request, RequestCode::DOES_NOT_EXIST);
            return;
        }
        self.forget_unused_tracks(now);
        if self.config.subscriptions_max <= self.served.len() + self.subscriptions.len() {
            self.refuse_with(request, RequestCode::EXCESSIVE_LOAD);
            return;
        }
        let alias = TrackAlias(self.next_alias);
        let served = self.served.entry(track.clone()).or_insert_with(|| Served::new(alias));
        if served.alias == alias {
            self.next_alias += 1;
        }
        if served.is_fresh(now) {
            self.answer(request, &track, body);
            return;
        }
        served.waiting.push(Waiting { request, body });
        if served.wanted_until.is_none() {
            served.wanted_until = Some(now + self.config.wanted_timeout);
            self.events.push_back(Event::TrackWanted { track: track.clone() });
        }
        self.own(request, Owner::Waiting(track));
    }

    /// Gives a track's next version, to who waits for it, to each subscription, and to who asks
    /// before `expires` (`None`: until the next one). A version with the group of the last one
    /// only renews its `expires`.
    pub fn publish(
        &mut self,
        track: &FullTrackName,
        version: TrackVersion,
        expires: Option<Instant>,
        now: Instant,
    ) {
        let Some(served) = self.served.get_mut(track) else { return };
        served.wanted_until = None;
        served.expires = expires;
        served.properties = version.properties.clone();
        let is_new = served.version.as_ref().is_none_or(|old| old.group < version.group);
        let had_version = served.version.is_some();
        let waiting = std::mem::take(&mut served.waiting);
        let (subscribes, others): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|waiting| matches!(waiting.body, Body::Subscribe(_)));
        // A subscription that brought the first version about gets it as what is new.
        if is_new && had_version {
            served.version = Some(version.clone());
        }
        for waiting in subscribes {
            self.answer(waiting.request, track, waiting.body);
        }
        if let Some(served) = self.served.get_mut(track).filter(|_| is_new) {
            let before = served.version.replace(version).filter(|_| !had_version);
            debug_assert!(before.is_none(), "there was no version before the first one");
            self.send_version(track);
        }
        for waiting in others {
            self.answer(waiting.request, track, waiting.body);
        }
        self.forget_unused_tracks(now);
        self.drain_session_events(now);
    }

    /// Sends the current version to every subscription of its track.
    fn send_version(&mut self, track: &FullTrackName) {
        let Some(served) = self.served.get(track) else { return };
        let Some(version) = &served.version else { return };
        let Some(current) = &mut self.current else { return };
        let first = Location { group: version.group, object: ObjectId(0) };
        for subscriber in &served.subscribers {
            if subscriber.forward && subscriber.start <= first && first <= subscriber.end {
                send_group(&mut current.session, subscriber, served.alias, version);
            }
        }
    }

    /// Refuses who waits for a track, and ends its subscriptions.
    pub fn refuse(&mut self, track: &FullTrackName, refusal: &Refusal, _now: Instant) {
        let Some(served) = self.served.remove(track) else { return };
        for waiting in served.waiting {
            self.forget(waiting.request);
            if let Some(session) = self.session() {
                session.reject(waiting.request, refusal.to_error());
            }
        }
        for subscriber in served.subscribers {
            self.forget(subscriber.request);
            if let Some(session) = self.session() {
                let code = PublishDoneCode::TRACK_ENDED;
                session.publish_done(subscriber.request, code, &refusal.reason);
            }
        }
    }

    fn answer(&mut self, request: RequestId, track: &FullTrackName, body: Body) {
        self.forget(request);
        match body {
            Body::Subscribe(body) => self.accept_subscriber(request, track, &body),
            Body::Fetch(body) => self.answer_fetch(request, track, &body),
            Body::TrackStatus(body) => self.answer_status(request, track, &body),
        }
    }

    fn accept_subscriber(&mut self, request: RequestId, track: &FullTrackName, body: &Subscribe) {
        let Some(served) = self.served.get_mut(track) else { return };
        let largest = served.largest();
        let filter = body.parameters.location_filter().unwrap_or_default();
        let (start, end) = subscription_range(filter, largest);
        let forward = body.parameters.forward().unwrap_or(true);
        let priority = body.parameters.subscriber_priority().unwrap_or(DEFAULT_PRIORITY);
        served.subscribers.push(Subscriber {
            request,
            forward,
            priority,
            start,
            end,
            joined_at: largest.filter(|_| forward),
        });
        let alias = served.alias;
        let properties = served.properties_for(&body.parameters);
        let mut parameters = Parameters::default();
        if let Some(largest) = largest {
            parameters.push(Parameter::LargestObject(largest));
        }
        if let Some(session) = self.session() {
            session.accept_subscribe(request, alias, parameters, properties);
        }
        self.own(request, Owner::Subscriber(track.clone()));
        if let (true, Some(fill)) = (forward, body.parameters.fill_parameters()) {
            self.fill(track, request, request, fill, &body.parameters);
        }
    }

    /// Sends what a SUBSCRIBE or an update of it asks to be filled in.
    fn fill(
        &mut self,
        track: &FullTrackName,
        owner: RequestId,
        asked_by: RequestId,
        fill: &Parameters,
        inherited: &Parameters,
    ) {
        let Some(served) = self.served.get(track) else { return };
        let Some(largest) = served.largest() else { return };
        let filter = fill.location_filter().or_else(|| inherited.location_filter());
        let (start, end) = fetch_range(filter.unwrap_or_default(), largest);
        if start <= end {
            self.send_range(track, owner, asked_by, (start, end), fill);
        }
    }

    fn answer_fetch(&mut self, request: RequestId, track: &FullTrackName, body: &Fetch) {
        let range = self.range_of(track, body);
        let largest = self.served.get(track).and_then(Served::largest);
        let (Some((start, end)), Some(largest)) = (range, largest) else {
            self.refuse_with(request, RequestCode::INVALID_RANGE);
            return;
        };
        if largest < start || end < start {
            self.refuse_with(request, RequestCode::INVALID_RANGE);
            return;
        }
        let end = end.min(largest);
        let properties = self
            .served
            .get(track)
            .map(|served| served.properties_for(&body.parameters))
            .unwrap_or_default();
        if let Some(session) = self.session() {
            session.accept_fetch(request, false, end, properties);
        }
        self.send_range(track, request, request, (start, end), &body.parameters);
    }

    fn range_of(&self, track: &FullTrackName, body: &Fetch) -> Option<(Location, Location)> {
        let served = self.served.get(track)?;
        match &body.target {
            FetchTarget::Track(_) => {
                let filter = body.parameters.location_filter().unwrap_or_default();
                Some(fetch_range(filter, served.largest()?))
            }
            FetchTarget::Standalone { start, end, .. } => {
                let last = end.object.0.checked_sub(1).unwrap_or(u64::MAX);
                Some((*start, Location { group: end.group, object: ObjectId(last) }))
            }
            FetchTarget::Joining { relative, request_id, start } => {
                let subscriber =
                    served.subscribers.iter().find(|entry| entry.request == *request_id)?;
                let joined_at = subscriber.joined_at?;
                let group =
                    if *relative { joined_at.group.0.saturating_sub(*start) } else { *start };
                Some((Location::new(group, 0), joined_at))
            }
        }
    }

    /// Sends those objects of the current version that lie in a range; of older ones nothing is
    /// left.
    fn send_range(
        &mut self,
        track: &FullTrackName,
        owner: RequestId,
        asked_by: RequestId,
        (start, end): (Location, Location),
        parameters: &Parameters,
    ) {
        let Some(served) = self.served.get(track) else { return };
        let Some(version) = &served.version else { return };
        let Some(current) = &mut self.current else { return };
        let session = &mut current.session;
        let order = parameters.group_order().unwrap_or(GroupOrder::Ascending);
        let priority = parameters.subscriber_priority().unwrap_or(DEFAULT_PRIORITY);
        let precedence = Precedence {
            rank: Rank::fill(order, order, version.group),
            ..Precedence::data(owner, priority)
        };
        let Some(stream) = session.open_fill(asked_by, precedence) else { return };
        let mut encoder = FetchEncoder::new(session.version(), order);
        for (index, payload) in version.objects.iter().enumerate() {
            let location = Location { group: version.group, object: ObjectId(index as u64) };
            if location < start || end < location {
                continue;
            }
            let object = FetchObject {
                location,
                subgroup: Some(SubgroupId(0)),
                priority: served.priority(),
                properties: object_properties(version, index),
                payload_length: payload.len() as u64,
            };
            let mut header = BytesMut::new();
            if encoder.object(&object, &mut header).is_ok() {
                session.send(stream, header.freeze(), false);
                session.send(stream, payload.clone(), false);
            }
        }
        session.send(stream, Bytes::new(), true);
    }

    fn answer_status(&mut self, request: RequestId, track: &FullTrackName, body: &TrackStatus) {
        let Some(served) = self.served.get(track) else { return };
        let mut parameters = Parameters::default();
        if let Some(largest) = served.largest() {
            parameters.push(Parameter::LargestObject(largest));
        }
        let properties = served.properties_for(&body.parameters);
        if let Some(session) = self.session() {
            session.accept(request, parameters, properties);
        }
    }

    pub(super) fn update_received(
        &mut self,
        request: RequestId,
        update: RequestId,
        parameters: &Parameters,
    ) {
        let mut answer = Parameters::default();
        let mut filled = None;
        if let Some(Owner::Subscriber(track)) = self.owner(request)
            && let Some(served) = self.served.get_mut(&track)
        {
            let largest = served.largest();
            if let Some(subscriber) =
                served.subscribers.iter_mut().find(|entry| entry.request == request)
            {
                subscriber.update(parameters, largest);
                if subscriber.forward && parameters.fill_parameters().is_some() {
                    filled = Some(track);
                }
            }
            if let Some(largest) = largest {
                answer.push(Parameter::LargestObject(largest));
            }
        }
        if let Some(session) = self.session() {
            session.accept_update(request, answer);
        }
        if let (Some(track), Some(fill)) = (filled, parameters.fill_parameters()) {
            self.fill(&track, request, update, fill, parameters);
        }
    }

    pub(super) fn subscriber_left(&mut self, track: &FullTrackName, request: RequestId) {
        let Some(served) = self.served.get_mut(track) else { return };
        served.subscribers.retain(|entry| entry.request != request);
        if served.subscribers.is_empty() {
            served.nobody_subscribes();
            self.events.push_back(Event::TrackUnwanted { track: track.clone() });
        }
    }

    pub(super) fn waiting_left(&mut self, track: &FullTrackName, request: RequestId) {
        if let Some(served) = self.served.get_mut(track) {
            served.waiting.retain(|waiting| waiting.request != request);
        }
    }

    pub(super) fn session_lost_for_served(&mut self) {
        for (track, served) in &mut self.served {
            served.waiting.clear();
            served.wanted_until = None;
            if !served.subscribers.is_empty() {
                served.subscribers.clear();
                served.nobody_subscribes();
                self.events.push_back(Event::TrackUnwanted { track: track.clone() });
            }
        }
        self.served.retain(|_, served| served.version.is_some());
    }

    fn forget_unused_tracks(&mut self, now: Instant) {
        if self.config.subscriptions_max / 2 < self.served.len() {
            self.served.retain(|_, served| !served.is_unused(now));
        }
    }

    pub(super) fn served_deadline(&self) -> Option<Instant> {
        self.served.values().filter_map(|served| served.wanted_until).min()
    }

    pub(super) fn served_timed_out(&mut self, now: Instant) {
        let late: Vec<FullTrackName> = self
            .served
            .iter()
            .filter(|(_, served)| served.wanted_until.is_some_and(|until| until <= now))
            .map(|(track, _)| track.clone())
            .collect();
        for track in late {
            let Some(served) = self.served.get_mut(&track) else { continue };
            served.wanted_until = None;
            for waiting in std::mem::take(&mut served.waiting) {
                self.forget(waiting.request);
                self.refuse_with(waiting.request, RequestCode::TIMEOUT);
            }
        }
    }
}

impl Served {
    fn properties_for(&self, parameters: &Parameters) -> Properties {
        if parameters.include_properties() == Some(false) {
            return Properties::default();
        }
        self.properties.clone()
    }

    fn priority(&self) -> u8 {
        self.properties.default_publisher_priority()
    }

    /// A version that was to stand until the next one does so no more: nobody listens for it.
    fn nobody_subscribes(&mut self) {
        if self.expires.is_none() {
            self.version = None;
        }
    }
}

impl Subscriber {
    fn update(&mut self, parameters: &Parameters, largest: Option<Location>) {
        if let Some(priority) = parameters.subscriber_priority() {
            self.priority = priority;
        }
        if let Some(filter) = parameters.location_filter() {
            (self.start, self.end) = subscription_range(filter, largest);
        }
        if let Some(forward) = parameters.forward() {
            if forward && !self.forward {
                self.joined_at = largest;
            }
            self.forward = forward;
        }
    }
}

/// Properties of a version's object: the first one says how many there are.
fn object_properties(version: &TrackVersion, index: usize) -> Properties {
    let count = version.objects.len();
    if index != 0 || count < 2 {
        return Properties::default();
    }
    Properties::builder().integer(OBJECT_COUNT, count as u64).build().unwrap_or_default()
}

/// Sends a version as one subgroup, which is its whole group.
fn send_group(
    session: &mut Session,
    subscriber: &Subscriber,
    track_alias: TrackAlias,
    version: &TrackVersion,
) {
    let header = SubgroupHeader {
        track_alias,
        group: version.group,
        subgroup: SubgroupMode::Zero,
        priority: None,
        properties: 1 < version.objects.len(),
        end_of_group: true,
        first_object: true,
    };
    let delivery = Delivery {
        subscriber_priority: subscriber.priority,
        publisher_priority: version.properties.default_publisher_priority(),
        ..Delivery::default()
    };
    let stream = session.open_subgroup(subscriber.request, &header, &delivery);
    let Some(stream) = stream else { return };
    let mut encoder = Encoder::new(header.properties);
    for (index, payload) in version.objects.iter().enumerate() {
        let object = ObjectHeader {
            object: ObjectId(index as u64),
            properties: object_properties(version, index),
            payload_length: payload.len() as u64,
            status: ObjectStatus::Normal,
        };
        let mut bytes = BytesMut::new();
        if encoder.object(&object, &mut bytes).is_ok() {
            session.send(stream, bytes.freeze(), false);
            session.send(stream, payload.clone(), false);
        }
    }
    session.send(stream, Bytes::new(), true);
}
