//! What real servers do differently.

use serde::Deserialize;

/// A way in which a server differs from its API's description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Quirk {
    /// The ids of calls begin again in each answer.
    RepeatedIds,
    /// The arguments of a call come in one piece.
    WholeArguments,
    /// The calls come as text between `<tool_call>` tags, and are none.
    TextInsteadOfCalls,
    /// Nothing is said about the cost.
    NoUsage,
    /// Chat: the pieces of calls have no `index`.
    MissingIndex,
    /// Chat: each piece of a call repeats the tool's name.
    RepeatedName,
    /// Chat: a last chunk without choices tells the usage though nobody asked.
    UsageInLastChunk,
    /// Chat: the chunk with the `finish_reason` tells the usage, and there is none without choices.
    UsageWithFinish,
    /// Chat: reasoning comes as `reasoning` instead of `reasoning_content`.
    ShortReasoning,
    /// Requests with two messages of a role in a row are refused.
    StrictAlternation,
    /// Chat, Responses: only the first message may be a system message, and there is no role `developer`.
    SystemOnlyFirst,
    /// Requests with a parameter that not every server knows are refused.
    RefuseUnknownParameters,
    /// Requests that leave out the reasoning before calls are refused.
    RequireReasoning,
    /// Chat: requests that bring reasoning back are refused.
    RefuseReasoning,
    /// Responses, Messages: requests with an image in the output of a tool are refused.
    RefuseOutputImages,
}

impl Quirk {
    /// Whether it is about requests: those are judged before any reply is chosen.
    pub fn judges_requests(self) -> bool {
        match self {
            Self::StrictAlternation
            | Self::SystemOnlyFirst
            | Self::RefuseUnknownParameters
            | Self::RequireReasoning
            | Self::RefuseReasoning
            | Self::RefuseOutputImages => true,
            Self::RepeatedIds
            | Self::WholeArguments
            | Self::TextInsteadOfCalls
            | Self::NoUsage
            | Self::MissingIndex
            | Self::RepeatedName
            | Self::UsageInLastChunk
            | Self::UsageWithFinish
            | Self::ShortReasoning => false,
        }
    }
}
