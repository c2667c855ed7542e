//! A relay that has no descriptor left.

use std::{
    io,
    net::TcpStream,
    time::{Duration, Instant},
};

use super::{
    agent::{Agent, Command, Group, PATIENCE, Role, Told},
    case::Scale,
    delivery::{ANY, Deliveries},
    figure::{Figure, Goal},
    relay::{Relay, target},
};

/// Descriptors that the relay may have.
const DESCRIPTORS: u32 = 64;
/// How long its processor time is watched.
const WATCH: Duration = Duration::from_secs(2);

/// All descriptors are taken by connections to the admin endpoint; objects flow on.
pub(super) fn exhaustion(_: Scale) -> io::Result<Vec<Figure>> {
    let case = "exhaustion";
    let relay = Relay::start_with_few_descriptors(ANY, DESCRIPTORS)?;
    let publisher = Agent::new(Role::Publisher, vec![target(relay.address())]);
    publisher.wait("announcements", 1, |told| matches!(told, Told::Announced(_)))?;
    let subscriber = Agent::new(Role::Subscriber, vec![target(relay.address())]);
    subscriber.wait("sessions", 1, |told| matches!(told, Told::Established(_)))?;
    subscriber.tell(Command::Subscribe(0));
    subscriber.wait("subscriptions", 1, |told| matches!(told, Told::Accepted(..)))?;

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
