//! The README's commands, run as they stand, against what it says that they print.
//!
//! A block of `sh` behind the comment `<!-- run -->` is run; a plain block behind it is its whole
//! output, in which `…` stands for anything within a line. All blocks run in one shell, in their
//! order, in an empty directory. Only the server's addresses are others, so that the test needs no
//! port of its own. It needs bash and curl, so it runs when asked for, and always in `.ci/run`.

#[path = "support/server.rs"]
mod server;

use std::env;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use server::temporary_dir;

const README: &str = include_str!("../README.md");

/// Where the README's server speaks HTTP.
const HTTP: &str = "127.0.0.1:7480";

/// What the shell prints between two blocks.
const END: &str = "== end of block ==";

/// A block to be run, and the output that the README shows for it.
#[derive(Debug, PartialEq, Eq)]
struct Block {
    script: String,
    output: Option<String>,
}

/// The blocks that are to be run.
fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut rest = text;
    while let Some((_, marked)) = rest.split_once("<!-- run -->\n```sh\n") {
        let (script, after) = marked.split_once("\n```\n").expect("the block ends");
        rest = after;
        let shown = after.strip_prefix("\n```\n").and_then(|shown| shown.split_once("\n```\n"));
        let output = shown.map(|(output, _)| output.to_owned());
        blocks.push(Block { script: script.to_owned(), output });
    }
    blocks
}

/// Whether a line is as shown, where `…` stands for anything.
fn is_shown(shown: &str, line: &str) -> bool {
    let mut parts = shown.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let Some(last) = shown.contains('…').then(|| parts.next_back().unwrap_or_default()) else {
        return rest.is_empty();
    };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// Why an output is not as shown; `None` where it is.
fn mismatch(block: &Block, output: &str) -> Option<String> {
    let shown = block.output.as_deref()?;
    let fits = shown.lines().count() == output.lines().count()
        && shown.lines().zip(output.lines()).all(|(shown, line)| is_shown(shown, line));
    (!fits).then(|| format!("{}\nprinted\n{output}\nand not\n{shown}", block.script))
}

/// Runs scripts in one shell, and returns what each printed.
fn run(dir: &Path, blocks: &[Block]) -> Vec<String> {
    // Taken and given back: the server's own is the next to ask for it.
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    drop(listener);
    let mut script = String::from("set -eum\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n");
    for block in blocks {
        script += &block.script.replace(HTTP, &address);
        script.extend(["\necho '", END, "'\n"]);
    }
    let program = Path::new(env!("CARGO_BIN_EXE_boxoffice"));
    let mut path = program.parent().expect("it lies in a folder").as_os_str().to_owned();
    path.push(":");
    path.push(env::var_os("PATH").expect("there is a path"));
    // `timeout` ends only what hangs.
    let done = Command::new("timeout")
        .args(["--kill-after=5", "120", "bash", "-c", &script])
        .current_dir(dir)
        .env("PATH", path)
        .env("BOXOFFICE_HTTP", &address)
        .env("BOXOFFICE_BINARY", "127.0.0.1:0")
        .env("BOXOFFICE_SHARDS", "1")
        .env("BOXOFFICE_SEGMENT_BYTES", "4194304")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .output()
        .expect("a shell can be run");
    let stdout = String::from_utf8_lossy(&done.stdout);
    let stderr = String::from_utf8_lossy(&done.stderr);
    let mut outputs: Vec<String> = stdout.split(END).map(|part| part.trim().to_owned()).collect();
    let rest = outputs.pop();
    assert!(
        done.status.success() && rest.as_deref() == Some("") && outputs.len() == blocks.len(),
        "{}; it printed:\n{stdout}\n{stderr}",
        done.status
    );
    outputs
}

#[test]
#[ignore = "needs bash and curl"]
fn what_the_readme_shows_is_what_happens() {
    let blocks = blocks(README);
    let shown = blocks.iter().filter(|block| block.output.is_some()).count();
    assert!(shown >= 4 && blocks.len() > shown, "it shows how: {blocks:?}");
    let home = temporary_dir();
    for (block, output) in blocks.iter().zip(run(home.path(), &blocks)) {
        if let Some(why) = mismatch(block, &output) {
            panic!("{why}");
        }
        assert!(block.output.is_some() || !output.contains("urn:boxoffice"), "{output}");
    }
}

/// The canary: outputs that are not as shown.
#[test]
fn an_output_that_is_not_as_shown_is_found() {
    let text = "<!-- run -->\n```sh\necho 'a 1 b'\n```\n\n```\na … b\n```\n";
    let blocks = blocks(text);
    assert_eq!(blocks.len(), 1);
    let home = temporary_dir();
    let outputs = run(home.path(), &blocks);
    assert_eq!(outputs, ["a 1 b"]);
    assert_eq!(mismatch(&blocks[0], &outputs[0]), None);
    for wrong in ["", "a 1 c", "b 1 b", "a 1 b\na 1 b", "a b", "a 1 b "] {
        assert!(mismatch(&blocks[0], wrong).is_some(), "{wrong:?} went unseen");
    }
    assert!(is_shown("{…}", "{1}") && is_shown("a", "a") && !is_shown("a", "ab"));
    assert!(is_shown("…x…y", "1x2xy") && !is_shown("…x…y", "1y2x"));
}
