//! Arithmetic on pixels: sizes that fit a box, convolution, transparency.

use fast_image_resize::images::Image;
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::{ColorType, DynamicImage, Rgb, RgbImage};

use crate::image_file::BadImage;

/// The largest size of that shape inside a box, to the nearest pixel, at least one.
pub fn inside((width, height): (u32, u32), (box_width, box_height): (u32, u32)) -> (u32, u32) {
    let scaled = |side: u32, numerator: u32, denominator: u32| {
        let rounded =
            (2 * u64::from(side) * u64::from(numerator) + u64::from(denominator)) / (2 * u64::from(denominator));
        u32::try_from(rounded).unwrap_or(u32::MAX)
    };
    if u64::from(box_width) * u64::from(height) <= u64::from(box_height) * u64::from(width) {
        (box_width, scaled(height, box_width, width).clamp(1, box_height))
    } else {
        (scaled(width, box_height, height).clamp(1, box_width), box_height)
    }
}

/// A part of an image, in fractions of pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Part {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
}

/// The largest part of the shape of a box from the middle of an image.
pub fn middle((width, height): (u32, u32), (box_width, box_height): (u32, u32)) -> Part {
    let (width, height) = (f64::from(width), f64::from(height));
    let aspect = f64::from(box_width) / f64::from(box_height);
    let (part_width, part_height) =
        if width / height >= aspect { (aspect * height, height) } else { (width, width / aspect) };
    Part { left: (width - part_width) / 2.0, top: (height - part_height) / 2.0, width: part_width, height: part_height }
}

/// Resizes a part of an image, or all of it, by convolution: along rows first, then along columns, as Pillow does (the order shows, since the
/// values between are cut to 8 bits).
pub fn convolve(
    image: RgbImage,
    (width, height): (u32, u32),
    filter: FilterType,
    part: Option<Part>,
) -> Result<RgbImage, BadImage> {
    let (source_width, source_height) = image.dimensions();
    let (full_width, full_height) = (f64::from(source_width), f64::from(source_height));
    let part = part.unwrap_or(Part { left: 0.0, top: 0.0, width: full_width, height: full_height });
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter));
    let along_rows = options.crop(part.left, 0.0, part.width, full_height);
    let narrow = resample(image, (width, source_height), &along_rows)?;
    resample(narrow, (width, height), &options.crop(0.0, part.top, f64::from(width), part.height))
}

fn resample(image: RgbImage, (width, height): (u32, u32), options: &ResizeOptions) -> Result<RgbImage, BadImage> {
    let failed = |error: &dyn std::fmt::Display| BadImage::new("image: not resizable", error.to_string());
    let (source_width, source_height) = image.dimensions();
    let source = Image::from_vec_u8(source_width, source_height, image.into_raw(), PixelType::U8x3)
        .map_err(|error| failed(&error))?;
    let mut target = Image::new(width, height, PixelType::U8x3);
    Resizer::new().resize(&source, &mut target, options).map_err(|error| failed(&error))?;
    RgbImage::from_raw(width, height, target.into_vec()).ok_or_else(|| failed(&"a buffer of another size"))
}

/// 8-bit RGB, with `background` shining through where the image is transparent.
pub fn flatten(pixels: DynamicImage, background: Rgb<u8>) -> Result<RgbImage, BadImage> {
    if matches!(pixels.color(), ColorType::Rgb32F | ColorType::Rgba32F) {
        return Err(BadImage::new("image: unsupported", "pixels of floating-point numbers have no known range"));
    }
    if !pixels.color().has_alpha() {
        return Ok(pixels.into_rgb8());
    }
    let image = pixels.into_rgba8();
    let blend = |colour: u8, behind: u8, alpha: u32| -> u8 {
        let sum = u32::from(colour) * alpha + u32::from(behind) * (255 - alpha);
        u8::try_from((sum + 127) / 255).unwrap_or(u8::MAX)
    };
    let mut flat = RgbImage::new(image.width(), image.height());
    for (to, from) in flat.pixels_mut().zip(image.pixels()) {
        let alpha = u32::from(from[3]);
        *to = Rgb([0, 1, 2].map(|channel| blend(from[channel], background[channel], alpha)));
    }
    Ok(flat)
}
