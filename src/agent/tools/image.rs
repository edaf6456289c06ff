//! `view_image`: a picture of the workspace, shown to the model.
//!
//! The file is hostile, so nothing of it is shown that was not decoded here within bounds: a server refuses
//! a request for one broken image, and a thread that holds it for ever.

use std::io::Cursor;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, ImageDecoder as _, ImageError, ImageFormat, ImageReader, Limits};
use serde::Deserialize;
use thiserror::Error;

/// The tool's name.
pub const VIEW_IMAGE: &str = "view_image";

/// Largest file that is read: photographs and screenshots of large screens are smaller.
pub const FILE_MAX: usize = 16 * 1024 * 1024;

/// Images that a thread may hold. Each is sent with every request; this many of the largest are 32 MiB, the most
/// that servers take in one.
pub const IMAGES_MAX: usize = 16;

/// Longest side of what is shown: servers scale down what is larger, and count it before.
const SIDE_MAX: u32 = 2048;

/// Largest image, encoded, that is shown.
const SHOWN_MAX: usize = 3 * 1024 * 1024 / 2;

/// Most points of an image that is decoded. With [`ALLOC_MAX`] it keeps the decoding of a hostile file well below
/// the agent's memory limit of 512 MiB.
const POINTS_MAX: u64 = 16 * 1024 * 1024;

/// Most bytes that a decoder may take for itself.
const ALLOC_MAX: u64 = 128 * 1024 * 1024;

/// Qualities at which a photograph is tried, until it is small enough.
const QUALITIES: [u8; 3] = [85, 60, 30];

/// A picture to show.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ViewImage {
    /// The file, relative to the turn's directory or absolute.
    pub path: String,
}

/// A picture as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The picture as a `data:` URL.
    pub url: String,
    /// What it is, for people: its format and size.
    pub summary: String,
}

/// Why a file cannot be shown as a picture.
#[derive(Debug, Error)]
pub enum ImageRefused {
    /// It is none of the formats.
    #[error("it is not a PNG, JPEG, GIF or WebP image")]
    Format,
    /// It is larger than is decoded.
    #[error("it has {0} by {1} points, and {POINTS_MAX} are the most that can be shown; scale it down first")]
    TooLarge(u32, u32),
    /// It cannot be decoded.
    #[error("it cannot be decoded: {0}")]
    Broken(String),
}

/// Why the model does not get to see what it asked for.
#[derive(Debug)]
pub enum NotShown {
    /// There is no such file.
    Missing,
    /// A directory, a pipe or the like.
    NotAFile,
    /// The file is not what can be shown.
    Refused(ImageRefused),
    /// Anything else: why.
    Other(String),
}

/// Makes a picture of a file's bytes: as they are when servers take them, else scaled down and encoded anew.
///
/// # Errors
/// [`ImageRefused`].
pub fn show(bytes: &[u8]) -> Result<Shown, ImageRefused> {
    let mut reader = ImageReader::new(Cursor::new(bytes));
    let mut limits = Limits::default();
    limits.max_alloc = Some(ALLOC_MAX);
    reader.limits(limits);
    let reader = reader.with_guessed_format().map_err(|error| ImageRefused::Broken(error.to_string()))?;
    let format = match reader.format() {
        Some(format @ (ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::Gif | ImageFormat::WebP)) => {
            format
        }
        Some(_) | None => return Err(ImageRefused::Format),
    };
    let decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > POINTS_MAX || decoder.total_bytes() > ALLOC_MAX {
        return Err(ImageRefused::TooLarge(width, height));
    }
    let image = DynamicImage::from_decoder(decoder)?;
    let fits = width.max(height) <= SIDE_MAX;
    if fits && bytes.len() <= SHOWN_MAX && matches!(format, ImageFormat::Png | ImageFormat::Jpeg) {
        return Ok(shown(format, bytes, width, height));
    }
    let image = if fits { image } else { image.thumbnail(SIDE_MAX, SIDE_MAX) };
    let (width, height) = (image.width(), image.height());
    let mut png = Vec::new();
    image.write_to(&mut Cursor::new(&mut png), ImageFormat::Png)?;
    if png.len() <= SHOWN_MAX {
        return Ok(shown(ImageFormat::Png, &png, width, height));
    }
    let image = image.into_rgb8();
    for quality in QUALITIES {
        let mut jpeg = Vec::new();
        image.write_with_encoder(JpegEncoder::new_with_quality(&mut jpeg, quality))?;
        if jpeg.len() <= SHOWN_MAX {
            return Ok(shown(ImageFormat::Jpeg, &jpeg, width, height));
        }
    }
    Err(ImageRefused::TooLarge(width, height))
}

impl NotShown {
    /// What the model reads in the place of the picture at `path`.
    pub fn text(&self, path: &str) -> String {
        match self {
            Self::Missing => {
                format!("unable to locate image at `{path}`: No such file or directory (os error 2)")
            }
            Self::NotAFile => format!("image path `{path}` is not a file"),
            Self::Refused(ImageRefused::Format | ImageRefused::Broken(_)) => {
                "unable to process image: invalid or unsupported image data".to_owned()
            }
            Self::Refused(refused @ ImageRefused::TooLarge(..)) => {
                format!("unable to show the image at `{path}`: {refused}")
            }
            Self::Other(why) => format!("unable to show the image at `{path}`: {why}"),
        }
    }
}

/// What the model reads when its thread holds as many pictures as it may.
pub fn too_many() -> String {
    format!("{IMAGES_MAX} images were shown in this thread, which is the limit; go on without further ones")
}

fn shown(format: ImageFormat, bytes: &[u8], width: u32, height: u32) -> Shown {
    let kind = format.to_mime_type();
    Shown {
        url: format!("data:{kind};base64,{}", STANDARD.encode(bytes)),
        summary: format!("{kind}, {width} by {height} points, {} bytes", bytes.len()),
    }
}

impl From<ImageError> for ImageRefused {
    fn from(error: ImageError) -> Self {
        Self::Broken(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage, RgbaImage};
    use proptest::prelude::*;

    use super::*;

    fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Vec::new();
        image.write_to(&mut Cursor::new(&mut bytes), format).expect("an encoder");
        bytes
    }

    fn plain(width: u32, height: u32) -> DynamicImage {
        RgbImage::from_pixel(width, height, Rgb([200, 10, 10])).into()
    }

    fn decoded(shown: &Shown) -> (String, DynamicImage) {
        let (kind, data) =
            shown.url.strip_prefix("data:").and_then(|url| url.split_once(";base64,")).expect("a data URL");
        let bytes = STANDARD.decode(data).expect("base64");
        assert!(bytes.len() <= SHOWN_MAX);
        (kind.to_owned(), image::load_from_memory(&bytes).expect("an image"))
    }

    #[test]
    fn what_servers_take_is_passed_on_as_it_is() {
        for format in [ImageFormat::Png, ImageFormat::Jpeg] {
            let bytes = encoded(&plain(30, 20), format);
            let shown = show(&bytes).expect("shown");
            assert_eq!(
                shown.url,
                format!("data:{};base64,{}", format.to_mime_type(), STANDARD.encode(&bytes))
            );
            assert!(shown.summary.contains("30 by 20 points"), "{}", shown.summary);
        }
    }

    #[test]
    fn other_formats_become_png() {
        for format in [ImageFormat::Gif, ImageFormat::WebP] {
            let (kind, image) =
                decoded(&show(&encoded(&RgbaImage::new(3, 2).into(), format)).expect("shown"));
            assert_eq!((kind.as_str(), image.width(), image.height()), ("image/png", 3, 2));
        }
    }

    #[test]
    fn large_images_are_scaled_down() {
        let (kind, image) = decoded(&show(&encoded(&plain(3000, 10), ImageFormat::Png)).expect("shown"));
        assert_eq!((kind.as_str(), image.width(), image.height()), ("image/png", 2048, 7));
        // A header is enough to refuse what would be too much to decode.
        let mut bomb = encoded(&plain(1, 1), ImageFormat::Png);
        bomb[16..24].copy_from_slice(&[0, 0, 0x40, 1, 0, 0, 4, 0]);
        let checksum = crc32(&bomb[12..29]);
        bomb[29..33].copy_from_slice(&checksum.to_be_bytes());
        let refused = show(&bomb);
        assert!(matches!(refused, Err(ImageRefused::TooLarge(16_385, 1024))), "{refused:?}");
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |crc, byte| {
            (0..8)
                .fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
        })
    }

    #[test]
    fn noise_becomes_a_photograph() {
        let mut state = 1_u32;
        let noise = RgbImage::from_fn(900, 900, |_, _| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            Rgb([(state >> 24) as u8, (state >> 16) as u8, (state >> 8) as u8])
        });
        let (kind, image) = decoded(&show(&encoded(&noise.into(), ImageFormat::Png)).expect("shown"));
        assert_eq!((kind.as_str(), image.width(), image.height()), ("image/jpeg", 900, 900));
    }

    #[test]
    fn what_is_no_image_is_refused() {
        for bytes in [&b""[..], b"text", b"BM______________________________", b"<svg/>"] {
            assert!(matches!(show(bytes), Err(ImageRefused::Format)), "{bytes:?}");
        }
        let whole = encoded(&plain(30, 20), ImageFormat::Png);
        assert!(matches!(show(&whole[..whole.len() / 2]), Err(ImageRefused::Broken(_))));
    }

    proptest! {
        #[test]
        fn broken_images_are_refused_or_shown_but_never_more(
            at in 0_usize..200, byte: u8, format in 0_usize..4, cut in 0_usize..400,
        ) {
            let formats = [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Gif, ImageFormat::WebP];
            let mut bytes = encoded(&DynamicImage::from(RgbaImage::new(9, 9)).into_rgb8().into(), formats[format]);
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(bytes.len().saturating_sub(cut));
            if let Ok(shown) = show(&bytes) {
                prop_assert!(shown.url.starts_with("data:image/"));
                prop_assert!(shown.url.len() <= SHOWN_MAX * 4 / 3 + 64);
            }
        }
    }
}
