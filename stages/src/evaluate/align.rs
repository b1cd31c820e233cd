//! Brings the predictions of several systems together by row id, and proves that they belong together.
//!
//! Predictions meet by id, never by place; source and references of a row must be the same wherever they come from.

use std::collections::{BTreeMap, BTreeSet};

use pipe_engine::cell::Cell;
use pipe_engine::problem::Failure;
use pipe_engine::step::{Data, DatasetView, Input};

use super::{Missing, Params};

/// The rows to score, in order of id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Aligned {
    pub ids: Vec<String>,
    /// What was described, where the row says; `None` where the data has no such column.
    pub sources: Option<Vec<Option<String>>>,
    /// What people wrote, if anything; `None` where the data has no such column.
    pub references: Option<Vec<Vec<String>>>,
    pub systems: Vec<Predictions>,
}

/// What one system said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Predictions {
    pub name: String,
    /// Of each row; `None` where it is missing.
    pub texts: Vec<Option<String>>,
    /// Rows of other systems that this one lacks.
    pub missing: Vec<String>,
}

/// A system as it is read.
struct System {
    name: String,
    predictions: BTreeMap<String, String>,
    rows: BTreeMap<String, Known>,
}

/// What is known of a row besides what was said of it.
#[derive(Clone, PartialEq, Eq)]
struct Known {
    source: Option<String>,
    references: Vec<String>,
}

/// Which columns the data has.
struct Columns<'a> {
    names: Vec<&'a str>,
    prediction: Option<usize>,
    source: Option<usize>,
    references: Option<usize>,
}

/// Reads and joins all systems.
pub(super) fn align(inputs: &[Input], params: &Params) -> Result<Aligned, Failure> {
    let mut has = (false, false);
    let mut systems = Vec::with_capacity(inputs.len());
    for input in inputs {
        let view = dataset(input)?;
        let columns = Columns::of(view, params);
        has = (has.0 || columns.source.is_some(), has.1 || columns.references.is_some());
        systems.push(read(&input.label, view, &columns)?);
    }
    let all: BTreeSet<&String> = systems.iter().flat_map(|system| system.predictions.keys()).collect();
    let missing = |system: &System| -> Vec<String> {
        all.iter().filter(|id| !system.predictions.contains_key(**id)).map(|id| (*id).clone()).collect()
    };
    let lacking: Vec<Vec<String>> = systems.iter().map(missing).collect();
    for (system, missing) in systems.iter().zip(&lacking) {
        check_missing(&system.name, missing, params.missing)?;
    }
    let scored = |id: &&&String| {
        params.missing == Missing::Empty || systems.iter().all(|system| system.predictions.contains_key(**id))
    };
    let ids: Vec<String> = all.iter().filter(scored).map(|id| (*id).clone()).collect();
    if ids.is_empty() {
        return Err(Failure::input("there is no row to score: no row has a prediction of every system")
            .help("join systems made from the same rows"));
    }
    let known = ids.iter().map(|id| agreed(&systems, id)).collect::<Result<Vec<_>, _>>()?;
    let said = |(system, missing): (&System, Vec<String>)| Predictions {
        name: system.name.clone(),
        texts: ids.iter().map(|id| system.predictions.get(id).cloned()).collect(),
        missing,
    };
    Ok(Aligned {
        systems: systems.iter().zip(lacking).map(said).collect(),
        sources: has.0.then(|| known.iter().map(|known| known.source.clone()).collect()),
        references: has.1.then(|| known.iter().map(|known| known.references.clone()).collect()),
        ids,
    })
}

fn dataset(input: &Input) -> Result<&DatasetView, Failure> {
    match &input.data {
        Data::Dataset(view) => Ok(view),
        Data::Files(_) => Err(Failure::internal(format!("system `{}` is no dataset", input.label))),
    }
}

impl<'a> Columns<'a> {
    fn of(view: &DatasetView, params: &'a Params) -> Self {
        let wanted = [params.prediction.as_str(), params.source.as_str(), params.references.as_str()];
        let names: Vec<&str> = wanted.into_iter().filter(|column| view.schema.get(column).is_some()).collect();
        let at = |column: &str| names.iter().position(|name| *name == column);
        let [prediction, source, references] = wanted.map(at);
        Self { names, prediction, source, references }
    }
}

fn read(name: &str, view: &DatasetView, columns: &Columns<'_>) -> Result<System, Failure> {
    let mut system = System { name: name.to_owned(), predictions: BTreeMap::new(), rows: BTreeMap::new() };
    for chunk in view.chunks(&columns.names) {
        for row in chunk? {
            let cell = |at: Option<usize>| at.and_then(|at| row.cells.get(at)).unwrap_or(&Cell::Null);
            let known = Known {
                source: cell(columns.source).as_text().map(str::to_owned),
                references: references(cell(columns.references)),
            };
            // A null prediction is a missing one.
            if let Some(text) = cell(columns.prediction).as_text() {
                system.predictions.insert(row.id.clone(), text.to_owned());
            }
            system.rows.insert(row.id, known);
        }
    }
    Ok(system)
}

fn references(cell: &Cell) -> Vec<String> {
    match cell {
        Cell::Text(text) => vec![text.clone()],
        Cell::Texts(texts) => texts.clone(),
        _ => Vec::new(),
    }
}

/// What all systems that have this row know of it.
fn agreed(systems: &[System], id: &str) -> Result<Known, Failure> {
    let mut knowing = systems.iter().filter_map(|system| Some((system, system.rows.get(id)?)));
    let (first, known) = knowing.next().ok_or_else(|| Failure::internal(format!("row `{id}` is in no system")))?;
    for (other, others) in knowing {
        if known == others {
            continue;
        }
        let what = if known.source == others.source { "references" } else { "source" };
        let message = format!("its {what} in system `{}` are not those in `{}`", other.name, first.name);
        return Err(Failure { row: Some(id.to_owned()), ..Failure::input(message) }
            .help("score systems made from the same version of the same rows"));
    }
    Ok(known.clone())
}

fn check_missing(system: &str, missing: &[String], policy: Missing) -> Result<(), Failure> {
    const SHOWN: usize = 10;
    if missing.is_empty() || policy != Missing::Error {
        return Ok(());
    }
    let shown = missing.iter().take(SHOWN).map(|id| format!("`{id}`")).collect::<Vec<_>>().join(", ");
    let more = if missing.len() > SHOWN { ", …" } else { "" };
    let message = format!("system `{system}` lacks {} rows that another system has: {shown}{more}", missing.len());
    Err(Failure::input(message).help("set missing = \"skip\" to score the rows that all systems have, or \"empty\""))
}

#[cfg(test)]
mod tests {
    use pipe_engine::cell::{Cell, ColumnType};
    use pipe_engine::problem::Failure;
    use pipe_engine::step::{Data, Input};
    use serde_json::{Value, json};
    use tempfile::TempDir;

    use super::{Aligned, align};
    use crate::testing::dataset;

    const COLUMNS: &[(&str, ColumnType)] =
        &[("caption", ColumnType::Text), ("references", ColumnType::Texts), ("text", ColumnType::Text)];

    type Row = (String, Vec<Cell>);

    fn row(id: &str, text: &str) -> Row {
        let references = Cell::Texts(vec![format!("a {id}"), format!("the {id}")]);
        (id.to_owned(), vec![Cell::Text(format!("see {id}")), references, Cell::Text(text.to_owned())])
    }

    fn system(name: &str, rows: Vec<Row>) -> (TempDir, Input) {
        let (dir, view) = dataset(COLUMNS, rows);
        (dir, crate::testing::input(name, pipe_engine::stage::DATASET, Data::Dataset(view)))
    }

    fn run(params: Value, systems: Vec<(&str, Vec<Row>)>) -> Result<Aligned, Failure> {
        let (_dirs, inputs): (Vec<TempDir>, Vec<Input>) =
            systems.into_iter().map(|(name, rows)| system(name, rows)).unzip();
        align(&inputs, &serde_json::from_value(params).unwrap())
    }

    #[test]
    fn predictions_meet_by_id() {
        let base = vec![row("a", "1"), row("b", "2"), row("c", "3")];
        let tuned = vec![row("a", "4"), row("b", "5"), row("c", "6")];
        let aligned = run(json!({}), vec![("base", base), ("tuned", tuned)]).unwrap();
        assert_eq!(aligned.ids, ["a", "b", "c"]);
        assert_eq!(aligned.systems[1].texts, ["4", "5", "6"].map(|text| Some(text.to_owned())));
        assert_eq!(aligned.sources.unwrap()[1].as_deref(), Some("see b"));
        assert_eq!(aligned.references.unwrap()[2], ["a c", "the c"]);
    }

    #[test]
    fn missing_rows_stop_are_skipped_for_all_or_count_as_empty() {
        let null = ("c".to_owned(), vec![row("c", "").1[0].clone(), row("c", "").1[1].clone(), Cell::Null]);
        let systems = || {
            vec![
                ("base", vec![row("a", "1"), row("b", "2"), null.clone()]),
                ("tuned", vec![row("b", "5"), row("c", "6")]),
            ]
        };
        let failure = run(json!({}), systems()).unwrap_err();
        assert_eq!(failure.message, "system `base` lacks 1 rows that another system has: `c`");
        let aligned = run(json!({ "missing": "skip" }), systems()).unwrap();
        assert_eq!(aligned.ids, ["b"]);
        assert_eq!(aligned.systems.iter().map(|s| s.missing.join(" ")).collect::<Vec<_>>(), ["c", "a"]);
        let aligned = run(json!({ "missing": "empty" }), systems()).unwrap();
        assert_eq!(aligned.ids, ["a", "b", "c"]);
        assert_eq!(aligned.systems[0].texts, [Some("1".to_owned()), Some("2".to_owned()), None]);
        assert_eq!(aligned.references.unwrap()[2], ["a c", "the c"]);
        let apart = vec![("base", vec![row("a", "1")]), ("tuned", vec![row("b", "1")])];
        assert!(run(json!({ "missing": "skip" }), apart).unwrap_err().message.starts_with("there is no row to score"));
    }

    #[test]
    fn rows_that_are_not_the_same_are_refused() {
        let mut other = row("a", "2");
        other.1[1] = Cell::Texts(vec!["another".to_owned()]);
        let failure = run(json!({}), vec![("base", vec![row("a", "1")]), ("tuned", vec![other])]).unwrap_err();
        assert_eq!(failure.to_string(), "row `a`: its references in system `tuned` are not those in `base`");
    }

    #[test]
    fn a_row_may_have_no_references() {
        let mut bare = row("a", "1");
        bare.1[0] = Cell::Null;
        bare.1[1] = Cell::Null;
        let aligned = run(json!({}), vec![("base", vec![bare, row("b", "2")])]).unwrap();
        assert_eq!(aligned.references.unwrap()[0], Vec::<String>::new());
        assert_eq!(aligned.sources.unwrap()[0], None);
    }

    #[test]
    fn columns_that_are_not_there_are_left_out() {
        let aligned =
            run(json!({ "source": "none", "references": "none" }), vec![("base", vec![row("a", "1")])]).unwrap();
        assert_eq!((aligned.sources, aligned.references), (None, None));
    }
}
