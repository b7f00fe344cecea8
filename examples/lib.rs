//! One idea a file: see the examples of this package.
