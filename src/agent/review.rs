//! The answer of a review: its schema, and how people read it.

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::Value;

use crate::llm::AnswerFormat;

/// Within the part of JSON schema that every provider takes; bounds are in the descriptions, since that part has none.
const SCHEMA: &str = include_str!("review/schema.json");

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    verdict: String,
    explanation: String,
    findings: Vec<Finding>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Finding {
    title: String,
    body: String,
    priority: i64,
    path: String,
    start_line: i64,
    end_line: i64,
}

/// What the answer of a review looks like, unless the task says something else.
pub fn format() -> AnswerFormat {
    // Without the file's line breaks; it is JSON, as a test makes sure.
    let schema =
        serde_json::from_str::<Value>(SCHEMA).map_or_else(|_| SCHEMA.to_owned(), |value| value.to_string());
    AnswerFormat { schema, strict: true }
}

/// A review in Markdown; `None` when it is none.
pub fn words(answer: &Value) -> Option<String> {
    let review = Review::deserialize(answer).ok()?;
    let mut text = format!("{}: {}", review.verdict, review.explanation.trim());
    for Finding { title, body, priority, path, start_line, end_line } in review.findings {
        let lines =
            if start_line == end_line { start_line.to_string() } else { format!("{start_line}-{end_line}") };
        // Writing to a string cannot fail.
        let _ = write!(text, "\n\n- [P{priority}] {} (`{path}:{lines}`)\n  {}", title.trim(), body.trim());
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::answer::{AnswerSchema, is_strict};

    #[test]
    fn its_schema_is_strict_and_its_answers_can_be_read() {
        let format = format();
        assert!(!format.schema.contains('\n') && format.strict);
        let schema = AnswerSchema::parse(&format.schema).unwrap();
        assert!(is_strict(schema.value()));
        let answer = json!({
            "verdict": "Incorrect", "explanation": "It greets in the wrong language.", "confidence": 0.9,
            "findings": [
                {"title": "Latin", "body": "Nobody reads it.\n", "priority": 1, "confidence": 0.8, "path": "greet.sh",
                 "startLine": 2, "endLine": 2},
                {"title": "No newline", "body": "Add one.", "priority": 3, "confidence": 1, "path": "a/b.sh",
                 "startLine": 2, "endLine": 4},
            ],
        });
        let answer = schema.check(&answer.to_string()).unwrap();
        assert_eq!(
            words(&answer).unwrap(),
            "Incorrect: It greets in the wrong language.\n\n\
             - [P1] Latin (`greet.sh:2`)\n  Nobody reads it.\n\n\
             - [P3] No newline (`a/b.sh:2-4`)\n  Add one."
        );
        let nothing =
            json!({"verdict": "Correct", "explanation": "Fine.", "confidence": 1.0, "findings": []});
        assert_eq!(words(&schema.check(&nothing.to_string()).unwrap()).unwrap(), "Correct: Fine.");
        assert_eq!(words(&json!({"verdict": "Correct"})), None);
        assert!(
            schema
                .check(r#"{"verdict": "Perhaps", "explanation": "", "confidence": 1, "findings": []}"#)
                .is_err()
        );
    }
}
