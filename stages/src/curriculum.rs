//! `curriculum`: puts rows into phases, from easy to hard, and weighs them.
//!
//! Writes a phase and a difficulty, never a place in a line: one row more or less changes no other row, but for the one that a
//! border by share moves. Training sorts. Knows nothing of how phases are trained.

use pipe_engine::cell::{Cell, ColumnType, Row};
use pipe_engine::problem::{Failure, Problem};
use pipe_engine::stage::{
    Assignment, Contract, DATASET, Declare, Execute, Load, Mark, NO_MARK, Port, Resources, RowFailure, Stage,
    TableStage, Verdict, params_schema,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::expression::{Bound, Expression, Wanted};
use crate::ordering::borders_before;
use borders::{Borders, place};

mod borders;

/// See the module.
pub const STAGE: Stage = Stage {
    name: "curriculum",
    version: 2,
    about: "puts rows into phases, from easy to hard, and weighs them",
    inputs: &[Port::one("rows", &[DATASET], "the rows, with the columns that the expressions read")],
    outputs: &[Port::one(
        "rows",
        &[DATASET],
        "the rows with `phase`, `phase_index`, `difficulty` and, with rules, `weight`",
    )],
    params: params_schema::<Params>,
    resources: Resources::ONE_CORE,
    resolve: None,
    declare,
    execute: Execute::Table(load),
};

/// The parameters of `curriculum`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Expression of how hard a row is: `words(caption)`.
    pub difficulty: String,
    /// The phases from easy to hard, cut all by `up_to` or all by `share`; the last takes the rest.
    #[schemars(length(min = 1))]
    pub phases: Vec<Phase>,
    /// Rules of how often a row is learnt; the first that holds counts, and where none does, once.
    #[serde(default)]
    pub weights: Vec<Rule>,
}

/// A phase of training.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// The highest difficulty in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_to: Option<f64>,
    /// Its share of all rows, easier ones first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1))]
    pub share: Option<f64>,
}

/// How often some rows are learnt.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Condition on a row: `category == 'urban'`.
    pub when: String,
    /// How often it is learnt per epoch: 0, or from 0.001 to 1000.
    #[schemars(range(min = 0, max = 1000))]
    pub weight: f64,
}

fn declare(declare: &Declare<'_>) -> Result<Contract, Problem> {
    let params: Params = declare.params()?;
    let schema = declare.schema("rows")?;
    check_names(&params.phases)?;
    Borders::new(&params.phases)?;
    let expressions = expressions(&params)?;
    let mut columns = Vec::new();
    for (expression, wanted) in
        expressions.iter().zip(std::iter::once(Wanted::Number).chain(std::iter::repeat(Wanted::Bool)))
    {
        expression.check(schema, wanted)?;
        columns.extend(expression.columns().map(str::to_owned));
    }
    columns.retain(|column| column != "id");
    columns.sort_unstable();
    columns.dedup();
    columns.push("id".to_owned());
    let contract = Contract::default()
        .reads_columns("rows", columns)
        .writes("phase", ColumnType::Text)
        .writes("phase_index", ColumnType::Int)
        .writes("difficulty", ColumnType::Float);
    Ok(if params.weights.is_empty() { contract } else { contract.writes("weight", ColumnType::Float) })
}

fn check_names(phases: &[Phase]) -> Result<(), Problem> {
    for (index, phase) in phases.iter().enumerate() {
        if phase.name.is_empty() {
            return Err(Problem::param("phases", format!("phase {} has no name", index + 1)));
        }
        if phases[..index].iter().any(|other| other.name == phase.name) {
            return Err(Problem::param("phases", format!("two phases are named `{}`", phase.name)));
        }
    }
    Ok(())
}

/// The difficulty, then the conditions of the rules.
fn expressions(params: &Params) -> Result<Vec<Expression>, Problem> {
    let mut expressions = vec![Expression::parse("difficulty", &params.difficulty)?];
    for (at, rule) in params.weights.iter().enumerate() {
        let weight = rule.weight;
        if weight != 0.0 && !crate::lora_train::order::WEIGHTS.contains(&weight) {
            return Err(Problem::param(
                format!("weights.{at}.weight"),
                format!("a weight of {weight} is neither 0 nor from 0.001 to 1000"),
            ));
        }
        expressions.push(Expression::parse(&format!("weights.{at}.when"), &rule.when)?);
    }
    Ok(expressions)
}

fn load(load: &Load<'_>) -> Result<Box<dyn TableStage>, Failure> {
    let params: Params = load.params()?;
    let internal = |problem: Problem| Failure::internal(problem.message);
    let mut bound = expressions(&params).map_err(internal)?.into_iter().map(|e| e.bind(load.columns, load.schema));
    let difficulty = bound.next().ok_or_else(|| Failure::internal("there is no expression of difficulty"))?;
    let rules = bound.zip(&params.weights).map(|(when, rule)| (when, round(rule.weight))).collect();
    let borders = Borders::new(&params.phases).map_err(internal)?;
    let names = params.phases.into_iter().map(|phase| phase.name).collect();
    Ok(Box::new(Curriculum { difficulty, rules, names, borders }))
}

struct Curriculum {
    difficulty: Bound,
    rules: Vec<(Bound, f64)>,
    /// Of the phases.
    names: Vec<String>,
    borders: Borders,
}

impl TableStage for Curriculum {
    fn mark(&self, rows: &[Row]) -> Result<Vec<Mark>, Failure> {
        Ok(rows
            .iter()
            .map(|row| self.difficulty(row).map_or(NO_MARK, |difficulty| place(difficulty, &row.id)))
            .collect())
    }

    /// The index of the phase.
    fn decide(&self, marks: &[Vec<Mark>]) -> Vec<Vec<Verdict>> {
        let firsts = self.borders.settle(marks);
        let phase = |mark: &Mark| if *mark == NO_MARK { 0 } else { borders_before(&firsts, *mark) };
        marks.iter().map(|chunk| chunk.iter().map(phase).collect()).collect()
    }

    fn assign(&self, rows: &[Row], verdicts: &[Verdict]) -> Result<Vec<Assignment>, Failure> {
        let assigned = rows.iter().zip(verdicts).map(|(row, phase)| self.assignment(row, *phase));
        Ok(assigned.map(|assignment| assignment.unwrap_or_else(Assignment::Fail)).collect())
    }
}

impl Curriculum {
    fn difficulty(&self, row: &Row) -> Result<f64, RowFailure> {
        let difficulty = self.difficulty.number(row).map_err(|why| failure("curriculum: difficulty", why))?;
        if !difficulty.is_finite() {
            return Err(failure("curriculum: difficulty", format!("it is {difficulty}")));
        }
        Ok(round(difficulty))
    }

    fn assignment(&self, row: &Row, phase: Verdict) -> Result<Assignment, RowFailure> {
        let difficulty = self.difficulty(row)?;
        let name = self.names.get(phase as usize).expect("a border less than phases");
        let mut cells = vec![Cell::Text(name.clone()), Cell::Int(phase.into()), Cell::Float(difficulty)];
        if !self.rules.is_empty() {
            cells.push(Cell::Float(self.weight(row)?));
        }
        Ok(Assignment::Keep { port: 0, cells })
    }

    fn weight(&self, row: &Row) -> Result<f64, RowFailure> {
        for (when, weight) in &self.rules {
            if when.truth(row).map_err(|why| failure("curriculum: weights", why))? {
                return Ok(*weight);
            }
        }
        Ok(1.0)
    }
}

fn failure(class: &str, message: String) -> RowFailure {
    RowFailure { class: class.to_owned(), message, transient: false }
}

/// To six decimals, so that noise in the last bits of an expression changes nothing downstream.
fn round(number: f64) -> f64 {
    const STEPS: f64 = 1e6;
    // Beyond this, neighbouring floats lie further apart than a millionth.
    const COARSE: f64 = 1e10;
    if number.abs() >= COARSE { number } else { (number * STEPS).round() / STEPS + 0.0 }
}

#[cfg(test)]
mod tests;
