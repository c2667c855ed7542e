//! Subscribers that stand still: G4 memory, G5 who is told, G6 who notices nothing.

use std::{
    path::Path,
    sync::OnceLock,
    time::{Duration, Instant},
};

use aip_codec::moqt::{
    error_code::PublishDoneCode,
    name::{FullTrackName, TrackNamespace},
    parameter::Parameters,
};
use aip_engine::{
    io::Quic,
    session::{Event, Response},
};
use aip_tests::sim::peer::Subgroup;
use bytes::{BufMut as _, Bytes, BytesMut};

use crate::{
    Figure,
    crowd::{Clients, Crowd},
    mib, p99,
    relay::Relay,
};

/// Bytes of a group, 16 of them a second: 1 MiB a second.
const GROUP: usize = 64 << 10;
const PACE: Duration = Duration::from_micros(62_500);

/// Milliseconds are counted from here on.
pub(crate) fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}

pub(crate) fn track() -> FullTrackName {
    FullTrackName::new(TrackNamespace::new(["live"]).unwrap(), Bytes::from("t")).unwrap()
}

/// A publisher and a subscriber that reads all.
pub(crate) struct Live {
    publisher: Crowd,
    pub(crate) reader: Crowd,
    /// Bytes of a group.
    size: usize,
    next: u64,
}

impl Live {
    pub(crate) fn new(port: u16, size: usize) -> Self {
        let publisher = Crowd::new(port, 1, Quic::default());
        publisher.connected(1);
        publisher.ask(|clients| {
            let peer = clients.peers.values_mut().next().unwrap();
            let namespace = TrackNamespace::new(["live"]).unwrap();
            peer.session().publish_namespace(namespace, Parameters::default()).unwrap();
        });
        let reader = Crowd::new(port, 1, Quic::default());
        subscribe(&reader, 1, Some(&publisher));
        Self { publisher, reader, size, next: 0 }
    }

    /// Publishes for a while; calls `look` between groups.
    pub(crate) fn publish(&mut self, time: Duration, mut look: impl FnMut()) {
        let begun = Instant::now();
        while begun.elapsed() < time {
            let group = self.next;
            self.next += 1;
            let mut payload = BytesMut::with_capacity(self.size);
            payload.put_u64(u64::try_from(epoch().elapsed().as_nanos()).unwrap());
            payload.resize(self.size, 7);
            let payload = payload.freeze();
            self.publisher.ask(move |clients| {
                let peer = clients.peers.values_mut().next().unwrap();
                let subgroup = Subgroup::new(7, group);
                peer.send_subgroup(aip_codec::moqt::id::RequestId(1), &subgroup, &[(0, payload)]);
            });
            look();
            std::thread::sleep(PACE);
        }
    }

    /// How long each group took to the reader since last asked; and how many are lost.
    pub(crate) fn latencies(&self, published: u64) -> (Vec<Duration>, u64) {
        std::thread::sleep(Duration::from_millis(500));
        let times = self.reader.ask(|clients| {
            let times = clients.heard.iter().filter_map(|(_, at, event)| match event {
                Event::Object { object, .. } if 8 <= object.payload.len() => {
                    let sent = u64::from_be_bytes(object.payload[..8].try_into().unwrap());
                    Some(at.duration_since(epoch()).saturating_sub(Duration::from_nanos(sent)))
                }
                _ => None,
            });
            let times: Vec<Duration> = times.collect();
            clients.heard.clear();
            times
        });
        let lost = published.saturating_sub(times.len() as u64);
        (times, lost)
    }

    pub(crate) const fn published(&self) -> u64 {
        self.next
    }
}

/// Lets all of a crowd subscribe; the publisher accepts if it is asked.
fn subscribe(crowd: &Crowd, count: usize, publisher: Option<&Crowd>) {
    crowd.connected(count);
    crowd.ask(|clients| {
        for peer in clients.peers.values_mut() {
            peer.session().subscribe(track(), Parameters::default()).unwrap();
        }
    });
    if let Some(publisher) = publisher {
        let accepted = publisher.wait(Duration::from_secs(10), |clients| {
            let asked = clients.heard.iter().find_map(|(_, _, event)| match event {
                Event::Request { request, .. } => Some(*request),
                _ => None,
            })?;
            let peer = clients.peers.values_mut().next()?;
            peer.accept_subscribe(asked, 7, Parameters::default());
            Some(())
        });
        assert!(accepted.is_some(), "the relay does not ask the publisher");
    }
    let established = crowd.wait(Duration::from_secs(10), move |clients| {
        let ok = clients.heard.iter().filter(|(_, _, event)| {
            matches!(event, Event::Response { body: Response::SubscribeOk(_), .. })
        });
        (ok.count() == count).then_some(())
    });
    assert!(established.is_some(), "not all subscriptions are accepted");
}

/// Those who were told that they are too far behind, and when the last of them was.
fn told(clients: &mut Clients) -> (usize, Option<Instant>) {
    let told = clients.heard.iter().filter_map(|(_, at, event)| match event {
        Event::PublishDone { body, .. } if body.code == PublishDoneCode::TOO_FAR_BEHIND => {
            Some(*at)
        }
        _ => None,
    });
    let told: Vec<Instant> = told.collect();
    (told.len(), told.into_iter().max())
}

/// Half of a stalled crowd only acknowledge, half give no stream credit.
fn stalled(port: u16, count: usize) -> [Crowd; 2] {
    let mut only_acks = Quic::default();
    only_acks.stream_window = 32 << 10;
    only_acks.stream_window_max = 32 << 10;
    only_acks.connection_window = 128 << 10;
    only_acks.connection_window_max = 128 << 10;
    let mut no_credit = only_acks.clone();
    no_credit.streams_unidirectional_max = 2;
    let crowds = [only_acks, no_credit].map(|quic| Crowd::new(port, count / 2, quic));
    for crowd in &crowds {
        subscribe(crowd, count / 2, None);
        crowd.ask(|clients| clients.peers.values_mut().for_each(|peer| peer.stall(true)));
    }
    crowds
}

pub(crate) fn measure(program: &Path) -> Vec<Figure> {
    let relay = Relay::start(program);
    let mut live = Live::new(relay.port, GROUP);
    live.publish(Duration::from_secs(5), || {});
    let (mut quiet, lost_before) = live.latencies(live.published());
    let before = live.published();
    let (few, mut few_told) = (20, Vec::new());
    let crowds = stalled(relay.port, few);
    let since = Instant::now();
    live.publish(Duration::from_secs(12), || {});
    few_told.extend(crowds.iter().map(|crowd| crowd.ask(told)));
    let (mut beside, lost) = live.latencies(live.published() - before);
    drop(crowds);
    let memory = relay.memory();
    let mut most = memory;
    let many = 100;
    let crowds = stalled(relay.port, many);
    let since_many = Instant::now();
    live.publish(Duration::from_secs(12), || most = most.max(relay.memory()));
    let many_told: Vec<_> = crowds.iter().map(|crowd| crowd.ask(told)).collect();
    let late = |told: &[(usize, Option<Instant>)], since: Instant| {
        let last = told.iter().filter_map(|(_, at)| *at).max();
        last.map_or(f64::NAN, |at| at.duration_since(since).as_secs_f64())
    };
    let count = |told: &[(usize, Option<Instant>)]| {
        told.iter().map(|(count, _)| u32::try_from(*count).unwrap_or(0)).sum::<u32>()
    };
    let quiet = p99(&mut quiet);
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let lost = (lost + lost_before) as f64;
    vec![
        Figure::most(
            "G4 memory growth with 100 stalled subscribers",
            mib(most - memory),
            108.0,
            "MiB",
        ),
        Figure::least(
            "G5 stalled subscribers told 0x5, of 20",
            f64::from(count(&few_told)),
            20.0,
            "",
        ),
        Figure::most("G5 the last of 20 was told after", late(&few_told, since), 10.0, "s"),
        Figure::least(
            "G5 stalled subscribers told 0x5, of 100",
            f64::from(count(&many_told)),
            100.0,
            "",
        ),
        Figure::most("G5 the last of 100 was told after", late(&many_told, since_many), 10.0, "s"),
        Figure::most("G6 groups lost by a reader beside them", lost, 0.0, ""),
        Figure::most(
            "G6 its p99 beside 20 stalled (goal: twice the quiet one)",
            p99(&mut beside),
            2.0 * quiet,
            "ms",
        ),
    ]
}
