//! `pipe schema`: a JSON schema of pipeline files, for editors.

use crate::error::CliError;
use crate::{exit, text};

/// Prints the schema.
pub fn schema(json: bool) -> Result<u8, CliError> {
    let schema = pipe_engine::schema::pipeline(pipe_stages::TABLE);
    let pretty = serde_json::to_string_pretty(&schema).expect("a schema is plain data");
    text::out(&if json { schema.to_string() } else { pretty });
    Ok(exit::DONE)
}
