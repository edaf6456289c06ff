//! What Podwright says about itself: metrics and logs.

pub mod metrics;
pub mod tracing;
