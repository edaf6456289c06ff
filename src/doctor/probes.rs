//! One question a capability.

use super::diagnosis::{Diagnosis, Finding};
use super::patient::{Answer, NoAnswer, Patient, Talk};
use crate::api::provider::{ReasoningField, Thinking};
use crate::llm::{AnswerFormat, Capabilities, ContentPart, Role, ToolDefinition, Wire};

/// What the model is asked when only the request matters.
pub const WORD: &str = "Answer with the one word ready, and nothing else.";

/// What the model is asked to make it call something.
pub const CALL: &str = "Call the tool report with the word ready. Say nothing else.";

/// What the model is asked to make it write free text.
pub const NOTE: &str = "Call the tool note with the text ready. Say nothing else.";

/// What the model is asked when its answer has a form.
pub const FORMED: &str = "Give the word ready, in the form that is asked for.";

/// That form: small enough for every server that knows schemas at all.
const FORM: &str = r#"{"type":"object","properties":{"word":{"type":"string"}},"required":["word"],"additionalProperties":false}"#;

/// What the model is asked about a picture.
pub const COLOUR: &str =
    "Which colour is this picture? Answer with the one English word for it, and nothing else.";

/// What the model is asked to make it call for a picture.
pub const LOOK: &str =
    "Call the tool picture. Then say which colour it shows: the one English word for it, and nothing else.";

/// A square of 64 by 64 pixels, red.
const RED_SQUARE: &str = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAEAAAABACAIAAAAlC+aJAAAAS0lEQVR42u3PQQkAAAgAsetfWiP4FgYrsKZeS0BAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEDgsqnc8OJg6Ln3AAAAAElFTkSuQmCC";

/// What a person has to know of a server that counts no tokens.
const UNCOUNTED: &str = "The server does not say what a response costs: tokens are estimated at four bytes each, and so are limits and costs.";

/// More output tokens than any model writes: who names a bound names it when it is exceeded.
const TOO_MANY_TOKENS: i32 = 1_000_000;

/// Bounds on the output that models have, the largest first, for servers that do not name theirs.
const USUAL_BOUNDS: [i32; 4] = [128_000, 64_000, 32_000, 16_000];

/// Looks at everything that an endpoint may be able to do.
pub async fn examine(patient: &mut Patient) -> Diagnosis {
    let mut diagnosis = Diagnosis::new(patient.wire, &patient.model);
    match patient.word(Capabilities::default(), |_| {}).await {
        Ok(answer) => {
            diagnosis.answers = true;
            if answer.completed.usage.estimated && patient.wire != Wire::Chat {
                diagnosis.problem(UNCOUNTED);
            }
        }
        Err(error) => {
            diagnosis.problem(error.words());
            diagnosis.requests = patient.requests;
            return diagnosis;
        }
    }
    calls(patient, &mut diagnosis).await;
    match patient.wire {
        Wire::Responses => {
            common(patient, &mut diagnosis).await;
            responses(patient, &mut diagnosis).await;
        }
        Wire::Chat => {
            common(patient, &mut diagnosis).await;
            chat(patient, &mut diagnosis).await;
        }
        Wire::Messages => messages(patient, &mut diagnosis).await,
    }
    structured(patient, &mut diagnosis).await;
    image(patient, &mut diagnosis).await;
    diagnosis.requests = patient.requests;
    diagnosis
}

/// Whether the model calls tools at all, without which it is of no use.
async fn calls(patient: &mut Patient, diagnosis: &mut Diagnosis) {
    let called = patient.called(Capabilities::default(), |_| {}).await;
    match called {
        Ok((_, Ok(_))) => diagnosis.calls = true,
        Ok((_, Err(error))) => {
            // Chat servers may need the reasoning back: that is looked at later.
            diagnosis.calls = true;
            if patient.wire != Wire::Chat {
                diagnosis.problem(&format!("After a call and its output: {}", error.words()));
            }
        }
        Err(error) => diagnosis.problem(&format!("Asked to call a tool: {}", error.words())),
    }
}

/// What Responses and Chat Completions have in common.
async fn common(patient: &mut Patient, diagnosis: &mut Diagnosis) {
    let nothing = Capabilities::default();
    let free = Capabilities { custom_tools: true, ..nothing };
    diagnosis.found(
        "customTools",
        match patient.noted(free).await {
            Ok(true) => Finding::yes(),
            Ok(false) => {
                Finding::lacks("the server takes such tools, but the model did not call one when asked to")
            }
            Err(error) => Finding::from(error),
        },
    );
    let parallel = Capabilities { parallel_tool_calls: true, ..nothing };
    let called = patient.called(parallel, |_| {}).await;
    diagnosis.found("parallelToolCalls", Finding::of(called));
    let developer = Capabilities { developer_role: true, ..nothing };
    diagnosis.found("developerRole", Finding::of(patient.word(developer, |_| {}).await));
    let thinking = Capabilities { reasoning: true, ..nothing };
    diagnosis.found("reasoning", Finding::of(patient.word(thinking, with_effort).await));
    let keyed = Capabilities { prompt_cache_key: true, ..nothing };
    diagnosis.found("promptCacheKey", Finding::of(patient.word(keyed, |_| {}).await));
}

async fn responses(patient: &mut Patient, diagnosis: &mut Diagnosis) {
    let nothing = Capabilities { reasoning: diagnosis.has("reasoning"), ..Capabilities::default() };
    let summary = Capabilities { reasoning_summary: true, ..nothing };
    diagnosis.found("reasoningSummary", Finding::of(patient.word(summary, with_effort).await));
    let encrypted = Capabilities { encrypted_reasoning: true, ..nothing };
    let called = patient.called(encrypted, with_effort).await;
    diagnosis.found("encryptedReasoning", sent_back(called, true));
    if diagnosis.has("encryptedReasoning") {
        diagnosis.found("reasoningReplay", Finding::lacks("reasoning goes back encrypted"));
        return;
    }
    let plain = Capabilities { reasoning_replay: true, ..nothing };
    let called = patient.called(plain, with_effort).await;
    diagnosis.found("reasoningReplay", sent_back(called, false));
}

async fn chat(patient: &mut Patient, diagnosis: &mut Diagnosis) {
    let nothing = Capabilities::default();
    let counted = Capabilities { stream_usage: true, ..nothing };
    let usage = patient.word(counted, |_| {}).await;
    diagnosis.found(
        "streamUsage",
        match usage {
            Ok(answer) if answer.completed.usage.estimated => {
                Finding::lacks("the server takes the parameter and counts nothing all the same")
            }
            other => Finding::of(other),
        },
    );
    if !diagnosis.has("streamUsage")
        && !patient.word(nothing, |_| {}).await.is_ok_and(|answer| !answer.completed.usage.estimated)
    {
        diagnosis.problem(UNCOUNTED);
    }
    diagnosis.found("strictAlternation", alternation(patient).await);
    let field = reasoning_field(patient, diagnosis).await;
    diagnosis.found("reasoningField", field);
}

async fn messages(patient: &mut Patient, diagnosis: &mut Diagnosis) {
    let nothing = Capabilities::default();
    diagnosis.found("strictAlternation", alternation(patient).await);
    let bound = output_bound(patient).await;
    diagnosis.found("maxOutputTokens", bound);
    diagnosis.found("thinking", thinking(patient).await);
    let marked = Capabilities { cache_markers: true, ..nothing };
    let short = patient.word(marked, |_| {}).await;
    let long = match short {
        Ok(_) => patient.word(marked, |talk| talk.keeps_long = true).await,
        refused => refused,
    };
    diagnosis.found("cacheMarkers", Finding::of(long));
}

async fn thinking(patient: &mut Patient) -> Finding {
    let mut words = String::new();
    for (way, name) in [(Thinking::Adaptive, "Adaptive"), (Thinking::Budget, "Budget")] {
        let capabilities = Capabilities { thinking: Some(way), ..Capabilities::default() };
        match patient.word(capabilities, with_effort).await {
            Ok(_) => return Finding::Has(name.to_owned()),
            Err(NoAnswer::Failed(what)) => return Finding::Unknown(what),
            Err(NoAnswer::Refused(what)) => words = what,
        }
    }
    Finding::Lacks(words)
}

/// Whether two messages of the user in a row are refused, and taken once they alternate.
async fn alternation(patient: &mut Patient) -> Finding {
    let two = |strict| Capabilities { strict_alternation: strict, ..Capabilities::default() };
    match patient.two_messages(two(false)).await {
        Ok(_) => Finding::lacks("the server takes two messages of the user in a row"),
        Err(NoAnswer::Failed(what)) => Finding::Unknown(what),
        Err(NoAnswer::Refused(_)) => Finding::of(patient.two_messages(two(true)).await),
    }
}

/// In which member reasoning has to come back, where it has to.
async fn reasoning_field(patient: &mut Patient, diagnosis: &mut Diagnosis) -> Finding {
    let fields = [
        (None, ""),
        (Some(ReasoningField::ReasoningContent), "reasoning_content"),
        (Some(ReasoningField::Reasoning), "reasoning"),
    ];
    let mut words = String::new();
    for (reasoning_field, name) in fields {
        let capabilities = Capabilities { reasoning_field, ..Capabilities::default() };
        match patient.called(capabilities, |_| {}).await {
            Ok((_, Ok(_))) if reasoning_field.is_none() => {
                return Finding::lacks("the server does not need reasoning back");
            }
            Ok((_, Ok(_))) => return Finding::Has(name.to_owned()),
            Ok((_, Err(NoAnswer::Refused(what)))) => words = what,
            Ok((_, Err(NoAnswer::Failed(what)))) | Err(NoAnswer::Failed(what) | NoAnswer::Refused(what)) => {
                return Finding::Unknown(what);
            }
        }
    }
    diagnosis.problem(&format!("After a call and its output: {words}"));
    Finding::Lacks(words)
}

/// The most tokens that an answer may have: the bound that the server names, or the largest usual one that it takes.
async fn output_bound(patient: &mut Patient) -> Finding {
    let bounded = |tokens| Capabilities { max_output_tokens: Some(tokens), ..Capabilities::default() };
    let words = match patient.word(bounded(TOO_MANY_TOKENS), |_| {}).await {
        Ok(_) => {
            return Finding::lacks(
                "the server takes any number; look the model's output limit up, since 8192 is little",
            );
        }
        Err(NoAnswer::Failed(what)) => return Finding::Unknown(what),
        Err(NoAnswer::Refused(words)) => words,
    };
    for tokens in named_bound(&words).into_iter().chain(USUAL_BOUNDS) {
        match patient.word(bounded(tokens), |_| {}).await {
            Ok(_) => return Finding::Has(tokens.to_string()),
            Err(NoAnswer::Failed(what)) => return Finding::Unknown(what),
            Err(NoAnswer::Refused(_)) => {}
        }
    }
    Finding::Lacks(words)
}

/// The bound in a refusal such as "max_tokens: 1000000 > 64000, which is the maximum": the largest number that one
/// can be and that was not asked for.
fn named_bound(words: &str) -> Option<i32> {
    // Before it stands the address, with numbers of its own.
    let words = words.split_once("HTTP ").map_or(words, |(_, said)| said);
    let numbers = words.split(|character: char| !character.is_ascii_digit());
    let numbers = numbers.filter_map(|number| number.parse::<i32>().ok());
    numbers.filter(|number| (1024..TOO_MANY_TOKENS).contains(number)).max()
}

async fn image(patient: &mut Patient, diagnosis: &mut Diagnosis) {
    let capabilities = Capabilities { image_input: true, ..Capabilities::default() };
    let mut talk = patient.talk(capabilities, &[]);
    let picture = ContentPart::Image { url: RED_SQUARE.to_owned() };
    let answer = patient.ask_with(&mut talk, vec![picture, text(COLOUR)]).await;
    if let Ok(answer) = &answer {
        let words = answer.words();
        if !words.to_ascii_lowercase().contains("red") {
            diagnosis.problem(&format!(
                "The server took a red picture, and the model said {words:?} to what colour it is: if it does not see, take imageInput out."
            ));
        }
    }
    diagnosis.found("imageInput", Finding::of(answer.map(drop)));
    if patient.wire != Wire::Chat && diagnosis.has("imageInput") {
        diagnosis.found("imageInToolResult", image_in_output(patient).await);
    }
}

/// Whether the server takes a picture in the output of a tool, and the model sees it there.
async fn image_in_output(patient: &mut Patient) -> Finding {
    let capabilities =
        Capabilities { image_input: true, image_in_tool_result: true, ..Capabilities::default() };
    match patient.looked(capabilities).await {
        Ok(answer) if answer.words().to_ascii_lowercase().contains("red") => Finding::yes(),
        Ok(answer) => Finding::Lacks(format!(
            "the server took a red picture there, and the model said {:?} to what colour it is",
            answer.words()
        )),
        Err(error) => Finding::from(error),
    }
}

/// Whether the server holds an answer to a schema, which the model is not told of.
async fn structured(patient: &mut Patient, diagnosis: &mut Diagnosis) {
    let capabilities = Capabilities { structured_output: true, ..Capabilities::default() };
    let mut talk = patient.talk(capabilities, &[]);
    talk.answer = Some(AnswerFormat { schema: FORM.to_owned(), strict: true });
    let finding = match patient.ask_with(&mut talk, vec![text(FORMED)]).await {
        Ok(answer) => {
            let words = answer.words();
            let value: Option<serde_json::Value> = serde_json::from_str(&words).ok();
            match value.as_ref().and_then(|value| value.get("word")) {
                Some(_) => Finding::yes(),
                None => Finding::Lacks(format!(
                    "the server takes the parameter, and the answer does not have the form: {words:?}"
                )),
            }
        }
        Err(error) => Finding::from(error),
    };
    diagnosis.found("structuredOutput", finding);
}

/// What became of reasoning that was sent back.
fn sent_back(called: Result<(Answer, Result<Answer, NoAnswer>), NoAnswer>, encrypted: bool) -> Finding {
    match called {
        Err(error) => Finding::from(error),
        Ok((first, _)) if !first.reasoning().contains(&encrypted) => Finding::Lacks(format!(
            "no {} reasoning came back",
            if encrypted { "encrypted" } else { "plain" }
        )),
        Ok((_, second)) => Finding::of(second),
    }
}

fn with_effort(talk: &mut Talk) {
    // Every model that takes an effort takes this one.
    talk.effort = Some("low".to_owned());
}

fn text(text: &str) -> ContentPart {
    ContentPart::Text { text: text.to_owned() }
}

impl Patient {
    /// Says this and asks for the answer.
    async fn ask_with(&mut self, talk: &mut Talk, content: Vec<ContentPart>) -> Result<Answer, NoAnswer> {
        self.say(talk, Role::User, content)?;
        self.ask(talk).await
    }

    /// Asks for one word, after instructions.
    async fn word(
        &mut self,
        capabilities: Capabilities,
        change: impl FnOnce(&mut Talk),
    ) -> Result<Answer, NoAnswer> {
        let mut talk = self.talk(capabilities, &[]);
        change(&mut talk);
        self.say(&mut talk, Role::Developer, vec![text("You are being tested. Be brief.")])?;
        self.ask_with(&mut talk, vec![text(WORD)]).await
    }

    /// Asks for a word in two messages.
    async fn two_messages(&mut self, capabilities: Capabilities) -> Result<Answer, NoAnswer> {
        let mut talk = self.talk(capabilities, &[]);
        self.say(&mut talk, Role::User, vec![text("Hello.")])?;
        talk.end_message();
        self.ask_with(&mut talk, vec![text(WORD)]).await
    }

    /// Asks for a call, and then for what follows its output.
    async fn called(
        &mut self,
        capabilities: Capabilities,
        change: impl FnOnce(&mut Talk),
    ) -> Result<(Answer, Result<Answer, NoAnswer>), NoAnswer> {
        let report = ToolDefinition::Function {
            name: "report".to_owned(),
            description: "Reports one word.".to_owned(),
            parameters: serde_json::json!({
                "type": "object",
                "properties": {"word": {"type": "string"}},
                "required": ["word"],
            }),
        };
        let mut talk = self.talk(capabilities, &[report]);
        change(&mut talk);
        let first = self.ask_with(&mut talk, vec![text(CALL)]).await?;
        if !first.has_call() {
            let words = first.words();
            return Err(NoAnswer::Failed(format!(
                "the model called nothing, and said {words:?}. Choose a model that can call tools, or start its server with the parser for its calls."
            )));
        }
        let output = vec![text("Reported. Now answer with the one word done.")];
        self.answer_calls(&mut talk, &first, &output)?;
        let second = self.ask(&mut talk).await;
        Ok((first, second))
    }

    /// Asks for a call whose output is a picture, and for what it shows.
    async fn looked(&mut self, capabilities: Capabilities) -> Result<Answer, NoAnswer> {
        let picture = ToolDefinition::Function {
            name: "picture".to_owned(),
            description: "Gives a picture.".to_owned(),
            parameters: serde_json::json!({"type": "object", "properties": {}}),
        };
        let mut talk = self.talk(capabilities, &[picture]);
        self.say(&mut talk, Role::User, vec![text(LOOK)])?;
        let first = self.ask(&mut talk).await?;
        if !first.has_call() {
            return Err(NoAnswer::Failed("the model did not call for the picture".to_owned()));
        }
        self.answer_calls(&mut talk, &first, &[ContentPart::Image { url: RED_SQUARE.to_owned() }])?;
        self.ask(&mut talk).await
    }

    /// Whether the model calls a tool that takes free text.
    async fn noted(&mut self, capabilities: Capabilities) -> Result<bool, NoAnswer> {
        let note = ToolDefinition::Custom {
            name: "note".to_owned(),
            description: "Notes a lower-case word.".to_owned(),
            grammar: "start: /[a-z]+/".to_owned(),
        };
        let mut talk = self.talk(capabilities, &[note]);
        let answer = self.ask_with(&mut talk, vec![text(NOTE)]).await?;
        Ok(answer.items.iter().any(|item| matches!(item.item, crate::llm::Item::CustomCall(_))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_read_out_of_the_refusal() {
        let words = "http://m:65000/v1 refuses (HTTP 400: max_tokens: 1000000 > 64000, which is the maximum allowed number of output tokens for claude-x-4-20250514";
        assert_eq!(named_bound(words), Some(64_000));
        assert_eq!(named_bound("HTTP 400: max_tokens is too large"), None);
        assert_eq!(named_bound("at most 4 096 or 8192"), Some(8192));
    }
}
