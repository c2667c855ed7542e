//! What is noticed, and how soon, when somebody dies without a word.

use std::{
    io::{self, BufRead as _, BufReader},
    process::{Child, Command as Process, Stdio},
    time::{Duration, Instant},
};

use super::{
    agent::{Agent, Command, Group, PATIENCE, Role, Told},
    case::Scale,
    delivery::{ANY, Deliveries, runtime},
    figure::{Figure, Goal},
    proxy::{Proxy, Weather},
    relay::{Relay, StateDirectory, program, target},
};

fn seconds(case: &'static str, what: &str, since: Instant, came: bool, most: f64) -> Figure {
    let value = if came { since.elapsed().as_secs_f64() } else { f64::INFINITY };
    Figure { case, what: what.to_owned(), value, unit: "s", goal: Goal::AtMost(most) }
}

/// A publisher in a process of its own. Dropping it kills it.
struct PublisherProcess(Child);

impl PublisherProcess {
    fn start(relay: &Relay) -> io::Result<Self> {
        let mut child = Process::new(program("faults")?)
            .args(["publisher", &relay.address().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or_else(|| io::Error::other("no stdout"))?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        if line == "announced\n" { Ok(Self(child)) } else { Err(io::Error::other(line)) }
    }
}

impl Drop for PublisherProcess {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A subscriber with a subscription.
fn subscriber(relay: &Relay) -> io::Result<Agent> {
    let agent = Agent::new(Role::Subscriber, vec![target(relay.address())]);
    agent.wait("sessions", 1, |told| matches!(told, Told::Established(_)))?;
    agent.tell(Command::Subscribe(0));
    agent.wait("subscriptions", 1, |told| matches!(told, Told::Accepted(..)))?;
    Ok(agent)
}

/// A publisher dies: its host is gone, or its process is killed.
pub(super) fn publisher(_: Scale) -> io::Result<Vec<Figure>> {
    let case = "publisher";
    let runtime = runtime()?;
    let relay = Relay::start(ANY, &[])?;
    let proxy = Proxy::new(&runtime, relay.address(), 1, Weather::default())?;
    let first = Agent::new(Role::Publisher, vec![target(proxy.address())]);
    first.wait("announcements", 1, |told| matches!(told, Told::Announced(_)))?;
    let told = subscriber(&relay)?;
    proxy.turn(Weather::GONE);
    let began = Instant::now();
    let is_end = |told: Told| matches!(told, Told::Ended(..));
    let came = told.listen(PATIENCE, is_end);
    let mut figures = vec![seconds(case, "silent: until its subscriber is told", began, came, 6.0)];

    let killed = PublisherProcess::start(&relay)?;
    told.tell(Command::Subscribe(1));
    told.wait("subscriptions", 1, |told| matches!(told, Told::Accepted(_, 1)))?;
    drop(killed);
    let began = Instant::now();
    let came = told.listen(PATIENCE, is_end);
    figures.push(seconds(case, "SIGKILL: until its subscriber is told", began, came, 6.0));

    // Another one serves at once.
    let second = Agent::new(Role::Publisher, vec![target(relay.address())]);
    second.wait("announcements", 1, |told| matches!(told, Told::Announced(_)))?;
    let began = Instant::now();
    told.tell(Command::Subscribe(2));
    let came = told.listen(PATIENCE, |told| matches!(told, Told::Accepted(_, 2)));
    figures.push(seconds(case, "another one: until it serves", began, came, 1.0));
    Ok(figures)
}

/// A subscriber dies beside another one.
pub(super) fn dying_subscriber(_: Scale) -> io::Result<Vec<Figure>> {
    let case = "subscriber";
    let runtime = runtime()?;
    let relay = Relay::start(ANY, &[])?;
    let publisher = Agent::new(Role::Publisher, vec![target(relay.address())]);
    publisher.wait("announcements", 1, |told| matches!(told, Told::Announced(_)))?;
    let healthy = subscriber(&relay)?;
    let proxy = Proxy::new(&runtime, relay.address(), 2, Weather::default())?;
    let dying = Agent::new(Role::Subscriber, vec![target(proxy.address())]);
    dying.wait("sessions", 1, |told| matches!(told, Told::Established(_)))?;
    dying.tell(Command::Subscribe(0));
    dying.wait("subscriptions", 1, |told| matches!(told, Told::Accepted(..)))?;
    proxy.turn(Weather::GONE);
    let began = Instant::now();
    let mut deliveries = Deliveries::default();
    let (mut sent, mut gone) = (0, false);
    while !gone && began.elapsed() < PATIENCE {
        publisher.tell(Command::Publish(0, vec![Group { id: sent, objects: 1, length: 1_000 }]));
        sent += 1;
        deliveries.await_from(&healthy, Duration::from_millis(50), sent);
        gone = relay.metric("aip_subscriptions")? == 1.0;
    }
    let mut figures = vec![seconds(case, "until it is forgotten", began, gone, 7.0)];
    deliveries.await_from(&healthy, PATIENCE, sent);
    figures.extend(deliveries.figures(case, "the other one", sent));
    Ok(figures)
}

/// A relay is killed in the midst of its work, and starts again on its port.
pub(super) fn relay(_: Scale) -> io::Result<Vec<Figure>> {
    let case = "relay";
    let state = StateDirectory::new()?;
    let folder = state.of("relay");
    let arguments = ["--state-directory", &folder];
    let mut relay = Relay::start(ANY, &arguments)?;
    let publisher = Agent::new(Role::Publisher, vec![target(relay.address())]);
    publisher.wait("announcements", 1, |told| matches!(told, Told::Announced(_)))?;
    let told = subscriber(&relay)?;
    publisher.tell(Command::Publish(0, vec![Group { id: 0, objects: 10, length: 1_000 }]));
    let is_object = |told: &Told| matches!(told, Told::Object { .. });
    told.wait("objects", 10, is_object)?;

    let address = relay.address();
    relay.kill()?;
    let relay = Relay::start(address, &arguments)?;
    let began = Instant::now();
    publisher.tell(Command::Publish(0, vec![Group { id: 1, objects: 10, length: 1_000 }]));
    let is_closed = |told: Told| matches!(told, Told::Closed(..));
    let came = publisher.listen(PATIENCE, is_closed);
    let mut figures = vec![seconds(case, "restarted: until who sends is told", began, came, 0.5)];
    let came = told.listen(PATIENCE, is_closed);
    figures.push(seconds(case, "restarted: until who only listens is told", began, came, 0.5));
    publisher.wait("announcements", 1, |told| matches!(told, Told::Announced(_)))?;
    figures.push(seconds(case, "restarted: until the publisher is back", began, true, 5.0));
    let resets = relay.metric("aip_stateless_resets_total")?;
    let what = "stateless resets sent".to_owned();
    figures.push(Figure { case, what, value: resets, unit: "", goal: Goal::None });
    Ok(figures)
}
