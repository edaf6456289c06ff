//! `view_image`: files of the workspace as pictures, read on this side.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::agent::events::{Event, ItemDetails, ItemStatus, ThreadEventItem};
use crate::agent::journal::record::CallOutcome;
use crate::agent::machine::CallResult;
use crate::agent::tools::image::{FILE_MAX, NotShown, Shown, VIEW_IMAGE, ViewImage, show};
use crate::agent::tools::path::{beneath, resolve};
use crate::workspace::{ReadError, Reader};

/// Pictures of one thread.
#[derive(Clone)]
pub(super) struct Images {
    reader: Arc<Reader>,
    /// The repository's directory.
    root: String,
    /// The reader's directory.
    mount: String,
    /// One is decoded at a time: each may take a good part of the agent's memory.
    turn: Arc<Mutex<()>>,
}

impl Images {
    /// Pictures of the repository at `root`, and of what else lies beneath the mount point `mount`.
    pub(super) fn new(reader: Arc<Reader>, root: String, mount: String) -> Self {
        Self { reader, root, mount, turn: Arc::default() }
    }

    /// Shows one.
    pub(super) async fn view(&self, ordinal: u64, view: ViewImage) -> (CallResult, Event) {
        let images = self.clone();
        let path = resolve(&self.root, &view.path);
        let file = path.clone();
        let seen = tokio::task::spawn_blocking(move || images.load(&file)).await;
        let seen = seen.unwrap_or_else(|error| Err(NotShown::Other(error.to_string())));
        let (outcome, output, told, status) = match seen {
            Ok(Shown { url, summary }) => (CallOutcome::Ok, url, summary, ItemStatus::Completed),
            Err(why) => {
                let text = why.text(&path);
                (CallOutcome::Error, text.clone(), text, ItemStatus::Failed)
            }
        };
        let details = ItemDetails::ToolCall { tool: VIEW_IMAGE.to_owned(), output: told, status };
        let event = Event::ItemCompleted { item: ThreadEventItem::new(ordinal, details) };
        (CallResult { ordinal, outcome, output, images: Vec::new(), exit: None, session: None }, event)
    }

    fn load(&self, path: &str) -> Result<Shown, NotShown> {
        let Some(relative) = beneath(&self.mount, path) else {
            let why = format!("only files beneath {} can be shown; copy it there", self.mount);
            return Err(NotShown::Other(why));
        };
        // A panic in a decoder leaves nothing behind that the next one would meet.
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let content = self.reader.read(&PathBuf::from(relative), FILE_MAX).map_err(unread)?;
        if content.truncated {
            return Err(NotShown::Other(format!("it is larger than {FILE_MAX} bytes")));
        }
        show(&content.bytes).map_err(NotShown::Refused)
    }
}

fn unread(error: ReadError) -> NotShown {
    match error {
        ReadError::Missing => NotShown::Missing,
        ReadError::NotRegular => NotShown::NotAFile,
        ReadError::Leads
        | ReadError::Denied
        | ReadError::TooLarge(_)
        | ReadError::TooMany
        | ReadError::Unstable
        | ReadError::System(_) => NotShown::Other(error.to_string()),
    }
}
