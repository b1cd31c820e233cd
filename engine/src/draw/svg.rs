//! A picture as SVG: boxes in layers, arrows from the bottom of one to the top of another.

use super::layout::{Layout, layout};
use super::{Arrow, Drawing, Node, colour, escape, line};
use crate::plan::Action;

const FONT: f64 = 13.0;
const SMALL: f64 = 10.5;
/// Width of a character, on average; generous, so that text stays inside boxes whatever the font.
const CHARACTER: f64 = 0.62;
const PADDING: f64 = 12.0;
const MARGIN: f64 = 24.0;
const GAP: f64 = 36.0;
/// Room for an arrow that passes a layer, with what is written beside it.
const PASSING: f64 = 60.0;
const BOX: f64 = 58.0;
/// From the top of a layer to that of the next.
const LAYER: f64 = 138.0;

pub(super) fn draw(drawing: &Drawing) -> String {
    let widths: Vec<f64> = drawing.nodes.iter().map(width).collect();
    let layout = layout(drawing, &widths, PASSING, GAP);
    let right = layout.places.iter().map(|place| place.x + place.node.map_or(0.0, |node| widths[node] / 2.0));
    let width = right.fold(420.0, f64::max) + 2.0 * MARGIN;
    #[expect(clippy::cast_precision_loss, reason = "a few layers")]
    let height = layout.layers.saturating_sub(1) as f64 * LAYER + BOX + 2.0 * MARGIN + 30.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"Helvetica, Arial, DejaVu Sans, sans-serif\">\n"
    );
    line(&mut text, format_args!("<title>{}</title>", escape(&drawing.name)));
    text.push_str(
        "<defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" \
         orient=\"auto\"><path d=\"M0 0 L8 4 L0 8 z\" fill=\"#555\"/></marker></defs>\n",
    );
    line(&mut text, format_args!("<rect width=\"{width:.0}\" height=\"{height:.0}\" fill=\"#fff\"/>"));
    arrows(drawing, &layout, &mut text);
    for (node, (place, width)) in drawing.nodes.iter().zip(layout.places.iter().zip(&widths)) {
        boxed(node, place.x + MARGIN, top(place.layer), *width, &mut text);
    }
    legend(height - 18.0, &mut text);
    text.push_str("</svg>\n");
    text
}

#[expect(clippy::cast_precision_loss, reason = "a few layers")]
fn top(layer: usize) -> f64 {
    MARGIN + layer as f64 * LAYER
}

#[expect(clippy::cast_precision_loss, reason = "short texts")]
fn text_width(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * size * CHARACTER
}

fn width(node: &Node) -> f64 {
    let name = text_width(&node.name, FONT * 1.08);
    let below = text_width(node.stage, SMALL).max(text_width(&node.rows, SMALL));
    name.max(below).max(80.0) + 2.0 * PADDING
}

fn boxed(node: &Node, x: f64, y: f64, width: f64, text: &mut String) {
    let left = x - width / 2.0;
    let fill = colour(node.action);
    line(
        text,
        format_args!(
            "<rect x=\"{left:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BOX}\" rx=\"7\" fill=\"{fill}\" stroke=\"#555\"/>"
        ),
    );
    let name = escape(&node.name);
    let lines = node.lines().len();
    let first = if lines > 2 { 20.0 } else { 25.0 };
    line(
        text,
        format_args!(
            "<text x=\"{x:.1}\" y=\"{:.1}\" font-size=\"{FONT}\" font-weight=\"bold\" text-anchor=\"middle\">{name}</text>",
            y + first
        ),
    );
    for (n, small) in node.lines().iter().enumerate().skip(1) {
        #[expect(clippy::cast_precision_loss, reason = "three lines at most")]
        let y = y + first + 15.0 * n as f64;
        line(
            text,
            format_args!(
                "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{SMALL}\" fill=\"#444\" text-anchor=\"middle\">{}</text>",
                escape(small)
            ),
        );
    }
}

/// The line of a kind: datasets are drawn through.
fn dashes(kind: &str) -> &'static str {
    match kind.split('/').next() {
        Some("dataset") => "",
        Some("model") => " stroke-dasharray=\"7 4\"",
        _ => " stroke-dasharray=\"2 3\"",
    }
}

fn arrows(drawing: &Drawing, layout: &Layout, text: &mut String) {
    for (at, (edge, path)) in drawing.edges.iter().zip(&layout.paths).enumerate() {
        let mut points: Vec<(f64, f64)> = path
            .iter()
            .map(|place| (layout.places[*place].x + MARGIN, top(layout.places[*place].layer) + BOX / 2.0))
            .collect();
        let last = points.len() - 1;
        points[0] = (points[0].0 + side(drawing, layout, at, true), points[0].1 + BOX / 2.0);
        points[last] = (points[last].0 + side(drawing, layout, at, false), points[last].1 - BOX / 2.0 - 2.0);
        let mut curve = format!("M{:.1} {:.1}", points[0].0, points[0].1);
        for pair in points.windows(2) {
            let middle = f64::midpoint(pair[0].1, pair[1].1);
            let (from, to) = (pair[0], pair[1]);
            curve.push_str(&format!(" C{:.1} {middle:.1} {:.1} {middle:.1} {:.1} {:.1}", from.0, to.0, to.0, to.1));
        }
        line(
            text,
            format_args!(
                "<path d=\"{curve}\" fill=\"none\" stroke=\"#777\" stroke-width=\"1.3\"{} marker-end=\"url(#tip)\"><title>{}</title></path>",
                dashes(&edge.kind),
                escape(&format!("{} → {}: {}", drawing.nodes[edge.from].name, drawing.nodes[edge.to].name, edge.kind))
            ),
        );
        label(edge, points[last], at_end(drawing, layout, at), text);
    }
}

/// How far from the middle of a box an arrow begins or ends, so that several stand side by side, from left to right as they go.
fn side(drawing: &Drawing, layout: &Layout, at: usize, begins: bool) -> f64 {
    let shared = shared(drawing, layout, at, begins);
    #[expect(clippy::cast_precision_loss, reason = "a few arrows")]
    let (place, count) = (shared.0 as f64, shared.1 as f64);
    let step = if begins { 14.0 } else { 30.0 };
    (place - (count - 1.0) / 2.0) * step
}

/// Which of the arrows at the same end of a step this one is, from the left, and how many there are.
fn shared(drawing: &Drawing, layout: &Layout, at: usize, begins: bool) -> (usize, usize) {
    let of = |edge: &Arrow| if begins { edge.from } else { edge.to };
    let next = |at: usize| {
        let path = &layout.paths[at];
        layout.places[if begins { path[1] } else { path[path.len() - 2] }].x
    };
    let here = of(&drawing.edges[at]);
    let mut all: Vec<usize> = (0..drawing.edges.len()).filter(|other| of(&drawing.edges[*other]) == here).collect();
    all.sort_by(|a, b| next(*a).total_cmp(&next(*b)).then(a.cmp(b)));
    (all.iter().position(|other| *other == at).unwrap_or(0), all.len())
}

/// Where the label of an arrow stands among those that end at the same step: each on a line of its own.
fn at_end(drawing: &Drawing, layout: &Layout, at: usize) -> f64 {
    let (place, _) = shared(drawing, layout, at, false);
    #[expect(clippy::cast_precision_loss, reason = "a few arrows")]
    let place = place as f64;
    place
}

fn label(edge: &Arrow, end: (f64, f64), place: f64, text: &mut String) {
    let (x, y) = (end.0 + 5.0, end.1 - 12.0 - place * 11.5);
    line(
        text,
        format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"9.5\" fill=\"#333\" stroke=\"#fff\" stroke-width=\"3\" paint-order=\"stroke\">{}</text>",
            escape(&edge.label())
        ),
    );
}

fn legend(y: f64, text: &mut String) {
    let mut x = MARGIN;
    for (action, what) in
        [(Action::Reuse, "result is there"), (Action::Assemble, "all rows remembered"), (Action::Run, "would run")]
    {
        line(
            text,
            format_args!(
                "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"12\" height=\"12\" rx=\"2\" fill=\"{}\" stroke=\"#555\"/>",
                y - 10.0,
                colour(action)
            ),
        );
        line(text, format_args!("<text x=\"{:.1}\" y=\"{y:.1}\" font-size=\"{SMALL}\">{what}</text>", x + 17.0));
        x += 30.0 + text_width(what, SMALL);
    }
    for (kind, what) in [("dataset/1", "dataset"), ("model/1", "model"), ("files/1", "other")] {
        line(
            text,
            format_args!(
                "<path d=\"M{x:.1} {:.1} h26\" stroke=\"#777\" stroke-width=\"1.3\"{}/>",
                y - 4.0,
                dashes(kind)
            ),
        );
        line(text, format_args!("<text x=\"{:.1}\" y=\"{y:.1}\" font-size=\"{SMALL}\">{what}</text>", x + 31.0));
        x += 44.0 + text_width(what, SMALL);
    }
}
