//! Seeds of replicates: from the seed of the step and the number of the replicate.

use pipe_cache::Fields;
use serde_json::Value;

use crate::params::{self, canonical};
use crate::problem::Problem;
use crate::spec::StepSpec;
use crate::stage::Stage;

/// The parameter that replicates differ in.
const SEED: &str = "seed";

/// Checked parameters, with the seed of the replicate where the step is one.
pub(super) fn seeded(step: &StepSpec, stage: &Stage, mut params: Value) -> Result<Value, Vec<Problem>> {
    let Some(replicate) = step.replicate else { return Ok(params) };
    if !params::of(stage.params).has(SEED) {
        let message = format!("`{}` has no `{SEED}`: its replicates would all be the same", stage.name);
        return Err(vec![Problem::param("replicates", message)]);
    }
    params[SEED] = seed(&params[SEED], replicate).into();
    params::of(stage.params).validate(&params)?;
    Ok(params)
}

/// The seed of a replicate: the first four bytes, read as a little-endian number, of F(`replicate/1`, JSON of the step's own seed,
/// number of the replicate as four little-endian bytes).
fn seed(own: &Value, replicate: u32) -> u32 {
    let digest = Fields::new("replicate/1").push(canonical(own).as_bytes()).push(&replicate.to_le_bytes()).digest();
    let bytes = digest.bytes();
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn seeds_are_those_of_yesterday() {
        assert_eq!(
            [0, 1, 2].map(|replicate| seed(&json!(12345), replicate)),
            [1_188_298_813, 1_691_826_672, 227_030_634]
        );
        assert_ne!(seed(&json!(7), 0), seed(&json!(12345), 0));
    }
}
