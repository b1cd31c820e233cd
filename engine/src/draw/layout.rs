//! Where the steps of a picture stand: in layers from top to bottom, ordered so that few arrows cross, above and below what they are
//! joined to. After Sugiyama, Tagawa and Toda (1981), with the barycentres of neighbours for order and place.

use super::Drawing;

/// Sweeps up and down; orders settle long before.
const SWEEPS: usize = 24;

/// A place in a layer: a step, or where a long arrow passes.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The step; `None` where an arrow passes.
    pub(super) node: Option<usize>,
    /// The layer, from 0 at the top.
    pub(super) layer: usize,
    /// The middle, in the unit of `widths`.
    pub(super) x: f64,
    width: f64,
    above: Vec<usize>,
    below: Vec<usize>,
}

/// Places of steps and arrows.
pub(super) struct Layout {
    /// The first of them are the steps, in their order.
    pub(super) places: Vec<Place>,
    /// The places that each arrow goes through, from its first to its last step.
    pub(super) paths: Vec<Vec<usize>>,
    /// How many layers there are.
    pub(super) layers: usize,
}

/// Lays out a picture; `widths` are those of its steps, `passing` that of an arrow that passes a layer.
pub(super) fn layout(drawing: &Drawing, widths: &[f64], passing: f64, gap: f64) -> Layout {
    let layers = layers(drawing);
    let place = |(node, width): (usize, &f64)| Place {
        node: Some(node),
        layer: layers[node],
        x: 0.0,
        width: *width,
        above: Vec::new(),
        below: Vec::new(),
    };
    let mut places: Vec<Place> = widths.iter().enumerate().map(place).collect();
    let mut paths = Vec::new();
    for edge in &drawing.edges {
        let mut path = vec![edge.from];
        for layer in layers[edge.from] + 1..layers[edge.to] {
            let place = Place { node: None, layer, x: 0.0, width: passing, above: Vec::new(), below: Vec::new() };
            path.push(places.len());
            places.push(place);
        }
        path.push(edge.to);
        for pair in path.windows(2) {
            places[pair[0]].below.push(pair[1]);
            places[pair[1]].above.push(pair[0]);
        }
        paths.push(path);
    }
    let count = layers.iter().max().map_or(0, |last| last + 1);
    let mut rows = vec![Vec::new(); count];
    for (at, place) in places.iter().enumerate() {
        rows[place.layer].push(at);
    }
    arrange(&mut places, &mut rows, gap);
    Layout { places, paths, layers: count }
}

/// The layer of each step: below everything it takes from; one that takes from nothing stands right above its first taker.
fn layers(drawing: &Drawing) -> Vec<usize> {
    let mut layers = vec![0; drawing.nodes.len()];
    for edge in ordered(drawing) {
        layers[edge.1] = layers[edge.1].max(layers[edge.0] + 1);
    }
    for at in (0..layers.len()).rev() {
        if !drawing.edges.iter().any(|edge| edge.to == at) {
            let takers = drawing.edges.iter().filter(|edge| edge.from == at).map(|edge| layers[edge.to]);
            layers[at] = takers.min().map_or(0, |first| first - 1);
        }
    }
    layers
}

/// Arrows in the order of the steps they go to, which come after those they leave.
fn ordered(drawing: &Drawing) -> Vec<(usize, usize)> {
    let mut edges: Vec<(usize, usize)> = drawing.edges.iter().map(|edge| (edge.from, edge.to)).collect();
    edges.sort_by_key(|(from, to)| (*to, *from));
    edges
}

/// Orders the places of each layer and moves them to their neighbours' middle; keeps the order with the fewest crossings.
fn arrange(places: &mut [Place], rows: &mut [Vec<usize>], gap: f64) {
    rows.iter().for_each(|row| spread(places, row, gap, |_, _| None));
    let mut best = (usize::MAX, rows.to_vec());
    for sweep in 0..SWEEPS {
        let down = sweep % 2 == 0;
        let order: Vec<usize> = if down { (0..rows.len()).collect() } else { (0..rows.len()).rev().collect() };
        for layer in order {
            let key = |at: &usize| middle(places, neighbours(&places[*at], down)).unwrap_or(places[*at].x);
            let mut keyed: Vec<(f64, usize)> = rows[layer].iter().map(|at| (key(at), *at)).collect();
            keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
            rows[layer] = keyed.into_iter().map(|(_, at)| at).collect();
            spread(places, &rows[layer], gap, |places, at| middle(places, neighbours(&places[at], down)));
        }
        let crossings = crossings(places, rows);
        if crossings < best.0 {
            best = (crossings, rows.to_vec());
        }
    }
    rows.clone_from_slice(&best.1);
    rows.iter().for_each(|row| spread(places, row, gap, |_, _| None));
    for sweep in 0..SWEEPS {
        let order: Vec<usize> =
            if sweep % 2 == 0 { (0..rows.len()).collect() } else { (0..rows.len()).rev().collect() };
        for layer in order {
            spread(places, &rows[layer], gap, |places, at| {
                let all: Vec<usize> = places[at].above.iter().chain(&places[at].below).copied().collect();
                middle(places, &all)
            });
        }
    }
    let left = places.iter().map(|place| place.x - place.width / 2.0).fold(f64::INFINITY, f64::min);
    places.iter_mut().for_each(|place| place.x -= left);
}

fn neighbours(place: &Place, down: bool) -> &[usize] {
    if down { &place.above } else { &place.below }
}

#[expect(clippy::cast_precision_loss, reason = "a few neighbours")]
fn middle(places: &[Place], of: &[usize]) -> Option<f64> {
    (!of.is_empty()).then(|| of.iter().map(|at| places[*at].x).sum::<f64>() / of.len() as f64)
}

/// Puts the places of a layer where they wish to stand, as far as their order and widths allow: between pushing from the left
/// and pushing from the right.
fn spread(places: &mut [Place], row: &[usize], gap: f64, wish: impl Fn(&[Place], usize) -> Option<f64>) {
    let wished: Vec<f64> = row.iter().map(|at| wish(places, *at).unwrap_or(places[*at].x)).collect();
    let room = |places: &[Place], a: usize, b: usize| (places[a].width + places[b].width) / 2.0 + gap;
    let (mut from_left, mut from_right) = (wished.clone(), wished);
    for n in 1..row.len() {
        from_left[n] = from_left[n].max(from_left[n - 1] + room(places, row[n - 1], row[n]));
    }
    for n in (1..row.len()).rev() {
        from_right[n - 1] = from_right[n - 1].min(from_right[n] - room(places, row[n - 1], row[n]));
    }
    for (n, at) in row.iter().enumerate() {
        places[*at].x = f64::midpoint(from_left[n], from_right[n]);
    }
}

/// How often arrows between neighbouring layers cross.
fn crossings(places: &[Place], rows: &[Vec<usize>]) -> usize {
    let mut order = vec![0; places.len()];
    rows.iter().for_each(|row| row.iter().enumerate().for_each(|(n, at)| order[*at] = n));
    let mut count = 0;
    for row in rows {
        let arrows: Vec<(usize, usize)> =
            row.iter().flat_map(|at| places[*at].below.iter().map(|to| (order[*at], order[*to]))).collect();
        for (n, one) in arrows.iter().enumerate() {
            count += arrows[n + 1..]
                .iter()
                .filter(|other| (one.0 < other.0 && one.1 > other.1) || (one.0 > other.0 && one.1 < other.1))
                .count();
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::{Arrow, Node};
    use crate::plan::Action;
    use proptest::prelude::*;

    fn drawing(nodes: usize, edges: &[(usize, usize)]) -> Drawing {
        let node = |at| Node { name: format!("n{at}"), stage: "s", action: Action::Run, rows: String::new() };
        let arrow = |(from, to): &(usize, usize)| Arrow {
            from: *from,
            to: *to,
            output: String::new(),
            port: "p".to_owned(),
            kind: "k".to_owned(),
        };
        Drawing {
            name: "d".to_owned(),
            nodes: (0..nodes).map(node).collect(),
            edges: edges.iter().map(arrow).collect(),
        }
    }

    proptest! {
        /// No two boxes touch, every arrow goes down, whatever the graph.
        #[test]
        fn boxes_do_not_touch_and_arrows_go_down(
            pairs in proptest::collection::vec((0..30_usize, 0..30_usize), 0..60)
        ) {
            let edges: Vec<(usize, usize)> = pairs.into_iter().filter(|(a, b)| a != b).map(|(a, b)| (a.min(b), a.max(b))).collect();
            let layout = layout(&drawing(30, &edges), &[100.0; 30], 10.0, 20.0);
            for (n, one) in layout.places.iter().enumerate() {
                for other in layout.places[n + 1..].iter().filter(|other| other.layer == one.layer) {
                    let apart = (one.x - other.x).abs() - (one.width + other.width) / 2.0;
                    prop_assert!(apart > 19.0, "{apart}");
                }
            }
            for (from, to) in &edges {
                prop_assert!(layout.places[*from].layer < layout.places[*to].layer);
            }
            prop_assert!(layout.paths.iter().all(|path| path.windows(2).all(|p| layout.places[p[1]].layer == layout.places[p[0]].layer + 1)));
        }
    }

    #[test]
    fn a_square_is_drawn_without_crossings() {
        let layout = layout(&drawing(4, &[(0, 1), (0, 2), (1, 3), (2, 3)]), &[100.0; 4], 10.0, 20.0);
        assert_eq!(layout.layers, 3);
        assert!((layout.places[0].x - layout.places[3].x).abs() < 1.0);
    }
}
