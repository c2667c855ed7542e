//! A system that does not send.

use std::{
    io,
    time::{Duration, Instant},
};

use super::{
    agent::{Command, Group},
    case::Scale,
    delivery::{ANY, Deliveries, agents},
    figure::{Figure, Goal},
    relay::Relay,
};

/// What the system may say instead of sending.
const ERRORS: [&str; 6] = ["EAGAIN", "ENOBUFS", "ECONNREFUSED", "EMSGSIZE", "EPERM", "ENETUNREACH"];
/// Groups of ten objects.
const GROUPS: u64 = 60;
const OBJECTS: u64 = 10;
const SUBSCRIBERS: usize = 2;
/// Calls in a row that fail for want of memory. Were they made one after the other, it would all be
/// over in milliseconds.
const SHORTAGE: u64 = 400;
/// The first of them. strace counts the calls of each worker on its own, and a busy one sends many
/// groups with one call: so it is soon after the handshakes.
const FIRST_SHORT: u64 = 20;
/// How long everything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Every fourth call fails, then many in a row.
pub(super) fn sends(_: Scale) -> io::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for error in ERRORS {
        let injection = format!("inject=sendmmsg:error={error}:when=40+4");
        figures.extend(under(&format!("{error} now and then"), &injection)?);
    }
    let injection =
        format!("inject=sendmmsg:error=ENOBUFS:when={FIRST_SHORT}..{}", FIRST_SHORT + SHORTAGE);
    figures.extend(under("ENOBUFS for a while", &injection)?);
    if figures.is_empty() {
        let what = "cases left out, as strace cannot watch anyone here";
        figures.push(Figure::count("sends", what, ERRORS.len() as u64 + 1, Goal::None));
    }
    Ok(figures)
}

/// Objects on their way while calls fail.
fn under(what: &str, injection: &str) -> io::Result<Vec<Figure>> {
    let case = "sends";
    let Some(relay) = Relay::start_with_failing_calls(ANY, injection)? else {
        return Ok(Vec::new());
    };
    let (publisher, subscribers) = agents(&relay, SUBSCRIBERS)?;
    let began = Instant::now();
    let ticks = relay.processor_ticks()?;
    for id in 0..GROUPS {
        let group = Group { id, objects: OBJECTS, length: 3_000 };
        publisher.tell(Command::Publish(0, vec![group]));
        // A pace, so that there are many calls.
        publisher.listen(Duration::from_millis(20), |_| false);
    }
    let expected = GROUPS * OBJECTS * SUBSCRIBERS as u64;
    let mut deliveries = Deliveries::default();
    deliveries.await_from(&subscribers, PATIENCE, expected);
    let passed = began.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "hundredths of a second of a minute at most")]
    let busy = (relay.processor_ticks()? - ticks) as f64 / passed;
    let failed =
        relay.metric("aip_udp_send_refused_total")? + relay.metric("aip_udp_send_blocked_total")?;
    let mut figures = deliveries.figures(case, what, expected);
    let figure = |kind: &str, value, unit, goal| {
        let what = format!("{what}: {kind}");
        Figure { case, what, value, unit, goal }
    };
    figures.push(figure("sendings refused or put off", failed, "", Goal::AtLeast(1.0)));
    figures.push(figure("until all was there", passed, "s", Goal::None));
    figures.push(figure("processor time meanwhile", busy, "%", Goal::AtMost(60.0)));
    Ok(figures)
}
