//! The command line of `boxoffice-bench run`. The flags are stable.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use boxoffice::model::id::SaleId;
use boxoffice::model::sale::{CAPACITY_MAX, ITEMS_MAX};
use boxoffice::runtime::{cpu, limits};
use clap::{ArgGroup, Args, ValueEnum};

use crate::Failure;

/// The most requests in flight over all connections: it bounds the generator's memory.
const IN_FLIGHT_MAX: u64 = 1 << 20;

/// The longest run, in seconds.
const SECONDS_MAX: f64 = 86_400.0;

/// Descriptors beside the connections: standard streams, rings, files.
const DESCRIPTORS_BESIDE: u64 = 32;

/// What `--help` says below the flags.
const NOTES: &str = "\
Latency counts from the moment at which a request was meant to leave, so a late answer cannot \
hide the requests that waited behind it. In an open loop (--rate) these moments are evenly \
spaced and fixed before the run. A request that cannot leave on time, as all connections × \
pipeline slots are taken, leaves late; if no slot came free before the end of the run, it is \
among `missed_sends`. Those that left more than 1 ms late are `late_sends`. In a closed loop \
(--closed) a request is meant to leave when it leaves.

Success and refusal are measured apart. Only requests that leave after the warm-up count, each \
with its whole latency; `achieved_rate` counts the answers that come after the warm-up.

Exit codes: 0 it ran; 1 it could not connect, or requests were lost in the run; 2 wrong command \
line. Sends that were missed or late do not change the exit code.";

/// See the flags.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = NOTES, group(ArgGroup::new("loop").required(true)))]
pub struct Options {
    /// The server's binary listener
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7400")]
    pub addr: SocketAddr,

    /// What to ask
    #[arg(long, value_enum, value_name = "OP", default_value = "buy")]
    pub op: Op,

    /// With `--op mix`: what is asked (`buy`, `hold`, `availability`) and what becomes of holds
    /// (`confirm`, `release`, `leave`), each with its weight. Every request counts
    #[arg(long, value_name = "NAME=WEIGHT,…", default_value = "hold=1,confirm=1")]
    pub mix: Mix,

    /// Open loop: requests a second, whatever the answers do
    #[arg(long, value_name = "R", group = "loop")]
    pub rate: Option<NonZeroU32>,

    /// Closed loop: a request for each answer
    #[arg(long, group = "loop")]
    pub closed: bool,

    /// Connections
    #[arg(long, value_name = "C", default_value = "64")]
    pub connections: NonZeroU32,

    /// The most requests in flight on each connection
    #[arg(long, value_name = "P", default_value = "16")]
    pub pipeline: NonZeroU32,

    /// Seconds to measure
    #[arg(long, value_name = "S", default_value = "10", value_parser = seconds)]
    pub duration: Duration,

    /// Seconds before that, with the same load
    #[arg(long, value_name = "S", default_value = "1", value_parser = seconds)]
    pub warmup: Duration,

    /// Buyers, drawn uniformly; 0 is another buyer for each order
    #[arg(long, value_name = "N", default_value = "0")]
    pub accounts: u64,

    /// Items of the sale, 1 to N, drawn uniformly; each order has one unit of one item
    #[arg(long, value_name = "N", default_value = "1")]
    pub items: NonZeroU32,

    /// Units of each item of the sale that is made. 1 sells out at once, so all but the first
    /// `buy` are refusals
    #[arg(long, value_name = "N", default_value = "100000000")]
    pub stock: u32,

    /// An open sale to ask about. Without it the generator makes one of its own, with a random
    /// id and no limits, and leaves it open
    #[arg(long, value_name = "ID")]
    pub sale: Option<u64>,

    /// Connect to the port of the sale's own shard, as the server tells it, and not to that of
    /// `--addr`
    #[arg(long)]
    pub own_shard: bool,

    /// CPUs, such as `1` or `0,2-3`: one thread pinned to each. Without it: one thread, not
    /// pinned
    #[arg(long, value_name = "LIST")]
    pub cpus: Option<String>,

    /// The API key. Other users of the machine can read a command line: prefer `--key-file`
    #[arg(long, value_name = "KEY", conflicts_with = "key_file")]
    pub key: Option<String>,

    /// A file with the API key in its first line
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,

    /// Print one JSON object rather than a table
    #[arg(long)]
    pub json: bool,

    /// Write the histograms too: an `HdrHistogram` interval log (version 1.3, V2 compressed) with
    /// one interval tagged `success` and one tagged `refused`, in nanoseconds
    #[arg(long, value_name = "FILE")]
    pub hdr_file: Option<PathBuf>,
}

/// What to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Op {
    /// Buy one unit
    Buy,
    /// Hold one unit and leave it to expire
    Hold,
    /// Hold, then confirm or release; see `--mix`
    Mix,
    /// Ask how much of each item is left
    Availability,
}

impl Op {
    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Buy => "buy",
            Self::Hold => "hold",
            Self::Mix => "mix",
            Self::Availability => "availability",
        }
    }
}

/// Weights of what is asked, and of what becomes of each hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mix {
    pub buy: u32,
    pub hold: u32,
    pub availability: u32,
    pub confirm: u32,
    pub release: u32,
    pub leave: u32,
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut mix = Self::default();
        for part in text.split(',') {
            let (name, weight) = part.split_once('=').ok_or("write NAME=WEIGHT,NAME=WEIGHT")?;
            let weight: u16 =
                weight.parse().map_err(|_| format!("the weight of `{name}` is 0 to 65535"))?;
            *mix.weight(name).ok_or_else(|| format!("there is no `{name}`"))? = weight.into();
        }
        if mix.buy + mix.hold + mix.availability == 0 {
            return Err("give `buy`, `hold` or `availability` a weight".to_owned());
        }
        if mix.hold > 0 && mix.confirm + mix.release + mix.leave == 0 {
            return Err("give `confirm`, `release` or `leave` a weight".to_owned());
        }
        Ok(mix)
    }
}

impl Mix {
    fn weight(&mut self, name: &str) -> Option<&mut u32> {
        Some(match name {
            "buy" => &mut self.buy,
            "hold" => &mut self.hold,
            "availability" => &mut self.availability,
            "confirm" => &mut self.confirm,
            "release" => &mut self.release,
            "leave" => &mut self.leave,
            _ => return None,
        })
    }
}

impl Options {
    /// What the flags say together: the weights of everything that is asked.
    pub fn weights(&self) -> Mix {
        match self.op {
            Op::Buy => Mix { buy: 1, ..Mix::default() },
            Op::Hold => Mix { hold: 1, leave: 1, ..Mix::default() },
            Op::Availability => Mix { availability: 1, ..Mix::default() },
            Op::Mix => self.mix,
        }
    }

    /// The threads: each with its CPU, if it has one.
    pub fn threads(&self) -> Result<Vec<Option<usize>>, Failure> {
        let Some(list) = &self.cpus else { return Ok(vec![None]) };
        let cpus = cpu::parse_list(list).filter(|cpus| !cpus.is_empty()).ok_or_else(|| {
            Failure::usage(format!("`--cpus {list}` is no list of CPUs such as `1` or `0,2-3`"))
        })?;
        let allowed = cpu::allowed().map_err(Failure::from_error)?;
        if let Some(cpu) = cpus.iter().find(|cpu| !allowed.contains(cpu)) {
            let text = format!("CPU {cpu} of `--cpus` is not among those that may be used");
            return Err(Failure::usage(format!("{text}: {allowed:?}")));
        }
        Ok(cpus.into_iter().map(Some).collect())
    }

    /// The sale to ask about; `None` where one is to be made.
    pub fn sale(&self) -> Option<SaleId> {
        self.sale.map(SaleId)
    }

    /// What no flag alone can be blamed for.
    pub fn check(&self) -> Result<(), Failure> {
        let threads = self.threads()?.len();
        if (self.connections.get() as usize) < threads {
            return Err(Failure::usage(format!("{threads} threads need as many `--connections`")));
        }
        let in_flight = NonZeroU64::from(self.connections).get() * u64::from(self.pipeline.get());
        if in_flight > IN_FLIGHT_MAX {
            let text = format!("`--connections` times `--pipeline` is at most {IN_FLIGHT_MAX}");
            return Err(Failure::usage(text));
        }
        if self.items.get() as usize > ITEMS_MAX {
            return Err(Failure::usage(format!("a sale has at most {ITEMS_MAX} `--items`")));
        }
        if self.stock > CAPACITY_MAX.0 {
            return Err(Failure::usage(format!("`--stock` is at most {CAPACITY_MAX}")));
        }
        if self.duration.is_zero() {
            return Err(Failure::usage("`--duration` is longer than 0"));
        }
        let needed = u64::from(self.connections.get()) + DESCRIPTORS_BESIDE;
        match limits::raise_open_files() {
            Some(limit) if limit < needed => Err(Failure::new(format!(
                "{} connections need {needed} open files, and {limit} are allowed: \
                 raise the limit with `ulimit -n`",
                self.connections
            ))),
            _ => Ok(()),
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    if (0.0..=SECONDS_MAX).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(format!("0 to {SECONDS_MAX} seconds"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_has_something_to_ask_and_knows_what_becomes_of_holds() {
        let mix = "hold=3,confirm=2,release=1".parse::<Mix>();
        assert_eq!(mix, Ok(Mix { hold: 3, confirm: 2, release: 1, ..Mix::default() }));
        for wrong in ["", "hold", "hold=x", "hold=-1", "holds=1", "hold=1", "confirm=1"] {
            assert!(wrong.parse::<Mix>().is_err(), "{wrong:?} was taken");
        }
    }

    #[test]
    fn times_are_bounded() {
        assert_eq!(seconds("1.5"), Ok(Duration::from_millis(1_500)));
        for wrong in ["-1", "NaN", "inf", "86401", "soon"] {
            assert!(seconds(wrong).is_err(), "{wrong:?} was taken");
        }
    }
}
