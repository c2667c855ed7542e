//! aip-load beside load generators that others wrote, on the same target in one run.

#[expect(clippy::disallowed_methods, reason = "its threads and its clock are all that it is")]
mod delay;
pub mod tool;
pub mod verdict;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use self::{delay::Delay, tool::Tool, verdict::Figures};

/// How long a target may take until it listens.
const START: Duration = Duration::from_secs(20);
/// Where the HTTP server listens, the relay, and its admin endpoint.
const HTTP: u16 = 17_990;
const RELAY: u16 = 17_991;
const ADMIN: u16 = 17_992;
/// Where the relay is reached by a longer way, and by how much.
const FAR_RELAY: u16 = 17_993;
const FARTHER: Duration = Duration::from_millis(20);

/// What is run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where `aip-load`, `aip-relay` and `examples/waiting_server` are.
    pub programs: PathBuf,
    /// Where other people's tools are installed.
    pub tools: PathBuf,
    /// Rounds; each runs every tool and ours beside it.
    pub rounds: usize,
    /// Measured seconds of each.
    pub seconds: u32,
}

/// A process that ends with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

impl Plan {
    /// Runs each of these tools, and ours beside it, round by round. `say` is told what goes on.
    ///
    /// # Errors
    /// Why a program does not run, in words.
    pub fn run(&self, tools: &[Tool], mut say: impl FnMut(&str)) -> Result<Figures, String> {
        let mut targets = Vec::new();
        let mut way = None;
        if tools.iter().any(|tool| *tool != Tool::Aiomoqt) {
            let program = self.programs.join("examples/waiting_server");
            let mut command = Command::new(program);
            targets.push(start(command.arg(format!("127.0.0.1:{HTTP}")), HTTP)?);
        }
        if tools.contains(&Tool::Aiomoqt) {
            let mut command = Command::new(self.programs.join("aip-relay"));
            command.args(["--dev-cert", "--open", "--listen", &format!("127.0.0.1:{RELAY}")]);
            command.args(["--admin", &format!("127.0.0.1:{ADMIN}")]);
            targets.push(start(&mut command, ADMIN)?);
            let relay = SocketAddr::from((Ipv4Addr::LOCALHOST, RELAY));
            let taken = |error| format!("port {FAR_RELAY}: {error}");
            way = Some(Delay::start(FAR_RELAY, relay, FARTHER).map_err(taken)?);
        }
        let mut figures = Figures::default();
        for round in 1..=self.rounds {
            for tool in tools {
                say(&format!("round {round} of {}: {}", self.rounds, tool.name()));
                tool.measure(self, round, &mut figures)?;
            }
        }
        drop(way);
        Ok(figures)
    }
}

/// Starts a target, and waits until it listens on a TCP port of this machine.
#[expect(clippy::disallowed_methods, reason = "the kernel tells nobody when a port is bound")]
fn start(command: &mut Command, port: u16) -> Result<Running, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let wrong = |error: io::Error| format!("{name} does not start: {error}");
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().map_err(wrong)?;
    let mut running = Running(child);
    let deadline = Instant::now() + START;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if let Ok(Some(status)) = running.0.try_wait() {
            return Err(format!("{name} ended with {status}"));
        }
        if deadline <= Instant::now() {
            return Err(format!("{name} does not listen"));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(running)
}
