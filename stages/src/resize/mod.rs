//! `resize`: brings every image to one size, upright, in plain 8-bit RGB.
//!
//! Shrinks and enlarges by convolution with an antialiasing filter, as Pillow does. The same file gives the same bytes on every machine: the
//! arithmetic is in integers, and the encoders have no options of their own. Knows nothing of what a model does to pixels afterwards.

mod pixels;
#[cfg(test)]
mod tests;

use std::io::Cursor;

use fast_image_resize::FilterType;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType as PngFilter, PngEncoder};
use image::metadata::Orientation;
use image::{ExtendedColorType, ImageEncoder, ImageFormat, Rgb, RgbImage};
use pipe_engine::Blob;
use pipe_engine::cell::{Cell, ColumnType, Row};
use pipe_engine::problem::{Failure, Problem};
use pipe_engine::stage::{
    Contract, DATASET, Declare, Execute, Load, Outcome, Port, Resources, RowStage, Stage, params_schema,
};
use pipe_engine::step::Sink;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::image_file::{self, BadImage, Picture};
use pixels::{convolve, flatten, inside, middle};

/// The row of the stage table.
pub const STAGE: Stage = Stage {
    name: "resize",
    version: 1,
    about: "brings every image to one size, upright, in 8-bit RGB",
    inputs: &[Port::one("images", &[DATASET], "rows with an image")],
    outputs: &[Port::one("images", &[DATASET], "the rows with the new image")],
    params: params_schema::<Params>,
    resources: Resources::CORES,
    resolve: None,
    declare,
    execute: Execute::Rows(load),
};

/// The longest side that can be asked for.
const MAX_SIDE: u32 = 16_384;
const DEFAULT_QUALITY: u8 = 90;

/// The parameters of `resize`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Pixels: one number for a square, or `[width, height]`.
    #[schemars(schema_with = "size_schema")]
    size: Size,
    /// How the image comes to that shape: whole, with bars beside it; filling it, with its edges cut; or stretched.
    #[serde(default)]
    fit: Fit,
    /// The colour of bars, and behind transparent pixels: `#rrggbb`.
    #[serde(default = "black")]
    #[schemars(regex(pattern = r"^#[0-9a-fA-F]{6}$"))]
    background: String,
    /// The filter that pixels are computed with.
    #[serde(default)]
    filter: Filter,
    /// The encoding written.
    #[serde(default)]
    format: Format,
    /// Quality of a JPEG (90 unless said otherwise).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    quality: Option<u8>,
    /// Turns photographs upright as their EXIF orientation says.
    #[serde(default = "yes")]
    orient: bool,
    /// Images with more pixels than this fail, undecoded.
    #[serde(default = "max_pixels")]
    #[schemars(range(min = 1))]
    max_pixels: u64,
    /// The column read.
    #[serde(default = "image_column")]
    image: String,
    /// The column written; the one read, unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    output: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(untagged)]
enum Size {
    Square(u32),
    Box([u32; 2]),
}

/// How an image comes to the shape asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    /// Whole and in the middle, with bars beside or above it.
    #[default]
    Pad,
    /// Filling the shape, with what stands out cut off on both sides.
    Crop,
    /// Stretched to it.
    Stretch,
}

/// A convolution filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// Catmull–Rom cubic (a = −0.5).
    #[default]
    Bicubic,
    /// Lanczos windowed sinc, three lobes.
    Lanczos3,
    /// Triangle.
    Bilinear,
}

/// The encoding written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Without loss.
    #[default]
    Png,
    /// Smaller, with loss.
    Jpeg,
}

fn size_schema(_: &mut SchemaGenerator) -> Schema {
    let side = json_schema!({ "type": "integer", "minimum": 1, "maximum": MAX_SIDE });
    json_schema!({
        "description": "Pixels: one number for a square, or [width, height].",
        "anyOf": [side, { "type": "array", "items": side, "minItems": 2, "maxItems": 2 }],
    })
}

fn black() -> String {
    "#000000".to_owned()
}

fn yes() -> bool {
    true
}

fn max_pixels() -> u64 {
    image_file::MAX_PIXELS
}

fn image_column() -> String {
    "image".to_owned()
}

fn declare(step: &Declare<'_>) -> Result<Contract, Problem> {
    let params: Params = step.params()?;
    step.column("images", "image", &params.image, &[ColumnType::Image])?;
    if params.quality.is_some() && params.format != Format::Jpeg {
        return Err(
            Problem::param("quality", "only a JPEG has a quality").help("add `format = \"jpeg\"`, or leave it out")
        );
    }
    let output = params.output.unwrap_or_else(|| params.image.clone());
    if output == "id" {
        return Err(Problem::param("output", "`id` is the name of every dataset's key").help("choose another column"));
    }
    Ok(Contract::default().reads_columns("images", [params.image]).writes(output, ColumnType::Image))
}

/// What to do to every image.
struct Resize {
    width: u32,
    height: u32,
    fit: Fit,
    background: Rgb<u8>,
    filter: FilterType,
    encoding: Encoding,
    orient: bool,
    max_pixels: u64,
}

#[derive(Clone, Copy)]
enum Encoding {
    Png,
    Jpeg(u8),
}

fn load(load: &Load<'_>) -> Result<Box<dyn RowStage>, Failure> {
    let params: Params = load.params()?;
    let (width, height) = match params.size {
        Size::Square(side) => (side, side),
        Size::Box([width, height]) => (width, height),
    };
    let filter = match params.filter {
        Filter::Bicubic => FilterType::CatmullRom,
        Filter::Lanczos3 => FilterType::Lanczos3,
        Filter::Bilinear => FilterType::Bilinear,
    };
    let encoding = match params.format {
        Format::Png => Encoding::Png,
        Format::Jpeg => Encoding::Jpeg(params.quality.unwrap_or(DEFAULT_QUALITY)),
    };
    let background = colour(&params.background)
        .ok_or_else(|| Failure::input(format!("`{}` is not a colour such as #ffffff", params.background)))?;
    let Params { fit, orient, max_pixels, .. } = params;
    Ok(Box::new(Resize { width, height, fit, background, filter, encoding, orient, max_pixels }))
}

fn colour(text: &str) -> Option<Rgb<u8>> {
    let value = u32::from_str_radix(text.strip_prefix('#').filter(|digits| digits.len() == 6)?, 16).ok()?;
    let [_, red, green, blue] = value.to_be_bytes();
    Some(Rgb([red, green, blue]))
}

impl RowStage for Resize {
    fn run(&self, rows: &[Row], _: &dyn Sink) -> Result<Vec<Outcome>, Failure> {
        Ok(rows.iter().map(|row| self.outcome(row)).collect())
    }
}

impl Resize {
    fn outcome(&self, row: &Row) -> Outcome {
        match row.cells.first() {
            Some(Cell::Image(blob)) => match self.resized(blob) {
                Ok(cell) => Outcome::Keep(vec![cell]),
                Err(bad) => bad.outcome(),
            },
            _ => Outcome::fail("image: missing", "the row has no image"),
        }
    }

    fn resized(&self, blob: &Blob) -> Result<Cell, BadImage> {
        let picture = image_file::decode(&image_file::bytes(blob)?, self.max_pixels)?;
        if self.is_done(&picture) {
            return Ok(Cell::Image(blob.clone()));
        }
        let mut pixels = picture.pixels;
        if self.orient {
            pixels.apply_orientation(picture.orientation);
        }
        let shaped = self.shape(flatten(pixels, self.background)?)?;
        self.encode(&shaped).map(Cell::NewImage)
    }

    /// Whether the file already is what it would become.
    fn is_done(&self, picture: &Picture) -> bool {
        let format = match self.encoding {
            Encoding::Png => ImageFormat::Png,
            Encoding::Jpeg(_) => ImageFormat::Jpeg,
        };
        let upright = !self.orient || picture.orientation == Orientation::NoTransforms;
        let size = (picture.pixels.width(), picture.pixels.height());
        picture.plain_rgb && picture.format == format && upright && size == (self.width, self.height)
    }

    fn shape(&self, image: RgbImage) -> Result<RgbImage, BadImage> {
        let target = (self.width, self.height);
        match self.fit {
            Fit::Stretch => convolve(image, target, self.filter, None),
            Fit::Crop => {
                let part = middle(image.dimensions(), target);
                convolve(image, target, self.filter, Some(part))
            }
            Fit::Pad => {
                let inner = inside(image.dimensions(), target);
                Ok(self.pad(convolve(image, inner, self.filter, None)?))
            }
        }
    }

    fn pad(&self, image: RgbImage) -> RgbImage {
        if image.dimensions() == (self.width, self.height) {
            return image;
        }
        let mut canvas = RgbImage::from_pixel(self.width, self.height, self.background);
        let (left, top) = ((self.width - image.width()) / 2, (self.height - image.height()) / 2);
        image::imageops::replace(&mut canvas, &image, left.into(), top.into());
        canvas
    }

    fn encode(&self, image: &RgbImage) -> Result<Vec<u8>, BadImage> {
        let mut bytes = Cursor::new(Vec::new());
        let (width, height) = image.dimensions();
        match self.encoding {
            // The fast compressor is one implementation; others depend on how a zlib was chosen at build time.
            Encoding::Png => PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, PngFilter::Adaptive)
                .write_image(image, width, height, ExtendedColorType::Rgb8),
            Encoding::Jpeg(quality) => JpegEncoder::new_with_quality(&mut bytes, quality).encode_image(image),
        }
        .map_err(|error| BadImage::new("image: not encodable", error.to_string()))?;
        Ok(bytes.into_inner())
    }
}
