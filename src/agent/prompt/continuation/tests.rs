use bytes::Bytes;

use super::*;
use crate::agent::transcript::{Head, VERSION};
use crate::llm::{ContentPart, Item, Opaque, Reasoning, WireJson};

fn capabilities() -> Capabilities {
    Capabilities { developer_role: true, ..Capabilities::default() }
}

fn words(role: Role, text: &str) -> Message {
    message(role, [text.to_owned()])
}

fn layers(rights: &str) -> Vec<Message> {
    vec![words(Role::Developer, "base"), words(Role::Developer, rights), words(Role::User, "place")]
}

fn former() -> Former {
    let render = |message| Wire::Responses.message(message, &capabilities());
    Former {
        head: Head {
            version: VERSION,
            thread_id: "t".into(),
            cache_key: "first".into(),
            base_commit: "c".into(),
            provider: "p".into(),
            model: "m".into(),
            wire: Wire::Responses,
            capabilities: capabilities(),
            tools: "[]".into(),
            custom_as_function: vec![],
            skills: vec![],
            layers: 3,
        },
        layers: layers("rights").into_iter().map(render).collect(),
        items: vec![render(words(Role::User, "do it")), render(words(Role::Assistant, "Done."))],
        sealed: vec![1],
        leads: false,
        lacks_payload: false,
    }
}

fn texts(items: &[ThreadItem]) -> Vec<String> {
    let text = |item: &ThreadItem| match &item.item {
        Item::Message(message) => message.text(),
        other => panic!("{other:?}"),
    };
    items.iter().map(text).collect()
}

fn begins(model: &str, layers: Vec<Message>) -> Beginning {
    begins_after(&former(), model, layers)
}

fn begins_after(former: &Former, model: &str, layers: Vec<Message>) -> Beginning {
    let (capabilities, tools) =
        (capabilities(), RenderedTools { bytes: Bytes::from("[]"), custom_as_function: vec![] });
    let speaks =
        Speaks { provider: "p", model, wire: Wire::Responses, capabilities: &capabilities, tools: &tools };
    begin(Some(former), layers, speaks)
}

#[test]
fn with_the_same_model_only_what_differs_is_appended() {
    let beginning = begins("m", layers("rights"));
    assert_eq!(beginning.prefix, former().layers);
    assert_eq!(beginning.inherited.items[..2], former().items[..]);
    assert_eq!((beginning.inherited.items.len(), &beginning.inherited.sealed[..]), (3, &[1][..]));
    assert_eq!(beginning.cache_key.as_deref(), Some("first"));
    let beginning = begins("m", layers("other rights"));
    let texts = texts(&beginning.inherited.items);
    assert_eq!((texts.len(), texts[2].as_str()), (4, "other rights"));
    assert!(texts[3].starts_with("<continued>") && !texts[3].contains("another model"), "{texts:?}");
}

#[test]
fn w3_with_another_model_the_thread_begins_anew_with_what_was_said() {
    let beginning = begins("n", layers("rights"));
    assert_eq!(texts(&beginning.prefix), ["base", "rights", "place"]);
    let texts = texts(&beginning.inherited.items);
    assert_eq!(texts[..2], ["do it", "Done."]);
    assert!(texts[2].contains("another model"), "{texts:?}");
    assert!(beginning.inherited.sealed.is_empty() && beginning.cache_key.is_none());
    assert!(texts.iter().all(|text| !text.is_empty()));
}

#[test]
fn w3_with_another_model_nothing_is_left_that_only_the_former_one_understands() {
    let raw = |item: Item, kind: &str| ThreadItem {
        item,
        wire: WireJson::render(&serde_json::json!({"type": kind, "encrypted_content": "sealed"})),
    };
    let sealed = [
        raw(Item::Opaque(Opaque { kind: "compaction".into() }), "compaction"),
        raw(Item::Reasoning(Reasoning { text: vec![], encrypted: true }), "reasoning"),
    ];
    let mut former = former();
    drop(former.items.splice(1..1, sealed));
    let is_sealed = |item: &&ThreadItem| item.wire.as_bytes().windows(6).any(|bytes| bytes == b"sealed");
    let left = |beginning: Beginning| beginning.inherited.items.iter().filter(is_sealed).count();
    assert_eq!(left(begins_after(&former, "m", layers("rights"))), 2, "the same model gets them back");
    assert_eq!(left(begins_after(&former, "n", layers("rights"))), 0);
    let (capabilities, tools) =
        (capabilities(), RenderedTools { bytes: Bytes::from("[]"), custom_as_function: vec![] });
    for wire in [Wire::Chat, Wire::Messages] {
        let speaks = Speaks { provider: "p", model: "m", wire, capabilities: &capabilities, tools: &tools };
        assert_eq!(left(begin(Some(&former), layers("rights"), speaks)), 0, "{wire:?}");
    }
}

#[test]
fn a_thread_of_its_own_begins_with_its_layers() {
    let tools = RenderedTools { bytes: Bytes::from("[]"), custom_as_function: vec![] };
    let capabilities = capabilities();
    let speaks =
        Speaks { provider: "p", model: "m", wire: Wire::Chat, capabilities: &capabilities, tools: &tools };
    let beginning = begin(None, layers("rights"), speaks);
    assert_eq!(texts(&beginning.prefix), ["base", "rights", "place"]);
    assert_eq!((beginning.inherited, beginning.cache_key), (Inherited::default(), None));
    assert!(matches!(&beginning.prefix[0].item, Item::Message(message) if message.content
        == [ContentPart::Text { text: "base".into() }]));
}

#[test]
fn what_a_former_continuation_said_anew_is_said_anew_again() {
    let second = begins("m", layers("other rights"));
    let second = Former { items: second.inherited.items, ..former() };
    let third = begins_after(&second, "m", layers("rights"));
    let texts = texts(&third.inherited.items);
    assert_eq!(texts[4..6], ["rights", "place"], "the first words do not hold any more: {texts:?}");
}

#[test]
fn a_summary_that_cannot_be_read_any_more_is_told_to_be_lost() {
    let is_told = |former: &Former, model: &str| {
        let inherited = begins_after(former, model, layers("rights")).inherited;
        texts(&inherited.items[inherited.items.len() - 1..])[0].contains("cannot be read any more")
    };
    let wire = WireJson::render(&serde_json::json!({"type": "compaction"}));
    let payload = ThreadItem { item: Item::Opaque(Opaque { kind: "compaction".into() }), wire };
    let summed_up = Former { items: [vec![payload], former().items].concat(), ..former() };
    assert!(!is_told(&summed_up, "m") && is_told(&summed_up, "n"));
    assert!(is_told(&Former { lacks_payload: true, ..former() }, "m"));
    assert!(!is_told(&former(), "n"));
}
