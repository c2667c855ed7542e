//! What is said of it all.

use std::io::Write as _;

use comfy_table::{CellAlignment, Table, presets::UTF8_BORDERS_ONLY};

use super::{Places, Served, agent::Outcome, children};

/// Everything that was counted.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) outcome: Outcome,
    /// Whether every agent had to be told of a change.
    pub(super) must_be_told: bool,
    /// Reads of resources that the server itself counted.
    pub(super) asked: Option<u64>,
}

/// Says a line.
pub(super) fn say(line: &str) {
    // Whoever closed standard output does not want to hear it.
    _ = writeln!(std::io::stdout(), "{line}");
}

fn milliseconds(microseconds: u64) -> String {
    format!("{}.{:02}", microseconds / 1_000, microseconds % 1_000 / 10)
}

impl Report {
    /// One row for each agent, and one for all.
    pub(super) fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(UTF8_BORDERS_ONLY).set_header([
            "agent",
            "calls",
            "p50 ms",
            "p99 ms",
            "reads",
            "told of changes",
            "errors",
        ]);
        let all = &self.outcome;
        for row in &all.agents {
            let counts = row.counts;
            table.add_row([
                row.name.clone(),
                counts.calls.to_string(),
                milliseconds(row.p50_us),
                milliseconds(row.p99_us),
                counts.reads.to_string(),
                counts.told.to_string(),
                counts.errors.to_string(),
            ]);
        }
        table.add_row([
            format!("all {}", all.agents.len()),
            all.counts.calls.to_string(),
            milliseconds(all.latencies.value_at_quantile(0.5)),
            milliseconds(all.latencies.value_at_quantile(0.99)),
            all.counts.reads.to_string(),
            all.counts.told.to_string(),
            all.counts.errors.to_string(),
        ]);
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let mut text = table.to_string();
        for words in &all.words {
            text.push_str("\nerror: ");
            text.push_str(words);
        }
        text
    }

    /// Says it all. `served` is what the edge beside the server counted.
    pub(super) fn say(&self, served: Option<Served>) {
        say(&self.table());
        if let Some(asked) = self.asked {
            say(&format!(
                "the agents read the resource {} times; the server was asked {asked} times",
                self.outcome.counts.reads
            ));
        }
        if let Some(served) = served {
            say(&format!(
                "the edge beside the server passed on {} calls and asked for {} tracks",
                served.calls, served.track_reads
            ));
        }
        say(&format!("{} errors", self.errors()));
    }

    fn errors(&self) -> u64 {
        let agents = self.outcome.agents.len() as u64;
        let untold = self.must_be_told && self.outcome.counts.told != agents;
        self.outcome.counts.errors.max(u64::from(untold))
    }

    /// Whether all went as it should.
    pub(super) fn verdict(&self) -> Result<(), String> {
        if self.errors() == 0 { Ok(()) } else { Err("it did not go as it should".to_owned()) }
    }
}

/// How to point an MCP client at what is up.
pub(super) fn snippet(places: &Places) -> String {
    let program = children::beside("aip-mcp").unwrap_or_default();
    let mut arguments = vec!["connect".to_owned(), "--server".to_owned(), super::NAME.to_owned()];
    arguments.extend(places.relay.arguments());
    let servers = serde_json::json!({"mcpServers": {
        "demo": {"command": program, "args": arguments},
        "demo-http": {"type": "http", "url": places.url},
    }});
    let servers = serde_json::to_string_pretty(&servers).unwrap_or_default();
    format!("for the configuration of an MCP client:\n{servers}")
}

/// The same for who did not ask to keep it.
pub(super) const FOR_LATER: &str = "to use it with an MCP client of your own: `make demo KEEP=1` \
                                    leaves it up and prints the client's configuration";
