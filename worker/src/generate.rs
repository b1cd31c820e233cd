//! `generate`: lets a language model continue a prompt made from each row.
//!
//! Prompts of like length are computed together, so that little is spent on filling.

use std::cmp::Reverse;

use pipe_engine::cell::{Cell, Row};
use pipe_engine::problem::Failure;
use pipe_engine::stage::{Outcome, RowFailure};
use pipe_engine::worker::frame::LoadRows;
use pipe_engine::worker::serve::{Emit, TorchRows};
use pipe_models::{CausalLm, GenerateOptions, Tokenizer};
use pipe_stages::encoder::{self, Encoder};
use pipe_stages::generate::Params;
use pipe_stages::template::{BoundTemplate, Template};

use crate::failure::{failure, out_of_memory};
use crate::fit::Fit;
use crate::inputs;
use crate::models::Wanted;
use crate::stages::Session;

/// Prepares the stage.
pub fn load(session: &Session, load: &LoadRows) -> Result<Box<dyn TorchRows>, Failure> {
    let params: Params = inputs::params(load)?;
    let files = inputs::required_files(&load.inputs, "model")?;
    let adapter = inputs::files(&load.inputs, "adapter")?;
    let template = Template::compile(&params.prompt).map_err(|error| Failure::internal(error.to_string()))?;
    let options = encoder::Options { add_bos_token: params.add_bos_token, ..encoder::Options::default() };
    let wanted = Wanted::new(files, adapter, params.dtype);
    // Loaded now, so that a model or adapter that does not fit is found before any row.
    session.models.language(&wanted)?;
    Ok(Box::new(Generate {
        session: session.clone(),
        wanted,
        template: template.bind(&load.columns)?,
        encoder: Encoder::load(files, &options)?,
        tokenizer: Tokenizer::load(&inputs::model_files(files)).map_err(failure)?,
        options: GenerateOptions { max_new_tokens: params.max_new_tokens as usize, ..GenerateOptions::default() },
        fit: Fit::new(session.device, params.batch_size),
        params,
    }))
}

struct Generate {
    session: Session,
    wanted: Wanted,
    template: BoundTemplate,
    encoder: Encoder,
    tokenizer: Tokenizer,
    options: GenerateOptions,
    fit: Fit,
    params: Params,
}

impl TorchRows for Generate {
    fn run(&mut self, rows: &[Row], emit: &mut Emit<'_>) -> Result<(), Failure> {
        let model = self.session.models.language(&self.wanted)?;
        let (mut waiting, mut refused) = (vec![], vec![]);
        for (place, row) in rows.iter().enumerate() {
            match self.prompt(row, model.max_positions()) {
                Ok(prompt) => waiting.push((place, prompt)),
                Err(failure) => refused.push((place, Outcome::Fail(failure))),
            }
        }
        if !refused.is_empty() {
            emit(refused)?;
        }
        // Those that need most memory come first: if it does not suffice, that shows at once.
        waiting.sort_by_key(|(place, prompt)| (Reverse(prompt.len()), *place));
        let mut rest = waiting.as_slice();
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(self.fit.size().min(rest.len()));
            emit(self.outcomes(&model, batch)?)?;
            rest = later;
        }
        Ok(())
    }
}

impl Generate {
    /// The tokens that the model is to continue.
    fn prompt(&self, row: &Row, positions: usize) -> Result<Vec<i64>, RowFailure> {
        let prompt = self.encoder.prompt(&self.template.render(row)?)?;
        if prompt.is_empty() {
            return Err(refusal("generate: empty prompt", "its prompt has no tokens".to_owned()));
        }
        let (length, new) = (prompt.len(), self.options.max_new_tokens);
        // The last new token is never read and needs no position.
        if length + new - 1 > positions {
            let message = format!(
                "its prompt has {length} tokens; with {new} new ones it exceeds the model's {positions} positions"
            );
            return Err(refusal("generate: prompt too long", message));
        }
        Ok(prompt)
    }

    fn outcomes(&mut self, model: &CausalLm, batch: &[(usize, Vec<i64>)]) -> Result<Vec<(usize, Outcome)>, Failure> {
        let prompts: Vec<Vec<i64>> = batch.iter().map(|(_, prompt)| prompt.clone()).collect();
        let options = &self.options;
        let texts = self.fit.each(&prompts, |prompts| model.generate(prompts, options))?;
        let mut outcomes = Vec::with_capacity(batch.len());
        for ((place, _), text) in batch.iter().zip(texts) {
            let outcome = match text {
                Ok(text) => {
                    let added = self.tokenizer.decode(&text.ids, true).map_err(failure)?;
                    Outcome::Keep(vec![Cell::Text(self.params.cut_at_stop(&added).0.trim().to_owned())])
                }
                Err(message) => Outcome::Fail(out_of_memory(message)),
            };
            outcomes.push((*place, outcome));
        }
        Ok(outcomes)
    }
}

fn refusal(class: &str, message: String) -> RowFailure {
    RowFailure { class: class.to_owned(), message, transient: false }
}
