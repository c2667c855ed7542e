//! What stays in a relay of what went through it.

use std::io;

use super::{
    agent::{Agent, Command, Group, PATIENCE, Role, Told},
    case::Scale,
    delivery::{ANY, Deliveries},
    figure::{Figure, Goal},
    relay::{Relay, target},
};

/// Groups that are under way at once.
const UNDER_WAY: u64 = 50;
/// Times that the relay is looked at.
const SAMPLES: u64 = 200;
/// What a relay may hold besides its cache.
const BESIDES_CACHE: f64 = (64 << 20) as f64;

/// Memory, descriptors and threads of a relay after so many groups.
struct Sample {
    groups: f64,
    memory: f64,
    descriptors: usize,
    threads: usize,
}

/// Many groups, one after the other, to one subscriber.
pub(super) fn soak(scale: Scale) -> io::Result<Vec<Figure>> {
    let case = "soak";
    let relay = Relay::start(ANY, &[])?;
    let publisher = Agent::new(Role::Publisher, vec![target(relay.address())]);
    publisher.wait("announcements", 1, |told| matches!(told, Told::Announced(_)))?;
    let subscriber = Agent::new(Role::Subscriber, vec![target(relay.address())]);
    subscriber.wait("sessions", 1, |told| matches!(told, Told::Established(_)))?;
    subscriber.tell(Command::Subscribe(0));
    subscriber.wait("subscriptions", 1, |told| matches!(told, Told::Accepted(..)))?;

    let every = (scale.soak_groups / SAMPLES).max(UNDER_WAY);
    let mut samples = Vec::new();
    let (mut sent, mut heard, mut lost) = (0, 0, 0);
    while sent < scale.soak_groups && lost == 0 {
        let groups = (sent..sent + UNDER_WAY).map(|id| Group { id, objects: 1, length: 200 });
        publisher.tell(Command::Publish(0, groups.collect()));
        sent += UNDER_WAY;
        // Each batch by itself, so that the test does not remember more than that.
        let mut deliveries = Deliveries::default();
        subscriber.listen(PATIENCE, |told| deliveries.note(&told) == UNDER_WAY);
        let came = deliveries.count();
        heard += came;
        lost += UNDER_WAY - came;
        if sent % every < UNDER_WAY {
            samples.push(sample(&relay, sent)?);
        }
    }
    let what = format!("lost of {sent}");
    let mut figures = vec![Figure::count(case, what, sent - heard, Goal::AtMost(0.0))];
    let last_quarter = &samples[samples.len() * 3 / 4..];
    let slope_goal = if scale.has_slope { Goal::AtMost(64.0) } else { Goal::None };
    figures.push(Figure {
        case,
        what: "memory for each group, last quarter".to_owned(),
        value: slope(last_quarter),
        unit: "B",
        goal: slope_goal,
    });
    if let (Some(first), Some(last)) = (last_quarter.first(), last_quarter.last()) {
        let cache = relay.metric("aip_cache_limit_bytes")?;
        let goal = Goal::AtMost(cache + BESIDES_CACHE);
        let what = "memory at the end".to_owned();
        figures.push(Figure { case, what, value: last.memory, unit: "B", goal });
        let more = |now: usize, before: usize| now.saturating_sub(before) as u64;
        let descriptors = more(last.descriptors, first.descriptors);
        figures.push(Figure::count(case, "more descriptors", descriptors, Goal::AtMost(0.0)));
        let threads = more(last.threads, first.threads);
        figures.push(Figure::count(case, "more threads", threads, Goal::AtMost(0.0)));
    }
    Ok(figures)
}

#[expect(clippy::cast_precision_loss, reason = "memory and counts of a test")]
fn sample(relay: &Relay, groups: u64) -> io::Result<Sample> {
    let (descriptors, threads) = relay.descriptors_and_threads()?;
    let memory = relay.resident_memory()? as f64;
    Ok(Sample { groups: groups as f64, memory, descriptors, threads })
}

/// Bytes for each group, by least squares.
#[expect(clippy::cast_precision_loss, reason = "a few samples")]
fn slope(samples: &[Sample]) -> f64 {
    let count = samples.len() as f64;
    let mean = |value: fn(&Sample) -> f64| samples.iter().map(value).sum::<f64>() / count;
    let (groups, memory) = (mean(|it| it.groups), mean(|it| it.memory));
    let with: f64 = samples.iter().map(|it| (it.groups - groups) * (it.memory - memory)).sum();
    let of: f64 = samples.iter().map(|it| (it.groups - groups).powi(2)).sum();
    if of == 0.0 { 0.0 } else { with / of }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leak_is_a_slope() {
        let at = |groups: f64, memory| Sample { groups, memory, descriptors: 1, threads: 1 };
        let leaking: Vec<_> = (0..10).map(f64::from).map(|it| at(it, 5.0 + it * 9_000.0)).collect();
        assert!((slope(&leaking) - 9_000.0).abs() < 1e-6);
        assert!(slope(&[at(1.0, 7.0), at(2.0, 7.0)]).abs() < 1e-9);
        assert!(slope(&[]).abs() < 1e-9);
    }
}
