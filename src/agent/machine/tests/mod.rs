//! The machine by scripts: what it is told, and everything that it wants done.

mod compaction;
mod crashes;
mod images;
mod interleavings;
mod limits;
mod mcp;
mod outages;
mod scripts;
mod turns;
mod world;
