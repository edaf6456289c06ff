//! The kinds of the group podwright.dev.
