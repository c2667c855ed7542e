//! FETCH and fills through a relay.

use aip_codec::{
    Version,
    moqt::{
        error_code::{RequestCode, ResetCode},
        filter::LocationFilter,
        id::RequestId,
        message::FetchTarget,
        parameter::{GroupOrder, Parameter, Parameters},
        property::Properties,
        stream::fetch::RangeKind,
    },
};
use aip_engine::session::{Event, Response, StreamEnd};
use aip_tests::sim::{
    NodeId,
    peer::{FetchItem, Peer, Subgroup},
};
use bytes::Bytes;

use super::{DRAFTS, Live, Stage, at, none, payload, track, with};

fn object(group: u64, number: u64, text: &str) -> FetchItem {
    FetchItem::Object(at(group, number), payload(text))
}

fn range(kind: RangeKind, group: u64, number: u64) -> FetchItem {
    FetchItem::Range(kind, at(group, number))
}

const DESCENDING: Parameter = Parameter::GroupOrder(GroupOrder::Descending);

impl Live {
    fn fetch(&mut self, start: (u64, u64), end: (u64, u64), parameters: Parameters) -> RequestId {
        let (start, end) = (at(start.0, start.1), at(end.0, end.1));
        self.stage.fetch(self.subscriber, start, end, parameters)
    }

    fn fetched(&mut self, fetch: RequestId) -> String {
        self.stage.fetched(self.subscriber, fetch)
    }

    /// A subscription of a new subscriber that fills from `filter` on.
    fn fill(
        &mut self,
        version: Version,
        filter: LocationFilter,
        more: &[Parameter],
    ) -> (NodeId, RequestId) {
        let inner = more
            .iter()
            .fold(none(), |list, parameter| list.with(parameter.clone()))
            .with(Parameter::LocationFilter(filter));
        self.stage.join(version, with(Parameter::FillParameters(inner)))
    }
}

#[test]
fn a_fetch_is_answered_from_the_cache() {
    for drafts in DRAFTS {
        let mut live = Stage::live(drafts, none());
        for group in 1..=3 {
            live.group(group, &["a", "b", "c"]);
        }
        live.heard();
        let fetch = live.fetch((1, 1), (3, 0), none());
        let Response::FetchOk(ok) = live.stage.response(live.subscriber, fetch) else { panic!() };
        let end = if drafts.1 < Version::Draft20 { at(3, 1) } else { at(3, 0) };
        assert_eq!(ok.end, end);
        assert_eq!(live.fetched(fetch), "1/1=b 1/2=c 2/0=a 2/1=b 2/2=c 3/0=a fin", "{drafts:?}");
        let fetch = live.fetch((1, 1), (3, 0), with(DESCENDING));
        assert_eq!(live.fetched(fetch), "3/0=a 2/0=a 2/1=b 2/2=c 1/1=b 1/2=c fin", "{drafts:?}");
        // Whole groups, and no further than the largest object.
        let fetch = live.fetch((2, 0), (2, u64::MAX), none());
        assert_eq!(live.fetched(fetch), "2/0=a 2/1=b 2/2=c fin", "{drafts:?}");
        let fetch = live.fetch((3, 1), (90, u64::MAX), none());
        let Response::FetchOk(ok) = live.stage.response(live.subscriber, fetch) else { panic!() };
        let end = if drafts.1 < Version::Draft20 { at(3, 3) } else { at(3, 2) };
        assert_eq!(ok.end, end, "{drafts:?}");
        assert_eq!(live.fetched(fetch), "3/1=b 3/2=c fin", "{drafts:?}");
        assert!(live.stage.requests(live.publisher).is_empty(), "all of it was cached");
    }
}

#[test]
fn a_fetch_of_nothing_is_refused() {
    for drafts in DRAFTS {
        let mut live = Stage::live(drafts, none());
        let fetch = live.fetch((0, 0), (9, 0), none());
        assert_eq!(live.stage.refusal(live.subscriber, fetch), "INVALID_RANGE");
        live.group(3, &["a"]);
        let fetch = live.fetch((3, 1), (9, 0), none());
        assert_eq!(live.stage.refusal(live.subscriber, fetch), "INVALID_RANGE", "{drafts:?}");
        if Version::Draft20 <= drafts.1 {
            let filter = LocationFilter::Range { start: at(2, 5), end: at(2, 4) };
            let target = FetchTarget::Track(track("t"));
            let fetch = live.stage.tell(live.subscriber, |peer| {
                let parameters = with(Parameter::LocationFilter(filter));
                peer.session().fetch(target, parameters).unwrap()
            });
            assert_eq!(live.stage.refusal(live.subscriber, fetch), "INVALID_RANGE");
        }
    }
}

#[test]
fn what_is_not_cached_is_fetched_once() {
    for drafts in DRAFTS {
        let mut live = Stage::live(drafts, none());
        live.group(5, &["a"]);
        live.heard();
        let first = live.fetch((2, 0), (5, 0), none());
        let (other, _) = live.stage.join(drafts.1, none());
        let second = live.stage.fetch(other, at(3, 0), at(5, 0), none());
        let (upstream, asked, _) = live.stage.fetch_request(live.publisher);
        assert!(asked.contains('2'), "{asked}");
        let items = [object(2, 0, "x"), object(4, 1, "y")];
        live.stage.answer_fetch(live.publisher, upstream, &items);
        assert_eq!(live.fetched(first), "2/0=x 4/1=y 5/0=a fin", "{drafts:?}");
        assert_eq!(live.stage.fetched(other, second), "4/1=y 5/0=a fin", "{drafts:?}");
        // Now all is known, also what there is not.
        let again = live.fetch((2, 0), (5, 0), with(DESCENDING));
        assert_eq!(live.fetched(again), "5/0=a 4/1=y 2/0=x fin", "{drafts:?}");
        assert!(live.stage.requests(live.publisher).is_empty(), "{drafts:?}");
    }
}

#[test]
fn an_object_of_the_greatest_number_is_sent_once() {
    for drafts in DRAFTS {
        let mut live = Stage::live(drafts, none());
        live.group(5, &["a"]);
        live.heard();
        let fetch = live.fetch((2, 0), (5, 0), none());
        let (upstream, ..) = live.stage.fetch_request(live.publisher);
        let items = [object(2, 0, "x"), object(2, u64::MAX, "y")];
        live.stage.answer_fetch(live.publisher, upstream, &items);
        let last = format!("2/{}=y", u64::MAX);
        assert_eq!(live.fetched(fetch), format!("2/0=x {last} 5/0=a fin"), "{drafts:?}");
        let again = live.fetch((2, 0), (5, 0), with(DESCENDING));
        assert_eq!(live.fetched(again), format!("5/0=a 2/0=x {last} fin"), "{drafts:?}");
    }
}

#[test]
fn a_descending_fetch_is_asked_for_descending() {
    for drafts in DRAFTS {
        let mut live = Stage::live(drafts, none());
        live.group(5, &["a"]);
        live.heard();
        let fetch = live.fetch((2, 0), (5, 0), with(DESCENDING));
        let (upstream, _, order) = live.stage.fetch_request(live.publisher);
        assert_eq!(order, GroupOrder::Descending, "{drafts:?}");
        // What is here already is sent at once.
        let (items, end) = aip_tests::sim::heard::fetched(&live.stage.take(live.subscriber), fetch);
        assert_eq!((items.len(), end), (1, None), "{drafts:?}");
        let items = [object(5, 0, "a"), object(4, 0, "y"), object(4, 2, "z"), object(2, 0, "x")];
        live.stage.answer_fetch_in(live.publisher, upstream, order, &items);
        let (items, end) = aip_tests::sim::heard::fetched(&live.stage.take(live.subscriber), fetch);
        assert_eq!(items, [object(4, 0, "y"), object(4, 2, "z"), object(2, 0, "x")]);
        assert_eq!(end, Some(StreamEnd::Fin), "{drafts:?}");
    }
}

#[test]
fn what_the_publisher_does_not_know_stays_unknown() {
    for drafts in DRAFTS {
        let mut live = Stage::live(drafts, none());
        live.group(9, &["a"]);
        live.heard();
        let fetch = live.fetch((2, 0), (9, 0), none());
        let (upstream, ..) = live.stage.fetch_request(live.publisher);
        live.stage.answer_fetch(
            live.publisher,
            upstream,
            &[
                object(2, 0, "x"),
                range(RangeKind::Unknown, 4, u64::MAX),
                object(6, 0, "y"),
                range(RangeKind::Unknown, 7, 3),
                object(7, 4, "z"),
            ],
        );
        assert_eq!(
            live.fetched(fetch),
            "2/0=x Unknown..4 6/0=y Unknown..7/3 7/4=z 9/0=a fin",
            "{drafts:?}"
        );
        // Not known means not known: it is asked for again.
        let again = live.fetch((3, 0), (4, u64::MAX), none());
        let (upstream, ..) = live.stage.fetch_request(live.publisher);
        live.stage.answer_fetch(live.publisher, upstream, &[object(3, 3, "w")]);
        assert_eq!(live.fetched(again), "3/3=w fin", "{drafts:?}");
    }
}

#[test]
fn what_lies_behind_a_publishers_own_end_is_not_known_from_it() {
    for (drafts, data_first) in
        DRAFTS.into_iter().flat_map(|drafts| [(drafts, false), (drafts, true)])
    {
        let mut live = Stage::live(drafts, none());
        // Of group 9 another publisher has told; this one has not come so far.
        let second = live.stage.publisher(drafts.0, "live/room");
        let (upstream, _) = live.stage.request(second);
        // Nobody is subscribed who would have to be caught up with the other publisher.
        let subscription = live.subscription;
        live.stage.tell(live.subscriber, |peer| {
            peer.session().cancel(subscription, ResetCode::CANCELLED);
        });
        let largest = with(Parameter::LargestObject(at(9, 0)));
        live.stage.tell(second, |peer| peer.accept_subscribe(upstream, 3, largest));
        let fetch = live.fetch((1, 0), (9, 0), none());
        let (upstream, ..) = live.stage.fetch_request(live.publisher);
        let items = [object(1, 0, "a"), object(4, 2, "b")];
        let answer = |peer: &mut Peer| {
            peer.session().accept_fetch(upstream, false, at(5, 0), Properties::default());
        };
        if !data_first {
            live.stage.tell(live.publisher, answer);
        }
        live.stage.tell(live.publisher, |peer| {
            peer.send_fetch(upstream, GroupOrder::Ascending, &items);
        });
        if data_first {
            live.stage.tell(live.publisher, answer);
        }
        assert_eq!(live.fetched(fetch), "1/0=a 4/2=b Unknown..9/0 fin", "{drafts:?} {data_first}");
    }
}

#[test]
fn what_a_fetch_has_brought_exists_though_it_was_not_kept() {
    for (drafts, order) in DRAFTS.into_iter().flat_map(|drafts| {
        [GroupOrder::Ascending, GroupOrder::Descending].map(|order| (drafts, order))
    }) {
        let mut live = Stage::live(drafts, none());
        // Object 1 is arriving live when the fetch brings it, so that the copy is dropped; and then
        // it does not come.
        let mut writer = live.open(&Subgroup { first_object: false, ..Subgroup::new(7, 5) });
        live.stage.tell(live.publisher, |peer| {
            writer.begin(peer.session(), 1, 2, Properties::default());
            peer.session().send(writer.stream, Bytes::from("o"), false);
        });
        live.heard();
        let fetch = live.fetch((5, 0), (5, 1), with(Parameter::GroupOrder(order)));
        let (upstream, ..) = live.stage.fetch_request(live.publisher);
        live.stage.tell(live.publisher, |peer| {
            peer.send_fetch(upstream, order, &[object(5, 0, "z"), object(5, 1, "on")]);
        });
        live.stage.tell(live.publisher, |peer| {
            peer.session().reset_stream(writer.stream, ResetCode::INTERNAL_ERROR);
        });
        live.stage.tell(live.publisher, |peer| {
            peer.session().accept_fetch(upstream, false, at(5, 1), Properties::default());
        });
        let (upstream, ..) = live.stage.fetch_request(live.publisher);
        live.stage.answer_fetch_in(live.publisher, upstream, order, &[object(5, 1, "on")]);
        assert_eq!(live.fetched(fetch), "5/0=z 5/1=on fin", "{drafts:?} {order:?}");
    }
}

#[test]
fn a_publisher_that_cannot_answer_leaves_it_unknown() {
    for drafts in DRAFTS {
        let mut live = Stage::live(drafts, none());
        live.group(3, &["a"]);
        live.group(5, &["a", "b"]);
        live.heard();
        let fetch = live.fetch((2, 0), (5, 1), none());
        let (upstream, ..) = live.stage.fetch_request(live.publisher);
        let code = RequestCode::NOT_SUPPORTED;
        live.stage.tell(live.publisher, |peer| peer.session().reject_with(upstream, code, ""));
        assert_eq!(
            live.fetched(fetch),
            "Unknown..2 3/0=a Unknown..4 5/0=a 5/1=b fin",
            "{drafts:?}"
        );
        assert_eq!(live.stage.requests(live.publisher).len(), 0, "asked once: {drafts:?}");
        // Newest first there is no marker for it between groups that were sent: a reset.
        let fetch = live.fetch((2, 0), (5, 1), with(DESCENDING));
        let (upstream, ..) = live.stage.fetch_request(live.publisher);
        live.stage.tell(live.publisher, |peer| peer.session().reject_with(upstream, code, ""));
        // The request is ended with its stream, whose header may never have arrived.
        let told = live.stage.take(live.subscriber);
        assert!(told.contains(&Event::Ended { request: fetch }), "{drafts:?}: {told:?}");
        let line = aip_tests::sim::heard::fetched_line(&told, fetch);
        assert!(line.starts_with("5/0=a 5/1=b") && !line.ends_with("fin"), "{drafts:?}: {line}");
    }
}

#[test]
fn a_publisher_lost_in_the_midst_leaves_it_unknown() {
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let (publisher, link) = stage.peer_with_link(drafts.0);
        stage.announce(publisher, "live");
        let subscriber = stage.peer(drafts.1);
        stage.subscribe(subscriber, "t", none());
        let (upstream, _) = stage.request(publisher);
        let largest = with(Parameter::LargestObject(at(9, 0)));
        stage.tell(publisher, |peer| peer.accept_subscribe(upstream, 7, largest));
        // Another one keeps the track up.
        let second = stage.publisher(drafts.0, "live/room");
        let (upstream, _) = stage.request(second);
        stage.tell(second, |peer| peer.accept_subscribe(upstream, 7, none()));
        let fetch = stage.fetch(subscriber, at(1, 0), at(9, 0), none());
        let (upstream, ..) = stage.fetch_request(publisher);
        stage.tell(publisher, |peer: &mut Peer| {
            let session = peer.session();
            session.accept_fetch(upstream, false, at(9, 0), Properties::default());
            let stream = session.open_fetch(upstream, 9).unwrap();
            // 1/0 and half of 2/0.
            session.send(stream, Bytes::from_static(&[0x1c, 1, 0, 128, 1, b'a']), false);
            session.send(stream, Bytes::from_static(&[0x0c, 0, 0, 9, b'h']), false);
        });
        stage.world.kill(link);
        stage.run(20);
        let line = stage.fetched(subscriber, fetch);
        assert_eq!(line, "1/0=a Unknown..9/0 fin", "{drafts:?}");
        assert!(stage.requests(second).is_empty());
    }
}

#[test]
fn patience_ends_in_time() {
    for drafts in DRAFTS {
        let mut live = Stage::live(drafts, none());
        live.group(5, &["a"]);
        live.heard();
        let kind = if drafts.1 < Version::Draft20 { "Unknown" } else { "TimedOut" };
        let fetch = live.fetch((2, 0), (5, 0), with(Parameter::FillTimeout(1_000)));
        live.stage.run(900);
        assert_eq!(live.fetched(fetch), "…", "{drafts:?}");
        let fetch = live.fetch((2, 0), (5, 0), with(Parameter::FillTimeout(1_000)));
        live.stage.run(1_000);
        assert_eq!(live.fetched(fetch), format!("{kind}..4 5/0=a fin"), "{drafts:?}");
        // No patience at all: at once, and nobody is asked.
        live.stage.take(live.publisher);
        let fetch = live.fetch((1, 0), (5, 0), with(Parameter::FillTimeout(0)));
        assert_eq!(live.fetched(fetch), format!("{kind}..4 5/0=a fin"), "{drafts:?}");
        assert!(live.stage.requests(live.publisher).is_empty(), "{drafts:?}");
    }
}

#[test]
fn a_publisher_that_falls_silent_is_not_waited_for() {
    for drafts in DRAFTS {
        let mut live = Stage::live(drafts, none());
        live.group(5, &["a"]);
        live.heard();
        let fetch = live.fetch((2, 0), (5, 0), none());
        let (upstream, ..) = live.stage.fetch_request(live.publisher);
        live.stage.run(6_000);
        // It says something, and then no more.
        live.stage.tell(live.publisher, |peer| {
            let session = peer.session();
            let stream = session.open_fetch(upstream, 9).unwrap();
            session.send(stream, Bytes::from_static(&[0x1c, 2, 0, 128, 1, b'x']), false);
        });
        live.stage.run(9_900);
        let (items, end) = aip_tests::sim::heard::fetched(&live.stage.take(live.subscriber), fetch);
        assert_eq!((items, end), (vec![object(2, 0, "x")], None), "{drafts:?}");
        live.stage.run(200);
        assert_eq!(live.fetched(fetch), "Unknown..4 5/0=a fin", "{drafts:?}");
        assert!(live.stage.take(live.publisher).contains(&Event::Ended { request: upstream }));
    }
}

#[test]
fn a_fetch_upstream_that_is_broken_off_leaves_it_unknown() {
    for drafts in DRAFTS {
        let mut live = Stage::live(drafts, none());
        live.group(5, &["a"]);
        live.heard();
        let fetch = live.fetch((2, 0), (5, 0), none());
        let (upstream, ..) = live.stage.fetch_request(live.publisher);
        live.stage.tell(live.publisher, |peer| {
            let (end, properties) = (at(4, u64::MAX), Properties::default());
            peer.session().accept_fetch(upstream, false, end, properties);
            peer.session().cancel(upstream, ResetCode::INTERNAL_ERROR);
        });
        assert_eq!(live.fetched(fetch), "Unknown..4 5/0=a fin", "{drafts:?}");
    }
}

#[test]
fn an_object_that_is_still_arriving_is_waited_for() {
    for drafts in DRAFTS {
        let mut live = Stage::live(drafts, none());
        let mut writer = live.open(&Subgroup::new(7, 1));
        live.object(&mut writer, 0, "a");
        live.stage.tell(live.publisher, |peer| {
            writer.begin(peer.session(), 1, 4, Properties::default());
            peer.session().send(writer.stream, Bytes::from("ha"), false);
        });
        live.heard();
        let fetch = live.fetch((1, 0), (1, 1), none());
        let (items, end) = aip_tests::sim::heard::fetched(&live.stage.take(live.subscriber), fetch);
        assert_eq!((items, end), (vec![object(1, 0, "a")], None), "{drafts:?}");
        live.stage.tell(live.publisher, |peer| {
            peer.session().send(writer.stream, Bytes::from("lf"), false);
        });
        assert_eq!(live.fetched(fetch), "1/1=half fin", "{drafts:?}");
    }
}

#[test]
fn an_object_whose_publisher_is_lost_is_not_waited_for() {
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let (publisher, link) = stage.peer_with_link(drafts.0);
        stage.announce(publisher, "live");
        let subscriber = stage.peer(drafts.1);
        stage.subscribe(subscriber, "t", none());
        let (upstream, _) = stage.request(publisher);
        stage.tell(publisher, |peer| peer.accept_subscribe(upstream, 7, none()));
        stage.tell(publisher, |peer: &mut Peer| {
            let mut writer = peer.open(upstream, &Subgroup::new(7, 1)).unwrap();
            writer.object(peer.session(), 0, payload("a"));
            writer.begin(peer.session(), 1, 4, Properties::default());
            peer.session().send(writer.stream, Bytes::from_static(b"ha"), false);
        });
        let fetch = stage.fetch(subscriber, at(1, 0), at(1, 1), none());
        stage.run(20);
        stage.world.kill(link);
        stage.run(30_000);
        let line = stage.fetched(subscriber, fetch);
        assert_eq!(line, "1/0=a Unknown..1/1 fin", "{drafts:?}");
    }
}

#[test]
fn a_fetch_updated_or_cancelled() {
    for drafts in DRAFTS {
        let mut live = Stage::live(drafts, none());
        live.group(5, &["a"]);
        for (stop, group) in [(false, 2), (true, 1)] {
            let fetch = live.fetch((group, 0), (5, 0), none());
            let (upstream, ..) = live.stage.fetch_request(live.publisher);
            live.stage.tell(live.subscriber, |peer| {
                peer.session().update(fetch, with(Parameter::SubscriberPriority(1))).unwrap();
            });
            let told = live.stage.take(live.subscriber);
            assert!(
                told.iter()
                    .any(|event| matches!(event, Event::UpdateResponse { result: Ok(_), .. })),
                "{drafts:?}: {told:?}"
            );
            if stop {
                live.stage.answer_fetch(live.publisher, upstream, &[object(group, 0, "x")]);
            }
            live.stage.tell(live.subscriber, |peer| {
                peer.session().cancel(fetch, ResetCode::CANCELLED);
            });
            live.stage.answer_fetch(live.publisher, upstream, &[object(group, 0, "x")]);
            live.stage.take(live.subscriber);
            live.stage.take(live.publisher);
        }
        assert!(!live.stage.closed(live.subscriber) && !live.stage.closed(live.publisher));
    }
}

#[test]
fn a_fetch_without_a_subscription() {
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let publisher = stage.publisher(drafts.0, "live");
        let fetcher = stage.peer(drafts.1);
        let fetch = stage.fetch(fetcher, at(1, 0), at(2, 0), none());
        // The relay subscribes, to know what there is.
        let (upstream, _) = stage.request(publisher);
        assert!(stage.take(fetcher).is_empty(), "the end is not known yet");
        let largest = with(Parameter::LargestObject(at(1, 1)));
        stage.tell(publisher, |peer| peer.accept_subscribe(upstream, 7, largest));
        let Response::FetchOk(ok) = stage.response(fetcher, fetch) else { panic!() };
        let end = if drafts.1 < Version::Draft20 { at(1, 2) } else { at(1, 1) };
        assert_eq!(ok.end, end, "{drafts:?}");
        let (upstream, ..) = stage.fetch_request(publisher);
        let items = [object(1, 0, "a"), object(1, 1, "b")];
        stage.answer_fetch(publisher, upstream, &items);
        assert_eq!(stage.fetched(fetcher, fetch), "1/0=a 1/1=b fin", "{drafts:?}");
        stage.run(31_000);
        assert_eq!(stage.counts().1, 0, "nobody came back: {drafts:?}");
        assert_eq!(stage.relay(|relay| relay.cached_bytes()), 0);
    }
}

#[test]
fn a_joining_fetch_ends_where_its_subscription_begins() {
    for version in [Version::Draft18, Version::Draft19] {
        let mut live = Stage::live((Version::Draft22, version), none());
        for group in 1..=4 {
            live.group(group, &["a", "b"]);
        }
        let (peer, subscription) = live.stage.join(version, none());
        live.group(5, &["a", "b"]);
        let join = |live: &mut Live, relative, start| {
            let target = FetchTarget::Joining { relative, request_id: subscription, start };
            live.stage.tell(peer, |peer| peer.session().fetch(target, none()).unwrap())
        };
        let fetch = join(&mut live, true, 1);
        let told = live.stage.take(peer);
        let line = aip_tests::sim::heard::fetched_line(&told, fetch);
        assert_eq!(line, "3/0=a 3/1=b 4/0=a 4/1=b fin", "{version:?}");
        assert_eq!(aip_tests::sim::heard::lines(&told), ["5: 0=a 1=b fin"]);
        let fetch = join(&mut live, false, 4);
        assert_eq!(live.stage.fetched(peer, fetch), "4/0=a 4/1=b fin", "{version:?}");
        let fetch = join(&mut live, false, 5);
        assert_eq!(live.stage.refusal(peer, fetch), "INVALID_RANGE");
        // Nor one that has paused, and has got something before.
        live.stage.tell(peer, |peer| {
            peer.session().update(subscription, with(Parameter::Forward(false))).unwrap();
        });
        let fetch = join(&mut live, true, 1);
        assert_eq!(live.stage.refusal(peer, fetch), "INVALID_RANGE", "{version:?}");
        // Only one's own subscriptions.
        let target = FetchTarget::Joining { relative: true, request_id: RequestId(98), start: 0 };
        let fetch = live.stage.tell(peer, |peer| peer.session().fetch(target, none()).unwrap());
        assert_eq!(live.stage.refusal(peer, fetch), "INVALID_JOINING_REQUEST_ID");
        // A paused one has no place to join.
        let (paused, subscription) = live.stage.join(version, with(Parameter::Forward(false)));
        let target = FetchTarget::Joining { relative: true, request_id: subscription, start: 0 };
        let fetch = live.stage.tell(paused, |peer| peer.session().fetch(target, none()).unwrap());
        assert_eq!(live.stage.refusal(paused, fetch), "INVALID_RANGE", "{version:?}");
    }
}

#[test]
fn a_joining_fetch_may_come_before_its_subscription_is_accepted() {
    for version in [Version::Draft18, Version::Draft19] {
        let mut stage = Stage::new();
        let publisher = stage.publisher(Version::Draft22, "live");
        let peer = stage.peer(version);
        let (subscription, fetch) = stage.tell(peer, |peer| {
            let session = peer.session();
            let request_id = session.subscribe(track("t"), none()).unwrap();
            let target = FetchTarget::Joining { relative: true, request_id, start: 0 };
            (request_id, session.fetch(target, none()).unwrap())
        });
        let (upstream, _) = stage.request(publisher);
        let largest = with(Parameter::LargestObject(at(4, 0)));
        stage.tell(publisher, |peer| peer.accept_subscribe(upstream, 7, largest));
        assert!(matches!(stage.response(peer, subscription), Response::SubscribeOk(_)));
        let (upstream, ..) = stage.fetch_request(publisher);
        stage.answer_fetch(publisher, upstream, &[object(4, 0, "a")]);
        assert_eq!(stage.fetched(peer, fetch), "4/0=a fin", "{version:?}");
    }
}

#[test]
fn a_fill_brings_what_was_before() {
    for drafts in DRAFTS.into_iter().filter(|(_, below)| Version::Draft20 <= *below) {
        let mut live = Stage::live(drafts, none());
        for group in 1..=3 {
            live.group(group, &["a", "b"]);
        }
        let from = |groups_back| LocationFilter::Relative { groups_back };
        let (peer, subscription) = live.fill(drafts.1, from(1), &[]);
        live.group(4, &["c"]);
        let told = live.stage.take(peer);
        let line = aip_tests::sim::heard::fetched_line(&told, subscription);
        assert_eq!(line, "3/0=a 3/1=b fin", "{drafts:?}");
        assert_eq!(aip_tests::sim::heard::lines(&told), ["4: 0=c fin"], "{drafts:?}");
        let (peer, subscription) = live.fill(drafts.1, from(2), &[DESCENDING]);
        assert_eq!(live.stage.fetched(peer, subscription), "4/0=c 3/0=a 3/1=b fin", "{drafts:?}");
        // A later one, by an update; it has the update's number.
        let update = live.stage.tell(peer, |peer| {
            let filter = LocationFilter::Range { start: at(2, 1), end: at(2, 1) };
            let fill = with(Parameter::LocationFilter(filter));
            peer.session().update(subscription, with(Parameter::FillParameters(fill))).unwrap()
        });
        assert_eq!(live.stage.fetched(peer, update), "2/1=b fin", "{drafts:?}");
    }
}

#[test]
fn a_fill_of_nothing_has_no_stream() {
    for drafts in DRAFTS.into_iter().filter(|(_, below)| Version::Draft20 <= *below) {
        let mut live = Stage::live(drafts, none());
        live.group(3, &["a"]);
        for filter in [
            LocationFilter::Start { start: at(4, 0) },
            LocationFilter::Range { start: at(2, 5), end: at(2, 1) },
            LocationFilter::Relative { groups_back: 0 },
        ] {
            let (peer, _) = live.fill(drafts.1, filter, &[]);
            assert!(live.stage.take(peer).is_empty(), "{drafts:?} {filter:?}");
        }
        // Nor while paused, then or later.
        let inner = with(Parameter::LocationFilter(LocationFilter::Relative { groups_back: 1 }));
        let parameters = with(Parameter::FillParameters(inner)).with(Parameter::Forward(false));
        let (peer, subscription) = live.stage.join(drafts.1, parameters);
        live.stage.tell(peer, |peer| {
            peer.session().update(subscription, with(Parameter::Forward(true))).unwrap();
        });
        let told = live.stage.take(peer);
        assert!(matches!(told[..], [Event::UpdateResponse { .. }]), "{drafts:?}: {told:?}");
    }
}

#[test]
fn a_fill_that_fails_is_reset() {
    for drafts in DRAFTS.into_iter().filter(|(_, below)| Version::Draft20 <= *below) {
        let mut live = Stage::live(drafts, none());
        live.group(5, &["a"]);
        let all = LocationFilter::Start { start: at(1, 0) };
        let (peer, subscription) = live.fill(drafts.1, all, &[DESCENDING]);
        let (upstream, ..) = live.stage.fetch_request(live.publisher);
        let code = RequestCode::INTERNAL_ERROR;
        live.stage.tell(live.publisher, |peer| peer.session().reject_with(upstream, code, ""));
        let line = live.stage.fetched(peer, subscription);
        assert_eq!(line, "5/0=a UNKNOWN_OBJECT_STATUS", "{drafts:?}");
        // The subscription goes on.
        live.group(6, &["b"]);
        assert_eq!(live.stage.lines(peer), ["6: 0=b fin"], "{drafts:?}");
    }
}

#[test]
fn cancelling_a_subscription_cancels_its_fills() {
    for drafts in DRAFTS.into_iter().filter(|(_, below)| Version::Draft20 <= *below) {
        let mut live = Stage::live(drafts, none());
        live.group(5, &["a"]);
        let all = LocationFilter::Start { start: at(1, 0) };
        let (peer, subscription) = live.fill(drafts.1, all, &[]);
        let (upstream, ..) = live.stage.fetch_request(live.publisher);
        live.stage.tell(peer, |peer| {
            peer.session().cancel(subscription, ResetCode::CANCELLED);
        });
        live.stage.answer_fetch(live.publisher, upstream, &[object(1, 0, "x")]);
        assert_eq!(live.stage.fetched(peer, subscription), "…", "{drafts:?}");
        assert!(!live.stage.closed(peer));
        // The same at the end of the track: nothing is left of it.
        let (peer, _) = live.fill(drafts.1, LocationFilter::Start { start: at(0, 0) }, &[]);
        let (upstream, subscription) = (live.upstream, live.subscription);
        live.stage.tell(live.publisher, |peer| {
            let code = aip_codec::moqt::error_code::PublishDoneCode::TRACK_ENDED;
            peer.session().publish_done(upstream, code, "");
        });
        let told = live.stage.take(peer);
        assert!(matches!(told.last(), Some(Event::PublishDone { .. })), "{drafts:?}: {told:?}");
        assert_eq!(live.stage.counts().1, 0, "{drafts:?}");
        let _ = subscription;
    }
}

#[test]
fn a_large_fetch_waits_for_its_reader() {
    for drafts in DRAFTS {
        let mut live = Stage::live(drafts, none());
        for group in 0..40 {
            let object = vec![(0, Bytes::from(vec![7; 100_000]))];
            live.subgroup(&Subgroup::new(7, group), &object);
        }
        let slow = live.stage.peer(drafts.1);
        live.stage.world.with(slow, |peer: &mut Peer, _| peer.stall(true));
        live.stage.fetch(slow, at(0, 0), at(39, 0), none());
        live.stage.run(100);
        let queued = live.stage.world.queued(live.stage.relay);
        assert!(queued <= 1_400_000, "{drafts:?}: {queued} bytes are queued");
    }
}

#[test]
fn an_answer_of_many_small_gaps_is_bounded() {
    for order in [GroupOrder::Ascending, GroupOrder::Descending] {
        let drafts = (Version::Draft22, Version::Draft22);
        let config = super::config(|config| config.cache_groups_max = 100);
        let mut live = Stage::live_with(config, drafts, none());
        live.group(9_000, &["a"]);
        live.heard();
        let fetch = live.fetch((0, 0), (9_000, 0), with(Parameter::GroupOrder(order)));
        let (upstream, ..) = live.stage.fetch_request(live.publisher);
        // Every second group exists.
        let mut items: Vec<_> = (0..4_500).map(|group| object(group * 2, 0, "x")).collect();
        if order == GroupOrder::Descending {
            items.reverse();
        }
        live.stage.answer_fetch_in(live.publisher, upstream, order, &items);
        live.stage.run(5_000);
        let line = live.fetched(fetch);
        if order == GroupOrder::Ascending {
            assert_eq!(line.matches("=x").count(), 4_500, "{order:?}");
            assert!(line.ends_with("9000/0=a fin"));
        } else {
            // What lay between was more than is remembered until the answer's end is known.
            assert_eq!(live.stage.requests(live.publisher).len(), 1, "it is asked once more");
        }
        let held = live.stage.relay(|relay| (relay.cached_groups(), relay.cached_bytes()));
        assert!(held.0 <= 200 && held.1 <= 500_000, "{order:?}: {held:?}");
    }
}
