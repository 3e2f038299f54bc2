//! The rest of the machine: what slows a server down or makes its clock wrong, and never stops
//! it from starting.

use std::fs;
use std::time::Duration;

use super::Finding;
use crate::runtime::clock::{ClockState, clock_state};
use crate::runtime::net::BACKLOG;
use crate::runtime::{Clock, SystemClock};

/// A wall clock that moves by this much against the steady one was set.
const STEP_LEAST: Duration = Duration::from_millis(20);

/// An error of the clock that shifts the opening of a sale visibly.
const CLOCK_ERROR_MAX: Duration = Duration::from_secs(1);

pub(super) fn examine(findings: &mut Vec<Finding>) {
    let read = |path: &str| fs::read_to_string(path).ok();
    findings.extend(read(HUGE_PAGES).map(|text| huge_pages(&text)));
    findings.push(governor(&governors()));
    findings.extend(read("/proc/swaps").map(|text| swap(&text)));
    let congestion = read("/proc/sys/net/ipv4/tcp_congestion_control");
    findings.extend(congestion.map(|text| congestion_control(text.trim())));
    findings.extend(read("/proc/sys/net/core/somaxconn").map(|text| backlog(text.trim())));
}

const HUGE_PAGES: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

/// The kernel puts the choice in force in brackets.
fn huge_pages(text: &str) -> Finding {
    let name = "huge pages";
    if text.contains("[never]") {
        return Finding::warn(
            name,
            "never: the tables of orders are read with more cache misses",
            format!("`echo madvise > {HUGE_PAGES}`"),
        );
    }
    Finding::ok(name, text.trim())
}

/// The frequency governors of all CPUs that show one, each once.
fn governors() -> Vec<String> {
    let cpus = fs::read_dir("/sys/devices/system/cpu").into_iter().flatten().flatten();
    let mut governors: Vec<String> = cpus
        .filter_map(|cpu| fs::read_to_string(cpu.path().join("cpufreq/scaling_governor")).ok())
        .map(|governor| governor.trim().to_owned())
        .collect();
    governors.sort_unstable();
    governors.dedup();
    governors
}

fn governor(governors: &[String]) -> Finding {
    let name = "CPU governor";
    if governors.is_empty() {
        return Finding::ok(name, "not shown, as in a virtual machine");
    }
    let fact = governors.join(", ");
    if governors == ["performance"] {
        return Finding::ok(name, fact);
    }
    Finding::warn(name, fact, "`cpupower frequency-set -g performance`")
}

/// A heading, then a line for each area.
fn swap(text: &str) -> Finding {
    let areas = text.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    let areas: Vec<&str> = areas.collect();
    if areas.is_empty() {
        return Finding::ok("swap", "none");
    }
    let change = "MemorySwapMax=0 in the unit, or `swapoff -a`";
    Finding::warn("swap", format!("{}: stock may be swapped out", areas.join(", ")), change)
}

fn congestion_control(kind: &str) -> Finding {
    let name = "TCP congestion";
    if ["bbr", "cubic"].contains(&kind) {
        return Finding::ok(name, kind);
    }
    Finding::warn(name, kind, "`sysctl -w net.ipv4.tcp_congestion_control=cubic`")
}

fn backlog(text: &str) -> Finding {
    let name = "accept queue";
    let fact = format!("net.core.somaxconn = {text}");
    if text.parse().is_ok_and(|most: i64| most >= i64::from(BACKLOG)) {
        return Finding::ok(name, fact);
    }
    Finding::warn(name, fact, format!("`sysctl -w net.core.somaxconn={BACKLOG}`"))
}

/// The clock, watched while the other checks run.
pub(super) struct ClockWatch {
    clock: SystemClock,
    wall_ms: u64,
}

impl ClockWatch {
    pub(super) fn start() -> Self {
        let clock = SystemClock::new();
        Self { clock, wall_ms: clock.wall_ms() }
    }

    pub(super) fn examine(&self) -> Finding {
        let wall = Duration::from_millis(self.clock.wall_ms().abs_diff(self.wall_ms));
        let step = wall.abs_diff(self.clock.monotonic());
        judge_clock(step, &clock_state().map_err(|error| error.to_string()))
    }
}

fn judge_clock(step: Duration, state: &Result<ClockState, String>) -> Finding {
    let name = "clock";
    let change = "`timedatectl set-ntp true`, or run chronyd";
    if step >= STEP_LEAST {
        let fact = format!("it was set by {} ms while this ran", step.as_millis());
        return Finding::warn(name, fact, "let NTP slew it: chronyd without makestep");
    }
    match state {
        Err(error) => Finding::warn(name, format!("its state is unknown: {error}"), change),
        Ok(state) if !state.is_synchronised => {
            let fact = "nothing keeps it right: sales open and holds end by it";
            Finding::warn(name, fact, change)
        }
        Ok(state) => {
            let fact = format!("synchronised, wrong by {} ms at most", state.max_error.as_millis());
            if state.max_error > CLOCK_ERROR_MAX {
                return Finding::warn(name, fact, change);
            }
            Finding::ok(name, fact)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn what_slows_a_server_down_is_told() {
        for (finding, state) in [
            (huge_pages("always [madvise] never\n"), State::Ok),
            (huge_pages("always madvise [never]\n"), State::Warn),
            (governor(&[]), State::Ok),
            (governor(&["performance".to_owned()]), State::Ok),
            (governor(&["performance".to_owned(), "powersave".to_owned()]), State::Warn),
            (swap("Filename Type Size Used Priority\n"), State::Ok),
            (swap("Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n"), State::Warn),
            (congestion_control("cubic"), State::Ok),
            (congestion_control("reno"), State::Warn),
            (backlog("4096"), State::Ok),
            (backlog("128"), State::Warn),
        ] {
            assert_eq!(finding.state, state, "{finding:?}");
            assert_eq!(finding.change.is_some(), state != State::Ok, "{finding:?}");
        }
    }

    #[test]
    fn a_wrong_clock_is_told() {
        let state = |is_synchronised, ms| {
            Ok(ClockState { is_synchronised, max_error: Duration::from_millis(ms) })
        };
        for (step_ms, clock, expected) in [
            (0, state(true, 5), State::Ok),
            (0, state(true, 5000), State::Warn),
            (0, state(false, 5), State::Warn),
            (50, state(true, 5), State::Warn),
            (0, Err("no such call".to_owned()), State::Warn),
        ] {
            let finding = judge_clock(Duration::from_millis(step_ms), &clock);
            assert_eq!(finding.state, expected, "{finding:?}");
        }
    }
}
