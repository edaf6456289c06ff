//! Windows: what is sent, and what only stays.

use super::*;

fn kinds(history: &History) -> Vec<&'static str> {
    let kind = |item: &ThreadItem| match &item.item {
        Item::Message(message) if message.role == Role::User => "user",
        Item::Message(message) if message.role == Role::Developer => "developer",
        Item::Message(_) => "assistant",
        Item::FunctionCall(_) => "call",
        Item::FunctionCallOutput(_) => "output",
        _ => "other",
    };
    history.window().map(kind).collect()
}

fn long() -> History {
    let mut history = history();
    history.append(message(Role::Developer)).unwrap();
    history.append(message(Role::User)).unwrap();
    history.keep_layers();
    for item in [message(Role::User), call("a"), output("a"), message(Role::Assistant)] {
        history.append(item).unwrap();
    }
    history
}

#[test]
fn a_window_has_the_layers_and_what_came_since() {
    let mut history = long();
    assert!(history.has_answers());
    history.begin_window(None).unwrap();
    history.append(message(Role::User)).unwrap();
    history.end_base();
    assert!(!history.has_answers());
    assert_eq!(history.append(message(Role::User)), Ok(7));
    assert_eq!(kinds(&history), ["developer", "user", "user", "user"]);
    assert_eq!((history.windows(), history.len()), (&[2, 6][..], 8));
    assert_eq!(history.input().unwrap().messages.len(), 4);
    assert!(matches!(history.get(3), Some(Item::FunctionCall(_))), "what began a session is still found");
    let each: u64 = [0, 1, 6, 7].into_iter().map(|ordinal| history.tokens(ordinal)).sum();
    assert_eq!(history.window_tokens(), each);
}

#[test]
fn w18_that_the_model_can_call_is_known_in_every_window() {
    assert!(!history().input().unwrap().has_calls);
    let mut history = long();
    assert!(history.input().unwrap().has_calls);
    let end = history.len();
    assert!(
        history.input_with(None, end, history.units(end)).unwrap().has_calls,
        "also when all calls are left out"
    );
    history.begin_window(None).unwrap();
    history.append(message(Role::User)).unwrap();
    assert!(history.input().unwrap().has_calls);
}

#[test]
fn no_window_begins_between_a_call_and_its_output() {
    let mut history = long();
    history.append(call("b")).unwrap();
    let before = history.clone();
    assert_eq!(history.begin_window(None), Err(PairingError::CallsOpen(1)));
    assert_eq!(history.windows(), before.windows());
    assert!(history.input_with(Some(&message(Role::User)), history.len(), 0).is_err());
    history.append(output("b")).unwrap();
    assert_eq!(history.input().unwrap().messages.len(), 8);
}

#[test]
fn an_image_counts_the_same_whatever_its_bytes() {
    let capabilities = Capabilities { image_input: true, ..CAPABILITIES };
    let size = |bytes: usize| {
        let mut history = History::new(Wire::Responses, capabilities);
        let url = format!("data:image/png;base64,{}", "A".repeat(bytes));
        let content = vec![ContentPart::Image { url }];
        let message = Message { role: Role::User, content };
        history.append(Wire::Responses.message(message, &capabilities)).unwrap();
        history.tokens(0)
    };
    assert_eq!(size(400), size(4_000_000));
    use crate::llm::request::IMAGE_TOKENS;
    assert!((IMAGE_TOKENS..IMAGE_TOKENS + 30).contains(&size(400)));
}
