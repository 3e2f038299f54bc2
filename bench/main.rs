//! The `boxoffice-bench` program.

fn main() {}
