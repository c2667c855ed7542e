//! HOPS and COST: only between relays that have both told their numbers.

use aip_codec::{
    aip::hops::{Hops, RelayId},
    moqt::{
        error_code::SessionCode,
        id::RequestId,
        message::{Message, Namespace, PublishNamespace, RequestOk, RequestUpdate, Setup},
        name::TrackNamespace,
        parameter::{Parameter, Parameters},
        property::Properties,
    },
};

use super::{DRAFTS, Pair, Victim, encode, namespace};
use crate::{
    session::{Config, Event, Request, Session},
    transport::Side,
};

fn relay(number: u64) -> Config {
    Config { relay_id: Some(RelayId(number)), ..Config::default() }
}

fn way(relay: u64, cost: u64) -> Parameters {
    let hops = Hops::new().then(RelayId(relay)).unwrap();
    Parameters::default().with(Parameter::Hops(hops)).with(Parameter::Cost(cost))
}

/// The next event that is neither an answer nor the beginning.
fn told(session: &mut Session) -> Option<Event> {
    std::iter::from_fn(|| session.poll_event())
        .find(|event| !matches!(event, Event::Response { .. } | Event::Established { .. }))
}

#[test]
fn relays_tell_each_other_the_way() {
    for version in DRAFTS {
        let mut pair = Pair::with(version, relay(1), relay(2));
        assert_eq!(pair.client.peer_relay(), Some(RelayId(2)));
        assert_eq!(pair.server.peer_relay(), Some(RelayId(1)));
        let announcement = pair.client.publish_namespace(namespace(), way(1, 7)).unwrap();
        pair.shuttle();
        let Some(Event::Request { request, body: Request::PublishNamespace(body), .. }) =
            told(&mut pair.server)
        else {
            panic!("{version:?}");
        };
        assert_eq!(body.parameters, way(1, 7));
        pair.server.accept(request, Parameters::default(), Properties::default());
        pair.shuttle();
        pair.client.update(announcement, way(1, 9)).unwrap();
        pair.shuttle();
        let update = told(&mut pair.server);
        assert!(
            matches!(&update, Some(Event::Update { parameters, .. }) if *parameters == way(1, 9)),
            "{update:?}"
        );
        let watch =
            pair.client.subscribe_namespace(TrackNamespace::default(), Parameters::default());
        pair.shuttle();
        let Some(Event::Request { request, .. }) = told(&mut pair.server) else { panic!() };
        pair.server.accept(request, Parameters::default(), Properties::default());
        // The same namespace again is news of its way.
        for cost in [3, 4] {
            pair.server.namespace(request, namespace(), way(2, cost));
            pair.shuttle();
            let expected = Event::Namespace {
                request: watch.unwrap(),
                suffix: namespace(),
                parameters: way(2, cost),
            };
            assert_eq!(told(&mut pair.client), Some(expected));
        }
        assert!(pair.closed.is_empty());
    }
}

#[test]
fn others_are_not_taken_for_relays() {
    let plain = Config { aip: None, ..relay(2) };
    for (client, server) in [(relay(1), Config::default()), (relay(1), plain)] {
        let pair = Pair::with(DRAFTS[0], client, server);
        assert_eq!((pair.client.peer_relay(), pair.server.peer_relay()), (None, None));
    }
}

/// Hops from a peer that has not told its number, or to one that has not, close the session.
#[test]
fn hops_that_were_not_negotiated_are_a_violation() {
    let with_number =
        Setup { aip: Config::default().aip, relay_id: Some(RelayId(9)), ..Setup::default() };
    for (config, setup) in [(relay(1), Setup::default()), (Config::default(), with_number)] {
        for version in DRAFTS {
            let publish = |parameters| {
                Message::PublishNamespace(PublishNamespace {
                    request_id: RequestId(0),
                    namespace: namespace(),
                    parameters,
                })
            };
            let established = || {
                let mut victim = Victim::with(config.clone(), Side::Server, version);
                let setup = encode(version, &Message::Setup(setup.clone()));
                victim.bytes(victim.uni(0), setup, false);
                assert_eq!(victim.closed, None);
                victim
            };
            let violation = Some(SessionCode::PROTOCOL_VIOLATION);

            let mut victim = established();
            victim.message(victim.bidi(0), &publish(way(9, 0)));
            assert_eq!(victim.closed, violation, "{version:?}");

            let mut victim = established();
            victim.message(victim.bidi(0), &publish(Parameters::default()));
            victim.session.accept(RequestId(0), Parameters::default(), Properties::default());
            let update = RequestUpdate { request_id: RequestId(2), parameters: way(9, 0) };
            victim.message(victim.bidi(0), &Message::RequestUpdate(update));
            assert_eq!(victim.closed, violation, "{version:?}");

            let mut victim = established();
            victim.session.subscribe_namespace(namespace(), Parameters::default()).unwrap();
            victim.message(victim.own(0), &Message::RequestOk(RequestOk::default()));
            let told = Namespace { suffix: TrackNamespace::default(), parameters: way(9, 0) };
            victim.message(victim.own(0), &Message::Namespace(told));
            assert_eq!(victim.closed, violation, "{version:?}");
        }
    }
}
