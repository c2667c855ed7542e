//! What a session tells the layer above.

use aip_codec::moqt::{
    datagram::ObjectDatagram,
    error_code::ResetCode,
    id::RequestId,
    location::Location,
    message::{FetchOk, PublishDone, PublishStateNotify, RequestError, RequestOk, SubscribeOk},
    name::TrackNamespace,
    parameter::Parameters,
    stream::{
        fetch::{FetchObject, RangeKind},
        subgroup::{ObjectHeader, SubgroupHeader},
    },
};
use bytes::Bytes;

use super::token_cache::AuthToken;
use crate::transport::StreamId;

use aip_codec::{
    aip::{call::Call, setup_option::AipOption},
    moqt::message::{
        Fetch, Publish, PublishNamespace, Subscribe, SubscribeNamespace, SubscribeTracks,
        TrackStatus,
    },
};

/// A request that the peer makes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Request {
    /// It wants a track of ours.
    Subscribe(Subscribe),
    /// It offers a track of its own.
    Publish(Publish),
    /// It wants past objects of a track of ours.
    Fetch(Fetch),
    /// It asks how a track of ours stands.
    TrackStatus(TrackStatus),
    /// It publishes a namespace.
    PublishNamespace(PublishNamespace),
    /// It wants to know of namespaces.
    SubscribeNamespace(SubscribeNamespace),
    /// It wants every track under a prefix.
    SubscribeTracks(SubscribeTracks),
    /// It calls.
    Call(Call),
}

/// The peer's answer to a request of ours.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Response {
    /// To SUBSCRIBE.
    SubscribeOk(SubscribeOk),
    /// To FETCH.
    FetchOk(FetchOk),
    /// To every other request.
    Ok(RequestOk),
    /// No. The request is over.
    Error(RequestError),
}

/// How a stream's sending side ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StreamEnd {
    /// With all there was.
    Fin,
    /// Before that.
    Reset(ResetCode),
}

/// An object's beginning on a subgroup stream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReceivedObject {
    /// What stands before its payload.
    pub header: ObjectHeader,
    /// Its bytes as they stood in the stream: the header, and `payload` behind it if
    /// `wire_has_payload`.
    pub wire: Bytes,
    /// Whether `payload` lies in `wire`, directly behind the header.
    pub wire_has_payload: bool,
    /// As much of the payload as has come.
    pub payload: Bytes,
    /// Whether that is all of it.
    pub last: bool,
}

/// What the layer above learns. A request's events come in the order of its stream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// The peer's SETUP is here.
    Established {
        /// Its AIP offer, if both sides make one.
        aip: Option<AipOption>,
        /// Tokens of its SETUP.
        tokens: Vec<AuthToken>,
    },
    /// The peer makes a request; answer it.
    Request {
        /// Its number.
        request: RequestId,
        /// What it asks.
        body: Request,
        /// Its tokens, aliases resolved.
        tokens: Vec<AuthToken>,
    },
    /// The peer answers a request of ours.
    Response {
        /// Ours.
        request: RequestId,
        /// Its answer.
        body: Response,
    },
    /// The peer changes a request: its own, or as a subscriber our PUBLISH. Answer it.
    Update {
        /// The request.
        request: RequestId,
        /// The update's own number, which a fill stream that it asks for will carry.
        update: RequestId,
        /// What changes.
        parameters: Parameters,
    },
    /// The peer tells anew which relays a request of its comes through that is not answered yet; as an
    /// update it is told behind the answer.
    Hops {
        /// The request.
        request: RequestId,
        /// What changes, the hops among it.
        parameters: Parameters,
    },
    /// The peer answers an update of ours.
    UpdateResponse {
        /// The request that was updated.
        request: RequestId,
        /// The update's own number.
        update: RequestId,
        /// Accepted, or why not.
        result: Result<RequestOk, RequestError>,
    },
    /// The publisher of a subscription tells of a change.
    StateNotify {
        /// The subscription.
        request: RequestId,
        /// The change.
        body: PublishStateNotify,
    },
    /// The publisher ends a subscription. The request is over; its streams may still end.
    PublishDone {
        /// The subscription.
        request: RequestId,
        /// How.
        body: PublishDone,
    },
    /// A namespace under the prefix of our SUBSCRIBE_NAMESPACE is published. Another relay may say
    /// it again, with other parameters.
    Namespace {
        /// Our request.
        request: RequestId,
        /// What follows the prefix.
        suffix: TrackNamespace,
        /// HOPS and COST of another relay.
        parameters: Parameters,
    },
    /// It is no longer.
    NamespaceDone {
        /// Our request.
        request: RequestId,
        /// What follows the prefix.
        suffix: TrackNamespace,
    },
    /// A track under the prefix of our SUBSCRIBE_TRACKS will not be published to us.
    PublishSkipped {
        /// Our request.
        request: RequestId,
        /// What follows the prefix.
        suffix: TrackNamespace,
        /// The track's name.
        name: Bytes,
    },
    /// A request is over: the peer cancelled it, or ended its stream. Not told after
    /// `Response::Error` or `PublishDone`, nor if we ended it.
    Ended {
        /// The request, of either side.
        request: RequestId,
    },
    /// A subscriber of ours cannot keep up: end it ([`super::Session::end_behind`]).
    TooFarBehind {
        /// The subscription.
        request: RequestId,
    },
    /// A subgroup's stream begins.
    SubgroupOpened {
        /// The stream.
        stream: StreamId,
        /// Its header; the alias is one that we know.
        header: SubgroupHeader,
    },
    /// An object begins, and ends if `last`.
    Object {
        /// Its stream.
        stream: StreamId,
        /// It.
        object: ReceivedObject,
    },
    /// More of the current object's payload.
    Payload {
        /// Its stream.
        stream: StreamId,
        /// The next bytes.
        bytes: Bytes,
        /// Whether that is all of it.
        last: bool,
    },
    /// A subgroup's stream ends.
    SubgroupEnded {
        /// The stream.
        stream: StreamId,
        /// How.
        end: StreamEnd,
    },
    /// An object on the data stream of our FETCH, or of a fill.
    FetchObject {
        /// The number in the stream's header: our FETCH, SUBSCRIBE or REQUEST_UPDATE.
        request: RequestId,
        /// It.
        object: FetchObject,
        /// As much of the payload as has come.
        payload: Bytes,
        /// Whether that is all of it.
        last: bool,
    },
    /// More of the current fetched object's payload.
    FetchPayload {
        /// As in `FetchObject`.
        request: RequestId,
        /// The next bytes.
        bytes: Bytes,
        /// Whether that is all of it.
        last: bool,
    },
    /// A range without objects on the data stream of our FETCH, or of a fill.
    FetchRange {
        /// As in `FetchObject`.
        request: RequestId,
        /// Why there are none.
        kind: RangeKind,
        /// Its last location.
        end: Location,
    },
    /// The data stream of our FETCH, or of a fill, ends.
    FetchEnded {
        /// As in `FetchObject`.
        request: RequestId,
        /// How.
        end: StreamEnd,
    },
    /// An object in a datagram; its alias is one that we know.
    Datagram {
        /// It.
        object: ObjectDatagram,
    },
    /// Bytes behind a CALL, of either side.
    CallBytes {
        /// The call.
        request: RequestId,
        /// The next bytes, records to the edges.
        bytes: Bytes,
        /// Whether nothing follows.
        fin: bool,
    },
    /// The other end of a call cancels what it was sending.
    CallReset {
        /// The call.
        request: RequestId,
        /// Why.
        code: ResetCode,
    },
    /// The other end of a call reads no more of what we send.
    CallStopped {
        /// The call.
        request: RequestId,
        /// Why.
        code: ResetCode,
    },
    /// The peer is going away: wholly, or one request of ours is to be moved.
    Goaway {
        /// The request, if it is only one.
        request: Option<RequestId>,
        /// Where to go; empty is the same place.
        uri: Bytes,
        /// Milliseconds until it ends by force; 0 is not said.
        timeout: u64,
    },
}
