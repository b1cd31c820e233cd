//! `caption`: puts each image into words with BLIP-2.
//!
//! Images are decoded on other threads while the model works on those before. Transparency is dropped and EXIF orientation
//! applied; the rest of the preprocessing is the model's own.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use image::{ColorType, RgbImage};
use pipe_engine::cell::{Cell, Row};
use pipe_engine::problem::Failure;
use pipe_engine::stage::{Outcome, RowFailure};
use pipe_engine::worker::frame::LoadRows;
use pipe_engine::worker::serve::{Emit, TorchRows};
use pipe_models::{Captioner, GenerateOptions, Tokenizer};
use pipe_stages::caption::Params;
use pipe_stages::image_file::{self, BadImage};
use rayon::ThreadPool;
use rayon::prelude::*;

use crate::failure::{failure, out_of_memory};
use crate::fit::Fit;
use crate::inputs;
use crate::models::Wanted;
use crate::stages::Session;

/// Bytes of decoded images that make a batch full, however few they are.
const BATCH_BYTES: usize = 1 << 28;

/// Prepares the stage.
pub fn load(session: &Session, load: &LoadRows) -> Result<Box<dyn TorchRows>, Failure> {
    let params: Params = inputs::params(load)?;
    let files = inputs::required_files(&load.inputs, "model")?;
    let column = load.columns.iter().position(|column| *column == params.image);
    let column = column.ok_or_else(|| Failure::internal(format!("column `{}` does not come along", params.image)))?;
    let tokenizer = Tokenizer::load(&inputs::model_files(files)).map_err(failure)?;
    let prompt = match params.given() {
        Some(text) => tokenizer.encode(&text, false).map_err(failure)?,
        None => vec![],
    };
    let wanted = Wanted::new(files, None, params.dtype);
    // Loaded now, so that a model that does not fit is found before any row.
    session.models.captioner(&wanted)?;
    Ok(Box::new(Caption {
        session: session.clone(),
        wanted,
        tokenizer,
        prompt,
        column,
        options: GenerateOptions {
            max_new_tokens: params.max_new_tokens as usize,
            min_new_tokens: params.min_new_tokens as usize,
            ..GenerateOptions::default()
        },
        fit: Fit::new(session.device, params.batch_size),
        params,
    }))
}

struct Caption {
    session: Session,
    wanted: Wanted,
    tokenizer: Tokenizer,
    /// What is given to the model besides the image.
    prompt: Vec<i64>,
    /// Where the image stands in a row.
    column: usize,
    options: GenerateOptions,
    fit: Fit,
    params: Params,
}

impl TorchRows for Caption {
    fn run(&mut self, rows: &[Row], emit: &mut Emit<'_>) -> Result<(), Failure> {
        let model = self.session.models.captioner(&self.wanted)?;
        let decoder = Decoder { pool: self.session.pool.clone(), column: self.column, size: self.fit.size() };
        let (sender, batches) = sync_channel(1);
        std::thread::scope(|scope| {
            scope.spawn(move || decoder.send_all(rows, &sender));
            // A return in between drops `batches`, upon which the decoder stops.
            for batch in batches {
                emit(self.outcomes(&model, batch)?)?;
            }
            Ok(())
        })
    }
}

impl Caption {
    fn outcomes(&mut self, model: &Captioner, batch: Batch) -> Result<Vec<(usize, Outcome)>, Failure> {
        let mut outcomes = batch.refused;
        let views: Vec<pipe_models::RgbImage<'_>> = batch.images.iter().map(|(_, image)| view(image)).collect();
        let (prompt, options) = (&self.prompt, &self.options);
        let texts = self.fit.each(&views, |images| model.caption(images, prompt, options))?;
        for ((place, _), text) in batch.images.iter().zip(texts) {
            let outcome = match text {
                Ok(text) => {
                    let added = self.tokenizer.decode(&text.ids, true).map_err(failure)?;
                    Outcome::Keep(vec![Cell::Text(self.params.caption(&added))])
                }
                Err(message) => Outcome::Fail(out_of_memory(message)),
            };
            outcomes.push((*place, outcome));
        }
        Ok(outcomes)
    }
}

fn view(image: &RgbImage) -> pipe_models::RgbImage<'_> {
    pipe_models::RgbImage { width: image.width(), height: image.height(), data: image.as_raw() }
}

/// Rows by their place in the request: images to look at, and what became of rows without.
#[derive(Default)]
struct Batch {
    images: Vec<(usize, RgbImage)>,
    refused: Vec<(usize, Outcome)>,
    bytes: usize,
}

impl Batch {
    fn add(&mut self, place: usize, decoded: Result<RgbImage, RowFailure>) {
        match decoded {
            Ok(image) => {
                self.bytes += image.as_raw().len();
                self.images.push((place, image));
            }
            Err(failure) => self.refused.push((place, Outcome::Fail(failure))),
        }
    }

    fn is_empty(&self) -> bool {
        self.images.is_empty() && self.refused.is_empty()
    }
}

/// Decodes images ahead of the model.
struct Decoder {
    pool: Arc<ThreadPool>,
    column: usize,
    /// Images to a batch.
    size: usize,
}

impl Decoder {
    /// Sends batches until all rows are sent or nobody takes them any more.
    fn send_all(&self, rows: &[Row], batches: &SyncSender<Batch>) {
        let mut batch = Batch::default();
        let mut at = 0;
        while at < rows.len() {
            // No more at once than there are threads: a decoded photograph is a hundred times its file.
            let count = self.pool.current_num_threads().min(self.size - batch.images.len()).min(rows.len() - at);
            let group = &rows[at..at + count];
            let decoded: Vec<_> = self.pool.install(|| group.par_iter().map(|row| self.decode(row)).collect());
            for (place, image) in (at..).zip(decoded) {
                batch.add(place, image);
            }
            at += count;
            let full = batch.images.len() == self.size || batch.bytes >= BATCH_BYTES;
            if full && batches.send(std::mem::take(&mut batch)).is_err() {
                return;
            }
        }
        if !batch.is_empty() {
            // Where nobody takes it, the stage has failed already and says why.
            let _ = batches.send(batch);
        }
    }

    fn decode(&self, row: &Row) -> Result<RgbImage, RowFailure> {
        let Some(Cell::Image(blob)) = row.cells.get(self.column) else {
            let message = "the row has no image".to_owned();
            return Err(RowFailure { class: "image: missing".to_owned(), message, transient: false });
        };
        let upright = || {
            let mut picture = image_file::decode(&image_file::bytes(blob)?, image_file::MAX_PIXELS)?;
            if matches!(picture.pixels.color(), ColorType::Rgb32F | ColorType::Rgba32F) {
                let message = "pixels of floating-point numbers have no known range";
                return Err(BadImage::new("image: unsupported", message));
            }
            picture.pixels.apply_orientation(picture.orientation);
            Ok(picture.pixels.into_rgb8())
        };
        upright().map_err(|bad: BadImage| RowFailure {
            class: bad.class.to_owned(),
            message: bad.message,
            transient: bad.transient,
        })
    }
}
