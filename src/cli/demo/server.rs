//! The demo's server: this very program as another process.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::failure;
use crate::cli::Failed;
use crate::cli::exit::ExitCode;
use crate::runtime::process::die_with_parent;

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
    let start = || -> std::io::Result<Result<(Child, Listening), ExitStatus>> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["serve", "--binary", "127.0.0.1:0", "--http", "127.0.0.1:0"])
            .args(["--log", "warn", "--cpus", cpus, "--shards", &shards.to_string()])
            .arg("--data-dir")
            .arg(data_dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // Ctrl-C is for the demo, which then ends its server.
            .process_group(0);
        die_with_parent(&mut command);
        let mut child = command.spawn()?;
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
                let (binary, http) = binary.zip(http).expect("it says where before it is ready");
                return Ok(Ok((child, Listening { binary, http })));
            }
        }
        Ok(Err(child.wait()?))
    };
    match start() {
        Ok(Ok(started)) => Ok(started),
        Ok(Err(status)) => {
            // Whoever acts upon exit codes acts upon the server's.
            let code =
                ExitCode::ALL.into_iter().find(|code| Some(code.number().into()) == status.code());
            let why = format_args!(
                "the server did not start ({status}); its own line above says why, and what \
                 is --data-dir there is --dir here"
            );
            Err(Failed::new(code.unwrap_or(ExitCode::Failure), why))
        }
        Err(error) => Err(failure(format_args!("cannot run the server: {error}"))),
    }
}
