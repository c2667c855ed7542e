//! What is exchanged: each kind once, and again.

use std::{io, net::SocketAddr, time::Duration};

use aip_codec::{
    aip::call::{Record, RecordType},
    moqt::{
        id::{GroupId, RequestId, TrackAlias},
        name::{FullTrackName, TrackNamespace},
        parameter::Parameters,
        property::Properties,
        stream::subgroup::{SubgroupHeader, SubgroupMode},
        varint,
    },
};
use aip_engine::{
    session::{Delivery, Event, Request, Response},
    transport::StreamId,
};
use bytes::{BufMut as _, Bytes, BytesMut};

use super::{
    end::{End, now, until},
    server::filler,
    speaker::Speaker,
};

/// Something that can be exchanged again and again.
pub(super) trait Exchange {
    /// Once; how long it took.
    fn exchange(&mut self) -> io::Result<Duration>;
}

fn connected(server: SocketAddr) -> io::Result<End> {
    let mut end = End::connect(server)?;
    until(|| {
        end.turn()?;
        Ok(end.quic.is_established())
    })?;
    Ok(end)
}

/// Bytes to a server and back, on one stream.
pub(super) struct Echo {
    end: End,
    bytes: Bytes,
}

impl Echo {
    pub(super) fn new(server: SocketAddr, size: usize) -> io::Result<Self> {
        Ok(Self { end: connected(server)?, bytes: filler(size) })
    }
}

impl Exchange for Echo {
    fn exchange(&mut self) -> io::Result<Duration> {
        let began = now();
        self.end.send(0, self.bytes.clone(), false);
        self.end.flush()?;
        let mut missing = self.bytes.len();
        until(|| {
            self.end.turn()?;
            while let Some((_, bytes, _)) = self.end.read() {
                missing -= bytes.len();
            }
            Ok(missing == 0)
        })?;
        Ok(now() - began)
    }
}

/// A question and its answer between two connections, each time on a stream of its own.
pub(super) struct Passed {
    caller: End,
    callee: End,
    bytes: Bytes,
    next: u64,
}

impl Passed {
    pub(super) fn new(server: SocketAddr, size: usize) -> io::Result<Self> {
        let (caller, callee) = (connected(server)?, connected(server)?);
        Ok(Self { caller, callee, bytes: filler(size), next: 0 })
    }
}

impl Exchange for Passed {
    fn exchange(&mut self) -> io::Result<Duration> {
        let began = now();
        self.caller.send(self.next * 4, self.bytes.clone(), true);
        self.caller.flush()?;
        self.next += 1;
        until(|| {
            self.callee.turn()?;
            while let Some((stream, _, fin)) = self.callee.read() {
                if fin {
                    self.callee.send(stream, self.bytes.clone(), true);
                    self.callee.flush()?;
                }
            }
            self.caller.turn()?;
            while let Some((.., fin)) = self.caller.read() {
                if fin {
                    return Ok(true);
                }
            }
            Ok(false)
        })?;
        Ok(now() - began)
    }
}

fn namespace() -> io::Result<TrackNamespace> {
    TrackNamespace::new(["latency"]).map_err(io::Error::other)
}

/// Who publishes a namespace, and who uses it.
fn pair(server: SocketAddr) -> io::Result<(Speaker, Speaker)> {
    let mut publisher = Speaker::connect(server)?;
    let asked = publisher.session.publish_namespace(namespace()?, Parameters::default());
    let asked = asked.map_err(io::Error::other)?;
    publisher.flush()?;
    publisher.expect(&mut [], |event| match event {
        Event::Response { request, body: Response::Ok(_) } => (request == asked).then_some(()),
        _ => None,
    })?;
    Ok((publisher, Speaker::connect(server)?))
}

/// An object from a publisher to a subscriber, each time the next one of one stream.
pub(super) struct ObjectThrough {
    publisher: Speaker,
    subscriber: Speaker,
    stream: StreamId,
    object: Bytes,
}

impl ObjectThrough {
    pub(super) fn new(server: SocketAddr, size: usize) -> io::Result<Self> {
        let (mut publisher, mut subscriber) = pair(server)?;
        let name = Bytes::from_static(b"track");
        let track = FullTrackName::new(namespace()?, name).map_err(io::Error::other)?;
        let asked = subscriber.session.subscribe(track, Parameters::default());
        asked.map_err(io::Error::other)?;
        subscriber.flush()?;
        let request = publisher.expect(&mut [&mut subscriber], |event| match event {
            Event::Request { request, body: Request::Subscribe(_), .. } => Some(request),
            _ => None,
        })?;
        let alias = TrackAlias(1);
        let (parameters, properties) = (Parameters::default(), Properties::default());
        publisher.session.accept_subscribe(request, alias, parameters, properties);
        publisher.flush()?;
        subscriber.expect(&mut [&mut publisher], |event| {
            matches!(event, Event::Response { .. }).then_some(())
        })?;
        let header = SubgroupHeader {
            track_alias: alias,
            group: GroupId(0),
            subgroup: SubgroupMode::Zero,
            priority: None,
            properties: false,
            end_of_group: false,
            first_object: true,
        };
        let opened = publisher.session.open_subgroup(request, &header, &Delivery::default());
        let stream = opened.ok_or(io::ErrorKind::NotConnected)?;
        let mut object = BytesMut::new();
        object.put_u8(0);
        varint::encode(size as u64, &mut object);
        object.put_bytes(b'x', size);
        Ok(Self { publisher, subscriber, stream, object: object.freeze() })
    }
}

impl Exchange for ObjectThrough {
    fn exchange(&mut self) -> io::Result<Duration> {
        let began = now();
        self.publisher.session.send(self.stream, self.object.clone(), false);
        self.publisher.flush()?;
        self.subscriber.expect(&mut [&mut self.publisher], |event| match event {
            Event::Object { object, .. } => object.last.then_some(()),
            Event::Payload { last, .. } => last.then_some(()),
            _ => None,
        })?;
        Ok(now() - began)
    }
}

/// A call and its answer, one record each.
pub(super) struct CallThrough {
    caller: Speaker,
    callee: Speaker,
    question: Bytes,
    answer: Bytes,
}

impl CallThrough {
    pub(super) fn new(server: SocketAddr, size: usize) -> io::Result<Self> {
        let (callee, caller) = pair(server)?;
        let record = |kind| {
            let mut bytes = BytesMut::new();
            Record { kind, payload: filler(size) }.encode(&mut bytes);
            bytes.freeze()
        };
        let (question, answer) = (record(RecordType::Request), record(RecordType::Result));
        Ok(Self { caller, callee, question, answer })
    }
}

impl Exchange for CallThrough {
    fn exchange(&mut self) -> io::Result<Duration> {
        let began = now();
        let session = &mut self.caller.session;
        let name = Bytes::from_static(b"ping");
        let call = session.call(namespace()?, name, Parameters::default());
        let call: RequestId = call.map_err(io::Error::other)?;
        session.send_call(call, self.question.clone(), true);
        self.caller.flush()?;
        let asked = self.callee.expect(&mut [&mut self.caller], |event| match event {
            Event::CallBytes { request, fin: true, .. } => Some(request),
            _ => None,
        })?;
        self.callee.session.send_call(asked, self.answer.clone(), true);
        self.callee.flush()?;
        self.caller.expect(&mut [&mut self.callee], |event| match event {
            Event::CallBytes { request, fin: true, .. } => (request == call).then_some(()),
            _ => None,
        })?;
        Ok(now() - began)
    }
}
