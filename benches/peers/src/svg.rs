//! Plots: a bar for each who did a thing, longer is more.

use std::fmt::Write as _;

use crate::figures::Figure;
use crate::render::{is_better_when_less, number};

/// Draws the medians of one thing, the rounds' range as a line over each bar.
pub(crate) fn bars(title: &str, figures: &[&Figure], quick: bool) -> String {
    let most = figures.iter().flat_map(|figure| &figure.rounds).copied().fold(0.0, f64::max);
    let height = HEAD + ROW * figures.len() + 10;
    let mut out = String::new();
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"13\">"
    );
    let unit = figures.first().map_or("", |figure| figure.unit.as_str());
    let way = if is_better_when_less(unit) { "less is better" } else { "more is better" };
    let quick = if quick { "; quick run" } else { "" };
    let _ = writeln!(out, "<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>");
    let _ = writeln!(
        out,
        "<text x=\"10\" y=\"22\" font-weight=\"bold\" fill=\"#222222\">{title} \
         <tspan font-weight=\"normal\">({way}{quick})</tspan></text>"
    );
    for (at, figure) in figures.iter().enumerate() {
        let top = HEAD + ROW * at;
        let scale = |value: f64| BAR * value / most;
        let least = figure.rounds.iter().copied().fold(f64::MAX, f64::min);
        let greatest = figure.rounds.iter().copied().fold(0.0, f64::max);
        let colour = if figure.who.starts_with("kdelta") { "#c2410c" } else { "#64748b" };
        let (text, middle) = (top + 15, top + 10);
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{text}\" text-anchor=\"end\" fill=\"#222222\">{}</text>\
             <rect x=\"{LEFT}\" y=\"{top}\" width=\"{:.1}\" height=\"20\" fill=\"{colour}\"/>\
             <path d=\"M{:.1} {middle}H{:.1}\" stroke=\"#111111\" stroke-width=\"2\"/>\
             <text x=\"{:.1}\" y=\"{text}\" fill=\"#222222\">{}</text>",
            LEFT - 8,
            figure.who.replace('`', ""),
            scale(figure.median()),
            LEFT as f64 + scale(least),
            LEFT as f64 + scale(greatest),
            LEFT as f64 + scale(greatest) + 8.0,
            number(figure.median()),
        );
    }
    out + "</svg>\n"
}

const WIDTH: usize = 790;
const LEFT: usize = 220;
const HEAD: usize = 36;
const ROW: usize = 26;
/// The longest bar.
const BAR: f64 = 480.0;
