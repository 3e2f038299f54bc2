//! The `boxoffice` program. All of it is in the library's `cli`.

use std::process::ExitCode;

/// The tables of millions of orders are read at random.
#[global_allocator]
static ALLOCATOR: boxoffice::runtime::huge::HugePages = boxoffice::runtime::huge::HugePages;

fn main() -> ExitCode {
    boxoffice::cli::main().into()
}
