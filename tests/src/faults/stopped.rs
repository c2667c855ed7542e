//! A machine that stands still for a while: everything on it, or the relay alone.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    process::{Child, Command as Process, Stdio},
    time::{Duration, Instant},
};

use super::{
    agent::{Agent, Command, Group, PATIENCE, Role, Told},
    case::Scale,
    delivery::{ANY, Deliveries},
    figure::{Figure, Goal},
    relay::{Relay, program, target},
};

/// Time between two groups.
const EVERY: Duration = Duration::from_millis(20);
/// Subscribers of the process beside the relay.
const SUBSCRIBERS: usize = 8;

/// A publisher and subscribers that tell, once their input ends, what came of it.
///
/// # Errors
/// If they do not reach the relay.
pub fn world(relay: SocketAddr) -> io::Result<String> {
    let publisher = Agent::new(Role::Publisher, vec![target(relay)]);
    publisher.wait("announcements", 1, |told| matches!(told, Told::Announced(_)))?;
    let subscribers = Agent::new(Role::Subscriber, vec![target(relay); SUBSCRIBERS]);
    subscribers.wait("sessions", SUBSCRIBERS, |told| matches!(told, Told::Established(_)))?;
    subscribers.tell(Command::Subscribe(0));
    subscribers.wait("subscriptions", SUBSCRIBERS, |told| matches!(told, Told::Accepted(..)))?;
    let mut stdout = io::stdout();
    writeln!(stdout, "begun")?;
    stdout.flush()?;
    let (end, ended) = std::sync::mpsc::channel();
    std::thread::Builder::new().spawn(move || {
        let mut line = String::new();
        drop(io::stdin().read_line(&mut line));
        end.send(()).ok();
    })?;
    let mut deliveries = Deliveries::default();
    let mut sent = 0;
    while ended.try_recv().is_err() {
        publisher.tell(Command::Publish(0, vec![Group { id: sent, objects: 1, length: 500 }]));
        sent += 1;
        subscribers.listen(EVERY, |told| {
            deliveries.note(&told);
            false
        });
    }
    let expected = sent * SUBSCRIBERS as u64;
    deliveries.await_from(&subscribers, Duration::from_secs(10), expected);
    let mut lost_publisher = 0;
    publisher.listen(Duration::ZERO, |told| {
        lost_publisher += u64::from(matches!(told, Told::Closed(..)));
        false
    });
    let figures = deliveries.figures("stopped", "all", expected);
    let values: Vec<String> = figures.iter().map(|figure| figure.value.to_string()).collect();
    Ok(format!("{expected} {} {lost_publisher}", values.join(" ")))
}

/// The process of a `world`. Dropping it kills it.
struct World(Child);

impl World {
    fn start(relay: &Relay) -> io::Result<Self> {
        let mut child = Process::new(program("faults")?)
            .args(["world", &relay.address().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let line = Self::line(&mut child)?;
        if line == "begun\n" { Ok(Self(child)) } else { Err(io::Error::other(line)) }
    }

    fn line(child: &mut Child) -> io::Result<String> {
        let stdout = child.stdout.as_mut().ok_or_else(|| io::Error::other("no stdout"))?;
        let mut line = String::new();
        BufReader::with_capacity(1, stdout).read_line(&mut line)?;
        Ok(line)
    }

    /// Ends it; the numbers that it tells.
    fn end(&mut self) -> io::Result<Vec<f64>> {
        drop(self.0.stdin.take());
        let line = Self::line(&mut self.0)?;
        Ok(line.split_whitespace().filter_map(|word| word.parse().ok()).collect())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Stops processes, or lets them go on.
fn signal(name: &str, processes: &[u32]) -> io::Result<()> {
    let mut kill = Process::new("kill");
    kill.arg(format!("-{name}")).args(processes.iter().map(u32::to_string));
    if kill.status()?.success() { Ok(()) } else { Err(io::Error::other("kill failed")) }
}

/// Everything is stopped, and goes on; then the relay alone.
pub(super) fn stopped(scale: Scale) -> io::Result<Vec<Figure>> {
    let case = "stopped";
    let relay = Relay::start(ANY, &[])?;
    let mut world = World::start(&relay)?;
    let all = [relay.id(), world.0.id()];
    std::thread::sleep(EVERY * 20);
    signal("STOP", &all)?;
    std::thread::sleep(scale.stop);
    signal("CONT", &all)?;
    // For as long as a session may be silent: what is taken for dead is by then.
    std::thread::sleep(Duration::from_secs(6));
    let told = world.end()?;
    let [expected, lost, changed, doubled, ended, publisher] = told[..] else {
        return Err(io::Error::other(format!("the stopped world tells {told:?}")));
    };
    let most = |what: &str, value| Figure {
        case,
        what: format!("all stopped: {what}"),
        value,
        unit: "",
        goal: Goal::AtMost(0.0),
    };
    let mut figures = vec![
        Figure { goal: Goal::AtLeast(1.0), ..most("deliveries", expected) },
        most("lost", lost),
        most("changed", changed),
        most("doubled", doubled),
        most("sessions or subscriptions lost", ended + publisher),
    ];
    drop(world);

    signal("STOP", &[relay.id()])?;
    std::thread::sleep(scale.stop);
    signal("CONT", &[relay.id()])?;
    let began = Instant::now();
    let client = Agent::new(Role::Publisher, vec![target(relay.address())]);
    let came = client.listen(PATIENCE, |told| matches!(told, Told::Announced(_)));
    figures.push(Figure {
        case,
        what: "the relay stopped: until it serves again".to_owned(),
        value: if came { began.elapsed().as_secs_f64() } else { f64::INFINITY },
        unit: "s",
        goal: Goal::AtMost(1.0),
    });
    Ok(figures)
}
