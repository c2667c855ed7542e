//! Relays above that are not there, or not as they should be, and one that then is.

use std::{
    collections::VecDeque,
    io,
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use aip_codec::moqt::error_code::SessionCode;
use aip_engine::{
    io::{Config, Handle, Identity},
    transport::{Action, Closed, Driver, Peer, SessionId, StreamId},
};
use bytes::Bytes;

use super::{
    agent::{Agent, Command, PATIENCE, Role, Told},
    case::Scale,
    delivery::ANY,
    figure::{Figure, Goal},
    relay::{Relay, target},
};

/// How long the relay above is as it should not be.
const LASTS: Duration = Duration::from_secs(8);

/// A server that completes handshakes and never says SETUP.
#[derive(Debug)]
struct Mute {
    /// Whether it hangs up at once.
    hangs_up: bool,
    actions: VecDeque<(SessionId, Action)>,
    draining: bool,
}

impl Driver for Mute {
    type Command = ();

    fn handle_connected(&mut self, session: SessionId, _: Peer, _: Instant) {
        if self.hangs_up {
            let (code, reason) = (SessionCode::INTERNAL_ERROR, String::new());
            self.actions.push_back((session, Action::Close { code, reason }));
        }
    }

    fn handle_stream(&mut self, _: SessionId, _: StreamId, _: Bytes, _: bool, _: Instant) {}
    fn handle_reset(&mut self, _: SessionId, _: StreamId, _: u64, _: Instant) {}
    fn handle_stop(&mut self, _: SessionId, _: StreamId, _: u64, _: Instant) {}
    fn handle_datagram(&mut self, _: SessionId, _: Bytes, _: Instant) {}
    fn handle_sent(&mut self, _: SessionId, _: StreamId, _: usize, _: Instant) {}
    fn handle_closed(&mut self, _: SessionId, _: Closed, _: Instant) {}
    fn handle_unreachable(&mut self, _: usize, _: &str, _: Instant) {}
    fn handle_command(&mut self, (): (), _: Instant) {}

    fn handle_drain(&mut self, _: Instant) {
        self.draining = true;
    }

    fn is_drained(&self) -> bool {
        self.draining
    }

    fn handle_timeout(&mut self, _: Instant) {}

    fn poll_action(&mut self) -> Option<(SessionId, Action)> {
        self.actions.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}

/// What stands at the address of the relay above.
#[expect(dead_code, reason = "each is held for what it does")]
enum Above {
    /// Nothing: the port is closed.
    Nobody,
    /// Packets vanish.
    BlackHole(UdpSocket),
    Mute(Handle<()>),
}

impl Above {
    fn mute(address: SocketAddr, hangs_up: bool) -> io::Result<Self> {
        let config = Config::server(vec![address], Identity::Development)
            .with_drain_timeout(Duration::from_millis(10));
        let mute = move || Mute { hangs_up, actions: VecDeque::new(), draining: false };
        let handle = aip_engine::io::spawn(config, mute).map_err(io::Error::other)?;
        Ok(Self::Mute(handle))
    }

    fn end(self) {
        if let Self::Mute(handle) = self {
            handle.shutdown();
            handle.wait(Duration::from_secs(5));
        }
    }
}

/// One way to be no relay, and then to be one.
fn becomes(
    what: &str,
    above: impl FnOnce(SocketAddr) -> io::Result<Above>,
) -> io::Result<Vec<Figure>> {
    let case = "upstream";
    let address = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
    let above = above(address)?;
    let edge = Relay::start(ANY, &["--insecure", "--upstream", &format!("moqt://{address}")])?;
    let client = Agent::new(Role::Publisher, vec![target(edge.address())]);
    client.wait("announcements", 1, |told| matches!(told, Told::Announced(_)))?;
    std::thread::sleep(LASTS);
    let dials = edge.metric("aip_dials_total")?;
    above.end();
    let began = Instant::now();
    let _relay = Relay::start(address, &[])?;
    // What is published below reaches it.
    let subscriber = Agent::new(Role::Subscriber, vec![target(address)]);
    subscriber.wait("sessions", 1, |told| matches!(told, Told::Established(_)))?;
    let (mut track, mut came) = (0, false);
    while !came && began.elapsed() < PATIENCE {
        track += 1;
        subscriber.tell(Command::Subscribe(track));
        came = subscriber
            .listen(Duration::from_millis(100), |told| matches!(told, Told::Accepted(..)));
    }
    let value = if came { began.elapsed().as_secs_f64() } else { f64::INFINITY };
    let least = Goal::AtLeast(2.0);
    Ok(vec![
        Figure { case, what: format!("{what}: tries in 8 s"), value: dials, unit: "", goal: least },
        Figure {
            case,
            what: format!("{what}: until the relay that comes is used"),
            value,
            unit: "s",
            goal: Goal::AtMost(5.0),
        },
    ])
}

/// Every way to be no relay.
pub(super) fn upstream(_: Scale) -> io::Result<Vec<Figure>> {
    let mut figures = becomes("refuses", |_| Ok(Above::Nobody))?;
    figures.extend(becomes("black hole", |at| UdpSocket::bind(at).map(Above::BlackHole))?);
    figures.extend(becomes("dies before SETUP", |at| Above::mute(at, true))?);
    figures.extend(becomes("says no SETUP", |at| Above::mute(at, false))?);
    Ok(figures)
}
