//! Bytes out of one descriptor to any number of readers.
