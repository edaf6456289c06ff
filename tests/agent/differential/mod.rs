//! What our agent does against what the reference agent does, whose program runs here too: the npm package that
//! `hack/reference` pins, which `hack/tool codex` fetches. Nothing of it is in this repository; what it answers is
//! looked at while a test runs, and only places where the two differ are written down (`differences.yaml`).
//!
//! `requests` gives both the same scripted replies and compares what they send to the model, item by item.
//! `patches` gives both generated patches.

mod compare;
mod differences;
mod normal;
mod patches;
mod recorder;
mod reference;
mod requests;
