//! What stands on the terminal.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    symbols::Marker,
    text::Line,
    widgets::{Axis, Block, Chart, Dataset, Gauge, GraphType, Paragraph, Row, Sparkline, Table},
};

use crate::{
    progress::Progress,
    report::{Interval, count, time},
};

/// Draws a run as it is.
pub(super) fn draw(frame: &mut Frame<'_>, title: &str, progress: &Progress, ending: bool) {
    let rows = u16::try_from(progress.rows.len()).unwrap_or(u16::MAX).clamp(1, 8);
    let areas = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(8),
        Constraint::Length(rows + 3),
        Constraint::Length(1),
    ]);
    let [head, bar, middle, times, foot] = areas.areas(frame.area());
    frame.render_widget(Line::styled(title, Modifier::BOLD), head);
    frame.render_widget(gauge(progress), bar);
    let [left, right] =
        Layout::horizontal([Constraint::Length(38), Constraint::Min(20)]).areas(middle);
    frame.render_widget(facts(progress), left);
    let [rates, latencies] =
        Layout::vertical([Constraint::Percentage(35), Constraint::Percentage(65)]).areas(right);
    draw_rates(frame, &progress.timeline, rates);
    draw_latencies(frame, &progress.timeline, latencies);
    frame.render_widget(table(progress), times);
    let help = if ending {
        "ending: what is under way is waited for; q or Ctrl-C once more ends at once"
    } else {
        "q or Ctrl-C ends the run, which still reports"
    };
    frame.render_widget(Line::styled(help, Color::DarkGray), foot);
}

fn gauge(progress: &Progress) -> Gauge<'_> {
    let (elapsed, total) = (progress.elapsed.as_secs_f64(), progress.total.as_secs_f64());
    let share = if total == 0.0 { 0.0 } else { (elapsed / total).clamp(0.0, 1.0) };
    let label = if total == 0.0 {
        progress.stage.clone()
    } else {
        format!("{}, {elapsed:.0} of {total:.0} s", progress.stage)
    };
    Gauge::default().ratio(share).label(label).gauge_style(Color::Blue)
}

/// What is counted, and what went wrong.
fn facts(progress: &Progress) -> Paragraph<'_> {
    let line = |name: &str, value: &str| Line::from(format!("{name:>22}  {value}"));
    let mut lines: Vec<_> = progress.facts.iter().map(|(name, value)| line(name, value)).collect();
    let counts = &progress.counts;
    lines.push(line("right", &count(counts.ok)));
    let faults = [
        ("lost", counts.lost),
        ("duplicated", counts.duplicated),
        ("late", counts.late),
        ("wrong", counts.wrong),
    ];
    for (name, number) in faults {
        let colour = if number == 0 { Color::Reset } else { Color::Red };
        lines.push(line(name, &count(number)).style(colour));
    }
    let errors = counts.errors_total();
    lines.push(line("errors", &count(errors)).style(if errors == 0 {
        Color::Reset
    } else {
        Color::Red
    }));
    for (kind, number) in &counts.errors {
        lines.push(Line::styled(
            format!("{:>8} {}", count(*number), kind.escape_debug()),
            Color::Red,
        ));
    }
    Paragraph::new(lines).block(Block::bordered().title("measured so far"))
}

/// The last seconds that fit.
fn last(timeline: &[Interval], width: u16) -> &[Interval] {
    let width = usize::from(width.saturating_sub(2));
    &timeline[timeline.len().saturating_sub(width)..]
}

fn draw_rates(frame: &mut Frame<'_>, timeline: &[Interval], area: Rect) {
    let seen = last(timeline, area.width);
    let rates: Vec<u64> = seen.iter().map(|second| second.ok).collect();
    let now = seen.last().cloned().unwrap_or_default();
    let most = rates.iter().copied().max().unwrap_or_default();
    let mut title = format!("right per second: {}, at most {}", count(now.ok), count(most));
    if now.errors != 0 {
        title.push_str(&format!("; errors {}", count(now.errors)));
    }
    let lines = Sparkline::default().data(rates).style(Color::Green);
    frame.render_widget(lines.block(Block::bordered().title(title)), area);
}

fn draw_latencies(frame: &mut Frame<'_>, timeline: &[Interval], area: Rect) {
    let seen = last(timeline, area.width);
    let points = |value: fn(&Interval) -> u64| {
        let point = |second: &Interval| (second.at, value(second) as f64 / 1e6);
        seen.iter().map(point).collect::<Vec<_>>()
    };
    let (p50, p99, max) = (points(|it| it.p50), points(|it| it.p99), points(|it| it.max));
    let highest = max.iter().map(|(_, y)| *y).fold(0.001, f64::max);
    let line = |name: &'static str, colour, points| {
        Dataset::default()
            .name(name)
            .marker(Marker::Braille)
            .graph_type(GraphType::Line)
            .style(colour)
            .data(points)
    };
    let lines = vec![
        line("max", Color::Red, &max),
        line("p99", Color::Yellow, &p99),
        line("p50", Color::Green, &p50),
    ];
    let (from, to) = match (seen.first(), seen.last()) {
        (Some(first), Some(last)) => (first.at, last.at.max(first.at + 1.0)),
        _ => (0.0, 1.0),
    };
    let now = seen.last().cloned().unwrap_or_default();
    let title =
        format!("last second: p50 {}, p99 {}, max {}", time(now.p50), time(now.p99), time(now.max));
    let chart = Chart::new(lines)
        .block(Block::bordered().title(title))
        .x_axis(
            Axis::default()
                .bounds([from, to])
                .labels([format!("{from:.0} s"), format!("{to:.0} s")]),
        )
        .y_axis(
            Axis::default()
                .bounds([0.0, highest])
                .labels(["0".to_owned(), format!("{highest:.1} ms")]),
        );
    frame.render_widget(chart, area);
}

fn table(progress: &Progress) -> Table<'_> {
    let header = Row::new(["times so far", "count", "p50", "p99", "p99.9", "max"]);
    let rows = progress.rows.iter().map(|row| {
        let times = [row.p50, row.p99, row.p999, row.max].map(time);
        let words = [row.name.escape_debug().to_string(), count(row.count)];
        Row::new(words.into_iter().chain(times))
    });
    let mut widths = vec![Constraint::Min(24)];
    widths.extend([Constraint::Length(12); 5]);
    Table::new(rows, widths)
        .header(header.style(Style::new().add_modifier(Modifier::BOLD)))
        .block(Block::bordered())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratatui::{Terminal, backend::TestBackend};

    use super::*;

    fn drawn(progress: &Progress, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let title = "aip-load mcp: http://127.0.0.1:1/mcp";
        terminal.draw(|frame| draw(frame, title, progress, false)).unwrap();
        terminal.backend().to_string()
    }

    fn progress() -> Progress {
        let mut progress = Progress {
            stage: "measured".to_owned(),
            elapsed: Duration::from_secs(4),
            total: Duration::from_secs(13),
            facts: vec![("agents", "50".to_owned())],
            rows: vec![crate::progress::Row {
                name: "tools/call echo".to_owned(),
                count: 1_234,
                p50: 1_500_000,
                ..Default::default()
            }],
            ..Progress::default()
        };
        progress.counts.ok = 1_234;
        progress.counts.error("timeout");
        progress.timeline = (0..5)
            .map(|at| Interval {
                at: f64::from(at),
                ok: 300,
                max: 9_000_000,
                ..Interval::default()
            })
            .collect();
        progress
    }

    #[test]
    fn everything_that_is_known_stands_there() {
        let drawn = drawn(&progress(), 110, 34);
        for words in [
            "aip-load mcp: http://127.0.0.1:1/mcp",
            "measured, 4 of 13 s",
            "agents  50",
            "right  1,234",
            "1 timeout",
            "right per second: 300, at most 300",
            "max 9.00 ms",
            "tools/call echo",
            "1.50 ms",
            "q or Ctrl-C ends the run",
        ] {
            assert!(drawn.contains(words), "{words} is missing:\n{drawn}");
        }
    }

    #[test]
    fn no_terminal_is_too_small_and_no_run_too_young() {
        for (width, height) in [(1, 1), (20, 5), (80, 24), (300, 100)] {
            drawn(&progress(), width, height);
            drawn(&Progress::default(), width, height);
        }
    }
}
