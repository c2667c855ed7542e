//! SUBSCRIBE through the relay: what goes upstream, what comes back, what ends it.

use std::time::Duration;

use aip_codec::{
    Version,
    moqt::{
        error_code::{PublishDoneCode, RequestCode},
        filter::LocationFilter,
        message::Message,
        parameter::{GroupOrder, Parameter},
        property::Properties,
    },
};

use crate::conformance::{
    build,
    case::{Case, case},
    failure::{Failure, Outcome, ensure},
    peer::{Heard, name},
    stage::{ALIAS, Live, Stage},
};

#[expect(clippy::too_many_lines, reason = "a table, one entry a case")]
pub(super) fn cases() -> Vec<Case> {
    vec![
        case(
            "subscribe-waits-for-upstream",
            "SUBSCRIBE_OK comes only after the publisher's (R3)",
            "7.4",
            waits_for_upstream,
        ),
        case(
            "subscribe-refused-upstream",
            "a publisher's refusal reaches the subscriber",
            "7.6",
            refused_upstream,
        ),
        case(
            "subscribe-largest-object",
            "LARGEST_OBJECT of the publisher is passed on (R7)",
            "9.20.17",
            largest_object,
        ),
        case(
            "subscribe-largest-object-seen",
            "LARGEST_OBJECT is the largest that was told or seen (R7)",
            "9.20.17",
            largest_seen,
        ),
        case(
            "subscribe-track-properties",
            "track properties reach the subscriber unchanged (R10)",
            "7.7",
            track_properties,
        ),
        case(
            "subscribe-track-properties-omitted",
            "INCLUDE_PROPERTIES 0 leaves them out, or all as they are (SHOULD)",
            "9.20",
            properties_omitted,
        )
        .drafts(20..=22),
        case(
            "subscribe-aggregated",
            "a second subscriber costs the publisher nothing (R4)",
            "7.4",
            aggregated,
        ),
        case(
            "subscribe-forward-upstream",
            "a subscriber that wants objects makes the upstream forward them (R5)",
            "7.6",
            forward_upstream,
        ),
        case(
            "subscribe-unknown-mandatory-property",
            "an unknown mandatory track property ends in UNSUPPORTED_EXTENSION (R30)",
            "3.7",
            mandatory_property,
        ),
        case(
            "subscribe-done",
            "PUBLISH_DONE of the publisher ends the subscription",
            "9.9",
            publish_done,
        ),
        case(
            "subscribe-publisher-dies",
            "a publisher's death ends the subscription",
            "9.9",
            publisher_dies,
        ),
        case("subscribe-own-track", "a session may subscribe to what it publishes", "7", own_track),
        case(
            "subscribe-same-track-twice",
            "a session may subscribe to a track twice",
            "3.1",
            twice,
        )
        .drafts(19..=22),
        case(
            "subscribe-same-track-twice-18",
            "draft 18 has one subscription for a track in a session",
            "3.1",
            twice_18,
        )
        .drafts(18..=18),
        case("subscribe-longest-prefix", "any published prefix is asked (R4)", "7.6", prefixes),
        case("subscribe-empty-name", "a track's name may be empty", "2.4.1", empty_name),
        case("subscribe-name-4096", "a full track name of 4,096 bytes is one", "2.4.1", name_4096),
        case("subscribe-parameters", "every parameter of SUBSCRIBE is accepted", "5", parameters),
        case(
            "subscribe-non-minimal",
            "SUBSCRIBE with long integers is understood",
            "8.1",
            non_minimal,
        ),
        case("subscribe-unsubscribe", "who has unsubscribed gets nothing more", "3.1", unsubscribe),
        case("subscribe-resubscribe", "a track may be subscribed to again", "3.1", resubscribe),
        case("subscribe-group-order", "both group orders are accepted", "9.20", group_order),
        case(
            "subscribe-absolute-filter",
            "objects outside an absolute range do not come",
            "3.3",
            absolute_filter,
        ),
        case(
            "subscribe-next-group",
            "a filter from the next group leaves this one out",
            "3.3",
            next_group,
        ),
        case(
            "subscribe-new-group-request",
            "NEW_GROUP_REQUEST reaches a publisher with dynamic groups (R26)",
            "9.20.19",
            new_group_request,
        ),
        case(
            "subscribe-second-publisher",
            "a second publisher of the namespace is asked, too (R15)",
            "7.6",
            second_publisher,
        ),
    ]
}

fn waits_for_upstream(stage: &Stage<'_>) -> Outcome {
    let (publisher, _) = stage.publisher()?;
    let subscriber = stage.session()?;
    let id = subscriber.request_id();
    let stream = subscriber.request(&build::subscribe(id, &stage.track("t"), build::none()));
    let (upstream, _) = publisher.subscribed()?;
    subscriber.answers()?;
    if let Ok(early) = subscriber.heard_within(stream, Duration::from_millis(200)) {
        return Err(Failure::new("no answer before the publisher's", format!("{early:?}")));
    }
    publisher.say(upstream, &build::subscribe_ok(ALIAS, build::none()));
    subscriber.subscribe_ok(stream).map(drop)
}

fn refused_upstream(stage: &Stage<'_>) -> Outcome {
    let (publisher, _) = stage.publisher()?;
    let subscriber = stage.session()?;
    let id = subscriber.request_id();
    let stream = subscriber.request(&build::subscribe(id, &stage.track("t"), build::none()));
    let (upstream, _) = publisher.subscribed()?;
    publisher.say(upstream, &build::request_error(RequestCode::DOES_NOT_EXIST));
    publisher.finish(upstream);
    subscriber.refused(stream, &[RequestCode::DOES_NOT_EXIST.0])
}

fn largest_object(stage: &Stage<'_>) -> Outcome {
    let largest = build::at(300, 7);
    let said = build::with(Parameter::LargestObject(largest));
    let live = stage.live_with(build::none(), said, Properties::empty())?;
    let told = live.ok.parameters.largest_object();
    ensure(told == Some(largest), "LARGEST_OBJECT {300, 7}", told)
}

fn largest_seen(stage: &Stage<'_>) -> Outcome {
    let said = build::with(Parameter::LargestObject(build::at(3, 7)));
    let live = stage.live_with(build::none(), said, Properties::empty())?;
    let mut subgroup = build::Subgroup::new(ALIAS, 4, 0).object(0, b"a").object(1, b"b");
    live.publisher.unidirectional(&subgroup.take());
    let came = |list: &[crate::conformance::data::Subgroup]| {
        list.iter().any(|subgroup| subgroup.objects.len() == 2)
    };
    live.subscriber.await_subgroups(live.alias(), "both objects", came)?;
    let other = stage.session()?;
    let id = other.request_id();
    let stream = other.request(&build::subscribe(id, &live.track, build::none()));
    let told = other.subscribe_ok(stream)?.parameters.largest_object();
    ensure(told == Some(build::at(4, 1)), "LARGEST_OBJECT {4, 1}", told)
}

fn sample_properties() -> Properties {
    // MAX_CACHE_DURATION, a priority, an application's integer and bytes.
    let builder = Properties::builder().integer(0x04, 600_000).integer(0x0e, 7);
    let builder = builder.integer(0x3802, 99).bytes(0x3803, &b"opaque"[..]);
    builder.build().unwrap_or_default()
}

fn track_properties(stage: &Stage<'_>) -> Outcome {
    let properties = sample_properties();
    let live = stage.live_with(build::none(), build::none(), properties.clone())?;
    let pairs: Vec<_> = live.ok.properties.iter().collect();
    let sent: Vec<_> = properties.iter().collect();
    ensure(pairs == sent, format!("{sent:?}"), pairs)
}

fn properties_omitted(stage: &Stage<'_>) -> Outcome {
    let parameters = build::with(Parameter::IncludeProperties(false));
    let live = stage.live_with(parameters, build::none(), sample_properties())?;
    let properties = &live.ok.properties;
    let is_either = properties.is_empty() || *properties == sample_properties();
    ensure(is_either, "no properties, or the publisher's", properties)
}

fn aggregated(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    let second = stage.session()?;
    let id = second.request_id();
    let stream = second.request(&build::subscribe(id, &live.track, build::none()));
    second.subscribe_ok(stream)?;
    live.publisher.answers()?;
    match live.publisher.incoming_within(Duration::from_millis(100)) {
        Err(_) => Ok(()),
        Ok((_, message)) => Err(Failure::new("nothing asked of the publisher", name(&message))),
    }
}

fn forward_upstream(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::with(Parameter::Forward(false)))?;
    let paused = live.asked.parameters.forward() == Some(false);
    let second = stage.session()?;
    let id = second.request_id();
    let stream = second.request(&build::subscribe(id, &live.track, build::none()));
    second.subscribe_ok(stream)?;
    if !paused {
        // Forwarded from the first, as a relay may choose.
        return Ok(());
    }
    match live.publisher.message(live.upstream)? {
        Message::RequestUpdate(update) => {
            let forward = update.parameters.forward();
            ensure(forward == Some(true), "REQUEST_UPDATE with FORWARD 1", forward)
        }
        other => Err(Failure::new("REQUEST_UPDATE with FORWARD 1", name(&other))),
    }
}

fn mandatory_property(stage: &Stage<'_>) -> Outcome {
    let (publisher, _) = stage.publisher()?;
    let subscriber = stage.session()?;
    let id = subscriber.request_id();
    let stream = subscriber.request(&build::subscribe(id, &stage.track("t"), build::none()));
    let (upstream, _) = publisher.subscribed()?;
    let properties = Properties::builder().integer(0x4ffe, 1).build().unwrap_or_default();
    publisher.say(upstream, &build::subscribe_ok_with(ALIAS, build::none(), properties));
    subscriber.refused(stream, &[RequestCode::UNSUPPORTED_EXTENSION.0])?;
    publisher.answers()
}

/// Waits for PUBLISH_DONE with one of `codes`, then FIN.
pub(super) fn is_done(live: &Live, codes: &[PublishDoneCode]) -> Outcome {
    let wanted = format!("PUBLISH_DONE {codes:?}");
    match live.subscriber.message(live.downstream).map_err(|it| it.instead_of(&wanted))? {
        Message::PublishDone(done) if codes.contains(&done.code) => {
            super::namespaces::finished(&live.subscriber, live.downstream)
        }
        other => Err(Failure::new(wanted, name(&other))),
    }
}

fn publish_done(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    let done = build::publish_done(PublishDoneCode::TRACK_ENDED, Some(0));
    live.publisher.say(live.upstream, &done);
    live.publisher.finish(live.upstream);
    is_done(&live, &[PublishDoneCode::TRACK_ENDED])
}

fn publisher_dies(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    live.publisher.close(0);
    // Whatever its code: the subscriber is told.
    match live.subscriber.heard_within(live.downstream, Duration::from_secs(10))? {
        Heard::Message(Message::PublishDone(_)) | Heard::End(_) => live.subscriber.answers(),
        Heard::Message(other) => Err(Failure::new("PUBLISH_DONE", name(&other))),
    }
}

fn own_track(stage: &Stage<'_>) -> Outcome {
    let (peer, _) = stage.publisher()?;
    let id = peer.request_id();
    let stream = peer.request(&build::subscribe(id, &stage.track("t"), build::none()));
    let (upstream, _) = peer.subscribed()?;
    peer.say(upstream, &build::subscribe_ok(ALIAS, build::none()));
    let ok = peer.subscribe_ok(stream)?;
    let mut subgroup = build::Subgroup::new(ALIAS, 1, 0).object(0, b"echo");
    peer.unidirectional(&subgroup.take());
    peer.await_subgroups(ok.track_alias.0, "its own object", |list| {
        list.iter().any(|subgroup| !subgroup.objects.is_empty())
    })
    .map(drop)
}

fn twice(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    let id = live.subscriber.request_id();
    let stream = live.subscriber.request(&build::subscribe(id, &live.track, build::none()));
    live.subscriber.subscribe_ok(stream)?;
    let mut subgroup = build::Subgroup::new(ALIAS, 1, 0).object(0, b"for both");
    live.publisher.unidirectional(&subgroup.take());
    // The relay may use one alias for both, or two.
    let both = |peer: &crate::conformance::peer::Peer| {
        let copies = peer.every_subgroup().map(|list| list.iter().map(|it| it.objects.len()).sum());
        match copies {
            Ok(0 | 1) => None,
            Ok::<usize, _>(_) => Some(Ok(())),
            Err(failure) => Some(Err(failure)),
        }
    };
    live.subscriber.until("a copy for each subscription", both)?
}

fn twice_18(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    let id = live.subscriber.request_id();
    let stream = live.subscriber.request(&build::subscribe(id, &live.track, build::none()));
    live.subscriber.refused(stream, &[RequestCode::DUPLICATE_SUBSCRIPTION.0])
}

fn prefixes(stage: &Stage<'_>) -> Outcome {
    let (publisher, _) = stage.publisher()?;
    let subscriber = stage.session()?;
    let longer = stage.namespace.join(&build::namespace(&["a", "b"])).unwrap_or_default();
    let track = build::track(&longer, "t");
    let id = subscriber.request_id();
    let stream = subscriber.request(&build::subscribe(id, &track, build::none()));
    let (upstream, asked) = publisher.subscribed()?;
    ensure(asked.track == track, format!("SUBSCRIBE to {track}"), &asked.track)?;
    publisher.say(upstream, &build::subscribe_ok(ALIAS, build::none()));
    subscriber.subscribe_ok(stream).map(drop)
}

fn named(stage: &Stage<'_>, name: &str) -> Outcome {
    let (publisher, _) = stage.publisher()?;
    let subscriber = stage.session()?;
    let track = stage.track(name);
    let id = subscriber.request_id();
    let stream = subscriber.request(&build::subscribe(id, &track, build::none()));
    let (upstream, asked) = publisher.subscribed()?;
    ensure(asked.track == track, format!("SUBSCRIBE to {track}"), &asked.track)?;
    publisher.say(upstream, &build::subscribe_ok(ALIAS, build::none()));
    subscriber.subscribe_ok(stream).map(drop)
}

fn empty_name(stage: &Stage<'_>) -> Outcome {
    named(stage, "")
}

fn name_4096(stage: &Stage<'_>) -> Outcome {
    named(stage, &"n".repeat(4_096 - stage.namespace.length()))
}

fn parameters(stage: &Stage<'_>) -> Outcome {
    let parameters = build::none()
        .with(Parameter::ObjectDeliveryTimeout(60_000))
        .with(Parameter::RendezvousTimeout(0))
        .with(Parameter::SubgroupDeliveryTimeout(60_000))
        .with(Parameter::Forward(true))
        .with(Parameter::SubscriberPriority(3))
        .with(Parameter::LocationFilter(LocationFilter::NextObject))
        .with(Parameter::GroupOrder(GroupOrder::Descending))
        .with(Parameter::NewGroupRequest(0));
    let live = stage.live(parameters)?;
    let mut subgroup = build::Subgroup::new(ALIAS, 1, 0).object(0, b"x");
    live.publisher.unidirectional(&subgroup.take());
    live.subscriber
        .await_subgroups(live.alias(), "the object", |list| {
            list.iter().any(|subgroup| !subgroup.objects.is_empty())
        })
        .map(drop)
}

fn non_minimal(stage: &Stage<'_>) -> Outcome {
    let peer = stage.session()?;
    // Request id 0 in nine bytes, one field of one byte, a name of one byte, no parameters: the
    // counts and lengths in two to five.
    let body = build::hex("ff0000000000000000 8001 c00001 61 e0000001 74 f000000000");
    let stream = peer.bidirectional(&build::frame(0x03, &body));
    peer.refused(stream, &[RequestCode::DOES_NOT_EXIST.0])?;
    peer.request_id();
    peer.answers()
}

fn unsubscribe(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    live.subscriber.reset(live.downstream, 1);
    live.subscriber.stop(live.downstream, 1);
    live.subscriber.answers()?;
    let mut subgroup = build::Subgroup::new(ALIAS, 1, 0).object(0, b"late");
    live.publisher.unidirectional(&subgroup.take());
    live.publisher.answers()?;
    live.subscriber.answers()?;
    let came = live.subscriber.subgroups(live.alias())?;
    ensure(came.is_empty(), "nothing after unsubscribing", came)
}

fn resubscribe(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    live.subscriber.reset(live.downstream, 1);
    live.subscriber.stop(live.downstream, 1);
    live.subscriber.answers()?;
    let id = live.subscriber.request_id();
    let stream = live.subscriber.request(&build::subscribe(id, &live.track, build::none()));
    if let Ok((upstream, Message::Subscribe(_))) =
        live.publisher.incoming_within(Duration::from_millis(500))
    {
        live.publisher.say(upstream, &build::subscribe_ok(ALIAS, build::none()));
    }
    live.subscriber.subscribe_ok(stream).map(drop)
}

fn group_order(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::with(Parameter::GroupOrder(GroupOrder::Ascending)))?;
    let second = stage.session()?;
    let parameters = build::with(Parameter::GroupOrder(GroupOrder::Descending));
    let stream = second.request(&build::subscribe(second.request_id(), &live.track, parameters));
    second.subscribe_ok(stream).map(drop)
}

fn absolute_filter(stage: &Stage<'_>) -> Outcome {
    let filter = LocationFilter::Groups {
        start: build::at(300, 1),
        end_group: aip_codec::moqt::id::GroupId(301),
    };
    let live = stage.live(build::with(Parameter::LocationFilter(filter)))?;
    for group in [299, 300, 301, 302] {
        let mut subgroup =
            build::Subgroup::new(ALIAS, group, 0).object(0, b"zero").object(1, b"one");
        let stream = live.publisher.unidirectional(&subgroup.take());
        live.publisher.finish(stream);
    }
    let wanted = vec![(300, vec![1]), (301, vec![0, 1])];
    let mut last = Vec::new();
    live.subscriber
        .await_subgroups(live.alias(), "objects {300, 1} to {301, 1}", |list| {
            last = list.iter().map(|it| (it.group(), it.numbers())).collect();
            last.sort();
            last == wanted
        })
        .map_err(|failure| Failure::new(failure.expected, format!("{last:?}")))?;
    live.subscriber.answers()?;
    let after = live.subscriber.subgroups(live.alias())?.len();
    ensure(after == 2, "nothing outside the range", after)
}

fn next_group(stage: &Stage<'_>) -> Outcome {
    let filter = LocationFilter::Relative { groups_back: 0 };
    let said = build::with(Parameter::LargestObject(build::at(200, 0)));
    let asked = build::with(Parameter::LocationFilter(filter));
    let live = stage.live_with(asked, said, Properties::empty())?;
    for group in [200, 201] {
        let mut subgroup = build::Subgroup::new(ALIAS, group, 0).object(1, b"x");
        live.publisher.unidirectional(&subgroup.take());
    }
    let groups = live.subscriber.await_subgroups(live.alias(), "group 201", |list| {
        list.iter().any(|it| it.group() == 201 && !it.objects.is_empty())
    })?;
    let groups: Vec<u64> = groups.iter().map(|it| it.group()).collect();
    ensure(groups == [201], "group 201 alone", groups)
}

fn new_group_request(stage: &Stage<'_>) -> Outcome {
    let (publisher, _) = stage.publisher()?;
    let subscriber = stage.session()?;
    let parameters = build::with(Parameter::NewGroupRequest(0));
    let id = subscriber.request_id();
    subscriber.request(&build::subscribe(id, &stage.track("t"), parameters));
    let (_, asked) = publisher.subscribed()?;
    let request = asked.parameters.new_group_request();
    ensure(request == Some(0), "NEW_GROUP_REQUEST 0 upstream", request)
}

fn second_publisher(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    let Some(second) = stage.further_publisher()? else {
        return live.subscriber.answers();
    };
    let (_, asked) = second.subscribed()?;
    ensure(asked.track == live.track, format!("SUBSCRIBE to {}", live.track), &asked.track)?;
    // Draft 18 has no word for more; from draft 19 on objects of both are forwarded once.
    if stage.version == Version::Draft18 {
        return Ok(());
    }
    live.subscriber.answers()
}
