//! Plots as SVG.

use std::fmt::Write as _;

use plotters::{
    chart::ChartBuilder,
    drawing::IntoDrawingArea as _,
    prelude::{IntoLogRange as _, SVGBackend},
    series::LineSeries,
    style::{Color as _, RGBColor, WHITE},
};

use super::escape;
use crate::measure::Times;

const WIDTH: u32 = 860;
const HEIGHT: u32 = 320;
/// Points of a line: more cannot be told apart at this width.
const POINTS_MAX: usize = 400;
const COLOURS: [RGBColor; 8] = [
    RGBColor(31, 119, 180),
    RGBColor(214, 39, 40),
    RGBColor(44, 160, 44),
    RGBColor(148, 103, 189),
    RGBColor(255, 127, 14),
    RGBColor(23, 190, 207),
    RGBColor(140, 86, 75),
    RGBColor(127, 127, 127),
];
/// Lines that one plot can hold.
pub(super) const LINES_MAX: usize = COLOURS.len();

/// A line of a plot.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

impl Line {
    /// Latency over percentiles, by 1 / (1 − share).
    pub(super) fn of_percentiles(name: String, times: &Times) -> Self {
        let total = times.count() as f64;
        let mut seen = 0;
        let mut points: Vec<(f64, f64)> = Vec::new();
        // As far apart as can be seen: nines by nines, each the same room.
        let nearest = 10.0_f64.powf((2.0 * total.max(1.0)).log10() / POINTS_MAX as f64);
        for (value, count) in times.recorded() {
            seen += count;
            let x = 1.0 / (1.0 - seen as f64 / total).max(0.5 / total);
            let is_last = seen == times.count();
            if is_last || points.last().is_none_or(|(before, _)| before * nearest <= x) {
                points.push((x, value as f64 / 1e6));
            }
        }
        Self { name, points }
    }
}

/// What stands around the lines.
pub(super) struct Axes<'a> {
    pub(super) title: &'a str,
    pub(super) x_max: f64,
    pub(super) label: &'a dyn Fn(&f64) -> String,
    pub(super) log: bool,
}

/// Draws lines, as SVG.
pub(super) fn plot(lines: &[Line], axes: Axes<'_>) -> Result<String, String> {
    let mut svg = String::new();
    {
        let highest = lines.iter().flat_map(|line| &line.points).map(|(_, y)| *y);
        let y_max = highest.fold(1e-3, f64::max) * 1.05;
        let area = SVGBackend::with_string(&mut svg, (WIDTH, HEIGHT)).into_drawing_area();
        let wrong = |error: &dyn std::fmt::Display| format!("a plot could not be drawn: {error}");
        area.fill(&WHITE).map_err(|error| wrong(&error))?;
        let mut builder = ChartBuilder::on(&area);
        builder.caption(axes.title, ("sans-serif", 16)).margin(8);
        builder.x_label_area_size(28).y_label_area_size(56);
        macro_rules! draw {
            ($x:expr) => {{
                let mut chart =
                    builder.build_cartesian_2d($x, 0.0..y_max).map_err(|error| wrong(&error))?;
                let mut mesh = chart.configure_mesh();
                mesh.x_label_formatter(axes.label).light_line_style(WHITE);
                mesh.draw().map_err(|error| wrong(&error))?;
                for (line, colour) in lines.iter().zip(COLOURS) {
                    chart
                        .draw_series(LineSeries::new(
                            line.points.iter().copied(),
                            colour.stroke_width(2),
                        ))
                        .map_err(|error| wrong(&error))?;
                }
            }};
        }
        if axes.log {
            draw!((1.0..axes.x_max).log_scale())
        } else {
            draw!(0.0..axes.x_max)
        }
        area.present().map_err(|error| wrong(&error))?;
    }
    let mut legend = String::from("<p>");
    for (line, colour) in lines.iter().zip(COLOURS) {
        let RGBColor(red, green, blue) = colour;
        let name = escape(&line.name);
        // Writing to a string cannot fail.
        _ = write!(legend, "<span style=\"color:rgb({red},{green},{blue})\">■</span> {name}&ensp;");
    }
    legend.push_str("</p>");
    Ok(format!("{svg}{legend}"))
}
