//! What came on data streams and in datagrams, taken apart.

use aip_codec::{
    Version,
    moqt::{
        datagram::{Datagram, ObjectDatagram},
        location::Location,
        parameter::GroupOrder,
        stream::{
            StreamType,
            fetch::{self, RangeKind},
            subgroup::{self, ObjectStatus, SubgroupHeader, SubgroupMode},
        },
    },
};
use bytes::{Bytes, BytesMut};

use super::{
    failure::{Failure, Outcome},
    peer::Peer,
    quic::End,
};

/// An object as it came.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Object {
    pub(super) object: u64,
    pub(super) payload: Bytes,
    pub(super) properties: Bytes,
    pub(super) status: ObjectStatus,
}

/// A subgroup stream as far as it came.
#[derive(Clone, Debug)]
pub(super) struct Subgroup {
    pub(super) stream: u64,
    pub(super) header: SubgroupHeader,
    pub(super) objects: Vec<Object>,
    pub(super) end: Option<End>,
}

impl Subgroup {
    pub(super) const fn group(&self) -> u64 {
        self.header.group.0
    }

    /// The subgroup's number.
    pub(super) fn number(&self) -> u64 {
        match self.header.subgroup {
            SubgroupMode::Zero => 0,
            SubgroupMode::FirstObject => self.objects.first().map_or(0, |first| first.object),
            SubgroupMode::Explicit(subgroup) => subgroup.0,
        }
    }

    /// The numbers of its objects.
    pub(super) fn numbers(&self) -> Vec<u64> {
        self.objects.iter().map(|object| object.object).collect()
    }
}

/// A fetch stream's record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Record {
    Object {
        location: Location,
        subgroup: Option<u64>,
        priority: u8,
        properties: Bytes,
        payload: Bytes,
    },
    Range {
        kind: RangeKind,
        end: Location,
    },
}

/// A fetch stream as far as it came.
#[derive(Clone, Debug)]
pub(super) struct Fetched {
    pub(super) stream: u64,
    pub(super) records: Vec<Record>,
    pub(super) end: Option<End>,
}

impl Fetched {
    /// Where its objects are, and their payloads.
    pub(super) fn objects(&self) -> Vec<(Location, Bytes)> {
        self.records
            .iter()
            .filter_map(|record| match record {
                Record::Object { location, payload, .. } => Some((*location, payload.clone())),
                Record::Range { .. } => None,
            })
            .collect()
    }
}

fn undecodable(error: impl std::fmt::Display) -> Failure {
    Failure::new("a data stream of this draft", error.to_string())
}

impl Peer {
    /// Every subgroup stream with this alias that has begun, in the order of their streams.
    pub(super) fn subgroups(&self, alias: u64) -> Outcome<Vec<Subgroup>> {
        let mut list = self.every_subgroup()?;
        list.retain(|subgroup| subgroup.header.track_alias.0 == alias);
        Ok(list)
    }

    /// Every subgroup stream that has begun, in the order of their streams.
    pub(super) fn every_subgroup(&self) -> Outcome<Vec<Subgroup>> {
        let mut list = Vec::new();
        for (stream, bytes, end) in self.data_streams() {
            if StreamType::decode(&bytes) == Ok(StreamType::Subgroup)
                && let Some(subgroup) = decode_subgroup(stream, bytes, end)?
            {
                list.push(subgroup);
            }
        }
        Ok(list)
    }

    /// The stream that answers a FETCH, or a fill, as far as it came.
    pub(super) fn fetched(&self, request: u64, order: GroupOrder) -> Outcome<Option<Fetched>> {
        for (stream, bytes, end) in self.data_streams() {
            if StreamType::decode(&bytes) != Ok(StreamType::Fetch) {
                continue;
            }
            let (id, records) = decode_fetch(self.version, order, bytes)?;
            if id == Some(request) {
                return Ok(Some(Fetched { stream, records, end }));
            }
        }
        Ok(None)
    }

    /// Waits until subgroups of an alias are as `complete` wants them.
    pub(super) fn await_subgroups(
        &self,
        alias: u64,
        expected: &str,
        mut complete: impl FnMut(&[Subgroup]) -> bool,
    ) -> Outcome<Vec<Subgroup>> {
        let mut last = String::new();
        self.until(expected, |peer| match peer.subgroups(alias) {
            Ok(list) => {
                last = format!("{list:?}");
                complete(&list).then_some(Ok(list))
            }
            Err(failure) => Some(Err(failure)),
        })
        .map_err(|failure| {
            Failure::new(failure.expected, format!("{}; so far {last}", failure.received))
        })?
    }

    /// Waits until the answer to a FETCH has ended.
    pub(super) fn await_fetched(&self, request: u64, order: GroupOrder) -> Outcome<Fetched> {
        self.until("a fetch stream and its end", |peer| match peer.fetched(request, order) {
            Ok(Some(fetched)) if fetched.end.is_some() => Some(Ok(fetched)),
            Ok(_) => None,
            Err(failure) => Some(Err(failure)),
        })?
    }

    /// The next object that comes in a datagram.
    pub(super) fn object_datagram(&self, patience: std::time::Duration) -> Outcome<ObjectDatagram> {
        match Datagram::decode(self.next_datagram(patience)?).map_err(undecodable)? {
            Datagram::Object(object) => Ok(object),
            Datagram::Padding => Err(Failure::new("an object", "padding")),
        }
    }
}

fn decode_subgroup(stream: u64, bytes: Bytes, end: Option<End>) -> Outcome<Option<Subgroup>> {
    let mut decoder = subgroup::Decoder::new();
    decoder.push(bytes);
    let mut found: Option<Subgroup> = None;
    let mut partial: Option<(subgroup::ObjectHeader, BytesMut)> = None;
    let whole = |header: subgroup::ObjectHeader, payload: Bytes| Object {
        object: header.object.0,
        payload,
        properties: header.properties.as_bytes().clone(),
        status: header.status,
    };
    while let Some(item) = decoder.poll().map_err(undecodable)? {
        match (item, &mut found) {
            (subgroup::Item::Header(header), _) => {
                found = Some(Subgroup { stream, header, objects: Vec::new(), end });
            }
            (subgroup::Item::Object { header, payload, last, .. }, Some(found)) => {
                if last {
                    found.objects.push(whole(header, payload));
                } else {
                    partial = Some((header, BytesMut::from(&payload[..])));
                }
            }
            (subgroup::Item::Payload { bytes, last }, Some(found)) => {
                if let Some((_, payload)) = &mut partial {
                    payload.extend_from_slice(&bytes);
                }
                if last && let Some((header, payload)) = partial.take() {
                    found.objects.push(whole(header, payload.freeze()));
                }
            }
            (subgroup::Item::Object { .. } | subgroup::Item::Payload { .. }, None) => {}
        }
    }
    Ok(found)
}

fn decode_fetch(
    version: Version,
    order: GroupOrder,
    bytes: Bytes,
) -> Outcome<(Option<u64>, Vec<Record>)> {
    let mut decoder = fetch::Decoder::new(version, order);
    decoder.push(bytes);
    let mut request = None;
    let mut records = Vec::new();
    let mut partial: Option<(fetch::FetchObject, BytesMut)> = None;
    let whole = |header: fetch::FetchObject, payload: Bytes| Record::Object {
        location: header.location,
        subgroup: header.subgroup.map(|subgroup| subgroup.0),
        priority: header.priority,
        properties: header.properties.as_bytes().clone(),
        payload,
    };
    while let Some(item) = decoder.poll().map_err(undecodable)? {
        match item {
            fetch::Item::Header(header) => request = Some(header.request_id.0),
            fetch::Item::Range { kind, end } => records.push(Record::Range { kind, end }),
            fetch::Item::Object { header, payload, last, .. } => {
                if last {
                    records.push(whole(header, payload));
                } else {
                    partial = Some((header, BytesMut::from(&payload[..])));
                }
            }
            fetch::Item::Payload { bytes, last } => {
                if let Some((_, payload)) = &mut partial {
                    payload.extend_from_slice(&bytes);
                }
                if last && let Some((header, payload)) = partial.take() {
                    records.push(whole(header, payload.freeze()));
                }
            }
        }
    }
    Ok((request, records))
}
