//! What a task brings along, as the model's first message shows it.

use std::fmt::Write as _;

use crate::api::task::{Input, Shown};
use crate::llm::ContentPart;

/// Where commands find the files: outside of the repository, so that none of them gets into the patch.
pub const DIRECTORY: &str = "/home/agent/inputs";

/// Bytes of one text that are shown, and of all together: as much as of the repository's own instructions, and twice
/// that. They are in every request.
pub const TEXT_MAX: usize = 32 * 1024;
const TEXTS_MAX: usize = 64 * 1024;

/// An input and what is in it.
#[derive(Clone, Debug)]
pub struct Given<'a> {
    /// What the task says of it.
    pub input: &'a Input,
    /// Its content.
    pub bytes: &'a [u8],
    /// An image as a `data:` URL.
    pub url: Option<String>,
}

/// The parts that come after the prompt, in its message: a list of everything, then what of it is shown, in the order
/// of the task. Nothing for a task that brings nothing.
pub fn parts(given: &[Given<'_>]) -> Vec<ContentPart> {
    let mut list =
        format!("<inputs>\nThe task comes with these files, outside of the repository in {DIRECTORY}:\n");
    let mut shown = Vec::new();
    let mut left = TEXTS_MAX;
    for Given { input, bytes, url } in given {
        let how = match (input.shown(), url) {
            (Shown::Image, Some(url)) => {
                shown.push(ContentPart::Text { text: format!("<input name=\"{}\">", input.name) });
                shown.push(ContentPart::Image { url: url.clone() });
                shown.push(ContentPart::Text { text: "</input>".to_owned() });
                "shown below"
            }
            (Shown::Text, _) => {
                let text = String::from_utf8_lossy(bytes);
                let end = text.floor_char_boundary(TEXT_MAX.min(left));
                left -= end;
                let (head, rest) = text.split_at(end);
                let cut = if rest.is_empty() {
                    String::new()
                } else {
                    format!("\n[cut after {end} bytes; the rest is in the file]")
                };
                let text = format!("<input name=\"{}\">\n{}{cut}\n</input>", input.name, head.trim_end());
                shown.push(ContentPart::Text { text });
                if rest.is_empty() { "below" } else { "its beginning below" }
            }
            (Shown::Image, None) | (Shown::Name, _) => "not shown here",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            list,
            "- {DIRECTORY}/{} ({}, {} bytes; {how})",
            input.name,
            input.media_type,
            bytes.len()
        );
    }
    list.push_str("</inputs>");
    let list = (!given.is_empty()).then_some(ContentPart::Text { text: list });
    list.into_iter().chain(shown).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::task::ConfigMapKeyRef;

    fn input(name: &str, media_type: &str) -> Input {
        let config_map_key_ref = ConfigMapKeyRef { name: "m".into(), key: name.into() };
        Input { name: name.into(), media_type: media_type.into(), config_map_key_ref }
    }

    fn texts(parts: &[ContentPart]) -> Vec<&str> {
        let text = |part: &ContentPart| matches!(part, ContentPart::Text { .. });
        assert!(parts.iter().all(|part| text(part) || matches!(part, ContentPart::Image { .. })));
        parts
            .iter()
            .filter_map(|part| match part {
                ContentPart::Text { text } => Some(text.as_str()),
                ContentPart::Image { .. } | ContentPart::Refusal { .. } => None,
            })
            .collect()
    }

    #[test]
    fn everything_is_listed_and_what_can_be_is_shown() {
        let (log, picture, data) = (
            input("a.log", "text/plain"),
            input("b.png", "image/png"),
            input("c.bin", "application/octet-stream"),
        );
        let parts = parts(&[
            Given { input: &log, bytes: b"boom\n", url: None },
            Given { input: &picture, bytes: b"png", url: Some("data:image/png;base64,AA==".into()) },
            Given { input: &data, bytes: &[0, 1], url: None },
        ]);
        assert_eq!(
            texts(&parts),
            [
                "<inputs>\nThe task comes with these files, outside of the repository in /home/agent/inputs:\n\
                 - /home/agent/inputs/a.log (text/plain, 5 bytes; below)\n\
                 - /home/agent/inputs/b.png (image/png, 3 bytes; shown below)\n\
                 - /home/agent/inputs/c.bin (application/octet-stream, 2 bytes; not shown here)\n\
                 </inputs>",
                "<input name=\"a.log\">\nboom\n</input>",
                "<input name=\"b.png\">",
                "</input>",
            ]
        );
        assert_eq!(parts[3], ContentPart::Image { url: "data:image/png;base64,AA==".into() });
        assert!(super::parts(&[]).is_empty());
    }

    #[test]
    fn media_types_say_what_is_shown() {
        for (media_type, shown) in [
            ("text/x-log", Shown::Text),
            ("application/json", Shown::Text),
            ("application/vnd.api+json", Shown::Text),
            ("image/svg+xml", Shown::Text),
            ("image/JPEG", Shown::Image),
            ("image/tiff", Shown::Name),
            ("application/pdf", Shown::Name),
        ] {
            assert_eq!(input("a", media_type).shown(), shown, "{media_type}");
        }
    }

    proptest! {
        #[test]
        fn texts_are_shown_within_their_bounds(
            lengths in prop::collection::vec(0_usize..50_000, 0..8), text in "[aü]",
        ) {
            let inputs: Vec<Input> =
                (0..lengths.len()).map(|number| input(&number.to_string(), "text/plain")).collect();
            let contents: Vec<String> = lengths.iter().map(|length| text.repeat(*length)).collect();
            let given: Vec<Given<'_>> = inputs
                .iter()
                .zip(&contents)
                .map(|(input, content)| Given { input, bytes: content.as_bytes(), url: None })
                .collect();
            let parts = parts(&given);
            let shown: usize = texts(&parts).iter().skip(1).map(|text| text.len()).sum();
            prop_assert!(shown <= TEXTS_MAX + 8 * 128);
            for (part, content) in texts(&parts).iter().skip(1).zip(&contents) {
                prop_assert!(part.len() <= TEXT_MAX + 128);
                prop_assert_eq!(part.contains("[cut after "), !part.contains(content.as_str()));
            }
        }
    }
}
