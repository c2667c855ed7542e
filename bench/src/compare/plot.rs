//! The plots: one a shape, CPU and delay against the number of subscribers.

use plotters::{
    coord::Shift,
    prelude::{
        ChartBuilder, Circle, DrawingArea, IntoDrawingArea as _, IntoLogRange as _, LineSeries,
        RGBColor, SVGBackend, Text, WHITE,
    },
    style::{Color as _, IntoFont as _},
};

use super::outcome::{Comparison, Row};

const SIZE: (u32, u32) = (760, 380);
const COLOURS: [RGBColor; 6] = [
    RGBColor(20, 90, 200),
    RGBColor(120, 120, 120),
    RGBColor(190, 190, 190),
    RGBColor(210, 70, 40),
    RGBColor(40, 150, 80),
    RGBColor(150, 80, 170),
];

struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// All plots, by file name: of each shape that was asked of more than one number of subscribers.
///
/// # Errors
/// If one cannot be drawn.
pub fn all(comparison: &Comparison) -> Result<Vec<(String, String)>, String> {
    let mut names: Vec<&str> = comparison.shared_cells().map(|cell| cell.name.as_str()).collect();
    names.dedup();
    let mut plots = Vec::new();
    for name in names {
        let file: String =
            name.chars().filter(|it| it.is_ascii_alphanumeric()).collect::<String>().to_lowercase();
        for (what, title, figure) in [
            ("cpu", "µs of relay CPU per delivery", cpu as fn(&Row) -> Option<f64>),
            ("last", "ms until the last subscriber, p50", last),
        ] {
            let lines = lines(comparison, name, figure);
            if lines.iter().any(|line| 1 < line.points.len()) {
                let svg = draw(&lines, &format!("{name}: {title}, by subscribers"))?;
                plots.push((format!("{file}-{what}.svg"), svg));
            }
        }
    }
    Ok(plots)
}

const fn cpu(row: &Row) -> Option<f64> {
    row.cpu_microseconds
}

fn last(row: &Row) -> Option<f64> {
    row.last.map(|times| times[0])
}

fn lines(comparison: &Comparison, cell: &str, figure: fn(&Row) -> Option<f64>) -> Vec<Line> {
    let line = |name: &String| {
        let rows = comparison.medians.iter().filter(|row| row.cell == cell);
        let own = rows.filter(|row| row.contestant == *name && row.failed.is_none());
        let points = own.filter_map(|row| Some((row.subscribers as f64, figure(row)?)));
        Line { name: name.clone(), points: points.filter(|(_, value)| 0.0 < *value).collect() }
    };
    comparison.contestants.iter().map(line).collect()
}

fn draw(lines: &[Line], title: &str) -> Result<String, String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        draw_on(&area, lines, title).map_err(|error| format!("{title}: not drawn: {error}"))?;
    }
    Ok(svg)
}

fn draw_on(area: &Area<'_>, lines: &[Line], title: &str) -> Result<(), Box<dyn std::error::Error>> {
    area.fill(&WHITE)?;
    let points = || lines.iter().flat_map(|line| &line.points);
    let x_max = points().map(|point| point.0).fold(10.0, f64::max) * 1.2;
    let y_max = points().map(|point| point.1).fold(f64::MIN_POSITIVE, f64::max) * 1.5;
    let y_min = points().map(|point| point.1).fold(y_max, f64::min) / 1.5;
    let (plot, legend) = area.split_horizontally(SIZE.0 - 240);
    let mut builder = ChartBuilder::on(&plot);
    builder.caption(title, ("sans-serif", 15)).margin(8);
    builder.x_label_area_size(28).y_label_area_size(56);
    let mut chart =
        builder.build_cartesian_2d((0.8..x_max).log_scale(), (y_min..y_max).log_scale())?;
    chart.configure_mesh().light_line_style(WHITE).draw()?;
    for (index, (line, colour)) in lines.iter().zip(COLOURS).enumerate() {
        chart.draw_series(LineSeries::new(line.points.iter().copied(), colour))?;
        let dots = line.points.iter().map(|point| Circle::new(*point, 3, colour.filled()));
        chart.draw_series(dots)?;
        let height = 50 + 18 * i32::try_from(index).unwrap_or(0);
        legend.draw(&Circle::new((8, height + 6), 4, colour.filled()))?;
        legend.draw(&Text::new(line.name.clone(), (18, height), ("sans-serif", 12).into_font()))?;
    }
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_drawn_and_named() {
        let line = Line { name: "a relay".to_owned(), points: vec![(1.0, 9.0), (100.0, 3.0)] };
        let svg = draw(&[line], "a title").unwrap();
        assert!(svg.contains("<polyline") && svg.contains("a relay") && svg.contains("a title"));
    }
}
