//! Continuing prompts, greedily, a batch at a time.

use tch::{Kind, Tensor};

use crate::arch::Decoder;
use crate::blocks::{KvCache, Pass, Positions};
use crate::causal_lm::check_ids;
use crate::device::Device;
use crate::error::{Error, Result};

/// How to continue a prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateOptions {
    /// The most new tokens, 1 or more.
    pub max_new_tokens: usize,
    /// The fewest new tokens: none may end the text before.
    pub min_new_tokens: usize,
    /// Above 1, tokens that occurred become less probable (CTRL; Keskar et al. 2019, arXiv:1909.05858); 1 is off.
    pub repetition_penalty: f64,
    /// Each of these ids ends the text; `None` takes the model's own.
    pub stop: Option<Vec<i64>>,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self { max_new_tokens: 30, min_new_tokens: 0, repetition_penalty: 1.0, stop: None }
    }
}

impl GenerateOptions {
    fn check(&self) -> Result<()> {
        if self.max_new_tokens < 1 || self.min_new_tokens > self.max_new_tokens {
            return Err(Error::input(format!(
                "max_new_tokens = {} and min_new_tokens = {}: the first must be 1 or more, the second not above it",
                self.max_new_tokens, self.min_new_tokens
            )));
        }
        if !(self.repetition_penalty.is_finite() && self.repetition_penalty > 0.0) {
            return Err(Error::input(format!("repetition_penalty = {} is not above 0", self.repetition_penalty)));
        }
        Ok(())
    }

    /// The ids that end a text; those the model's files name past its vocabulary can never come up.
    fn stop_ids(&self, eos: &[i64], vocabulary: i64) -> Result<Vec<i64>> {
        match &self.stop {
            Some(stop) => check_ids(stop, vocabulary).map(|()| stop.clone()),
            None => Ok(eos.iter().copied().filter(|id| (0..vocabulary).contains(id)).collect()),
        }
    }
}

/// What a prompt was continued with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    /// The new ids, without the one that ended the text.
    pub ids: Vec<i64>,
    /// Whether an id ended the text; otherwise it is cut at the most tokens allowed.
    pub stopped: bool,
}

/// Prompts as one batch, filled up on the left.
pub(crate) struct Prompt {
    /// `[rows · columns, embedding]`.
    embeddings: Tensor,
    /// `[rows, columns]`, where the prompt is of ids.
    ids: Option<Tensor>,
    /// How many columns of each row are filling.
    pads: Vec<i64>,
    columns: i64,
}

impl Prompt {
    pub(crate) fn of_ids(decoder: &dyn Decoder, rows: &[Vec<i64>], device: Device) -> Result<Self> {
        if rows.is_empty() || rows.iter().any(Vec::is_empty) {
            return Err(Error::input("a prompt has no tokens"));
        }
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let mut flat = Vec::with_capacity(rows.len() * columns);
        for row in rows {
            check_ids(row, decoder.dims().vocabulary)?;
            // Any id will do for filling: it is masked by its place.
            flat.resize(flat.len() + columns - row.len(), 0);
            flat.extend_from_slice(row);
        }
        let ids = Tensor::f_from_slice(&flat)?.f_to(device.tch())?;
        Ok(Self {
            embeddings: decoder.embed(&ids)?,
            ids: Some(ids.f_view([rows.len() as i64, columns as i64])?),
            pads: rows.iter().map(|row| (columns - row.len()) as i64).collect(),
            columns: columns as i64,
        })
    }

    /// `embeddings` is `[rows, columns, embedding]`, without filling.
    pub(crate) fn of_embeddings(embeddings: &Tensor) -> Result<Self> {
        let (rows, columns, width) = embeddings.size3()?;
        let flat = embeddings.f_reshape([rows * columns, width])?;
        Ok(Self { embeddings: flat, ids: None, pads: vec![0; rows as usize], columns })
    }

    pub(crate) fn rows(&self) -> i64 {
        self.pads.len() as i64
    }

    /// The scores of every token after every column, `[rows, columns, vocabulary]`, 32-bit, on the CPU.
    pub(crate) fn scores(self, decoder: &dyn Decoder) -> Result<Tensor> {
        let (rows, columns) = (self.rows(), self.columns);
        check_positions(columns, decoder)?;
        let fill = Fill::new(&self, columns, &self.embeddings)?;
        let x = decoder.run(self.embeddings, &mut fill.first_pass(rows, columns)?)?;
        let scores = decoder.leave(&x)?.f_linear(decoder.head(), None::<&Tensor>)?;
        let scores = scores.f_view([rows, columns, decoder.dims().vocabulary])?;
        Ok(scores.f_to_kind(Kind::Float)?.f_to(tch::Device::Cpu)?)
    }
}

fn check_positions(needed: i64, decoder: &dyn Decoder) -> Result<()> {
    let most = decoder.dims().positions;
    if needed > most {
        return Err(Error::input(format!("{needed} positions are needed, the model has {most}")));
    }
    Ok(())
}

/// Which columns are filling; `None` inside where none is, and attention needs no mask.
struct Fill(Option<FillTensors>);

struct FillTensors {
    /// `[rows, 1]`: how many columns on the left.
    pads: Tensor,
    /// Bool `[rows, capacity]`: what is not filling.
    real: Tensor,
}

impl Fill {
    /// For `capacity` columns in all, on the device of `like`.
    fn new(prompt: &Prompt, capacity: i64, like: &Tensor) -> Result<Self> {
        if prompt.pads.iter().all(|&pad| pad == 0) {
            return Ok(Self(None));
        }
        let pads = Tensor::f_from_slice(&prompt.pads)?.f_to(like.device())?.f_view([-1, 1])?;
        let real = Tensor::f_arange(capacity, (Kind::Int64, like.device()))?.f_ge_tensor(&pads)?;
        Ok(Self(Some(FillTensors { pads, real })))
    }

    /// The pass over the prompt.
    fn first_pass(&self, rows: i64, columns: i64) -> Result<Pass<'static>> {
        let mut pass = Pass::whole(rows, columns);
        let Some(FillTensors { pads, real }) = &self.0 else { return Ok(pass) };
        let device = pads.device();
        let places = Tensor::f_arange(columns, (Kind::Int64, device))?.f_sub(pads)?;
        pass.positions = Positions::Each(places.f_clamp_min(0)?.f_view([-1])?);
        let before = Tensor::f_ones([columns, columns], (Kind::Bool, device))?.f_tril(0)?;
        let seen = real.f_narrow(1, 0, columns)?.f_view([rows, 1, 1, columns])?.f_logical_and(&before)?;
        // A filling column that saw nothing could turn into NaN and spread; let it see itself.
        let itself = Tensor::f_eye(columns, (Kind::Bool, device))?;
        pass.mask = Some(seen.f_logical_or(&itself)?);
        pass.causal = false;
        Ok(pass)
    }

    /// The pass over one new column after `columns` others.
    fn next_pass(&self, rows: i64, columns: i64) -> Result<Pass<'static>> {
        let mut pass = Pass::whole(rows, 1);
        pass.causal = false;
        pass.positions = Positions::From(columns);
        if let Some(FillTensors { pads, real }) = &self.0 {
            pass.positions = Positions::Each(pads.f_neg()?.f_add_scalar(columns)?.f_view([-1])?);
            pass.mask = Some(real.f_narrow(1, 0, columns + 1)?.f_view([rows, 1, 1, columns + 1])?);
        }
        Ok(pass)
    }
}

/// A batch being continued: what any way of choosing tokens works on.
struct Session<'m> {
    decoder: &'m dyn Decoder,
    cache: KvCache,
    fill: Fill,
    rows: i64,
}

impl<'m> Session<'m> {
    /// Reads the prompt. Gives the scores of the first new token too, `[rows, vocabulary]`.
    fn start(decoder: &'m dyn Decoder, prompt: Prompt, new_tokens: usize) -> Result<(Self, Tensor)> {
        // The last new token is never read.
        let capacity = prompt.columns + new_tokens as i64 - 1;
        check_positions(capacity - prompt.pads.iter().min().copied().unwrap_or(0), decoder)?;
        let (rows, columns) = (prompt.rows(), prompt.columns);
        let dims = decoder.dims();
        let target = (prompt.embeddings.f_kind()?, prompt.embeddings.device());
        let mut session = Self {
            decoder,
            cache: KvCache::new(dims.layers, dims.heads, rows, capacity, target)?,
            fill: Fill::new(&prompt, capacity, &prompt.embeddings)?,
            rows,
        };
        let mut pass = session.fill.first_pass(rows, columns)?;
        pass.cache = Some(&mut session.cache);
        let x = decoder.run(prompt.embeddings, &mut pass)?;
        let width = x.size2()?.1;
        let last = x.f_view([rows, columns, width])?.f_select(1, columns - 1)?;
        let scores = session.scores(&last)?;
        Ok((session, scores))
    }

    /// Reads one more token per row (`[rows]`). Gives the scores of the next, `[rows, vocabulary]`.
    fn advance(&mut self, tokens: &Tensor) -> Result<Tensor> {
        let embeddings = self.decoder.embed(tokens)?;
        let mut pass = self.fill.next_pass(self.rows, self.cache.len())?;
        pass.cache = Some(&mut self.cache);
        let x = self.decoder.run(embeddings, &mut pass)?;
        self.scores(&x)
    }

    fn scores(&self, x: &Tensor) -> Result<Tensor> {
        let scores = self.decoder.leave(x)?.f_linear(self.decoder.head(), None::<&Tensor>)?;
        Ok(scores.f_to_kind(Kind::Float)?)
    }
}

/// Makes tokens that occurred less probable.
struct Penalty {
    penalty: f64,
    /// Bool `[rows, vocabulary]`: what occurred.
    seen: Tensor,
}

impl Penalty {
    fn new(penalty: f64, prompt: &Prompt, vocabulary: i64) -> Result<Option<Self>> {
        if penalty == 1.0 {
            return Ok(None);
        }
        let device = prompt.embeddings.device();
        let mut seen = Tensor::f_zeros([prompt.rows(), vocabulary], (Kind::Bool, device))?;
        if let Some(ids) = &prompt.ids {
            let pads = Tensor::f_from_slice(&prompt.pads)?.f_to(device)?.f_view([-1, 1])?;
            let real = Tensor::f_arange(prompt.columns, (Kind::Int64, device))?.f_ge_tensor(&pads)?;
            // Filling repeats the last real id, which marks nothing new.
            let last = ids.f_narrow(1, prompt.columns - 1, 1)?;
            let ids = ids.f_where_self(&real, &last)?;
            seen = seen.f_scatter_value(1, &ids, 1)?;
        }
        Ok(Some(Self { penalty, seen }))
    }

    fn applied(&self, scores: &Tensor) -> Result<Tensor> {
        let up = scores.f_mul_scalar(self.penalty)?;
        let down = scores.f_div_scalar(self.penalty)?;
        let lower = up.f_where_self(&scores.f_lt(0.0)?, &down)?;
        Ok(lower.f_where_self(&self.seen, scores)?)
    }

    fn saw(&mut self, tokens: &Tensor) -> Result<()> {
        self.seen = self.seen.f_scatter_value(1, &tokens.f_view([-1, 1])?, 1)?;
        Ok(())
    }
}

/// What has been chosen, read from the device a few columns at a time.
struct Rows<'a> {
    rows: Vec<Generated>,
    stop: &'a [i64],
    unread: Vec<Tensor>,
    /// How many columns to let gather: reading waits for a CUDA device, and costs nothing on the CPU.
    every: usize,
}

impl<'a> Rows<'a> {
    fn new(count: i64, stop: &'a [i64], device: tch::Device) -> Self {
        let rows = (0..count).map(|_| Generated { ids: vec![], stopped: false }).collect();
        Self { rows, stop, unread: vec![], every: if device.is_cuda() { 8 } else { 1 } }
    }

    /// Takes one more column (`[rows]`). Says whether every row has ended, as far as is known.
    fn push(&mut self, tokens: Tensor) -> Result<bool> {
        self.unread.push(tokens);
        if self.unread.len() >= self.every {
            self.read()?;
        }
        Ok(self.rows.iter().all(|row| row.stopped))
    }

    fn read(&mut self) -> Result<()> {
        if self.unread.is_empty() {
            return Ok(());
        }
        let columns: Vec<Vec<i64>> = Vec::try_from(&Tensor::f_stack(&self.unread, 0)?)?;
        self.unread.clear();
        for column in columns {
            for (row, id) in self.rows.iter_mut().zip(column).filter(|(row, _)| !row.stopped) {
                if self.stop.contains(&id) {
                    row.stopped = true;
                } else {
                    row.ids.push(id);
                }
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<Generated>> {
        self.read()?;
        Ok(self.rows)
    }
}

/// Continues `prompt` with the most probable tokens. `eos` ends a text where the options name no other ids. The caller
/// holds gradients off.
pub(crate) fn generate(
    decoder: &dyn Decoder,
    prompt: Prompt,
    options: &GenerateOptions,
    eos: &[i64],
) -> Result<Vec<Generated>> {
    options.check()?;
    let vocabulary = decoder.dims().vocabulary;
    let stop = options.stop_ids(eos, vocabulary)?;
    let device = prompt.embeddings.device();
    let stop_ids = Tensor::f_from_slice(&stop)?.f_to(device)?;
    let mut rows = Rows::new(prompt.rows(), &stop, device);
    let mut penalty = Penalty::new(options.repetition_penalty, &prompt, vocabulary)?;
    let (mut session, mut scores) = Session::start(decoder, prompt, options.max_new_tokens)?;
    for count in 0..options.max_new_tokens {
        if let Some(penalty) = &penalty {
            scores = penalty.applied(&scores)?;
        }
        if count < options.min_new_tokens && !stop.is_empty() {
            scores = scores.f_index_fill(1, &stop_ids, f64::NEG_INFINITY)?;
        }
        let tokens = scores.f_argmax(1, false)?;
        if let Some(penalty) = &mut penalty {
            penalty.saw(&tokens)?;
        }
        let ended = rows.push(tokens.shallow_clone())?;
        if ended || count + 1 == options.max_new_tokens {
            break;
        }
        scores = session.advance(&tokens)?;
    }
    rows.finish()
}
