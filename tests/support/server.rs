//! A real server process for a test: started, watched, stopped, killed, started again.
//!
//! It runs the built program on a temporary directory and on ports that the system chooses, and
//! learns from its standard output where it listens. All that it prints is kept, and shown where
//! something goes wrong. Waits have limits that only end what hangs; no test measures them.
#![allow(dead_code, reason = "each test program uses its own part of this")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use boxoffice::cli::exit::ExitCode;
use tempfile::TempDir;

/// How long a server may take to start or to end before the test gives up.
const PATIENCE: Duration = Duration::from_mins(1);

/// A small segment, so that a start does not spend its time on zeros. It holds the largest frame.
const SEGMENT_BYTES: u64 = 4 << 20;

/// A temporary directory on the disk of the build: the system's own may be in memory.
pub fn temporary_dir() -> TempDir {
    tempfile::Builder::new()
        .prefix("boxoffice-")
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .expect("a temporary directory can be made")
}

/// The command line of a `serve`.
#[derive(Clone, Debug)]
pub struct Serve {
    flags: Vec<(String, String)>,
    switches: Vec<String>,
}

impl Serve {
    /// On this data directory, with one shard and a port of the system's choice.
    pub fn on(data_dir: &Path) -> Self {
        Self { flags: Vec::new(), switches: Vec::new() }
            .with("--data-dir", data_dir.to_str().expect("the path is UTF-8"))
            .with("--shards", "1")
            .with("--binary", "127.0.0.1:0")
            .with("--http", "127.0.0.1:0")
            .with("--segment-bytes", &SEGMENT_BYTES.to_string())
    }

    /// With this flag, in place of an earlier one of the same name.
    pub fn with(mut self, flag: &str, value: &str) -> Self {
        self.flags.retain(|(known, _)| known != flag);
        self.flags.push((flag.to_owned(), value.to_owned()));
        self
    }

    /// With a flag that has no value.
    pub fn with_switch(mut self, flag: &str) -> Self {
        self.switches.push(flag.to_owned());
        self
    }

    /// With so many shards.
    pub fn with_shards(self, shards: u16) -> Self {
        self.with("--shards", &shards.to_string())
    }

    /// The command, not yet run: its output is piped, and nothing of the caller's settings for
    /// logs and traces reaches it.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_boxoffice"));
        command.arg("serve");
        for (flag, value) in &self.flags {
            command.args([flag, value]);
        }
        command.args(&self.switches);
        command.env_remove("RUST_LOG").env_remove("RUST_BACKTRACE");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs it although it must fail, and returns how it did.
    ///
    /// # Panics
    ///
    /// Where it serves, or hangs.
    pub fn refused(&self) -> Refused {
        Refused::from_run(self.command())
    }
}

/// A start that was refused.
#[derive(Debug)]
pub struct Refused {
    /// The exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// All that it said on standard output.
    pub stdout: String,
    /// All that it said on standard error.
    pub stderr: String,
}

impl Refused {
    /// Runs a command that must end by itself, and soon.
    pub fn from_run(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the program can be run");
        let [stdout, stderr] = [collect(child.stdout.take()), collect(child.stderr.take())];
        let status = wait(&mut child);
        let ended = status.is_some();
        if !ended {
            end(&mut child);
        }
        let [stdout, stderr] =
            [stdout, stderr].map(|reader| reader.join().expect("the output was read"));
        assert!(ended, "{command:?} should have failed and runs on:\n{stdout}{stderr}");
        Self { code: status.and_then(|status| status.code()), stdout, stderr }
    }
}

/// Holds a refusal to the promise: this code, and one line that names each of these.
#[track_caller]
pub fn assert_refused(refused: &Refused, code: ExitCode, names: &[&str]) {
    assert_eq!(refused.code, Some(i32::from(code.number())), "exit {code}; it said: {refused:?}");
    let lines: Vec<&str> = refused.stderr.lines().collect();
    let complaints = lines.iter().filter(|line| line.starts_with("boxoffice: ")).count();
    let last = lines.last().copied().unwrap_or_default();
    assert!(complaints == 1 && last.starts_with("boxoffice: "), "one clear line: {refused:?}");
    for name in names {
        assert!(last.contains(name), "the line should name {name}: {last}");
    }
    for said in [&refused.stdout, &refused.stderr] {
        assert!(!said.contains("panicked"), "a bad start is no panic: {refused:?}");
    }
    assert!(!refused.stdout.lines().any(|line| line == "ready"), "it served: {refused:?}");
}

/// Runs a command until it says `ready`, which ends it, or ends by itself.
pub fn first_words(mut command: Command) -> Refused {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program can be run");
    let log = Arc::new(Mutex::new(String::new()));
    let (lines, said) = mpsc::channel();
    let stderr = collect(child.stderr.take());
    let stdout = keep_lines(child.stdout.take(), Arc::clone(&log), Some(lines));
    let is_ready = read_until_ready(&said).is_ok();
    let status = if is_ready { None } else { wait(&mut child) };
    end(&mut child);
    stdout.join().expect("the output was read");
    let stdout = log.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let stderr = stderr.join().expect("the output was read");
    Refused { code: status.and_then(|status| status.code()), stdout, stderr }
}

/// Where a server listens.
#[derive(Clone, Debug, Default)]
struct Listening {
    admin: Option<String>,
    binary: Option<SocketAddr>,
    http: Option<SocketAddr>,
    shards: Vec<SocketAddr>,
}

/// A running server. Dropping it kills the process and removes what it made.
pub struct Server {
    serve: Serve,
    data_dir: PathBuf,
    child: Child,
    listening: Listening,
    /// All that the process said, over all its starts.
    log: Arc<Mutex<String>>,
    /// The threads that keep the log; they end with the process.
    readers: Vec<JoinHandle<()>>,
    /// Kept last, so that the directory outlives the process.
    home: Option<TempDir>,
}

impl Server {
    /// Starts a server of one shard on a directory of its own.
    pub fn start() -> Self {
        Self::start_with(|serve| serve)
    }

    /// Starts a server on a directory of its own, with these changes to its command line.
    pub fn start_with(change: impl FnOnce(Serve) -> Serve) -> Self {
        let home = temporary_dir();
        let data_dir = home.path().join("data");
        let serve = change(Serve::on(&data_dir));
        let mut server = Self::start_on(&data_dir, serve);
        server.home = Some(home);
        server
    }

    /// Starts a server on a directory that the caller keeps.
    pub fn start_on(data_dir: &Path, serve: Serve) -> Self {
        let log = Arc::new(Mutex::new(String::new()));
        let Launched { child, listening, readers } = launch(&serve, &log);
        let data_dir = data_dir.to_owned();
        Self { serve, data_dir, child, listening, log, readers, home: None }
    }

    /// Where the binary protocol listens.
    pub fn address(&self) -> SocketAddr {
        self.listening.binary.expect("a server that is ready listens")
    }

    /// Where HTTP listens.
    pub fn http_address(&self) -> SocketAddr {
        self.listening.http.expect("a server that is ready listens")
    }

    /// Where administration listens: a path or an address.
    pub fn admin_address(&self) -> &str {
        self.listening.admin.as_deref().expect("a server that is ready listens")
    }

    /// The port of one shard's own.
    pub fn shard_address(&self, shard: usize) -> SocketAddr {
        self.listening.shards[shard]
    }

    /// How many shards said where they listen.
    pub fn shards(&self) -> usize {
        self.listening.shards.len()
    }

    /// The data directory.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that it said so far, on both outputs and over all its starts.
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks it to stop (SIGTERM).
    pub fn ask_to_stop(&self) {
        ask_to_stop(self.pid());
    }

    /// Asks it to stop and waits until it has.
    pub fn terminate(&mut self) -> ExitStatus {
        self.ask_to_stop();
        self.wait()
    }

    /// Kills it (SIGKILL), as a crash would.
    pub fn kill(&mut self) -> ExitStatus {
        self.child.kill().expect("the server can be killed");
        self.wait()
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let Some(status) = wait(&mut self.child) else {
            panic!("the server should have ended and runs on:\n{}", self.log());
        };
        // Its last words are in the log before anybody asks for them.
        for reader in self.readers.drain(..) {
            reader.join().expect("the output was read");
        }
        status
    }

    /// Starts it again on the same directory, with the same flags. Its ports are new ones.
    ///
    /// # Panics
    ///
    /// Where it still runs.
    pub fn restart(&mut self) {
        let ended = self.child.try_wait().expect("the process can be asked").is_some();
        assert!(ended, "stop or kill the server before starting it again");
        let Launched { child, listening, readers } = launch(&self.serve, &self.log);
        (self.child, self.listening, self.readers) = (child, listening, readers);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.child);
        if thread::panicking() {
            eprintln!("what the server said:\n{}", self.log());
        }
    }
}

/// A server that was started and need not become ready. Dropping it kills the process.
pub struct Starting {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Starting {
    /// Starts a server and waits until it says a line that begins so.
    pub fn on(serve: &Serve, awaited: &str) -> Self {
        let mut child = serve.command().spawn().expect("the program can be run");
        let log = Arc::new(Mutex::new(String::new()));
        let (lines, said) = mpsc::channel();
        keep_lines(child.stderr.take(), Arc::clone(&log), None);
        keep_lines(child.stdout.take(), Arc::clone(&log), Some(lines));
        let starting = Self { child, log };
        while !said.recv_timeout(PATIENCE).expect("it says so").starts_with(awaited) {}
        starting
    }

    /// Asks it to stop (SIGTERM) and waits until it has.
    pub fn terminate(&mut self) -> ExitStatus {
        ask_to_stop(self.child.id());
        wait(&mut self.child).expect("it stops")
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        end(&mut self.child);
        if thread::panicking() {
            eprintln!("what it said:\n{}", self.log.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}

/// Sends SIGTERM, by the shell's own `kill`: a minimal system has no program of that name.
fn ask_to_stop(pid: u32) {
    let command = ["-c", "kill -TERM \"$1\"", "sh", &pid.to_string()];
    let asked = Command::new("sh").args(command).status().expect("a shell can be run");
    assert!(asked.success(), "the server had ended before it was stopped");
}

/// A process that is ready.
struct Launched {
    child: Child,
    listening: Listening,
    readers: Vec<JoinHandle<()>>,
}

/// Starts the process and reads until it is ready.
fn launch(serve: &Serve, log: &Arc<Mutex<String>>) -> Launched {
    let mut child = serve.command().spawn().expect("the program can be run");
    let (lines, said) = mpsc::channel();
    let readers = vec![
        keep_lines(child.stderr.take(), Arc::clone(log), None),
        keep_lines(child.stdout.take(), Arc::clone(log), Some(lines)),
    ];
    match read_until_ready(&said) {
        Ok(listening) => Launched { child, listening, readers },
        Err(why) => {
            end(&mut child);
            let status = child.wait().expect("the process can be asked");
            for reader in readers {
                reader.join().expect("the output was read");
            }
            let log = log.lock().unwrap_or_else(PoisonError::into_inner);
            panic!("the server did not start ({why}, {status}). It said:\n{log}");
        }
    }
}

/// Reads where it listens (`listening admin PATH|ADDR`, `listening binary ADDR`, `listening shard
/// N ADDR`, `listening http ADDR`) and `ready`.
fn read_until_ready(said: &Receiver<String>) -> Result<Listening, String> {
    let deadline = Instant::now() + PATIENCE;
    let mut listening = Listening::default();
    loop {
        let line = said.recv_timeout(deadline.saturating_duration_since(Instant::now())).map_err(
            |error| match error {
                RecvTimeoutError::Timeout => "it hangs".to_owned(),
                RecvTimeoutError::Disconnected => "it ended".to_owned(),
            },
        )?;
        let address = |text: &str| text.parse().map_err(|error| format!("{line:?}: {error}"));
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["listening", "admin", at] => listening.admin = Some(at.to_owned()),
            ["listening", "binary", at] => listening.binary = Some(address(at)?),
            ["listening", "http", at] => listening.http = Some(address(at)?),
            ["listening", "shard", shard, at] => {
                if shard != listening.shards.len().to_string() {
                    return Err(format!("{line:?} is out of order"));
                }
                listening.shards.push(address(at)?);
            }
            ["ready"] if listening.binary.is_none() => {
                return Err("it is ready and did not say where it listens".to_owned());
            }
            ["ready"] => return Ok(listening),
            // Other lines are for people.
            _ => {}
        }
    }
}

/// Keeps what a process says, on a thread that ends with the process.
fn keep_lines(
    output: Option<impl Read + Send + 'static>,
    log: Arc<Mutex<String>>,
    lines: Option<Sender<String>>,
) -> JoinHandle<()> {
    let output = BufReader::new(output.expect("the output is piped"));
    thread::spawn(move || {
        for line in output.lines() {
            let Ok(line) = line else { return };
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            log.push_str(&line);
            log.push('\n');
            drop(log);
            // Once the server is ready nobody listens to its lines any more.
            let _ = lines.as_ref().map(|lines| lines.send(line));
        }
    })
}

/// Reads an output to its end, on a thread of its own so that neither pipe fills up.
fn collect(output: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    let mut output = output.expect("the output is piped");
    thread::spawn(move || {
        let mut bytes = Vec::new();
        output.read_to_end(&mut bytes).expect("the output can be read");
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Waits for the end of a process; `None` where patience ends first.
fn wait(child: &mut Child) -> Option<ExitStatus> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().expect("the process can be asked") {
            return Some(status);
        }
        thread::sleep(Duration::from_millis(5));
    }
    None
}

/// Ends a process that may have ended already.
fn end(child: &mut Child) {
    // A process that is gone cannot be killed, and that is what is wanted.
    let _ = child.kill();
    let _ = child.wait();
}

/// Every file below `dir` with its bytes, to see whether anything was changed. The lock file and
/// a socket are left out: to lock a directory or to listen in it is not to change it.
pub fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder can be listed") {
            let path = entry.expect("the folder can be listed").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file() && !path.ends_with("LOCK") {
                let bytes = fs::read(&path).expect("the file can be read");
                files.push((path, bytes));
            }
        }
    }
    files.sort();
    files
}
