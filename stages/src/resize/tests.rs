use std::io::Cursor;

use image::{DynamicImage, ImageFormat, Luma, Rgba};
use pipe_engine::cell::{Cell, ColumnType, Row};
use pipe_engine::stage::Outcome;
use serde_json::{Value, json};

use super::*;
use crate::testing::{blob, dataset_shape, declared, row_stage};

/// An image whose every pixel differs from its neighbours.
fn pattern() -> RgbImage {
    RgbImage::from_fn(37, 23, |x, y| {
        let channel = |value: u32| u8::try_from(value % 256).unwrap();
        Rgb([channel(x * 7 + y * 13), channel(x * x + y), channel((x ^ y) * 5)])
    })
}

fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// The outcome for a file with these bytes.
fn outcome(params: &Value, bytes: &[u8]) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    let row = Row { id: "a".into(), cells: vec![Cell::Image(blob(dir.path(), bytes))] };
    let stage = row_stage(&STAGE, params, &[("image", ColumnType::Image)]);
    stage.run(&[row], &crate::testing::Quiet).unwrap().remove(0)
}

fn resized(params: &Value, bytes: &[u8]) -> Vec<u8> {
    match outcome(params, bytes) {
        Outcome::Keep(cells) => match cells.into_iter().next() {
            Some(Cell::NewImage(bytes)) => bytes,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn pixels(params: &Value, image: impl Into<DynamicImage>) -> RgbImage {
    image::load_from_memory(&resized(params, &encoded(image, ImageFormat::Png))).unwrap().into_rgb8()
}

fn class(params: &Value, bytes: &[u8]) -> String {
    match outcome(params, bytes) {
        Outcome::Fail(failure) => failure.class,
        other => panic!("{other:?}"),
    }
}

#[test]
fn pixels_are_those_of_pillow() {
    // Pillow 12, Image.resize and ImageOps.fit of the same pattern to 16x16, at (3, 2) and (7, 5).
    let cases = [
        ("bicubic", "stretch", [93, 61, 39], [215, 42, 115]),
        ("bicubic", "crop", [121, 136, 58], [218, 42, 119]),
        ("lanczos3", "stretch", [93, 61, 38], [210, 36, 116]),
        ("lanczos3", "crop", [121, 136, 58], [216, 35, 121]),
        ("bilinear", "stretch", [93, 61, 39], [215, 57, 110]),
        ("bilinear", "crop", [121, 136, 58], [218, 50, 117]),
    ];
    for (filter, fit, first, second) in cases {
        let image = pixels(&json!({ "size": 16, "fit": fit, "filter": filter }), pattern());
        for (found, wanted) in [(image.get_pixel(3, 2).0, first), (image.get_pixel(7, 5).0, second)] {
            let worst = found.into_iter().zip(wanted).map(|(a, b): (u8, u8)| a.abs_diff(b)).max();
            assert!(worst <= Some(1), "{filter} {fit}: {found:?}, not {wanted:?}");
        }
    }
}

#[test]
fn jpegs_that_are_cut_off_or_not_rgb_are_told() {
    let size = json!({ "size": [37, 23], "format": "jpeg" });
    let whole = encoded(pattern(), ImageFormat::Jpeg);
    assert!(matches!(outcome(&size, &whole), Outcome::Keep(cells) if matches!(cells[..], [Cell::Image(_)])));
    assert_eq!(class(&size, &whole[..whole.len() - 2]), "image: truncated");
    // A thumbnail in the EXIF block has an end marker of its own.
    let thumbnail = [b"\xff\xe1\x00\x08Exif\xff\xd9".as_slice(), &whole[2..whole.len() - 60]].concat();
    assert_eq!(class(&size, &[b"\xff\xd8", thumbnail.as_slice()].concat()), "image: truncated");
    let grey = encoded(DynamicImage::from(pattern()).into_luma8(), ImageFormat::Jpeg);
    assert_ne!(resized(&size, &grey), grey);
}

#[test]
fn bars_are_even_and_of_the_background() {
    let image =
        pixels(&json!({ "size": [16, 16], "background": "#ff8000" }), RgbImage::from_pixel(40, 20, Rgb([9, 9, 9])));
    let column: Vec<u8> = (0..16).map(|y| image.get_pixel(8, y)[0]).collect();
    assert_eq!(column, [vec![255; 4], vec![9; 8], vec![255; 4]].concat());
    assert_eq!(image.get_pixel(0, 0).0, [255, 128, 0]);
    let sliver = pixels(&json!({ "size": 8 }), RgbImage::from_pixel(1000, 1, Rgb([200, 0, 0])));
    assert_eq!(sliver.pixels().filter(|pixel| pixel[0] == 200).count(), 8);
}

#[test]
fn what_is_done_already_passes_unchanged() {
    let done = encoded(pattern(), ImageFormat::Png);
    let kept = outcome(&json!({ "size": [37, 23] }), &done);
    assert!(matches!(&kept, Outcome::Keep(cells) if matches!(cells[..], [Cell::Image(_)])), "{kept:?}");
    for other in
        [encoded(pattern(), ImageFormat::Bmp), encoded(DynamicImage::from(pattern()).into_rgba8(), ImageFormat::Png)]
    {
        assert_eq!(
            image::load_from_memory(&resized(&json!({ "size": [37, 23] }), &other)).unwrap().into_rgb8(),
            pattern()
        );
    }
}

#[test]
fn photographs_are_turned_upright() {
    let dark_left = RgbImage::from_fn(64, 32, |x, _| Rgb([if x < 32 { 0 } else { 255 }; 3]));
    let plain = encoded(dark_left, ImageFormat::Jpeg);
    // EXIF with orientation 6: the camera was turned, so that left in the file is up in the scene.
    let exif = b"\xff\xe1\x00\x22Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let turned = [&plain[..2], exif, &plain[2..]].concat();
    let at = |params: Value, bytes: &[u8], x, y| {
        image::load_from_memory(&resized(&params, bytes)).unwrap().into_rgb8().get_pixel(x, y)[0]
    };
    let crop = json!({ "size": 16, "fit": "crop" });
    assert!(at(crop.clone(), &turned, 8, 2) < 40 && at(crop.clone(), &turned, 8, 13) > 215);
    let as_stored = json!({ "size": 16, "fit": "stretch", "orient": false });
    assert!(at(as_stored.clone(), &turned, 2, 8) < 40 && at(as_stored, &turned, 13, 8) > 215);
}

#[test]
fn every_depth_and_transparency_becomes_rgb() {
    let to = json!({ "size": 2, "background": "#ffffff" });
    let grey = image::ImageBuffer::<Luma<u16>, _>::from_pixel(4, 4, Luma([0x8080]));
    assert_eq!(pixels(&to, DynamicImage::ImageLuma16(grey)).get_pixel(0, 0).0, [128; 3]);
    let half = image::RgbaImage::from_pixel(4, 4, Rgba([255, 0, 0, 51]));
    assert_eq!(pixels(&to, DynamicImage::ImageRgba8(half)).get_pixel(1, 1).0, [255, 204, 204]);
}

#[test]
fn the_same_file_gives_the_same_bytes() {
    let source = encoded(pattern(), ImageFormat::Png);
    let digest = |params: Value| pipe_engine::Digest::of(&resized(&params, &source)).short();
    assert_eq!(digest(json!({ "size": 16 })), "b596059c0b7f");
    assert_eq!(digest(json!({ "size": 16, "format": "jpeg" })), "632aed4621a0");
}

#[test]
fn bad_images_fail_with_a_class() {
    let size = json!({ "size": 16, "max_pixels": 800 });
    let whole = encoded(image::imageops::thumbnail(&pattern(), 20, 20), ImageFormat::Png);
    assert_eq!(class(&size, &whole[..whole.len() - 30]), "image: truncated");
    assert_eq!(class(&size, &encoded(pattern(), ImageFormat::Png)), "image: too large");
    assert_eq!(class(&size, b""), "image: empty");
    assert_eq!(class(&size, b"hello"), "image: unknown format");
    let null = Row { id: "a".into(), cells: vec![Cell::Null] };
    let stage = row_stage(&STAGE, &size, &[("image", ColumnType::Image)]);
    assert!(
        matches!(&stage.run(&[null], &crate::testing::Quiet).unwrap()[0], Outcome::Fail(failure) if failure.class == "image: missing")
    );
}

#[test]
fn declares_its_columns_or_says_what_is_wrong() {
    let shape = dataset_shape(&[("image", ColumnType::Image), ("caption", ColumnType::Text)]);
    let declare = |params: Value| {
        let full = serde_json::to_value(serde_json::from_value::<Params>(params).unwrap()).unwrap();
        declared(&STAGE, &full, &[("images", shape.clone())])
    };
    let contract = declare(json!({ "size": 8, "output": "small" })).unwrap();
    assert_eq!(contract.writes, [("small".to_owned(), ColumnType::Image)]);
    let problem = declare(json!({ "size": 8, "image": "caption" })).unwrap_err();
    assert_eq!(problem.message, "column `caption` is text, expected image");
    assert_eq!(declare(json!({ "size": 8, "quality": 80 })).unwrap_err().message, "only a JPEG has a quality");
}

proptest::proptest! {
    #[test]
    fn a_shape_fits_its_box_and_touches_it(width in 1u32..5000, height in 1u32..5000, box_width in 1u32..700, box_height in 1u32..700) {
        let (inner_width, inner_height) = inside((width, height), (box_width, box_height));
        assert!((1..=box_width).contains(&inner_width) && (1..=box_height).contains(&inner_height));
        assert!(inner_width == box_width || inner_height == box_height);
        let error = f64::from(inner_width) * f64::from(height) / f64::from(width) - f64::from(inner_height);
        let other = f64::from(inner_height) * f64::from(width) / f64::from(height) - f64::from(inner_width);
        assert!(error.abs() <= 0.5 + 1e-9 || other.abs() <= 0.5 + 1e-9 || inner_width == 1 || inner_height == 1);
    }

    #[test]
    fn no_damage_panics(at: proptest::sample::Index, byte: u8, cut: proptest::sample::Index, format in 0usize..6) {
        use ImageFormat::{Bmp, Gif, Jpeg, Png, Tiff, WebP};
        let mut bytes = encoded(image::imageops::thumbnail(&pattern(), 9, 7), [Png, Jpeg, Gif, WebP, Bmp, Tiff][format]);
        let len = bytes.len();
        bytes[at.index(len)] = byte;
        let _ = image_file::decode(&bytes, 1000);
        let _ = image_file::decode(&bytes[..cut.index(len)], 1000);
        let _ = image_file::header_of(&bytes);
    }
}
