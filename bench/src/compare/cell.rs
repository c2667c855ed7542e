//! What is asked of each relay.

use serde::Serialize;

/// Who takes part.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    /// All.
    Everyone,
    /// Our relay and the controls: a load that keeps them busy, and drowns others.
    Controls,
}

/// A fan-out: objects of one size at one rate to so many subscribers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cell {
    /// As `120 B × 50/s`.
    pub name: String,
    /// Bytes of an object.
    pub size: usize,
    /// Objects a second.
    pub rate: f64,
    /// Objects of a group, which is a stream.
    pub group: u64,
    /// Subscribers.
    pub subscribers: usize,
    /// Who takes part.
    pub reach: Reach,
}

impl Cell {
    fn new(size: usize, rate: u32, subscribers: usize, reach: Reach) -> Self {
        let bytes = match size {
            4_096 => "4 KiB".to_owned(),
            16_384 => "16 KiB".to_owned(),
            1_048_576 => "1 MiB".to_owned(),
            other => format!("{other} B"),
        };
        Self {
            name: format!("{bytes} × {rate}/s"),
            size,
            rate: f64::from(rate),
            group: if size == 1 << 20 { 1 } else { u64::from(rate) },
            subscribers,
            reach,
        }
    }
}

/// The shapes: bytes and objects a second.
const SHAPES: [(usize, u32); 5] = [(120, 50), (1_200, 30), (4_096, 60), (16_384, 30), (1 << 20, 1)];

/// Loads that keep a core of ours busy.
const BUSY: [(usize, u32, usize); 4] =
    [(120, 500, 200), (1_200, 400, 200), (4_096, 200, 200), (1 << 20, 20, 10)];

fn busy() -> impl Iterator<Item = Cell> {
    BUSY.into_iter().map(|(size, rate, count)| Cell::new(size, rate, count, Reach::Controls))
}

/// Every shape to 1, 10, 100, 200 and 1,000 subscribers.
pub fn full() -> Vec<Cell> {
    let counts = [1, 10, 100, 200, 1_000];
    let each = |(size, rate)| {
        counts.into_iter().map(move |count| Cell::new(size, rate, count, Reach::Everyone))
    };
    SHAPES.into_iter().flat_map(each).chain(busy()).collect()
}

/// What says most, in a quarter of an hour.
pub fn short() -> Vec<Cell> {
    let chosen = [
        (1_200, 30, 1),
        (1_200, 30, 10),
        (1_200, 30, 100),
        (1_200, 30, 200),
        (1_200, 30, 1_000),
        (120, 50, 200),
        (4_096, 60, 10),
        (4_096, 60, 200),
        (16_384, 30, 10),
        (1 << 20, 1, 10),
    ];
    let cells =
        chosen.into_iter().map(|(size, rate, count)| Cell::new(size, rate, count, Reach::Everyone));
    cells.chain(busy()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_full_selection_holds_every_shape_and_the_short_one_is_part_of_it() {
        let full = full();
        assert_eq!(full.len(), 5 * 5 + BUSY.len());
        assert!(short().iter().all(|cell| full.contains(cell)));
    }
}
