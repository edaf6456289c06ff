//! The machine by scripts: what it is told, and everything that it wants done.

mod answers;
mod boundary;
mod compaction;
mod crashes;
mod images;
mod interleavings;
mod limits;
mod mcp;
mod mends;
mod outages;
mod replays;
mod scripts;
mod search;
mod turns;
mod world;
