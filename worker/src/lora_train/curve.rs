//! What a training was like, step by step: `curve.jsonl`, and its last words: `metrics.json`.
//!
//! Nothing of time or machine is in it: the same training gives the same bytes.

use std::path::Path;

use pipe_engine::problem::Failure;
use serde::{Deserialize, Serialize};

/// The file with one line per step.
pub const CURVE: &str = "curve.jsonl";
/// The file with the final numbers.
const METRICS: &str = "metrics.json";

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// Its number, from 1.
    pub step: u64,
    /// The mean loss per learnt token, in nats.
    pub loss: f64,
    /// The learning rate it used.
    pub lr: f64,
    /// The norm of the gradient, before it was shortened.
    pub grad_norm: f64,
    /// How many tokens were learnt.
    pub tokens: u64,
    /// The mean loss per token of the validation rows after it, where it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_loss: Option<f64>,
}

/// All steps so far, the first first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curve(Vec<Point>);

/// The final numbers.
#[derive(Serialize)]
struct Metrics {
    format: &'static str,
    steps: usize,
    /// Learnt, all steps together.
    tokens: u64,
    trainable_parameters: usize,
    /// Of the last step.
    loss: Option<f64>,
    /// After the last step.
    #[serde(skip_serializing_if = "Option::is_none")]
    validation_loss: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    best_validation_loss: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    best_step: Option<u64>,
}

impl Curve {
    /// Adds the next step.
    pub fn push(&mut self, point: Point) {
        self.0.push(point);
    }

    /// How many steps there are.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// The step with the lowest validation loss, the first of equals.
    pub fn best(&self) -> Option<(u64, f64)> {
        let measured = self.0.iter().filter_map(|point| Some((point.step, point.validation_loss?)));
        measured.min_by(|(_, a), (_, b)| a.total_cmp(b))
    }

    /// Reads `curve.jsonl`.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|error| format!("{CURVE}: {error}"))?;
        let points: Result<Vec<Point>, _> = text.lines().map(serde_json::from_str).collect();
        let points = points.map_err(|error| format!("{CURVE}: {error}"))?;
        match (1..).zip(&points).find(|(step, point)| point.step != *step) {
            Some((step, point)) => Err(format!("{CURVE}: step {} stands where step {step} should", point.step)),
            None => Ok(Self(points)),
        }
    }

    /// Writes `curve.jsonl`.
    pub fn write(&self, dir: &Path) -> Result<(), Failure> {
        let mut bytes = Vec::new();
        for point in &self.0 {
            serde_json::to_writer(&mut bytes, point).map_err(|error| Failure::internal(error.to_string()))?;
            bytes.push(b'\n');
        }
        write(&dir.join(CURVE), &bytes)
    }

    /// Writes `metrics.json`.
    pub fn write_metrics(&self, dir: &Path, trainable_parameters: usize) -> Result<(), Failure> {
        let (last, best) = (self.0.last(), self.best());
        let metrics = Metrics {
            format: "training/1",
            steps: self.len(),
            tokens: self.0.iter().map(|point| point.tokens).sum(),
            trainable_parameters,
            loss: last.map(|point| point.loss),
            validation_loss: last.and_then(|point| point.validation_loss),
            best_validation_loss: best.map(|(_, loss)| loss),
            best_step: best.map(|(step, _)| step),
        };
        let mut bytes = serde_json::to_vec_pretty(&metrics).map_err(|error| Failure::internal(error.to_string()))?;
        bytes.push(b'\n');
        write(&dir.join(METRICS), &bytes)
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    std::fs::write(path, bytes).map_err(|error| Failure::io("write", path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(step: u64, validation_loss: Option<f64>) -> Point {
        // Numbers that a careless reader rounds.
        Point { step, loss: 0.1 + 0.2, lr: 1e-23, grad_norm: 2.2250738585072014e-308, tokens: 3, validation_loss }
    }

    fn curve(losses: &[Option<f64>]) -> Curve {
        Curve((1..).zip(losses).map(|(step, loss)| point(step, *loss)).collect())
    }

    #[test]
    fn a_curve_is_read_again_to_the_last_bit() {
        let dir = tempfile::tempdir().unwrap();
        let written = curve(&[None, Some(1.0 / 3.0), None]);
        written.write(dir.path()).unwrap();
        let bytes = std::fs::read(dir.path().join(CURVE)).unwrap();
        assert_eq!(Curve::parse(&bytes), Ok(written));
        assert!(!String::from_utf8(bytes).unwrap().lines().next().unwrap().contains("validation_loss"));
    }

    #[test]
    fn a_curve_with_a_gap_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        Curve(vec![point(1, None), point(3, None)]).write(dir.path()).unwrap();
        let error = Curve::parse(&std::fs::read(dir.path().join(CURVE)).unwrap()).unwrap_err();
        assert_eq!(error, "curve.jsonl: step 3 stands where step 2 should");
        assert!(Curve::parse(b"{}").is_err());
    }

    #[test]
    fn the_first_of_equal_losses_is_the_best() {
        assert_eq!(curve(&[None, None]).best(), None);
        assert_eq!(curve(&[Some(2.0), None, Some(1.0), Some(1.0)]).best(), Some((3, 1.0)));
    }

    #[test]
    fn final_numbers() {
        let dir = tempfile::tempdir().unwrap();
        curve(&[Some(2.0), Some(3.0)]).write_metrics(dir.path(), 99).unwrap();
        let metrics: serde_json::Value =
            serde_json::from_slice(&std::fs::read(dir.path().join(METRICS)).unwrap()).unwrap();
        let expected = serde_json::json!({
            "format": "training/1", "steps": 2, "tokens": 6, "trainable_parameters": 99, "loss": 0.1 + 0.2,
            "validation_loss": 3.0, "best_validation_loss": 2.0, "best_step": 1,
        });
        assert_eq!(metrics, expected);
    }
}
