//! Other people's load generators: how each is had, what it is told, and what it says.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::Duration,
};

use aip_load::report::Report;
use serde_json::{Value, json};

use super::{FAR_RELAY, FARTHER, HTTP, Plan, RELAY, verdict::Figures};

/// A load generator that others wrote.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tool {
    /// wrk: a closed loop on an HTTP server.
    Wrk,
    /// oha: a constant rate on an HTTP server, times from when a request was due.
    Oha,
    /// moq-pub-bench and moq-sub-bench of aiomoqt: fan-out of a relay.
    Aiomoqt,
}

/// All of them.
pub const ALL: [Tool; 3] = [Tool::Wrk, Tool::Oha, Tool::Aiomoqt];

/// Connections of the closed loop.
const CONNECTIONS: usize = 10;
/// Calls a second of the constant rate, and connections that they may use.
const RATE: u32 = 200;
const OPEN_CONNECTIONS: usize = 100;
/// Objects of the fan-out: their bytes, how many a second, how many in a group.
const OBJECT: (u32, u32, u32) = (1_200, 100, 30);
/// How times that a longer way adds are named, before the name of the time.
pub(super) const ADDED: &str = "longer way: + ";
const RATE_NAME: &str = "per second";
const OHA: &str = "1.16.0";
const AIOMOQT: &str = "0.13.3";

impl Tool {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wrk => "wrk",
            Self::Oha => "oha",
            Self::Aiomoqt => "aiomoqt",
        }
    }

    /// Why its latencies hold time of its own, if they do.
    pub const fn own_time(self) -> Option<&'static str> {
        match self {
            Self::Wrk | Self::Oha => None,
            Self::Aiomoqt => Some(
                "aiomoqt sends and receives in Python, whose time is in its latencies: ours may be \
                 less. It is the same whatever the way, so both must say the same of what a longer \
                 one adds.",
            ),
        }
    }

    /// Where its program is: below a folder, or of the system.
    fn program(self, tools: &Path) -> PathBuf {
        match self {
            Self::Wrk => "wrk".into(),
            Self::Oha => tools.join("bin/oha"),
            Self::Aiomoqt => tools.join("aiomoqt/bin/moq-sub-bench"),
        }
    }

    /// Whether it is there.
    pub fn is_installed(self, tools: &Path) -> bool {
        // Both say their usage and end.
        let asked = Command::new(self.program(tools)).arg("--help").stdin(Stdio::null()).output();
        asked.is_ok()
    }

    /// The command that installs it, for a shell.
    pub fn install(self, tools: &Path) -> String {
        let folder = tools.display();
        match self {
            Self::Wrk => ".ci/require wrk".to_owned(),
            Self::Oha => format!("cargo install --quiet --locked --root {folder} oha@{OHA}"),
            Self::Aiomoqt => format!(
                "for python in python3.14 python3.13 python3.12 \
                 ${{PYENV_ROOT:-$HOME/.pyenv}}/versions/3.1[2-9]*/bin/python3; do \
                 $python -c '' 2>/dev/null && break; done; \
                 $python -m venv {folder}/aiomoqt && \
                 {folder}/aiomoqt/bin/pip install --quiet aiomoqt=={AIOMOQT} uvloop"
            ),
        }
    }

    /// What it does and how ours is made to do the same, for people.
    pub fn title(self) -> String {
        let (size, rate, group) = OBJECT;
        match self {
            Self::Wrk => format!(
                "wrk: {CONNECTIONS} connections, each calls again when it was answered (closed loop, \
                 both corrected for what was not asked meanwhile, as wrk does)"
            ),
            Self::Oha => format!(
                "oha {OHA}: {RATE} calls a second, times from when each was due (open loop)"
            ),
            Self::Aiomoqt => format!(
                "aiomoqt {AIOMOQT}: {rate} objects of {size} bytes a second in groups of {group}, \
                 through a relay to one subscriber; then by a way to the relay that takes {} ms longer",
                FARTHER.as_millis()
            ),
        }
    }

    /// Runs it and then ours, and keeps what both say.
    ///
    /// # Errors
    /// Why one does not run, in words.
    pub fn measure(self, plan: &Plan, round: usize, figures: &mut Figures) -> Result<(), String> {
        let said = |said: Said| [(false, said.0), (true, said.1)];
        let near = said((self.theirs(plan, round, RELAY)?, self.ours(plan, RELAY)?));
        for (ours, list) in &near {
            for (name, value) in list {
                figures.keep(self, name, *ours, *value);
            }
        }
        if self != Self::Aiomoqt {
            return Ok(());
        }
        let far = said((self.theirs(plan, round, FAR_RELAY)?, self.ours(plan, FAR_RELAY)?));
        for ((ours, near), (_, far)) in near.into_iter().zip(far) {
            for (name, value) in added(&near, &far) {
                figures.keep(self, &name, ours, value);
            }
        }
        Ok(())
    }

    /// What the tool says of itself, by name.
    fn theirs(self, plan: &Plan, round: usize, relay: u16) -> Result<List, String> {
        match self {
            Self::Wrk => wrk(plan),
            Self::Oha => oha(plan),
            Self::Aiomoqt => aiomoqt(plan, round, relay),
        }
    }

    /// What ours says of the same load.
    fn ours(self, plan: &Plan, relay: u16) -> Result<List, String> {
        let report = ours(self, plan, relay)?;
        let mut times = report.main().ok_or("aip-load counted no times")?.times()?;
        if self == Self::Wrk {
            // wrk adds what its connections would have asked while they waited, one call in so long.
            let interval = Duration::try_from_secs_f64(CONNECTIONS as f64 / report.rate());
            times = times.corrected(interval.map_err(|_| "aip-load counted no calls")?);
        }
        let summary = times.summary();
        let middle = match self {
            Self::Wrk | Self::Oha => vec![("p75 ms", summary.p75), ("p90 ms", summary.p90)],
            Self::Aiomoqt => vec![("p95 ms", summary.p95)],
        };
        let all = [("p50 ms", summary.p50), ("p99 ms", summary.p99)].into_iter().chain(middle);
        let mut list: List =
            all.map(|(name, nanoseconds)| (name.to_owned(), nanoseconds as f64 / 1e6)).collect();
        list.push((RATE_NAME.to_owned(), report.rate()));
        Ok(list)
    }
}

/// Figures by name.
type List = Vec<(String, f64)>;
/// What a tool and ours said.
type Said = (List, List);

/// What a longer way adds to times, named so.
fn added(near: &[(String, f64)], far: &[(String, f64)]) -> List {
    let both = near.iter().filter(|(name, _)| matches!(name.as_str(), "p50 ms" | "p95 ms"));
    both.filter_map(|(name, near)| {
        let (_, far) = far.iter().find(|(other, _)| other == name)?;
        Some((format!("{ADDED}{name}"), far - near))
    })
    .collect()
}

/// Our run of the same load.
fn ours(tool: Tool, plan: &Plan, relay: u16) -> Result<Report, String> {
    let url = format!("http://127.0.0.1:{HTTP}/mcp");
    let (size, rate, group) = OBJECT;
    let words = match tool {
        Tool::Wrk => format!("mcp --url {url} --tool wait --closed --agents {CONNECTIONS}"),
        Tool::Oha => format!(
            "mcp --url {url} --tool wait --agents {OPEN_CONNECTIONS} --arrivals constant:{RATE}"
        ),
        Tool::Aiomoqt => format!(
            "relay --relay moqt://127.0.0.1:{relay} --insecure --draft 18 --subscribers 1 \
             --size {size} --arrivals constant:{rate} --group {group}"
        ),
    };
    let output = Command::new(plan.programs.join("aip-load"))
        .args(words.split_whitespace())
        .args(["--quiet", "--json", "-", "--warm-up", "1s", "--cool-down", "500ms"])
        .args(["--duration", &format!("{}s", plan.seconds)])
        .output()
        .map_err(|error| format!("aip-load does not run: {error}"))?;
    serde_json::from_slice(&output.stdout).map_err(|_| words_of("aip-load", &output))
}

/// A call of the server's tool, as both HTTP tools send it.
fn body() -> String {
    json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": "wait", "arguments": {}, "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "crosscheck", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }},
    })
    .to_string()
}

fn wrk(plan: &Plan) -> Result<List, String> {
    let script = plan.tools.join("call.lua");
    let text = format!(
        "wrk.method = 'POST'\nwrk.body = [[{}]]\nwrk.headers['Content-Type'] = 'application/json'\n\
         done = function(summary, latency)\n\
         for _, share in ipairs({{50, 75, 90, 99}}) do\n\
         print('@', 'p' .. share .. ' ms', latency:percentile(share) / 1000)\nend\n\
         print('@', 'per second', summary.requests / summary.duration * 1e6)\nend\n",
        body()
    );
    let wrong = |error: io::Error| format!("wrk does not run: {error}");
    fs::create_dir_all(&plan.tools).and_then(|()| fs::write(&script, text)).map_err(wrong)?;
    let output = Command::new(Tool::Wrk.program(&plan.tools))
        .args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{}s", plan.seconds), "-s"])
        .arg(&script)
        .arg(format!("http://127.0.0.1:{HTTP}/mcp"))
        .output()
        .map_err(wrong)?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = said.lines().filter_map(|line| line.strip_prefix("@\t")?.split_once('\t'));
    let numbers = lines.map(|(name, value)| Some((name.to_owned(), value.trim().parse().ok()?)));
    let list: Option<List> = numbers.collect();
    list.filter(|list| list.len() == 5).ok_or_else(|| words_of("wrk", &output))
}

fn oha(plan: &Plan) -> Result<List, String> {
    let output = Command::new(Tool::Oha.program(&plan.tools))
        .args(["--no-tui", "--output-format", "json", "--latency-correction", "-m", "POST"])
        .args(["-z", &format!("{}s", plan.seconds), "-q", &RATE.to_string()])
        .args(["-c", &OPEN_CONNECTIONS.to_string(), "-T", "application/json", "-d", &body()])
        .arg(format!("http://127.0.0.1:{HTTP}/mcp"))
        .output()
        .map_err(|error| format!("oha does not run: {error}"))?;
    let said: Value =
        serde_json::from_slice(&output.stdout).map_err(|_| words_of("oha", &output))?;
    let times = ["p50", "p75", "p90", "p99"].map(|share| {
        Some((format!("{share} ms"), said["latencyPercentiles"][share].as_f64()? * 1e3))
    });
    let rate = said["summary"]["requestsPerSec"].as_f64().map(|rate| (RATE_NAME.to_owned(), rate));
    let list: Option<List> = times.into_iter().chain([rate]).collect();
    list.ok_or_else(|| words_of("oha", &output))
}

/// A process that is ended with this.
struct Publishing(Child);

impl Drop for Publishing {
    fn drop(&mut self) {
        // It may have ended by itself.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "what the publisher is about to do, it does not say")]
fn aiomoqt(plan: &Plan, round: usize, relay: u16) -> Result<List, String> {
    let folder = plan.tools.join("aiomoqt/bin");
    let wrong = |error: io::Error| format!("aiomoqt does not run: {error}");
    let (size, rate, group) = OBJECT;
    let url = format!("moqt://127.0.0.1:{relay}");
    // A name of its own: the relay may not have noticed yet that the last round's publisher left.
    let namespace = format!("crosscheck-{round}-{relay}");
    let track = ["-k", "--draft", "18", "-N", &namespace, "-T", "objects"];
    let publisher = Command::new(folder.join("moq-pub-bench"))
        .arg(&url)
        .args(track)
        .args(["--pub-ns", "-s", &size.to_string(), "-r", &rate.to_string()])
        .args(["-g", &group.to_string(), "-t", &(plan.seconds + 20).to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(wrong)?;
    let _publishing = Publishing(publisher);
    thread::sleep(Duration::from_secs(3));
    let output = Command::new(folder.join("moq-sub-bench"))
        .arg(&url)
        .args(track)
        .args(["-t", &plan.seconds.to_string(), "-i", &plan.seconds.to_string()])
        .output()
        .map_err(wrong)?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let named =
        [("p50 ms", "p50="), ("p95 ms", "p95="), ("p99 ms", "p99="), (RATE_NAME, "ObjRate:")];
    let list: Option<List> = named
        .into_iter()
        .map(|(name, before)| Some((name.to_owned(), number_behind(&said, before)?)))
        .collect();
    list.ok_or_else(|| words_of("moq-sub-bench", &output))
}

/// The number that stands behind the last of these words.
fn number_behind(text: &str, before: &str) -> Option<f64> {
    let (_, rest) = text.rsplit_once(before)?;
    let number = rest.trim_start();
    let end = number.find(|letter: char| !letter.is_ascii_digit() && letter != '.');
    number[..end.unwrap_or(number.len())].parse().ok()
}

fn words_of(name: &str, output: &Output) -> String {
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let lines: Vec<_> = said.lines().chain(complained.lines()).collect();
    format!("{name} gave no figures: {}", lines[lines.len().saturating_sub(5)..].join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_behind_words() {
        let text = "  ObjRate:     99.9 obj/s\n  Latency: min=0.1 p50=0.4  p95=1.25\n";
        assert_eq!(number_behind(text, "ObjRate:"), Some(99.9));
        assert_eq!(number_behind(text, "p95="), Some(1.25));
        assert_eq!(number_behind(text, "p99="), None);
    }
}
