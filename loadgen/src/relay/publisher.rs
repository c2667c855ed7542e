//! The publishing side: one session, one namespace, one track, and whoever subscribes to it.

use aip_codec::moqt::{
    datagram::{Content, ObjectDatagram},
    error_code::RequestCode,
    id::{GroupId, ObjectId, RequestId, TrackAlias},
    name::FullTrackName,
    parameter::Parameters,
    property::Properties,
    stream::subgroup::{Encoder, ObjectHeader, ObjectStatus, SubgroupHeader, SubgroupMode},
};
use aip_engine::{
    session::{self, Event, Request, Response, Session},
    transport::StreamId,
};
use bytes::{Bytes, BytesMut};

use super::plan::Delivery;

/// Bytes that may wait for one subscription of the publisher's before objects are not sent.
const QUEUED_MAX: usize = 64 << 20;
const ALIAS: TrackAlias = TrackAlias(1);

/// Whether the namespace is published.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Announcement {
    /// Not yet.
    Pending,
    /// It is.
    Accepted,
    /// It will not be.
    Refused(String),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Publisher {
    pub(super) session: Session,
    track: FullTrackName,
    delivery: Delivery,
    group_length: u64,
    request: Option<RequestId>,
    pub(super) announcement: Announcement,
    subscriptions: Vec<Subscription>,
    /// Objects that were not sent because too much waited.
    pub(super) withheld: u64,
}

#[derive(Debug)]
struct Subscription {
    request: RequestId,
    forward: bool,
    /// The open group's stream.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    group: u64,
    stream: StreamId,
    encoder: Encoder,
}

impl Publisher {
    /// A publisher on a session that has just come up.
    pub(super) const fn new(
        session: Session,
        track: FullTrackName,
        delivery: Delivery,
        group_length: u64,
    ) -> Self {
        Self {
            session,
            track,
            delivery,
            group_length,
            request: None,
            announcement: Announcement::Pending,
            subscriptions: Vec::new(),
            withheld: 0,
        }
    }

    /// Acts on what the session has to tell.
    pub(super) fn drain_events(&mut self) {
        while let Some(event) = self.session.poll_event() {
            self.handle_event(event);
        }
    }

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::Established { .. } => {
                let namespace = self.track.namespace().clone();
                match self.session.publish_namespace(namespace, Parameters::default()) {
                    Ok(request) => self.request = Some(request),
                    Err(error) => self.announcement = Announcement::Refused(error.to_string()),
                }
            }
            Event::Response { request, body } if Some(request) == self.request => {
                self.announcement = match body {
                    Response::Error(error) => Announcement::Refused(format!(
                        "PUBLISH_NAMESPACE: {} {}",
                        error.code.name(),
                        error.reason.as_str().escape_debug()
                    )),
                    _ => Announcement::Accepted,
                };
            }
            Event::Request { request, body, .. } => self.handle_request(request, body),
            Event::Update { request, parameters, .. } => {
                if let (Some(forward), Some(subscription)) =
                    (parameters.forward(), self.subscription(request))
                {
                    subscription.forward = forward;
                }
                self.session.accept_update(request, Parameters::default());
            }
            Event::Ended { request } => {
                self.subscriptions.retain(|subscription| subscription.request != request);
            }
            _ => {}
        }
    }

    fn handle_request(&mut self, request: RequestId, body: Request) {
        match body {
            Request::Subscribe(body) if body.track == self.track => {
                let parameters = Parameters::default();
                self.session.accept_subscribe(request, ALIAS, parameters, Properties::default());
                let forward = body.parameters.forward().unwrap_or(true);
                self.subscriptions.push(Subscription { request, forward, open: None });
            }
            Request::Subscribe(_) | Request::TrackStatus(_) => {
                let code = RequestCode::DOES_NOT_EXIST;
                self.session.reject_with(request, code, "there is one track here");
            }
            Request::Publish(_)
            | Request::Fetch(_)
            | Request::PublishNamespace(_)
            | Request::SubscribeNamespace(_)
            | Request::SubscribeTracks(_)
            | Request::Call(_) => {
                let code = RequestCode::NOT_SUPPORTED;
                self.session.reject_with(request, code, "this publisher serves subscriptions");
            }
        }
    }

    fn subscription(&mut self, request: RequestId) -> Option<&mut Subscription> {
        self.subscriptions.iter_mut().find(|subscription| subscription.request == request)
    }

    /// Subscriptions that objects go to.
    pub(super) fn subscribers(&self) -> usize {
        self.subscriptions.iter().filter(|subscription| subscription.forward).count()
    }

    /// Sends an object to whoever subscribes.
    pub(super) fn publish(&mut self, sequence: u64, payload: &Bytes) {
        if QUEUED_MAX < self.session.queued_bytes() {
            self.withheld += 1;
            return;
        }
        let group = sequence / self.group_length;
        let object = sequence % self.group_length;
        let last = object + 1 == self.group_length;
        match self.delivery {
            Delivery::Stream => self.publish_on_streams(group, object, last, payload),
            Delivery::Datagram => {
                let any = self.subscriptions.iter().any(|subscription| subscription.forward);
                if any {
                    self.session.send_datagram(&ObjectDatagram {
                        track_alias: ALIAS,
                        group: GroupId(group),
                        object: ObjectId(object),
                        priority: None,
                        end_of_group: last,
                        properties: Properties::empty(),
                        content: Content::Payload(payload.clone()),
                    });
                }
            }
        }
    }

    fn publish_on_streams(&mut self, group: u64, object: u64, last: bool, payload: &Bytes) {
        for subscription in self.subscriptions.iter_mut().filter(|it| it.forward) {
            let current = subscription.open.as_ref().is_some_and(|open| open.group == group);
            if !current {
                if let Some(before) = subscription.open.take() {
                    self.session.send(before.stream, Bytes::new(), true);
                }
                let header = SubgroupHeader {
                    track_alias: ALIAS,
                    group: GroupId(group),
                    subgroup: SubgroupMode::Zero,
                    priority: None,
                    properties: false,
                    end_of_group: true,
                    first_object: object == 0,
                };
                let delivery = session::Delivery::default();
                let opened = self.session.open_subgroup(subscription.request, &header, &delivery);
                let Some(stream) = opened else { continue };
                subscription.open = Some(Open { group, stream, encoder: Encoder::new(false) });
            }
            let Some(open) = &mut subscription.open else { continue };
            let mut bytes = BytesMut::with_capacity(16);
            let header = ObjectHeader {
                object: ObjectId(object),
                properties: Properties::empty(),
                payload_length: payload.len() as u64,
                status: ObjectStatus::Normal,
            };
            if open.encoder.object(&header, &mut bytes).is_ok() {
                self.session.send(open.stream, bytes.freeze(), false);
                self.session.send(open.stream, payload.clone(), last);
            }
            if last {
                subscription.open = None;
            }
        }
    }
}
