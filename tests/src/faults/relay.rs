//! A real `aip-relay`, and what one can see of it from outside.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use aip_engine::io::{Target, Trust};

use super::agent::PATIENCE;

/// A relay's process. Dropping it kills it.
#[derive(Debug)]
pub struct Relay {
    child: Child,
    address: SocketAddr,
    admin: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
}

/// What a relay logs.
#[derive(Clone, Copy, Debug)]
struct Log<'a> {
    /// What RUST_LOG says.
    filter: &'a str,
    is_kept: bool,
}

const QUIET: Log<'_> = Log { filter: "warn", is_kept: false };

/// Where the programs of this build are.
pub(super) fn program(name: &str) -> io::Result<PathBuf> {
    let this = std::env::current_exe()?;
    let beside =
        this.parent().into_iter().flat_map(|folder| [folder, folder.parent().unwrap_or(folder)]);
    let found = beside.map(|folder| folder.join(name)).find(|path| path.exists());
    found.ok_or_else(|| {
        io::Error::other(format!("{name} is not built: cargo build --workspace --bins"))
    })
}

impl Relay {
    /// A relay at `listen`, with these further arguments; ready when this returns.
    ///
    /// # Errors
    /// If it does not begin.
    pub fn start(listen: SocketAddr, arguments: &[&str]) -> io::Result<Self> {
        Self::start_by(&mut Command::new(program("aip-relay")?), listen, arguments, QUIET)
    }

    /// The same with its log, of what `filter` says, kept for [`Self::log`].
    ///
    /// # Errors
    /// If it does not begin.
    pub fn start_and_listen(
        listen: SocketAddr,
        arguments: &[&str],
        filter: &str,
    ) -> io::Result<Self> {
        let log = Log { filter, is_kept: true };
        Self::start_by(&mut Command::new(program("aip-relay")?), listen, arguments, log)
    }

    /// The lines that it has logged so far, if they are kept.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until a number of `/metrics` is as `wanted` says; what it is then.
    ///
    /// # Errors
    /// If it does not become so.
    pub fn await_metric(&self, series: &str, wanted: impl Fn(f64) -> bool) -> io::Result<f64> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            let value = self.metric(series)?;
            if wanted(value) {
                return Ok(value);
            }
            thread::sleep(Duration::from_millis(50));
        }
        Err(io::Error::other(format!("{series} is {}", self.metric(series)?)))
    }

    /// The same with no more than `descriptors` files open.
    ///
    /// # Errors
    /// If it does not begin.
    pub fn start_with_few_descriptors(listen: SocketAddr, descriptors: u32) -> io::Result<Self> {
        let mut command = Command::new("prlimit");
        command.arg(format!("--nofile={descriptors}")).arg(program("aip-relay")?);
        Self::start_by(&mut command, listen, &[], QUIET)
    }

    /// The same with no more memory than this: its control group has no more, or, where we may make
    /// none, it is told so. Then nobody kills it for taking more.
    ///
    /// # Errors
    /// If it does not begin.
    pub(super) fn start_with_little_memory(
        listen: SocketAddr,
        bytes: u64,
    ) -> io::Result<(Self, Memory)> {
        let program = program("aip-relay")?;
        let Some(memory) = MemoryGroup::new(bytes) else {
            let file = tempfile::NamedTempFile::new()?;
            fs::write(file.path(), format!("memory_max = {bytes}\n"))?;
            let arguments = ["--config", &file.path().display().to_string()];
            let relay = Self::start(listen, &arguments)?;
            return Ok((relay, Memory::Told));
        };
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]);
        command.arg(memory.0.join("cgroup.procs")).arg(program);
        let relay = Self::start_by(&mut command, listen, &[], QUIET)?;
        Ok((relay, Memory::Group(memory)))
    }

    /// The same under `strace`, which makes calls of the system fail as `injection` says. Nothing if
    /// there is no `strace`, or it may not watch anyone.
    ///
    /// # Errors
    /// If the relay does not begin.
    pub fn start_with_failing_calls(
        listen: SocketAddr,
        injection: &str,
    ) -> io::Result<Option<Self>> {
        let watch = ["-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=sendmmsg"];
        let trial = Command::new("strace").args(watch).arg("true").stderr(Stdio::null()).status();
        if !trial.is_ok_and(|status| status.success()) {
            return Ok(None);
        }
        let mut command = Command::new("strace");
        // With -D the process that we know is the relay.
        command.args(watch).args(["-e", injection]).arg(program("aip-relay")?);
        Self::start_by(&mut command, listen, &[], QUIET).map(Some)
    }

    /// A relay that logs everything to where nobody reads, so that it is not known when it is ready.
    ///
    /// # Errors
    /// If there is no process for it.
    pub fn start_unheard(listen: SocketAddr, admin: SocketAddr, stderr: Stdio) -> io::Result<Self> {
        let child = Command::new(program("aip-relay")?)
            .args(["--listen", &listen.to_string(), "--dev-cert", "--open"])
            .args(["--admin", &admin.to_string()])
            .env("RUST_LOG", "trace")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()?;
        Ok(Self { child, address: listen, admin, log: Arc::default() })
    }

    fn start_by(
        command: &mut Command,
        listen: SocketAddr,
        arguments: &[&str],
        log: Log<'_>,
    ) -> io::Result<Self> {
        let mut child = command
            .args(["--listen", &listen.to_string(), "--dev-cert", "--open"])
            .args(["--admin", "127.0.0.1:0"])
            .args(arguments)
            .env("RUST_LOG", log.filter)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = child.stderr.take().ok_or_else(|| io::Error::other("no stderr"))?;
        let lines = BufReader::new(stderr).split(b'\n');
        let mut lines = lines.map(|line| Ok(String::from_utf8_lossy(&line?).into_owned()));
        let (mut admin, mut said) = (None, String::new());
        let address = loop {
            let line: Option<io::Result<String>> = lines.next();
            let Some(line) = line.transpose()? else {
                return Err(io::Error::other(format!("the relay does not begin: {said}")));
            };
            if let Some(url) = line.strip_prefix("admin on http://") {
                admin = url.parse().ok();
            }
            if let Some(rest) = line.strip_prefix("listening on ")
                && let Some(address) = rest.split(' ').next().and_then(|word| word.parse().ok())
            {
                break address;
            }
            said.push_str(&line);
        };
        let kept = Arc::new(Mutex::new(Vec::new()));
        let (keeps, is_kept) = (Arc::clone(&kept), log.is_kept);
        thread::Builder::new().spawn(move || {
            for line in lines.map_while(io::Result::ok).filter(|_| is_kept) {
                keeps.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        })?;
        let admin = admin.ok_or_else(|| io::Error::other("the relay has no admin endpoint"))?;
        Ok(Self { child, address, admin, log: kept })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it tells of itself.
    pub const fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// SIGKILL: it says nothing more to anyone.
    ///
    /// # Errors
    /// If the system does not let us.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// One path of its admin endpoint.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn get(&self, path: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(self.admin)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())?;
        let mut response = String::new();
        stream.read_to_string(&mut response)?;
        match response.split_once("\r\n\r\n") {
            Some((_, body)) => Ok(body.to_owned()),
            None => Err(io::Error::other(format!("no response: {response}"))),
        }
    }

    /// One number of `/metrics`, by name and labels.
    ///
    /// # Errors
    /// If it is not there.
    pub fn metric(&self, series: &str) -> io::Result<f64> {
        let text = self.get("/metrics")?;
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value
            .and_then(|value| value.parse().ok())
            .ok_or_else(|| io::Error::other(format!("no {series} in /metrics")))
    }

    /// Bytes in RAM.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn resident_memory(&self) -> io::Result<u64> {
        let status = fs::read_to_string(self.proc("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        kibibytes.map(|count| count * 1_024).ok_or_else(|| io::Error::other("no VmRSS"))
    }

    /// Open descriptors and threads.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn descriptors_and_threads(&self) -> io::Result<(usize, usize)> {
        Ok((fs::read_dir(self.proc("fd"))?.count(), fs::read_dir(self.proc("task"))?.count()))
    }

    /// Time on a processor so far, in hundredths of a second.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn processor_ticks(&self) -> io::Result<u64> {
        let stat = fs::read_to_string(self.proc("stat"))?;
        // The name before it may have spaces; it ends with a parenthesis.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks = fields.split_whitespace().skip(11).take(2);
        Ok(ticks.filter_map(|field| field.parse::<u64>().ok()).sum())
    }

    fn proc(&self, file: &str) -> PathBuf {
        Path::new("/proc").join(self.child.id().to_string()).join(file)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        drop(self.kill());
    }
}

/// A directory in which relays keep what outlives them.
#[derive(Debug)]
pub(super) struct StateDirectory(tempfile::TempDir);

impl StateDirectory {
    pub(super) fn new() -> io::Result<Self> {
        tempfile::tempdir().map(Self)
    }

    /// Where a relay of this name keeps it.
    pub(super) fn of(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }
}

/// How a client reaches what listens at `address`.
///
/// # Panics
/// Never: an address makes a URL.
pub fn target(address: SocketAddr) -> Target {
    Target::new(&format!("moqt://{address}"), Trust::Insecure).expect("an address makes a URL")
}

/// Why a relay has little memory. To be dropped after it.
#[derive(Debug)]
pub(super) enum Memory {
    /// There is no more for its control group.
    Group(#[expect(dead_code, reason = "dropping it removes the group")] MemoryGroup),
    /// It was told so.
    Told,
}

/// A control group of little memory. Dropping it removes it.
#[derive(Debug)]
pub(super) struct MemoryGroup(PathBuf);

impl MemoryGroup {
    /// One with so many bytes, if we may make one.
    fn new(bytes: u64) -> Option<Self> {
        let name = format!("aip-faults-{}", std::process::id());
        let versions =
            [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        versions.iter().find_map(|(root, limit)| {
            let group = Path::new(root).join(&name);
            fs::create_dir(&group).ok()?;
            let group = Self(group);
            fs::write(group.0.join(limit), bytes.to_string()).ok().map(|()| group)
        })
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        drop(fs::remove_dir(&self.0));
    }
}
