//! The whole life of each kind of request, in every draft.

use aip_codec::{
    Version,
    aip::call::{Record, RecordType},
    moqt::{
        error_code::{PublishDoneCode, RequestCode, ResetCode},
        id::{RequestId, TrackAlias},
        location::Location,
        message::FetchTarget,
        name::TrackNamespace,
        parameter::{GroupOrder, Parameter, Parameters},
        property::Properties,
    },
};
use bytes::{Bytes, BytesMut};

use super::{DRAFTS, Pair, header, namespace, object, track};
use crate::{
    session::{AskError, Delivery, Event, Request, Response},
    transport::{Side, StreamId},
};

/// What an event says, in a word or two.
fn word(event: &Event) -> String {
    match event {
        Event::Established { .. } => "established".to_owned(),
        Event::Request { request, body, .. } => format!("{request}: {}", kind(body)),
        Event::Response { request, body } => match body {
            Response::SubscribeOk(ok) => {
                format!("{request}: SUBSCRIBE_OK alias {}", ok.track_alias)
            }
            Response::FetchOk(ok) => format!("{request}: FETCH_OK to {}", ok.end),
            Response::Ok(ok) => match ok.parameters.largest_object() {
                Some(largest) => format!("{request}: OK largest {largest}"),
                None => format!("{request}: OK"),
            },
            Response::Error(error) => format!("{request}: {}", error.code.name()),
        },
        Event::Update { request, update, .. } => format!("{request}: update {update}"),
        Event::Hops { request, .. } => format!("{request}: hops"),
        Event::UpdateResponse { request, update, result } => match result {
            Ok(_) => format!("{request}: update {update} OK"),
            Err(error) => format!("{request}: update {update} {}", error.code.name()),
        },
        Event::StateNotify { request, .. } => format!("{request}: state"),
        Event::PublishDone { request, body } => format!("{request}: done {}", body.code.name()),
        Event::Namespace { request, suffix, .. } => format!("{request}: + {suffix}"),
        Event::NamespaceDone { request, suffix } => format!("{request}: - {suffix}"),
        Event::PublishSkipped { request, .. } => format!("{request}: skipped"),
        Event::Ended { request } => format!("{request}: ended"),
        Event::TooFarBehind { request } => format!("{request}: too far behind"),
        Event::SubgroupOpened { header, .. } => format!("group {}", header.group),
        Event::Object { object, .. } => format!("object {}", object.header.object),
        Event::Payload { .. } => "payload".to_owned(),
        Event::SubgroupEnded { .. } => "group ended".to_owned(),
        Event::FetchObject { object, .. } => format!("fetched {}", object.location),
        Event::FetchPayload { .. } => "fetched payload".to_owned(),
        Event::FetchRange { .. } => "fetched range".to_owned(),
        Event::FetchEnded { .. } => "fetch ended".to_owned(),
        Event::Datagram { .. } => "datagram".to_owned(),
        Event::CallBytes { request, bytes, fin } => {
            format!("{request}: {} bytes{}", bytes.len(), if *fin { ", all" } else { "" })
        }
        Event::CallReset { request, .. } => format!("{request}: reset"),
        Event::CallStopped { request, .. } => format!("{request}: stopped"),
        Event::Goaway { request, .. } => format!("{request:?}: goaway"),
    }
}

const fn kind(body: &Request) -> &'static str {
    match body {
        Request::Subscribe(_) => "SUBSCRIBE",
        Request::Publish(_) => "PUBLISH",
        Request::Fetch(_) => "FETCH",
        Request::TrackStatus(_) => "TRACK_STATUS",
        Request::PublishNamespace(_) => "PUBLISH_NAMESPACE",
        Request::SubscribeNamespace(_) => "SUBSCRIBE_NAMESPACE",
        Request::SubscribeTracks(_) => "SUBSCRIBE_TRACKS",
        Request::Call(_) => "CALL",
    }
}

/// A pair and what was told, line by line: `>` at the server, `<` at the client.
struct Story {
    pair: Pair,
    lines: Vec<String>,
}

impl Story {
    fn new(version: Version) -> Self {
        Self { pair: Pair::new(version), lines: Vec::new() }
    }

    fn tell(&mut self) {
        let server = self.pair.server_events();
        let client = self.pair.client_events();
        self.lines.extend(server.iter().map(|event| format!("> {}", word(event))));
        self.lines.extend(client.iter().map(|event| format!("< {}", word(event))));
    }

    /// The story so far, when both sides have nothing open.
    #[track_caller]
    fn end(mut self) -> String {
        self.tell();
        assert!(self.pair.client.is_idle(), "the client remembers something: {:#?}", self.lines);
        assert!(self.pair.server.is_idle(), "the server remembers something: {:#?}", self.lines);
        assert_eq!((self.pair.client.outgoing.len(), self.pair.server.outgoing.len()), (0, 0));
        assert_eq!(self.pair.client.poll_timeout(), None);
        assert_eq!(self.pair.server.poll_timeout(), None);
        assert_eq!(self.pair.client.queued_bytes(), 0);
        assert_eq!(self.pair.server.queued_bytes(), 0);
        self.lines.join("\n")
    }
}

fn none() -> Parameters {
    Parameters::default()
}

fn with(parameter: Parameter) -> Parameters {
    none().with(parameter)
}

#[test]
fn subscribe() {
    for version in DRAFTS {
        let mut story = Story::new(version);
        let request = story.pair.client.subscribe(track("t"), none()).unwrap();
        story.tell();
        let largest = with(Parameter::LargestObject(Location::new(3, 4)));
        let properties = Properties::default();
        story.pair.server.accept_subscribe(request, TrackAlias(7), largest, properties);
        story.tell();
        story.pair.client.update(request, with(Parameter::Forward(false))).unwrap();
        story.tell();
        story.pair.server.accept_update(request, none());
        let stream =
            story.pair.server.open_subgroup(request, &header(7, 4), &Delivery::default()).unwrap();
        story.pair.server.send(stream, object(0, "x"), true);
        story.tell();
        story.pair.server.state_notify(request, with(Parameter::Forward(true)));
        story.tell();
        story.pair.server.publish_done(request, PublishDoneCode::TRACK_ENDED, "over");
        let state = if version < Version::Draft20 { "" } else { "< 0: state\n" };
        assert_eq!(
            story.end(),
            format!(
                "> 0: SUBSCRIBE\n\
                 < 0: SUBSCRIBE_OK alias 7\n\
                 > 0: update 2\n\
                 < 0: update 2 OK\n\
                 < group 4\n\
                 < object 0\n\
                 < group ended\n\
                 {state}\
                 < 0: done TRACK_ENDED"
            ),
            "{version:?}"
        );
    }
}

#[test]
fn subscribe_refused() {
    for version in DRAFTS {
        let mut story = Story::new(version);
        let request = story.pair.client.subscribe(track("t"), none()).unwrap();
        story.tell();
        story.pair.server.reject_with(request, RequestCode::DOES_NOT_EXIST, "no");
        assert_eq!(story.end(), "> 0: SUBSCRIBE\n< 0: DOES_NOT_EXIST", "{version:?}");
    }
}

#[test]
fn subscribe_cancelled_before_its_answer() {
    for version in DRAFTS {
        let mut story = Story::new(version);
        let request = story.pair.client.subscribe(track("t"), none()).unwrap();
        story.tell();
        story.pair.client.cancel(request, ResetCode::CANCELLED);
        let (parameters, properties) = (none(), Properties::default());
        story.pair.server.accept_subscribe(request, TrackAlias(1), parameters, properties);
        assert_eq!(story.end(), "> 0: SUBSCRIBE\n> 0: ended", "{version:?}");
    }
}

#[test]
fn an_update_that_fails_ends_a_subscription() {
    for version in DRAFTS {
        let mut story = Story::new(version);
        let request = story.pair.client.subscribe(track("t"), none()).unwrap();
        story.tell();
        story.pair.server.accept_subscribe(request, TrackAlias(1), none(), Properties::default());
        story.pair.server.open_subgroup(request, &header(1, 4), &Delivery::default()).unwrap();
        story.tell();
        story.pair.client.update(request, with(Parameter::SubscriberPriority(1))).unwrap();
        story.tell();
        story.pair.server.reject_update(request, RequestCode::INTERNAL_ERROR, "no");
        assert_eq!(
            story.end(),
            "> 0: SUBSCRIBE\n\
             < 0: SUBSCRIBE_OK alias 1\n\
             < group 4\n\
             > 0: update 2\n\
             > 0: ended\n\
             < 0: update 2 INTERNAL_ERROR\n\
             < group ended\n\
             < 0: done UPDATE_FAILED",
            "{version:?}"
        );
    }
}

#[test]
fn publish() {
    for version in DRAFTS {
        let mut story = Story::new(version);
        let (alias, properties) = (TrackAlias(3), Properties::default());
        let request = story.pair.client.publish(track("t"), alias, none(), properties).unwrap();
        let stream =
            story.pair.client.open_subgroup(request, &header(3, 1), &Delivery::default()).unwrap();
        story.pair.client.send(stream, object(0, "x"), true);
        story.tell();
        story.pair.server.accept(request, none(), Properties::default());
        story.tell();
        let update = story.pair.server.update(request, with(Parameter::Forward(false))).unwrap();
        assert_eq!(update, RequestId(1));
        story.tell();
        story.pair.client.accept_update(request, none());
        story.pair.client.publish_done(request, PublishDoneCode::TRACK_ENDED, "");
        assert_eq!(
            story.end(),
            "> 0: PUBLISH\n\
             > group 1\n\
             > object 0\n\
             > group ended\n\
             < 0: OK\n\
             < 0: update 1\n\
             > 0: update 1 OK\n\
             > 0: done TRACK_ENDED",
            "{version:?}"
        );
    }
}

#[test]
fn publish_updated_by_both() {
    for version in DRAFTS {
        let mut story = Story::new(version);
        let (alias, properties) = (TrackAlias(3), Properties::default());
        let request = story.pair.client.publish(track("t"), alias, none(), properties).unwrap();
        story.pair.client.update(request, with(Parameter::Forward(true))).unwrap();
        story.tell();
        story.pair.server.accept(request, none(), Properties::default());
        story.tell();
        story.pair.server.update(request, with(Parameter::Forward(false))).unwrap();
        story.pair.server.accept_update(request, none());
        story.tell();
        story.pair.client.accept_update(request, none());
        story.pair.client.publish_done(request, PublishDoneCode::TRACK_ENDED, "");
        assert_eq!(
            story.end(),
            "> 0: PUBLISH\n\
             > 0: update 2\n\
             < 0: OK\n\
             < 0: update 1\n\
             < 0: update 2 OK\n\
             > 0: update 1 OK\n\
             > 0: done TRACK_ENDED",
            "{version:?}"
        );
    }
}

#[test]
fn publish_refused() {
    for version in DRAFTS {
        let mut story = Story::new(version);
        let (alias, properties) = (TrackAlias(3), Properties::default());
        let request = story.pair.client.publish(track("t"), alias, none(), properties).unwrap();
        let stream =
            story.pair.client.open_subgroup(request, &header(3, 1), &Delivery::default()).unwrap();
        story.pair.client.send(stream, object(0, "x"), false);
        story.tell();
        story.pair.server.stop_incoming(stream, ResetCode::CANCELLED);
        story.pair.server.reject_with(request, RequestCode::UNINTERESTED, "no");
        assert_eq!(
            story.end(),
            "> 0: PUBLISH\n> group 1\n> object 0\n< 0: UNINTERESTED",
            "{version:?}"
        );
    }
}

#[test]
fn publish_ended_before_its_answer() {
    for version in DRAFTS {
        let mut story = Story::new(version);
        let (alias, properties) = (TrackAlias(3), Properties::default());
        let request = story.pair.client.publish(track("t"), alias, none(), properties).unwrap();
        story.pair.client.publish_done(request, PublishDoneCode::TRACK_ENDED, "");
        story.tell();
        story.pair.server.accept(request, none(), Properties::default());
        assert_eq!(story.end(), "> 0: PUBLISH\n> 0: done TRACK_ENDED", "{version:?}");
    }
}

#[test]
fn fetch_updated_and_cancelled() {
    for version in DRAFTS {
        let mut story = Story::new(version);
        let (start, end) = (Location::new(1, 0), Location::new(4, u64::MAX));
        let descending = with(Parameter::GroupOrder(GroupOrder::Descending));
        let request = story.pair.client.fetch_range(track("t"), start, end, descending).unwrap();
        story.tell();
        let stream = story.pair.server.open_fetch(request, 9).unwrap();
        story.pair.client.update(request, with(Parameter::SubscriberPriority(1))).unwrap();
        story.pair.server.accept_fetch(request, false, Location::new(4, 2), Properties::default());
        story.tell();
        story.pair.server.accept_update(request, none());
        story.tell();
        story.pair.client.cancel(request, ResetCode::CANCELLED);
        story.pair.shuttle();
        assert_eq!(story.pair.server.stream_queued_bytes(stream), None);
        let end = if version < Version::Draft20 { "4/3" } else { "4/2" };
        assert_eq!(
            story.end(),
            format!(
                "> 0: FETCH\n\
                 > 0: update 2\n\
                 < 0: FETCH_OK to {end}\n\
                 < 0: update 2 OK\n\
                 > 0: ended"
            ),
            "{version:?}"
        );
    }
}

#[test]
fn each_draft_has_its_form_of_fetch() {
    for version in DRAFTS {
        let mut pair = Pair::new(version);
        let target = FetchTarget::Track(track("t"));
        let joining = FetchTarget::Joining { relative: true, request_id: RequestId(0), start: 1 };
        let old = version < Version::Draft20;
        let unsupported = Err(AskError::Unsupported);
        assert_eq!(pair.client.fetch(target, none()) == unsupported, old, "{version:?}");
        assert_eq!(pair.client.fetch(joining, none()) == unsupported, !old, "{version:?}");
        assert_eq!(pair.server_events().len(), 1);
    }
}

#[test]
fn track_status() {
    for version in DRAFTS {
        let mut story = Story::new(version);
        let request = story.pair.client.track_status(track("t"), none()).unwrap();
        story.tell();
        let largest = with(Parameter::LargestObject(Location::new(3, 4)));
        let properties = Properties::builder().integer(0x0e, 3).build().unwrap();
        story.pair.server.accept(request, largest, properties);
        assert_eq!(story.pair.client.update(request, none()), Err(AskError::UnknownRequest));
        assert_eq!(story.end(), "> 0: TRACK_STATUS\n< 0: OK largest 3/4", "{version:?}");
    }
}

#[test]
fn publish_namespace() {
    for version in DRAFTS {
        let mut story = Story::new(version);
        let request = story.pair.client.publish_namespace(namespace(), none()).unwrap();
        story.tell();
        story.pair.server.accept(request, none(), Properties::default());
        story.tell();
        story.pair.client.update(request, none()).unwrap();
        story.tell();
        story.pair.server.accept_update(request, none());
        story.tell();
        story.pair.client.cancel(request, ResetCode::CANCELLED);
        assert_eq!(
            story.end(),
            "> 0: PUBLISH_NAMESPACE\n< 0: OK\n> 0: update 2\n< 0: update 2 OK\n> 0: ended",
            "{version:?}"
        );
    }
}

#[test]
fn a_namespace_is_given_up_by_who_accepted_it() {
    for version in DRAFTS {
        let mut story = Story::new(version);
        let request = story.pair.client.publish_namespace(namespace(), none()).unwrap();
        story.tell();
        story.pair.server.accept(request, none(), Properties::default());
        story.tell();
        story.pair.server.cancel(request, ResetCode::GOING_AWAY);
        assert_eq!(story.end(), "> 0: PUBLISH_NAMESPACE\n< 0: OK\n< 0: ended", "{version:?}");
    }
}

#[test]
fn subscribe_namespace() {
    let suffix = |text: &str| TrackNamespace::new([text]).unwrap();
    for version in DRAFTS {
        let mut story = Story::new(version);
        let request = story.pair.client.subscribe_namespace(namespace(), none()).unwrap();
        story.tell();
        story.pair.server.accept(request, none(), Properties::default());
        story.pair.server.namespace(request, suffix("a"), Parameters::default());
        story.pair.server.namespace(request, TrackNamespace::default(), Parameters::default());
        story.pair.server.namespace_done(request, suffix("a"));
        story.pair.server.namespace(request, suffix("a"), Parameters::default());
        story.tell();
        let prefix = Parameter::TrackNamespacePrefix(suffix("other"));
        story.pair.client.update(request, with(prefix)).unwrap();
        story.tell();
        story.pair.server.accept_update(request, none());
        story.tell();
        story.pair.client.cancel(request, ResetCode::CANCELLED);
        assert_eq!(
            story.end(),
            "> 0: SUBSCRIBE_NAMESPACE\n\
             < 0: OK\n\
             < 0: + a\n\
             < 0: + \n\
             < 0: - a\n\
             < 0: + a\n\
             > 0: update 2\n\
             < 0: update 2 OK\n\
             > 0: ended",
            "{version:?}"
        );
    }
}

#[test]
fn subscribe_tracks() {
    for version in DRAFTS {
        let mut story = Story::new(version);
        let request = story.pair.client.subscribe_tracks(namespace(), none()).unwrap();
        story.tell();
        story.pair.server.accept(request, none(), Properties::default());
        let suffix = TrackNamespace::default();
        story.pair.server.publish_skipped(request, suffix, Bytes::from("t"));
        let (alias, properties) = (TrackAlias(3), Properties::default());
        let published = story.pair.server.publish(track("u"), alias, none(), properties).unwrap();
        story.tell();
        story.pair.client.accept(published, none(), Properties::default());
        story.pair.client.cancel(request, ResetCode::CANCELLED);
        story.tell();
        story.pair.server.publish_done(published, PublishDoneCode::TRACK_ENDED, "");
        assert_eq!(
            story.end(),
            "> 0: SUBSCRIBE_TRACKS\n\
             < 0: OK\n\
             < 0: skipped\n\
             < 1: PUBLISH\n\
             > 1: OK\n\
             > 0: ended\n\
             < 1: done TRACK_ENDED",
            "{version:?}"
        );
    }
}

#[test]
fn call() {
    let record = |kind, text: &'static str| {
        let mut out = BytesMut::new();
        Record { kind, payload: Bytes::from(text) }.encode(&mut out);
        out.freeze()
    };
    for version in DRAFTS {
        let mut story = Story::new(version);
        let name = Bytes::from("tools/call");
        let request = story.pair.client.call(namespace(), name, none()).unwrap();
        story.pair.client.send_call(request, record(RecordType::Request, "please"), true);
        story.tell();
        story.pair.server.send_call(request, record(RecordType::Message, "soon"), false);
        story.tell();
        story.pair.server.send_call(request, record(RecordType::Result, "done"), true);
        assert_eq!(
            story.end(),
            "> 0: CALL\n> 0: 8 bytes, all\n< 0: 6 bytes\n< 0: 6 bytes, all",
            "{version:?}"
        );
    }
}

#[test]
fn call_cancelled_or_refused() {
    for version in DRAFTS {
        let mut story = Story::new(version);
        let name = Bytes::from("tools/call");
        let request = story.pair.client.call(namespace(), name.clone(), none()).unwrap();
        story.pair.client.send_call(request, Bytes::from("abc"), false);
        story.tell();
        story.pair.client.reset_call(request, ResetCode::CANCELLED);
        story.pair.client.stop_call(request, ResetCode::CANCELLED);
        story.tell();
        story.pair.server.reset_call(request, ResetCode::CANCELLED);
        let refused = story.pair.client.call(namespace(), name, none()).unwrap();
        story.tell();
        story.pair.server.refuse_call(refused, RequestCode::DOES_NOT_EXIST, "no");
        story.tell();
        story.pair.client.send_call(refused, Bytes::from("into the void"), true);
        assert_eq!(
            story.end(),
            "> 0: CALL\n\
             > 0: 3 bytes\n\
             > 0: reset\n\
             > 0: stopped\n\
             > 2: CALL\n\
             < 2: 6 bytes, all\n\
             < 2: stopped",
            "{version:?}"
        );
    }
}

#[test]
fn the_end_of_a_subscribers_stream_is_no_cancel() {
    for version in DRAFTS {
        let mut pair = Pair::new(version);
        let request = pair.client.subscribe(track("t"), none()).unwrap();
        pair.server_events();
        let stream = StreamId::new(Side::Client, true, 0);
        let now = pair.now;
        pair.server.handle_stream(stream, Bytes::new(), true, now);
        assert_eq!(pair.server_events(), [], "{version:?}");
        pair.server.accept_subscribe(request, TrackAlias(1), none(), Properties::default());
        assert!(matches!(pair.client_events()[..], [Event::Response { .. }]));
        let data = pair.server.open_subgroup(request, &header(1, 1), &Delivery::default()).unwrap();
        pair.server.send(data, object(0, "x"), true);
        assert_eq!(pair.client_events().len(), 3, "{version:?}");
    }
}

#[test]
fn the_end_of_a_publishers_stream_without_its_word_is_the_end() {
    for version in DRAFTS {
        let mut pair = Pair::new(version);
        let request = pair.client.subscribe(track("t"), none()).unwrap();
        pair.server_events();
        pair.server.accept_subscribe(request, TrackAlias(1), none(), Properties::default());
        pair.client_events();
        let (stream, now) = (StreamId::new(Side::Client, true, 0), pair.now);
        pair.client.handle_stream(stream, Bytes::new(), true, now);
        assert_eq!(pair.client_events(), [Event::Ended { request }], "{version:?}");
    }
}

#[test]
fn goaway_on_a_request_is_about_it_alone() {
    for version in DRAFTS {
        let mut pair = Pair::new(version);
        let request = pair.client.subscribe(track("t"), none()).unwrap();
        pair.server_events();
        let (stream, now) = (StreamId::new(Side::Client, true, 0), pair.now);
        let message = aip_codec::moqt::message::Goaway {
            uri: Bytes::from("moqt://b"),
            timeout: 7,
            request_id: None,
        };
        let mut body = BytesMut::new();
        let message = aip_codec::moqt::message::Message::Goaway(message);
        // Draft 18's own form has a number behind it on the control stream only.
        if message.encode(version, &mut body).is_err() {
            body = BytesMut::from(&super::hex("10000a086d6f71743a2f2f6207")[..]);
        }
        pair.client.handle_stream(stream, body.freeze(), false, now);
        let uri = Bytes::from("moqt://b");
        let told = Event::Goaway { request: Some(request), uri, timeout: 7 };
        assert_eq!(pair.client_events(), [told], "{version:?}");
        assert!(pair.client.subscribe(track("u"), none()).is_ok());
    }
}
