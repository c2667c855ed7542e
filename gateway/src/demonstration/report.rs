//! What is said of it all.

use std::io::Write as _;

use comfy_table::{CellAlignment, Table, presets::UTF8_BORDERS_ONLY};

use super::{Relay, Served, agent::Outcome, children, plan::Plan};

/// Everything that was counted.
#[derive(Debug)]
pub(super) struct Report<'a> {
    pub(super) outcome: Outcome,
    pub(super) plan: &'a Plan,
    /// Reads of resources that the server itself counted.
    pub(super) asked: Option<u64>,
    /// What the edge beside the server counted.
    pub(super) served: Option<Served>,
}

/// Says a line.
pub(super) fn say(line: &str) {
    // Whoever closed standard output does not want to hear it.
    _ = writeln!(std::io::stdout(), "{line}");
}

fn milliseconds(microseconds: u64) -> String {
    format!("{}.{:02}", microseconds / 1_000, microseconds % 1_000 / 10)
}

impl Report<'_> {
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

    /// Whether all went as it should, and what the relay spared the server.
    pub(super) fn verdict(&self) -> Result<(), String> {
        if let Some(asked) = self.asked {
            say(&format!(
                "the agents read the resource {} times; the server was asked {asked} times",
                self.outcome.counts.reads
            ));
        }
        if let Some(served) = self.served {
            say(&format!(
                "the edge beside the server passed on {} calls and asked for {} tracks",
                served.calls, served.track_reads
            ));
        }
        let agents = self.outcome.agents.len() as u64;
        let mut errors = self.outcome.counts.errors;
        if self.plan.follows_changes() && self.outcome.counts.told != agents {
            errors = errors.max(1);
        }
        say(&format!("{errors} errors"));
        if errors == 0 { Ok(()) } else { Err("it did not go as it should".to_owned()) }
    }
}

/// How to point an MCP client at what is up.
pub(super) fn snippet(relay: &Relay, url: &str) -> String {
    let program = children::beside("aip-mcp").unwrap_or_default();
    let mut arguments = vec!["connect".to_owned(), "--server".to_owned(), super::NAME.to_owned()];
    arguments.extend(relay.arguments());
    let servers = serde_json::json!({"mcpServers": {
        "demo": {"command": program, "args": arguments},
        "demo-http": {"type": "http", "url": url},
    }});
    let servers = serde_json::to_string_pretty(&servers).unwrap_or_default();
    format!("for the configuration of an MCP client:\n{servers}")
}

/// The same for who did not ask to keep it.
pub(super) fn snippet_for_later() -> String {
    "to use it with an MCP client of your own: `make demo KEEP=1` leaves it up and prints the \
     client's configuration"
        .to_owned()
}
