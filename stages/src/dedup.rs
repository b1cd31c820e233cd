//! `dedup`: of rows that are equal in some columns, keeps the one with the smallest id.
//!
//! Equal means equal to the byte: images by the digest of their file, other cells by value. A row with nothing but nulls in those
//! columns is nobody's duplicate. Knows nothing of near duplicates.

use std::collections::HashSet;

use pipe_engine::cell::{Cell, Row, Schema};
use pipe_engine::problem::{Failure, Problem};
use pipe_engine::stage::{
    Assignment, Contract, DATASET, Declare, Execute, Load, Mark, NO_MARK, Port, Resources, Stage, TableStage, Verdict,
    params_schema,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The row of the stage table.
pub const STAGE: Stage = Stage {
    name: "dedup",
    version: 1,
    about: "of rows equal in some columns, keeps the one with the smallest id",
    inputs: &[Port::one("rows", &[DATASET], "the rows to compare")],
    outputs: &[Port::one("rows", &[DATASET], "one row of each sort")],
    params: params_schema::<Params>,
    resources: Resources::ONE_CORE,
    resolve: None,
    declare,
    execute: Execute::Table(load),
};

/// The parameters of `dedup`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The columns in which duplicates are equal.
    #[schemars(length(min = 1), extend("uniqueItems" = true))]
    by: Vec<String>,
}

fn declare(step: &Declare<'_>) -> Result<Contract, Problem> {
    let params: Params = step.params()?;
    let schema = step.schema("rows")?;
    for column in &params.by {
        check_column(column, schema)?;
    }
    Ok(Contract::default().reads_columns("rows", params.by))
}

fn check_column(column: &str, schema: &Schema) -> Result<(), Problem> {
    if column == "id" {
        return Err(Problem::param("by", "ids are unique already: no two rows are equal in `id`"));
    }
    if schema.get(column).is_none() {
        let subject = pipe_engine::problem::Subject::Param("by".to_owned());
        return Err(Problem::missing_column(subject, column, &[], schema));
    }
    Ok(())
}

struct Dedup {
    columns: Vec<usize>,
}

fn load(load: &Load<'_>) -> Result<Box<dyn TableStage>, Failure> {
    let params: Params = load.params()?;
    let place = |column: &String| {
        load.columns
            .iter()
            .position(|given| given == column)
            .ok_or_else(|| Failure::internal(format!("column `{column}` was declared but not given")))
    };
    let columns = params.by.iter().map(place).collect::<Result<_, _>>()?;
    Ok(Box::new(Dedup { columns }))
}

/// The verdict on a row that an earlier one is equal to.
const DUPLICATE: Verdict = 1;

impl TableStage for Dedup {
    fn mark(&self, rows: &[Row]) -> Result<Vec<Mark>, Failure> {
        Ok(rows.iter().map(|row| self.fingerprint(row)).collect())
    }

    /// Chunks come in order of id, so the first row of a sort has the smallest.
    fn decide(&self, marks: &[Vec<Mark>]) -> Vec<Vec<Verdict>> {
        let mut seen = HashSet::with_capacity(marks.iter().map(Vec::len).sum());
        let mut judge = |mark: &Mark| if *mark == NO_MARK || seen.insert(*mark) { 0 } else { DUPLICATE };
        marks.iter().map(|chunk| chunk.iter().map(&mut judge).collect()).collect()
    }

    fn assign(&self, rows: &[Row], verdicts: &[Verdict]) -> Result<Vec<Assignment>, Failure> {
        let assignment = |verdict: &Verdict| match *verdict {
            DUPLICATE => Assignment::Drop("duplicate".to_owned()),
            _ => Assignment::Keep { port: 0, cells: Vec::new() },
        };
        Ok(verdicts.iter().take(rows.len()).map(assignment).collect())
    }
}

impl Dedup {
    /// What a row is compared by: half a BLAKE3. That two of a billion different rows share one has a chance below 10^-20.
    fn fingerprint(&self, row: &Row) -> Mark {
        let cells = || self.columns.iter().map(|at| row.cells.get(*at).unwrap_or(&Cell::Null));
        if cells().all(Cell::is_null) {
            return NO_MARK;
        }
        let mut hasher = blake3::Hasher::new();
        cells().for_each(|cell| hash_cell(&mut hasher, cell));
        let mut half = [0; 16];
        hasher.finalize_xof().fill(&mut half);
        Mark::from_le_bytes(half)
    }
}

/// A tag, then the content with its length, so that no two sequences of cells collide by concatenation.
fn hash_cell(hasher: &mut blake3::Hasher, cell: &Cell) {
    let mut field = |tag: u8, bytes: &[u8]| {
        hasher.update(&[tag]).update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
    };
    match cell {
        Cell::Null => field(0, &[]),
        Cell::Bool(value) => field(1, &[u8::from(*value)]),
        Cell::Int(value) => field(2, &value.to_le_bytes()),
        // Zero is equal to minus zero.
        Cell::Float(value) => field(3, &(if *value == 0.0 { 0.0 } else { *value }).to_le_bytes()),
        Cell::Text(text) => field(4, text.as_bytes()),
        Cell::Texts(texts) => {
            field(5, &(texts.len() as u64).to_le_bytes());
            texts.iter().for_each(|text| field(4, text.as_bytes()));
        }
        Cell::Ints(values) => field(6, &values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>()),
        Cell::Image(_) | Cell::NewImage(_) | Cell::ImageFile(_) => {
            field(7, cell.image_digest().as_ref().map_or(&[][..], |digest| digest.bytes()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{blob, dataset_shape, declared, schema};
    use pipe_engine::cell::ColumnType;
    use serde_json::json;

    fn kept(columns: &[(&str, ColumnType)], rows: Vec<Vec<Cell>>) -> Vec<bool> {
        let by: Vec<String> = columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        let inputs = pipe_engine::step::Inputs::default();
        let params = json!({ "by": by });
        let setup = Load {
            params: &params,
            inputs: &inputs,
            columns: &by,
            schema: &schema(columns),
            place: pipe_engine::stage::Place::default(),
        };
        let stage = load(&setup).unwrap();
        let row = |(at, cells): (usize, Vec<Cell>)| Row { id: format!("{at:03}"), cells };
        let rows: Vec<Row> = rows.into_iter().enumerate().map(row).collect();
        let found = crate::testing::assign(stage.as_ref(), &rows, 2);
        found.into_iter().map(|assignment| assignment == Assignment::Keep { port: 0, cells: Vec::new() }).collect()
    }

    #[test]
    fn the_first_of_equal_images_stays() {
        let dir = tempfile::tempdir().unwrap();
        let image = |bytes: &[u8]| vec![Cell::Image(blob(dir.path(), bytes))];
        let found = kept(&[("image", ColumnType::Image)], vec![image(b"a"), image(b"b"), image(b"a"), image(b"a")]);
        assert_eq!(found, [true, true, false, false]);
    }

    #[test]
    fn cells_do_not_run_into_each_other() {
        let texts = [("a", ColumnType::Text), ("b", ColumnType::Text)];
        let row = |a: &str, b: &str| vec![Cell::Text(a.into()), Cell::Text(b.into())];
        assert_eq!(kept(&texts, vec![row("ab", "c"), row("a", "bc"), row("ab", "c")]), [true, true, false]);
        let list = |items: &[&str]| vec![Cell::Texts(items.iter().map(|&item| item.to_owned()).collect())];
        assert_eq!(
            kept(&[("a", ColumnType::Texts)], vec![list(&["x", "y"]), list(&["xy"]), list(&["x", "y"])]),
            [true, true, false]
        );
        let number = |value| vec![Cell::Float(value)];
        assert_eq!(
            kept(&[("a", ColumnType::Float)], vec![number(0.0), number(-0.0), number(1.0)]),
            [true, false, true]
        );
    }

    #[test]
    fn nulls_are_no_duplicates() {
        assert_eq!(kept(&[("a", ColumnType::Text)], vec![vec![Cell::Null], vec![Cell::Null]]), [true, true]);
        let two = [("a", ColumnType::Text), ("b", ColumnType::Int)];
        let row = || vec![Cell::Null, Cell::Int(1)];
        assert_eq!(kept(&two, vec![row(), row()]), [true, false]);
    }

    #[test]
    fn declares_what_it_compares() {
        let shape = dataset_shape(&[("image", ColumnType::Image)]);
        let declare = |by: &str| declared(&STAGE, &json!({ "by": [by] }), &[("rows", shape.clone())]);
        assert_eq!(format!("{:?}", declare("image").unwrap().reads["rows"]), r#"Columns(["image"])"#);
        assert_eq!(
            declare("imaeg").unwrap_err().help.unwrap(),
            "did you mean `image`? the input has columns id: text, image: image"
        );
        assert!(declare("id").unwrap_err().message.starts_with("ids are unique already"));
    }
}
