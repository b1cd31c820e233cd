//! The rows to learn from, read and checked before the first step: no mistake is found after an hour of training.

use std::cmp::Reverse;

use pipe_engine::cell::{Cell, Row};
use pipe_engine::problem::Failure;
use pipe_engine::step::DatasetView;
use pipe_models::Example;
use pipe_stages::lora_train::order::Item;
use pipe_stages::tokenize::IGNORED;

/// The columns that are read.
pub struct Columns<'a> {
    /// Token ids.
    pub input_ids: &'a str,
    /// Labels.
    pub labels: &'a str,
    /// Phases, where rows are learnt by phase.
    pub phase: Option<&'a str>,
    /// Weights, where rows have them.
    pub weight: Option<&'a str>,
}

/// Rows to learn from, in order of id.
pub struct Examples(Vec<Learnt>);

struct Learnt {
    id: String,
    phase: i64,
    weight: f64,
    input_ids: Vec<i64>,
    labels: Vec<i64>,
}

impl Examples {
    /// Reads the rows; fails at the first that cannot be learnt from.
    pub fn read(view: &DatasetView, columns: &Columns<'_>) -> Result<Self, Failure> {
        let mut names = vec![columns.input_ids, columns.labels];
        names.extend(columns.phase.iter().chain(&columns.weight));
        let mut rows = Vec::new();
        for chunk in view.chunks(&names) {
            for row in chunk? {
                rows.push(learnt(row, columns)?);
            }
        }
        Ok(Self(rows))
    }

    /// Fails at the first row that is longer than a model with so many positions can read.
    pub fn check_length(&self, positions: usize) -> Result<(), Failure> {
        // The last token is only predicted.
        let Some(row) = self.0.iter().find(|row| row.input_ids.len() - 1 > positions) else { return Ok(()) };
        let message = format!("it has {} tokens, and the model {positions} positions", row.input_ids.len());
        Err(at(&row.id, message).help("give `tokenize` a `max_length`"))
    }

    /// The rows, as far as their order goes.
    pub fn items(&self) -> Vec<Item<'_>> {
        self.0.iter().map(|row| Item { id: &row.id, phase: row.phase, weight: row.weight }).collect()
    }

    /// The rows at these places.
    pub fn at(&self, places: &[u32]) -> Vec<Example<'_>> {
        places.iter().map(|place| self.0[*place as usize].example()).collect()
    }

    /// How many tokens these examples have.
    pub fn tokens(examples: &[Vec<Example<'_>>]) -> u64 {
        examples.iter().flatten().map(|example| example.input_ids.len() as u64).sum()
    }

    /// All rows, those of like length together.
    pub fn batches(&self, size: usize) -> Vec<Vec<Example<'_>>> {
        let mut rows: Vec<&Learnt> = self.0.iter().collect();
        rows.sort_by_key(|row| Reverse(row.input_ids.len()));
        rows.chunks(size).map(|batch| batch.iter().map(|row| row.example()).collect()).collect()
    }
}

impl Learnt {
    fn example(&self) -> Example<'_> {
        Example { input_ids: &self.input_ids, labels: &self.labels }
    }
}

/// Reads a row whose cells are those of the columns, in the order of [`Examples::read`].
fn learnt(row: Row, columns: &Columns<'_>) -> Result<Learnt, Failure> {
    let Row { id, cells } = row;
    let mut cells = cells.into_iter();
    let mut next = || cells.next().unwrap_or(Cell::Null);
    let input_ids = ints(&id, columns.input_ids, next())?;
    let labels = ints(&id, columns.labels, next())?;
    check(&input_ids, &labels).map_err(|message| at(&id, message).help("`tokenize` makes such columns"))?;
    let phase = match columns.phase.map(|name| (name, next())) {
        None => 0,
        Some((_, Cell::Int(phase))) => phase,
        Some((name, _)) => return Err(at(&id, format!("column `{name}` is null"))),
    };
    let weight = match columns.weight.map(|name| (name, next())) {
        None => 1.0,
        Some((name, cell)) => cell.as_number().ok_or_else(|| at(&id, format!("column `{name}` is null")))?,
    };
    Ok(Learnt { id, phase, weight, input_ids, labels })
}

fn ints(id: &str, column: &str, cell: Cell) -> Result<Vec<i64>, Failure> {
    match cell {
        Cell::Ints(ids) => Ok(ids),
        _ => Err(at(id, format!("column `{column}` is null"))),
    }
}

fn check(input_ids: &[i64], labels: &[i64]) -> Result<(), String> {
    let (tokens, count) = (input_ids.len(), labels.len());
    if tokens < 2 || tokens != count {
        return Err(format!("it has {tokens} tokens and {count} labels; there must be as many, and 2 at least"));
    }
    // A token is learnt from those before it, so the first never is.
    if labels[1..].iter().all(|label| *label == IGNORED) {
        return Err(format!("there is nothing to learn in it: every label after the first is {IGNORED}"));
    }
    Ok(())
}

fn at(id: &str, message: impl Into<String>) -> Failure {
    Failure { row: Some(id.to_owned()), ..Failure::input(message) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: Columns<'static> =
        Columns { input_ids: "input_ids", labels: "labels", phase: Some("phase"), weight: Some("weight") };

    fn row(ids: &[i64], labels: &[i64]) -> Vec<Cell> {
        vec![Cell::Ints(ids.to_vec()), Cell::Ints(labels.to_vec()), Cell::Int(2), Cell::Float(0.5)]
    }

    fn read(cells: Vec<Cell>) -> Result<Learnt, String> {
        learnt(Row { id: "a".to_owned(), cells }, &COLUMNS).map_err(|failure| failure.to_string())
    }

    fn message(cells: Vec<Cell>) -> String {
        read(cells).map(|_| ()).unwrap_err()
    }

    #[test]
    fn a_row_brings_its_phase_and_weight() {
        let row = read(row(&[5, 6, 7], &[-100, 6, 7])).unwrap();
        assert_eq!((row.phase, row.weight, row.example().input_ids), (2, 0.5, [5, 6, 7].as_slice()));
    }

    #[test]
    fn rows_that_teach_nothing_are_named() {
        let uneven = "row `a`: it has 2 tokens and 1 labels; there must be as many, and 2 at least";
        assert_eq!(message(row(&[5, 6], &[6])), uneven);
        let nothing = "row `a`: there is nothing to learn in it: every label after the first is -100";
        assert_eq!(message(row(&[5, 6], &[5, -100])), nothing);
        let mut null = row(&[5, 6], &[5, 6]);
        null[3] = Cell::Null;
        assert_eq!(message(null), "row `a`: column `weight` is null");
        assert_eq!(message(vec![Cell::Null]), "row `a`: column `input_ids` is null");
    }

    #[test]
    fn batches_hold_rows_of_like_length() {
        let rows = [3, 2, 5, 4].map(|tokens| read(row(&vec![1; tokens], &vec![1; tokens])).unwrap());
        let examples = Examples(rows.into());
        let lengths: Vec<Vec<usize>> =
            examples.batches(3).iter().map(|batch| batch.iter().map(|row| row.input_ids.len()).collect()).collect();
        assert_eq!(lengths, [vec![5, 4, 3], vec![2]]);
        assert!(examples.check_length(4).is_ok());
        assert!(examples.check_length(3).unwrap_err().to_string().starts_with("row `a`: it has 5 tokens"));
    }
}
