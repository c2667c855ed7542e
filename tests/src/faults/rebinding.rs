//! Sessions whose clients' addresses change under way.

use std::{
    io,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use super::{
    agent::{Agent, Command, Group, PATIENCE, Role, Told},
    case::Scale,
    delivery::{ANY, Deliveries, runtime},
    figure::{Figure, Goal},
    proxy::{Proxy, Weather},
    relay::{Relay, target},
};

/// Time between two changes of one address.
const EVERY: Duration = Duration::from_millis(500);

/// Every session gets new addresses while objects flow.
pub(super) fn rebinding(scale: Scale) -> io::Result<Vec<Figure>> {
    let case = "rebinding";
    let count = scale.rebinding_sessions;
    let runtime = runtime()?;
    let relay = Relay::start(ANY, &[])?;
    let publisher = Agent::new(Role::Publisher, vec![target(relay.address())]);
    publisher.wait("announcements", 1, |told| matches!(told, Told::Announced(_)))?;
    let proxies = (0..count as u64)
        .map(|seed| Proxy::new(&runtime, relay.address(), seed, Weather::default()))
        .collect::<io::Result<Vec<_>>>()?;
    let targets = proxies.iter().map(|proxy| target(proxy.address())).collect();
    let subscribers = Agent::new(Role::Subscriber, targets);
    subscribers.wait("sessions", count, |told| matches!(told, Told::Established(_)))?;
    subscribers.tell(Command::Subscribe(0));
    subscribers.wait("subscriptions", count, |told| matches!(told, Told::Accepted(..)))?;

    for proxy in &proxies {
        proxy.turn(Weather { rebind_every: Some(EVERY), ..Weather::default() });
    }
    let mut deliveries = Deliveries::default();
    let (mut sent, began, mut lost) = (0, Instant::now(), 0_u64);
    let rebound = |proxy: &Proxy| proxy.befallen().rebound.load(Ordering::Relaxed);
    let mut note = |told: Told| {
        lost += u64::from(matches!(told, Told::Closed(..)));
        deliveries.note(&told)
    };
    while proxies.iter().any(|proxy| rebound(proxy) < scale.rebinds) && began.elapsed() < PATIENCE {
        publisher.tell(Command::Publish(0, vec![Group { id: sent, objects: 1, length: 500 }]));
        sent += 1;
        subscribers.listen(Duration::from_millis(50), |told| {
            note(told);
            false
        });
    }
    for proxy in &proxies {
        proxy.turn(Weather::default());
    }
    publisher.tell(Command::Publish(0, vec![Group { id: sent, objects: 1, length: 500 }]));
    sent += 1;
    let expected = sent * count as u64;
    subscribers.listen(PATIENCE, |told| expected <= note(told));
    let least = proxies.iter().map(rebound).min().unwrap_or_default();
    let migrations = relay.metric("aip_migrations_total")?;
    #[expect(clippy::cast_precision_loss, reason = "counts of a test are small")]
    let (goal, rebinds) = (count as f64, scale.rebinds as f64);
    let survivors = (count as u64).saturating_sub(lost);
    let what = format!("sessions alive of {count}");
    let mut figures = vec![
        Figure::count(case, what, survivors, Goal::AtLeast(goal)),
        Figure::count(case, "fewest changes of one address", least, Goal::AtLeast(rebinds)),
    ];
    let what = "migrations that the relay counted".to_owned();
    figures.push(Figure { case, what, value: migrations, unit: "", goal: Goal::None });
    figures.extend(deliveries.figures(case, "meanwhile", expected));
    Ok(figures)
}
