//! Owns the picture of a run: throughput and latency over time, as SVG. It must not know how they were measured.

use std::fmt::Write;

use super::report::{Point, Report};

const WIDTH: f64 = 760.0;
const PANEL: f64 = 200.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 40.0;
const GAP: f64 = 60.0;

/// A line of a panel: its name, its colour, and its points as time and value.
type Line = (&'static str, &'static str, Vec<(f64, f64)>);

pub(super) fn svg(report: &Report) -> String {
    let height = TOP + 2.0 * PANEL + GAP + 50.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let points = &report.points;
    let of = |value: fn(&Point) -> Option<f64>| {
        points.iter().filter_map(|point| Some((point.at, value(point)?))).collect::<Vec<_>>()
    };
    let rates = [
        ("published", "#1f77b4", of(|point| Some(point.published))),
        ("received", "#2ca02c", of(|point| Some(point.received))),
    ];
    let latencies = [
        ("median", "#ff7f0e", of(|point| point.latency.map(|(median, _)| median))),
        ("99th percentile", "#d62728", of(|point| point.latency.map(|(_, high)| high))),
    ];
    let end = points.last().map_or(1.0, |last| last.at).max(0.001);
    panel(&mut text, TOP, "messages per second", &rates, end);
    panel(&mut text, TOP + PANEL + GAP, "latency, ms", &latencies, end);
    let _ = writeln!(
        text,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">seconds</text>\n</svg>",
        (LEFT + WIDTH - RIGHT) / 2.0,
        height - 10.0
    );
    text
}

fn panel(text: &mut String, top: f64, title: &str, lines: &[Line], end: f64) {
    let highest = lines.iter().flat_map(|(_, _, points)| points).map(|(_, value)| *value).fold(0.0, f64::max);
    let most = round_up(highest);
    let (bottom, room) = (top + PANEL, WIDTH - LEFT - RIGHT);
    let x = |time: f64| LEFT + time / end * room;
    let y = |value: f64| bottom - value / most * PANEL;
    let _ = writeln!(text, "<text x=\"{LEFT}\" y=\"{:.1}\" font-weight=\"bold\">{title}</text>", top - 10.0);
    for quarter in 0..=4 {
        let share = f64::from(quarter) / 4.0;
        let (value, time) = (most * share, end * share);
        let height = y(value);
        let _ = writeln!(
            text,
            "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{height:.1}\" y2=\"{height:.1}\" stroke=\"#dddddd\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            height + 4.0,
            number(value),
        );
        let _ = writeln!(
            text,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            x(time),
            bottom + 16.0,
            number(time)
        );
    }
    for (place, (name, colour, points)) in lines.iter().enumerate() {
        let path: Vec<String> =
            points.iter().map(|(time, value)| format!("{:.1},{:.1}", x(*time), y(*value))).collect();
        let _ = writeln!(
            text,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" points=\"{}\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"{colour}\">{name}</text>",
            path.join(" "),
            WIDTH - RIGHT - place as f64 * 110.0,
            top - 10.0
        );
    }
}

/// The next of 1, 2, 5, 10, 20, 50 and so on: a scale that people read.
fn round_up(value: f64) -> f64 {
    if !value.is_finite() || value <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0].iter().map(|step| step * power).find(|step| *step >= value).unwrap_or(value)
}

fn number(value: f64) -> String {
    if value == 0.0 || value >= 100.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_ends_at_a_round_number_that_is_not_below_the_highest_value() {
        for (value, end) in
            [(0.0, 1.0), (0.03, 0.05), (1.0, 1.0), (1.1, 2.0), (51.0, 100.0), (123_456.0, 200_000.0)]
        {
            assert!((round_up(value) - end).abs() < end * 1e-9, "{value}");
        }
    }
}
