//! A file system of a test's own, on a file and a loop device, that can lose its power.
//!
//! To make one takes rights and programs that not everybody has; who cannot says so and skips. It
//! is unmounted and its device freed when it is dropped, whatever became of the test.
#![allow(dead_code, reason = "each test program uses its own part of this")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::server::temporary_dir;

/// Tries of what comes right a moment later.
const TRIES: usize = 200;

/// Runs a program of the system; `Err` is why it cannot be used here.
pub fn run(program: &str, args: &[&str]) -> Result<(), String> {
    said(program, args).map(drop)
}

/// What a program of the system says on its standard output.
fn said(program: &str, args: &[&str]) -> Result<String, String> {
    match Command::new(program).args(args).output() {
        Ok(output) if output.status.success() => {
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        }
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
    device: Device,
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
        disk.device = Device::Caching(ServedDevice::caching(disk.home.path(), &disk.image)?);
        disk.mount()?;
        Ok(disk)
    }

    /// One with ext4 on a device of which every write takes a moment, and fails from its cut on
    /// until it is mended. What nothing asks for stays unwritten meanwhile.
    pub fn on_failing_device(mebibytes: u64) -> Result<Self, String> {
        let mut disk = Self::made("mkfs.ext4", &["-q", "-F", "-m", "0"], mebibytes)?;
        let trigger = disk.home.path().join("trigger");
        let device = ServedDevice::failing(disk.home.path(), &disk.image, &trigger)?;
        disk.device = Device::Failing { device, trigger };
        disk.mount()?;
        Ok(disk)
    }

    /// One with ext4 on a device that has this fault from its cut until it is mounted again.
    pub fn on_flaky_device(fault: Fault, mebibytes: u64) -> Result<Self, String> {
        let mut disk = Self::made("mkfs.ext4", &["-q", "-F", "-m", "0"], mebibytes)?;
        disk.device = Device::Flaky(FlakyDevice::start(&disk.image, fault)?);
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
        Ok(Self { mount, image, device: Device::Loop, home })
    }

    /// Takes its power away. A device with a cache loses that, and a flaky one has its fault. On
    /// any other the file system fails everything from now on, and what was not synced is
    /// forgotten: the file systems' own model of a power cut, in which not even their journals are
    /// flushed.
    pub fn cut(&mut self) -> Result<(), String> {
        match &mut self.device {
            Device::Caching(device) => {
                device.cut();
                Ok(())
            }
            Device::Failing { trigger, .. } => {
                File::create(trigger).expect("a file can be made");
                Ok(())
            }
            Device::Flaky(device) => device.cut(),
            Device::Loop => run("xfs_io", &["-x", "-c", "shutdown", text(&self.mount)]),
        }
    }

    /// A failing device works again, under the very file system.
    pub fn mend(&mut self) {
        if let Device::Failing { trigger, .. } = &self.device {
            fs::remove_file(trigger).expect("it was cut");
        }
    }

    /// Mounts it anew, as a machine does that has power again. Nothing may be open on it but what
    /// is about to be closed.
    pub fn mount_again(&mut self) -> Result<(), String> {
        self.mend();
        run_patiently("umount", &[text(&self.mount)])?;
        match &self.device {
            Device::Caching(_) => {
                // The old one goes first: it is mounted where the new one shall be.
                self.device = Device::Loop;
                let device = ServedDevice::caching(self.home.path(), &self.image)?;
                self.device = Device::Caching(device);
            }
            Device::Flaky(device) => device.mend()?,
            Device::Loop | Device::Failing { .. } => {}
        }
        self.mount()
    }

    fn mount(&self) -> Result<(), String> {
        let on_loop = |file| run("mount", &["-o", "loop", text(file), text(&self.mount)]);
        match &self.device {
            Device::Loop => on_loop(&self.image),
            Device::Caching(device) => on_loop(&device.file),
            // Its journal is written when a sync asks for it, and not by the clock.
            Device::Failing { device, .. } => {
                run("mount", &["-o", "loop,commit=300", text(&device.file), text(&self.mount)])
            }
            Device::Flaky(device) => run("mount", &[&device.path()?, text(&self.mount)]),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // It may never have been mounted.
        let _ = run("umount", &["--lazy", text(&self.mount)]);
    }
}

/// What lies between a file system and the file that keeps it.
enum Device {
    /// A loop device, and no more.
    Loop,
    Caching(ServedDevice),
    Failing {
        device: ServedDevice,
        /// Writes fail while there is this file.
        trigger: PathBuf,
    },
    Flaky(FlakyDevice),
}

/// What a flaky device does to writes from its cut on. It can be read all the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// They fail.
    Error,
    /// They succeed, flushes too, and are not done.
    Lie,
}

/// A disk that turns bad from one write to the next: the device mapper's `linear`, and `flakey` in
/// its place from the cut on.
struct FlakyDevice {
    name: String,
    fault: Fault,
    sectors: u64,
    loop_device: String,
}

impl FlakyDevice {
    fn start(image: &Path, fault: Fault) -> Result<Self, String> {
        static DEVICES: AtomicUsize = AtomicUsize::new(0);
        // Asked for first, so that no loop device is left where this cannot be done.
        run("dmsetup", &["version"])?;
        let number = DEVICES.fetch_add(1, Ordering::Relaxed);
        let device = Self {
            name: format!("boxoffice-{}-{number}", process::id()),
            fault,
            sectors: fs::metadata(image).expect("the image is there").len() / 512,
            loop_device: said("losetup", &["--find", "--show", text(image)])?,
        };
        let name = device.name.as_str();
        run("dmsetup", &["create", name, "--noudevsync", "--table", &device.sound()])?;
        Ok(device)
    }

    /// The name that the kernel gave it: `/dev/mapper` has it only where udev runs.
    fn path(&self) -> Result<String, String> {
        let args = ["info", "--columns", "--noheadings", "-o", "blkdevname", &self.name];
        Ok(format!("/dev/{}", said("dmsetup", &args)?))
    }

    /// The table of the device as it should be.
    fn sound(&self) -> String {
        format!("0 {} linear {} 0", self.sectors, self.loop_device)
    }

    fn cut(&self) -> Result<(), String> {
        let fault = match self.fault {
            Fault::Error => "error_writes",
            Fault::Lie => "drop_writes",
        };
        // Up for no second, and down for an hour.
        self.become_now(&format!(
            "0 {} flakey {} 0 0 3600 1 {fault}",
            self.sectors, self.loop_device
        ))
    }

    fn mend(&self) -> Result<(), String> {
        self.become_now(&self.sound())
    }

    /// Changes the table between two writes. The file system is not told, or it would flush.
    fn become_now(&self, table: &str) -> Result<(), String> {
        let name = self.name.as_str();
        run("dmsetup", &["reload", name, "--table", table])?;
        run("dmsetup", &["suspend", "--nolockfs", name])?;
        run("dmsetup", &["resume", "--noudevsync", name])
    }
}

impl Drop for FlakyDevice {
    fn drop(&mut self) {
        let _ = run_patiently("dmsetup", &["remove", "--noudevsync", &self.name]);
        let _ = run("losetup", &["--detach", &self.loop_device]);
    }
}

/// A disk that is a program, `nbdkit` with filters; `nbdfuse` makes it a file that a loop device
/// can lie on.
struct ServedDevice {
    /// The two processes.
    served_by: Vec<Child>,
    file: PathBuf,
}

impl ServedDevice {
    /// With a volatile cache: writes are kept in memory until it is told to flush.
    fn caching(home: &Path, image: &Path) -> Result<Self, String> {
        Self::start(home, image, &["--filter=cache"], &["cache=writeback"])
    }

    /// One of which each write takes 30 ms, and then fails where the trigger is there.
    fn failing(home: &Path, image: &Path, trigger: &Path) -> Result<Self, String> {
        let trigger = format!("error-pwrite-file={}", text(trigger));
        let settings = ["wdelay=30ms", "error=EIO", "error-pwrite-rate=100%", &trigger];
        Self::start(home, image, &["--filter=delay", "--filter=error"], &settings)
    }

    fn start(
        home: &Path,
        image: &Path,
        filters: &[&str],
        settings: &[&str],
    ) -> Result<Self, String> {
        let (socket, file) = (home.join("socket"), home.join("device"));
        let _ = fs::remove_file(&socket);
        File::create(&file).expect("a file can be made");
        let bytes = fs::metadata(image).expect("the image is there").len();
        let quiet = |command: &mut Command| {
            let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().map_err(|error| format!("{command:?}: {error}"))
        };
        let mut kit = Command::new("nbdkit");
        kit.args(["--foreground", "--unix", text(&socket)]).args(filters);
        kit.args(["file", text(image)]).args(settings);
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

impl Drop for ServedDevice {
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
