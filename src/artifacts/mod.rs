//! Where patches and transcripts are kept.
