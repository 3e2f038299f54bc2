//! Threads that work in the background of others on the same CPU.
//!
//! A low priority alone does not keep such a thread out of the way. It counts within the process's
//! scheduling group (a service's cgroup, or a session where the kernel groups by session), while
//! the kernel's own threads, which complete writes to the disk, are in another one and wait for
//! their group's turn: milliseconds, with the CPU as busy as a thread in the background makes it.
//! So it also runs in bursts: a timer interrupts it, and the handler sleeps where the thread has
//! had its share of the CPU. Idle priority would be too low: beside a busy shard a thread of it
//! gets nowhere, and the log grows for as long as that lasts.
//!
//! And what takes the kernel long is done in small pieces: see [`super::huge`] for memory.

use std::cell::{Cell, RefCell};
use std::io;
use std::mem::MaybeUninit;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::setpriority_process;

/// Beside a thread that is always busy, this is a tenth of the CPU.
const NICENESS: i32 = 10;

/// How much of its CPU a thread has in a burst: what a write's completion may have to wait for.
const BURST: Duration = Duration::from_micros(250);

/// How long a thread sleeps behind each: it has a seventh of an idle CPU, and a shard that is busy
/// two thirds of the time still has some to spare.
const NAP: Duration = Duration::from_micros(1_500);

/// Whether threads in the background sleep between their bursts.
static NAPS: AtomicBool = AtomicBool::new(true);

thread_local! {
    static IS_BACKGROUND: Cell<bool> = const { Cell::new(false) };
    /// The thread's CPU time when it last slept.
    static SLEPT_AT: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static BURSTS: RefCell<Option<Bursts>> = const { RefCell::new(None) };
}

/// Makes the calling thread one of the background until it ends: others come first, it runs in
/// bursts, and it takes its memory with patience. Threads that it starts are not, but for the
/// priority. Where the system refuses a part of it, the thread is more in the way; that is all.
pub fn enter() {
    if !IS_BACKGROUND.replace(true) {
        let _ = setpriority_process(None, NICENESS);
        BURSTS.set(Bursts::start().ok());
    }
}

/// Waits, in the background, without being interrupted every now and then.
pub fn wait<R>(wait: impl FnOnce() -> R) -> R {
    BURSTS.set(None);
    let result = wait();
    BURSTS.set(Bursts::start().ok());
    result
}

/// Whether the calling thread is one of the background.
#[must_use]
pub fn is_here() -> bool {
    IS_BACKGROUND.get()
}

/// Lets all threads in the background go on without sleep, since somebody waits for their end;
/// or has them take their time again.
pub fn hurry(is_urgent: bool) {
    NAPS.store(!is_urgent, Ordering::Relaxed);
}

/// The calling thread runs in bursts for as long as this lives.
struct Bursts {
    timer: libc::timer_t,
}

impl Bursts {
    /// Interrupts the calling thread from now on.
    fn start() -> io::Result<Self> {
        static HANDLER: OnceLock<Option<i32>> = OnceLock::new();
        let refused = *HANDLER.get_or_init(|| install().err().and_then(|e| e.raw_os_error()));
        if let Some(code) = refused {
            return Err(io::Error::from_raw_os_error(code));
        }
        // SAFETY: all zeros are a `sigevent`.
        let mut event: libc::sigevent = unsafe { MaybeUninit::zeroed().assume_init() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = signal();
        event.sigev_notify_thread_id = rustix::thread::gettid().as_raw_nonzero().get();
        let mut timer = MaybeUninit::uninit();
        // SAFETY: both pointers are to values that live until the call returns.
        checked(unsafe {
            libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, timer.as_mut_ptr())
        })?;
        // SAFETY: the call succeeded, and has written the timer's id.
        let bursts = Self { timer: unsafe { timer.assume_init() } };
        let period = timespec(BURST);
        let schedule = libc::itimerspec { it_interval: period, it_value: period };
        // SAFETY: the timer exists, and the schedule lives until the call returns.
        checked(unsafe {
            libc::timer_settime(bursts.timer, 0, &raw const schedule, std::ptr::null_mut())
        })?;
        Ok(bursts)
    }
}

impl Drop for Bursts {
    fn drop(&mut self) {
        // SAFETY: the timer exists, and is not used any more. The calling thread is the one that
        // it interrupts: no signal of it comes behind this, or one that finds its handler.
        unsafe { libc::timer_delete(self.timer) };
    }
}

/// A signal that nothing else uses.
fn signal() -> i32 {
    libc::SIGRTMIN() + 5
}

/// Sets the handler, for the whole process.
fn install() -> io::Result<()> {
    // SAFETY: all zeros are a `sigaction`.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = nap as extern "C" fn(i32) as usize;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: the action lives until the call returns, and its handler does nothing but what is
    // allowed in one.
    checked(unsafe { libc::sigaction(signal(), &raw const action, std::ptr::null_mut()) })
}

/// Sleeps. Of what may be called at any point of a thread there is nothing else in it.
extern "C" fn nap(_: i32) {
    let used = cpu_time();
    // What the thread did not get, since others wanted the CPU, is not taken from it.
    let is_over = used.saturating_sub(SLEPT_AT.get()) >= BURST * 3 / 4;
    if !is_over || !NAPS.load(Ordering::Relaxed) {
        return;
    }
    SLEPT_AT.set(used);
    // A bare system call: what was interrupted finds `errno` as it left it.
    let _ = rustix::thread::nanosleep(&rustix::thread::Timespec {
        tv_sec: 0,
        tv_nsec: i64::from(NAP.subsec_nanos()),
    });
}

/// What the calling thread has used of its CPU.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

const fn timespec(time: Duration) -> libc::timespec {
    libc::timespec { tv_sec: time.as_secs().cast_signed(), tv_nsec: time.subsec_nanos() as i64 }
}

fn checked(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::{fs, thread};

    use super::*;

    /// How often the calling thread has given its CPU up.
    fn sleeps() -> u64 {
        let status = fs::read_to_string("/proc/thread-self/status").expect("a thread has one");
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        count.and_then(|count| count.trim().parse().ok()).expect("it counts them")
    }

    /// Computes until the thread has had so much of its CPU, and says how often it slept meanwhile.
    fn compute(time: Duration) -> u64 {
        let (before, end) = (sleeps(), cpu_time() + time);
        while cpu_time() < end {
            std::hint::spin_loop();
        }
        sleeps() - before
    }

    #[test]
    fn a_thread_in_the_background_sleeps_between_its_bursts() {
        let background = thread::spawn(|| {
            enter();
            (is_here(), compute(BURST * 80))
        });
        let (is_background, naps) = background.join().expect("the thread ends");
        assert!(is_background && naps > 20, "{naps} naps in 80 bursts");
        assert!(!is_here());
        assert!(compute(BURST * 80) < 5, "another thread computes without naps");
    }

    #[test]
    fn what_is_interrupted_goes_on() {
        let background = thread::spawn(|| {
            enter();
            let path = std::env::temp_dir().join(format!("background-{}", std::process::id()));
            let written = vec![7; 1 << 20];
            for _ in 0..20 {
                fs::write(&path, &written).expect("a file can be written");
                assert!(fs::read(&path).expect("it can be read") == written);
            }
            fs::remove_file(&path).expect("it can be removed");
        });
        background.join().expect("the thread ends");
    }
}
