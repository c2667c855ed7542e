//! A relay that has no descriptor left, or no memory.

use std::{
    io,
    net::TcpStream,
    time::{Duration, Instant},
};

use super::{
    agent::{Agent, Command, Group, PATIENCE, Role, Told},
    case::Scale,
    delivery::{ANY, Deliveries, agents},
    figure::{Figure, Goal},
    relay::{Memory, Relay, target},
};

/// Descriptors that the relay may have.
const DESCRIPTORS: u32 = 64;
/// Memory that the relay may have.
const MEMORY: u64 = 128 << 20;
/// Sessions that come at once, and how many at most.
const CROWD: usize = 100;
const CROWDS_MAX: usize = 60;
/// How long its processor time is watched.
const WATCH: Duration = Duration::from_secs(2);

/// All descriptors are taken by connections to the admin endpoint; objects flow on.
pub(super) fn exhaustion(_: Scale) -> io::Result<Vec<Figure>> {
    let case = "exhaustion";
    let relay = Relay::start_with_few_descriptors(ANY, DESCRIPTORS)?;
    let (publisher, subscriber) = agents(&relay, 1)?;

    let taken: Vec<_> = (0..DESCRIPTORS * 2).map(|_| TcpStream::connect(relay.admin())).collect();
    let began = Instant::now();
    let ticks = relay.processor_ticks()?;
    let (descriptors, _) = relay.descriptors_and_threads()?;
    let mut deliveries = Deliveries::default();
    let mut sent = 0;
    while began.elapsed() < WATCH {
        publisher.tell(Command::Publish(0, vec![Group { id: sent, objects: 1, length: 500 }]));
        sent += 1;
        deliveries.await_from(&subscriber, Duration::from_millis(100), sent);
        // Not as fast as it goes, so that what is left to do is next to nothing.
        subscriber.listen(Duration::from_millis(20), |_| false);
    }
    #[expect(clippy::cast_precision_loss, reason = "hundredths of a second of two seconds")]
    let busy = (relay.processor_ticks()? - ticks) as f64 / began.elapsed().as_secs_f64();
    deliveries.await_from(&subscriber, PATIENCE, sent);
    let mut figures = deliveries.figures(case, "meanwhile", sent);
    let what = "processor time while nothing is left".to_owned();
    figures.push(Figure { case, what, value: busy, unit: "%", goal: Goal::AtMost(50.0) });
    figures.push(Figure::count(case, "descriptors taken", descriptors as u64, Goal::None));
    drop(taken);
    let began = Instant::now();
    let mut served = false;
    while !served && began.elapsed() < PATIENCE {
        served = relay.get("/healthz").is_ok_and(|body| body == "ok\n");
    }
    let value = if served { began.elapsed().as_secs_f64() } else { f64::INFINITY };
    let what = "until it answers again".to_owned();
    figures.push(Figure { case, what, value, unit: "s", goal: Goal::AtMost(10.0) });
    Ok(figures)
}

/// Sessions come until the relay takes no more; objects flow on, and when they have gone others may
/// come.
pub(super) fn memory(_: Scale) -> io::Result<Vec<Figure>> {
    let case = "memory";
    let (relay, memory) = Relay::start_with_little_memory(ANY, MEMORY)?;
    let (publisher, subscriber) = agents(&relay, 1)?;
    let mut deliveries = Deliveries::default();
    let mut sent = 0;
    let mut exchange = |deliveries: &mut Deliveries| {
        publisher.tell(Command::Publish(0, vec![Group { id: sent, objects: 1, length: 100_000 }]));
        sent += 1;
        deliveries.await_from(&subscriber, PATIENCE, sent);
        sent
    };
    let (mut crowds, mut most, mut short) = (Vec::new(), 0, false);
    while !short && crowds.len() < CROWDS_MAX {
        let crowd = Agent::new(Role::Subscriber, vec![target(relay.address()); CROWD]);
        let mut up = 0;
        crowd.listen(Duration::from_secs(3), |told| {
            up += usize::from(matches!(told, Told::Established(_)));
            up == CROWD
        });
        crowds.push(crowd);
        exchange(&mut deliveries);
        most = most.max(relay.resident_memory()?);
        short = 0.0 < relay.metric("aip_memory_short")?;
    }
    // Whoever asks for more now is not let in.
    for _ in 0..20 {
        exchange(&mut deliveries);
        most = most.max(relay.resident_memory()?);
    }
    let refused = relay.await_metric("aip_handshakes_refused_total", |refused| 0.0 < refused)?;
    let sessions = relay.metric("aip_sessions")?;
    drop(crowds);
    let began = Instant::now();
    relay.await_metric("aip_memory_short", |short| short == 0.0)?;
    let later = Agent::new(Role::Subscriber, vec![target(relay.address())]);
    later.wait("sessions", 1, |told| matches!(told, Told::Established(_)))?;
    let again = began.elapsed().as_secs_f64();
    let expected = exchange(&mut deliveries);
    let mut figures = deliveries.figures(case, "meanwhile", expected);
    let mut tell = |what: &str, value, unit, goal| {
        figures.push(Figure { case, what: what.to_owned(), value, unit, goal });
    };
    let is_bounded = f64::from(u8::from(matches!(memory, Memory::Group(_))));
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    tell("whether the system would kill it", is_bounded, "", Goal::None);
    tell("sessions when it was short", sessions, "", Goal::None);
    tell("handshakes refused", refused, "", Goal::AtLeast(1.0));
    tell("the most that it had", mib(most), "MiB", Goal::AtMost(mib(MEMORY)));
    tell("until a session is let in after the others have gone", again, "s", Goal::AtMost(15.0));
    drop(relay);
    drop(memory);
    Ok(figures)
}
