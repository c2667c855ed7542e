//! Range filters through a relay: on subscriptions, fetches, fills and SUBSCRIBE_TRACKS.

use aip_codec::{
    Version,
    moqt::{
        error_code::PublishDoneCode,
        filter::{Range, RangeFilter, Ranges},
        id::{RequestId, TrackAlias},
        message::{FrameDecoder, Message},
        parameter::{Parameter, Parameters},
        property::Properties,
    },
};
use aip_engine::{
    relay::{Config, Relay},
    session::{Event, Request, Response},
    transport::{Action, Driver as _, Peer as TransportPeer, SessionId, Side},
};
use aip_tests::sim::{
    NodeId, heard,
    peer::{FetchItem, Subgroup},
};

use super::{DRAFTS, Live, Stage, at, namespace, none, objects, payload, track, with};

const LEVEL: u64 = 0x3a10;

/// Drafts whose subscribers have range filters.
fn drafts() -> impl Iterator<Item = (Version, Version)> {
    DRAFTS
        .into_iter()
        .chain([(Version::Draft18, Version::Draft19)])
        .filter(|(_, below)| Version::Draft19 <= *below)
}

fn filter(set: u8, property_type: Option<u64>, ranges: &[(u64, u64)]) -> RangeFilter {
    let ranges = ranges.iter().map(|&(start, end)| Range { start, end }).collect();
    RangeFilter::from_ranges(&Ranges { set, property_type, ranges })
}

fn many(count: u64) -> Parameter {
    let ranges: Vec<_> = (0..count).map(|index| (index * 2, index * 2)).collect();
    Parameter::ObjectIdFilter(filter(0, None, &ranges))
}

/// Sends objects of two subgroups, priorities and levels.
fn send(live: &mut Live) {
    for (subgroup, priority) in [(0, None), (3, Some(9))] {
        let subgroup = Subgroup {
            subgroup: Some(subgroup),
            priority,
            properties: true,
            end_of_group: false,
            ..Subgroup::new(7, 1)
        };
        let mut writer = live.open(&subgroup);
        for number in 0..4 {
            let object = subgroup.subgroup.unwrap_or_default() * 10 + number;
            let level = Properties::builder().integer(LEVEL, number).build().unwrap();
            live.stage.tell(live.publisher, |peer| {
                writer.begin(peer.session(), object, 1, level);
                peer.session().send(writer.stream, payload("x"), false);
            });
        }
        live.finish(&writer);
    }
}

/// Has the relay learn that there is no more up to there than it has cached.
fn complete(live: &mut Live) {
    let fetch = live.stage.fetch(live.subscriber, at(0, 0), at(1, 33), none());
    let (upstream, ..) = live.stage.fetch_request(live.publisher);
    live.stage.answer_fetch(live.publisher, upstream, &[]);
    let line = live.stage.fetched(live.subscriber, fetch);
    assert!(line.ends_with("fin"), "{line}");
}

/// Object numbers among lines of streams and fetches.
fn numbers(lines: &[String]) -> String {
    let mut numbers: Vec<u64> = lines
        .iter()
        .flat_map(|line| line.split_whitespace())
        .filter_map(|word| word.split_once('=').map(|(number, _)| number))
        .map(|number| number.rsplit('/').next().unwrap().parse().unwrap())
        .collect();
    numbers.sort_unstable();
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(" ")
}

fn cases() -> Vec<(Vec<Parameter>, &'static str)> {
    let subgroup = |set, ranges: &[_]| Parameter::SubgroupFilter(filter(set, None, ranges));
    let object = |set, ranges: &[_]| Parameter::ObjectIdFilter(filter(set, None, ranges));
    let priority = |set, ranges: &[_]| Parameter::PriorityFilter(filter(set, None, ranges));
    let level =
        |set, ranges: &[_]| Parameter::ObjectPropertyFilter(filter(set, Some(LEVEL), ranges));
    vec![
        (vec![subgroup(0, &[(3, 3)])], "30 31 32 33"),
        (vec![object(0, &[(1, 2), (33, u64::MAX)])], "1 2 33"),
        (vec![priority(0, &[(0, 127)])], "30 31 32 33"),
        (vec![level(0, &[(2, 3)])], "2 3 32 33"),
        (vec![level(0, &[(2, 3)]), subgroup(0, &[(0, 0)])], "2 3"),
        (vec![level(0, &[(3, 3)]), subgroup(1, &[(0, 0)])], "0 1 2 3 33"),
        (vec![Parameter::ObjectPropertyFilter(filter(0, Some(LEVEL + 2), &[(0, 9)]))], ""),
    ]
}

fn all(list: &[Parameter]) -> Parameters {
    list.iter().fold(none(), |all, one| all.with(one.clone()))
}

#[test]
fn a_subscription_gets_what_passes_its_filters() {
    for drafts in drafts() {
        for (parameters, expected) in cases() {
            let mut live = Stage::live(drafts, all(&parameters));
            send(&mut live);
            let heard = live.heard();
            assert_eq!(numbers(&heard), expected, "{drafts:?} {parameters:?}");
            assert!(heard.iter().all(|line| line.ends_with("fin")), "{drafts:?}: {heard:?}");
        }
    }
}

#[test]
fn a_fetch_gets_what_passes_its_filters() {
    for drafts in drafts() {
        let mut live = Stage::live(drafts, none());
        send(&mut live);
        complete(&mut live);
        for (parameters, expected) in cases() {
            let fetch = live.stage.fetch(live.subscriber, at(1, 0), at(1, 33), all(&parameters));
            let line = live.stage.fetched(live.subscriber, fetch);
            assert_eq!(numbers(&[line]), expected, "{drafts:?} {parameters:?}");
        }
    }
}

#[test]
fn a_datagram_has_no_subgroup_to_pass_by() {
    for drafts in drafts() {
        let subgroups = with(Parameter::SubgroupFilter(filter(0, None, &[(0, 99)])));
        let mut live = Stage::live(drafts, subgroups);
        let (by_object, _) =
            live.stage.join(drafts.1, with(Parameter::ObjectIdFilter(filter(0, None, &[(5, 5)]))));
        for object in [4, 5] {
            live.stage.tell(live.publisher, |peer| {
                peer.session().send_datagram(&objects::datagram(1, object, None, "x"));
            });
        }
        let datagrams = |told: Vec<Event>| {
            told.iter().filter(|event| matches!(event, Event::Datagram { .. })).count()
        };
        assert_eq!(datagrams(live.stage.take(live.subscriber)), 0, "{drafts:?}");
        assert_eq!(datagrams(live.stage.take(by_object)), 1, "{drafts:?}");
    }
}

#[test]
fn fills_have_filters_of_their_own_or_their_subscriptions() {
    for drafts in drafts().filter(|(_, below)| Version::Draft20 <= *below) {
        let mut live = Stage::live(drafts, none());
        send(&mut live);
        complete(&mut live);
        let outer = Parameter::ObjectIdFilter(filter(0, None, &[(1, 31)]));
        let inner = Parameter::ObjectIdFilter(filter(0, None, &[(33, 33)]));
        for (fill, expected) in [(none(), "1 2 3 30 31"), (with(inner), "33")] {
            let parameters = with(Parameter::FillParameters(fill)).with(outer.clone());
            let (peer, subscription) = live.stage.join(drafts.1, parameters);
            let line = live.stage.fetched(peer, subscription);
            assert_eq!(numbers(&[line]), expected, "{drafts:?}");
        }
    }
}

#[test]
fn a_later_fill_has_its_subscriptions_filter_and_order() {
    for drafts in drafts().filter(|(_, below)| Version::Draft20 <= *below) {
        let mut live = Stage::live(drafts, none());
        for group in 1..=3 {
            live.group(group, &["a", "b"]);
        }
        let from = aip_codec::moqt::filter::LocationFilter::Start { start: at(2, 1) };
        let parameters = with(Parameter::LocationFilter(from))
            .with(Parameter::GroupOrder(aip_codec::moqt::parameter::GroupOrder::Descending));
        let (peer, subscription) = live.stage.join(drafts.1, parameters);
        // The update itself says neither range nor order.
        let update = live.stage.tell(peer, |peer| {
            let fill = with(Parameter::FillParameters(none()));
            peer.session().update(subscription, fill).unwrap()
        });
        let told = live.stage.take(peer);
        let (items, _) = heard::fetched(&told, update);
        let places: Vec<_> = items
            .iter()
            .map(|item| match item {
                FetchItem::Object(location, _) => *location,
                FetchItem::Range(..) => panic!("{items:?}"),
            })
            .collect();
        assert_eq!(places, [at(3, 0), at(3, 1), at(2, 1)], "{drafts:?}");
    }
}

#[test]
fn fills_of_a_subscription_are_bounded() {
    for drafts in drafts().filter(|(_, below)| Version::Draft20 <= *below) {
        let config = super::config(|config| config.subscription_fills_max = 2);
        let mut live = Stage::live_with(config, drafts, none());
        live.group(5, &["a"]);
        live.heard();
        // Each wants what the publisher takes its time for.
        let fill = || {
            let from = aip_codec::moqt::filter::LocationFilter::Start { start: at(1, 0) };
            with(Parameter::FillParameters(with(Parameter::LocationFilter(from))))
        };
        let subscription = live.subscription;
        let updates: Vec<RequestId> = (0..3)
            .map(|_| {
                live.stage.tell(live.subscriber, |peer| {
                    peer.session().update(subscription, fill()).unwrap()
                })
            })
            .collect();
        live.stage.take(live.subscriber);
        let (upstream, ..) = live.stage.fetch_request(live.publisher);
        live.stage.answer_fetch(live.publisher, upstream, &[]);
        let told = live.stage.take(live.subscriber);
        for update in &updates[..2] {
            assert_eq!(heard::fetched_line(&told, *update), "5/0=a fin", "{drafts:?}");
        }
        // Of the third only a reset comes, before anything that would say which stream it was.
        assert_eq!(heard::fetched_line(&told, updates[2]), "…", "{drafts:?}");
        // There is room again.
        let again = live
            .stage
            .tell(live.subscriber, |peer| peer.session().update(subscription, fill()).unwrap());
        assert_eq!(live.stage.fetched(live.subscriber, again), "5/0=a fin", "{drafts:?}");
    }
}

#[test]
fn ranges_are_as_many_as_was_offered() {
    for version in [Version::Draft18, Version::Draft19, Version::Draft20, Version::Draft22] {
        let mut relay = Relay::new(Config::default());
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 4433));
        #[expect(clippy::disallowed_methods, reason = "only a beginning to count from")]
        let now = std::time::Instant::now();
        relay.handle_connected(
            SessionId(1),
            TransportPeer::new(Side::Server, version, address),
            now,
        );
        let mut decoder = FrameDecoder::new(version);
        while let Some((_, action)) = relay.poll_action() {
            if let Action::Send { bytes, .. } = action {
                decoder.push(bytes);
            }
        }
        let frame = decoder.poll().unwrap().unwrap();
        let Message::Setup(setup) = Message::decode(version, frame.kind, frame.body).unwrap()
        else {
            panic!("the first message is SETUP");
        };
        let offered = if version == Version::Draft18 { 0 } else { 64 };
        assert_eq!(setup.max_filter_ranges, offered, "{version:?}");
    }
    for drafts in drafts() {
        let mut live = Stage::live(drafts, none());
        let (peer, _) = live.stage.join(drafts.1, with(many(64)));
        let refused = live.stage.subscribe(peer, "t", with(many(65)));
        assert_eq!(live.stage.refusal(peer, refused), "INVALID_FILTER", "{drafts:?}");
        let fetch = live.stage.fetch(peer, at(0, 0), at(0, 1), with(many(65)));
        assert_eq!(live.stage.refusal(peer, fetch), "INVALID_FILTER", "{drafts:?}");
        if Version::Draft20 <= drafts.1 {
            let fill = with(Parameter::FillParameters(with(many(65))));
            let refused = live.stage.subscribe(peer, "t", fill);
            assert_eq!(live.stage.refusal(peer, refused), "INVALID_FILTER", "{drafts:?}");
        }
        // The same filter twice, a priority that is none, a property that is no integer.
        let same = || Parameter::SubgroupFilter(filter(1, None, &[(0, 1)]));
        for parameters in [
            all(&[same(), same()]),
            with(Parameter::PriorityFilter(filter(0, None, &[(0, 256)]))),
            with(Parameter::ObjectPropertyFilter(filter(0, Some(3), &[(0, 1)]))),
        ] {
            let refused = live.stage.subscribe(peer, "t", parameters);
            assert_eq!(live.stage.refusal(peer, refused), "INVALID_FILTER", "{drafts:?}");
        }
        assert!(!live.stage.closed(peer));
    }
}

#[test]
fn an_update_replaces_and_removes_filters() {
    for drafts in drafts() {
        let mut live = Stage::live(drafts, with(many(1)));
        let update = |live: &mut Live, parameter: Parameter| {
            let subscription = live.subscription;
            live.stage.tell(live.subscriber, |peer| {
                peer.session().update(subscription, with(parameter)).unwrap();
            });
        };
        live.group(1, &["a", "b", "c"]);
        assert_eq!(live.heard(), ["1: 0=a fin"], "{drafts:?}");
        update(&mut live, Parameter::ObjectIdFilter(filter(0, None, &[(1, 1)])));
        live.group(2, &["a", "b", "c"]);
        assert_eq!(live.heard(), ["2: 1=b fin"], "{drafts:?}");
        update(&mut live, Parameter::ObjectIdFilter(RangeFilter::default()));
        live.group(3, &["a", "b", "c"]);
        assert_eq!(live.heard(), ["3: 0=a 1=b 2=c fin"], "{drafts:?}");
        // With those that stand they are too many: the update fails, and the subscription.
        update(&mut live, many(64));
        update(&mut live, Parameter::SubgroupFilter(filter(0, None, &[(0, 1)])));
        let told = live.stage.take(live.subscriber);
        let Some(Event::PublishDone { body, .. }) = told.last() else { panic!("{told:?}") };
        assert_eq!(body.code, PublishDoneCode::UPDATE_FAILED, "{drafts:?}");
    }
}

impl Stage {
    fn watch_tracks(&mut self, version: Version, parameters: Parameters) -> (NodeId, RequestId) {
        let peer = self.peer(version);
        let request = self.tell(peer, |peer| {
            peer.session().subscribe_tracks(namespace("live"), parameters).unwrap()
        });
        assert!(matches!(self.response(peer, request), Response::Ok(_)));
        (peer, request)
    }

    fn publish_with(&mut self, peer: NodeId, name: &str, alias: u64, level: u64) -> RequestId {
        self.tell(peer, |peer| {
            let properties = Properties::builder().integer(LEVEL, level).build().unwrap();
            peer.session().publish(track(name), TrackAlias(alias), none(), properties).unwrap()
        })
    }

    fn published_names(&mut self, peer: NodeId) -> Vec<String> {
        self.requests(peer)
            .into_iter()
            .map(|(_, body)| match body {
                Request::Publish(body) => String::from_utf8_lossy(body.track.name()).into_owned(),
                other => panic!("{other:?}"),
            })
            .collect()
    }
}

#[test]
fn tracks_are_published_if_their_properties_pass() {
    for drafts in drafts() {
        let mut stage = Stage::new();
        let wanted = Parameter::TrackPropertyFilter(filter(0, Some(LEVEL), &[(2, 3)]));
        let only = Parameter::ObjectIdFilter(filter(0, None, &[(1, 1)]));
        let parameters = with(wanted).with(only);
        let (early, watch) = stage.watch_tracks(drafts.1, parameters.clone());
        let publisher = stage.peer(drafts.0);
        stage.publish_with(publisher, "low", 1, 1);
        let upstream = stage.publish_with(publisher, "high", 2, 2);
        let (late, _) = stage.watch_tracks(drafts.1, parameters);
        for peer in [early, late] {
            assert_eq!(stage.published_names(peer), ["high"], "{drafts:?}");
        }
        // Objects pass by the object filters of the same set.
        let group = Subgroup::new(2, 1);
        stage.tell(publisher, |peer| peer.send_subgroup(upstream, &group, &objects(&["a", "b"])));
        assert_eq!(stage.lines(early), ["1: 1=b fin"], "{drafts:?}");
        // Tracks to come pass by what was last said.
        stage.tell(early, |peer| {
            let lower = Parameter::TrackPropertyFilter(filter(0, Some(LEVEL), &[(0, 1)]));
            peer.session().update(watch, with(lower)).unwrap();
        });
        stage.publish_with(publisher, "lower", 3, 0);
        stage.publish_with(publisher, "higher", 4, 3);
        assert_eq!(stage.published_names(early), ["lower"], "{drafts:?}");
        assert_eq!(stage.published_names(late), ["higher"], "{drafts:?}");
    }
}
