//! Speaking to language models.
