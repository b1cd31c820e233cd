//! From RGB bytes to what an image encoder takes, as the reference's processor does it: resized straight to the size
//! (no crop), antialiased on bytes, scaled and normalised.

use serde::Deserialize;
use serde_json::Value;
use tch::{Kind, Tensor};

use crate::error::{Error, Result};
use crate::files::ModelFiles;

/// An image: `height` rows of `width` pixels of three bytes, red first.
#[derive(Debug, Clone, Copy)]
pub struct RgbImage<'a> {
    /// Pixels per row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// `3 · width · height` bytes.
    pub data: &'a [u8],
}

#[derive(Debug, Deserialize)]
#[serde(default)]
struct Fields {
    do_resize: bool,
    size: Size,
    resample: i64,
    do_rescale: bool,
    rescale_factor: f64,
    do_normalize: bool,
    image_mean: [f64; 3],
    image_std: [f64; 3],
    do_center_crop: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct Size {
    height: i64,
    width: i64,
}

/// What a file may leave out is what the reference takes for it.
impl Default for Fields {
    fn default() -> Self {
        Self {
            do_resize: true,
            size: Size { height: 384, width: 384 },
            resample: 3,
            do_rescale: true,
            rescale_factor: 1.0 / 255.0,
            do_normalize: true,
            image_mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
            image_std: [0.268_629_54, 0.261_302_58, 0.275_777_11],
            do_center_crop: None,
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Filter {
    Bilinear,
    Bicubic,
}

/// Turns images into pixels of one size.
pub struct ImageProcessor {
    /// Height and width.
    size: [i64; 2],
    resize: Option<Filter>,
    /// Subtracted from bytes, `[3, 1, 1]`.
    shift: Tensor,
    /// Divides what is left, `[3, 1, 1]`.
    scale: Tensor,
}

impl ImageProcessor {
    /// Reads `preprocessor_config.json`, or the part about images of `processor_config.json`.
    pub fn load(files: &ModelFiles) -> Result<Self> {
        let (file, config) = match files.json::<Value>("preprocessor_config.json")? {
            Some(config) => ("preprocessor_config.json", config),
            None => {
                let whole: Value = files.require_json("processor_config.json")?;
                ("processor_config.json", whole["image_processor"].clone())
            }
        };
        let fields = Fields::deserialize(&config).map_err(|error| Error::config(file, error.to_string()))?;
        fields.check(file)?;
        // The reference folds the factor into mean and deviation, and rounding depends on it.
        let levels = if fields.do_rescale { (1.0 / fields.rescale_factor) as f32 } else { 1.0 };
        let (mean, std) =
            if fields.do_normalize { (fields.image_mean, fields.image_std) } else { ([0.0; 3], [1.0; 3]) };
        let column = |values: [f64; 3]| Tensor::f_from_slice(&values.map(|x| x as f32 * levels))?.f_view([3, 1, 1]);
        Ok(Self {
            size: [fields.size.height, fields.size.width],
            resize: fields.filter(file)?,
            shift: column(mean)?,
            scale: column(std)?,
        })
    }

    /// Height and width of the pixels.
    pub fn size(&self) -> [i64; 2] {
        self.size
    }

    /// `[images, 3, height, width]`, 32-bit, on the CPU. Fails on an image without pixels, of another length than its
    /// size says, or, where the configuration does not resize, of another size.
    pub fn pixels(&self, images: &[RgbImage<'_>]) -> Result<Tensor> {
        let each = images.iter().map(|image| self.resized(image)).collect::<Result<Vec<_>>>()?;
        if each.is_empty() {
            return Err(Error::input("there are no images"));
        }
        let bytes = Tensor::f_cat(&each, 0)?;
        Ok(bytes.f_to_kind(Kind::Float)?.f_sub(&self.shift)?.f_div(&self.scale)?)
    }

    /// `[1, 3, height, width]` bytes.
    fn resized(&self, image: &RgbImage<'_>) -> Result<Tensor> {
        let (height, width) = (i64::from(image.height), i64::from(image.width));
        let expected = u64::from(image.height) * u64::from(image.width) * 3;
        if expected == 0 || image.data.len() as u64 != expected {
            return Err(Error::input(format!(
                "an image of {width} by {height} has {} bytes, not {expected}, which must be above 0",
                image.data.len()
            )));
        }
        let bytes = Tensor::f_from_data_size(image.data, &[1, height, width, 3], Kind::Uint8)?;
        let bytes = bytes.f_permute([0, 3, 1, 2])?;
        if [height, width] == self.size {
            return Ok(bytes);
        }
        match self.resize {
            Some(Filter::Bicubic) => Ok(bytes.f_internal_upsample_bicubic2d_aa(self.size, false, None, None)?),
            Some(Filter::Bilinear) => Ok(bytes.f_internal_upsample_bilinear2d_aa(self.size, false, None, None)?),
            None => Err(Error::input(format!(
                "an image of {width} by {height} is given to a model that takes {} by {} unresized",
                self.size[1], self.size[0]
            ))),
        }
    }
}

impl Fields {
    fn check(&self, file: &str) -> Result<()> {
        if self.do_center_crop == Some(true) {
            return Err(Error::Unsupported {
                file: file.to_owned(),
                what: "do_center_crop = true".to_owned(),
                supported: "images resized whole".to_owned(),
            });
        }
        let good = self.size.height > 0
            && self.size.width > 0
            && self.rescale_factor.is_finite()
            && self.rescale_factor > 0.0
            && self.image_std.iter().all(|&x| x > 0.0);
        if good { Ok(()) } else { Err(Error::config(file, "a size, factor or deviation is not above 0")) }
    }

    /// The numbers are those of Pillow.
    fn filter(&self, file: &str) -> Result<Option<Filter>> {
        match (self.do_resize, self.resample) {
            (false, _) => Ok(None),
            (true, 2) => Ok(Some(Filter::Bilinear)),
            (true, 3) => Ok(Some(Filter::Bicubic)),
            (true, other) => Err(Error::Unsupported {
                file: file.to_owned(),
                what: format!("resample = {other}"),
                supported: "2 (bilinear), 3 (bicubic)".to_owned(),
            }),
        }
    }
}
