//! Pictures in outputs, and how many of them.

use serde_json::json;

use super::world::{World, call, config, prepared};
use crate::agent::machine::{Effect, Signal};
use crate::agent::tools::image::IMAGES_MAX;
use crate::llm::{ContentPart, Item};

fn view(number: usize) -> Item {
    call(&format!("v{number}"), "view_image", json!({"path": format!("{number}.png")}))
}

/// A model with eyes, or without, in its first turn.
fn world(sees: bool) -> World {
    let mut world = World::new(config());
    world.start();
    let Signal::Prepared(mut prepared) = prepared() else { panic!("prepared") };
    prepared.opened.capabilities.image_input = sees;
    world.tell(Signal::Prepared(prepared));
    world
}

fn outputs(world: &World) -> Vec<ContentPart> {
    let thread = world.machine.state().thread.as_ref().unwrap();
    let outputs = thread.history.items().filter_map(|item| match &item.item {
        Item::FunctionCallOutput(output) => Some(output.content.clone()),
        _ => None,
    });
    outputs.flatten().collect()
}

#[test]
fn a_model_that_sees_gets_as_many_images_as_a_thread_holds() {
    let mut world = world(true);
    let mut views = 0;
    for step in 0..2 {
        for number in 0..IMAGES_MAX - 3 {
            world.item(view(step * 100 + number));
        }
        world.completed(None);
        for effect in std::mem::take(&mut world.effects) {
            if let Effect::ViewImage { ordinal, .. } = effect {
                views += 1;
                world.ended(ordinal, "data:image/png;base64,AA==");
            }
        }
    }
    assert_eq!(views, IMAGES_MAX);
    let outputs = outputs(&world);
    let shown = outputs.iter().filter(|part| matches!(part, ContentPart::Image { .. })).count();
    assert_eq!((shown, outputs.len()), (IMAGES_MAX, 2 * (IMAGES_MAX - 3)));
}

#[test]
fn a_model_that_does_not_see_has_no_such_tool() {
    let mut world = world(false);
    world.item(view(1));
    world.completed(None);
    assert_eq!(outputs(&world), [ContentPart::Text { text: "unsupported call: view_image".into() }]);
}
