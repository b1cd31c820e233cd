//! Encoded image files: what they are, whether they are whole, and their pixels.
//!
//! Every decoder here is bounded: the header is read first, and an image with more pixels than allowed is never decoded.
//! Knows files and pixels; knows neither rows nor stages.

use std::fs::File;
use std::io::Cursor;
use std::os::unix::fs::FileExt;

use image::metadata::Orientation;
use image::{DynamicImage, ExtendedColorType, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};
use pipe_engine::Blob;
use pipe_engine::stage::{Outcome, RowFailure};

/// Pixels an image may have where a stage has no parameter for it: 2^27, a square of 11,585 (400 MB of RGB).
pub const MAX_PIXELS: u64 = 1 << 27;

/// Enough of a file to hold the header of nearly every image (EXIF blocks are up to 64 KiB each).
const HEAD: u64 = 256 * 1024;

/// The most a pixel takes in memory that is worked with here: 16-bit RGBA.
const BYTES_PER_PIXEL: u64 = 8;
/// What a decoder may need besides: tables, profiles, comments.
const OVERHEAD: u64 = 64 << 20;

/// File name extensions of the formats that can be decoded.
pub const EXTENSIONS: &[&str] =
    &["png", "jpg", "jpeg", "jpe", "jfif", "gif", "webp", "bmp", "tif", "tiff", "pnm", "pbm", "pgm", "ppm", "pam"];

/// Whether a file of this name is taken as an image.
#[must_use]
pub fn has_image_extension(name: &str) -> bool {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension.as_str()))
}

/// Why an image could not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BadImage {
    /// A short class that recurs: `image: truncated`.
    pub class: &'static str,
    /// What exactly.
    pub message: String,
    /// The disk failed, not the image.
    pub transient: bool,
}

impl BadImage {
    /// An image that is at fault.
    pub fn new(class: &'static str, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), transient: false }
    }

    /// The outcome of a row with such an image.
    #[must_use]
    pub fn outcome(self) -> Outcome {
        Outcome::Fail(RowFailure { class: self.class.to_owned(), message: self.message, transient: self.transient })
    }
}

/// What the header says, before EXIF orientation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Pixels from left to right as stored.
    pub width: u32,
    /// Pixels from top to bottom as stored.
    pub height: u32,
    /// The encoding.
    pub format: ImageFormat,
}

/// A decoded image.
pub struct Picture {
    /// Its pixels as stored, not yet turned.
    pub pixels: DynamicImage,
    /// The encoding of the file.
    pub format: ImageFormat,
    /// How EXIF says it is to be turned.
    pub orientation: Orientation,
    /// The file yields 8-bit RGB as it is: no alpha, no other colour space or depth.
    pub plain_rgb: bool,
}

/// The name of a format as expressions and parameters write it: `png`, `jpeg`, …
#[must_use]
pub fn format_name(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Png => "png",
        ImageFormat::Jpeg => "jpeg",
        ImageFormat::Gif => "gif",
        ImageFormat::WebP => "webp",
        ImageFormat::Bmp => "bmp",
        ImageFormat::Tiff => "tiff",
        ImageFormat::Pnm => "pnm",
        _ => "other",
    }
}

/// The file name extensions of the format that a file starts as, the usual one first; none where it is unknown.
#[must_use]
pub fn extensions(start: &[u8]) -> &'static [&'static str] {
    match guess(start) {
        Some(ImageFormat::Png) => &["png"],
        Some(ImageFormat::Jpeg) => &["jpg", "jpeg", "jpe", "jfif"],
        Some(ImageFormat::Gif) => &["gif"],
        Some(ImageFormat::WebP) => &["webp"],
        Some(ImageFormat::Bmp) => &["bmp"],
        Some(ImageFormat::Tiff) => &["tiff", "tif"],
        Some(ImageFormat::Pnm) => &["pnm", "pbm", "pgm", "ppm", "pam"],
        _ => &[],
    }
}

/// Reads the first `len` bytes of the file (all of a shorter one).
///
/// # Errors
/// When the disk fails.
pub fn start(blob: &Blob, len: u64) -> Result<Vec<u8>, BadImage> {
    let mut bytes = vec![0; usize::try_from(blob.len.min(len)).unwrap_or(usize::MAX)];
    let read = File::open(&blob.path).and_then(|file| file.read_exact_at(&mut bytes, blob.offset));
    read.map(|()| bytes).map_err(|error| unreadable(blob, &error))
}

/// Reads the whole file.
///
/// # Errors
/// When the disk fails.
pub fn bytes(blob: &Blob) -> Result<Vec<u8>, BadImage> {
    blob.read().map_err(|error| unreadable(blob, &error))
}

fn unreadable(blob: &Blob, error: &std::io::Error) -> BadImage {
    let message = format!("cannot read {}: {error}", blob.path.display());
    BadImage { class: "image: unreadable", message, transient: true }
}

/// Reads the header, and no more of the file than that takes.
///
/// # Errors
/// When it is not an image of a known format.
pub fn header(blob: &Blob) -> Result<Header, BadImage> {
    match header_of(&start(blob, HEAD)?) {
        Err(_) if blob.len > HEAD => header_of(&bytes(blob)?),
        result => result,
    }
}

/// Reads the header from the bytes of a file.
///
/// # Errors
/// When it is not an image of a known format.
pub fn header_of(bytes: &[u8]) -> Result<Header, BadImage> {
    let reader = reader(bytes)?;
    let format = reader.format().ok_or_else(|| unknown(bytes))?;
    let (width, height) = reader.into_dimensions().map_err(|error| describe(format, &error))?;
    Ok(Header { width, height, format })
}

/// Decodes the bytes of a file in full (of an animation, the first frame).
///
/// # Errors
/// When it is not an image of a known format, is damaged, or has more than `max_pixels` pixels.
pub fn decode(bytes: &[u8], max_pixels: u64) -> Result<Picture, BadImage> {
    let mut reader = reader(bytes)?;
    let format = reader.format().ok_or_else(|| unknown(bytes))?;
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(max_pixels.saturating_mul(BYTES_PER_PIXEL).saturating_add(OVERHEAD));
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|error| describe(format, &error))?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > max_pixels {
        let message = format!("{width}x{height} pixels; at most {max_pixels} are decoded");
        return Err(BadImage::new("image: too large", message));
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut plain_rgb = decoder.original_color_type() == ExtendedColorType::Rgb8;
    let pixels = DynamicImage::from_decoder(decoder).map_err(|error| describe(format, &error))?;
    if format == ImageFormat::Jpeg {
        plain_rgb &= jpeg_components(bytes)? == 3;
    }
    Ok(Picture { pixels, format, orientation, plain_rgb })
}

fn reader(bytes: &[u8]) -> Result<ImageReader<Cursor<&[u8]>>, BadImage> {
    if bytes.is_empty() {
        return Err(BadImage::new("image: empty", "a file without bytes"));
    }
    let mut reader = ImageReader::new(Cursor::new(bytes));
    if let Some(format) = guess(bytes) {
        reader.set_format(format);
    }
    Ok(reader)
}

/// The format by its first bytes, among those that can be decoded.
fn guess(bytes: &[u8]) -> Option<ImageFormat> {
    image::guess_format(bytes).ok().filter(ImageFormat::reading_enabled)
}

fn unknown(bytes: &[u8]) -> BadImage {
    let start = bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    BadImage::new("image: unknown format", format!("not an image of a known format: it starts with {start}"))
}

/// The colour components of a JPEG that is whole. Its decoder fills what is missing at the end with grey and turns other colour
/// spaces into RGB, both without a word; the markers of the file tell (ITU-T T.81, B.1).
fn jpeg_components(bytes: &[u8]) -> Result<u8, BadImage> {
    const END_OF_IMAGE: u8 = 0xd9;
    let cut = || BadImage::new("image: truncated", "jpeg: the file ends before the image does");
    let mut components = 0;
    let mut at = 2;
    loop {
        let next = bytes.get(at..).and_then(|rest| rest.windows(2).position(is_marker)).ok_or_else(cut)?;
        at += next + 2;
        match bytes[at - 1] {
            END_OF_IMAGE => return Ok(components),
            marker => {
                let length = bytes.get(at..at + 2).ok_or_else(cut)?;
                let is_frame = matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc);
                if is_frame {
                    components = *bytes.get(at + 7).ok_or_else(cut)?;
                }
                at += usize::from(u16::from_be_bytes([length[0], length[1]]));
            }
        }
    }
}

/// Whether two bytes begin a segment: not fill bytes, a stuffed 0xff of a scan, a restart or a marker without a segment.
fn is_marker(pair: &[u8]) -> bool {
    pair[0] == 0xff && !matches!(pair[1], 0x00 | 0x01 | 0xff | 0xd0..=0xd8)
}

fn describe(format: ImageFormat, error: &ImageError) -> BadImage {
    let message = format!("{}: {error}", format_name(format));
    match error {
        ImageError::IoError(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => {
            BadImage::new("image: truncated", message)
        }
        ImageError::Unsupported(_) => BadImage::new("image: unsupported", message),
        ImageError::Limits(_) => BadImage::new("image: too large", message),
        _ => BadImage::new("image: damaged", message),
    }
}
