//! `filter`: keeps the rows for which a condition holds, and drops images that cannot be decoded.
//!
//! Judges a row by that row alone; knows nothing of other rows.

use pipe_engine::cell::{Cell, ColumnType, Row};
use pipe_engine::problem::{Failure, Problem};
use pipe_engine::stage::{
    Contract, DATASET, Declare, Execute, Load, Outcome, Port, Resources, RowStage, Stage, params_schema,
};
use pipe_engine::step::Sink;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::expression::{Bound, Expression, Wanted};
use crate::image_file;

/// The row of the stage table.
pub const STAGE: Stage = Stage {
    name: "filter",
    version: 1,
    about: "keeps the rows for which a condition holds; drops broken images",
    inputs: &[Port::one("rows", &[DATASET], "the rows to judge")],
    outputs: &[Port::one("rows", &[DATASET], "the rows kept")],
    params: params_schema::<Params>,
    resources: Resources::CORES,
    resolve: None,
    declare,
    execute: Execute::Rows(load),
};

/// The parameters of `filter`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The condition under which a row stays, such as `image.width >= 64 && words(caption) > 3`; without one every row stays that
    /// is not dropped for its image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keep: Option<String>,
    /// The image column that is checked, where the dataset has it.
    #[serde(default = "default_image")]
    image: String,
    /// What to do with an image that cannot be decoded: drop its row, fail it, or keep it without looking.
    #[serde(default)]
    broken: Broken,
}

/// What to do with an image that cannot be decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Broken {
    /// Drop the row, with the reason `broken image`.
    #[default]
    Drop,
    /// Fail the row.
    Fail,
    /// Do not look.
    Keep,
}

fn default_image() -> String {
    "image".to_owned()
}

fn declare(step: &Declare<'_>) -> Result<Contract, Problem> {
    let params: Params = step.params()?;
    let schema = step.schema("rows")?;
    let mut columns = Vec::new();
    if let Some(source) = &params.keep {
        let expression = Expression::parse("keep", source)?;
        expression.check(schema, Wanted::Bool)?;
        columns.extend(expression.columns().map(str::to_owned));
    }
    let has_image = schema.get(&params.image).is_some();
    if has_image || params.image != default_image() {
        step.column("rows", "image", &params.image, &[ColumnType::Image])?;
    }
    if has_image && params.broken != Broken::Keep && !columns.contains(&params.image) {
        columns.push(params.image.clone());
    }
    if columns.is_empty() {
        return Err(Problem::step("nothing to judge rows by: there is no `keep`, and no image column is checked")
            .help("add `keep = \"…\"`, a condition on the columns"));
    }
    // The id comes last: it is no column of its own.
    columns.sort_by_key(|column| column == "id");
    Ok(Contract::default().reads_columns("rows", columns))
}

struct Filter {
    condition: Option<(Bound, String)>,
    image: Option<usize>,
    broken: Broken,
}

fn load(load: &Load<'_>) -> Result<Box<dyn RowStage>, Failure> {
    let params: Params = load.params()?;
    let condition = match &params.keep {
        None => None,
        Some(source) => {
            let expression = Expression::parse("keep", source).map_err(|problem| Failure::internal(problem.message))?;
            Some((expression.bind(load.columns, load.schema), format!("not ({source})")))
        }
    };
    let image = load.columns.iter().position(|column| *column == params.image);
    Ok(Box::new(Filter { condition, image, broken: params.broken }))
}

impl RowStage for Filter {
    fn run(&self, rows: &[Row], _: &dyn Sink) -> Result<Vec<Outcome>, Failure> {
        Ok(rows.iter().map(|row| self.judge(row)).collect())
    }
}

impl Filter {
    fn judge(&self, row: &Row) -> Outcome {
        if let Some(outcome) = self.judge_image(row) {
            return outcome;
        }
        let Some((condition, reason)) = &self.condition else { return Outcome::Keep(Vec::new()) };
        match condition.truth(row) {
            Ok(true) => Outcome::Keep(Vec::new()),
            Ok(false) => Outcome::Drop(reason.clone()),
            Err(message) => Outcome::fail("expression", message),
        }
    }

    fn judge_image(&self, row: &Row) -> Option<Outcome> {
        let blob = row.cells.get(self.image?).and_then(Cell::as_image)?;
        if self.broken == Broken::Keep {
            return None;
        }
        let decoded = image_file::bytes(blob).and_then(|bytes| image_file::decode(&bytes, image_file::MAX_PIXELS));
        match decoded {
            Ok(_) => None,
            Err(bad) if bad.transient || self.broken == Broken::Fail => Some(bad.outcome()),
            Err(_) => Some(Outcome::Drop("broken image".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{blob, dataset_shape, declared, row_stage};
    use serde_json::{Value, json};

    const COLUMNS: &[(&str, ColumnType)] = &[("score", ColumnType::Int), ("image", ColumnType::Image)];

    fn png(width: u32) -> Vec<u8> {
        let mut bytes = std::io::Cursor::new(Vec::new());
        image::RgbImage::new(width, 8).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    fn judge(params: &Value, images: &[Vec<u8>]) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let row = |(at, bytes): (i64, &Vec<u8>)| Row {
            id: at.to_string(),
            cells: vec![if at == 9 { Cell::Null } else { Cell::Int(at) }, Cell::Image(blob(dir.path(), bytes))],
        };
        let rows: Vec<Row> = (0..).zip(images).map(row).collect();
        let outcomes = row_stage(&STAGE, params, COLUMNS).run(&rows, &crate::testing::Quiet).unwrap();
        let word = |outcome: Outcome| match outcome {
            Outcome::Keep(cells) => format!("keep {}", cells.len()),
            Outcome::Drop(reason) => reason,
            Outcome::Fail(failure) => format!("{}: {}", failure.class, failure.message),
        };
        outcomes.into_iter().map(word).collect()
    }

    #[test]
    fn rows_stay_or_leave_for_a_reason() {
        let cut = png(40)[..50].to_vec();
        let params = json!({ "keep": "image.width >= 32 && score < 3", "image": "image", "broken": "drop" });
        let found = judge(&params, &[png(40), png(20), cut, png(40)]);
        let reason = "not (image.width >= 32 && score < 3)";
        assert_eq!(found, ["keep 0", reason, "broken image", reason]);
    }

    #[test]
    fn broken_images_fail_or_stay_where_that_is_asked() {
        let cut = vec![png(40)[..50].to_vec()];
        let found = judge(&json!({ "image": "image", "broken": "fail" }), &cut);
        assert!(found[0].starts_with("image: truncated: png:"), "{found:?}");
        assert_eq!(judge(&json!({ "keep": "score == 0", "image": "image", "broken": "keep" }), &cut), ["keep 0"]);
    }

    #[test]
    fn a_row_that_cannot_be_judged_fails() {
        let found = judge(&json!({ "keep": "1 / score > 0", "image": "image" }), &[png(1), png(1)]);
        assert_eq!(found, ["expression: division by zero", "keep 0"]);
    }

    #[test]
    fn reads_only_what_it_needs() {
        let reads = |params: Value, columns| {
            let contract = declared(&STAGE, &params, &[("rows", dataset_shape(columns))])?;
            Ok::<_, Problem>(format!("{:?}", contract.reads["rows"]))
        };
        assert_eq!(reads(json!({ "keep": "score > 1" }), COLUMNS).unwrap(), r#"Columns(["score", "image"])"#);
        assert_eq!(reads(json!({ "keep": "score > 1", "broken": "keep" }), COLUMNS).unwrap(), r#"Columns(["score"])"#);
        assert_eq!(reads(json!({ "keep": "score > 1" }), &COLUMNS[..1]).unwrap(), r#"Columns(["score"])"#);
        let problem = reads(json!({ "keep": "score > 1", "image": "photo" }), COLUMNS).unwrap_err();
        assert_eq!(problem.message, "there is no column `photo` (image)");
        assert!(reads(json!({}), &COLUMNS[..1]).unwrap_err().message.starts_with("nothing to judge rows by"));
    }
}
