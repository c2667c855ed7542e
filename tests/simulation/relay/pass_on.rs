//! Tracks whose publishers take no SUBSCRIBE, and publishers that send elsewhere.

use aip_codec::{
    Version,
    moqt::{
        error_code::{RequestCode, ResetCode},
        filter::LocationFilter,
        id::{RequestId, TrackAlias},
        message::{FetchTarget, Reason, Redirect, RequestError},
        parameter::{GroupOrder, Parameter},
        property::Properties,
    },
};
use aip_engine::session::{Event, Request, Response};
use aip_tests::sim::{NodeId, peer::FetchItem};
use bytes::Bytes;

use super::{DRAFTS, Stage, at, namespace, none, payload, track, with};

impl Stage {
    /// Refuses the SUBSCRIBE that a publisher has got.
    #[track_caller]
    fn refuse_subscribe(&mut self, publisher: NodeId) {
        let (upstream, body) = self.request(publisher);
        assert!(matches!(body, Request::Subscribe(_)), "{body:?}");
        let code = RequestCode::NOT_SUPPORTED;
        self.tell(publisher, |peer| peer.session().reject_with(upstream, code, "no live objects"));
    }

    fn status(&mut self, peer: NodeId) -> RequestId {
        self.tell(peer, |peer| peer.session().track_status(track("t"), none()).unwrap())
    }
}

fn object(group: u64, number: u64, text: &str) -> FetchItem {
    FetchItem::Object(at(group, number), payload(text))
}

fn properties() -> Properties {
    Properties::builder().integer(0x1234, 99).build().unwrap()
}

#[test]
fn a_fetch_is_passed_on_where_nobody_may_subscribe() {
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let publisher = stage.publisher(drafts.0, "live");
        let fetcher = stage.peer(drafts.1);
        let fetch = stage.fetch(fetcher, at(1, 0), at(4, 0), none());
        stage.refuse_subscribe(publisher);
        assert!(stage.take(fetcher).is_empty(), "its end is not known yet");
        let (upstream, asked, _) = stage.fetch_request(publisher);
        assert!(asked.contains('1'), "{asked}");
        stage.tell(publisher, |peer| {
            peer.session().accept_fetch(upstream, true, at(3, 0), properties());
            let items = [object(1, 0, "a"), object(3, 0, "b")];
            peer.send_fetch(upstream, GroupOrder::Ascending, &items);
        });
        let Response::FetchOk(ok) = stage.response(fetcher, fetch) else { panic!() };
        let end = if drafts.1 < Version::Draft20 { at(3, 1) } else { at(3, 0) };
        assert_eq!((ok.end, ok.end_of_track), (end, true), "{drafts:?}");
        assert_eq!(ok.properties, properties());
        assert_eq!(stage.fetched(fetcher, fetch), "1/0=a 3/0=b fin", "{drafts:?}");
        assert_eq!(stage.counts().1, 0, "nobody holds the track: {drafts:?}");
        assert_eq!(stage.relay(|relay| relay.cached_bytes()), 0);
    }
}

#[test]
fn groups_that_do_not_exist_are_an_answer_too() {
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let publisher = stage.publisher(drafts.0, "live");
        let fetcher = stage.peer(drafts.1);
        let fetch = stage.fetch(fetcher, at(1, 0), at(4, u64::MAX), none());
        stage.refuse_subscribe(publisher);
        let (upstream, ..) = stage.fetch_request(publisher);
        stage.answer_fetch(publisher, upstream, &[]);
        assert_eq!(stage.fetched(fetcher, fetch), "fin", "{drafts:?}");
        assert!(stage.requests(publisher).is_empty(), "{drafts:?}");
    }
}

#[test]
fn the_same_fetch_of_many_is_passed_on_once() {
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let publisher = stage.publisher(drafts.0, "live");
        let fetchers: Vec<NodeId> = (0..3).map(|_| stage.peer(drafts.1)).collect();
        let fetches: Vec<RequestId> =
            fetchers.iter().map(|peer| stage.fetch(*peer, at(1, 0), at(1, 0), none())).collect();
        stage.refuse_subscribe(publisher);
        let (upstream, ..) = stage.fetch_request(publisher);
        // One does not want it any more: the others do.
        stage.tell(fetchers[0], |peer| peer.session().cancel(fetches[0], ResetCode::CANCELLED));
        stage.tell(publisher, |peer| {
            peer.session().accept_fetch(upstream, false, at(1, 0), Properties::default());
            peer.send_fetch(upstream, GroupOrder::Ascending, &[object(1, 0, "a")]);
        });
        for (peer, fetch) in fetchers[1..].iter().zip(&fetches[1..]) {
            assert_eq!(stage.fetched(*peer, *fetch), "1/0=a fin", "{drafts:?}");
        }
    }
}

#[test]
fn the_last_words_of_a_fetchs_publishers_are_passed_on() {
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let first = stage.publisher(drafts.0, "live");
        let second = stage.publisher(drafts.0, "live/room");
        let fetcher = stage.peer(drafts.1);
        let fetch = stage.fetch(fetcher, at(1, 0), at(1, 0), none());
        stage.refuse_subscribe(first);
        stage.refuse_subscribe(second);
        // One is asked after the other.
        for (peer, code) in
            [(first, RequestCode::INTERNAL_ERROR), (second, RequestCode::UNAUTHORIZED)]
        {
            assert!(stage.take(fetcher).is_empty());
            let (upstream, ..) = stage.fetch_request(peer);
            stage.tell(peer, |peer| peer.session().reject_with(upstream, code, "no"));
        }
        assert_eq!(stage.refusal(fetcher, fetch), "UNAUTHORIZED", "{drafts:?}");
        assert_eq!(stage.counts().1, 0, "{drafts:?}");
        // Nor does one that says nothing hold it for ever, or one that is lost.
        let fetch = stage.fetch(fetcher, at(1, 0), at(1, 0), none());
        stage.refuse_subscribe(first);
        stage.refuse_subscribe(second);
        stage.run(10_000);
        let (upstream, ..) = stage.fetch_request(second);
        assert!(stage.take(first).iter().any(|event| matches!(event, Event::Ended { .. })));
        stage.tell(second, |peer| peer.session().cancel(upstream, ResetCode::INTERNAL_ERROR));
        assert_eq!(stage.refusal(fetcher, fetch), "INTERNAL_ERROR", "{drafts:?}");
        assert_eq!(stage.counts().1, 0, "{drafts:?}");
    }
}

#[test]
fn a_fetch_that_must_be_understood_is_refused() {
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let publisher = stage.publisher(drafts.0, "live");
        let fetcher = stage.peer(drafts.1);
        let fetch = stage.fetch(fetcher, at(1, 0), at(1, 0), none());
        stage.refuse_subscribe(publisher);
        let (upstream, ..) = stage.fetch_request(publisher);
        stage.tell(publisher, |peer| {
            let strange = Properties::builder().integer(0x4002, 1).build().unwrap();
            peer.session().accept_fetch(upstream, false, at(1, 0), strange);
        });
        assert_eq!(stage.refusal(fetcher, fetch), "UNSUPPORTED_EXTENSION", "{drafts:?}");
    }
}

#[test]
fn a_range_that_counts_back_needs_the_largest_object() {
    for drafts in DRAFTS.into_iter().filter(|(_, below)| Version::Draft20 <= *below) {
        let mut stage = Stage::new();
        let publisher = stage.publisher(drafts.0, "live");
        let fetcher = stage.peer(drafts.1);
        let fetch = stage.tell(fetcher, |peer| {
            let newest = LocationFilter::Relative { groups_back: 1 };
            let parameters = with(Parameter::LocationFilter(newest));
            peer.session().fetch(FetchTarget::Track(track("t")), parameters).unwrap()
        });
        stage.refuse_subscribe(publisher);
        let (status, body) = stage.request(publisher);
        assert!(matches!(body, Request::TrackStatus(_)), "{drafts:?}: {body:?}");
        stage.tell(publisher, |peer| {
            let largest = with(Parameter::LargestObject(at(8, 1)));
            peer.session().accept(status, largest, Properties::default());
        });
        let (upstream, asked, _) = stage.fetch_request(publisher);
        assert!(asked.contains('8'), "{asked}");
        stage.tell(publisher, |peer| {
            peer.session().accept_fetch(upstream, false, at(8, 1), Properties::default());
            let items = [object(8, 0, "a"), object(8, 1, "b")];
            peer.send_fetch(upstream, GroupOrder::Ascending, &items);
        });
        assert_eq!(stage.fetched(fetcher, fetch), "8/0=a 8/1=b fin", "{drafts:?}");
    }
}

#[test]
fn a_status_is_passed_on_where_nobody_may_subscribe() {
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let publisher = stage.publisher(drafts.0, "live");
        let peer = stage.peer(drafts.1);
        let status = stage.status(peer);
        stage.refuse_subscribe(publisher);
        let (upstream, body) = stage.request(publisher);
        assert!(matches!(body, Request::TrackStatus(body) if body.track == track("t")));
        stage.tell(publisher, |peer| {
            let largest = with(Parameter::LargestObject(at(8, 1)));
            peer.session().accept(upstream, largest, properties());
        });
        let Response::Ok(ok) = stage.response(peer, status) else { panic!() };
        assert_eq!(ok.parameters.largest_object(), Some(at(8, 1)), "{drafts:?}");
        assert_eq!(ok.properties, properties(), "{drafts:?}");
        // Refused there, it is refused here; not answered there, it is given up.
        let status = stage.status(peer);
        stage.refuse_subscribe(publisher);
        let (upstream, _) = stage.request(publisher);
        stage.tell(publisher, |peer| {
            peer.session().reject_with(upstream, RequestCode::UNAUTHORIZED, "no");
        });
        assert_eq!(stage.refusal(peer, status), "UNAUTHORIZED", "{drafts:?}");
        let status = stage.status(peer);
        stage.refuse_subscribe(publisher);
        stage.run(10_100);
        assert_eq!(stage.refusal(peer, status), "TIMEOUT", "{drafts:?}");
        // Who asks no more is not answered.
        stage.take(publisher);
        let status = stage.status(peer);
        stage.refuse_subscribe(publisher);
        let (upstream, _) = stage.request(publisher);
        stage.tell(peer, |peer| peer.session().cancel(status, ResetCode::CANCELLED));
        let told = stage.take(publisher);
        assert!(told.contains(&Event::Ended { request: upstream }), "{drafts:?}: {told:?}");
        assert_eq!(stage.counts().1, 0, "{drafts:?}");
        assert!(!stage.closed(publisher) && !stage.closed(peer));
    }
}

fn elsewhere(retry_interval: u64, uri: &str) -> RequestError {
    RequestError {
        code: RequestCode::REDIRECT,
        retry_interval,
        reason: Reason::new("moved"),
        redirect: Some(Redirect {
            uri: Bytes::from(uri.to_owned()),
            namespace: namespace("other"),
            name: Bytes::from("name"),
        }),
    }
}

#[test]
fn a_redirect_is_passed_on_and_remembered() {
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let publisher = stage.publisher(drafts.0, "live");
        let peer = stage.peer(drafts.1);
        let redirected = |stage: &mut Stage, request| match stage.response(peer, request) {
            Response::Error(error) => error,
            other => panic!("not refused: {other:?}"),
        };
        let first = stage.subscribe(peer, "t", none());
        let (upstream, _) = stage.request(publisher);
        stage.tell(publisher, |peer| {
            peer.session().reject(upstream, elsewhere(60_001, ""));
        });
        let error = redirected(&mut stage, first);
        assert_eq!(error.redirect, elsewhere(0, "").redirect, "{drafts:?}");
        // For a minute it stands, and the publisher is left alone.
        stage.run(59_000);
        let second = stage.subscribe(peer, "t", none());
        let error = redirected(&mut stage, second);
        assert_eq!(error.redirect, elsewhere(0, "").redirect, "{drafts:?}");
        assert!((1..=1_001).contains(&error.retry_interval), "{}", error.retry_interval);
        assert!(stage.requests(publisher).is_empty(), "{drafts:?}");
        stage.run(1_000);
        // Now it is asked again; and once more, since it says that this is not to be remembered.
        for _ in 0..2 {
            let request = stage.subscribe(peer, "t", none());
            let (upstream, _) = stage.request(publisher);
            stage.tell(publisher, |peer| peer.session().reject(upstream, elsewhere(0, "")));
            redirected(&mut stage, request);
        }
        assert_eq!(stage.counts().1, 0, "{drafts:?}");
    }
}

#[test]
fn a_redirect_does_not_hide_a_publisher() {
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let publisher = stage.publisher(drafts.0, "live");
        let peer = stage.peer(drafts.1);
        stage.subscribe(peer, "t", none());
        let (upstream, _) = stage.request(publisher);
        stage.tell(publisher, |peer| peer.session().reject(upstream, elsewhere(60_001, "")));
        stage.tell(publisher, |peer| {
            let properties = Properties::default();
            peer.session().publish(track("t"), TrackAlias(7), none(), properties).unwrap();
        });
        stage.join(drafts.1, none());
    }
}

#[test]
fn a_subscription_that_is_refused_cannot_be_joined() {
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
        stage.refuse_subscribe(publisher);
        assert_eq!(stage.refusal(peer, subscription), "NOT_SUPPORTED");
        assert_eq!(stage.refusal(peer, fetch), "INVALID_JOINING_REQUEST_ID", "{version:?}");
        assert_eq!(stage.counts().1, 0);
    }
}
