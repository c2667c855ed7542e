//! What waits, for how long, and what is too late.

use std::time::{Duration, Instant};

use aip_codec::{
    Version,
    moqt::{
        error_code::{PublishDoneCode, ResetCode},
        id::{RequestId, SubgroupId, TrackAlias},
        message::{Message, Subscribe},
        parameter::{Parameter, Parameters},
        property::Properties,
        stream::subgroup::{SubgroupHeader, SubgroupMode},
    },
};
use bytes::Bytes;

use super::{Pair, Victim, header, object, track};
use crate::{
    account::{Account, PIECE, STREAM},
    session::{Config, Delivery, DeliveryTimeouts, Event, Session},
    transport::{Action, Side, StreamId},
};

const SECOND: Duration = Duration::from_secs(1);

/// A publisher whose subscriber's network takes nothing but what the test lets through.
struct Publisher {
    session: Session,
    subscription: RequestId,
    now: Instant,
    actions: Vec<Action>,
}

impl Publisher {
    fn new() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        let mut pair = Pair::with(Version::Draft22, Config::default(), config);
        let subscription = pair.client.subscribe(track("t"), Parameters::default()).unwrap();
        pair.server_events();
        let (parameters, properties) = (Parameters::default(), Properties::default());
        pair.server.accept_subscribe(subscription, TrackAlias(1), parameters, properties);
        pair.client_events();
        Self { session: pair.server, subscription, now: pair.now, actions: Vec::new() }
    }

    fn open(&mut self, group: u64, delivery: &Delivery) -> StreamId {
        self.session.open_subgroup(self.subscription, &header(1, group), delivery).unwrap()
    }

    fn send(&mut self, stream: StreamId, payload: &str) {
        let handle = self.session.outgoing(stream).unwrap();
        self.session.begin_object(handle, self.now);
        self.session.send(stream, object(0, payload), false);
    }

    fn leave(&mut self, stream: StreamId, length: usize) {
        self.session.handle_sent(stream, length, self.now);
        assert!(self.session.accounts_add_up());
    }

    /// Lets time pass, every timer at its time.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.session.poll_timeout().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.session.handle_timeout(self.now);
            assert!(self.session.accounts_add_up());
        }
        self.now = end;
    }

    fn is_behind(&mut self) -> bool {
        self.session.is_behind(self.subscription, self.now)
    }

    /// Streams reset since last asked, with their codes.
    fn resets(&mut self) -> Vec<(StreamId, u64)> {
        self.actions.extend(std::iter::from_fn(|| self.session.poll_action()));
        let resets = self.actions.drain(..).filter_map(|action| match action {
            Action::Reset { stream, code } => Some((stream, code)),
            _ => None,
        });
        resets.collect()
    }

    fn told_behind(&mut self) -> bool {
        std::iter::from_fn(|| self.session.poll_event()).any(
            |event| matches!(event, Event::TooFarBehind { request } if request == self.subscription),
        )
    }
}

fn timed(object: Option<Duration>, subgroup: Option<Duration>) -> Delivery {
    Delivery { timeouts: DeliveryTimeouts { object, subgroup }, ..Delivery::default() }
}

#[test]
fn a_subscriber_that_stands_still_is_told_of_by_a_timer() {
    let mut publisher = Publisher::new();
    let stream = publisher.open(1, &Delivery::default());
    assert!(!publisher.is_behind());
    publisher.send(stream, "x");
    publisher.pass(5 * SECOND);
    assert!(!publisher.told_behind());
    publisher.leave(stream, 1);
    publisher.pass(5 * SECOND);
    assert!(!publisher.told_behind(), "something has left");
    publisher.pass(3 * SECOND);
    assert!(publisher.told_behind(), "nothing has left for 8 s");
    publisher.session.end_behind(publisher.subscription);
    assert_eq!(publisher.resets(), [(stream, ResetCode::TOO_FAR_BEHIND.0)]);
    assert_eq!(publisher.session.account_of(publisher.subscription), Account::ZERO);
}

#[test]
fn a_subscriber_that_takes_all_is_never_behind() {
    let mut publisher = Publisher::new();
    let stream = publisher.open(1, &Delivery::default());
    for _ in 0..20 {
        publisher.send(stream, "some bytes");
        publisher.pass(SECOND);
        let queued = publisher.session.stream_queued_bytes(stream).unwrap();
        publisher.leave(stream, queued);
        publisher.pass(20 * SECOND);
        assert!(!publisher.is_behind() && !publisher.told_behind());
    }
}

#[test]
fn less_may_wait_for_who_stands_still() {
    let mut publisher = Publisher::new();
    let stream = publisher.open(1, &Delivery::default());
    let megabyte = "x".repeat(1 << 20);
    assert!(!publisher.is_behind());
    publisher.send(stream, &megabyte);
    assert!(!publisher.is_behind(), "a burst");
    publisher.pass(2 * SECOND);
    publisher.leave(stream, 1_000);
    publisher.pass(2 * SECOND);
    assert!(!publisher.is_behind(), "it moves");
    publisher.pass(2 * SECOND);
    assert!(publisher.is_behind(), "it has stood still for 4 s");
    let mut publisher = Publisher::new();
    let stream = publisher.open(1, &Delivery::default());
    for _ in 0..8 {
        assert!(!publisher.is_behind());
        publisher.send(stream, &megabyte);
    }
    assert!(publisher.is_behind(), "more than any may have");
}

#[test]
fn many_tiny_streams_count() {
    let mut publisher = Publisher::new();
    let before = publisher.session.account();
    for group in 0..100 {
        let stream = publisher.open(group, &Delivery::default());
        publisher.send(stream, "x");
    }
    let account = publisher.session.account_of(publisher.subscription);
    assert_eq!(account.overhead, 100 * (STREAM + 2 * PIECE));
    let mut whole = publisher.session.account();
    whole -= before;
    assert_eq!(whole, account);
    assert!(publisher.session.accounts_add_up());
}

#[test]
fn a_late_object_resets_its_stream_and_no_other() {
    let mut publisher = Publisher::new();
    let delivery = timed(Some(Duration::from_millis(200)), None);
    let late = publisher.open(1, &delivery);
    publisher.send(late, "late");
    publisher.leave(late, 3);
    publisher.pass(Duration::from_millis(100));
    let next = publisher.open(2, &delivery);
    publisher.send(next, "in time");
    publisher.pass(Duration::from_millis(99));
    assert_eq!(publisher.resets(), []);
    publisher.pass(Duration::from_millis(1));
    assert_eq!(publisher.resets(), [(late, ResetCode::DELIVERY_TIMEOUT.0)]);
    assert_eq!(publisher.session.stream_queued_bytes(late), None);
    let queued = publisher.session.stream_queued_bytes(next).unwrap();
    publisher.leave(next, queued);
    publisher.pass(10 * SECOND);
    assert_eq!(publisher.resets(), [], "all of it has left");
    assert!(!publisher.told_behind());
}

#[test]
fn each_object_of_a_stream_has_its_own_time() {
    let mut publisher = Publisher::new();
    let stream = publisher.open(1, &timed(Some(Duration::from_millis(200)), None));
    for _ in 0..10 {
        publisher.send(stream, "four");
        publisher.pass(Duration::from_millis(150));
        let queued = publisher.session.stream_queued_bytes(stream).unwrap();
        publisher.leave(stream, queued);
    }
    publisher.send(stream, "four");
    publisher.pass(Duration::from_millis(199));
    assert_eq!(publisher.resets(), []);
    publisher.pass(Duration::from_millis(1));
    assert_eq!(publisher.resets().len(), 1);
}

#[test]
fn what_comes_late_of_an_object_is_not_sent() {
    let mut publisher = Publisher::new();
    let stream = publisher.open(1, &timed(Some(Duration::from_millis(200)), None));
    publisher.send(stream, "begin");
    let queued = publisher.session.stream_queued_bytes(stream).unwrap();
    publisher.leave(stream, queued);
    publisher.pass(SECOND);
    assert_eq!(publisher.resets(), [], "nothing of it waits");
    publisher.session.send(stream, Bytes::from("rest of it"), false);
    publisher.pass(Duration::ZERO);
    assert_eq!(publisher.resets(), [(stream, ResetCode::DELIVERY_TIMEOUT.0)]);
}

#[test]
fn a_subgroup_is_late_even_if_all_was_handed_over() {
    let mut publisher = Publisher::new();
    let stream = publisher.open(1, &timed(None, Some(Duration::from_millis(300))));
    publisher.send(stream, "x");
    publisher.pass(10 * SECOND - Duration::from_millis(5_000));
    assert_eq!(publisher.resets(), [], "its end is not known");
    publisher.session.end_of_subgroup(stream, publisher.now);
    publisher.session.send(stream, Bytes::new(), true);
    let queued = publisher.session.stream_queued_bytes(stream).unwrap();
    publisher.leave(stream, queued);
    publisher.pass(Duration::from_millis(300));
    // A transport that has had the acknowledgement does nothing.
    assert_eq!(publisher.resets(), [(stream, ResetCode::DELIVERY_TIMEOUT.0)]);
}

#[test]
fn a_timed_track_gives_up_its_least_important_and_oldest() {
    let mut publisher = Publisher::new();
    let open = |publisher: &mut Publisher, group: u64, publisher_priority: u8| {
        let delivery = Delivery { publisher_priority, ..timed(Some(60 * SECOND), None) };
        let stream = publisher.open(group, &delivery);
        publisher.send(stream, &"x".repeat(300 << 10));
        stream
    };
    assert!(!publisher.is_behind());
    let important = open(&mut publisher, 1, 10);
    let oldest = open(&mut publisher, 2, 200);
    let newest = open(&mut publisher, 3, 200);
    assert!(!publisher.is_behind());
    assert_eq!(publisher.resets(), [(oldest, ResetCode::DELIVERY_TIMEOUT.0)]);
    assert!(publisher.session.stream_queued_bytes(important).is_some());
    assert!(publisher.session.stream_queued_bytes(newest).is_some());
    assert!(publisher.session.accounts_add_up());
}

#[test]
fn a_timed_track_that_nobody_takes_ends_too() {
    let mut publisher = Publisher::new();
    let delivery = timed(Some(Duration::from_millis(50)), None);
    let mut seconds = 0;
    while !publisher.told_behind() {
        assert!(seconds < 30, "it goes on for ever");
        for group in 0..10 {
            publisher.is_behind();
            let stream = publisher.open(seconds * 10 + group, &delivery);
            publisher.send(stream, "x");
            publisher.pass(Duration::from_millis(100));
        }
        seconds += 1;
    }
    assert!(6 < seconds, "{seconds}");
}

#[test]
fn an_update_of_the_priority_moves_open_streams() {
    let mut publisher = Publisher::new();
    let stream = publisher.open(1, &Delivery::default());
    publisher.resets();
    publisher.session.set_subscriber_priority(publisher.subscription, 3);
    let action = publisher.session.poll_action();
    assert!(
        matches!(action, Some(Action::Prioritize { stream: moved, precedence })
            if moved == stream && precedence.subscriber_priority == 3),
        "{action:?}"
    );
}

#[test]
fn streams_stand_in_the_drafts_order() {
    let mut publisher = Publisher::new();
    let header = SubgroupHeader { subgroup: SubgroupMode::Explicit(SubgroupId(4)), ..header(1, 9) };
    let delivery = Delivery { publisher_priority: 7, ..Delivery::default() };
    publisher.session.open_subgroup(publisher.subscription, &header, &delivery).unwrap();
    let set =
        std::iter::from_fn(|| publisher.session.poll_action()).find_map(|action| match action {
            Action::Prioritize { precedence, .. } => Some(precedence),
            _ => None,
        });
    let precedence = set.unwrap();
    assert_eq!((precedence.subscriber_priority, precedence.publisher_priority), (128, 7));
    assert_eq!(precedence.request, publisher.subscription);
}

#[test]
fn a_peer_that_never_reads_answers_is_left() {
    let mut publisher = Publisher::new();
    // The answer to an update waits, and waits.
    publisher.session.state_notify(publisher.subscription, Parameters::default());
    publisher.pass(29 * SECOND);
    assert!(!publisher.session.is_closed());
    publisher.pass(3 * SECOND);
    assert!(publisher.session.is_closed());
    let mut config = Config::default();
    config.delivery.message_bytes_max = 100_000;
    let mut publisher = Publisher::with(config);
    while !publisher.session.is_closed() {
        publisher.session.state_notify(publisher.subscription, Parameters::default());
        assert!(publisher.session.account().total() < 101_000);
    }
}

#[test]
fn more_than_half_of_500_requests_reset_at_once_ends_the_session() {
    let flood = |resets_of_10: u64| {
        let mut victim = Victim::established(Side::Server, Version::Draft22);
        for number in 0..600 {
            let subscribe = Subscribe {
                request_id: RequestId(number * 2),
                track: track("t"),
                parameters: Parameters::default(),
            };
            let stream = StreamId::new(Side::Client, true, number);
            victim.message(stream, &Message::Subscribe(subscribe));
            if number % 10 < resets_of_10 {
                victim.session.handle_reset(stream, 1, victim.now);
            }
        }
        victim.session.is_closed()
    };
    assert!(!flood(5));
    assert!(flood(6));
}

#[test]
fn publish_done_says_how_far_behind() {
    let mut pair = Pair::new(Version::Draft22);
    let parameters = Parameters::default().with(Parameter::SubscriberPriority(1));
    let request = pair.client.subscribe(track("t"), parameters).unwrap();
    pair.server_events();
    let (parameters, properties) = (Parameters::default(), Properties::default());
    pair.server.accept_subscribe(request, TrackAlias(1), parameters, properties);
    pair.client_events();
    pair.server.end_behind(request);
    let told = pair.client_events();
    assert!(
        matches!(told.last(), Some(Event::PublishDone { body, .. })
            if body.code == PublishDoneCode::TOO_FAR_BEHIND),
        "{told:?}"
    );
}
