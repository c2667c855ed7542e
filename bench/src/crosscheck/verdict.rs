//! Whether two tools say the same of one target.

use std::{collections::BTreeMap, fmt::Write as _};

use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};

use super::tool::{ADDED, Tool};

/// What is below what tools can tell apart, whatever their rounds say: a share, and milliseconds.
const SHARE: f64 = 0.03;
const MILLISECONDS: f64 = 0.2;

/// What tools and ours said, round by round.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// In the order in which tools were run.
    tools: Vec<Tool>,
    values: BTreeMap<(&'static str, String, bool), Vec<f64>>,
}

/// One figure of both.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// The median of its rounds.
    pub theirs: f64,
    /// The median of its rounds.
    pub ours: f64,
    /// How far apart they may be: the wider of both tools' rounds.
    pub noise: f64,
    /// Whether theirs holds time of the tool itself, so that ours may be less by any amount.
    pub less_too: bool,
}

impl Row {
    /// Whether they differ by no more than the noise.
    pub fn agrees(&self) -> bool {
        self.verdict() != "NO"
    }

    fn verdict(&self) -> &'static str {
        match self.ours - self.theirs {
            difference if difference.abs() <= self.noise => "yes",
            difference if self.less_too && difference < 0.0 => "less",
            _ => "NO",
        }
    }
}

impl Figures {
    /// Keeps a figure of one round.
    pub fn keep(&mut self, tool: Tool, name: &str, ours: bool, value: f64) {
        if !self.tools.contains(&tool) {
            self.tools.push(tool);
        }
        self.values.entry((tool.name(), name.to_owned(), ours)).or_default().push(value);
    }

    /// Figures that a tool and ours both gave.
    pub fn rows(&self, tool: Tool) -> Vec<Row> {
        let theirs =
            self.values.iter().filter(|((name, _, ours), _)| *name == tool.name() && !ours);
        let row = |((_, name, _), theirs): (&(&'static str, String, bool), &Vec<f64>)| {
            let ours = self.values.get(&(tool.name(), name.clone(), true))?;
            let is_time = name.ends_with("ms");
            let least = if is_time { MILLISECONDS } else { 0.0 };
            let noise = spread(theirs).max(spread(ours)).max(least).max(SHARE * median(theirs));
            let (theirs, ours) = (median(theirs), median(ours));
            let less_too = is_time && !name.starts_with(ADDED) && tool.own_time().is_some();
            Some(Row { name: name.clone(), theirs, ours, noise, less_too })
        };
        theirs.filter_map(row).collect()
    }

    /// For people, in Markdown; and whether all agree.
    pub fn text(&self) -> (String, bool) {
        let (mut text, mut all) = (String::new(), true);
        for tool in &self.tools {
            let mut table = Table::new();
            let header = ["figure", tool.name(), "aip-load", "difference", "noise", "agree"];
            table.load_style(ASCII_MARKDOWN).set_header(header);
            for row in self.rows(*tool) {
                all &= row.agrees();
                table.add_row([
                    row.name.clone(),
                    format!("{:.2}", row.theirs),
                    format!("{:.2}", row.ours),
                    format!("{:+.2}", row.ours - row.theirs),
                    format!("{:.2}", row.noise),
                    row.verdict().to_owned(),
                ]);
            }
            for column in table.column_iter_mut().skip(1) {
                column.set_cell_alignment(CellAlignment::Right);
            }
            // Writing to a string cannot fail.
            _ = writeln!(text, "## {}\n\n{table}\n", tool.title());
            if let Some(reason) = tool.own_time() {
                _ = writeln!(text, "{reason}\n");
            }
        }
        (text, all)
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn spread(values: &[f64]) -> f64 {
    let most = values.iter().copied().fold(f64::MIN, f64::max);
    most - values.iter().copied().fold(f64::MAX, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(theirs: [f64; 3], ours: [f64; 3]) -> Figures {
        let mut figures = Figures::default();
        for (one, other) in theirs.into_iter().zip(ours) {
            figures.keep(Tool::Wrk, "p50 ms", false, one);
            figures.keep(Tool::Wrk, "p50 ms", true, other);
        }
        figures
    }

    #[test]
    fn rounds_say_how_far_apart_two_may_be() {
        let near = figures([10.0, 11.0, 10.5], [11.0, 11.4, 11.2]);
        let rows = near.rows(Tool::Wrk);
        assert_eq!((rows[0].theirs, rows[0].ours), (10.5, 11.2));
        assert!((rows[0].noise - 1.0).abs() < 1e-9);
        assert!(near.text().1);
        let far = figures([10.0, 11.0, 10.5], [11.8, 11.6, 11.7]);
        let (text, all) = far.text();
        assert!(!all && text.contains("NO"), "{text}");
    }

    #[test]
    fn a_tool_with_time_of_its_own_bounds_ours_from_above() {
        let mut figures = Figures::default();
        let added = format!("{ADDED}p50 ms");
        for (name, theirs, ours) in
            [("p50 ms", 2.0, 1.0), ("p99 ms", 2.0, 3.0), (added.as_str(), 20.0, 18.0)]
        {
            figures.keep(Tool::Aiomoqt, name, false, theirs);
            figures.keep(Tool::Aiomoqt, name, true, ours);
        }
        let rows = figures.rows(Tool::Aiomoqt).into_iter();
        let verdicts: Vec<_> = rows.map(|row| (row.verdict(), row.name)).collect();
        let expected = [("NO", added.as_str()), ("less", "p50 ms"), ("NO", "p99 ms")];
        assert_eq!(verdicts, expected.map(|(verdict, name)| (verdict, name.to_owned())));
    }

    #[test]
    fn what_only_one_says_is_no_row() {
        let mut figures = figures([1.0; 3], [1.0; 3]);
        figures.keep(Tool::Wrk, "p75 ms", false, 1.0);
        assert_eq!(figures.rows(Tool::Wrk).len(), 1);
    }
}
