//! Curves over one common axis as SVG: panels one above the other, each from zero, with its unit.

use std::fmt::Write as _;

/// One curve.
#[derive(Clone, Debug)]
pub struct Curve {
    /// What it is.
    pub name: &'static str,
    /// Its values, one for each place on the common axis.
    pub values: Vec<f64>,
}

/// Curves with one unit.
#[derive(Clone, Debug)]
pub struct Panel {
    /// What the axis says, with its unit.
    pub axis: &'static str,
    /// The curves.
    pub curves: Vec<Curve>,
}

const WIDTH: f64 = 760.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 150.0;
const HEIGHT: f64 = 110.0;
const ABOVE: f64 = 34.0;
const COLOURS: [&str; 4] = ["#b5541c", "#2f6f8f", "#4d7d35", "#7a5195"];
const STYLE: &str = "text{font:12px sans-serif;fill:#333}.t{font-weight:bold;font-size:14px}\
    .g{stroke:#ddd;stroke-width:1}.a{stroke:#888;stroke-width:1}.c{fill:none;stroke-width:1.5}";

/// The next of 1, 2, 5, 10, 20... that is at least `value`.
fn round_up(value: f64) -> f64 {
    let mut step = 1.0;
    loop {
        for round in [step, 2.0 * step, 5.0 * step] {
            if round >= value {
                return round;
            }
        }
        step *= 10.0;
    }
}

/// Text that may stand in an element.
fn text(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;")
}

/// A number of the axis: in thousands from ten thousand on.
fn tick(value: f64) -> String {
    if value >= 10_000.0 { format!("{}k", value / 1000.0) } else { format!("{value}") }
}

/// All of it. `along`: the places on the common axis, rising, and what it says.
#[must_use]
pub fn svg(title: &str, (axis, along): (&str, &[f64]), panels: &[Panel]) -> String {
    let height = 40.0 + panels.len() as f64 * (HEIGHT + ABOVE) + 40.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n\
         <title>{0}</title>\n<style>{STYLE}</style>\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text class=\"t\" x=\"{LEFT}\" y=\"22\">{0}</text>\n",
        text(title)
    );
    let last = round_up(along.last().copied().unwrap_or(1.0));
    let x = |place: f64| LEFT + place / last * (WIDTH - LEFT - RIGHT);
    let mut top = 40.0;
    for panel in panels {
        top += ABOVE;
        draw(&mut out, panel, top, along, &x);
        top += HEIGHT;
    }
    for part in 0..=5 {
        let place = last / 5.0 * f64::from(part);
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            x(place),
            top + 16.0,
            tick(place)
        );
    }
    let _ = writeln!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n</svg>",
        x(last / 2.0),
        top + 33.0,
        text(axis)
    );
    out
}

fn draw(out: &mut String, panel: &Panel, top: f64, along: &[f64], x: &impl Fn(f64) -> f64) {
    let most = panel.curves.iter().flat_map(|curve| &curve.values).copied().fold(1.0, f64::max);
    let most = round_up(most);
    let y = |value: f64| top + HEIGHT - value / most * HEIGHT;
    let right = WIDTH - RIGHT;
    let _ = writeln!(out, "<text x=\"{LEFT}\" y=\"{:.1}\">{}</text>", top - 8.0, text(panel.axis));
    for part in [0.0, 0.5, 1.0] {
        let (value, class) = (most * part, if part == 0.0 { "a" } else { "g" });
        let _ = writeln!(
            out,
            "<line class=\"{class}\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{0:.1}\" y2=\"{0:.1}\"/>\
             <text x=\"{1}\" y=\"{2:.1}\" text-anchor=\"end\">{3}</text>",
            y(value),
            LEFT - 6.0,
            y(value) + 4.0,
            tick(value)
        );
    }
    for ((index, curve), colour) in panel.curves.iter().enumerate().zip(COLOURS.iter().cycle()) {
        let points: Vec<String> = along
            .iter()
            .zip(&curve.values)
            .map(|(place, value)| format!("{:.1},{:.1}", x(*place), y(*value)))
            .collect();
        let _ = writeln!(out, "<polyline class=\"c\" stroke=\"{colour}\" points=\"{}\"/>", points.join(" "));
        let at = top + 12.0 + index as f64 * 16.0;
        let _ = writeln!(
            out,
            "<line x1=\"{}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"{colour}\" stroke-width=\"3\"/>\
             <text x=\"{}\" y=\"{:.1}\">{}</text>",
            right + 10.0,
            right + 24.0,
            right + 30.0,
            at + 4.0,
            text(curve.name)
        );
    }
}
