//! Who may read what the programs make: logs name accounts and payments, and so do their copies.
//!
//! Everything is run as an operator runs it whose umask closes nothing.

#[path = "support/made_dir.rs"]
mod made_dir;
#[path = "support/program.rs"]
mod program;
#[path = "support/server.rs"]
mod server;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use made_dir::Made;
use program::{Ended, run};
use server::{Serve, Server};

/// The same command, under a umask of 0.
fn open_handed(command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", "umask 000; exec \"$@\"", "sh"]).arg(command.get_program());
    shell.args(command.get_args());
    shell
}

fn boxoffice(args: &[&dyn AsRef<OsStr>]) -> Ended {
    run(open_handed(&program::command(args)))
}

/// What lies at a path and below it, with its mode.
fn modes(path: &Path) -> Vec<(PathBuf, u32)> {
    let meta = fs::symlink_metadata(path).expect("it is there");
    let mut found = vec![(path.to_owned(), meta.permissions().mode() & 0o777)];
    if meta.file_type().is_socket() {
        // The one door for the group.
        found.clear();
    }
    if meta.is_dir() {
        let list = fs::read_dir(path).expect("it lists");
        found.extend(list.flat_map(|entry| modes(&entry.expect("an entry").path())));
    }
    found
}

/// Nobody else may read anything, and the group no log.
fn open_ones(path: &Path) -> Vec<(PathBuf, u32)> {
    let is_open = |(path, mode): &(PathBuf, u32)| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_logs = path.is_dir() && (name.starts_with("shard-") || name.starts_with("replaced"));
        mode & 0o027 != 0 || is_logs && mode & 0o077 != 0
    };
    modes(path).into_iter().filter(is_open).collect()
}

#[track_caller]
fn assert_private(path: &Path) {
    assert_eq!(open_ones(path), []);
}

#[test]
fn a_backup_and_what_is_restored_are_as_private_as_a_data_directory() {
    let made = Made::new(2, 20);
    let (backup, restored) = (made.beside("backup"), made.beside("restored"));
    boxoffice(&[&"backup", &made.path(), &"--to", &backup]).succeeds();
    assert_private(&backup);
    // One that an earlier version left open is closed by the next run.
    let shard = backup.join("shard-001");
    fs::set_permissions(&shard, fs::Permissions::from_mode(0o755)).expect("it is ours");
    assert_eq!(open_ones(&backup), [(shard, 0o755)]);
    boxoffice(&[&"backup", &made.path(), &"--to", &backup]).succeeds();
    assert_private(&backup);
    boxoffice(&[&"restore", &backup, &"--to", &restored]).succeeds();
    assert_private(&restored);
}

#[test]
fn what_a_cut_gives_up_is_private() {
    let made = Made::new(1, 20);
    made.flip(0, 9);
    let copy = made.beside("cut");
    let flags: [&dyn AsRef<OsStr>; 6] = [&"--shard", &"0", &"--at", &"28", &"--backup", &copy];
    let args = [&[&"wal" as &dyn AsRef<OsStr>, &"truncate", &made.path(), &"--yes"], &flags[..]];
    let ended = boxoffice(&args.concat()).succeeds();
    assert_private(&copy);
    // What is copied is told in a line, however much it is.
    let line = format!("copied first: 2 files, {} bytes, to {}", 2 * 8 * 4096, copy.display());
    assert!(ended.stdout.contains(&line) && !ended.stdout.contains(".wal"), "{ended:?}");
}

#[test]
fn a_server_makes_nothing_that_others_can_read() {
    let home = server::temporary_dir();
    let data_dir = home.path().join("data");
    for shards in [2, 3] {
        let serve = Serve::on(&data_dir).with_shards(shards);
        let said = server::first_words(open_handed(&serve.command()));
        assert!(said.stdout.contains("ready"), "{said:?}");
        assert_private(&data_dir);
    }
    let names = modes(&data_dir);
    let replaced = names.iter().filter(|(path, _)| path.to_string_lossy().contains("replaced-"));
    assert!(replaced.count() > 2, "{names:?}");
    assert!(Server::start_on(&data_dir, Serve::on(&data_dir).with_shards(3)).terminate().success());
}
