//! What a peer has heard of tracks, put in order for people and for comparisons.

use std::collections::BTreeMap;

use aip_codec::moqt::{
    id::RequestId,
    location::Location,
    stream::subgroup::{ObjectHeader, SubgroupHeader},
};
use aip_engine::{
    session::{Event, StreamEnd},
    transport::StreamId,
};
use bytes::Bytes;

use super::peer::FetchItem;

/// A subgroup's stream as it was heard.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Its header.
    pub header: SubgroupHeader,
    /// Its objects.
    pub objects: Vec<Object>,
    /// How it ended, if it has.
    pub end: Option<StreamEnd>,
}

/// An object as it was heard.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its header.
    pub header: ObjectHeader,
    /// The pieces of its payload.
    pub payload: Vec<Bytes>,
    /// Whether that is all.
    pub complete: bool,
}

impl Object {
    /// Its payload in one piece.
    pub fn bytes(&self) -> Bytes {
        self.payload.concat().into()
    }

    /// Its payload as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }
}

impl Stream {
    /// Group, objects and end, as a line.
    pub fn line(&self) -> String {
        let objects: Vec<String> = self
            .objects
            .iter()
            .map(|object| {
                let more = if object.complete { "" } else { "…" };
                format!("{}={}{more}", object.header.object, object.text())
            })
            .collect();
        let end = match self.end {
            None => "…",
            Some(StreamEnd::Fin) => "fin",
            Some(StreamEnd::Reset(code)) => code.name(),
        };
        format!("{}: {} {end}", self.header.group, objects.join(" "))
    }
}

/// The subgroup streams among events, in the order of their beginning.
pub fn streams<'a>(events: impl IntoIterator<Item = &'a Event>) -> Vec<Stream> {
    let mut order = Vec::new();
    let mut table: BTreeMap<StreamId, Stream> = BTreeMap::new();
    for event in events {
        match event {
            Event::SubgroupOpened { stream, header } => {
                order.push(*stream);
                let begun = Stream { header: *header, objects: Vec::new(), end: None };
                table.insert(*stream, begun);
            }
            Event::Object { stream, object } => {
                if let Some(entry) = table.get_mut(stream) {
                    entry.objects.push(Object {
                        header: object.header.clone(),
                        payload: vec![object.payload.clone()],
                        complete: object.last,
                    });
                }
            }
            Event::Payload { stream, bytes, last } => {
                if let Some(object) =
                    table.get_mut(stream).and_then(|entry| entry.objects.last_mut())
                {
                    object.payload.push(bytes.clone());
                    object.complete = *last;
                }
            }
            Event::SubgroupEnded { stream, end } => {
                if let Some(entry) = table.get_mut(stream) {
                    entry.end = Some(*end);
                }
            }
            _ => {}
        }
    }
    order.iter().filter_map(|stream| table.remove(stream)).collect()
}

/// The subgroup streams among events as lines, ascending.
pub fn lines<'a>(events: impl IntoIterator<Item = &'a Event>) -> Vec<String> {
    let mut lines: Vec<String> = streams(events).iter().map(Stream::line).collect();
    lines.sort();
    lines
}

/// What a fetch stream has brought, and how it ended.
pub fn fetched<'a>(
    events: impl IntoIterator<Item = &'a Event>,
    fetch: RequestId,
) -> (Vec<FetchItem>, Option<StreamEnd>) {
    let mut items = Vec::new();
    let mut ended = None;
    for event in events {
        match event {
            Event::FetchObject { request, object, payload, .. } if *request == fetch => {
                items.push(FetchItem::Object(object.location, payload.clone()));
            }
            Event::FetchPayload { request, bytes, .. } if *request == fetch => {
                if let Some(FetchItem::Object(_, payload)) = items.last_mut() {
                    *payload = [&payload[..], &bytes[..]].concat().into();
                }
            }
            Event::FetchRange { request, kind, end } if *request == fetch => {
                items.push(FetchItem::Range(*kind, *end));
            }
            Event::FetchEnded { request, end } if *request == fetch => ended = Some(*end),
            _ => {}
        }
    }
    (items, ended)
}

/// The same as a line: `1/0=a 1/1=b unknown..3/4 fin`.
pub fn fetched_line<'a>(events: impl IntoIterator<Item = &'a Event>, fetch: RequestId) -> String {
    let (items, end) = fetched(events, fetch);
    let mut words: Vec<String> = items
        .iter()
        .map(|item| match item {
            FetchItem::Object(Location { group, object }, payload) => {
                format!("{group}/{object}={}", String::from_utf8_lossy(payload))
            }
            FetchItem::Range(kind, end) if end.object.0 == u64::MAX => {
                format!("{kind:?}..{}", end.group)
            }
            FetchItem::Range(kind, end) => format!("{kind:?}..{end}"),
        })
        .collect();
    words.push(match end {
        None => "…".to_owned(),
        Some(StreamEnd::Fin) => "fin".to_owned(),
        Some(StreamEnd::Reset(code)) => code.name().to_owned(),
    });
    words.join(" ")
}
