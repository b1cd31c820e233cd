//! `split`: cuts a dataset into parts of given shares, such as `train` and `test`, by a hash of each row's group.
//!
//! A group lies in one part whole. The hash knows only the seed and the group, so where a row goes does not depend on the order
//! or number of the others, except at the borders that `method = "rank"` moves to keep the shares exact. Knows nothing of
//! balance: classes that must be spread evenly are split apart first.

use std::collections::BTreeMap;

use pipe_engine::cell::{Cell, ColumnType, Row};
use pipe_engine::problem::{Failure, Problem};
use pipe_engine::spec::{NAMES_ARE, is_name};
use pipe_engine::stage::{
    Assignment, Contract, DATASET, Declare, Execute, Load, Mark, Port, Resources, Stage, TableStage, Verdict,
    params_schema,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ordering::{self, Rank, borders_before, nearest_count};

/// See the module.
pub const STAGE: Stage = Stage {
    name: "split",
    version: 1,
    about: "cuts a dataset into parts of given shares",
    inputs: &[Port::one("rows", &[DATASET], "the rows to cut")],
    outputs: &[],
    params: params_schema::<Params>,
    resources: Resources::ONE_CORE,
    resolve: None,
    declare,
    execute: Execute::Table(load),
};

/// The parameters of `split`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The parts and their shares, which sum to 1: `{ train = 0.9, test = 0.1 }`. Each part is an output port.
    pub parts: BTreeMap<String, f64>,
    /// The column whose equal cells stay together; each row for itself where it is not given or null.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Another seed cuts differently.
    #[serde(default)]
    pub seed: u64,
    /// How a group finds its part: `rank` keeps shares exact; with `threshold` an edit moves no other row.
    #[serde(default)]
    pub method: Method,
}

/// How a group finds its part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// By the rank of its hash: shares are exact to one group; an edit moves at most one other group per border.
    #[default]
    Rank,
    /// By its hash alone: shares are exact on average; an edit moves no other group.
    Threshold,
}

/// How far the shares may be from 1 in sum.
const TOLERANCE: f64 = 1e-9;

const GROUP_TYPES: &[ColumnType] = &[ColumnType::Text, ColumnType::Int, ColumnType::Bool, ColumnType::Image];

fn declare(declare: &Declare<'_>) -> Result<Contract, Problem> {
    let params: Params = declare.params()?;
    check_parts(&params.parts)?;
    let mut reads = Vec::new();
    if let Some(group) = &params.group {
        declare.column("rows", "group", group, GROUP_TYPES)?;
        reads.push(group.as_str());
    }
    reads.push("id");
    let contract = Contract::default().reads_columns("rows", reads);
    Ok(params.parts.keys().fold(contract, |contract, part| contract.gives(part, DATASET)))
}

fn check_parts(parts: &BTreeMap<String, f64>) -> Result<(), Problem> {
    if parts.len() < 2 {
        return Err(Problem::param("parts", format!("{} part is not a split", parts.len()))
            .help("write two parts or more: { train = 0.9, test = 0.1 }"));
    }
    for (name, share) in parts {
        let at = format!("parts.{name}");
        if !is_name(name) {
            return Err(Problem::param(at, format!("`{name}` cannot name a part"))
                .help(format!("{NAMES_ARE}: the part is an output port")));
        }
        if !(*share > 0.0 && *share < 1.0) {
            return Err(Problem::param(at, format!("a share of {share} is not between 0 and 1")));
        }
    }
    let sum: f64 = parts.values().sum();
    if (sum - 1.0).abs() > TOLERANCE {
        return Err(Problem::param("parts", format!("the shares sum to {sum}, not 1")));
    }
    Ok(())
}

fn load(load: &Load<'_>) -> Result<Box<dyn TableStage>, Failure> {
    let params: Params = load.params()?;
    let group = match &params.group {
        None => None,
        Some(name) => Some(load.columns.iter().position(|column| column == name).ok_or_else(|| {
            Failure::internal(format!("the rows come without column `{name}`, by which they are grouped"))
        })?),
    };
    let borders = cumulative(params.parts.values().copied());
    Ok(Box::new(Split { seed: params.seed, group, borders, method: params.method }))
}

/// The shares before each inner border: `[0.8, 0.1, 0.1]` gives `[0.8, 0.9]`.
fn cumulative(shares: impl ExactSizeIterator<Item = f64>) -> Vec<f64> {
    let inner = shares.len().saturating_sub(1);
    shares
        .take(inner)
        .scan(0.0, |sum, share| {
            *sum += share;
            Some(*sum)
        })
        .collect()
}

struct Split {
    seed: u64,
    /// Index of the group's cell.
    group: Option<usize>,
    /// Shares before each inner border.
    borders: Vec<f64>,
    method: Method,
}

impl Split {
    fn rank(&self, row: &Row) -> Result<Rank, Failure> {
        let cell = self.group.and_then(|index| row.cells.get(index)).unwrap_or(&Cell::Null);
        let seed = self.seed;
        Ok(match cell {
            Cell::Null => ordering::rank("split: id", seed, &[row.id.as_bytes()]),
            Cell::Text(text) => ordering::rank("split: group", seed, &[text.as_bytes()]),
            Cell::Int(int) => ordering::rank("split: group", seed, &[&int.to_le_bytes()]),
            Cell::Bool(bool) => ordering::rank("split: group", seed, &[&[u8::from(*bool)]]),
            Cell::Image(blob) => ordering::rank("split: group", seed, &[blob.digest.bytes()]),
            other => {
                let found = other.column_type().map_or("null", ColumnType::name);
                return Err(Failure::internal(format!("a {found} cell cannot be a group")));
            }
        })
    }
}

impl TableStage for Split {
    fn mark(&self, rows: &[Row]) -> Result<Vec<Mark>, Failure> {
        rows.iter().map(|row| self.rank(row)).collect()
    }

    /// The index of the part.
    fn decide(&self, marks: &[Vec<Mark>]) -> Vec<Vec<Verdict>> {
        let firsts: Vec<Option<Rank>> = match self.method {
            Method::Rank => cut(marks.concat(), &self.borders),
            Method::Threshold => self.borders.iter().map(|&border| Some(threshold(border))).collect(),
        };
        let part = |rank: &Mark| borders_before(&firsts, *rank);
        marks.iter().map(|chunk| chunk.iter().map(part).collect()).collect()
    }

    fn assign(&self, rows: &[Row], verdicts: &[Verdict]) -> Result<Vec<Assignment>, Failure> {
        let keep = |part: &Verdict| Assignment::Keep { port: *part as usize, cells: Vec::new() };
        Ok(verdicts.iter().take(rows.len()).map(keep).collect())
    }
}

/// The first hash beyond each border, so that every part has its share of the groups, to the nearest whole group.
///
/// Each border is rounded by itself: with one group more it stays or moves by one, so that at most one group crosses it. (The
/// largest-remainder method lacks this with three parts or more: there, one group more can shrink another part.)
fn cut(mut ranks: Vec<Rank>, borders: &[f64]) -> Vec<Option<Rank>> {
    ranks.sort_unstable();
    ranks.dedup();
    borders.iter().map(|border| ranks.get(nearest_count(*border, ranks.len())).copied()).collect()
}

/// The hash below which a `share` of all hashes lies; exact to 2⁻⁵³.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
fn threshold(share: f64) -> Rank {
    (share * u128::MAX as f64) as Rank
}

#[cfg(test)]
mod tests;
