//! The demo's server: this very program as another process.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::failure;
use crate::cli::Failed;

/// A server process on the demo's directory. Dropping it kills it.
pub(super) struct ServerProcess {
    data_dir: PathBuf,
    shards: NonZeroU16,
    cpus: String,
    child: Child,
    listening: Listening,
}

/// Where a server listens.
#[derive(Clone, Copy)]
struct Listening {
    binary: SocketAddr,
    http: SocketAddr,
}

impl ServerProcess {
    /// Starts a server and waits until it serves.
    pub(super) fn start(
        data_dir: &Path,
        shards: NonZeroU16,
        cpus: &[usize],
    ) -> Result<Self, Failed> {
        let cpus = cpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let (child, listening) = spawn(data_dir, shards, &cpus)?;
        Ok(Self { data_dir: data_dir.to_owned(), shards, cpus, child, listening })
    }

    /// Starts it again on the same directory.
    pub(super) fn restart(&mut self) -> Result<(), Failed> {
        (self.child, self.listening) = spawn(&self.data_dir, self.shards, &self.cpus)?;
        Ok(())
    }

    /// Where it speaks the binary protocol.
    pub(super) fn address(&self) -> SocketAddr {
        self.listening.binary
    }

    /// Where it speaks HTTP.
    pub(super) fn http_address(&self) -> SocketAddr {
        self.listening.http
    }

    /// SIGKILL: nothing in the process can react.
    pub(super) fn kill(&mut self) -> Result<(), Failed> {
        self.child
            .kill()
            .and_then(|()| self.child.wait())
            .map(|_| ())
            .map_err(|error| failure(format_args!("cannot kill the server: {error}")))
    }

    /// SIGTERM, and waits for an orderly end.
    pub(super) fn terminate(&mut self) -> Result<(), Failed> {
        let pid = Pid::from_child(&self.child);
        let ended = kill_process(pid, Signal::TERM)
            .map_err(std::io::Error::from)
            .and_then(|()| self.child.wait());
        match ended {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(failure(format_args!("the server did not stop in order: {status}"))),
            Err(error) => Err(failure(format_args!("cannot stop the server: {error}"))),
        }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // It has ended already, unless the demo failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(data_dir: &Path, shards: NonZeroU16, cpus: &str) -> Result<(Child, Listening), Failed> {
    let start = || -> std::io::Result<(Child, Option<Listening>)> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["serve", "--binary", "127.0.0.1:0", "--http", "127.0.0.1:0"])
            .args(["--log", "warn", "--cpus", cpus, "--shards", &shards.to_string()])
            .arg("--data-dir")
            .arg(data_dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().expect("it is piped");
        let (mut binary, mut http) = (None, None);
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            if let Some(address) = line.strip_prefix("listening binary ") {
                binary = address.parse().ok();
            }
            if let Some(address) = line.strip_prefix("listening http ") {
                http = address.parse().ok();
            }
            if line == "ready" {
                let both = binary.zip(http);
                return Ok((child, both.map(|(binary, http)| Listening { binary, http })));
            }
        }
        child.wait()?;
        Ok((child, None))
    };
    match start() {
        Ok((child, Some(listening))) => Ok((child, listening)),
        Ok((_, None)) => Err(failure("the server did not start; its own line says why")),
        Err(error) => Err(failure(format_args!("cannot run the server: {error}"))),
    }
}
