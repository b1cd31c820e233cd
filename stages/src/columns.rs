//! Names of columns that stages write.

use pipe_engine::problem::Problem;

/// Checks the name of a column that a step is to write; `param` is the parameter that names it.
///
/// # Errors
/// When it is empty or `id`.
pub fn check_output(param: &str, column: &str) -> Result<(), Problem> {
    match column {
        "" => Err(Problem::param(param, "a column needs a name")),
        "id" => Err(Problem::param(param, "`id` cannot be written: it names the rows")),
        _ => Ok(()),
    }
}
