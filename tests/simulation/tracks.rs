//! Versions of tracks go from an origin through a relay to agents; calls go both ways.

use std::time::Duration;

use aip_codec::{
    Version,
    aip::call::RecordType,
    moqt::{
        id::GroupId,
        name::{FullTrackName, TrackNamespace},
        parameter::Parameters,
        property::Properties,
    },
};
use aip_engine::{
    client::{CallEnd, Client, Config, Event, TrackVersion},
    relay,
};
use aip_tests::sim::{NodeId, Weather, World, shards::Shards};
use bytes::Bytes;

const LONG: Duration = Duration::from_secs(5);

fn namespace() -> TrackNamespace {
    TrackNamespace::new(["aip", "localhost", "files"]).unwrap()
}

fn track(name: &str) -> FullTrackName {
    FullTrackName::new(namespace(), Bytes::from(name.to_owned())).unwrap()
}

fn version(group: u64, text: &str) -> TrackVersion {
    TrackVersion {
        group: GroupId(group),
        objects: vec![Bytes::from(text.to_owned())],
        properties: Properties::default(),
    }
}

fn events(world: &mut World, node: NodeId) -> Vec<Event> {
    world.with(node, |client: &mut Client, _| std::iter::from_fn(|| client.poll_event()).collect())
}

struct Stage {
    world: World,
    origin: NodeId,
    agents: Vec<NodeId>,
}

fn stage(agents: usize, version: Version) -> Stage {
    let mut world = World::new(1, Weather::CALM);
    let relay = world.add(Shards::new(&relay::Config::default(), super::SHARDS));
    let origin = world.add(Client::new(Config::default()));
    world.connect(origin, relay, version, None);
    world.with(origin, |origin: &mut Client, _| origin.announce(namespace()));
    let agents: Vec<NodeId> =
        (0..agents).map(|_| world.add(Client::new(Config::default()))).collect();
    for &agent in &agents {
        world.connect(agent, relay, version, None);
    }
    world.run(Duration::from_millis(50));
    Stage { world, origin, agents }
}

/// Answers every `TrackWanted` at the origin; how many there were.
fn serve(stage: &mut Stage, answer: &TrackVersion) -> usize {
    let wanted: Vec<FullTrackName> = events(&mut stage.world, stage.origin)
        .into_iter()
        .filter_map(|event| match event {
            Event::TrackWanted { track } => Some(track),
            _ => None,
        })
        .collect();
    stage.world.with(stage.origin, |origin: &mut Client, now| {
        for track in &wanted {
            origin.publish(track, answer.clone(), None, now);
        }
    });
    wanted.len()
}

#[test]
fn fifty_agents_cost_one_read() {
    for draft in Version::PREFERENCE {
        let mut stage = stage(50, draft);
        for agent in stage.agents.clone() {
            stage.world.with(agent, |agent: &mut Client, now| {
                agent.read(track("resource/file:///a"), now).unwrap()
            });
        }
        stage.world.run(Duration::from_millis(100));
        assert_eq!(serve(&mut stage, &version(7, "hello")), 1, "{draft:?}");
        stage.world.run(Duration::from_millis(200));
        for agent in stage.agents.clone() {
            let got: Vec<Event> = events(&mut stage.world, agent);
            assert!(
                got.iter().any(|event| matches!(event,
                    Event::Version { version, .. } if version.objects == [Bytes::from("hello")])),
                "{draft:?}: {got:?}"
            );
        }
        assert_eq!(serve(&mut stage, &version(8, "again")), 0, "{draft:?}");
        // One that comes later is answered by the relay, too.
        let late = stage.agents[0];
        stage.world.with(late, |agent: &mut Client, now| {
            agent.read(track("resource/file:///a"), now).unwrap()
        });
        stage.world.run(Duration::from_millis(200));
        assert!(matches!(events(&mut stage.world, late)[..], [Event::Version { .. }]), "{draft:?}");
        assert_eq!(serve(&mut stage, &version(8, "again")), 0, "{draft:?}");
    }
}

#[test]
fn every_subscriber_is_told_of_every_version() {
    for draft in Version::PREFERENCE {
        let mut stage = stage(8, draft);
        for agent in stage.agents.clone() {
            stage.world.with(agent, |agent: &mut Client, now| {
                agent.subscribe(track("tools"), now).unwrap()
            });
        }
        stage.world.run(Duration::from_millis(100));
        assert_eq!(serve(&mut stage, &version(1, "one")), 1);
        stage.world.run(Duration::from_millis(100));
        for group in 2..10 {
            stage.world.with(stage.origin, |origin: &mut Client, now| {
                origin.publish(&track("tools"), version(group, "next"), None, now);
            });
            stage.world.run(Duration::from_millis(20));
        }
        stage.world.run(Duration::from_millis(100));
        for agent in stage.agents.clone() {
            let groups: Vec<u64> = events(&mut stage.world, agent)
                .into_iter()
                .filter_map(|event| match event {
                    Event::Version { version, .. } => Some(version.group.0),
                    _ => None,
                })
                .collect();
            assert_eq!(groups, (1..10).collect::<Vec<_>>(), "{draft:?}");
        }
    }
}

#[test]
fn an_unknown_namespace_is_refused() {
    let mut stage = stage(1, Version::Draft22);
    let agent = stage.agents[0];
    let nowhere = TrackNamespace::new(["aip", "localhost", "nothing"]).unwrap();
    let nothing = FullTrackName::new(nowhere, Bytes::from("tools")).unwrap();
    stage.world.with(agent, |agent: &mut Client, now| agent.read(nothing, now).unwrap());
    stage.world.run(LONG);
    assert!(
        events(&mut stage.world, agent)
            .iter()
            .any(|event| matches!(event, Event::SubscriptionRefused { .. }))
    );
}

#[test]
fn a_call_comes_and_its_answer_goes_back() {
    for draft in Version::PREFERENCE {
        let mut stage = stage(1, draft);
        let agent = stage.agents[0];
        let call = stage.world.with(agent, |agent: &mut Client, now| {
            let name = Bytes::from("tools/call");
            let call = agent.call(namespace(), name, Parameters::default(), now).unwrap();
            agent.send_record(call, RecordType::Request, Bytes::from("please"), true).unwrap();
            call
        });
        stage.world.run(Duration::from_millis(100));
        let received = events(&mut stage.world, stage.origin);
        let at_origin = received
            .iter()
            .find_map(|event| match event {
                Event::CallReceived { call, name, .. } if name == "tools/call" => Some(*call),
                _ => None,
            })
            .unwrap_or_else(|| panic!("{draft:?}: {received:?}"));
        stage.world.with(stage.origin, |origin: &mut Client, _| {
            let message = Bytes::from(vec![b'm'; 3_000_000]);
            origin.send_record(at_origin, RecordType::Message, message, false).unwrap();
            origin.send_record(at_origin, RecordType::Result, Bytes::from("done"), true).unwrap();
        });
        stage.world.run(Duration::from_millis(500));
        let got = events(&mut stage.world, agent);
        assert!(
            got.contains(&Event::Record {
                call,
                kind: RecordType::Result,
                payload: Bytes::from("done")
            }),
            "{draft:?}"
        );
        assert_eq!(got.last(), Some(&Event::CallEnded { call, end: CallEnd::Finished }));
    }
}

#[test]
fn a_cancelled_call_is_cancelled_at_the_origin() {
    let mut stage = stage(1, Version::Draft22);
    let agent = stage.agents[0];
    let call = stage.world.with(agent, |agent: &mut Client, now| {
        let name = Bytes::from("tools/call");
        let call = agent.call(namespace(), name, Parameters::default(), now).unwrap();
        agent.send_record(call, RecordType::Request, Bytes::from("please"), true).unwrap();
        call
    });
    stage.world.run(Duration::from_millis(100));
    stage.world.with(agent, |agent: &mut Client, _| agent.cancel_call(call));
    stage.world.run(Duration::from_millis(100));
    assert!(
        events(&mut stage.world, stage.origin)
            .iter()
            .any(|event| matches!(event, Event::CallEnded { end: CallEnd::Cancelled, .. }))
    );
}

#[test]
fn a_call_to_nobody_is_refused() {
    let mut stage = stage(1, Version::Draft22);
    let agent = stage.agents[0];
    let nowhere = TrackNamespace::new(["aip", "localhost", "nothing"]).unwrap();
    stage.world.with(agent, |agent: &mut Client, now| {
        let call = agent.call(nowhere, Bytes::from("x"), Parameters::default(), now).unwrap();
        agent.send_record(call, RecordType::Request, Bytes::from("please"), true).unwrap();
    });
    stage.world.run(Duration::from_millis(100));
    assert!(
        events(&mut stage.world, agent)
            .iter()
            .any(|event| matches!(event, Event::CallEnded { end: CallEnd::Refused(_), .. }))
    );
}
