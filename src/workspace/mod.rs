//! The repository: fetching it, reading it after commands ran, and the patch.
