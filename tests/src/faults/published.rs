//! What an agent has published: its streams, and the answer to who asks for it later.

use std::collections::{BTreeMap, HashMap};

use aip_codec::moqt::{
    error_code::RequestCode,
    id::{GroupId, ObjectId, RequestId, SubgroupId, TrackAlias},
    location::Location,
    message::{Fetch, FetchTarget},
    property::Properties,
    stream::{
        fetch::{Encoder as FetchEncoder, FetchObject},
        subgroup::{Encoder, ObjectHeader, ObjectStatus, SubgroupHeader, SubgroupMode},
    },
};
use aip_engine::{
    session::{Delivery, Session, fetch_range},
    transport::StreamId,
};
use bytes::{Bytes, BytesMut};

use super::agent::{Group, Object, number, payload};

/// Groups of one track that can still be asked for.
const GROUPS_KEPT: usize = 4_096;
/// The priority of everything.
const PRIORITY: u8 = 128;

/// What was published, by track and group. Payloads are made anew when they are asked for.
#[derive(Debug, Default)]
pub(super) struct Published {
    tracks: HashMap<u64, BTreeMap<u64, Group>>,
}

impl Published {
    /// So many objects of a group are published.
    pub(super) fn note(&mut self, track: u64, group: u64, objects: u64, length: usize) {
        let groups = self.tracks.entry(track).or_default();
        groups.insert(group, Group { id: group, objects, length });
        if GROUPS_KEPT < groups.len() {
            groups.pop_first();
        }
    }

    /// The largest location of a track.
    pub(super) fn largest(&self, track: u64) -> Option<Location> {
        let (_, group) = self.tracks.get(&track)?.last_key_value()?;
        Some(Location::new(group.id, group.objects.saturating_sub(1)))
    }

    /// Answers a FETCH, oldest object first.
    pub(super) fn answer_fetch(&self, session: &mut Session, request: RequestId, body: &Fetch) {
        let Some((track, start, end)) = self.range(body) else {
            session.reject_with(request, RequestCode::INVALID_RANGE, "no objects in this range");
            return;
        };
        session.accept_fetch(request, false, end, Properties::default());
        let Some(stream) = session.open_fetch(request, PRIORITY) else { return };
        let order = body.parameters.group_order().unwrap_or_default();
        let mut encoder = FetchEncoder::new(session.version(), order);
        let groups = self.tracks.get(&track).into_iter();
        let groups = groups.flat_map(|groups| groups.range(start.group.0..=end.group.0));
        for (_, group) in groups {
            for object in 0..group.objects {
                let location = Location::new(group.id, object);
                if !(start..=end).contains(&location) {
                    continue;
                }
                let header = FetchObject {
                    location,
                    subgroup: Some(SubgroupId(0)),
                    priority: PRIORITY,
                    properties: Properties::default(),
                    payload_length: group.length as u64,
                };
                let mut bytes = BytesMut::new();
                encoder.object(&header, &mut bytes).expect("objects ascend");
                session.send(stream, bytes.freeze(), false);
                session.send(stream, payload(track, group.id, object, group.length), false);
            }
        }
        session.send(stream, Bytes::new(), true);
    }

    /// The track and what of it a FETCH asks for, if there is any of that.
    fn range(&self, body: &Fetch) -> Option<(u64, Location, Location)> {
        let (name, range) = match &body.target {
            FetchTarget::Track(name) => (name, None),
            FetchTarget::Standalone { track, start, end } => {
                let last = end.object.0.checked_sub(1).unwrap_or(u64::MAX);
                (track, Some((*start, Location::new(end.group.0, last))))
            }
            FetchTarget::Joining { .. } => return None,
        };
        let track = number(name)?;
        let largest = self.largest(track)?;
        let filter = body.parameters.location_filter().unwrap_or_default();
        let (start, end) = range.unwrap_or_else(|| fetch_range(filter, largest));
        let end = end.min(largest);
        (start <= end).then_some((track, start, end))
    }
}

/// A stream of a group that goes on.
#[derive(Debug)]
pub(super) struct Writer {
    stream: StreamId,
    encoder: Encoder,
}

impl Writer {
    /// A stream that begins with this object.
    pub(super) fn new(
        session: &mut Session,
        request: RequestId,
        track: u64,
        first: Object,
    ) -> Option<Self> {
        let header = SubgroupHeader {
            track_alias: TrackAlias(track),
            group: GroupId(first.group),
            subgroup: SubgroupMode::Zero,
            priority: Some(PRIORITY),
            properties: false,
            end_of_group: true,
            first_object: first.number == 0,
        };
        let stream = session.open_subgroup(request, &header, &Delivery::default())?;
        Some(Self { stream, encoder: Encoder::new(false) })
    }

    /// Sends an object.
    pub(super) fn object(&mut self, session: &mut Session, track: u64, object: Object) {
        let payload = payload(track, object.group, object.number, object.length);
        let header = ObjectHeader {
            object: ObjectId(object.number),
            properties: Properties::default(),
            payload_length: payload.len() as u64,
            status: ObjectStatus::Normal,
        };
        let mut bytes = BytesMut::new();
        self.encoder.object(&header, &mut bytes).expect("objects ascend");
        session.send(self.stream, bytes.freeze(), false);
        session.send(self.stream, payload, object.last);
    }
}

/// Sends a whole group.
pub(super) fn send_group(session: &mut Session, request: RequestId, track: u64, group: Group) {
    let object = |number| Object {
        group: group.id,
        number,
        length: group.length,
        last: number + 1 == group.objects,
    };
    let Some(mut writer) = Writer::new(session, request, track, object(0)) else { return };
    for number in 0..group.objects {
        writer.object(session, track, object(number));
    }
}
