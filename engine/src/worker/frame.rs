//! The frames between `pipe` and `pipe-torch`: a length (u32, little endian), then that many bytes of JSON.
//!
//! Bulk data does not travel: datasets, models and images are references into the store.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cell::{Row, Schema};
use crate::problem::Failure;
use crate::stage::Outcome;
use crate::step::{Inputs, Level, StepTask};

/// Raised with every change of the frames.
pub const PROTOCOL: u32 = 1;

/// A longer frame is taken as noise on the wire.
const MAX_FRAME: u32 = 1 << 30;

/// From `pipe` to the worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "lowercase")]
pub enum Request {
    /// The first frame. Answered by [`Reply::Ready`].
    Hello {
        /// [`PROTOCOL`].
        protocol: u32,
        /// `cpu`, `cuda` or `cuda:N`.
        device: String,
        /// Threads to compute with.
        threads: usize,
    },
    /// Prepares a row stage; the rows that follow are for it. Answered by [`Reply::Ready`].
    Load(LoadRows),
    /// Rows for the stage loaded last. Answered by [`Reply::Outcomes`] until all are covered.
    Rows {
        /// The rows.
        rows: Vec<Row>,
    },
    /// A whole step. Answered by reports, then [`Reply::Ready`].
    Step(Box<StepTask>),
    /// The checkpoint reported last is stored, or why not.
    Checkpointed {
        /// Why it could not be stored.
        failure: Option<Failure>,
    },
}

/// What a row stage is set up with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LoadRows {
    /// The step, for messages.
    pub step: String,
    /// The stage.
    pub stage: String,
    /// Checked parameters with defaults filled in.
    pub params: Value,
    /// The inputs besides the dataset it works on.
    pub inputs: Inputs,
    /// Columns of the rows it will be given, in that order.
    pub columns: Vec<String>,
    /// Their types.
    pub schema: Schema,
}

/// From the worker to `pipe`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "lowercase")]
pub enum Reply {
    /// The last request is done.
    Ready {
        /// Facts about the worker, after `Hello`: library versions, device name.
        #[serde(default)]
        facts: BTreeMap<String, String>,
    },
    /// The outcomes of some of the rows.
    Outcomes {
        /// Outcome by place in the request.
        outcomes: Vec<(usize, Outcome)>,
    },
    /// How far the step has come.
    Progress {
        /// Units done.
        done: u64,
        /// Units in all.
        total: u64,
        /// Shown beside the bar.
        note: String,
    },
    /// A message.
    Log {
        /// How loud.
        level: Level,
        /// The message.
        message: String,
    },
    /// A measurement.
    Measure {
        /// What.
        name: String,
        /// How much.
        value: f64,
    },
    /// A checkpoint to store. Answered by [`Request::Checkpointed`].
    Checkpoint {
        /// How far the step has come.
        at: u64,
        /// Its files.
        dir: PathBuf,
    },
    /// The last request failed; the worker goes on.
    Failed {
        /// Why.
        failure: Failure,
    },
}

/// Writes a frame.
///
/// # Errors
/// When it cannot be written, or holds what cannot travel (a new image).
pub fn write<T: Serialize>(out: &mut impl Write, frame: &T) -> io::Result<()> {
    let body = serde_json::to_vec(frame)?;
    let len = u32::try_from(body.len()).ok().filter(|len| *len <= MAX_FRAME);
    let len = len.ok_or_else(|| io::Error::other(format!("a frame of {} bytes is too long", body.len())))?;
    out.write_all(&len.to_le_bytes())?;
    out.write_all(&body)?;
    out.flush()
}

/// Reads a frame; `None` at the end of the stream.
///
/// # Errors
/// When the stream breaks off inside a frame, or holds none.
pub fn read<T: DeserializeOwned>(input: &mut impl Read) -> io::Result<Option<T>> {
    let mut len = [0; 4];
    match input.read_exact(&mut len) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    }
    let len = u32::from_le_bytes(len);
    if len > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {len} bytes: noise on the wire")));
    }
    let mut body = vec![0; len as usize];
    input.read_exact(&mut body)?;
    Ok(Some(serde_json::from_slice(&body)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::Cell;

    #[test]
    fn frames_round_trip_and_broken_ones_are_errors() {
        let rows =
            vec![Row { id: "a".into(), cells: vec![Cell::Text("é\n".into()), Cell::Null, Cell::Ints(vec![1, -2])] }];
        let mut wire = Vec::new();
        write(&mut wire, &Request::Rows { rows: rows.clone() }).unwrap();
        let mut input = wire.as_slice();
        let Some(Request::Rows { rows: again }) = read(&mut input).unwrap() else { panic!("not rows") };
        assert_eq!(again, rows);
        assert!(read::<Request>(&mut input).unwrap().is_none());
        assert!(read::<Request>(&mut &wire[..wire.len() - 1]).is_err());
        assert!(read::<Request>(&mut &[0xff; 8][..]).is_err());
    }
}
