//! One run: a relay started on its core, the load on the other, what both say at the end.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use aip_load::report::Report;

use super::{
    Plan,
    cell::Cell,
    contestant::{Contestant, Kind},
    outcome::Row,
};
use crate::control::affinity;

/// How long a relay may take until it listens.
const START: Duration = Duration::from_secs(20);
/// The draft that all speak.
const DRAFT: &str = "18";

/// Where runs take place.
#[derive(Debug)]
pub struct Stage<'a> {
    plan: &'a Plan,
    folder: PathBuf,
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

impl<'a> Stage<'a> {
    /// A stage with a certificate of its own in `folder`.
    ///
    /// # Errors
    /// If there can be no certificate.
    pub fn new(plan: &'a Plan, folder: &Path) -> io::Result<Self> {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).map_err(io::Error::other)?;
        // A folder of their own: moq-relay reads its certificate again whenever anything is
        // written beside it, its log included.
        let certificates = folder.join("certificates");
        fs::create_dir_all(&certificates)?;
        fs::write(certificates.join("cert.pem"), made.cert.pem())?;
        fs::write(certificates.join("key.pem"), made.signing_key.serialize_pem())?;
        Ok(Self { plan, folder: folder.to_owned() })
    }

    /// What a relay costs at a cell.
    pub fn measure(&self, contestant: &Contestant, cell: &Cell, round: usize) -> Row {
        let mut row = Row::new(contestant, cell, round);
        let done = if contestant.kind == Kind::Udp {
            self.bare_udp(cell, &mut row)
        } else {
            self.relay(contestant, cell, &mut row)
        };
        row.failed = done.err();
        row
    }

    fn bare_udp(&self, cell: &Cell, row: &mut Row) -> Result<(), String> {
        let plan = self.plan;
        let text = |error: io::Error| error.to_string();
        let output = Command::new(plan.programs.join("aip-control"))
            .arg("udp")
            .args(["--subscribers", &cell.subscribers.to_string()])
            .args(["--size", &cell.size.to_string(), "--rate", &cell.rate.to_string()])
            .args(["--seconds", &plan.seconds.to_string()])
            .args(["--core", &plan.relay_core.to_string()])
            .args(["--load-core", &plan.load_core.to_string()])
            .output()
            .map_err(text)?;
        let cost: serde_json::Value = serde_json::from_slice(&output.stdout)
            .map_err(|_| String::from_utf8_lossy(&output.stderr).trim().to_owned())?;
        row.cpu_microseconds = cost["microseconds_per_delivery"].as_f64();
        row.delivered = cost["deliveries"].as_u64().unwrap_or(0);
        row.expected = row.delivered;
        row.lost_share = cost["lost"].as_f64().unwrap_or(0.0);
        row.relay_share =
            row.cpu_microseconds.unwrap_or(0.0) * row.delivered as f64 / 1e6 / plan.seconds;
        Ok(())
    }

    fn relay(&self, contestant: &Contestant, cell: &Cell, row: &mut Row) -> Result<(), String> {
        let (relay, address) = self.start(contestant)?;
        let report = self.load(&relay, address, cell)?;
        row.rss_peak_bytes = high_water(relay.0.id());
        row.take(&report);
        Ok(())
    }

    /// Bytes that one more session takes that has subscribed and gets nothing.
    ///
    /// # Errors
    /// If the relay does not start, or does not take so many.
    pub fn idle(&self, contestant: &Contestant, sessions: usize) -> Result<f64, String> {
        let sessions = sessions.min(contestant.subscribers_max);
        let resident = |count: usize| {
            let (relay, address) = self.start(contestant)?;
            let cell = Cell { subscribers: count, ..quiet() };
            let report = self.load(&relay, address, &cell)?;
            let usage = report.processes.first().ok_or("the relay was not seen")?;
            Ok::<f64, String>(usage.rss_max_bytes as f64)
        };
        let few = (sessions / 10).max(1);
        Ok((resident(sessions)? - resident(few)?) / (sessions - few).max(1) as f64)
    }

    fn start(&self, contestant: &Contestant) -> Result<(Running, SocketAddr), String> {
        let text = |error: io::Error| format!("{} does not start: {error}", contestant.name);
        let free = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(text)?;
        let address = free.local_addr().map_err(text)?;
        drop(free);
        let program = contestant.program(&self.plan.programs, &self.plan.peers);
        let log = fs::File::create(self.folder.join("log")).map_err(text)?;
        let mut command = contestant.start(&program, address, &self.folder);
        command.current_dir(&self.folder).stdout(Stdio::null()).stderr(log);
        let mut child = Running(pinned(&mut command, self.plan.relay_core).map_err(text)?);
        await_bound(&mut child.0, address.port())
            .map_err(|reason| format!("{reason}: {}", self.last_words()))?;
        Ok((child, address))
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        log.lines().last().unwrap_or("it said nothing").to_owned()
    }

    fn load(&self, relay: &Running, address: SocketAddr, cell: &Cell) -> Result<Report, String> {
        let json = self.folder.join("report.json");
        // One of before is none of this run.
        _ = fs::remove_file(&json);
        let mut command = Command::new(self.plan.programs.join("aip-load"));
        command
            .args(["relay", "--quiet", "--insecure", "--draft", DRAFT])
            .args(["--relay", &format!("moqt://{address}")])
            .args(["--size", &cell.size.to_string(), "--group", &cell.group.to_string()])
            .args(["--arrivals", &format!("constant:{}", cell.rate)])
            .args(["--subscribers", &cell.subscribers.to_string()])
            .args(["--warm-up", "1s", "--cool-down", "200ms", "--setup", "40s"])
            .args(["--duration", &format!("{}ms", (self.plan.seconds * 1e3).round())])
            .args(["--watch", &relay.0.id().to_string(), "--json"])
            .arg(&json)
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let text = |error: io::Error| format!("aip-load does not run: {error}");
        let child = pinned(&mut command, self.plan.load_core).map_err(text)?;
        let output = child.wait_with_output().map_err(text)?;
        Report::load(&json).map_err(|_| {
            let words = String::from_utf8_lossy(&output.stderr);
            words.lines().last().unwrap_or("aip-load said nothing").trim().to_owned()
        })
    }
}

/// A load that is none: two small objects a second.
fn quiet() -> Cell {
    Cell {
        name: "idle".to_owned(),
        size: 36,
        rate: 2.0,
        group: 1,
        subscribers: 1,
        reach: super::cell::Reach::Everyone,
    }
}

/// Starts a command on a core.
fn pinned(command: &mut Command, core: usize) -> io::Result<Child> {
    // SAFETY: what runs between fork and exec is one system call on memory of its own.
    unsafe { command.pre_exec(move || affinity::pin(core)) };
    command.spawn()
}

/// Waits until somebody has bound a UDP port of this machine.
#[expect(clippy::disallowed_methods, reason = "the kernel tells nobody when a port is bound")]
fn await_bound(child: &mut Child, port: u16) -> Result<(), String> {
    let deadline = Instant::now() + START;
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Err(format!("it ended with {status}"));
        }
        if is_bound(port) {
            return Ok(());
        }
        if deadline <= Instant::now() {
            return Err("it does not listen".to_owned());
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn is_bound(port: u16) -> bool {
    let wanted = format!(":{port:04X}");
    ["/proc/net/udp", "/proc/net/udp6"].iter().any(|table| {
        let table = fs::read_to_string(table).unwrap_or_default();
        let local = |line: &str| line.split_whitespace().nth(1).map(|it| it.ends_with(&wanted));
        table.lines().any(|line| local(line) == Some(true))
    })
}

/// The most memory that a process ever had resident.
fn high_water(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    let kibibytes = line.split_whitespace().nth(1).and_then(|word| word.parse().ok());
    u64::saturating_mul(kibibytes.unwrap_or(0), 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_port_is_seen() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        assert!(is_bound(port));
        drop(socket);
        assert!(!is_bound(port));
        assert!(1 << 20 < high_water(std::process::id()));
    }
}
