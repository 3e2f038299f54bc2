//! A file system of a test's own, on a file and a loop device, that can lose its power.
//!
//! To make one takes rights and programs that not everybody has; who cannot says so and skips. It
//! is unmounted and its device freed when it is dropped, whatever became of the test.
#![allow(dead_code, reason = "each test program uses its own part of this")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::server::temporary_dir;

/// Tries of what comes right a moment later.
const TRIES: usize = 200;

/// Runs a program of the system; `Err` is why it cannot be used here.
pub fn run(program: &str, args: &[&str]) -> Result<(), String> {
    match Command::new(program).args(args).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("{program}: {error}")),
    }
}

/// Runs it until it succeeds, for a while.
fn run_patiently(program: &str, args: &[&str]) -> Result<(), String> {
    if wait_until(|| run(program, args).is_ok()) { Ok(()) } else { run(program, args) }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A mounted file system.
pub struct Disk {
    /// Where it is mounted.
    pub mount: PathBuf,
    image: PathBuf,
    device: Option<CachingDevice>,
    home: tempfile::TempDir,
}

impl Disk {
    /// One with ext4.
    pub fn new(mebibytes: u64) -> Result<Self, String> {
        Self::with("mkfs.ext4", &["-q", "-F", "-m", "0"], mebibytes)
    }

    /// One made by this program with these flags.
    pub fn with(mkfs: &str, flags: &[&str], mebibytes: u64) -> Result<Self, String> {
        let disk = Self::made(mkfs, flags, mebibytes)?;
        disk.mount()?;
        Ok(disk)
    }

    /// One with ext4 on a device that keeps what is written in a cache of its own, and loses it
    /// unless it is told to flush.
    pub fn on_caching_device(mebibytes: u64) -> Result<Self, String> {
        let mut disk = Self::made("mkfs.ext4", &["-q", "-F", "-m", "0"], mebibytes)?;
        disk.device = Some(CachingDevice::start(disk.home.path(), &disk.image)?);
        disk.mount()?;
        Ok(disk)
    }

    fn made(mkfs: &str, flags: &[&str], mebibytes: u64) -> Result<Self, String> {
        let home = temporary_dir();
        let (image, mount) = (home.path().join("image"), home.path().join("disk"));
        fs::create_dir(&mount).expect("a directory can be made");
        let file = File::create(&image).expect("a file can be made");
        file.set_len(mebibytes << 20).expect("a file can be sparse");
        run(mkfs, &[flags, &[text(&image)]].concat())?;
        Ok(Self { mount, image, device: None, home })
    }

    /// Takes its power away. A device with a cache loses that. Any other fails everything from now
    /// on, and what was not synced is forgotten: the file systems' own model of a power cut, in
    /// which not even their journals are flushed.
    pub fn cut(&mut self) -> Result<(), String> {
        match &mut self.device {
            Some(device) => {
                device.cut();
                Ok(())
            }
            None => run("xfs_io", &["-x", "-c", "shutdown", text(&self.mount)]),
        }
    }

    /// Mounts it anew, as a machine does that has power again. Nothing may be open on it but what
    /// is about to be closed.
    pub fn mount_again(&mut self) -> Result<(), String> {
        run_patiently("umount", &[text(&self.mount)])?;
        if self.device.take().is_some() {
            self.device = Some(CachingDevice::start(self.home.path(), &self.image)?);
        }
        self.mount()
    }

    fn mount(&self) -> Result<(), String> {
        let from = self.device.as_ref().map_or(&self.image, |device| &device.file);
        run("mount", &["-o", "loop", text(from), text(&self.mount)])
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // It may never have been mounted.
        let _ = run("umount", &["--lazy", text(&self.mount)]);
    }
}

/// A disk with a volatile cache: `nbdkit` keeps writes in memory until it is told to flush, and
/// `nbdfuse` makes it a file that a loop device can lie on.
struct CachingDevice {
    /// The two processes.
    served_by: Vec<Child>,
    file: PathBuf,
}

impl CachingDevice {
    fn start(home: &Path, image: &Path) -> Result<Self, String> {
        let (socket, file) = (home.join("socket"), home.join("device"));
        let _ = fs::remove_file(&socket);
        File::create(&file).expect("a file can be made");
        let bytes = fs::metadata(image).expect("the image is there").len();
        let quiet = |command: &mut Command| {
            let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().map_err(|error| format!("{command:?}: {error}"))
        };
        let mut kit = Command::new("nbdkit");
        kit.args(["--foreground", "--unix", text(&socket), "--filter=cache", "file"]);
        kit.args([text(image), "cache=writeback"]);
        let mut device = Self { served_by: vec![quiet(&mut kit)?], file };
        wait_until(|| socket.exists());
        let uri = format!("nbd+unix://?socket={}", text(&socket));
        let mut fuse = Command::new("nbdfuse");
        device.served_by.push(quiet(fuse.args([text(&device.file), &uri]))?);
        let is_served = || fs::metadata(&device.file).is_ok_and(|served| served.len() == bytes);
        if wait_until(is_served) { Ok(device) } else { Err("nbdfuse serves no file".to_owned()) }
    }

    fn cut(&mut self) {
        for mut child in self.served_by.drain(..) {
            // One that is gone cannot be killed, and that is what is wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for CachingDevice {
    fn drop(&mut self) {
        self.cut();
        let _ = run("umount", &["--lazy", text(&self.file)]);
    }
}

/// Whether it came true, in good time.
fn wait_until(is_so: impl Fn() -> bool) -> bool {
    (0..TRIES).any(|_| {
        thread::sleep(Duration::from_millis(20));
        is_so()
    })
}
